#include "fs/restore.h"

#include <errno.h>
#include <string.h>

#include "fs/notify.h"
#include "fs/save.h"
#include "fs/virtual.h"
#include "journal/log.h"
#include "meta/namespace.h"
#include "meta/report.h"

struct restore {
	fuse_req_t req;
	struct actor actor;
	struct tree *tree;
	struct file *dir;  /* NULL: the file was named itself */
	const char *name;  /* in dir */
	struct file *file; /* with a reference; NULL: nothing has the name */
	int64_t entry;	   /* by which the file is known */
	int64_t lineage;   /* the version's; not the entry when that took its place */
	struct report_version version;
	struct content copy;
	int copy_fd;
	struct publish publish;
};

static int find_file(struct restore *restore, struct file *file)
{
	struct file_name name;

	if (file_names(file, &name, 1) == 0)
		return -ENODATA;
	restore->file = file_ref(file);
	restore->entry = restore->lineage = name.entry;
	return 0;
}

static int find_name(struct restore *restore)
{
	struct report_lineage lineage;
	int err = report_find(restore->tree, restore->dir->entry, restore->name, &lineage);

	if (err <= 0)
		return err < 0 ? err : -ENODATA;
	restore->lineage = lineage.entry.id;
	err = tree_lookup(restore->dir, restore->name, &restore->file, &restore->entry);
	return err < 0 ? err : 0;
}

static int read_version(struct restore *restore, int64_t number)
{
	struct viewer viewer;
	int err;

	virtual_viewer(restore->req, &viewer);
	err = report_version(restore->tree, &viewer, restore->lineage, number, &restore->version);
	viewer_deinit(&viewer);
	if (err < 0)
		return err;
	return err && restore->version.content.id ? 0 : -ENODATA;
}

/* The kernel has checked that what the attribute was set on may be written to. That is not the file when it was named in its
 * directory. */
static int check_rights(struct restore *restore)
{
	struct node_row now = file_attr(restore->file ? restore->file : restore->dir);
	const struct rights rights = {now.mode, now.uid, now.gid};
	int what = restore->file ? R_OK | W_OK : W_OK | X_OK;

	if (restore->file && !S_ISREG(now.mode))
		return S_ISDIR(now.mode) ? -EISDIR : -EINVAL;
	return restore->version.readable && rights_allow(restore->req, &rights, what) ? 0 : -EACCES;
}

static int copy_content(struct restore *restore)
{
	struct journal *journal = restore->tree->journal;
	const struct content *content = &restore->version.content;
	autoclose int fd = -1;
	int err = volume_next_number(journal->volume, &restore->copy.object);

	if (!err)
		err = version_open(restore->tree, content->object, &fd);
	if (err)
		return err;
	err = object_stage(&journal->objects, restore->copy.object, &restore->copy_fd);
	if (err)
		return err;
	restore->copy.size_bytes = content->size_bytes;
	restore->copy.hash = content->hash;
	return object_copy(fd, restore->copy_fd, content->size_bytes);
}

static void drop_copy(struct restore *restore)
{
	if (restore->copy_fd < 0)
		return;
	close(restore->copy_fd);
	restore->copy_fd = -1;
	object_unstage(&restore->tree->journal->objects, restore->copy.object);
}

/* A version's bytes move to another object before a live file overwrites them: the copy holds if they have not moved. */
static int take_copy(struct restore *restore, int64_t number)
{
	int64_t from;
	int err;

	do {
		drop_copy(restore);
		from = restore->version.content.object;
		err = copy_content(restore);
		if (!err)
			err = read_version(restore, number);
	} while (!err && restore->version.content.object != from);
	return err;
}

