/*
 * verdict: a save, its basis, and what others saved meanwhile: who is told what, and what is remembered of it.
 */
#include "fs/save_internal.h"

#include <inttypes.h>
#include <string.h>
#include <utlist.h>

#include "fs/if_match.h"
#include "fs/ops.h"
#include "fs/sibling.h"
#include "journal/log.h"
#include "meta/conflict.h"

#define NAMES_MAX     8
#define SAVES_MAX     64
#define DISPLACED_MAX 64
/* How soon who took a name away has to make it anew, to replace what had it. */
#define DISPLACED_MS 5000

/* A save that begins as a copy of the head is based on that, when its saver looked at it, or has seen nothing else itself. */
static struct sight basis_of(const struct save *save)
{
	struct sight own = {.kind = SIGHT_OWN, .content = save->basis.content};

	if (save->base_fd < 0)
		return save->sight;
	return save->was_read || save->sight.kind != SIGHT_OWN ? own : save->sight;
}

/* What the program had saved when it opened the file anew was no content yet, and may have become none: it was the same as the head. */
static int resolve(struct save *save)
{
	struct sight now;
	int64_t content = 0;
	int err = 0;

	if (save->sight.object)
		err = judge_content_of(save->file->tree, save->sight.object, &content);
	if (err || !save->sight.object)
		return err;
	if (!content) {
		sight_find(&save->saver, save->file->tree, save->entry, &now);
		content = now.object ? 0 : now.content;
	}
	if (content)
		save->sight = (struct sight){.kind = save->sight.kind, .content = content};
	return 0;
}

int save_judge(struct save *save, struct file *file, struct judge *ret_judge)
{
	struct content head = file_attr(file).content;
	bool displaced = false;
	int err = 0;

	if (!head.id && save->displaced) {
		err = judge_last_content(file->tree, save->entry, &head);
		displaced = err > 0;
	}
	if (err >= 0)
		err = resolve(save);
	if (err < 0)
		return err;
	*ret_judge = (struct judge){
		.tree = file->tree,
		.policy = save->policy,
		.basis = basis_of(save),
		.fd = save->fd,
		.size_bytes = save->size_bytes,
		.hash = save->hash,
		.head = head,
		.displaced = displaced,
	};
	err = judge_save(ret_judge);
	return err ? err : if_match_judge(ret_judge, save->entry, save->if_match);
}

int save_refuse(struct save *save, struct judge *judge)
{
	struct tree *tree = save->file->tree;
	struct file *file = save->successor ? save->successor : save->file;
	struct conflict conflict = {
		.id = save->conflict,
		.node = file->id,
		.entry = save->entry,
		.content = {.object = save->object,
			.size_bytes = save->size_bytes,
			.blocks = save->blocks,
			.hash = save->hash},
		.basis = judge->basis_content,
		.head = judge->head.id,
		.reason = judge->reason.text,
		.actor = &save->actor,
		.process = &save->saver,
	};
	int err = conflict_add(tree, &conflict);

	if (err)
		return err;
	err = object_publish(&tree->journal->objects, save->object);
	if (err) /* it is found in stage/, too */
		log_error("%s: object %" PRId64 " cannot be moved out of stage/: %s",
			tree->journal->path, save->object, strerror(-err));
	__atomic_add_fetch(&tree->refused, 1, __ATOMIC_RELAXED);
	log_info("tree %s: a save by %s (%s, process %d) was refused: %s", tree->info.name,
		save->actor.user, save->actor.program, save->actor.pid, judge->reason.text);
	__atomic_store_n(&save->conflict, conflict.id, __ATOMIC_RELEASE);
	save->sealed = save->refused = true;
	save->dirty = save->closing = false;
	return 0;
}

void save_show_refused(struct save *save)
{
	int64_t conflict = __atomic_load_n(&save->conflict, __ATOMIC_ACQUIRE);

	/* Another thread that is at it has begun before what was refused last: the end of the save looks again. */
	if (!conflict || __atomic_exchange_n(&save->showing, true, __ATOMIC_ACQ_REL))
		return;
	sibling_show(save->file->tree, conflict, &save->saver, &save->actor);
	__atomic_store_n(&save->showing, false, __ATOMIC_RELEASE);
}

void save_seen_closed(struct save *save)
{
	struct tree *tree = save->file->tree;

	sight_saved(&save->saver, tree, save->entry, save->object, 0);
	sight_copied(&save->saver, tree, save->entry, save->size_bytes, &save->hash);
}

