#include "fs/virtual.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <utlist.h>
#include <xxhash.h>

#include "fs/ops.h"
#include "fs/restore.h"
#include "fs/status.h"
#include "meta/report.h"
#include "meta/version.h"

#define CONTROL_NAME ".intactfs"
#define LOG_NAME     ".log"
#define MARK	     "@@"
#define MARK_LENGTH  (sizeof(MARK) - 1)
#define XATTR_PREFIX "user.intactfs."

#define autoviewer __attribute__((cleanup(viewer_deinit)))

/* Beyond all numbers of a volume. */
#define INO_FIRST ((int64_t)1 << 62)

/* Versions listed in one go. */
#define NUMBERS_MAX 256

enum virtual_kind {
	VIRTUAL_CONTROL, /* .intactfs */
	VIRTUAL_STATUS,
	VIRTUAL_TREES,
	VIRTUAL_HISTORY, /* NAME@@; of a tree: the lineage of its root */
	VIRTUAL_VERSION,
	VIRTUAL_LOG,
};

/* All 0 where it does not apply; without padding, since its bytes are the key. */
struct virtual_key {
	int64_t kind, tree, lineage, number;
};

struct virtual_node {
	struct virtual_key key;
	struct fs *fs;
	struct tree *tree; /* stays until the end of the mount */
	struct node *node;
	UT_hash_handle hh;
};

static const struct {
	const char *name;
	enum virtual_kind kind;
} controls[] = {{"status", VIRTUAL_STATUS}, {"trees", VIRTUAL_TREES}};

/* The same whenever it is looked up, and in listings. */
static int64_t ino_of(const struct virtual_key *key)
{
	return INO_FIRST | (int64_t)(XXH3_64bits(key, sizeof(*key)) >> 2);
}

static struct virtual_node *make(struct fs *fs, const struct virtual_key *key, struct tree *tree)
{
	struct virtual_node *virtual = calloc(1, sizeof(*virtual));

	if (!virtual)
		return NULL;
	virtual->key = *key;
	virtual->fs = fs;
	virtual->tree = tree;
	virtual->node = node_new(fs, NODE_VIRTUAL, NULL, ino_of(key));
	if (!virtual->node) {
		free(virtual);
		return NULL;
	}
	virtual->node->virtual = virtual;
	HASH_ADD(hh, fs->virtuals, key, sizeof(virtual->key), virtual);
	return virtual;
}

static int get_node(struct fs *fs, enum virtual_kind kind, struct tree *tree, int64_t lineage,
	int64_t number, struct node **ret_node)
{
	struct virtual_key key = {(int64_t)kind, tree ? tree->info.id : 0, lineage, number};
	struct virtual_node *virtual;

	lock_take(&fs->root_lock);
	HASH_FIND(hh, fs->virtuals, &key, sizeof(key), virtual);
	if (virtual)
		virtual->node->refs++;
	else
		virtual = make(fs, &key, tree);
	lock_drop(&fs->root_lock);
	if (!virtual)
		return -ENOMEM;
	*ret_node = virtual->node;
	return 0;
}

void virtual_ref(struct node *node)
{
	lock_take(&node->virtual->fs->root_lock);
	node->refs++;
	lock_drop(&node->virtual->fs->root_lock);
}

void virtual_unref(struct node *node, uint64_t count)
{
	struct virtual_node *virtual = node->virtual;
	struct fs *fs = virtual->fs;
	bool last;

	lock_take(&fs->root_lock);
	node->refs -= count;
	last = node->refs == 0;
	if (last)
		HASH_DELETE(hh, fs->virtuals, virtual);
	lock_drop(&fs->root_lock);
	if (!last)
		return;
	lock_take(&fs->nodes_lock);
	DL_DELETE(fs->nodes, node);
	lock_drop(&fs->nodes_lock);
	free(node);
	free(virtual);
}

/* The name without its mark; -ENOENT when there is none, or nothing else. */
static int split_mark(const char *name, struct name *ret_name)
{
	size_t length = strlen(name);

	if (length > RECORD_NAME_MAX + MARK_LENGTH)
		return -ENAMETOOLONG;
	if (length <= MARK_LENGTH || strcmp(name + length - MARK_LENGTH, MARK) != 0)
		return -ENOENT;
	ret_name->length = length - MARK_LENGTH;
	memcpy(ret_name->bytes, name, ret_name->length);
	ret_name->bytes[ret_name->length] = '\0';
	return 0;
}

