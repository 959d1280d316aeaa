/*
 * Merging arrays. Each side says of every element of the basis whether it kept, removed or changed it, and what it added in
 * the gap before it, or at the end. Those say it by the difference of the arrays, as of lines; arrays of the same length
 * with scalars among what changed by position, since they may be a vector, whose elements mean something by their place.
 *
 *   - One kept it: what the other did is done. Both removed it: it is gone.
 *   - Both changed it: an overlap, unless to the same, and that may count once (merge_agrees).
 *   - One removed and the other changed it: an overlap.
 *   - Both removed it, and one of them added it elsewhere (moved it): an overlap. So is what both removed and added where that
 *     may have been counting: numbers.
 *   - What is added is added, by both sides also when it is equal.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "meta/lines.h"
#include "meta/merge_kind.h"

#define REMOVED JTREE_NONE

/* Element i of the basis became element to[i] of the side; before it came added[i] elements from index at[i] on. */
struct alignment {
	uint32_t *to, *at, *added;
	bool *kept,
		*ragged; /* ragged: more or fewer elements took the place of it and its neighbours */
};

/* An array of one of the trees. */
struct array {
	const struct jtree *tree;
	uint32_t id, count;
};

static struct array array_of(const struct jtree *tree, uint32_t id)
{
	return (struct array){tree, id, jtree_node(tree, id)->count};
}

static uint32_t element(const struct array *array, uint32_t index)
{
	return jtree_kid(array->tree, array->id, index);
}

static bool equal(const struct array *a, uint32_t i, const struct array *b, uint32_t j)
{
	return jtree_equal(a->tree, element(a, i), b->tree, element(b, j));
}

static bool is_scalar(const struct array *array, uint32_t index)
{
	return jtree_node(array->tree, element(array, index))->type < JTREE_ARRAY;
}

static bool is_number(const struct array *array, uint32_t index)
{
	return jtree_node(array->tree, element(array, index))->type == JTREE_NUMBER;
}

static void alignment_deinit(struct alignment *align)
{
	free(align->to);
	free(align->at);
	free(align->added);
	free(align->kept);
	free(align->ragged);
}

static int alignment_init(struct alignment *align, uint32_t count)
{
	*align = (struct alignment){
		.to = calloc(count + 1, sizeof(*align->to)),
		.at = calloc(count + 1, sizeof(*align->at)),
		.added = calloc(count + 1, sizeof(*align->added)),
		.kept = calloc(count + 1, sizeof(*align->kept)),
		.ragged = calloc(count + 1, sizeof(*align->ragged)),
	};
	return align->to && align->at && align->added && align->kept && align->ragged ? 0 : -ENOMEM;
}

/* Writes the elements as lines of hashes. */
static int lines_of(
	const struct array *array, uint32_t from, uint32_t to, struct merge_input *ret_text)
{
	size_t width = 17; /* and a line end */
	char *data = malloc((to - from) * width + 1), *at = data;

	if (!data)
		return -ENOMEM;
	for (; from < to; from++, at += width)
		snprintf(at, width + 1, "%016" PRIx64 "\n",
			jtree_node(array->tree, element(array, from))->hash);
	*ret_text = (struct merge_input){data, (size_t)(at - data)};
	return 0;
}

static int diff_middle(const struct array *b, const struct array *side, uint32_t start,
	uint32_t tail, struct hunks *ret_hunks)
{
	autofree char *before_data = NULL, *after_data = NULL;
	struct merge_input before, after;
	int err;

	if (b->count - tail - start > MERGE_MAX_LINES ||
		side->count - tail - start > MERGE_MAX_LINES)
		return MERGE_TOO_SLOW;
	err = lines_of(b, start, b->count - tail, &before);
	if (err)
		return err;
	before_data = (char *)before.data;
	err = lines_of(side, start, side->count - tail, &after);
	if (err)
		return err;
	after_data = (char *)after.data;
	err = lines_diff(&before, &after, ret_hunks);
	for (size_t i = 0; !err && i < ret_hunks->count; i++) {
		ret_hunks->list[i].old_at += start;
		ret_hunks->list[i].new_at += start;
	}
	return err;
}

/* The hunks between the elements that are equal at the begin and at the end. */
static int find_hunks(const struct array *b, const struct array *side, struct hunks *ret_hunks)
{
	uint32_t least = b->count < side->count ? b->count : side->count, start = 0, tail = 0;

	while (start < least && equal(b, start, side, start))
		start++;
	while (tail < least - start && equal(b, b->count - 1 - tail, side, side->count - 1 - tail))
		tail++;
	if (start + tail < least)
		return diff_middle(b, side, start, tail, ret_hunks);
	ret_hunks->list = malloc(sizeof(*ret_hunks->list));
	if (!ret_hunks->list)
		return -ENOMEM;
	ret_hunks->list[0] =
		(struct hunk){start, b->count - tail - start, start, side->count - tail - start};
	ret_hunks->count = 1;
	return 0;
}

