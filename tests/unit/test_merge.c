#include "tests/unit/fixture.h"

#include <jansson.h>

#include "meta/jtree.h"
#include "meta/lines.h"
#include "meta/merge.h"

/* merged: the result; NULL: an overlap, with this reason */
struct example {
	const char *basis, *staged, *head, *merged, *reason;
};

static struct merge_input input(const char *text)
{
	return (struct merge_input){text, strlen(text)};
}

/* The contents are copied to memory of just their size, for the sanitizers. */
static int merge_sized(const struct merge_input contents[3], const struct merge_limits *limits,
	char **ret_data, size_t *ret_size, struct diag *ret_reason)
{
	struct merge_input copies[3];
	int result;

	for (int i = 0; i < 3; i++) {
		char *copy = malloc(contents[i].size);

		memcpy(copy, contents[i].data, contents[i].size);
		copies[i] = (struct merge_input){copy, contents[i].size};
	}
	result = merge_contents(
		&copies[0], &copies[1], &copies[2], limits, ret_data, ret_size, ret_reason);
	for (int i = 0; i < 3; i++)
		free((char *)copies[i].data);
	return result;
}

static void check(const struct example *e)
{
	struct merge_input contents[3] = {input(e->basis), input(e->staged), input(e->head)};
	autofree char *data = NULL;
	struct diag reason = {{0}};
	size_t size = 0;
	int result = merge_sized(contents, NULL, &data, &size, &reason);

	if (result < 0)
		fail_msg("error %d", result);
	if (!e->merged) {
		if (result != MERGE_OVERLAP)
			fail_msg("%s | %s | %s: not an overlap (%d), but \"%.*s\"", e->basis,
				e->staged, e->head, result, (int)size, result ? "" : data);
		assert_null(data);
		assert_string_equal(reason.text, e->reason);
		return;
	}
	if (result)
		fail_msg("%s | %s | %s: %d, %s", e->basis, e->staged, e->head, result, reason.text);
	if (size != strlen(e->merged) || memcmp(data, e->merged, size) != 0)
		fail_msg("%s | %s | %s: not \"%s\", but \"%.*s\"", e->basis, e->staged, e->head,
			e->merged, (int)size, data);
}

#define CHECK_ALL(examples)                                                                        \
	for (size_t i = 0; i < ARRAY_SIZE(examples); i++)                                          \
	check(&(examples)[i])

/*
 * Lines
 */

static void lines_of_both_sides_are_merged(void **state)
{
	static const struct example examples[] = {
		{"a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n", "A\nb\nC\n", NULL},
		{"a\nb\nc\n", "a\nb\nc\nd\n", "x\na\nb\nc\n", "x\na\nb\nc\nd\n", NULL},
		{"a\nb\nc\nd\n", "b\nc\nd\n", "a\nb\nc\n", "b\nc\n", NULL},
		{"a\nb\nc\n", "x\nb\nc\n", "x\nb\ny\n", "x\nb\ny\n", NULL},
		{"a\nb\nc\n", "a\nB\nc\n", "a\nX\nc\n", NULL, "both changed line 2"},
		{"a\nb\nc\n", "a\nc\n", "a\nX\nc\n", NULL, "both changed line 2"},
		{"a\nb\nc\nd\n", "a\nx\ny\nd\n", "a\n1\n2\n3\nd\n", NULL,
			"both changed lines 2 to 4"},
		{"a\nb\nc\nd\n", "a\nB\nc\nd\n", "a\nb\nC\nd\n", NULL, "both changed lines 2 to 3"},
		{"x", "x", "y", "y", NULL},
		{"x", "y", "x", "y", NULL},
		{"x", "y", "y", "y", NULL},
		{"x\n", "", "", "", NULL},
		{"x\n", "", "y\n", NULL, "both changed line 1"},
	};

	(void)state;
	CHECK_ALL(examples);
}