int virtual_lookup_root(struct fs *fs, const char *name, struct node **ret_node)
{
	struct tree *tree = NULL;
	struct name bare;
	int err;

	if (strcmp(name, CONTROL_NAME) == 0)
		return get_node(fs, VIRTUAL_CONTROL, NULL, 0, 0, ret_node);
	err = split_mark(name, &bare);
	if (err)
		return err;
	lock_take(&fs->root_lock);
	HASH_FIND_STR(fs->trees, bare.bytes, tree);
	lock_drop(&fs->root_lock);
	return tree ? get_node(fs, VIRTUAL_HISTORY, tree, RECORD_ROOT, 0, ret_node) : -ENOENT;
}

int virtual_lookup_history(struct file *dir, const char *name, struct node **ret_node)
{
	struct report_lineage lineage;
	struct name bare;
	int err = split_mark(name, &bare);

	if (err)
		return err;
	err = report_find(dir->tree, dir->entry, bare.bytes, &lineage);
	if (err <= 0)
		return err < 0 ? err : -ENOENT;
	return get_node(
		tree_fs(dir->tree), VIRTUAL_HISTORY, dir->tree, lineage.entry.id, 0, ret_node);
}

/* As versions are written: decimal, from 1, without leading zeros; far from overflowing. */
static bool parse_number(const char *text, int64_t *ret_number)
{
	size_t length = strspn(text, "0123456789");

	if (length == 0 || length > 18 || text[length] || text[0] == '0')
		return false;
	*ret_number = strtoll(text, NULL, 10);
	return true;
}

/* Not there for those who could not reach the file then. */
static int lookup_version(
	fuse_req_t req, struct virtual_node *history, const char *name, struct node **ret_node)
{
	struct report_version version;
	autoviewer struct viewer viewer;
	int64_t number;
	int err;

	virtual_viewer(req, &viewer);
	err = parse_number(name, &number) ? report_version(history->tree, &viewer,
						    history->key.lineage, number, &version)
					  : 0;
	if (err < 0)
		return err;
	if (err == 0 || !version.content.id)
		return -ENOENT;
	return get_node(history->fs, VIRTUAL_VERSION, history->tree, history->key.lineage, number,
		ret_node);
}

/* DIR@@/NAME@@: the history of what was in a directory, which may be gone. */
static int lookup_nested(
	fuse_req_t req, struct virtual_node *history, const char *name, struct node **ret_node)
{
	struct report_lineage lineage;
	autoviewer struct viewer viewer;
	struct name bare;
	int err = split_mark(name, &bare);

	virtual_viewer(req, &viewer);
	err = err ?: report_may_search(history->tree, &viewer, history->key.lineage);
	if (err <= 0)
		return err < 0 ? err : -EACCES;
	err = report_find(history->tree, history->key.lineage, bare.bytes, &lineage);
	if (err <= 0)
		return err < 0 ? err : -ENOENT;
	return get_node(history->fs, VIRTUAL_HISTORY, history->tree, lineage.entry.id, 0, ret_node);
}

int virtual_lookup(fuse_req_t req, struct node *parent, const char *name, struct node **ret_node)
{
	struct virtual_node *virtual = parent->virtual;
	struct fs *fs = virtual->fs;
	int err;

	if (virtual->key.kind == VIRTUAL_HISTORY && strcmp(name, LOG_NAME) == 0)
		return get_node(fs, VIRTUAL_LOG, virtual->tree, virtual->key.lineage, 0, ret_node);
	if (virtual->key.kind == VIRTUAL_HISTORY) {
		err = lookup_version(req, virtual, name, ret_node);
		return err == -ENOENT ? lookup_nested(req, virtual, name, ret_node) : err;
	}
	for (size_t i = 0; i < ARRAY_SIZE(controls) && virtual->key.kind == VIRTUAL_CONTROL; i++)
		if (strcmp(name, controls[i].name) == 0)
			return get_node(fs, controls[i].kind, NULL, 0, 0, ret_node);
	return -ENOENT;
}

static bool is_directory(const struct virtual_node *virtual)
{
	return virtual->key.kind == VIRTUAL_CONTROL || virtual->key.kind == VIRTUAL_HISTORY;
}

