#include "journal/policy_rows.h"

int policy_rows_scan(struct sql *sql,
	int (*visit)(void *arg, const void *pattern, size_t length, const char *policy), void *arg)
{
	struct sql_stmt *stmt;
	const void *pattern;
	size_t length;
	int err = sql_query(
		sql, "SELECT pattern, policy FROM policy ORDER BY position DESC", &stmt, "");

	if (err)
		return err;
	while ((err = sql_step(stmt)) == SQL_ROW) {
		pattern = sql_blob(stmt, 0, &length);
		err = visit(arg, pattern, length, sql_text(stmt, 1));
		if (err)
			break;
	}
	sql_reset(stmt);
	return err;
}

int policy_rows_put(struct sql *sql, const void *pattern, size_t length, const char *policy)
{
	return sql_run(sql, NULL,
		"INSERT INTO policy (position, pattern, policy)"
		" VALUES ((SELECT coalesce(max(position), 0) + 1 FROM policy), $1, $2)"
		" ON CONFLICT (pattern) DO UPDATE SET position = excluded.position, policy = excluded.policy",
		"bt", pattern, length, policy);
}

int policy_rows_delete(struct sql *sql, const void *pattern, size_t length)
{
	int64_t changes = 0;
	int err = sql_run(
		sql, &changes, "DELETE FROM policy WHERE pattern = $1", "b", pattern, length);

	return err ? err : changes > 0;
}

int setting_rows_scan(
	struct sql *sql, void (*visit)(void *arg, const char *name, const char *value), void *arg)
{
	struct sql_stmt *stmt;
	int err = sql_query(sql, "SELECT name, value FROM setting", &stmt, "");

	if (err)
		return err;
	while ((err = sql_step(stmt)) == SQL_ROW)
		visit(arg, sql_text(stmt, 0), sql_text(stmt, 1));
	return err;
}

int setting_rows_put(struct sql *sql, const char *name, const char *value)
{
	return sql_run(sql, NULL,
		"INSERT INTO setting (name, value) VALUES ($1, $2)"
		" ON CONFLICT (name) DO UPDATE SET value = excluded.value",
		"tt", name, value);
}

int setting_rows_delete(struct sql *sql, const char *name)
{
	int64_t changes = 0;
	int err = sql_run(sql, &changes, "DELETE FROM setting WHERE name = $1", "t", name);

	return err ? err : changes > 0;
}
