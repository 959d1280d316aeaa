/*
 * publish: the second moment of a save: what was staged becomes a version.
 *
 * Under io_lock throughout, so that nothing is written meanwhile; the apply step changes the nodes, in commit order.
 */
#include "fs/save_internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/notify.h"
#include "journal/log.h"

void node_supersede_locked(struct file *file, const struct node_row *before)
{
	struct node *head = file->head;

	if (!head)
		return;
	head->superseded = true;
	head->mtime_ns = before->mtime_ns;
	file->head = NULL;
}

enum publish_how { HOW_END, HOW_SNAPSHOT, HOW_LIVE };

struct publishing {
	struct publish publish;
	struct save *save;
	enum publish_how how;
	struct live *live;
};

/* The save's own node, now that the save is over: the head, or something that only those see who have it open. */
static void settle_node_locked(struct save *save, const struct publish *publish, bool head)
{
	struct node *node = save->node;

	node->kind = NODE_SETTLED;
	node->superseded = !head;
	node->mtime_ns = publish->row.mtime_ns;
	node->blocks = publish->outcome == PUBLISH_UNCHANGED ? publish->row.content.blocks
							     : publish->content.blocks;
	if (publish->outcome == PUBLISH_UNCHANGED) {
		node->object = publish->row.content.object;
		node->size_bytes = publish->row.content.size_bytes;
	} else {
		node->object = publish->outcome == PUBLISH_DROPPED ? 0 : publish->content.object;
		node->size_bytes = publish->content.size_bytes;
	}
	if (head) {
		node->ino = publish->row.ino;
		save->file->head = node;
	}
}

/* In the apply step, with the lock of the file that was published to. */
static void on_applied(struct publish *publish)
{
	struct publishing *publishing = container_of(publish, struct publishing, publish);
	struct save *save = publishing->save;
	struct file *file = save->successor ? save->successor : save->file;
	bool version = publish->outcome == PUBLISH_VERSION;

	if (version || publishing->how == HOW_LIVE)
		node_supersede_locked(file, &publish->before);
	if (publishing->how == HOW_LIVE) {
		save->node->kind = NODE_LIVE;
		save->node->object = publishing->live->object;
		save->node->live = publishing->live;
		save->live = true;
		/* One more until save_go_live is done with it. */
		publishing->live->writers = save->writers + 1;
		file->head = save->node;
	} else if (publishing->how == HOW_END && !save->successor) {
		settle_node_locked(save, publish, version);
	}
}

/* Who made it was killed, and there is a version to keep instead. */
static bool is_aside(const struct save *save)
{
	return save->interrupted && !save->stream_candidate;
}

static bool equals_head(struct save *save, struct file *file)
{
	struct content head = file_attr(file).content;
	autoclose int fd = -1;

	return head.id && head.size_bytes == save->size_bytes &&
	       memcmp(&head.hash, &save->hash, sizeof(head.hash)) == 0 &&
	       version_open(file->tree, head.object, &fd) == 0 &&
	       object_equal(fd, save->fd, save->size_bytes) == 1;
}

/* io_lock is held, and the state is PUBLISHING. */
static int publish(
	struct save *save, enum publish_how how, struct live *live, struct publishing *publishing)
{
	struct file *file = save->successor ? save->successor : save->file;
	int64_t ino = save->node->ino;
	int err = 0;

	if (save->dirty || !save->closed_ms)
		err = save_seal(save);
	if (!err && (how == HOW_SNAPSHOT || save->successor))
		err = volume_next_number(save_journal(save)->volume, &ino);
	if (err)
		return err;
	*publishing = (struct publishing){
		.publish = {.tree = file->tree,
			.node = file->id,
			.entry = save->entry,
			.ino = ino,
			.content = {.object = save->object,
				.size_bytes = save->size_bytes,
				.blocks = save->blocks,
				.hash = save->hash},
			.kind = save->interrupted ? "interrupted"
				: how == HOW_LIVE ? "stream"
						  : "save",
			.aside = is_aside(save),
			.basis = save->basis,
			.actor = save->actor,
			.mtime_ns = save->mtime_ns,
			.changed_ns = save->changed_ns,
			.changes_content = true,
			.clear_setid = save->clear_setid,
			.keep_if_unlinked = save->keep_if_unlinked,
			.applied = on_applied},
		.save = save,
		.how = how,
		.live = live,
	};
	if (live)
		publishing->publish.live = live->object;
	if (!is_aside(save) && equals_head(save, file))
		publishing->publish.equals = file_attr(file).content.id;
	return publish_commit(&publishing->publish);
}

/* The object's way from stage/ to objects/, when a version names it, or to nowhere. A failure is mended by the next
 * recovery, which finds the object in stage/. */
static int place_object(struct save *save, bool named)
{
	struct object_store *objects = &save_journal(save)->objects;
	int err = named ? object_publish(objects, save->object)
			: object_unstage(objects, save->object);

	if (err)
		log_error("%s: object %" PRId64 " cannot be moved out of stage/: %s",
			save_journal(save)->path, save->object, strerror(-err));
	return err;
}

static bool is_named(enum publish_outcome outcome)
{
	return outcome == PUBLISH_VERSION || outcome == PUBLISH_ASIDE;
}

/* Takes the save into PUBLISHING, if it is there to be published. io_lock is held. */
static bool start_publishing(struct save *save, bool let_go, enum save_state *ret_before)
{
	bool ok;

	lock_take(&save->file->lock);
	ok = save->state == SAVE_STAGED || save->state == SAVE_CLOSING;
	ok = ok && (save->let_go || !let_go);
	*ret_before = save->state;
	if (ok)
		save->state = SAVE_PUBLISHING;
	lock_drop(&save->file->lock);
	return ok;
}

