/*
 * judge: what becomes of a save whose file may have been saved by others since its program last saw it: the basis rule
 * (docs/architecture.md).
 *
 * The caller holds no lock but LOCK_IO: contents are read and merged. What was judged holds for the head that it was judged
 * against: who commits says so (publish.judged_head), and judges again on -EAGAIN.
 */
#ifndef INTACTFS_META_JUDGE_H
#define INTACTFS_META_JUDGE_H

#include "meta/policy.h"
#include "meta/sight.h"
#include "meta/version.h"

enum judge_outcome {
	JUDGE_NEXT,    /* it follows the head */
	JUDGE_BLIND,   /* its program has seen nothing of the file: it goes on top */
	JUDGE_OVER,    /* stale, and its policy lets it go on top */
	JUDGE_MERGED,  /* stale, and merged: merged is what is to be published */
	JUDGE_SAME,    /* stale, and all that it changed is in the head */
	JUDGE_REFUSED, /* stale: reason says why */
};

struct judge {
	/* In. */
	struct tree *tree;
	enum policy policy;
	struct sight basis;
	int fd; /* of what is saved */
	int64_t size_bytes;
	struct object_hash hash;
	struct content head; /* what it is to replace; id 0: nothing */
	bool displaced;	     /* that had the name before, and has not now */

	/* Out. */
	enum judge_outcome outcome;
	int64_t basis_content; /* id; 0: none, or nothing had been published */
	struct content merged; /* of an object in stage/, the caller's; id 0 */
	struct diag reason;
};

/* 0, or -errno when it cannot be told (a content cannot be read, no space for a merge). */
int judge_save(struct judge *judge);
/* The merged object is not needed after all. */
void judge_drop(struct judge *judge);

/* Whether the content has the bytes of the other. */
bool judge_is_same(struct tree *tree, int64_t content, const struct content *other);
/* What it was judged by, to be recorded with a closing; and back (without the basis of a content that is none yet). */
struct basis judge_basis(const struct judge *judge);
struct sight judge_sight(const char *kind, int64_t content);

/* The last content of the lineage. 1, 0 when there is none, or -errno. */
int judge_last_content(struct tree *tree, int64_t lineage, struct content *ret_content);
/* Within LOCK_READER's reach: the id of the content that a save became; 0: it became none. */
int judge_content_of(struct tree *tree, int64_t object, int64_t *ret_content);

#endif
