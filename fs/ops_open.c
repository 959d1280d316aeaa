/*
 * ops_open: what an open becomes (docs/architecture.md).
 *
 *   settled, for reading             the node as it is; a superseded one is answered ESTALE once
 *   settled, for writing             its turn is waited for; then a node of its own is reserved, and ESTALE sends the kernel there
 *   settled, to append               its place in the queue of turns is waited for; then the file is live
 *   staged                           the save that it was reserved for begins, or is joined
 *   live                             the one object that all share
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <utlist.h>

#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/redirect.h"
#include "fs/virtual.h"
#include "journal/log.h"

/* A writer that comes back before its last save was released. */
#define REOPEN_WAIT_MS 200

/* A settling that has begun. */
#define SETTLE_WAIT_MS 2000

/* What the kernel is told of names, when somebody holds its directories' locks. */
#define NOTICE_WAIT_MS 1000

#define LOOKS_MAX 5

struct opening {
	fuse_req_t req;
	struct node *node;
	struct fuse_file_info fi;
	struct process process;
	int64_t entry;		   /* the lineage */
	enum redirect_state state; /* a second ESTALE would reach the program */
	int waits;		   /* for publishes */
	bool queued;		   /* it had its time in the queue of turns */
	int looks;		   /* how often its object was gone when it was opened */
	bool live; /* a writer that needs no save of its own: an append, or the file is to be live */
	bool joins;   /* it writes in place only while others do */
	bool follows; /* a reader of the head, by another node */
};

static void open_node(struct opening *opening);

static bool for_writing(const struct opening *opening)
{
	return (opening->fi.flags & O_ACCMODE) != O_RDONLY || (opening->fi.flags & O_TRUNC);
}

static bool is_append(const struct opening *opening)
{
	return (opening->fi.flags & O_APPEND) && !(opening->fi.flags & O_TRUNC);
}

static const char *live_kind(const struct opening *opening)
{
	return is_append(opening) ? "append" : "live";
}

static void send_round(struct opening *opening)
{
	redirect_set(opening->process.tid, opening->node, for_writing(opening),
		for_writing(opening) && !opening->live);
	fuse_reply_err(opening->req, ESTALE);
}

static void reply_open(struct opening *opening, struct handle *handle)
{
	opening->fi.fh = (uintptr_t)handle;
	opening->fi.keep_cache = !opening->fi.direct_io;
	opening->fi.noflush = ops_handle_opened(handle, fuse_req_ctx(opening->req)->pid);
	if (fuse_reply_open(opening->req, &opening->fi) == 0)
		return;
	/* Interrupted: it will not be released. */
	ops_close(handle);
}

static void fail(struct opening *opening, struct handle *handle, int err)
{
	if (handle)
		ops_handle_free(handle);
	fuse_reply_err(opening->req, -err);
}

static void publish_resume(struct parked *parked, enum park_end end)
{
	struct opening opening = {parked->req, parked->node, parked->fi, parked->process,
		parked->entry, (enum redirect_state)parked->redirect_state, parked->waits, false, 0,
		false, false, false};

	if (end == PARK_TIMEOUT)
		ops_publish_let_go(parked->file);
	if (end == PARK_INTERRUPTED)
		fuse_reply_err(parked->req, EINTR);
	else
		open_node(&opening);
}

/* Waits for a publish, if there is still one to wait for. True when the request was parked. wanted: where to wait, or NULL; called
 * with file->lock held. */
static bool wait_for_publish(struct opening *opening,
	struct parked **(*wanted)(struct opening *opening), unsigned timeout_ms)
{
	struct file *file = opening->node->file;
	struct parked *parked = park_new(opening->req, file, opening->node, NULL, &opening->fi,
		&opening->process, publish_resume);
	struct parked **list;

	if (!parked)
		return false;
	park_listen(parked);
	parked->entry = opening->entry;
	parked->redirect_state = opening->state;
	parked->waits = opening->waits + 1;
	lock_take(&file->lock);
	list = wanted(opening);
	if (list)
		park_for_publish_locked(parked, list, timeout_ms);
	lock_drop(&file->lock);
	if (!list)
		park_drop(parked);
	return list;
}

static struct parked **waiters_of(struct save *save)
{
	return save ? &save->parked : NULL;
}

/* Who opened the node walked no path, or its own save would have been shown to it: it waits for that, too. */
static struct parked **releasing(struct opening *opening)
{
	const struct process anybody = {.known = false};

