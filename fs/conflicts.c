#include "fs/conflicts.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fs/ops.h"
#include "fs/restore.h"
#include "fs/sibling.h"
#include "fs/virtual.h"
#include "meta/conflict_report.h"

#define autoviewer __attribute__((cleanup(viewer_deinit)))

int conflicts_report(fuse_req_t req, struct tree *tree, json_t **ret_report)
{
	json_t *list = json_array(), *page = NULL;
	autoviewer struct viewer viewer;
	int64_t last = 0, before;
	int err = list ? 0 : -ENOMEM;

	virtual_viewer(req, &viewer);
	do {
		before = last;
		err = err ?: conflict_list(tree, &viewer, before, &page, &last);
		if (!err && json_array_extend(list, page) != 0)
			err = -ENOMEM;
		json_decref(page);
		page = NULL;
	} while (!err && last > before);
	if (err)
		json_decref(list);
	else
		*ret_report = list;
	return err;
}

static int see(fuse_req_t req, struct tree *tree, int64_t id, struct conflict_sight *ret_sight)
{
	autoviewer struct viewer viewer;
	int err;

	virtual_viewer(req, &viewer);
	err = conflict_see(tree, &viewer, id, ret_sight);
	return err < 0 ? err : err ? 0 : -ENOENT;
}

int conflicts_find(fuse_req_t req, struct tree *tree, int64_t id)
{
	struct conflict_sight sight;

	return see(req, tree, id, &sight);
}

static bool is_open(const struct conflict_sight *sight)
{
	return strcmp(sight->row.state, "open") == 0;
}

/* Held, so that it does not move before its handle is known by its object. */
int conflicts_open(fuse_req_t req, struct tree *tree, int64_t id, struct handle *handle)
{
	struct conflict_sight sight;
	int err;

	ops_versions_hold();
	err = see(req, tree, id, &sight);
	if (!err)
		err = !sight.readable ? -EACCES : !is_open(&sight) ? -EALREADY : 0;
	if (!err)
		err = sight.row.content.id
			      ? version_open(tree, sight.row.content.object, &handle->fd)
			      : -ENODATA;
	if (!err) {
		handle->limit_bytes = sight.row.content.size_bytes;
		handle->version_object = sight.row.content.object;
	}
	ops_versions_release();
	return err;
}

int conflicts_state(
	fuse_req_t req, struct tree *tree, int64_t id, void **ret_value, size_t *ret_bytes)
{
	struct conflict_sight sight;
	int err = see(req, tree, id, &sight);

	if (err)
		return err;
	*ret_value = strdup(sight.row.state);
	*ret_bytes = strlen(sight.row.state);
	return *ret_value ? 0 : -ENOMEM;
}

static bool may_drop(fuse_req_t req, const struct conflict_sight *sight, struct tree *tree)
{
	uid_t uid = fuse_req_ctx(req)->uid;

	return uid == 0 || uid == sight->row.saver || uid == sight->now.uid ||
	       uid == file_attr(tree->root).uid;
}

static int drop(fuse_req_t req, struct tree *tree, const struct conflict_sight *sight)
{
	struct actor actor;
	int err;

	if (!may_drop(req, sight, tree))
		return -EACCES;
	request_actor(req, &actor);
	err = conflict_end(tree, sight->row.id, "dropped", &actor);
	if (!err)
		sibling_remove(tree, sight->row.id, &actor);
	return err;
}

static int take(fuse_req_t req, struct tree *tree, int64_t id)
{
	struct actor actor;
	int err = restore_conflict(req, tree, id);

	request_actor(req, &actor);
	if (!err)
		sibling_remove(tree, id, &actor);
	return err;
}

int conflicts_change(fuse_req_t req, struct tree *tree, int64_t id, const char *what)
{
	struct conflict_sight sight;
	int err = see(req, tree, id, &sight);

	if (!err && !is_open(&sight))
		err = -EALREADY;
	if (err)
		return err;
	if (strcmp(what, "take") == 0)
		return take(req, tree, id);
	return strcmp(what, "drop") == 0 ? drop(req, tree, &sight) : -EINVAL;
}
