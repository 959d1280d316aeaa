/*
 * conflict: saves that were refused. Their contents are kept, until somebody takes or drops them, or the same program saves the file
 * after all.
 *
 * Errors:    0 or -errno.
 * Locks:     none may be held but LOCK_IO.
 */
#ifndef INTACTFS_META_CONFLICT_H
#define INTACTFS_META_CONFLICT_H

#include "meta/tree.h"
#include "meta/process.h"

/* To be recorded: out are id and content.id. */
struct conflict {
	int64_t id; /* in, not 0: the one that the same save left when it was refused before; its content is replaced */
	int64_t node, entry;
	struct content content; /* id 0: of a staged object, which it names from now on */
	int64_t basis, head;	/* contents; 0: none */
	const char *reason;
	const struct actor *actor;
	const struct process *process;
};

/* One that is recorded. */
struct conflict_row {
	int64_t id, node, entry, parent; /* parent: of entry now */
	struct content content;
	int64_t basis, head; /* contents; 0: none */
	int64_t sibling;     /* node; 0: none */
	int64_t time_ns;
	/* The file's, then. */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	int64_t access;
	/* Whose save it was. */
	uid_t saver;
	pid_t pid;
	char user[64], program[32], host[65];
	char state[16]; /* "open", "taken", "dropped", "superseded" */
};

/* For tree_open(). */
int conflict_load(struct tree *tree);
int conflict_add(struct tree *tree, struct conflict *conflict);
/* 1 with the row, 0 when there is none. */
int conflict_get(struct tree *tree, int64_t id, struct conflict_row *ret_row);
/* The same between journal_read_begin() and journal_read_end(), or within exec. */
int conflict_row(struct sql *sql, int64_t id, struct conflict_row *ret_row);
/* The program has saved the file after all: what it was refused of it is not open any more. visit is called for each that was. */
int conflict_clear(struct tree *tree, int64_t entry, const struct process *process,
	void (*visit)(void *arg, int64_t id), void *arg);
/* state: "dropped", by actor, which is an operation of the tree; or "superseded", with actor NULL. -EALREADY: it is not open. */
int conflict_end(struct tree *tree, int64_t id, const char *state, const struct actor *actor);
/* The same within another change (journal.h), and what is to be called when that is committed. */
int conflict_end_exec(struct txn *txn, int64_t id, const char *state);
void conflict_ended(struct tree *tree);
/* node 0: it has none. */
int conflict_set_sibling(struct tree *tree, int64_t id, int64_t node);

#endif
