/*
 * sql, by SQLite.
 *
 * 1. A transaction that SQLite undid by itself (the disk is full, say) stays lost: until
 * sql_rollback every call returns the error that it was lost to, so that no statement meant for it
 * is committed alone.
 * 2. Nothing but SQLite opens the database file: POSIX locks belong to the process, and closing
 * another descriptor of the file would drop SQLite's. The WAL bears no locks, so sql_sync has a
 * descriptor of it.
 */
#include "journal/sql.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "journal/log.h"

#define PARAMS_MAX	32
#define BUSY_TIMEOUT_MS 5000
#define PAGE_BYTES	4096

struct sql_stmt {
	struct sql *sql;
	const char *text; /* the key: its address */
	sqlite3_stmt *stmt;
	bool busy;			 /* between sql_query and the reset */
	unsigned char index[PARAMS_MAX]; /* SQLite's index of $1, $2, ...; 0 when there is none */
	UT_hash_handle hh;
};

struct sql {
	sqlite3 *db;
	char *path;
	struct sql_stmt *stmts;
	bool begun; /* between sql_begin and the commit or rollback */
	int lost;   /* what the transaction was lost to, until sql_rollback */
	bool wal;   /* writes go to the WAL */
	int wal_fd; /* of sql_sync; -1 before the first */
	int wal_pages, moved_pages;
	int broken; /* see sql_broken */
};

static int system_error(sqlite3 *db, int fallback)
{
	switch (sqlite3_system_errno(db)) {
	case ENOENT:
	case EACCES:
	case EPERM:
	case EISDIR:
	case ENOTDIR:
	case ELOOP:
	case ENAMETOOLONG:
	case ENOSPC:
	case EDQUOT:
	case EROFS:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return -sqlite3_system_errno(db);
	default:
		return fallback;
	}
}

static int error_of(sqlite3 *db)
{
	switch (sqlite3_errcode(db) & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		return system_error(db, -EIO);
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_PERM:
		return -EACCES;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL:
		return -EBUSY;
	case SQLITE_NOMEM:
		return -ENOMEM;
	default:
		return -EPROTO;
	}
}

/* What to return after SQLite reported an error; text is what it was about. */
static int failed(struct sql *sql, const char *text)
{
	int err = error_of(sql->db);

	if (err == -EUCLEAN || (err == -EIO && !sql->broken))
		sql->broken = err;
	/* Of a full disk, the reserve tells. */
	if (err != -EEXIST && err != -ENOSPC && err != -EDQUOT &&
		sqlite3_errcode(sql->db) != SQLITE_INTERRUPT)
		log_error("%s: %s, in \"%.100s\"", sql->path, sqlite3_errmsg(sql->db), text);
	if (sql->begun && sqlite3_get_autocommit(sql->db))
		sql->lost = err;
	return err;
}

static int mistake(struct sql *sql, const char *text)
{
	log_error("%s: parameters and arguments do not match in \"%.100s\"", sql->path, text);
	return -EPROTO;
}

/* Statements */

static void stmt_free(struct sql_stmt *stmt)
{
	sqlite3_finalize(stmt->stmt);
	free(stmt);
}

/* SQLite numbers named parameters as they appear; we, by their names. */
static bool stmt_number_params(struct sql_stmt *stmt)
{
	int count = sqlite3_bind_parameter_count(stmt->stmt);

	for (int i = 1; i <= count; i++) {
		const char *name = sqlite3_bind_parameter_name(stmt->stmt, i);
		int number = name && name[0] == '$' ? atoi(name + 1) : 0;

		if (number < 1 || number > count || number > PARAMS_MAX)
			return false;
		stmt->index[number - 1] = (unsigned char)i;
	}
	return true;
}

