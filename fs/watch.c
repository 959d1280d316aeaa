#include "fs/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "journal/base.h"

/* In mountinfo, blanks and the like are written as a backslash and three octal digits (proc(5)). */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (text[0] == '\\' && text[1] && text[2] && text[3]) {
			*to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 |
				       (text[3] - '0'));
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

/* The connection's number is the minor number of the mount's device. Asking the mount itself would wait for the daemon.
 * The last mount of several on one point counts; 0: not found. */
static unsigned connection_number(const char *mountpoint)
{
	autofile FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char point[4 * PATH_MAX];
	unsigned minor, found = 0;
	char *line = NULL;
	size_t size = 0;

	while (mounts && getline(&line, &size, mounts) > 0) {
		if (sscanf(line, "%*s %*s %*u:%u %*s %16383s", &minor, point) != 2)
			continue;
		unescape(point);
		if (strcmp(point, mountpoint) == 0)
			found = minor;
	}
	free(line);
	return found;
}

/* Where fusectl is not mounted, root mounts it in a namespace that lasts as long as this call: one that lasted would keep
 * all other mounts busy. */
static int open_unmounted(const char *path)
{
	autoclose int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int fd = -1;

	if (home < 0 || unshare(CLONE_NEWNS) != 0)
		return -1;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		mount("fusectl", "/sys/fs/fuse/connections", "fusectl", 0, NULL) == 0)
		fd = open(path, O_WRONLY | O_CLOEXEC);
	if (setns(home, CLONE_NEWNS) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* What is written here aborts the connection, and no other: numbers are used again, but an open file stays with the connection
 * that it was opened for (fuse_ctl_file_conn_get in fs/fuse/control.c). */
static int open_abort(unsigned connection)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", connection);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 ? fd : open_unmounted(path);
}

static void watch(unsigned connection, pid_t daemon, const sigset_t *death)
{
	int fd, signal;

	prctl(PR_SET_NAME, "intactfs-watch");
	prctl(PR_SET_PDEATHSIG, SIGUSR2);
	setsid();
	close_range(0, ~0U, 0);
	fd = chdir("/") == 0 ? open_abort(connection) : -1;
	/* If the daemon is gone already, it may be another's connection. */
	if (fd < 0 || getppid() != daemon)
		return;
	while (getppid() == daemon && sigwait(death, &signal) != 0)
		;
	if (write(fd, "1", 1) != 1)
		return;
}

pid_t watch_start(const char *mountpoint)
{
	unsigned connection = connection_number(mountpoint);
	pid_t daemon = getpid(), watcher;
	sigset_t all, death, before;

	/* Nothing but the daemon's end ends the watcher, whatever is typed at a terminal. */
	sigfillset(&all);
	sigemptyset(&death);
	sigaddset(&death, SIGUSR2);
	sigprocmask(SIG_SETMASK, &all, &before);
	watcher = fork();
	if (watcher == 0) {
		watch(connection, daemon, &death);
		_exit(0);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return watcher < 0 ? -errno : watcher;
}

void watch_stop(pid_t watcher)
{
	if (watcher <= 0)
		return;
	kill(watcher, SIGKILL);
	waitpid(watcher, NULL, 0);
}
