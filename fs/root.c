#include "fs/root.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>

#include "journal/log.h"

/* Trees that were removed while the volume was mounted: somebody may still be in there. */
static struct tree **removed;
static size_t removed_count;

static int open_tree(struct fs *fs, const struct volume_tree *info, const struct actor *owner,
	struct tree **ret_tree, struct diag *diag)
{
	struct tree *tree;
	int err = tree_open(fs->volume, info, owner, &fs->hooks, &tree, diag);

	if (err)
		return err;
	HASH_ADD_STR(fs->trees, info.name, tree);
	if (ret_tree)
		*ret_tree = tree;
	return 0;
}

static void invoker(struct actor *actor)
{
	struct process self;

	process_get((pid_t)getpid(), &self);
	actor_get(actor, &self, getuid(), getgid());
}

static int open_first_tree(struct fs *fs, struct diag *diag)
{
	struct volume_tree info;
	struct actor actor;
	int err;

	invoker(&actor);
	err = volume_tree_known(fs->volume, actor.user);
	if (err != 0)
		return err < 0 ? err : 0;
	err = volume_tree_add(fs->volume, actor.user, &info);
	if (err)
		return diag_set(
			diag, err, "the tree of %s cannot be made: %s", actor.user, strerror(-err));
	return open_tree(fs, &info, &actor, NULL, diag);
}

int root_open(struct fs *fs, struct diag *diag)
{
	autofree struct volume_tree *trees = NULL;
	struct actor actor;
	size_t count = 0;
	int err = volume_trees(fs->volume, &trees, &count);

	lock_init(&fs->root_lock, LOCK_ROOT);
	if (err)
		return diag_set(diag, err, "the trees cannot be listed: %s", strerror(-err));
	invoker(&actor);
	lock_take(&fs->root_lock);
	/* A tree whose making was interrupted has no journal yet: it gets one. */
	for (size_t i = 0; i < count && !err; i++)
		err = open_tree(
			fs, &trees[i], volume_readonly(fs->volume) ? NULL : &actor, NULL, diag);
	if (!err && !volume_readonly(fs->volume))
		err = open_first_tree(fs, diag);
	lock_drop(&fs->root_lock);
	return err;
}

void root_close(struct fs *fs)
{
	struct tree *tree, *next;

	HASH_ITER(hh, fs->trees, tree, next)
	{
		HASH_DEL(fs->trees, tree);
		tree_close(tree);
	}
	while (removed_count > 0)
		tree_close(removed[--removed_count]);
	free(removed);
	removed = NULL;
	lock_deinit(&fs->root_lock);
}

void root_stat(struct fs *fs, struct stat *ret_stat)
{
	struct node_row row = {
		.ino = FUSE_ROOT_ID,
		.mode = S_IFDIR | 0755,
		.uid = volume_owner(fs->volume),
		.gid = volume_group(fs->volume),
		.atime_ns = volume_created_ns(fs->volume),
		.mtime_ns = volume_created_ns(fs->volume),
		.ctime_ns = volume_created_ns(fs->volume),
	};
	struct tree *tree;

	lock_take(&fs->root_lock);
	row.nlink = 2 + (int64_t)HASH_COUNT(fs->trees);
	for (tree = fs->trees; tree; tree = tree->hh.next) {
		if (tree->info.created_ns > row.mtime_ns)
			row.mtime_ns = row.ctime_ns = tree->info.created_ns;
	}
	lock_drop(&fs->root_lock);
	row_stat(&row, ret_stat);
}

static struct node *tree_node(struct tree *tree)
{
	struct node *node;

	lock_take(&tree->root->lock);
	node = node_head_locked(tree->root);
	lock_drop(&tree->root->lock);
	return node;
}

int root_lookup(struct fs *fs, const char *name, struct node **ret_node)
{
	struct tree *tree;

	lock_take(&fs->root_lock);
	HASH_FIND_STR(fs->trees, name, tree);
	lock_drop(&fs->root_lock);
	if (!tree)
		return -ENOENT;
	*ret_node = tree_node(tree);
	return *ret_node ? 0 : -ENOMEM;
}

static void owner_of(const char *name, const struct actor *actor, struct actor *ret_owner)
{
	struct passwd entry, *found = NULL;
	char buf[4096];

	*ret_owner = *actor;
	if (getpwnam_r(name, &entry, buf, sizeof(buf), &found) == 0 && found) {
		ret_owner->uid = entry.pw_uid;
		ret_owner->gid = entry.pw_gid;
	}
}