	return opening->node->superseded && !opening->follows
		       ? NULL
		       : waiters_of(save_releasing_locked(opening->node->file, &anybody));
}

static struct parked **publishing(struct opening *opening)
{
	struct save *save;

	if (opening->node->superseded && !opening->follows)
		return NULL;
	DL_FOREACH(opening->node->file->saves, save)
	{
		if (save->state == SAVE_PUBLISHING)
			return &save->parked;
	}
	return NULL;
}

/* With its handle the node is open, and keeps its version, unless it follows the head already. */
static void read_node(struct opening *opening)
{
	struct handle *handle = ops_handle_new(opening->node);
	struct node *node = opening->node;
	int64_t object;
	bool followed;
	int err = 0;

	lock_take(&node->file->lock);
	followed = node->followed;
	object = node->object;
	lock_drop(&node->file->lock);
	if (handle && followed)
		err = ops_open_head(node->file, &handle->fd);
	else if (handle && object)
		err = version_open(node->file->tree, object, &handle->fd);
	/* A live file settled, and its content moved, between the look and the open: look again. */
	if (err == -ENOENT && opening->looks++ < LOOKS_MAX) {
		ops_handle_free(handle);
		open_node(opening);
		return;
	}
	/* What was never published is served once it is there. Of a node that follows the head the kernel may have pages of more than
	 * one version. */
	opening->fi.direct_io = !object || followed;
	if (!handle || err)
		fail(opening, handle, handle ? err : -ENOMEM);
	else
		reply_open(opening, handle);
}

static void open_for_reading(struct opening *opening)
{
	struct node *node = opening->node;
	bool stale, wait;

	opening->follows = opening->state == REDIRECT_BACK && ops_follow_if_left(node);
	lock_take(&node->file->lock);
	stale = node->superseded && opening->state == REDIRECT_NONE;
	wait = opening->waits == 0 && releasing(opening);
	lock_drop(&node->file->lock);
	if (stale)
		send_round(opening);
	else if (wait && wait_for_publish(opening, releasing, RELEASE_WAIT_MS))
		return;
	/* Once it has begun, it takes as long as it takes. */
	else if (opening->waits == 1 && wait_for_publish(opening, publishing, PARK_FOREVER))
		return;
	else
		read_node(opening);
}

/* A writer that was sent round came to a node that was superseded (again): what is written through it goes to the head, whatever
 * node the kernel knows it by. Who does more than append needs to see the head, too. */
static int write_to_head(struct opening *opening, struct handle *handle, const struct actor *actor)
{
	struct file *file = opening->node->file;
	struct node *head;
	int err;

	do {
		lock_take(&file->lock);
		head = node_head_locked(file);
		lock_drop(&file->lock);
		err = head ? live_open(head, actor, opening->entry, live_kind(opening)) : -ENOMEM;
		if (err)
			node_unref(head, 1);
	} while (err == -ESTALE);
	if (err)
		return err;
	node_unref(handle->node, 1);
	handle->node = head;
	opening->fi.direct_io = 1;
	if (!is_append(opening))
		ops_follow_head(opening->node);
	return 0;
}

/* Who does not append to what others append to may overwrite it. */
static int keep_from(struct opening *opening)
{
	struct node *node = opening->node;
	bool grows;

	if (opening->fi.flags & O_APPEND)
		return 0;
	lock_take(&node->file->lock);
	grows = node->kind == NODE_LIVE && node->live &&
		(strcmp(node->live->kind, "append") == 0 ||
			strcmp(node->live->kind, "stream") == 0);
	lock_drop(&node->file->lock);
	return grows ? live_keep(node) : 0;
}

static struct parked **closing_live(struct opening *opening)
{
	return live_settling_locked(opening->node);
}

static struct parked **settling(struct opening *opening)
{
	struct live *live = opening->node->live;

	return live && live->writers == 0 ? live_settling_locked(opening->node) : NULL;
}

/* Once the file has settled, a save of it is staged. True when the request was parked. */
static bool wait_for_settling(struct opening *opening)
{
	if (opening->waits == 0)
		return wait_for_publish(opening, closing_live, RELEASE_WAIT_MS);
	return opening->waits == 1 && wait_for_publish(opening, settling, SETTLE_WAIT_MS);
}

