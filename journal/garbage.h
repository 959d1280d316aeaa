/*
 * garbage: objects that nothing names any more, and that may still be there.
 *
 * A row is written in the transaction in which an object stops being named, so that no crash leaves an object behind that nobody
 * knows of. Whoever has the object open says when it is let go of. If it comes to be named again before, its row goes in that
 * transaction. An object is removed when the transaction that has its row is durable, and the row after that.
 *
 * Errors:    0 or -errno.
 */
#ifndef INTACTFS_JOURNAL_GARBAGE_H
#define INTACTFS_JOURNAL_GARBAGE_H

#include "journal/journal.h"

/* Within exec. Nothing happens while a content or a live file names the object. */
int garbage_add(struct txn *txn, int64_t object);
/* Within exec: what is about to be committed names the object. */
int garbage_take_back(struct txn *txn, int64_t object);

/* Nobody has the object open, or will open it: if it is garbage, garbage_collect() removes it. Takes LOCK_QUEUE. */
void garbage_release(struct journal *journal, int64_t object);
/* Removes what was released; costs nothing when there is none. No lock may be held. */
int garbage_collect(struct journal *journal);
/* Removes all there is, when nobody can have an object open: at the mount and at its end. */
int garbage_collect_all(struct journal *journal);

#endif