static int stmt_prepare(struct sql *sql, const char *text, struct sql_stmt **ret_stmt)
{
	struct sql_stmt *stmt = calloc(1, sizeof(*stmt));
	int err = 0;

	if (!stmt)
		return -ENOMEM;
	stmt->sql = sql;
	stmt->text = text;
	if (sqlite3_prepare_v3(sql->db, text, -1, SQLITE_PREPARE_PERSISTENT, &stmt->stmt, NULL))
		err = failed(sql, text);
	else if (!stmt->stmt || !stmt_number_params(stmt))
		err = mistake(sql, text);
	if (!err) {
		HASH_ADD_PTR(sql->stmts, text, stmt);
		if (!stmt->hh.tbl)
			err = -ENOMEM;
	}
	if (err) {
		stmt_free(stmt);
		return err;
	}
	*ret_stmt = stmt;
	return 0;
}

static int stmt_get(struct sql *sql, const char *text, struct sql_stmt **ret_stmt)
{
	struct sql_stmt *stmt;

	HASH_FIND_PTR(sql->stmts, &text, stmt);
	if (!stmt)
		return stmt_prepare(sql, text, ret_stmt);
	assert(!stmt->busy);
	assert(!strcmp(sqlite3_sql(stmt->stmt), text));
	*ret_stmt = stmt;
	return 0;
}

static int stmt_bind(struct sql_stmt *stmt, const char *fmt, va_list args)
{
	int count = (int)strlen(fmt), rc = SQLITE_OK;

	if (count != sqlite3_bind_parameter_count(stmt->stmt))
		return mistake(stmt->sql, stmt->text);

	for (int i = 0; i < count && !rc; i++) {
		int index = stmt->index[i];
		const void *blob;

		switch (fmt[i]) {
		case 'i':
			rc = sqlite3_bind_int64(stmt->stmt, index, va_arg(args, int64_t));
			break;
		case 't':
			rc = sqlite3_bind_text(
				stmt->stmt, index, va_arg(args, const char *), -1, SQLITE_STATIC);
			break;
		case 'b':
			blob = va_arg(args, const void *);
			rc = sqlite3_bind_blob64(
				stmt->stmt, index, blob, va_arg(args, size_t), SQLITE_STATIC);
			break;
		case 'n':
			rc = sqlite3_bind_null(stmt->stmt, index);
			break;
		default:
			return mistake(stmt->sql, stmt->text);
		}
	}
	return rc ? failed(stmt->sql, stmt->text) : 0;
}

static int query(struct sql *sql, const char *text, struct sql_stmt **ret_stmt, const char *fmt,
	va_list args)
{
	struct sql_stmt *stmt = NULL;
	int err;

	if (sql->lost)
		return sql->lost;
	err = stmt_get(sql, text, &stmt);
	if (!err)
		err = stmt_bind(stmt, fmt, args);
	if (err)
		return err;
	stmt->busy = true;
	*ret_stmt = stmt;
	return 0;
}

int sql_query(struct sql *sql, const char *text, struct sql_stmt **ret_stmt, const char *fmt, ...)
{
	va_list args;
	int err;

	va_start(args, fmt);
	err = query(sql, text, ret_stmt, fmt, args);
	va_end(args);
	return err;
}

int sql_step(struct sql_stmt *stmt)
{
	int rc = sqlite3_step(stmt->stmt), err;

	if (rc == SQLITE_ROW)
		return SQL_ROW;
	err = rc == SQLITE_DONE ? SQL_DONE : failed(stmt->sql, stmt->text);
	sql_reset(stmt);
	return err;
}

void sql_reset(struct sql_stmt *stmt)
{
	if (!stmt)
		return;
	sqlite3_reset(stmt->stmt);
	stmt->busy = false;
}

int sql_run(struct sql *sql, int64_t *ret_changes, const char *text, const char *fmt, ...)
{
	struct sql_stmt *stmt;
	va_list args;
	int err;

	va_start(args, fmt);
	err = query(sql, text, &stmt, fmt, args);
	va_end(args);
	if (err)
		return err;
	do
		err = sql_step(stmt);
	while (err == SQL_ROW);
	if (!err && ret_changes)
		*ret_changes = sqlite3_changes64(sql->db);
	return err;
}

