#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/cli.h"
#include "tools/place.h"
#include "tools/print.h"

static bool is_version(const json_t *entry)
{
	return json_is_integer(json_object_get(entry, "version"));
}

/* `next` is how it should be, and goes without saying. */
static const char *describe_verdict(const json_t *entry)
{
	const char *verdict = json_text(entry, "verdict");

	return strcmp(verdict, "next") ? verdict : "";
}

/* A path is shown where it is not the one that was asked for. */
static char *describe_path(const json_t *entry, const char *obvious_path)
{
	const json_t *origin = json_object_get(entry, "origin");
	const char *path = json_text(entry, "path");

	if (!strcmp(path, obvious_path))
		path = "";
	if (!json_is_object(origin))
		return cli_format("%s", path);
	return cli_format("%s%sfrom %s", path, *path ? " " : "", json_text(origin, "path"));
}

static void print_log(const json_t *log, bool of_directory)
{
	static const struct column columns[] = {
		{"seq", RIGHT},
		{"version", RIGHT},
		{"time", LEFT},
		{"size", RIGHT},
		{"who", LEFT},
		{"program", LEFT},
		{"kind", LEFT},
		{"mark", LEFT},
		{"path", LEFT},
	};
	const char *obvious_path = of_directory ? "" : json_text(json_array_get(log, 0), "path");
	struct table table;
	json_t *entry;
	size_t i;

	table_init(&table, columns, ARRAY_SIZE(columns));
	json_array_foreach(log, i, entry)
	{
		autofree char *path = describe_path(entry, obvious_path);

		if (of_directory)
			table_cell(&table, "%lld", (long long)json_number(entry, "seq"));
		else
			table_cell(&table, "%s", "");
		if (is_version(entry))
			table_cell(&table, "%lld", (long long)json_number(entry, "version"));
		else
			table_cell(&table, "%s", "");
		table_cell(&table, "%s", print_time(json_text(entry, "time")));
		table_cell(&table, "%s",
			json_is_integer(json_object_get(entry, "size"))
				? print_size(json_number(entry, "size"))
				: "");
		table_cell(&table, "%s", print_user(entry));
		table_cell(&table, "%s", json_text(entry, "program"));
		table_cell(&table, "%s", json_text(entry, "kind"));
		table_cell(&table, "%s", describe_verdict(entry));
		table_cell(&table, "%s", path);
	}
	table_print(&table);
}

static int log_missing(const struct place *place)
{
	autofree char *tree = NULL;

	if (!place->exists)
		return place_never(place);
	if (S_ISDIR(place->mode))
		tree = cli_xattr(place->path, "user.intactfs.tree");
	if (S_ISDIR(place->mode) && !tree)
		return cli_error(
			"%s is the mount point: ask for the log of a tree or of a file in it",
			place->path);
	return cli_error("%s has no history", place->path);
}

static int run_log(const struct cli_args *args)
{
	autoplace struct place place = {0};
	autofree char *file = NULL;
	autojson json_t *log = NULL;
	int rc = place_init(&place, args->operands[0]);
	int err;

	if (rc)
		return rc;
	file = cli_format("%s/.log", place.history);
	err = cli_read_json(file, &log);
	if (err == ENOENT)
		return log_missing(&place);
	if (err)
		return cli_errno(err, "read the history of", place.path);
	if (args->json)
		print_json(log);
	else if (!json_array_size(log))
		puts("nothing is recorded");
	else
		print_log(log, place.exists && S_ISDIR(place.mode));
	return EXIT_DONE;
}

const struct command command_log = {
	.name = "log",
	.synopsis = "[--json] PATH",
	.summary = "Show the versions of a file, or the operations in a directory or tree",
	.help = "Newest first. A deleted file still has its history.\n"
		"\n"
		"  mark    blind: it replaced a version without having started from any\n"
		"          over: it started from an older version than the one that it replaced\n"
		"          aside: it never was what readers saw: the saver was killed in the middle\n"
		"          (kind interrupted), or others had removed the file\n"
		"  path    where it was, when that was another name; what it came from\n"
		"\n"
		"  --json  An array of objects with everything that is recorded\n",
	.takes = "j",
	.operands_min = 1,
	.operands_max = 1,
	.run = run_log,
};
