#include "tests/unit/fixture.h"

#include <sys/wait.h>

#include "journal/sql.h"

static struct sql *open_db(struct fixture *f, unsigned flags)
{
	struct sql *sql = NULL;
	struct diag diag = {""};
	int err = sql_open(fixture_path(f, "a.db"), flags, &sql, &diag);

	if (err)
		fail_msg("%s (%d)", diag.text, err);
	return sql;
}

static struct sql *open_table(struct fixture *f)
{
	struct sql *sql = open_db(f, SQL_CREATE);

	assert_ok(sql_script(sql, "CREATE TABLE t (id INTEGER PRIMARY KEY, x)"));
	return sql;
}

static int64_t rows(struct sql *sql)
{
	int64_t count;

	assert_int_equal(sql_int(sql, &count, "SELECT count(*) FROM t", ""), SQL_ROW);
	return count;
}

static int add(struct sql *sql, int64_t id)
{
	return sql_run(sql, NULL, "INSERT INTO t VALUES ($1, 'x')", "i", id);
}

static void values_come_back_as_they_went(void **state)
{
	struct sql *sql = open_db(*state, SQL_CREATE);
	struct sql_stmt *stmt;
	const char *blob;
	size_t size;

	assert_ok(sql_script(sql, "CREATE TABLE v (i, t, b, n, nt, nb, e)"));
	assert_ok(sql_run(sql, NULL, "INSERT INTO v VALUES ($1, $2, $3, $4, $5, $6, $7)", "itbntbb",
		INT64_MIN, "caf\xc3\xa9", "a\0b", (size_t)3, NULL, NULL, (size_t)0, "", (size_t)0));
	assert_ok(sql_query(sql, "SELECT i, t, b, n, nt, nb, e FROM v", &stmt, ""));
	assert_int_equal(sql_step(stmt), SQL_ROW);
	assert_int_equal(sql_int64(stmt, 0), INT64_MIN);
	assert_string_equal(sql_text(stmt, 1), "caf\xc3\xa9");
	blob = sql_blob(stmt, 2, &size);
	assert_int_equal(size, 3);
	assert_memory_equal(blob, "a\0b", 3);
	for (int column = 3; column <= 5; column++)
		assert_true(sql_is_null(stmt, column));
	assert_int_equal(sql_int64(stmt, 3), 0);
	assert_string_equal(sql_text(stmt, 4), "");
	assert_non_null(sql_blob(stmt, 5, &size));
	assert_int_equal(size, 0);
	assert_false(sql_is_null(stmt, 6)); /* empty is not NULL */
	assert_int_equal(sql_step(stmt), SQL_DONE);
	sql_close(sql);
}

static void parameters_go_by_their_numbers(void **state)
{
	struct sql *sql = open_table(*state);
	int64_t value;

	assert_int_equal(sql_int(sql, &value, "SELECT $2 * 100 + $1 * 10 + $2", "ii", INT64_C(1),
				 INT64_C(2)),
		SQL_ROW);
	assert_int_equal(value, 212);
	assert_int_equal(sql_run(sql, NULL, "SELECT $1", ""), -EPROTO);
	assert_int_equal(sql_run(sql, NULL, "SELECT $1", "ii", INT64_C(1), INT64_C(2)), -EPROTO);
	assert_int_equal(sql_run(sql, NULL, "SELECT ?", "i", INT64_C(1)), -EPROTO);
	assert_int_equal(sql_run(sql, NULL, "SELEC 1", ""), -EPROTO);
	assert_int_equal(sql_run(sql, NULL, "SELECT x FROM nowhere", ""), -EPROTO);
	sql_close(sql);
}

static void statements_are_kept_by_address(void **state)
{
	struct sql *sql = open_table(*state);
	static const char text[] = "SELECT x FROM t WHERE id = $1";
	struct sql_stmt *first, *again, *other;

	assert_ok(sql_query(sql, text, &first, "i", INT64_C(1)));
	assert_int_equal(sql_step(first), SQL_DONE);
	assert_ok(sql_query(sql, text, &again, "i", INT64_C(2)));
	assert_ptr_equal(first, again);
	sql_reset(again);
	assert_ok(sql_query(sql, "SELECT 1", &other, ""));
	assert_ptr_not_equal(first, other);
	sql_reset(other);
	sql_reset(NULL);
	sql_close(sql);
}

