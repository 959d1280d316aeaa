/*
 * volume
 *
 * 1. A volume exists since the transaction that makes its tables has committed. What a creation
 * that was cut off left before that (lock, intactfs.db*) counts as nothing, and is made again.
 * 2. A tree exists while its row says so. Its directory is made before that, and moved away after
 * that, so whatever is in the way of a new tree of that name was removed, or never was.
 * 3. Numbers are given from blocks below volume.next_number, which has been committed before;
 *    the last block's rest is given back at the end.
 */
#include "journal/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "journal/log.h"
#include "journal/reserve.h"
#include "journal/sql.h"
#include "journal/volume_lock.h"

#define FIRST_NUMBER	 101
#define NUMBER_BLOCK	 65536
#define UUID_CHARS	 36
#define REMOVED_NAME_MAX 230 /* leaves room for the id in a file name */

static const char schema[] =
	"CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);"
	"CREATE TABLE volume ("
	"	uuid TEXT NOT NULL,"
	"	owner INTEGER NOT NULL,"
	"	owner_group INTEGER NOT NULL,"
	"	created_ns INTEGER NOT NULL,"
	"	epoch INTEGER NOT NULL,"
	"	next_number INTEGER NOT NULL);"
	"CREATE TABLE tree ("
	"	id INTEGER PRIMARY KEY,"
	"	name BLOB NOT NULL,"
	"	created_ns INTEGER NOT NULL,"
	"	removed_ns INTEGER);"
	"CREATE UNIQUE INDEX tree_name ON tree (name) WHERE removed_ns IS NULL;";

struct volume {
	int fd;
	bool readonly;
	char *path;
	struct volume_lock lock_file;
	struct reserve reserve;
	char uuid[UUID_CHARS + 1];
	uid_t owner;
	gid_t group;
	int64_t created_ns, epoch;

	_Atomic int64_t next_number;
	_Atomic int64_t end_number; /* of the block; grows under lock */
	pthread_mutex_t lock;	    /* protects sql, and the directories of trees */
	struct sql *sql;
};