static void lines_added_at_the_end_are_all_kept(void **state)
{
	static const struct example examples[] = {
		{"a\n", "a\nx\n", "a\ny\n", "a\ny\nx\n", NULL},
		{"a\n", "a\nx\n", "a\nx\n", "a\nx\nx\n", NULL},
		{"a\n", "a\n1\n2\n", "a\n1\n", "a\n1\n1\n2\n", NULL},
		{"a\nb\n", "A\nb\nx\n", "a\nb\nx\n", "A\nb\nx\nx\n", NULL},
		{"a\nb\nc\n", "A\nb\nc\nx\n", "A\nb\nc\ny\n", "A\nb\nc\ny\nx\n", NULL},
		{"x\n", "x\nx\n", "x\nx\n", "x\nx\nx\n", NULL},
		{"", "x\n", "y\n", "y\nx\n", NULL},
		{"", "x", "x", "x\nx", NULL},
		/* a log that loses its first line */
		{"a\nb\nc\n", "b\nc\nx\n", "b\nc\ny\n", "b\nc\ny\nx\n", NULL},
		/* the same change, or two lines added? */
		{"a\nb\n", "a\nB\nx\n", "a\nB\nx\n", NULL, "both changed the end, lines 2 to 3"},
		/* a line that both moved to the end */
		{"b\na\nc\n", "a\nc\nb\n", "a\nc\nb\n", NULL, "both moved line 3"},
	};

	(void)state;
	CHECK_ALL(examples);
}

static void line_ends_stay(void **state)
{
	static const struct example examples[] = {
		{"a\nb\nc", "A\nb\nc", "a\nb\nC", "A\nb\nC", NULL},
		{"a\nb\nc\n", "a\nb\nc", "A\nb\nc\n", "A\nb\nc", NULL},
		{"a\nb\nc", "a\nb\nc\n", "A\nb\nc", "A\nb\nc\n", NULL},
		{"a", "a\r\n", "b", "b\r\n", NULL},
		{"a", "a\nx", "a\ny", "a\ny\nx", NULL},
		{"a", "a\nx\n", "a\ny", "a\ny\nx\n", NULL},
		{"a", "a\nx", "a\ny\n", "a\ny\nx", NULL},
		{"a\r\nb\r\nc\r\n", "A\r\nb\r\nc\r\n", "a\r\nb\r\nC\r\n", "A\r\nb\r\nC\r\n", NULL},
		{"a\r\nb\nc\r\n", "A\nb\nc\r\n", "a\r\nb\nC\n", "A\nb\nC\n", NULL},
		{"a\r\nb", "a\r\nb\r\nx", "a\r\nb\r\ny", "a\r\nb\r\ny\r\nx", NULL},
		{"a", "a\r\nx", "a\r\ny", "a\r\ny\r\nx", NULL},
		{"a\nm\nb\r", "A\nm\nb\r", "a\nm\nb\rc", "A\nm\nb\rc", NULL},
		{"a\nm\nb\r", "A\nm\nb\r", "a\nB\nb\r", NULL, "both changed lines 1 to 2"},
		{"a\nm\nn\nb\r", "A\nm\nn\nb\r", "a\nm\nB\nb\r", "A\nm\nB\nb\r", NULL},
		{"\xef\xbb\xbf"
		 "a\nm\nb\n",
			"\xef\xbb\xbf"
			"a\nm\nB\n",
			"a\nm\nb\n", "a\nm\nB\n", NULL},
	};

	(void)state;
	CHECK_ALL(examples);
}

static void lines_that_count_are_not_merged(void **state)
{
	static const struct example examples[] = {
		{"count: 5\n", "count: 6\n", "count: 6\n", NULL,
			"both changed the number in line 1"},
		{"a\nn=9 x\nb\n", "a\nn=10 x\nb\n", "a\nn=10 x\nb\n", NULL,
			"both changed the number in line 2"},
		{"a\nn=9", "a\nn=10", "a\nn=10", NULL, "both changed the number in line 2"},
		{"-1 C\n", "0 C\n", "0 C\n", NULL, "both changed the number in line 1"},
		{"EUR 1.99\n", "EUR 2,000.00\n", "EUR 2,000.00\n", NULL,
			"both changed the number in line 1"},
		{"a\nn: \nb\n", "a\nn: 1\nb\n", "a\nn: 1\nb\n", NULL,
			"both changed the number in line 2"},
		{"a\n1 x\n2 y\nb\n", "a\n2 y\n2 x\nb\n", "a\n2 y\n2 x\nb\n", NULL,
			"both changed the number in line 3"},
		{"x 5\nx 6\n", "x 6\nx 6\n", "x 6\nx 6\n", NULL,
			"both changed the number in line 1"},
		/* other than in its number, too */
		{"a\nn: 1 day\nb\n", "a\nn: 2 days\nb\n", "a\nn: 2 days\nb\n", "a\nn: 2 days\nb\n",
			NULL},
		/* one only, and another number each */
		{"a 1\nx\nb 1\n", "a 2\nx\nb 1\n", "a 1\nx\nb 2\n", "a 2\nx\nb 2\n", NULL},
	};

	(void)state;
	CHECK_ALL(examples);
}

