#include "fs/job.h"

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
	struct job *first;
	bool running;
} jobs = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_QUEUE}};

static void *jobs_main(void *arg)
{
	struct job *job;

	(void)arg;
	lock_take(&jobs.lock);
	while (jobs.running || jobs.first) {
		job = jobs.first;
		if (!job) {
			jobs.idle++;
			lock_wait(&jobs.lock, &jobs.changed);
			jobs.idle--;
			continue;
		}
		DL_DELETE(jobs.first, job);
		lock_drop(&jobs.lock);
		job->call(job);
		lock_take(&jobs.lock);
	}
	lock_drop(&jobs.lock);
	return NULL;
}

/* The lock is held. */
static int add_thread(void)
{
	int err = pthread_create(&jobs.threads[jobs.thread_count], NULL, jobs_main, NULL);

	if (!err)
		jobs.thread_count++;
	return -err;
}

int job_start(void)
{
	int err;

	pthread_cond_init(&jobs.changed, NULL);
	lock_take(&jobs.lock);
	jobs.running = true;
	err = add_thread();
	lock_drop(&jobs.lock);
	return err;
}

void job_stop(void)
{
	lock_take(&jobs.lock);
	jobs.running = false;
	pthread_cond_broadcast(&jobs.changed);
	lock_drop(&jobs.lock);
	for (unsigned i = 0; i < jobs.thread_count; i++)
		pthread_join(jobs.threads[i], NULL);
	jobs.thread_count = 0;
}

void job_do(struct job *job)
{
	bool queued;

	lock_take(&jobs.lock);
	queued = jobs.running;
	if (queued) {
		DL_APPEND(jobs.first, job);
		/* Without another thread it is done by those that there are. */
		if (jobs.idle == 0 && jobs.thread_count < THREADS)
			add_thread();
		pthread_cond_signal(&jobs.changed);
	}
	lock_drop(&jobs.lock);
	if (!queued)
		job->call(job);
}
