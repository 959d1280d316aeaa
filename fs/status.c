#include "fs/status.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#include "fs/ops.h"
#include "fs/virtual.h"
#include "meta/report.h"

/* Somebody with a part in a save, a turn or the locks of a file. */
struct who {
	struct actor actor;
	int64_t since_ns;
	struct range_lock lock;
	/* Of a lock that is held: what its holder has open, and who opened it. */
	int64_t shown_ino;
	pid_t opener;
};

enum activity_kind { ACTIVITY_SAVE, ACTIVITY_TURN, ACTIVITY_LOCKS };

struct activity {
	enum activity_kind kind;
	int64_t entry;
	const char *state; /* of a save */
	int64_t size_bytes;
	struct who *who; /* of a save one; of a turn and of locks first those who have it */
	size_t who_count;
	size_t held;
};

struct activities {
	struct activity *list;
	size_t count;
	bool failed; /* no memory */
};

static struct activity *add_activity(struct activities *all, enum activity_kind kind, int64_t entry)
{
	struct activity *grown = reallocarray(all->list, all->count + 1, sizeof(*grown));

	if (!grown) {
		all->failed = true;
		return NULL;
	}
	all->list = grown;
	grown += all->count++;
	*grown = (struct activity){.kind = kind, .entry = entry};
	return grown;
}

/* Returns NULL when there is no memory. */
static struct who *add_who(struct activities *all, struct activity *activity,
	const struct actor *actor, int64_t since_ns)
{
	struct who *grown = reallocarray(activity->who, activity->who_count + 1, sizeof(*grown));

	if (!grown) {
		all->failed = true;
		return NULL;
	}
	activity->who = grown;
	grown += activity->who_count++;
	*grown = (struct who){.actor = *actor, .since_ns = since_ns};
	return grown;
}

static void activities_deinit(struct activities *all)
{
	for (size_t i = 0; i < all->count; i++)
		free(all->list[i].who);
	free(all->list);
}

static void collect_save(struct activities *all, struct save *save)
{
	struct activity *activity = add_activity(all, ACTIVITY_SAVE, save->entry);
	struct stat st = {.st_size = 0};

	if (!activity)
		return;
	save_stat_locked(save, &st);
	activity->state = save->state == SAVE_STAGED ? "staged" : "closing";
	activity->size_bytes = st.st_size;
	add_who(all, activity, &save->actor, save->opened_ns);
}

static void collect_live(struct activities *all, struct live *live)
{
	struct activity *activity = add_activity(all, ACTIVITY_SAVE, live->entry);
	struct stat st = {.st_size = 0};

	if (!activity)
		return;
	live_stat_locked(live, &st);
	activity->state = "live";
	activity->size_bytes = st.st_size;
	add_who(all, activity, &live->actor, live->mtime_ns);
}

static void collect_turn(struct activities *all, struct file *file)
{
	struct turn_waiter *waiter = file->turn.waiters;
	struct save *holder = file->saves;
	struct activity *activity;
	struct parked *parked;

	while (holder && holder != file->turn.holder)
		holder = holder->next;
	if (!holder && !waiter)
		return;
	activity = add_activity(all, ACTIVITY_TURN,
		holder ? holder->entry : container_of(waiter, struct parked, waiter)->entry);
	if (!activity)
		return;
	if (holder) {
		activity->held = 1;
		add_who(all, activity, &holder->actor, holder->opened_ns);
	}
	for (; waiter; waiter = waiter->next) {
		parked = container_of(waiter, struct parked, waiter);
		add_who(all, activity, &parked->actor, parked->since_ns);
	}
}

/* actor: NULL for one that is to be identified. */
static struct who *add_lock(struct activities *all, struct activity *activity,
	const struct actor *actor, const struct range_lock *lock)
{
	const struct actor unknown = {.uid = lock->uid};
	struct who *who = add_who(all, activity, actor ? actor : &unknown, lock->since_ns);

	if (who)
		who->lock = *lock;
	return who;
}

static void collect_locks(struct activities *all, struct file *file)
{
	struct activity *activity;
	struct range_lock *lock;
	struct parked *parked;

	if (!file->locks && !file->lock_waiters)
		return;
	activity = add_activity(all, ACTIVITY_LOCKS, file->names ? file->names->entry : 0);
	if (!activity)
		return;
	DL_FOREACH(file->locks, lock)
	{
		const struct handle *handle = lock->via;
		struct who *who = add_lock(all, activity, NULL, lock);

		if (!who)
			continue;
		activity->held++;
		who->shown_ino = handle->shown_ino;
		who->opener = handle->opener;
	}
	DL_FOREACH(file->lock_waiters, parked)
	{
		add_lock(all, activity, &parked->actor, &parked->lock);
	}
}

