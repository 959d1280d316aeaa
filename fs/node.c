#include "fs/node.h"

#include <assert.h>
#include <string.h>
#include <utlist.h>

#include "fs/save.h"
#include "fs/virtual.h"

static struct timespec timespec_of(int64_t time_ns)
{
	struct timespec ts = {time_ns / 1000000000, time_ns % 1000000000};

	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += 1000000000;
	}
	return ts;
}

struct node *node_new(struct fs *fs, enum node_kind kind, struct file *file, int64_t ino)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->kind = kind;
	node->file = file ? file_ref(file) : NULL;
	node->ino = ino;
	node->refs = 1;
	lock_take(&fs->nodes_lock);
	DL_APPEND(fs->nodes, node);
	if (file)
		DL_APPEND2(file->nodes, node, prev_same, next_same);
	lock_drop(&fs->nodes_lock);
	return node;
}

static void node_free(struct fs *fs, struct node *node)
{
	lock_take(&fs->nodes_lock);
	DL_DELETE(fs->nodes, node);
	DL_DELETE2(node->file->nodes, node, prev_same, next_same);
	lock_drop(&fs->nodes_lock);
	file_unref(node->file);
	free(node);
}

void node_ref_locked(struct node *node)
{
	node->refs++;
}

struct node *node_ref(struct node *node)
{
	if (node->kind == NODE_VIRTUAL) {
		virtual_ref(node);
		return node;
	}
	lock_take(&node->file->lock);
	node->refs++;
	lock_drop(&node->file->lock);
	return node;
}

void node_unref(struct node *node, uint64_t count)
{
	struct file *file;
	bool last;

	if (!node || count == 0)
		return;
	if (node->kind == NODE_VIRTUAL) {
		virtual_unref(node, count);
		return;
	}
	file = node->file;
	lock_take(&file->lock);
	assert(node->refs >= count);
	node->refs -= count;
	last = node->refs == 0;
	if (last && file->head == node)
		file->head = NULL;
	lock_drop(&file->lock);
	if (last)
		node_free(tree_fs(file->tree), node);
}

struct node *node_head_locked(struct file *file)
{
	struct node *node = file->head;

	if (node) {
		node->refs++;
		return node;
	}
	node = node_new(tree_fs(file->tree), S_ISREG(file->attr.mode) ? NODE_SETTLED : NODE_PLAIN,
		file, file->attr.ino);
	if (!node)
		return NULL;
	node->object = file->attr.content.object;
	node->size_bytes = file->attr.content.size_bytes;
	node->blocks = file->attr.content.blocks;
	file->head = node;
	return node;
}

void row_stat(const struct node_row *row, struct stat *ret_stat)
{
	*ret_stat = (struct stat){
		.st_ino = (ino_t)row->ino,
		.st_mode = row->mode,
		.st_nlink = (nlink_t)row->nlink,
		.st_uid = row->uid,
		.st_gid = row->gid,
		.st_rdev = row->rdev,
		.st_size = S_ISDIR(row->mode)	? 4096
			   : S_ISLNK(row->mode) ? row->target_bytes
						: row->content.size_bytes,
		.st_blksize = 4096,
		.st_atim = timespec_of(row->atime_ns),
		.st_mtim = timespec_of(row->mtime_ns),
		.st_ctim = timespec_of(row->ctime_ns),
	};
	ret_stat->st_blocks =
		S_ISREG(row->mode) ? row->content.blocks : (ret_stat->st_size + 511) / 512;
}

void node_stat_changed(struct stat *stat, int64_t mtime_ns, int64_t changed_ns)
{
	struct timespec changed = timespec_of(changed_ns);

	stat->st_mtim = timespec_of(mtime_ns);
	if (changed.tv_sec > stat->st_ctim.tv_sec ||
		(changed.tv_sec == stat->st_ctim.tv_sec && changed.tv_nsec > stat->st_ctim.tv_nsec))
		stat->st_ctim = changed;
}

/* Who opened a file before anything was published has it grow: `tail -f` looks at the size. */
static void stat_published(struct node *node, struct stat *ret_stat)
{
	struct file *file = node->file;

	ret_stat->st_size = file->attr.content.size_bytes;
	ret_stat->st_blocks = file->attr.content.blocks;
	if (file_is_live_locked(file))
		live_stat_locked(file->head->live, ret_stat);
}

bool node_is_aside_locked(const struct node *node)
{
	if (node == node->file->head)
		return false;
	return node->kind == NODE_SETTLED ||
	       (node->kind == NODE_STAGED && (!node->save || node->save->published));
}

void node_stat_head_locked(struct file *file, struct stat *ret_stat)
{
	row_stat(&file->attr, ret_stat);
	if (file_is_live_locked(file))
		live_stat_locked(file->head->live, ret_stat);
}

void node_stat_locked(struct node *node, struct stat *ret_stat)
{
	if (node->followed && node_is_aside_locked(node)) {
		node_stat_head_locked(node->file, ret_stat);
		return;
	}
	row_stat(&node->file->attr, ret_stat);
	ret_stat->st_ino = (ino_t)node->ino;
	if (node->kind == NODE_SETTLED) {
		ret_stat->st_size = node->size_bytes;
		ret_stat->st_blocks = node->blocks;
		if (!node->object && node->superseded)
			stat_published(node, ret_stat);
		else if (node->superseded)
			ret_stat->st_mtim = timespec_of(node->mtime_ns);
	} else if (node->kind == NODE_STAGED && node->save) {
		save_stat_locked(node->save, ret_stat);
	} else if (node->kind == NODE_LIVE) {
		live_stat_locked(node->live, ret_stat);
	}
}

void node_stat(struct node *node, struct stat *ret_stat)
{
	lock_take(&node->file->lock);
	node_stat_locked(node, ret_stat);
	lock_drop(&node->file->lock);
}
