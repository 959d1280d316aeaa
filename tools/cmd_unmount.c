/*
 * unmount: returns when the daemon is gone, not when the mount is, so that what follows finds the
 * volume free and everything written.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "tools/cli.h"
#include "tools/mounts.h"

#define DAEMON_WAIT_MS (60 * 1000)
#define USERS_MAX      5 /* as many programs are named when the mount is in use */

extern char **environ;

static bool link_leads_into(int dir_fd, const char *name, const char *mountpoint)
{
	char target[PATH_MAX];
	size_t length = strlen(mountpoint);
	ssize_t size = readlinkat(dir_fd, name, target, sizeof(target) - 1);

	if (size < 0)
		return false;
	target[size] = '\0';
	return !strncmp(target, mountpoint, length) && (target[length] == '/' || !target[length]);
}

static bool process_uses(int proc_fd, const char *mountpoint)
{
	int fd = openat(proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	bool uses = link_leads_into(proc_fd, "cwd", mountpoint) ||
		    link_leads_into(proc_fd, "root", mountpoint) ||
		    link_leads_into(proc_fd, "exe", mountpoint);

	while (!uses && dir && (entry = readdir(dir)))
		uses = link_leads_into(fd, entry->d_name, mountpoint);
	if (dir)
		closedir(dir);
	return uses;
}

static void print_program(FILE *out, int proc_fd, const char *pid)
{
	autoclose int fd = openat(proc_fd, "comm", O_RDONLY | O_CLOEXEC);
	char name[32];
	ssize_t size = fd < 0 ? -1 : read(fd, name, sizeof(name));

	if (size > 0)
		fprintf(out, "%.*s %s", (int)size - 1, name, pid);
	else
		fprintf(out, "process %s", pid);
}

/* "bash 4711, vim 4712", as far as this user may look. */
static char *find_users(const char *mountpoint)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	char *text = NULL;
	size_t size;
	int count = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		cli_oom();
	while (proc && (entry = readdir(proc)) && count <= USERS_MAX) {
		autoclose int fd = -1;

		if (strspn(entry->d_name, "0123456789") != strlen(entry->d_name) ||
			atoi(entry->d_name) == getpid())
			continue;
		fd = openat(dirfd(proc), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || !process_uses(fd, mountpoint))
			continue;
		fputs(count ? ", " : "", out);
		if (count++ < USERS_MAX)
			print_program(out, fd, entry->d_name);
		else
			fputs("...", out);
	}
	if (proc)
		closedir(proc);
	if (fclose(out))
		cli_oom();
	return text;
}

static int busy(const char *mountpoint)
{
	autofree char *users = find_users(mountpoint);

	return cli_error("%s is in use: %s", mountpoint,
		*users ? users : "a program has a file open or its working directory there");
}

/* What fusermount3 said goes to *ret_said; the caller frees it. Its exit status, or -1. */
static int run_fusermount(const char *mountpoint, char **ret_said)
{
	const char *argv[] = {"fusermount3", "-u", "--", mountpoint, NULL};
	posix_spawn_file_actions_t actions;
	autofile FILE *said = tmpfile();
	char text[512];
	pid_t pid;
	int status;
	int err;

	if (!said)
		return -1;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fileno(said), STDERR_FILENO);
	err = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err) {
		*ret_said =
			cli_format("fusermount3: %s; it is in the package fuse3", strerror(err));
		return -1;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	rewind(said);
	text[fread(text, 1, sizeof(text) - 1, said)] = '\0';
	text[strcspn(text, "\n")] = '\0';
	*ret_said = cli_format("%s", text);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int detach(const char *mountpoint)
{
	autofree char *said = NULL;

	if (!umount2(mountpoint, UMOUNT_NOFOLLOW))
		return EXIT_DONE;
	if (errno == EBUSY)
		return busy(mountpoint);
	if (errno != EPERM)
		return cli_errno(errno, "unmount", mountpoint);
	if (!run_fusermount(mountpoint, &said))
		return EXIT_DONE;
	if (said && strstr(said, strerror(EBUSY)))
		return busy(mountpoint);
	return cli_error("permission denied: you may not unmount %s: %s", mountpoint,
		said ? said : strerror(EPERM));
}

/* The daemon, to wait for; -1 when it is gone, or cannot be found (another user's mount). */
static int open_daemon(const char *mountpoint)
{
	autofree char *file = cli_format("%s/.intactfs/status", mountpoint);
	autojson json_t *status = NULL;
	pid_t pid;

	if (cli_read_json(file, &status))
		return -1;
	pid = (pid_t)json_integer_value(json_object_get(status, "pid"));
	return pid > 0 ? pidfd_open(pid, 0) : -1;
}

static int await_daemon(int daemon_fd, const char *mountpoint)
{
	struct pollfd pollfd = {.fd = daemon_fd, .events = POLLIN};
	int64_t end_ms = time_mono_ms() + DAEMON_WAIT_MS;
	int64_t left_ms;

	while ((left_ms = end_ms - time_mono_ms()) > 0) {
		int ready = poll(&pollfd, 1, (int)left_ms);

		if (ready > 0)
			return EXIT_DONE;
		if (ready < 0 && errno != EINTR)
			return cli_errno(errno, "wait for the daemon of", mountpoint);
	}
	return cli_error("%s is unmounted, but its daemon is still closing the volume after %d s: "
			 "do not mount it again before that has ended",
		mountpoint, DAEMON_WAIT_MS / 1000);
}

static int check_mounted(const char *argument, const char *mountpoint)
{
	autofree char *outer = cli_xattr(mountpoint, "user.intactfs.mount");
	struct mounts mounts;
	bool mounted;
	int rc = mounts_init(&mounts);

	if (rc)
		return rc;
	mounted = mounts_have(&mounts, mountpoint);
	mounts_deinit(&mounts);
	if (mounted)
		return EXIT_DONE;
	if (outer)
		return cli_error("%s is in the mount %s: unmount that", argument, outer);
	return cli_error("%s is not an intactfs mount point", argument);
}

static int run_unmount(const struct cli_args *args)
{
	const char *argument = args->operands[0];
	autofree char *mountpoint = realpath(argument, NULL);
	autoclose int daemon_fd = -1;
	int rc;

	if (!mountpoint)
		return cli_errno(errno, "unmount", argument);
	rc = check_mounted(argument, mountpoint);
	if (rc)
		return rc;
	daemon_fd = open_daemon(mountpoint);
	rc = detach(mountpoint);
	if (rc || daemon_fd < 0)
		return rc;
	return await_daemon(daemon_fd, mountpoint);
}

const struct command command_unmount = {
	.name = "unmount",
	.synopsis = "MOUNTPOINT",
	.summary = "Unmount a volume, and wait until everything is written and closed",
	.help = "The mounts of other users, and those whose daemon has died, can be unmounted, "
		"too, by\n"
		"root. Nothing is lost when this is refused because the mount is in use.\n",
	.takes = "",
	.operands_min = 1,
	.operands_max = 1,
	.run = run_unmount,
};
