#include "meta/report.h"

#include <errno.h>
#include <string.h>

/* Elements read in one go: changes wait for so long. */
#define PAGE_MAX 500

json_t *report_time(int64_t time_ns)
{
	char text[32];

	return json_string(time_format(time_ns, text, sizeof(text)));
}

json_t *report_mode(mode_t mode)
{
	char text[8];

	snprintf(text, sizeof(text), "%04o", (unsigned)mode & 07777);
	return json_string(text);
}

/* How many bytes the character at s takes; 0 when it is none (RFC 3629, section 4). */
static size_t utf8_length(const unsigned char *s, size_t length)
{
	unsigned char c = s[0];
	size_t bytes = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;

	if (bytes > length)
		return 0;
	for (size_t i = 1; i < bytes; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f) ||
		(c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] > 0x8f))
		return 0;
	return bytes;
}

json_t *report_text(const char *bytes, size_t length)
{
	autofree char *text = malloc(3 * length + 1);
	size_t used = 0, n;

	if (!text)
		return NULL;
	for (size_t i = 0; i < length; i += n ? n : 1) {
		n = utf8_length((const unsigned char *)bytes + i, length - i);
		memcpy(text + used, n ? bytes + i : "\xef\xbf\xbd", n ? n : 3);
		used += n ? n : 3;
	}
	return json_stringn(text, used);
}

