#include "journal/record.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define NODE_COLUMNS                                                                               \
	"n.id, n.ino, n.mode, n.uid, n.gid, n.rdev, n.nlink, n.atime, n.mtime, n.ctime, n.btime, " \
	"n.live, n.xattrs,"                                                                        \
	" length(n.target), c.id, c.object, c.size, c.hash, c.blocks"
#define NODE_TABLES "node n LEFT JOIN content c ON c.id = n.content"

static void read_hash(struct sql_stmt *stmt, int column, struct object_hash *hash)
{
	size_t bytes;
	const void *blob = sql_blob(stmt, column, &bytes);

	memset(hash, 0, sizeof(*hash));
	if (bytes == sizeof(hash->bytes))
		memcpy(hash->bytes, blob, bytes);
}

static void read_name(struct sql_stmt *stmt, int column, struct name *name)
{
	const void *bytes = sql_blob(stmt, column, &name->length);

	if (name->length > RECORD_NAME_MAX)
		name->length = RECORD_NAME_MAX;
	memcpy(name->bytes, bytes, name->length);
	name->bytes[name->length] = '\0';
}

static void read_node(struct sql_stmt *stmt, int at, struct node_row *row)
{
	row->id = sql_int64(stmt, at);
	row->ino = sql_int64(stmt, at + 1);
	row->mode = (mode_t)sql_int64(stmt, at + 2);
	row->uid = (uid_t)sql_int64(stmt, at + 3);
	row->gid = (gid_t)sql_int64(stmt, at + 4);
	row->rdev = (dev_t)sql_int64(stmt, at + 5);
	row->nlink = sql_int64(stmt, at + 6);
	row->atime_ns = sql_int64(stmt, at + 7);
	row->mtime_ns = sql_int64(stmt, at + 8);
	row->ctime_ns = sql_int64(stmt, at + 9);
	row->btime_ns = sql_int64(stmt, at + 10);
	row->live = sql_int64(stmt, at + 11);
	row->xattrs = sql_int64(stmt, at + 12);
	row->target_bytes = sql_int64(stmt, at + 13);
	row->content.id = sql_int64(stmt, at + 14);
	row->content.object = sql_int64(stmt, at + 15);
	row->content.size_bytes = sql_int64(stmt, at + 16);
	read_hash(stmt, at + 17, &row->content.hash);
	row->content.blocks = sql_int64(stmt, at + 18);
}

static void read_entry(struct sql_stmt *stmt, struct entry_row *row)
{
	row->id = sql_int64(stmt, 0);
	row->parent = sql_int64(stmt, 1);
	row->node = sql_int64(stmt, 2);
	row->versions = sql_int64(stmt, 3);
}

int record_node_get(struct sql *sql, int64_t id, struct node_row *ret_row)
{
	struct sql_stmt *stmt;
	int err = sql_query(sql, "SELECT " NODE_COLUMNS " FROM " NODE_TABLES " WHERE n.id = $1",
		&stmt, "i", id);

	if (err)
		return err;
	err = sql_step(stmt);
	if (err == SQL_ROW)
		read_node(stmt, 0, ret_row);
	sql_reset(stmt);
	return err;
}

int record_node_insert(
	struct sql *sql, const struct node_row *row, const void *target, size_t target_bytes)
{
	return sql_run(sql, NULL,
		"INSERT INTO node VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, "
		"nullif($12, 0), $13, $14, $15)",
		"iiiiiiiiiiiiiib", row->id, row->ino, (int64_t)row->mode, (int64_t)row->uid,
		(int64_t)row->gid, (int64_t)row->rdev, row->nlink, row->atime_ns, row->mtime_ns,
		row->ctime_ns, row->btime_ns, row->content.id, row->live, row->xattrs, target,
		target_bytes);
}

int record_node_update(struct sql *sql, const struct node_row *row)
{
	return sql_run(sql, NULL,
		"UPDATE node SET ino = $2, mode = $3, uid = $4, gid = $5, nlink = $6, atime = $7, "
		"mtime = $8,"
		" ctime = $9, content = nullif($10, 0), live = $11 WHERE id = $1",
		"iiiiiiiiiii", row->id, row->ino, (int64_t)row->mode, (int64_t)row->uid,
		(int64_t)row->gid, row->nlink, row->atime_ns, row->mtime_ns, row->ctime_ns,
		row->content.id, row->live);
}

