/*
 * turn: the right to save a path. One holds it; the others queue, first come, first served.
 *
 * A turn knows nothing of requests or saves: its holder and its waiters are the caller's. It knows whose they are, so that
 * programs that wait for each other are found: who would close such a circle, the last to come, does not wait.
 *
 *   FREE -(turn_take)-> HELD -(turn_pass: nobody waits)-> FREE
 *                       HELD -(turn_pass: somebody waits)-> HELD by the first of them
 *                       HELD -(turn_give)-> HELD by another
 * Locks: the caller holds the lock of the file that the turn belongs to. Takes a LOCK_LEAF.
 */
#ifndef INTACTFS_META_TURN_H
#define INTACTFS_META_TURN_H

#include <stdbool.h>
#include <stddef.h>

#include "meta/process.h"

/* Nested ones; of more, circles are not found. */
#define TURN_GROUPS_MAX 4

/* Who holds a turn, or waits for it. */
struct turn_party {
	pid_t pid, tid; /* pid 0: not known */
	uint64_t identity;
	bool by_thread; /* a holder that is one thread, not its process */
};

struct turn_waiter {
	struct turn_waiter *next, *prev; /* utlist */
	bool queued;
	struct turn_party
		party; /* the caller's to set, and so are those that it belongs to, too: what it waits for, they do */
	struct turn_party groups[TURN_GROUPS_MAX];
	unsigned group_count;

	struct turn *turn;
	struct turn_waiter *next_all, *prev_all;
	unsigned look;
};

struct turn {
	const void *holder; /* NULL: free */
	struct turn_party party;
	struct turn_waiter *waiters;
};

struct turn_party turn_party(const struct process *process, bool by_thread);
/* True when holder has the turn now, because it was free or its own already. */
bool turn_take(struct turn *turn, const void *holder, const struct turn_party *party);
/* It is holder's now, whoever had it. */
void turn_give(struct turn *turn, const void *holder, const struct turn_party *party);
/* False, and it is not queued, when the turn's holder waits, itself or by way of others, for a turn that the waiter holds. */
bool turn_wait(struct turn *turn, struct turn_waiter *waiter);
/* Nothing happens when it is not queued. */
void turn_leave(struct turn_waiter *waiter);
/* When holder has the turn, it gives it up: the first waiter leaves the queue and is returned; the caller
 * lets it take the turn. NULL when nobody waits or holder did not have it. */
struct turn_waiter *turn_pass(struct turn *turn, const void *holder);

#endif
