/*
 * rename: a save by rename: what moves becomes the next version of what its target named, by the same rule as other saves.
 */
#include "fs/rename.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "fs/if_match.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/sibling.h"
#include "journal/log.h"
#include "meta/conflict.h"
#include "meta/namespace.h"

struct rename {
	struct tree *tree;
	struct file *moved, *replaced;
	struct file *to;
	const char *to_name;
	int64_t from_entry, to_entry;
	const struct process *process;
	const struct actor *actor;
	struct content saved;	/* what moves as it was saved, before anything was merged into it */
	struct content content; /* what moves */
	struct content head;
	int64_t if_match; /* the version that it is to replace, or 0 */
	struct judge judge;
	struct namespace_verdict verdict;
};

static bool is_newer(const struct sight *a, const struct sight *b)
{
	return a->order > b->order;
}

/* A document that is moved out of the way (to be the backup) is no save of what it replaces: who moves it has read it, and knows of its
 * target only that it moved others there before. */
static bool is_backup(struct rename *rename)
{
	struct sight from, to;

	sight_find(rename->process, rename->tree, rename->from_entry, &from);
	sight_find(rename->process, rename->tree, rename->to_entry, &to);
	return from.read && !to.read;
}

/* What is based on is the older of what the renamer saw of the target, and of what the writer of what moves did. */
static struct sight basis_of(struct rename *rename)
{
	struct sight mine, writers = {.kind = SIGHT_NONE};
	struct process writer = {.known = false};

	lock_take(&rename->moved->lock);
	/* What had another name then is no save of this target. */
	if (rename->moved->saved_by && rename->moved->saved_entry == rename->from_entry)
		writer = *rename->moved->saved_by;
	lock_drop(&rename->moved->lock);
	sight_find(rename->process, rename->tree, rename->to_entry, &mine);
	if (writer.known && !process_same(&writer, rename->process))
		sight_find(&writer, rename->tree, rename->to_entry, &writers);
	if (writers.kind == SIGHT_NONE)
		return mine;
	return mine.kind == SIGHT_NONE || is_newer(&mine, &writers) ? writers : mine;
}

static int judge_rename(struct rename *rename)
{
	struct judge *judge = &rename->judge;
	autoclose int fd = -1;
	int err = version_open(rename->tree, rename->saved.object, &fd);

	if (err)
		return err;
	*judge = (struct judge){
		.tree = rename->tree,
		.policy = policy_of_name(rename->to, rename->to_name),
		.basis = is_backup(rename) ? (struct sight){.kind = SIGHT_NONE} : basis_of(rename),
		.fd = fd,
		.size_bytes = rename->saved.size_bytes,
		.hash = rename->saved.hash,
		.head = rename->head,
	};
	err = judge_save(judge);
	if (!rename->if_match)
		rename->if_match = if_match_take(rename->process, rename->tree, rename->to_entry);
	return err ? err : if_match_judge(judge, rename->to_entry, rename->if_match);
}

struct merging {
	struct publish publish;
	struct file *file;
};

static void on_applied(struct publish *publish)
{
	struct merging *merging = container_of(publish, struct merging, publish);

	if (publish->outcome == PUBLISH_VERSION)
		node_supersede_locked(merging->file, &publish->before);
}

/* The content of what moves is the merged one from now on. */
static int publish_merged(struct rename *rename)
{
	bool same = rename->judge.outcome == JUDGE_SAME;
	struct merging merging = {
		.publish = {.tree = rename->tree,
			.node = rename->moved->id,
			.entry = rename->from_entry,
			.content = same ? rename->head : rename->judge.merged,
			.existing = same,
			.kind = "merge",
			.verdict = "merged",
			.basis = {"own", rename->content.id, 0},
			.judged = true,
			.judged_head = rename->content.id,
			.actor = *rename->actor,
			.mtime_ns = file_attr(rename->moved).mtime_ns,
			.changes_content = true,
			.applied = on_applied},
		.file = rename->moved,
	};
	struct publish *publish = &merging.publish;
	int err = volume_next_number(rename->tree->journal->volume, &publish->ino);

	if (!err)
		err = publish_commit(publish);
	if (err || publish->outcome != PUBLISH_VERSION) {
		judge_drop(&rename->judge);
		return err ? err : -EAGAIN;
	}
	rename->verdict.content = publish->row.content.id;
	if (same)
		return 0;
	err = object_publish(&rename->tree->journal->objects, publish->content.object);
	if (err) /* it is found in stage/, too */
		log_error("%s: object %" PRId64 " cannot be moved out of stage/: %s",
			rename->tree->journal->path, publish->content.object, strerror(-err));
	return 0;
}

