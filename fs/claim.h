/*
 * claim: the turn of a file, held by a program that opened it for reading, under the policies turn and turn-thread; a save that it
 * makes takes the turn over.
 *
 * Life:
 *   NEW  -(claim_start_locked: the turn is free, or was passed on to it)-> HELD
 *   HELD -(claim_take_over_locked: its owner opens the file to save it)-> GONE; the save has the turn
 *   HELD -(claim_end_locked: the owner ended, or replaced the file, or its time is over)-> GONE; the turn is passed on
 *
 * The owner is a process, under turn-thread a thread, and under turn who descends from it and inherited an open descriptor of the file.
 * Its end is told by a pidfd, at once (of a thread: Linux 6.9; before, that of its process). Its time is CLAIM_IDLE_MS since it touched
 * the file last, which are opens, reads that come to the daemon, and closes; and CLAIM_MAX_MS in all.
 *
 * Locks:     _locked: the caller holds file->lock. Those of the file may not be held where a reference is given back.
 * Ownership: counted references: file->claim or the save that took over has one, and so has the timer while it is set. A claim has a
 *            reference of its file.
 * Threads:   one waits for the ends of all owners; it is started with the first claim.
 */
#ifndef INTACTFS_FS_CLAIM_H
#define INTACTFS_FS_CLAIM_H

#include "fs/job.h"
#include "fs/park.h"
#include "fs/timer.h"

#define CLAIM_IDLE_MS 1000
#define CLAIM_MAX_MS  10000

enum claim_kind {
	CLAIM_PROCESS,
	CLAIM_THREAD,
	CLAIM_HOLD, /* of the file's gate (hold.h), without a limit of time */
};

struct claim {
	struct file *file; /* with a reference */
	struct process process, joined;
	struct actor actor;
	enum claim_kind kind;
	int64_t entry; /* the lineage of the name that the file was opened by */

	/* file->lock, once it is held */
	bool held;
	int64_t since_ns, since_ms, touched_ms;

	bool ended;    /* atomic; the owner did */
	unsigned refs; /* atomic */
	struct timer timer;
	struct job job;
	bool queued; /* atomic; job is */
	int pidfd;
	uint64_t id; /* 0: nobody watches its owner */
	UT_hash_handle hh;
};

/* NULL: no memory, or the owner ended. */
struct claim *claim_new(struct file *file, const struct process *process, const struct actor *actor,
	int64_t entry, enum claim_kind kind);
void claim_unref(struct claim *claim); /* NULL is fine */

/* It takes the turn, which is free; the caller's reference goes to the file. */
void claim_start_locked(struct claim *claim);
bool claim_is_of(const struct claim *claim, const struct process *process);
/* The file's claim, if it is the process's, is alive a while longer. True when it is. */
bool claim_touch_locked(struct file *file, const struct process *process);
/* Whether the process descends from the owner of the file's claim and has the file open: then it is the process's, too. No lock may be
 * held. */
bool claim_join(struct file *file, const struct process *process);
/* The file has it no more: it is the caller's, with its reference. The turn's holder is as before. */
struct claim *claim_take_locked(struct claim *claim);
/* The same, and the turn is passed on; ret_next is to be resumed without locks. */
struct claim *claim_end_locked(struct claim *claim, struct parked **ret_next);
/* Up to max processes that hold something; returns how many. */
unsigned claim_holders(struct process *holders, unsigned max);

/* The thread (0: not known) touched the file. No lock may be held. */
void claim_touched(struct file *file, pid_t tid);
/* The process has done what it had the turn for. No lock may be held. */
void claim_done(struct file *file, const struct process *process);

/* At the end of the mount, when there are no requests, timers and jobs any more. */
void claims_stop(void);
/* The same of one file: those who wait for its turn go on. */
void claim_finish(struct file *file);

#endif
