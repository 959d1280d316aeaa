#include "meta/merge.h"

#include <errno.h>
#include <string.h>

#include "meta/merge_kind.h"

static bool same(const struct merge_input *a, const struct merge_input *b)
{
	return a->size == b->size && (!a->size || memcmp(a->data, b->data, a->size) == 0);
}

static int copy_of(const struct merge_input *content, char **ret_data, size_t *ret_size)
{
	char *data = malloc(content->size + 1);

	if (!data)
		return -ENOMEM;
	if (content->size)
		memcpy(data, content->data, content->size);
	*ret_data = data;
	*ret_size = content->size;
	return 0;
}

static bool is_utf8(const unsigned char *s, size_t size)
{
	size_t length;

	for (size_t i = 0; i < size; i += length) {
		length = s[i] < 0x80 ? 1 : jtree_utf8_length(s + i, size - i);
		if (!length)
			return false;
	}
	return true;
}

/* No NUL; and either UTF-8, or without control characters, as texts in older encodings are. */
static bool is_binary(const struct merge_input *content)
{
	const unsigned char *s = (const unsigned char *)content->data;

	if (!content->size)
		return false;
	if (memchr(s, 0, content->size))
		return true;
	if (is_utf8(s, content->size))
		return false;
	for (size_t i = 0; i < content->size; i++)
		if (s[i] < 0x20 && !(s[i] >= '\b' && s[i] <= '\r') && s[i] != 0x1b)
			return true;
	return false;
}

/* Parses a content. *ret_tree stays NULL when it is not JSON. */
static int parse(
	const struct merge_input *content, struct jtree **ret_tree, struct diag *ret_reason)
{
	int err = jtree_parse(content->size ? content->data : "", content->size, ret_tree);

	if (err == JTREE_INVALID)
		return 0;
	if (err == JTREE_TOO_LARGE)
		return merge_too_many_values(ret_reason);
	return err;
}

static bool is_structured(const struct jtree *tree)
{
	return tree && !tree->duplicate_keys;
}

/* Lines that do not overlap may still not be JSON any more together, or have a key twice. */
static int check_still_json(
	const char *data, size_t size, bool may_have_duplicate_keys, struct diag *ret_reason)
{
	autojtree struct jtree *result = NULL;
	int err = parse(&(struct merge_input){data, size}, &result, ret_reason);

	if (err)
		return err;
	if (!result || (result->duplicate_keys && !may_have_duplicate_keys))
		return diag_set(
			ret_reason, MERGE_OVERLAP, "both changed lines that together are no JSON");
	return 0;
}

static int merge_parsed(const struct merge_input *basis, const struct merge_input *staged,
	const struct merge_input *head, struct merge_clock *clock, char **ret_data,
	size_t *ret_size, struct diag *ret_reason)
{
	autojtree struct jtree *b = NULL, *s = NULL, *h = NULL;
	autofree char *data = NULL;
	size_t size = 0;
	int err;

	err = parse(staged, &s, ret_reason);
	if (!err && s)
		err = parse(head, &h, ret_reason);
	if (!err && h)
		err = parse(basis, &b, ret_reason);
	if (err)
		return err;
	if (is_structured(b) && is_structured(s) && is_structured(h))
		return merge_json(b, s, h, clock, ret_data, ret_size, ret_reason);

	err = merge_text(basis, staged, head, clock, &data, &size, ret_reason);
	if (!err && s && h)
		err = check_still_json(
			data, size, s->duplicate_keys || h->duplicate_keys, ret_reason);
	if (err)
		return err;
	*ret_data = data;
	*ret_size = size;
	data = NULL;
	return 0;
}

int merge_contents(const struct merge_input *basis, const struct merge_input *staged,
	const struct merge_input *head, const struct merge_limits *limits, char **ret_data,
	size_t *ret_size, struct diag *ret_reason)
{
	size_t max = limits && limits->max_bytes ? limits->max_bytes : MERGE_DEFAULT_MAX_BYTES;
	struct merge_clock clock = {
		.end_ms = time_mono_ms() +
			  (limits && limits->max_ms ? limits->max_ms : MERGE_DEFAULT_MAX_MS),
	};

	if (same(basis, head))
		return copy_of(staged, ret_data, ret_size);
	if (same(basis, staged))
		return copy_of(head, ret_data, ret_size);
	if (basis->size > max || staged->size > max || head->size > max)
		return diag_set(ret_reason, MERGE_TOO_LARGE, "larger than %zu KiB", max >> 10);
	if (is_binary(basis) || is_binary(staged) || is_binary(head))
		return diag_set(ret_reason, MERGE_BINARY, "not a text");
	return merge_parsed(basis, staged, head, &clock, ret_data, ret_size, ret_reason);
}
