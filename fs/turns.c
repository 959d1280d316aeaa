/*
 * turns: opens that wait for the turn of a file: to save it, and, under the policies turn and turn-thread, to read it.
 */
#include <errno.h>
#include <limits.h>
#include <utlist.h>

#include "fs/claim.h"
#include "fs/hold.h"
#include "fs/opening.h"
#include "journal/log.h"

/* How often the file that a reader waits for may be replaced. */
#define TURNS_MAX 1000

static void give_turn_locked(struct save *save)
{
	const struct turn_party party = turn_party(&save->saver, true);

	turn_give(&save->file->turn, save, &party);
}

/* The youngest of programs that wait for each other; the basis rule protects what they save. */
static void log_deadlock(struct file *file, const struct process *process)
{
	log_info(
		"tree %s: %s (process %d) goes ahead without the turn of a file: who has it waits for one that it has",
		file->tree->info.name, process->program, process->pid);
}

/* The turn is the waiter's, or its wait is over: who overran it once has lost it. */
static void save_resume(struct parked *parked, enum park_end end)
{
	struct opening opening = {
		.req = parked->req,
		.node = parked->node,
		.fi = parked->fi,
		.process = parked->process,
		.entry = parked->entry,
		.state = (enum redirect_state)parked->redirect_state,
		.waits = 1,
		.queued = true,
		.gates = INT_MAX,
		.live = !parked->reserves,
	};
	struct file *file = parked->file;
	struct claim *claim = NULL;
	struct parked *next = NULL;
	struct save *save = NULL;
	int64_t ino = 0;

	if (end == PARK_INTERRUPTED) {
		fuse_reply_err(parked->req, EINTR);
		return;
	}
	if (end == PARK_TIMEOUT && volume_next_number(file->tree->journal->volume, &ino) == 0) {
		lock_take(&file->lock);
		if (file->claim)
			claim = claim_take_locked(file->claim);
		if (parked->reserves && !file_is_live_locked(file))
			save = save_reserve_locked(
				file, &parked->process, &parked->actor, parked->entry, ino, NULL);
		if (save)
			give_turn_locked(save);
		else
			next = save_pass_turn_locked(file, file->turn.holder);
		lock_drop(&file->lock);
		claim_unref(claim);
		park_resume(next, PARK_DONE);
	}
	if (!parked->reserves)
		open_node(&opening);
	else
		open_send_round(&opening);
}

/* Queues for the turn, unless it became free, or to wait would be a deadlock: then it had its time. True when the request was parked. */
static bool wait_to_save(struct opening *opening)
{
	struct file *file = opening->node->file;
	struct parked *parked = park_new(opening->req, file, opening->node, NULL, &opening->fi,
		&opening->process, save_resume);
	bool queued, held;

	if (!parked) {
		opening->queued = true;
		return false;
	}
	hold_set_groups(&parked->waiter, &opening->process);
	park_listen(parked);
	parked->reserves = !opening->live;
	parked->entry = opening->entry;
	parked->redirect_state = opening->state;
	lock_take(&file->lock);
	held = file->turn.holder != NULL;
	queued = held && park_for_turn_locked(
				 parked, &file->turn, tree_fs(file->tree)->options.turn_wait_ms);
	lock_drop(&file->lock);
	if (queued)
		return true;
	park_drop(parked);
	opening->queued = held;
	if (held)
		log_deadlock(file, &opening->process);
	return false;
}

enum turn_state { TURN_FREE, TURN_MINE, TURN_OTHERS };

/* What a program has by a claim, its save takes over. */
static enum turn_state look_to_save(struct opening *opening)
{
	struct file *file = opening->node->file;
	enum turn_state state;

	lock_take(&file->lock);
	if (save_visible_locked(file, &opening->process))
		state = TURN_MINE;
	else if (!file->turn.holder || claim_touch_locked(file, &opening->process))
		state = TURN_FREE;
	else
		state = TURN_OTHERS;
	lock_drop(&file->lock);
	return state;
}

bool turns_wait_to_save(struct opening *opening, bool *ret_mine)
{
	enum turn_state state;

	for (;;) {
		state = look_to_save(opening);
		if (state != TURN_OTHERS || opening->queued)
			break;
		if (claim_join(opening->node->file, &opening->process))
			continue;
		if (wait_to_save(opening))
			return true;
	}
	*ret_mine = state == TURN_MINE;
	return false;
}

struct file *open_named_file(struct opening *opening)
{
	struct file *file = opening->node->file, *dir = NULL, *found = NULL;
	struct name name;

	if (!opening->entry || file_attr(file).nlink > 0)
		return file_ref(file);
	if (tree_place(file->tree, opening->entry, &dir, &name) == 1 &&
		tree_lookup(dir, name.bytes, &found, NULL) != 1)
		found = NULL;
	file_unref(dir);
	return found ? found : file_ref(file);
}

/* One that was closed is about to give up the turn: then its program queues again. Of a save a program under turn is the holder with all
 * its threads. */
