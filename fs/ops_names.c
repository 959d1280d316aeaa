/*
 * ops_names: lookups, and what makes, removes and moves names.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <utlist.h>

#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/redirect.h"
#include "fs/root.h"
#include "fs/virtual.h"
#include "meta/namespace.h"

static void lookup_resume(struct parked *parked, enum park_end end);

static void reply_virtual(fuse_req_t req, struct node *node)
{
	struct fuse_entry_param entry = {.ino = node_id(node), .generation = 1};
	int err = virtual_stat(node, &entry.attr);

	if (!err) {
		ops_reply_entry(req, &entry, node);
		return;
	}
	virtual_unref(node, 1);
	fuse_reply_err(req, -err);
}

static void lookup_in_root(fuse_req_t req, const char *name)
{
	struct fs *fs = request_fs(req);
	struct fuse_entry_param entry;
	struct node *node;
	int err = root_lookup(fs, name, &node);

	if (!err) {
		lock_take(&node->file->lock);
		ops_entry_locked(node, false, &entry);
		lock_drop(&node->file->lock);
		ops_reply_entry(req, &entry, node);
		return;
	}
	if (err == -ENOENT)
		err = virtual_lookup_root(fs, name, &node);
	if (err)
		fuse_reply_err(req, -err);
	else
		reply_virtual(req, node);
}

static bool ends_in_history(const char *name)
{
	size_t length = strlen(name);

	return length > 2 && strcmp(name + length - 2, "@@") == 0;
}

/* A name that is not there: the kernel may remember that, but for names that answer as soon as there is a history. */
static void lookup_missing(fuse_req_t req, struct file *dir, const char *name)
{
	struct fuse_entry_param none = {.ino = 0, .entry_timeout = CACHE_LONG_S};
	struct entry_row row;
	struct node *node;
	struct sql *sql;
	int err;

	if (!ends_in_history(name)) {
		/* What has a history can be restored, of which the kernel knows nothing. */
		sql = journal_read_begin(dir->tree->journal);
		err = record_entry_get(sql, dir->entry, name, strlen(name), &row);
		journal_read_end(dir->tree->journal);
		if (err != 0)
			none.entry_timeout = 0;
		fuse_reply_entry(req, &none);
		return;
	}
	err = virtual_lookup_history(dir, name, &node);
	if (err)
		fuse_reply_err(req, -err);
	else
		reply_virtual(req, node);
}

/* What was closed just now belongs to the history that is asked for: its release is waited for, as by who asks for the file.
 * True when the request was parked. */
static bool history_waits(fuse_req_t req, struct node *parent, const char *name)
{
	autofree char *base = strndup(name, strlen(name) - 2);
	struct save *releasing = NULL;
	struct process process;
	struct parked *parked;
	struct file *file;

	if (!base || tree_lookup(parent->file, base, &file, NULL) != 1)
		return false;
	request_process(req, &process);
	parked = park_new(req, file, parent, name, NULL, &process, lookup_resume);
	lock_take(&file->lock);
	if (parked && (releasing = save_releasing_locked(file, &process)))
		park_for_publish_locked(parked, &releasing->parked, RELEASE_WAIT_MS);
	lock_drop(&file->lock);
	if (parked && !releasing)
		park_drop(parked);
	file_unref(file);
	return releasing;
}

static bool is_history(struct file *dir, const char *name)
{
	struct node *node;

	if (!ends_in_history(name) || virtual_lookup_history(dir, name, &node) != 0)
		return false;
	virtual_unref(node, 1);
	return true;
}

/* A reservation that the thread was sent to, but whose name is another file's by now. */
static void drop_reservation(struct file *file, pid_t tid)
{
	struct save *save, *found = NULL;

	lock_take(&file->lock);
	DL_FOREACH(file->saves, save)
	{
		if (!found && save->state == SAVE_RESERVED && save->saver.tid == tid)
			found = save_ref(save);
	}
	lock_drop(&file->lock);
	if (found)
		save_expire(found);
	save_unref(found);
}

static bool has_save_locked(struct file *file, pid_t tid)
{
	struct save *save;

	DL_FOREACH(file->saves, save)
	{
		if (save->saver.tid == tid && !save->published)
			return true;
	}
	return false;
}

/* The thread walks the path anew to what it is to save: there must be a reservation for it, also when the name was given to
 * another file meanwhile, or the reservation had its time. */
