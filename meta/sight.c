#include "meta/sight.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <uthash.h>

#include "journal/log.h"
#include "meta/setting.h"

#define ANCESTORS_MAX 64
/* Of what was read last, as much is compared with what is saved. */
#define COPIES_MAX 8
#define NEVER_MS   (INT64_MIN / 2) /* nothing was left */

enum origin {
	READ,	    /* by itself */
	SAVED,	    /* by itself */
	LEFT_READ,  /* by a child that ended */
	LEFT_SAVED, /* likewise, by one that had not read it */
};

struct key {
	int64_t tree; /* its id */
	int64_t entry;
};

struct seen {
	struct key key;
	enum origin origin;
	bool was_read; /* by this process, at some time */
	int64_t content, object;
	uint64_t
		order; /* in which it was seen: who looks later sees a later version, or the same */
	int64_t left_ms; /* when a child left it */
	/* Of what was read, for sight_copied(). */
	int64_t size_bytes;
	struct object_hash hash;
	struct { /* what was seen before that */
		bool any;
		enum origin origin;
		int64_t content, object;
	} before;
	UT_hash_handle hh; /* the last seen at the end */
};

struct program {
	uint64_t identity;
	int pidfd; /* -1: it ended */
	struct program
		*parent; /* NULL: it leads its session, or is not known; counted in its children */
	unsigned children;
	bool lost; /* some of what it saw */
	struct seen *seen;
	UT_hash_handle hh; /* the oldest first */
};

static struct {
	struct lock lock; /* protects the rest */
	struct program *programs;
	int epoll; /* of all pidfds */
	uint64_t order;
	bool warned;
} sights = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF}, .epoll = -1};

static struct seen *find_seen(struct program *program, const struct key *key)
{
	struct seen *seen;

	HASH_FIND(hh, program->seen, key, sizeof(*key), seen);
	return seen;
}

static void forget(struct program *program, struct seen *seen)
{
	HASH_DEL(program->seen, seen);
	free(seen);
}

static void forget_all(struct program *program)
{
	struct seen *seen, *next;

	HASH_ITER(hh, program->seen, seen, next)
	{
		forget(program, seen);
	}
}

static bool is_left(const struct seen *seen)
{
	return seen->origin == LEFT_READ || seen->origin == LEFT_SAVED;
}

/* The entry for the key, as the last one seen; made when there is none. NULL: no memory. */
static struct seen *touch(struct program *program, const struct key *key)
{
	struct seen *seen = find_seen(program, key);

	if (seen) {
		HASH_DEL(program->seen, seen);
	} else {
		seen = calloc(1, sizeof(*seen));
		if (!seen)
			return NULL;
		seen->key = *key;
		seen->origin = LEFT_READ;
		seen->left_ms = NEVER_MS;
	}
	HASH_ADD(hh, program->seen, key, sizeof(seen->key), seen);
	if (HASH_COUNT(program->seen) > SIGHTS_MAX) {
		program->lost = program->lost || !is_left(program->seen);
		forget(program, program->seen);
	}
	return seen;
}

static bool is_newer(const struct seen *a, const struct seen *b)
{
	return a->order > b->order;
}

/* What the child saw, of which the parent knows now. */
static void leave_one(struct program *parent, const struct seen *child, int64_t now_ms)
{
	struct seen *mine = find_seen(parent, &child->key);
	bool saved = (child->origin == SAVED && !child->was_read) || child->origin == LEFT_SAVED;

	if (mine && ((mine->origin == READ && !saved) || !is_newer(child, mine)))
		return;
	mine = touch(parent, &child->key);
	if (!mine)
		return;
	mine->content = child->content;
	mine->object = child->object;
	mine->order = child->order;
	mine->before.any = false;
	mine->size_bytes = 0;
	/* What was saved on its own basis is its own. */
	if (mine->origin == READ || mine->origin == SAVED)
		return;
	mine->origin = saved ? LEFT_SAVED : LEFT_READ;
	mine->left_ms = is_left(child) ? child->left_ms : now_ms;
}

static void end_program(struct program *program)
{
	int64_t now_ms = time_mono_ms();
	struct program *heir = program->parent;
	struct seen *seen, *next;

	epoll_ctl(sights.epoll, EPOLL_CTL_DEL, program->pidfd, NULL);
	close(program->pidfd);
	program->pidfd = -1;
	while (heir && heir->pidfd < 0)
		heir = heir->parent;
	HASH_ITER(hh, program->seen, seen, next)
	{
		if (heir)
			leave_one(heir, seen, now_ms);
		forget(program, seen);
	}
}

