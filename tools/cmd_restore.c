#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "tools/cli.h"
#include "tools/place.h"
#include "tools/print.h"

#define RESTORE "user.intactfs.restore"

static int restore(const struct place *place, int64_t version)
{
	autofree char *of_file = cli_format("%lld", (long long)version);
	autofree char *of_name = cli_format("%s/%s", of_file, place->name);
	const char *value = place->exists ? of_file : of_name;
	const char *target = place->exists ? place->path : place->parent;
	autofree int64_t *versions = NULL;
	size_t count;

	if (!setxattr(target, RESTORE, value, strlen(value), 0))
		return EXIT_DONE;
	if (errno == ENOENT && !place_versions(place, &versions, &count) && count > 0)
		return cli_error(
			"the directory %s is gone: make it first (mkdir -p)", place->parent);
	if (errno == ENODATA || errno == ENOENT)
		return place_no_version(place, version);
	if (errno == EACCES || errno == EPERM)
		return cli_error(
			"permission denied: to restore version %lld of %s takes the right to "
			"write to %s and to read that version",
			(long long)version, place->path, target);
	return cli_errno(errno, "restore", place->path);
}

static int run_restore(const struct cli_args *args)
{
	autoplace struct place place = {0};
	autofree char *now = NULL;
	int rc = place_init(&place, args->operands[0]);

	if (rc)
		return rc;
	if (place.exists && !S_ISREG(place.mode))
		return cli_error("%s is no regular file now: move it away first", place.path);
	rc = restore(&place, args->versions[0]);
	if (rc)
		return rc;
	now = cli_xattr(place.path, "user.intactfs.version");
	printf("%s: version %lld restored", print_clean(place.path), (long long)args->versions[0]);
	if (now)
		printf(", as version %s", now);
	putchar('\n');
	return EXIT_DONE;
}

const struct command command_restore = {
	.name = "restore",
	.synopsis = "PATH --version N",
	.summary = "Make an old version of a file the next one; also of a deleted file",
	.help = "A restore is a save like any other: what it replaces stays in the history.\n",
	.takes = "v",
	.operands_min = 1,
	.operands_max = 1,
	.versions_min = 1,
	.versions_max = 1,
	.run = run_restore,
};
