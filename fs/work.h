/*
 * work: what takes its time, done by a few threads, in the order it came: publishing what is due, and answering
 * requests that waited. The timers' thread only finds out that it is due.
 *
 * Threads:   any. A call holds no lock.
 */
#ifndef INTACTFS_FS_WORK_H
#define INTACTFS_FS_WORK_H

struct work {
	struct work *next, *prev;
	void (*call)(struct work *work);
};

int work_start(void);
/* Returns when all of it is done; what comes later is done by whoever asks for it. */
void work_stop(void);

/* Calls work->call(work), soon. The memory is the caller's, and the call's from then on. */
void work_do(struct work *work);

#endif
