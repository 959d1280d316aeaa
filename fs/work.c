#include "fs/work.h"

#include <pthread.h>
#include <stdbool.h>
#include <utlist.h>

#include "journal/lock.h"

/* More than one, so that a large file keeps nobody waiting; a few large ones at once do. */
#define THREADS 8

static struct {
	struct lock lock; /* protects the rest */
	pthread_cond_t changed;
	pthread_t threads[THREADS];
	unsigned thread_count, idle;
	struct work *first;
	bool running;
} works = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_QUEUE}};

static void *works_main(void *arg)
{
	struct work *work;

	(void)arg;
	lock_take(&works.lock);
	while (works.running || works.first) {
		work = works.first;
		if (!work) {
			works.idle++;
			lock_wait(&works.lock, &works.changed);
			works.idle--;
			continue;
		}
		DL_DELETE(works.first, work);
		lock_drop(&works.lock);
		work->call(work);
		lock_take(&works.lock);
	}
	lock_drop(&works.lock);
	return NULL;
}

/* The lock is held. */
static int add_thread(void)
{
	int err = pthread_create(&works.threads[works.thread_count], NULL, works_main, NULL);

	if (!err)
		works.thread_count++;
	return -err;
}

int work_start(void)
{
	int err;

	pthread_cond_init(&works.changed, NULL);
	lock_take(&works.lock);
	works.running = true;
	err = add_thread();
	lock_drop(&works.lock);
	return err;
}

void work_stop(void)
{
	lock_take(&works.lock);
	works.running = false;
	pthread_cond_broadcast(&works.changed);
	lock_drop(&works.lock);
	for (unsigned i = 0; i < works.thread_count; i++)
		pthread_join(works.threads[i], NULL);
	works.thread_count = 0;
}

void work_do(struct work *work)
{
	bool queued;

	lock_take(&works.lock);
	queued = works.running;
	if (queued) {
		DL_APPEND(works.first, work);
		/* Without another thread it is done by those that there are. */
		if (works.idle == 0 && works.thread_count < THREADS)
			add_thread();
		pthread_cond_signal(&works.changed);
	}
	lock_drop(&works.lock);
	if (!queued)
		work->call(work);
}
