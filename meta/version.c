#include "meta/version.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "journal/access.h"
#include "journal/garbage.h"
#include "journal/log.h"

/* A publish that does not follow the last write in this time is a change of its own. */
#define CHANGED_NS 1000000000

/* The entries of a node and the last version of each, collected before any of them is changed. */
struct links {
	struct entry_row *rows;
	size_t count;
};

static int read_links(struct sql *sql, int64_t node, struct links *links)
{
	struct sql_stmt *stmt;
	int err = sql_query(
		sql, "SELECT id, versions, parent FROM entry WHERE node = $1", &stmt, "i", node);

	*links = (struct links){NULL, 0};
	while (!err && (err = sql_step(stmt)) == SQL_ROW) {
		struct entry_row *rows = realloc(links->rows, (links->count + 1) * sizeof(*rows));

		if (!rows) {
			sql_reset(stmt);
			return -ENOMEM;
		}
		links->rows = rows;
		rows[links->count++] = (struct entry_row){.id = sql_int64(stmt, 0),
			.node = node,
			.versions = sql_int64(stmt, 1),
			.parent = sql_int64(stmt, 2)};
		err = 0;
	}
	return err;
}

static const char *verdict(const struct publish *publish, int64_t versions, int64_t head)
{
	if (versions == 0)
		return "next";
	if (!publish->basis.content)
		return "blind";
	return publish->basis.content == head ? "next" : "over";
}

static int add_version(struct txn *txn, struct publish *publish, const struct entry_row *link,
	int64_t seq, const char *what)
{
	struct version_row row = {
		.lineage = link->id,
		.number = link->versions + 1,
		.content = publish->content.id,
		.node = publish->node,
		.kind = publish->kind,
		.verdict = what,
		.basis = publish->basis,
		.mode = publish->row.mode,
		.uid = publish->row.uid,
		.gid = publish->row.gid,
		.mtime_ns = publish->row.mtime_ns,
		.origin = publish->origin,
		.origin_number = publish->origin_number,
	};
	int err = access_of(txn, link->parent, &row.access);

	if (!err)
		err = record_version_insert(txn->sql, &row, seq);
	if (!err)
		err = record_entry_set_versions(txn->sql, link->id, row.number);
	if (link->id == publish->entry)
		publish->number = row.number;
	return err;
}

static int add_versions(struct txn *txn, struct publish *publish, int64_t head)
{
	struct links links;
	int err = read_links(txn->sql, publish->node, &links);

	for (size_t i = 0; i < links.count && !err; i++)
		err = add_version(txn, publish, &links.rows[i], txn->seq,
			verdict(publish, links.rows[i].versions, head));
	free(links.rows);
	return err;
}

/* The operation comes first: the content and the versions carry its number. */
static int add_content(struct txn *txn, struct publish *publish, const char *outcome)
{
	int err = txn_operation(
		txn, publish->kind, outcome, publish->node, publish->entry, 0, &publish->actor);

	if (!err)
		err = txn_names_object(txn, publish->content.object);
	if (!err)
		err = record_content_insert(txn->sql, &publish->content, txn->seq);
	return err;
}

/* What the row says that the file lives on, after this. Another live object than the publish's own stays: its writers are not done. */
static int64_t live_after(const struct publish *publish)
{
	return publish->live || publish->row.live == publish->content.object ? publish->live
									     : publish->row.live;
}

/* Programs ask for it as soon as they have closed the file, before it is published. But a content that comes to light later than that
 * must not look older than it is to who looks for changes. */
static int64_t ctime_after(const struct publish *publish, int64_t now_ns)
{
	int64_t changed_ns =
		now_ns - publish->changed_ns < CHANGED_NS ? publish->changed_ns : now_ns;

	return changed_ns > publish->row.ctime_ns ? changed_ns : publish->row.ctime_ns;
}

/* setattr_should_drop_sgid() in the kernel; of the writer's groups only the first is known. */
static mode_t setid_bits(const struct publish *publish)
{
	const struct node_row *row = &publish->row;

	return S_ISUID | (row->mode & S_IXGRP || publish->actor.gid != row->gid ? S_ISGID : 0);
}

static int exec_version(struct txn *txn, struct publish *publish)
{
	int64_t head = publish->row.content.id;
	int err = add_content(txn, publish, "version");

	if (err)
		return err;
	publish->outcome = PUBLISH_VERSION;
	publish->row.content = publish->content;
	if (publish->ino)
		publish->row.ino = publish->ino;
	publish->row.ctime_ns = ctime_after(publish, txn->now_ns);
	publish->row.mtime_ns = publish->mtime_ns ? publish->mtime_ns : txn->now_ns;
	publish->row.live = live_after(publish);
	if (publish->clear_setid)
		publish->row.mode &= ~setid_bits(publish);
	err = record_node_update(txn->sql, &publish->row);
	return err ? err : add_versions(txn, publish, head);
}

