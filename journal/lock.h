/*
 * lock: mutexes with a rank.
 *
 * A thread takes locks in the order of their ranks, lowest first; debug builds (no NDEBUG) abort
 * when one is taken out of order. No lock is held while a request waits for a turn or while a
 * kernel notification is sent; across a commit only LOCK_IO, and LOCK_ROOT while a tree is opened.
 */
#ifndef INTACTFS_JOURNAL_LOCK_H
#define INTACTFS_JOURNAL_LOCK_H

#include <pthread.h>

enum lock_rank {
	LOCK_ROOT = 1,	/* fs: the table of trees */
	LOCK_COHERENCE, /* journal: memory and journal agree (a rwlock, outside this list's checks)
			 */
	LOCK_READER,	/* journal: the connection for reading */
	LOCK_IO,	/* fs: the object of a save or a live file; may be held across a commit */
	LOCK_TREE,	/* meta: files and names of a tree in memory */
	LOCK_FILE,	/* meta: one file: its attributes, nodes, saves and turn */
	LOCK_REDIRECT,	/* fs: opens that were sent round */
	LOCK_TIMER,	/* fs: what is due */
	LOCK_QUEUE, /* journal: changes waiting for the commit; notifications waiting to be sent */
	LOCK_LEAF,  /* anything that takes no other lock */
};

struct lock {
	pthread_mutex_t mutex;
	enum lock_rank rank;
};

void lock_init(struct lock *lock, enum lock_rank rank);
void lock_deinit(struct lock *lock);
void lock_take(struct lock *lock);
void lock_drop(struct lock *lock);
/* Two locks of one rank, in the order of their addresses; a may equal b. */
void lock_take_both(struct lock *a, struct lock *b);
void lock_drop_both(struct lock *a, struct lock *b);
/* Waits on cond, which lock protects. */
void lock_wait(struct lock *lock, pthread_cond_t *cond);

#endif