/* Those that ended leave what they saw: when a process has waited for its child, the child is among them. */
static void look_for_ends(void)
{
	struct epoll_event events[64];
	int count;

	do {
		count = sights.epoll < 0 ? 0
					 : epoll_wait(sights.epoll, events, ARRAY_SIZE(events), 0);
		for (int i = 0; i < count; i++)
			end_program(events[i].data.ptr);
	} while (count == (int)ARRAY_SIZE(events));
}

static void free_program(struct program *program)
{
	if (program->parent)
		program->parent->children--;
	if (program->pidfd >= 0)
		close(program->pidfd);
	forget_all(program);
	HASH_DEL(sights.programs, program);
	free(program);
}

/* Ended ones are remembered for a while: their last saves may still be on their way. */
static bool make_room(void)
{
	struct program *program, *next;

	if (HASH_COUNT(sights.programs) < PROGRAMS_MAX)
		return true;
	HASH_ITER(hh, sights.programs, program, next)
	{
		if (program->pidfd >= 0 || program->children > 0)
			continue;
		free_program(program);
		return true;
	}
	if (!sights.warned)
		log_warning(
			"more than %d programs use the mount: what the others saw is not known, and their "
			"saves count as blind",
			PROGRAMS_MAX);
	sights.warned = true;
	return false;
}

static struct program *add_program(const struct process *process, struct program *parent)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct program *program;
	struct process now;
	int pidfd;

	if (sights.epoll < 0)
		sights.epoll = epoll_create1(EPOLL_CLOEXEC);
	pidfd = make_room() ? (int)syscall(SYS_pidfd_open, process->pid, 0) : -1;
	if (pidfd < 0)
		return NULL;
	/* It may have ended, and its number be another's. */
	process_look(process->pid, &now);
	if (!process_same(process, &now)) {
		close(pidfd);
		return NULL;
	}
	program = calloc(1, sizeof(*program));
	event.data.ptr = program;
	if (!program || epoll_ctl(sights.epoll, EPOLL_CTL_ADD, pidfd, &event) != 0) {
		close(pidfd);
		free(program);
		return NULL;
	}
	program->identity = process->identity;
	program->pidfd = pidfd;
	program->parent = parent;
	if (parent)
		parent->children++;
	HASH_ADD(hh, sights.programs, identity, sizeof(program->identity), program);
	return program;
}

static struct program *find_program(const struct process *process)
{
	struct program *program = NULL;

	if (process->known)
		HASH_FIND(hh, sights.programs, &process->identity, sizeof(process->identity),
			program);
	return program;
}

/* The process, and those of its ancestors that are not known yet up to the session leader: at the end of chain[], the oldest one. */
static int look_at_ancestors(const struct process *process, struct process *chain)
{
	int count = 0;
	bool known;

	chain[count++] = *process;
	while (count < ANCESTORS_MAX && chain[count - 1].pid != chain[count - 1].session &&
		chain[count - 1].parent > 0) {
		process_get(chain[count - 1].parent, &chain[count]);
		if (!chain[count].known || chain[count].session != process->session)
			break;
		lock_take(&sights.lock);
		known = find_program(&chain[count++]) != NULL;
		lock_drop(&sights.lock);
		if (known)
			break;
	}
	return count;
}

/* The program of the process, with the lock taken; NULL, without it: it is not known. */
static struct program *enter(const struct process *process)
{
	struct program *program, *parent = NULL;
	struct process *chain;
	int count;

	if (!process->known)
		return NULL;
	lock_take(&sights.lock);
	look_for_ends();
	program = find_program(process);
	if (program)
		return program;
	lock_drop(&sights.lock);
	chain = malloc(ANCESTORS_MAX * sizeof(*chain));
	if (!chain)
		return NULL;
	count = look_at_ancestors(process, chain);
	lock_take(&sights.lock);
	for (int i = count - 1; i >= 0; i--) {
		program = find_program(&chain[i]);
		if (!program)
			program = add_program(&chain[i], parent);
		parent = program;
	}
	free(chain);
	if (!program)
		lock_drop(&sights.lock);
	return program;
}

/* Who ended has left what it saw: what comes late is left at once. */
static void saw(struct program *program, const struct seen *seen)
{
	struct seen late = *seen, *mine;
	struct program *heir = program;

	late.order = ++sights.order;
	while (heir && heir->pidfd < 0)
		heir = heir->parent;
	if (heir && heir != program)
		leave_one(heir, &late, time_mono_ms());
	mine = heir == program ? touch(program, &seen->key) : NULL;
	if (!mine)
		return;
	if (seen->origin == READ) {
		mine->before.any =
			mine->left_ms > NEVER_MS || mine->origin == READ || mine->origin == SAVED;
		mine->before.origin = mine->origin;
		mine->before.content = mine->content;
		mine->before.object = mine->object;
		mine->was_read = true;
	} else {
		mine->before.any = false;
	}
	mine->origin = seen->origin;
	mine->order = late.order;
	mine->content = seen->content;
	mine->object = seen->object;
	mine->size_bytes = seen->size_bytes;
	mine->hash = seen->hash;
}

