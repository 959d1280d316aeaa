#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tools/cli.h"

/* As env(1): what COMMAND itself ends with is told from what keeps it from running. */
enum { EXIT_NOT_HELD = 125, EXIT_NOT_RUN = 126, EXIT_NOT_FOUND = 127, EXIT_SIGNAL = 128 };

#define ATTRIBUTE "user.intactfs.hold"

static pid_t child;

static void pass_on(int signum)
{
	kill(child, signum);
}

static int take(const char *path)
{
	autofree char *mountpoint = NULL;
	char answer[16];

	if (cli_mountpoint(path, &mountpoint) != EXIT_DONE)
		return EXIT_NOT_HELD;
	/* Waits. */
	if (getxattr(path, ATTRIBUTE, answer, sizeof(answer)) >= 0)
		return EXIT_DONE;
	if (errno == EDEADLK)
		cli_error("cannot hold %s: who has it waits for what this program holds", path);
	else if (errno == EINVAL)
		cli_error("cannot hold %s: it is neither a file nor a directory", path);
	else
		cli_errno(errno, "hold", path);
	return EXIT_NOT_HELD;
}

static void run_child(char **command, const sigset_t *signals)
{
	int err;

	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	sigprocmask(SIG_SETMASK, signals, NULL);
	execvp(command[0], command);
	err = errno;
	cli_error("cannot run %s: %s", command[0], strerror(err));
	_exit(err == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUN);
}

/* What the terminal sends goes to COMMAND as well; what is sent to this process alone is passed on. */
static int run_and_wait(char **command)
{
	const struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
	sigset_t passed, before;
	int status;

	sigemptyset(&passed);
	sigaddset(&passed, SIGTERM);
	sigaddset(&passed, SIGHUP);
	sigprocmask(SIG_BLOCK, &passed, &before);
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	child = fork();
	if (child < 0) {
		cli_error("cannot run %s: %s", command[0], strerror(errno));
		return EXIT_NOT_HELD;
	}
	if (child == 0)
		run_child(command, &before);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_NOT_HELD;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNAL + WTERMSIG(status);
}

static int run_hold(const struct cli_args *args)
{
	const char *path = args->operands[0];
	int rc = take(path);

	if (rc)
		return rc;
	rc = run_and_wait(args->operands + 1);
	/* Where it is not there any more, the end of this process serves. */
	setxattr(path, ATTRIBUTE, "release", strlen("release"), 0);
	return rc;
}

const struct command command_hold = {
	.name = "hold",
	.synopsis = "PATH -- COMMAND [ARGUMENTS]",
	.summary = "Run a command that has a file, or a whole tree, to itself",
	.help = "Waits until no other program holds PATH, and runs COMMAND, for scripts that read and\n"
		"save in several steps. Meanwhile others who open the file to save it (under the\n"
		"policies turn and turn-thread, to read it) wait, for turn_wait at most; then they go\n"
		"ahead, and what they save is merged or refused as ever. COMMAND and what it starts\n"
		"do not wait. A directory stands for its whole tree, and you must have the right to\n"
		"write to the tree's root. Saves by rename, and new files, do not wait.\n"
		"\n"
		"Ends as COMMAND does: with its exit code, or 128 and the number of the signal; 125 when\n"
		"PATH could not be held, 126 when COMMAND cannot be run, 127 when there is none.\n",
	.takes = "",
	.operands_min = 2,
	.operands_max = 1 << 20,
	.run = run_hold,
};