/* A later rename of the file is judged by what its writer knew, too. */
static void remember_saver(struct save *save)
{
	lock_take(&save->file->lock);
	if (!save->file->saved_by)
		save->file->saved_by = malloc(sizeof(*save->file->saved_by));
	if (save->file->saved_by)
		*save->file->saved_by = save->saver;
	save->file->saved_entry = save->entry;
	lock_drop(&save->file->lock);
}

void save_seen_published(struct save *save, int64_t content)
{
	struct tree *tree = save->file->tree;

	struct file *file = save->successor ? save->successor : save->file;
	struct file_name names[NAMES_MAX];
	size_t count = file_names(file, names, NAMES_MAX);

	remember_saver(save);
	/* The file may have been renamed meanwhile, or have other names. */
	for (size_t i = 0; i < count && i < NAMES_MAX; i++)
		if (names[i].entry != save->entry)
			sight_saved(&save->saver, tree, names[i].entry, 0, content);
}

void save_forget(struct save *save)
{
	if (save->closing)
		sight_dropped(&save->saver, save->file->tree, save->entry, save->object);
}

void save_seen(struct save *save, int64_t content)
{
	struct tree *tree = save->file->tree;

	if (save->closing)
		sight_published(&save->saver, tree, save->entry, save->object, content);
	else
		sight_saved(&save->saver, tree, save->entry, 0, content);
}

void file_publish_closed(struct file *file, const struct save *except)
{
	struct save *saves[SAVES_MAX], *save;
	size_t count = 0;

	lock_take(&file->lock);
	DL_FOREACH(file->saves, save)
	{
		bool closed = save->state == SAVE_CLOSING && !save->synced;

		if (save != except && count < SAVES_MAX &&
			(closed || save->state == SAVE_PUBLISHING))
			saves[count++] = save_ref(save);
	}
	lock_drop(&file->lock);
	for (size_t i = 0; i < count; i++) {
		save_snapshot(saves[i]);
		save_unref(saves[i]);
	}
}

void ops_seen_read(struct file *file, const struct process *process, const struct content *content)
{
	struct file_name names[NAMES_MAX];
	size_t count = file_names(file, names, NAMES_MAX);
	int64_t entry;

	for (size_t i = 0; i < count && i < NAMES_MAX; i++)
		sight_read(process, file->tree, names[i].entry, content);
	/* It was replaced while it was opened: it is a version of the name's all the same. */
	entry = count == 0 ? file_lineage(file) : 0;
	if (entry)
		sight_read(process, file->tree, entry, content);
}

/* The last names that were taken away. */
static struct {
	struct lock lock; /* protects the rest */
	struct {
		int64_t tree, entry, content, time_ms;
		struct process process;
	} names[DISPLACED_MAX];
	unsigned count; /* ever */
} displaced = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF}};

void ops_displaced(struct tree *tree, int64_t entry, const struct process *process, int64_t content)
{
	unsigned i;

	if (!process->known)
		return;
	lock_take(&displaced.lock);
	i = displaced.count++ % DISPLACED_MAX;
	displaced.names[i].tree = tree->info.id;
	displaced.names[i].entry = entry;
	displaced.names[i].content = content;
	displaced.names[i].time_ms = time_mono_ms();
	displaced.names[i].process = *process;
	lock_drop(&displaced.lock);
}

static bool are_related(const struct process *a, const struct process *b)
{
	return process_same(a, b) || process_descends(a->pid, b) || process_descends(b->pid, a);
}

int64_t ops_displaced_by(struct tree *tree, int64_t entry, const struct process *process)
{
	int64_t content = 0, now_ms = time_mono_ms();
	struct process by;

	lock_take(&displaced.lock);
	/* From the last one back. */
	for (unsigned i = 1; i <= DISPLACED_MAX && i <= displaced.count; i++) {
		unsigned at = (displaced.count - i) % DISPLACED_MAX;

		if (now_ms - displaced.names[at].time_ms > DISPLACED_MS)
			break;
		if (displaced.names[at].tree != tree->info.id || displaced.names[at].entry != entry)
			continue;
		content = displaced.names[at].content;
		by = displaced.names[at].process;
		break;
	}
	lock_drop(&displaced.lock);
	return content && process->known && are_related(process, &by) ? content : 0;
}