static bool is_positional(const struct array *b, const struct array *side)
{
	if (b->count != side->count)
		return false;
	for (uint32_t i = 0; i < b->count; i++)
		if (!equal(b, i, side, i) && (is_scalar(b, i) || is_scalar(side, i)))
			return true;
	return false;
}

static void align_by_position(
	const struct array *b, const struct array *side, struct alignment *align)
{
	for (uint32_t i = 0; i < b->count; i++) {
		align->to[i] = i;
		align->kept[i] = equal(b, i, side, i);
	}
}

/* Takes the elements between hunks as kept. False when they are not the same. */
static bool keep(const struct array *b, uint32_t from, uint32_t to, const struct array *side,
	uint32_t new_from, uint32_t new_to, struct alignment *align)
{
	if (from > to || to > b->count || new_from > new_to || new_to > side->count ||
		to - from != new_to - new_from)
		return false;
	for (; from < to; from++, new_from++) {
		if (!equal(b, from, side, new_from))
			return false;
		align->to[from] = new_from;
		align->kept[from] = true;
	}
	return true;
}

/* In a hunk the first elements were changed one by one, the rest was added or removed. */
static bool align_hunks(const struct array *b, const struct array *side, const struct hunks *hunks,
	struct alignment *align)
{
	uint32_t at = 0, new_at = 0;

	for (size_t i = 0; i < hunks->count; i++) {
		const struct hunk *hunk = &hunks->list[i];
		uint32_t end = hunk->old_at + hunk->old_count;

		if (end > b->count || hunk->new_at + hunk->new_count > side->count ||
			!keep(b, at, hunk->old_at, side, new_at, hunk->new_at, align))
			return false;
		at = end;
		new_at = hunk->new_at + hunk->new_count;
		for (uint32_t j = 0; j < hunk->old_count; j++) {
			align->to[hunk->old_at + j] =
				j < hunk->new_count ? hunk->new_at + j : REMOVED;
			align->ragged[hunk->old_at + j] =
				hunk->new_count && hunk->new_count != hunk->old_count;
		}
		if (hunk->new_count > hunk->old_count) {
			align->at[end] = hunk->new_at + hunk->old_count;
			align->added[end] = hunk->new_count - hunk->old_count;
		}
	}
	return keep(b, at, b->count, side, new_at, side->count, align);
}

/* MERGE_OVERLAP: the difference was none */
static int align_side(const struct array *b, const struct array *side, struct alignment *align)
{
	autohunks struct hunks hunks = {0};
	int err;

	err = alignment_init(align, b->count);
	if (err)
		return err;
	if (is_positional(b, side)) {
		align_by_position(b, side, align);
		return 0;
	}
	err = find_hunks(b, side, &hunks);
	if (err)
		return err;
	return align_hunks(b, side, &hunks, align) ? 0 : MERGE_OVERLAP;
}

bool merge_agrees(const struct jtree *basis, uint32_t b, const struct jtree *tree, uint32_t x)
{
	const struct jnode *to = jtree_node(tree, x),
			   *from = b == JTREE_NONE ? NULL : jtree_node(basis, b);
	bool elements = from && from->type == JTREE_ARRAY && from->count == to->count;

	if (from && jtree_equal(basis, b, tree, x))
		return true;
	if (to->type == JTREE_NUMBER || (from && from->type == JTREE_NUMBER))
		return false;
	if (to->type == JTREE_ARRAY && to->count && !elements)
		return false;
	for (uint32_t i = 0; i < to->count; i++) {
		uint32_t kid = jtree_kid(tree, x, i);
		uint32_t before = to->type == JTREE_OBJECT ? jtree_find(basis, b, tree, kid)
							   : jtree_kid(basis, b, i);

		if (!merge_agrees(basis, before, tree, kid))
			return false;
	}
	return true;
}

/*
 * The merge
 */

struct job {
	struct array b, p, q;
	struct alignment in_p, in_q;
	bool q_first;
	struct merge_clock *clock;
	struct merge_array *result;
};

static void job_deinit(struct job *job)
{
	alignment_deinit(&job->in_p);
	alignment_deinit(&job->in_q);
}

static int overlap(struct job *job, uint32_t index, const char *how)
{
	job->result->overlap = index;
	job->result->how = how;
	return MERGE_OVERLAP;
}

static void put(struct job *job, uint32_t p, uint32_t q)
{
	job->result->list[job->result->count++] = (struct merge_element){p, q};
}