static void collect(struct tree *tree, struct activities *all)
{
	struct file *file;
	struct save *save;

	lock_take(&tree->lock);
	for (file = tree->files; file; file = file->hh.next) {
		lock_take(&file->lock);
		DL_FOREACH(file->saves, save)
		{
			if (save->state != SAVE_RESERVED && save->state != SAVE_GONE)
				collect_save(all, save);
		}
		if (file->head && file->head->kind == NODE_LIVE && file->head->live)
			collect_live(all, file->head->live);
		collect_turn(all, file);
		collect_locks(all, file);
		lock_drop(&file->lock);
	}
	lock_drop(&tree->lock);
}

static json_t *describe_text(const char *text)
{
	return report_text(text, strlen(text));
}

static json_t *describe_who(const struct who *who)
{
	return json_pack("{s:I, s:o, s:I, s:o, s:o}", "pid", (json_int_t)who->actor.pid, "program",
		describe_text(who->actor.program), "uid", (json_int_t)who->actor.uid, "user",
		describe_text(who->actor.user), "since", report_time(who->since_ns));
}

static json_t *describe_save(const struct activity *save)
{
	return json_pack("{s:s, s:I, s:o, s:o}", "state", save->state, "size",
		(json_int_t)save->size_bytes, "since", report_time(save->who->since_ns), "by",
		describe_who(save->who));
}

static json_t *describe_turn(const struct activity *turn)
{
	json_t *waiting = json_array();

	for (size_t i = turn->held; i < turn->who_count; i++)
		json_array_append_new(waiting, describe_who(&turn->who[i]));
	return json_pack("{s:o, s:o}", "holder", turn->held ? describe_who(turn->who) : json_null(),
		"waiting", waiting);
}

static json_t *describe_lock(const struct who *who)
{
	const struct range_lock *lock = &who->lock;
	json_t *by = describe_who(who);

	return json_pack("{s:s, s:s, s:I, s:o, s:o}", "kind",
		lock->kind == RANGE_FLOCK ? "flock" : "fcntl", "type",
		lock->type == F_WRLCK ? "write" : "read", "start", (json_int_t)lock->start, "end",
		lock->end == INT64_MAX ? json_null() : json_integer(lock->end), "by", by);
}

/* Locks go with the open file: who asked for it may have ended since, as flock(1) does, and who opened the file, too. */
static void identify_holder(struct who *who)
{
	struct process process = {.tid = who->lock.pid};

	if (process_is_using(who->lock.pid, (uint64_t)who->shown_ino))
		process_get(who->lock.pid, &process);
	else if (process_is_using(who->opener, (uint64_t)who->shown_ino))
		process_get(who->opener, &process);
	actor_get(&who->actor, &process, who->lock.uid, 0);
}

/* Of the many locks that a program may have on a file, /proc is asked once. */
static void identify_holders(struct activity *locks)
{
	for (size_t i = 0; i < locks->held; i++) {
		struct who *who = &locks->who[i];

		if (i > 0 && who[-1].lock.pid == who->lock.pid && who[-1].lock.via == who->lock.via)
			who->actor = who[-1].actor;
		else
			identify_holder(who);
	}
}

static json_t *describe_locks(struct activity *locks)
{
	json_t *held = json_array(), *waiting = json_array();

	identify_holders(locks);
	for (size_t i = 0; i < locks->who_count; i++)
		json_array_append_new(
			i < locks->held ? held : waiting, describe_lock(&locks->who[i]));
	return json_pack("{s:o, s:o}", "held", held, "waiting", waiting);
}

static json_t *describe_activity(struct activity *activity)
{
	if (activity->kind == ACTIVITY_SAVE)
		return describe_save(activity);
	return activity->kind == ACTIVITY_TURN ? describe_turn(activity) : describe_locks(activity);
}

static bool takes_part(const struct activity *activity, uid_t uid)
{
	for (size_t i = 0; i < activity->who_count; i++)
		if (activity->who[i].actor.uid == uid)
			return true;
	return false;
}

/* lists: of each kind. */
static int describe_activities(struct tree *tree, uid_t uid, bool everything, json_t *lists[])
{
	struct activities all = {NULL, 0, false};
	json_t *path;
	int err;

	collect(tree, &all);
	err = all.failed ? -ENOMEM : 0;
	for (size_t i = 0; i < all.count && !err; i++) {
		struct activity *activity = &all.list[i];

		if (!everything && !takes_part(activity, uid))
			continue;
		path = json_object();
		err = json_array_append_new(lists[activity->kind], path) ? -ENOMEM : 0;
		err = err ?: report_path(tree, path, activity->entry);
		if (!err && json_object_update_new(path, describe_activity(activity)) != 0)
			err = -ENOMEM;
	}
	activities_deinit(&all);
	return err;
}

