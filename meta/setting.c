#include "meta/setting.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "journal/log.h"
#include "journal/policy_rows.h"
#include "meta/tree.h"

static const struct {
	const char *name;
	bool is_switch;
	int64_t max, fallback;
	const char *values;
} settings[SETTING_COUNT] = {
	[SETTING_SIBLINGS] = {"siblings", true, 1, 1, "on or off"},
	[SETTING_INHERIT_SECONDS] = {"inherit_seconds", false, 86400, 300,
		"seconds from 0 to 86400"},
};

const char *setting_name(enum setting setting)
{
	return settings[setting].name;
}

bool setting_find(const char *name, enum setting *ret_setting)
{
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		if (strcmp(settings[i].name, name) == 0) {
			*ret_setting = (enum setting)i;
			return true;
		}
	}
	return false;
}

bool setting_is_switch(enum setting setting)
{
	return settings[setting].is_switch;
}

int64_t setting_default(enum setting setting)
{
	return settings[setting].fallback;
}

const char *setting_values(enum setting setting)
{
	return settings[setting].values;
}

static bool is_valid(enum setting setting, int64_t value)
{
	return value >= 0 && value <= settings[setting].max;
}

bool setting_parse(enum setting setting, const char *text, int64_t *ret_value)
{
	size_t digits = strspn(text, "0123456789");
	int64_t value;

	if (settings[setting].is_switch) {
		value = strcmp(text, "on") == 0;
		if (!value && strcmp(text, "off") != 0)
			return false;
	} else {
		if (digits == 0 || digits > 18 || text[digits])
			return false;
		value = strtoll(text, NULL, 10);
	}
	if (!is_valid(setting, value))
		return false;
	*ret_value = value;
	return true;
}

void setting_format(enum setting setting, int64_t value, char text[SETTING_TEXT_MAX])
{
	if (settings[setting].is_switch)
		strcpy(text, value ? "on" : "off");
	else
		snprintf(text, SETTING_TEXT_MAX, "%" PRId64, value);
}

int64_t setting_get(const struct tree *tree, enum setting setting)
{
	return __atomic_load_n(&tree->settings[setting], __ATOMIC_ACQUIRE);
}

struct setting_change {
	struct change change;
	struct tree *tree;
	enum setting setting;
	int64_t value;
	const struct actor *actor;
};

static int set_exec(struct txn *txn, struct change *change)
{
	struct setting_change *set = container_of(change, struct setting_change, change);
	const char *name = setting_name(set->setting);
	char text[SETTING_TEXT_MAX];
	int err;

	setting_format(set->setting, set->value, text);
	if (set->value == setting_default(set->setting))
		err = setting_rows_delete(txn->sql, name);
	else
		err = setting_rows_put(txn->sql, name, text);
	return err < 0 ? err
		       : txn_operation(txn, "setting", NULL, set->tree->root->id, RECORD_ROOT, 0,
				 set->actor);
}

static void set_apply(struct change *change)
{
	struct setting_change *set = container_of(change, struct setting_change, change);

	__atomic_store_n(&set->tree->settings[set->setting], set->value, __ATOMIC_RELEASE);
}

int setting_set(struct tree *tree, enum setting setting, int64_t value, const struct actor *actor)
{
	struct setting_change set = {
		.change = {.exec = set_exec, .apply = set_apply},
		.tree = tree,
		.setting = setting,
		.value = value,
		.actor = actor,
	};

	return is_valid(setting, value) ? journal_commit(tree->journal, &set.change) : -EINVAL;
}

static void take_row(void *arg, const char *name, const char *value)
{
	struct tree *tree = arg;
	enum setting setting;

	if (!setting_find(name, &setting) ||
		!setting_parse(setting, value, &tree->settings[setting]))
		log_warning("tree %s: the setting %s %s is not known, and has no effect",
			tree->info.name, name, value);
}

int setting_load(struct tree *tree)
{
	struct sql *sql;
	int err;

	for (size_t i = 0; i < SETTING_COUNT; i++)
		tree->settings[i] = settings[i].fallback;
	sql = journal_read_begin(tree->journal);
	err = setting_rows_scan(sql, take_row, tree);
	journal_read_end(tree->journal);
	return err;
}
