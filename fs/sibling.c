#include "fs/sibling.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/notify.h"
#include "fs/ops.h"
#include "journal/log.h"
#include "meta/conflict.h"
#include "meta/namespace.h"
#include "meta/viewer.h"

#define MARK " (conflict, "
/* What is longer is no extension. */
#define EXTENSION_MAX 32
/* Of the same file, by the same user, in the same second. */
#define TRIES_MAX 1000

struct sibling {
	struct tree *tree;
	const struct process *saver;
	const struct actor *actor;
	struct conflict_row row;
	struct file *dir;   /* with a reference */
	struct name beside; /* the file's name there */
	struct file *file;  /* the sibling, with a reference */
	int64_t entry;
	struct name name;
};

static void sibling_deinit(struct sibling *sibling)
{
	file_unref(sibling->dir);
	file_unref(sibling->file);
}

static bool in_group(void *arg, gid_t gid)
{
	struct sibling *sibling = arg;

	return sibling->actor->gid == gid || process_in_group(sibling->saver, gid);
}

static bool allows(void *arg, const struct rights *rights, int what)
{
	struct sibling *sibling = arg;

	return rights_allow_user(rights, sibling->actor->uid, in_group, sibling, what);
}

/* Whether the saver could make a file there. */
static bool may_create(struct sibling *sibling)
{
	struct node_row dir = file_attr(sibling->dir);
	const struct rights rights = {dir.mode, dir.uid, dir.gid};
	struct viewer viewer;
	struct sql *sql;
	int may;

	if (!allows(sibling, &rights, W_OK | X_OK))
		return false;
	viewer_init(&viewer, allows, sibling, sibling->actor->uid == 0);
	sql = journal_read_begin(sibling->tree->journal);
	may = viewer_now(&viewer, sql, sibling->dir->entry, X_OK);
	journal_read_end(sibling->tree->journal);
	viewer_deinit(&viewer);
	return may == 1;
}

/* As much of the name as there is room for, whole characters. */
static size_t cut(const char *name, size_t length, size_t max)
{
	if (length <= max)
		return length;
	while (max > 0 && ((unsigned char)name[max] & 0xc0) == 0x80)
		max--;
	return max;
}

