#include "fs/hold.h"

#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "fs/claim.h"
#include "fs/virtual.h"
#include "journal/log.h"

#define HOLDS_MAX 16
#define GATES	  2
#define HELD	  "held"
#define RELEASE	  "release"

void hold_set_groups(struct turn_waiter *waiter, const struct process *process)
{
	struct process holders[HOLDS_MAX];
	unsigned count = claim_holders(holders, HOLDS_MAX);

	for (unsigned i = 0; i < count && waiter->group_count < TURN_GROUPS_MAX; i++)
		if (process->known && process_descends(process->pid, &holders[i]))
			waiter->groups[waiter->group_count++] = turn_party(&holders[i], false);
}

static int64_t lineage_of(struct file *file)
{
	return file == file->tree->root ? RECORD_ROOT : ops_lineage(file);
}

/* Whether others hold it. */
static bool is_shut(struct file *file, const struct process *process)
{
	struct process holder = {.known = false};

	if (!__atomic_load_n(&file->hold, __ATOMIC_RELAXED))
		return false;
	lock_take(&file->lock);
	if (file->hold)
		holder = file->hold->process;
	lock_drop(&file->lock);
	return holder.known && !process_same(process, &holder) &&
	       !(process->known && process_descends(process->pid, &holder));
}

static void open_resume(struct parked *parked, enum park_end end)
{
	struct opening opening = {
		.req = parked->req,
		.node = parked->node,
		.fi = parked->fi,
		.process = parked->process,
		.entry = parked->gates > 0 ? parked->entry : 0,
		.gates = parked->gates + 1,
		.gate_turns = parked->waits,
	};

	/* Another file took its place. */
	if (end == PARK_DONE && parked->gates > 0 && file_attr(parked->file).nlink == 0 &&
		opening.gate_turns++ < LOOKS_MAX)
		opening.gates--;
	if (end == PARK_TIMEOUT)
		log_info("tree %s: %s (process %d) opens a file that another program holds, after "
			 "%u ms",
			parked->file->tree->info.name, parked->actor.program, parked->actor.pid,
			tree_fs(parked->file->tree)->options.turn_wait_ms);
	if (end == PARK_INTERRUPTED)
		fuse_reply_err(parked->req, EINTR);
	else
		open_node(&opening);
}

/* Queues before the gate, unless it was opened, or to wait would be a deadlock. True when the request was parked. */
static bool wait_before(struct opening *opening, struct file *file)
{
	struct parked *parked = park_new(opening->req, file, opening->node, NULL, &opening->fi,
		&opening->process, open_resume);
	bool queued;

	if (!parked)
		return false;
	parked->gates = opening->gates;
	parked->waits = opening->gate_turns;
	parked->entry = lineage_of(file);
	hold_set_groups(&parked->waiter, &opening->process);
	park_listen(parked);
	lock_take(&file->lock);
	queued = file->hold && park_for_turn_locked(parked, &file->gate,
				       tree_fs(file->tree)->options.turn_wait_ms);
	lock_drop(&file->lock);
	if (!queued)
		park_drop(parked);
	return queued;
}

static bool has_turn(struct file *file, const struct process *process)
{
	struct save *save;
	bool has;

	lock_take(&file->lock);
	has = claim_touch_locked(file, process) || save_visible_locked(file, process);
	DL_FOREACH(file->saves, save)
	{
		has = has || (save == file->turn.holder && process_same(&save->saver, process));
	}
	lock_drop(&file->lock);
	return has;
}

bool hold_wait(struct opening *opening)
{
	struct file *gates[GATES] = {opening->node->file->tree->root, NULL};
	bool parked = false;

	if (opening->state != REDIRECT_NONE || opening->gates >= GATES)
		return false;
	gates[1] = open_named_file(opening);
	for (; opening->gates < GATES && !parked; opening->gates += !parked)
		parked = is_shut(gates[opening->gates], &opening->process) &&
			 !has_turn(gates[1], &opening->process) &&
			 wait_before(opening, gates[opening->gates]);
	file_unref(gates[1]);
	return parked;
}

