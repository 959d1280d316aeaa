#include "fs/ops.h"

#include <errno.h>
#include <utlist.h>

#include "fs/init.h"
#include "fs/notify.h"
#include "fs/redirect.h"
#include "fs/virtual.h"

#define SAVES_MAX 16

const struct fuse_lowlevel_ops ops_table = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.create = op_create,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.readlink = op_readlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.getlk = op_getlk,
	.setlk = op_setlk,
	.flock = op_flock,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.setxattr = op_setxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
};

void request_process(fuse_req_t req, struct process *ret_process)
{
	process_get(fuse_req_ctx(req)->pid, ret_process);
}

void request_actor(fuse_req_t req, struct actor *ret_actor)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct process process;

	process_get(ctx->pid, &process);
	actor_get(ret_actor, &process, ctx->uid, ctx->gid);
}

struct file *ops_directory(fuse_req_t req, fuse_ino_t id)
{
	if (is_root(id))
		fuse_reply_err(req, EPERM);
	else if (node_of(id)->kind == NODE_VIRTUAL)
		fuse_reply_err(req, EROFS);
	else
		return node_of(id)->file;
	return NULL;
}

double ops_attr_timeout_locked(struct node *node)
{
	if (node->kind == NODE_PLAIN)
		return CACHE_LONG_S;
	return node->kind == NODE_SETTLED && !node->superseded && !node->file->saves ? CACHE_LONG_S
										     : 0;
}

void ops_entry_locked(struct node *node, bool busy, struct fuse_entry_param *ret_entry)
{
	/* A save by another of its names is not to be told of. */
	busy = busy || (S_ISREG(node->file->attr.mode) && node->file->attr.nlink > 1);
	*ret_entry = (struct fuse_entry_param){
		.ino = node_id(node),
		.generation = 1,
		.attr_timeout = ops_attr_timeout_locked(node),
		.entry_timeout = busy ? 0 : CACHE_LONG_S,
	};
	node_stat_locked(node, &ret_entry->attr);
}

void ops_reply_entry(fuse_req_t req, const struct fuse_entry_param *entry, struct node *node)
{
	if (fuse_reply_entry(req, entry) != 0)
		node_unref(node, 1);
}

int64_t ops_lineage(struct file *file)
{
	struct file_name name;

	return file_names(file, &name, 1) > 0 ? name.entry : 0;
}

static bool wants_publishing(const struct save *save, bool written)
{
	if (save->state == SAVE_PUBLISHING)
		return true; /* its end is waited for */
	if (save->state != SAVE_CLOSING && save->state != SAVE_STAGED)
		return false;
	return save->state == SAVE_CLOSING || save->flushed_ms ||
	       (written && save->written && !save->sealed);
}

static bool is_writers(struct save *save, const struct process *process)
{
	bool is;

	lock_take(&save->file->lock);
	is = save_is_writers_locked(save, process);
	lock_drop(&save->file->lock);
	return is;
}

/* Each save is looked at once: what goes on being written meanwhile is the next version's. */
bool ops_publish_closed(struct file *file, bool written, const struct process *by)
{
	struct save *saves[SAVES_MAX], *save;
	size_t count = 0;

	lock_take(&file->lock);
	DL_FOREACH(file->saves, save)
	{
		if (count < SAVES_MAX && wants_publishing(save, written))
			saves[count++] = save_ref(save);
	}
	lock_drop(&file->lock);
	for (size_t i = 0; i < count; i++) {
		if (!by || is_writers(saves[i], by) || !save_is_held(saves[i]))
			save_snapshot(saves[i]);
		save_unref(saves[i]);
	}
	return count > 0;
}

void ops_publish_let_go(struct file *file)
{
	struct process nobody = {.known = false};

	ops_publish_closed(file, false, &nobody);
}

/* The node of the file that follows, or the first, with a reference; NULL: there is none. */
static struct node *next_node(struct file *file, struct node *node)
{
	struct fs *fs = tree_fs(file->tree);

	lock_take(&file->lock);
	lock_take(&fs->nodes_lock);
	node = node ? node->next_same : file->nodes;
	/* Without references it is about to be freed. */
	while (node && node->refs == 0)
		node = node->next_same;
	if (node)
		node_ref_locked(node);
	lock_drop(&fs->nodes_lock);
	lock_drop(&file->lock);
	return node;
}

void ops_tell_others(struct file *file, struct node *except)
{
	struct node *node, *next;

	for (node = next_node(file, NULL); node; node = next) {
		if (node != except)
			notify_attributes(tree_fs(file->tree), node);
		next = next_node(file, node);
		node_unref(node, 1);
	}
}

bool ops_reserve(fuse_req_t req, struct node *node, const struct process *process)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct file *file = node->file;
	int64_t ino, entry = ops_lineage(file);
	struct actor actor;
	struct save *save;

	if (volume_next_number(file->tree->journal->volume, &ino) != 0)
		return false;
	actor_get(&actor, process, ctx->uid, ctx->gid);
	lock_take(&file->lock);
	save = save_visible_locked(file, process);
	if (!save)
		save = save_reserve_locked(file, process, &actor, entry, ino, NULL);
	if (save)
		turn_take(&file->turn, save);
	lock_drop(&file->lock);
	if (save)
		redirect_set(process->tid, node, true, true);
	return save;
}
