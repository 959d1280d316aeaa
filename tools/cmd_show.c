#include <errno.h>

#include "tools/cli.h"
#include "tools/place.h"

static int run_show(const struct cli_args *args)
{
	autoplace struct place place = {0};
	autoclose int fd = -1;
	char buf[65536];
	ssize_t size;
	int rc = place_init(&place, args->operands[0]);

	if (!rc)
		rc = place_open_version(&place, args->versions[0], &fd);
	if (rc)
		return rc;
	while ((size = read(fd, buf, sizeof(buf))) > 0)
		if (fwrite(buf, 1, (size_t)size, stdout) != (size_t)size)
			return cli_errno(errno, "write", "the output");
	return size < 0 ? cli_errno(errno, "read", place.path) : EXIT_DONE;
}

const struct command command_show = {
	.name = "show",
	.synopsis = "PATH --version N",
	.summary = "Print what a version of a file holds",
	.help = "The same as `cat PATH@@/N`. A deleted file still has its versions.\n",
	.takes = "v",
	.operands_min = 1,
	.operands_max = 1,
	.versions_min = 1,
	.versions_max = 1,
	.run = run_show,
};