static void open_live(struct opening *opening)
{
	struct handle *handle = ops_handle_new(opening->node);
	const struct fuse_ctx *ctx = fuse_req_ctx(opening->req);
	struct node *node = opening->node;
	struct actor actor;
	int64_t object;
	int err = 0;

	if (handle && for_writing(opening)) {
		actor_get(&actor, &opening->process, ctx->uid, ctx->gid);
		err = keep_from(opening);
		if (!err)
			err = opening->joins
				      ? live_join(node)
				      : live_open(node, &actor, opening->entry, live_kind(opening));
		if (err == -ESTALE && opening->state != REDIRECT_NONE)
			err = write_to_head(opening, handle, &actor);
		handle->writer = handle->live = !err;
		if (!err && (opening->fi.flags & O_TRUNC))
			err = live_truncate(handle->node->live, handle, 0, ctx->uid);
		if (err && handle->writer)
			ops_end_writing(handle);
	} else if (handle) {
		lock_take(&node->file->lock);
		object = node->object;
		lock_drop(&node->file->lock);
		err = version_open(node->file->tree, object, &handle->fd);
	}
	if (!handle || err) {
		if (err == -EAGAIN && opening->looks++ < LOOKS_MAX) {
			ops_handle_free(handle);
			open_node(opening);
		} else if (err == -ESTALE && opening->state == REDIRECT_NONE) {
			ops_handle_free(handle);
			send_round(opening);
		} else {
			fail(opening, handle, handle ? err : -ENOMEM);
		}
		return;
	}
	reply_open(opening, handle);
}

/* The turn is the waiter's, or its wait is over: who overran it once has lost it. */
static void turn_resume(struct parked *parked, enum park_end end)
{
	struct opening opening = {parked->req, parked->node, parked->fi, parked->process,
		parked->entry, (enum redirect_state)parked->redirect_state, 1, true, 0,
		!parked->reserves, false, false};
	struct file *file = parked->file;
	struct parked *next = NULL;
	struct save *save = NULL;
	int64_t ino = 0;

	if (end == PARK_INTERRUPTED) {
		fuse_reply_err(parked->req, EINTR);
		return;
	}
	if (end == PARK_TIMEOUT && volume_next_number(file->tree->journal->volume, &ino) == 0) {
		lock_take(&file->lock);
		if (parked->reserves && !file_is_live_locked(file)) {
			save = save_reserve_locked(
				file, &parked->process, &parked->actor, parked->entry, ino, NULL);
			file->turn.holder = save;
		} else {
			next = save_pass_turn_locked(file, file->turn.holder);
		}
		lock_drop(&file->lock);
		park_resume(next, PARK_DONE);
	}
	if (!parked->reserves)
		open_node(&opening);
	else
		send_round(&opening);
}

/* Queues for the turn, unless it became free. True when the request was parked. */
static bool wait_for_turn(struct opening *opening)
{
	struct file *file = opening->node->file;
	struct parked *parked = park_new(opening->req, file, opening->node, NULL, &opening->fi,
		&opening->process, turn_resume);
	bool queued;

	if (!parked)
		return false;
	park_listen(parked);
	parked->reserves = !opening->live;
	parked->entry = opening->entry;
	parked->redirect_state = opening->state;
	lock_take(&file->lock);
	queued = file->turn.holder != NULL;
	if (queued)
		park_for_turn_locked(parked, tree_fs(file->tree)->options.turn_wait_ms);
	lock_drop(&file->lock);
	if (!queued)
		park_drop(parked);
	return queued;
}

enum turn_state { TURN_FREE, TURN_MINE, TURN_OTHERS };

static enum turn_state look_at_turn(struct opening *opening)
{
	struct file *file = opening->node->file;
	enum turn_state state;

	lock_take(&file->lock);
	if (save_visible_locked(file, &opening->process))
		state = TURN_MINE;
	else
		state = file->turn.holder ? TURN_OTHERS : TURN_FREE;
	lock_drop(&file->lock);
	return state;
}

static bool is_closed(const struct save *save)
{
	return save->state == SAVE_PUBLISHING || save->state == SAVE_CLOSING ||
	       (save->state == SAVE_STAGED && save->flushed_ms);
}

/* The release of the thread's own last save of the file is on its way. */
static struct parked **own_closing(struct opening *opening)
{
	struct save *save = save_visible_locked(opening->node->file, &opening->process);

	return save && is_closed(save) ? &save->parked : NULL;
}

/* The kernel is being told to look the file's names up anew, of which it has got another (link). Before it knows, who looks at one of
 * them would be shown what the kernel had of it, after a save by another one. */
static struct parked **noticed(struct opening *opening)
{
	return opening->node->file->notices ? &opening->node->file->noticed : NULL;
}

