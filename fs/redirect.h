/*
 * redirect: opens that were answered ESTALE.
 *
 * The kernel then walks the path once more with LOOKUP_REVAL (do_filp_open in fs/namei.c). An open of the same node that
 * comes again from the same thread without a lookup between walked no path (/proc/self/fd/N, a bind mount of one
 * file): a second ESTALE would reach the program, so that node is served as it is.
 */
#ifndef INTACTFS_FS_REDIRECT_H
#define INTACTFS_FS_REDIRECT_H

#include "fs/node.h"

/* Remembers that the thread was sent round from this node, by the names that it had. */
void redirect_set(pid_t tid, struct node *node, bool to_save);
enum redirect_state {
	REDIRECT_NONE,
	REDIRECT_BACK,	/* it came back to the same node, and walked no path */
	REDIRECT_ROUND, /* it walked the path anew */
};

/* The thread opens the node: its redirect, if there was one, is over. */
enum redirect_state redirect_end(pid_t tid, struct node *node);
/* The thread looks a name up: it does walk a path. When it is a name of the node that it was sent round from: the file of that
 * node, with a reference; else NULL. ret_to_save: it was to open it for writing. */
struct file *redirect_origin(pid_t tid, int64_t dir, const char *name, bool *ret_to_save);
/* Forgets all; at the end. */
void redirect_clear(void);

#endif
