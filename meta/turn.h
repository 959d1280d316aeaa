/*
 * turn: the right to save a path. One save holds it; the others queue, first come, first served.
 *
 * A turn knows nothing of requests or saves: its holder and its waiters are the caller's.
 *
 *   FREE -(turn_take)-> HELD -(turn_pass: nobody waits)-> FREE
 *                       HELD -(turn_pass: somebody waits)-> HELD by the first of them
 * Locks: the caller holds the lock of the file that the turn belongs to.
 */
#ifndef INTACTFS_META_TURN_H
#define INTACTFS_META_TURN_H

#include <stdbool.h>
#include <stddef.h>

struct turn_waiter {
	struct turn_waiter *next, *prev; /* utlist */
	bool queued;
};

struct turn {
	const void *holder; /* NULL: free */
	struct turn_waiter *waiters;
};

/* True when holder has the turn now, because it was free or its own already. */
bool turn_take(struct turn *turn, const void *holder);
void turn_wait(struct turn *turn, struct turn_waiter *waiter);
/* Nothing happens when it is not queued. */
void turn_leave(struct turn *turn, struct turn_waiter *waiter);
/* When holder has the turn, it gives it up: the first waiter leaves the queue and is returned; the caller
 * lets it take the turn. NULL when nobody waits or holder did not have it. */
struct turn_waiter *turn_pass(struct turn *turn, const void *holder);

#endif
