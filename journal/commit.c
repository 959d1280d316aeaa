/*
 * commit: the queue of changes and its leader.
 *
 *   journal_commit: IDLE -> LEADING when nobody leads; else the change waits, until it is done or
 * is told to lead. commit_lead:    takes the first changes of the queue, commits them, hands the
 * lead to the next that waits.
 */
#include "journal/journal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "journal/access.h"
#include "journal/garbage.h"
#include "journal/log.h"
#include "journal/reserve.h"

#define BATCH_MAX	      64
#define COMMITS_PER_LOG_CHECK 128
#define LOG_LOW_BYTES	      (256 << 10) /* when the reserve is low */

int txn_names_object(struct txn *txn, int64_t object)
{
	struct journal *journal = txn->journal;
	int err = 0;

	lock_take(&journal->queue_lock);
	if (journal->unsynced_count == journal->unsynced_size) {
		size_t size = journal->unsynced_size ? journal->unsynced_size * 2 : 64;
		int64_t *grown = realloc(journal->unsynced, size * sizeof(*grown));

		if (grown) {
			journal->unsynced = grown;
			journal->unsynced_size = size;
		} else {
			err = -ENOMEM;
		}
	}
	if (!err)
		journal->unsynced[journal->unsynced_count++] = object;
	lock_drop(&journal->queue_lock);
	return err ? err : garbage_take_back(txn, object);
}

/* UUID version 7 (RFC 9562): milliseconds first, so that the index grows at its end. */
static int make_id(int64_t now_ns, unsigned char id[16])
{
	uint64_t ms = (uint64_t)now_ns / 1000000;

	for (int i = 0; i < 6; i++)
		id[i] = (unsigned char)(ms >> (40 - 8 * i));
	if (getrandom(id + 6, 10, 0) != 10)
		return -EIO;
	id[6] = (unsigned char)((id[6] & 0x0f) | 0x70);
	id[8] = (unsigned char)((id[8] & 0x3f) | 0x80);
	return 0;
}

/* The name by which a node is known now; of several, any. */
static int name_of(struct txn *txn, int64_t node, int64_t *ret_entry)
{
	int err = sql_int(
		txn->sql, ret_entry, "SELECT id FROM entry WHERE node = $1 LIMIT 1", "i", node);

	return err < 0 ? err : 0;
}

int txn_operation(struct txn *txn, const char *kind, const char *outcome, int64_t node,
	int64_t entry, int64_t target, const struct actor *actor)
{
	unsigned char id[16];
	int64_t access = ACCESS_UNKNOWN;
	int err = make_id(txn->now_ns, id);

	if (!err && !entry)
		err = name_of(txn, node, &entry);
	if (!err && (entry || target))
		err = access_of_entry(txn, target ? target : entry, &access);
	if (err)
		return err;
	txn->seq++;
	return sql_run(txn->sql, NULL,
		"INSERT INTO operation (seq, id, epoch, time, kind, outcome, node, entry, target, "
		"uid, gid, user, pid,"
		" program, host, access) VALUES ($1, $2, $3, $4, $5, $6, nullif($7, 0), nullif($8, "
		"0), nullif($9, 0), $10,"
		" $11, $12, $13, $14, $15, nullif($16, -1))",
		"ibiittiiiiititti", txn->seq, id, sizeof(id), txn->journal->epoch, txn->now_ns,
		kind, outcome, node, entry, target, (int64_t)actor->uid, (int64_t)actor->gid,
		actor->user, (int64_t)actor->pid, actor->program, txn->journal->host, access);
}

/* Errors of the engine, after which the whole transaction may be gone, as against a change that
 * cannot be made. */
static bool is_engine_error(int err)
{
	return err == -ENOSPC || err == -EDQUOT || err == -EIO || err == -EROFS || err == -ENOMEM ||
	       err == -EUCLEAN || err == -EBUSY || err == -EPROTO;
}

static int exec_one(struct txn *txn, struct change *change, bool alone)
{
	int64_t seq = txn->seq;
	int err = alone ? 0 : sql_savepoint(txn->sql);

	if (err)
		return err;
	change->result = change->exec(txn, change);
	if (change->result >= 0)
		return alone ? 0 : sql_savepoint_release(txn->sql);
	txn->seq = seq;
	access_forget(txn->journal);
	if (is_engine_error(change->result))
		return change->result;
	return alone ? 0 : sql_savepoint_rollback(txn->sql);
}

