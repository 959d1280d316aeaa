/*
 * version: how a staged save becomes the next version, and what goes with it.
 *
 * Calling:   fill a struct publish and journal_commit() its change. The apply step updates the file's attributes, then
 *            calls applied (fs), in commit order.
 * Result:    enum publish_outcome, or -errno with nothing changed.
 */
#ifndef INTACTFS_META_VERSION_H
#define INTACTFS_META_VERSION_H

#include "meta/tree.h"

enum publish_outcome {
	PUBLISH_VERSION,   /* it is the head of the file now, in each of its lineages */
	PUBLISH_UNCHANGED, /* its bytes are the head's: only the times changed */
	PUBLISH_ASIDE, /* it is in the history of the name: that was removed meanwhile, or aside was asked for */
	PUBLISH_DROPPED, /* nobody will ever ask for it: the file was unlinked by its own saver, or was new */
};

struct publish {
	struct change change;
	/* Called with file->lock held, after file->attr was updated. May be NULL. */
	void (*applied)(struct publish *publish);

	/* In. */
	struct tree *tree;
	int64_t node, entry; /* the file, and the lineage that it was opened by */
	int64_t ino;	     /* the file's from now on; 0: as it was */
	struct content content;
	const char *kind;
	struct basis basis;
	int64_t origin, origin_number; /* of a restore */
	struct actor actor;
	int64_t mtime_ns;     /* 0: the time of the commit */
	int64_t equals;	      /* the id of a content that it equals, byte for byte, or 0 */
	int64_t changed_ns;   /* when the bytes were written last; 0: not known */
	bool changes_content; /* false: nothing was written; nothing is recorded */
	bool clear_setid;
	bool keep_if_unlinked;
	bool aside; /* it becomes no head: a version of its own in the history */
	int64_t live; /* the object that the file goes on living on, or 0; -EALREADY when it lives on another one */
	bool staged; /* the object of a live file is in stage/ still, where it needs no garbage row */

	/* Out. */
	struct node_row before; /* file->attr before the commit */
	struct node_row row;	/* as it is after the commit; id 0 when the file was unlinked */
	enum publish_outcome outcome;
	int64_t number; /* of the version in entry's lineage */
};

int publish_exec(struct txn *txn, struct change *change);
void publish_apply(struct change *change);
/* Sets exec and apply, and commits. */
int publish_commit(struct publish *publish);

/* A save is closing: recorded, so that a crash does not lose it. */
int version_closing(struct tree *tree, const struct closing_row *row, const struct actor *actor);
int version_closing_drop(struct tree *tree, int64_t object);

/* The file is written in place from now on; to be committed before the first write. -EALREADY: on another object;
 * force: that is out of date. */
int version_set_live(struct file *file, int64_t object, bool force);
/* Before bytes that a version names are overwritten in place: they move to a copy of their own, ret_object; 0: they were pruned.
 * length_bytes: as much of the object as versions name. What is larger than the limit is only kept where a reflink does it; else those versions
 * are pruned, which is logged. Updates file->attr.content. */
int version_preserve(struct file *file, int64_t object, int object_fd, int64_t length_bytes,
	int64_t copy_limit_bytes, int64_t *ret_object);

/* Opens a content for reading, wherever its object is. */
int version_open(struct tree *tree, int64_t object, int *ret_fd);

#endif
