#include "meta/turn.h"

#include <assert.h>
#include <utlist.h>

bool turn_take(struct turn *turn, const void *holder)
{
	if (!turn->holder)
		turn->holder = holder;
	return turn->holder == holder;
}

void turn_wait(struct turn *turn, struct turn_waiter *waiter)
{
	assert(!waiter->queued);
	DL_APPEND(turn->waiters, waiter);
	waiter->queued = true;
}

void turn_leave(struct turn *turn, struct turn_waiter *waiter)
{
	if (!waiter->queued)
		return;
	DL_DELETE(turn->waiters, waiter);
	waiter->queued = false;
}

struct turn_waiter *turn_pass(struct turn *turn, const void *holder)
{
	struct turn_waiter *first = turn->waiters;

	if (turn->holder != holder)
		return NULL;
	turn->holder = NULL;
	if (first)
		turn_leave(turn, first);
	return first;
}
