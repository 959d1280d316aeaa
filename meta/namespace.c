#include "meta/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "journal/access.h"
#include "journal/garbage.h"

/* One name of an operation, as the journal has it. */
struct place {
	struct file *dir;
	const char *name;
	size_t length;
	struct entry_row entry; /* id 0: there was never such a name */
	struct node_row node;	/* id 0: nothing is there now */
};

struct operation {
	struct change change;
	const struct actor *actor;
	struct place from, to;
	struct file *file;
	struct node_row row;
	const struct namespace_new *what;
	unsigned flags;
	int64_t version; /* the one that a rename made */
	const struct attr_change *attr;
	bool no_change;
};

static struct place place_of(struct file *dir, const char *name)
{
	return (struct place){.dir = dir, .name = name, .length = strlen(name)};
}

static int place_read(struct txn *txn, struct place *place)
{
	int err;

	place->entry = (struct entry_row){0};
	place->node = (struct node_row){0};
	err = record_entry_get(
		txn->sql, place->dir->entry, place->name, place->length, &place->entry);
	if (err != SQL_ROW || !place->entry.node)
		return err < 0 ? err : 0;
	err = record_node_get(txn->sql, place->entry.node, &place->node);
	return err < 0 ? err : err == SQL_ROW ? 0 : -EUCLEAN;
}

/* The name is now node's: in its old row, which carries the lineage, or in a new one. */
static int place_bind(struct txn *txn, struct place *place, int64_t node)
{
	if (place->entry.id)
		return record_entry_set_node(txn->sql, place->entry.id, node);
	return record_entry_insert(
		txn->sql, place->dir->entry, place->name, place->length, node, &place->entry.id);
}

/* Takes a name from what it named. row is the node without it: gone when that was its last name. */
static int drop_link(struct txn *txn, struct node_row *row)
{
	row->nlink -= S_ISDIR(row->mode) ? 2 : 1;
	row->ctime_ns = txn->now_ns;
	if (row->nlink > 0)
		return record_node_update(txn->sql, row);
	row->nlink = 0;
	return record_node_delete(txn->sql, row) ?: row->live ? garbage_add(txn, row->live) : 0;
}

static void apply_row(struct tree *tree, const struct node_row *row)
{
	struct file *file = tree_file_known(tree, row->id);

	if (!file)
		return;
	lock_take(&file->lock);
	file->attr.nlink = row->nlink;
	file->attr.ctime_ns = row->ctime_ns;
	lock_drop(&file->lock);
	file_unref(file);
}

static void apply_touch(struct file *dir, int64_t time_ns, int64_t links)
{
	lock_take(&dir->lock);
	dir->attr.mtime_ns = dir->attr.ctime_ns = time_ns;
	dir->attr.nlink += links;
	lock_drop(&dir->lock);
}

static void apply_unlinked(struct operation *operation, const struct node_row *row)
{
	struct tree *tree = operation->from.dir->tree;
	struct file *file;

	apply_row(tree, row);
	file = row->nlink == 0 ? tree_file_known(tree, row->id) : NULL;
	if (!file)
		return;
	tree->hooks->unlinked(file, operation->actor);
	file_unref(file);
}

static int create_exec(struct txn *txn, struct change *change)
{
	struct operation *operation = container_of(change, struct operation, change);
	struct place *place = &operation->from;
	struct node_row *row = &operation->row;
	bool is_dir = S_ISDIR(operation->what->mode);
	const char *kind = is_dir		? "mkdir"
			   : S_ISLNK(row->mode) ? "symlink"
			   : S_ISREG(row->mode) ? "create"
						: "mknod";
	int err = place_read(txn, place);

	if (err)
		return err;
	if (place->node.id)
		return -EEXIST;
	row->atime_ns = row->mtime_ns = row->ctime_ns = row->btime_ns = txn->now_ns;
	row->target_bytes = operation->what->target ? (int64_t)strlen(operation->what->target) : 0;
	/* The entry may have been another directory's. */
	if (is_dir)
		access_forget(txn->journal);
	return record_node_insert(txn->sql, row, operation->what->target, (size_t)row->target_bytes) ?:
		       place_bind(txn, place, row->id)					    ?:
		       record_node_touch(txn->sql, place->dir->id, txn->now_ns, is_dir)	    ?:
		       txn_operation(txn, kind, NULL, row->id, place->entry.id, 0, operation->actor);
}