static json_t *hex_text(const void *data, size_t length)
{
	const unsigned char *bytes = data;
	autofree char *text = malloc(2 * length + 1);

	if (!text)
		return NULL;
	for (size_t i = 0; i < length; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
	return json_stringn(text, 2 * length);
}

static int put_path(struct sql *sql, json_t *object, int64_t entry)
{
	autofree char *path = NULL;
	size_t length;
	json_t *text;
	int err;

	if (!entry)
		return json_object_set_new(object, "path", json_null()) ? -ENOMEM : 0;
	err = record_entry_path(sql, entry, &path, &length);
	if (err)
		return err;
	text = report_text(path, length);
	err = json_object_set_new(object, "path", text);
	if (!err && (json_string_length(text) != length ||
			    memcmp(json_string_value(text), path, length) != 0))
		err = json_object_set_new(object, "path_hex", hex_text(path, length));
	return err ? -ENOMEM : 0;
}

int report_path(struct tree *tree, json_t *object, int64_t entry)
{
	struct sql *sql = journal_read_begin(tree->journal);
	int err = put_path(sql, object, entry);

	journal_read_end(tree->journal);
	return err;
}

static int read_lineage(
	struct sql *sql, const struct entry_row *entry, struct report_lineage *ret_lineage)
{
	int err = 0;

	*ret_lineage = (struct report_lineage){.entry = *entry};
	err = record_entry_rights(sql, entry->id, &ret_lineage->entry.parent, &ret_lineage->rights);
	if (err >= 0 && entry->node)
		err = record_node_get(sql, entry->node, &ret_lineage->now);
	if (err >= 0 && entry->versions)
		err = record_version_get(sql, entry->id, entry->versions, &ret_lineage->last);
	return err < 0 ? err : 1;
}

static bool answers(const struct report_lineage *lineage)
{
	return lineage->entry.versions > 0 || S_ISDIR(lineage->rights.mode) ||
	       (lineage->now.id && S_ISREG(lineage->now.mode));
}

static int find_in(
	struct sql *sql, int64_t parent, const char *name, struct report_lineage *ret_lineage)
{
	struct entry_row entry;
	int err = record_entry_get(sql, parent, name, strlen(name), &entry);

	while (err == SQL_ROW) {
		err = read_lineage(sql, &entry, ret_lineage);
		if (err < 0 || answers(ret_lineage))
			return err;
		err = record_entry_displaced(sql, entry.id, &entry);
	}
	return err;
}

int report_find(
	struct tree *tree, int64_t directory, const char *name, struct report_lineage *ret_lineage)
{
	struct sql *sql = journal_read_begin(tree->journal);
	struct entry_row parent = {.id = directory};
	int err, more;

	do {
		err = find_in(sql, parent.id, name, ret_lineage);
		more = err ? err : record_entry_displaced(sql, parent.id, &parent);
	} while (err == 0 && more == SQL_ROW);
	journal_read_end(tree->journal);
	return err ? err : more;
}

int report_lineage(struct tree *tree, int64_t lineage, struct report_lineage *ret_lineage)
{
	struct sql *sql = journal_read_begin(tree->journal);
	struct entry_row entry;
	struct name name;
	int err = record_entry_by_id(sql, lineage, &entry, &name);

	if (err == SQL_ROW)
		err = read_lineage(sql, &entry, ret_lineage);
	journal_read_end(tree->journal);
	return err;
}

static int read_version(struct sql *sql, struct viewer *viewer, int64_t lineage, int64_t number,
	struct report_version *version)
{
	int may, err = record_version_get(sql, lineage, number, &version->row);

	if (err != SQL_ROW)
		return err;
	may = viewer ? viewer_then(viewer, sql, version->row.access, version->row.uid, X_OK) : 1;
	if (may != 1)
		return may;
	may = viewer ? viewer_reads(viewer, sql, &version->row) : 1;
	version->readable = may == 1;
	if (may < 0)
		return may;
	return version->row.content
		       ? record_content_get(sql, version->row.content, &version->content)
		       : 1;
}

int report_version(struct tree *tree, struct viewer *viewer, int64_t lineage, int64_t number,
	struct report_version *ret_version)
{
	struct sql *sql = journal_read_begin(tree->journal);
	int err;

	*ret_version = (struct report_version){0};
	err = read_version(sql, viewer, lineage, number, ret_version);
	journal_read_end(tree->journal);
	return err;
}

int report_numbers(struct tree *tree, struct viewer *viewer, int64_t lineage, int64_t after,
	int64_t *numbers, size_t max, size_t *ret_count)
{
	struct sql *sql = journal_read_begin(tree->journal);
	struct sql_stmt *stmt;
	size_t count = 0;
	int err = sql_query(sql,
		"SELECT number, coalesce(access, -1), uid FROM version WHERE lineage = $1 AND number > $2"
		" AND content IS NOT NULL ORDER BY number",
		&stmt, "ii", lineage, after);

	while (!err && count < max && (err = sql_step(stmt)) == SQL_ROW) {
		err = viewer_then(viewer, sql, sql_int64(stmt, 1), (uid_t)sql_int64(stmt, 2), X_OK);
		if (err == 1)
			numbers[count++] = sql_int64(stmt, 0);
		if (err >= 0)
			err = 0;
	}
	if (err || count == max)
		sql_reset(stmt);
	journal_read_end(tree->journal);
	*ret_count = count;
	return err;
}

int report_may_search(struct tree *tree, struct viewer *viewer, int64_t directory)
{
	struct sql *sql = journal_read_begin(tree->journal);
	int may = viewer_now(viewer, sql, directory, X_OK);

	journal_read_end(tree->journal);
	return may;
}

int report_newest(struct tree *tree, int64_t lineage, int64_t *ret_number)
{
	struct sql *sql = journal_read_begin(tree->journal);
	struct version_row row = {.number = 0};
	int err = record_version_get(sql, lineage, 0, &row);

	journal_read_end(tree->journal);
	if (err >= 0)
		*ret_number = row.number;
	return err < 0 ? err : 0;
}

int report_count(struct tree *tree, struct report_counts *ret_counts)
{
	struct sql *sql = journal_read_begin(tree->journal);
	struct sql_stmt *stmt;
	int err = sql_query(sql,
		"SELECT (SELECT count(*) FROM node WHERE mode & $1 = $2), (SELECT count(*) FROM "
		"version),"
		" (SELECT coalesce(sum(size), 0) FROM content),"
		" (SELECT count(*) FROM version WHERE verdict IN ('blind', 'over'))",
		&stmt, "ii", (int64_t)S_IFMT, (int64_t)S_IFREG);

	if (!err)
		err = sql_step(stmt);
	if (err == SQL_ROW) {
		*ret_counts = (struct report_counts){sql_int64(stmt, 0), sql_int64(stmt, 1),
			sql_int64(stmt, 2), sql_int64(stmt, 3)};
		sql_reset(stmt);
	}
	journal_read_end(tree->journal);
	return err < 0 ? err : 0;
}

/*
 * Logs. An element is an operation and the version that it made, if any. A saver often does not know the number of its
 * basis: it is the last version before with that content.
 */
enum column {
	COLUMN_SEQ,
	COLUMN_ID,
	COLUMN_TIME,
	COLUMN_KIND,
	COLUMN_UID,
	COLUMN_USER,
	COLUMN_PID,
	COLUMN_PROGRAM,
	COLUMN_HOST,
	COLUMN_ENTRY,
	COLUMN_NUMBER,
	COLUMN_SIZE,
	COLUMN_HASH,
	COLUMN_VERDICT,
	COLUMN_OWNER,
	COLUMN_GROUP,
	COLUMN_MODE,
	COLUMN_BASIS_KIND,
	COLUMN_BASIS_NUMBER,
	COLUMN_BASIS_HASH,
	COLUMN_ORIGIN,
	COLUMN_ORIGIN_NUMBER,
	COLUMN_ACCESS,
	COLUMN_LINEAGE,
	COLUMN_NODE,
};

#define COLUMNS                                                                                    \
	"o.seq, o.id, o.time, coalesce(v.kind, o.kind), o.uid, o.user, o.pid, o.program, o.host,"  \
	" coalesce(v.lineage, o.target, o.entry, (SELECT e.id FROM entry e WHERE e.node = o.node " \
	"LIMIT 1)),"                                                                               \
	" v.number, c.size, c.hash, v.verdict, v.uid, v.gid, v.mode, v.basis_kind,"                \
	" coalesce(v.basis_number, (SELECT p.number FROM version p WHERE p.lineage = v.lineage"    \
	"  AND p.number < v.number AND p.content = v.basis ORDER BY p.number DESC LIMIT 1)),"      \
	" b.hash, nullif(v.origin, v.lineage), v.origin_number,"                                   \
	" coalesce(v.access, o.access, -1), v.lineage, v.node"
#define OF_VERSION " LEFT JOIN content c ON c.id = v.content LEFT JOIN content b ON b.id = v.basis "
#define OF_OPERATION                                                                               \
	" FROM operation o LEFT JOIN version v ON v.seq = o.seq AND v.lineage = "                  \
	"coalesce(o.target, o.entry)" OF_VERSION

static const char *const log_queries[] = {
	[REPORT_LINEAGE] =
		"SELECT " COLUMNS " FROM version v JOIN operation o ON o.seq = v.seq" OF_VERSION
		"WHERE v.lineage = $1 AND v.number < $2 ORDER BY v.number DESC LIMIT $3",
	[REPORT_DIRECTORY] = "SELECT " COLUMNS OF_OPERATION "WHERE o.seq IN"
			     " (SELECT s.seq FROM entry e JOIN operation s ON s.entry = e.id WHERE "
			     "e.parent = $1 UNION ALL"
			     "  SELECT s.seq FROM entry e JOIN operation s ON s.target = e.id "
			     "WHERE e.parent = $1)"
			     " AND o.seq < $2 ORDER BY o.seq DESC LIMIT $3",
	[REPORT_TREE] = "SELECT " COLUMNS OF_OPERATION
			"WHERE $1 AND o.seq < $2 ORDER BY o.seq DESC LIMIT $3",
};

static json_t *text_or_null(struct sql_stmt *stmt, enum column column)
{
	const char *text = sql_text(stmt, (int)column);

	return sql_is_null(stmt, (int)column) ? json_null() : report_text(text, strlen(text));
}

static json_t *number_or_null(struct sql_stmt *stmt, enum column column)
{
	return sql_is_null(stmt, (int)column) ? json_null()
					      : json_integer(sql_int64(stmt, (int)column));
}

static json_t *hash_or_null(struct sql_stmt *stmt, enum column column)
{
	size_t bytes;
	const void *hash = sql_blob(stmt, (int)column, &bytes);

	return bytes ? hex_text(hash, bytes) : json_null();
}

static json_t *uuid(struct sql_stmt *stmt)
{
	static const size_t group_ends[] = {4, 6, 8, 10, 16};
	size_t bytes, at = 0;
	const unsigned char *id = sql_blob(stmt, COLUMN_ID, &bytes);
	char text[37], *end = text;

	for (size_t i = 0; i < ARRAY_SIZE(group_ends) && bytes == 16; i++) {
		if (i > 0)
			*end++ = '-';
		for (; at < group_ends[i]; at++)
			end += sprintf(end, "%02x", id[at]);
	}
	return json_stringn(text, (size_t)(end - text));
}

static json_t *mode_or_null(struct sql_stmt *stmt)
{
	return sql_is_null(stmt, COLUMN_MODE) ? json_null()
					      : report_mode((mode_t)sql_int64(stmt, COLUMN_MODE));
}

/* What of an element the viewer may see. */
struct sight {
	bool element, hash, basis, origin;
};

static int sees_directory(
	struct sql *sql, struct viewer *viewer, int64_t entry, int64_t access, uid_t uid, int what)
{
	struct entry_row row;
	struct name name;
	int may = viewer_then(viewer, sql, access, uid, what);

	if (may != 1 || !entry)
		return may;
	may = record_entry_by_id(sql, entry, &row, &name);
	return may == SQL_ROW ? viewer_now(viewer, sql, row.parent, what) : may;
}

static int sees_origin(struct sql *sql, struct sql_stmt *stmt, struct viewer *viewer)
{
	int64_t origin = sql_int64(stmt, COLUMN_ORIGIN);
	struct version_row row;
	int may = record_version_get(sql, origin, sql_int64(stmt, COLUMN_ORIGIN_NUMBER), &row);

	if (may != SQL_ROW)
		return may;
	return sees_directory(sql, viewer, origin, row.access, row.uid, R_OK | X_OK);
}

static int sees_basis(struct sql *sql, struct sql_stmt *stmt, struct viewer *viewer)
{
	struct version_row row;
	int may = 0;

	if (!sql_is_null(stmt, COLUMN_BASIS_NUMBER))
		may = record_version_get(sql, sql_int64(stmt, COLUMN_LINEAGE),
			sql_int64(stmt, COLUMN_BASIS_NUMBER), &row);
	return may == SQL_ROW ? viewer_reads(viewer, sql, &row) : may;
}

static int sees_hash(struct sql *sql, struct sql_stmt *stmt, struct viewer *viewer)
{
	const struct version_row row = {
		.lineage = sql_int64(stmt, COLUMN_LINEAGE),
		.node = sql_int64(stmt, COLUMN_NODE),
		.mode = (mode_t)sql_int64(stmt, COLUMN_MODE),
		.uid = (uid_t)sql_int64(stmt, COLUMN_OWNER),
		.gid = (gid_t)sql_int64(stmt, COLUMN_GROUP),
		.access = sql_int64(stmt, COLUMN_ACCESS),
	};

	return viewer_reads(viewer, sql, &row);
}

static int look(
	struct sql *sql, struct sql_stmt *stmt, struct report *report, struct sight *ret_sight)
{
	struct viewer *viewer = report->viewer;
	int what = report->what == REPORT_LINEAGE ? X_OK : R_OK | X_OK;
	int element, hash = 0, basis = 0, origin = 0;

	*ret_sight = (struct sight){true, true, true, true};
	if (viewer->everything)
		return 0;
	element = sees_directory(sql, viewer, sql_int64(stmt, COLUMN_ENTRY),
		sql_int64(stmt, COLUMN_ACCESS), (uid_t)sql_int64(stmt, COLUMN_UID), what);
	if (element == 1 && !sql_is_null(stmt, COLUMN_HASH))
		hash = sees_hash(sql, stmt, viewer);
	if (element == 1 && !sql_is_null(stmt, COLUMN_BASIS_HASH))
		basis = sees_basis(sql, stmt, viewer);
	if (element == 1 && !sql_is_null(stmt, COLUMN_ORIGIN))
		origin = sees_origin(sql, stmt, viewer);
	*ret_sight = (struct sight){element == 1, hash == 1, basis == 1, origin == 1};
	return element < 0  ? element
	       : hash < 0   ? hash
	       : basis < 0  ? basis
	       : origin < 0 ? origin
			    : 0;
}

static json_t *basis(struct sql_stmt *stmt, bool with_hash)
{
	if (sql_is_null(stmt, COLUMN_BASIS_KIND))
		return json_null();
	return json_pack("{s:o, s:o, s:o}", "kind", text_or_null(stmt, COLUMN_BASIS_KIND),
		"version", number_or_null(stmt, COLUMN_BASIS_NUMBER), "hash",
		with_hash ? hash_or_null(stmt, COLUMN_BASIS_HASH) : json_null());
}

static int put_origin(struct sql *sql, struct sql_stmt *stmt, bool visible, json_t *element)
{
	json_t *origin = visible && !sql_is_null(stmt, COLUMN_ORIGIN) ? json_object() : json_null();

	if (json_object_set_new(element, "origin", origin) != 0)
		return -ENOMEM;
	if (json_is_null(origin))
		return 0;
	return put_path(sql, origin, sql_int64(stmt, COLUMN_ORIGIN))
		       ?: json_object_set_new(
				  origin, "version", number_or_null(stmt, COLUMN_ORIGIN_NUMBER))
			  ? -ENOMEM
			  : 0;
}

static int put_element(
	struct sql *sql, struct sql_stmt *stmt, const struct sight *sight, json_t *page)
{
	json_t *element = json_pack("{s:o, s:o, s:o, s:o, s:o}", "version",
		number_or_null(stmt, COLUMN_NUMBER), "seq", number_or_null(stmt, COLUMN_SEQ), "id",
		uuid(stmt), "time", report_time(sql_int64(stmt, COLUMN_TIME)), "kind",
		text_or_null(stmt, COLUMN_KIND));
	json_t *hash = sight->hash ? hash_or_null(stmt, COLUMN_HASH) : json_null();
	int err = json_array_append_new(page, element)
			  ? -ENOMEM
			  : put_path(sql, element, sql_int64(stmt, COLUMN_ENTRY));

	if (!err)
		err = json_object_update_new(element,
			      json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
					"s:o}",
				      "size", number_or_null(stmt, COLUMN_SIZE), "hash", hash,
				      "uid", number_or_null(stmt, COLUMN_UID), "user",
				      text_or_null(stmt, COLUMN_USER), "pid",
				      number_or_null(stmt, COLUMN_PID), "program",
				      text_or_null(stmt, COLUMN_PROGRAM), "host",
				      text_or_null(stmt, COLUMN_HOST), "basis",
				      basis(stmt, sight->basis), "verdict",
				      text_or_null(stmt, COLUMN_VERDICT), "owner",
				      number_or_null(stmt, COLUMN_OWNER), "group",
				      number_or_null(stmt, COLUMN_GROUP), "mode",
				      mode_or_null(stmt)))
			      ? -ENOMEM
			      : 0;
	else
		json_decref(hash);
	return err ?: put_origin(sql, stmt, sight->origin, element);
}