static void sql_int_tells_no_row_from_a_row(void **state)
{
	struct sql *sql = open_table(*state);
	int64_t value = 77, changes;

	assert_int_equal(sql_int(sql, &value, "SELECT id FROM t", ""), SQL_DONE);
	assert_int_equal(value, 77);
	assert_int_equal(sql_int(sql, &value, "INSERT INTO t VALUES ($1, 'y') RETURNING id + 1",
				 "i", INT64_C(5)),
		SQL_ROW);
	assert_int_equal(value, 6);
	assert_ok(add(sql, 6));
	assert_ok(sql_run(sql, &changes, "UPDATE t SET x = 'z'", ""));
	assert_int_equal(changes, 2);
	assert_ok(sql_run(sql, &changes, "UPDATE t SET x = 'z' WHERE id = 99", ""));
	assert_int_equal(changes, 0);
	assert_int_equal(sql_has_table(sql, "t"), 1);
	assert_int_equal(sql_has_table(sql, "u"), 0);
	sql_close(sql);
}

static void a_violated_constraint_leaves_the_transaction(void **state)
{
	struct sql *sql = open_table(*state);

	assert_ok(sql_begin(sql));
	assert_ok(add(sql, 1));
	assert_int_equal(add(sql, 1), -EEXIST);
	assert_ok(add(sql, 2));
	assert_ok(sql_commit(sql));
	assert_int_equal(rows(sql), 2);
	sql_close(sql);
}

static void savepoints_undo_only_themselves(void **state)
{
	struct sql *sql = open_table(*state);

	assert_ok(sql_begin(sql));
	assert_ok(sql_savepoint(sql));
	assert_ok(add(sql, 1));
	assert_ok(sql_savepoint_release(sql));
	assert_ok(sql_savepoint(sql));
	assert_ok(add(sql, 2));
	assert_ok(sql_savepoint_rollback(sql));
	assert_ok(sql_savepoint(sql));
	assert_ok(add(sql, 3));
	assert_ok(sql_savepoint_release(sql));
	assert_ok(sql_commit(sql));
	assert_int_equal(rows(sql), 2);
	assert_int_equal(add(sql, 3), -EEXIST);
	assert_ok(add(sql, 2));

	assert_ok(sql_begin(sql));
	assert_ok(add(sql, 4));
	sql_rollback(sql);
	sql_rollback(sql);
	assert_int_equal(rows(sql), 3);
	sql_close(sql);
}

static void two_connections_see_what_is_committed(void **state)
{
	struct sql *writer = open_table(*state);
	struct sql *reader = open_db(*state, SQL_READONLY);

	assert_ok(sql_begin(writer));
	assert_ok(add(writer, 1));
	assert_int_equal(rows(reader), 0);
	assert_ok(sql_commit(writer));
	assert_int_equal(rows(reader), 1);
	assert_int_equal(add(reader, 2), -EROFS);
	sql_close(reader);
	sql_close(writer);
}

static void sync_and_checkpoint(void **state)
{
	struct fixture *f = *state;
	struct sql *sql = open_table(f);
	int64_t before;
	struct stat st;

	assert_ok(sql_sync(sql));
	for (int64_t id = 1; id <= 100; id++)
		assert_ok(add(sql, id));
	assert_ok(sql_sync(sql));
	before = sql_log_bytes(sql);
	assert_true(before >= 100 * 4096); /* nothing was checkpointed by itself */
	assert_ok(sql_checkpoint(sql));
	assert_int_equal(sql_log_bytes(sql), 0);
	assert_ok(add(sql, 101));
	assert_true(sql_log_bytes(sql) > 0 && sql_log_bytes(sql) < before);
	assert_ok(sql_sync(sql));
	sql_close(sql);
	assert_int_equal(stat(fixture_path(f, "a.db-wal"), &st), -1); /* the last one clears up */
	sql = open_db(f, 0);
	assert_int_equal(rows(sql), 101);
	sql_close(sql);
}