static void put_added(struct job *job, uint32_t gap, bool of_q)
{
	const struct alignment *align = of_q ? &job->in_q : &job->in_p;

	for (uint32_t i = align->at[gap]; i < align->at[gap] + align->added[gap]; i++) {
		uint32_t id = element(of_q ? &job->q : &job->p, i);

		put(job, of_q ? JTREE_NONE : id, of_q ? id : JTREE_NONE);
	}
}

static int put_element(struct job *job, uint32_t i)
{
	uint32_t to_p = job->in_p.to[i], to_q = job->in_q.to[i];

	if (job->in_q.kept[i] || (to_p == REMOVED && to_q == REMOVED)) {
		if (to_p != REMOVED)
			put(job, element(&job->p, to_p), JTREE_NONE);
		return 0;
	}
	if (job->in_p.kept[i]) {
		if (to_q != REMOVED)
			put(job, element(&job->p, to_p), element(&job->q, to_q));
		return 0;
	}
	if (to_p == REMOVED || to_q == REMOVED)
		return overlap(job, i, "one removed and the other changed");
	if (job->in_p.ragged[i] || job->in_q.ragged[i] || !equal(&job->p, to_p, &job->q, to_q) ||
		!merge_agrees(
			job->b.tree, element(&job->b, i), job->p.tree, element(&job->p, to_p)))
		return overlap(job, i, "both changed");
	put(job, element(&job->p, to_p), JTREE_NONE);
	return 0;
}

static int by_hash(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* What both removed. */
struct removed {
	uint64_t *hashes; /* sorted */
	size_t count;
	bool numbers; /* among them */
};

static bool is_back(const struct array *side, uint32_t index, const struct removed *removed)
{
	return (removed->numbers && is_number(side, index)) ||
	       bsearch(&jtree_node(side->tree, element(side, index))->hash, removed->hashes,
		       removed->count, sizeof(*removed->hashes), by_hash);
}

/* Whether the side has anew what both removed, or a number when they removed one. */
static bool has_moved(const struct array *b, const struct array *side,
	const struct alignment *align, const struct removed *removed)
{
	for (uint32_t i = 0; i <= b->count; i++) {
		if (i < b->count && !align->kept[i] && align->to[i] != REMOVED &&
			is_back(side, align->to[i], removed))
			return true;
		for (uint32_t j = 0; j < align->added[i]; j++)
			if (is_back(side, align->at[i] + j, removed))
				return true;
	}
	return false;
}

static int check_removed(struct job *job)
{
	autofree uint64_t *hashes = malloc((job->b.count + 1) * sizeof(*hashes));
	struct removed removed = {.hashes = hashes};
	uint32_t first = 0;

	if (!hashes)
		return -ENOMEM;
	for (uint32_t i = job->b.count; i-- > 0;) {
		if (job->in_p.to[i] != REMOVED || job->in_q.to[i] != REMOVED)
			continue;
		hashes[removed.count++] = jtree_node(job->b.tree, element(&job->b, i))->hash;
		removed.numbers |= is_number(&job->b, i);
		first = i;
	}
	if (!removed.count)
		return 0;
	qsort(hashes, removed.count, sizeof(*hashes), by_hash);
	if (has_moved(&job->b, &job->p, &job->in_p, &removed) ||
		has_moved(&job->b, &job->q, &job->in_q, &removed))
		return overlap(job, first, "both removed or moved");
	return 0;
}

static int merge_elements(struct job *job)
{
	int err;

	if (merge_is_late(job->clock))
		return MERGE_TOO_SLOW;
	err = align_side(&job->b, &job->p, &job->in_p);
	if (!err)
		err = align_side(&job->b, &job->q, &job->in_q);
	if (err == MERGE_OVERLAP)
		return overlap(job, 0, "could not compare");
	if (!err)
		err = check_removed(job);
	for (uint32_t i = 0; !err && i <= job->b.count; i++) {
		if (merge_is_late(job->clock))
			return MERGE_TOO_SLOW;
		put_added(job, i, job->q_first);
		put_added(job, i, !job->q_first);
		if (i < job->b.count)
			err = put_element(job, i);
	}
	return err;
}

int merge_array(const struct jtree *basis, uint32_t b, const struct jtree *p_tree, uint32_t p,
	const struct jtree *q_tree, uint32_t q, bool q_first, struct merge_clock *clock,
	struct merge_array *ret_array)
{
	__attribute__((cleanup(job_deinit))) struct job job = {
		.b = array_of(basis, b),
		.p = array_of(p_tree, p),
		.q = array_of(q_tree, q),
		.q_first = q_first,
		.clock = clock,
		.result = ret_array,
	};

	*ret_array = (struct merge_array){
		.list = malloc((job.p.count + job.q.count + 1) * sizeof(*ret_array->list))};
	return ret_array->list ? merge_elements(&job) : -ENOMEM;
}
