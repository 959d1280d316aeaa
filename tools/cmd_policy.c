#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "meta/policy.h"
#include "meta/report.h"
#include "tools/rules.h"
#include "tools/print.h"

static int set(const struct cli_args *args)
{
	const char *path = args->operands[1], *pattern = args->operands[2],
		   *name = args->operands[3];
	const char *complaint = pattern_complaint(pattern, strlen(pattern));
	autorules struct rules rules = {0};
	enum policy policy;
	bool missing;
	int rc;

	if (complaint)
		return cli_usage(args->command, "'%s' is no pattern: %s", pattern, complaint);
	if (!policy_parse(name, &policy))
		return cli_usage(
			args->command, "there is no policy '%s': there are %s", name, POLICY_NAMES);
	rc = rules_init(&rules, path);
	if (!rc)
		rc = rules_change(&rules, "policy", name, pattern, &missing);
	if (!rc)
		printf("tree %s: %s from the next open of '%s' on\n", print_clean(rules.name), name,
			print_clean(pattern));
	return rc;
}

static int unset(const struct cli_args *args)
{
	const char *path = args->operands[1], *pattern = args->operands[2];
	autorules struct rules rules = {0};
	bool missing = false;
	int rc = rules_init(&rules, path);

	if (!rc)
		rc = rules_change(&rules, "policy", "unset", pattern, &missing);
	if (missing)
		cli_error("the tree %s has no rule '%s': 'intactfs policy list %s' shows those it "
			  "has",
			rules.name, pattern, path);
	if (!rc)
		printf("tree %s: no rule for '%s' from the next open on\n", print_clean(rules.name),
			print_clean(pattern));
	return rc;
}

static int print_rule_json(const char *policy, const char *from, const char *pattern)
{
	autojson json_t *json = json_pack("{s:s, s:s}", "policy", policy, "from", from);

	if (report_put_bytes(json, "pattern", pattern, strlen(pattern)))
		cli_oom();
	print_json(json);
	return EXIT_DONE;
}

/* "SOURCE PATTERN" is the rule that decides, "mount" the default. */
static int list_file(const char *path, bool as_json)
{
	autofree char *policy = cli_xattr(path, "user.intactfs.policy");
	autofree char *rule = policy ? cli_xattr(path, "user.intactfs.rule") : NULL;
	char *pattern;

	if (!rule)
		return cli_errno(errno, "read", path);
	pattern = rule + strcspn(rule, " ");
	if (*pattern)
		*pattern++ = '\0';
	if (as_json)
		return print_rule_json(policy, rule, pattern);
	if (*pattern)
		printf("%s: %s, by '%s' (%s)\n", print_clean(path), policy, print_clean(pattern),
			rule);
	else
		printf("%s: %s, the default of the mount\n", print_clean(path), policy);
	return EXIT_DONE;
}

static void put_rules(struct table *table, const json_t *rules)
{
	json_t *rule;
	size_t i;

	json_array_foreach(rules, i, rule)
	{
		table_cell(table, "%s", json_text(rule, "pattern"));
		table_cell(table, "%s", json_text(rule, "policy"));
		table_cell(table, "%s", json_text(rule, "from"));
	}
}

static int list_tree(const char *path, bool as_json)
{
	static const struct column columns[] = {
		{"pattern", LEFT}, {"policy", LEFT}, {"from", LEFT}};
	autorules struct rules rules = {0};
	autojson json_t *all = NULL;
	struct table table;
	int rc = rules_init(&rules, path);

	if (!rc)
		rc = rules_read(&rules, &all);
	if (rc)
		return rc;
	if (as_json) {
		print_json(all);
		return EXIT_DONE;
	}
	table_init(&table, columns, ARRAY_SIZE(columns));
	put_rules(&table, json_object_get(all, "always"));
	put_rules(&table, json_object_get(all, "policies"));
	put_rules(&table, json_object_get(all, "built_in"));
	table_cell(&table, "(all others)");
	table_cell(&table, "%s", json_text(all, "default"));
	table_cell(&table, "mount");
	table_print(&table);
	return EXIT_DONE;
}

static int list(const struct cli_args *args)
{
	const char *path = args->operands[1];
	autofree char *mountpoint = cli_xattr(path, "user.intactfs.mount");
	struct stat st;

	if (mountpoint && !stat(path, &st) && S_ISREG(st.st_mode))
		return list_file(path, args->json);
	return list_tree(path, args->json);
}

static int run_policy(const struct cli_args *args)
{
	static int (*const runs[])(const struct cli_args *args) = {
		[ACTION_SET] = set, [ACTION_UNSET] = unset, [ACTION_LIST] = list};
	enum rules_action action;
	int rc = rules_action(args, &action);

	return rc ? rc : runs[action](args);
}

const struct command command_policy = {
	.name = "policy",
	.synopsis = "set TREE PATTERN POLICY | unset TREE PATTERN | list [--json] PATH",
	.summary = "Say by patterns what becomes of a tree's stale saves, and what is live",
	.help = "TREE may be any path in the tree; PATTERN is relative to the tree all the same. Without a\n"
		"slash it is for names in any directory ('*.json'), with one for paths ('docs/*.md');\n"
		"'docs/**' is for all that is below docs. Of the rules for a file the one that was set\n"
		"last decides; after the tree's rules come the built-in ones, and then the default of\n"
		"the mount. Rules are for the next open of a file.\n"
		"\n"
		"POLICY is what becomes of a save by a program that has not seen what it replaces:\n"
		"\n"
		"  merge        it is merged; refused where the changes overlap\n"
		"  turn         it hardly happens: reading the file takes the turn already\n"
		"  turn-thread  the same, each thread being a program of its own\n"
		"  refuse       it is refused, and kept\n"
		"  overwrite    it goes on top; the history has both\n"
		"  live         it cannot happen: the file is written in place by all\n"
		"\n"
		"list shows the rules of a tree, in the order in which they decide, or of a file which\n"
		"one decides.\n"
		"\n"
		"  --json       An object\n",
	.takes = "j",
	.operands_min = 2,
	.operands_max = 4,
	.run = run_policy,
};