static bool saves_locked(struct file *file, const struct process *process, bool by_thread)
{
	struct save *save = save_visible_locked(file, process);

	if (save)
		return !save_is_closed_locked(save);
	DL_FOREACH(file->saves, save)
	{
		if (save == file->turn.holder && !by_thread && process_same(&save->saver, process))
			return !save_is_closed_locked(save);
	}
	return false;
}

static enum turn_state look_to_read(
	struct file *file, const struct process *process, bool by_thread)
{
	enum turn_state state = TURN_OTHERS;

	lock_take(&file->lock);
	if (file_is_live_locked(file) || claim_touch_locked(file, process) ||
		saves_locked(file, process, by_thread))
		state = TURN_MINE;
	else if (!file->turn.holder)
		state = TURN_FREE;
	lock_drop(&file->lock);
	return state;
}

static void read_resume(struct parked *parked, enum park_end end)
{
	struct opening opening = {
		.req = parked->req,
		.node = parked->node,
		.fi = parked->fi,
		.process = parked->process,
		.entry = parked->entry,
		.policy = parked->policy,
		.turns = parked->waits,
		.gates = parked->gates,
	};
	struct file *file = parked->file;
	bool moved;

	if (end == PARK_INTERRUPTED) {
		fuse_reply_err(parked->req, EINTR);
		return;
	}
	if (end == PARK_TIMEOUT)
		log_info("tree %s: %s (process %d) reads a file without its turn, for which it "
			 "waited %u ms",
			file->tree->info.name, parked->actor.program, parked->actor.pid,
			tree_fs(file->tree)->options.turn_wait_ms);
	/* Another file took its place: the turn is that one's. It queues there before those who come after it here. */
	moved = end == PARK_DONE && file_attr(file).nlink == 0 && opening.turns++ < TURNS_MAX;
	opening.queued = !moved;
	open_node(&opening);
	if (moved)
		claim_done(file, &parked->process);
}

/* Takes the turn by the claim, or queues for it with it; takes over the claim. True when the request was parked. */
static bool claim_or_wait(struct opening *opening, struct file *file, struct claim *claim)
{
	struct parked *parked = park_new(opening->req, file, opening->node, NULL, &opening->fi,
		&opening->process, read_resume);
	bool queued = false, deadlock = false;

	if (!parked) {
		claim_unref(claim);
		return false;
	}
	parked->claim = claim;
	parked->entry = opening->entry;
	parked->waits = opening->turns;
	parked->policy = opening->policy;
	parked->gates = opening->gates;
	hold_set_groups(&parked->waiter, &opening->process);
	/* Who comes back had its time. */
	if (opening->state == REDIRECT_NONE)
		park_listen(parked);
	lock_take(&file->lock);
	if (!file->turn.holder) {
		claim_start_locked(claim);
		parked->claim = NULL;
	} else if (opening->state == REDIRECT_NONE) {
		queued = park_for_turn_locked(
			parked, &file->turn, tree_fs(file->tree)->options.turn_wait_ms);
		deadlock = !queued;
	}
	lock_drop(&file->lock);
	if (!queued)
		park_drop(parked);
	if (deadlock)
		log_deadlock(file, &opening->process);
	return queued;
}

bool turns_wait_to_read(struct opening *opening)
{
	struct file *file = opening->node->file;
	bool by_thread, parked = false;
	struct claim *claim = NULL;
	struct actor actor;

	if (opening->queued || !opening->process.known)
		return false;
	/* What has no name any more has no policy, either. */
	if (!opening->turns) {
		file = open_named_file(opening);
		opening->policy = policy_of_file(file);
		file_unref(file);
	}
	if (opening->policy != POLICY_TURN && opening->policy != POLICY_TURN_THREAD)
		return false;
	if (hold_wait(opening))
		return true;
	by_thread = opening->policy == POLICY_TURN_THREAD;
	file = open_named_file(opening);
	if (!opening->entry)
		opening->entry = ops_lineage(file);
	if (look_to_read(file, &opening->process, by_thread) != TURN_MINE &&
		!claim_join(file, &opening->process)) {
		request_actor(opening->req, &actor);
		claim = claim_new(file, &opening->process, &actor, opening->entry,
			by_thread ? CLAIM_THREAD : CLAIM_PROCESS);
		parked = claim && claim_or_wait(opening, file, claim);
	}
	/* Another file has its place, and its turn. */
	opening->queued = file != opening->node->file;
	file_unref(file);
	return parked;
}

void turns_release(struct handle *handle)
{
	struct file *file = handle->node->file;
	struct process process;

	if (!file || !__atomic_load_n(&file->claim, __ATOMIC_RELAXED))
		return;
	process_get(handle->opener, &process);
	/* What is written in place is saved now. */
	if (handle->writer && ops_live(handle))
		claim_done(file, &process);
	else
		claim_touched(file, handle->opener);
}
