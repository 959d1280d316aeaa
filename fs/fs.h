/*
 * fs: a mounted volume: what the parts of the FUSE side share.
 *
 * A nodeid is the address of a struct node (node.h), which stands for one object: a settled object never changes, and
 * a saver always gets a node of its own. FUSE_ROOT_ID is the mount's root, whose entries are the trees.
 */
#ifndef INTACTFS_FS_FS_H
#define INTACTFS_FS_FS_H

#include <fuse3/fuse_lowlevel.h>

#include "fs/mount.h"
#include "journal/volume.h"
#include "meta/process.h"
#include "meta/tree.h"

/* How long the kernel may keep what only changes through this daemon. */
#define CACHE_LONG_S 86400.0

/* After a closing, the release is on its way: others wait this long for it, before they are shown the version before. */
#define RELEASE_WAIT_MS 200
/* A reservation that nobody came for. */
#define RESERVATION_MS 2000
/* A new file that is still open is a stream after this time; a closing after which nothing was written is published. */
#define STREAM_MS 2000

struct virtual_node;

struct fs {
	struct fuse_session *session;
	struct volume *volume;
	struct mount_options options;
	char *mountpoint; /* absolute */
	char host[65];
	int64_t mounted_ns;
	struct tree_hooks hooks;

	struct lock root_lock; /* protects the next two; held over the opening of a tree */
	struct tree *trees;    /* by name */
	struct virtual_node *virtuals;

	bool maintaining; /* atomic: a checkpoint is under way */

	struct lock nodes_lock; /* protects the list of all nodes */
	struct node *nodes;
};

static inline struct fs *request_fs(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct fs *tree_fs(struct tree *tree)
{
	return container_of(tree->hooks, struct fs, hooks);
}

/* Who sent a request. */
void request_process(fuse_req_t req, struct process *ret_process);
void request_actor(fuse_req_t req, struct actor *ret_actor);

#endif