/* Of the version's owner when root restores it, else the caller's, and then without its set-ID bits. */
static int create_file(struct restore *restore)
{
	const struct version_row *then = &restore->version.row;
	bool as_root = restore->actor.uid == 0;
	struct namespace_new what = {.mode = S_IFREG | (then->mode & (as_root ? 07777 : 0777))};
	struct attr_change owner = {
		.mask = ATTR_UID | ATTR_GID, .uid = then->uid, .gid = then->gid};
	int err = volume_next_number(restore->tree->journal->volume, &what.number);

	if (!err)
		err = namespace_create(restore->dir, restore->name, &what, &restore->actor,
			&restore->file, &restore->entry);
	if (!err && as_root)
		err = namespace_setattr(restore->file, &owner, &restore->actor);
	return err;
}

/* A file that is written in place stays so: its writers' version will come on top. */
static int restore_exec(struct txn *txn, struct change *change)
{
	struct publish *publish = container_of(change, struct publish, change);
	struct node_row row = {.live = 0};
	int err = record_node_get(txn->sql, publish->node, &row);

	publish->live = row.live;
	return err < 0 ? err : publish_exec(txn, change);
}

static void on_applied(struct publish *publish)
{
	struct restore *restore = container_of(publish, struct restore, publish);

	if (publish->outcome == PUBLISH_VERSION)
		node_supersede_locked(restore->file, &publish->before);
}

static bool equals_head(struct restore *restore, const struct content *head)
{
	autoclose int fd = -1;

	return head->id && head->size_bytes == restore->copy.size_bytes &&
	       memcmp(&head->hash, &restore->copy.hash, sizeof(head->hash)) == 0 &&
	       version_open(restore->tree, head->object, &fd) == 0 &&
	       object_equal(fd, restore->copy_fd, head->size_bytes) == 1;
}

static int publish_copy(struct restore *restore)
{
	struct journal *journal = restore->tree->journal;
	struct content head = file_attr(restore->file).content;
	struct publish *publish = &restore->publish;
	int err;

	*publish = (struct publish){
		.change = {.exec = restore_exec, .apply = publish_apply},
		.applied = on_applied,
		.tree = restore->tree,
		.node = restore->file->id,
		.entry = restore->entry,
		.content = restore->copy,
		.kind = "restore",
		.basis = {head.id ? "own" : "none", head.id, 0},
		.origin = restore->lineage,
		.origin_number = restore->version.row.number,
		.actor = restore->actor,
		.equals = equals_head(restore, &head) ? head.id : 0,
		.changes_content = true,
		.clear_setid = restore->actor.uid != 0,
	};
	err = volume_next_number(journal->volume, &publish->ino);
	if (!err)
		err = journal_commit(journal, &publish->change);
	if (err)
		return err;
	if (publish->outcome == PUBLISH_DROPPED)
		return -ENOENT;
	if (publish->outcome == PUBLISH_UNCHANGED)
		return 0;
	close(restore->copy_fd);
	restore->copy_fd = -1;
	err = object_publish(&journal->objects, restore->copy.object);
	if (err)
		log_error("%s: object %lld cannot be moved out of stage/: %s", journal->path,
			(long long)restore->copy.object, strerror(-err));
	return 0;
}

static int publish_onto_name(struct restore *restore)
{
	bool fresh = !restore->file;
	int err = fresh ? create_file(restore) : 0;

	if (!err)
		err = publish_copy(restore);
	if (err && fresh && restore->file)
		namespace_unlink(restore->dir, restore->name, &restore->actor);
	if (fresh)
		notify_name(request_fs(restore->req), restore->dir, restore->name);
	else
		notify_names(request_fs(restore->req), restore->file);
	return err;
}

int restore_version(
	fuse_req_t req, struct file *dir, struct file *file, const char *name, int64_t number)
{
	struct restore restore = {
		.req = req,
		.tree = dir ? dir->tree : file->tree,
		.dir = dir,
		.name = name,
		.copy_fd = -1,
	};
	int err = dir ? find_name(&restore) : find_file(&restore, file);

	request_actor(req, &restore.actor);
	err = err ?: read_version(&restore, number) ?: check_rights(&restore) ?: take_copy(&restore, number) ?:
					publish_onto_name(&restore);
	drop_copy(&restore);
	file_unref(restore.file);
	return err;
}
