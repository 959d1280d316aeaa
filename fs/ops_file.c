/*
 * ops_file: what is done through an open file.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "fs/notify.h"
#include "fs/ops.h"

/* The content may move between the look and the open. */
#define LOOKS_MAX 5

struct live *ops_live(struct handle *handle)
{
	bool live = __atomic_load_n(&handle->live, __ATOMIC_ACQUIRE);

	if (!handle->writer || !(live || (handle->save && handle->save->live)))
		return NULL;
	return handle->node->live;
}

int ops_open_head(struct file *file, int *ret_fd)
{
	struct content head;
	int err = -ENOENT;

	for (int looks = 0; err == -ENOENT && looks < LOOKS_MAX; looks++) {
		lock_take(&file->lock);
		head = file->attr.content;
		*ret_fd = file_is_live_locked(file)
				  ? fcntl(file->head->live->fd, F_DUPFD_CLOEXEC, 0)
				  : -1;
		lock_drop(&file->lock);
		err = *ret_fd < 0 && head.object ? version_open(file->tree, head.object, ret_fd)
						 : 0;
	}
	return err;
}

/* A reader of what was never published looks whether it is there by now. */
static int open_published(struct handle *handle)
{
	int fd, none = -1, err = ops_open_head(handle->node->file, &fd);

	/* Two reads may come at once: the first descriptor stays. */
	if (!err && fd >= 0 &&
		!__atomic_compare_exchange_n(
			&handle->fd, &none, fd, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		close(fd);
	return err;
}

/* Somebody took a lock through the handle's node since. */
static bool is_behind(struct handle *handle)
{
	return __atomic_load_n(&handle->node->followed, __ATOMIC_ACQUIRE) !=
	       __atomic_load_n(&handle->followed, __ATOMIC_ACQUIRE);
}

/* In one step, for those that read at the same time. */
static int follow_head(struct handle *handle)
{
	unsigned followed = __atomic_load_n(&handle->node->followed, __ATOMIC_ACQUIRE);
	struct file *file = handle->node->file;
	int fd, err;

	err = ops_open_head(file, &fd);
	if (!err && fd < 0 && (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
		err = -errno;
	if (err)
		return err;
	lock_take(&file->lock);
	if (handle->fd < 0)
		__atomic_store_n(&handle->fd, fd, __ATOMIC_RELEASE);
	else
		dup3(fd, handle->fd, O_CLOEXEC);
	if (handle->fd != fd)
		close(fd);
	__atomic_store_n(&handle->followed, followed, __ATOMIC_RELEASE);
	lock_drop(&file->lock);
	return 0;
}

/* The descriptor to read from; -1: there is nothing to read yet. */
static int reading_fd(struct handle *handle, int *ret_fd)
{
	struct live *live = ops_live(handle);
	int err = 0;

	if (live) {
		*ret_fd = live->fd;
		return 0;
	}
	if (is_behind(handle)) {
		err = follow_head(handle);
	} else if (handle->save && !handle->followed) {
		if (save_read(handle->save, ret_fd) != 0)
			*ret_fd = -1;
		return 0;
	}
	if (!err && __atomic_load_n(&handle->fd, __ATOMIC_ACQUIRE) < 0)
		err = open_published(handle);
	*ret_fd = __atomic_load_n(&handle->fd, __ATOMIC_ACQUIRE);
	return err;
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct handle *handle = handle_of(fi);
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);
	/* Once it is answered, the handle may be released. */
	bool old_version = handle->version_object != 0;
	int fd, err = reading_fd(handle, &fd);

	(void)ino;
	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	if (fd < 0 || offset >= handle->limit_bytes) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	if ((int64_t)size > handle->limit_bytes - offset)
		buf.buf[0].size = (size_t)(handle->limit_bytes - offset);
	if (old_version)
		ops_versions_hold();
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY;
	buf.buf[0].fd = fd;
	buf.buf[0].pos = offset;
	fuse_reply_data(req, &buf, 0);
	if (old_version)
		ops_versions_release();
}

void ops_tell_head(struct handle *handle, fuse_ino_t ino, int64_t offset, int64_t length)
{
	if (node_of(ino) != handle->node)
		notify_pages(tree_fs(handle->node->file->tree), handle->node, offset, length);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
	struct fuse_file_info *fi)
{
	struct handle *handle = handle_of(fi);
	uid_t uid = fuse_req_ctx(req)->uid;
	struct live *live = ops_live(handle);
	/* As it is now: F_SETFL may have changed it since the open. */
	bool append = (fi->flags & O_APPEND) && !fi->writepage;
	ssize_t n = SAVE_IS_LIVE;

	if (!live && handle->save) {
		if (fi->writepage)
			save_note_mapping(handle->save);
		else
			save_note_writer(handle->save, fuse_req_ctx(req)->pid);
		n = save_write(handle->save, data, size, offset, uid);
	}
	if (n == SAVE_IS_LIVE) {
		live = ops_live(handle);
		n = live ? live_write(live, handle, data, size, offset, append, uid) : -EBADF;
	}
	if (n > 0)
		ops_tell_head(handle, ino, append ? 0 : offset, append ? 0 : n);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

/* Neither who closes it nor the saver has it open any more: its release is on its way, unless a child still has it. */
static bool is_let_go(struct save *save, const struct process *process)
{
	uint64_t ino = (uint64_t)save->shown_ino;

	return process->known && !process_is_writing(process->pid, ino) &&
	       (process_same(process, &save->saver) || !process_is_writing(save->saver.pid, ino));
}

/* A writer that is killed leaves what it did not close as half of a save; the next close by a writer tells otherwise. Of a new or empty
 * file, what was written is all there is, and is shown. */
static bool is_interrupted(struct save *save, const struct process *process)
{
	bool killed = process->exiting && thread_is_killed(process->tid);

	lock_take(&save->file->lock);
	if (save_is_writers_locked(save, process))
		save->interrupted = killed && (save->dirty || !save->closed_ms);
	killed = save->interrupted;
	lock_drop(&save->file->lock);
	return killed;
}

/* The verdict and the safety belong to the saver's own process, after it wrote. For all others, and where nothing was written: when
 * the process has it open no more, its release may be on its way. */
static int flush_save(fuse_req_t req, struct save *save)
{
	bool sync = request_fs(req)->options.durable_close;
	struct process process;
	int err = 0;

	request_process(req, &process);
	if (is_interrupted(save, &process))
		return 0;
	if (process_same(&process, &save->saver) && (save->dirty || save->failed)) {
		err = save_close(save, sync);
		if (!err && sync)
			err = journal_sync(save->file->tree->journal);
	} else if (is_let_go(save, &process)) {
		lock_take(&save->file->lock);
		save->flushed_ms = time_mono_ms();
		save->kept_open = save->unlooked = false;
		lock_drop(&save->file->lock);
	}
	save_flushed(save);
	return err;
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *handle = handle_of(fi);
	bool live = ops_live(handle);
	int err = 0;

	(void)ino;
	if (live && fuse_req_ctx(req)->pid == handle->opener)
		live_flushed(handle->node, &handle->closing);
	else if (!live && handle->save && handle->writer)
		err = flush_save(req, handle->save);
	ops_locks_flushed(handle, fi->lock_owner);
	fuse_reply_err(req, -err);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct handle *handle = handle_of(fi);
	struct live *live = ops_live(handle);
	int err = 0;

	(void)ino;
	(void)datasync;
	if (handle->node->kind == NODE_VIRTUAL) {
		fuse_reply_err(req, 0);
		return;
	}
	if (live)
		err = fdatasync(live->fd) == 0 ? 0 : -errno;
	else if (handle->save && handle->writer)
		err = save_close(handle->save, true);
	if (!err)
		err = journal_sync(handle->node->file->tree->journal);
	fuse_reply_err(req, -err);
}

static int room_for(struct handle *handle)
{
	return handle->save || handle->node->live
		       ? object_room(&handle->node->file->tree->journal->objects)
		       : 0;
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
	struct fuse_file_info *fi)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	struct handle *handle = handle_of(fi);
	struct live *live = ops_live(handle);
	int err = mode & FALLOC_FL_PUNCH_HOLE ? 0 : room_for(handle);

	if (!err)
		err = SAVE_IS_LIVE;
	if (err == SAVE_IS_LIVE && !live && handle->save)
		err = save_allocate(handle->save, mode, offset, length, uid);
	if (err == SAVE_IS_LIVE) {
		live = ops_live(handle);
		err = live ? live_allocate(live, mode, offset, length, uid) : -EBADF;
	}
	if (err && !live && handle->save)
		save_failed(handle->save, err, offset);
	if (!err)
		ops_tell_head(handle, ino, 0, 0);
	fuse_reply_err(req, -err);
}

/* Pages that were written through a mapping may be the kernel's alone still: those in the hole are written now. True when there was
 * one, and it was not the last one that was looked at. */
static bool write_pages_in_hole(struct handle *handle, int fd, off_t hole, off_t *last)
{
	off_t end;

	if (hole < 0 || hole == *last || handle->node->kind == NODE_SETTLED ||
		handle->node->kind == NODE_VIRTUAL)
		return false;
	end = lseek(fd, hole, SEEK_DATA);
	if (end < 0)
		end = lseek(fd, 0, SEEK_END);
	if (end <= hole)
		return false;
	*last = hole;
	notify_pages(tree_fs(handle->node->file->tree), handle->node, hole, end - hole);
	return true;
}

static int seek(struct handle *handle, off_t offset, int whence, off_t *ret_at)
{
	off_t at, last = -1;
	int fd, err;

	do {
		err = reading_fd(handle, &fd);
		if (!err && fd < 0)
			err = -ENXIO;
		if (err)
			return err;
		at = lseek(fd, offset, whence);
		err = at < 0 ? -errno : 0;
	} while (write_pages_in_hole(handle, fd, whence == SEEK_DATA ? offset : at, &last));
	*ret_at = at;
	return err;
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct handle *handle = handle_of(fi);
	off_t at = 0;
	int err;

	(void)ino;
	/* The object of an old version may have grown since. */
	err = offset >= handle->limit_bytes ? -ENXIO : seek(handle, offset, whence, &at);
	if (!err && at >= handle->limit_bytes && whence == SEEK_DATA)
		err = -ENXIO;
	else if (!err && at > handle->limit_bytes)
		at = handle->limit_bytes;
	if (err)
		fuse_reply_err(req, -err);
	else
		fuse_reply_lseek(req, at);
}

/* Within the kernel's copy_file_range(2) both are files of this mount. */
static ssize_t copy_to(
	struct handle *out, int fd_in, off_t offset_in, off_t offset_out, size_t length, uid_t uid)
{
	struct live *live = ops_live(out);
	loff_t from = offset_in, to = offset_out;
	int fd, err = room_for(out);
	ssize_t n;

	if (err)
		return err;
	err = SAVE_IS_LIVE;
	if (!live && out->save)
		err = save_edit_begin(out->save, &fd);
	if (err == SAVE_IS_LIVE) {
		live = ops_live(out);
		err = live ? live_edit_begin(live, offset_out, uid) : -EBADF;
		fd = live ? live->fd : -1;
	}
	if (err)
		return err;
	n = copy_file_range(fd_in, &from, fd, &to, length, 0);
	if (n < 0)
		n = errno == EXDEV || errno == EINVAL ? -EOPNOTSUPP : -errno;
	if (!live)
		save_edit_end(out->save, n > 0, uid);
	return n;
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in,
	struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t offset_out,
	struct fuse_file_info *fi_out, size_t length, int flags)
{
	struct handle *in = handle_of(fi_in), *out = handle_of(fi_out);
	ssize_t n;
	int fd, err = reading_fd(in, &fd);

	(void)ino_in;
	(void)flags;
	if (!err && fd < 0) {
		fuse_reply_write(req, 0);
		return;
	}
	if (offset_in >= in->limit_bytes)
		length = 0;
	else if ((int64_t)length > in->limit_bytes - offset_in)
		length = (size_t)(in->limit_bytes - offset_in);
	n = err ? err : copy_to(out, fd, offset_in, offset_out, length, fuse_req_ctx(req)->uid);
	if (n < 0 && out->save && !ops_live(out))
		save_failed(out->save, (int)n, offset_out);
	if (n > 0)
		ops_tell_head(out, ino_out, offset_out, n);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}
