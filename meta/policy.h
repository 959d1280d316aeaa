/*
 * policy: which files are written in place, by all who have them open, because staging their saves would be wrong:
 * databases and disk images, whose programs coordinate by themselves and must see each other's writes, and logs, which
 * others follow while they grow.
 */
#ifndef INTACTFS_META_POLICY_H
#define INTACTFS_META_POLICY_H

#include <stdbool.h>
#include <stddef.h>

/* Whether a name (without directories) matches one of the patterns of what is live. */
bool policy_is_live(const char *name);

/* What programs keep beside a database or a text while they work on it: its contents are of no use to anybody later. */
bool policy_is_scratch(const char *name);

/* As much of a content as policy_is_database() wants to see. */
#define POLICY_MAGIC_BYTES 32
/* Whether a content that begins so is a database's. */
bool policy_is_database(const void *head, size_t bytes);

#endif
