/*
 * ops_dir: the listing of directories. An entry's id is its place: names that come and go meanwhile move no others.
 */
#include <errno.h>
#include <string.h>

#include "fs/ops.h"
#include "fs/root.h"
#include "fs/virtual.h"

/* "." and ".." come first; what follows is at PLACE + its own number. */
#define PLACE	   2
#define BATCH_ROWS 256

struct listing {
	fuse_req_t req;
	struct node *dir; /* NULL: the root */
	bool plus;
	char *buf;
	size_t size, used;
};

static bool add_plain(
	struct listing *listing, const char *name, mode_t mode, int64_t ino, int64_t next)
{
	struct fuse_entry_param entry = {.attr = {.st_ino = (ino_t)ino, .st_mode = mode}};
	char *at = listing->buf + listing->used;
	size_t room = listing->size - listing->used, bytes;

	if (listing->plus)
		bytes = fuse_add_direntry_plus(listing->req, at, room, name, &entry, next);
	else
		bytes = fuse_add_direntry(listing->req, at, room, name, &entry.attr, next);
	if (bytes > room)
		return false;
	listing->used += bytes;
	return true;
}

/* With attributes: the kernel gets a reference of the node, unless somebody saves the file, for then it is to ask. */
static bool add_node(struct listing *listing, const char *name, struct file *file, int64_t next)
{
	struct fuse_entry_param entry;
	char *at = listing->buf + listing->used;
	size_t room = listing->size - listing->used, bytes;
	struct node *node;
	bool busy;

	lock_take(&file->lock);
	busy = file->saves != NULL;
	node = node_head_locked(file);
	if (node) {
		ops_entry_locked(node, busy, &entry);
		if (busy)
			entry.ino = 0;
	}
	lock_drop(&file->lock);
	if (!node)
		return false;
	bytes = fuse_add_direntry_plus(listing->req, at, room, name, &entry, next);
	if (bytes > room || busy)
		node_unref(node, 1);
	if (bytes > room)
		return false;
	listing->used += bytes;
	return true;
}

static bool add_entry(void *arg, const struct entry_row *entry, const struct name *name,
	const struct node_row *row)
{
	struct listing *listing = arg;
	struct file *dir = listing->dir->file, *file;
	bool added;

	if (!listing->plus)
		return add_plain(listing, name->bytes, row->mode, row->ino, PLACE + entry->id);
	file = tree_file(dir->tree, row, S_ISDIR(row->mode) ? entry->id : 0);
	if (!file)
		return false;
	tree_name_set(dir, name->bytes, name->length, entry->id, file);
	added = add_node(listing, name->bytes, file, PLACE + entry->id);
	file_unref(file);
	return added;
}

static bool add_tree(void *arg, struct tree *tree, int64_t next)
{
	struct listing *listing = arg;

	if (listing->plus)
		return add_node(listing, tree->info.name, tree->root, PLACE + next);
	return add_plain(listing, tree->info.name, S_IFDIR, tree->root->attr.ino, PLACE + next);
}

static bool add_virtual(void *arg, const char *name, mode_t mode, int64_t ino, int64_t next)
{
	return add_plain(arg, name, mode, ino, PLACE + next);
}

static bool add_dots(struct listing *listing, int64_t offset)
{
	int64_t ino = listing->dir ? listing->dir->ino : FUSE_ROOT_ID;

	return (offset > 0 || add_plain(listing, ".", S_IFDIR, ino, 1)) &&
	       (offset > 1 || add_plain(listing, "..", S_IFDIR, FUSE_ROOT_ID, 2));
}

static int list(struct listing *listing, int64_t offset)
{
	struct tree *tree;
	struct sql *sql;
	int64_t after = offset > PLACE ? offset - PLACE : 0;
	int err;

	if (!add_dots(listing, offset))
		return 0;
	if (!listing->dir) {
		root_readdir(request_fs(listing->req), after, add_tree, listing);
		return 0;
	}
	if (listing->dir->kind == NODE_VIRTUAL)
		return virtual_readdir(listing->req, listing->dir, after, add_virtual, listing);
	tree = listing->dir->file->tree;
	sql = journal_read_begin(tree->journal);
	err = record_entry_scan(
		sql, listing->dir->file->entry, after, BATCH_ROWS, add_entry, listing);
	journal_read_end(tree->journal);
	return err;
}

static void reply_listing(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool plus)
{
	autofree char *buf = malloc(size);
	struct listing listing = {req, is_root(ino) ? NULL : node_of(ino), plus, buf, size, 0};
	int err = buf ? list(&listing, offset) : -ENOMEM;

	/* What was added is the kernel's to give back, an error after it is for the next call. */
	if (err && listing.used == 0)
		fuse_reply_err(req, -err);
	else
		fuse_reply_buf(req, buf, listing.used);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fuse_reply_open(req, fi);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, 0);
}

void op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	reply_listing(req, ino, size, offset, false);
}

void op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	reply_listing(req, ino, size, offset, true);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	(void)fi;
	if (is_root(ino) || node_of(ino)->kind == NODE_VIRTUAL)
		fuse_reply_err(req, 0);
	else
		fuse_reply_err(req, -journal_sync(node_of(ino)->file->tree->journal));
}
