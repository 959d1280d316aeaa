#include "fs/policies.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fs/fs.h"
#include "fs/virtual.h"
#include "meta/policy.h"
#include "meta/report.h"
#include "meta/setting.h"

#define UNSET "unset"

/* NULL once there was no memory. */
static void add_rule(void *arg, const struct policy_rule *rule)
{
	json_t **list = arg, *description = json_object();

	if (report_put_bytes(description, "pattern", rule->pattern, strlen(rule->pattern)) ||
		json_object_set_new(
			description, "policy", json_string(policy_name(rule->policy))) ||
		json_object_set_new(
			description, "from", json_string(policy_source_name(rule->source)))) {
		json_decref(description);
		description = NULL;
	}
	if (json_array_append_new(*list, description) == 0)
		return;
	json_decref(*list);
	*list = NULL;
}

static json_t *describe_rules(struct tree *tree, enum policy_source source)
{
	json_t *list = json_array();

	policy_each(tree, source, add_rule, &list);
	return list;
}

static json_t *describe_value(enum setting setting, int64_t value)
{
	return setting_is_switch(setting) ? json_boolean(value) : json_integer(value);
}

static json_t *describe_settings(struct tree *tree)
{
	json_t *list = json_array();

	for (size_t i = 0; i < SETTING_COUNT; i++) {
		enum setting setting = (enum setting)i;
		json_t *description = json_pack("{s:s, s:o, s:o}", "name", setting_name(setting),
			"value", describe_value(setting, setting_get(tree, setting)), "default",
			describe_value(setting, setting_default(setting)));

		if (json_array_append_new(list, description) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

int policies_put(struct tree *tree, json_t *object)
{
	return json_object_set_new(object, "policies", describe_rules(tree, POLICY_SET)) ||
			       json_object_set_new(object, "settings", describe_settings(tree))
		       ? -ENOMEM
		       : 0;
}

/* As to list the tree. */
int policies_report(fuse_req_t req, struct tree *tree, json_t **ret_report)
{
	struct node_row root = file_attr(tree->root);
	const struct rights rights = {root.mode, root.uid, root.gid};
	json_t *report;

	if (!rights_allow(req, &rights, R_OK | X_OK))
		return -EACCES;
	report = json_pack("{s:s, s:o, s:o}", "default", policy_name(tree->hooks->policy), "always",
		describe_rules(tree, POLICY_ALWAYS), "built_in",
		describe_rules(tree, POLICY_BUILT_IN));

	if (policies_put(tree, report) != 0) {
		json_decref(report);
		return -ENOMEM;
	}
	*ret_report = report;
	return 0;
}

/* Cuts the text after its first word; what follows the space, or NULL. */
static char *split(char *text)
{
	char *space = strchr(text, ' ');

	if (space)
		*space++ = '\0';
	return space;
}

static int check_caller(fuse_req_t req, struct file *file)
{
	uid_t uid = fuse_req_ctx(req)->uid;

	if (file != file->tree->root)
		return -EINVAL;
	return uid == 0 || uid == file_attr(file).uid ? 0 : -EACCES;
}

int policies_change(fuse_req_t req, struct file *file, const char *text)
{
	autofree char *word = strdup(text);
	char *pattern = word ? split(word) : NULL;
	int err = word ? check_caller(req, file) : -ENOMEM;
	enum policy policy;
	struct actor actor;

	if (err)
		return err;
	if (!pattern)
		return -EINVAL;
	request_actor(req, &actor);
	if (strcmp(word, UNSET) == 0)
		return policy_unset(file->tree, pattern, &actor);
	return policy_parse(word, &policy) ? policy_set(file->tree, pattern, policy, &actor)
					   : -EINVAL;
}

int policies_change_setting(fuse_req_t req, struct file *file, const char *text)
{
	autofree char *word = strdup(text);
	char *value = word ? split(word) : NULL;
	int err = word ? check_caller(req, file) : -ENOMEM;
	enum setting setting;
	struct actor actor;
	int64_t number;

	if (err)
		return err;
	if (!value)
		return -EINVAL;
	request_actor(req, &actor);
	if (strcmp(word, UNSET) == 0) {
		if (!setting_find(value, &setting))
			return -EINVAL;
		number = setting_default(setting);
	} else if (!setting_find(word, &setting) || !setting_parse(setting, value, &number)) {
		return -EINVAL;
	}
	return setting_set(file->tree, setting, number, &actor);
}

char *policies_rule_of(struct file *file)
{
	struct policy_rule rule;
	char *text;

	policy_explain(file, &rule);
	if (asprintf(&text, "%s%s%s", policy_source_name(rule.source), *rule.pattern ? " " : "",
		    rule.pattern) < 0)
		return NULL;
	return text;
}
