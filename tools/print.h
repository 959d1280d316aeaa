/*
 * print: what people read: tables, sizes, times, and names that may hold anything.
 *
 * Calling:   table_init, then one table_cell for each cell, row by row, then table_print.
 *            A column in which every cell is empty is left out.
 * Ownership: results of print_*() live in a ring of static buffers: valid for the next PRINT_RING
 *            calls, so several fit into one printf. This program has one thread.
 */
#ifndef INTACTFS_TOOLS_PRINT_H
#define INTACTFS_TOOLS_PRINT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define PRINT_RING 8

/* The text with control characters as \ooo, so that a name cannot command a terminal. */
const char *print_clean(const char *text);
/* 120 B, 1.5 KiB, 23 MiB */
const char *print_size(int64_t size_bytes);
/* An RFC 3339 time as local "2026-01-02 03:04:05"; as it is when it is no such time. */
const char *print_time(const char *rfc3339);
/* How long ago that was: "3 s", "5 min", "2 h", "8 d" */
const char *print_age(const char *rfc3339);
/* Who did it: "alice", or the number of a user without a name. Takes the members user and uid. */
const char *print_user(const json_t *object);

/* Members of an object; "" or 0 when there is none of that kind. */
const char *json_text(const json_t *object, const char *key);
int64_t json_number(const json_t *object, const char *key);

/* For programs: indented, as the mount gave it. */
void print_json(const json_t *json);

struct column {
	const char *heading; /* "" for none */
	enum { LEFT, RIGHT } align;
};

struct table {
	const struct column *columns;
	size_t column_count;
	char **cells;
	size_t cell_count;
};

void table_init(struct table *table, const struct column *columns, size_t column_count);
void table_cell(struct table *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints and empties the table. */
void table_print(struct table *table);

#endif
