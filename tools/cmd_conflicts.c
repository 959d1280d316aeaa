#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tools/mounts.h"
#include "tools/place.h"
#include "tools/print.h"
#include "tools/rules.h"

#define CONFLICT "user.intactfs.conflict"

/* The exact bytes of a path in the mount's JSON, where its text is not them; the caller frees it. */
static char *exact(const json_t *object, const char *key, const char *key_hex)
{
	const char *text = json_text(object, key), *hex = json_text(object, key_hex);
	size_t length = strlen(hex) / 2;
	char *bytes;

	if (!*hex)
		return cli_format("%s", text);
	bytes = calloc(length + 1, 1);
	if (!bytes)
		cli_oom();
	for (size_t i = 0; i < length; i++) {
		char byte[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		bytes[i] = (char)strtoul(byte, NULL, 16);
	}
	return bytes;
}

/* below: relative to the tree, "" for all of it. */
static bool is_below(const json_t *conflict, const char *below)
{
	autofree char *path = exact(conflict, "path", "path_hex");
	size_t length = strlen(below);

	return !length ||
	       (strncmp(path, below, length) == 0 && (path[length] == '\0' || path[length] == '/'));
}

/* Adds those of a tree to the list; 0 or an errno (positive). */
static int collect(const char *mountpoint, const char *tree, const char *below, json_t *list)
{
	autofree char *file = cli_format("%s/%s@@/.conflicts", mountpoint, tree);
	autojson json_t *all = NULL;
	json_t *conflict;
	size_t i;
	int err = cli_read_json(file, &all);

	if (err)
		return err;
	json_array_foreach(all, i, conflict)
	{
		if (!is_below(conflict, below))
			continue;
		if (json_object_set_new(conflict, "tree", json_string(tree)) ||
			json_object_set_new(conflict, "mountpoint", json_string(mountpoint)) ||
			json_array_append(list, conflict))
			cli_oom();
	}
	return 0;
}

/* Of all trees of a mount, as far as it answers. */
static int collect_mount(const char *mountpoint, json_t *list)
{
	autofree char *file = cli_format("%s/.intactfs/trees", mountpoint);
	autojson json_t *trees = NULL;
	json_t *tree;
	size_t i;
	int err = cli_read_json(file, &trees), first = 0;

	if (err)
		return err;
	json_array_foreach(trees, i, tree)
	{
		err = collect(mountpoint, json_text(tree, "name"), "", list);
		first = first ? first : err;
	}
	return first;
}

/* Other people's mounts, which cannot be asked, are left out. */
static int collect_all(json_t *list)
{
	struct mounts mounts;
	int rc = mounts_init(&mounts);

	if (rc)
		return rc;
	for (size_t i = 0; i < mounts.count; i++)
		collect_mount(mounts.points[i], list);
	mounts_deinit(&mounts);
	return EXIT_DONE;
}

/* Of a file, which may be gone, or of all that is in a directory. */
static int collect_path(const char *path, const char *mountpoint, json_t *list)
{
	autoplace struct place place = {0};
	autofree char *tree = NULL, *parent = NULL, *whole = NULL, *root = NULL;
	const char *below;
	int rc = place_init(&place, path), err;

	if (rc)
		return rc;
	parent = realpath(place.exists && S_ISDIR(place.mode) ? place.path : place.parent, NULL);
	if (!parent)
		return cli_errno(errno, "look at", path);
	tree = cli_xattr(parent, "user.intactfs.tree");
	if (!tree) /* the mount's root */
		return (err = collect_mount(mountpoint, list)) ? cli_errno(err, "read", path)
							       : EXIT_DONE;
	whole = place.exists && S_ISDIR(place.mode) ? cli_format("%s", parent)
						    : cli_format("%s/%s", parent, place.name);
	root = cli_format("%s/%s", mountpoint, tree);
	below = strncmp(whole, root, strlen(root)) == 0 ? whole + strlen(root) : "";
	err = collect(mountpoint, tree, below + strspn(below, "/"), list);
	return err ? cli_errno(err, "list the conflicts of", path) : EXIT_DONE;
}

static void print_conflicts(const json_t *list)
{
	static const struct column columns[] = {{"id", RIGHT}, {"time", LEFT}, {"who", LEFT},
		{"host", LEFT}, {"program", LEFT}, {"size", RIGHT}, {"file", LEFT}, {"why", LEFT}};
	struct table table;
	json_t *conflict;
	size_t i;

	table_init(&table, columns, ARRAY_SIZE(columns));
	json_array_foreach(list, i, conflict)
	{
		table_cell(&table, "%lld", (long long)json_number(conflict, "id"));
		table_cell(&table, "%s", print_time(json_text(conflict, "time")));
		table_cell(&table, "%s", print_user(conflict));
		table_cell(&table, "%s", json_text(conflict, "host"));
		table_cell(&table, "%s", json_text(conflict, "program"));
		table_cell(&table, "%s", print_size(json_number(conflict, "size")));
		table_cell(
			&table, "%s/%s", json_text(conflict, "tree"), json_text(conflict, "path"));
		table_cell(&table, "%s", json_text(conflict, "reason"));
	}
	table_print(&table);
}

static int list(const struct cli_args *args)
{
	const char *path = args->operand_count ? args->operands[0] : ".";
	autofree char *here = args->operand_count ? NULL : cli_xattr(".", "user.intactfs.tree");
	autofree char *mountpoint = NULL;
	autojson json_t *all = json_array();
	int rc, err;

	if (!args->operand_count && !here) {
		rc = collect_all(all);
	} else if (here) {
		rc = cli_mountpoint(path, &mountpoint);
		err = rc ? 0 : collect(mountpoint, here, "", all);
		if (err)
			rc = cli_errno(err, "list the conflicts of", here);
	} else {
		autoplace struct place place = {0};

		/* What is gone is asked for where it was. */
		rc = place_init(&place, path);
		if (!rc)
			rc = cli_mountpoint(place.exists ? place.path : place.parent, &mountpoint);
		if (!rc)
			rc = collect_path(path, mountpoint, all);
	}
	if (rc)
		return rc;
	if (args->json)
		print_json(all);
	else
		print_conflicts(all);
	return EXIT_DONE;
}

/* One of a tree. */
struct chosen {
	struct rules tree;
	const char *id;
	char *file;
};

static void chosen_deinit(struct chosen *chosen)
{
	rules_deinit(&chosen->tree);
	free(chosen->file);
}

#define autochosen __attribute__((cleanup(chosen_deinit)))

static int choose(const struct cli_args *args, struct chosen *chosen)
{
	const char *path = args->operand_count > 2 ? args->operands[2] : ".";
	const char *id = args->operands[1];
	int rc;

	if (strspn(id, "0123456789") != strlen(id) || *id == '0' || !*id)
		return cli_usage(
			args->command, "'%s' is no id: 'intactfs conflicts' shows them", id);
	rc = rules_init(&chosen->tree, path);
	chosen->id = id;
	if (!rc)
		chosen->file = cli_format("%s@@/.conflict-%s", chosen->tree.root, id);
	return rc;
}

/* Why it could not be done, by errno. */
static int fail(const struct chosen *chosen, const char *verb, const char *takes)
{
	int err = errno;
	autofree char *state = cli_xattr(chosen->file, CONFLICT);
	autofree char *thing =
		cli_format("conflict %s of the tree %s", chosen->id, chosen->tree.name);

	if (!state)
		return cli_error(
			"there is no %s, or not for you to see: 'intactfs conflicts' lists them",
			thing);
	if (err == EALREADY && !strcmp(state, "superseded"))
		return cli_error(
			"%s is resolved already: its program saved the file after all", thing);
	if (err == EALREADY)
		return cli_error("%s is resolved already: it was %s", thing, state);
	if (err == ENOENT)
		return cli_error("the directory of the file is gone: make it first (mkdir -p)");
	if (err == EACCES || err == EPERM)
		return cli_error("permission denied: to %s %s takes %s", verb, thing, takes);
	return cli_errno(err, verb, thing);
}

static int show(const struct cli_args *args)
{
	autochosen struct chosen chosen = {0};
	autoclose int fd = -1;
	char buf[65536];
	ssize_t size;
	int rc = choose(args, &chosen);

	if (rc)
		return rc;
	fd = open(chosen.file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(&chosen, "show", "the right to read the file, then and now");
	while ((size = read(fd, buf, sizeof(buf))) > 0)
		if (fwrite(buf, 1, (size_t)size, stdout) != (size_t)size)
			return cli_errno(errno, "write", "the output");
	return size < 0 ? cli_errno(errno, "read", chosen.file) : EXIT_DONE;
}

static int resolve(const struct cli_args *args, const char *takes, const char *done)
{
	const char *verb = args->operands[0];
	autochosen struct chosen chosen = {0};
	int rc = choose(args, &chosen);

	if (rc)
		return rc;
	if (setxattr(chosen.file, CONFLICT, verb, strlen(verb), 0))
		return fail(&chosen, verb, takes);
	printf("conflict %s of the tree %s: %s\n", chosen.id, print_clean(chosen.tree.name), done);
	return EXIT_DONE;
}

static int run_conflicts(const struct cli_args *args)
{
	const char *action = args->operand_count ? args->operands[0] : "";
	bool shows = !strcmp(action, "show"), takes = !strcmp(action, "take");

	if (!shows && !takes && strcmp(action, "drop")) {
		if (args->operand_count > 1)
			return cli_usage(args->command, "'%s' is none of show, take, drop", action);
		return list(args);
	}
	if (args->operand_count < 2)
		return cli_usage(args->command, "%s needs an ID", action);
	if (args->json)
		return cli_usage(args->command, "%s takes no --json", action);
	if (shows)
		return show(args);
	return takes ? resolve(args, "the right to write to the file, and to read it, then and now",
			       "it is the next version of its file")
		     : resolve(args, "to be its user, or the owner of the file or the tree",
			       "dropped");
}

const struct command command_conflicts = {
	.name = "conflicts",
	.synopsis = "[--json] [PATH] | show ID [TREE] | take ID [TREE] | drop ID [TREE]",
	.summary = "List saves that were refused, and say what is to become of them",
	.help = "A save by a program that had not seen what it would have replaced is refused where it cannot\n"
		"be merged: close or rename fails, and what was to be saved is kept. Listed are those of a\n"
		"file (which may be gone), of all that is in a directory, or of the tree that one is in;\n"
		"outside, of all trees. IDs are the tree's: TREE may be any path in it, and is the current\n"
		"directory when it is left out.\n"
		"\n"
		"  show         Print what was to be saved\n"
		"  take         It becomes the next version of the file; what that replaces stays in the\n"
		"               history. Takes the right to write to the file\n"
		"  drop         It is not wanted. For who saved it, and the owners of the file and the tree\n"
		"\n"
		"Both remove what lies beside the file as 'NAME (conflict, ...)', unless somebody changed it.\n"
		"When the same program saves the file after all, its conflict is resolved by that.\n"
		"\n"
		"  --json       An array\n",
	.takes = "j",
	.operands_max = 3,
	.run = run_conflicts,
};
