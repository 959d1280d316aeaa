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
#include "fs/put_back.h"
#include "fs/sibling.h"
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
	int64_t same; /* what it is based on, when the head has all that it changed */
};

/* The save's own node, now that the save is over: the head, or something that only those see who have it open. */
static void settle_node_locked(struct save *save, const struct publish *publish, bool head)
{
	struct node *node = save->node;

	node->kind = NODE_SETTLED;
	node->superseded = !head;
	node->mtime_ns = publish->row.mtime_ns;
	node->content = publish->saved;
	node->blocks = publish->outcome == PUBLISH_UNCHANGED ? publish->row.content.blocks
							     : publish->content.blocks;
	if (publish->other.object) {
		node->object = publish->other.object;
		node->size_bytes = publish->other.size_bytes;
		node->blocks = publish->other.blocks;
	} else if (publish->outcome == PUBLISH_UNCHANGED) {
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

	/* At once: its program may look at what it saved before this is done. */
	if (publish->saved && publishing->how != HOW_LIVE)
		save_seen(save, publishing->same ? publishing->same : publish->saved);
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
		settle_node_locked(save, publish, version && !publish->other.object);
	}
}

/* Who made it was killed, and there is a version to keep instead. */
static bool is_aside(const struct save *save)
{
	return save->interrupted && !save->stream_candidate;
}

static bool is_named(enum publish_outcome outcome)
{
	return outcome == PUBLISH_VERSION || outcome == PUBLISH_ASIDE;
}

static void place_merged(struct save *save, int64_t object)
{
	int err = object_publish(&save_journal(save)->objects, object);

	if (err) /* it is found in stage/, too */
		log_error("%s: object %" PRId64 " cannot be moved out of stage/: %s",
			save_journal(save)->path, object, strerror(-err));
}

static void count_verdict(struct tree *tree, const struct publish *publish)
{
	if (publish->outcome != PUBLISH_VERSION || !publish->verdict)
		return;
	if (strcmp(publish->verdict, "merged") == 0)
		__atomic_add_fetch(&tree->merged, 1, __ATOMIC_RELAXED);
	if (strcmp(publish->verdict, "blind") == 0)
		__atomic_add_fetch(&tree->blind_over, 1, __ATOMIC_RELAXED);
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

static const char *verdict_name(const struct judge *judge)
{
	switch (judge->outcome) {
	case JUDGE_BLIND:
		return "blind";
	case JUDGE_OVER:
		return "over";
	case JUDGE_MERGED:
		return "merged";
	case JUDGE_NEXT:
	case JUDGE_SAME:
	case JUDGE_REFUSED:
		break;
	}
	/* By its basis: what that precedes is known for sure only in the transaction. */
	return NULL;
}

/* What is published is what was judged. */
static void apply_verdict(struct publish *publish, const struct judge *judge)
{
	bool known = judge->basis.kind == SIGHT_OWN || judge->basis.kind == SIGHT_INHERITED;

	publish->verdict = verdict_name(judge);
	publish->judged = true;
	publish->judged_head = judge->displaced ? 0 : judge->head.id;
	if (known)
		publish->basis =
			(struct basis){judge->basis.kind == SIGHT_OWN ? "own" : "inherited",
				judge->basis_content, 0};
	if (judge->outcome != JUDGE_MERGED)
		return;
	publish->other = publish->content;
	publish->content = judge->merged;
	publish->kind = "merge";
}

/* io_lock is held, and the state is PUBLISHING. */
static int publish_once(struct save *save, enum publish_how how, struct live *live, bool final,
	struct publishing *publishing)
{
	struct file *file = save->successor ? save->successor : save->file;
	int64_t ino = save->node->ino;
	struct judge judge = {.outcome = JUDGE_NEXT};
	int err = 0;

	if (save->dirty || !save->closed_ms)
		err = save_seal(save);
	if (!err && !is_aside(save) && how != HOW_LIVE)
		err = save_judge(save, file, &judge);
	if (!err && judge.outcome == JUDGE_REFUSED)
		err = save_refuse(save, &judge) ?: -EBUSY;
	if (!err && (how == HOW_SNAPSHOT || save->successor || judge.outcome == JUDGE_MERGED))
		err = volume_next_number(save_journal(save)->volume, &ino);
	if (err) {
		judge_drop(&judge);
		return err;
	}
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
			.final = final,
			.applied = on_applied},
		.save = save,
		.how = how,
		.live = live,
	};
	if (live)
		publishing->publish.live = live->object;
	else if (!is_aside(save))
		apply_verdict(&publishing->publish, &judge);
	if (judge.outcome == JUDGE_SAME) {
		publishing->publish.equals = judge.head.id;
		/* What its program has in mind is not the head. */
		publishing->same = judge.basis_content;
	} else if (!is_aside(save) && judge.outcome != JUDGE_MERGED && equals_head(save, file))
		publishing->publish.equals = file_attr(file).content.id;
	err = publish_commit(&publishing->publish);
	if (err || !is_named(publishing->publish.outcome))
		judge_drop(&judge);
	else if (judge.outcome == JUDGE_MERGED)
		place_merged(save, judge.merged.object);
	if (!err && publishing->same)
		publishing->publish.saved = publishing->same;
	return err;
}

