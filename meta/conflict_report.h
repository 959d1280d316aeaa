/*
 * conflict_report: which of the refused saves somebody may see. It takes the rights for reading the file, of then and of now, as its
 * history does (viewer.h).
 *
 * Result:    1 found, 0 not there or not for the viewer to know of, -errno.
 * Locks:     each call takes LOCK_READER for itself.
 */
#ifndef INTACTFS_META_CONFLICT_REPORT_H
#define INTACTFS_META_CONFLICT_REPORT_H

#include <jansson.h>

#include "meta/conflict.h"
#include "meta/viewer.h"

struct conflict_sight {
	struct conflict_row row;
	bool readable;	   /* for the viewer */
	struct rights now; /* of what has the name, or else had it last */
};

/* One that is open or not, of a file that the viewer can reach and could reach then. */
int conflict_see(
	struct tree *tree, struct viewer *viewer, int64_t id, struct conflict_sight *ret_sight);

/* The open ones after one, ascending, that the viewer may read and find, some of them (docs/interface.md). ret_last: go on from there; as
 * it was when there are no more. 0 or -errno. */
int conflict_list(struct tree *tree, struct viewer *viewer, int64_t after, json_t **ret_page,
	int64_t *ret_last);

#endif
