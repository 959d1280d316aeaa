#include "meta/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "journal/garbage.h"
#include "journal/log.h"
#include "meta/version.h"

struct begin {
	struct change change;
	int64_t epoch;
};

static int begin_exec(struct txn *txn, struct change *change)
{
	return sql_run(txn->sql, NULL, "UPDATE tree SET clean = 0, epoch = $1", "i",
		container_of(change, struct begin, change)->epoch);
}

/* The oldest closing save; publishing it takes its row away. 1 when there is one. */
static int next_closing(struct tree *tree, struct publish *publish)
{
	struct journal *journal = tree->journal;
	struct sql *sql = journal_read_begin(journal);
	struct sql_stmt *stmt;
	size_t hash_bytes;
	const void *hash;
	int err = sql_query(sql,
		"SELECT object, node, entry, ino, size, hash, kind, basis_kind, basis, "
		"basis_number, mtime, uid, gid,"
		" user, pid, program FROM closing ORDER BY time, object LIMIT 1",
		&stmt, "");

	if (!err)
		err = sql_step(stmt);
	if (err == SQL_ROW) {
		*publish = (struct publish){
			.tree = tree, .changes_content = true, .keep_if_unlinked = true};
		publish->content.object = sql_int64(stmt, 0);
		publish->node = sql_int64(stmt, 1);
		publish->entry = sql_int64(stmt, 2);
		publish->ino = sql_int64(stmt, 3);
		publish->content.size_bytes = sql_int64(stmt, 4);
		hash = sql_blob(stmt, 5, &hash_bytes);
		if (hash_bytes == sizeof(publish->content.hash.bytes))
			memcpy(publish->content.hash.bytes, hash, hash_bytes);
		publish->kind = "save";
		publish->basis.kind = sql_int64(stmt, 8) ? "own" : "none";
		publish->basis.content = sql_int64(stmt, 8);
		publish->basis.number = sql_int64(stmt, 9);
		publish->mtime_ns = sql_int64(stmt, 10);
		publish->actor.uid = (uid_t)sql_int64(stmt, 11);
		publish->actor.gid = (gid_t)sql_int64(stmt, 12);
		snprintf(
			publish->actor.user, sizeof(publish->actor.user), "%s", sql_text(stmt, 13));
		publish->actor.pid = (pid_t)sql_int64(stmt, 14);
		snprintf(publish->actor.program, sizeof(publish->actor.program), "%s",
			sql_text(stmt, 15));
		sql_reset(stmt);
	}
	journal_read_end(journal);
	return err;
}

/* A closing save is published when its bytes are the ones that were recorded; else it stays staged, and is reported. */
static int finish_closing(struct tree *tree, struct publish *publish)
{
	struct object_store *objects = &tree->journal->objects;
	int64_t object = publish->content.object;
	struct object_hash hash;
	autoclose int fd = -1;
	struct stat st = {0};
	int err = object_open_staged(objects, object, O_RDONLY, &fd);

	if (!err && fstat(fd, &st) != 0)
		err = -errno;
	if (!err)
		err = object_hash(fd, publish->content.size_bytes, &hash);
	if (!err && memcmp(&hash, &publish->content.hash, sizeof(hash)) != 0)
		err = -EUCLEAN;
	if (err) {
		log_warning(
			"tree %s: a save by %s (%s, process %d) cannot be finished: stage/%" PRId64
			": %s",
			tree->info.name, publish->actor.user, publish->actor.program,
			publish->actor.pid, object, strerror(-err));
		return version_closing_drop(tree, object);
	}
	publish->content.blocks = st.st_blocks;
	err = publish_commit(publish);
	if (err)
		return err;
	return publish->outcome == PUBLISH_VERSION || publish->outcome == PUBLISH_ASIDE
		       ? object_publish(objects, object)
		       : object_unstage(objects, object);
}

