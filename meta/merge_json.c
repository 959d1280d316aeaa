/*
 * Merging JSON by structure, written as the sides wrote it. One side, p, gives the layout: the order of keys, the white space
 * between values, the spelling of all that the other, q, did not change. What q changed or added is copied from q.
 *
 * p is the head, unless staged has the values of the basis and is only written differently.
 *
 *   merge_value: one did not change it: the other's. Objects: by members, arrays: by elements (merge_array.c).
 *                Both to the same: once, where that may count once. Else an overlap.
 *   objects:     the members of p without those that q removed; those that q added follow their left neighbour, and what p
 *                added there.
 *   white space: a container keeps that of p. An added item begins as its neighbours in p do, or as in q when p has none; the lines
 *                within it are indented as its first one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "meta/merge_kind.h"

struct job {
	const struct jtree *b, *p, *q;
	bool q_first; /* q is the head */
	struct merge_clock *clock;
	FILE *out;
	size_t spare; /* bytes that indenting may still add */
	struct diag *reason;
};

/* Where in the tree we are. */
struct path {
	const struct path *up;
	const struct jtree *tree; /* NULL: an element, by its index */
	uint32_t id, index;
};

/* What becomes of a member or element: that of p, in its place; what it holds is p's, q's, or made from both. */
struct item {
	uint32_t b, p, q; /* JTREE_NONE: none */
	enum { FROM_P, FROM_Q, FROM_BOTH, GONE } from;
};

static int merge_value(struct job *job, const struct path *path, const struct item *item);

/* "a.b[2].c"; cut when it is long */
static int overlap(struct job *job, const struct path *path, const char *how)
{
	const struct path *steps[JTREE_MAX_DEPTH + 1];
	char text[200] = "";
	size_t count = 0, length = 0;

	if (!path)
		return diag_set(job->reason, MERGE_OVERLAP, "%s the value", how);
	for (; path && count < ARRAY_SIZE(steps); path = path->up)
		steps[count++] = path;
	for (; count > 0 && length < sizeof(text); count--) {
		const struct path *step = steps[count - 1];
		const struct jnode *node = step->tree ? jtree_node(step->tree, step->id) : NULL;

		length +=
			node ? snprintf(text + length, sizeof(text) - length, "%s%.*s",
				       length ? "." : "", (int)(node->key_end - node->key - 2),
				       step->tree->text + node->key + 1)
			     : snprintf(text + length, sizeof(text) - length, "[%u]", step->index);
	}
	if (length >= sizeof(text)) {
		for (length = sizeof(text) - 1; length > 0 && (text[length - 1] & 0xc0) == 0x80;)
			length--; /* no half of a character */
		text[length ? length - 1 : 0] = '\0';
		return diag_set(job->reason, MERGE_OVERLAP, "%s \"%s…\"", how, text);
	}
	return diag_set(job->reason, MERGE_OVERLAP, "%s \"%s\"", how, text);
}

static bool is_type(const struct jtree *tree, uint32_t id, enum jtree_type type)
{
	return id != JTREE_NONE && jtree_node(tree, id)->type == type;
}

/*
 * Writing
 */

static void put(struct job *job, const char *text, size_t size)
{
	fwrite_unlocked(text, 1, size, job->out);
}

static void put_span(struct job *job, struct jspan span)
{
	put(job, span.at, span.size);
}

static bool has_line_end(struct jspan span)
{
	return span.size && memchr(span.at, '\n', span.size);
}

static bool spans_equal(struct jspan a, struct jspan b)
{
	return a.size == b.size && memcmp(a.at, b.at, a.size) == 0;
}

/* Writes a part of a text, whose lines after the first are moved from one indentation to another. */
static void put_indented(struct job *job, struct jspan part, struct jspan from, struct jspan to)
{
	const char *end = part.at + part.size, *line;

	if (spans_equal(from, to)) {
		put_span(job, part);
		return;
	}
	while ((line = memchr(part.at, '\n', end - part.at))) {
		line++;
		put(job, part.at, line - part.at);
		part.at = line;
		if (job->spare < to.size || (size_t)(end - line) < from.size ||
			memcmp(line, from.at, from.size) != 0)
			continue;
		job->spare -= to.size;
		put_span(job, to);
		part.at += from.size;
	}
	put(job, part.at, end - part.at);
}