static int exec_batch(struct txn *txn, struct change **batch, int count, int *ret_kept)
{
	int64_t durable = __atomic_load_n(&txn->journal->durable_seq, __ATOMIC_ACQUIRE);
	int err = sql_begin(txn->sql);

	*ret_kept = 0;
	for (int i = 0; i < count && !err; i++) {
		err = exec_one(txn, batch[i], count == 1);
		if (!err && batch[i]->result >= 0)
			++*ret_kept;
	}
	if (!err && *ret_kept > 0 && durable != txn->journal->durable_recorded)
		err = sql_run(txn->sql, NULL, "UPDATE tree SET durable_seq = $1", "i", durable);
	if (!err)
		txn->journal->durable_recorded = durable;
	return err;
}

/* 0, or -errno with nothing committed. */
static int commit_batch(struct journal *journal, struct change **batch, int count)
{
	struct txn txn = {journal, journal->writer, time_now_ns(), journal->seq};
	int kept, err;

	if (journal->broken)
		return journal->broken;
	if (__atomic_load_n(&journal->removed, __ATOMIC_ACQUIRE))
		return -ENOENT;
	err = exec_batch(&txn, batch, count, &kept);
	if (err && sql_broken(txn.sql))
		journal_stop(journal, sql_broken(txn.sql), "a change failed");
	if (err || kept == 0) {
		sql_rollback(journal->writer);
		access_forget(journal);
		return err;
	}
	pthread_rwlock_wrlock(&journal->coherence);
	err = sql_commit(journal->writer);
	if (!err) {
		__atomic_store_n(&journal->seq, txn.seq, __ATOMIC_RELEASE);
		for (int i = 0; i < count; i++)
			if (batch[i]->result >= 0 && batch[i]->apply)
				batch[i]->apply(batch[i]);
	}
	pthread_rwlock_unlock(&journal->coherence);
	if (err)
		access_forget(journal);
	if (++journal->commits % COMMITS_PER_LOG_CHECK == 0 &&
		sql_log_bytes(journal->writer) > journal->log_max_bytes / 8)
		__atomic_store_n(&journal->wants_checkpoint, true, __ATOMIC_RELEASE);
	if (err == -EIO || err == -EUCLEAN) {
		journal_stop(journal, err, "a commit failed");
		return journal->broken;
	}
	return err;
}

static void run_batch(struct journal *journal, struct change **batch, int count)
{
	int err = commit_batch(journal, batch, count);

	while (err && count == 1 && batch[0]->vital &&
		reserve_give(volume_reserve(journal->volume), err))
		err = commit_batch(journal, batch, count);
	if (!err)
		return;
	if (count == 1) {
		batch[0]->result = err;
		return;
	}
	/* One of them may have filled the disk alone: the others get a transaction each. */
	for (int i = 0; i < count; i++)
		run_batch(journal, &batch[i], 1);
}

static void commit_lead(struct journal *journal)
{
	struct change *batch[BATCH_MAX];
	int count = 0;

	lock_take(&journal->queue_lock);
	while (journal->first && count < BATCH_MAX) {
		batch[count++] = journal->first;
		journal->first = journal->first->next;
	}
	if (!journal->first)
		journal->last = NULL;
	lock_drop(&journal->queue_lock);

	pthread_mutex_lock(&journal->commit_mutex);
	run_batch(journal, batch, count);
	pthread_mutex_unlock(&journal->commit_mutex);

	lock_take(&journal->queue_lock);
	for (int i = 0; i < count; i++) {
		batch[i]->done = true;
		pthread_cond_signal(&batch[i]->cond);
	}
	lock_drop(&journal->queue_lock);
	/* A load that the maintenance cannot keep up with waits here; and so does one that has no room for a log. */
	if (sql_log_bytes(journal->writer) > (reserve_is_low(volume_reserve(journal->volume))
							     ? LOG_LOW_BYTES
							     : journal->log_max_bytes))
		journal_checkpoint(journal);
	lock_take(&journal->queue_lock);
	if (journal->first) {
		journal->first->lead = true;
		pthread_cond_signal(&journal->first->cond);
	} else {
		journal->leading = false;
	}
	lock_drop(&journal->queue_lock);
}

int journal_commit(struct journal *journal, struct change *change)
{
	bool lead;

	if (journal->readonly)
		return -EROFS;
	if (!change->vital && reserve_room(volume_reserve(journal->volume)) != 0)
		return -ENOSPC;
	change->next = NULL;
	change->done = change->lead = false;
	pthread_cond_init(&change->cond, NULL);

	lock_take(&journal->queue_lock);
	if (journal->last)
		journal->last->next = change;
	else
		journal->first = change;
	journal->last = change;
	lead = !journal->leading;
	journal->leading = true;
	while (!lead && !change->done && !change->lead)
		lock_wait(&journal->queue_lock, &change->cond);
	lead = lead || change->lead;
	lock_drop(&journal->queue_lock);

	if (lead && !change->done)
		commit_lead(journal);
	pthread_cond_destroy(&change->cond);
	return change->result;
}
