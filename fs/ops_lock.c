/*
 * ops_lock: fcntl(2) and flock(2).
 *
 * Locks belong to the file, whatever node a program came by. Programs that lock expect to see, once they have the lock,
 * what was written by whoever had it before. So with the lock
 *
 *   a clean save             is given up: the file goes live, and its program goes on there
 *   a save with writes       stays; it is published by the unlock, the close, or when it goes on for 2 s
 *   a superseded node        is the head's from then on, for all that have it open
 *
 * Their kernel inodes remain others than the head's: what the kernel has of them is dropped at each grant, and again
 * before the lock is given away (as NFS does it). Writes through them drop what it has of the head.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "fs/notify.h"
#include "fs/ops.h"
#include "journal/log.h"

/* Who lets go of a file still has its locks until its release arrives. */
#define LET_GO_WAIT_MS 200

/* What was closed or written under a lock, before others get it. */
static void publish_locked(struct handle *handle)
{
	struct node *node = handle->former ? handle->former : handle->node;
	struct file *file = node->file;
	struct save *save = handle->save;
	bool busy, aside;

	lock_take(&file->lock);
	busy = file->saves != NULL;
	aside = node_is_aside_locked(node);
	lock_drop(&file->lock);
	if (aside)
		notify_pages(tree_fs(file->tree), node, 0, 0);
	if (ops_live(handle))
		live_unlocked(ops_live(handle));
	else if (handle->writer && save && !save->interrupted)
		save_snapshot(save);
	if (busy)
		ops_publish_closed(file, false, NULL);
}

/* What the handle has open becomes the live head. The save, which changed nothing, is given up. */
static int go_on_in_head(fuse_req_t req, struct handle *handle)
{
	struct save *save = handle->save;
	struct file *file = save->file;
	struct actor actor;
	struct node *head;
	int err;

	request_actor(req, &actor);
	do {
		lock_take(&file->lock);
		head = node_head_locked(file);
		lock_drop(&file->lock);
		err = head ? live_open(head, &actor, save->entry, "locked") : -ENOMEM;
		if (err)
			node_unref(head, 1);
	} while (err == -ESTALE);
	if (err)
		return err;
	if (!save_quit(save)) {
		live_release(head, false);
		node_unref(head, 1);
		return -EAGAIN;
	}
	lock_take(&file->lock);
	file->locks_in_place = true;
	handle->former = handle->node;
	handle->node = head;
	handle->former->kind = NODE_SETTLED;
	handle->former->superseded = true;
	handle->former->object = head->object;
	__atomic_store_n(&handle->live, true, __ATOMIC_RELEASE);
	lock_drop(&file->lock);
	return 0;
}

enum standing { STANDS_ON_HEAD, STANDS_ASIDE, STANDS_CLEAN, STANDS_NEW, STANDS_WRITTEN };

static enum standing standing_of(struct node *node, struct handle *handle)
{
	struct save *save = handle->save;
	struct file *file = node->file;
	enum standing standing = STANDS_ON_HEAD;

	lock_take(&file->lock);
	if (handle->writer && !ops_live(handle)) {
		if (save_is_clean_locked(save))
			standing = STANDS_CLEAN;
		else
			standing = save->stream_candidate && !file_is_live_locked(file)
					   ? STANDS_NEW
					   : STANDS_WRITTEN;
	} else if (node_is_aside_locked(node)) {
		standing = STANDS_ASIDE;
	}
	lock_drop(&file->lock);
	return standing;
}

void ops_follow_head(struct node *node)
{
	lock_take(&node->file->lock);
	if (node_is_aside_locked(node))
		__atomic_add_fetch(&node->followed, 1, __ATOMIC_ACQ_REL);
	lock_drop(&node->file->lock);
	notify_pages(tree_fs(node->file->tree), node, 0, 0);
}

/* The lock is there: what the handle reads and writes is what others left. */
static int granted(fuse_req_t req, struct node *node, struct handle *handle)
{
	enum standing standing = standing_of(node, handle);
	int err = 0;

	if (standing == STANDS_CLEAN)
		err = go_on_in_head(req, handle);
	if (err == -EAGAIN) { /* it was written just now */
		standing = STANDS_WRITTEN;
		err = 0;
	}
	if (standing == STANDS_NEW)
		err = save_go_live(handle->save);
	else if (standing == STANDS_WRITTEN)
		save_locked(handle->save);
	if (!err && (standing == STANDS_CLEAN || standing == STANDS_ASIDE))
		ops_follow_head(node);
	return err;
}

/* Gives the locks to those who waited and are not kept out any more. file->lock is held. */
static struct parked *give_locked(struct file *file)
{
	struct parked *first = NULL, **end = &first, *parked, *next;

	for (parked = file->lock_waiters; parked; parked = next) {
		const struct range_lock *conflict = range_conflict(file->locks, &parked->lock);

		next = parked->next;
		if (conflict) {
			if (parked->wait.waiting)
				range_wait_begin(
					&parked->wait, parked->lock.owner, conflict->owner);
			continue;
		}
		park_claim_locked(parked);
		parked->result = range_set(&file->locks, &parked->lock);
		range_wait_end(&parked->wait);
		parked->ended = NULL;
		*end = parked;
		end = &parked->ended;
	}
	return first;
}

