#include "meta/tree.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "journal/log.h"
#include "meta/recovery.h"

/* A name's key in the table: the parent's entry, then the bytes. */
#define KEY_MAX (sizeof(int64_t) + RECORD_NAME_MAX)

static size_t make_key(char *key, int64_t parent, const char *name, size_t length)
{
	memcpy(key, &parent, sizeof(parent));
	memcpy(key + sizeof(parent), name, length);
	return sizeof(parent) + length;
}

static struct dentry *find_name(struct tree *tree, int64_t parent, const char *name, size_t length)
{
	char key[KEY_MAX];
	size_t key_bytes = make_key(key, parent, name, length);
	struct dentry *dentry;

	HASH_FIND(hh, tree->names, key, key_bytes, dentry);
	return dentry;
}

static void drop_name(struct tree *tree, struct dentry *dentry)
{
	HASH_DELETE(hh, tree->names, dentry);
	LL_DELETE(dentry->file->names, dentry);
	free(dentry);
}

void tree_name_drop(struct file *dir, const char *name, size_t length)
{
	struct tree *tree = dir->tree;
	struct dentry *dentry;

	lock_take(&tree->lock);
	dentry = find_name(tree, dir->entry, name, length);
	if (dentry)
		drop_name(tree, dentry);
	lock_drop(&tree->lock);
}

static void set_name_locked(
	struct file *dir, const char *name, size_t length, int64_t entry, struct file *file)
{
	struct tree *tree = dir->tree;
	struct dentry *dentry = find_name(tree, dir->entry, name, length);

	if (dentry && dentry->file == file && dentry->entry == entry)
		return;
	if (dentry)
		drop_name(tree, dentry);
	dentry = malloc(sizeof(*dentry) + sizeof(int64_t) + length);
	if (!dentry)
		return;
	dentry->dir = dir->id;
	dentry->entry = entry;
	dentry->file = file;
	dentry->length = make_key(dentry->key, dir->entry, name, length);
	HASH_ADD_KEYPTR(hh, tree->names, dentry->key, dentry->length, dentry);
	LL_PREPEND(file->names, dentry);
}

void tree_name_set(
	struct file *dir, const char *name, size_t length, int64_t entry, struct file *file)
{
	lock_take(&dir->tree->lock);
	set_name_locked(dir, name, length, entry, file);
	lock_drop(&dir->tree->lock);
}

static struct file *find_file(struct tree *tree, int64_t id)
{
	struct file *file;

	HASH_FIND(hh, tree->files, &id, sizeof(id), file);
	return file;
}

static struct file *file_locked(struct tree *tree, const struct node_row *row, int64_t entry)
{
	struct file *file = find_file(tree, row->id);

	if (file) {
		file_ref(file);
		return file;
	}
	file = calloc(1, sizeof(*file));
	if (!file)
		return NULL;
	file->tree = tree;
	file->id = row->id;
	file->entry = entry;
	file->refs = 1;
	file->attr = *row;
	lock_init(&file->lock, LOCK_FILE);
	HASH_ADD(hh, tree->files, id, sizeof(file->id), file);
	return file;
}

struct file *tree_file(struct tree *tree, const struct node_row *row, int64_t entry)
{
	struct file *file;

	lock_take(&tree->lock);
	file = file_locked(tree, row, entry);
	lock_drop(&tree->lock);
	return file;
}

struct file *tree_file_known(struct tree *tree, int64_t id)
{
	struct file *file;

	lock_take(&tree->lock);
	file = find_file(tree, id);
	if (file)
		file_ref(file);
	lock_drop(&tree->lock);
	return file;
}

struct file *file_ref(struct file *file)
{
	__atomic_add_fetch(&file->refs, 1, __ATOMIC_RELAXED);
	return file;
}

struct file *file_unref(struct file *file)
{
	struct tree *tree;

	if (!file)
		return NULL;
	tree = file->tree;
	lock_take(&tree->lock);
	if (__atomic_sub_fetch(&file->refs, 1, __ATOMIC_ACQ_REL) > 0) {
		lock_drop(&tree->lock);
		return NULL;
	}
	while (file->names)
		drop_name(tree, file->names);
	HASH_DELETE(hh, tree->files, file);
	lock_drop(&tree->lock);
	assert(!file->saves && !file->head);
	lock_deinit(&file->lock);
	free(file);
	return NULL;
}

static struct file *lookup_known(
	struct file *dir, const char *name, size_t length, int64_t *ret_entry)
{
	struct tree *tree = dir->tree;
	struct dentry *dentry;
	struct file *file = NULL;

	lock_take(&tree->lock);
	dentry = find_name(tree, dir->entry, name, length);
	if (dentry) {
		file = dentry->file;
		file_ref(file);
		if (ret_entry)
			*ret_entry = dentry->entry;
	}
	lock_drop(&tree->lock);
	return file;
}

