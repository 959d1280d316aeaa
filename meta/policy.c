#include "meta/policy.h"

#include <errno.h>
#include <string.h>

#include "journal/log.h"
#include "journal/policy_rows.h"
#include "meta/tree.h"

static const char *const names[] = {
	[POLICY_MERGE] = "merge",
	[POLICY_TURN] = "turn",
	[POLICY_TURN_THREAD] = "turn-thread",
	[POLICY_REFUSE] = "refuse",
	[POLICY_OVERWRITE] = "overwrite",
	[POLICY_LIVE] = "live",
};

static const char *const sources[] = {
	[POLICY_ALWAYS] = "always",
	[POLICY_SET] = "set",
	[POLICY_BUILT_IN] = "built-in",
	[POLICY_MOUNT] = "mount",
};

#define ALWAYS(pattern_)                                                                           \
	{                                                                                          \
		POLICY_LIVE, POLICY_ALWAYS, pattern_                                               \
	}
#define BUILT_IN(policy_, pattern_)                                                                \
	{                                                                                          \
		policy_, POLICY_BUILT_IN, pattern_                                                 \
	}

static const struct policy_rule always[] = {
	/* SQLite's */
	ALWAYS("*-wal"),
	ALWAYS("*-shm"),
	ALWAYS("*-journal"),
	/* what an editor writes for another one, and for after a crash */
	ALWAYS(".*.sw?"),
};

static const struct policy_rule built_in[] = {
	/* databases */
	BUILT_IN(POLICY_LIVE, "*.db"),
	BUILT_IN(POLICY_LIVE, "*.db3"),
	BUILT_IN(POLICY_LIVE, "*.sqlite*"),
	BUILT_IN(POLICY_LIVE, "*.mdb"),
	/* disk images */
	BUILT_IN(POLICY_LIVE, "*.img"),
	BUILT_IN(POLICY_LIVE, "*.qcow2"),
	BUILT_IN(POLICY_LIVE, "*.vdi"),
	BUILT_IN(POLICY_LIVE, "*.vmdk"),
	/* what others follow while it grows */
	BUILT_IN(POLICY_LIVE, "*.log"),
	/* what package managers solved as a whole: two halves make no solution. Other *.lock are locks (git's). */
	BUILT_IN(POLICY_REFUSE, "package-lock.json"),
	BUILT_IN(POLICY_REFUSE, "npm-shrinkwrap.json"),
	BUILT_IN(POLICY_REFUSE, "yarn.lock"),
	BUILT_IN(POLICY_REFUSE, "pnpm-lock.yaml"),
	BUILT_IN(POLICY_REFUSE, "bun.lock"),
	BUILT_IN(POLICY_REFUSE, "deno.lock"),
	BUILT_IN(POLICY_REFUSE, "Cargo.lock"),
	BUILT_IN(POLICY_REFUSE, "poetry.lock"),
	BUILT_IN(POLICY_REFUSE, "uv.lock"),
	BUILT_IN(POLICY_REFUSE, "pdm.lock"),
	BUILT_IN(POLICY_REFUSE, "Pipfile.lock"),
	BUILT_IN(POLICY_REFUSE, "composer.lock"),
	BUILT_IN(POLICY_REFUSE, "Gemfile.lock"),
	BUILT_IN(POLICY_REFUSE, "Podfile.lock"),
	BUILT_IN(POLICY_REFUSE, "pubspec.lock"),
	BUILT_IN(POLICY_REFUSE, "mix.lock"),
	BUILT_IN(POLICY_REFUSE, "flake.lock"),
	/* what programs with locks of their own write, some of it again and again without a look */
	BUILT_IN(POLICY_OVERWRITE, "**/.git/**"),
	BUILT_IN(POLICY_OVERWRITE, "**/.hg/**"),
	BUILT_IN(POLICY_OVERWRITE, "**/.svn/**"),
	/* what compilers make */
	BUILT_IN(POLICY_OVERWRITE, "*.o"),
	BUILT_IN(POLICY_OVERWRITE, "*.a"),
	BUILT_IN(POLICY_OVERWRITE, "*.so"),
	BUILT_IN(POLICY_OVERWRITE, "*.pyc"),
	BUILT_IN(POLICY_OVERWRITE, "*.class"),
};

/* The rules that were set, in the order in which they decide. Never changed: another list takes its place. */
struct policy_list {
	unsigned refs; /* policies_lock */
	bool has_paths;
	size_t count;
	struct policy_rule *rules;
};

/* Sources: https://www.sqlite.org/fileformat.html, magic(5) of file(1), and the headers of Berkeley DB (db_page.h), GDBM
 * (gdbmconst.h), LMDB (mdb.c: MDB_MAGIC after the page header), TDB (tdb_private.h), and QEMU (qcow2.h). */