static void follow_redirect(fuse_req_t req, struct file *file)
{
	pid_t tid = fuse_req_ctx(req)->pid;
	bool to_save = false;
	struct file *origin = redirect_lookup(tid, &to_save);
	struct process process;
	struct node *head;

	if (origin && origin != file)
		drop_reservation(origin, tid);
	if (origin && to_save && file) {
		lock_take(&file->lock);
		head = has_save_locked(file, tid) || file_is_live_locked(file)
			       ? NULL
			       : node_head_locked(file);
		lock_drop(&file->lock);
		if (head)
			request_process(req, &process);
		if (head)
			ops_reserve(req, head, &process);
		node_unref(head, 1);
	}
	file_unref(origin);
}

/* Takes over the reference of file. patient: a release that is on its way is waited for. */
static void lookup_file(
	fuse_req_t req, struct node *parent, const char *name, struct file *file, bool patient)
{
	struct fuse_entry_param entry;
	struct parked *parked = NULL;
	struct process process = {.tid = 0};
	struct save *save, *releasing;
	struct node *node;
	bool busy;

	lock_take(&file->lock);
	busy = file->saves != NULL;
	lock_drop(&file->lock);
	if (busy) {
		request_process(req, &process);
		parked = patient ? park_new(req, file, parent, name, NULL, &process, lookup_resume)
				 : NULL;
	}
	lock_take(&file->lock);
	save = busy ? save_visible_locked(file, &process) : NULL;
	releasing = save || !parked ? NULL : save_releasing_locked(file, &process);
	if (releasing) {
		park_for_publish_locked(parked, &releasing->parked, RELEASE_WAIT_MS);
		lock_drop(&file->lock);
		file_unref(file);
		return;
	}
	node = save ? save->node : NULL;
	if (node)
		node_ref_locked(node);
	else
		node = node_head_locked(file);
	if (node)
		ops_entry_locked(node, file->saves != NULL, &entry);
	lock_drop(&file->lock);
	if (parked)
		park_drop(parked);
	file_unref(file);
	if (!node) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	redirect_answer(fuse_req_ctx(req)->pid, node);
	ops_reply_entry(req, &entry, node);
}

static void lookup_real(fuse_req_t req, struct node *parent, const char *name, bool patient)
{
	struct file *file = NULL;
	int err = tree_lookup(parent->file, name, &file, NULL);

	if (err != 1 || S_ISREG(file->attr.mode))
		follow_redirect(req, err == 1 ? file : NULL);
	/* The kernel may look once more; should the walk end here, no node is what it led to. */
	if (err == 0)
		redirect_answer(fuse_req_ctx(req)->pid, NULL);
	if (err == 1)
		lookup_file(req, parent, name, file, patient);
	else if (err == 0 && patient && ends_in_history(name) && history_waits(req, parent, name))
		return;
	else if (err == 0 || (err == -ENAMETOOLONG && ends_in_history(name)))
		lookup_missing(req, parent->file, name);
	else
		fuse_reply_err(req, -err);
}

