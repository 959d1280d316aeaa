#include "journal/journal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "journal/access.h"
#include "journal/garbage.h"
#include "journal/log.h"
#include "journal/reserve.h"
#include "journal/schema.h"

/* A journal up to this size is checked whole before it is mounted; so is a larger one after an unclean end. Otherwise that is
 * checked while it is mounted already. */
#define CHECK_LIMIT_BYTES (32 << 20)
#define LOG_MAX_BYTES	  (64 << 20)
#define LOG_MAX_LEAST	  (1 << 20)

static int journal_check(struct journal *journal, struct diag *diag)
{
	struct diag found = {""};
	int64_t clean = 0;
	struct stat st;
	int err;

	err = sql_int(journal->writer, &clean, "SELECT clean FROM tree", "");
	if (err < 0)
		return diag_set(diag, err, "%s: the journal cannot be read", journal->path);
	if (clean && stat(journal->path, &st) == 0 && st.st_size > CHECK_LIMIT_BYTES) {
		journal->unchecked = true;
		return 0;
	}
	err = sql_check(journal->writer, &found);
	if (err)
		return diag_set(diag, err,
			"%s: the journal is damaged (%s); nothing was changed, restore it from a "
			"backup",
			journal->path, found.text);
	return 0;
}

static int journal_load(struct journal *journal)
{
	int64_t value;
	int err = sql_int(
		journal->writer, &journal->seq, "SELECT coalesce(max(seq), 0) FROM operation", "");

	if (err < 0)
		return err;
	err = sql_int(journal->writer, &journal->durable_seq, "SELECT durable_seq FROM tree", "");
	if (err < 0)
		return err;
	journal->durable_recorded = journal->durable_seq;
	journal->has_garbage = true; /* nobody has looked yet */
	journal->epoch = volume_epoch(journal->volume);
	err = sql_int(journal->writer, &value, "SELECT epoch FROM tree", "");
	return err < 0 ? err : 0;
}

/* Only a tree whose making was interrupted has neither a journal nor objects. */
static bool has_objects(struct journal *journal)
{
	int fd = fcntl(journal->objects.objects_fd, F_DUPFD_CLOEXEC, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	bool any = false;

	if (!dir)
		return true;
	rewinddir(dir);
	while (!any && (entry = readdir(dir)))
		any = entry->d_name[0] != '.';
	closedir(dir);
	return any;
}

static int journal_open_database(struct journal *journal, bool create, struct diag *diag)
{
	unsigned flags = journal->readonly ? SQL_READONLY : create ? SQL_CREATE : 0;
	struct stat st;
	bool fresh = stat(journal->path, &st) != 0 || st.st_size == 0;
	int err = fresh && (!create || has_objects(journal)) ? -EUCLEAN : 0;

	if (err)
		return diag_set(diag, err,
			"%s: the journal is missing or damaged (empty), but its tree is not; nothing was changed, "
			"restore it from a backup",
			journal->path);
	err = sql_open(journal->path, flags, &journal->writer, diag);
	if (err)
		return err == -EUCLEAN
			       ? diag_set(diag, err,
					 "%s: the journal is damaged (not a database); nothing was "
					 "changed, restore it from a backup",
					 journal->path)
			       : err;
	/* A crash while it was made may have left it without a table. */
	if (!fresh && create && !journal->readonly && sql_has_table(journal->writer, "tree") == 0 &&
		!has_objects(journal))
		fresh = true;
	if (fresh) {
		err = schema_create(journal->writer, journal->tree.id);
		if (err)
			return diag_set(diag, err, "%s: making the journal failed: %s",
				journal->path, strerror(-err));
	}
	err = schema_open(journal->writer, journal->readonly, journal->path, diag);
	if (!err)
		err = journal_check(journal, diag);
	if (err)
		return err;
	err = journal_load(journal);
	if (err)
		return diag_set(diag, err, "%s: the journal cannot be read", journal->path);
	err = sql_open(journal->path, journal->readonly ? SQL_READONLY : 0, &journal->reader, diag);
	if (!err && !journal->readonly)
		err = sql_open(journal->path, 0, &journal->keeper, diag);
	return err;
}

/* A small volume is not to be filled by logs. */
static int64_t log_max_bytes(struct volume *volume)
{
	struct statvfs fs;
	int64_t part = fstatvfs(volume_fd(volume), &fs) == 0
			       ? (int64_t)(fs.f_blocks * fs.f_frsize / 32)
			       : LOG_MAX_BYTES;

	return part > LOG_MAX_BYTES ? LOG_MAX_BYTES : part < LOG_MAX_LEAST ? LOG_MAX_LEAST : part;
}

static void journal_free(struct journal *journal)
{
	sql_close(journal->keeper);
	sql_close(journal->reader);
	sql_close(journal->writer);
	object_store_close(&journal->objects);
	pthread_rwlock_destroy(&journal->coherence);
	pthread_mutex_destroy(&journal->sync_mutex);
	pthread_mutex_destroy(&journal->commit_mutex);
	lock_deinit(&journal->reader_lock);
	lock_deinit(&journal->queue_lock);
	access_forget(journal);
	free(journal->unsynced);
	free(journal->released);
	free(journal->path);
	free(journal);
}

int journal_open(struct volume *volume, const struct volume_tree *tree, bool create,
	struct journal **ret_journal, struct diag *diag)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	pthread_rwlockattr_t attr;
	autoclose int fd = -1;
	int err;

	if (!journal)
		return -ENOMEM;
	journal->volume = volume;
	journal->tree = *tree;
	journal->readonly = volume_readonly(volume);
	journal->log_max_bytes = log_max_bytes(volume);
	journal->objects.objects_fd = journal->objects.stage_fd = -1;
	if (gethostname(journal->host, sizeof(journal->host) - 1) != 0)
		snprintf(journal->host, sizeof(journal->host), "localhost");
	lock_init(&journal->reader_lock, LOCK_READER);
	lock_init(&journal->queue_lock, LOCK_QUEUE);
	pthread_mutex_init(&journal->sync_mutex, NULL);
	pthread_mutex_init(&journal->commit_mutex, NULL);
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&journal->coherence, &attr);
	pthread_rwlockattr_destroy(&attr);
	if (asprintf(&journal->path, "%s/trees/%s/journal.db", volume_path(volume), tree->name) <
		0) {
		journal->path = NULL;
		err = -ENOMEM;
		goto fail;
	}
	err = volume_tree_open(volume, tree, &fd);
	if (err) {
		diag_set(diag, err, "%s/trees/%s: %s", volume_path(volume), tree->name,
			strerror(-err));
		goto fail;
	}
	err = object_store_open(
		&journal->objects, fd, create && !journal->readonly, volume_reserve(volume));
	if (err) {
		diag_set(diag, err, "%s/trees/%s: objects/ and stage/ cannot be opened: %s",
			volume_path(volume), tree->name, strerror(-err));
		goto fail;
	}
	err = journal_open_database(journal, create, diag);
	if (err)
		goto fail;
	*ret_journal = journal;
	return 0;
