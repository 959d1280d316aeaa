/*
 * policies: the policies and settings of trees, as a mount tells and takes them (docs/interface.md).
 *
 * Rights:    to see a tree's takes the right to list its root; to change them one must be root or the tree's owner.
 * Locks:     none may be held.
 */
#ifndef INTACTFS_FS_POLICIES_H
#define INTACTFS_FS_POLICIES_H

#include <jansson.h>

#include "fs/node.h"

/* All rules that there are for files of the tree, and its settings. -EACCES: the sender of the request may not list the tree. */
int policies_report(fuse_req_t req, struct tree *tree, json_t **ret_report);
/* Only the rules that were set, as "policies", and the settings. */
int policies_put(struct tree *tree, json_t *object);

/* A change as it is written into user.intactfs.policy or .setting of a tree's root: "POLICY PATTERN", "NAME VALUE", or "unset"
 * with a pattern or a name. -EACCES for others than root and the owner; -EINVAL for what is no change, and
 * on anything but a tree's root. */
int policies_change(fuse_req_t req, struct file *file, const char *text);
int policies_change_setting(fuse_req_t req, struct file *file, const char *text);

/* The rule that decides for a regular file, as "SOURCE PATTERN"; malloc'ed. NULL: no memory. */
char *policies_rule_of(struct file *file);

#endif
