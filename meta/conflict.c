#include "meta/conflict.h"

#include <errno.h>
#include <string.h>

#include "journal/access.h"
#include "journal/garbage.h"

struct adding {
	struct change change;
	struct conflict *conflict;
	bool first, existing; /* a row has the content already */
	bool opened;
};

/* What an earlier refusal of the same save kept is replaced by what it is now. */
static int replace_content(struct txn *txn, struct conflict *conflict, bool *ret_opened)
{
	struct conflict_row before = {.id = 0};
	int err = conflict_row(txn->sql, conflict->id, &before);

	if (err < 0)
		return err;
	*ret_opened = strcmp(before.state, "open") != 0;
	err = sql_run(txn->sql, NULL,
		"UPDATE conflict SET content = $2, head = nullif($3, 0), reason = $4, time = $5,"
		" state = 'open' WHERE id = $1",
		"iiiti", conflict->id, conflict->content.id, conflict->head, conflict->reason,
		txn->now_ns);
	if (err || !before.content.id)
		return err;
	/* A sibling may hold it. */
	err = sql_run(txn->sql, NULL,
		"DELETE FROM content WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM version WHERE"
		" content = $1) AND NOT EXISTS (SELECT 1 FROM node WHERE content = $1)",
		"i", before.content.id);
	return err ?: garbage_add(txn, before.content.object);
}

static int insert(struct txn *txn, struct conflict *conflict)
{
	struct node_row node = {
		.mode = 0600, .uid = conflict->actor->uid, .gid = conflict->actor->gid};
	int64_t access = ACCESS_UNKNOWN;
	int err = record_node_get(txn->sql, conflict->node, &node);

	if (err >= 0)
		err = access_of_entry(txn, conflict->entry, &access);
	if (err < 0)
		return err;
	conflict->id = txn->seq;
	return sql_run(txn->sql, NULL,
		"INSERT INTO conflict (id, entry, node, content, basis, head, reason, time, mode, uid,"
		" gid, access, user, pid, identity, program, host, sibling, state) VALUES ($1, $2, $3,"
		" $4, nullif($5, 0), nullif($6, 0), $7, $8, $9, $10, $11, nullif($12, -1), $13, $14, $15,"
		" $16, $17, NULL, 'open')",
		"iiiiiitiiiiitiitt", conflict->id, conflict->entry, conflict->node,
		conflict->content.id, conflict->basis, conflict->head, conflict->reason,
		txn->now_ns, (int64_t)(node.mode & 07777), (int64_t)node.uid, (int64_t)node.gid,
		access, conflict->actor->user, (int64_t)conflict->actor->pid,
		(int64_t)conflict->process->identity, conflict->actor->program, txn->journal->host);
}

static int add_exec(struct txn *txn, struct change *change)
{
	struct adding *adding = container_of(change, struct adding, change);
	struct conflict *conflict = adding->conflict;
	int err = txn_operation(
		txn, "save", "refused", conflict->node, conflict->entry, 0, conflict->actor);

	if (!err && !adding->existing) {
		err = record_closing_delete(txn->sql, conflict->content.object);
		err = err ?: txn_names_object(txn, conflict->content.object);
		err = err ?: record_content_insert(txn->sql, &conflict->content, txn->seq);
	}
	if (err)
		return err;
	adding->opened = true;
	return adding->first ? insert(txn, conflict)
			     : replace_content(txn, conflict, &adding->opened);
}

int conflict_load(struct tree *tree)
{
	struct sql *sql = journal_read_begin(tree->journal);
	int64_t count = 0;
	int err = sql_int(sql, &count, "SELECT count(*) FROM conflict WHERE state = 'open'", "");

	journal_read_end(tree->journal);
	tree->conflicts = (unsigned)count;
	return err < 0 ? err : 0;
}

int conflict_add(struct tree *tree, struct conflict *conflict)
{
	struct adding adding = {
		.change = {.exec = add_exec, .vital = true},
		.conflict = conflict,
		.first = conflict->id == 0,
		.existing = conflict->content.id != 0,
	};
	struct conflict before = *conflict;
	int err = journal_commit(tree->journal, &adding.change);

	if (err)
		*conflict = before;
	else if (adding.opened)
		__atomic_add_fetch(&tree->conflicts, 1, __ATOMIC_RELAXED);
	return err;
}

struct ending {
	struct change change;
	int64_t id, sibling;
	const char *state;
	const struct actor *actor; /* NULL: nobody did it */
};

int conflict_end_exec(struct txn *txn, int64_t id, const char *state)
{
	int64_t changes = 0;
	int err = sql_run(txn->sql, &changes,
		"UPDATE conflict SET state = $2 WHERE id = $1 AND state = 'open'", "it", id, state);

	return err ? err : changes ? 0 : -EALREADY;
}

void conflict_ended(struct tree *tree)
{
	__atomic_sub_fetch(&tree->conflicts, 1, __ATOMIC_RELAXED);
}

static int end_exec(struct txn *txn, struct change *change)
{
	struct ending *ending = container_of(change, struct ending, change);
	int64_t entry = 0;
	int err = conflict_end_exec(txn, ending->id, ending->state);

	if (!err && ending->actor)
		err = sql_int(txn->sql, &entry, "SELECT entry FROM conflict WHERE id = $1", "i",
			ending->id);
	if (err < 0 || !entry)
		return err;
	return txn_operation(txn, "drop", NULL, 0, entry, 0, ending->actor);
}

