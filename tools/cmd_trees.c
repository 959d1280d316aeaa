#include "tools/cli.h"
#include "tools/print.h"

static void print_trees(const json_t *trees)
{
	static const struct column columns[] = {
		{"tree", LEFT}, {"owner", LEFT}, {"mode", LEFT}, {"created", LEFT}};
	struct table table;
	json_t *tree;
	size_t i;

	table_init(&table, columns, ARRAY_SIZE(columns));
	json_array_foreach(trees, i, tree)
	{
		table_cell(&table, "%s", json_text(tree, "name"));
		table_cell(&table, "%s", print_user(tree));
		table_cell(&table, "%s", json_text(tree, "mode"));
		table_cell(&table, "%s", print_time(json_text(tree, "created")));
	}
	table_print(&table);
}

static int run_trees(const struct cli_args *args)
{
	autojson json_t *trees = NULL;
	int rc = cli_read_mount(args->operands[0], "trees", &trees);

	if (rc)
		return rc;
	if (args->json)
		print_json(trees);
	else if (!json_array_size(trees))
		puts("no trees");
	else
		print_trees(trees);
	return EXIT_DONE;
}

const struct command command_trees = {
	.name = "trees",
	.synopsis = "[--json] MOUNTPOINT",
	.summary = "List the trees of a mounted volume",
	.help = "MOUNTPOINT may be any path in the mount. `mkdir MOUNTPOINT/NAME` makes a tree,\n"
		"`rmdir` removes an empty one.\n"
		"\n"
		"  --json  An array of objects\n",
	.takes = "j",
	.operands_min = 1,
	.operands_max = 1,
	.run = run_trees,
};