int sql_int(struct sql *sql, int64_t *ret_value, const char *text, const char *fmt, ...)
{
	struct sql_stmt *stmt;
	va_list args;
	int64_t value;
	int result;

	va_start(args, fmt);
	result = query(sql, text, &stmt, fmt, args);
	va_end(args);
	if (result)
		return result;
	result = sql_step(stmt);
	if (result != SQL_ROW)
		return result;
	value = sql_int64(stmt, 0);
	/* Outside a transaction, this is where an INSERT ... RETURNING is committed. */
	if (sqlite3_reset(stmt->stmt))
		result = failed(sql, text);
	stmt->busy = false;
	if (result == SQL_ROW)
		*ret_value = value;
	return result;
}

int sql_script(struct sql *sql, const char *text)
{
	if (sql->lost)
		return sql->lost;
	return sqlite3_exec(sql->db, text, NULL, NULL, NULL) ? failed(sql, text) : 0;
}

bool sql_is_null(struct sql_stmt *stmt, int column)
{
	return sqlite3_column_type(stmt->stmt, column) == SQLITE_NULL;
}

int64_t sql_int64(struct sql_stmt *stmt, int column)
{
	return sqlite3_column_int64(stmt->stmt, column);
}

const char *sql_text(struct sql_stmt *stmt, int column)
{
	const unsigned char *text = sqlite3_column_text(stmt->stmt, column);

	return text ? (const char *)text : "";
}

const void *sql_blob(struct sql_stmt *stmt, int column, size_t *ret_size_bytes)
{
	const void *blob = sqlite3_column_blob(stmt->stmt, column);

	*ret_size_bytes = (size_t)sqlite3_column_bytes(stmt->stmt, column);
	return blob ? blob : "";
}

int sql_has_table(struct sql *sql, const char *name)
{
	int64_t one;

	return sql_int(sql, &one, "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1",
		"t", name);
}

/* Transactions */

int sql_begin(struct sql *sql)
{
	int err;

	assert(!sql->begun);
	err = sql_run(sql, NULL, "BEGIN IMMEDIATE", "");
	sql->begun = !err;
	return err;
}

int sql_commit(struct sql *sql)
{
	int err = sql_run(sql, NULL, "COMMIT", "");

	if (err)
		sql_rollback(sql);
	sql->begun = false;
	return err;
}

void sql_rollback(struct sql *sql)
{
	sql->lost = 0;
	if (!sqlite3_get_autocommit(sql->db))
		sql_run(sql, NULL, "ROLLBACK", "");
	sql->lost = 0;
	sql->begun = false;
}

int sql_savepoint(struct sql *sql)
{
	assert(sql->begun);
	return sql_run(sql, NULL, "SAVEPOINT one", "");
}

int sql_savepoint_release(struct sql *sql)
{
	return sql_run(sql, NULL, "RELEASE one", "");
}

int sql_savepoint_rollback(struct sql *sql)
{
	int err = sql_run(sql, NULL, "ROLLBACK TO one", "");

	return err ? err : sql_savepoint_release(sql);
}

/* The log */

static int wal_committed(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct sql *sql = arg;

	(void)db, (void)name;
	if (pages < sql->wal_pages) /* it began anew */
		sql->moved_pages = 0;
	sql->wal_pages = pages;
	return SQLITE_OK;
}

static int wal_open(struct sql *sql)
{
	const char *db_path = sqlite3_db_filename(sql->db, "main");
	autofree char *dir = strdup(db_path);
	autoclose int dir_fd = -1;
	int fd;

	if (!dir)
		return -ENOMEM;
	dir_fd = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0 || fsync(dir_fd))
		return -errno;
	fd = open(sqlite3_filename_wal(db_path), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	sql->wal_fd = fd;
	return 0;
}