static void create_apply(struct change *change)
{
	struct operation *operation = container_of(change, struct operation, change);
	struct place *place = &operation->from;
	bool is_dir = S_ISDIR(operation->row.mode);

	operation->file =
		tree_file(place->dir->tree, &operation->row, is_dir ? place->entry.id : 0);
	if (operation->file)
		tree_name_set(
			place->dir, place->name, place->length, place->entry.id, operation->file);
	apply_touch(place->dir, operation->row.mtime_ns, is_dir);
}

int namespace_create(struct file *dir, const char *name, const struct namespace_new *what,
	const struct actor *actor, struct file **ret_file, int64_t *ret_entry)
{
	struct operation operation = {
		.change = {.exec = create_exec, .apply = create_apply},
		.actor = actor,
		.from = place_of(dir, name),
		.what = what,
		.row = {.id = what->number,
			.ino = what->number,
			.mode = what->mode,
			.uid = actor->uid,
			.gid = actor->gid,
			.rdev = what->rdev,
			.nlink = S_ISDIR(what->mode) ? 2 : 1},
	};
	struct node_row parent = file_attr(dir);
	int err;

	if (operation.from.length > RECORD_NAME_MAX)
		return -ENAMETOOLONG;
	if (parent.nlink == 0)
		return -ENOENT;
	if (parent.mode & S_ISGID) {
		operation.row.gid = parent.gid;
		if (S_ISDIR(what->mode))
			operation.row.mode |= S_ISGID;
	}
	err = journal_commit(dir->tree->journal, &operation.change);
	if (err < 0)
		return err;
	if (!operation.file)
		return -ENOMEM;
	*ret_file = operation.file;
	*ret_entry = operation.from.entry.id;
	return 0;
}

static int link_exec(struct txn *txn, struct change *change)
{
	struct operation *operation = container_of(change, struct operation, change);
	struct place *place = &operation->to;
	struct version_row version = {.lineage = 0};
	int err = place_read(txn, place);

	if (err)
		return err;
	if (place->node.id)
		return -EEXIST;
	err = record_node_get(txn->sql, operation->file->id, &operation->row);
	if (err != SQL_ROW)
		return err < 0 ? err : -ENOENT;
	operation->row.nlink++;
	operation->row.ctime_ns = txn->now_ns;
	err = record_node_update(txn->sql, &operation->row)			     ?:
			place_bind(txn, place, operation->row.id)		     ?:
			record_node_touch(txn->sql, place->dir->id, txn->now_ns, 0) ?:
			txn_operation(txn, "link", NULL, operation->row.id, place->entry.id, 0, operation->actor);
	if (err || !operation->row.content.id)
		return err;
	/* The new name's lineage begins, or goes on, with what the file holds. */
	version.lineage = place->entry.id;
	version.number = place->entry.versions + 1;
	version.content = operation->row.content.id;
	version.node = operation->row.id;
	version.kind = "link";
	version.verdict = place->entry.versions ? "blind" : "next";
	version.basis.kind = "none";
	version.mode = operation->row.mode;
	version.uid = operation->row.uid;
	version.gid = operation->row.gid;
	version.mtime_ns = operation->row.mtime_ns;
	err = access_of(txn, place->dir->entry, &version.access);
	if (err)
		return err;
	return record_version_insert(txn->sql, &version, txn->seq)
		       ?: record_entry_set_versions(txn->sql, version.lineage, version.number);
}

static void link_apply(struct change *change)
{
	struct operation *operation = container_of(change, struct operation, change);
	struct place *place = &operation->to;

	apply_row(place->dir->tree, &operation->row);
	tree_name_set(place->dir, place->name, place->length, place->entry.id, operation->file);
	apply_touch(place->dir, operation->row.ctime_ns, 0);
}

int namespace_link(struct file *file, struct file *dir, const char *name, const struct actor *actor)
{
	struct operation operation = {
		.change = {.exec = link_exec, .apply = link_apply},
		.actor = actor,
		.to = place_of(dir, name),
		.file = file,
	};

	if (operation.to.length > RECORD_NAME_MAX)
		return -ENAMETOOLONG;
	if (file->tree != dir->tree)
		return -EXDEV;
	return journal_commit(dir->tree->journal, &operation.change);
}

