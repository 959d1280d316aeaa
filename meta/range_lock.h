/*
 * range_lock: advisory locks of one file, as fcntl(2) and flock(2) have them.
 *
 * The two kinds do not see each other. Ranges of one owner never overlap within a kind; neighbours of one type are one
 * range. An owner is what the kernel names it by: the open files of a process for POSIX locks, an open file description
 * for the others.
 *
 * Ownership: a list is a utlist of allocated ranges; an empty one is NULL.
 * Locks:     the caller holds the lock that protects the list. Who waits for whom is kept in one table for all files,
 *            with a lock of its own.
 */
#ifndef INTACTFS_META_RANGE_LOCK_H
#define INTACTFS_META_RANGE_LOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum range_kind { RANGE_POSIX, RANGE_FLOCK };

struct range_lock {
	struct range_lock *next, *prev;
	enum range_kind kind;
	short type;	    /* F_RDLCK, F_WRLCK, F_UNLCK */
	int64_t start, end; /* bytes, both included; INT64_MAX: to the end, wherever that will be */
	uint64_t owner;
	pid_t pid; /* who asked for it, and when */
	uid_t uid;
	int64_t since_ns;
	const void *via; /* the open file that it was asked for through */
};

/* The first (lowest) that another owner has and that keeps wanted out; NULL when there is none. */
const struct range_lock *range_conflict(
	const struct range_lock *list, const struct range_lock *wanted);
/* The owner's ranges become what wanted says, which must not conflict. Without an F_UNLCK nothing is given up but by
 * being replaced. -ENOMEM: nothing was changed. */
int range_set(struct range_lock **list, const struct range_lock *wanted);
bool range_owned(const struct range_lock *list, enum range_kind kind, uint64_t owner);
bool range_via(const struct range_lock *list, const void *via);
/* What a close by an owner of POSIX locks ends, and what the last close of an open file does. */
void range_drop_owner(struct range_lock **list, uint64_t owner);
void range_drop_via(struct range_lock **list, const void *via);

/* An owner that waits for another one's lock. */
struct range_wait {
	struct range_wait *next, *prev;
	uint64_t owner, blocker;
	bool waiting;
};

/* -EDEADLK when blocker waits for owner, be it through others; then it is not entered. Entering it again changes its blocker. */
int range_wait_begin(struct range_wait *wait, uint64_t owner, uint64_t blocker);
void range_wait_end(struct range_wait *wait);

#endif