int sql_sync(struct sql *sql)
{
	int err = 0;

	assert(!sql->begun);
	if (!sql->wal)
		return 0;
	if (sql->wal_fd < 0)
		err = wal_open(sql);
	if (!err && fdatasync(sql->wal_fd))
		err = -errno;
	if (err)
		log_error("%s: cannot sync the log: %s", sql->path, strerror(-err));
	return err;
}

static int checkpoint(struct sql *sql, int mode)
{
	int pages, moved, code;

	assert(!sql->begun);
	if (!sql->wal)
		return 0;
	code = sqlite3_wal_checkpoint_v2(sql->db, NULL, mode, &pages, &moved);
	if (code && (code != SQLITE_BUSY || mode == SQLITE_CHECKPOINT_PASSIVE))
		return failed(sql, "checkpoint");
	sql->wal_pages = pages;
	sql->moved_pages = moved;
	return 0;
}

int sql_checkpoint(struct sql *sql)
{
	return checkpoint(sql, SQLITE_CHECKPOINT_PASSIVE);
}

int sql_restart_log(struct sql *sql)
{
	return checkpoint(sql, SQLITE_CHECKPOINT_RESTART);
}

int64_t sql_log_length_bytes(struct sql *sql)
{
	return (int64_t)sql->wal_pages * PAGE_BYTES;
}

int64_t sql_log_bytes(struct sql *sql)
{
	return (int64_t)(sql->wal_pages - sql->moved_pages) * PAGE_BYTES;
}

int sql_broken(const struct sql *sql)
{
	return sql->broken;
}

void sql_interrupt(struct sql *sql)
{
	sqlite3_interrupt(sql->db);
}

int sql_check(struct sql *sql, struct diag *diag)
{
	struct sql_stmt *stmt = NULL;
	const char *finding, *heading;
	int result;

	result = sql_query(sql, "PRAGMA quick_check(1)", &stmt, "");
	if (!result)
		result = sql_step(stmt);
	if (result != SQL_ROW)
		return diag_set(
			diag, result, "%s cannot be checked: %s", sql->path, strerror(-result));
	finding = sql_text(stmt, 0);
	result = strcmp(finding, "ok") ? -EUCLEAN : 0;
	if (result) {
		heading = strchr(finding, '\n'); /* "*** in database main ***" */
		finding = heading ? heading + 1 : finding;
		log_error("%s is damaged: %s", sql->path, finding);
		diag_set(diag, result, "%s is damaged (%s): restore it from a backup", sql->path,
			finding);
	}
	sql_reset(stmt);
	return result;
}

/* Opening and closing */

static bool has_log(const char *path, const char *suffix)
{
	autofree char *name = NULL;
	struct stat st;

	return asprintf(&name, "%s%s", path, suffix) >= 0 && !stat(name, &st) && st.st_size > 0;
}

static bool on_readonly_media(const char *path)
{
	struct statvfs fs;

	return !statvfs(path, &fs) && (fs.f_flag & ST_RDONLY);
}

/* A URI, because only that can say "immutable". */
static char *uri_of(const char *path, bool immutable)
{
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-";
	char *uri = NULL;
	size_t size;
	FILE *out = open_memstream(&uri, &size);

	if (!out)
		return NULL;
	fputs(path[0] == '/' ? "file://" : "file:", out);
	for (const char *c = path; *c; c++)
		fprintf(out, strchr(plain, *c) ? "%c" : "%%%02X", (unsigned char)*c);
	fputs(immutable ? "?immutable=1" : "", out);
	if (fclose(out)) {
		free(uri);
		return NULL;
	}
	return uri;
}

static int use_wal(struct sql *sql)
{
	struct sql_stmt *stmt;
	int result = sql_query(sql, "PRAGMA journal_mode = WAL", &stmt, "");

	if (!result)
		result = sql_step(stmt);
	if (result != SQL_ROW)
		return result ? result : -EPROTO;
	sql->wal = !strcmp(sql_text(stmt, 0), "wal");
	sql_reset(stmt);
	if (!sql->wal) {
		log_error("%s: its filesystem has no shared memory, which a log needs", sql->path);
		return -EOPNOTSUPP;
	}
	sqlite3_wal_hook(sql->db, wal_committed, sql);
	return 0;
}