static int remove_exec(struct txn *txn, struct change *change)
{
	struct operation *operation = container_of(change, struct operation, change);
	struct place *place = &operation->from;
	bool is_dir;
	int err = place_read(txn, place);

	if (err)
		return err;
	if (!place->node.id)
		return -ENOENT;
	is_dir = S_ISDIR(place->node.mode);
	if (is_dir != (bool)operation->flags)
		return is_dir ? -EISDIR : -ENOTDIR;
	if (is_dir) {
		err = record_entry_has_children(txn->sql, place->entry.id);
		if (err)
			return err < 0 ? err : -ENOTEMPTY;
	}
	return drop_link(txn, &place->node)						     ?:
		       record_entry_gone(txn->sql, place->entry.id)			     ?:
		       record_node_touch(txn->sql, place->dir->id, txn->now_ns, -(int)is_dir) ?:
		       txn_operation(txn, is_dir ? "rmdir" : "unlink", NULL, place->node.id, place->entry.id, 0,
			       operation->actor);
}

static void remove_apply(struct change *change)
{
	struct operation *operation = container_of(change, struct operation, change);
	struct place *place = &operation->from;

	tree_name_drop(place->dir, place->name, place->length);
	apply_touch(place->dir, place->node.ctime_ns, -(int)operation->flags);
	apply_unlinked(operation, &place->node);
}

static int namespace_remove(
	struct file *dir, const char *name, bool is_dir, const struct actor *actor)
{
	struct operation operation = {
		.change = {.exec = remove_exec, .apply = remove_apply, .vital = true},
		.actor = actor,
		.from = place_of(dir, name),
		.flags = is_dir,
	};

	return journal_commit(dir->tree->journal, &operation.change);
}

int namespace_unlink(struct file *dir, const char *name, const struct actor *actor)
{
	return namespace_remove(dir, name, false, actor);
}

int namespace_rmdir(struct file *dir, const char *name, const struct actor *actor)
{
	return namespace_remove(dir, name, true, actor);
}

