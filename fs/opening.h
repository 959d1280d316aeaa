/*
 * opening: an OPEN on its way to its answer: what ops_open.c (what it becomes) and turns.c (the turn that it waits for) share.
 */
#ifndef INTACTFS_FS_OPENING_H
#define INTACTFS_FS_OPENING_H

#include <fcntl.h>

#include "fs/ops.h"
#include "fs/redirect.h"

/* How often an open begins anew, when what it found was gone meanwhile. */
#define LOOKS_MAX 5

struct opening {
	fuse_req_t req;
	struct node *node;
	struct fuse_file_info fi;
	struct process process;
	int64_t entry;		   /* the lineage */
	enum redirect_state state; /* a second ESTALE would reach the program */
	int waits;		   /* for publishes */
	bool queued;		   /* it had its time in the queue of turns */
	enum policy policy;	   /* by which it waited for the turn to read */
	int gate_turns;		   /* before how many files' gates it waited */
	int gates;		   /* how many it has passed (hold.h) */
	int turns;		   /* for how many files' turns */
	int looks;		   /* how often its object was gone when it was opened */
	bool live; /* a writer that needs no save of its own: an append, or the file is to be live */
	bool joins;   /* it writes in place only while others do */
	bool follows; /* a reader of the head, by another node */
};

static inline bool for_writing(const struct opening *opening)
{
	return (opening->fi.flags & O_ACCMODE) != O_RDONLY || (opening->fi.flags & O_TRUNC);
}

/* Begins, or goes on; the request is answered, or parked. */
void open_node(struct opening *opening);
/* The kernel is sent to walk the path again. */
void open_send_round(struct opening *opening);

/* The file of the name that is opened: another may have taken its place since the opening knows its lineage. With a reference. */
struct file *open_named_file(struct opening *opening);

/* Both return true when the request was parked; what they say is as of then, and may be another a moment later. */

/* ret_mine: the program is shown a save of its own. */
bool turns_wait_to_save(struct opening *opening, bool *ret_mine);
/* Under the policies turn and turn-thread: once it returns false, the reader has the turn by a claim, or had its time to wait. */
bool turns_wait_to_read(struct opening *opening);
/* The handle is about to be closed. */
void turns_release(struct handle *handle);

#endif