/* What everybody may know. */
static json_t *describe_tree(struct tree *tree, const struct node_row *root)
{
	static const struct process nobody;
	struct actor owner;

	actor_get(&owner, &nobody, root->uid, root->gid);
	return json_pack("{s:o, s:I, s:o, s:o}", "name", describe_text(tree->info.name), "uid",
		(json_int_t)root->uid, "user", describe_text(owner.user), "mode",
		report_mode(root->mode));
}

static int describe_contents(
	fuse_req_t req, struct tree *tree, const struct node_row *root, json_t *description)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	json_t *lists[] = {json_array(), json_array(), json_array()}, *rest;
	int64_t seq = __atomic_load_n(&tree->journal->seq, __ATOMIC_ACQUIRE);
	struct report_counts counts = {0};
	int err = report_count(tree, &counts);

	rest = json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "seq", (json_int_t)seq,
		"files", (json_int_t)counts.files, "versions", (json_int_t)counts.versions, "bytes",
		(json_int_t)counts.bytes, "blind", (json_int_t)counts.blind, "saves",
		lists[ACTIVITY_SAVE], "turns", lists[ACTIVITY_TURN], "locks",
		lists[ACTIVITY_LOCKS]);
	if (!err && !rest)
		err = -ENOMEM;
	if (!err)
		err = describe_activities(tree, uid, uid == 0 || uid == root->uid, lists);
	if (json_object_update_new(description, rest) != 0 && !err)
		err = -ENOMEM;
	return err;
}

static int by_name(const void *a, const void *b)
{
	const struct tree *const *left = a, *const *right = b;

	return strcmp((*left)->info.name, (*right)->info.name);
}

/* Trees are never freed before the end of the mount. */
static struct tree **list_trees(struct fs *fs, size_t *ret_count)
{
	struct tree **trees, *tree;
	size_t count = 0;

	lock_take(&fs->root_lock);
	trees = calloc(HASH_COUNT(fs->trees) + 1, sizeof(struct tree *));
	for (tree = fs->trees; tree && trees; tree = tree->hh.next)
		trees[count++] = tree;
	lock_drop(&fs->root_lock);
	if (trees)
		qsort(trees, count, sizeof(struct tree *), by_name);
	*ret_count = count;
	return trees;
}

int status_trees(fuse_req_t req, json_t **ret_trees)
{
	json_t *list = json_array(), *description;
	autofree struct tree **trees = NULL;
	size_t count;
	int err = 0;

	trees = list_trees(request_fs(req), &count);
	if (!trees || !list)
		err = -ENOMEM;
	for (size_t i = 0; i < count && !err; i++) {
		struct node_row root = file_attr(trees[i]->root);

		description = describe_tree(trees[i], &root);
		if (json_array_append_new(list, description) != 0 ||
			json_object_set_new(description, "created",
				report_time(trees[i]->info.created_ns)) != 0)
			err = -ENOMEM;
	}
	if (err)
		json_decref(list);
	else
		*ret_trees = list;
	return err;
}

static json_t *describe_mount(struct fs *fs)
{
	return json_pack("{s:s, s:i, s:o, s:s, s:o, s:o, s:I, s:b, s:o, s:{s:I}}", "version",
		INTACTFS_VERSION, "format", VOLUME_FORMAT, "volume",
		describe_text(volume_path(fs->volume)), "uuid", volume_uuid(fs->volume),
		"mountpoint", describe_text(fs->mountpoint), "host", describe_text(fs->host), "pid",
		(json_int_t)getpid(), "readonly", (int)volume_readonly(fs->volume), "since",
		report_time(fs->mounted_ns), "options", "turn_wait_ms",
		(json_int_t)fs->options.turn_wait_ms);
}

static bool may_list(fuse_req_t req, const struct node_row *root)
{
	const struct rights rights = {root->mode, root->uid, root->gid};

	return rights_allow(req, &rights, R_OK | X_OK);
}

int status_report(fuse_req_t req, json_t **ret_status)
{
	struct fs *fs = request_fs(req);
	json_t *status = describe_mount(fs), *list = json_array(), *description;
	autofree struct tree **trees = NULL;
	size_t count;
	int err = 0;

	trees = list_trees(fs, &count);
	if (json_object_set_new(status, "trees", list) != 0 || !trees)
		err = -ENOMEM;
	for (size_t i = 0; i < count && !err; i++) {
		struct node_row root = file_attr(trees[i]->root);

		description = describe_tree(trees[i], &root);
		if (json_array_append_new(list, description) != 0)
			err = -ENOMEM;
		else if (may_list(req, &root))
			err = describe_contents(req, trees[i], &root, description);
	}
	if (err)
		json_decref(status);
	else
		*ret_status = status;
	return err;
}
