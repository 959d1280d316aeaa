/*
 * cli: what the commands share: how they are described and called, how they
 * fail, and how they read what the mount says about itself.
 *
 * Calling:   main() finds the command, cli_parse() its arguments; command->run() does the rest.
 * Errors:    functions return exit codes. Whoever returns another one than EXIT_DONE has said why
 *            on stderr: what could not be done, to which thing, and what helps.
 */
#ifndef INTACTFS_TOOLS_CLI_H
#define INTACTFS_TOOLS_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "journal/base.h"

enum cli_exit { EXIT_DONE = 0, EXIT_COULD_NOT = 1, EXIT_USAGE = 2 };

#define CLI_VERSIONS_MAX 2

struct cli_args {
	const struct command *command;
	char **operands; /* what is no option; NULL at the end */
	int operand_count;
	bool json;
	bool foreground;
	char *options; /* all -o, joined by commas; NULL when there was none */
	int64_t versions[CLI_VERSIONS_MAX];
	int version_count;
};

struct command {
	const char *name;
	const char *synopsis; /* what follows the name in a usage line */
	const char *summary;  /* one line, for the list of commands */
	const char *help;     /* the rest of what --help says */
	const char *takes;    /* its options, by the letters of cli.c */
	int operands_min;
	int operands_max;
	int versions_min; /* how many --version it needs, and takes */
	int versions_max;
	int (*run)(const struct cli_args *args);
};

extern const struct command command_mount;
extern const struct command command_unmount;
extern const struct command command_status;
extern const struct command command_trees;
extern const struct command command_log;
extern const struct command command_show;
extern const struct command command_diff;
extern const struct command command_restore;

#define autojson __attribute__((cleanup(cli_cleanup_json)))
#define autoargs __attribute__((cleanup(cli_args_deinit)))

void cli_cleanup_json(json_t **json);

/* argv[0] is the command's name. *ret_run is false when there is nothing left to do (--help). */
int cli_parse(const struct command *command, int argc, char **argv, struct cli_args *ret_args,
	bool *ret_run);
void cli_args_deinit(struct cli_args *args);

void cli_help(const struct command *command);

/* "intactfs: ..." on stderr; returns EXIT_COULD_NOT. Names in it are made harmless. */
int cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with the command's usage line; returns EXIT_USAGE. */
int cli_usage(const struct command *command, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The errno err (positive) as a sentence: could not `verb` `thing`. */
int cli_errno(int err, const char *verb, const char *thing);
/* To a process that can be told nothing else: memory is out. */
void cli_oom(void) __attribute__((noreturn));

/* asprintf that does not fail. */
char *cli_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The extended attribute as a string, or NULL and errno. */
char *cli_xattr(const char *path, const char *name);

/* All of the file's JSON. 0, or an errno (positive), EBADMSG when it is no JSON. Says nothing. */
int cli_read_json(const char *path, json_t **ret_json);
/* The same, of .intactfs/NAME of the mount that path is in; and says what is wrong. */
int cli_read_mount(const char *path, const char *name, json_t **ret_json);

#endif
