/*
 * access: the directories on the way to something, as they were when it was recorded.
 *
 * Who could not reach a file when a version of it was made must not read that version later, whatever became of the
 * directories. So each version and operation names the directory that it was made in, as it was then: a row of the
 * table access, which names that of the directory above. Rows are never changed, and shared by all that is made under the
 * same rights; so there are about as many as there were changes of directories' rights.
 *
 * Locks:     within exec (journal.h): the leader's thread.
 * Memory:    what is known of at most ACCESS_KNOWN_MAX directories.
 */
#ifndef INTACTFS_JOURNAL_ACCESS_H
#define INTACTFS_JOURNAL_ACCESS_H

#include "journal/journal.h"

#define ACCESS_NONE	 0 /* nothing is in the way: what is recorded is the tree's root itself */
#define ACCESS_UNKNOWN	 (-1) /* NULL in the tables */
#define ACCESS_KNOWN_MAX 4096 /* directories */

/* The directory whose entry is given (ACCESS_NONE for 0), as it is within this transaction. */
int access_of(struct txn *txn, int64_t directory, int64_t *ret_access);
/* The directory that the entry is in. */
int access_of_entry(struct txn *txn, int64_t entry, int64_t *ret_access);
/* Rights or places of directories changed, or a transaction was undone: what is known is forgotten. */
void access_forget(struct journal *journal);

#endif