int record_node_delete(struct sql *sql, const struct node_row *row)
{
	int err = 0;

	if (row->xattrs)
		err = sql_run(sql, NULL, "DELETE FROM xattr WHERE node = $1", "i", row->id);
	if (!err && (S_ISREG(row->mode) || S_ISDIR(row->mode)))
		err = sql_run(sql, NULL, "INSERT INTO gone VALUES ($1, $2, $3, $4)", "iiii",
			row->id, (int64_t)row->mode, (int64_t)row->uid, (int64_t)row->gid);
	return err ?: sql_run(sql, NULL, "DELETE FROM node WHERE id = $1", "i", row->id);
}

static void read_rights(struct sql_stmt *stmt, int at, struct rights *rights)
{
	rights->mode = (mode_t)sql_int64(stmt, at);
	rights->uid = (uid_t)sql_int64(stmt, at + 1);
	rights->gid = (gid_t)sql_int64(stmt, at + 2);
}

/* A statement whose row is a number and rights. */
static int get_rights(struct sql *sql, const char *text, int64_t id, int64_t *ret_number,
	struct rights *ret_rights)
{
	struct sql_stmt *stmt;
	int err = sql_query(sql, text, &stmt, "i", id);

	if (err)
		return err;
	err = sql_step(stmt);
	if (err == SQL_ROW) {
		*ret_number = sql_int64(stmt, 0);
		read_rights(stmt, 1, ret_rights);
	}
	sql_reset(stmt);
	return err;
}

int record_node_rights(struct sql *sql, int64_t id, struct rights *ret_rights)
{
	int64_t same;

	return get_rights(sql,
		"SELECT id, mode, uid, gid FROM node WHERE id = $1 UNION ALL"
		" SELECT node, mode, uid, gid FROM gone WHERE node = $1",
		id, &same, ret_rights);
}

int record_access_get(struct sql *sql, int64_t id, int64_t *ret_up, struct rights *ret_rights)
{
	return get_rights(
		sql, "SELECT up, mode, uid, gid FROM access WHERE id = $1", id, ret_up, ret_rights);
}

int record_node_target(struct sql *sql, int64_t id, char *buf, size_t size_bytes)
{
	struct sql_stmt *stmt;
	const void *target;
	size_t length;
	int err = sql_query(sql, "SELECT target FROM node WHERE id = $1", &stmt, "i", id);

	if (err)
		return err;
	err = sql_step(stmt);
	if (err == SQL_ROW) {
		target = sql_blob(stmt, 0, &length);
		if (length >= size_bytes)
			length = size_bytes - 1;
		memcpy(buf, target, length);
		buf[length] = '\0';
	}
	sql_reset(stmt);
	return err;
}

int record_node_set_live(struct sql *sql, int64_t id, int64_t object)
{
	return sql_run(sql, NULL, "UPDATE node SET live = $2 WHERE id = $1", "ii", id, object);
}

int record_node_touch(struct sql *sql, int64_t id, int64_t time_ns, int64_t links)
{
	return sql_run(sql, NULL,
		"UPDATE node SET mtime = $2, ctime = $2, nlink = nlink + $3 WHERE id = $1", "iii",
		id, time_ns, links);
}

int record_entry_get(
	struct sql *sql, int64_t parent, const char *name, size_t length, struct entry_row *ret_row)
{
	struct sql_stmt *stmt;
	int err = sql_query(sql,
		"SELECT id, parent, node, versions FROM entry WHERE parent = $1 AND name = $2",
		&stmt, "ib", parent, name, length);

	if (err)
		return err;
	err = sql_step(stmt);
	if (err == SQL_ROW)
		read_entry(stmt, ret_row);
	sql_reset(stmt);
	return err;
}

int record_entry_lookup(struct sql *sql, int64_t parent, const char *name, size_t length,
	struct entry_row *ret_entry, struct node_row *ret_node)
{
	struct sql_stmt *stmt;
	int err = sql_query(sql,
		"SELECT e.id, e.parent, e.node, e.versions, " NODE_COLUMNS
		" FROM entry e JOIN node n ON n.id = e.node LEFT JOIN content c ON c.id = n.content"
		" WHERE e.parent = $1 AND e.name = $2",
		&stmt, "ib", parent, name, length);

	if (err)
		return err;
	err = sql_step(stmt);
	if (err == SQL_ROW) {
		read_entry(stmt, ret_entry);
		read_node(stmt, 4, ret_node);
	}
	sql_reset(stmt);
	return err;
}