static void publishing_failed(struct save *save, enum save_state before, int err)
{
	log_error(
		"tree %s: a save by %s (%s, process %d) cannot be published: %s; it is tried again",
		save->file->tree->info.name, save->actor.user, save->actor.program, save->actor.pid,
		strerror(-err));
	lock_take(&save->file->lock);
	save->state = before;
	save->let_go = save->writers == 0;
	save_set_timer(save, time_mono_ms() + STREAM_MS);
	lock_drop(&save->file->lock);
}

/* Whoever made it was killed before anything was written. */
static bool is_cut_off(struct save *save)
{
	struct stat st;

	return is_aside(save) && save->fd >= 0 && fstat(save->fd, &st) == 0 && st.st_size == 0;
}

static int publish_end(struct save *save, bool let_go)
{
	struct fs *fs = tree_fs(save->file->tree);
	struct publishing publishing;
	struct parked *waiting, *next;
	enum save_state before;
	int err = 0;

	save_ref(save);
	lock_take(&save->io_lock);
	if (!start_publishing(save, let_go, &before)) {
		lock_drop(&save->io_lock);
		save_unref(save);
		return 0;
	}
	if (!save_has_content(save) || is_cut_off(save)) {
		lock_drop(&save->io_lock);
		save_abandon(save);
		save_unref(save);
		return 0;
	}
	if (is_aside(save))
		log_info("tree %s: a save by %s (%s, process %d) was interrupted: it is in the "
			 "history",
			save->file->tree->info.name, save->actor.user, save->actor.program,
			save->actor.pid);
	err = publish(save, HOW_END, NULL, &publishing);
	if (err == -ENOENT && save_journal(save)->removed) {
		lock_drop(&save->io_lock);
		save_abandon(save);
		save_unref(save);
		return 0;
	}
	if (err) {
		publishing_failed(save, before, err);
		lock_drop(&save->io_lock);
		save_unref(save);
		return err;
	}
	place_object(save, is_named(publishing.publish.outcome));
	save->over = true;
	lock_drop(&save->io_lock);

	lock_take(&save->file->lock);
	if (save->successor)
		settle_node_locked(save, &publishing.publish, false);
	waiting = save_leave_locked(save, &next);
	lock_drop(&save->file->lock);
	/* While a file is being saved, its names are answered without a timeout; its successor's were not. */
	if (save->successor)
		notify_names(fs, save->successor);
	save_end(save, waiting, next);
	save_unref(save);
	return 0;
}

int save_publish(struct save *save)
{
	return publish_end(save, false);
}

int save_publish_let_go(struct save *save)
{
	return publish_end(save, true);
}

int save_snapshot(struct save *save)
{
	struct publishing publishing;
	struct parked *waiting = NULL, *next = NULL;
	enum save_state before;
	int err;

	lock_take(&save->io_lock);
	lock_take(&save->file->lock);
	save->flushed_ms = 0;
	lock_drop(&save->file->lock);
	if (!save_has_content(save) || !start_publishing(save, false, &before)) {
		lock_drop(&save->io_lock);
		return 0;
	}
	err = publish(save, HOW_SNAPSHOT, NULL, &publishing);
	if (err) {
		publishing_failed(save, before, err);
		lock_drop(&save->io_lock);
		return err;
	}
	if (is_named(publishing.publish.outcome))
		place_object(save, true);
	lock_take(&save->file->lock);
	save->state = SAVE_STAGED;
	save->sealed = is_named(publishing.publish.outcome);
	save->written = save->dirty = save->truncated = save->created = false;
	save->stream_candidate = save->locked = false;
	save->published = true;
	save->closed_ms = 0;
	save->basis =
		(struct basis){"own", publishing.publish.row.content.id, publishing.publish.number};
	next = save_pass_turn_locked(save->file, save);
	waiting = park_claim_all_locked(&save->parked);
	lock_drop(&save->file->lock);
	lock_drop(&save->io_lock);
	park_resume(next, PARK_DONE);
	park_resume(waiting, PARK_DONE);
	return 0;
}

int save_go_live(struct save *save)
{
	struct publishing publishing;
	struct parked *waiting, *next;
	enum save_state before;
	struct live *live;
	int err;

	live = live_new(save->node, &save->actor, save->entry, "stream");
	if (!live)
		return -ENOMEM;
	lock_take(&save->io_lock);
	if (save->successor || save_own_object(save) != 0 ||
		!start_publishing(save, false, &before)) {
		lock_drop(&save->io_lock);
		live_free(live);
		return 0;
	}
	live->object = save->object;
	live->fd = fcntl(save->fd, F_DUPFD_CLOEXEC, 0);
	err = live->fd < 0 ? -errno : publish(save, HOW_LIVE, live, &publishing);
	if (err == -EALREADY) { /* others write to it in place: this save stays what it is */
		lock_take(&save->file->lock);
		save->state = before;
		lock_drop(&save->file->lock);
	} else if (err) {
		publishing_failed(save, before, err);
	}
	if (err) {
		lock_drop(&save->io_lock);
		live_free(live);
		return err == -EALREADY ? 0 : err;
	}
	/* In stage/ until a version names it. */
	live->staged = !is_named(publishing.publish.outcome) || place_object(save, true) != 0;
	lock_take(&save->file->lock);
	live->named = is_named(publishing.publish.outcome);
	live->named_bytes = live->named ? save->size_bytes : 0;
	live->basis =
		(struct basis){"own", publishing.publish.row.content.id, publishing.publish.number};
	waiting = save_leave_locked(save, &next);
	lock_drop(&save->file->lock);
	lock_drop(&save->io_lock);
	err = live_release(save->node, false);
	save_end(save, waiting, next);
	return err;
}