static void unlock(struct file *file, const struct range_lock *lock)
{
	struct range_lock none = *lock;
	struct parked *waiting;

	none.type = F_UNLCK;
	lock_take(&file->lock);
	if (range_set(&file->locks, &none) != 0)
		log_error(
			"no memory to unlock a part of a lock: it stays until its file is closed");
	waiting = give_locked(file);
	lock_drop(&file->lock);
	park_resume(waiting, PARK_DONE);
}

static void finish(fuse_req_t req, struct node *node, const struct range_lock *lock)
{
	struct handle *handle = (struct handle *)(uintptr_t)lock->via;
	int err = granted(req, node, handle);

	if (err)
		unlock(node->file, lock);
	fuse_reply_err(req, -err);
}

static void lock_resume(struct parked *parked, enum park_end end)
{
	range_wait_end(&parked->wait);
	if (end == PARK_INTERRUPTED)
		fuse_reply_err(parked->req, EINTR);
	else if (end == PARK_TIMEOUT)
		fuse_reply_err(parked->req, EAGAIN);
	else if (parked->result)
		fuse_reply_err(parked->req, -parked->result);
	else
		finish(parked->req, parked->node, &parked->lock);
}

/* Whether the lock in the way is of an open file that was closed just now, be it in a child: its release may be on its way. */
static bool is_let_go(struct file *file, const struct range_lock *lock)
{
	const struct range_lock *conflict;
	const struct handle *handle;
	bool noflush = false, flushed = true;
	int64_t ino = 0;
	pid_t pid = 0;

	lock_take(&file->lock);
	conflict = range_conflict(file->locks, lock);
	if (conflict) {
		handle = conflict->via;
		noflush = handle->noflush;
		flushed = time_mono_ms() - handle->flushed_ms < LET_GO_WAIT_MS;
		ino = handle->shown_ino;
		pid = conflict->pid;
	}
	lock_drop(&file->lock);
	return noflush ? pid == lock->pid || !process_is_using(pid, (uint64_t)ino) : flushed;
}

/* A program that waits for a lock keeps nobody from saving. */
static struct parked *pass_turn_locked(struct file *file, const struct range_lock *lock)
{
	const struct handle *handle = lock->via;

	return handle->save ? save_pass_turn_locked(file, handle->save) : NULL;
}

/* Who asks for another lock than it has loses that first (flock(2)): of two that share it, and want it alone, one gets it. */
static struct parked *lose_locked(struct file *file, const struct range_lock *lock)
{
	if (lock->kind != RANGE_FLOCK || !range_owned(file->locks, RANGE_FLOCK, lock->owner))
		return NULL;
	range_drop_via(&file->locks, lock->via);
	return give_locked(file);
}

static void refuse(fuse_req_t req, struct file *file, const struct range_lock *lock)
{
	struct parked *waiting;

	lock_take(&file->lock);
	waiting = lose_locked(file, lock);
	lock_drop(&file->lock);
	park_resume(waiting, PARK_DONE);
	fuse_reply_err(req, EAGAIN);
}

static void wait_for_lock(
	fuse_req_t req, struct node *node, const struct range_lock *lock, unsigned timeout_ms)
{
	struct parked *parked, *waiting = NULL, *next = NULL;
	const struct range_lock *conflict;
	struct file *file = node->file;
	struct process process;
	int err = 0;

	request_process(req, &process);
	parked = park_new(req, file, node, NULL, NULL, &process, lock_resume);
	if (!parked) {
		fuse_reply_err(req, ENOLCK);
		return;
	}
	parked->lock = *lock;
	park_listen(parked);
	lock_take(&file->lock);
	waiting = lose_locked(file, lock);
	conflict = range_conflict(file->locks, lock);
	if (!conflict)
		err = range_set(&file->locks, lock) != 0 ? -ENOLCK : 0;
	else if (lock->kind == RANGE_POSIX && timeout_ms == PARK_FOREVER)
		err = range_wait_begin(&parked->wait, lock->owner, conflict->owner);
	if (conflict && !err) {
		next = pass_turn_locked(file, lock);
		park_for_lock_locked(parked, timeout_ms);
	}
	lock_drop(&file->lock);
	park_resume(waiting, PARK_DONE);
	park_resume(next, PARK_DONE);
	if (conflict && !err)
		return;
	range_wait_end(&parked->wait);
	park_drop(parked);
	if (err)
		fuse_reply_err(req, -err);
	else
		finish(req, node, lock);
}