void sight_read(const struct process *process, const struct tree *tree, int64_t entry,
	const struct content *content)
{
	struct program *program = enter(process);
	const struct seen seen = {.key = {tree->info.id, entry},
		.origin = READ,
		.was_read = true,
		.content = content->id,
		.size_bytes = content->size_bytes,
		.hash = content->hash};

	if (!program)
		return;
	saw(program, &seen);
	lock_drop(&sights.lock);
}

void sight_saved(const struct process *process, const struct tree *tree, int64_t entry,
	int64_t object, int64_t content)
{
	struct program *program = enter(process);
	const struct seen seen = {.key = {tree->info.id, entry},
		.origin = SAVED,
		.content = content,
		.object = content ? 0 : object};

	if (!program)
		return;
	saw(program, &seen);
	lock_drop(&sights.lock);
}

void sight_published(const struct process *process, const struct tree *tree, int64_t entry,
	int64_t object, int64_t content)
{
	const struct key key = {tree->info.id, entry};
	struct program *program;
	struct seen *seen;

	lock_take(&sights.lock);
	/* It may have been left to an ancestor by now. */
	for (program = find_program(process); program; program = program->parent) {
		seen = find_seen(program, &key);
		if (!seen || seen->object != object)
			continue;
		seen->content = content;
		seen->object = 0;
	}
	lock_drop(&sights.lock);
}

void sight_dropped(
	const struct process *process, const struct tree *tree, int64_t entry, int64_t object)
{
	const struct key key = {tree->info.id, entry};
	struct program *program;
	struct seen *seen;

	lock_take(&sights.lock);
	for (program = find_program(process); program; program = program->parent) {
		seen = find_seen(program, &key);
		if (seen && object && seen->object == object)
			forget(program, seen);
	}
	lock_drop(&sights.lock);
}

void sight_copied(const struct process *process, const struct tree *tree, int64_t entry,
	int64_t size_bytes, const struct object_hash *hash)
{
	struct program *program = enter(process);
	struct seen *seen;

	if (!program)
		return;
	seen = program->seen ? ELMT_FROM_HH(program->seen->hh.tbl, program->seen->hh.tbl->tail)
			     : NULL;
	for (int i = 0; seen && i < COPIES_MAX; i++, seen = seen->hh.prev) {
		if (seen->origin != READ || !seen->before.any || seen->size_bytes != size_bytes ||
			size_bytes == 0 || memcmp(&seen->hash, hash, sizeof(*hash)) != 0 ||
			(seen->key.tree == tree->info.id && seen->key.entry == entry))
			continue;
		seen->origin = seen->before.origin;
		seen->content = seen->before.content;
		seen->object = seen->before.object;
		seen->before.any = false;
		seen->size_bytes = 0;
	}
	lock_drop(&sights.lock);
}

void sight_find(const struct process *process, const struct tree *tree, int64_t entry,
	struct sight *ret_sight)
{
	const struct key key = {tree->info.id, entry};
	int64_t oldest_ms = time_mono_ms() - setting_get(tree, SETTING_INHERIT_SECONDS) * 1000;
	struct program *own = enter(process), *program;
	struct seen *seen;

	*ret_sight = (struct sight){.kind = SIGHT_NONE};
	if (!own)
		return;
	for (program = own; program && ret_sight->kind == SIGHT_NONE; program = program->parent) {
		seen = find_seen(program, &key);
		if (seen && (!is_left(seen) || seen->left_ms >= oldest_ms))
			*ret_sight = (struct sight){
				.kind = program == own ? SIGHT_OWN : SIGHT_INHERITED,
				.read = seen->was_read || seen->origin == READ ||
					seen->origin == LEFT_READ,
				.content = seen->content,
				.object = seen->object,
				.order = seen->order,
			};
		else if (program->lost && program == own)
			ret_sight->kind = SIGHT_LOST;
	}
	lock_drop(&sights.lock);
}

void sight_sweep(void)
{
	lock_take(&sights.lock);
	look_for_ends();
	lock_drop(&sights.lock);
}

void sight_end(void)
{
	struct program *program, *next;

	lock_take(&sights.lock);
	HASH_ITER(hh, sights.programs, program, next)
	{
		program->parent = NULL;
		free_program(program);
	}
	if (sights.epoll >= 0)
		close(sights.epoll);
	sights.epoll = -1;
	lock_drop(&sights.lock);
}
