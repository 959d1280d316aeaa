/*
 * ops_attr: attributes, extended ones too. By node, never by who asks.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>

#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/redirect.h"
#include "fs/root.h"
#include "fs/virtual.h"
#include "meta/namespace.h"

static void reply_node(fuse_req_t req, struct node *node)
{
	struct stat st;
	double timeout;

	lock_take(&node->file->lock);
	node_stat_locked(node, &st);
	timeout = ops_attr_timeout_locked(node);
	lock_drop(&node->file->lock);
	if (timeout == 0)
		ops_stat_left(node, &st);
	fuse_reply_attr(req, &st, timeout);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	int err;

	(void)fi;
	if (is_root(ino)) {
		/* Trees come and go by the kernel's doing, which asks again then. */
		root_stat(request_fs(req), &st);
		fuse_reply_attr(req, &st, CACHE_LONG_S);
	} else if (node_of(ino)->kind == NODE_VIRTUAL) {
		err = virtual_stat(node_of(ino), &st);
		if (err)
			fuse_reply_err(req, -err);
		else
			fuse_reply_attr(req, &st, 0);
	} else {
		reply_node(req, node_of(ino));
	}
}

/* A truncation by path is a save of its own, of one step. */
static int truncate_once(struct save *save, int64_t size_bytes, uid_t uid)
{
	int err = save_begin(save, size_bytes == 0 ? O_WRONLY | O_TRUNC : O_WRONLY, false);

	if (err)
		return err;
	err = save_truncate(save, size_bytes, uid);
	if (err)
		save_abandon(save);
	else
		err = save_publish(save);
	return err;
}

/* joins: in place only while others write there. -ESTALE: it is to be staged. */
static int truncate_live(fuse_req_t req, struct node *node, int64_t size_bytes, bool joins)
{
	struct actor actor;
	int err;

	request_actor(req, &actor);
	err = joins ? live_join(node) : live_open(node, &actor, ops_lineage(node->file), "live");
	if (err == -EAGAIN)
		err = -ESTALE;
	if (err)
		return err;
	err = live_truncate(node->live, req, size_bytes, actor.uid);
	live_release(node, false);
	return err;
}

/* What was closed and is not released yet is a version of its own, and so is what the truncation makes of it. */
static int truncate_closed(struct save *save, int64_t size_bytes, uid_t uid)
{
	int err = save_snapshot(save);

	if (!err)
		err = save_truncate(save, size_bytes, uid);
	return err ? err : save_snapshot(save);
}

static int truncate_staged(struct node *node, int64_t size_bytes, uid_t uid)
{
	bool reserved = false, closed = false;
	struct save *save;
	int err;

	lock_take(&node->file->lock);
	save = node->save ? save_ref(node->save) : NULL;
	if (save) {
		reserved = save->state == SAVE_RESERVED;
		closed = save->state == SAVE_CLOSING || save->state == SAVE_PUBLISHING ||
			 save->flushed_ms;
	}
	lock_drop(&node->file->lock);
	if (!save)
		return -ESTALE;
	if (reserved)
		err = truncate_once(save, size_bytes, uid);
	else if (closed)
		err = truncate_closed(save, size_bytes, uid);
	else
		err = save_truncate(save, size_bytes, uid);
	save_unref(save);
	return err;
}

/* The kernel comes back with a node that was superseded on the way: a second ESTALE would reach the program. So it
 * is done here, on the head, and the kernel is told. */
static int truncate_head(fuse_req_t req, struct node *node, int64_t size_bytes)
{
	struct file *file = node->file;
	int64_t ino, entry = ops_lineage(file);
	struct process nobody = {.known = false};
	struct actor actor;
	struct save *save = NULL;
	int err = volume_next_number(file->tree->journal->volume, &ino);

	if (err)
		return err;
	request_actor(req, &actor);
	lock_take(&file->lock);
	save = save_reserve_locked(file, &nobody, &actor, entry, ino, NULL);
	if (save)
		save_ref(save);
	lock_drop(&file->lock);
	if (!save)
		return -ENOMEM;
	err = truncate_once(save, size_bytes, actor.uid);
	save_unref(save);
	if (!err) {
		ops_tell_others(file, node);
		notify_names(tree_fs(file->tree), file);
	}
	return err;
}

static bool is_for_live(struct node *node, int64_t size_bytes)
{
	return live_wanted(node->file, size_bytes == 0 ? O_TRUNC : 0);
}

/* Without a descriptor: on a settled file the kernel is sent round, as by an open; but without waiting for the turn,
 * which would block the caller's directory. */
