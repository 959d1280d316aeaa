/*
 * record: the rows of a journal, read and written. One statement a function; what a row means is
 * meta's.
 *
 * Errors:    -errno of sql.h. Those that find return 1 (found), 0 (not there) or -errno.
 * Ownership: rows are copied out; memory that is passed in is used only during the call.
 */
#ifndef INTACTFS_JOURNAL_RECORD_H
#define INTACTFS_JOURNAL_RECORD_H

#include <stdint.h>
#include <sys/types.h>

#include "journal/journal.h"
#include "journal/object.h"
#include "journal/sql.h"

#define RECORD_NAME_MAX 255
#define RECORD_ROOT	1 /* the entry of a tree's root directory; its parent is 0 */

/* A name: any bytes but '/' and NUL. */
struct name {
	size_t length;
	char bytes[RECORD_NAME_MAX + 1]; /* NUL-terminated */
};

struct content {
	int64_t id; /* 0: none, which is an empty file that was never published */
	int64_t object, size_bytes;
	int64_t blocks; /* of 512 bytes, allotted on the backing filesystem when it was published */
	struct object_hash hash;
};

struct node_row {
	int64_t id, ino;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	int64_t nlink;
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
	int64_t live;	      /* the object that is written in place, or 0 */
	int64_t xattrs;	      /* how many there are */
	int64_t target_bytes; /* a symbolic link's length */
	struct content content;
};

struct entry_row {
	int64_t id, parent, node; /* node: 0 when the name is not there any more */
	int64_t versions;	  /* the last number given in the lineage */
};

/* Who may do what with something. */
struct rights {
	mode_t mode;
	uid_t uid;
	gid_t gid;
};

/* What a save was based on. */
struct basis {
	const char *kind; /* "own", "inherited", "none" */
	int64_t content, number;
};

struct version_row {
	int64_t lineage, number;
	int64_t content, node; /* content: its id; 0 once pruned */
	const char *kind, *verdict;
	struct basis basis;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns;
	int64_t origin, origin_number;
	int64_t access; /* the directory it was made in (access.h) */
};

/* A save that was closed but not yet published. */
struct closing_row {
	int64_t object, node, entry, ino, size_bytes;
	struct object_hash hash;
	const char *kind; /* "save", "truncate" */
	struct basis basis;
	int64_t mtime_ns;
};

int record_node_get(struct sql *sql, int64_t id, struct node_row *ret_row);
int record_node_insert(
	struct sql *sql, const struct node_row *row, const void *target, size_t target_bytes);
/* Attributes, times, link count, ino, content id and live; not xattrs. */
int record_node_update(struct sql *sql, const struct node_row *row);
/* And its xattrs. The rights that a file or directory had last stay for its history. */
int record_node_delete(struct sql *sql, const struct node_row *row);
int record_node_target(struct sql *sql, int64_t id, char *buf, size_t size_bytes);
int record_node_set_live(struct sql *sql, int64_t id, int64_t object);
/* The mtime and ctime of a directory whose entries changed; links is added to its link count. */
int record_node_touch(struct sql *sql, int64_t id, int64_t time_ns, int64_t links);

/* By name; also when the entry's node is gone. */
int record_entry_get(struct sql *sql, int64_t parent, const char *name, size_t length,
	struct entry_row *ret_row);
/* By name, with the node; 0 unless there is one now. */
int record_entry_lookup(struct sql *sql, int64_t parent, const char *name, size_t length,
	struct entry_row *ret_entry, struct node_row *ret_node);
int record_entry_by_id(
	struct sql *sql, int64_t id, struct entry_row *ret_row, struct name *ret_name);
int record_entry_insert(struct sql *sql, int64_t parent, const char *name, size_t length,
	int64_t node, int64_t *ret_id);
int record_entry_set_node(struct sql *sql, int64_t id, int64_t node);
/* The name is gone. */
int record_entry_gone(struct sql *sql, int64_t id);
/* The rights of what has the name, or else had it last. Where that is not known (format 1), they are the tree's owner's
 * alone. */
int record_entry_rights(
	struct sql *sql, int64_t id, int64_t *ret_parent, struct rights *ret_rights);
/* The rights of a file, or those that it had when its last name went; 0: not known. */
int record_node_rights(struct sql *sql, int64_t id, struct rights *ret_rights);
/* One step of a chain: the directory's rights and, as ret_up, the access of the one above. */
int record_access_get(struct sql *sql, int64_t id, int64_t *ret_up, struct rights *ret_rights);
int record_entry_set_versions(struct sql *sql, int64_t id, int64_t versions);
int record_entry_move(
	struct sql *sql, int64_t id, int64_t parent, const char *name, size_t length, int64_t prev);
/* Takes the row out of the way of another with its name; its history stays. */
int record_entry_displace(struct sql *sql, int64_t id);
/* Calls visit for the names in a directory whose entries' ids are greater than after, in their order, at most limit; stops when it
 * returns false. */
int record_entry_scan(struct sql *sql, int64_t parent, int64_t after, int64_t limit,
	bool (*visit)(void *arg, const struct entry_row *entry, const struct name *name,
		const struct node_row *node),
	void *arg);
int record_entry_has_children(struct sql *sql, int64_t parent);
/* The path of an entry relative to the tree, as it is now ("" for the root); malloc'ed. */
int record_entry_path(struct sql *sql, int64_t id, char **ret_path, size_t *ret_length);

int record_content_insert(struct sql *sql, struct content *content, int64_t seq); /* sets id */
int record_content_get(struct sql *sql, int64_t id, struct content *ret_content);
/* All contents of an object are from now on found in another object. 1 when there were any. */
int record_content_move(struct sql *sql, int64_t from_object, int64_t to_object);
/* No version names the object any more: its contents are gone, their versions stay as tombstones. */
int record_content_prune(struct sql *sql, int64_t object);

int record_version_insert(struct sql *sql, const struct version_row *row, int64_t seq);
/* number 0: the newest that is not aside. kind, verdict and basis.kind are not filled in. */
int record_version_get(
	struct sql *sql, int64_t lineage, int64_t number, struct version_row *ret_row);

int record_closing_put(struct sql *sql, const struct closing_row *row, int64_t time_ns,
	const struct actor *actor, const char *host);
int record_closing_delete(struct sql *sql, int64_t object);

int record_xattr_get(
	struct sql *sql, int64_t node, const char *name, void **ret_value, size_t *ret_bytes);
int record_xattr_set(
	struct sql *sql, int64_t node, const char *name, const void *value, size_t bytes);
int record_xattr_delete(
	struct sql *sql, int64_t node, const char *name); /* 1, or 0 when it was not there */
int record_xattr_count(
	struct sql *sql, int64_t node, int64_t *ret_count); /* counts and stores it in the node */

/* The entry that this one took the place of, when it came by a rename of a directory. */
int record_entry_displaced(struct sql *sql, int64_t id, struct entry_row *ret_row);

#endif
