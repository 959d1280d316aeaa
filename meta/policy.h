/*
 * policy: what becomes of a save that is stale, and which files are written in place; by rules for patterns (pattern.h).
 *
 * The first of these decides that is for the file:
 *
 *   always    what SQLite and editors keep beside a file while they work on it is live
 *   set       the rules of the tree, from the one that was set last to the first
 *   built-in  databases, disk images and logs are live, generated lock files are refused, generated files overwritten
 *   mount     the default of the mount
 *
 * A file with several names is looked at by all of them, rule by rule: one that is for any of its names is for the file.
 * Whatever its policy is, a file is written in place when its content or its locks ask for that (fs/live.c).
 *
 * Rules are read with the tree and replaced as a whole in the apply step of a change, so that asking for a policy takes no
 * SQL, but for files with names that are not in memory, and paths through directories that are not.
 *
 * Errors:    a file whose names cannot be found out (no memory, an unreadable journal) has the policy of those that are known.
 * Locks:     those that ask for a file's policy may take LOCK_READER, and so do those that change it: none may be held
 *            from there on.
 */
#ifndef INTACTFS_META_POLICY_H
#define INTACTFS_META_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "meta/pattern.h"

struct actor;
struct file;
struct tree;

enum policy {
	POLICY_MERGE,
	POLICY_TURN,
	POLICY_TURN_THREAD,
	POLICY_REFUSE,
	POLICY_OVERWRITE,
	POLICY_LIVE,
};

/* All names there are, for messages. */
#define POLICY_NAMES "merge, turn, turn-thread, refuse, overwrite, live"

const char *policy_name(enum policy policy);
bool policy_parse(const char *name, enum policy *ret_policy);

/* Where a rule comes from, in the order in which they decide. */
enum policy_source { POLICY_ALWAYS, POLICY_SET, POLICY_BUILT_IN, POLICY_MOUNT };

struct policy_rule {
	enum policy policy;
	enum policy_source source;
	char pattern[PATTERN_MAX + 1]; /* "" for the mount's */
};

/* "always", "set", "built-in", "mount" */
const char *policy_source_name(enum policy_source source);

/* Of a regular file, by its names. */
enum policy policy_of_file(struct file *file);
/* Of a name that need not be there yet. */
enum policy policy_of_name(struct file *dir, const char *name);
/* The rule that decides. */
void policy_explain(struct file *file, struct policy_rule *ret_rule);

/* Calls visit for all rules of a source but the mount's, from the one that decides first. */
void policy_each(struct tree *tree, enum policy_source source,
	void (*visit)(void *arg, const struct policy_rule *rule), void *arg);

#define POLICY_RULES_MAX 1000

/* The rule comes before all others of the tree. -EINVAL for a pattern with a complaint, -E2BIG when there are too many. */
int policy_set(
	struct tree *tree, const char *pattern, enum policy policy, const struct actor *actor);
/* -ENODATA when there is no rule of that pattern. */
int policy_unset(struct tree *tree, const char *pattern, const struct actor *actor);

/* For tree_open() and tree_close(). */
int policy_load(struct tree *tree);
void policy_unload(struct tree *tree);

/* What programs keep beside a database or a text while they work on it: its contents are of no use to anybody later. */
bool policy_is_scratch(const char *name);

/* As much of a content as policy_is_database() wants to see. */
#define POLICY_MAGIC_BYTES 32
/* Whether a content that begins so is a database's. */
bool policy_is_database(const void *head, size_t bytes);

#endif
