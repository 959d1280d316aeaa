/*
 * save_who: whose a save is: who wrote to it and may still, who is shown it, and who waits for its end.
 */
#include "fs/save_internal.h"

#include <string.h>
#include <utlist.h>

void save_note_writer(struct save *save, pid_t tid)
{
	struct process process;

	/* Most writes come from the thread that the last came from. */
	if (tid <= 0 || __atomic_exchange_n(&save->last_writer, tid, __ATOMIC_RELAXED) == tid)
		return;
	process_get(tid, &process);
	lock_take(&save->file->lock);
	if (process.known && !save_is_writers_locked(save, &process))
		save->others[save->other_count++ % WRITERS_MAX] = process;
	lock_drop(&save->file->lock);
}

void save_note_mapping(struct save *save)
{
	__atomic_store_n(&save->mapped, true, __ATOMIC_RELAXED);
}

bool save_is_writers_locked(const struct save *save, const struct process *process)
{
	unsigned count = save->other_count < WRITERS_MAX ? save->other_count : WRITERS_MAX;

	if (process_same(process, &save->saver))
		return true;
	for (unsigned i = 0; i < count; i++)
		if (process_same(process, &save->others[i]))
			return true;
	return false;
}

void save_flushed(struct save *save)
{
	lock_take(&save->file->lock);
	if (save->state == SAVE_CLOSING)
		save_set_timer(save, time_mono_ms() + STREAM_MS);
	lock_drop(&save->file->lock);
}

bool save_is_held(struct save *save)
{
	struct process holders[WRITERS_MAX + 1];
	unsigned count;

	/* Only its release tells of the end of a mapping: the maps of a process that waits for us must not be read. */
	if (__atomic_load_n(&save->mapped, __ATOMIC_RELAXED))
		return true;
	lock_take(&save->file->lock);
	count = save->other_count < WRITERS_MAX ? save->other_count : WRITERS_MAX;
	memcpy(holders, save->others, count * sizeof(holders[0]));
	holders[count++] = save->saver;
	lock_drop(&save->file->lock);
	for (unsigned i = 0; i < count; i++)
		if (holders[i].known &&
			process_is_writing(holders[i].pid, (uint64_t)save->shown_ino))
			return true;
	return false;
}

static bool is_stranger(const struct save *save, const struct process *process)
{
	unsigned count =
		save->stranger_count < STRANGERS_MAX ? save->stranger_count : STRANGERS_MAX;

	for (unsigned i = 0; i < count; i++)
		if (save->strangers[i] == process->identity)
			return true;
	return false;
}

/* Those who look again and again are told apart without a walk through their ancestors. */
static bool inherits(struct save *save, const struct process *process)
{
	if ((save->state != SAVE_STAGED && save->state != SAVE_CLOSING) || !process->known ||
		is_stranger(save, process))
		return false;
	if (!process_descends(process->pid, &save->saver)) {
		save->strangers[save->stranger_count++ % STRANGERS_MAX] = process->identity;
		return false;
	}
	return process_is_writing(process->pid, (uint64_t)save->shown_ino);
}

bool file_is_live_locked(const struct file *file)
{
	return file->head && file->head->kind == NODE_LIVE;
}

struct save *save_visible_locked(struct file *file, const struct process *process)
{
	struct save *save;

	/* What the thread is about to open comes before what it closed just now. */
	DL_FOREACH(file->saves, save)
	{
		if (save->state == SAVE_RESERVED && save->saver.tid == process->tid)
			return save;
	}
	DL_FOREACH(file->saves, save)
	{
		if (process->known && save->saver.tid == process->tid && !save->published)
			return save;
	}
	DL_FOREACH(file->saves, save)
	{
		if (!save->published && inherits(save, process))
			return save;
	}
	return NULL;
}

/* What others inherited is not looked for. */
static bool is_on_its_way(struct save *save)
{
	bool closing = save->state == SAVE_CLOSING;
	int64_t closed_ms =
		closing && save->closed_ms > save->flushed_ms ? save->closed_ms : save->flushed_ms;

	if (!closed_ms || (!closing && save->state != SAVE_STAGED) ||
		time_mono_ms() - closed_ms >= RELEASE_WAIT_MS)
		return false;
	if (save->unlooked)
		save->kept_open = save->saver.known &&
				  process_is_writing(save->saver.pid, (uint64_t)save->shown_ino);
	save->unlooked = false;
	return !save->kept_open;
}

struct save *save_releasing_locked(struct file *file, const struct process *process)
{
	struct save *save;

	DL_FOREACH(file->saves, save)
	{
		if (save->saver.tid == process->tid && process->known)
			continue;
		if (save->state == SAVE_PUBLISHING || is_on_its_way(save))
			return save;
	}
	return NULL;
}
