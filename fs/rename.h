/*
 * rename: a rename, which is a save when it replaces a file.
 */
#ifndef INTACTFS_FS_RENAME_H
#define INTACTFS_FS_RENAME_H

#include "meta/process.h"
#include "meta/tree.h"

/* As namespace_rename(); -EBUSY when it is a save and refused: then it is kept as a conflict, and nothing was renamed. What was closed of
 * both files has been published. */
int rename_save(struct file *from, const char *name, struct file *to, const char *to_name,
	unsigned flags, const struct process *process, const struct actor *actor);

#endif