static int open_db(struct sql *sql, unsigned flags)
{
	/* On read-only media SQLite can make no shared memory for the log: read the log without it,
	 * or, where there is none, take the database as it is. */
	bool frozen = (flags & SQL_READONLY) && on_readonly_media(sql->path);
	bool logged = frozen && (has_log(sql->path, "-wal") || has_log(sql->path, "-journal"));
	autofree char *uri = uri_of(sql->path, frozen && !logged);
	int mode = SQLITE_OPEN_READWRITE;

	if (!uri)
		return -ENOMEM;
	if (flags & SQL_READONLY)
		mode = SQLITE_OPEN_READONLY;
	else if (flags & SQL_CREATE)
		mode |= SQLITE_OPEN_CREATE;
	if (sqlite3_open_v2(uri, &sql->db, mode | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX,
		    logged ? "unix-none" : NULL))
		return error_of(sql->db);

	if (!(flags & SQL_READONLY) && sqlite3_db_readonly(sql->db, "main") == 1)
		return access(sql->path, W_OK) ? -errno : -EACCES;
	sqlite3_busy_timeout(sql->db, BUSY_TIMEOUT_MS);
	return logged ? sql_script(sql, "PRAGMA locking_mode = EXCLUSIVE") : 0;
}

static int configure(struct sql *sql, unsigned flags)
{
	int err = sql_script(sql, "PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY;"
				  "PRAGMA mmap_size = 0; PRAGMA wal_autocheckpoint = 0");

	if (!err && (flags & SQL_EXCLUSIVE_JOURNAL))
		err = sql_script(sql, "PRAGMA cache_size = -512");
	else if (!err)
		err = sql_script(sql, "PRAGMA cache_size = -8192; PRAGMA synchronous = NORMAL");
	if (err)
		return err;

	if (flags & SQL_READONLY)
		return sql_script(
			sql, "PRAGMA schema_version"); /* reads, so that damage shows now */
	/* The journal stays, so that a full disk has room for it. */
	if (flags & SQL_EXCLUSIVE_JOURNAL)
		return sql_script(sql, "PRAGMA synchronous = FULL; PRAGMA journal_mode = PERSIST");
	return use_wal(sql);
}

int sql_open(const char *path, unsigned flags, struct sql **ret_sql, struct diag *diag)
{
	struct sql *sql = calloc(1, sizeof(*sql));
	int err = 0;

	if (!sql)
		return -ENOMEM;
	sql->wal_fd = -1;
	sql->path = strdup(path);
	if (!sql->path)
		err = -ENOMEM;
	else if (strlen(path) > SQL_PATH_MAX)
		err = -ENAMETOOLONG;

	if (!err)
		err = open_db(sql, flags);
	if (!err)
		err = configure(sql, flags);
	if (err == -EUCLEAN)
		diag_set(diag, err, "%s is damaged (%s): restore it from a backup", path,
			sqlite3_errmsg(sql->db));
	else if (err)
		diag_set(diag, err, "%s cannot be opened: %s", path, strerror(-err));
	if (err) {
		sql_close(sql);
		return err;
	}
	*ret_sql = sql;
	return 0;
}

struct sql *sql_close(struct sql *sql)
{
	struct sql_stmt *stmt, *next;

	if (!sql)
		return NULL;
	HASH_ITER(hh, sql->stmts, stmt, next)
	{
		HASH_DEL(sql->stmts, stmt);
		stmt_free(stmt);
	}
	if (sqlite3_close(sql->db))
		log_error("%s: %s", sql->path, sqlite3_errmsg(sql->db));
	if (sql->wal_fd >= 0)
		close(sql->wal_fd);
	free(sql->path);
	free(sql);
	return NULL;
}
