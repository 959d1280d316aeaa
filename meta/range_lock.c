#include "meta/range_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <utlist.h>

#include "journal/lock.h"

/* Those who wait for one another in a larger knot are not found to do so (as in the kernel, posix_locks_deadlock). */
#define STEPS_MAX 1000

static bool is_own(const struct range_lock *lock, const struct range_lock *wanted)
{
	return lock->kind == wanted->kind && lock->owner == wanted->owner;
}

static bool overlap(const struct range_lock *a, const struct range_lock *b)
{
	return a->start <= b->end && b->start <= a->end;
}

const struct range_lock *range_conflict(
	const struct range_lock *list, const struct range_lock *wanted)
{
	const struct range_lock *lock;

	DL_FOREACH(list, lock)
	{
		if (lock->kind == wanted->kind && lock->owner != wanted->owner &&
			overlap(lock, wanted) && (lock->type == F_WRLCK || wanted->type == F_WRLCK))
			return lock;
	}
	return NULL;
}

static struct range_lock *copy_of(const struct range_lock *lock, int64_t start, int64_t end)
{
	struct range_lock *copy = malloc(sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *lock;
	copy->start = start;
	copy->end = end;
	return copy;
}

static void drop(struct range_lock **list, struct range_lock *lock)
{
	DL_DELETE(*list, lock);
	free(lock);
}

static int by_start(const struct range_lock *a, const struct range_lock *b)
{
	return a->start < b->start ? -1 : a->start > b->start;
}

/* A list is in the order of the starts: range_conflict() finds the lowest. */
static void place(struct range_lock **list, struct range_lock *lock, int64_t start)
{
	DL_DELETE(*list, lock);
	lock->start = start;
	DL_INSERT_INORDER(*list, lock, by_start);
}

/* Takes the range out of the owner's own locks. rest: for what is left behind it of a lock that is cut in two; NULL when unused. */
static void clear(
	struct range_lock **list, const struct range_lock *wanted, struct range_lock **rest)
{
	struct range_lock *lock, *next;

	DL_FOREACH_SAFE(*list, lock, next)
	{
		if (!is_own(lock, wanted) || !overlap(lock, wanted))
			continue;
		if (lock->start < wanted->start && lock->end > wanted->end) {
			struct range_lock *node = *rest;
			int64_t end = lock->end;

			*rest = NULL;
			*node = *lock;
			node->start = wanted->end + 1;
			node->end = end;
			lock->end = wanted->start - 1;
			DL_INSERT_INORDER(*list, node, by_start);
		} else if (lock->start < wanted->start) {
			lock->end = wanted->start - 1;
		} else if (lock->end > wanted->end) {
			place(list, lock, wanted->end + 1);
		} else {
			drop(list, lock);
		}
	}
}

/* Neighbours of the same type become one. */
static void join(struct range_lock **list, struct range_lock *lock)
{
	struct range_lock *other, *next;
	int64_t start = lock->start;

	DL_FOREACH_SAFE(*list, other, next)
	{
		if (other == lock || !is_own(other, lock) || other->type != lock->type)
			continue;
		if (other->end != INT64_MAX && other->end + 1 == lock->start)
			start = other->start;
		else if (lock->end != INT64_MAX && lock->end + 1 == other->start)
			lock->end = other->end;
		else
			continue;
		drop(list, other);
	}
	place(list, lock, start);
}

int range_set(struct range_lock **list, const struct range_lock *wanted)
{
	struct range_lock *lock = NULL, *rest = copy_of(wanted, 0, 0);

	if (rest && wanted->type != F_UNLCK)
		lock = copy_of(wanted, wanted->start, wanted->end);
	if (!rest || (wanted->type != F_UNLCK && !lock)) {
		free(rest);
		return -ENOMEM;
	}
	clear(list, wanted, &rest);
	if (lock) {
		DL_INSERT_INORDER(*list, lock, by_start);
		join(list, lock);
	}
	free(rest);
	return 0;
}

bool range_owned(const struct range_lock *list, enum range_kind kind, uint64_t owner)
{
	const struct range_lock *lock;

	DL_FOREACH(list, lock)
	{
		if (lock->kind == kind && lock->owner == owner)
			return true;
	}
	return false;
}

bool range_via(const struct range_lock *list, const void *via)
{
	const struct range_lock *lock;

	DL_FOREACH(list, lock)
	{
		if (lock->via == via)
			return true;
	}
	return false;
}

void range_drop_owner(struct range_lock **list, uint64_t owner)
{
	struct range_lock *lock, *next;

	DL_FOREACH_SAFE(*list, lock, next)
	{
		if (lock->kind == RANGE_POSIX && lock->owner == owner)
			drop(list, lock);
	}
}

void range_drop_via(struct range_lock **list, const void *via)
{
	struct range_lock *lock, *next;

	DL_FOREACH_SAFE(*list, lock, next)
	{
		if (lock->via == via)
			drop(list, lock);
	}
}

static struct {
	struct lock lock; /* protects the list */
	struct range_wait *first;
} waits = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF}};

/* Each of the owner's threads may wait for another one. */
static bool waits_for(uint64_t owner, uint64_t wanted, int *steps)
{
	struct range_wait *wait;

	if (owner == wanted)
		return true;
	DL_FOREACH(waits.first, wait)
	{
		if (wait->owner == owner && --*steps > 0 && waits_for(wait->blocker, wanted, steps))
			return true;
	}
	return false;
}

int range_wait_begin(struct range_wait *wait, uint64_t owner, uint64_t blocker)
{
	int err = 0, steps = STEPS_MAX;

	lock_take(&waits.lock);
	if (waits_for(blocker, owner, &steps)) {
		err = -EDEADLK;
	} else {
		wait->owner = owner;
		wait->blocker = blocker;
		if (!wait->waiting)
			DL_APPEND(waits.first, wait);
		wait->waiting = true;
	}
	lock_drop(&waits.lock);
	return err;
}

void range_wait_end(struct range_wait *wait)
{
	lock_take(&waits.lock);
	if (wait->waiting)
		DL_DELETE(waits.first, wait);
	wait->waiting = false;
	lock_drop(&waits.lock);
}
