/*
 * live: files that are written in place, by any number of programs, through one node and one object.
 *
 * SETTLED -(live_open: first writer)-> LIVE -(live_release: last writer)-> SETTLED, with a version
 *
 * What a version names of the object is moved to a copy before it is overwritten; an append leaves it alone.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/notify.h"
#include "fs/ops.h"
#include "journal/garbage.h"
#include "journal/log.h"
#include "meta/policy.h"

/* Names of a file that are looked at. */
#define NAMES_MAX 8
/* What is written under a lock is made a version at each unlock, unless it is larger: then at the last close. */
#define LOCKED_VERSION_BYTES (1 << 20)

struct live *live_new(struct node *node, const struct actor *actor, int64_t entry, const char *kind)
{
	struct live *live = calloc(1, sizeof(*live));

	if (!live)
		return NULL;
	live->node = node;
	live->actor = *actor;
	live->entry = entry;
	live->kind = kind;
	live->fd = -1;
	live->mtime_ns = time_now_ns();
	lock_init(&live->io_lock, LOCK_IO);
	return live;
}

void live_free(struct live *live)
{
	if (live->fd >= 0)
		close(live->fd);
	lock_deinit(&live->io_lock);
	free(live);
}

/* The object that the file lives on: its head's, or a new one when nothing was ever published. */
static int open_object(struct live *live, const struct content *head)
{
	struct journal *journal = live->node->file->tree->journal;
	int err;

	live->basis = (struct basis){head->id ? "own" : "none", head->id, 0};
	if (head->id) {
		live->object = head->object;
		live->named = true;
		live->named_bytes = head->size_bytes;
		err = object_open(&journal->objects, live->object, O_RDWR, &live->fd);
		if (err == -ENOENT)
			err = object_open_staged(
				&journal->objects, live->object, O_RDWR, &live->fd);
		return err == -ENOENT
			       ? object_open(&journal->objects, live->object, O_RDWR, &live->fd)
			       : err;
	}
	err = volume_next_number(journal->volume, &live->object);
	if (!err)
		err = object_stage(&journal->objects, live->object, &live->fd);
	live->staged = !err;
	return err;
}

static bool has_name(struct file *file, bool (*matches)(const char *name))
{
	struct file_name names[NAMES_MAX];
	size_t count = file_names(file, names, NAMES_MAX);

	for (size_t i = 0; i < count && i < NAMES_MAX; i++)
		if (matches(names[i].name.bytes))
			return true;
	return false;
}

static bool begins_as_database(struct file *file, const struct content *head)
{
	char magic[POLICY_MAGIC_BYTES];
	autoclose int fd = -1;
	ssize_t n;

	if (head->size_bytes < POLICY_MAGIC_BYTES ||
		version_open(file->tree, head->object, &fd) != 0)
		return false;
	n = pread(fd, magic, sizeof(magic), 0);
	return n > 0 && policy_is_database(magic, (size_t)n);
}

static bool is_locked_in_place(struct file *file)
{
	bool locked;

	lock_take(&file->lock);
	locked = file->locks_in_place;
	lock_drop(&file->lock);
	return locked;
}

bool live_wanted(struct file *file, int open_flags)
{
	struct content head = file_attr(file).content;

	if (has_name(file, policy_is_live))
		return true;
	if (!(open_flags & O_TRUNC) && is_locked_in_place(file))
		return true;
	/* What is written anew as a whole needs no copy, and is nobody's database yet. */
	if (open_flags & O_TRUNC || !head.id)
		return false;
	return head.size_bytes > tree_fs(file->tree)->options.copy_limit_bytes ||
	       begins_as_database(file, &head);
}

/* True when the file is live now, with one more writer. */
static bool join_locked(struct node *node, const char *kind)
{
	if (node->kind != NODE_LIVE || !node->live)
		return false;
	node->live->writers++;
	if (strcmp(node->live->kind, "append") == 0)
		node->live->kind = kind;
	return true;
}

static bool is_superseded(struct node *node)
{
	bool superseded;

	lock_take(&node->file->lock);
	superseded = node->superseded;
	lock_drop(&node->file->lock);
	return superseded;
}

int live_join(struct node *node)
{
	bool joined;

	lock_take(&node->file->lock);
	joined = join_locked(node, "live");
	lock_drop(&node->file->lock);
	return joined ? 0 : -EAGAIN;
}

