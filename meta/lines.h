/*
 * lines: the difference of two texts, and the merge of three, by lines. The only module that knows libgit2.
 *
 * A line ends with \n, which belongs to it; the last one may lack it, and then differs from one that has it.
 * Texts have no NUL byte. libgit2 is initialized at the first call, and stays.
 */
#ifndef INTACTFS_META_LINES_H
#define INTACTFS_META_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "meta/merge.h"

/* old_count lines from line old_at on (from 0) became new_count lines from new_at on. */
struct hunk {
	uint32_t old_at, old_count, new_at, new_count;
};

struct hunks {
	struct hunk
		*list; /* in the order of the lines; at least one unchanged line is between two */
	size_t count;
};

static inline void lines_cleanup_hunks(struct hunks *hunks)
{
	free(hunks->list);
}
#define autohunks __attribute__((cleanup(lines_cleanup_hunks)))

enum lines_outcome { LINES_CONFLICT = 1 };

/* ret_hunks->list is the caller's, also NULL. -ENOMEM, -EIO */
int lines_diff(
	const struct merge_input *before, const struct merge_input *after, struct hunks *ret_hunks);
/* 0, LINES_CONFLICT, -ENOMEM, -EIO; where both sides have the same change, it counts once. */
int lines_merge(const struct merge_input *basis, const struct merge_input *staged,
	const struct merge_input *head, char **ret_data, size_t *ret_size);

#endif
