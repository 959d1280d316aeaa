/*
 * namespace: what changes names and attributes. Each function is one operation of the tree, committed when it returns.
 *
 * Errors:    0, or the -errno that POSIX gives for the call, with nothing changed. The kernel has checked
 *            permissions, types and loops (default_permissions, vfs); what can race is checked again here.
 * Locks:     none may be held.
 */
#ifndef INTACTFS_META_NAMESPACE_H
#define INTACTFS_META_NAMESPACE_H

#include "meta/tree.h"

struct namespace_new {
	mode_t mode; /* with the type */
	dev_t rdev;
	const char *target; /* of a symbolic link */
	int64_t number;	    /* the node's id and ino */
};

/* The group and S_ISGID are inherited from a set-group-ID directory (inode_init_owner in the kernel). */
int namespace_create(struct file *dir, const char *name, const struct namespace_new *what,
	const struct actor *actor, struct file **ret_file, int64_t *ret_entry);
int namespace_link(
	struct file *file, struct file *dir, const char *name, const struct actor *actor);
int namespace_unlink(struct file *dir, const char *name, const struct actor *actor);
int namespace_rmdir(struct file *dir, const char *name, const struct actor *actor);
/* flags: RENAME_NOREPLACE or RENAME_EXCHANGE (renameat2(2)), or 0. */
int namespace_rename(struct file *from_dir, const char *from, struct file *to_dir, const char *to,
	unsigned flags, const struct actor *actor);

enum attr_mask {
	ATTR_MODE = 1,
	ATTR_UID = 2,
	ATTR_GID = 4,
	ATTR_ATIME = 8,
	ATTR_MTIME = 16,
	ATTR_ATIME_NOW = 32,
	ATTR_MTIME_NOW = 64,
};

struct attr_change {
	unsigned mask; /* enum attr_mask */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	int64_t atime_ns, mtime_ns;
};

int namespace_setattr(struct file *file, const struct attr_change *attr, const struct actor *actor);

/* flags: XATTR_CREATE, XATTR_REPLACE (setxattr(2)), or 0. */
int namespace_setxattr(struct file *file, const char *name, const void *value, size_t bytes,
	int flags, const struct actor *actor);
int namespace_removexattr(struct file *file, const char *name, const struct actor *actor);
/* Malloc'ed; -ENODATA. */
int namespace_getxattr(struct file *file, const char *name, void **ret_value, size_t *ret_bytes);
/* Names, each ended by a NUL; malloc'ed. Those of trusted.* only when trusted is set. */
int namespace_listxattr(struct file *file, bool trusted, char **ret_list, size_t *ret_bytes);

#endif