static void lines_that_make_no_json_are_not_merged(void **state)
{
	static const char no_json[] = "both changed lines that together are no JSON";
	static const struct example examples[] = {
		{"", "{\"a\": 1}\n", "{\"b\": 2}\n", NULL, no_json},
		{"", "1\n", "1\n", NULL, no_json},
		/* lines of JSON are no JSON */
		{"{}\n", "{}\n{\"a\": 1}\n", "{}\n{\"b\": 2}\n", "{}\n{\"b\": 2}\n{\"a\": 1}\n",
			NULL},
		/* duplicate keys: by lines */
		{"{\"a\":1,\n\"x\":1,\n\"a\":2}", "{\"a\":1,\n\"x\":1,\n\"a\":3}",
			"{\"a\":0,\n\"x\":1,\n\"a\":2}", "{\"a\":0,\n\"x\":1,\n\"a\":3}", NULL},
	};

	(void)state;
	CHECK_ALL(examples);
}

/*
 * JSON
 */

static void members_are_merged(void **state)
{
	static const struct example examples[] = {
		{"{\"a\":1,\"b\":2}", "{\"a\":3,\"b\":2}", "{\"a\":1,\"b\":4}", "{\"a\":3,\"b\":4}",
			NULL},
		{"{\"a\":{\"x\":1,\"y\":1}}", "{\"a\":{\"x\":2,\"y\":1}}",
			"{\"a\":{\"x\":1,\"y\":2}}", "{\"a\":{\"x\":2,\"y\":2}}", NULL},
		{"{\"a\":1,\"b\":2,\"c\":3}", "{\"b\":2,\"c\":3}", "{\"a\":1,\"b\":2}", "{\"b\":2}",
			NULL},
		{"{\"a\":1,\"b\":2}", "{\"b\":2}", "{\"b\":2}", "{\"b\":2}", NULL},
		{"{\"a\":1, \"b\":2}", "{\"b\":2}", "{\"a\":1}", "{}", NULL},
		{"{\"a\":1}", "{}", "{\"a\":2}", NULL, "one removed and the other changed \"a\""},
		{"{\"a\":1}", "{\"a\":2}", "{}", NULL, "one removed and the other changed \"a\""},
		{"{}", "{\"a\":true}", "{\"a\":true}", "{\"a\":true}", NULL},
		{"{}", "{\"a\":{\"x\":\"1\"}}", "{\"a\":{\"y\":\"2\"}}",
			"{\"a\":{\"y\":\"2\",\"x\":\"1\"}}", NULL},
		{"{}", "{\"a\":\"x\"}", "{\"a\":\"y\"}", NULL, "both added \"a\""},
		{"{\"a\":1}", "{\"a\":2}", "{\"a\":3}", NULL, "both changed \"a\""},
		{"{\"a\":[{\"b\":1}]}", "{\"a\":[{\"b\":2}]}", "{\"a\":[{\"b\":3}]}", NULL,
			"both changed \"a[0]\""},
		{"{\"a\":{\"b\":{\"c\":\"1\"}}}", "{\"a\":{\"b\":{\"c\":\"2\"}}}",
			"{\"a\":{\"b\":{\"c\":\"3\"}}}", NULL, "both changed \"a.b.c\""},
		{"{\"a\":{\"b\":1}}", "{\"a\":[]}", "{\"a\":{\"b\":2}}", NULL,
			"both changed \"a\""},
		{"{\"\":\"1\"}", "{\"\":\"2\"}", "{\"\":\"3\"}", NULL, "both changed \"\""},
		{"true", "false", "false", "false", NULL},
		{"null", "true", "false", NULL, "both changed the value"},
		/* the order of the head, what was added after its left neighbour */
		{"{\"a\":1,\"b\":2,\"c\":3}", "{\"a\":1,\"x\":0,\"b\":2,\"c\":3,\"z\":0}",
			"{\"c\":3,\"b\":2,\"a\":1,\"h\":0}",
			"{\"c\":3,\"z\":0,\"b\":2,\"a\":1,\"h\":0,\"x\":0}", NULL},
		{"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", "{\"a\":1,\"b\":3}", "{\"b\":3,\"a\":1}",
			NULL},
		/* keys are what they say */
		{"{\"\xc3\xa9\":1,\"b\":1}", "{\"\\u00e9\":2,\"b\":1}", "{\"\xc3\xa9\":1,\"b\":2}",
			"{\"\xc3\xa9\":2,\"b\":2}", NULL},
		{"{\"\\ud83d\\ude00\":1}", "{\"\xf0\x9f\x98\x80\":1,\"s\":1}",
			"{\"\\uD83D\\uDE00\":2}", "{\"\\uD83D\\uDE00\":2,\"s\":1}", NULL},
	};

	(void)state;
	CHECK_ALL(examples);
}

