/*
 * virtual: what a mount answers besides files: FILE@@/ (history) and .intactfs/ (status). See docs/interface.md.
 *
 * A virtual node is one (kind, tree, lineage, number); all lookups of it share one struct node.
 * The content of a virtual file is made when it is opened, for whoever opens it, and read from a descriptor:
 * an unlinked temporary file in the volume's directory tree, or the object of a version.
 *
 * Errors:    -errno; -ENOENT for names that are not there; -EACCES where the caller's rights do not suffice.
 */
#ifndef INTACTFS_FS_VIRTUAL_H
#define INTACTFS_FS_VIRTUAL_H

#include "fs/node.h"
#include "meta/viewer.h"

/* ".intactfs" or "TREE@@" in the mount's root. All lookups return the node with one reference more. */
int virtual_lookup_root(struct fs *fs, const char *name, struct node **ret_node);
/* "NAME@@" in a directory, when no real name of that kind is there. */
int virtual_lookup_history(struct file *dir, const char *name, struct node **ret_node);
/* A name in a virtual directory. */
int virtual_lookup(fuse_req_t req, struct node *parent, const char *name, struct node **ret_node);
void virtual_ref(struct node *node);
void virtual_unref(struct node *node, uint64_t count);

int virtual_stat(struct node *node, struct stat *ret_stat);
struct handle;
/* Checks the rights of the request's sender, and fills in the handle's descriptor and where reading ends, whatever the descriptor
 * holds. */
int virtual_open(fuse_req_t req, struct node *node, struct handle *handle);
/* Calls add for the listed names from offset on (0, 1, ...; "." and ".." are not among them), with the offset of the next;
 * stops when add returns false. */
int virtual_readdir(fuse_req_t req, struct node *node, int64_t offset,
	bool (*add)(void *arg, const char *name, mode_t mode, int64_t ino, int64_t next),
	void *arg);

/* The attributes user.intactfs.*. node may be virtual, or NULL for the mount's root. -ENODATA when there is none of that name
 * there. ret_value is malloc'ed. */
int virtual_getxattr(fuse_req_t req, struct fs *fs, struct node *node, const char *name,
	void **ret_value, size_t *ret_bytes);
/* user.intactfs.restore; -EOPNOTSUPP for the others. */
int virtual_setxattr(
	fuse_req_t req, struct node *node, const char *name, const char *value, size_t bytes);

/* Whether the sender of the request may do what (R_OK, W_OK, X_OK together) with something of this mode and owner: as the
 * kernel's generic_permission does it, supplementary groups included (fuse_req_getgroups). */
bool rights_allow(fuse_req_t req, const struct rights *rights, int what);
/* What of the history the sender of the request may see; for viewer_deinit(). */
void virtual_viewer(fuse_req_t req, struct viewer *ret_viewer);

#endif
