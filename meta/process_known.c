/*
 * process_known: what was read of /proc, remembered as long as the thread lives. A pidfd of each tells whether its number is another
 * thread's by now, which costs a fiftieth of a look at /proc. Needs PIDFD_THREAD (Linux 6.9); before, only the first threads of
 * processes are remembered.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <uthash.h>

#include "journal/lock.h"
#include "meta/process.h"

#define KNOWN_MAX    1024
#define PIDFD_THREAD O_EXCL /* linux/pidfd.h since 6.9 */

struct known {
	pid_t tid;
	int pidfd;
	struct process process;
	UT_hash_handle hh; /* in the order in which they came */
};

static struct {
	struct lock lock; /* protects the rest */
	struct known *threads;
} known = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF}};

static int thread_open(pid_t tid)
{
	int fd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);

	/* An older kernel opens the first threads of processes only. */
	return fd < 0 && errno == EINVAL ? (int)syscall(SYS_pidfd_open, tid, 0) : fd;
}

static bool is_alive(int pidfd)
{
	return syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0 || errno == EPERM;
}

static void forget_locked(struct known *one)
{
	HASH_DEL(known.threads, one);
	close(one->pidfd);
	free(one);
}

static bool recall(pid_t tid, struct process *ret_process)
{
	struct known *one;
	bool found;

	lock_take(&known.lock);
	HASH_FIND_INT(known.threads, &tid, one);
	found = one && is_alive(one->pidfd);
	if (found)
		*ret_process = one->process;
	else if (one)
		forget_locked(one);
	lock_drop(&known.lock);
	return found;
}

static void remember(struct known *one)
{
	struct known *other;

	lock_take(&known.lock);
	HASH_FIND_INT(known.threads, &one->tid, other);
	if (other)
		forget_locked(other);
	HASH_ADD_INT(known.threads, tid, one);
	if (HASH_COUNT(known.threads) > KNOWN_MAX)
		forget_locked(known.threads);
	lock_drop(&known.lock);
}

void process_get(pid_t tid, struct process *ret_process)
{
	struct known *one;
	int pidfd;

	if (tid <= 0 || recall(tid, ret_process)) {
		if (tid <= 0)
			*ret_process = (struct process){.tid = tid};
		return;
	}
	/* What is read after this is of the thread that the pidfd is of, if that is alive afterwards. */
	pidfd = thread_open(tid);
	process_look(tid, ret_process);
	one = pidfd >= 0 && ret_process->known && is_alive(pidfd) ? malloc(sizeof(*one)) : NULL;
	if (!one) {
		if (pidfd >= 0)
			close(pidfd);
		return;
	}
	*one = (struct known){.tid = tid, .pidfd = pidfd, .process = *ret_process};
	one->process.exiting = false;
	one->process.remembered = true;
	remember(one);
}

void process_sweep(void)
{
	struct known *one, *next;

	lock_take(&known.lock);
	HASH_ITER(hh, known.threads, one, next)
	{
		if (!is_alive(one->pidfd))
			forget_locked(one);
	}
	lock_drop(&known.lock);
}

void process_forget_all(void)
{
	struct known *one, *next;

	lock_take(&known.lock);
	HASH_ITER(hh, known.threads, one, next)
	{
		forget_locked(one);
	}
	lock_drop(&known.lock);
}