int record_entry_by_id(
	struct sql *sql, int64_t id, struct entry_row *ret_row, struct name *ret_name)
{
	struct sql_stmt *stmt;
	int err = sql_query(sql, "SELECT id, parent, node, versions, name FROM entry WHERE id = $1",
		&stmt, "i", id);

	if (err)
		return err;
	err = sql_step(stmt);
	if (err == SQL_ROW) {
		read_entry(stmt, ret_row);
		read_name(stmt, 4, ret_name);
	}
	sql_reset(stmt);
	return err;
}

int record_entry_insert(struct sql *sql, int64_t parent, const char *name, size_t length,
	int64_t node, int64_t *ret_id)
{
	int err = sql_int(sql, ret_id,
		"INSERT INTO entry (parent, name, node, versions) VALUES ($1, $2, $3, 0) RETURNING "
		"id",
		"ibi", parent, name, length, node);

	return err == SQL_ROW ? 0 : err < 0 ? err : -EIO;
}

int record_entry_set_node(struct sql *sql, int64_t id, int64_t node)
{
	return sql_run(sql, NULL, "UPDATE entry SET node = $2 WHERE id = $1", "ii", id, node);
}

int record_entry_gone(struct sql *sql, int64_t id)
{
	return sql_run(sql, NULL,
		"UPDATE entry SET last = coalesce(node, last), node = NULL WHERE id = $1", "i", id);
}

int record_entry_rights(struct sql *sql, int64_t id, int64_t *ret_parent, struct rights *ret_rights)
{
	return get_rights(sql,
		"SELECT e.parent, coalesce(n.mode, g.mode, 448), coalesce(n.uid, g.uid,"
		"  (SELECT r.uid FROM entry t JOIN node r ON r.id = t.node WHERE t.id = 1)),"
		" coalesce(n.gid, g.gid, 0) FROM entry e LEFT JOIN node n ON n.id = coalesce(e.node, "
		"e.last)"
		" LEFT JOIN gone g ON g.node = e.last AND e.node IS NULL WHERE e.id = $1",
		id, ret_parent, ret_rights);
}

int record_entry_set_versions(struct sql *sql, int64_t id, int64_t versions)
{
	return sql_run(
		sql, NULL, "UPDATE entry SET versions = $2 WHERE id = $1", "ii", id, versions);
}

int record_entry_move(
	struct sql *sql, int64_t id, int64_t parent, const char *name, size_t length, int64_t prev)
{
	return sql_run(sql, NULL,
		"UPDATE entry SET parent = $2, name = $3, prev = coalesce(nullif($4, 0), prev) "
		"WHERE id = $1",
		"iibi", id, parent, name, length, prev);
}

int record_entry_displace(struct sql *sql, int64_t id)
{
	return sql_run(sql, NULL,
		"UPDATE entry SET last = coalesce(node, last), node = NULL, parent = -id WHERE id = $1",
		"i", id);
}

int record_entry_scan(struct sql *sql, int64_t parent, int64_t after, int64_t limit,
	bool (*visit)(void *arg, const struct entry_row *entry, const struct name *name,
		const struct node_row *node),
	void *arg)
{
	struct sql_stmt *stmt;
	struct entry_row entry;
	struct node_row node;
	struct name name;
	bool more = true;
	int err = sql_query(sql,
		"SELECT e.id, e.parent, e.node, e.versions, " NODE_COLUMNS
		", e.name FROM entry e JOIN node n ON n.id = e.node LEFT JOIN content c ON c.id = "
		"n.content"
		" WHERE e.parent = $1 AND e.node IS NOT NULL AND e.id > $2 ORDER BY e.id LIMIT $3",
		&stmt, "iii", parent, after, limit);

	while (!err && more && (err = sql_step(stmt)) == SQL_ROW) {
		read_entry(stmt, &entry);
		read_node(stmt, 4, &node);
		read_name(stmt, 23, &name);
		more = visit(arg, &entry, &name, &node);
		err = 0;
	}
	if (!more)
		sql_reset(stmt);
	return err;
}

int record_entry_has_children(struct sql *sql, int64_t parent)
{
	int64_t one;

	return sql_int(sql, &one,
		"SELECT 1 FROM entry WHERE parent = $1 AND node IS NOT NULL LIMIT 1", "i", parent);
}

