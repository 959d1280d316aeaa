#include "meta/turn.h"

#include <assert.h>
#include <utlist.h>

#include "journal/lock.h"

/* Those who wait, for whatever turn. */
static struct {
	struct lock lock; /* protects the rest, and in all turns: whose they are */
	struct turn_waiter *all;
	unsigned looks;
} waiting = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF}};

struct turn_party turn_party(const struct process *process, bool by_thread)
{
	if (!process->known)
		return (struct turn_party){.pid = 0};
	return (struct turn_party){process->pid, process->tid, process->identity, by_thread};
}

static void set_holder(struct turn *turn, const void *holder, const struct turn_party *party)
{
	lock_take(&waiting.lock);
	turn->holder = holder;
	turn->party = *party;
	lock_drop(&waiting.lock);
}

bool turn_take(struct turn *turn, const void *holder, const struct turn_party *party)
{
	if (!turn->holder)
		set_holder(turn, holder, party);
	return turn->holder == holder;
}

void turn_give(struct turn *turn, const void *holder, const struct turn_party *party)
{
	set_holder(turn, holder, party);
}

static bool is_same(const struct turn_party *holder, const struct turn_party *other)
{
	return holder->pid && holder->pid == other->pid && holder->identity == other->identity &&
	       (!holder->by_thread || holder->tid == other->tid);
}

static bool holds(const struct turn_waiter *waiter, const struct turn *turn)
{
	bool holds = is_same(&turn->party, &waiter->party);

	for (unsigned i = 0; i < waiter->group_count && !holds; i++)
		holds = is_same(&turn->party, &waiter->groups[i]);
	return turn->holder && holds;
}

/* Whether what the turn's holder waits for leads to a turn that the waiter holds. Each of those who wait is followed once. */
static bool leads_to(const struct turn *turn, const struct turn_waiter *waiter)
{
	struct turn_waiter *other;

	DL_FOREACH2(waiting.all, other, next_all)
	{
		if (other->look == waiting.looks || !holds(other, turn))
			continue;
		other->look = waiting.looks;
		if (holds(waiter, other->turn) || leads_to(other->turn, waiter))
			return true;
	}
	return false;
}

bool turn_wait(struct turn *turn, struct turn_waiter *waiter)
{
	assert(!waiter->queued);
	lock_take(&waiting.lock);
	waiting.looks++;
	if (!leads_to(turn, waiter)) {
		waiter->turn = turn;
		waiter->queued = true;
		DL_APPEND2(waiting.all, waiter, prev_all, next_all);
	}
	lock_drop(&waiting.lock);
	if (waiter->queued)
		DL_APPEND(turn->waiters, waiter);
	return waiter->queued;
}

void turn_leave(struct turn_waiter *waiter)
{
	if (!waiter->queued)
		return;
	DL_DELETE(waiter->turn->waiters, waiter);
	lock_take(&waiting.lock);
	DL_DELETE2(waiting.all, waiter, prev_all, next_all);
	waiter->queued = false;
	lock_drop(&waiting.lock);
}

struct turn_waiter *turn_pass(struct turn *turn, const void *holder)
{
	static const struct turn_party nobody;
	struct turn_waiter *first = turn->waiters;

	if (turn->holder != holder)
		return NULL;
	set_holder(turn, NULL, &nobody);
	if (first)
		turn_leave(first);
	return first;
}