static int refuse(struct rename *rename)
{
	struct conflict conflict = {
		.node = rename->replaced ? rename->replaced->id : rename->moved->id,
		.entry = rename->to_entry,
		.content = rename->saved,
		.basis = rename->judge.basis_content,
		.head = rename->head.id,
		.reason = rename->judge.reason.text,
		.actor = rename->actor,
		.process = rename->process,
	};
	int err = conflict_add(rename->tree, &conflict);

	if (err)
		return err;
	__atomic_add_fetch(&rename->tree->refused, 1, __ATOMIC_RELAXED);
	log_info("tree %s: a save by %s (%s, process %d) was refused: %s", rename->tree->info.name,
		rename->actor->user, rename->actor->program, rename->actor->pid,
		rename->judge.reason.text);
	return -EBUSY;
}

/* Whether what moves was a version of the target's before. */
static bool was_there(struct rename *rename)
{
	struct sql *sql = journal_read_begin(rename->tree->journal);
	int64_t one;
	int err = sql_int(sql, &one,
		"SELECT 1 FROM version WHERE lineage = $1 AND content = $2 LIMIT 1", "ii",
		rename->to_entry, rename->content.id);

	journal_read_end(rename->tree->journal);
	return err == SQL_ROW;
}

/* A program whose save was refused moves back what it had moved away (vim), and so does put_back.h: then both are the same. */
static bool is_put_back(struct rename *rename)
{
	const struct content *a = &rename->content, *b = &rename->head;
	autoclose int fd_a = -1, fd_b = -1;

	return a->size_bytes == b->size_bytes && memcmp(&a->hash, &b->hash, sizeof(a->hash)) == 0 &&
	       was_there(rename) && version_open(rename->tree, a->object, &fd_a) == 0 &&
	       version_open(rename->tree, b->object, &fd_b) == 0 &&
	       object_equal(fd_a, fd_b, a->size_bytes) == 1;
}

static int apply_verdict(struct rename *rename)
{
	struct judge *judge = &rename->judge;
	bool known = judge->basis.kind == SIGHT_OWN || judge->basis.kind == SIGHT_INHERITED;

	rename->verdict = (struct namespace_verdict){
		.content = rename->content.id,
		.head = rename->replaced ? rename->head.id : 0,
		.verdict = "next",
		.basis = {known ? judge->basis.kind == SIGHT_OWN ? "own" : "inherited" : "none",
			known ? judge->basis_content : 0, 0},
	};
	switch (judge->outcome) {
	case JUDGE_REFUSED:
		return is_put_back(rename) ? 0 : refuse(rename);
	case JUDGE_BLIND:
		rename->verdict.verdict = "blind";
		return 0;
	case JUDGE_OVER:
		rename->verdict.verdict = "over";
		return 0;
	case JUDGE_SAME: /* the head has it all, and what moves has none of what it lacks: so it is merged, too */
	case JUDGE_MERGED:
		rename->verdict.verdict = "merged";
		rename->verdict.other = rename->saved.id;
		return publish_merged(rename);
	case JUDGE_NEXT:
		break;
	}
	return 0;
}

/* False: there is nothing to judge. */
static bool is_save(struct rename *rename)
{
	int64_t displaced;

	if (!rename->moved)
		return false;
	rename->content = file_attr(rename->moved).content;
	if (!rename->saved.id)
		rename->saved = rename->content;
	if (rename->moved == rename->replaced)
		return false;
	rename->head = (struct content){.id = 0};
	if (rename->replaced) {
		rename->head = file_attr(rename->replaced).content;
	} else if (rename->to_entry) {
		/* The renamer took the name away just before. */
		displaced = ops_displaced_by(rename->tree, rename->to_entry, rename->process);
		if (displaced &&
			judge_last_content(rename->tree, rename->to_entry, &rename->head) <= 0)
			rename->head.id = 0;
	}
	return rename->content.id && rename->head.id;
}

