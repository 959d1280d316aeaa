/*
 * status: what a mount says of itself as JSON (docs/interface.md), for the sender of a request.
 *
 * Everybody is told which trees there are; the rest of a tree those who may list its root; a save, a turn or locks in it
 * root, the tree's owner, and who takes part.
 *
 * Locks:     none may be held. What is under way is copied under the locks, and described afterwards.
 */
#ifndef INTACTFS_FS_STATUS_H
#define INTACTFS_FS_STATUS_H

#include <jansson.h>

#include "fs/fs.h"

int status_report(fuse_req_t req, json_t **ret_status);
int status_trees(fuse_req_t req, json_t **ret_trees);

#endif
