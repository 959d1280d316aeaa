/*
 * viewer: what of a tree's history somebody may see.
 *
 * Seeing what is recorded takes the rights of then and of now, on the thing and on the directories on the way to it:
 *
 *   then   the directories as they were when it was recorded (journal/access.h), the mode that the version had
 *   now    the directories as they are, the file that the version was one of, what has its name; of what is gone, the rights
 *          that it had last
 *
 * Calling:   viewer_init(), then any questions, then viewer_deinit(). Answers are remembered, so a viewer is for
 *            one request.
 * Result:    1 it may, 0 it may not, -errno.
 * Locks:     the caller reads the journal (journal_read_begin).
 */
#ifndef INTACTFS_META_VIEWER_H
#define INTACTFS_META_VIEWER_H

#include "journal/record.h"

struct viewer {
	/* Whether the permission bits allow what: R_OK, W_OK, X_OK together (access(2)). */
	bool (*allows)(void *arg, const struct rights *rights, int what);
	void *arg;
	bool everything; /* nothing is hidden: root */
	struct viewer_answer *answers;
};

void viewer_init(struct viewer *viewer,
	bool (*allows)(void *arg, const struct rights *rights, int what), void *arg,
	bool everything);
void viewer_deinit(struct viewer *viewer);

/* what: on the directory itself; those above it have to be searchable, and where names are to be listed (R_OK), listable.
 * uid: who made it, who alone may see what was recorded without its access. */
int viewer_then(struct viewer *viewer, struct sql *sql, int64_t access, uid_t uid, int what);
int viewer_now(struct viewer *viewer, struct sql *sql, int64_t directory, int what);
/* Whether the version can be read; entry: of the lineage by which it is asked for. */
int viewer_reads(struct viewer *viewer, struct sql *sql, const struct version_row *version);

#endif