static int exec_unchanged(struct txn *txn, struct publish *publish)
{
	publish->outcome = PUBLISH_UNCHANGED;
	publish->row.ctime_ns = ctime_after(publish, txn->now_ns);
	publish->row.mtime_ns = publish->mtime_ns ? publish->mtime_ns : txn->now_ns;
	publish->row.live = live_after(publish);
	return txn_operation(txn, publish->kind, "unchanged", publish->node, publish->entry, 0,
		       &publish->actor)
		       ?: record_node_update(txn->sql, &publish->row);
}

/* What does not become the head stays in the history of the name. row holds the rights that it is to have. */
static int exec_aside(struct txn *txn, struct publish *publish)
{
	struct entry_row link;
	struct name name;
	int err = record_entry_by_id(txn->sql, publish->entry, &link, &name);

	publish->row = (struct node_row){
		.mode = publish->row.mode, .uid = publish->row.uid, .gid = publish->row.gid};
	publish->outcome = PUBLISH_DROPPED;
	if (err < 0)
		return err;
	if (err != SQL_ROW)
		return txn_operation(txn, publish->kind, "dropped", publish->node, publish->entry,
			0, &publish->actor);
	publish->outcome = PUBLISH_ASIDE;
	publish->row.mtime_ns = publish->mtime_ns ? publish->mtime_ns : txn->now_ns;
	err = add_content(txn, publish, "version");
	return err ? err : add_version(txn, publish, &link, txn->seq, "aside");
}

/* The file has no name any more. What others removed while it was being saved is kept. */
static int exec_unlinked(struct txn *txn, struct publish *publish)
{
	if (publish->keep_if_unlinked)
		return exec_aside(txn, publish);
	publish->row = (struct node_row){.id = 0};
	publish->outcome = PUBLISH_DROPPED;
	return txn_operation(
		txn, publish->kind, "dropped", publish->node, publish->entry, 0, &publish->actor);
}

static int exec_named(struct txn *txn, struct publish *publish)
{
	if (!publish->changes_content) {
		publish->outcome = PUBLISH_UNCHANGED;
		publish->row.live = live_after(publish);
		return record_node_set_live(txn->sql, publish->node, publish->row.live);
	}
	if (publish->row.content.id && publish->equals == publish->row.content.id)
		return exec_unchanged(txn, publish);
	return exec_version(txn, publish);
}

int publish_exec(struct txn *txn, struct change *change)
{
	struct publish *publish = container_of(change, struct publish, change);
	struct node_row before = publish->row;
	int64_t live;
	int err;

	err = record_closing_delete(txn->sql, publish->content.object);
	if (err)
		return err;
	err = record_node_get(txn->sql, publish->node, &publish->row);
	if (err < 0)
		return err;
	if (err == 0) {
		publish->row = before;
		return exec_unlinked(txn, publish);
	}
	if (publish->aside)
		return exec_aside(txn, publish);
	live = publish->row.live;
	if (publish->live && live && live != publish->content.object)
		return -EALREADY;
	err = exec_named(txn, publish);
	if (err || !live || live == publish->row.live ||
		(publish->staged && live == publish->content.object))
		return err;
	return garbage_add(txn, live);
}

void publish_apply(struct change *change)
{
	struct publish *publish = container_of(change, struct publish, change);
	struct file *file = tree_file_known(publish->tree, publish->node);

	if (!file)
		return;
	lock_take(&file->lock);
	publish->before = file->attr;
	if (publish->row.id) {
		publish->row.xattrs = file->attr.xattrs;
		file->attr = publish->row;
	}
	if (publish->applied)
		publish->applied(publish);
	lock_drop(&file->lock);
	file_unref(file);
}

int publish_commit(struct publish *publish)
{
	publish->change.exec = publish_exec;
	publish->change.apply = publish_apply;
	publish->change.vital = true;
	return journal_commit(publish->tree->journal, &publish->change);
}

struct closing {
	struct change change;
	const struct closing_row *row;
	const struct actor *actor;
	int64_t object;
};

static int closing_exec(struct txn *txn, struct change *change)
{
	struct closing *closing = container_of(change, struct closing, change);

	return txn_names_object(txn, closing->row->object)
		       ?: record_closing_put(txn->sql, closing->row, txn->now_ns, closing->actor,
				  txn->journal->host);
}

int version_closing(struct tree *tree, const struct closing_row *row, const struct actor *actor)
{
	struct closing closing = {
		.change = {.exec = closing_exec, .vital = true}, .row = row, .actor = actor};

	return journal_commit(tree->journal, &closing.change);
}

static int closing_drop_exec(struct txn *txn, struct change *change)
{
	return record_closing_delete(
		txn->sql, container_of(change, struct closing, change)->object);
}