static void begin_lineage(struct report *report, int64_t lineage, int64_t before)
{
	report->id = lineage;
	report->before = report->top = before;
	report->seen[report->seen_count++] = lineage;
}

void report_log(struct report *report, struct tree *tree, struct viewer *viewer,
	enum report_what what, int64_t id)
{
	*report = (struct report){.tree = tree, .viewer = viewer, .what = what};
	begin_lineage(report, id, INT64_MAX);
}

static bool was_seen(const struct report *report, int64_t lineage)
{
	for (size_t i = 0; i < report->seen_count; i++)
		if (report->seen[i] == lineage)
			return true;
	return report->seen_count == REPORT_FOLLOW_MAX;
}

/* Goes on with the name that the content came from last. What a save by rename comes from is not followed: a name with a single
 * version, that took its content over into an older lineage. */
static int follow_origin(struct sql *sql, struct report *report)
{
	int64_t origin = 0, number = 0;
	struct sql_stmt *stmt;
	int err;

	if (report->what != REPORT_LINEAGE)
		return 0;
	err = sql_query(sql,
		"SELECT origin, origin_number FROM version WHERE lineage = $1 AND number < $2 AND "
		"origin <> lineage"
		" AND origin_number > (number > 1) ORDER BY number DESC LIMIT 1",
		&stmt, "ii", report->id, report->top);
	if (!err)
		err = sql_step(stmt);
	if (err == SQL_ROW) {
		origin = sql_int64(stmt, 0);
		number = sql_int64(stmt, 1);
		sql_reset(stmt);
	}
	if (err != SQL_ROW || was_seen(report, origin))
		return err < 0 ? err : 0;
	begin_lineage(report, origin, number + 1);
	return 1;
}

