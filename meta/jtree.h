/*
 * jtree: a JSON text as a tree whose nodes point into the text, so that parts of it can be copied as they were written.
 *
 * Strict: RFC 8259 in UTF-8, with an optional BOM. Escapes of lone surrogates are allowed, as the grammar does.
 * A tree borrows its text. Offsets are bytes from the beginning of the text, node ids are indexes of tree->nodes.
 * Equality (jtree_equal) is of values: strings by what they say, however it is escaped, numbers by their spelling, objects
 * without the order of their members.
 */
#ifndef INTACTFS_META_JTREE_H
#define INTACTFS_META_JTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JTREE_MAX_DEPTH 512
#define JTREE_MAX_NODES (1u << 20)
#define JTREE_NONE	UINT32_MAX

enum jtree_type {
	JTREE_LITERAL, /* null, true, false */
	JTREE_NUMBER,
	JTREE_STRING,
	JTREE_ARRAY,
	JTREE_OBJECT,
};

struct jnode {
	uint64_t hash, key_hash;
	uint32_t key, key_end; /* with its quotes; equal: not a member of an object */
	uint32_t start, end;   /* the value */
	uint32_t line;	       /* begin of the line where the member or element begins */
	uint32_t kids, count;  /* of arrays and objects: in tree->kids, in the order of the text */
	uint8_t type;
};

/* A part of a text. */
struct jspan {
	const char *at;
	size_t size;
};

struct jtree {
	const char *text;
	size_t size;
	struct jnode *nodes;
	uint32_t *kids; /* behind those of an object there is a hash table of them */
	uint32_t node_count, root;
	bool duplicate_keys;
	uint32_t
		separator; /* the offset after the first comma that no line end follows; 0: there is none */
	uint32_t colon; /* the offset after the first colon; 0: there is none */
};

enum jtree_outcome {
	JTREE_INVALID = 1, /* not strict JSON, or deeper than JTREE_MAX_DEPTH */
	JTREE_TOO_LARGE,   /* more than JTREE_MAX_NODES values */
};

/* 0, enum jtree_outcome, -ENOMEM */
int jtree_parse(const char *text, size_t size, struct jtree **ret_tree);
struct jtree *jtree_free(struct jtree *tree);

static inline void jtree_cleanup(struct jtree **tree)
{
	*tree = jtree_free(*tree);
}
#define autojtree __attribute__((cleanup(jtree_cleanup)))

static inline const struct jnode *jtree_node(const struct jtree *tree, uint32_t id)
{
	return &tree->nodes[id];
}

static inline uint32_t jtree_kid(const struct jtree *tree, uint32_t id, uint32_t index)
{
	return tree->kids[tree->nodes[id].kids + index];
}

/* The member of object a with the key of member b_member; JTREE_NONE, also when object is JTREE_NONE or no object. */
uint32_t jtree_find(
	const struct jtree *a, uint32_t object, const struct jtree *b, uint32_t b_member);
bool jtree_equal(const struct jtree *a, uint32_t a_id, const struct jtree *b, uint32_t b_id);

/* Where a member (its key) or an element begins. */
uint32_t jtree_item_start(const struct jtree *tree, uint32_t id);
/* The white space before a member or element, up to the bracket or comma. */
struct jspan jtree_lead(const struct jtree *tree, uint32_t id);
/* The white space after a value, up to what follows. */
struct jspan jtree_trail(const struct jtree *tree, uint32_t id);
/* The white space before the bracket that closes a container. */
struct jspan jtree_closing(const struct jtree *tree, uint32_t id);
/* The white space at the begin of the line where a member or element begins. */
struct jspan jtree_indent(const struct jtree *tree, uint32_t id);

/* The length of the UTF-8 sequence of two or more bytes that s begins with (RFC 3629); 0: it is none. size is at least 1. */
size_t jtree_utf8_length(const unsigned char *s, size_t size);

#endif
