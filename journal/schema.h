/*
 * schema: the tables of a tree's journal, and how an older format becomes the present one.
 */
#ifndef INTACTFS_JOURNAL_SCHEMA_H
#define INTACTFS_JOURNAL_SCHEMA_H

#include "journal/base.h"
#include "journal/sql.h"

#define SCHEMA_FORMAT 2

/* Makes the tables in an empty database: those of format 1, and each step since. Runs in a transaction of its own. */
int schema_create(struct sql *sql, int64_t tree_id);

/* Checks the format and migrates an older one, step by step, each in a transaction.
 * -EPROTONOSUPPORT for a newer one, -EUCLEAN when this is no journal. */
int schema_open(struct sql *sql, bool readonly, const char *path, struct diag *diag);

#endif
