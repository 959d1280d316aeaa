/*
 * setting: what can be set for a tree as a whole, one number each. Kept in memory, and changed in the apply step.
 */
#ifndef INTACTFS_META_SETTING_H
#define INTACTFS_META_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct actor;
struct tree;

enum setting {
	SETTING_SIBLINGS,	 /* a refused save also appears beside its file */
	SETTING_INHERIT_SECONDS, /* how long what a process saw is its parent's after its end */
	SETTING_COUNT,
};

/* All names there are, for messages. */
#define SETTING_NAMES "siblings, inherit_seconds"

#define SETTING_TEXT_MAX 24

const char *setting_name(enum setting setting);
bool setting_find(const char *name, enum setting *ret_setting);
bool setting_is_switch(enum setting setting);
int64_t setting_default(enum setting setting);
/* What values it takes, for messages: "on or off". */
const char *setting_values(enum setting setting);
/* false when it takes no such value; on is 1, off is 0. */
bool setting_parse(enum setting setting, const char *text, int64_t *ret_value);
void setting_format(enum setting setting, int64_t value, char text[SETTING_TEXT_MAX]);

/* Takes no lock. */
int64_t setting_get(const struct tree *tree, enum setting setting);
/* Setting it to the default is the same as to unset it. -EINVAL for a value that it does not take. No lock may be held. */
int setting_set(struct tree *tree, enum setting setting, int64_t value, const struct actor *actor);

/* For tree_open(). */
int setting_load(struct tree *tree);

#endif
