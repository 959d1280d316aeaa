/*
 * save: a file's new content, from the open for writing until it becomes a version.
 *
 * Life:
 *   RESERVED   -(save_begin: the redirected open came)-> STAGED
 *   RESERVED   -(save_abandon: nobody came)-> GONE
 *   STAGED    <-(a write)- CLOSING
 *   STAGED     -(save_close: flush by the saver's process after a write, fsync)-> CLOSING
 *   STAGED, CLOSING -(save_publish: last writer's release, rename of the file, end of the mount)-> PUBLISHING -> GONE
 *   STAGED, CLOSING -(save_snapshot: 2 s without a write after a closing, when nobody who wrote has it open)-> STAGED, its
 *                     object being a version's now
 *   STAGED, CLOSING -(save_go_live: a new file's 2 s)-> GONE; the file is live
 *
 * A closing save is in the journal: a crash does not lose it.
 * The object of a save is sealed once a version names it: the next write copies it first.
 *
 * Locks:     file->lock protects the state, the counts and the lists; io_lock, which is taken before it, the object's
 *            descriptor, its contents and the running hash.
 * Ownership: counted references: the file's list has one, each handle, each timer that is set.
 */
#ifndef INTACTFS_FS_SAVE_H
#define INTACTFS_FS_SAVE_H

#include <errno.h>
#include <xxhash.h>

#include "fs/node.h"
#include "fs/park.h"
#include "fs/timer.h"
#include "fs/job.h"
#include "meta/version.h"

#define STRANGERS_MAX 8
#define WRITERS_MAX   4

enum save_state { SAVE_RESERVED, SAVE_STAGED, SAVE_CLOSING, SAVE_PUBLISHING, SAVE_GONE };

/* What save_write and its like return when the file went live meanwhile: the handle goes on there. */
#define SAVE_IS_LIVE (-EREMCHG)

struct save {
	struct save *next, *prev; /* file->saves */
	struct file *file;	  /* with a reference */
	struct node *node;	  /* with a reference */
	unsigned refs;		  /* atomic */
	struct timer timer;
	struct job job; /* what is due */
	bool due;	/* atomic; job is queued */

	struct process saver;
	struct actor actor;
	/* Processes that do not descend from the saver's, and never will. */
	uint64_t strangers[STRANGERS_MAX];
	unsigned stranger_count; /* ever */
	/* The last processes that wrote to it, without the saver's. */
	struct process others[WRITERS_MAX];
	unsigned other_count; /* ever */
	pid_t last_writer;    /* atomic; a thread */
	bool mapped;	      /* atomic; it was written to through a mapping */
	bool interrupted;     /* who closed it last was killed in the middle of it */
	int64_t opened_ns;
	int64_t entry; /* the lineage of the name that it was opened by */
	int64_t shown_ino; /* until it is published: programs compare what they open with what they looked at */

	enum save_state state;
	unsigned writers;
	bool let_go; /* the last writer has gone: it is to be published, unless another one joins it before */
	int64_t closed_ms;	/* time_mono_ms() of the last closing */
	struct parked *parked;	/* requests that wait for the publish */
	struct file *successor; /* what replaced the file meanwhile; with a reference */
	struct basis basis;
	bool created;	       /* the open made the file */
	bool stream_candidate; /* there is no content to protect */
	bool truncated;	       /* its content is its own even if nothing is written */
	int64_t flushed_ms; /* time_mono_ms() of a close after which its process did not have it open */
	bool unlooked;	/* since the last close nobody looked whether the saver has it open still */
	bool kept_open; /* it had, then */
	bool times_set; /* mtime_ns was given by utimensat */
	bool keep_if_unlinked;
	bool clear_setid;
	bool locked;	    /* ever */
	bool published;	    /* what it holds is a version, and maybe not the last */
	bool synced;	    /* the last closing was an fsync */
	bool live;	    /* it went live: handles go on there */
	int64_t mtime_ns;   /* of the last write, or as times_set */
	int64_t changed_ns; /* of the last write */
	int64_t base_size_bytes;