static void numbers_that_count_are_not_merged(void **state)
{
	static const struct example examples[] = {
		{"{\"n\":5}", "{\"n\":6}", "{\"n\":6}", NULL, "both changed \"n\""},
		{"5\n", "6\n", "6\n", NULL, "both changed the value"},
		{"{}", "{\"n\":1}", "{\"n\":1}", NULL, "both added \"n\""},
		{"{}", "{\"o\":{\"n\":1}}", "{\"o\":{\"n\":1}}", NULL, "both added \"o.n\""},
		{"{\"n\":null}", "{\"n\":1}", "{\"n\":1}", NULL, "both changed \"n\""},
		{"{\"n\":1}", "{\"n\":null}", "{\"n\":null}", NULL, "both changed \"n\""},
		{"[5,7]", "[6,7]", "[6,7]", NULL, "both changed \"[0]\""},
		{"[5,7]", "[6,7]", "[5,8]", "[6,8]", NULL},
		/* the same place, though it can be seen as removed and added */
		{"[1,2,3,0]", "[2,3,3,0]", "[2,3,3,0]", NULL, "both changed \"[0]\""},
		{"[1,2,3,0]", "[2,3,3,0]", "[1,9,3,0]", NULL, "both changed \"[1]\""},
		{"[1,2]", "[2,7]", "[2,8]", NULL, "both changed \"[0]\""},
	};

	(void)state;
	CHECK_ALL(examples);
}

static void elements_are_merged(void **state)
{
	static const struct example examples[] = {
		{"[1]", "[1,2]", "[1,3]", "[1,3,2]", NULL},
		{"[1]", "[1,2]", "[1,2]", "[1,2,2]", NULL},
		{"[1]", "[2,1]", "[3,1]", "[3,2,1]", NULL},
		{"[1,2]", "[1,7,2]", "[1,8,2]", "[1,8,7,2]", NULL},
		{"[]", "[1]", "[1]", "[1, 1]", NULL},
		{"[]", "[1, 2]", "[3]", "[3, 1, 2]", NULL},
		{"[\"a\",\"b\"]", "[\"x\",\"b\"]", "[\"a\",\"y\"]", "[\"x\",\"y\"]", NULL},
		{"[\"a\",\"b\",\"c\"]", "[\"b\",\"c\"]", "[\"a\",\"b\",\"c\",\"d\"]",
			"[\"b\",\"c\",\"d\"]", NULL},
		{"[\"a\",\"b\",\"c\"]", "[\"c\"]", "[\"a\"]", "[]", NULL},
		{"[\"a\",\"b\"]", "[\"b\"]", "[\"b\"]", "[\"b\"]", NULL},
		{"[\"a\"]", "[\"b\"]", "[\"b\"]", "[\"b\"]", NULL},
		{"[\"a\"]", "[\"b\"]", "[\"c\"]", NULL, "both changed \"[0]\""},
		{"[\"a\"]", "[]", "[\"c\"]", NULL, "one removed and the other changed \"[0]\""},
		{"[\"a\"]", "[\"x\",\"y\"]", "[\"x\",\"y\"]", NULL, "both changed \"[0]\""},
		/* moved by one or both */
		{"[\"a\",\"b\",\"c\"]", "[\"b\",\"c\"]", "[\"b\",\"c\",\"a\",\"d\"]", NULL,
			"both removed or moved \"[0]\""},
		{"[[1],[2],[3]]", "[[2],[3],[1]]", "[[2],[3],[1]]", NULL,
			"both removed or moved \"[0]\""},
		/* elements with something in them are known again */
		{"[{\"i\":1},{\"i\":2}]", "[{\"i\":2},{\"i\":3}]", "[{\"i\":1},{\"i\":2,\"x\":1}]",
			"[{\"i\":2,\"x\":1},{\"i\":3}]", NULL},
		/* a list that both added to what was none */
		{"{}", "{\"l\":[]}", "{\"l\":[]}", "{\"l\":[]}", NULL},
		{"{}", "{\"l\":[\"x\"]}", "{\"l\":[\"x\"]}", NULL, "both added \"l\""},
		{"{}", "{\"l\":[\"x\"]}", "{\"l\":[\"y\"]}", NULL, "both added \"l\""},
	};

	(void)state;
	CHECK_ALL(examples);
}