static void unlock(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

#define LOCKED(volume)                                                                             \
	__attribute__((cleanup(unlock), unused)) pthread_mutex_t *locked_ = &(volume)->lock;       \
	pthread_mutex_lock(locked_)

static void dir_cleanup(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* The directory */

static int open_dir(struct volume *v, const char *path, bool create, struct diag *diag)
{
	int err;

	if (create && mkdir(path, 0700) && errno != EEXIST) {
		err = -errno;
		if (err == -ENOENT)
			return diag_set(diag, err,
				"%s cannot be made: make the directory above it first", path);
		return diag_set(diag, err, "%s cannot be made: %s", path, strerror(-err));
	}
	v->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	v->path = v->fd < 0 ? NULL : realpath(path, NULL);
	if (!v->path) {
		err = -errno;
		if (err == -ENOENT)
			return diag_set(diag, err, "%s does not exist", path);
		if (err == -ENOTDIR)
			return diag_set(diag, err,
				"%s is not a directory: a volume is a directory of its own", path);
		return diag_set(diag, err, "%s cannot be opened: %s", path, strerror(-err));
	}
	return 0;
}

/* What a creation that was cut off may have left, and what a new ext4 has. */
static bool counts_as_nothing(const char *name)
{
	static const char *const names[] = {
		".", "..", "lost+found", "lock", "intactfs.db", "intactfs.db-journal"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* 1 when nothing is in the directory that would be anybody's, 0 when something is, -errno. */
static int is_blank(struct volume *v)
{
	__attribute__((cleanup(dir_cleanup))) DIR *dir = opendir(v->path);
	struct dirent *entry;

	if (!dir)
		return -errno;
	while (errno = 0, (entry = readdir(dir)))
		if (!counts_as_nothing(entry->d_name))
			return 0;
	return errno ? -errno : 1;
}

static int sync_dir(struct volume *v, const char *name)
{
	autoclose int fd = openat(v->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) ? -errno : 0;
}

/* Refuses what is not a volume, before anything is changed. */
static int inspect(struct volume *v, bool create, bool *ret_blank, struct diag *diag)
{
	bool has_db = !faccessat(v->fd, "intactfs.db", F_OK, AT_EACCESS);
	int blank = is_blank(v);

	if (blank < 0)
		return diag_set(diag, blank, "%s cannot be read: %s", v->path, strerror(-blank));
	if (!has_db && !blank)
		return diag_set(diag, -ENOTEMPTY,
			"%s is neither empty nor a volume: name an empty or a new directory",
			v->path);
	if (!has_db && !create)
		return diag_set(diag, -ENOENT,
			"%s is no volume yet: mount it for writing first, which makes it one",
			v->path);
	*ret_blank = blank;
	return 0;
}

/* The database */

static int make_uuid(char uuid[static UUID_CHARS + 1])
{
	unsigned char bytes[16];
	char *out = uuid;

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -EIO;
	bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40); /* version 4, */
	bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80); /* of RFC 4122 */
	for (size_t i = 0; i < sizeof(bytes); i++)
		out += sprintf(
			out, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", bytes[i]);
	return 0;
}

static int create_tables(struct sql *sql)
{
	char uuid[UUID_CHARS + 1], format[16];
	int err;

	snprintf(format, sizeof(format), "%d", VOLUME_FORMAT);
	err = make_uuid(uuid);
	if (!err)
		err = sql_begin(sql);
	if (err)
		return err;
	err = sql_script(sql, schema);
	if (!err)
		err = sql_run(sql, NULL, "INSERT INTO meta VALUES ('format', $1)", "t", format);
	if (!err)
		err = sql_run(sql, NULL, "INSERT INTO volume VALUES ($1, $2, $3, $4, 0, $5)",
			"tiiii", uuid, (int64_t)geteuid(), (int64_t)getegid(), time_now_ns(),
			(int64_t)FIRST_NUMBER);
	if (err) {
		sql_rollback(sql);
		return err;
	}
	return sql_commit(sql);
}

static int create(struct volume *v, struct diag *diag)
{
	int err = fchmod(v->fd, 0700) ? -errno : 0;

	if (!err)
		err = create_tables(v->sql);
	if (err)
		return diag_set(
			diag, err, "%s cannot be made a volume: %s", v->path, strerror(-err));
	return 0;
}

static int check_format(struct volume *v, struct diag *diag)
{
	int64_t format;
	int result = sql_int(v->sql, &format,
		"SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'format'", "");

	if (result < 0)
		return result;
	if (result == SQL_DONE || format < 1)
		return diag_set(diag, -EUCLEAN,
			"%s/intactfs.db does not say its format: restore it from a backup",
			v->path);
	if (format > VOLUME_FORMAT)
		return diag_set(diag, -EPROTONOSUPPORT,
			"%s has format %" PRId64 ", and this intactfs (%s) knows formats up to %d: "
			"use a newer intactfs",
			v->path, format, INTACTFS_VERSION, VOLUME_FORMAT);
	return 0;
}

static int load(struct volume *v, struct diag *diag)
{
	struct sql_stmt *stmt;
	int result;

	result = sql_query(v->sql,
		"SELECT uuid, owner, owner_group, created_ns, epoch, next_number FROM volume",
		&stmt, "");
	if (!result)
		result = sql_step(stmt);
	if (result < 0)
		return result;
	if (result == SQL_DONE)
		return diag_set(diag, -EUCLEAN,
			"%s/intactfs.db has lost its contents: restore it from a backup", v->path);
	snprintf(v->uuid, sizeof(v->uuid), "%s", sql_text(stmt, 0));
	v->owner = (uid_t)sql_int64(stmt, 1);
	v->group = (gid_t)sql_int64(stmt, 2);
	v->created_ns = sql_int64(stmt, 3);
	v->epoch = sql_int64(stmt, 4);
	v->next_number = v->end_number = sql_int64(stmt, 5);
	sql_reset(stmt);
	return 0;
}

/* The directories: a creation may have been cut off before it made them. */
static int prepare_writing(struct volume *v)
{
	if (mkdirat(v->fd, "trees", 0700) && errno != EEXIST)
		return -errno;
	if (mkdirat(v->fd, "removed", 0700) && errno != EEXIST)
		return -errno;
	if (fsync(v->fd))
		return -errno;
	return sql_run(v->sql, NULL, "UPDATE volume SET epoch = epoch + 1", "");
}

static int open_db(struct volume *v, bool blank, bool may_create, struct diag *diag)
{
	autofree char *path = NULL;
	int err, made;

	if (asprintf(&path, "%s/intactfs.db", v->path) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	err = sql_open(path,
		SQL_EXCLUSIVE_JOURNAL | (v->readonly ? SQL_READONLY : 0) |
			(blank && may_create ? SQL_CREATE : 0),
		&v->sql, diag);
	if (!err)
		err = sql_check(v->sql, diag);
	if (err)
		return err;

	made = sql_has_table(v->sql, "meta");
	if (made < 0)
		return made;
	if (!made && !blank)
		return diag_set(
			diag, -EUCLEAN, "%s has lost its contents: restore it from a backup", path);
	if (!made && !may_create)
		return diag_set(diag, -ENOENT,
			"%s is no volume yet: mount it for writing first, which makes it one",
			v->path);
	if (!made)
		err = create(v, diag);
	if (!err)
		err = check_format(v, diag);
	if (!err && !v->readonly)
		err = prepare_writing(v);
	return err ? err : load(v, diag);
}

int volume_open(const char *path, unsigned flags, const char *mountpoint,
	struct volume **ret_volume, struct diag *diag)
{
	struct volume *v = calloc(1, sizeof(*v));
	bool may_create = (flags & VOLUME_CREATE) && !(flags & VOLUME_READONLY);
	bool blank = false;
	int err;

	diag_set(diag, 0, "%s", "");
	if (!v)
		return diag_set(diag, -ENOMEM, "%s: out of memory", path);
	v->fd = -1;
	volume_lock_init(&v->lock_file);
	v->reserve.fd = -1;
	pthread_mutex_init(&v->reserve.lock, NULL);
	v->readonly = flags & VOLUME_READONLY;
	pthread_mutex_init(&v->lock, NULL);

	err = open_dir(v, path, may_create, diag);
	if (!err)
		err = inspect(v, may_create, &blank, diag);
	if (!err)
		err = volume_lock_take(
			&v->lock_file, v->fd, v->path, v->readonly, mountpoint, diag);
	if (!err)
		err = open_db(v, blank, may_create, diag);
	if (!err && !v->readonly)
		err = reserve_open(&v->reserve, v->fd);
	if (err) {
		if (diag && !diag->text[0])
			diag_set(diag, err, "%s cannot be opened: %s", path, strerror(-err));
		volume_close(v);
		return err;
	}
	*ret_volume = v;
	return 0;
}

void volume_closing(struct volume *v)
{
	volume_lock_closing(&v->lock_file);
}

struct volume *volume_close(struct volume *v)
{
	if (!v)
		return NULL;
	if (v->next_number < v->end_number) /* what is left of the block */
		sql_run(v->sql, NULL, "UPDATE volume SET next_number = $1", "i",
			(int64_t)v->next_number);
	sql_close(v->sql);
	reserve_close(&v->reserve);
	pthread_mutex_destroy(&v->reserve.lock);
	volume_lock_deinit(&v->lock_file);
	if (v->fd >= 0)
		close(v->fd);
	pthread_mutex_destroy(&v->lock);
	free(v->path);
	free(v);
	return NULL;
}

const char *volume_path(const struct volume *v)
{
	return v->path;
}

int volume_fd(const struct volume *v)
{
	return v->fd;
}

bool volume_readonly(const struct volume *v)
{
	return v->readonly;
}

const char *volume_uuid(const struct volume *v)
{
	return v->uuid;
}

uid_t volume_owner(const struct volume *v)
{
	return v->owner;
}

gid_t volume_group(const struct volume *v)
{
	return v->group;
}

int64_t volume_created_ns(const struct volume *v)
{
	return v->created_ns;
}

int64_t volume_epoch(const struct volume *v)
{
	return v->epoch;
}

struct reserve *volume_reserve(struct volume *v)
{
	return &v->reserve;
}

/* Numbers */

static int reserve_beyond(struct volume *v, int64_t number)
{
	LOCKED(v);
	while (number >= v->end_number) {
		int64_t end = v->end_number + NUMBER_BLOCK;
		int err = sql_run(v->sql, NULL, "UPDATE volume SET next_number = $1", "i", end);

		if (err)
			return err;
		v->end_number = end;
	}
	return 0;
}

int volume_next_number(struct volume *v, int64_t *ret_number)
{
	int64_t number;
	int err = 0;

	if (v->readonly)
		return -EROFS;
	number = atomic_fetch_add(&v->next_number, 1);
	if (number >= v->end_number)
		err = reserve_beyond(v, number);
	if (!err)
		*ret_number = number;
	return err;
}

/* Trees */

struct tree_path {
	char text[sizeof("removed/") + VOLUME_NAME_MAX + 1];
};

static struct tree_path tree_path(const char *name)
{
	struct tree_path path;

	snprintf(path.text, sizeof(path.text), "trees/%s", name);
	return path;
}

static struct tree_path removed_path(const char *name, int64_t id)
{
	struct tree_path path;

	snprintf(path.text, sizeof(path.text), "removed/%.*s.%" PRId64, REMOVED_NAME_MAX, name, id);
	return path;
}

static void tree_read(struct sql_stmt *stmt, struct volume_tree *ret_tree)
{
	size_t size;
	const void *name = sql_blob(stmt, 1, &size);

	*ret_tree = (struct volume_tree){
		.id = sql_int64(stmt, 0),
		.created_ns = sql_int64(stmt, 2),
	};
	memcpy(ret_tree->name, name, size < VOLUME_NAME_MAX ? size : VOLUME_NAME_MAX);
}

int volume_trees(struct volume *v, struct volume_tree **ret_trees, size_t *ret_count)
{
	autofree struct volume_tree *trees = NULL;
	size_t count = 0, room = 0;
	struct sql_stmt *stmt;
	int result;

	LOCKED(v);
	result = sql_query(v->sql,
		"SELECT id, name, created_ns FROM tree WHERE removed_ns IS NULL ORDER BY name",
		&stmt, "");
	if (result)
		return result;
	while ((result = sql_step(stmt)) == SQL_ROW) {
		if (count == room) {
			struct volume_tree *grown = reallocarray(trees, room += 16, sizeof(*trees));

			if (!grown) {
				sql_reset(stmt);
				return -ENOMEM;
			}
			trees = grown;
		}
		tree_read(stmt, &trees[count++]);
	}
	if (result)
		return result;
	*ret_trees = trees;
	*ret_count = count;
	trees = NULL;
	return 0;
}

static int check_name(struct volume *v, const char *name)
{
	if (!*name || !strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, ".intactfs") ||
		strchr(name, '/'))
		return -EINVAL;
	if (strlen(name) > VOLUME_NAME_MAX ||
		strlen(v->path) + strlen("/trees//journal.db") + strlen(name) > SQL_PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

static int move_away(struct volume *v, const char *name, int64_t id)
{
	struct tree_path from = tree_path(name), to = removed_path(name, id);
	int err = 0;

	if (renameat(v->fd, from.text, v->fd, to.text))
		return -errno;
	err = sync_dir(v, "removed");
	return err ? err : sync_dir(v, "trees");
}

/* Frees trees/NAME of what no row knows: an unfinished removal, or an unfinished tree. */
static int make_way(struct volume *v, const char *name)
{
	int64_t id;
	int result;

	if (!unlinkat(v->fd, tree_path(name).text, AT_REMOVEDIR))
		return 0;
	result =
		sql_int(v->sql, &id, "SELECT id FROM tree WHERE name = $1 ORDER BY id DESC LIMIT 1",
			"b", name, strlen(name));
	if (result == SQL_ROW)
		return move_away(v, name, id);
	if (result == SQL_DONE) {
		log_error("%s/trees/%s is in the way of a new tree, and not known: move it away",
			v->path, name);
		return -EEXIST;
	}
	return result;
}

static int make_tree_dir(struct volume *v, const char *name)
{
	struct tree_path path = tree_path(name);
	int err;

	if (mkdirat(v->fd, path.text, 0700)) {
		if (errno != EEXIST)
			return -errno;
		err = make_way(v, name);
		if (err)
			return err;
		if (mkdirat(v->fd, path.text, 0700))
			return -errno;
	}
	return sync_dir(v, "trees");
}

int volume_tree_add(struct volume *v, const char *name, struct volume_tree *ret_tree)
{
	struct volume_tree tree = {.created_ns = time_now_ns()};
	int64_t one;
	int result = check_name(v, name);

	if (result)
		return result;
	if (v->readonly)
		return -EROFS;
	strcpy(tree.name, name);

	LOCKED(v);
	result = sql_int(v->sql, &one, "SELECT 1 FROM tree WHERE name = $1 AND removed_ns IS NULL",
		"b", name, strlen(name));
	if (result)
		return result == SQL_ROW ? -EEXIST : result;
	result = make_tree_dir(v, name);
	if (result)
		return result;
	result = sql_int(v->sql, &tree.id,
		"INSERT INTO tree (name, created_ns) VALUES ($1, $2) RETURNING id", "bi", name,
		strlen(name), tree.created_ns);
	if (result < 0) {
		unlinkat(v->fd, tree_path(name).text, AT_REMOVEDIR);
		return result;
	}
	*ret_tree = tree;
	return 0;
}

int volume_tree_remove(struct volume *v, const struct volume_tree *tree)
{
	int64_t changes;
	int err;

	if (v->readonly)
		return -EROFS;
	LOCKED(v);
	err = sql_run(v->sql, &changes,
		"UPDATE tree SET removed_ns = $2 WHERE id = $1 AND removed_ns IS NULL", "ii",
		tree->id, time_now_ns());
	if (err)
		return err;
	if (!changes)
		return -ENOENT;
	err = move_away(v, tree->name, tree->id);
	if (err) /* it is removed all the same; a new tree of that name makes way */
		log_warning("%s/trees/%s cannot be moved to removed/: %s", v->path, tree->name,
			strerror(-err));
	return 0;
}

int volume_tree_known(struct volume *v, const char *name)
{
	int64_t one;

	LOCKED(v);
	return sql_int(v->sql, &one, "SELECT 1 FROM tree WHERE name = $1 LIMIT 1", "b", name,
		strlen(name));
}

int volume_tree_open(struct volume *v, const struct volume_tree *tree, int *ret_fd)
{
	int fd = openat(
		v->fd, tree_path(tree->name).text, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}
