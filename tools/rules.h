/*
 * rules: a tree's policies and settings, as the mount tells them, and changes of them.
 *
 * Errors:    as in cli.h: an exit code, and the reason is on stderr.
 */
#ifndef INTACTFS_TOOLS_RULES_H
#define INTACTFS_TOOLS_RULES_H

#include "tools/cli.h"

/* The tree that a path is in. */
struct rules {
	char *name;
	char *root; /* its path */
};

#define autorules __attribute__((cleanup(rules_deinit)))

int rules_init(struct rules *rules, const char *path);
void rules_deinit(struct rules *rules);

/* All that the mount tells of it: an object. */
int rules_read(const struct rules *rules, json_t **ret_json);
/* Writes "WORD REST" into user.intactfs.ATTRIBUTE of the tree's root. EXIT_COULD_NOT with *ret_missing says nothing: what was to
 * be unset is not there. */
int rules_change(const struct rules *rules, const char *attribute, const char *word,
	const char *rest, bool *ret_missing);

enum rules_action { ACTION_SET, ACTION_UNSET, ACTION_LIST };
/* Which one a command's first operand is; it has as many operands as it takes. */
int rules_action(const struct cli_args *args, enum rules_action *ret_action);

#endif