static void the_writing_of_json_stays(void **state)
{
	static const struct example examples[] = {
		{"{\"a\": 1.0,\t\"b\": [1e5, -0],\r\n \"c\":\"\\u00e9\\/\"}\r\n",
			"{\"a\": 1.0,\t\"b\": [1e5, -0],\r\n \"c\":\"\\u00e9\\/\", \"d\": 1E400}\r\n",
			"{\"a\": 2.50,\t\"b\": [1e5, -0],\r\n \"c\":\"\\u00e9\\/\"}\r\n",
			"{\"a\": 2.50,\t\"b\": [1e5, -0],\r\n \"c\":\"\\u00e9\\/\",\r\n \"d\": 1E400}\r\n",
			NULL},
		/* numbers are as they are written */
		{"{\"a\":1}", "{\"a\":1.0}", "{\"a\":1,\"b\":2}", "{\"a\":1.0,\"b\":2}", NULL},
		{"{\"a\":1}", "{\"a\":1.0}", "{\"a\":1.00}", NULL, "both changed \"a\""},
		/* what is around */
		{"{}", "{\"a\":1}\n", "\xef\xbb\xbf{\"b\":2}", "\xef\xbb\xbf{\"b\":2,\"a\":1}\n",
			NULL},
		{"{}\n", "{\"a\":1}\n", "{\"b\":2}", "{\"b\":2,\"a\":1}", NULL},
		/* both add to nothing */
		{"{}", "{\n  \"a\": 1\n}", "{\n  \"b\": 2\n}", "{\n  \"b\": 2,\n  \"a\": 1\n}",
			NULL},
		{"{}", "{\"a\": 1}", "{\"b\": 2}", "{\"b\": 2, \"a\": 1}", NULL},
		{"{}", "{\"a\":1}", "{\"b\":2}", "{\"b\":2,\"a\":1}", NULL},
		{"{}", "{ \"a\": 1 }", "{ \"b\": 2 }", "{ \"b\": 2, \"a\": 1 }", NULL},
		{"{\n  \"o\": {}\n}", "{\n  \"o\": {},\n  \"x\": 1\n}",
			"{\n  \"o\": {\n    \"k\": {}\n  }\n}",
			"{\n  \"o\": {\n    \"k\": {}\n  },\n  \"x\": 1\n}", NULL},
		/* into another indentation */
		{"{\"a\": 1}", "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": 1\n  }\n}",
			"{\n\t\"a\": 1,\n\t\"z\": 2\n}",
			"{\n\t\"a\": 1,\n\t\"z\": 2,\n\t\"b\": {\n\t  \"c\": 1\n\t}\n}", NULL},
		{"{\"a\":1}", "{\"a\":1,\"b\":2}", "{\n  \"a\": 3\n}",
			"{\n  \"a\": 3,\n  \"b\":2\n}", NULL},
		/* who only wrote it differently gives the form */
		{"{\"a\":1,\"b\":2}", "{\n  \"a\": 1,\n  \"b\": 2\n}", "{\"a\":1,\"b\":3}",
			"{\n  \"a\": 1,\n  \"b\": 3\n}", NULL},
		{"{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":3}", "{\n  \"a\": 1,\n  \"b\": 2\n}",
			"{\n  \"a\": 1,\n  \"b\": 3\n}", NULL},
	};

	(void)state;
	CHECK_ALL(examples);
}

/* Both change their own of two members that are written so, to what is written so. */
static int merge_values(const char *value, char **ret_data)
{
	char b[256], s[256], h[256];
	struct diag reason;
	size_t size;

	snprintf(b, sizeof(b), "{\"a\":0,\"b\":0}");
	snprintf(s, sizeof(s), "{\"a\":%s,\"b\":0}", value);
	snprintf(h, sizeof(h), "{\"a\":0,\"b\":%s}", value);
	return merge_sized((struct merge_input[]){input(b), input(s), input(h)}, NULL, ret_data,
		&size, &reason);
}

