#include "fs/redirect.h"

#include <string.h>
#include <uthash.h>

/* Threads that died on the way leave theirs behind; the oldest go first. */
#define REDIRECTS_MAX 1024
/* The second try follows the first at once; what is older was left by an open that failed on its way. But where this daemon is slow
 * (a disk stalls), or was stopped, a walk takes longer. */
#define FRESH_MS 1000
#define LATE_MS	 20000
/* A walk looks its last name up twice at most, to revalidate it and anew, and each may be parked once. More are another walk's. */
#define LOOKUPS_MAX 4

struct redirect {
	pid_t tid;
	struct node *node; /* with a reference, so that its address is not used again */
	int64_t set_ms;
	int looked_up; /* how often */
	bool for_writing, to_save;
	const struct node *answer; /* to compare with, not to follow */
	UT_hash_handle hh;
};

static struct {
	struct lock lock; /* protects the table */
	struct redirect *table;
	unsigned count; /* atomic: most lookups find that there is none */
} redirects = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_REDIRECT}};

static struct redirect *find(pid_t tid)
{
	struct redirect *redirect;

	HASH_FIND(hh, redirects.table, &tid, sizeof(tid), redirect);
	return redirect;
}

static bool is_younger(const struct redirect *redirect, int64_t ms)
{
	return time_mono_ms() - redirect->set_ms < ms;
}

static struct redirect *take(struct redirect *redirect)
{
	if (redirect) {
		HASH_DELETE(hh, redirects.table, redirect);
		__atomic_sub_fetch(&redirects.count, 1, __ATOMIC_RELAXED);
	}
	return redirect;
}

static void drop(struct redirect *redirect)
{
	if (!redirect)
		return;
	node_unref(redirect->node, 1);
	free(redirect);
}

void redirect_set(pid_t tid, struct node *node, bool for_writing, bool to_save)
{
	struct redirect *redirect = calloc(1, sizeof(*redirect)), *old, *oldest = NULL;

	if (!redirect)
		return;
	redirect->tid = tid;
	redirect->for_writing = for_writing;
	redirect->to_save = to_save;
	redirect->set_ms = time_mono_ms();
	redirect->node = node_ref(node);
	lock_take(&redirects.lock);
	old = take(find(tid));
	if (HASH_COUNT(redirects.table) >= REDIRECTS_MAX)
		oldest = take(redirects.table);
	HASH_ADD(hh, redirects.table, tid, sizeof(redirect->tid), redirect);
	__atomic_add_fetch(&redirects.count, 1, __ATOMIC_RELAXED);
	lock_drop(&redirects.lock);
	drop(old);
	drop(oldest);
}

struct file *redirect_lookup(pid_t tid, bool *ret_to_save)
{
	struct redirect *redirect;
	struct file *file = NULL;

	if (__atomic_load_n(&redirects.count, __ATOMIC_RELAXED) == 0)
		return NULL;
	lock_take(&redirects.lock);
	redirect = find(tid);
	if (redirect && is_younger(redirect, LATE_MS) && redirect->looked_up < LOOKUPS_MAX) {
		redirect->looked_up++;
		*ret_to_save = redirect->to_save;
		file = file_ref(redirect->node->file);
	}
	lock_drop(&redirects.lock);
	return file;
}

void redirect_answer(pid_t tid, const struct node *node)
{
	struct redirect *redirect;

	if (__atomic_load_n(&redirects.count, __ATOMIC_RELAXED) == 0)
		return;
	lock_take(&redirects.lock);
	redirect = find(tid);
	if (redirect)
		redirect->answer = node;
	lock_drop(&redirects.lock);
}

enum redirect_state redirect_end(pid_t tid, struct node *node, bool for_writing)
{
	enum redirect_state state = REDIRECT_NONE;
	struct redirect *redirect;

	if (__atomic_load_n(&redirects.count, __ATOMIC_RELAXED) == 0)
		return state;
	lock_take(&redirects.lock);
	redirect = take(find(tid));
	lock_drop(&redirects.lock);
	if (redirect && redirect->for_writing == for_writing &&
		is_younger(redirect, redirect->looked_up ? LATE_MS : FRESH_MS))
		state = redirect->looked_up
				? (redirect->answer == node ? REDIRECT_ROUND : REDIRECT_NONE)
			: redirect->node == node ? REDIRECT_BACK
						 : REDIRECT_NONE;
	drop(redirect);
	return state;
}

void redirect_clear(void)
{
	struct redirect *redirect;

	lock_take(&redirects.lock);
	while ((redirect = take(redirects.table))) {
		lock_drop(&redirects.lock);
		drop(redirect);
		lock_take(&redirects.lock);
	}
	lock_drop(&redirects.lock);
}
