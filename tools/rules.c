#include "tools/rules.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

int rules_init(struct rules *rules, const char *path)
{
	autofree char *mountpoint = NULL;
	int rc;

	*rules = (struct rules){0};
	rc = cli_mountpoint(path, &mountpoint);
	if (rc)
		return rc;
	rules->name = cli_xattr(path, "user.intactfs.tree");
	if (!rules->name)
		return cli_error("%s is in no tree: policies and settings are a tree's", path);
	rules->root = cli_format("%s/%s", mountpoint, rules->name);
	return EXIT_DONE;
}

void rules_deinit(struct rules *rules)
{
	free(rules->name);
	free(rules->root);
}

int rules_read(const struct rules *rules, json_t **ret_json)
{
	autofree char *file = cli_format("%s@@/.policies", rules->root);
	int err = cli_read_json(file, ret_json);

	return err ? cli_errno(err, "list the policies of", rules->root) : EXIT_DONE;
}

int rules_change(const struct rules *rules, const char *attribute, const char *word,
	const char *rest, bool *ret_missing)
{
	autofree char *name = cli_format("user.intactfs.%s", attribute);
	autofree char *value = cli_format("%s %s", word, rest);

	*ret_missing = false;
	if (!setxattr(rules->root, name, value, strlen(value), 0))
		return EXIT_DONE;
	*ret_missing = errno == ENODATA;
	switch (errno) {
	case ENODATA:
		return EXIT_COULD_NOT;
	case EACCES:
	case EPERM:
		return cli_error("permission denied: the %s of the tree %s is for its owner and "
				 "root to change",
			strcmp(attribute, "policy") ? "setting" : "policy", rules->name);
	case EINVAL:
	case EOPNOTSUPP:
		return cli_error("the daemon of this mount does not know '%s': it is another "
				 "version of intactfs",
			value);
	case E2BIG:
		return cli_error("the tree %s has as many rules as there can be", rules->name);
	default:
		return cli_errno(errno, "change", rules->root);
	}
}

int rules_action(const struct cli_args *args, enum rules_action *ret_action)
{
	static const struct {
		const char *name;
		int operands;
	} actions[] = {[ACTION_SET] = {"set", 4},
		[ACTION_UNSET] = {"unset", 3},
		[ACTION_LIST] = {"list", 2}};
	const char *name = args->operands[0];
	size_t i = 0;

	while (i < ARRAY_SIZE(actions) && strcmp(actions[i].name, name))
		i++;
	if (i == ARRAY_SIZE(actions))
		return cli_usage(args->command, "'%s' is none of set, unset, list", name);
	if (args->operand_count != actions[i].operands)
		return cli_usage(args->command, "too %s arguments for %s",
			args->operand_count < actions[i].operands ? "few" : "many", name);
	if (args->json && i != ACTION_LIST)
		return cli_usage(args->command, "%s takes no --json", name);
	*ret_action = (enum rules_action)i;
	return EXIT_DONE;
}