int root_mkdir(struct fs *fs, const char *name, const struct actor *actor, struct node **ret_node)
{
	struct diag diag = {""};
	struct volume_tree info;
	struct tree *tree = NULL;
	struct actor owner;
	int err;

	owner_of(name, actor, &owner);
	lock_take(&fs->root_lock);
	err = volume_tree_add(fs->volume, name, &info);
	if (!err) {
		err = open_tree(fs, &info, &owner, &tree, &diag);
		if (err)
			volume_tree_remove(fs->volume, &info);
	}
	lock_drop(&fs->root_lock);
	if (err) {
		log_error("tree %s cannot be made: %s", name,
			diag.text[0] ? diag.text : strerror(-err));
		return err;
	}
	*ret_node = tree_node(tree);
	return *ret_node ? 0 : -ENOMEM;
}

static bool is_empty(struct tree *tree, int *ret_err)
{
	struct sql *sql = journal_read_begin(tree->journal);

	*ret_err = record_entry_has_children(sql, RECORD_ROOT);
	journal_read_end(tree->journal);
	if (*ret_err > 0)
		*ret_err = -ENOTEMPTY;
	return *ret_err == 0;
}

int root_rmdir(struct fs *fs, const char *name)
{
	struct tree **grown, *tree;
	int err = -ENOENT;

	lock_take(&fs->root_lock);
	HASH_FIND_STR(fs->trees, name, tree);
	grown = realloc(removed, (removed_count + 1) * sizeof(*removed));
	if (grown)
		removed = grown;
	if (!grown)
		err = -ENOMEM;
	else if (tree && is_empty(tree, &err))
		err = volume_tree_remove(fs->volume, &tree->info);
	if (!err) {
		journal_removed(tree->journal);
		HASH_DEL(fs->trees, tree);
		removed[removed_count++] = tree;
		lock_take(&tree->root->lock);
		tree->root->attr.nlink = 0;
		lock_drop(&tree->root->lock);
	}
	lock_drop(&fs->root_lock);
	return err;
}

/* root_lock is held; the caller frees it. NULL: no memory, or none. */
static struct tree **all_trees(struct fs *fs, bool with_removed, size_t *ret_count)
{
	size_t size = HASH_COUNT(fs->trees) + removed_count;
	struct tree **all = calloc(size, sizeof(*all));
	struct tree *tree;

	*ret_count = 0;
	if (!all)
		return NULL;
	for (tree = fs->trees; tree; tree = tree->hh.next)
		all[(*ret_count)++] = tree;
	for (size_t i = 0; i < removed_count && with_removed; i++)
		all[(*ret_count)++] = removed[i];
	return all;
}

static int by_id(const void *a, const void *b)
{
	int64_t first = (*(struct tree *const *)a)->info.id;
	int64_t second = (*(struct tree *const *)b)->info.id;

	return first < second ? -1 : first > second;
}

void root_readdir(struct fs *fs, int64_t offset,
	bool (*add)(void *arg, struct tree *tree, int64_t next), void *arg)
{
	autofree struct tree **all = NULL;
	size_t count;

	lock_take(&fs->root_lock);
	all = all_trees(fs, false, &count);
	if (all)
		qsort(all, count, sizeof(*all), by_id);
	for (size_t i = 0; i < count; i++)
		if (all[i]->info.id > offset && !add(arg, all[i], all[i]->info.id))
			break;
	lock_drop(&fs->root_lock);
}

void root_visit(struct fs *fs, void (*visit)(struct tree *tree))
{
	autofree struct tree **all = NULL;
	size_t count;

	lock_take(&fs->root_lock);
	all = all_trees(fs, true, &count);
	lock_drop(&fs->root_lock);
	for (size_t i = 0; i < count; i++)
		visit(all[i]);
}

/* Only its root is known, and only to itself. */
static bool is_left(struct tree *tree)
{
	bool left;

	lock_take(&tree->lock);
	left = HASH_COUNT(tree->files) <= 1 &&
	       __atomic_load_n(&tree->root->refs, __ATOMIC_ACQUIRE) == 1;
	lock_drop(&tree->lock);
	return left;
}

void root_sweep(struct fs *fs)
{
	struct tree *left = NULL;

	do {
		lock_take(&fs->root_lock);
		left = NULL;
		for (size_t i = 0; i < removed_count && !left; i++) {
			if (!is_left(removed[i]))
				continue;
			left = removed[i];
			removed[i] = removed[--removed_count];
		}
		lock_drop(&fs->root_lock);
		tree_close(left);
	} while (left);
}
