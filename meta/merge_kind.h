/*
 * merge_kind: the kinds of merge behind merge.h, which is what others use.
 *
 * Each takes three contents that are neither too large nor binary, none of the sides being the basis. Results as in merge.h.
 * Sides are staged and head; where both have something at one place, the head's comes first.
 */
#ifndef INTACTFS_META_MERGE_KIND_H
#define INTACTFS_META_MERGE_KIND_H

#include "meta/jtree.h"
#include "meta/merge.h"

/* How long it may take: until a moment of time_mono_ms(). */
struct merge_clock {
	int64_t end_ms;
	unsigned steps;
};

/* To be called for each small step; looks at the clock now and then. */
static inline bool merge_is_late(struct merge_clock *clock)
{
	return (clock->steps++ & 255) == 0 && time_mono_ms() > clock->end_ms;
}

static inline int merge_too_slow(struct diag *ret_reason)
{
	return diag_set(ret_reason, MERGE_TOO_SLOW, "merging takes too long");
}

static inline int merge_too_many_values(struct diag *ret_reason)
{
	return diag_set(ret_reason, MERGE_TOO_LARGE, "more than %u JSON values", JTREE_MAX_NODES);
}

static inline int merge_unverified(struct diag *ret_reason)
{
	return diag_set(ret_reason, MERGE_OVERLAP, "the merge could not be verified");
}

/* By lines. */
int merge_text(const struct merge_input *basis, const struct merge_input *staged,
	const struct merge_input *head, struct merge_clock *clock, char **ret_data,
	size_t *ret_size, struct diag *ret_reason);

/* By structure; no tree has duplicate keys. */
int merge_json(const struct jtree *basis, const struct jtree *staged, const struct jtree *head,
	struct merge_clock *clock, char **ret_data, size_t *ret_size, struct diag *ret_reason);

/*
 * Arrays
 */

/* One element of the merged array: p or q, or both, when the element of q takes the place of that of p. Else JTREE_NONE. */
struct merge_element {
	uint32_t p, q;
};

struct merge_array {
	struct merge_element *list;
	uint32_t count;
	uint32_t overlap; /* at an overlap: the index in the basis */
	const char *how;  /* at an overlap: in words */
};

/* Merges arrays: b of the basis with p and q of the sides. q_first: the additions of q come first.
 * MERGE_OVERLAP, MERGE_TOO_SLOW (also for more than MERGE_MAX_LINES elements to compare): without a reason. The caller frees ret_array->list. */
int merge_array(const struct jtree *basis, uint32_t b, const struct jtree *p_tree, uint32_t p,
	const struct jtree *q_tree, uint32_t q, bool q_first, struct merge_clock *clock,
	struct merge_array *ret_array);

/* Whether two equal changes from b (JTREE_NONE: from nothing) to x may count once: not where a number changed, or elements
 * were added to an array. */
bool merge_agrees(const struct jtree *basis, uint32_t b, const struct jtree *tree, uint32_t x);

/* Whether result has each change of either side, and nothing else. It takes nothing from how the merge was made. */
int merge_json_check(const struct jtree *basis, const struct jtree *staged,
	const struct jtree *head, const struct jtree *result, bool *ret_right);

#endif