fail:
	journal_free(journal);
	return err;
}

void journal_removed(struct journal *journal)
{
	pthread_mutex_lock(&journal->sync_mutex);
	pthread_mutex_lock(&journal->commit_mutex);
	__atomic_store_n(&journal->removed, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&journal->commit_mutex);
	pthread_mutex_unlock(&journal->sync_mutex);
}

bool journal_unclean(struct journal *journal)
{
	int64_t clean = 0;

	return sql_int(journal->writer, &clean, "SELECT clean FROM tree", "") == SQL_ROW && !clean;
}

static int checkpoint(struct journal *journal)
{
	int err;

	do
		err = sql_checkpoint(journal->keeper);
	while (err && reserve_give(volume_reserve(journal->volume), err));
	return err;
}

static int mark_clean(struct journal *journal)
{
	int err;

	do
		err = sql_run(journal->writer, NULL, "UPDATE tree SET clean = 1, durable_seq = $1",
			"i", journal->seq);
	while (err && reserve_give(volume_reserve(journal->volume), err));
	return err;
}

struct journal *journal_close(struct journal *journal)
{
	int err = 0;

	if (!journal)
		return NULL;
	if (!journal->readonly && !journal->broken && !journal->removed) {
		err = garbage_collect_all(journal);
		if (!err)
			err = journal_sync(journal);
		if (!err)
			err = mark_clean(journal);
		if (!err)
			err = checkpoint(journal);
		if (err)
			log_error("%s: closing the journal: %s", journal->path, strerror(-err));
	}
	journal_free(journal);
	return NULL;
}

