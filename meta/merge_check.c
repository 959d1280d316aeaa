/*
 * Checks a merge of JSON by what it must be, whichever way it was made: each value by the three it comes from, the elements
 * of an array by how often each is in the four.
 */
#include <errno.h>
#include <string.h>

#include "meta/merge_kind.h"

enum { BASIS, STAGED, HEAD, RESULT, TREES };

struct check {
	const struct jtree *trees[TREES];
};

/* A value of each tree; JTREE_NONE: it has none there. */
struct four {
	uint32_t ids[TREES];
};

static int check_value(const struct check *check, const struct four *four, bool *right);

static bool same(const struct check *check, const struct four *four, int a, int b)
{
	if (four->ids[a] == JTREE_NONE || four->ids[b] == JTREE_NONE)
		return four->ids[a] == four->ids[b];
	return jtree_equal(check->trees[a], four->ids[a], check->trees[b], four->ids[b]);
}

static const struct jnode *node_of(const struct check *check, const struct four *four, int tree)
{
	return four->ids[tree] == JTREE_NONE ? NULL
					     : jtree_node(check->trees[tree], four->ids[tree]);
}

static bool is_type(
	const struct check *check, const struct four *four, int tree, enum jtree_type type)
{
	const struct jnode *node = node_of(check, four, tree);

	return node && node->type == type;
}

static int by_hash(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The hashes of the elements, sorted; the caller frees them. */
static int hashes_of(const struct jtree *tree, uint32_t id, uint64_t **ret_hashes)
{
	uint32_t count = jtree_node(tree, id)->count;
	uint64_t *hashes = malloc((count + 1) * sizeof(*hashes));

	if (!hashes)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		hashes[i] = jtree_node(tree, jtree_kid(tree, id, i))->hash;
	qsort(hashes, count, sizeof(*hashes), by_hash);
	*ret_hashes = hashes;
	return 0;
}

/* How often an element may be there: each change of a side counts, equal ones together or each. */
static bool is_count_right(const int64_t counts[TREES])
{
	int64_t staged = counts[STAGED] - counts[BASIS], head = counts[HEAD] - counts[BASIS];
	int64_t both = staged + head, result = counts[RESULT] - counts[BASIS];
	int64_t least = both, most = both;

	if (staged > 0 && head > 0)
		least = staged > head ? staged : head;
	if (staged < 0 && head < 0)
		most = staged < head ? staged : head;
	return result >= least && result <= most;
}

static int check_elements(const struct check *check, const struct four *four, bool *right)
{
	uint64_t *hashes[TREES] = {0};
	uint32_t at[TREES] = {0};
	int err = 0;

	for (int i = 0; i < TREES && !err; i++)
		err = hashes_of(check->trees[i], four->ids[i], &hashes[i]);
	while (!err && *right) {
		int64_t counts[TREES] = {0};
		uint64_t least = UINT64_MAX;
		bool more = false;

		for (int i = 0; i < TREES; i++)
			if (at[i] < node_of(check, four, i)->count) {
				more = true;
				least = hashes[i][at[i]] < least ? hashes[i][at[i]] : least;
			}
		if (!more)
			break;
		for (int i = 0; i < TREES; i++)
			for (; at[i] < node_of(check, four, i)->count && hashes[i][at[i]] == least;
				at[i]++)
				counts[i]++;
		*right = is_count_right(counts);
	}
	for (int i = 0; i < TREES; i++)
		free(hashes[i]);
	return err;
}

/* Checks the members that a tree has, and those before it have not. */
static int check_members(const struct check *check, const struct four *four, int tree, bool *right)
{
	const struct jnode *node = node_of(check, four, tree);
	int err = 0;

	for (uint32_t i = 0; i < node->count && !err && *right; i++) {
		uint32_t id = jtree_kid(check->trees[tree], four->ids[tree], i);
		struct four kids;

		for (int j = 0; j < TREES; j++)
			kids.ids[j] =
				jtree_find(check->trees[j], four->ids[j], check->trees[tree], id);
		if ((tree > STAGED && kids.ids[STAGED] != JTREE_NONE) ||
			(tree > HEAD && kids.ids[HEAD] != JTREE_NONE))
			continue;
		err = check_value(check, &kids, right);
	}
	return err;
}

static int check_object(const struct check *check, const struct four *four, bool *right)
{
	int err;

	err = check_members(check, four, STAGED, right);
	if (!err)
		err = check_members(check, four, HEAD, right);
	if (!err)
		err = check_members(check, four, RESULT, right);
	return err;
}

/* Sets *right to false when it is not. */
static int check_value(const struct check *check, const struct four *four, bool *right)
{
	bool all_objects = true, all_arrays = true;

	for (int i = 0; i < TREES; i++) {
		all_objects &= is_type(check, four, i, JTREE_OBJECT) ||
			       (i == BASIS && four->ids[i] == JTREE_NONE);
		all_arrays &= is_type(check, four, i, JTREE_ARRAY);
	}
	if (same(check, four, STAGED, BASIS))
		*right = same(check, four, RESULT, HEAD);
	else if (same(check, four, HEAD, BASIS))
		*right = same(check, four, RESULT, STAGED);
	else if (all_objects)
		return check_object(check, four, right);
	else if (all_arrays)
		return check_elements(check, four, right);
	else
		*right = same(check, four, STAGED, HEAD) && same(check, four, RESULT, HEAD);
	return 0;
}

int merge_json_check(const struct jtree *basis, const struct jtree *staged,
	const struct jtree *head, const struct jtree *result, bool *ret_right)
{
	struct check check = {{basis, staged, head, result}};
	struct four roots = {{basis->root, staged->root, head->root, result->root}};
	bool right = true;
	int err;

	err = check_value(&check, &roots, &right);
	if (!err)
		*ret_right = right;
	return err;
}