static void lookup_resume(struct parked *parked, enum park_end end)
{
	if (end == PARK_TIMEOUT)
		ops_publish_let_go(parked->file);
	lookup_real(parked->req, parked->node, parked->name, false);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *node;
	int err;

	if (is_root(parent)) {
		lookup_in_root(req, name);
	} else if (node_of(parent)->kind == NODE_VIRTUAL) {
		err = virtual_lookup(req, node_of(parent), name, &node);
		if (err)
			fuse_reply_err(req, -err);
		else
			reply_virtual(req, node);
	} else {
		lookup_real(req, node_of(parent), name, true);
	}
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	if (!is_root(ino))
		node_unref(node_of(ino), count);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		if (!is_root(forgets[i].ino))
			node_unref(node_of(forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

/* Gives back the file's reference. */
static void reply_new(fuse_req_t req, struct file *file)
{
	struct fuse_entry_param entry;
	struct node *node;

	lock_take(&file->lock);
	node = node_head_locked(file);
	if (node)
		ops_entry_locked(node, file->saves != NULL, &entry);
	lock_drop(&file->lock);
	file_unref(file);
	if (node)
		ops_reply_entry(req, &entry, node);
	else
		fuse_reply_err(req, ENOMEM);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, struct namespace_new what)
{
	struct file *file, *dir = ops_directory(req, parent);
	struct actor actor;
	int64_t entry;
	int err;

	if (!dir)
		return;
	request_actor(req, &actor);
	err = volume_next_number(dir->tree->journal->volume, &what.number);
	if (!err)
		err = namespace_create(dir, name, &what, &actor, &file, &entry);
	if (err)
		fuse_reply_err(req, -err);
	else
		reply_new(req, file);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, (struct namespace_new){.mode = mode, .rdev = rdev});
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, (struct namespace_new){.mode = S_IFLNK | 0777, .target = target});
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fuse_entry_param entry;
	struct actor actor;
	struct node *node;
	int err;

	if (!is_root(parent)) {
		make(req, parent, name,
			(struct namespace_new){.mode = S_IFDIR | (mode & ~(mode_t)S_IFMT)});
		return;
	}
	request_actor(req, &actor);
	err = root_mkdir(request_fs(req), name, &actor, &node);
	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	lock_take(&node->file->lock);
	ops_entry_locked(node, false, &entry);
	lock_drop(&node->file->lock);
	ops_reply_entry(req, &entry, node);
}

/* A reservation on the new file, with the turn; then the staged save that starts empty. */
static int begin_created(struct file *file, int64_t entry, const struct process *process,
	const struct actor *actor, int open_flags, struct handle *handle)
{
	struct save *save;
	int err;

	lock_take(&file->lock);
	save = save_reserve_locked(file, process, actor, entry, file->attr.ino, NULL);
	if (save) {
		turn_take(&file->turn, save);
		save_ref(save);
	}
	lock_drop(&file->lock);
	if (!save)
		return -ENOMEM;
	err = save_begin(save, open_flags, true);
	if (err) {
		save_abandon(save);
		save_unref(save);
		return err;
	}
	handle->save = save;
	handle->node = node_ref(save->node);
	handle->writer = true;
	lock_take(&file->lock);
	save->writers++;
	lock_drop(&file->lock);
	return 0;
}

/* What is made to be appended to is live from the start, and so is what its name says. */
static int begin_live(struct file *file, int64_t entry, const struct actor *actor, const char *kind,
	struct handle *handle)
{
	struct node *node;
	int err;

	lock_take(&file->lock);
	node = node_head_locked(file);
	lock_drop(&file->lock);
	err = node ? live_open(node, actor, entry, kind) : -ENOMEM;
	if (err) {
		node_unref(node, 1);
		return err;
	}
	handle->node = node;
	handle->writer = handle->live = true;
	return 0;
}

void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct namespace_new what = {.mode = S_IFREG | (mode & ~(mode_t)S_IFMT)};
	struct file *file, *dir = ops_directory(req, parent);
	struct fuse_entry_param reply;
	struct process process;
	struct handle *handle;
	struct actor actor;
	int64_t entry;
	int err;

	if (!dir)
		return;
	handle = ops_handle_new(NULL);
	request_process(req, &process);
	actor_get(&actor, &process, ctx->uid, ctx->gid);
	err = handle ? volume_next_number(dir->tree->journal->volume, &what.number) : -ENOMEM;
	if (!err)
		err = namespace_create(dir, name, &what, &actor, &file, &entry);
	/* It came to life behind the kernel's back: the kernel looks again. */
	if (err == -EEXIST && !(fi->flags & O_EXCL))
		err = -ESTALE;
	if (!err) {
		handle->opener = process.tid;
		if (fi->flags & O_APPEND)
			err = begin_live(file, entry, &actor, "append", handle);
		else if (live_wanted(file, fi->flags))
			err = begin_live(file, entry, &actor, "live", handle);
		else
			err = begin_created(file, entry, &process, &actor, fi->flags, handle);
		if (err)
			namespace_unlink(dir, name, &actor);
		file_unref(file);
	}
	if (err) {
		if (handle)
			ops_handle_free(handle);
		fuse_reply_err(req, -err);
		return;
	}
	redirect_end(process.tid, NULL, true);
	lock_take(&handle->node->file->lock);
	node_ref_locked(handle->node); /* the kernel's */
	ops_entry_locked(handle->node, handle->save != NULL, &reply);
	lock_drop(&handle->node->file->lock);
	fi->noflush = ops_handle_opened(handle, ctx->pid);
	fi->fh = (uintptr_t)handle;
	fi->keep_cache = 1;
	if (fuse_reply_create(req, &reply, fi) != 0) {
		/* Interrupted: the kernel knows neither the node nor the handle, and never releases them. */
		node_unref(handle->node, 1);
		ops_close(handle);
	}
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct file *file = node_of(ino)->file;
	char target[PATH_MAX + 1];
	struct sql *sql;
	int err;

	if (!file) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	sql = journal_read_begin(file->tree->journal);
	err = record_node_target(sql, file->id, target, sizeof(target));
	journal_read_end(file->tree->journal);
	if (err == SQL_ROW)
		fuse_reply_readlink(req, target);
	else
		fuse_reply_err(req, err < 0 ? -err : ENOENT);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct file *dir = ops_directory(req, parent), *file;
	struct process process;
	struct actor actor;
	int err;

	if (!dir)
		return;
	file = is_root(ino) ? NULL : node_of(ino)->file;
	if (!file) {
		fuse_reply_err(req, EPERM);
		return;
	}
	request_process(req, &process);
	actor_get(&actor, &process, fuse_req_ctx(req)->uid, fuse_req_ctx(req)->gid);
	/* Who links what it writes means that; others do not mean half of it. */
	ops_publish_closed(file, true, &process);
	err = namespace_link(file, dir, name, &actor);
	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	ops_tell_others(file, NULL);
	/* The name it had so far may be known for long. */
	notify_names(request_fs(req), file);
	reply_new(req, file_ref(file));
}