static const struct {
	size_t offset, length;
	const char *bytes;
} magics[] = {
	{0, 16, "SQLite format 3\0"},
	{16, 4, "\xde\xc0\xef\xbe"}, /* LMDB */
	{12, 4, "\x62\x31\x05\x00"},
	{12, 4, "\x00\x05\x31\x62"}, /* Berkeley DB, btree */
	{12, 4, "\x61\x15\x06\x00"},
	{12, 4, "\x00\x06\x15\x61"}, /* Berkeley DB, hash */
	{0, 4, "\xce\x9a\x57\x13"},
	{0, 4, "\xcf\x9a\x57\x13"}, /* GDBM */
	{0, 4, "\xcd\x9a\x57\x13"},
	{0, 9, "TDB file\n"},
	{0, 4, "QFI\xfb"},
};

const char *policy_name(enum policy policy)
{
	return names[policy];
}

bool policy_parse(const char *name, enum policy *ret_policy)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(names[i], name) == 0) {
			*ret_policy = (enum policy)i;
			return true;
		}
	}
	return false;
}

const char *policy_source_name(enum policy_source source)
{
	return sources[source];
}

static void list_free(struct policy_list *list)
{
	if (list)
		free(list->rules);
	free(list);
}

static void list_unref(struct tree *tree, struct policy_list *list)
{
	bool last;

	if (!list)
		return;
	lock_take(&tree->policies_lock);
	last = --list->refs == 0;
	lock_drop(&tree->policies_lock);
	if (last)
		list_free(list);
}

static struct policy_list *list_get(struct tree *tree)
{
	struct policy_list *list;

	lock_take(&tree->policies_lock);
	list = tree->policies;
	list->refs++;
	lock_drop(&tree->policies_lock);
	return list;
}

/* The tree has it from now on. */
static void list_replace(struct tree *tree, struct policy_list *list)
{
	struct policy_list *before;

	lock_take(&tree->policies_lock);
	before = tree->policies;
	tree->policies = list;
	lock_drop(&tree->policies_lock);
	list_unref(tree, before);
}

/* What a newer version may have set is left alone. */
static int add_row(void *arg, const void *pattern, size_t length, const char *policy)
{
	struct policy_list *list = arg;
	struct policy_rule rule = {.source = POLICY_SET}, *grown;

	if (pattern_complaint(pattern, length) || !policy_parse(policy, &rule.policy)) {
		log_warning("a rule with the policy %s is not known, and has no effect", policy);
		return 0;
	}
	memcpy(rule.pattern, pattern, length);
	grown = reallocarray(list->rules, list->count + 1, sizeof(rule));
	if (!grown)
		return -ENOMEM;
	list->rules = grown;
	grown[list->count++] = rule;
	list->has_paths = list->has_paths || pattern_is_path(rule.pattern);
	return 0;
}

static int list_read(struct sql *sql, struct policy_list **ret_list)
{
	struct policy_list *list = calloc(1, sizeof(*list));
	int err;

	if (!list)
		return -ENOMEM;
	list->refs = 1;
	err = policy_rows_scan(sql, add_row, list);
	if (err) {
		list_free(list);
		return err;
	}
	*ret_list = list;
	return 0;
}

int policy_load(struct tree *tree)
{
	struct sql *sql = journal_read_begin(tree->journal);
	int err = list_read(sql, &tree->policies);

	journal_read_end(tree->journal);
	return err;
}

void policy_unload(struct tree *tree)
{
	list_free(tree->policies);
	tree->policies = NULL;
}

struct policy_change {
	struct change change;
	struct tree *tree;
	const char *pattern;
	const char *policy; /* NULL: the rule goes */
	const struct actor *actor;
	struct policy_list *list; /* as it is then */
};

static int change_exec(struct txn *txn, struct change *change)
{
	struct policy_change *set = container_of(change, struct policy_change, change);
	size_t length = strlen(set->pattern);
	int err;

	if (set->policy)
		err = policy_rows_put(txn->sql, set->pattern, length, set->policy);
	else
		err = policy_rows_delete(txn->sql, set->pattern, length);
	if (err < 0)
		return err;
	if (!set->policy && err == 0)
		return -ENODATA;
	list_free(set->list);
	set->list = NULL;
	err = list_read(txn->sql, &set->list);
	if (err)
		return err;
	if (set->policy && set->list->count > POLICY_RULES_MAX)
		return -E2BIG;
	return txn_operation(txn, "policy", NULL, set->tree->root->id, RECORD_ROOT, 0, set->actor);
}

static void change_apply(struct change *change)
{
	struct policy_change *set = container_of(change, struct policy_change, change);

	list_replace(set->tree, set->list);
	set->list = NULL;
}

static int change_rules(
	struct tree *tree, const char *pattern, const char *policy, const struct actor *actor)
{
	struct policy_change set = {
		.change = {.exec = change_exec, .apply = change_apply},
		.tree = tree,
		.pattern = pattern,
		.policy = policy,
		.actor = actor,
	};
	int err = journal_commit(tree->journal, &set.change);

