/*
 * recovery: what an unclean end left in a tree is brought to an end at the next mount: closing saves are published, live files
 * settle, staged objects that no closing save names are swept. It takes time in proportion to what was in flight.
 */
#ifndef INTACTFS_META_RECOVERY_H
#define INTACTFS_META_RECOVERY_H

#include "meta/tree.h"

/* Also marks the journal as in use by a new epoch. Nothing is done on a read-only volume. */
int recovery_run(struct tree *tree, struct diag *diag);

#endif