static int truncate_path(fuse_req_t req, struct node *node, int64_t size_bytes)
{
	int err = -ESTALE;
	struct process process;
	enum node_kind kind;
	bool sent;

	request_process(req, &process);
	sent = redirect_end(process.tid, node, true) != REDIRECT_NONE;
	lock_take(&node->file->lock);
	kind = node->kind;
	lock_drop(&node->file->lock);
	if (kind == NODE_STAGED)
		err = truncate_staged(node, size_bytes, fuse_req_ctx(req)->uid);
	else if (kind == NODE_LIVE)
		err = truncate_live(req, node, size_bytes, true);
	if (err == -ESTALE && kind != NODE_STAGED && is_for_live(node, size_bytes))
		err = truncate_live(req, node, size_bytes, false);
	if (err != -ESTALE)
		return err;
	if (sent)
		return truncate_head(req, node, size_bytes);
	/* So that it finds no save of its own that is over in a moment. */
	ops_publish_closed(node->file, false, NULL);
	return ops_reserve(req, node, &process) ? -ESTALE : -ENOMEM;
}

static int truncate_handle(struct handle *handle, int64_t size_bytes, uid_t uid)
{
	int err = SAVE_IS_LIVE;

	if (!handle->writer)
		return -EINVAL;
	if (!ops_live(handle))
		err = save_truncate(handle->save, size_bytes, uid);
	if (err == SAVE_IS_LIVE)
		err = live_truncate(handle->node->live, handle, size_bytes, uid);
	else if (err)
		save_failed(handle->save, err, 0);
	return err;
}

static int64_t time_ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

static struct attr_change change_of(const struct stat *attr, int to_set)
{
	struct attr_change change = {
		.mode = attr->st_mode,
		.uid = attr->st_uid,
		.gid = attr->st_gid,
		.atime_ns = time_ns(&attr->st_atim),
		.mtime_ns = time_ns(&attr->st_mtim),
	};

	change.mask = (unsigned)((to_set & FUSE_SET_ATTR_MODE ? ATTR_MODE : 0) |
				 (to_set & FUSE_SET_ATTR_UID ? ATTR_UID : 0) |
				 (to_set & FUSE_SET_ATTR_GID ? ATTR_GID : 0) |
				 (to_set & FUSE_SET_ATTR_ATIME ? ATTR_ATIME : 0) |
				 (to_set & FUSE_SET_ATTR_MTIME ? ATTR_MTIME : 0) |
				 (to_set & FUSE_SET_ATTR_ATIME_NOW ? ATTR_ATIME_NOW : 0) |
				 (to_set & FUSE_SET_ATTR_MTIME_NOW ? ATTR_MTIME_NOW : 0));
	return change;
}

static bool set_time_of_live(struct node *node, int64_t mtime_ns)
{
	struct node *head = NULL;
	bool taken;

	/* Who took a lock may write to the head by another node; futimens(3) does not say through which file. */
	lock_take(&node->file->lock);
	if (node_is_aside_locked(node) && node->followed && node->file->head) {
		head = node->file->head;
		node_ref_locked(head);
	}
	lock_drop(&node->file->lock);
	taken = live_set_times(head ? head : node, mtime_ns);
	node_unref(head, 1);
	return taken;
}

/* The time of what is not published yet goes with the save, or with the live file. True when it did. */
static bool set_time_of_content(struct node *node, int64_t mtime_ns)
{
	struct save *save = NULL;
	bool taken;

	lock_take(&node->file->lock);
	if (node->kind == NODE_STAGED && node->save && node->save->state != SAVE_RESERVED &&
		(node->save->written || node->save->truncated || node->save->created))
		save = save_ref(node->save);
	lock_drop(&node->file->lock);
	if (!save)
		return set_time_of_live(node, mtime_ns);
	taken = save_set_times(save, mtime_ns);
	save_unref(save);
	/* It may have gone live meanwhile. */
	return taken || set_time_of_live(node, mtime_ns);
}

static int change_attributes(fuse_req_t req, struct node *node, struct attr_change change)
{
	const unsigned mtime = ATTR_MTIME | ATTR_MTIME_NOW;
	struct actor actor;
	int err;

	if (change.mask & mtime &&
		set_time_of_content(
			node, change.mask & ATTR_MTIME_NOW ? time_now_ns() : change.mtime_ns))
		change.mask &= ~mtime;
	if (change.mask == 0)
		return 0;
	request_actor(req, &actor);
	err = namespace_setattr(node->file, &change, &actor);
	if (!err && S_ISREG(node->file->attr.mode))
		ops_tell_others(node->file, node);
	return err;
}

static void set_attributes(fuse_req_t req, fuse_ino_t ino, const struct stat *attr, int to_set,
	struct fuse_file_info *fi)
{
	struct attr_change change = change_of(attr, to_set);
	struct node *node = node_of(ino);
	struct handle *handle = fi ? handle_of(fi) : NULL;
	uid_t uid = fuse_req_ctx(req)->uid;
	int err = 0;

	if (is_root(ino) || node->kind == NODE_VIRTUAL) {
		fuse_reply_err(req, is_root(ino) ? EPERM : EROFS);
		return;
	}
	if (to_set & FUSE_SET_ATTR_SIZE)
		err = handle ? truncate_handle(handle, attr->st_size, uid)
			     : truncate_path(req, node, attr->st_size);
	if (handle && (to_set & FUSE_SET_ATTR_SIZE))
		ops_tell_head(handle, ino, 0, 0);
	/* chown(2) of nothing still takes the set-id bits away. (As the kernel says it, it is no different from a write that does, so it
	 * is not told to others than the owner that they may not.) */
	if (!err && !(to_set & FUSE_SET_ATTR_SIZE) && !change.mask) {
		change.mask = ATTR_UID | ATTR_GID;
		change.uid = node->file->attr.uid;
		change.gid = node->file->attr.gid;
	}
	if (!err && change.mask)
		err = change_attributes(req, node, change);
	if (err)
		fuse_reply_err(req, -err);
	else
		reply_node(req, node);
}