static void what_is_missing_or_no_database(void **state)
{
	struct fixture *f = *state;
	struct sql *sql = NULL;
	struct diag diag = {""};
	char name[600];
	const char *path = fixture_path(f, "a.db");

	assert_int_equal(sql_open(path, 0, &sql, &diag), -ENOENT);
	assert_non_null(strstr(diag.text, path));
	assert_int_equal(sql_open(path, SQL_READONLY, &sql, &diag), -ENOENT);
	assert_int_equal(sql_open(f->dir, SQL_CREATE, &sql, &diag), -EISDIR);

	memset(name, 'x', sizeof(name));
	fixture_write(f, "a.db", name, sizeof(name), 0);
	diag.text[0] = '\0';
	assert_int_equal(sql_open(path, SQL_CREATE, &sql, &diag), -EUCLEAN);
	assert_non_null(strstr(diag.text, path));
	assert_int_equal(sql_open(path, SQL_READONLY, &sql, NULL), -EUCLEAN);
	assert_int_equal(sql_open(path, SQL_EXCLUSIVE_JOURNAL, &sql, NULL), -EUCLEAN);

	name[sizeof(name) - 1] = '\0';
	assert_int_equal(sql_open(name, SQL_CREATE, &sql, &diag), -ENAMETOOLONG);
	assert_null(sql);
}

static void damage_is_found(void **state)
{
	struct fixture *f = *state;
	struct sql *sql = open_table(f);
	struct diag diag = {""};
	unsigned char junk[4096];

	for (int64_t id = 1; id <= 2000; id++)
		assert_ok(add(sql, id));
	assert_ok(sql_check(sql, &diag));
	sql_close(sql);

	memset(junk, 0xa5, sizeof(junk));
	fixture_write(f, "a.db", junk, sizeof(junk), 3 * 4096);
	sql = open_db(f, 0);
	assert_int_equal(sql_check(sql, &diag), -EUCLEAN);
	assert_non_null(strstr(diag.text, "a.db"));
	assert_int_equal(sql_run(sql, NULL, "SELECT sum(length(x)) FROM t", ""), -EUCLEAN);
	sql_close(sql);
}

static void odd_file_names(void **state)
{
	struct fixture *f = *state;
	struct sql *sql;
	const char *path = fixture_path(f, "a?mode=ro&b#%41 \xff\n.db");

	assert_ok(sql_open(path, SQL_CREATE, &sql, NULL));
	assert_ok(sql_script(sql, "CREATE TABLE t (x)"));
	assert_ok(sql_sync(sql));
	sql_close(sql);
	assert_ok(access(path, F_OK));
}

static void someone_else_holds_the_write_lock(void **state)
{
	struct sql *one = open_table(*state);
	struct sql *other = open_db(*state, 0);
	int64_t start_ms;

	assert_ok(sql_begin(one));
	start_ms = time_mono_ms();
	assert_int_equal(sql_begin(other), -EBUSY);
	assert_true(time_mono_ms() - start_ms >= 4000);
	assert_ok(add(one, 1));
	assert_ok(sql_commit(one));
	assert_ok(sql_begin(other));
	assert_ok(sql_commit(other));
	sql_close(other);
	sql_close(one);
}

static void a_full_disk_undoes_the_whole_transaction(void **state)
{
	struct fixture *f = *state;
	struct sql *sql;
	int err = 0;

	fixture_tmpfs(f, "size=1m");
	sql = open_table(f);
	assert_ok(add(sql, 1));
	fixture_fill(f);

	assert_ok(sql_begin(sql));
	for (int64_t id = 2; id < 400 && !err; id++)
		err = sql_run(sql, NULL, "INSERT INTO t VALUES ($1, randomblob(4000))", "i", id);
	assert_ok(err); /* all in the cache yet */
	assert_int_equal(sql_commit(sql), -ENOSPC);
	assert_int_equal(rows(sql), 1);

	/* More than the cache: the disk is met in the middle, and what follows must not run alone. */
	assert_ok(sql_begin(sql));
	assert_ok(sql_savepoint(sql));
	for (int64_t id = 2; id < 5000 && !err; id++)
		err = sql_run(sql, NULL, "INSERT INTO t VALUES ($1, randomblob(4000))", "i", id);
	assert_int_equal(err, -ENOSPC);
	err = sql_savepoint_rollback(sql);
	if (err) {
		assert_int_equal(err, -ENOSPC);
		assert_int_equal(add(sql, 2), -ENOSPC);
		assert_int_equal(sql_commit(sql), -ENOSPC);
	} else {
		sql_rollback(sql);
	}
	assert_int_equal(rows(sql), 1);

	assert_ok(unlink(fixture_path(f, "filler")));
	assert_ok(sql_begin(sql));
	assert_ok(add(sql, 2));
	assert_ok(sql_commit(sql));
	assert_int_equal(rows(sql), 2);
	sql_close(sql);
}

