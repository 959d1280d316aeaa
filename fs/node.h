/*
 * node: what a nodeid stands for.
 *
 *   PLAIN    a directory, symbolic link or special file
 *   SETTLED  a content of a regular file: the head version, or one that was superseded while somebody had it
 *   STAGED   a save in progress, its saver's alone
 *   LIVE     a file that is written in place; everybody's
 *   VIRTUAL  history and status (virtual.h)
 *
 *   STAGED -(publish)-> SETTLED or LIVE;  SETTLED <-(first writer, last writer's end)-> LIVE
 *
 * Ownership: the kernel's lookups, handles and saves hold references; file->head is weak. A node holds its file.
 * Locks:     file->lock protects all but file and ino, which never change, and the references.
 */
#ifndef INTACTFS_FS_NODE_H
#define INTACTFS_FS_NODE_H

#include "fs/fs.h"

enum node_kind { NODE_PLAIN, NODE_SETTLED, NODE_STAGED, NODE_LIVE, NODE_VIRTUAL };

struct live;

struct node {
	enum node_kind kind;
	struct file *file; /* NULL for virtual nodes */
	int64_t ino;
	uint64_t refs; /* file->lock; of virtual nodes: root_lock */

	/* SETTLED */
	int64_t object; /* 0: empty, nothing was published yet */
	int64_t size_bytes, blocks, mtime_ns;
	bool superseded;
	/* Who took a lock through it goes on in the head, and so do all that have it open: it is counted up. */
	unsigned followed; /* atomic */

	struct live *live; /* LIVE; also while a failed settling waits to be tried again */
	struct save *save; /* STAGED; NULL while nobody has opened it, or when it was given up */

	struct virtual_node *virtual;

	struct node *next, *prev;	    /* fs->nodes */
	struct node *next_same, *prev_same; /* file->nodes; fs->nodes_lock */
};

/* A new node with one reference; NULL: no memory. Takes a reference of the file. */
struct node *node_new(struct fs *fs, enum node_kind kind, struct file *file, int64_t ino);
/* The node that the file's names stand for, with a reference more; made when the kernel does not know it.
 * file->lock is held. */
struct node *node_head_locked(struct file *file);
void node_ref_locked(struct node *node);
struct node *node_ref(struct node *node);
void node_unref(struct node *node, uint64_t count); /* NULL is fine */

/* Attributes by node, never by who asks. */
void node_stat(struct node *node, struct stat *ret_stat);
/* Whether it stands for neither the head nor for anything that is being written. file->lock is held. */
bool node_is_aside_locked(const struct node *node);
void node_stat_locked(struct node *node, struct stat *ret_stat);
/* What the file's names are. */
void node_stat_head_locked(struct file *file, struct stat *ret_stat);
/* Of bytes that are no version yet. */
void node_stat_changed(struct stat *stat, int64_t mtime_ns, int64_t changed_ns);
void row_stat(const struct node_row *row, struct stat *ret_stat);

static inline fuse_ino_t node_id(struct node *node)
{
	return (fuse_ino_t)(uintptr_t)node;
}

static inline struct node *node_of(fuse_ino_t id)
{
	return (struct node *)(uintptr_t)id;
}

#endif
