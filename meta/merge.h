/*
 * merge: three contents into one: what a save is based on (basis), what it saved (staged), and what others saved
 * meanwhile (head). It knows contents only, no files, and keeps no state: any thread may call it at any time.
 *
 * JSON is merged by structure where all three are strict UTF-8 JSON (RFC 8259; a BOM is allowed) without duplicate keys,
 * other text by lines, binary never. docs/architecture.md, "Merging", has the rules.
 *
 * Promise:   what is returned as merged has each change of either side exactly once, and nothing else. The result is checked
 *            by other means than it was made; where the check fails, it is an overlap.
 * Outcomes:  0: merged; the content is ret_data (malloc, the caller frees it, never NULL), ret_size.
 *            enum merge_outcome: not merged; ret_reason says why, for people.
 *            -ENOMEM; -EIO when libgit2 fails otherwise.
 * Bounds:    the size of each content (max_bytes), its lines (MERGE_MAX_LINES), its JSON values (JTREE_MAX_NODES),
 *            the time (max_ms). The difference of two texts is computed in one step that is not interrupted; the number of
 *            lines bounds that to some seconds in the worst case.
 */
#ifndef INTACTFS_META_MERGE_H
#define INTACTFS_META_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "journal/base.h"

#define MERGE_DEFAULT_MAX_BYTES ((size_t)8 << 20)
#define MERGE_DEFAULT_MAX_MS	1000
#define MERGE_MAX_LINES		200000

/* A content; data may be NULL when size is 0. */
struct merge_input {
	const char *data;
	size_t size;
};

/* 0 is the default. */
struct merge_limits {
	size_t max_bytes;
	int64_t max_ms;
};

enum merge_outcome {
	MERGE_OVERLAP = 1, /* both changed the same */
	MERGE_BINARY,
	MERGE_TOO_LARGE,
	MERGE_TOO_SLOW,
};

/* limits may be NULL. A side that is byte for byte the basis changed nothing: the result is the other, whatever it is. */
int merge_contents(const struct merge_input *basis, const struct merge_input *staged,
	const struct merge_input *head, const struct merge_limits *limits, char **ret_data,
	size_t *ret_size, struct diag *ret_reason);

#endif
