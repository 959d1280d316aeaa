/*
 * conflicts: the refused saves of a tree, as a mount shows them, and takes what is to become of them (docs/interface.md).
 *
 * Rights:    meta/conflict_report.h; to take one, those to write to the file; to drop one, to be who saved it, the owner of the file or
 *            of the tree, or root.
 * Errors:    -ENOENT: there is none, or not for the sender of the request; -EALREADY: it is not open any more; -EACCES
 * Locks:     none may be held.
 */
#ifndef INTACTFS_FS_CONFLICTS_H
#define INTACTFS_FS_CONFLICTS_H

#include <jansson.h>

#include "fs/node.h"

struct handle;

/* The open ones. */
int conflicts_report(fuse_req_t req, struct tree *tree, json_t **ret_report);
/* 0: it is there, open or not. */
int conflicts_find(fuse_req_t req, struct tree *tree, int64_t id);
/* For reading what was refused. */
int conflicts_open(fuse_req_t req, struct tree *tree, int64_t id, struct handle *handle);
/* "open", "taken", …; malloc'ed. */
int conflicts_state(
	fuse_req_t req, struct tree *tree, int64_t id, void **ret_value, size_t *ret_bytes);
/* what: "take" or "drop"; -EINVAL for anything else. */
int conflicts_change(fuse_req_t req, struct tree *tree, int64_t id, const char *what);

#endif