/* What follows the last line end of white space. */
static struct jspan last_indent(struct jspan space)
{
	const char *line = (const char *)memrchr(space.at, '\n', space.size) + 1;

	return (struct jspan){line, space.size - (line - space.at)};
}

static struct jspan span_of(const struct jtree *tree, uint32_t from, uint32_t to)
{
	return (struct jspan){tree->text + from, to - from};
}

static struct jspan space_after(const struct jtree *tree, uint32_t from)
{
	struct jspan space = {tree->text + from, 0};

	while (from + space.size < tree->size &&
		(space.at[space.size] == ' ' || space.at[space.size] == '\t'))
		space.size++;
	return space;
}

/* The white space after a comma in a line, in a text that may have none. */
static struct jspan default_separator(const struct job *job)
{
	const struct jtree *trees[] = {job->p, job->q};

	for (size_t i = 0; i < ARRAY_SIZE(trees); i++)
		if (trees[i]->separator)
			return space_after(trees[i], trees[i]->separator);
	if (job->p->colon)
		return space_after(job->p, job->p->colon);
	return (struct jspan){" ", 1};
}

static bool is_first(const struct jtree *tree, uint32_t container, uint32_t id)
{
	return jtree_kid(tree, container, 0) == id;
}

static bool is_last(const struct jtree *tree, uint32_t container, uint32_t id)
{
	return jtree_kid(tree, container, jtree_node(tree, container)->count - 1) == id;
}

/* What is before an item that is not the first, in a container that is not empty. */
static struct jspan usual_lead(const struct job *job, const struct jtree *tree, uint32_t container)
{
	struct jspan lead;

	if (jtree_node(tree, container)->count > 1)
		return jtree_lead(tree, jtree_kid(tree, container, 1));
	lead = jtree_lead(tree, jtree_kid(tree, container, 0));
	return has_line_end(lead) ? lead : default_separator(job);
}

/* What is before an item that comes after the item before (JTREE_NONE: is the first), in a container of p that is not empty. */
static struct jspan lead_in_p(const struct job *job, uint32_t container, const struct item *item,
	const struct item *before)
{
	struct jspan lead;

	if (!before)
		return jtree_lead(job->p, jtree_kid(job->p, container, 0));
	if (item->p != JTREE_NONE && !is_first(job->p, container, item->p))
		return jtree_lead(job->p, item->p);
	if (before->p != JTREE_NONE && !is_first(job->p, container, before->p))
		return jtree_lead(job->p, before->p);
	lead = usual_lead(job, job->p, container);
	if (jtree_node(job->p, container)->count == 1 && !has_line_end(lead) &&
		item->p == JTREE_NONE) {
		struct jspan own = jtree_lead(job->q, item->q);

		if (own.size && !has_line_end(own))
			return own;
	}
	return lead;
}

/* A member (its key, too) or element that is in q only, with the indentation to give it. */
static void put_added(struct job *job, uint32_t q, struct jspan indent)
{
	put_indented(job, span_of(job->q, jtree_item_start(job->q, q), jtree_node(job->q, q)->end),
		jtree_indent(job->q, q), indent);
}

/* A value of q in the place of one of p. */
static void put_changed(struct job *job, uint32_t p, uint32_t q)
{
	const struct jnode *node = jtree_node(job->q, q);

	put_indented(job, span_of(job->q, node->start, node->end), jtree_indent(job->q, q),
		jtree_indent(job->p, p));
}

static void put_kept(struct job *job, uint32_t p)
{
	const struct jnode *node = jtree_node(job->p, p);

	put_span(job, span_of(job->p, node->start, node->end));
}