static void setattr_resume(struct parked *parked, enum park_end end)
{
	if (end == PARK_INTERRUPTED)
		fuse_reply_err(parked->req, EINTR);
	else
		set_attributes(
			parked->req, node_id(parked->node), &parked->attr, parked->to_set, NULL);
}

/* Before it is truncated by path, a live file that is about to settle does so, unless it is to be live: who reads it keeps what it has.
 * True when the request was parked. */
static bool wait_for_settling(
	fuse_req_t req, struct node *node, const struct stat *attr, int to_set)
{
	struct process process = {.tid = fuse_req_ctx(req)->pid};
	struct parked *parked, **list;

	lock_take(&node->file->lock);
	list = live_settling_locked(node);
	lock_drop(&node->file->lock);
	if (!list || is_for_live(node, attr->st_size))
		return false;
	parked = park_new(req, node->file, node, NULL, NULL, &process, setattr_resume);
	if (!parked)
		return false;
	parked->attr = *attr;
	parked->to_set = to_set;
	park_listen(parked);
	lock_take(&node->file->lock);
	list = live_settling_locked(node);
	if (list)
		park_for_publish_locked(parked, list, RELEASE_WAIT_MS);
	lock_drop(&node->file->lock);
	if (!list)
		park_drop(parked);
	return list;
}

void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	bool truncates = !fi && !is_root(ino) && to_set & FUSE_SET_ATTR_SIZE;

	if (truncates && node_of(ino)->kind != NODE_VIRTUAL &&
		wait_for_settling(req, node_of(ino), attr, to_set))
		return;
	set_attributes(req, ino, attr, to_set, fi);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;

	(void)ino;
	if (fstatvfs(volume_fd(request_fs(req)->volume), &st) != 0) {
		fuse_reply_err(req, errno);
		return;
	}
	st.f_namemax = RECORD_NAME_MAX;
	fuse_reply_statfs(req, &st);
}

static bool is_own(const char *name)
{
	return strncmp(name, "user.intactfs.", strlen("user.intactfs.")) == 0;
}

/* 0 for a name of a namespace that is kept (xattr(7)). Access lists (system.*) are not. */
static int check_name(const char *name)
{
	static const char *const kept[] = {"user.", "trusted.", "security."};

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (strncmp(name, kept[i], strlen(kept[i])) == 0)
			return name[strlen(kept[i])] ? 0 : -EINVAL;
	return -EOPNOTSUPP;
}

static void reply_xattr(fuse_req_t req, const void *value, size_t bytes, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, bytes);
	else if (bytes > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, bytes);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct node *node = is_root(ino) ? NULL : node_of(ino);
	autofree void *value = NULL;
	size_t bytes = 0;
	int err = check_name(name);

	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	if (is_own(name))
		err = virtual_getxattr(req, request_fs(req), node, name, &value, &bytes);
	else if (!node || node->kind == NODE_VIRTUAL)
		err = -ENODATA;
	else
		err = namespace_getxattr(node->file, name, &value, &bytes);
	if (err)
		fuse_reply_err(req, -err);
	else
		reply_xattr(req, value, bytes, size);
}

void op_setxattr(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct node *node = is_root(ino) ? NULL : node_of(ino);
	struct actor actor;
	int err = node ? check_name(name) : -EOPNOTSUPP;

	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	if (node->kind == NODE_VIRTUAL) {
		err = -EROFS;
	} else if (is_own(name)) {
		err = virtual_setxattr(req, node, name, value, size);
	} else {
		request_actor(req, &actor);
		err = namespace_setxattr(node->file, name, value, size, flags, &actor);
		if (!err)
			ops_tell_others(node->file, node);
	}
	fuse_reply_err(req, -err);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct node *node = is_root(ino) ? NULL : node_of(ino);
	autofree char *list = NULL;
	size_t bytes = 0;
	int err = 0;

	if (node && node->kind != NODE_VIRTUAL)
		err = namespace_listxattr(node->file, fuse_req_ctx(req)->uid == 0, &list, &bytes);
	if (err)
		fuse_reply_err(req, -err);
	else
		reply_xattr(req, list, bytes, size);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct node *node = is_root(ino) ? NULL : node_of(ino);
	struct actor actor;
	int err = node ? check_name(name) : -EOPNOTSUPP;

	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	if (node->kind == NODE_VIRTUAL) {
		err = -EROFS;
	} else {
		request_actor(req, &actor);
		err = namespace_removexattr(node->file, name, &actor);
		if (!err)
			ops_tell_others(node->file, node);
	}
	fuse_reply_err(req, -err);
}
