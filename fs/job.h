/*
 * job: what takes its time, done by a few threads, in the order it came: publishing what is due, and answering
 * requests that waited. The timers' thread only finds out that it is due.
 *
 * Threads:   any. A call holds no lock.
 */
#ifndef INTACTFS_FS_JOB_H
#define INTACTFS_FS_JOB_H

struct job {
	struct job *next, *prev;
	void (*call)(struct job *job);
};

int job_start(void);
/* Returns when all of it is done; what comes later is done by whoever asks for it. */
void job_stop(void);

/* Calls job->call(job), soon. The memory is the caller's, and the call's from then on. */
void job_do(struct job *job);

#endif
