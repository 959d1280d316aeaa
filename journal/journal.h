/*
 * journal: the versioned metadata of one tree, and the one order of its changes.
 *
 * Invariants:
 *  1. Every change goes through journal_commit(). They wait in a FIFO queue; whoever finds the
 * queue idle leads it, and commits what waits in one transaction, a savepoint for each.
 *  2. A change that fails leaves no trace and uses up no sequence number.
 *  3. apply() runs after the commit, in commit order, before anybody reads the journal again
 *     (the coherence lock): memory is never behind what a reader of the journal could have seen.
 *  4. Before the log is synced or checkpointed, every object that it names is synced.
 *  5. On a full disk, vital changes succeed while the reserve lasts (reserve.h).
 *  6. After an I/O error in a commit the journal takes no more changes (sticky -EIO).
 *
 * Threads:   any; see each function for the locks.
 */
#ifndef INTACTFS_JOURNAL_JOURNAL_H
#define INTACTFS_JOURNAL_JOURNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "journal/base.h"
#include "journal/lock.h"
#include "journal/object.h"
#include "journal/sql.h"
#include "journal/volume.h"

/* Who made a change. Recorded with every operation. */
struct actor {
	uid_t uid;
	gid_t gid;
	pid_t pid;
	char user[64];	  /* name of uid, or its number */
	char program[32]; /* comm of the process; "" when it is not known */
};

struct journal {
	struct sql *writer; /* the leader's */
	struct sql *reader; /* reader_lock's holder's */
	struct sql *keeper; /* sync_mutex's holder's: syncs and checkpoints */
	struct lock reader_lock;
	pthread_rwlock_t coherence;
	pthread_mutex_t sync_mutex; /* held over I/O; taken with no lock held */
	pthread_mutex_t
		commit_mutex; /* the leader's, while it commits; may be taken within sync_mutex */

	struct lock queue_lock; /* protects the next seven */
	struct change *first, *last;
	bool leading;
	int64_t *unsynced; /* objects named since the last sync */
	size_t unsynced_count, unsynced_size;
	int64_t *released; /* garbage that nobody has open */
	size_t released_count, released_size;

	int64_t seq; /* of the last committed operation; written by the leader, read by anyone */
	int64_t durable_seq, durable_recorded;
	int64_t epoch;
	/* A log beyond an eighth of it is checkpointed in the background, beyond all of it by the leader; one of more than
	 * a quarter after that is made to begin anew. */
	int64_t log_max_bytes;
	int broken;	     /* atomic; sticky -errno */
	bool unchecked;	     /* it is larger than what is checked at the mount */
	bool closing;	     /* queue_lock; the check is to end */
	struct sql *checker; /* queue_lock */
	bool readonly;
	bool removed; /* atomic */
	bool wants_checkpoint;
	bool has_garbage;	     /* atomic; there may be rows in garbage */
	unsigned commits;	     /* the leader's */
	struct access_known *access; /* the leader's: what is known of directories (access.h) */

	struct volume *volume;
	struct volume_tree tree;
	struct object_store objects;
	char *path;
	char host[65];
};

/* A transaction as a change sees it. */
struct txn {
	struct journal *journal;
	struct sql *sql;
	int64_t now_ns;
	int64_t seq; /* of the last operation in it */
};

struct change {
	/* Makes the change. Runs in the leader's thread; may run twice (after a rollback), so it
	 * only sets outputs. < 0: it is undone and the result; >= 0: it is kept, and the result. */
	int (*exec)(struct txn *txn, struct change *change);
	/* After the commit (NULL: nothing to do); may take locks from LOCK_TREE on; never fails. */
	void (*apply)(struct change *change);
	/* It takes little, and on a full disk it may take it from the reserve. Others are then refused. */
	bool vital;

	/* The queue's own. */
	struct change *next;
	pthread_cond_t cond;
	int result;
	bool done, lead;
};

/* Opens the journal of a tree; with create, makes it where it is missing. Damage is reported, never
 * repaired. */
int journal_open(struct volume *volume, const struct volume_tree *tree, bool create,
	struct journal **ret_journal, struct diag *diag);
/* Everything must be committed. Syncs, checkpoints, marks the end as clean. NULL is fine. */
struct journal *journal_close(struct journal *journal);
/* Its tree was removed from the volume, and its directory moved: from now on changes of what somebody still has open
 * fail with -ENOENT, and so do those that wait. */
void journal_removed(struct journal *journal);
/* From now on no changes are taken: they fail with err, the first that was given. An I/O error on a filesystem that became
 * read-only is -EROFS. */
void journal_stop(struct journal *journal, int err, const char *why);
/* Whether changes are taken; else -errno. */
int journal_writable(struct journal *journal);
/* What journal_open() left unchecked, because it takes its time. For a thread of its own, that journal_closing() ends. */
void journal_check_more(struct journal *journal);
void journal_closing(struct journal *journal);
/* True when the last daemon did not end cleanly, so that recovery has something to do. */
bool journal_unclean(struct journal *journal);

/* Queues the change and returns its result when it is committed, or has failed. Blocks; no lock may
 * be held. */
int journal_commit(struct journal *journal, struct change *change);

/* Within exec: records an operation and gives it the next sequence number. entry 0: the name that the node has now, if
 * any; target: 0 for none; outcome: NULL for none. */
int txn_operation(struct txn *txn, const char *kind, const char *outcome, int64_t node,
	int64_t entry, int64_t target, const struct actor *actor);
/* Within exec: the object is named by what is about to be committed, and is no garbage. */
int txn_names_object(struct txn *txn, int64_t object);

/* Reading what is committed: memory filled from it before journal_read_end() is not older than any
 * later change. Takes LOCK_READER; other locks from LOCK_TREE on may be taken inside. */
struct sql *journal_read_begin(struct journal *journal);
void journal_read_end(struct journal *journal);

/* All that was committed before the call survives a loss of power afterwards. No lock may be held.
 */
int journal_sync(struct journal *journal);
/* Moves what the log holds into the database. */
int journal_checkpoint(struct journal *journal);
/* Checkpoints when the log has grown, and removes garbage; for a housekeeping thread. */
int journal_maintain(struct journal *journal);

#endif
