/*
 * volume: the backing directory as a whole: its format, its trees, its numbers, and who has it open.
 *
 *   VOLUME/intactfs.db   format, trees, counters (one row tables; see volume.c)
 *   VOLUME/reserve       space for a full disk (reserve.h)
 *   VOLUME/lock          flock'ed by the daemon that has it mounted: exclusively for writing, shared for reading.
 *                        Holds one line of the last writer: "PID HOST MOUNTPOINT\n", with " closing" at the end while
 *                        it is on its way out; blanks and control characters in names as \OOO
 *   VOLUME/trees/NAME/   a tree (journal.db, objects/, stage/)
 *   VOLUME/removed/      trees that were removed, as NAME.ID (a very long NAME is cut)
 *
 * Errors:    -errno, with a text in diag that a user can act on:
 *            -ENOENT     there is no volume, and it may not be made
 *            -ENOTEMPTY  the directory is neither empty nor a volume
 *            -EPROTONOSUPPORT  a newer format (names both numbers and the remedy)
 *            -EBUSY      another daemon has it (names its pid, host and mount point)
 *            -EACCES/-EROFS  not writable; -ENOTDIR; -EUCLEAN damaged
 * Threads:   all but open and close may be called by any thread.
 */
#ifndef INTACTFS_JOURNAL_VOLUME_H
#define INTACTFS_JOURNAL_VOLUME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "journal/base.h"

#define VOLUME_FORMAT	1
#define VOLUME_NAME_MAX 255

enum volume_flags {
	VOLUME_CREATE =
		1, /* make it where path is missing (its parent must exist) or an empty directory */
	VOLUME_READONLY =
		2, /* shared lock, nothing written; works on a read-only backing filesystem */
};

struct reserve;
struct volume;

struct volume_tree {
	int64_t id;
	int64_t created_ns;
	char name[VOLUME_NAME_MAX + 1]; /* any bytes but '/' and NUL */
};

/* To be called by the process that serves the volume: its pid goes into the lock file. mountpoint is what others are told who find the volume taken. A daemon that is just closing the
 * volume is waited for (at most 30 s, by its pidfd). A new volume belongs to the effective user. */
int volume_open(const char *path, unsigned flags, const char *mountpoint,
	struct volume **ret_volume, struct diag *diag);
/* Says in the lock file that the daemon is on its way out. */
void volume_closing(struct volume *volume);
struct volume *volume_close(struct volume *volume);

const char *volume_path(const struct volume *volume); /* absolute */
int volume_fd(const struct volume *volume);	      /* the directory */
bool volume_readonly(const struct volume *volume);
const char *volume_uuid(const struct volume *volume); /* 36 characters */
uid_t volume_owner(const struct volume *volume);      /* the user who made it */
gid_t volume_group(const struct volume *volume);
int64_t volume_created_ns(const struct volume *volume);
int64_t volume_epoch(const struct volume *volume); /* one more each time it is opened for writing */

/* The volume's own; none when it is read-only. */
struct reserve *volume_reserve(struct volume *volume);

/* A number that is unique in the volume for good, for nodes, inodes and objects alike; starts above 100.
 * Reserved in blocks of 65,536, each made durable before its first number is given, so a crash skips numbers
 * but never repeats one. Costs an atomic add but once per block. */
int volume_next_number(struct volume *volume, int64_t *ret_number);

/* Trees, sorted by name. *ret_trees is the caller's, to free(). */
int volume_trees(struct volume *volume, struct volume_tree **ret_trees, size_t *ret_count);
/* Adds the row and the directory trees/NAME (0700). -EEXIST, -EINVAL ("", ".", "..", ".intactfs", or with '/'),
 * -ENAMETOOLONG (also when the path of its journal would be too long for sql_open). */
int volume_tree_add(struct volume *volume, const char *name, struct volume_tree *ret_tree);
/* Removes the row and moves the directory to removed/NAME.ID. */
int volume_tree_remove(struct volume *volume, const struct volume_tree *tree);
/* 1 when a tree of that name exists or was ever removed, 0 when not, -errno. */
int volume_tree_known(struct volume *volume, const char *name);
/* The open directory of a tree; the caller closes it. */
int volume_tree_open(struct volume *volume, const struct volume_tree *tree, int *ret_fd);

#endif