	struct lock io_lock;
	int64_t object;
	int fd;	      /* the object; -1 until there is one */
	int base_fd;  /* what it starts as a copy of; -1: empty */
	bool copied;  /* the object holds what the save does */
	bool sealed;  /* a version names the object */
	bool over;    /* its object is not its own any more */
	bool closing; /* it is recorded as closing, by the object that it has now */
	bool written; /* ever */
	bool dirty;   /* since the last closing */
	int failed; /* -errno of a write that was not made good since: the save is no whole content */
	int64_t failed_offset;
	int64_t written_ms; /* time_mono_ms() of the last write */
	bool hash_running;  /* hash_state covers hash_bytes from 0 */
	int64_t hash_bytes;
	XXH3_state_t *hash_state;
	struct object_hash hash;    /* as of the last closing */
	int64_t size_bytes, blocks; /* as of the last closing */
};

/* A reservation for the process, with a node of its own; file->lock is held. entry: the lineage by which it was opened.
 * node: the one to attach it to, or NULL for a new one. NULL: no memory or no number. The list has the only reference. */
struct save *save_reserve_locked(struct file *file, const struct process *saver,
	const struct actor *actor, int64_t entry, int64_t ino, struct node *node);
struct save *save_ref(struct save *save);
void save_unref(struct save *save);

/* The open that the reservation was for. open_flags as in open(2). 0 or -errno, with the reservation kept; -ESTALE when it was
 * given up meanwhile. */
int save_begin(struct save *save, int open_flags, bool created);
/* The turn is given up by holder, if it has it: who is next gets a reservation, or just goes on. Returns who is to be resumed
 * when file->lock was dropped. */
struct parked *save_pass_turn_locked(struct file *file, const void *holder);
/* Whether nothing is lost when the save is given up: its only writer wrote nothing. file->lock is held. */
bool save_is_clean_locked(const struct save *save);
/* Gives such a save up, whose writer goes on elsewhere; false: it is not clean. */
bool save_quit(struct save *save);
/* Its writer has a lock: it is published when that is given up, and goes live when it is not for a while. */
void save_locked(struct save *save);
/* Gives up a reservation, or a save that changed nothing. Answers who waits for the turn. */
void save_abandon(struct save *save);
/* The same of a reservation only: of what was begun meanwhile nothing is lost. */
void save_expire(struct save *save);

int save_read(struct save *save, int *ret_fd); /* the descriptor to read from */
ssize_t save_write(struct save *save, const char *data, size_t bytes, int64_t offset, uid_t uid);
/* uid: who does it; set-id bits go with what others than root write. */
int save_truncate(struct save *save, int64_t size_bytes, uid_t uid);
int save_allocate(struct save *save, int mode, int64_t offset, int64_t length, uid_t uid);
/* For what writes to the object by other means than save_write: between these the descriptor is the caller's. */
int save_edit_begin(struct save *save, int *ret_fd);
void save_edit_end(struct save *save, bool changed, uid_t uid);
/* One of these could not be done at offset. For want of space, or by an I/O error, it leaves no whole content. */
void save_failed(struct save *save, int err, int64_t offset);
/* False when it is published by now. */
bool save_set_times(struct save *save, int64_t mtime_ns);

/* The thread writes to it: its process is remembered. */
void save_note_writer(struct save *save, pid_t tid);
/* It is written to through a mapping, which needs no descriptor, and of which nobody tells whose it is. */
void save_note_mapping(struct save *save);
/* Whether the process is the saver's, or wrote to it. file->lock is held. */
bool save_is_writers_locked(const struct save *save, const struct process *process);
/* Whether somebody who wrote to it still has it open for writing: then it is not whole yet. */
bool save_is_held(struct save *save);
/* Somebody closed it: what waits for those who still write to it looks again. */
void save_flushed(struct save *save);
/* The first of the two moments. Nothing happens when nothing was written since the last. */
int save_close(struct save *save, bool sync);
/* The second. When it fails (a full disk), a closing save is tried again by its timer. */
int save_publish(struct save *save);
/* The same if it is still let go. */
int save_publish_let_go(struct save *save);
/* What the save holds becomes a version; the save goes on. */
int save_snapshot(struct save *save);

