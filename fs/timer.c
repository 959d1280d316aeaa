#include "fs/timer.h"

#include <errno.h>
#include <pthread.h>
#include <utlist.h>

#include "journal/base.h"
#include "journal/lock.h"

static struct {
	struct lock lock; /* protects the rest */
	pthread_cond_t changed;
	pthread_t thread;
	struct timer *first; /* in the order they are due */
	bool running;
} timers;

static void wait_until(int64_t due_ms)
{
	struct timespec when = {due_ms / 1000, due_ms % 1000 * 1000000};

	pthread_cond_timedwait(&timers.changed, &timers.lock.mutex, &when);
}

static void *timers_main(void *arg)
{
	struct timer *timer;

	(void)arg;
	lock_take(&timers.lock);
	while (timers.running) {
		timer = timers.first;
		if (!timer) {
			lock_wait(&timers.lock, &timers.changed);
		} else if (timer->due_ms > time_mono_ms()) {
			wait_until(timer->due_ms);
		} else {
			DL_DELETE(timers.first, timer);
			timer->set = false;
			lock_drop(&timers.lock);
			timer->call(timer);
			lock_take(&timers.lock);
		}
	}
	lock_drop(&timers.lock);
	return NULL;
}

int timers_start(void)
{
	pthread_condattr_t attr;

	lock_init(&timers.lock, LOCK_TIMER);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&timers.changed, &attr);
	pthread_condattr_destroy(&attr);
	timers.running = true;
	return -pthread_create(&timers.thread, NULL, timers_main, NULL);
}

void timers_stop(void)
{
	lock_take(&timers.lock);
	timers.running = false;
	pthread_cond_signal(&timers.changed);
	lock_drop(&timers.lock);
	pthread_join(timers.thread, NULL);
}

/* Most are set for a fixed time from now: their place is near the end. */
static void insert(struct timer *timer)
{
	struct timer *at = timers.first ? timers.first->prev : NULL;

	while (at && at->due_ms > timer->due_ms)
		at = at == timers.first ? NULL : at->prev;
	if (at)
		DL_APPEND_ELEM(timers.first, at, timer);
	else
		DL_PREPEND(timers.first, timer);
}

bool timer_set(struct timer *timer, int64_t due_ms)
{
	bool was_set;

	lock_take(&timers.lock);
	was_set = timer->set;
	if (was_set)
		DL_DELETE(timers.first, timer);
	timer->due_ms = due_ms;
	timer->set = true;
	insert(timer);
	if (timers.first == timer)
		pthread_cond_signal(&timers.changed);
	lock_drop(&timers.lock);
	return !was_set;
}

bool timer_cancel(struct timer *timer)
{
	bool was_set;

	lock_take(&timers.lock);
	was_set = timer->set;
	if (was_set)
		DL_DELETE(timers.first, timer);
	timer->set = false;
	lock_drop(&timers.lock);
	return was_set;
}