/* What a rename must not do; the kernel refuses most of it before, but cannot know what was committed meanwhile. */
static int rename_check(struct txn *txn, struct operation *operation)
{
	const struct node_row *from = &operation->from.node, *to = &operation->to.node;
	int err;

	if (!from->id)
		return -ENOENT;
	if (operation->flags & RENAME_EXCHANGE)
		return to->id ? 0 : -ENOENT;
	if (!to->id)
		return 0;
	if (operation->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (S_ISDIR(from->mode) && !S_ISDIR(to->mode))
		return -ENOTDIR;
	if (!S_ISDIR(from->mode) && S_ISDIR(to->mode))
		return -EISDIR;
	if (!S_ISDIR(to->mode))
		return 0;
	err = record_entry_has_children(txn->sql, operation->to.entry.id);
	return err < 0 ? err : err ? -ENOTEMPTY : 0;
}

static int touch_dirs(
	struct txn *txn, struct operation *operation, int64_t from_links, int64_t to_links)
{
	struct file *from = operation->from.dir, *to = operation->to.dir;

	if (from == to)
		return record_node_touch(txn->sql, from->id, txn->now_ns, from_links + to_links);
	return record_node_touch(txn->sql, from->id, txn->now_ns, from_links)
		       ?: record_node_touch(txn->sql, to->id, txn->now_ns, to_links);
}

static int64_t is_dir(const struct node_row *row)
{
	return row->id && S_ISDIR(row->mode);
}

/* Both lineages go along with what they name: the rows change places. */
static int exchange_exec(struct txn *txn, struct operation *operation)
{
	struct place *from = &operation->from, *to = &operation->to;
	int64_t shift = is_dir(&to->node) - is_dir(&from->node);

	from->node.ctime_ns = to->node.ctime_ns = txn->now_ns;
	access_forget(txn->journal);
	return record_entry_move(txn->sql, from->entry.id, -from->entry.id, "", 0, 0)			     ?:
		       record_entry_move(txn->sql, to->entry.id, from->dir->entry, from->name, from->length, 0) ?:
		       record_entry_move(txn->sql, from->entry.id, to->dir->entry, to->name, to->length, 0)	     ?:
		       record_node_update(txn->sql, &from->node)					     ?:
		       record_node_update(txn->sql, &to->node)						     ?:
		       touch_dirs(txn, operation, shift, -shift)					     ?:
		       txn_operation(txn, "exchange", NULL, from->node.id, from->entry.id, to->entry.id,
			       operation->actor);
}

/* A directory keeps its row, which its entries name as their parent. */
static int rename_dir_exec(struct txn *txn, struct operation *operation)
{
	struct place *from = &operation->from, *to = &operation->to;
	int err = to->entry.id ? record_entry_displace(txn->sql, to->entry.id) : 0;

	access_forget(txn->journal);
	return err
		       ?: record_entry_move(txn->sql, from->entry.id, to->dir->entry, to->name,
				  to->length, to->entry.id);
}

/* The lineage of the name goes on with the content that comes; the name that it came by ends. */
static int rename_version(struct txn *txn, struct operation *operation)
{
	struct place *from = &operation->from, *to = &operation->to;
	struct version_row last, version = {
					 .lineage = to->entry.id,
					 .number = to->entry.versions + 1,
					 .content = from->node.content.id,
					 .node = from->node.id,
					 .kind = "rename",
					 .verdict = to->entry.versions ? "blind" : "next",
					 .basis = {.kind = "none"},
					 .mode = from->node.mode,
					 .uid = from->node.uid,
					 .gid = from->node.gid,
					 .mtime_ns = from->node.mtime_ns,
					 .origin = from->entry.id,
				 };
	int err = record_version_get(txn->sql, from->entry.id, 0, &last);

	if (err == SQL_ROW)
		version.origin_number = last.number;
	if (err >= 0)
		err = access_of(txn, to->dir->entry, &version.access);
	if (err < 0)
		return err;
	operation->version = version.number;
	return record_version_insert(txn->sql, &version, txn->seq)
		       ?: record_entry_set_versions(txn->sql, version.lineage, version.number);
}

static int rename_exec(struct txn *txn, struct change *change)
{
	struct operation *operation = container_of(change, struct operation, change);
	struct place *from = &operation->from, *to = &operation->to;
	bool moves_dir;
	int err = place_read(txn, from) ?: place_read(txn, to) ?: rename_check(txn, operation);

	if (err)
		return err;
	operation->no_change = from->node.id == to->node.id;
	if (operation->no_change)
		return 0;
	if (operation->flags & RENAME_EXCHANGE)
		return exchange_exec(txn, operation);
	moves_dir = is_dir(&from->node);
	if (to->node.id)
		err = drop_link(txn, &to->node);
	if (!err)
		err = moves_dir ? rename_dir_exec(txn, operation) :
				  place_bind(txn, to, from->node.id) ?:
				  record_entry_gone(txn->sql, from->entry.id);
	from->node.ctime_ns = txn->now_ns;
	err = err								       ?:
		      record_node_update(txn->sql, &from->node)				       ?:
		      touch_dirs(txn, operation, -(int)moves_dir, moves_dir - is_dir(&to->node)) ?:
		      txn_operation(txn, "rename", NULL, from->node.id, from->entry.id, moves_dir ? 0 : to->entry.id,
			      operation->actor);
	if (!err && from->node.content.id)
		err = rename_version(txn, operation);
	return err;
}

static void rename_names(struct operation *operation)
{
	struct place *from = &operation->from, *to = &operation->to;
	struct tree *tree = from->dir->tree;
	bool exchange = operation->flags & RENAME_EXCHANGE, moves_dir = is_dir(&from->node);
	struct file *moved = tree_file_known(tree, from->node.id);
	struct file *other = exchange ? tree_file_known(tree, to->node.id) : NULL;

	tree_name_drop(from->dir, from->name, from->length);
	tree_name_drop(to->dir, to->name, to->length);
	if (moved)
		tree_name_set(to->dir, to->name, to->length,
			exchange || moves_dir ? from->entry.id : to->entry.id, moved);
	if (other)
		tree_name_set(from->dir, from->name, from->length, to->entry.id, other);
	file_unref(moved);
	file_unref(other);
}

static void rename_apply(struct change *change)
{
	struct operation *operation = container_of(change, struct operation, change);
	struct place *from = &operation->from, *to = &operation->to;
	struct tree *tree = from->dir->tree;
	int64_t moved = is_dir(&from->node), replaced = is_dir(&to->node);
	struct file *old, *successor;

	if (operation->no_change)
		return;
	rename_names(operation);
	apply_row(tree, &from->node);
	if (operation->flags & RENAME_EXCHANGE) {
		apply_row(tree, &to->node);
		apply_touch(from->dir, from->node.ctime_ns, replaced - moved);
		apply_touch(to->dir, from->node.ctime_ns, moved - replaced);
		return;
	}
	apply_touch(from->dir, from->node.ctime_ns, -moved);
	apply_touch(to->dir, from->node.ctime_ns, moved - replaced);
	if (!to->node.id)
		return;
	old = tree_file_known(tree, to->node.id);
	successor = tree_file_known(tree, from->node.id);
	apply_row(tree, &to->node);
	if (old && successor)
		tree->hooks->replaced(old, successor, to->entry.id);
	file_unref(old);
	file_unref(successor);
	apply_unlinked(operation, &to->node);
}

int namespace_rename(struct file *from_dir, const char *from, struct file *to_dir, const char *to,
	unsigned flags, const struct actor *actor)
{
	struct operation operation = {
		.change = {.exec = rename_exec, .apply = rename_apply, .vital = true},
		.actor = actor,
		.from = place_of(from_dir, from),
		.to = place_of(to_dir, to),
		.flags = flags,
	};

	if (operation.to.length > RECORD_NAME_MAX)
		return -ENAMETOOLONG;
	if (from_dir->tree != to_dir->tree)
		return -EXDEV;
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	return journal_commit(from_dir->tree->journal, &operation.change);
}

static int setattr_exec(struct txn *txn, struct change *change)
{
	struct operation *operation = container_of(change, struct operation, change);
	const struct attr_change *attr = operation->attr;
	struct node_row *row = &operation->row;
	int err = record_node_get(txn->sql, operation->file->id, row);

	if (err < 0)
		return err;
	if (err == 0)
		*row = file_attr(operation->file); /* unlinked, but open: in memory only */
	if (attr->mask & ATTR_MODE)
		row->mode = (row->mode & S_IFMT) | (attr->mode & ~(mode_t)S_IFMT);
	if (attr->mask & ATTR_UID)
		row->uid = attr->uid;
	if (attr->mask & ATTR_GID)
		row->gid = attr->gid;
	/* As the kernel's chown does (setattr_should_drop_suidgid), which leaves it to us: FUSE_HANDLE_KILLPRIV_V2. */
	if ((attr->mask & (ATTR_UID | ATTR_GID)) && !(attr->mask & ATTR_MODE) &&
		!S_ISDIR(row->mode))
		row->mode &= ~(mode_t)(S_ISUID | (row->mode & S_IXGRP ? S_ISGID : 0));
	if (attr->mask & (ATTR_ATIME | ATTR_ATIME_NOW))
		row->atime_ns = attr->mask & ATTR_ATIME_NOW ? txn->now_ns : attr->atime_ns;
	if (attr->mask & (ATTR_MTIME | ATTR_MTIME_NOW))
		row->mtime_ns = attr->mask & ATTR_MTIME_NOW ? txn->now_ns : attr->mtime_ns;
	row->ctime_ns = txn->now_ns;
	if (err == 0)
		return 0;
	if (S_ISDIR(row->mode))
		access_forget(txn->journal);
	return record_node_update(txn->sql, row)
		       ?: txn_operation(txn, "setattr", NULL, row->id, operation->file->entry, 0,
				  operation->actor);
}

static void setattr_apply(struct change *change)
{
	struct operation *operation = container_of(change, struct operation, change);
	struct node_row *attr = &operation->file->attr;

	lock_take(&operation->file->lock);
	attr->mode = operation->row.mode;
	attr->uid = operation->row.uid;
	attr->gid = operation->row.gid;
	attr->atime_ns = operation->row.atime_ns;
	attr->mtime_ns = operation->row.mtime_ns;
	attr->ctime_ns = operation->row.ctime_ns;
	lock_drop(&operation->file->lock);
}

int namespace_setattr(struct file *file, const struct attr_change *attr, const struct actor *actor)
{
	struct operation operation = {
		.change = {.exec = setattr_exec, .apply = setattr_apply, .vital = true},
		.actor = actor,
		.file = file,
		.attr = attr,
	};

	return journal_commit(file->tree->journal, &operation.change);
}

struct xattr_change {
	struct change change;
	const struct actor *actor;
	struct file *file;
	const char *name;
	const void *value; /* NULL: remove */
	size_t bytes;
	int flags;
	int64_t count, now_ns;
};

static int xattr_exec(struct txn *txn, struct change *change)
{
	struct xattr_change *xattr = container_of(change, struct xattr_change, change);
	struct node_row row;
	void *old = NULL;
	size_t old_bytes;
	int err = record_node_get(txn->sql, xattr->file->id, &row);
	bool there;

	if (err != SQL_ROW)
		return err < 0 ? err : -ENOENT;
	err = record_xattr_get(txn->sql, row.id, xattr->name, &old, &old_bytes);
	free(old);
	if (err < 0)
		return err;
	there = err == SQL_ROW;
	if (there && (xattr->flags & XATTR_CREATE))
		return -EEXIST;
	if (!there && (!xattr->value || (xattr->flags & XATTR_REPLACE)))
		return -ENODATA;
	if (xattr->value)
		err = record_xattr_set(txn->sql, row.id, xattr->name, xattr->value, xattr->bytes);
	else
		err = record_xattr_delete(txn->sql, row.id, xattr->name);
	if (err < 0)
		return err;
	row.ctime_ns = xattr->now_ns = txn->now_ns;
	return record_xattr_count(txn->sql, row.id, &xattr->count) ?:
		       record_node_update(txn->sql, &row)	     ?:
		       txn_operation(txn, xattr->value ? "setxattr" : "removexattr", NULL, row.id, xattr->file->entry, 0,
			       xattr->actor);
}

static void xattr_apply(struct change *change)
{
	struct xattr_change *xattr = container_of(change, struct xattr_change, change);

	lock_take(&xattr->file->lock);
	xattr->file->attr.xattrs = xattr->count;
	xattr->file->attr.ctime_ns = xattr->now_ns;
	lock_drop(&xattr->file->lock);
}

int namespace_setxattr(struct file *file, const char *name, const void *value, size_t bytes,
	int flags, const struct actor *actor)
{
	struct xattr_change xattr = {{.exec = xattr_exec, .apply = xattr_apply}, actor, file, name,
		value ? value : "", bytes, flags, 0, 0};

	return journal_commit(file->tree->journal, &xattr.change);
}

int namespace_removexattr(struct file *file, const char *name, const struct actor *actor)
{
	struct xattr_change xattr = {{.exec = xattr_exec, .apply = xattr_apply, .vital = true},
		actor, file, name, NULL, 0, 0, 0, 0};

	return journal_commit(file->tree->journal, &xattr.change);
}

int namespace_getxattr(struct file *file, const char *name, void **ret_value, size_t *ret_bytes)
{
	struct sql *sql;
	int err;

	if (file_attr(file).xattrs == 0)
		return -ENODATA;
	sql = journal_read_begin(file->tree->journal);
	err = record_xattr_get(sql, file->id, name, ret_value, ret_bytes);
	journal_read_end(file->tree->journal);
	return err < 0 ? err : err == SQL_ROW ? 0 : -ENODATA;
}

static int list_names(struct sql *sql, int64_t node, bool trusted, FILE *out)
{
	struct sql_stmt *stmt;
	const char *name;
	size_t length;
	int err = sql_query(
		sql, "SELECT name FROM xattr WHERE node = $1 ORDER BY name", &stmt, "i", node);

	while (!err && (err = sql_step(stmt)) == SQL_ROW) {
		name = sql_blob(stmt, 0, &length);
		if (trusted || length < 8 || memcmp(name, "trusted.", 8) != 0) {
			fwrite(name, 1, length, out);
			fputc('\0', out);
		}
		err = 0;
	}
	return err;
}

int namespace_listxattr(struct file *file, bool trusted, char **ret_list, size_t *ret_bytes)
{
	char *list = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&list, &bytes);
	struct sql *sql;
	int err = 0;

	if (!out)
		return -ENOMEM;
	if (file_attr(file).xattrs > 0) {
		sql = journal_read_begin(file->tree->journal);
		err = list_names(sql, file->id, trusted, out);
		journal_read_end(file->tree->journal);
	}
	if (fclose(out) != 0 && !err)
		err = -ENOMEM;
	if (err) {
		free(list);
		return err;
	}
	*ret_list = list;
	*ret_bytes = bytes;
	return 0;
}