void hold_replaced(struct file *file, struct file *by)
{
	struct claim *claim = NULL, *over = NULL;
	struct parked *next = NULL;
	struct process holder;
	struct actor actor;
	int64_t entry = 0;

	if (!__atomic_load_n(&file->hold, __ATOMIC_RELAXED) || file_attr(file).nlink > 0)
		return;
	lock_take(&file->lock);
	if (file->hold) {
		holder = file->hold->process;
		actor = file->hold->actor;
		entry = file->hold->entry;
	}
	lock_drop(&file->lock);
	if (entry)
		claim = claim_new(by, &holder, &actor, entry, CLAIM_HOLD);
	if (!claim)
		return;
	lock_take(&by->lock);
	if (!by->gate.holder) {
		claim_start_locked(claim);
		claim = NULL;
	}
	lock_drop(&by->lock);
	claim_unref(claim);
	lock_take(&file->lock);
	if (file->hold && process_same(&file->hold->process, &holder))
		over = claim_end_locked(file->hold, &next);
	lock_drop(&file->lock);
	claim_unref(over);
	park_resume(next, PARK_DONE);
}

void hold_publish(struct file *file)
{
	struct tree *tree = file->tree;
	struct file **files = NULL, *one;
	size_t count = 0;

	if (file != tree->root) {
		ops_publish_let_go(file);
		return;
	}
	lock_take(&tree->lock);
	files = calloc(HASH_COUNT(tree->files) + 1, sizeof(*files));
	for (one = tree->files; one && files; one = one->hh.next)
		if (__atomic_load_n(&one->saves, __ATOMIC_RELAXED))
			files[count++] = file_ref(one);
	lock_drop(&tree->lock);
	for (size_t i = 0; i < count; i++) {
		ops_publish_let_go(files[i]);
		file_unref(files[i]);
	}
	free(files);
}

/* Nothing happens when the process has no hold of it. */
static void release(struct file *file, const struct process *process)
{
	struct parked *next = NULL;
	struct claim *claim = NULL;

	hold_publish(file);
	lock_take(&file->lock);
	if (file->hold && process_same(&file->hold->process, process))
		claim = claim_end_locked(file->hold, &next);
	lock_drop(&file->lock);
	claim_unref(claim);
	park_resume(next, PARK_DONE);
}

/*
 * Taking it: the tree's gate is waited for, then the own gate, then the end of who has the turn of the file; a step at a time.
 */
enum step { STEP_TREE, STEP_GATE, STEP_TURN, STEP_DONE };

struct taking {
	fuse_req_t req;
	struct node *node;
	struct file *file;
	struct process process;
	struct actor actor;
	enum step step;
};

static void go_on(struct taking *taking);

static void fail(struct taking *taking, int err)
{
	release(taking->file, &taking->process);
	fuse_reply_err(taking->req, err);
}

static void take_resume(struct parked *parked, enum park_end end)
{
	struct file *root = parked->node->file->tree->root;
	struct taking taking = {
		.req = parked->req,
		.node = parked->node,
		.file = S_ISREG(parked->node->file->attr.mode) ? parked->node->file : root,
		.process = parked->process,
		.actor = parked->actor,
		.step = (enum step)(parked->waits + 1),
	};

	if (end == PARK_INTERRUPTED)
		fail(&taking, EINTR);
	else
		go_on(&taking);
}

/* Whether a step has something to wait for. file->lock is held; where is whose turn, or gate, it is. */
static bool is_busy_locked(const struct taking *taking, struct file *where)
{
	return taking->step == STEP_TURN ? where->turn.holder != NULL : where->gate.holder != NULL;
}

