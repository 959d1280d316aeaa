#include "fs/put_back.h"

#include <inttypes.h>
#include <string.h>

#include "fs/ops.h"
#include "journal/log.h"
#include "meta/namespace.h"

struct putting {
	struct publish publish;
	struct file *file;
	struct content content;
	struct version_row version;
	int fd; /* of its copy in stage/ */
};

/* The version that had the content, with the rights that its file has now: those may be narrower. 1 when there is one. */
static int find(struct putting *putting, int64_t entry, int64_t content)
{
	struct sql *sql = journal_read_begin(putting->file->tree->journal);
	struct version_row *version = &putting->version;
	struct rights rights;
	int64_t number = 0;
	int err = sql_int(sql, &number,
		"SELECT number FROM version WHERE lineage = $1 AND content = $2 ORDER BY number DESC LIMIT 1",
		"ii", entry, content);

	if (err == SQL_ROW)
		err = record_version_get(sql, entry, number, version);
	if (err == SQL_ROW)
		err = record_content_get(sql, content, &putting->content);
	if (err == SQL_ROW && record_node_rights(sql, version->node, &rights) == 1) {
		version->mode = rights.mode;
		version->uid = rights.uid;
		version->gid = rights.gid;
	}
	journal_read_end(putting->file->tree->journal);
	return err;
}

/* What had the name may still be there by another one, and be written to. */
static int copy(struct putting *putting, struct content *copied)
{
	struct journal *journal = putting->file->tree->journal;
	autoclose int from = -1;
	int err = volume_next_number(journal->volume, &copied->object);

	*copied = (struct content){.object = copied->object,
		.size_bytes = putting->content.size_bytes,
		.blocks = putting->content.blocks,
		.hash = putting->content.hash};
	if (!err)
		err = version_open(putting->file->tree, putting->content.object, &from);
	if (!err)
		err = object_stage(&journal->objects, copied->object, &putting->fd);
	return err ?: object_copy(from, putting->fd, copied->size_bytes);
}

static void on_applied(struct publish *publish)
{
	struct putting *putting = container_of(publish, struct putting, publish);

	if (publish->outcome == PUBLISH_VERSION)
		node_supersede_locked(putting->file, &publish->before);
}

/* First the rights: what it had must not come to light by them. */
static int publish(struct putting *putting, const struct actor *actor)
{
	const struct version_row *then = &putting->version;
	struct attr_change attr = {.mask = ATTR_MODE | ATTR_UID | ATTR_GID,
		.mode = then->mode & 0777,
		.uid = then->uid,
		.gid = then->gid};
	int err = namespace_setattr(putting->file, &attr, actor);

	if (!err)
		err = volume_next_number(
			putting->file->tree->journal->volume, &putting->publish.ino);
	return err ?: publish_commit(&putting->publish);
}

static void put(struct putting *putting, struct save *save)
{
	struct journal *journal = putting->file->tree->journal;
	struct publish *what = &putting->publish;
	int err;

	*what = (struct publish){.tree = putting->file->tree,
		.node = putting->file->id,
		.entry = save->entry,
		.kind = "restore",
		.verdict = "next",
		.basis = {"own", save->displaced, putting->version.number},
		.judged = true,
		.origin = save->entry,
		.origin_number = putting->version.number,
		.actor = save->actor,
		.mtime_ns = putting->version.mtime_ns,
		.changes_content = true,
		.applied = on_applied};
	err = copy(putting, &what->content) ?: publish(putting, &save->actor);
	if (!err && what->outcome == PUBLISH_VERSION)
		err = object_publish(&journal->objects, what->content.object);
	else if (putting->fd >= 0)
		object_unstage(&journal->objects, what->content.object);
	if (err && err != -EAGAIN)
		log_error(
			"tree %s: a name whose save was refused cannot be given back what it had: %s",
			putting->file->tree->info.name, strerror(-err));
}

void put_back(struct save *save)
{
	struct putting putting = {.file = save->file, .fd = -1};

	if (!save->displaced || save->successor || file_attr(save->file).content.id ||
		file_attr(save->file).nlink == 0)
		return;
	if (find(&putting, save->entry, save->displaced) != 1)
		return;
	put(&putting, save);
	if (putting.fd >= 0)
		close(putting.fd);
	ops_tell_others(save->file, NULL);
}