/* Whether others write to the file in place. file->lock is held. */
bool file_is_live_locked(const struct file *file);
/* The save whose node the process is shown under the file's names, or NULL. file->lock is held. */
struct save *save_visible_locked(struct file *file, const struct process *process);
/* A save by somebody else that was closed just now, and whose release is on its way. file->lock is held. */
struct save *save_releasing_locked(struct file *file, const struct process *process);

void save_stat_locked(struct save *save, struct stat *stat);
void save_hook_unlinked(struct file *file, const struct actor *actor);
void save_hook_replaced(struct file *old, struct file *successor, int64_t entry);
/* What the file's names stood for is not its head any more; applied with file->lock held, before is what it was. */
void node_supersede_locked(struct file *file, const struct node_row *before);
/* At the end of the mount: publishes what is closed, drops the rest. */
void save_finish_all(struct file *file);

/*
 * live: a file that is written in place. Everybody shares one node and one object.
 */
struct live {
	struct node *node; /* borrowed: a writer's handle has a reference */
	int64_t object;
	int fd;
	unsigned writers;      /* file->lock */
	unsigned settlers;     /* file->lock; who is about to settle it */
	unsigned closing;      /* file->lock; writers whose last close is on its way */
	struct parked *parked; /* file->lock; requests that wait until it is settled */
	struct basis basis;
	struct actor actor; /* of the first writer */
	int64_t entry;
	const char *kind; /* file->lock; "append", "stream", "locked", or "live" */
	struct lock io_lock;
	bool named;	     /* a version names the object, be it of no bytes */
	int64_t named_bytes; /* as much of the object as versions name */
	int64_t mtime_ns;    /* file->lock; of the last write, or as it was set since */
	int64_t changed_ns;  /* file->lock; of the last write */
	bool written;	     /* file->lock; since it was made a version */
	const void *by;	     /* file->lock; who did, when it was one only */
	bool staged;	     /* the object is in stage/ */
	bool clear_setid;
};

/* With io_lock and entry set up; the object is the caller's to fill in. NULL: no memory. */
struct live *live_new(
	struct node *node, const struct actor *actor, int64_t entry, const char *kind);
void live_free(struct live *live);
/* Whether an open for writing makes a settled file live: by its name, what it begins with, or its size. open_flags as in open(2). */
bool live_wanted(struct file *file, int open_flags);
/* The settled head goes live and gets a writer; or one more writer joins. kind: "append", or "live" for writes anywhere.
 * 0 or -errno; -ESTALE when the node is not the head any more. */
int live_open(struct node *node, const struct actor *actor, int64_t entry, const char *kind);
/* One more writer, for writes anywhere. -EAGAIN when the file is not live any more. */
int live_join(struct node *node);
/* by: an open file, to tell those who write apart. */
ssize_t live_write(struct live *live, const void *by, const char *data, size_t bytes,
	int64_t offset, bool append, uid_t uid);
/* False when the node is not live any more, or nothing was written since its last version: then the times are the file's. */
bool live_set_times(struct node *node, int64_t mtime_ns);
/* What others wrote, or all that was written, becomes a version before it is cut off. */
int live_truncate(struct live *live, const void *by, int64_t size_bytes, uid_t uid);
int live_allocate(struct live *live, int mode, int64_t offset, int64_t length, uid_t uid);
/* Before the bytes from offset on are changed by other means. */
int live_edit_begin(struct live *live, int64_t offset, uid_t uid);
/* What was written to a live file becomes a version, before its name goes. 0, also when it is not live; or -errno. */
int live_keep(struct node *node);
/* A lock on it was given up: what was written under it becomes a version. */
void live_unlocked(struct live *live);
/* Where to wait for a live file that all who wrote to it have closed: it is about to settle. NULL: it is not. file->lock is held. */
struct parked **live_settling_locked(struct node *node);
/* A writer was closed by who opened it: closing is set, when it was not, and the file is live. */
void live_flushed(struct node *node, bool *closing);
/* A writer's end (closing: as live_flushed told); the last one's makes a version of it. When that fails, the file stays live without a writer, and the next
 * writer's end, or the end of the mount, tries again. */
int live_release(struct node *node, bool closing);
void live_stat_locked(struct live *live, struct stat *stat);
/* A new file that is still open: what it has is published, and it goes on live. */
int save_go_live(struct save *save);

#endif
