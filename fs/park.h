/*
 * park: requests that wait, and hold no thread meanwhile: for a turn, for a publish, or for a lock.
 *
 * A parked request is in one queue, under file->lock; who takes it out (park_claim) answers it. It is taken out by
 * what it waits for, by its time, or by a signal that ends the wait.
 */
#ifndef INTACTFS_FS_PARK_H
#define INTACTFS_FS_PARK_H

#include "fs/fs.h"
#include "fs/timer.h"
#include "fs/job.h"
#include "meta/turn.h"

#define PARK_FOREVER (~0u)

enum park_end { PARK_DONE, PARK_TIMEOUT, PARK_INTERRUPTED };

struct parked {
	struct parked *next, *prev; /* save->parked, for a publish */
	struct turn_waiter waiter;  /* or file->turn */
	struct parked **list;	    /* &save->parked while it waits there */

	fuse_req_t req;
	struct process process;
	struct actor actor;
	struct file *file; /* with a reference */
	struct node *node; /* what was opened, or the directory; with a reference */
	struct fuse_file_info fi;
	char *name; /* of a LOOKUP */
	int64_t since_ns;
	/* Answers the request. Called without locks, once, by whoever ended the wait; then the memory is freed. */
	void (*resume)(struct parked *parked, enum park_end end);

	struct timer timer;
	struct job job; /* its end by time or by a signal */
	enum park_end end;
	int64_t due_ms;
	int signalled; /* atomic */
	unsigned refs; /* atomic: the request's, and the timer's while it is set or called */
	int waits;     /* how often the request was parked before */
	bool reserves; /* it waits for a turn to save, not just for its place */
	int64_t entry;
	int redirect_state; /* enum redirect_state of an OPEN */
	struct stat attr;   /* of a SETATTR */
	int to_set;
	struct range_lock lock; /* of a lock request */
	struct range_wait wait;
	int result;
	struct parked *ended; /* a list of those that are to be resumed */
};

/* A request about node (and name, or NULL) of file; copies what it needs. NULL: no memory. */
struct parked *park_new(fuse_req_t req, struct file *file, struct node *node, const char *name,
	const struct fuse_file_info *fi, const struct process *process,
	void (*resume)(struct parked *parked, enum park_end end));
/* Signals are heard from now on; to be called before it is queued, with no lock held. */
void park_listen(struct parked *parked);
/* Gives it back unqueued; the request is the caller's again. */
void park_drop(struct parked *parked);
/* Queues it; file->lock is held. From here on it is not the caller's any more. */
void park_for_turn_locked(struct parked *parked, unsigned timeout_ms);
void park_for_publish_locked(struct parked *parked, struct parked **list, unsigned timeout_ms);
void park_for_lock_locked(struct parked *parked, unsigned timeout_ms); /* PARK_FOREVER: none */
/* Takes it out of its queue; file->lock is held. False when somebody else did. */
bool park_claim_locked(struct parked *parked);
/* Takes out all that wait for a publish and chains them by ended; file->lock is held. */
struct parked *park_claim_all_locked(struct parked **list);
/* Answers them; no lock is held. */
void park_resume(struct parked *parked, enum park_end end);

#endif