/* True when the request was parked, or answered. */
static bool wait_step(struct taking *taking, struct file *where, struct claim *claim)
{
	struct parked *parked = park_new(
		taking->req, where, taking->node, NULL, NULL, &taking->process, take_resume);
	bool queued = false, busy;

	if (!parked) {
		claim_unref(claim);
		fail(taking, ENOMEM);
		return true;
	}
	parked->claim = claim;
	parked->waits = (int)taking->step;
	parked->entry = lineage_of(where);
	hold_set_groups(&parked->waiter, &taking->process);
	park_listen(parked);
	lock_take(&where->lock);
	busy = is_busy_locked(taking, where);
	if (busy && taking->step == STEP_TURN)
		queued = park_for_turn_locked(
			parked, &where->turn, tree_fs(where->tree)->options.turn_wait_ms);
	else if (busy)
		queued = park_for_turn_locked(parked, &where->gate, PARK_FOREVER);
	if (!busy && claim) {
		claim_start_locked(claim);
		parked->claim = NULL;
	}
	lock_drop(&where->lock);
	if (queued)
		return true;
	park_drop(parked);
	if (!busy || taking->step == STEP_TURN)
		return false;
	fail(taking, EDEADLK);
	return true;
}

/* True when there is nothing left to do. */
static bool take_gate(struct taking *taking)
{
	struct file *file = taking->file;
	struct claim *claim;
	bool held;

	lock_take(&file->lock);
	held = file->hold != NULL;
	lock_drop(&file->lock);
	/* It has it, or a process has that it descends from. */
	if (held && !is_shut(file, &taking->process)) {
		taking->step = STEP_DONE;
		return false;
	}
	claim = claim_new(file, &taking->process, &taking->actor, lineage_of(file), CLAIM_HOLD);
	if (claim)
		return wait_step(taking, file, claim);
	fuse_reply_err(taking->req, ENOMEM);
	return true;
}

static void go_on(struct taking *taking)
{
	struct file *root = taking->file->tree->root;

	for (; taking->step < STEP_DONE; taking->step++) {
		if (taking->step == STEP_TREE && is_shut(root, &taking->process) &&
			taking->file != root && wait_step(taking, root, NULL))
			return;
		if (taking->step == STEP_GATE && take_gate(taking))
			return;
		if (taking->step == STEP_TURN && taking->file != root &&
			!has_turn(taking->file, &taking->process) &&
			wait_step(taking, taking->file, NULL))
			return;
	}
	fuse_reply_buf(taking->req, HELD, strlen(HELD));
}

/* Who holds something could save it, too. */
static int check(fuse_req_t req, struct node *node)
{
	bool file = S_ISREG(node->file->attr.mode);
	struct node_row attr = file_attr(file ? node->file : node->file->tree->root);
	const struct rights rights = {attr.mode, attr.uid, attr.gid};

	if (!file && !S_ISDIR(node->file->attr.mode))
		return -EINVAL;
	return rights_allow(req, &rights, W_OK) ? 0 : -EACCES;
}

static int taking_init(struct taking *taking, fuse_req_t req, struct node *node)
{
	int err = check(req, node);

	*taking = (struct taking){.req = req, .node = node, .file = node->file};
	request_process(req, &taking->process);
	request_actor(req, &taking->actor);
	if (!S_ISREG(node->file->attr.mode))
		taking->file = node->file->tree->root;
	return err || taking->process.known ? err : -ESRCH;
}

void hold_take(fuse_req_t req, struct node *node, size_t size)
{
	struct taking taking;
	int err = taking_init(&taking, req, node);

	if (!err && size > 0 && size < strlen(HELD))
		err = -ERANGE;
	if (err)
		fuse_reply_err(req, -err);
	else if (size == 0)
		fuse_reply_xattr(req, strlen(HELD));
	else
		go_on(&taking);
}

void hold_change(fuse_req_t req, struct node *node, const char *value, size_t bytes)
{
	bool give = bytes == strlen(RELEASE) && memcmp(value, RELEASE, bytes) == 0;
	struct taking taking;
	int err = taking_init(&taking, req, node);

	if (!err && !give)
		err = -EINVAL;
	if (!err)
		release(taking.file, &taking.process);
	fuse_reply_err(req, -err);
}
