#include <string.h>

#include "meta/setting.h"
#include "tools/rules.h"
#include "tools/print.h"

static int find(const struct cli_args *args, enum setting *ret_setting)
{
	const char *name = args->operands[2];

	if (setting_find(name, ret_setting))
		return EXIT_DONE;
	return cli_usage(
		args->command, "there is no setting '%s': there are %s", name, SETTING_NAMES);
}

static int set(const struct cli_args *args)
{
	const char *path = args->operands[1], *value = args->operands[3];
	autorules struct rules rules = {0};
	enum setting setting;
	int64_t number;
	bool missing;
	int rc = find(args, &setting);

	if (!rc && !setting_parse(setting, value, &number))
		rc = cli_usage(args->command, "%s takes %s, not '%s'", setting_name(setting),
			setting_values(setting), value);
	if (!rc)
		rc = rules_init(&rules, path);
	if (!rc)
		rc = rules_change(&rules, "setting", setting_name(setting), value, &missing);
	if (!rc)
		printf("tree %s: %s %s\n", print_clean(rules.name), setting_name(setting), value);
	return rc;
}

static int unset(const struct cli_args *args)
{
	autorules struct rules rules = {0};
	char text[SETTING_TEXT_MAX];
	enum setting setting;
	bool missing;
	int rc = find(args, &setting);

	if (!rc)
		rc = rules_init(&rules, args->operands[1]);
	if (!rc)
		rc = rules_change(&rules, "setting", "unset", setting_name(setting), &missing);
	if (rc)
		return rc;
	setting_format(setting, setting_default(setting), text);
	printf("tree %s: %s %s, the default\n", print_clean(rules.name), setting_name(setting),
		text);
	return rc;
}

static void put_value(struct table *table, const json_t *setting, const char *key)
{
	const json_t *value = json_object_get(setting, key);

	if (json_is_boolean(value))
		table_cell(table, "%s", json_is_true(value) ? "on" : "off");
	else
		table_cell(table, "%lld", (long long)json_integer_value(value));
}

static int list(const struct cli_args *args)
{
	static const struct column columns[] = {
		{"setting", LEFT}, {"value", LEFT}, {"default", LEFT}};
	autorules struct rules rules = {0};
	autojson json_t *all = NULL;
	const json_t *settings;
	struct table table;
	json_t *setting;
	size_t i;
	int rc = rules_init(&rules, args->operands[1]);

	if (!rc)
		rc = rules_read(&rules, &all);
	if (rc)
		return rc;
	settings = json_object_get(all, "settings");
	if (args->json) {
		print_json(settings);
		return EXIT_DONE;
	}
	table_init(&table, columns, ARRAY_SIZE(columns));
	json_array_foreach(settings, i, setting)
	{
		table_cell(&table, "%s", json_text(setting, "name"));
		put_value(&table, setting, "value");
		put_value(&table, setting, "default");
	}
	table_print(&table);
	return EXIT_DONE;
}

static int run_setting(const struct cli_args *args)
{
	static int (*const runs[])(const struct cli_args *args) = {
		[ACTION_SET] = set, [ACTION_UNSET] = unset, [ACTION_LIST] = list};
	enum rules_action action;
	int rc = rules_action(args, &action);

	return rc ? rc : runs[action](args);
}

const struct command command_setting = {
	.name = "setting",
	.synopsis = "set TREE NAME VALUE | unset TREE NAME | list [--json] TREE",
	.summary = "Change what holds for a tree as a whole",
	.help = "TREE may be any path in the tree.\n"
		"\n"
		"  siblings         on (the default) or off: a refused save also appears beside its\n"
		"                   file\n"
		"  inherit_seconds  how long after its end what a process saw counts for its parent\n"
		"                   (300)\n"
		"\n"
		"  --json           An array of objects\n",
	.takes = "j",
	.operands_min = 2,
	.operands_max = 4,
	.run = run_setting,
};