/* Writes items into the container p, which is not empty. */
static int put_items(struct job *job, const struct path *path, uint32_t p, const struct item *items,
	uint32_t count)
{
	bool object = is_type(job->p, p, JTREE_OBJECT);
	int err = 0;

	for (uint32_t i = 0; i < count && !err; i++) {
		const struct item *item = &items[i];
		struct jspan lead = lead_in_p(job, p, item, i ? item - 1 : NULL);
		struct path step = {path, object ? job->p : NULL, item->p, i};

		if (merge_is_late(job->clock))
			return merge_too_slow(job->reason);
		put(job, ",", i > 0);
		put_span(job, lead);
		if (item->p == JTREE_NONE) {
			put_added(job, item->q,
				has_line_end(lead) ? last_indent(lead) : jtree_indent(job->p, p));
			continue;
		}
		put_span(job, span_of(job->p, jtree_item_start(job->p, item->p),
				      jtree_node(job->p, item->p)->start));
		if (item->from == FROM_BOTH)
			err = merge_value(job, &step, item);
		else if (item->from == FROM_Q)
			put_changed(job, item->p, item->q);
		else
			put_kept(job, item->p);
		if (i + 1 < count && !is_last(job->p, p, item->p))
			put_span(job, jtree_trail(job->p, item->p));
	}
	return err;
}

/* Writes items of q into the container p, which is empty: in the layout of q, indented as p is. */
static void put_items_as_q(
	struct job *job, uint32_t p, uint32_t q, const struct item *items, uint32_t count)
{
	struct jspan from = jtree_indent(job->q, q), to = jtree_indent(job->p, p), lead;

	for (uint32_t i = 0; i < count; i++) {
		if (i == 0)
			lead = jtree_lead(job->q, jtree_kid(job->q, q, 0));
		else if (is_first(job->q, q, items[i].q))
			lead = usual_lead(job, job->q, q);
		else
			lead = jtree_lead(job->q, items[i].q);
		put(job, ",", i > 0);
		put_indented(job, lead, from, to);
		put_indented(job,
			span_of(job->q, jtree_item_start(job->q, items[i].q),
				jtree_node(job->q, items[i].q)->end),
			from, to);
	}
	put_indented(job, jtree_closing(job->q, q), from, to);
}

/* Writes the container that p and q became. */
static int put_container(struct job *job, const struct path *path, uint32_t p, uint32_t q,
	const struct item *items, uint32_t count)
{
	const struct jnode *node = jtree_node(job->p, p);
	int err = 0;

	put(job, job->p->text + node->start, 1);
	if (count && !node->count) {
		put_items_as_q(job, p, q, items, count);
	} else if (count) {
		err = put_items(job, path, p, items, count);
		put_span(job, jtree_closing(job->p, p));
	}
	put(job, job->p->text + node->end - 1, 1);
	return err;
}

/*
 * Merging
 */

struct added {
	uint32_t after, order; /* so many members of p */
	uint32_t q;
};

struct object {
	struct item *members; /* of p */
	uint32_t *anchors;    /* what goes behind i members of p goes behind anchors[i] of them */
	struct added *added;
	uint32_t added_count;
	struct item *items;
};

static void object_deinit(struct object *object)
{
	free(object->members);
	free(object->anchors);
	free(object->added);
	free(object->items);
}

