/*
 * tree: one user's files in memory: what the kernel has looked up, and the names it came by.
 *
 * The journal is the truth; a struct file is a copy of its row, made under journal_read_begin() and changed
 * only by the apply step of a commit, so that it is never older than the journal. Files live while somebody holds
 * a reference; the names go with their file. Nothing else is cached, so memory is bounded by what the kernel knows.
 *
 * Locks:     tree->lock (LOCK_TREE) for the tables, file->lock (LOCK_FILE) for a file.
 * Ownership: functions that return a file return a reference, to be given back by file_unref().
 */
#ifndef INTACTFS_META_TREE_H
#define INTACTFS_META_TREE_H

#include <sys/stat.h>
#include <uthash.h>

#include "journal/journal.h"
#include "journal/record.h"
#include "meta/range_lock.h"
#include "meta/turn.h"

struct file;
struct node;
struct parked;
struct save;

/* What the filesystem side wants to know of changes, told in the apply step; may take LOCK_FILE. */
struct tree_hooks {
	/* The last name of the file went away; actor did it. */
	void (*unlinked)(struct file *file, const struct actor *actor);
	/* The name of old, under which lineage entry is recorded, is now successor's. */
	void (*replaced)(struct file *old, struct file *successor, int64_t entry);
};

struct dentry {
	int64_t dir; /* the directory's node */
	int64_t entry;
	struct file *file;
	struct dentry *next; /* of the same file */
	UT_hash_handle hh;
	size_t length;
	char key[]; /* the directory's entry, then the name */
};

struct tree {
	struct journal *journal;
	struct volume_tree info;
	struct file *root;
	const struct tree_hooks *hooks;
	unsigned blind; /* versions that went over one unseen; atomic */

	struct lock lock; /* protects the next two, and in files: names */
	struct file *files;
	struct dentry *names;

	UT_hash_handle hh; /* the table of trees */
};

struct file {
	struct tree *tree;
	int64_t id;
	int64_t entry; /* of a directory: what its entries name as their parent */
	unsigned refs; /* atomic; the last one goes under tree->lock */
	struct dentry *names;
	UT_hash_handle hh;

	struct lock lock;	/* protects the rest */
	struct node_row attr;	/* as committed; nlink 0 once the last name is gone */
	struct node *head;	/* fs: the node of the head version, when the kernel knows it */
	struct node *nodes;	/* fs: all of them */
	struct save *saves;	/* fs: those not yet published */
	unsigned notices;	/* fs: of its names, on their way to the kernel */
	struct parked *noticed; /* fs: requests that wait for these */
	struct turn turn;
	struct range_lock *locks;    /* advisory */
	struct parked *lock_waiters; /* fs */
	bool ever_locked;
	bool locks_in_place; /* it was locked to be written */
	pid_t unlinked_by;   /* process that removed the last name */
};

/* Opens the journal, recovers what an unclean end left, loads the root directory. create: with this owner, mode 0700. */
int tree_open(struct volume *volume, const struct volume_tree *info, const struct actor *create,
	const struct tree_hooks *hooks, struct tree **ret_tree, struct diag *diag);
/* All files but the root must have been given back. NULL is fine. */
struct tree *tree_close(struct tree *tree);

/* 1 with the file, 0 when there is no such name, -errno. ret_entry may be NULL. */
int tree_lookup(struct file *dir, const char *name, struct file **ret_file, int64_t *ret_entry);

/* The file of a row that was read under journal_read_begin() or in an apply step; made when it is not there. NULL: no memory. */
struct file *tree_file(struct tree *tree, const struct node_row *row, int64_t entry);
struct file *tree_file_known(struct tree *tree, int64_t id); /* or NULL */
struct file *file_ref(struct file *file);		     /* takes no lock */
struct file *file_unref(struct file *file);		     /* NULL is fine; returns NULL */

/* Names, for apply steps and readdir. tree_name_set is best effort: without memory the name is just not cached. */
void tree_name_set(
	struct file *dir, const char *name, size_t length, int64_t entry, struct file *file);
void tree_name_drop(struct file *dir, const char *name, size_t length);

/* A name of the file, for notifications and for matching a path walk. */
struct file_name {
	int64_t dir; /* the directory's node */
	int64_t entry;
	struct name name;
};
/* Up to max cached names; returns how many there are. */
size_t file_names(struct file *file, struct file_name *names, size_t max);

struct node_row file_attr(struct file *file);

#endif