static void take(fuse_req_t req, fuse_ino_t ino, const struct range_lock *wanted, bool sleep)
{
	struct node *node = node_of(ino);
	struct file *file = node->file;
	struct parked *waiting = NULL;
	bool conflict;
	int err = 0;

	lock_take(&file->lock);
	file->ever_locked = true;
	conflict = range_conflict(file->locks, wanted);
	if (!conflict) {
		err = range_set(&file->locks, wanted);
		waiting = give_locked(file); /* it may be less than it was */
	}
	lock_drop(&file->lock);
	park_resume(waiting, PARK_DONE);
	if (err)
		fuse_reply_err(req, ENOLCK);
	else if (!conflict)
		finish(req, node, wanted);
	else if (sleep)
		wait_for_lock(req, node, wanted, PARK_FOREVER);
	else if (is_let_go(file, wanted))
		wait_for_lock(req, node, wanted, LET_GO_WAIT_MS);
	else
		refuse(req, file, wanted);
}

/* Versions never change: there is nothing to wait for, and nothing to keep others from. */
static bool answer_virtual(fuse_req_t req, fuse_ino_t ino, short type)
{
	if (node_of(ino)->kind != NODE_VIRTUAL)
		return false;
	fuse_reply_err(req, type == F_WRLCK ? ENOLCK : 0);
	return true;
}

static struct range_lock range_of(
	fuse_req_t req, const struct fuse_file_info *fi, const struct flock *lock)
{
	return (struct range_lock){
		.kind = RANGE_POSIX,
		.type = lock->l_type,
		.start = lock->l_start,
		.end = lock->l_len ? lock->l_start + lock->l_len - 1 : INT64_MAX,
		.owner = fi->lock_owner,
		.pid = lock->l_pid,
		.uid = fuse_req_ctx(req)->uid,
		.since_ns = time_now_ns(),
		.via = handle_of(fi),
	};
}

void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct range_lock wanted = range_of(req, fi, lock);
	const struct range_lock *conflict = NULL;
	struct node *node = node_of(ino);

	if (node->kind != NODE_VIRTUAL) {
		lock_take(&node->file->lock);
		conflict = range_conflict(node->file->locks, &wanted);
		if (conflict) {
			lock->l_type = conflict->type;
			lock->l_start = conflict->start;
			lock->l_len = conflict->end == INT64_MAX
					      ? 0
					      : conflict->end - conflict->start + 1;
			lock->l_pid = conflict->pid;
		}
		lock_drop(&node->file->lock);
	}
	if (!conflict)
		lock->l_type = F_UNLCK;
	lock->l_whence = SEEK_SET;
	fuse_reply_lock(req, lock);
}

static void change(fuse_req_t req, fuse_ino_t ino, const struct range_lock *wanted, bool sleep)
{
	if (answer_virtual(req, ino, wanted->type))
		return;
	if (wanted->type != F_UNLCK) {
		take(req, ino, wanted, sleep);
		return;
	}
	publish_locked((struct handle *)(uintptr_t)wanted->via);
	unlock(node_of(ino)->file, wanted);
	fuse_reply_err(req, 0);
}

void op_setlk(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
	struct range_lock wanted = range_of(req, fi, lock);

	change(req, ino, &wanted, sleep);
}

void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	struct range_lock wanted = {
		.kind = RANGE_FLOCK,
		.type = op & LOCK_EX   ? F_WRLCK
			: op & LOCK_SH ? F_RDLCK
				       : F_UNLCK,
		.end = INT64_MAX,
		.owner = fi->lock_owner,
		.pid = fuse_req_ctx(req)->pid,
		.uid = fuse_req_ctx(req)->uid,
		.since_ns = time_now_ns(),
		.via = handle_of(fi),
	};

	change(req, ino, &wanted, !(op & LOCK_NB));
}

void ops_locks_end(struct file *file)
{
	struct parked *waiting;

	lock_take(&file->lock);
	waiting = park_claim_all_locked(&file->lock_waiters);
	lock_drop(&file->lock);
	for (struct parked *parked = waiting; parked; parked = parked->ended)
		parked->result = -ENOLCK;
	park_resume(waiting, PARK_DONE);
}

void ops_locks_flushed(struct handle *handle, uint64_t owner)
{
	struct file *file = handle->node->file;
	struct parked *waiting;
	bool any;

	if (!file)
		return;
	lock_take(&file->lock);
	handle->flushed_ms = time_mono_ms();
	any = range_owned(file->locks, RANGE_POSIX, owner);
	lock_drop(&file->lock);
	if (!any)
		return;
	publish_locked(handle);
	lock_take(&file->lock);
	range_drop_owner(&file->locks, owner);
	waiting = give_locked(file);
	lock_drop(&file->lock);
	park_resume(waiting, PARK_DONE);
}

bool ops_locks_held(struct handle *handle)
{
	struct file *file = handle->node->file;
	bool any;

	if (!file)
		return false;
	lock_take(&file->lock);
	any = range_via(file->locks, handle);
	lock_drop(&file->lock);
	return any;
}

void ops_locks_released(struct handle *handle)
{
	struct file *file = handle->node->file;
	struct parked *waiting;

	ops_publish_closed(file, false, NULL);
	lock_take(&file->lock);
	range_drop_via(&file->locks, handle);
	waiting = give_locked(file);
	lock_drop(&file->lock);
	park_resume(waiting, PARK_DONE);
}