/* Prepends, so that the walk upwards builds the path from its end. */
static int path_prepend(char **path, size_t *length, const struct name *name)
{
	char *longer = malloc(name->length + 1 + *length + 1);

	if (!longer)
		return -ENOMEM;
	memcpy(longer, name->bytes, name->length);
	if (*length > 0)
		longer[name->length] = '/';
	memcpy(longer + name->length + (*length > 0), *path ? *path : "", *length);
	*length += name->length + (*length > 0);
	longer[*length] = '\0';
	free(*path);
	*path = longer;
	return 0;
}

int record_entry_path(struct sql *sql, int64_t id, char **ret_path, size_t *ret_length)
{
	char *path = strdup("");
	size_t length = 0;
	struct entry_row row;
	struct name name;
	int err = path ? 0 : -ENOMEM;

	while (!err && id > RECORD_ROOT) {
		err = record_entry_by_id(sql, id, &row, &name);
		if (err == SQL_ROW)
			err = path_prepend(&path, &length, &name);
		else if (!err)
			err = -EUCLEAN;
		id = row.parent;
	}
	if (err) {
		free(path);
		return err;
	}
	*ret_path = path;
	*ret_length = length;
	return 0;
}

int record_content_insert(struct sql *sql, struct content *content, int64_t seq)
{
	int err = sql_int(sql, &content->id,
		"INSERT INTO content (object, size, blocks, hash, seq) VALUES ($1, $2, $3, $4, $5)"
		" RETURNING id",
		"iiibi", content->object, content->size_bytes, content->blocks, content->hash.bytes,
		sizeof(content->hash.bytes), seq);

	return err == SQL_ROW ? 0 : err < 0 ? err : -EIO;
}

int record_content_get(struct sql *sql, int64_t id, struct content *ret_content)
{
	struct sql_stmt *stmt;
	int err = sql_query(sql, "SELECT object, size, hash, blocks FROM content WHERE id = $1",
		&stmt, "i", id);

	if (err)
		return err;
	err = sql_step(stmt);
	if (err == SQL_ROW) {
		ret_content->id = id;
		ret_content->object = sql_int64(stmt, 0);
		ret_content->size_bytes = sql_int64(stmt, 1);
		read_hash(stmt, 2, &ret_content->hash);
		ret_content->blocks = sql_int64(stmt, 3);
	}
	sql_reset(stmt);
	return err;
}

int record_content_move(struct sql *sql, int64_t from_object, int64_t to_object)
{
	int64_t changes = 0;
	int err = sql_run(sql, &changes, "UPDATE content SET object = $2 WHERE object = $1", "ii",
		from_object, to_object);

	return err ? err : changes > 0;
}

int record_content_prune(struct sql *sql, int64_t object)
{
	return sql_run(sql, NULL,
		       "UPDATE version SET content = NULL WHERE content IN"
		       " (SELECT id FROM content WHERE object = $1)",
		       "i", object)
		       ?: sql_run(sql, NULL,
				  "UPDATE node SET content = NULL WHERE live = $1 AND content IN"
				  " (SELECT id FROM content WHERE object = $1)",
				  "i", object)
		       ?: sql_run(sql, NULL, "DELETE FROM content WHERE object = $1", "i", object);
}

int record_version_insert(struct sql *sql, const struct version_row *row, int64_t seq)
{
	return sql_run(sql, NULL,
		"INSERT INTO version (lineage, number, content, node, seq, kind, verdict, "
		"basis_kind, basis,"
		" basis_number, mode, uid, gid, mtime, origin, origin_number, access) VALUES ($1, "
		"$2, $3, $4, $5, $6, $7, $8,"
		" nullif($9, 0), nullif($10, 0), $11, $12, $13, $14, nullif($15, 0), nullif($16, "
		"0), nullif($17, -1))",
		"iiiiitttiiiiiiiii", row->lineage, row->number, row->content, row->node, seq,
		row->kind, row->verdict, row->basis.kind, row->basis.content, row->basis.number,
		(int64_t)row->mode, (int64_t)row->uid, (int64_t)row->gid, row->mtime_ns,
		row->origin, row->origin_number, row->access);
}

int record_version_get(
	struct sql *sql, int64_t lineage, int64_t number, struct version_row *ret_row)
{
	struct sql_stmt *stmt;
	int err;