static int next_live(struct tree *tree, struct publish *publish, struct content *ret_head)
{
	struct journal *journal = tree->journal;
	struct sql *sql = journal_read_begin(journal);
	struct node_row row;
	int64_t id = 0;
	int err = sql_int(sql, &id, "SELECT id FROM node WHERE live <> 0 ORDER BY id LIMIT 1", "");

	if (err == SQL_ROW)
		err = record_node_get(sql, id, &row);
	if (err == SQL_ROW) {
		*publish = (struct publish){.tree = tree, .node = id, .kind = "append"};
		publish->content.object = row.live;
		*ret_head = row.content;
		publish->basis = (struct basis){"own", row.content.id, 0};
		err = sql_int(sql, &publish->entry, "SELECT id FROM entry WHERE node = $1 LIMIT 1",
			"i", id);
	}
	journal_read_end(journal);
	return err;
}

static int finish_live(struct tree *tree, struct publish *publish, const struct content *head)
{
	struct object_store *objects = &tree->journal->objects;
	autoclose int fd = -1;
	struct stat st;
	int err = version_open(tree, publish->content.object, &fd);

	if (!err && fstat(fd, &st) != 0)
		err = -errno;
	if (!err)
		err = object_hash(fd, st.st_size, &publish->content.hash);
	if (err == -ENOENT) {
		log_error("tree %s: what was appended to node %" PRId64 " is lost: object %" PRId64
			  " is missing",
			tree->info.name, publish->node, publish->content.object);
		return publish_commit(publish);
	}
	if (err)
		return err;
	publish->content.size_bytes = st.st_size;
	publish->content.blocks = st.st_blocks;
	publish->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	publish->changes_content = true;
	if (head->id && head->size_bytes == st.st_size &&
		memcmp(&head->hash, &publish->content.hash, sizeof(head->hash)) == 0)
		publish->equals = head->id;
	/* Nothing was written: its times may have been set. */
	if (publish->equals && head->object == publish->content.object)
		publish->changes_content = false;
	snprintf(publish->actor.user, sizeof(publish->actor.user), "-");
	snprintf(publish->actor.program, sizeof(publish->actor.program), "recovery");
	err = publish_commit(publish);
	if (!err && publish->outcome == PUBLISH_VERSION)
		err = object_publish(objects, publish->content.object);
	return err == -ENOENT ? 0 : err;
}

/* A staged object is named by a content when the crash came between a commit and the object's way to objects/. */
static int sweep_one(int64_t object, void *arg)
{
	struct tree *tree = arg;
	struct sql *sql = journal_read_begin(tree->journal);
	int64_t one;
	int named =
		sql_int(sql, &one, "SELECT 1 FROM content WHERE object = $1 LIMIT 1", "i", object);

	journal_read_end(tree->journal);
	if (named < 0)
		return named;
	return named == SQL_ROW ? object_publish(&tree->journal->objects, object)
				: object_unstage(&tree->journal->objects, object);
}

int recovery_run(struct tree *tree, struct diag *diag)
{
	struct journal *journal = tree->journal;
	struct begin begin = {{.exec = begin_exec, .vital = true}, journal->epoch};
	bool unclean = !journal->readonly && journal_unclean(journal);
	struct publish publish;
	struct content head;
	int closings = 0, lives = 0;
	int err;

	if (journal->readonly)
		return 0;
	err = journal_commit(journal, &begin.change);
	while (!err && (err = next_closing(tree, &publish)) == SQL_ROW) {
		err = finish_closing(tree, &publish);
		closings++;
	}
	while (!err && (err = next_live(tree, &publish, &head)) == SQL_ROW) {
		err = finish_live(tree, &publish, &head);
		lives++;
	}
	if (!err)
		err = garbage_collect_all(journal);
	if (!err && unclean)
		err = object_visit_staged(&journal->objects, sweep_one, tree);
	if (unclean)
		log_info("tree %s: recovered after an unclean end: %d saves published, %d files "
			 "settled",
			tree->info.name, closings, lives);
	if (err)
		return diag_set(
			diag, err, "%s: recovery failed: %s", journal->path, strerror(-err));
	return 0;
}
