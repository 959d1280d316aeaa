#include "fs/park.h"

#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "fs/node.h"

/* A signal that does not end a wait may be followed by one that does, of which the kernel tells nothing. */
#define SIGNAL_LOOK_MS 50

static void unref(struct parked *parked)
{
	if (__atomic_sub_fetch(&parked->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	node_unref(parked->node, 1);
	file_unref(parked->file);
	free(parked->name);
	free(parked);
}

static void set_timer(struct parked *parked, int64_t due_ms)
{
	__atomic_add_fetch(&parked->refs, 1, __ATOMIC_RELAXED);
	if (!timer_set(&parked->timer, due_ms))
		__atomic_sub_fetch(&parked->refs, 1, __ATOMIC_RELAXED);
}

static bool is_queued(const struct parked *parked)
{
	return parked->list || parked->waiter.queued;
}

bool park_claim_locked(struct parked *parked)
{
	if (!is_queued(parked))
		return false;
	turn_leave(&parked->file->turn, &parked->waiter);
	if (parked->list)
		DL_DELETE(*parked->list, parked);
	parked->list = NULL;
	return true;
}

struct parked *park_claim_all_locked(struct parked **list)
{
	struct parked *first = NULL, **end = &first, *parked;

	while ((parked = *list)) {
		park_claim_locked(parked);
		parked->ended = NULL;
		*end = parked;
		end = &parked->ended;
	}
	return first;
}

/* Called by libfuse with the request's lock held, so it only sets off the timer. */
static void on_signal(fuse_req_t req, void *arg)
{
	struct parked *parked = arg;

	(void)req;
	__atomic_store_n(&parked->signalled, 1, __ATOMIC_SEQ_CST);
	set_timer(parked, time_mono_ms());
}

static void on_end(struct job *job)
{
	struct parked *parked = container_of(job, struct parked, job);

	park_resume(parked, parked->end);
}

static void on_timer(struct timer *timer)
{
	struct parked *parked = container_of(timer, struct parked, timer);
	bool signalled = __atomic_load_n(&parked->signalled, __ATOMIC_SEQ_CST);
	bool interrupted = signalled && thread_interrupted(parked->process.tid), claimed = false;
	int64_t now_ms = time_mono_ms();

	lock_take(&parked->file->lock);
	if (is_queued(parked)) {
		if (now_ms >= parked->due_ms || interrupted)
			claimed = park_claim_locked(parked);
		else
			set_timer(parked, signalled && now_ms + SIGNAL_LOOK_MS < parked->due_ms
						  ? now_ms + SIGNAL_LOOK_MS
						  : parked->due_ms);
	}
	lock_drop(&parked->file->lock);
	if (claimed) {
		parked->end = interrupted ? PARK_INTERRUPTED : PARK_TIMEOUT;
		parked->job.call = on_end;
		job_do(&parked->job);
	}
	unref(parked);
}

struct parked *park_new(fuse_req_t req, struct file *file, struct node *node, const char *name,
	const struct fuse_file_info *fi, const struct process *process,
	void (*resume)(struct parked *parked, enum park_end end))
{
	struct parked *parked = calloc(1, sizeof(*parked));

	if (!parked)
		return NULL;
	if (name && !(parked->name = strdup(name))) {
		free(parked);
		return NULL;
	}
	parked->req = req;
	parked->process = *process;
	request_actor(req, &parked->actor);
	parked->file = file_ref(file);
	parked->node = node_ref(node);
	if (fi)
		parked->fi = *fi;
	parked->since_ns = time_now_ns();
	parked->resume = resume;
	parked->timer.call = on_timer;
	parked->refs = 1;
	return parked;
}

static void start(struct parked *parked, unsigned timeout_ms)
{
	parked->due_ms =
		timeout_ms == PARK_FOREVER ? INT64_MAX : time_mono_ms() + (int64_t)timeout_ms;
	/* A signal that came before is looked at now. */
	set_timer(parked, __atomic_load_n(&parked->signalled, __ATOMIC_SEQ_CST) ? time_mono_ms()
										: parked->due_ms);
}

void park_for_turn_locked(struct parked *parked, unsigned timeout_ms)
{
	turn_wait(&parked->file->turn, &parked->waiter);
	start(parked, timeout_ms);
}

void park_for_publish_locked(struct parked *parked, struct parked **list, unsigned timeout_ms)
{
	parked->list = list;
	DL_APPEND(*list, parked);
	start(parked, timeout_ms);
}

void park_for_lock_locked(struct parked *parked, unsigned timeout_ms)
{
	park_for_publish_locked(parked, &parked->file->lock_waiters, timeout_ms);
}

void park_listen(struct parked *parked)
{
	fuse_req_interrupt_func(parked->req, on_signal, parked);
}

void park_drop(struct parked *parked)
{
	fuse_req_interrupt_func(parked->req, NULL, NULL);
	if (timer_cancel(&parked->timer))
		unref(parked);
	unref(parked);
}

void park_resume(struct parked *parked, enum park_end end)
{
	struct parked *next;

	for (; parked; parked = next, end = PARK_DONE) {
		next = parked->ended;
		parked->ended = NULL;
		fuse_req_interrupt_func(parked->req, NULL, NULL);
		parked->resume(parked, end);
		if (timer_cancel(&parked->timer))
			unref(parked);
		unref(parked);
	}
}