	if (number)
		err = sql_query(sql,
			"SELECT lineage, number, content, node, mode, uid, gid, mtime, origin, "
			"origin_number, coalesce(access, -1)"
			" FROM version WHERE lineage = $1 AND number = $2",
			&stmt, "ii", lineage, number);
	else
		err = sql_query(sql,
			"SELECT lineage, number, content, node, mode, uid, gid, mtime, origin, "
			"origin_number, coalesce(access, -1)"
			" FROM version WHERE lineage = $1 AND verdict <> 'aside' ORDER BY number "
			"DESC LIMIT 1",
			&stmt, "i", lineage);
	if (err)
		return err;
	err = sql_step(stmt);
	if (err == SQL_ROW)
		*ret_row = (struct version_row){
			.lineage = sql_int64(stmt, 0),
			.number = sql_int64(stmt, 1),
			.content = sql_int64(stmt, 2),
			.node = sql_int64(stmt, 3),
			.mode = (mode_t)sql_int64(stmt, 4),
			.uid = (uid_t)sql_int64(stmt, 5),
			.gid = (gid_t)sql_int64(stmt, 6),
			.mtime_ns = sql_int64(stmt, 7),
			.origin = sql_int64(stmt, 8),
			.origin_number = sql_int64(stmt, 9),
			.access = sql_int64(stmt, 10),
		};
	sql_reset(stmt);
	return err;
}

int record_closing_put(struct sql *sql, const struct closing_row *row, int64_t time_ns,
	const struct actor *actor, const char *host)
{
	return sql_run(sql, NULL,
		"INSERT INTO closing VALUES ($1, $2, $3, $4, $5, $6, $7, $8, nullif($9, 0), "
		"nullif($10, 0), $11, $12,"
		" $13, $14, $15, $16, $17, $18) ON CONFLICT (object) DO UPDATE SET size = "
		"excluded.size,"
		" hash = excluded.hash, mtime = excluded.mtime, time = excluded.time",
		"iiiiibttiiiiiititt", row->object, row->node, row->entry, row->ino, row->size_bytes,
		row->hash.bytes, sizeof(row->hash.bytes), row->kind, row->basis.kind,
		row->basis.content, row->basis.number, row->mtime_ns, time_ns, (int64_t)actor->uid,
		(int64_t)actor->gid, actor->user, (int64_t)actor->pid, actor->program, host);
}

int record_closing_delete(struct sql *sql, int64_t object)
{
	return sql_run(sql, NULL, "DELETE FROM closing WHERE object = $1", "i", object);
}

int record_xattr_get(
	struct sql *sql, int64_t node, const char *name, void **ret_value, size_t *ret_bytes)
{
	struct sql_stmt *stmt;
	const void *value;
	int err = sql_query(sql, "SELECT value FROM xattr WHERE node = $1 AND name = $2", &stmt,
		"ib", node, name, strlen(name));

	if (err)
		return err;
	err = sql_step(stmt);
	if (err == SQL_ROW) {
		value = sql_blob(stmt, 0, ret_bytes);
		*ret_value = malloc(*ret_bytes + 1);
		if (*ret_value)
			memcpy(*ret_value, value, *ret_bytes);
		else
			err = -ENOMEM;
	}
	sql_reset(stmt);
	return err;
}

int record_xattr_set(
	struct sql *sql, int64_t node, const char *name, const void *value, size_t bytes)
{
	return sql_run(sql, NULL,
		"INSERT INTO xattr VALUES ($1, $2, $3) ON CONFLICT (node, name) DO UPDATE SET "
		"value = excluded.value",
		"ibb", node, name, strlen(name), bytes ? value : "", bytes);
}

int record_xattr_delete(struct sql *sql, int64_t node, const char *name)
{
	int64_t changes = 0;
	int err = sql_run(sql, &changes, "DELETE FROM xattr WHERE node = $1 AND name = $2", "ib",
		node, name, strlen(name));

	return err ? err : changes > 0;
}

int record_xattr_count(struct sql *sql, int64_t node, int64_t *ret_count)
{
	int err = sql_int(sql, ret_count, "SELECT count(*) FROM xattr WHERE node = $1", "i", node);

	if (err < 0)
		return err;
	return sql_run(
		sql, NULL, "UPDATE node SET xattrs = $2 WHERE id = $1", "ii", node, *ret_count);
}

int record_entry_displaced(struct sql *sql, int64_t id, struct entry_row *ret_row)
{
	struct sql_stmt *stmt;
	int err = sql_query(sql,
		"SELECT p.id, p.parent, p.node, p.versions FROM entry e JOIN entry p ON p.id = "
		"e.prev"
		" WHERE e.id = $1",
		&stmt, "i", id);

	if (err)
		return err;
	err = sql_step(stmt);
	if (err == SQL_ROW)
		read_entry(stmt, ret_row);
	sql_reset(stmt);
	return err;
}
