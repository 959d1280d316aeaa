/*
 * sql: the one narrow interface to an SQL database. An engine stands behind it
 * (sqlite.c); nothing above it sees the engine's types, so that another can come beside it.
 *
 * Calling:   sql_open; then, any number of times, sql_query + sql_step until SQL_DONE (or
 *            sql_reset); sql_run for statements that return no rows. A statement is prepared
 *            once per connection and kept, keyed by the address of its text: pass string
 *            literals or other texts that never change and never move.
 * Text:      parameters are written $1, $2, ... and are bound in order by a format string:
 *              i  int64_t          t  const char * (NUL-terminated UTF-8; NULL binds NULL)
 *              n  (no argument) NULL
 *              b  const void *, size_t (bytes; a NULL pointer binds NULL)
 *            "" for none. Texts and blobs are not copied: they must stay as they are until the statement's
 *            last sql_step, or its sql_reset (sql_run and sql_int return after that).
 * Errors:    -errno. The engine maps its codes: -ENOSPC (full), -EROFS, -EIO, -ENOMEM,
 *            -EUCLEAN (the database is damaged), -EEXIST (a constraint is violated), -EBUSY (locked by
 *            someone else beyond the engine's wait), -EPROTO (a mistake in the SQL). Each error but -EEXIST is also
 *            logged with the engine's own text. An error within a transaction may have undone the whole of it (the disk
 *            is full): then everything, sql_savepoint_rollback and sql_commit included, returns that error up to
 *            sql_rollback; a failed sql_commit has rolled back.
 * Ownership: texts and blobs of a row belong to the statement and are valid until the next
 *            sql_step or sql_reset of it.
 * Threads:   a connection is used by one thread at a time; its caller sees to that.
 */
#ifndef INTACTFS_JOURNAL_SQL_H
#define INTACTFS_JOURNAL_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/base.h"

struct sql;
struct sql_stmt;

enum sql_open_flags {
	SQL_CREATE = 1,	  /* make the database when there is none */
	SQL_READONLY = 2, /* never write; works on read-only media, too */
	SQL_EXCLUSIVE_JOURNAL =
		4, /* sync fully at every commit: for small, rarely written databases */
};

#define SQL_PATH_MAX 500 /* bytes; a longer path is -ENAMETOOLONG */

enum sql_step_result { SQL_DONE = 0, SQL_ROW = 1 };

/* Opens path (bytes, NUL-terminated). Sets: WAL, no automatic checkpoints, synchronous=NORMAL, foreign keys off,
 * a busy wait of 5 s; with SQL_EXCLUSIVE_JOURNAL a synced rollback journal instead of the WAL,
 * which stays as room for changes on a full disk.
 * -ENOENT when there is no such file and SQL_CREATE is not given; -EUCLEAN when it is not a database. */
int sql_open(const char *path, unsigned flags, struct sql **ret_sql, struct diag *diag);
struct sql *sql_close(struct sql
		*sql); /* NULL is fine; returns NULL; checkpoints when it is the last connection */

/* Runs a script of several statements without parameters. */
int sql_script(struct sql *sql, const char *text);

/* Binds and gets ready; the statement must not be in the middle of another query (asserted). */
int sql_query(struct sql *sql, const char *text, struct sql_stmt **ret_stmt, const char *fmt, ...);
/* SQL_ROW, SQL_DONE (the statement is then reset), or -errno (also reset). */
int sql_step(struct sql_stmt *stmt);
void sql_reset(struct sql_stmt *stmt); /* NULL is fine */

/* sql_query + sql_step to the end, rows ignored; ret_changes (may be NULL) is the number of rows changed. */
int sql_run(struct sql *sql, int64_t *ret_changes, const char *text, const char *fmt, ...);

/* sql_query + one sql_step + column 0 as an integer. SQL_ROW with it, SQL_DONE when there is no row, or -errno. */
int sql_int(struct sql *sql, int64_t *ret_value, const char *text, const char *fmt, ...);

/* 1 when there is such a table, 0 when not, -errno. */
int sql_has_table(struct sql *sql, const char *name);

/* Columns of the current row, from 0. A NULL reads as 0, "" or an empty blob. */
bool sql_is_null(struct sql_stmt *stmt, int column);
int64_t sql_int64(struct sql_stmt *stmt, int column);
const char *sql_text(struct sql_stmt *stmt, int column);
const void *sql_blob(struct sql_stmt *stmt, int column, size_t *ret_size_bytes);

/* Transactions. sql_begin takes the write lock at once. Savepoints nest within it. */
int sql_begin(struct sql *sql);
int sql_commit(struct sql *sql);
void sql_rollback(struct sql *sql);
int sql_savepoint(struct sql *sql);	     /* opens one; at most one level */
int sql_savepoint_release(struct sql *sql);  /* keeps what was done since */
int sql_savepoint_rollback(struct sql *sql); /* undoes what was done since, and closes it */

/* What has been committed survives a loss of power after this. No transaction may be open in this connection. */
int sql_sync(struct sql *sql);

/* Moves what is committed from the log into the database file, as far as no reader is in the way, and syncs both.
 * sql_log_bytes says how much of what this connection committed a checkpoint would move, roughly; it costs nothing. */
int sql_checkpoint(struct sql *sql);
int64_t sql_log_bytes(struct sql *sql);
/* After a checkpoint: how long the log is. It does not begin anew while commits come between: under a load that has no pause it
 * grows, until sql_restart_log() keeps other connections from writing for a moment. Nothing happens where a reader is in
 * the way for the busy wait. */
int64_t sql_log_length_bytes(struct sql *sql);
int sql_restart_log(struct sql *sql);

/* A quick check of the whole database's structure. -EUCLEAN with the first finding in diag. */
int sql_check(struct sql *sql, struct diag *diag);
/* -EUCLEAN when a statement ever found damage, -EIO when one could not read or write; else 0. */
int sql_broken(const struct sql *sql);
/* Ends what another thread is about with it: that fails with -EPROTO. */
void sql_interrupt(struct sql *sql);

#endif