int tree_lookup(struct file *dir, const char *name, struct file **ret_file, int64_t *ret_entry)
{
	struct tree *tree = dir->tree;
	size_t length = strlen(name);
	struct entry_row entry;
	struct node_row node;
	struct file *file;
	struct sql *sql;
	int err;

	if (length > RECORD_NAME_MAX)
		return -ENAMETOOLONG;
	file = lookup_known(dir, name, length, ret_entry);
	if (file) {
		*ret_file = file;
		return 1;
	}
	sql = journal_read_begin(tree->journal);
	err = record_entry_lookup(sql, dir->entry, name, length, &entry, &node);
	if (err == SQL_ROW) {
		lock_take(&tree->lock);
		file = file_locked(tree, &node, S_ISDIR(node.mode) ? entry.id : 0);
		if (file)
			set_name_locked(dir, name, length, entry.id, file);
		else
			err = -ENOMEM;
		lock_drop(&tree->lock);
	}
	journal_read_end(tree->journal);
	if (err != SQL_ROW)
		return err;
	*ret_file = file;
	if (ret_entry)
		*ret_entry = entry.id;
	return 1;
}

size_t file_names(struct file *file, struct file_name *names, size_t max)
{
	struct dentry *dentry;
	size_t count = 0;

	lock_take(&file->tree->lock);
	LL_FOREACH(file->names, dentry)
	{
		if (count < max) {
			names[count].dir = dentry->dir;
			names[count].entry = dentry->entry;
			names[count].name.length = dentry->length - sizeof(int64_t);
			memcpy(names[count].name.bytes, dentry->key + sizeof(int64_t),
				names[count].name.length);
			names[count].name.bytes[names[count].name.length] = '\0';
		}
		count++;
	}
	lock_drop(&file->tree->lock);
	return count;
}

struct node_row file_attr(struct file *file)
{
	struct node_row attr;

	lock_take(&file->lock);
	attr = file->attr;
	lock_drop(&file->lock);
	return attr;
}

struct make_root {
	struct change change;
	struct node_row row;
	const struct actor *actor;
};

static int make_root_exec(struct txn *txn, struct change *change)
{
	struct make_root *make = container_of(change, struct make_root, change);
	int64_t entry;
	int err;

	make->row.atime_ns = make->row.mtime_ns = make->row.ctime_ns = make->row.btime_ns =
		txn->now_ns;
	err = record_node_insert(txn->sql, &make->row, NULL, 0);
	if (!err)
		err = record_entry_insert(txn->sql, 0, "", 0, make->row.id, &entry);
	if (!err && entry != RECORD_ROOT)
		err = -EUCLEAN;
	if (!err)
		err = txn_operation(txn, "mktree", NULL, make->row.id, RECORD_ROOT, 0, make->actor);
	return err;
}

static int make_root(struct tree *tree, const struct actor *owner)
{
	struct make_root make = {
		.change.exec = make_root_exec,
		.row = {.mode = S_IFDIR | 0700, .uid = owner->uid, .gid = owner->gid, .nlink = 2},
		.actor = owner,
	};
	int err = volume_next_number(tree->journal->volume, &make.row.id);

	if (err)
		return err;
	make.row.ino = make.row.id;
	return journal_commit(tree->journal, &make.change);
}

static int load_root(struct tree *tree, struct diag *diag)
{
	struct entry_row entry;
	struct node_row node;
	struct sql *sql = journal_read_begin(tree->journal);
	int err = record_entry_lookup(sql, 0, "", 0, &entry, &node);

	if (err == SQL_ROW)
		tree->root = tree_file(tree, &node, entry.id);
	journal_read_end(tree->journal);
	if (err < 0)
		return diag_set(
			diag, err, "%s: the tree's root cannot be read", tree->journal->path);
	if (err == 0 || !S_ISDIR(node.mode))
		return diag_set(diag, -EUCLEAN,
			"%s: the journal has no root directory; it is damaged, nothing was changed",
			tree->journal->path);
	return tree->root ? 0 : -ENOMEM;
}

int tree_open(struct volume *volume, const struct volume_tree *info, const struct actor *create,
	const struct tree_hooks *hooks, struct tree **ret_tree, struct diag *diag)
{
	struct tree *tree = calloc(1, sizeof(*tree));
	int err;

	if (!tree)
		return -ENOMEM;
	tree->info = *info;
	tree->hooks = hooks;
	lock_init(&tree->lock, LOCK_TREE);
	err = journal_open(volume, info, create != NULL, &tree->journal, diag);
	if (!err && create && tree->journal->seq == 0)
		err = make_root(tree, create) ?: journal_checkpoint(tree->journal);
	if (!err)
		err = recovery_run(tree, diag);
	if (!err)
		err = load_root(tree, diag);
	if (err) {
		tree_close(tree);
		return err;
	}
	*ret_tree = tree;
	return 0;
}

struct tree *tree_close(struct tree *tree)
{
	if (!tree)
		return NULL;
	if (tree->root)
		file_unref(tree->root);
	if (tree->files)
		log_warning("tree %s: %u files are still in use at the end", tree->info.name,
			HASH_COUNT(tree->files));
	journal_close(tree->journal);
	lock_deinit(&tree->lock);
	free(tree);
	return NULL;
}