static bool has_notices(struct opening *opening)
{
	bool any;

	lock_take(&opening->node->file->lock);
	any = noticed(opening);
	lock_drop(&opening->node->file->lock);
	return any;
}

static int join(struct opening *opening, struct save *save, struct handle *handle);
static bool is_reserved(struct save *save);

/* No path was walked to a node of the save's own. What is written anew as a whole does without: it is saved through the node that is
 * there, past the kernel's pages, which stay those of the node's version. False: it has to be done in place. */
static bool save_through(struct opening *opening)
{
	struct node *node = opening->node;
	bool anew = (opening->fi.flags & O_TRUNC) && !opening->live;
	struct handle *handle;
	struct save *save;
	int err;

	lock_take(&node->file->lock);
	save = save_visible_locked(node->file, &opening->process);
	if (save)
		save_ref(save);
	if (save && save->state == SAVE_RESERVED)
		save->shown_ino = node->followed ? node->file->attr.ino : node->ino;
	lock_drop(&node->file->lock);
	handle = save && anew ? ops_handle_new(save->node) : NULL;
	err = handle ? join(opening, save, handle) : -ENOENT;
	if (err && handle)
		ops_handle_free(handle);
	/* Nobody else is to wait for its turn. */
	if (err && save && is_reserved(save))
		save_abandon(save);
	save_unref(save);
	if (err)
		return false;
	/* Without a walk the kernel may know the names for long, and what they stood for. */
	ops_tell_others(node->file, NULL);
	notify_names(tree_fs(node->file->tree), node->file);
	opening->fi.direct_io = 1;
	reply_open(opening, handle);
	return true;
}

static void open_for_writing(struct opening *opening)
{
	enum turn_state state;

	opening->live = is_append(opening) || live_wanted(opening->node->file, opening->fi.flags);
	if (opening->state != REDIRECT_NONE) {
		if (opening->state == REDIRECT_ROUND && !opening->live)
			log_warning(
				"a save that was sent round found no reservation; it goes on without");
		if (!save_through(opening))
			open_live(opening);
		return;
	}
	if (opening->waits == 0 && wait_for_publish(opening, own_closing, REOPEN_WAIT_MS))
		return;
	if (opening->waits <= 1 && has_notices(opening) &&
		wait_for_publish(opening, noticed, NOTICE_WAIT_MS))
		return;
	opening->entry = ops_lineage(opening->node->file);
	for (;;) {
		state = look_at_turn(opening);
		if (state != TURN_OTHERS || opening->queued)
			break;
		if (wait_for_turn(opening))
			return;
	}
	if (opening->live && state != TURN_MINE)
		open_live(opening);
	else if (ops_reserve(opening->req, opening->node, &opening->process))
		fuse_reply_err(opening->req, ESTALE);
	else
		fuse_reply_err(opening->req, ENOMEM);
}

/* The release of the writer's own last save is on its way. */
static struct parked **closing(struct opening *opening)
{
	struct save *save = opening->node->kind == NODE_STAGED ? opening->node->save : NULL;

	return save && for_writing(opening) && is_closed(save) ? &save->parked : NULL;
}

/* The save behind a staged node, with a reference: the one that is there, or a reservation anew after the old was given up. */
static struct save *staged_save(struct opening *opening)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(opening->req);
	struct node *node = opening->node;
	struct file *file = node->file;
	struct actor actor;
	struct save *save;

	actor_get(&actor, &opening->process, ctx->uid, ctx->gid);
	lock_take(&file->lock);
	save = node->save;
	if (!save && node->kind == NODE_STAGED) {
		save = save_reserve_locked(
			file, &opening->process, &actor, opening->entry, node->ino, node);
		if (save)
			turn_take(&file->turn, save);
	}
	if (save)
		save_ref(save);
	lock_drop(&file->lock);
	return save;
}

static bool is_reserved(struct save *save)
{
	bool reserved;

	lock_take(&save->file->lock);
	reserved = save->state == SAVE_RESERVED;
	lock_drop(&save->file->lock);
	return reserved;
}

static bool save_is_closed(struct save *save)
{
	bool closed;

	lock_take(&save->file->lock);
	closed = is_closed(save);
	lock_drop(&save->file->lock);
	return closed;
}