/* As a daemon that was killed leaves it: row 1 in the database, row 2 only in its log. */
static void leave_a_log(struct fixture *f)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct sql *sql = open_table(f);

		_exit(add(sql, 1) || sql_checkpoint(sql) || add(sql, 2));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void read_only_media_show_what_is_only_in_the_log(void **state)
{
	struct fixture *f = *state;
	struct sql *sql = NULL;

	fixture_tmpfs(f, "size=4m");
	leave_a_log(f);
	assert_true(fixture_exists(f, "a.db-wal"));
	unlink(fixture_path(f, "a.db-shm"));
	fixture_remount(f, MS_RDONLY);
	sql = open_db(f, SQL_READONLY);
	assert_int_equal(rows(sql), 2);
	assert_ok(sql_check(sql, NULL));
	sql_close(sql);
	assert_false(fixture_exists(f, "a.db-shm"));
	assert_int_equal(sql_open(fixture_path(f, "a.db"), 0, &sql, NULL), -EROFS);
}

static void read_only_media_after_a_clean_end(void **state)
{
	struct fixture *f = *state;
	struct sql *sql;

	fixture_tmpfs(f, "size=4m");
	leave_a_log(f);
	sql_close(open_db(f, 0));
	assert_false(fixture_exists(f, "a.db-wal"));
	fixture_remount(f, MS_RDONLY);
	sql = open_db(f, SQL_READONLY);
	assert_int_equal(rows(sql), 2);
	sql_close(sql);
}

static void a_synced_journal_for_small_databases(void **state)
{
	struct fixture *f = *state;
	struct sql *sql = open_db(f, SQL_CREATE | SQL_EXCLUSIVE_JOURNAL);

	assert_ok(sql_script(sql, "CREATE TABLE t (id INTEGER PRIMARY KEY, x)"));
	assert_ok(sql_begin(sql));
	assert_ok(add(sql, 1));
	assert_ok(sql_commit(sql));
	assert_false(fixture_exists(f, "a.db-wal"));
	assert_ok(sql_sync(sql));
	assert_ok(sql_checkpoint(sql));
	assert_int_equal(sql_log_bytes(sql), 0);
	sql_close(sql);
	sql = open_db(f, SQL_READONLY | SQL_EXCLUSIVE_JOURNAL);
	assert_int_equal(rows(sql), 1);
	sql_close(sql);
	assert_null(sql_close(NULL));
}

static void times_are_written_in_full(void **state)
{
	char buf[32];

	(void)state;
	assert_string_equal(time_format(INT64_C(1767323045000006000), buf, sizeof(buf)),
		"2026-01-02T03:04:05.000006Z");
	assert_string_equal(time_format(-1, buf, sizeof(buf)), "1969-12-31T23:59:59.999999Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fixture_test(values_come_back_as_they_went),
		fixture_test(parameters_go_by_their_numbers),
		fixture_test(statements_are_kept_by_address),
		fixture_test(sql_int_tells_no_row_from_a_row),
		fixture_test(a_violated_constraint_leaves_the_transaction),
		fixture_test(savepoints_undo_only_themselves),
		fixture_test(two_connections_see_what_is_committed),
		fixture_test(sync_and_checkpoint),
		fixture_test(what_is_missing_or_no_database),
		fixture_test(damage_is_found),
		fixture_test(odd_file_names),
		fixture_test(someone_else_holds_the_write_lock),
		fixture_test(a_full_disk_undoes_the_whole_transaction),
		fixture_test(read_only_media_show_what_is_only_in_the_log),
		fixture_test(read_only_media_after_a_clean_end),
		fixture_test(a_synced_journal_for_small_databases),
		fixture_test(times_are_written_in_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