/* After an error, ext4 lets nothing be made any more, and does not call itself read-only. */
static bool is_readonly_now(struct journal *journal)
{
	autoclose int fd =
		openat(volume_fd(journal->volume), ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

	return fd < 0 && errno == EROFS;
}

int journal_writable(struct journal *journal)
{
	int broken = __atomic_load_n(&journal->broken, __ATOMIC_ACQUIRE);

	return journal->readonly ? -EROFS : broken;
}

void journal_stop(struct journal *journal, int err, const char *why)
{
	int none = 0;

	if (err == -EIO && is_readonly_now(journal))
		err = -EROFS;
	if (__atomic_compare_exchange_n(
		    &journal->broken, &none, err, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		log_error("%s: %s (%s): no more changes are taken", journal->path, why,
			strerror(-err));
}

void journal_check_more(struct journal *journal)
{
	struct diag found = {""};
	struct sql *checker = NULL;
	int err;

	if (!journal->unchecked)
		return;
	journal->unchecked = false;
	if (sql_open(journal->path, SQL_READONLY, &checker, &found) != 0)
		return;
	lock_take(&journal->queue_lock);
	journal->checker = journal->closing ? NULL : checker;
	lock_drop(&journal->queue_lock);
	err = journal->checker ? sql_check(checker, &found) : 0;
	lock_take(&journal->queue_lock);
	journal->checker = NULL;
	lock_drop(&journal->queue_lock);
	sql_close(checker);
	if (err == -EUCLEAN)
		journal_stop(journal, err, found.text);
}

void journal_closing(struct journal *journal)
{
	lock_take(&journal->queue_lock);
	journal->closing = true;
	if (journal->checker)
		sql_interrupt(journal->checker);
	lock_drop(&journal->queue_lock);
}

struct sql *journal_read_begin(struct journal *journal)
{
	pthread_rwlock_rdlock(&journal->coherence);
	lock_take(&journal->reader_lock);
	return journal->reader;
}

void journal_read_end(struct journal *journal)
{
	if (sql_broken(journal->reader) == -EUCLEAN)
		journal_stop(journal, -EUCLEAN, "the journal is damaged");
	lock_drop(&journal->reader_lock);
	pthread_rwlock_unlock(&journal->coherence);
}

static int sync_objects(struct journal *journal)
{
	autofree int64_t *objects = NULL;
	size_t count;

	lock_take(&journal->queue_lock);
	objects = journal->unsynced;
	count = journal->unsynced_count;
	journal->unsynced = NULL;
	journal->unsynced_count = journal->unsynced_size = 0;
	lock_drop(&journal->queue_lock);
	return object_sync(&journal->objects, objects, count);
}

/* The caller holds sync_mutex. After a failure what is durable is not known: the journal stops. */
static int sync_held(struct journal *journal)
{
	int64_t seq = __atomic_load_n(&journal->seq, __ATOMIC_ACQUIRE);
	int err;

	if (journal->broken)
		return journal->broken;
	if (__atomic_load_n(&journal->removed, __ATOMIC_ACQUIRE))
		return 0;
	err = sync_objects(journal);
	if (!err)
		err = sql_sync(journal->keeper);
	if (err) {
		journal_stop(journal, -EIO, "syncing failed");
		return err;
	}
	__atomic_store_n(&journal->durable_seq, seq, __ATOMIC_RELEASE);
	return 0;
}

int journal_sync(struct journal *journal)
{
	int err;

	if (journal->readonly)
		return 0;
	pthread_mutex_lock(&journal->sync_mutex);
	err = sync_held(journal);
	pthread_mutex_unlock(&journal->sync_mutex);
	return err;
}

/* Nothing is committed meanwhile; little is left to be synced and moved. */
static int restart_log(struct journal *journal)
{
	int err;

	pthread_mutex_lock(&journal->commit_mutex);
	err = sync_held(journal);
	if (!err)
		err = sql_restart_log(journal->keeper);
	pthread_mutex_unlock(&journal->commit_mutex);
	return err;
}

int journal_checkpoint(struct journal *journal)
{
	int err;

	pthread_mutex_lock(&journal->sync_mutex);
	err = sync_held(journal);
	if (!err)
		err = checkpoint(journal);
	if (!err && sql_log_length_bytes(journal->keeper) > journal->log_max_bytes / 4)
		err = restart_log(journal);
	pthread_mutex_unlock(&journal->sync_mutex);
	return err;
}

int journal_maintain(struct journal *journal)
{
	int err;

	if (journal->readonly || journal->broken ||
		__atomic_load_n(&journal->removed, __ATOMIC_ACQUIRE))
		return 0;
	reserve_room(volume_reserve(journal->volume));
	err = garbage_collect(journal);
	if (__atomic_exchange_n(&journal->wants_checkpoint, false, __ATOMIC_ACQ_REL))
		err = journal_checkpoint(journal) ?: err;
	return err;
}
