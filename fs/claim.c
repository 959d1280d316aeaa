#include "fs/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "fs/hold.h"
#include "fs/save.h"
#include "journal/log.h"

#define PIDFD_THREAD O_EXCL /* linux/pidfd.h since 6.9 */
#define EVENTS_MAX   16

static struct {
	struct lock lock; /* protects the rest */
	struct claim *watched;
	unsigned holds; /* how many of them are; atomic */
	uint64_t last_id;
	int epoll_fd, stop_fd;
	bool running, over;
	pthread_t thread;
} owners = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF}, .epoll_fd = -1, .stop_fd = -1};

static struct claim *claim_ref(struct claim *claim)
{
	__atomic_add_fetch(&claim->refs, 1, __ATOMIC_RELAXED);
	return claim;
}

void claim_unref(struct claim *claim)
{
	if (!claim || __atomic_sub_fetch(&claim->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	close(claim->pidfd);
	file_unref(claim->file);
	free(claim);
}

/* Its time is over, or its owner ended. */
static void on_due(struct job *job)
{
	struct claim *claim = container_of(job, struct claim, job), *over = NULL;
	struct file *file = claim->file;
	struct parked *next = NULL;
	int64_t now_ms = time_mono_ms();
	bool ended, idle, waited;

	__atomic_store_n(&claim->queued, false, __ATOMIC_SEQ_CST);
	ended = __atomic_load_n(&claim->ended, __ATOMIC_SEQ_CST);
	if (claim->kind == CLAIM_HOLD)
		hold_publish(file);
	lock_take(&file->lock);
	idle = now_ms - claim->touched_ms >= CLAIM_IDLE_MS;
	waited = file->turn.waiters != NULL;
	if (claim->held && (ended || (claim->kind != CLAIM_HOLD &&
					     (idle || now_ms - claim->since_ms >= CLAIM_MAX_MS))))
		over = claim_end_locked(claim, &next);
	lock_drop(&file->lock);
	if (over && waited && !ended)
		log_info("tree %s: %s (process %d) read a file, and %s: the turn goes to the next",
			file->tree->info.name, claim->actor.program, claim->actor.pid,
			idle ? "did not touch it for 1 s" : "has not saved it in 10 s");
	claim_unref(over);
	park_resume(next, PARK_DONE);
	claim_unref(claim);
}

/* Takes over a reference. */
static void look_soon(struct claim *claim)
{
	if (__atomic_exchange_n(&claim->queued, true, __ATOMIC_SEQ_CST)) {
		claim_unref(claim);
		return;
	}
	claim->job.call = on_due;
	job_do(&claim->job);
}

static int64_t due_ms_locked(const struct claim *claim)
{
	int64_t idle_ms = claim->touched_ms + CLAIM_IDLE_MS,
		max_ms = claim->since_ms + CLAIM_MAX_MS;

	return idle_ms < max_ms ? idle_ms : max_ms;
}

static void set_timer_locked(struct claim *claim)
{
	claim_ref(claim);
	if (!timer_set(&claim->timer, due_ms_locked(claim)))
		__atomic_sub_fetch(&claim->refs, 1, __ATOMIC_RELAXED);
}

static void on_timer(struct timer *timer)
{
	struct claim *claim = container_of(timer, struct claim, timer);
	bool due;

	lock_take(&claim->file->lock);
	due = claim->held && time_mono_ms() >= due_ms_locked(claim);
	if (claim->held && !due)
		set_timer_locked(claim);
	lock_drop(&claim->file->lock);
	if (due)
		look_soon(claim);
	else
		claim_unref(claim);
}

static void owner_ended(uint64_t id)
{
	struct claim *claim;

	lock_take(&owners.lock);
	HASH_FIND(hh, owners.watched, &id, sizeof(id), claim);
	if (claim) {
		claim_ref(claim);
		/* A pidfd goes on telling it. */
		epoll_ctl(owners.epoll_fd, EPOLL_CTL_DEL, claim->pidfd, NULL);
	}
	lock_drop(&owners.lock);
	if (!claim)
		return;
	__atomic_store_n(&claim->ended, true, __ATOMIC_SEQ_CST);
	look_soon(claim);
}

static void *owners_main(void *arg)
{
	struct epoll_event events[EVENTS_MAX];
	int count;

	(void)arg;
	for (;;) {
		count = epoll_wait(owners.epoll_fd, events, EVENTS_MAX, -1);
		if (count < 0 && errno != EINTR)
			return NULL;
		for (int i = 0; i < count; i++) {
			if (events[i].data.u64 == 0)
				return NULL;
			owner_ended(events[i].data.u64);
		}
	}
}

static void start_watching(void)
{
	struct epoll_event stop = {.events = EPOLLIN, .data.u64 = 0};

	owners.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	owners.stop_fd = eventfd(0, EFD_CLOEXEC);
	owners.running = owners.epoll_fd >= 0 && owners.stop_fd >= 0 &&
			 epoll_ctl(owners.epoll_fd, EPOLL_CTL_ADD, owners.stop_fd, &stop) == 0 &&
			 pthread_create(&owners.thread, NULL, owners_main, NULL) == 0;
	if (owners.running)
		return;
	log_warning(
		"the ends of programs that hold turns cannot be seen: %s; their turns end after "
		"1 s",
		strerror(errno));
	owners.over = true;
}

static void watch(struct claim *claim)
{
	struct epoll_event event = {.events = EPOLLIN};

	lock_take(&owners.lock);
	if (!owners.running && !owners.over)
		start_watching();
	if (owners.running) {
		claim->id = event.data.u64 = ++owners.last_id;
		HASH_ADD(hh, owners.watched, id, sizeof(claim->id), claim);
		owners.holds += claim->kind == CLAIM_HOLD;
		epoll_ctl(owners.epoll_fd, EPOLL_CTL_ADD, claim->pidfd, &event);
	}
	lock_drop(&owners.lock);
}

static void unwatch(struct claim *claim)
{
	lock_take(&owners.lock);
	if (claim->id) {
		HASH_DEL(owners.watched, claim);
		owners.holds -= claim->kind == CLAIM_HOLD;
		epoll_ctl(owners.epoll_fd, EPOLL_CTL_DEL, claim->pidfd, NULL);
	}
	claim->id = 0;
	lock_drop(&owners.lock);
}

struct claim *claim_new(struct file *file, const struct process *process, const struct actor *actor,
	int64_t entry, enum claim_kind kind)
{
	struct claim *claim;
	int pidfd = kind == CLAIM_THREAD ? (int)syscall(SYS_pidfd_open, process->tid, PIDFD_THREAD)
					 : -1;

	if (pidfd < 0)
		pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
	claim = pidfd < 0 ? NULL : calloc(1, sizeof(*claim));
	if (!claim) {
		if (pidfd >= 0)
			close(pidfd);
		return NULL;
	}
	claim->file = file_ref(file);
	claim->process = *process;
	claim->actor = *actor;
	claim->entry = entry;
	claim->kind = kind;
	claim->refs = 1;
	claim->timer.call = on_timer;
	claim->pidfd = pidfd;
	return claim;
}

void claim_start_locked(struct claim *claim)
{
	const struct turn_party party = turn_party(&claim->process, claim->kind == CLAIM_THREAD);

	if (claim->kind == CLAIM_HOLD) {
		turn_take(&claim->file->gate, claim, &party);
		claim->file->hold = claim;
	} else {
		turn_take(&claim->file->turn, claim, &party);
		claim->file->claim = claim;
	}
	claim->held = true;
	claim->since_ns = time_now_ns();
	claim->since_ms = claim->touched_ms = time_mono_ms();
	if (claim->kind != CLAIM_HOLD)
		set_timer_locked(claim);
	watch(claim);
}

bool claim_is_of(const struct claim *claim, const struct process *process)
{
	if (claim->kind == CLAIM_THREAD)
		return claim->process.tid == process->tid && process_same(&claim->process, process);
	return process_same(&claim->process, process) || process_same(&claim->joined, process);
}

bool claim_touch_locked(struct file *file, const struct process *process)
{
	if (!file->claim || !claim_is_of(file->claim, process))
		return false;
	file->claim->touched_ms = time_mono_ms();
	return true;
}

bool claim_join(struct file *file, const struct process *process)
{
	struct process owner = {.known = false};
	int64_t ino;
	bool joins;

	lock_take(&file->lock);
	ino = file->attr.ino;
	if (file->claim && file->claim->kind == CLAIM_PROCESS)
		owner = file->claim->process;
	lock_drop(&file->lock);
	if (!owner.known || !process->known || !process_descends(process->pid, &owner) ||
		!process_is_using(process->pid, (uint64_t)ino))
		return false;
	lock_take(&file->lock);
	joins = file->claim && process_same(&file->claim->process, &owner);
	if (joins)
		file->claim->joined = *process;
	lock_drop(&file->lock);
	return joins;
}

struct claim *claim_take_locked(struct claim *claim)
{
	if (claim->kind == CLAIM_HOLD)
		claim->file->hold = NULL;
	else
		claim->file->claim = NULL;
	claim->held = false;
	unwatch(claim);
	if (timer_cancel(&claim->timer))
		__atomic_sub_fetch(&claim->refs, 1, __ATOMIC_RELAXED);
	return claim;
}

struct claim *claim_end_locked(struct claim *claim, struct parked **ret_next)
{
	claim_take_locked(claim);
	*ret_next = claim->kind == CLAIM_HOLD ? save_pass_gate_locked(claim->file, claim)
					      : save_pass_turn_locked(claim->file, claim);
	return claim;
}

unsigned claim_holders(struct process *holders, unsigned max)
{
	struct claim *claim;
	unsigned count = 0;

	if (__atomic_load_n(&owners.holds, __ATOMIC_RELAXED) == 0)
		return 0;
	lock_take(&owners.lock);
	for (claim = owners.watched; claim && count < max; claim = claim->hh.next)
		if (claim->kind == CLAIM_HOLD)
			holders[count++] = claim->process;
	lock_drop(&owners.lock);
	return count;
}

/* Most files have no claim. */
static bool has_claim(struct file *file)
{
	return __atomic_load_n(&file->claim, __ATOMIC_RELAXED) != NULL;
}

void claim_touched(struct file *file, pid_t tid)
{
	struct process process;

	if (!file || tid <= 0 || !has_claim(file))
		return;
	process_get(tid, &process);
	lock_take(&file->lock);
	claim_touch_locked(file, &process);
	lock_drop(&file->lock);
}

void claim_done(struct file *file, const struct process *process)
{
	struct parked *next = NULL;
	struct claim *claim = NULL;

	if (!file || !has_claim(file))
		return;
	lock_take(&file->lock);
	if (file->claim && claim_is_of(file->claim, process))
		claim = claim_end_locked(file->claim, &next);
	lock_drop(&file->lock);
	claim_unref(claim);
	park_resume(next, PARK_DONE);
}

void claims_stop(void)
{
	bool running;

	lock_take(&owners.lock);
	running = owners.running;
	owners.over = true;
	lock_drop(&owners.lock);
	if (running) {
		eventfd_write(owners.stop_fd, 1);
		pthread_join(owners.thread, NULL);
	}
	lock_take(&owners.lock);
	owners.running = false;
	lock_drop(&owners.lock);
}

void claim_finish(struct file *file)
{
	struct parked *next;
	struct claim *claim;

	do {
		next = NULL;
		lock_take(&file->lock);
		claim = file->hold ? file->hold : file->claim;
		if (claim)
			claim_end_locked(claim, &next);
		lock_drop(&file->lock);
		claim_unref(claim);
		park_resume(next, PARK_DONE);
	} while (claim);
}