int live_open(struct node *node, const struct actor *actor, int64_t entry, const char *kind)
{
	struct file *file = node->file;
	struct content head;
	struct live *live;
	bool joined;
	int err;

	lock_take(&file->lock);
	joined = join_locked(node, kind);
	head = file->attr.content;
	lock_drop(&file->lock);
	if (joined)
		return 0;
	live = live_new(node, actor, entry, kind);
	if (!live)
		return -ENOMEM;
	err = open_object(live, &head);
	if (err) {
		live_free(live);
		return err;
	}
	lock_take(&file->lock);
	joined = join_locked(node, kind);
	if (!joined && (node->superseded || file->attr.content.id != head.id ||
			       file->attr.content.object != head.object)) {
		err = -ESTALE;
	} else if (!joined) {
		live->writers = 1;
		node->live = live;
		node->kind = NODE_LIVE;
		node->object = live->object;
	}
	lock_drop(&file->lock);
	if (err || joined) {
		if (live->staged)
			object_unstage(&file->tree->journal->objects, live->object);
		live_free(live);
		return err;
	}
	err = version_set_live(file, live->object, false);
	/* Another one went live at the same time, and is the head; or was it, and has writers still. */
	if (err == -EALREADY && !is_superseded(node))
		err = version_set_live(file, live->object, true);
	if (err)
		live_release(node, false);
	return err == -EALREADY ? -ESTALE : err;
}

/* io_lock is held. */
static int preserve(struct live *live, int64_t offset)
{
	struct tree *tree = live->node->file->tree;
	int64_t copy;
	int err;

	if (offset >= live->named_bytes)
		return 0;
	err = version_preserve(live->node->file, live->object, live->fd, live->named_bytes,
		tree_fs(tree)->options.copy_limit_bytes, &copy);
	if (err)
		return err;
	live->named = false;
	live->named_bytes = 0;
	if (copy)
		ops_version_moved(tree, live->object, copy);
	return 0;
}

static void mark_written(struct live *live, const void *by, uid_t uid)
{
	lock_take(&live->node->file->lock);
	live->by = live->written && live->by != by ? NULL : by;
	live->mtime_ns = live->changed_ns = time_now_ns();
	live->written = true;
	if (uid != 0)
		live->clear_setid = true;
	lock_drop(&live->node->file->lock);
}

ssize_t live_write(struct live *live, const void *by, const char *data, size_t bytes,
	int64_t offset, bool append, uid_t uid)
{
	struct stat st;
	size_t done = 0;
	ssize_t n = 0;
	int err = 0;

	lock_take(&live->io_lock);
	/* The kernel's idea of the end is right while it is the only one; the object's always is. */
	if (append && fstat(live->fd, &st) == 0)
		offset = st.st_size;
	if (fstat(live->fd, &st) == 0 && offset + (int64_t)bytes > st.st_size)
		err = object_room(&live->node->file->tree->journal->objects);
	if (!err)
		err = preserve(live, offset);
	while (!err && done < bytes) {
		n = pwrite(live->fd, data + done, bytes - done, offset + (int64_t)done);
		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			err = -errno;
	}
	/* An append lands whole or not at all. */
	if (err && append && done > 0 && ftruncate(live->fd, offset) == 0)
		done = 0;
	if (done > 0)
		mark_written(live, by, uid);
	lock_drop(&live->io_lock);
	return done > 0 ? (ssize_t)done : err;
}

int live_edit_begin(struct live *live, int64_t offset, uid_t uid)
{
	int err;

	lock_take(&live->io_lock);
	err = preserve(live, offset);
	mark_written(live, NULL, uid);
	lock_drop(&live->io_lock);
	return err;
}

/* The live file of the node, which stays until unpin(); NULL when there is none. */
static struct live *pin(struct node *node)
{
	struct live *live;

	lock_take(&node->file->lock);
	live = node->kind == NODE_LIVE ? node->live : NULL;
	if (live)
		live->settlers++;
	lock_drop(&node->file->lock);
	return live;
}

static void unpin(struct node *node, struct live *live)
{
	bool over;

	lock_take(&node->file->lock);
	over = --live->settlers == 0 && node->live != live;
	lock_drop(&node->file->lock);
	if (over)
		live_free(live);
}

