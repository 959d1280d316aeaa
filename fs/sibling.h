/*
 * sibling: a refused save beside its file, as "name (conflict, USER, HOST, TIME).ext", since many programs do not look at what close says.
 * It is a plain file, and goes when the conflict is resolved, unless somebody changed it. Not where the tree's setting (setting.h) says no,
 * and where the saver could not make files.
 *
 * Errors:    what fails is logged: the conflict is recorded all the same.
 * Locks:     none may be held.
 */
#ifndef INTACTFS_FS_SIBLING_H
#define INTACTFS_FS_SIBLING_H

#include "meta/process.h"
#include "meta/tree.h"

/* Made, or brought up to date, on behalf of the saver; nothing happens when the conflict is not open. */
void sibling_show(struct tree *tree, int64_t conflict, const struct process *saver,
	const struct actor *actor);
/* The conflict was resolved. */
void sibling_remove(struct tree *tree, int64_t conflict, const struct actor *actor);
/* The program has saved the lineage after all: its conflicts are resolved. */
void sibling_clear(
	struct tree *tree, int64_t entry, const struct process *process, const struct actor *actor);

#endif
