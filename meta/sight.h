/*
 * sight: which content of a file each program saw last, so that a save that knows of what it overwrites can be told from one that does
 * not (docs/architecture.md, "The basis rule").
 *
 * A program is a process. It sees a content when it opens the file for reading, or saves it. Who has seen nothing of a lineage is asked
 * for by its parent, and so on up to the session leader. A process that ends leaves what it saw to its parent, for a time (inherit_seconds, setting.h); that never
 * replaces what the parent read itself, unless the child had not read it and saved on the parent's basis.
 *
 * Threads:   any; no function may be called with a LOCK_LEAF held. Those that take a process look at /proc when it is new.
 * Limits:    SIGHTS_MAX contents a program, and PROGRAMS_MAX programs. Who saw more has lost what it saw first, which is told apart
 *            from never having seen it; of more programs nothing is known.
 */
#ifndef INTACTFS_META_SIGHT_H
#define INTACTFS_META_SIGHT_H

#include "journal/record.h"
#include "meta/process.h"
#include "meta/tree.h"

#define SIGHTS_MAX   65536
#define PROGRAMS_MAX 16384

enum sight_kind {
	SIGHT_NONE,	 /* never seen */
	SIGHT_OWN,	 /* by the process itself */
	SIGHT_INHERITED, /* by an ancestor, or an ended child of one */
	SIGHT_LOST,	 /* it may have been seen: too much was since */
};

struct sight {
	enum sight_kind kind;
	bool read; /* it was read, not only saved */
	int64_t content; /* id; 0 without an object: the file was empty, and nothing had ever been published */
	int64_t object; /* of a save that was closed, and is no content yet */
	uint64_t
		order; /* who looked later has the greater one, and the later version, or the same */
};

void sight_read(const struct process *process, const struct tree *tree, int64_t entry,
	const struct content *content);
/* The process has closed a save; content 0: its object will be one. */
void sight_saved(const struct process *process, const struct tree *tree, int64_t entry,
	int64_t object, int64_t content);
/* What was saved as object is the content now. */
void sight_published(const struct process *process, const struct tree *tree, int64_t entry,
	int64_t object, int64_t content);
/* It became none: it was removed before. */
void sight_dropped(
	const struct process *process, const struct tree *tree, int64_t entry, int64_t object);
/* What the process saves in a lineage has these bytes: if it read the same just before from another, that was no look but a copy, and it
 * sees of that what it saw before. */
void sight_copied(const struct process *process, const struct tree *tree, int64_t entry,
	int64_t size_bytes, const struct object_hash *hash);
void sight_find(const struct process *process, const struct tree *tree, int64_t entry,
	struct sight *ret_sight);
/* Lets go of the processes that ended, now and then. */
void sight_sweep(void);
/* Nothing is known any more. */
void sight_end(void);

#endif
