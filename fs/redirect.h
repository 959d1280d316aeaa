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

enum redirect_state {
	REDIRECT_NONE,
	REDIRECT_BACK,	/* it came back to the same node, and walked no path */
	REDIRECT_ROUND, /* it walked the path anew, and was answered this node */
};

/* Remembers that the thread was sent round from this node; to_save: it is to get a save of its own. */
void redirect_set(pid_t tid, struct node *node, bool for_writing, bool to_save);
/* The thread looks a name up: it does walk a path, whose last name is the first that is a regular file. The file that it was
 * sent round from, with a reference, or NULL. */
struct file *redirect_lookup(pid_t tid, bool *ret_to_save);
/* What that lookup is answered with. */
void redirect_answer(pid_t tid, const struct node *node);
/* The thread opens the node (or makes a file: NULL): its redirect, if there was one, is over. One that was
 * for something else, or led to something else, does not count. */
enum redirect_state redirect_end(pid_t tid, struct node *node, bool for_writing);
/* Forgets all; at the end. */
void redirect_clear(void);

#endif
