#include "fs/save_internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#include "journal/log.h"

static void on_timer(struct timer *timer);

struct journal *save_journal(struct save *save)
{
	return save->file->tree->journal;
}

struct save *save_ref(struct save *save)
{
	__atomic_add_fetch(&save->refs, 1, __ATOMIC_RELAXED);
	return save;
}

void save_unref(struct save *save)
{
	if (!save || __atomic_sub_fetch(&save->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (save->fd >= 0)
		close(save->fd);
	if (save->base_fd >= 0)
		close(save->base_fd);
	node_unref(save->node, 1);
	file_unref(save->successor);
	file_unref(save->file);
	lock_deinit(&save->io_lock);
	XXH3_freeState(save->hash_state);
	free(save);
}

void save_set_timer(struct save *save, int64_t due_ms)
{
	save_ref(save);
	if (!timer_set(&save->timer, due_ms))
		save_unref(save);
}

struct save *save_reserve_locked(struct file *file, const struct process *saver,
	const struct actor *actor, int64_t entry, int64_t ino, struct node *node)
{
	struct save *save = calloc(1, sizeof(*save));

	if (save)
		save->hash_state = XXH3_createState();
	if (save && save->hash_state)
		save->node = node ? node : node_new(tree_fs(file->tree), NODE_STAGED, file, ino);
	if (!save || !save->node) {
		if (save)
			XXH3_freeState(save->hash_state);
		free(save);
		return NULL;
	}
	if (node)
		node_ref_locked(node);
	save->file = file_ref(file);
	save->refs = 1;
	save->timer.call = on_timer;
	save->saver = *saver;
	save->actor = *actor;
	save->entry = entry;
	save->shown_ino = file->attr.ino;
	save->opened_ns = time_now_ns();
	save->fd = save->base_fd = -1;
	save->basis.kind = "none";
	save->base_size_bytes = file->attr.content.size_bytes;
	lock_init(&save->io_lock, LOCK_IO);
	save->node->save = save;
	DL_APPEND(file->saves, save);
	save_set_timer(save, time_mono_ms() + RESERVATION_MS);
	return save;
}

/* A new object for the save; what it had is gone from it. io_lock is held. */
static int stage_object(struct save *save)
{
	struct journal *journal = save_journal(save);
	int64_t number;
	int fd, err = volume_next_number(journal->volume, &number);

	if (!err)
		err = object_stage(&journal->objects, number, &fd);
	if (err)
		return err;
	if (save->fd < 0) {
		__atomic_store_n(&save->fd, fd, __ATOMIC_RELEASE);
	} else {
		/* In one step, for those that look at the descriptor without the lock. */
		dup3(fd, save->fd, O_CLOEXEC);
		close(fd);
	}
	save->object = number;
	save->closing = false;
	return 0;
}

/* The save's object becomes its own to change: made, copied from the basis, or from what a version names now. */
int save_own_object(struct save *save)
{
	autoclose int from = -1;
	struct stat st;
	int64_t length = save->base_size_bytes, before = save->object;
	int err;

	if (save->live)
		return SAVE_IS_LIVE;
	if (save->over)
		return -ESTALE;
	if (save->copied && !save->sealed)
		return 0;
	if (save->sealed) {
		from = fcntl(save->fd, F_DUPFD_CLOEXEC, 0);
		if (from < 0 || fstat(from, &st) != 0)
			return -errno;
		length = st.st_size;
	} else if (save->base_fd >= 0) {
		from = fcntl(save->base_fd, F_DUPFD_CLOEXEC, 0);
		if (from < 0)
			return -errno;
	}
	err = stage_object(save);
	if (err)
		return err;
	if (from >= 0)
		err = object_copy(from, save->fd, length);
	if (err) {
		object_unstage(&save_journal(save)->objects, save->object);
		if (save->sealed)
			dup3(from, save->fd, O_CLOEXEC);
		save->object = before;
		return err;
	}
	save->copied = true;
	save->sealed = false;
	return 0;
}

int save_begin(struct save *save, int open_flags, bool created)
{
	struct file *file = save->file;
	struct content head;
	int err = 0;

	lock_take(&save->io_lock);
	lock_take(&file->lock);
	head = file->attr.content;
	if (save->state != SAVE_RESERVED) {
		lock_drop(&file->lock);
		lock_drop(&save->io_lock);
		return -ESTALE;
	}
	save->state = SAVE_STAGED;
	save->created = created;
	save->truncated = !created && (open_flags & O_TRUNC);
	save->clear_setid = save->truncated && save->actor.uid != 0;
	save->mtime_ns = save->changed_ns = time_now_ns();
	lock_drop(&file->lock);
	save->base_size_bytes = head.size_bytes;
	if (created || save->truncated || head.id == 0) {
		save->base_size_bytes = 0;
		err = stage_object(save);
		save->copied = !err;
		save->hash_running = true;
		XXH3_128bits_reset(save->hash_state);
	} else {
		err = version_open(file->tree, head.object, &save->base_fd);
		save->basis = (struct basis){"own", head.id, 0};
	}
	lock_take(&file->lock);
	if (err) {
		save->state = SAVE_RESERVED;
		save->created = save->truncated = false;
		save->base_size_bytes = head.size_bytes;
		save_set_timer(save, time_mono_ms() + RESERVATION_MS);
	} else {
		save->stream_candidate = head.size_bytes == 0;
		save->keep_if_unlinked = head.id != 0;
		if (save->stream_candidate)
			save_set_timer(save, time_mono_ms() + STREAM_MS);
	}
	lock_drop(&file->lock);
	lock_drop(&save->io_lock);
	return err;
}

struct parked *save_pass_turn_locked(struct file *file, const void *holder)
{
	struct parked *first = NULL, **end = &first, *parked;
	struct turn_waiter *waiter;
	struct save *save = NULL;
	int64_t ino;

	while (!save && (waiter = turn_pass(&file->turn, holder))) {
		parked = container_of(waiter, struct parked, waiter);
		parked->ended = NULL;
		*end = parked;
		end = &parked->ended;
		/* Meanwhile it may have gone live: then nobody needs a save of its own. */
		if (parked->reserves && !file_is_live_locked(file) &&
			volume_next_number(file->tree->journal->volume, &ino) == 0)
			save = save_reserve_locked(
				file, &parked->process, &parked->actor, parked->entry, ino, NULL);
		if (save)
			turn_take(&file->turn, save);
		holder = NULL;
	}
	return first;
}

/* Takes the save out of the file. Its reference of the list goes to the caller. file->lock is held. */
struct parked *save_leave_locked(struct save *save, struct parked **ret_next)
{
	save->state = SAVE_GONE;
	save->over = true;
	DL_DELETE(save->file->saves, save);
	if (save->node->save == save)
		save->node->save = NULL;
	*ret_next = save_pass_turn_locked(save->file, save);
	return park_claim_all_locked(&save->parked);
}

void save_end(struct save *save, struct parked *waiting, struct parked *next)
{
	if (timer_cancel(&save->timer))
		save_unref(save);
	park_resume(next, PARK_DONE);
	park_resume(waiting, PARK_DONE);
	save_unref(save);
}

bool save_is_clean_locked(const struct save *save)
{
	bool open = save->state == SAVE_STAGED || save->state == SAVE_CLOSING;
	bool empty = save->stream_candidate || !(save->truncated || save->created);

	return open && empty && save->writers == 1 && !save->written && !save->failed;
}

enum give_up { WHATEVER, RESERVED_ONLY, CLEAN_ONLY };

static bool may_give_up_locked(const struct save *save, enum give_up what)
{
	if (what == RESERVED_ONLY)
		return save->state == SAVE_RESERVED;
	return save->state != SAVE_GONE && (what == WHATEVER || save_is_clean_locked(save));
}

/* Of a clean save io_lock keeps writes away. */
static bool give_up(struct save *save, enum give_up what)
{
	struct parked *waiting, *next;
	bool unstage;

	lock_take(&save->file->lock);
	if (!may_give_up_locked(save, what)) {
		lock_drop(&save->file->lock);
		return false;
	}
	unstage = save->copied && !save->sealed;
	waiting = save_leave_locked(save, &next);
	lock_drop(&save->file->lock);
	/* It may have been closed, and written again since. */
	if (unstage && save->closing && version_closing_drop(save->file->tree, save->object) != 0)
		unstage = false;
	if (unstage)
		object_unstage(&save_journal(save)->objects, save->object);
	save_end(save, waiting, next);
	return true;
}

void save_abandon(struct save *save)
{
	give_up(save, WHATEVER);
}

void save_expire(struct save *save)
{
	give_up(save, RESERVED_ONLY);
}

bool save_quit(struct save *save)
{
	bool quit;

	save_ref(save);
	lock_take(&save->io_lock);
	quit = give_up(save, CLEAN_ONLY);
	lock_drop(&save->io_lock);
	save_unref(save);
	return quit;
}

void save_locked(struct save *save)
{
	lock_take(&save->file->lock);
	save->locked = true;
	if (save->state == SAVE_STAGED)
		save_set_timer(save, time_mono_ms() + STREAM_MS);
	lock_drop(&save->file->lock);
}

int save_read(struct save *save, int *ret_fd)
{
	int fd = __atomic_load_n(&save->fd, __ATOMIC_ACQUIRE);

	*ret_fd = fd >= 0 && save->copied ? fd : save->base_fd;
	return *ret_fd >= 0 ? 0 : -EBADF;
}

/* Something was written: a closing save is open again. io_lock is held. */
static void mark_written(struct save *save, uid_t uid)
{
	save->dirty = save->written = true;
	save->written_ms = time_mono_ms();
	lock_take(&save->file->lock);
	if (uid != 0)
		save->clear_setid = true;
	if (save->state == SAVE_CLOSING)
		save->state = SAVE_STAGED;
	save->times_set = save->published = false;
	save->mtime_ns = save->changed_ns = time_now_ns();
	lock_drop(&save->file->lock);
}

static ssize_t write_all(int fd, const char *data, size_t bytes, int64_t offset)
{
	size_t done = 0;
	ssize_t n;

	while (done < bytes) {
		n = pwrite(fd, data + done, bytes - done, offset + (int64_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return done ? (ssize_t)done : -errno;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Sequential writes are hashed as they come; after any other the object is read once more at the closing. */
static void hash_written(struct save *save, const char *data, int64_t offset, size_t bytes)
{
	if (save->hash_running && offset == save->hash_bytes) {
		XXH3_128bits_update(save->hash_state, data, bytes);
		save->hash_bytes += (int64_t)bytes;
	} else {
		save->hash_running = false;
	}
}

/* A program may try again what failed; until it succeeds there, the save must not be shown to anybody. */
static void note_failure(struct save *save, ssize_t n, int64_t offset)
{
	if (n < 0 && n != SAVE_IS_LIVE) {
		save->failed = (int)n;
		save->failed_offset = offset;
	} else if (save->failed && offset <= save->failed_offset &&
		   save->failed_offset < offset + n) {
		save->failed = 0;
	}
}

void save_failed(struct save *save, int err, int64_t offset)
{
	if (err != -ENOSPC && err != -EDQUOT && err != -EIO && err != -EROFS)
		return;
	lock_take(&save->io_lock);
	note_failure(save, err, offset);
	lock_drop(&save->io_lock);
}

ssize_t save_write(struct save *save, const char *data, size_t bytes, int64_t offset, uid_t uid)
{
	ssize_t n;
	int err;

	lock_take(&save->io_lock);
	err = object_room(&save_journal(save)->objects);
	if (!err)
		err = save_own_object(save);
	n = err ? err : write_all(save->fd, data, bytes, offset);
	note_failure(save, n, offset);
	if (n > 0) {
		hash_written(save, data, offset, (size_t)n);
		mark_written(save, uid);
	}
	lock_drop(&save->io_lock);
	return n;
}

int save_edit_begin(struct save *save, int *ret_fd)
{
	int err;

	lock_take(&save->io_lock);
	err = save_own_object(save);
	if (err)
		lock_drop(&save->io_lock);
	*ret_fd = save->fd;
	return err;
}

void save_edit_end(struct save *save, bool changed, uid_t uid)
{
	if (changed) {
		save->hash_running = false;
		mark_written(save, uid);
	}
	lock_drop(&save->io_lock);
}

int save_truncate(struct save *save, int64_t size_bytes, uid_t uid)
{
	int fd, err;

	/* Emptying what was not copied yet needs no copy. */
	lock_take(&save->io_lock);
	if (!save->copied && !save->live && size_bytes == 0)
		save->base_size_bytes = 0;
	lock_drop(&save->io_lock);
	err = save_edit_begin(save, &fd);
	if (err)
		return err;
	if (ftruncate(fd, size_bytes) != 0)
		err = -errno;
	save_edit_end(save, !err, uid);
	if (!err && size_bytes == 0) {
		lock_take(&save->io_lock);
		XXH3_128bits_reset(save->hash_state);
		save->hash_running = true;
		save->hash_bytes = 0;
		lock_drop(&save->io_lock);
	}
	return err;
}

int save_allocate(struct save *save, int mode, int64_t offset, int64_t length, uid_t uid)
{
	int fd, err = save_edit_begin(save, &fd);

	if (err)
		return err;
	if (fallocate(fd, mode, offset, length) != 0)
		err = -errno;
	save_edit_end(save, !err, uid);
	return err;
}

bool save_set_times(struct save *save, int64_t mtime_ns)
{
	bool open;

	/* A publish that has begun does not look at it any more: its end is waited for. */
	lock_take(&save->io_lock);
	lock_take(&save->file->lock);
	open = save->state == SAVE_STAGED || save->state == SAVE_CLOSING;
	if (open) {
		save->times_set = true;
		save->mtime_ns = mtime_ns;
		save->changed_ns = time_now_ns();
	}
	lock_drop(&save->file->lock);
	lock_drop(&save->io_lock);
	return open;
}

/* Size, hash and time as they are now. io_lock is held. */
int save_seal(struct save *save)
{
	XXH128_canonical_t canonical;
	struct stat st;
	int err = 0;

	if (fstat(save->fd, &st) != 0)
		return -errno;
	if (save->hash_running && save->hash_bytes == st.st_size) {
		XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(save->hash_state));
		memcpy(save->hash.bytes, canonical.digest, sizeof(save->hash.bytes));
	} else {
		err = object_hash(save->fd, st.st_size, &save->hash);
	}
	save->size_bytes = st.st_size;
	save->blocks = st.st_blocks;
	return err;
}

int save_close(struct save *save, bool sync)
{
	struct closing_row row;
	bool closing;
	int err = 0;

	lock_take(&save->io_lock);
	closing = save->dirty && !save->live;
	if (save->failed) {
		err = save->failed;
		closing = false;
	}
	if (closing) {
		err = save_seal(save);
		row = (struct closing_row){save->object, save->file->id, save->entry,
			save->node->ino, save->size_bytes, save->hash, "save", save->basis,
			save->mtime_ns};
		if (!err && sync && fdatasync(save->fd) != 0)
			err = -errno;
		if (!err)
			err = version_closing(save->file->tree, &row, &save->actor);
		/* It is gone, with its tree, as an unlinked file is. */
		if (err == -ENOENT && save_journal(save)->removed)
			err = 0;
		save->dirty = err != 0;
		save->failed = err;
		save->closing = save->closing || !err;
	}
	lock_take(&save->file->lock);
	if (closing && !err && save->state == SAVE_STAGED) {
		save->state = SAVE_CLOSING;
		save->synced = sync;
		save->interrupted = false;
		save->closed_ms = time_mono_ms();
		save->unlooked = true;
		save_set_timer(save, save->closed_ms + STREAM_MS);
	}
	lock_drop(&save->file->lock);
	lock_drop(&save->io_lock);
	return err;
}

/* Not so when a write failed for good: the version before stays. */
bool save_has_content(const struct save *save)
{
	if (save->failed)
		return false;
	return save->written || save->truncated || save->created;
}

/* One timer serves what a save waits for in each state. */
static void on_due(struct job *job)
{
	struct save *save = container_of(job, struct save, job);
	enum { NOTHING, EXPIRE, PUBLISH, SNAPSHOT, LIVE } what = NOTHING;
	bool synced;
	int64_t now_ms = time_mono_ms();

	__atomic_store_n(&save->due, false, __ATOMIC_RELEASE);

	lock_take(&save->file->lock);
	if (save->state == SAVE_RESERVED)
		what = EXPIRE;
	else if (save->state != SAVE_STAGED && save->state != SAVE_CLOSING)
		what = NOTHING;
	else if (save->writers == 0)
		what = save->let_go ? PUBLISH : NOTHING;
	else if ((save->stream_candidate || save->locked) && save->file->attr.nlink > 0 &&
		 !file_is_live_locked(save->file))
		what = LIVE;
	else if (save->state == SAVE_CLOSING && now_ms - save->closed_ms >= STREAM_MS)
		what = SNAPSHOT;
	else if (save->state == SAVE_STAGED && save->synced && save->closed_ms)
		what = LIVE;
	synced = save->synced;
	lock_drop(&save->file->lock);
	/* The next close of a descriptor sets the timer anew. */
	if (what == SNAPSHOT && !synced && save_is_held(save))
		what = NOTHING;
	if (what == EXPIRE)
		save_expire(save);
	else if (what == PUBLISH)
		save_publish_let_go(save);
	else if (what == SNAPSHOT)
		save_snapshot(save);
	else if (what == LIVE)
		save_go_live(save);
	save_unref(save);
}

static void on_timer(struct timer *timer)
{
	struct save *save = container_of(timer, struct save, timer);

	/* Its reference goes with it. What is due twice is done once. */
	if (__atomic_exchange_n(&save->due, true, __ATOMIC_ACQ_REL)) {
		save_unref(save);
		return;
	}
	save->job.call = on_due;
	job_do(&save->job);
}

void save_stat_locked(struct save *save, struct stat *stat)
{
	int fd = __atomic_load_n(&save->fd, __ATOMIC_ACQUIRE);
	struct stat st;

	stat->st_ino = (ino_t)save->shown_ino;
	if (fd >= 0 && save->copied && fstat(fd, &st) == 0) {
		stat->st_size = st.st_size;
		stat->st_blocks = st.st_blocks;
	} else {
		stat->st_size = save->base_size_bytes;
	}
	if (save->times_set || save_has_content(save))
		node_stat_changed(stat, save->mtime_ns, save->changed_ns);
}

void save_hook_unlinked(struct file *file, const struct actor *actor)
{
	struct save *save;

	lock_take(&file->lock);
	file->unlinked_by = actor->pid;
	DL_FOREACH(file->saves, save)
	{
		if (save->actor.pid == actor->pid)
			save->keep_if_unlinked = false;
	}
	lock_drop(&file->lock);
}

void save_hook_replaced(struct file *old, struct file *successor, int64_t entry)
{
	struct save *save;

	lock_take(&old->lock);
	DL_FOREACH(old->saves, save)
	{
		if (save->entry == entry && old->attr.nlink == 0 && !save->successor &&
			save->state != SAVE_PUBLISHING)
			save->successor = file_ref(successor);
	}
	lock_drop(&old->lock);
}

void save_finish_all(struct file *file)
{
	struct save *save;

	for (;;) {
		lock_take(&file->lock);
		save = file->saves;
		if (save)
			save_ref(save);
		lock_drop(&file->lock);
		if (!save)
			break;
		if ((save->state != SAVE_CLOSING && !save->flushed_ms) || save_publish(save) != 0) {
			if (save->written && save->state != SAVE_GONE)
				log_warning("tree %s: a save by %s (%s, process %d) was not closed "
					    "at the end: dropped",
					file->tree->info.name, save->actor.user,
					save->actor.program, save->actor.pid);
			/* What was recorded as closing is the next mount's to publish: its object stays. */
			if (save->closed_ms && !save->failed)
				save->sealed = true;
			save_abandon(save);
		}
		save_unref(save);
	}
}
