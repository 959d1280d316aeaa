#include "meta/conflict_report.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "meta/report.h"

/* Rows read in one go: changes wait for so long. */
#define PAGE_MAX 200

/* Whether the directories let the viewer do what, then and now. */
static int reaches(struct sql *sql, struct viewer *viewer, const struct conflict_row *row, int what)
{
	int may = viewer_then(viewer, sql, row->access, row->uid, what);

	return may == 1 ? viewer_now(viewer, sql, row->parent, what) : may;
}

static int reads(struct sql *sql, struct viewer *viewer, const struct conflict_row *row)
{
	const struct version_row then = {
		.lineage = row->entry,
		.node = row->node,
		.mode = row->mode,
		.uid = row->uid,
		.gid = row->gid,
		.access = row->access,
	};

	return viewer_reads(viewer, sql, &then);
}

static int see(struct sql *sql, struct viewer *viewer, int64_t id, struct conflict_sight *sight)
{
	int64_t parent;
	int err = conflict_row(sql, id, &sight->row);

	if (err == SQL_ROW)
		err = reaches(sql, viewer, &sight->row, X_OK);
	if (err == 1)
		err = record_entry_rights(sql, sight->row.entry, &parent, &sight->now);
	if (err != SQL_ROW)
		return err;
	err = reads(sql, viewer, &sight->row);
	sight->readable = err == 1;
	return err < 0 ? err : 1;
}

int conflict_see(
	struct tree *tree, struct viewer *viewer, int64_t id, struct conflict_sight *ret_sight)
{
	struct sql *sql = journal_read_begin(tree->journal);
	int err;

	*ret_sight = (struct conflict_sight){.readable = false};
	err = see(sql, viewer, id, ret_sight);
	journal_read_end(tree->journal);
	return err;
}

/* The number of the last version of the lineage with the content, or null. */
static json_t *version_of(struct sql *sql, int64_t entry, int64_t content)
{
	int64_t number = 0;
	int err = content ? sql_int(sql, &number,
				    "SELECT number FROM version WHERE lineage = $1 AND content = $2"
				    " ORDER BY number DESC LIMIT 1",
				    "ii", entry, content)
			  : 0;

	return err == SQL_ROW ? json_integer(number) : json_null();
}

/* Its name, as long as it is beside the file. */
static int put_sibling(struct sql *sql, json_t *element, const struct conflict_row *row)
{
	struct sql_stmt *stmt;
	const void *name;
	size_t length;
	int err = sql_query(sql, "SELECT name FROM entry WHERE node = $1 AND parent = $2 LIMIT 1",
		&stmt, "ii", row->sibling, row->parent);

	if (!err)
		err = sql_step(stmt);
	if (err < 0)
		return err;
	if (err != SQL_ROW)
		return json_object_set_new(element, "sibling", json_null()) ? -ENOMEM : 0;
	name = sql_blob(stmt, 0, &length);
	err = report_put_bytes(element, "sibling", name, length);
	sql_reset(stmt);
	return err;
}

static json_t *text(const char *bytes)
{
	return report_text(bytes, strlen(bytes));
}

static int put_reason(struct sql *sql, json_t *element, int64_t id)
{
	struct sql_stmt *stmt;
	int err = sql_query(sql, "SELECT reason FROM conflict WHERE id = $1", &stmt, "i", id);

	if (!err)
		err = sql_step(stmt);
	if (err != SQL_ROW)
		return err < 0 ? err : -EUCLEAN;
	err = json_object_set_new(element, "reason", text(sql_text(stmt, 0))) ? -ENOMEM : 0;
	sql_reset(stmt);
	return err;
}

static int put_element(struct sql *sql, const struct conflict_row *row, json_t *page)
{
	json_t *element = json_pack("{s:I}", "id", (json_int_t)row->id);
	autofree char *path = NULL;
	size_t length;
	int err = json_array_append_new(page, element) ? -ENOMEM : 0;

	err = err ?: record_entry_path(sql, row->entry, &path, &length);
	err = err ?: report_put_bytes(element, "path", path, length);
	if (!err && json_object_update_new(element,
			    json_pack("{s:o, s:I, s:o, s:o, s:o, s:I}", "time",
				    report_time(row->time_ns), "uid", (json_int_t)row->saver,
				    "user", text(row->user), "host", text(row->host), "program",
				    text(row->program), "pid", (json_int_t)row->pid)) != 0)
		err = -ENOMEM;
	err = err ?: put_reason(sql, element, row->id);
	if (!err &&
		json_object_update_new(element,
			json_pack("{s:I, s:o, s:o}", "size", (json_int_t)row->content.size_bytes,
				"basis", version_of(sql, row->entry, row->basis), "head",
				version_of(sql, row->entry, row->head))) != 0)
		err = -ENOMEM;
	return err ?: put_sibling(sql, element, row);
}

/* The next open one after id; 1 when there is one. */
static int next_open(struct sql *sql, int64_t *id)
{
	return sql_int(sql, id,
		"SELECT id FROM conflict WHERE id > $1 AND state = 'open' ORDER BY id LIMIT 1", "i",
		*id);
}

int conflict_list(struct tree *tree, struct viewer *viewer, int64_t after, json_t **ret_page,
	int64_t *ret_last)
{
	struct sql *sql = journal_read_begin(tree->journal);
	struct conflict_row row;
	json_t *page = json_array();
	int err = page ? 0 : -ENOMEM, may = 0;

	for (int i = 0; i < PAGE_MAX && !err; i++) {
		err = next_open(sql, &after);
		if (err == SQL_ROW)
			err = conflict_row(sql, after, &row);
		if (err != SQL_ROW)
			break;
		may = reaches(sql, viewer, &row, R_OK | X_OK);
		if (may == 1)
			may = reads(sql, viewer, &row);
		err = may == 1 ? put_element(sql, &row, page) : may;
	}
	journal_read_end(tree->journal);
	if (err < 0) {
		json_decref(page);
		return err;
	}
	*ret_page = page;
	*ret_last = after;
	return 0;
}