int conflict_end(struct tree *tree, int64_t id, const char *state, const struct actor *actor)
{
	struct ending ending = {.change = {.exec = end_exec, .vital = true},
		.id = id,
		.state = state,
		.actor = actor};
	int err = journal_commit(tree->journal, &ending.change);

	if (!err)
		conflict_ended(tree);
	return err;
}

static int set_sibling_exec(struct txn *txn, struct change *change)
{
	struct ending *ending = container_of(change, struct ending, change);

	return sql_run(txn->sql, NULL, "UPDATE conflict SET sibling = nullif($2, 0) WHERE id = $1",
		"ii", ending->id, ending->sibling);
}

int conflict_set_sibling(struct tree *tree, int64_t id, int64_t node)
{
	struct ending ending = {.change = {.exec = set_sibling_exec}, .id = id, .sibling = node};

	return journal_commit(tree->journal, &ending.change);
}

static void read_row(struct sql_stmt *stmt, struct conflict_row *row)
{
	size_t bytes;
	const void *hash = sql_blob(stmt, 20, &bytes);

	*row = (struct conflict_row){
		.id = sql_int64(stmt, 0),
		.entry = sql_int64(stmt, 1),
		.node = sql_int64(stmt, 2),
		.basis = sql_int64(stmt, 3),
		.head = sql_int64(stmt, 4),
		.time_ns = sql_int64(stmt, 5),
		.mode = (mode_t)sql_int64(stmt, 6),
		.uid = (uid_t)sql_int64(stmt, 7),
		.gid = (gid_t)sql_int64(stmt, 8),
		.access = sql_int64(stmt, 9),
		.sibling = sql_int64(stmt, 13),
		.saver = (uid_t)sql_int64(stmt, 15),
		.content = {.id = sql_int64(stmt, 16),
			.object = sql_int64(stmt, 17),
			.size_bytes = sql_int64(stmt, 18),
			.blocks = sql_int64(stmt, 19)},
		.parent = sql_int64(stmt, 21),
		.pid = (pid_t)sql_int64(stmt, 22),
	};
	snprintf(row->user, sizeof(row->user), "%s", sql_text(stmt, 10));
	snprintf(row->program, sizeof(row->program), "%s", sql_text(stmt, 11));
	snprintf(row->host, sizeof(row->host), "%s", sql_text(stmt, 12));
	snprintf(row->state, sizeof(row->state), "%s", sql_text(stmt, 14));
	if (bytes == sizeof(row->content.hash.bytes))
		memcpy(row->content.hash.bytes, hash, bytes);
}

int conflict_row(struct sql *sql, int64_t id, struct conflict_row *ret_row)
{
	struct sql_stmt *stmt;
	/* Who saved is who did the operation that it is numbered by. */
	int err = sql_query(sql,
		"SELECT c.id, c.entry, c.node, coalesce(c.basis, 0), coalesce(c.head, 0), c.time, c.mode,"
		" c.uid, c.gid, coalesce(c.access, -1), c.user, c.program, c.host,"
		" coalesce(c.sibling, 0), c.state, coalesce(o.uid, -1), t.id, t.object, t.size, t.blocks,"
		" t.hash, coalesce(e.parent, 0), c.pid FROM conflict c LEFT JOIN content t ON t.id = c.content"
		" LEFT JOIN operation o ON o.seq = c.id LEFT JOIN entry e ON e.id = c.entry"
		" WHERE c.id = $1",
		&stmt, "i", id);

	if (!err)
		err = sql_step(stmt);
	if (err == SQL_ROW) {
		read_row(stmt, ret_row);
		sql_reset(stmt);
	}
	return err;
}

int conflict_get(struct tree *tree, int64_t id, struct conflict_row *ret_row)
{
	struct sql *sql = journal_read_begin(tree->journal);
	int err = conflict_row(sql, id, ret_row);

	journal_read_end(tree->journal);
	return err;
}

/* The open ones of the process, as far as ids holds; how many there are. */
static int find_open(
	struct tree *tree, int64_t entry, const struct process *process, int64_t *ids, int max)
{
	struct sql *sql = journal_read_begin(tree->journal);
	struct sql_stmt *stmt;
	int count = 0, err;

	err = sql_query(sql,
		"SELECT id FROM conflict WHERE entry = $1 AND identity = $2 AND pid = $3"
		" AND state = 'open'",
		&stmt, "iii", entry, (int64_t)process->identity, (int64_t)process->pid);
	while (!err && (err = sql_step(stmt)) == SQL_ROW && count < max) {
		ids[count++] = sql_int64(stmt, 0);
		err = 0;
	}
	if (err == SQL_ROW)
		sql_reset(stmt);
	journal_read_end(tree->journal);
	return err < 0 ? err : count;
}

#define CLEARED_MAX 32

int conflict_clear(struct tree *tree, int64_t entry, const struct process *process,
	void (*visit)(void *arg, int64_t id), void *arg)
{
	int64_t ids[CLEARED_MAX];
	int count, err = 0;

	if (!process->known || !__atomic_load_n(&tree->conflicts, __ATOMIC_RELAXED))
		return 0;
	count = find_open(tree, entry, process, ids, CLEARED_MAX);
	for (int i = 0; i < count && !err; i++) {
		err = conflict_end(tree, ids[i], "superseded", NULL);
		if (!err)
			visit(arg, ids[i]);
		else if (err == -EALREADY)
			err = 0;
	}
	return count < 0 ? count : err;
}