static int read_lineage(struct virtual_node *virtual, struct report_lineage *ret_lineage)
{
	int err = report_lineage(virtual->tree, virtual->key.lineage, ret_lineage);

	return err < 0 ? err : err ? 0 : -ENOENT;
}

static int read_version(
	struct virtual_node *virtual, struct viewer *viewer, struct report_version *ret_version)
{
	int err = report_version(
		virtual->tree, viewer, virtual->key.lineage, virtual->key.number, ret_version);

	return err < 0 ? err : err && ret_version->content.id ? 0 : -ENOENT;
}

/* As of the version, or of what has the name, or else had it last. */
static int fill_owner(struct virtual_node *virtual, struct node_row *row)
{
	struct report_lineage lineage;
	struct report_version version;
	const struct version_row *then = &lineage.last;
	int err;

	if (virtual->key.kind == VIRTUAL_VERSION) {
		err = read_version(virtual, NULL, &version);
		then = &version.row;
		/* An old set-ID program must not come to life again. */
		row->mode = S_IFREG | (then->mode & 0777);
		row->content = version.content;
	} else {
		err = read_lineage(virtual, &lineage);
	}
	if (err)
		return err;
	if (virtual->key.kind != VIRTUAL_VERSION) {
		row->uid = lineage.rights.uid;
		row->gid = lineage.rights.gid;
		row->mtime_ns = lineage.now.id ? lineage.now.mtime_ns : then->mtime_ns;
	} else {
		row->uid = then->uid;
		row->gid = then->gid;
		row->mtime_ns = then->mtime_ns;
	}
	return 0;
}

int virtual_stat(struct node *node, struct stat *ret_stat)
{
	struct virtual_node *virtual = node->virtual;
	struct fs *fs = virtual->fs;
	bool dir = is_directory(virtual);
	struct node_row row = {
		.ino = node->ino,
		.mode = dir ? S_IFDIR | 0555 : S_IFREG | 0444,
		.nlink = dir ? 2 : 1,
		.uid = volume_owner(fs->volume),
		.gid = volume_group(fs->volume),
		.mtime_ns = fs->mounted_ns,
	};
	int err = virtual->tree ? fill_owner(virtual, &row) : 0;

	if (err)
		return err;
	row.atime_ns = row.ctime_ns = row.mtime_ns;
	row_stat(&row, ret_stat);
	return 0;
}

