#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "tools/print.h"

enum { OPTION_JSON = 'j', OPTION_VERSION = 'v' };

static const struct option long_options[] = {
	{"help", no_argument, NULL, 'h'},
	{"foreground", no_argument, NULL, 'f'},
	{"options", required_argument, NULL, 'o'},
	{"json", no_argument, NULL, OPTION_JSON},
	{"version", required_argument, NULL, OPTION_VERSION},
	{NULL, 0, NULL, 0},
};

void cli_cleanup_json(json_t **json)
{
	json_decref(*json);
}

void cli_oom(void)
{
	fputs("intactfs: out of memory\n", stderr);
	exit(EXIT_COULD_NOT);
}

__attribute__((format(printf, 1, 0))) static char *cli_vformat(const char *fmt, va_list ap)
{
	char *text;

	if (vasprintf(&text, fmt, ap) < 0)
		cli_oom();
	return text;
}

char *cli_format(const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = cli_vformat(fmt, ap);
	va_end(ap);
	return text;
}

int cli_error(const char *fmt, ...)
{
	autofree char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = cli_vformat(fmt, ap);
	va_end(ap);
	fprintf(stderr, "intactfs: %s\n", print_clean(text));
	return EXIT_COULD_NOT;
}

int cli_usage(const struct command *command, const char *fmt, ...)
{
	autofree char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = cli_vformat(fmt, ap);
	va_end(ap);
	fprintf(stderr, "intactfs %s: %s\n", command->name, print_clean(text));
	fprintf(stderr, "usage: intactfs %s %s\n", command->name, command->synopsis);
	return EXIT_USAGE;
}

int cli_errno(int err, const char *verb, const char *thing)
{
	switch (err) {
	case EACCES:
	case EPERM:
		return cli_error("permission denied: you have no right to %s %s", verb, thing);
	case ENOTCONN:
		return cli_error("cannot %s %s: the daemon of this mount has died; "
				 "'intactfs unmount' its mount point, then mount it again",
			verb, thing);
	case EROFS:
		return cli_error("cannot %s %s: it is mounted read-only", verb, thing);
	default:
		return cli_error("cannot %s %s: %s", verb, thing, strerror(err));
	}
}

void cli_help(const struct command *command)
{
	printf("usage: intactfs %s %s\n\n%s.\n", command->name, command->synopsis,
		command->summary);
	if (*command->help)
		printf("\n%s", command->help);
}

static bool parse_version(const char *text, int64_t *ret_version)
{
	char *end;
	long long version;

	errno = 0;
	version = strtoll(text, &end, 10);
	if (errno || end == text || *end || version < 1)
		return false;
	*ret_version = version;
	return true;
}

static void join_options(char **options, const char *more)
{
	char *joined = *options ? cli_format("%s,%s", *options, more) : cli_format("%s", more);

	free(*options);
	*options = joined;
}

static int parse_option(int option, struct cli_args *args)
{
	const struct command *command = args->command;

	if (!strchr(command->takes, option)) {
		for (const struct option *o = long_options; o->name; o++)
			if (o->val == option)
				return cli_usage(command, "takes no --%s", o->name);
	}
	switch (option) {
	case 'f':
		args->foreground = true;
		break;
	case 'o':
		join_options(&args->options, optarg);
		break;
	case OPTION_JSON:
		args->json = true;
		break;
	case OPTION_VERSION:
		if (args->version_count == command->versions_max)
			return cli_usage(command, "too many --version");
		if (!parse_version(optarg, &args->versions[args->version_count]))
			return cli_usage(command,
				"'%s' is no version: they are numbered 1, 2, 3, ...", optarg);
		args->version_count++;
		break;
	}
	return EXIT_DONE;
}

int cli_parse(const struct command *command, int argc, char **argv, struct cli_args *ret_args,
	bool *ret_run)
{
	int option;
	int rc;

	*ret_args = (struct cli_args){.command = command};
	*ret_run = false;
	while ((option = getopt_long(argc, argv, ":hfo:", long_options, NULL)) != -1) {
		const char *given = argv[optind - 1];

		if (option == 'h') {
			cli_help(command);
			return EXIT_DONE;
		}
		if (option == ':')
			return cli_usage(command, "%s needs a value", given);
		if (option == '?' && !strncmp(given, "--", 2))
			return cli_usage(command, "takes no %s", given);
		if (option == '?')
			return cli_usage(command, "takes no -%c", optopt);
		rc = parse_option(option, ret_args);
		if (rc)
			return rc;
	}
	ret_args->operands = argv + optind;
	ret_args->operand_count = argc - optind;
	if (ret_args->operand_count < command->operands_min)
		return cli_usage(command, "too few arguments");
	if (ret_args->operand_count > command->operands_max)
		return cli_usage(command, "too many arguments");
	if (ret_args->version_count < command->versions_min)
		return cli_usage(command, "needs --version N");
	*ret_run = true;
	return EXIT_DONE;
}

void cli_args_deinit(struct cli_args *args)
{
	free(args->options);
}

char *cli_xattr(const char *path, const char *name)
{
	char value[4096]; /* the longest is a path */
	ssize_t size = getxattr(path, name, value, sizeof(value));

	return size < 0 ? NULL : cli_format("%.*s", (int)size, value);
}

int cli_read_json(const char *path, json_t **ret_json)
{
	autofile FILE *file = fopen(path, "re");
	json_error_t error;
	json_t *json;

	if (!file)
		return errno;
	errno = 0;
	json = json_loadf(file, 0, &error);
	if (!json)
		return ferror(file) && errno ? errno : EBADMSG;
	*ret_json = json;
	return 0;
}

int cli_read_mount(const char *path, const char *name, json_t **ret_json)
{
	autofree char *mountpoint = cli_xattr(path, "user.intactfs.mount");
	autofree char *file = NULL;
	int err;

	if (!mountpoint && (errno == ENODATA || errno == ENOTSUP))
		return cli_error("%s is not on an intactfs mount", path);
	if (!mountpoint && errno == EACCES)
		return cli_error("permission denied: %s is not yours, "
				 "or was mounted by another user without allow_other",
			path);
	if (!mountpoint)
		return cli_errno(errno, "read", path);
	file = cli_format("%s/.intactfs/%s", mountpoint, name);
	err = cli_read_json(file, ret_json);
	return err ? cli_errno(err, "read", file) : EXIT_DONE;
}
