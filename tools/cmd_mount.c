#include <stdlib.h>
#include <string.h>

#include "fs/mount.h"
#include "tools/cli.h"

#define TURN_WAIT_MS	 2000
#define TURN_WAIT_MAX_MS (3600 * 1000)
#define COPY_LIMIT_MIB	 64
#define COPY_LIMIT_MAX	 (1 << 20)

enum option_use {
	USE_FUSE,
	USE_NONE,
	USE_RO,
	USE_RW,
	USE_TURN_WAIT,
	USE_DURABLE,
	USE_COPY_LIMIT,
	USE_MAX_READ
};

/*
 * All options there are. Those for FUSE are the ones that libfuse 3.14 knows: it would stop at
 * others without a helpful word. Those of fstab reach us or not, depending on who reads it.
 */
static const struct {
	const char *name; /* with = or - at its end: what begins so */
	enum option_use use;
} option_table[] = {
	{"turn_wait=", USE_TURN_WAIT},
	{"durable=", USE_DURABLE},
	{"copy_limit=", USE_COPY_LIMIT},
	{"ro", USE_RO},
	{"rw", USE_RW},
	{"allow_other", USE_FUSE},
	{"allow_root", USE_FUSE},
	{"auto_unmount", USE_FUSE},
	{"default_permissions", USE_FUSE},
	{"fsname=", USE_FUSE},
	{"subtype=", USE_FUSE},
	{"max_read=", USE_MAX_READ},
	{"context=", USE_FUSE},
	{"fscontext=", USE_FUSE},
	{"defcontext=", USE_FUSE},
	{"rootcontext=", USE_FUSE},
	{"debug", USE_FUSE},
	{"dev", USE_FUSE},
	{"nodev", USE_FUSE},
	{"suid", USE_FUSE},
	{"nosuid", USE_FUSE},
	{"exec", USE_FUSE},
	{"noexec", USE_FUSE},
	{"sync", USE_FUSE},
	{"async", USE_FUSE},
	{"dirsync", USE_FUSE},
	{"atime", USE_FUSE},
	{"noatime", USE_FUSE},
	{"relatime", USE_NONE},
	{"norelatime", USE_NONE},
	{"strictatime", USE_NONE},
	{"nostrictatime", USE_NONE},
	{"lazytime", USE_NONE},
	{"nolazytime", USE_NONE},
	{"diratime", USE_NONE},
	{"nodiratime", USE_NONE},
	{"defaults", USE_NONE},
	{"auto", USE_NONE},
	{"noauto", USE_NONE},
	{"fail", USE_NONE},
	{"nofail", USE_NONE},
	{"user", USE_NONE},
	{"user=", USE_NONE},
	{"nouser", USE_NONE},
	{"users", USE_NONE},
	{"owner", USE_NONE},
	{"noowner", USE_NONE},
	{"group", USE_NONE},
	{"nogroup", USE_NONE},
	{"_netdev", USE_NONE},
	{"comment=", USE_NONE},
	{"x-", USE_NONE},
	{"X-", USE_NONE},
};

static bool option_matches(const char *name, const char *option)
{
	char last = name[strlen(name) - 1];

	if (last == '=' || last == '-')
		return !strncmp(name, option, strlen(name));
	return !strcmp(name, option);
}

static bool parse_turn_wait(const char *text, unsigned *ret_wait_ms)
{
	char *end;
	double wait_ms = strtod(text, &end) * 1000;

	if (end == text || *end || !(wait_ms >= 0 && wait_ms <= TURN_WAIT_MAX_MS))
		return false;
	*ret_wait_ms = (unsigned)(wait_ms + 0.5);
	return true;
}

static bool parse_durable(const char *text, bool *ret_close)
{
	*ret_close = !strcmp(text, "close");
	return *ret_close || !strcmp(text, "fsync");
}

static bool parse_copy_limit(const char *text, int64_t *ret_limit_bytes)
{
	char *end;
	long mebibytes = strtol(text, &end, 10);

	if (end == text || *end || mebibytes < 0 || mebibytes > COPY_LIMIT_MAX)
		return false;
	*ret_limit_bytes = (int64_t)mebibytes << 20;
	return true;
}

static bool parse_max_read(const char *text, unsigned *ret_bytes)
{
	char *end;
	unsigned long bytes = strtoul(text, &end, 10);

	if (end == text || *end || bytes < 4096 || bytes > 1 << 20)
		return false;
	*ret_bytes = (unsigned)bytes;
	return true;
}

