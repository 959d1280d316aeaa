#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tools/cli.h"
#include "tools/place.h"
#include "tools/print.h"

extern char **environ;

/* A path that diff(1) takes for one, whatever it begins with: "-" would be its standard input. */
static char *operand(const char *path)
{
	return cli_format("%s%s", *path == '-' ? "./" : "", path);
}

static int run_diff_program(const char *old_path, const char *new_path)
{
	autofree char *old_operand = operand(old_path);
	autofree char *new_operand = operand(new_path);
	autofree char *old_label = cli_format("%s", print_clean(old_path));
	autofree char *new_label = cli_format("%s", print_clean(new_path));
	const char *argv[] = {"diff", "-u", "--label", old_label, "--label", new_label, "--",
		old_operand, new_operand, NULL};
	pid_t pid;
	int status;
	int err = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);

	if (err)
		return cli_error("cannot run diff(1), of the package diffutils: %s", strerror(err));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return cli_errno(errno, "wait for", "diff(1)");
	/* 1 says that they differ, which is no failure; of any other, diff has said why. */
	return WIFEXITED(status) && WEXITSTATUS(status) <= 1 ? EXIT_DONE : EXIT_COULD_NOT;
}

/* The version before the one that the file is now. */
static int previous_version(const struct place *place, int64_t *ret_version)
{
	autofree char *current_text = cli_xattr(place->path, "user.intactfs.version");
	int64_t current = current_text ? strtoll(current_text, NULL, 10) : 0;
	autofree int64_t *versions = NULL;
	size_t count;
	int rc = place_versions(place, &versions, &count);

	if (rc)
		return rc;
	while (count && versions[count - 1] >= current)
		count--;
	if (!count)
		return cli_error("%s has no version before the current one: nothing to compare",
			place->path);
	*ret_version = versions[count - 1];
	return EXIT_DONE;
}

static int check_version(const struct place *place, int64_t version)
{
	autoclose int fd = -1;

	return place_open_version(place, version, &fd);
}

static int require_current(const struct place *place)
{
	autofree int64_t *versions = NULL;
	autofree char *text = NULL;
	size_t count;
	int rc;

	if (place->exists && S_ISREG(place->mode))
		return EXIT_DONE;
	rc = place_versions(place, &versions, &count);
	if (rc)
		return rc;
	if (!count && place->exists)
		return cli_error("%s is no regular file, and has no versions", place->path);
	if (!count)
		return place_no_version(place, 1);
	text = place_describe_versions(versions, count);
	return cli_error("%s is not there any more: name two versions with --version (it has %s)",
		place->path, text);
}

static int run_diff(const struct cli_args *args)
{
	autoplace struct place place = {0};
	autofree char *old_path = NULL;
	autofree char *new_path = NULL;
	int64_t old_version = args->versions[0];
	int rc = place_init(&place, args->operands[0]);

	if (!rc && args->version_count < 2)
		rc = require_current(&place);
	if (!rc && args->version_count < 1)
		rc = previous_version(&place, &old_version);
	if (!rc)
		rc = check_version(&place, old_version);
	if (!rc && args->version_count == 2)
		rc = check_version(&place, args->versions[1]);
	if (rc)
		return rc;
	old_path = place_version_path(&place, old_version);
	new_path = args->version_count == 2 ? place_version_path(&place, args->versions[1])
					    : cli_format("%s", place.path);
	return run_diff_program(old_path, new_path);
}

const struct command command_diff = {
	.name = "diff",
	.synopsis = "PATH [--version A [--version B]]",
	.summary = "Compare versions of a file",
	.help = "Without --version, the previous version with the current one; with one, that\n"
		"version with the current one; with two, these: also of a deleted file.\n"
		"The exit code is 0 whether they differ or not.\n",
	.takes = "v",
	.operands_min = 1,
	.operands_max = 1,
	.versions_max = 2,
	.run = run_diff,
};