bool live_set_times(struct node *node, int64_t mtime_ns)
{
	struct live *live = pin(node);
	bool taken;

	if (!live)
		return false;
	/* A settling that has begun does not look at it any more: its end is waited for. */
	lock_take(&live->io_lock);
	lock_take(&node->file->lock);
	taken = node->kind == NODE_LIVE && node->live == live && live->written;
	if (taken) {
		live->mtime_ns = mtime_ns;
		live->changed_ns = time_now_ns();
	}
	lock_drop(&node->file->lock);
	lock_drop(&live->io_lock);
	unpin(node, live);
	return taken;
}

int live_allocate(struct live *live, int mode, int64_t offset, int64_t length, uid_t uid)
{
	int err = live_edit_begin(live, mode & ~FALLOC_FL_KEEP_SIZE ? 0 : INT64_MAX, uid);

	if (!err && fallocate(live->fd, mode, offset, length) != 0)
		err = -errno;
	return err;
}

void live_stat_locked(struct live *live, struct stat *stat)
{
	struct stat st;

	if (!live || fstat(live->fd, &st) != 0)
		return;
	stat->st_size = st.st_size;
	stat->st_blocks = st.st_blocks;
	if (live->written)
		node_stat_changed(stat, live->mtime_ns, live->changed_ns);
}

struct settling {
	struct publish publish;
	struct live *live;
	bool keep;
};

/* In the apply step, with file->lock: the file has settled, unless somebody opened it for writing meanwhile. */
static void on_settled(struct publish *publish)
{
	struct settling *settling = container_of(publish, struct settling, publish);
	struct live *live = settling->live;
	struct node *node = live->node;
	struct file *file = node->file;
	bool named = publish->outcome == PUBLISH_VERSION || publish->outcome == PUBLISH_UNCHANGED;

	if (publish->outcome == PUBLISH_VERSION && file->head != node)
		node_supersede_locked(file, &publish->before);
	if (live->writers > 0 || settling->keep)
		return;
	node->live = NULL;
	node->kind = NODE_SETTLED;
	node->object = named ? file->attr.content.object : live->object;
	node->size_bytes = publish->content.size_bytes;
	node->blocks = publish->content.blocks;
	node->mtime_ns = live->mtime_ns;
}

/* keep: it goes on living on its object. */
static int settle(struct live *live, bool keep)
{
	struct file *file = live->node->file;
	struct content head = file_attr(file).content;
	struct settling settling = {
		.publish = {.tree = file->tree,
			.node = file->id,
			.entry = live->entry,
			.kind = live->kind,
			.basis = live->basis,
			.actor = live->actor,
			.mtime_ns = live->mtime_ns,
			.changed_ns = live->changed_ns,
			.changes_content = live->written,
			.clear_setid = live->clear_setid,
			.live = keep ? live->object : 0,
			.staged = live->staged,
			.applied = on_settled},
		.live = live,
		.keep = keep,
	};
	struct publish *publish = &settling.publish;
	struct stat st;
	int err;

	publish->content.object = live->object;
	if (fstat(live->fd, &st) != 0)
		return -errno;
	publish->content.size_bytes = st.st_size;
	publish->content.blocks = st.st_blocks;
	err = object_hash(live->fd, st.st_size, &publish->content.hash);
	if (err)
		return err;
	if (head.id && head.object == live->object && head.size_bytes == st.st_size &&
		memcmp(&head.hash, &publish->content.hash, sizeof(head.hash)) == 0)
		publish->equals = head.id;
	err = publish_commit(publish);
	if (err)
		return err;
	if (publish->outcome == PUBLISH_VERSION || publish->outcome == PUBLISH_ASIDE) {
		live->named = true;
		live->named_bytes = st.st_size;
	}
	live->basis = (struct basis){"own", publish->row.content.id, publish->number};
	lock_take(&file->lock);
	live->written = false;
	lock_drop(&file->lock);
	return 0;
}

/* A new object stays in stage/, where a crash leaves nothing behind, until a version names it. */
static void place_object(struct live *live)
{
	if (live->staged && live->named)
		live->staged = object_publish(&live->node->file->tree->journal->objects,
				       live->object) != 0;
}

/* Under io_lock: settled, unless somebody else did it meanwhile. When somebody opened the file for writing while it settled, it is
 * marked as live again before anybody else can settle it. */
