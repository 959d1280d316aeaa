#include "journal/garbage.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "journal/log.h"

#define BATCH 256

int garbage_add(struct txn *txn, int64_t object)
{
	__atomic_store_n(&txn->journal->has_garbage, true, __ATOMIC_RELEASE);
	return sql_run(txn->sql, NULL,
		"INSERT OR IGNORE INTO garbage SELECT $1"
		" WHERE NOT EXISTS (SELECT 1 FROM content WHERE object = $1)"
		" AND NOT EXISTS (SELECT 1 FROM node WHERE live <> 0 AND live = $1)",
		"i", object);
}

int garbage_take_back(struct txn *txn, int64_t object)
{
	if (!__atomic_load_n(&txn->journal->has_garbage, __ATOMIC_ACQUIRE))
		return 0;
	return sql_run(txn->sql, NULL, "DELETE FROM garbage WHERE object = $1", "i", object);
}

void garbage_release(struct journal *journal, int64_t object)
{
	int64_t *grown;
	size_t size;

	lock_take(&journal->queue_lock);
	if (journal->released_count == journal->released_size) {
		size = journal->released_size ? journal->released_size * 2 : 64;
		grown = realloc(journal->released, size * sizeof(*grown));
		if (!grown) { /* the end of the mount finds its row */
			lock_drop(&journal->queue_lock);
			return;
		}
		journal->released = grown;
		journal->released_size = size;
	}
	journal->released[journal->released_count] = object;
	__atomic_store_n(&journal->released_count, journal->released_count + 1, __ATOMIC_RELEASE);
	lock_drop(&journal->queue_lock);
}

struct forget {
	struct change change;
	const int64_t *objects;
	size_t count;
};

static int forget_exec(struct txn *txn, struct change *change)
{
	struct forget *forget = container_of(change, struct forget, change);
	int err = 0;

	for (size_t i = 0; i < forget->count && !err; i++)
		err = garbage_take_back(txn, forget->objects[i]);
	return err;
}

/* A live object that no version has named yet is still in stage/. */
static int remove_object(struct journal *journal, int64_t object)
{
	int err = object_remove(&journal->objects, object);

	if (err == -ENOENT)
		err = object_unstage(&journal->objects, object);
	return err == -ENOENT ? 0 : err;
}

static int remove_objects(struct journal *journal, const int64_t *objects, size_t count)
{
	struct forget forget = {{.exec = forget_exec, .vital = true}, objects, count};
	int err = journal_sync(journal);

	for (size_t i = 0; i < count && !err; i++) {
		err = remove_object(journal, objects[i]);
		if (err)
			log_error("%s: object %" PRId64 " cannot be removed: %s", journal->path,
				objects[i], strerror(-err));
	}
	return err ? err : journal_commit(journal, &forget.change);
}

/* Leaves those that have a row. */
static int keep_garbage(struct journal *journal, int64_t *objects, size_t *count)
{
	struct sql *sql = journal_read_begin(journal);
	size_t kept = 0;
	int64_t one;
	int err = 0;

	for (size_t i = 0; i < *count && err >= 0; i++) {
		err = sql_int(
			sql, &one, "SELECT 1 FROM garbage WHERE object = $1", "i", objects[i]);
		if (err == SQL_ROW)
			objects[kept++] = objects[i];
	}
	journal_read_end(journal);
	*count = kept;
	return err < 0 ? err : 0;
}

int garbage_collect(struct journal *journal)
{
	autofree int64_t *objects = NULL;
	size_t count;
	int err;

	if (__atomic_load_n(&journal->released_count, __ATOMIC_ACQUIRE) == 0)
		return 0;
	lock_take(&journal->queue_lock);
	objects = journal->released;
	count = journal->released_count;
	journal->released = NULL;
	journal->released_count = journal->released_size = 0;
	lock_drop(&journal->queue_lock);
	err = keep_garbage(journal, objects, &count);
	return err || count == 0 ? err : remove_objects(journal, objects, count);
}

static int read_batch(struct journal *journal, int64_t *objects, size_t *ret_count)
{
	struct sql *sql = journal_read_begin(journal);
	struct sql_stmt *stmt;
	size_t count = 0;
	int err = sql_query(sql, "SELECT object FROM garbage LIMIT $1", &stmt, "i", (int64_t)BATCH);

	while (!err && (err = sql_step(stmt)) == SQL_ROW) {
		objects[count++] = sql_int64(stmt, 0);
		err = 0;
	}
	journal_read_end(journal);
	*ret_count = count;
	return err;
}

int garbage_collect_all(struct journal *journal)
{
	int64_t objects[BATCH];
	size_t count;
	int err;

	if (!__atomic_load_n(&journal->has_garbage, __ATOMIC_ACQUIRE))
		return 0;
	while ((err = read_batch(journal, objects, &count)) == 0 && count > 0) {
		err = remove_objects(journal, objects, count);
		if (err)
			return err;
	}
	if (!err)
		__atomic_store_n(&journal->has_garbage, false, __ATOMIC_RELEASE);
	return err;
}
