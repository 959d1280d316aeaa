/*
 * hold: the turn of a file, or of a whole tree, held by a process for itself and all that descend from it (intactfs hold).
 *
 * It is a gate before the turns of files, which go on behind it: others who open what is held for writing, or, under turn and
 * turn-thread, for reading, wait for the holder's end, turn_wait at most. Who has the turn of the file already goes on. What is not
 * parked does not wait: renames, new names, truncations by path.
 *
 * A hold is a claim (claim.h) on file->gate, of a regular file or of a tree's root, without a limit of time.
 *
 * Locks:     none may be held.
 */
#ifndef INTACTFS_FS_HOLD_H
#define INTACTFS_FS_HOLD_H

#include "fs/opening.h"

#define HOLD_XATTR "user.intactfs.hold"

/* Both answer the request, of an attribute of the node; a directory stands for its tree. */

/* The attribute is read: waits until the sender has the hold. EDEADLK: who has it waits for what the sender, or a process that it
 * descends from, holds. (A setxattr that waits would keep others from the inode: the kernel has that locked meanwhile.) */
void hold_take(fuse_req_t req, struct node *node, size_t size);
/* It is set to "release": the sender gives it up. */
void hold_change(fuse_req_t req, struct node *node, const char *value, size_t bytes);
/* True when the request was parked. */
bool hold_wait(struct opening *opening);
/* What the waiting process holds, by those that it descends from. */
void hold_set_groups(struct turn_waiter *waiter, const struct process *process);
/* A file that is held was replaced: the one that took its place is held. */
void hold_replaced(struct file *file, struct file *by);
/* What was saved under the hold of the file, or the tree whose root it is, is published. */
void hold_publish(struct file *file);

#endif