static void count_verdict(struct rename *rename)
{
	if (rename->judge.outcome == JUDGE_MERGED)
		__atomic_add_fetch(&rename->tree->merged, 1, __ATOMIC_RELAXED);
	if (strcmp(rename->verdict.verdict, "blind") == 0)
		__atomic_add_fetch(&rename->tree->blind_over, 1, __ATOMIC_RELAXED);
}

/* The lineage of the name, be it that nothing has it now. */
static int64_t entry_of(struct file *dir, const char *name, struct file **ret_file)
{
	struct entry_row row = {.id = 0};
	int64_t entry = 0;
	struct sql *sql;

	*ret_file = NULL;
	if (tree_lookup(dir, name, ret_file, &entry) == 1)
		return entry;
	*ret_file = NULL;
	sql = journal_read_begin(dir->tree->journal);
	if (record_entry_get(sql, dir->entry, name, strlen(name), &row) != 1)
		row.id = 0;
	journal_read_end(dir->tree->journal);
	return row.id;
}

static bool is_named(struct file *dir, const char *name, const struct file *file)
{
	struct file *found = NULL;
	bool same = tree_lookup(dir, name, &found, NULL) == 1 && found == file;

	file_unref(found);
	return same;
}

/* The renamer knows what it saved, also under a name that is new. */
static void see(struct rename *rename, struct file *to, const char *to_name)
{
	struct file *file = NULL;
	int64_t entry = rename->to_entry;

	if (!entry && tree_lookup(to, to_name, &file, &entry) != 1)
		entry = 0;
	file_unref(file);
	if (entry)
		sight_saved(rename->process, rename->tree, entry, 0, rename->saved.id);
}

static int rename_once(struct rename *rename, struct file *from, const char *name, struct file *to,
	const char *to_name, unsigned flags)
{
	struct file *replaced = rename->replaced;
	bool judged, put_back;
	int err;

	rename->verdict = (struct namespace_verdict){.other = 0};
	if (replaced) {
		lock_take(&replaced->verdict_lock);
		file_publish_closed(replaced, NULL);
		/* Others may have replaced it meanwhile: they had the lock. */
		if (!is_named(to, to_name, replaced)) {
			lock_drop(&replaced->verdict_lock);
			return -EAGAIN;
		}
	}
	judged = is_save(rename);
	put_back = judged && is_put_back(rename);
	err = judged ? judge_rename(rename) : 0;
	if (!err && judged)
		err = apply_verdict(rename);
	if (!err)
		err = namespace_rename(from, name, to, to_name, flags,
			judged ? &rename->verdict : NULL, rename->actor);
	if (replaced)
		lock_drop(&replaced->verdict_lock);
	/* To put back what was there is not to see it. */
	if (!err && rename->saved.id && !put_back)
		see(rename, to, to_name);
	if (!err && judged)
		count_verdict(rename);
	return err;
}

/* Whether the rename, when it succeeds, is what resolves the program's conflicts. To put back what was there resolves none. */
static bool saves_anew(struct rename *rename)
{
	if (!rename->moved || !rename->to_entry ||
		!__atomic_load_n(&rename->tree->conflicts, __ATOMIC_RELAXED))
		return false;
	rename->content = file_attr(rename->moved).content;
	return rename->content.id && !was_there(rename);
}

int rename_save(struct file *from, const char *name, struct file *to, const char *to_name,
	unsigned flags, const struct process *process, const struct actor *actor)
{
	struct rename rename = {.tree = from->tree,
		.to = to,
		.to_name = to_name,
		.process = process,
		.actor = actor};
	int64_t content;
	bool saves;
	int err;

	if (flags || from->tree != to->tree)
		return namespace_rename(from, name, to, to_name, flags, NULL, actor);
	do {
		rename.from_entry = entry_of(from, name, &rename.moved);
		rename.to_entry = entry_of(to, to_name, &rename.replaced);
		saves = saves_anew(&rename);
		err = rename_once(&rename, from, name, to, to_name, flags);
		/* The name that is gone may be made anew (vim). */
		content = rename.moved && !rename.verdict.other ? file_attr(rename.moved).content.id
								: 0;
		if (!err && rename.moved)
			ops_displaced(rename.tree, rename.from_entry, process, content);
		if (!err && saves)
			sibling_clear(rename.tree, rename.to_entry, process, actor);
		file_unref(rename.moved);
		file_unref(rename.replaced);
	} while (err == -EAGAIN);
	return err;
}