/* The number of rows, seen or not; or -errno. */
static int read_page(struct sql *sql, struct report *report, json_t *page)
{
	struct sight sight;
	struct sql_stmt *stmt;
	int rows = 0;
	int err = sql_query(sql, log_queries[report->what], &stmt, "iii", report->id,
		report->before, (int64_t)PAGE_MAX);

	while (!err && (err = sql_step(stmt)) == SQL_ROW) {
		rows++;
		report->before = sql_int64(
			stmt, report->what == REPORT_LINEAGE ? COLUMN_NUMBER : COLUMN_SEQ);
		err = look(sql, stmt, report, &sight);
		if (!err && sight.element)
			err = put_element(sql, stmt, &sight, page);
		if (err)
			sql_reset(stmt);
	}
	return err ? err : rows;
}

int report_page(struct report *report, json_t **ret_page)
{
	struct sql *sql = journal_read_begin(report->tree->journal);
	json_t *page = json_array();
	int rows;

	do
		rows = page ? read_page(sql, report, page) : -ENOMEM;
	while (rows == 0 && (rows = follow_origin(sql, report)) > 0);
	journal_read_end(report->tree->journal);
	if (rows < 0) {
		json_decref(page);
		return rows;
	}
	report->end = rows == 0;
	*ret_page = page;
	return 0;
}