/* Takes one option; *ret_pass is true when it is for FUSE. */
static int apply_option(const struct command *command, const char *option,
	struct mount_options *options, bool *ret_pass)
{
	const char *value = strchr(option, '=');
	enum option_use use;
	size_t i = 0;

	while (i < ARRAY_SIZE(option_table) && !option_matches(option_table[i].name, option))
		i++;
	if (i == ARRAY_SIZE(option_table))
		return cli_usage(command, "there is no option '%s' for -o", option);
	value = value ? value + 1 : "";
	use = option_table[i].use;
	*ret_pass = use == USE_FUSE || use == USE_MAX_READ || use == USE_RO || use == USE_RW;
	if (use == USE_RO || use == USE_RW)
		options->readonly = use == USE_RO;
	if (use == USE_TURN_WAIT && !parse_turn_wait(value, &options->turn_wait_ms))
		return cli_usage(
			command, "turn_wait takes seconds from 0 to 3600, not '%s'", value);
	if (use == USE_DURABLE && !parse_durable(value, &options->durable_close))
		return cli_usage(command, "durable takes close or fsync, not '%s'", value);
	if (use == USE_COPY_LIMIT && !parse_copy_limit(value, &options->copy_limit_bytes))
		return cli_usage(
			command, "copy_limit takes MiB from 0 to 1048576, not '%s'", value);
	if (use == USE_MAX_READ && !parse_max_read(value, &options->max_read_bytes))
		return cli_usage(
			command, "max_read takes bytes from 4096 to 1048576, not '%s'", value);
	return EXIT_DONE;
}

/* The length of the option that text begins with; in its value, \, is no end. */
static size_t option_length(const char *text)
{
	size_t length = 0;

	while (text[length] && text[length] != ',')
		length += text[length] == '\\' && text[length + 1] ? 2 : 1;
	return length;
}

/* Sorts the list into *options, and into what FUSE gets: a buffer as long as the list. */
static int parse_options(const struct command *command, const char *list,
	struct mount_options *options, char *fuse_options)
{
	char *out = fuse_options;

	*out = '\0';
	while (*list) {
		size_t length = option_length(list);
		autofree char *option = cli_format("%.*s", (int)length, list);
		bool pass = false;
		int rc = length ? apply_option(command, option, options, &pass) : EXIT_DONE;

		if (rc)
			return rc;
		if (pass)
			out += sprintf(out, "%s%s", out > fuse_options ? "," : "", option);
		list += length + (list[length] == ',');
	}
	return EXIT_DONE;
}

static int run_mount(const struct cli_args *args)
{
	const char *list = args->options ? args->options : "";
	autofree char *fuse_options = cli_format("%s", list);
	struct mount_options options = {
		.volume = args->operands[0],
		.mountpoint = args->operands[1],
		.foreground = args->foreground,
		.turn_wait_ms = TURN_WAIT_MS,
		.copy_limit_bytes = (int64_t)COPY_LIMIT_MIB << 20,
		.fuse_options = fuse_options,
	};
	int rc = parse_options(args->command, list, &options, fuse_options);

	return rc ? rc : mount_run(&options);
}

const struct command command_mount = {
	.name = "mount",
	.synopsis = "[-f] [-o OPTIONS] VOLUME MOUNTPOINT",
	.summary = "Mount a volume, which is made when it is missing or an empty directory",
	.help = "Returns when the mount answers; a daemon serves it until it is unmounted.\n"
		"\n"
		"  -f, --foreground       Stay in the foreground, with messages on stderr\n"
		"  -o, --options OPTIONS  A comma list of\n"
		"       turn_wait=SECONDS    how long a writer waits for its turn (2)\n"
		"       durable=fsync|close  what survives a loss of power: what was fsync'ed\n"
		"                            (the default), or each save when close returned\n"
		"       copy_limit=MiB       larger files that are not written anew as a whole are\n"
		"                            written in place, not in a copy (64)\n"
		"       ro, rw               read-only or not\n"
		"       allow_other          lets other users in, as the permission bits say;\n"
		"                            only root may, unless /etc/fuse.conf allows it\n"
		"       and FUSE's usual ones: nodev, nosuid, noexec, fsname=NAME, ...\n"
		"\n"
		"In /etc/fstab: VOLUME MOUNTPOINT fuse.intactfs allow_other,nofail 0 0\n",
	.takes = "fo",
	.operands_min = 2,
	.operands_max = 2,
	.run = run_mount,
};