static bool in_group(fuse_req_t req, gid_t gid)
{
	autofree gid_t *groups = NULL;
	int count;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	count = fuse_req_getgroups(req, 0, NULL);
	if (count <= 0)
		return false;
	groups = calloc((size_t)count, sizeof(*groups));
	if (!groups)
		return false;
	/* It may have more of them by now. */
	for (int i = 0, n = fuse_req_getgroups(req, count, groups); i < n && i < count; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

bool rights_allow(fuse_req_t req, const struct rights *rights, int what)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	unsigned bits = (unsigned)what;
	mode_t mode = rights->mode;

	if (ctx->uid == 0)
		return !(bits & X_OK) || S_ISDIR(mode) || (mode & 0111);
	if (ctx->uid == rights->uid)
		mode >>= 6;
	/* Where the group's bits are the others', it need not be asked. */
	else if (((mode >> 3) ^ mode) & bits && in_group(req, rights->gid))
		mode >>= 3;
	return (mode & bits) == bits;
}

static bool allows(void *arg, const struct rights *rights, int what)
{
	return rights_allow(arg, rights, what);
}

void virtual_viewer(fuse_req_t req, struct viewer *ret_viewer)
{
	viewer_init(ret_viewer, allows, req, fuse_req_ctx(req)->uid == 0);
}

/* Held, so that it does not move before its handle is known by its object. */
static int open_version(fuse_req_t req, struct virtual_node *virtual, struct handle *handle)
{
	struct report_version version;
	autoviewer struct viewer viewer;
	int err;

	virtual_viewer(req, &viewer);
	ops_versions_hold();
	err = read_version(virtual, &viewer, &version);
	if (!err && !version.readable)
		err = -EACCES;
	if (!err)
		err = version_open(virtual->tree, version.content.object, &handle->fd);
	if (!err) {
		handle->limit_bytes = version.content.size_bytes;
		handle->version_object = version.content.object;
	}
	ops_versions_release();
	return err;
}

static int write_json(json_t *json, FILE *out)
{
	return json_dumpf(json, out, JSON_INDENT(2)) == 0 ? 0
	       : ferror(out) && errno			  ? -errno
							  : -ENOMEM;
}

static int write_page(json_t *page, bool first, FILE *out)
{
	json_t *element;
	size_t i;
	int err = 0;

	json_array_foreach(page, i, element)
	{
		fputs(first && i == 0 ? "[\n" : ",\n", out);
		err = err ?: write_json(element, out);
	}
	return err;
}

/* A tree's log can be long: it is never whole in memory. */
static int write_log(fuse_req_t req, struct virtual_node *virtual, FILE *out)
{
	struct report_lineage lineage;
	autoviewer struct viewer viewer;
	struct report report;
	enum report_what what;
	json_t *page;
	bool first = true;
	int err = read_lineage(virtual, &lineage);

	virtual_viewer(req, &viewer);
	if (err)
		return err;
	if (!rights_allow(req, &lineage.rights, R_OK))
		return -EACCES;
	what = virtual->key.lineage == RECORD_ROOT ? REPORT_TREE
	       : S_ISDIR(lineage.rights.mode)	   ? REPORT_DIRECTORY
						   : REPORT_LINEAGE;
	report_log(&report, virtual->tree, &viewer, what, virtual->key.lineage);
	while (!err && !report.end) {
		err = report_page(&report, &page);
		if (err)
			break;
		err = write_page(page, first, out);
		first = first && json_array_size(page) == 0;
		json_decref(page);
	}
	fputs(first ? "[]\n" : "\n]\n", out);
	return err;
}

static int write_control(fuse_req_t req, enum virtual_kind kind, FILE *out)
{
	json_t *json;
	int err = kind == VIRTUAL_STATUS ? status_report(req, &json) : status_trees(req, &json);

	if (err)
		return err;
	err = write_json(json, out);
	fputc('\n', out);
	json_decref(json);
	return err;
}

/* In the volume, or in memory where the volume takes no such file. */
static FILE *temporary_file(struct fs *fs, bool in_memory)
{
	int fd = -1;
	FILE *out;

	if (!in_memory)
		fd = openat(volume_fd(fs->volume), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = memfd_create("intactfs", MFD_CLOEXEC);
	if (fd < 0)
		return NULL;
	out = fdopen(fd, "w+");
	if (!out)
		close(fd);
	return out;
}

static int open_written(
	fuse_req_t req, struct virtual_node *virtual, bool in_memory, struct handle *handle)
{
	autofile FILE *out = temporary_file(virtual->fs, in_memory);
	int fd, err;

	if (!out)
		return -errno;
	if (virtual->key.kind == VIRTUAL_LOG)
		err = write_log(req, virtual, out);
	else
		err = write_control(req, (enum virtual_kind) virtual->key.kind, out);
	if (err)
		return err;
	if (fflush(out) != 0 || ferror(out))
		return errno ? -errno : -EIO;
	fd = fcntl(fileno(out), F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	handle->fd = fd;
	handle->limit_bytes = ftello(out);
	return 0;
}

int virtual_open(fuse_req_t req, struct node *node, struct handle *handle)
{
	int err;
	struct virtual_node *virtual = node->virtual;

	if (is_directory(virtual))
		return -EISDIR;
	if (virtual->key.kind == VIRTUAL_VERSION)
		return open_version(req, virtual, handle);
	/* A log may be long; but a full volume must not keep anybody from looking. */
	err = open_written(req, virtual, virtual->key.kind != VIRTUAL_LOG, handle);
	if (err == -ENOSPC || err == -EDQUOT)
		err = open_written(req, virtual, true, handle);
	return err;
}

/* A version's offset is its number. */
static int list_versions(fuse_req_t req, struct virtual_node *history, int64_t offset,
	bool (*add)(void *arg, const char *name, mode_t mode, int64_t ino, int64_t next), void *arg)
{
	struct virtual_key key = {VIRTUAL_VERSION, history->key.tree, history->key.lineage, 0};
	int64_t numbers[NUMBERS_MAX];
	autoviewer struct viewer viewer;
	char name[32];
	size_t count;
	int err;

	virtual_viewer(req, &viewer);
	do {
		err = report_numbers(
			history->tree, &viewer, key.lineage, offset, numbers, NUMBERS_MAX, &count);
		for (size_t i = 0; i < count && !err; i++) {
			key.number = offset = numbers[i];
			snprintf(name, sizeof(name), "%" PRId64, key.number);
			if (!add(arg, name, S_IFREG | 0444, ino_of(&key), offset))
				return 0;
		}
	} while (!err && count == NUMBERS_MAX);
	return err;
}

int virtual_readdir(fuse_req_t req, struct node *node, int64_t offset,
	bool (*add)(void *arg, const char *name, mode_t mode, int64_t ino, int64_t next), void *arg)
{
	struct virtual_node *virtual = node->virtual;

	if (virtual->key.kind == VIRTUAL_HISTORY)
		return list_versions(req, virtual, offset, add, arg);
	for (int64_t i = offset; i < (int64_t)ARRAY_SIZE(controls); i++) {
		struct virtual_key key = {.kind = (int64_t)controls[i].kind};

		if (!add(arg, controls[i].name, S_IFREG | 0444, ino_of(&key), i + 1))
			break;
	}
	return 0;
}

static int give_value(const void *value, size_t bytes, void **ret_value, size_t *ret_bytes)
{
	void *copy = malloc(bytes + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, value, bytes);
	*ret_value = copy;
	*ret_bytes = bytes;
	return 0;
}

static int give_version(
	struct file *file, const struct content *content, void **ret_value, size_t *ret_bytes)
{
	struct file_name name;
	int64_t number = 0;
	char text[32];
	int err = 0;

	if (content->id && file_names(file, &name, 1) > 0)
		err = report_newest(file->tree, name.entry, &number);
	if (err)
		return err;
	return give_value(text, (size_t)snprintf(text, sizeof(text), "%" PRId64, number), ret_value,
		ret_bytes);
}

static int give_hash(const struct content *content, void **ret_value, size_t *ret_bytes)
{
	char text[2 * OBJECT_HASH_BYTES + 1];

	if (!content->id)
		return -ENODATA;
	for (size_t i = 0; i < OBJECT_HASH_BYTES; i++)
		sprintf(text + 2 * i, "%02x", content->hash.bytes[i]);
	return give_value(text, sizeof(text) - 1, ret_value, ret_bytes);
}

int virtual_getxattr(fuse_req_t req, struct fs *fs, struct node *node, const char *name,
	void **ret_value, size_t *ret_bytes)
{
	struct file *file = node ? node->file : NULL;
	struct tree *tree = file ? file->tree : node ? node->virtual->tree : NULL;
	struct node_row attr = {.mode = 0};

	(void)req;
	if (strncmp(name, XATTR_PREFIX, strlen(XATTR_PREFIX)) != 0)
		return -ENODATA;
	name += strlen(XATTR_PREFIX);
	if (file)
		attr = file_attr(file);
	if (strcmp(name, "mount") == 0)
		return give_value(fs->mountpoint, strlen(fs->mountpoint), ret_value, ret_bytes);
	if (strcmp(name, "tree") == 0 && tree)
		return give_value(tree->info.name, strlen(tree->info.name), ret_value, ret_bytes);
	if (strcmp(name, "version") == 0 && S_ISREG(attr.mode))
		return give_version(file, &attr.content, ret_value, ret_bytes);
	if (strcmp(name, "hash") == 0 && S_ISREG(attr.mode))
		return give_hash(&attr.content, ret_value, ret_bytes);
	return -ENODATA;
}

/* "N/NAME": the name, with N cut off. */
static char *split_value(char *value)
{
	char *slash = strchr(value, '/');

	if (slash)
		*slash++ = '\0';
	return slash;
}

int virtual_setxattr(
	fuse_req_t req, struct node *node, const char *name, const char *value, size_t bytes)
{
	autofree char *text = NULL;
	const char *what;
	int64_t number;
	mode_t mode;

	if (strcmp(name, XATTR_PREFIX "restore") != 0)
		return -EOPNOTSUPP;
	if (node->kind == NODE_VIRTUAL)
		return -EROFS;
	text = strndup(value, bytes);
	if (!text)
		return -ENOMEM;
	what = split_value(text);
	mode = file_attr(node->file).mode;
	if (strlen(text) + (what ? strlen(what) + 1 : 0) != bytes || !parse_number(text, &number))
		return -EINVAL;
	if (S_ISREG(mode) && !what)
		return restore_version(req, NULL, node->file, NULL, number);
	if (S_ISDIR(mode) && what && *what && !strchr(what, '/'))
		return restore_version(req, node->file, NULL, what, number);
	return -EINVAL;
}