	list_free(set.list);
	return err;
}

int policy_set(
	struct tree *tree, const char *pattern, enum policy policy, const struct actor *actor)
{
	if (pattern_complaint(pattern, strlen(pattern)))
		return -EINVAL;
	return change_rules(tree, pattern, policy_name(policy), actor);
}

int policy_unset(struct tree *tree, const char *pattern, const struct actor *actor)
{
	return change_rules(tree, pattern, NULL, actor);
}

/* What a rule is asked about. paths: NULL when no rule asks for them; those that are not known are NULL. */
struct subject {
	const struct file_name *names;
	char **paths;
	size_t count;
};

static bool rule_is_for(const struct policy_rule *rule, const struct subject *subject)
{
	bool by_path = pattern_is_path(rule->pattern);
	const char *text;

	for (size_t i = 0; i < subject->count; i++) {
		text = by_path ? subject->paths ? subject->paths[i] : NULL
			       : subject->names[i].name.bytes;
		if (text && pattern_matches(rule->pattern, text))
			return true;
	}
	return false;
}

static const struct policy_rule *find_rule(
	const struct policy_rule *rules, size_t count, const struct subject *subject)
{
	for (size_t i = 0; i < count; i++)
		if (rule_is_for(&rules[i], subject))
			return &rules[i];
	return NULL;
}

static void find_paths(struct tree *tree, struct subject *subject)
{
	subject->paths = calloc(subject->count + 1, sizeof(char *));
	for (size_t i = 0; i < subject->count && subject->paths; i++)
		subject->paths[i] = tree_path(tree, &subject->names[i]);
}

static void drop_paths(struct subject *subject)
{
	for (size_t i = 0; i < subject->count && subject->paths; i++)
		free(subject->paths[i]);
	free(subject->paths);
}

static void decide(struct tree *tree, const struct file_name *file_names, size_t count,
	struct policy_rule *ret_rule)
{
	struct subject subject = {file_names, NULL, count};
	struct policy_list *list = list_get(tree);
	const struct policy_rule *rule = find_rule(always, ARRAY_SIZE(always), &subject);

	if (!rule && list->has_paths)
		find_paths(tree, &subject);
	if (!rule)
		rule = find_rule(list->rules, list->count, &subject);
	if (!rule)
		rule = find_rule(built_in, ARRAY_SIZE(built_in), &subject);
	if (!rule && !subject.paths) {
		find_paths(tree, &subject);
		rule = find_rule(built_in, ARRAY_SIZE(built_in), &subject);
	}
	if (rule)
		*ret_rule = *rule;
	else
		*ret_rule = (struct policy_rule){tree->hooks->policy, POLICY_MOUNT, ""};
	drop_paths(&subject);
	list_unref(tree, list);
}

void policy_explain(struct file *file, struct policy_rule *ret_rule)
{
	struct file_name few[FILE_NAMES_FEW];
	autofree struct file_name *more = NULL;
	size_t count = file_names_all(file, few, &more);

	decide(file->tree, more ? more : few, count, ret_rule);
}

enum policy policy_of_file(struct file *file)
{
	struct policy_rule rule;

	policy_explain(file, &rule);
	return rule.policy;
}

enum policy policy_of_name(struct file *dir, const char *name)
{
	struct file_name file_name = {.dir = dir->id, .dir_entry = dir->entry};
	struct policy_rule rule;
	size_t length = strlen(name);

	if (length > RECORD_NAME_MAX)
		length = RECORD_NAME_MAX;
	file_name.name.length = length;
	memcpy(file_name.name.bytes, name, length);
	decide(dir->tree, &file_name, 1, &rule);
	return rule.policy;
}

static void visit_all(const struct policy_rule *rules, size_t count,
	void (*visit)(void *arg, const struct policy_rule *rule), void *arg)
{
	for (size_t i = 0; i < count; i++)
		visit(arg, &rules[i]);
}

void policy_each(struct tree *tree, enum policy_source source,
	void (*visit)(void *arg, const struct policy_rule *rule), void *arg)
{
	struct policy_list *list;

	switch (source) {
	case POLICY_ALWAYS:
		visit_all(always, ARRAY_SIZE(always), visit, arg);
		break;
	case POLICY_SET:
		list = list_get(tree);
		visit_all(list->rules, list->count, visit, arg);
		list_unref(tree, list);
		break;
	case POLICY_BUILT_IN:
		visit_all(built_in, ARRAY_SIZE(built_in), visit, arg);
		break;
	case POLICY_MOUNT:
		break;
	}
}

bool policy_is_scratch(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		if (pattern_matches(always[i].pattern, name))
			return true;
	return false;
}

bool policy_is_database(const void *head, size_t bytes)
{
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if (magics[i].offset + magics[i].length <= bytes &&
			memcmp((const char *)head + magics[i].offset, magics[i].bytes,
				magics[i].length) == 0)
			return true;
	return false;
}
