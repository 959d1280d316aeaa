/*
 * restore: an old version of a file becomes its next one.
 *
 * A restore is a save like any other, but waits for no turn: what it replaces stays in the history, and a save that is under
 * way goes on top of it.
 *
 * Errors:    -ENODATA: no such version, or it was pruned; -EACCES: no right to read it, or to write to the file;
 *            -EISDIR, -EINVAL: the name is something else now
 */
#ifndef INTACTFS_FS_RESTORE_H
#define INTACTFS_FS_RESTORE_H

#include "fs/fs.h"

/* Of the file (dir and name NULL), or of the lineage that name has in dir (file NULL), whether something has the name or not. */
int restore_version(
	fuse_req_t req, struct file *dir, struct file *file, const char *name, int64_t number);

#endif