static int settle_held(struct live *live)
{
	struct node *node = live->node;
	struct file *file = node->file;
	bool mine;
	int err;

	lock_take(&file->lock);
	mine = node->live == live && live->writers == 0;
	lock_drop(&file->lock);
	if (!mine)
		return 0;
	err = settle(live, false);
	if (err) {
		log_error("tree %s: a live file cannot be settled: %s; the next mount does it",
			file->tree->info.name, strerror(-err));
		return err;
	}
	place_object(live);
	lock_take(&file->lock);
	mine = node->live == live;
	lock_drop(&file->lock);
	if (mine)
		return version_set_live(file, live->object, true);
	if (live->named)
		return 0;
	/* Its row, if it has one, says that it goes: it was unlinked, or what versions named of it was moved away. */
	if (live->staged)
		object_unstage(&file->tree->journal->objects, live->object);
	garbage_release(file->tree->journal, live->object);
	return 0;
}

/* What nobody names yet becomes a version. io_lock is held. */
static int keep_held(struct live *live)
{
	struct file *file = live->node->file;
	bool wanted;
	int err;

	lock_take(&file->lock);
	wanted = live->written && file->attr.nlink > 0;
	lock_drop(&file->lock);
	if (!wanted || has_name(file, policy_is_scratch))
		return 0;
	err = settle(live, true);
	if (!err)
		place_object(live);
	return err;
}

int live_keep(struct node *node)
{
	struct live *live = pin(node);
	int err;

	if (!live)
		return 0;
	lock_take(&live->io_lock);
	err = keep_held(live);
	lock_drop(&live->io_lock);
	unpin(node, live);
	return err;
}

int live_truncate(struct live *live, const void *by, int64_t size_bytes, uid_t uid)
{
	struct file *file = live->node->file;
	struct stat st;
	bool cuts;
	int err = 0;

	lock_take(&live->io_lock);
	lock_take(&file->lock);
	/* Who wrote it all and cuts off the rest goes on with its own; "> file" begins anew. */
	cuts = live->written && fstat(live->fd, &st) == 0 && size_bytes < st.st_size &&
	       (size_bytes == 0 || by != live->by);
	lock_drop(&file->lock);
	if (cuts)
		err = keep_held(live);
	if (!err)
		err = preserve(live, size_bytes);
	if (!err && ftruncate(live->fd, size_bytes) != 0)
		err = -errno;
	if (!err)
		mark_written(live, by, uid);
	lock_drop(&live->io_lock);
	return err;
}

/* Programs that lock a file in place save it as others do by closing it. Databases, which are locked all the time, do not. */
void live_unlocked(struct live *live)
{
	struct file *file = live->node->file;
	struct stat st;
	bool wanted;
	int err = 0;

	lock_take(&live->io_lock);
	lock_take(&file->lock);
	wanted = strcmp(live->kind, "locked") == 0;
	lock_drop(&file->lock);
	if (wanted && fstat(live->fd, &st) == 0 && st.st_size <= LOCKED_VERSION_BYTES)
		err = keep_held(live);
	lock_drop(&live->io_lock);
	if (err)
		log_error("tree %s: what was written under a lock is not in the history yet: %s",
			file->tree->info.name, strerror(-err));
}

struct parked **live_settling_locked(struct node *node)
{
	struct live *live = node->kind == NODE_LIVE ? node->live : NULL;
	/* Without writers, and nobody about it, it could not be settled. */
	bool settles =
		live && live->closing == live->writers && (live->writers > 0 || live->settlers > 0);

	return settles ? &live->parked : NULL;
}

void live_flushed(struct node *node, bool *closing)
{
	lock_take(&node->file->lock);
	if (node->live && !*closing) {
		*closing = true;
		node->live->closing++;
	}
	lock_drop(&node->file->lock);
}

int live_release(struct node *node, bool closing)
{
	struct file *file = node->file;
	struct parked *waiting;
	struct live *live;
	bool last, over, superseded;
	int err;

	lock_take(&file->lock);
	live = node->live;
	last = --live->writers == 0;
	if (last)
		live->settlers++;
	if (closing)
		live->closing--;
	lock_drop(&file->lock);
	if (!last)
		return 0;
	lock_take(&live->io_lock);
	err = settle_held(live);
	lock_drop(&live->io_lock);
	lock_take(&file->lock);
	over = --live->settlers == 0 && node->live != live;
	superseded = node->superseded;
	waiting = park_claim_all_locked(&live->parked);
	lock_drop(&file->lock);
	/* It went on top of what had gone on top of it. */
	if (superseded)
		notify_names(tree_fs(file->tree), file);
	if (over)
		live_free(live);
	park_resume(waiting, PARK_DONE);
	return err;
}