/* The index of a member; ids ascend in a container. */
static uint32_t index_of(const struct jtree *tree, uint32_t container, uint32_t id)
{
	uint32_t low = 0, high = jtree_node(tree, container)->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (jtree_kid(tree, container, middle) < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int overlap_removed(
	struct job *job, const struct path *path, const struct jtree *tree, uint32_t id)
{
	return overlap(job, &(struct path){path, tree, id, 0}, "one removed and the other changed");
}

/* What becomes of the members of p. */
static int find_members(
	struct job *job, const struct path *path, const struct item *of, struct object *object)
{
	uint32_t count = jtree_node(job->p, of->p)->count;

	for (uint32_t i = 0; i < count; i++) {
		struct item *member = &object->members[i];
		uint32_t id = jtree_kid(job->p, of->p, i);

		if (merge_is_late(job->clock))
			return merge_too_slow(job->reason);
		*member = (struct item){
			.b = jtree_find(job->b, of->b, job->p, id),
			.p = id,
			.q = jtree_find(job->q, of->q, job->p, id),
		};
		if (member->q != JTREE_NONE)
			member->from = FROM_BOTH;
		else if (member->b == JTREE_NONE)
			member->from = FROM_P;
		else if (jtree_equal(job->b, member->b, job->p, id))
			member->from = GONE;
		else
			return overlap_removed(job, path, job->p, id);
	}
	object->anchors[count] = count;
	for (uint32_t i = count; i-- > 0;)
		object->anchors[i] = object->members[i].from == FROM_P ? object->anchors[i + 1] : i;
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct added *x = a, *y = b;

	if (x->after != y->after)
		return x->after < y->after ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

/* The members that q added, in the order of their places. */
static int find_added(
	struct job *job, const struct path *path, const struct item *of, struct object *object)
{
	uint32_t count = jtree_node(job->q, of->q)->count, after = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t id = jtree_kid(job->q, of->q, i);
		uint32_t in_p = jtree_find(job->p, of->p, job->q, id);
		uint32_t in_b = jtree_find(job->b, of->b, job->q, id);

		if (merge_is_late(job->clock))
			return merge_too_slow(job->reason);
		if (in_p != JTREE_NONE)
			after = index_of(job->p, of->p, in_p) + 1;
		else if (in_b == JTREE_NONE)
			object->added[object->added_count++] =
				(struct added){object->anchors[after], i, id};
		else if (!jtree_equal(job->b, in_b, job->q, id))
			return overlap_removed(job, path, job->q, id);
	}
	qsort(object->added, object->added_count, sizeof(*object->added), by_place);
	return 0;
}

static int merge_object(struct job *job, const struct path *path, const struct item *of)
{
	uint32_t p_count = jtree_node(job->p, of->p)->count;
	uint32_t q_count = jtree_node(job->q, of->q)->count;
	__attribute__((cleanup(object_deinit))) struct object object = {
		.members = malloc((p_count + 1) * sizeof(*object.members)),
		.anchors = malloc((p_count + 1) * sizeof(*object.anchors)),
		.added = malloc((q_count + 1) * sizeof(*object.added)),
		.items = malloc((p_count + q_count + 1) * sizeof(*object.items)),
	};
	const struct added *next = object.added;
	uint32_t count = 0;
	int err;

	if (!object.members || !object.anchors || !object.added || !object.items)
		return -ENOMEM;
	err = find_members(job, path, of, &object);
	if (!err)
		err = find_added(job, path, of, &object);
	if (err)
		return err;
	for (uint32_t i = 0; i <= p_count; i++) {
		for (; next < object.added + object.added_count && next->after == i; next++)
			object.items[count++] =
				(struct item){JTREE_NONE, JTREE_NONE, next->q, FROM_Q};
		if (i < p_count && object.members[i].from != GONE)
			object.items[count++] = object.members[i];
	}
	return put_container(job, path, of->p, of->q, object.items, count);
}

static int merge_elements(struct job *job, const struct path *path, const struct item *of)
{
	struct merge_array array = {0};
	autofree struct item *items = NULL;
	int err;

	err = merge_array(
		job->b, of->b, job->p, of->p, job->q, of->q, job->q_first, job->clock, &array);
	if (!err) {
		items = malloc((array.count + 1) * sizeof(*items));
		err = items ? 0 : -ENOMEM;
	}
	for (uint32_t i = 0; !err && i < array.count; i++) {
		uint32_t p = array.list[i].p, q = array.list[i].q;

		items[i] = (struct item){JTREE_NONE, p, q, q == JTREE_NONE ? FROM_P : FROM_Q};
	}
	free(array.list);
	if (err == MERGE_OVERLAP)
		return overlap(job, &(struct path){path, NULL, 0, array.overlap}, array.how);
	if (err == MERGE_TOO_SLOW)
		return merge_too_slow(job->reason);
	return err ? err : put_container(job, path, of->p, of->q, items, array.count);
}

static bool is_written_same(const struct job *job, uint32_t b, uint32_t p)
{
	const struct jnode *x = jtree_node(job->b, b), *y = jtree_node(job->p, p);

	return spans_equal(span_of(job->b, x->start, x->end), span_of(job->p, y->start, y->end));
}

static int merge_value(struct job *job, const struct path *path, const struct item *item)
{
	uint32_t b = item->b, p = item->p, q = item->q;

	if (b != JTREE_NONE && jtree_equal(job->b, b, job->q, q)) {
		put_kept(job, p);
		return 0;
	}
	/* a container that p only wrote differently is gone through, to stay so */
	if (b != JTREE_NONE && jtree_equal(job->b, b, job->p, p) &&
		(is_written_same(job, b, p) ||
			jtree_node(job->p, p)->type != jtree_node(job->q, q)->type ||
			jtree_node(job->p, p)->type < JTREE_ARRAY)) {
		put_changed(job, p, q);
		return 0;
	}
	if (is_type(job->p, p, JTREE_OBJECT) && is_type(job->q, q, JTREE_OBJECT) &&
		(b == JTREE_NONE || is_type(job->b, b, JTREE_OBJECT)))
		return merge_object(job, path, item);
	if (is_type(job->p, p, JTREE_ARRAY) && is_type(job->q, q, JTREE_ARRAY) &&
		is_type(job->b, b, JTREE_ARRAY))
		return merge_elements(job, path, item);
	if (!jtree_equal(job->p, p, job->q, q) || !merge_agrees(job->b, b, job->p, p))
		return overlap(job, path, b == JTREE_NONE ? "both added" : "both changed");
	put_kept(job, p);
	return 0;
}

/* What is before and after the value of a whole text: who changed it has it. */
static void put_around(struct job *job, bool after)
{
	const struct jtree *trees[] = {job->b, job->p, job->q};
	struct jspan spans[3];

	for (size_t i = 0; i < ARRAY_SIZE(trees); i++) {
		const struct jnode *root = jtree_node(trees[i], trees[i]->root);

		spans[i] = after ? span_of(trees[i], root->end, (uint32_t)trees[i]->size)
				 : span_of(trees[i], 0, root->start);
	}
	put_span(job, spans_equal(spans[0], spans[1]) ? spans[2] : spans[1]);
}

static int merge_roots(struct job *job)
{
	struct item root = {job->b->root, job->p->root, job->q->root, FROM_BOTH};
	int err;

	put_around(job, false);
	err = merge_value(job, NULL, &root);
	put_around(job, true);
	return err;
}

static int verify(const struct job *job, const struct jtree *staged, const struct jtree *head,
	const char *data, size_t size)
{
	autojtree struct jtree *result = NULL;
	bool right = false;
	int err;

	err = jtree_parse(data, size, &result);
	if (err == JTREE_TOO_LARGE)
		return merge_too_many_values(job->reason);
	if (!err && !result->duplicate_keys)
		err = merge_json_check(job->b, staged, head, result, &right);
	if (err < 0)
		return err;
	return right ? 0 : merge_unverified(job->reason);
}

int merge_json(const struct jtree *basis, const struct jtree *staged, const struct jtree *head,
	struct merge_clock *clock, char **ret_data, size_t *ret_size, struct diag *ret_reason)
{
	bool swap = jtree_equal(basis, basis->root, staged, staged->root);
	struct job job = {
		.b = basis,
		.p = swap ? staged : head,
		.q = swap ? head : staged,
		.q_first = swap,
		.clock = clock,
		.spare = staged->size + head->size,
		.reason = ret_reason,
	};
	autofree char *data = NULL;
	size_t size = 0;
	int err;

	job.out = open_memstream(&data, &size);
	if (!job.out)
		return -ENOMEM;
	err = merge_roots(&job);
	if (fclose(job.out) && !err)
		err = -ENOMEM;
	if (!err)
		err = verify(&job, staged, head, data, size);
	if (err)
		return err;
	*ret_data = data;
	*ret_size = size;
	data = NULL;
	return 0;
}
