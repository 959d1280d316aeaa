/*
 * policy_rows: the rows of the tables policy and setting, read and written. What they mean is meta's.
 *
 * Errors:    -errno of sql.h. Those that remove something return 1 (removed), 0 (it was not there) or -errno.
 * Ownership: what is passed to visit is valid during that call.
 */
#ifndef INTACTFS_JOURNAL_POLICY_ROWS_H
#define INTACTFS_JOURNAL_POLICY_ROWS_H

#include "journal/sql.h"

/* The rule set last comes first. A visit that returns anything but 0 ends it, and is the result. */
int policy_rows_scan(struct sql *sql,
	int (*visit)(void *arg, const void *pattern, size_t length, const char *policy), void *arg);
/* It is the last one from now on, also when there was one of that pattern. */
int policy_rows_put(struct sql *sql, const void *pattern, size_t length, const char *policy);
int policy_rows_delete(struct sql *sql, const void *pattern, size_t length);

int setting_rows_scan(
	struct sql *sql, void (*visit)(void *arg, const char *name, const char *value), void *arg);
int setting_rows_put(struct sql *sql, const char *name, const char *value);
int setting_rows_delete(struct sql *sql, const char *name);

#endif