/* What is being written in place is kept in the history of the name that goes. */
static int keep_live(struct file *file)
{
	struct node *head = NULL;
	int err = 0;

	lock_take(&file->lock);
	if (file_is_live_locked(file)) {
		head = file->head;
		node_ref_locked(head);
	}
	lock_drop(&file->lock);
	if (head)
		err = live_keep(head);
	node_unref(head, 1);
	return err;
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name,
	int (*remove)(struct file *dir, const char *name, const struct actor *actor))
{
	struct file *dir = ops_directory(req, parent), *file = NULL;
	struct actor actor;
	int err;

	if (!dir)
		return;
	if (tree_lookup(dir, name, &file, NULL) != 1)
		file = NULL;
	if (file)
		ops_publish_closed(file, false, NULL);
	err = file ? keep_live(file) : 0;
	request_actor(req, &actor);
	if (!err)
		err = remove(dir, name, &actor);
	if (err == -ENOENT && is_history(dir, name))
		err = -EROFS;
	if (!err && file)
		ops_tell_others(file, NULL);
	file_unref(file);
	fuse_reply_err(req, -err);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, namespace_unlink);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (is_root(parent))
		fuse_reply_err(req, -root_rmdir(request_fs(req), name));
	else
		remove_name(req, parent, name, namespace_rmdir);
}

/* What was closed of a file is published before its name goes; before it moves, what was just written, too. */
static int publish_named(struct file *dir, const char *name, bool written, struct file **ret_file)
{
	struct file *file;
	int err = 0;

	if (tree_lookup(dir, name, &file, NULL) != 1)
		return 0;
	if (S_ISREG(file->attr.mode))
		ops_publish_closed(file, written, NULL);
	if (S_ISREG(file->attr.mode) && !written)
		err = keep_live(file);
	*ret_file = file;
	return err;
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
	const char *to_name, unsigned flags)
{
	struct file *from = ops_directory(req, parent), *to, *moved = NULL, *replaced = NULL;
	struct actor actor;
	int err;

	if (!from)
		return;
	/* Trees are filesystems of their own, and the root is none of them. */
	if (is_root(to_parent)) {
		fuse_reply_err(req, EXDEV);
		return;
	}
	to = ops_directory(req, to_parent);
	if (!to)
		return;
	publish_named(from, name, true, &moved);
	err = publish_named(to, to_name, false, &replaced);
	request_actor(req, &actor);
	if (!err)
		err = namespace_rename(from, name, to, to_name, flags, &actor);
	if (err == -ENOENT && is_history(from, name))
		err = -EROFS;
	/* The ctime changed, and the link count of what was replaced. Only files have other nodes, of which the kernel does not know that. */
	if (!err && moved && S_ISREG(moved->attr.mode))
		ops_tell_others(moved, NULL);
	if (!err && replaced && S_ISREG(replaced->attr.mode))
		ops_tell_others(replaced, NULL);
	file_unref(moved);
	file_unref(replaced);
	fuse_reply_err(req, -err);
}
