#include "journal/lock.h"

#include <assert.h>
#include <stdint.h>

#define HELD_MAX 8

static _Thread_local struct {
	enum lock_rank rank[HELD_MAX];
	int count;
} held;

static void held_push(enum lock_rank rank, int same_allowed)
{
	int top = held.count > 0 ? (int)held.rank[held.count - 1] : 0;

	assert(held.count < HELD_MAX);
	assert(top < (int)rank || (same_allowed && top == (int)rank));
	(void)top;
	(void)same_allowed;
	held.rank[held.count++] = rank;
}

static void held_pop(enum lock_rank rank)
{
	int i = held.count - 1;

	while (i >= 0 && held.rank[i] != rank)
		i--;
	assert(i >= 0);
	for (held.count--; i < held.count; i++)
		held.rank[i] = held.rank[i + 1];
}

void lock_init(struct lock *lock, enum lock_rank rank)
{
	pthread_mutex_init(&lock->mutex, NULL);
	lock->rank = rank;
}

void lock_deinit(struct lock *lock)
{
	pthread_mutex_destroy(&lock->mutex);
}

void lock_take(struct lock *lock)
{
	held_push(lock->rank, 0);
	pthread_mutex_lock(&lock->mutex);
}

void lock_drop(struct lock *lock)
{
	/* The lock may be gone as soon as somebody else can take it. */
	held_pop(lock->rank);
	pthread_mutex_unlock(&lock->mutex);
}

void lock_take_both(struct lock *a, struct lock *b)
{
	struct lock *first = (uintptr_t)a < (uintptr_t)b ? a : b;
	struct lock *second = first == a ? b : a;

	lock_take(first);
	if (second == first)
		return;
	held_push(second->rank, 1);
	pthread_mutex_lock(&second->mutex);
}

void lock_drop_both(struct lock *a, struct lock *b)
{
	lock_drop(a);
	if (a != b)
		lock_drop(b);
}

void lock_wait(struct lock *lock, pthread_cond_t *cond)
{
	pthread_cond_wait(cond, &lock->mutex);
}