static void make_name(struct sibling *sibling, int try)
{
	const char *name = sibling->beside.bytes, *dot = strrchr(name, '.');
	size_t length = sibling->beside.length, room;
	char mark[200], date[32], again[16] = "";
	time_t seconds = (time_t)(sibling->row.time_ns / 1000000000);
	struct tm tm;

	if (!dot || dot == name || strlen(dot) > EXTENSION_MAX)
		dot = name + length;
	localtime_r(&seconds, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H-%M-%S", &tm);
	if (try > 1)
		snprintf(again, sizeof(again), ", %d", try);
	snprintf(mark, sizeof(mark), MARK "%s, %s, %s%s)", sibling->row.user, sibling->row.host,
		date, again);
	for (char *c = mark; (c = strchr(c, '/'));)
		*c = '_';
	room = RECORD_NAME_MAX - strlen(mark) - strlen(dot);
	sibling->name.length = (size_t)snprintf(sibling->name.bytes, sizeof(sibling->name.bytes),
		"%.*s%s%s", (int)cut(name, (size_t)(dot - name), room), name, mark, dot);
}

/* Empty, with the file's mode and owner. */
static int create(struct sibling *sibling)
{
	const struct conflict_row *row = &sibling->row;
	struct namespace_new what = {.mode = S_IFREG | (row->mode & 0777)};
	struct attr_change owner = {.mask = ATTR_UID | ATTR_GID, .uid = row->uid, .gid = row->gid};
	struct node_row now;
	int err = volume_next_number(sibling->tree->journal->volume, &what.number);

	for (int try = 1; !err && try <= TRIES_MAX; try++) {
		make_name(sibling, try);
		err = namespace_create(sibling->dir, sibling->name.bytes, &what, sibling->actor,
			&sibling->file, &sibling->entry);
		if (err != -EEXIST)
			break;
		err = try < TRIES_MAX ? 0 : err;
	}
	if (err)
		return err;
	now = file_attr(sibling->file);
	if (now.uid != row->uid || now.gid != row->gid)
		err = namespace_setattr(sibling->file, &owner, sibling->actor);
	return err;
}

struct filling {
	struct publish publish;
	struct file *file;
};

static void on_applied(struct publish *publish)
{
	struct filling *filling = container_of(publish, struct filling, publish);

	if (publish->outcome == PUBLISH_VERSION)
		node_supersede_locked(filling->file, &publish->before);
}

/* -EAGAIN: others have changed it. */
static int fill(struct sibling *sibling, int64_t before)
{
	struct filling filling = {
		.publish = {.tree = sibling->tree,
			.node = sibling->file->id,
			.entry = sibling->entry,
			.content = sibling->row.content,
			.existing = true,
			.kind = "conflict",
			.basis = {before ? "own" : "none", before, 0},
			.judged = true,
			.judged_head = before,
			.actor = *sibling->actor,
			.changes_content = true,
			.applied = on_applied},
		.file = sibling->file,
	};
	int err = volume_next_number(sibling->tree->journal->volume, &filling.publish.ino);

	if (!err)
		err = publish_commit(&filling.publish);
	return err ? err : filling.publish.outcome == PUBLISH_VERSION ? 0 : -EAGAIN;
}

static bool is_at_rest(struct file *file)
{
	bool rests;

	lock_take(&file->lock);
	rests = !file->saves && !file->attr.live && !file_is_live_locked(file);
	lock_drop(&file->lock);
	return rests;
}

/* The sibling that there is, under a name that we gave it: 1. It may be anything by now. */
static int find(struct sibling *sibling)
{
	struct sql *sql = journal_read_begin(sibling->tree->journal);
	struct file *found = NULL;
	int err = sql_int(sql, &sibling->entry, "SELECT id FROM entry WHERE node = $1 LIMIT 1", "i",
		sibling->row.sibling);

	journal_read_end(sibling->tree->journal);
	file_unref(sibling->dir);
	sibling->dir = NULL;
	if (err == SQL_ROW)
		err = tree_place(sibling->tree, sibling->entry, &sibling->dir, &sibling->name);
	if (err == 1)
		err = tree_lookup(sibling->dir, sibling->name.bytes, &found, NULL);
	if (err != 1)
		return err;
	if (found->id != sibling->row.sibling || !strstr(sibling->name.bytes, MARK) ||
		!is_at_rest(found)) {
		file_unref(found);
		return 0;
	}
	sibling->file = found;
	return 1;
}

static bool is_ours(struct sibling *sibling, int64_t content)
{
	struct sql *sql = journal_read_begin(sibling->tree->journal);
	int64_t ours = 0;
	int err = sql_int(sql, &ours,
		"SELECT kind = 'conflict' FROM version WHERE lineage = $1 AND content = $2"
		" ORDER BY number DESC LIMIT 1",
		"ii", sibling->entry, content);

	journal_read_end(sibling->tree->journal);
	return err == SQL_ROW && ours;
}

/* A further refusal of the same save: what was written beside the file is replaced, where nobody changed that. */
static int refresh(struct sibling *sibling)
{
	int64_t now;
	int err = find(sibling);

	if (err != 1)
		return err;
	now = file_attr(sibling->file).content.id;
	if (now == sibling->row.content.id)
		return 1;
	if (!is_ours(sibling, now))
		return 0;
	err = fill(sibling, now);
	if (!err)
		notify_names(tree_fs(sibling->tree), sibling->file);
	return err ? err == -EAGAIN ? 0 : err : 1;
}

static int make(struct sibling *sibling)
{
	int err = tree_place(sibling->tree, sibling->row.entry, &sibling->dir, &sibling->beside);

	if (err != 1)
		return err;
	if (!may_create(sibling))
		return 0;
	err = create(sibling);
	if (!err)
		err = fill(sibling, 0);
	if (!err)
		err = conflict_set_sibling(sibling->tree, sibling->row.id, sibling->file->id);
	if (err && sibling->file)
		namespace_unlink(sibling->dir, sibling->name.bytes, sibling->actor);
	notify_name(tree_fs(sibling->tree), sibling->dir, sibling->name.bytes);
	ops_tell_others(sibling->dir, NULL);
	return err;
}

static bool is_open(const struct conflict_row *row)
{
	return strcmp(row->state, "open") == 0;
}

void sibling_show(
	struct tree *tree, int64_t conflict, const struct process *saver, const struct actor *actor)
{
	struct sibling sibling = {.tree = tree, .saver = saver, .actor = actor};
	int err;

	if (!setting_get(tree, SETTING_SIBLINGS))
		return;
	err = conflict_get(tree, conflict, &sibling.row);
	if (err != 1 || !is_open(&sibling.row))
		return;
	err = sibling.row.sibling ? refresh(&sibling) : 0;
	if (err == 0) {
		sibling_deinit(&sibling);
		sibling.dir = sibling.file = NULL;
		err = make(&sibling);
	}
	if (err < 0)
		log_warning("tree %s: a refused save cannot be shown beside its file: %s",
			tree->info.name, strerror(-err));
	sibling_deinit(&sibling);
}

void sibling_remove(struct tree *tree, int64_t conflict, const struct actor *actor)
{
	struct sibling sibling = {.tree = tree, .actor = actor};
	int err = conflict_get(tree, conflict, &sibling.row);

	if (err != 1 || !sibling.row.sibling)
		return;
	err = find(&sibling);
	if (err == 1 && file_attr(sibling.file).content.id == sibling.row.content.id) {
		err = namespace_unlink(sibling.dir, sibling.name.bytes, actor);
		notify_name(tree_fs(tree), sibling.dir, sibling.name.bytes);
		ops_tell_others(sibling.dir, NULL);
		ops_tell_others(sibling.file, NULL);
	}
	if (err < 0)
		log_warning(
			"tree %s: what lies beside a file of a refused save cannot be removed: %s",
			tree->info.name, strerror(-err));
	sibling_deinit(&sibling);
}

struct clearing {
	struct tree *tree;
	const struct actor *actor;
};

static void clear(void *arg, int64_t conflict)
{
	struct clearing *clearing = arg;

	sibling_remove(clearing->tree, conflict, clearing->actor);
}

void sibling_clear(
	struct tree *tree, int64_t entry, const struct process *process, const struct actor *actor)
{
	struct clearing clearing = {tree, actor};
	int err = conflict_clear(tree, entry, process, clear, &clearing);

	if (err)
		log_warning("tree %s: a conflict that is resolved stays open: %s", tree->info.name,
			strerror(-err));
}
