/*
 * intactfs: the command. All but `mount` work through the mount, with the caller's own rights.
 */
#include <string.h>

#include "journal/base.h"
#include "tools/cli.h"

static const struct command *const commands[] = {
	&command_mount,
	&command_unmount,
	&command_status,
	&command_trees,
	&command_log,
	&command_show,
	&command_diff,
	&command_restore,
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static void print_help(FILE *out)
{
	fputs("usage: intactfs COMMAND [ARGUMENTS]\n\n"
	      "A filesystem that keeps shared files intact.\n\n",
		out);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-8s  %s\n", commands[i]->name, commands[i]->summary);
	fputs("  help      Explain a command, as COMMAND --help does\n\n"
	      "  --version  Print the version of intactfs\n\n"
	      "Exit codes: 0 done, 1 could not, 2 wrong usage.\n",
		out);
}

static int run_command(const struct command *command, int argc, char **argv)
{
	autoargs struct cli_args args = {0};
	bool run;
	int rc = cli_parse(command, argc, argv, &args, &run);

	return run ? command->run(&args) : rc;
}

static int unknown_command(const char *name)
{
	cli_error("there is no command '%s': 'intactfs --help' lists them", name);
	return EXIT_USAGE;
}

static int run_help(const char *name)
{
	const struct command *command = name ? find_command(name) : NULL;

	if (command)
		cli_help(command);
	else if (name && strcmp(name, "help"))
		return unknown_command(name);
	else
		print_help(stdout);
	return EXIT_DONE;
}

static bool is_help(const char *word)
{
	return !strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help");
}

static bool is_version(const char *word)
{
	return !strcmp(word, "--version") || !strcmp(word, "-V");
}

static int dispatch(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (is_help(argv[1]))
		return run_help(argc > 2 && !is_help(argv[2]) ? argv[2] : NULL);
	/* `intactfs show --version` asks for ours: the option of that name has a value. */
	if (is_version(argv[1]) || (argc == 3 && is_version(argv[2]) && find_command(argv[1]))) {
		puts("intactfs " INTACTFS_VERSION);
		return EXIT_DONE;
	}
	command = find_command(argv[1]);
	if (command)
		return run_command(command, argc - 1, argv + 1);
	/* mount(8), by mount.fuse3, calls `intactfs VOLUME MOUNTPOINT -o OPTIONS`. */
	if (strchr(argv[1], '/'))
		return run_command(&command_mount, argc, argv);
	return unknown_command(argv[1]);
}

int main(int argc, char **argv)
{
	int rc = dispatch(argc, argv);

	if ((fflush(stdout) || ferror(stdout)) && !rc)
		return cli_error("cannot write the output");
	return rc;
}