static void json_is_strict(void **state)
{
	static const char *const good[] = {"0", "-0", "1E400", "1.5e-07", "12345678901234567890123",
		"\"\\ud800\"", "\"\\udc00\\ud800\"", "\"\x7f\"", "\"\\u0000\"", "[ ]", "{ }",
		"\"\xf4\x8f\xbf\xbf\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "[[[]]]"};
	static const char *const bad[] = {"", "01", "+1", ".5", "1.", "1e", "-", "NaN", "nul",
		"nullx", "'a'", "\"\\x\"", "\"\\u12g4\"", "\"\t\"", "\"\xc0\x80\"",
		"\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xff\"", "[1,]", "{\"a\":1,}",
		"[1 2]", "{a:1}", "{\"a\" 1}", "[", "]", "{\"a\":1,\"\\u0061\":2}", "1/**/",
		"\xef\xbb\xbf[]"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		autofree char *data = NULL;
		autojtree struct jtree *tree = NULL;

		assert_ok(jtree_parse(good[i], strlen(good[i]), &tree));
		assert_ok(merge_values(good[i], &data));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		autofree char *data = NULL;

		/* one line that both changed, where it is no JSON */
		if (merge_values(bad[i], &data) != MERGE_OVERLAP)
			fail_msg("%s was taken for JSON", bad[i]);
	}
}

static void nesting_has_a_limit(void **state)
{
	char text[2 * JTREE_MAX_DEPTH + 8];
	autojtree struct jtree *tree = NULL;
	size_t depth = JTREE_MAX_DEPTH;

	(void)state;
	memset(text, '[', depth + 1);
	memset(text + depth + 1, ']', depth + 1);
	assert_int_equal(jtree_parse(text, 2 * depth + 2, &tree), JTREE_INVALID);
	assert_ok(jtree_parse(text + 1, 2 * depth, &tree));
	assert_int_equal(tree->node_count, depth);
}

static void equality_is_of_values(void **state)
{
	static const struct {
		const char *a, *b;
		bool equal;
	} pairs[] = {
		{"{\"a\":1,\"b\":2}", " { \"b\" : 2 , \"a\" : 1 } ", true},
		{"[1,2]", "[2,1]", false},
		{"1.0", "1.00", false},
		{"\"\\u00e9\\n\"", "\"\xc3\xa9\\u000a\"", true},
		{"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"", true},
		{"\"\\ud83d\"", "\"\\ud83e\"", false},
		{"\"1\"", "1", false},
		{"[]", "{}", false},
		{"{\"a\":1}", "{\"a\":1,\"b\":2}", false},
		{"{\"a\":1}", "{\"b\":1}", false},
		{"null", "false", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		autojtree struct jtree *a = NULL, *b = NULL;

		assert_ok(jtree_parse(pairs[i].a, strlen(pairs[i].a), &a));
		assert_ok(jtree_parse(pairs[i].b, strlen(pairs[i].b), &b));
		assert_int_equal(jtree_equal(a, a->root, b, b->root), pairs[i].equal);
	}
}

static void merged_json_is_what_jansson_reads(void **state)
{
	struct merge_input contents[3] = {
		input("{\"a\": {\"x\": [1, 2]}, \"b\": \"\\u00e9\"}"),
		input("{\"a\": {\"x\": [1, 2, 3]}, \"b\": \"\\u00e9\", \"c\": null}"),
		input("{\"a\": {\"x\": [0, 1, 2], \"y\": {}}, \"b\": \"z\"}"),
	};
	autofree char *data = NULL;
	struct diag reason;
	size_t size;
	json_t *is, *should;

	(void)state;
	assert_ok(merge_sized(contents, NULL, &data, &size, &reason));
	is = json_loadb(data, size, JSON_REJECT_DUPLICATES, NULL);
	should = json_pack(
		"{s:{s:[i,i,i,i],s:{}},s:s,s:n}", "a", "x", 0, 1, 2, 3, "y", "b", "z", "c");
	assert_non_null(is);
	assert_true(json_equal(is, should));
	json_decref(is);
	json_decref(should);
}

/*
 * What is not merged
 */

static int result_of(const struct merge_input contents[3], const struct merge_limits *limits)
{
	autofree char *data = NULL;
	struct diag reason;
	size_t size;
	int result = merge_sized(contents, limits, &data, &size, &reason);

	assert_true(!result || reason.text[0]);
	assert_true(!result == !!data);
	return result;
}

static void binaries_are_not_merged(void **state)
{
	(void)state;
	assert_int_equal(
		result_of((struct merge_input[]){{"a\0b", 3}, {"a\0c", 3}, {"x", 1}}, NULL),
		MERGE_BINARY);
	assert_int_equal(
		result_of((struct merge_input[]){{"a", 1}, {"\xff\x01", 2}, {"x", 1}}, NULL),
		MERGE_BINARY);
	/* Latin-1 is a text */
	assert_ok(result_of((struct merge_input[]){input("a\n\xe9\nb\n"), input("A\n\xe9\nb\n"),
				    input("a\n\xe9\nB\n")},
		NULL));
	/* a side that changed nothing leaves nothing to merge */
	assert_ok(result_of((struct merge_input[]){{"a\0b", 3}, {"a\0b", 3}, {"\0", 1}}, NULL));
}

static void limits_are_kept(void **state)
{
	struct merge_limits small = {.max_bytes = 4}, fast = {.max_ms = 1};
	struct merge_input same = {"a\nb", 3}, longer = {"a\nb\nc", 5}, contents[3];
	autofree char *blank = malloc(MERGE_MAX_LINES + 3);
	char *objects[3];
	size_t size = 0;

	(void)state;
	assert_int_equal(
		result_of((struct merge_input[]){same, longer, {"x", 1}}, &small), MERGE_TOO_LARGE);
	memset(blank, '\n', MERGE_MAX_LINES + 3);
	assert_int_equal(result_of((struct merge_input[]){{blank, MERGE_MAX_LINES + 1}, {"", 0},
					   {blank, MERGE_MAX_LINES + 2}},
				 NULL),
		MERGE_TOO_LARGE);

	for (int i = 0; i < 3; i++) {
		FILE *f = open_memstream(&objects[i], &size);

		for (int j = 0; j < 100000; j++)
			fprintf(f, "%s\"%d\":%d", j ? "," : "{", j, j % 3 ? 0 : i);
		fprintf(f, "}");
		fclose(f);
		contents[i] = (struct merge_input){objects[i], size};
	}
	assert_int_equal(result_of(contents, &fast), MERGE_TOO_SLOW);
	for (int i = 0; i < 3; i++)
		free(objects[i]);
}

static void differences_are_by_lines(void **state)
{
	struct merge_input before = input("a\nb\nc\nd"), after = input("a\nx\ny\nc\nd\n"),
			   none = {NULL, 0};
	autohunks struct hunks hunks = {0}, all = {0};

	(void)state;
	assert_ok(lines_diff(&before, &after, &hunks));
	assert_int_equal(hunks.count, 2);
	assert_memory_equal(&hunks.list[0], (&(struct hunk){1, 1, 1, 2}), sizeof(struct hunk));
	assert_memory_equal(&hunks.list[1], (&(struct hunk){3, 1, 4, 1}), sizeof(struct hunk));
	assert_ok(lines_diff(&none, &before, &all));
	assert_int_equal(all.count, 1);
	assert_memory_equal(&all.list[0], (&(struct hunk){0, 0, 0, 4}), sizeof(struct hunk));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_both_sides_are_merged),
		cmocka_unit_test(lines_added_at_the_end_are_all_kept),
		cmocka_unit_test(line_ends_stay),
		cmocka_unit_test(lines_that_count_are_not_merged),
		cmocka_unit_test(lines_that_make_no_json_are_not_merged),
		cmocka_unit_test(members_are_merged),
		cmocka_unit_test(numbers_that_count_are_not_merged),
		cmocka_unit_test(elements_are_merged),
		cmocka_unit_test(the_writing_of_json_stays),
		cmocka_unit_test(json_is_strict),
		cmocka_unit_test(nesting_has_a_limit),
		cmocka_unit_test(equality_is_of_values),
		cmocka_unit_test(merged_json_is_what_jansson_reads),
		cmocka_unit_test(binaries_are_not_merged),
		cmocka_unit_test(limits_are_kept),
		cmocka_unit_test(differences_are_by_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
