#include "meta/jtree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "journal/base.h"

/* More steps to find a key do not happen by themselves, in a table that is half empty. */
#define MAX_STEPS 256

struct parser {
	struct jtree *tree;
	size_t pos;
	uint32_t line;
	unsigned depth;
	uint32_t node_room;
	uint32_t *stack; /* kids of the containers that are open */
	size_t stack_count, stack_room;
	size_t kid_count, kid_room;
	char *scratch; /* a string without its escapes */
	size_t scratch_room;
};

static int parse_value(struct parser *p, uint32_t *ret_id);

static int grow(uint32_t **list, size_t *room, size_t needed)
{
	size_t more = *room ? *room : 64;
	uint32_t *grown;

	if (needed <= *room)
		return 0;
	while (more < needed)
		more *= 2;
	grown = realloc(*list, more * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	*list = grown;
	*room = more;
	return 0;
}

static int peek(const struct parser *p)
{
	return p->pos < p->tree->size ? (unsigned char)p->tree->text[p->pos] : -1;
}

static bool is_space(int c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_space(struct parser *p)
{
	int c;

	while (is_space(c = peek(p))) {
		p->pos++;
		if (c == '\n')
			p->line = (uint32_t)p->pos;
	}
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t both[2] = {a, b};

	return XXH3_64bits(both, sizeof(both));
}

/*
 * Strings. What a string says is the bytes of its UTF-8 without escapes; a lone surrogate as if it were a character.
 */

struct reader {
	const char *at, *end;
	char bytes[4]; /* of an escape, last first */
	int left;
};

static int hex4(const char *s)
{
	int value = 0;

	for (int i = 0; i < 4; i++) {
		int c = (unsigned char)s[i];

		if (c >= '0' && c <= '9')
			c -= '0';
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			c = (c | 32) - 'a' + 10;
		else
			return -1;
		value = value * 16 + c;
	}
	return value;
}

/* Reads \uXXXX, or two of them that are a pair, from after the backslash. */
static uint32_t read_unicode(struct reader *r)
{
	int high = hex4(r->at + 1), low;

	r->at += 5;
	if (high < 0xd800 || high > 0xdbff || r->end - r->at < 6 || r->at[0] != '\\' ||
		r->at[1] != 'u')
		return (uint32_t)high;
	low = hex4(r->at + 2);
	if (low < 0xdc00 || low > 0xdfff)
		return (uint32_t)high;
	r->at += 6;
	return 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
}

static void put_utf8(struct reader *r, uint32_t c)
{
	int length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const unsigned char marks[] = {0, 0, 0xc0, 0xe0, 0xf0};

	for (int i = 1; i < length; i++, c >>= 6)
		r->bytes[r->left++] = (char)(0x80 | (c & 63));
	r->bytes[r->left++] = (char)(marks[length] | c);
}

/* The next byte of what a valid string says; -1 at its end. */
static int read_byte(struct reader *r)
{
	static const char names[] = "bfnrt", values[] = "\b\f\n\r\t";
	const char *name;

	if (r->left)
		return (unsigned char)r->bytes[--r->left];
	if (r->at == r->end)
		return -1;
	if (*r->at != '\\')
		return (unsigned char)*r->at++;
	r->at++;
	if (*r->at == 'u') {
		put_utf8(r, read_unicode(r));
		return (unsigned char)r->bytes[--r->left];
	}
	name = memchr(names, *r->at, sizeof(names) - 1);
	r->at++;
	return name ? values[name - names] : (unsigned char)r->at[-1];
}

/* Of offsets with the quotes. */
static struct reader reader_of(const char *text, uint32_t start, uint32_t end)
{
	return (struct reader){.at = text + start + 1, .end = text + end - 1};
}

static bool strings_equal(const char *a, uint32_t a_start, uint32_t a_end, const char *b,
	uint32_t b_start, uint32_t b_end)
{
	struct reader r = reader_of(a, a_start, a_end), s = reader_of(b, b_start, b_end);
	int c;

	if (a_end - a_start == b_end - b_start &&
		memcmp(a + a_start, b + b_start, a_end - a_start) == 0)
		return true;
	do {
		c = read_byte(&r);
		if (c != read_byte(&s))
			return false;
	} while (c >= 0);
	return true;
}

size_t jtree_utf8_length(const unsigned char *s, size_t size)
{
	size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;

	if (s[0] < 0xc2 || s[0] > 0xf4 || size < length)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
		(s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return length;
}

/* Finds the end of a string that begins at pos, and whether it has escapes. */
static int scan_string(struct parser *p, bool *ret_escaped)
{
	const char *text = p->tree->text;
	size_t size = p->tree->size, length;
	bool escaped = false;

	for (p->pos++; p->pos < size; p->pos += length) {
		unsigned char c = (unsigned char)text[p->pos];

		length = 1;
		if (c == '"') {
			p->pos++;
			*ret_escaped = escaped;
			return 0;
		}
		if (c < 0x20)
			return JTREE_INVALID;
		if (c >= 0x80) {
			length = jtree_utf8_length(
				(const unsigned char *)text + p->pos, size - p->pos);
			if (!length)
				return JTREE_INVALID;
		}
		if (c != '\\')
			continue;
		escaped = true;
		length = 2;
		if (size - p->pos < 2 || !memchr("\"\\/bfnrtu", text[p->pos + 1], 9))
			return JTREE_INVALID;
		if (text[p->pos + 1] != 'u')
			continue;
		length = 6;
		if (size - p->pos < 6 || hex4(text + p->pos + 2) < 0)
			return JTREE_INVALID;
	}
	return JTREE_INVALID;
}

/* Reads a string; the hash is of what it says. */
static int parse_string(struct parser *p, uint64_t *ret_hash)
{
	const char *text = p->tree->text;
	uint32_t start = (uint32_t)p->pos;
	struct reader r;
	size_t length = 0;
	bool escaped;
	int err, c;

	err = scan_string(p, &escaped);
	if (err)
		return err;
	if (!escaped) {
		*ret_hash =
			XXH3_64bits_withSeed(text + start + 1, p->pos - start - 2, JTREE_STRING);
		return 0;
	}
	if (p->scratch_room < p->pos - start) {
		char *grown = realloc(p->scratch, p->pos - start);

		if (!grown)
			return -ENOMEM;
		p->scratch = grown;
		p->scratch_room = p->pos - start;
	}
	r = reader_of(text, start, (uint32_t)p->pos);
	while ((c = read_byte(&r)) >= 0)
		p->scratch[length++] = (char)c;
	*ret_hash = XXH3_64bits_withSeed(p->scratch, length, JTREE_STRING);
	return 0;
}

/*
 * Values
 */

static bool skip_digits(struct parser *p)
{
	size_t before = p->pos;

	while (peek(p) >= '0' && peek(p) <= '9')
		p->pos++;
	return p->pos > before;
}

static int parse_number(struct parser *p)
{
	if (peek(p) == '-')
		p->pos++;
	if (peek(p) == '0')
		p->pos++;
	else if (!skip_digits(p))
		return JTREE_INVALID;
	if (peek(p) == '.') {
		p->pos++;
		if (!skip_digits(p))
			return JTREE_INVALID;
	}
	if (peek(p) == 'e' || peek(p) == 'E') {
		p->pos++;
		if (peek(p) == '+' || peek(p) == '-')
			p->pos++;
		if (!skip_digits(p))
			return JTREE_INVALID;
	}
	return 0;
}

static int parse_literal(struct parser *p)
{
	static const char *const literals[] = {"null", "true", "false"};

	for (size_t i = 0; i < ARRAY_SIZE(literals); i++) {
		size_t length = strlen(literals[i]);

		if (p->tree->size - p->pos >= length &&
			memcmp(p->tree->text + p->pos, literals[i], length) == 0) {
			p->pos += length;
			return 0;
		}
	}
	return JTREE_INVALID;
}

static int parse_scalar(struct parser *p, struct jnode *node)
{
	int err;

	if (node->type == JTREE_STRING)
		return parse_string(p, &node->hash);
	err = node->type == JTREE_NUMBER ? parse_number(p) : parse_literal(p);
	if (!err)
		node->hash = XXH3_64bits_withSeed(
			p->tree->text + node->start, p->pos - node->start, node->type);
	return err;
}

static bool keys_equal(const struct jtree *a, uint32_t a_id, const struct jtree *b, uint32_t b_id)
{
	const struct jnode *x = jtree_node(a, a_id), *y = jtree_node(b, b_id);

	return x->key_hash == y->key_hash &&
	       strings_equal(a->text, x->key, x->key_end, b->text, y->key, y->key_end);
}

/* The slots of the table of members that follows the kids of an object: a power of two. */
static uint32_t slots_of(uint32_t count)
{
	uint32_t slots = count ? 2 : 0;

	while (slots < 2 * count)
		slots *= 2;
	return slots;
}

/* Enters the members into the table, and looks for a key that is there twice. */
static int enter_members(struct parser *p, const struct jnode *node)
{
	struct jtree *tree = p->tree;
	uint32_t *table = tree->kids + node->kids + node->count, slots = slots_of(node->count);

	memset(table, 0xff, slots * sizeof(*table)); /* JTREE_NONE */
	for (uint32_t i = 0; i < node->count; i++) {
		uint32_t id = tree->kids[node->kids + i], steps = 0;
		uint32_t at = (uint32_t)tree->nodes[id].key_hash & (slots - 1);

		for (; table[at] != JTREE_NONE; at = (at + 1) & (slots - 1)) {
			if (keys_equal(tree, table[at], tree, id)) {
				tree->duplicate_keys = true;
				break;
			}
			if (++steps > MAX_STEPS)
				return JTREE_INVALID;
		}
		table[at] = id;
	}
	return 0;
}

/* Gives a container its kids, from where the stack stood before it. */
static int close_container(struct parser *p, struct jnode *node, size_t base)
{
	struct jtree *tree = p->tree;
	bool object = node->type == JTREE_OBJECT;
	size_t count = p->stack_count - base, room;
	uint64_t hash = 0;
	int err;

	room = count + (object ? slots_of((uint32_t)count) : 0);
	err = grow(&tree->kids, &p->kid_room, p->kid_count + room);
	if (err)
		return err;
	node->kids = (uint32_t)p->kid_count;
	node->count = (uint32_t)count;
	if (count)
		memcpy(tree->kids + node->kids, p->stack + base, count * sizeof(*p->stack));
	p->kid_count += room;
	p->stack_count = base;
	for (size_t i = 0; i < count; i++) {
		const struct jnode *kid = &tree->nodes[tree->kids[node->kids + i]];

		hash = object ? hash + mix(kid->key_hash, kid->hash) : mix(hash, kid->hash);
	}
	node->hash = mix(hash, count << 8 | node->type);
	return object && count ? enter_members(p, node) : 0;
}

/* Reads a key and its colon, into the node that its value will be. */
static int parse_key(struct parser *p, struct jnode *member)
{
	int err;

	if (peek(p) != '"')
		return JTREE_INVALID;
	member->key = (uint32_t)p->pos;
	err = parse_string(p, &member->key_hash);
	if (err)
		return err;
	member->key_end = (uint32_t)p->pos;
	skip_space(p);
	if (peek(p) != ':')
		return JTREE_INVALID;
	p->pos++;
	if (!p->tree->colon)
		p->tree->colon = (uint32_t)p->pos;
	skip_space(p);
	return 0;
}

static int parse_item(struct parser *p, bool object, uint32_t *ret_id)
{
	struct jnode member = {.line = p->line};
	uint32_t id;
	int err;

	err = object ? parse_key(p, &member) : 0;
	if (err)
		return err;
	err = parse_value(p, &id);
	if (err)
		return err;
	p->tree->nodes[id].line = member.line;
	p->tree->nodes[id].key = member.key;
	p->tree->nodes[id].key_end = member.key_end;
	p->tree->nodes[id].key_hash = member.key_hash;
	*ret_id = id;
	return 0;
}

static int parse_container(struct parser *p, struct jnode *node)
{
	int close = node->type == JTREE_OBJECT ? '}' : ']', c, err;
	size_t base = p->stack_count, comma;
	uint32_t id, line;

	if (++p->depth > JTREE_MAX_DEPTH)
		return JTREE_INVALID;
	p->pos++;
	skip_space(p);
	if (peek(p) == close)
		goto closed;
	for (;;) {
		err = parse_item(p, node->type == JTREE_OBJECT, &id);
		if (!err)
			err = grow(&p->stack, &p->stack_room, p->stack_count + 1);
		if (err)
			return err;
		p->stack[p->stack_count++] = id;
		skip_space(p);
		c = peek(p);
		if (c == close)
			break;
		if (c != ',')
			return JTREE_INVALID;
		comma = ++p->pos;
		line = p->line;
		skip_space(p);
		if (!p->tree->separator && line == p->line)
			p->tree->separator = (uint32_t)comma;
	}
closed:
	p->pos++;
	p->depth--;
	return close_container(p, node, base);
}

static int new_node(struct parser *p, uint32_t *ret_id)
{
	struct jtree *tree = p->tree;

	if (tree->node_count == JTREE_MAX_NODES)
		return JTREE_TOO_LARGE;
	if (tree->node_count == p->node_room) {
		uint32_t room = p->node_room ? p->node_room * 2 : 64;
		struct jnode *grown = realloc(tree->nodes, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		tree->nodes = grown;
		p->node_room = room;
	}
	*ret_id = tree->node_count++;
	return 0;
}

static int parse_value(struct parser *p, uint32_t *ret_id)
{
	struct jnode node = {.line = p->line, .start = (uint32_t)p->pos};
	int c = peek(p), err;
	uint32_t id;

	node.type = c == '{'				 ? JTREE_OBJECT
		    : c == '['				 ? JTREE_ARRAY
		    : c == '"'				 ? JTREE_STRING
		    : c == '-' || (c >= '0' && c <= '9') ? JTREE_NUMBER
							 : JTREE_LITERAL;
	err = new_node(p, &id);
	if (!err)
		err = node.type >= JTREE_ARRAY ? parse_container(p, &node) : parse_scalar(p, &node);
	if (err)
		return err;
	node.end = (uint32_t)p->pos;
	p->tree->nodes[id] = node;
	*ret_id = id;
	return 0;
}

int jtree_parse(const char *text, size_t size, struct jtree **ret_tree)
{
	autojtree struct jtree *tree = calloc(1, sizeof(*tree));
	struct parser p = {.tree = tree};
	int err;

	if (!tree)
		return -ENOMEM;
	if (size >= UINT32_MAX)
		return JTREE_TOO_LARGE;
	tree->text = text;
	tree->size = size;
	if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		p.pos = 3;
	skip_space(&p);
	err = parse_value(&p, &tree->root);
	free(p.stack);
	free(p.scratch);
	if (err)
		return err;
	skip_space(&p);
	if (p.pos < size)
		return JTREE_INVALID;
	*ret_tree = tree;
	tree = NULL;
	return 0;
}

struct jtree *jtree_free(struct jtree *tree)
{
	if (tree) {
		free(tree->nodes);
		free(tree->kids);
		free(tree);
	}
	return NULL;
}

/*
 * Looking at a tree
 */

uint32_t jtree_find(
	const struct jtree *a, uint32_t object, const struct jtree *b, uint32_t b_member)
{
	const struct jnode *node;
	const uint32_t *table;
	uint32_t slots, at;

	if (object == JTREE_NONE || jtree_node(a, object)->type != JTREE_OBJECT ||
		!jtree_node(a, object)->count)
		return JTREE_NONE;
	node = jtree_node(a, object);
	table = a->kids + node->kids + node->count;
	slots = slots_of(node->count);
	at = (uint32_t)jtree_node(b, b_member)->key_hash & (slots - 1);
	while (table[at] != JTREE_NONE && !keys_equal(a, table[at], b, b_member))
		at = (at + 1) & (slots - 1);
	return table[at];
}

bool jtree_equal(const struct jtree *a, uint32_t a_id, const struct jtree *b, uint32_t b_id)
{
	const struct jnode *x = jtree_node(a, a_id), *y = jtree_node(b, b_id);

	if (x->hash != y->hash || x->type != y->type || x->count != y->count)
		return false;
	if (x->type == JTREE_STRING)
		return strings_equal(a->text, x->start, x->end, b->text, y->start, y->end);
	if (x->type < JTREE_ARRAY)
		return x->end - x->start == y->end - y->start &&
		       memcmp(a->text + x->start, b->text + y->start, x->end - x->start) == 0;
	for (uint32_t i = 0; i < x->count; i++) {
		uint32_t kid = jtree_kid(a, a_id, i);
		uint32_t other = x->type == JTREE_ARRAY ? jtree_kid(b, b_id, i)
							: jtree_find(b, b_id, a, kid);

		if (other == JTREE_NONE || !jtree_equal(a, kid, b, other))
			return false;
	}
	return true;
}

uint32_t jtree_item_start(const struct jtree *tree, uint32_t id)
{
	const struct jnode *node = jtree_node(tree, id);

	return node->key_end > node->key ? node->key : node->start;
}

static struct jspan space_before(const struct jtree *tree, uint32_t end)
{
	uint32_t start = end;

	while (start > 0 && is_space((unsigned char)tree->text[start - 1]))
		start--;
	return (struct jspan){tree->text + start, end - start};
}

struct jspan jtree_lead(const struct jtree *tree, uint32_t id)
{
	return space_before(tree, jtree_item_start(tree, id));
}

struct jspan jtree_trail(const struct jtree *tree, uint32_t id)
{
	size_t start = jtree_node(tree, id)->end, end = start;

	while (end < tree->size && is_space((unsigned char)tree->text[end]))
		end++;
	return (struct jspan){tree->text + start, end - start};
}

struct jspan jtree_closing(const struct jtree *tree, uint32_t id)
{
	return space_before(tree, jtree_node(tree, id)->end - 1);
}

struct jspan jtree_indent(const struct jtree *tree, uint32_t id)
{
	size_t start = jtree_node(tree, id)->line, end = start;

	while (end < tree->size && (tree->text[end] == ' ' || tree->text[end] == '\t'))
		end++;
	return (struct jspan){tree->text + start, end - start};
}