int version_closing_drop(struct tree *tree, int64_t object)
{
	struct closing closing = {
		.change = {.exec = closing_drop_exec, .vital = true}, .object = object};

	return journal_commit(tree->journal, &closing.change);
}

struct go_live {
	struct change change;
	struct file *file;
	int64_t object;
	bool force;
};

static int go_live_exec(struct txn *txn, struct change *change)
{
	struct go_live *go = container_of(change, struct go_live, change);
	struct node_row row;
	int err = record_node_get(txn->sql, go->file->id, &row);

	if (err != SQL_ROW) /* unlinked: what is written goes with the last descriptor */
		return err;
	if (row.live && row.live != go->object && !go->force)
		return -EALREADY;
	err = record_node_set_live(txn->sql, row.id, go->object)
		      ?: garbage_take_back(txn, go->object);
	if (err || !row.live || row.live == go->object)
		return err;
	return garbage_add(txn, row.live);
}

static void go_live_apply(struct change *change)
{
	struct go_live *go = container_of(change, struct go_live, change);

	lock_take(&go->file->lock);
	go->file->attr.live = go->object;
	lock_drop(&go->file->lock);
}

int version_set_live(struct file *file, int64_t object, bool force)
{
	struct go_live go = {
		{.exec = go_live_exec, .apply = go_live_apply, .vital = true}, file, object, force};

	return journal_commit(file->tree->journal, &go.change);
}

struct preserve {
	struct change change;
	struct file *file;
	int64_t from, to;
	bool moved; /* there was something to preserve */
};

static int preserve_exec(struct txn *txn, struct change *change)
{
	struct preserve *preserve = container_of(change, struct preserve, change);

	int err;

	if (!preserve->to) {
		err = record_content_prune(txn->sql, preserve->from);
	} else {
		err = record_content_move(txn->sql, preserve->from, preserve->to);
		preserve->moved = err > 0;
		err = err < 0 ? err : txn_names_object(txn, preserve->to);
	}
	/* What is written in place is the live file's alone now; nobody's when that was unlinked. */
	return err ?: garbage_add(txn, preserve->from);
}

static void preserve_apply(struct change *change)
{
	struct preserve *preserve = container_of(change, struct preserve, change);
	struct content *content = &preserve->file->attr.content;

	lock_take(&preserve->file->lock);
	if (content->object == preserve->from && preserve->to)
		content->object = preserve->to;
	else if (content->object == preserve->from)
		*content = (struct content){.id = 0};
	lock_drop(&preserve->file->lock);
}

static int preserve_copy(
	struct preserve *preserve, int object_fd, int64_t length_bytes, bool reflink)
{
	struct journal *journal = preserve->file->tree->journal;
	autoclose int copy_fd = -1;
	int err = volume_next_number(journal->volume, &preserve->to);

	if (!err)
		err = object_stage(&journal->objects, preserve->to, &copy_fd);
	if (err)
		return err;
	err = reflink ? object_reflink(object_fd, copy_fd, length_bytes)
		      : object_copy(object_fd, copy_fd, length_bytes);
	if (!err)
		err = journal_commit(journal, &preserve->change);
	if (err || !preserve->moved) {
		object_unstage(&journal->objects, preserve->to);
		return err;
	}
	err = object_publish(&journal->objects, preserve->to);
	if (err) /* it is found in stage/, too */
		log_error("%s: object %" PRId64 " cannot be moved out of stage/: %s", journal->path,
			preserve->to, strerror(-err));
	return 0;
}

int version_preserve(struct file *file, int64_t object, int object_fd, int64_t length_bytes,
	int64_t copy_limit_bytes, int64_t *ret_object)
{
	struct preserve preserve = {
		{.exec = preserve_exec, .apply = preserve_apply}, file, object, 0, false};
	bool large = length_bytes > copy_limit_bytes;
	int err = preserve_copy(&preserve, object_fd, length_bytes, large);

	*ret_object = preserve.moved ? preserve.to : 0;
	if (!large || err != -EOPNOTSUPP)
		return err;
	log_warning("tree %s: %" PRId64
		    " bytes are overwritten in place, and too many to be kept (copy_limit): "
		    "the version before is pruned",
		file->tree->info.name, length_bytes);
	preserve.to = *ret_object = 0;
	return journal_commit(file->tree->journal, &preserve.change);
}

int version_open(struct tree *tree, int64_t object, int *ret_fd)
{
	struct object_store *objects = &tree->journal->objects;
	int err = object_open(objects, object, O_RDONLY, ret_fd);

	/* Between the commit of a version and its object's way from stage/ to objects/. */
	if (err == -ENOENT)
		err = object_open_staged(objects, object, O_RDONLY, ret_fd);
	if (err == -ENOENT)
		err = object_open(objects, object, O_RDONLY, ret_fd);
	if (err)
		log_error("%s: object %" PRId64 " cannot be opened: %s", tree->journal->path,
			object, strerror(-err));
	return err;
}
