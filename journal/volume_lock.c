#include "journal/volume_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>

#include "journal/log.h"

#define CLOSING_WAIT_MS 30000
/* Who has the lock, but no mount, has just been unmounted, or is about to mount. */
#define UNMOUNTED_WAIT_MS 2000
#define CLOSING_LOOK_MS	  100

/* Makes one word of a name, as in /proc/mounts. */
static char *escape(const char *name)
{
	char *word = NULL;
	size_t size;
	FILE *out = open_memstream(&word, &size);

	if (!out)
		return NULL;
	for (const unsigned char *c = (const unsigned char *)name; *c; c++)
		fprintf(out, *c <= ' ' || *c == 0x7f || *c == '\\' ? "\\%03o" : "%c", *c);
	if (fclose(out)) {
		free(word);
		return NULL;
	}
	return word;
}

static char *holder_line(const char *mountpoint)
{
	char host[HOST_NAME_MAX + 1] = "";
	autofree char *host_word = NULL;
	autofree char *mountpoint_word = escape(mountpoint && *mountpoint ? mountpoint : "-");
	char *line;

	gethostname(host, sizeof(host) - 1);
	host_word = escape(*host ? host : "-");
	if (!host_word || !mountpoint_word ||
		asprintf(&line, "%d %s %s", (int)getpid(), host_word, mountpoint_word) < 0)
		return NULL;
	return line;
}

/* The line only helps others: a volume can be opened without, on a full disk, say. */
static void write_holder(struct volume_lock *lock, const char *end)
{
	autofree char *line = NULL;
	int size = asprintf(&line, "%s%s\n", lock->holder, end);

	if (size < 0)
		line = NULL;
	else if (pwrite(lock->fd, line, (size_t)size, 0) != size || ftruncate(lock->fd, size))
		log_warning("%s/lock cannot be written to", lock->path);
}

struct holder {
	int pid;
	bool closing;
	char *host, *mountpoint;
};

static void holder_cleanup(struct holder *holder)
{
	free(holder->host);
	free(holder->mountpoint);
}

static struct holder read_holder(struct volume_lock *lock)
{
	struct holder holder = {0};
	char line[5 * PATH_MAX], end[16] = "";
	ssize_t size = pread(lock->fd, line, sizeof(line) - 1, 0);

	line[size > 0 ? size : 0] = '\0';
	sscanf(line, "%d %ms %ms %15s", &holder.pid, &holder.host, &holder.mountpoint, end);
	holder.closing = !strcmp(end, "closing");
	return holder;
}

/* The kernel lets go of a mount before its daemon has got the word, and says so in the lock file. The
 * mount point is written there as mountinfo writes it. */
static bool is_unmounted(const struct holder *holder)
{
	autofile FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char point[4 * PATH_MAX], type[64];
	char *line = NULL;
	size_t size = 0;
	bool mounted = !mounts || !holder->mountpoint;

	while (!mounted && getline(&line, &size, mounts) > 0) {
		const char *rest = strstr(line, " - ");

		mounted = rest && sscanf(line, "%*s %*s %*s %*s %16383s", point) == 1 &&
			  sscanf(rest, " - %63s", type) == 1 && !strcmp(type, "fuse.intactfs") &&
			  !strcmp(point, holder->mountpoint);
	}
	free(line);
	return !mounted;
}

static int refuse_busy(struct volume_lock *lock, const struct holder *holder, struct diag *diag)
{
	if (!holder)
		return diag_set(diag, -EBUSY,
			"%s is mounted read-only by another daemon: unmount it there first "
			"(findmnt -t fuse.intactfs shows where)",
			lock->path);
	if (!holder->mountpoint)
		return diag_set(diag, -EBUSY,
			"%s is just being mounted by another daemon: try again", lock->path);
	return diag_set(diag, -EBUSY,
		"%s is in use by process %d on host %s, mounted at %s%s: unmount it there first",
		lock->path, holder->pid, holder->host, holder->mountpoint,
		holder->closing ? ", which has not ended yet" : "");
}

/* Until the process is gone, but not longer than a moment: it may be on another host, or give up
 * the lock before it ends. */
static void await_end(int pid)
{
	autoclose int fd = pidfd_open(pid, 0);
	struct pollfd end = {.fd = fd, .events = POLLIN};

	poll(&end, 1, CLOSING_LOOK_MS); /* a negative descriptor is passed over */
}

/* Whether the lock is held by readers, who leave no name: then it can be shared. */
static bool held_by_readers(struct volume_lock *lock)
{
	if (lock->readonly || flock(lock->fd, LOCK_SH | LOCK_NB))
		return false;
	flock(lock->fd, LOCK_UN);
	return true;
}

void volume_lock_init(struct volume_lock *lock)
{
	*lock = (struct volume_lock){.fd = -1};
}

int volume_lock_take(struct volume_lock *lock, int dir_fd, const char *path, bool readonly,
	const char *mountpoint, struct diag *diag)
{
	int64_t deadline_ms = time_mono_ms() + CLOSING_WAIT_MS;
	int64_t unmounted_ms = time_mono_ms() + UNMOUNTED_WAIT_MS;
	bool readers = false;
	int err;

	lock->path = path;
	lock->readonly = readonly;
	lock->fd = openat(dir_fd, "lock",
		(lock->readonly ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock->fd < 0 && lock->readonly && errno == ENOENT)
		return 0; /* a copy without its lock */
	if (lock->fd < 0) {
		err = -errno;
		return diag_set(diag, err,
			"%s cannot be written to (%s): mount it with -o ro, or as its owner",
			lock->path, strerror(-err));
	}

	while (flock(lock->fd, (lock->readonly ? LOCK_SH : LOCK_EX) | LOCK_NB)) {
		__attribute__((cleanup(holder_cleanup))) struct holder holder = {0};

		if (errno != EWOULDBLOCK) {
			err = -errno;
			return diag_set(
				diag, err, "%s cannot be locked: %s", lock->path, strerror(-err));
		}
		holder = read_holder(lock);
		if (held_by_readers(lock)) {
			if (readers) /* seen twice, so it was not just given up between the two
					looks */
				return refuse_busy(lock, NULL, diag);
			readers = true;
			continue;
		}
		if (time_mono_ms() >= (holder.closing ? deadline_ms : unmounted_ms) ||
			!(holder.closing || is_unmounted(&holder)))
			return refuse_busy(lock, &holder, diag);
		await_end(holder.pid);
	}

	if (lock->readonly)
		return 0;
	lock->holder = holder_line(mountpoint);
	if (!lock->holder)
		return -ENOMEM;
	write_holder(lock, "");
	return 0;
}

void volume_lock_closing(struct volume_lock *lock)
{
	if (lock->holder)
		write_holder(lock, " closing");
}

void volume_lock_deinit(struct volume_lock *lock)
{
	if (lock->fd >= 0)
		close(lock->fd);
	free(lock->holder);
}
