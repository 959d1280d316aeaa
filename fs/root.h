/*
 * root: the mount's root directory, whose entries are the trees. Nothing else can be made there.
 */
#ifndef INTACTFS_FS_ROOT_H
#define INTACTFS_FS_ROOT_H

#include "fs/node.h"

/* Opens every tree, and makes that of the user who mounts when there was never one. -errno with the text in diag. */
int root_open(struct fs *fs, struct diag *diag);
void root_close(struct fs *fs);

void root_stat(struct fs *fs, struct stat *ret_stat);
/* The tree's root node with a reference more; -ENOENT. */
int root_lookup(struct fs *fs, const char *name, struct node **ret_node);
/* A tree that is named after a user belongs to that user, else to who makes it. 0700 in any case. */
int root_mkdir(struct fs *fs, const char *name, const struct actor *actor, struct node **ret_node);
int root_rmdir(struct fs *fs, const char *name);
/* Calls add for the trees whose id is larger than offset, by their ids; next is the id. Stops when it returns false. */
void root_readdir(struct fs *fs, int64_t offset,
	bool (*add)(void *arg, struct tree *tree, int64_t next), void *arg);
/* Closes removed trees that nobody is in any more. For the thread that visits trees, and no other. */
void root_sweep(struct fs *fs);
/* Calls visit for every tree, removed ones included. No lock is held meanwhile. */
void root_visit(struct fs *fs, void (*visit)(struct tree *tree));

#endif