static int join(struct opening *opening, struct save *save, struct handle *handle)
{
	uid_t uid = fuse_req_ctx(opening->req)->uid;
	bool begin = is_reserved(save);
	int err;

	if (begin && !for_writing(opening)) {
		/* Somebody looks, who was to save: the head, as it is. */
		struct content head = file_attr(save->file).content;

		return head.object ? version_open(save->file->tree, head.object, &handle->fd) : 0;
	}
	err = begin ? save_begin(save, opening->fi.flags, false) : 0;
	if (err)
		return err;
	/* What was closed, and is not released, is a version of its own. */
	if (!begin && for_writing(opening) && save_is_closed(save))
		err = save_snapshot(save);
	if (err)
		return err;
	lock_take(&save->file->lock);
	if (save->state == SAVE_GONE || save->state == SAVE_PUBLISHING) {
		err = -ESTALE;
	} else if (for_writing(opening)) {
		handle->writer = true;
		save->writers++;
		save->let_go = false;
		save->flushed_ms = 0;
	}
	lock_drop(&save->file->lock);
	if (err)
		return err;
	handle->save = save_ref(save);
	if (!begin && (opening->fi.flags & O_TRUNC))
		err = save_truncate(save, 0, uid);
	if (err == SAVE_IS_LIVE)
		err = live_truncate(handle->node->live, handle, 0, uid);
	if (err)
		ops_end_writing(handle);
	return err;
}

/* It takes as long as its content is large, and it is not for another open to look again and again meanwhile. */
static struct parked **being_published(struct opening *opening)
{
	struct save *save = opening->node->save;

	return save && save->state == SAVE_PUBLISHING ? &save->parked : NULL;
}

static void open_staged(struct opening *opening)
{
	struct handle *handle;
	struct save *save;
	bool wait;
	int err;

	lock_take(&opening->node->file->lock);
	wait = opening->waits == 0 && closing(opening);
	lock_drop(&opening->node->file->lock);
	if (wait && wait_for_publish(opening, closing, REOPEN_WAIT_MS))
		return;
	if (!opening->entry)
		opening->entry = ops_lineage(opening->node->file);
	save = staged_save(opening);
	handle = save ? ops_handle_new(opening->node) : NULL;
	if (!handle) {
		save_unref(save);
		open_node(opening); /* it was published just now */
		return;
	}
	err = join(opening, save, handle);
	if (err && err != -ESTALE)
		save_expire(save);
	save_unref(save);
	if (!err) {
		reply_open(opening, handle);
		return;
	}
	if (err == -ESTALE) {
		ops_handle_free(handle);
		if (!wait_for_publish(opening, being_published, PARK_FOREVER))
			open_node(opening);
		return;
	}
	fail(opening, handle, err);
}

static void open_virtual(struct opening *opening)
{
	struct handle *handle = ops_handle_new(opening->node);
	int err = handle ? 0 : -ENOMEM;

	if (!err && for_writing(opening))
		err = -EROFS;
	if (!err)
		err = virtual_open(opening->req, opening->node, handle);
	opening->fi.direct_io = 1;
	if (err)
		fail(opening, handle, err);
	else
		reply_open(opening, handle);
}

static void open_node(struct opening *opening)
{
	enum node_kind kind;
	bool settles;
	int err = 0;

	if (opening->node->kind == NODE_VIRTUAL) {
		open_virtual(opening);
		return;
	}
	/* Many programs never look at what close says. */
	if (for_writing(opening))
		err = journal_writable(opening->node->file->tree->journal);
	if (err) {
		fuse_reply_err(opening->req, -err);
		return;
	}
	lock_take(&opening->node->file->lock);
	kind = opening->node->kind;
	opening->joins = kind == NODE_LIVE && for_writing(opening) && !is_append(opening);
	settles = opening->joins && live_settling_locked(opening->node);
	lock_drop(&opening->node->file->lock);
	if (settles && !live_wanted(opening->node->file, opening->fi.flags) &&
		wait_for_settling(opening))
		return;
	if (kind == NODE_STAGED)
		open_staged(opening);
	else if (kind == NODE_LIVE)
		open_live(opening);
	else if (for_writing(opening))
		open_for_writing(opening);
	else
		open_for_reading(opening);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct opening opening = {.req = req, .node = node_of(ino), .fi = *fi};

	request_process(req, &opening.process);
	if (opening.node->kind != NODE_VIRTUAL)
		opening.state =
			redirect_end(opening.process.tid, opening.node, for_writing(&opening));
	open_node(&opening);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *handle = handle_of(fi);

	(void)ino;
	ops_close(handle);
	fuse_reply_err(req, 0);
}