/* What has the name now: what replaced the file may have been replaced itself. NULL: nothing. */
static struct file *find_named(struct save *save)
{
	struct sql *sql = journal_read_begin(save_journal(save));
	struct entry_row entry = {.node = 0};
	struct file *file = NULL;
	struct node_row row;
	struct name name;

	if (record_entry_by_id(sql, save->entry, &entry, &name) == SQL_ROW && entry.node &&
		record_node_get(sql, entry.node, &row) == SQL_ROW && S_ISREG(row.mode))
		file = tree_file(save->file->tree, &row, 0);
	journal_read_end(save_journal(save));
	return file;
}

/* Looks where the save is to go, after what it was to go to has changed. False: it was removed, and nothing replaced it. */
static bool follow_name(struct save *save)
{
	struct file *named, *before = NULL;
	bool there;

	/* Whoever replaced it has said so in the apply step, which readers of the journal wait for. */
	named = find_named(save);
	lock_take(&save->file->lock);
	there = save->file->attr.nlink > 0 || save->successor;
	if (save->successor && named && named != save->file) {
		before = save->successor;
		save->successor = file_ref(named);
	}
	there = there && (named || save->file->attr.nlink > 0);
	lock_drop(&save->file->lock);
	file_unref(before);
	file_unref(named);
	return there;
}

/* Others may publish between the verdict and the commit: then it is judged anew. */
static int publish(
	struct save *save, enum publish_how how, struct live *live, struct publishing *publishing)
{
	bool final = false;
	int err;

	while ((err = publish_once(save, how, live, final, publishing)) == -EAGAIN)
		final = !follow_name(save);
	if (!err && publishing->publish.outcome == PUBLISH_DROPPED)
		save_forget(save);
	if (err || how == HOW_LIVE || !publishing->publish.saved)
		return err;
	save_seen_published(save, publishing->publish.saved);
	count_verdict(save->file->tree, &publishing->publish);
	return 0;
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

/* What was refused is beside the file, and the file is as it was, before those who wait go on. */
static void end_refused(struct save *save)
{
	if (save->refused) {
		put_back(save);
		save_show_refused(save);
	}
	save_abandon(save);
}

/* To put back what was there, or to save what others have saved, resolves nothing. */
static void clear_conflicts(struct save *save, const struct publish *publish)
{
	if (publish->outcome == PUBLISH_VERSION)
		sibling_clear(save->file->tree, save->entry, &save->saver, &save->actor);
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
		end_refused(save);
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
	if (err == -EBUSY && save->refused) {
		lock_drop(&save->io_lock);
		end_refused(save);
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
	clear_conflicts(save, &publishing.publish);
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
	if (err == -EBUSY && save->refused) {
		lock_take(&save->file->lock);
		save->state = SAVE_STAGED;
		save->closed_ms = 0;
		lock_drop(&save->file->lock);
		lock_drop(&save->io_lock);
		save_show_refused(save);
		return 0;
	}
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
	save->if_match = 0;
	save->closed_ms = 0;
	save->basis = (struct basis){"own", publishing.publish.saved, publishing.publish.number};
	save->sight = (struct sight){.kind = SIGHT_OWN, .content = publishing.publish.saved};
	next = save_pass_turn_locked(save->file, save);
	waiting = park_claim_all_locked(&save->parked);
	lock_drop(&save->file->lock);
	lock_drop(&save->io_lock);
	clear_conflicts(save, &publishing.publish);
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

	live = live_new(save->node, &save->saver, &save->actor, save->entry, "stream");
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
	clear_conflicts(save, &publishing.publish);
	save_end(save, waiting, next);
	return err;
}
