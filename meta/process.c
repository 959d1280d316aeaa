#include "meta/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "journal/lock.h"

#define ANCESTORS_MAX 64
#define PIDFS_MAGIC   0x50494446 /* PID_FS_MAGIC of linux/magic.h since 6.9 */

static ssize_t read_proc(pid_t pid, const char *name, char *buf, size_t size_bytes)
{
	char path[64];
	autoclose int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, size_bytes - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

/* The start of a process, from /proc/PID/stat. The program's name may hold anything, ") " too: it ends at the last
 * parenthesis. */
static bool read_start(pid_t pid, uint64_t *ret_start)
{
	char buf[1024], *close;
	unsigned long long start;

	if (read_proc(pid, "stat", buf, sizeof(buf)) <= 0)
		return false;
	close = strrchr(buf, ')');
	if (!close || sscanf(close + 1,
			      " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
			      "%*d %*d %*d %llu",
			      &start) != 1)
		return false;
	*ret_start = start;
	return true;
}

/* What tells a process from an earlier one with its number. Since Linux 6.9 a pidfd has an inode number of its own for each.
 * /proc/PID/stat must not be read there: it waits for the end of an exec (signal->exec_update_lock), and an exec closes
 * descriptors, of which the kernel tells us and waits. */
static bool read_identity(pid_t pid, uint64_t *ret_id)
{
	autoclose int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct statfs fs;
	struct stat st;

	if (fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == PIDFS_MAGIC && fstat(fd, &st) == 0) {
		*ret_id = st.st_ino;
		return true;
	}
	return read_start(pid, ret_id);
}

static bool status_number(
	const char *status, const char *key, int base, unsigned long long *ret_value)
{
	const char *line = strstr(status, key);

	if (!line)
		return false;
	*ret_value = strtoull(line + strlen(key), NULL, base);
	return true;
}

static void status_name(const char *status, char *name, size_t size_bytes)
{
	const char *begin = strncmp(status, "Name:\t", 6) == 0 ? status + 6 : "";

	snprintf(name, size_bytes, "%.*s", (int)strcspn(begin, "\n"), begin);
}

void process_get(pid_t tid, struct process *ret_process)
{
	char status[4096];
	unsigned long long group;

	*ret_process = (struct process){.tid = tid};
	if (tid <= 0 || read_proc(tid, "status", status, sizeof(status)) <= 0 ||
		!status_number(status, "\nTgid:", 10, &group) ||
		!read_identity((pid_t)group, &ret_process->identity))
		return;
	/* A thread may have a name of its own. */
	ret_process->exiting = !strstr(status, "\nVmSize:");
	if ((pid_t)group != tid && read_proc((pid_t)group, "status", status, sizeof(status)) <= 0)
		return;
	ret_process->known = true;
	ret_process->pid = (pid_t)group;
	status_name(status, ret_process->program, sizeof(ret_process->program));
}

bool process_same(const struct process *a, const struct process *b)
{
	return a->known && b->known && a->pid == b->pid && a->identity == b->identity;
}

/* Fields 9 and 52: flags (PF_EXITING of linux/sched.h) and exit_code, which is the group's when that exits (do_task_stat). */
bool thread_is_killed(pid_t tid)
{
	const unsigned pf_exiting = 4;
	char buf[1024], *close;
	unsigned flags;
	int code;

	if (read_proc(tid, "stat", buf, sizeof(buf)) <= 0)
		return false;
	close = strrchr(buf, ')');
	if (!close || sscanf(close + 1,
			      " %*c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
			      "%*d %*d %*d %*u %*u %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u "
			      "%*u %*u %*u %*d %*d %*u %*u %*u %*u %*d %*u %*u %*u %*u %*u %*u "
			      "%*u %d",
			      &flags, &code) != 2)
		return false;
	return (flags & pf_exiting) && (code & 0x7f);
}

bool process_descends(pid_t pid, const struct process *ancestor)
{
	unsigned long long parent;
	char status[4096];
	uint64_t identity;

	if (!ancestor->known || pid == ancestor->pid)
		return false;
	for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
		if (pid == ancestor->pid)
			return read_identity(pid, &identity) && identity == ancestor->identity;
		if (read_proc(pid, "status", status, sizeof(status)) <= 0 ||
			!status_number(status, "\nPPid:", 10, &parent))
			return false;
		pid = (pid_t)parent;
	}
	return false;
}

static bool descriptor_is(int dir_fd, const char *name, uint64_t ino, bool writing)
{
	char buf[512];
	unsigned long long found, flags;
	autoclose int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	if (n <= 0)
		return false;
	buf[n] = '\0';
	return status_number(buf, "\nino:", 10, &found) && found == ino &&
	       status_number(buf, "\nflags:", 8, &flags) &&
	       (!writing || (flags & O_ACCMODE) != O_RDONLY);
}

static bool has_open(pid_t pid, uint64_t ino, bool writing)
{
	char path[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			found = descriptor_is(dirfd(dir), entry->d_name, ino, writing);
	closedir(dir);
	return found;
}

bool process_is_writing(pid_t pid, uint64_t ino)
{
	return has_open(pid, ino, true);
}

bool process_is_using(pid_t pid, uint64_t ino)
{
	return has_open(pid, ino, false);
}

bool thread_interrupted(pid_t tid)
{
	const unsigned long long one = 1;
	unsigned long long thread = 0, group = 0, blocked = 0, ignored = 0, pending, quiet = 0;
	static const int quiet_signals[] = {SIGCHLD, SIGWINCH, SIGCONT, SIGURG, SIGIO, SIGPROF,
		SIGVTALRM, SIGPWR, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
	char status[4096];

	if (read_proc(tid, "status", status, sizeof(status)) <= 0)
		return true; /* it is gone */
	status_number(status, "\nSigPnd:", 16, &thread);
	status_number(status, "\nShdPnd:", 16, &group);
	status_number(status, "\nSigBlk:", 16, &blocked);
	status_number(status, "\nSigIgn:", 16, &ignored);
	for (size_t i = 0; i < ARRAY_SIZE(quiet_signals); i++)
		quiet |= one << (quiet_signals[i] - 1);
	pending = (thread | group) & ~blocked & ~ignored & ~quiet;
	return pending != 0;
}

/* The last user asked for: one look into the user database serves a program's many changes. */
static struct {
	struct lock lock;
	bool known;
	uid_t uid;
	char user[64];
} last_user = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF}};

static void user_name(uid_t uid, char *user, size_t size_bytes)
{
	struct passwd entry, *found = NULL;
	char buf[4096];

	lock_take(&last_user.lock);
	if (!last_user.known || last_user.uid != uid) {
		if (getpwuid_r(uid, &entry, buf, sizeof(buf), &found) == 0 && found)
			snprintf(last_user.user, sizeof(last_user.user), "%s", entry.pw_name);
		else
			snprintf(last_user.user, sizeof(last_user.user), "%u", uid);
		last_user.known = true;
		last_user.uid = uid;
	}
	snprintf(user, size_bytes, "%s", last_user.user);
	lock_drop(&last_user.lock);
}

/* Programs name themselves; what is recorded is UTF-8. */
static void clean_text(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			*text = '?';
}

void actor_get(struct actor *actor, const struct process *process, uid_t uid, gid_t gid)
{
	actor->uid = uid;
	actor->gid = gid;
	actor->pid = process->known ? process->pid : process->tid;
	snprintf(actor->program, sizeof(actor->program), "%s", process->program);
	clean_text(actor->program);
	user_name(uid, actor->user, sizeof(actor->user));
}
