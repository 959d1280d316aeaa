/*
 * report: what the journal says of the past: logs as JSON (docs/interface.md), the versions of a lineage, counts.
 *
 * Calling:   report_log() once, then report_page() until report.end. Operations and versions are never changed, so
 *            the pages fit together although changes come between them.
 * Rights:    what the viewer may not see is left out: elements whose names it could not list (of a file's log: could not
 *            reach), hashes of contents that it may not read, origins in directories that it may not list.
 * Errors:    -errno. Those that find return 1 (found), 0 (not there) or -errno.
 * Locks:     each call takes LOCK_READER for itself.
 */
#ifndef INTACTFS_META_REPORT_H
#define INTACTFS_META_REPORT_H

#include <jansson.h>

#include "meta/tree.h"
#include "meta/viewer.h"

struct report_lineage {
	struct entry_row entry;
	struct node_row now;	 /* what has the name; id 0: nothing */
	struct version_row last; /* number 0: there is none */
	struct rights rights;	 /* of what has the name, or else had it last; with its type */
};

struct report_version {
	struct version_row row;
	struct content content; /* id 0: pruned */
	bool readable;		/* for the viewer */
};

/* The lineage that answers for a name in a directory, whose entry is given: one with versions, a regular file or a directory,
 * which may be gone; else one that was displaced there by a rename of a directory. */
int report_find(
	struct tree *tree, int64_t directory, const char *name, struct report_lineage *ret_lineage);
int report_lineage(struct tree *tree, int64_t lineage, struct report_lineage *ret_lineage);
/* Not there for a viewer who could not reach the file then. viewer NULL: no questions are asked. */
int report_version(struct tree *tree, struct viewer *viewer, int64_t lineage, int64_t number,
	struct report_version *ret_version);
/* The numbers after one, ascending, without pruned versions and those that the viewer could not reach; up to max of them. 0 of
 * them is the end. */
int report_numbers(struct tree *tree, struct viewer *viewer, int64_t lineage, int64_t after,
	int64_t *numbers, size_t max, size_t *ret_count);
/* Whether the viewer may search a directory, which may be gone, on its way to what is in it. */
int report_may_search(struct tree *tree, struct viewer *viewer, int64_t directory);

/* The number of the newest version that is not aside; 0 when there is none. */
int report_newest(struct tree *tree, int64_t lineage, int64_t *ret_number);

struct report_counts {
	int64_t files, versions, bytes, blind;
};

int report_count(struct tree *tree, struct report_counts *ret_counts);

enum report_what {
	REPORT_LINEAGE,	  /* its versions, then those of the name that it came from by a rename */
	REPORT_DIRECTORY, /* the operations on its names; id: the directory's entry */
	REPORT_TREE,	  /* all operations */
};

#define REPORT_FOLLOW_MAX 16 /* renames that a log goes back by */

struct report {
	struct tree *tree;
	struct viewer *viewer;
	bool end;
	enum report_what what;
	int64_t id, before; /* what comes next is older than version or operation before */
	int64_t top;	    /* where the listing of this lineage began */
	int64_t seen[REPORT_FOLLOW_MAX];
	size_t seen_count;
};

void report_log(struct report *report, struct tree *tree, struct viewer *viewer,
	enum report_what what, int64_t id);
/* The next elements, newest first; there may be none of them that the viewer may see. */
int report_page(struct report *report, json_t **ret_page);

/* A string of any bytes: what is no UTF-8 becomes U+FFFD. NULL: no memory, as in all of jansson. */
json_t *report_text(const char *bytes, size_t length);
json_t *report_time(int64_t time_ns);
json_t *report_mode(mode_t mode);
/* "path", and "path_hex" when it is no UTF-8, of an entry as it is now; null for entry 0. */
int report_path(struct tree *tree, json_t *object, int64_t entry);

#endif
