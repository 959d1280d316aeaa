/*
 * handle: open files, all of which are in one list: releases may get lost, and versions may move.
 */
#include <fcntl.h>
#include <utlist.h>

#include "fs/notify.h"
#include "fs/ops.h"

static struct {
	struct lock lock; /* protects the list */
	struct handle *first;
	pthread_rwlock_t moving; /* taken before lock: who reads a version, against who moves it */
} handles = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF}, .moving = PTHREAD_RWLOCK_INITIALIZER};

struct handle *ops_handle_new(struct node *node)
{
	struct handle *handle = calloc(1, sizeof(*handle));

	if (!handle)
		return NULL;
	handle->node = node ? node_ref(node) : NULL;
	handle->followed = node ? __atomic_load_n(&node->followed, __ATOMIC_ACQUIRE) : 0;
	handle->fd = -1;
	handle->limit_bytes = INT64_MAX;
	lock_take(&handles.lock);
	DL_APPEND(handles.first, handle);
	lock_drop(&handles.lock);
	return handle;
}

void ops_handle_free(struct handle *handle)
{
	lock_take(&handles.lock);
	DL_DELETE(handles.first, handle);
	lock_drop(&handles.lock);
	if (handle->fd >= 0)
		close(handle->fd);
	save_unref(handle->save);
	node_unref(handle->former, 1);
	node_unref(handle->node, 1);
	free(handle);
}

/* Whether somebody may still read by it what it stood for. */
static bool is_open(const struct node *node)
{
	const struct handle *handle;

	lock_take(&handles.lock);
	DL_FOREACH(handles.first, handle)
	{
		if (handle->node == node || handle->former == node)
			break;
	}
	lock_drop(&handles.lock);
	return handle;
}

static bool is_left_locked(const struct node *node)
{
	return node->kind == NODE_SETTLED && node->superseded && !is_open(node);
}

bool ops_stat_left(struct node *node, struct stat *ret_stat)
{
	bool left;

	lock_take(&node->file->lock);
	left = is_left_locked(node);
	if (left)
		node_stat_head_locked(node->file, ret_stat);
	lock_drop(&node->file->lock);
	return left;
}

bool ops_follow_if_left(struct node *node)
{
	bool follows, before;

	lock_take(&node->file->lock);
	before = node->followed;
	follows = (before && node->superseded) || is_left_locked(node);
	if (follows && !before)
		__atomic_add_fetch(&node->followed, 1, __ATOMIC_ACQ_REL);
	lock_drop(&node->file->lock);
	if (follows && !before)
		notify_pages(tree_fs(node->file->tree), node, 0, 0);
	return follows;
}

void ops_versions_hold(void)
{
	pthread_rwlock_rdlock(&handles.moving);
}

void ops_versions_release(void)
{
	pthread_rwlock_unlock(&handles.moving);
}

void ops_version_moved(struct tree *tree, int64_t from, int64_t to)
{
	struct handle *handle;
	int fd = -1;

	pthread_rwlock_wrlock(&handles.moving);
	lock_take(&handles.lock);
	DL_FOREACH(handles.first, handle)
	{
		/* Numbers of objects are the volume's: which tree it is need not be asked. */
		if (handle->version_object != from)
			continue;
		if (fd < 0 && version_open(tree, to, &fd) != 0)
			break;
		dup3(fd, handle->fd, O_CLOEXEC);
		handle->version_object = to;
	}
	lock_drop(&handles.lock);
	pthread_rwlock_unlock(&handles.moving);
	if (fd >= 0)
		close(fd);
}

void ops_handles_drop(void)
{
	while (handles.first)
		ops_handle_free(handles.first);
}

void ops_end_writing(struct handle *handle)
{
	struct save *save = handle->save;
	bool live = handle->live, last = false;

	if (!handle->writer)
		return;
	if (!live) {
		lock_take(&save->file->lock);
		live = save->live;
		last = !live && --save->writers == 0;
		save->let_go = last;
		lock_drop(&save->file->lock);
	}
	if (live)
		live_release(handle->node, handle->closing);
	else if (last)
		save_publish_let_go(save);
}

void ops_close(struct handle *handle)
{
	bool locks = ops_locks_held(handle);

	/* The last writer's end makes a version anyway. */
	if (locks && ops_live(handle) && ops_live(handle)->writers > 1)
		live_unlocked(ops_live(handle));
	ops_end_writing(handle);
	if (locks)
		ops_locks_released(handle);
	ops_handle_free(handle);
}

bool ops_handle_opened(struct handle *handle, pid_t opener)
{
	struct node *node = handle->node;
	bool noflush = !handle->writer;

	handle->opener = opener;
	if (!node->file)
		return noflush;
	lock_take(&node->file->lock);
	handle->shown_ino =
		node->kind == NODE_STAGED && node->save ? node->save->shown_ino : node->ino;
	/* The close of a file ends its process's locks. */
	noflush = noflush && !node->file->ever_locked;
	handle->noflush = noflush;
	lock_drop(&node->file->lock);
	return noflush;
}
