#include "journal/schema.h"

#include <errno.h>
#include <inttypes.h>

/*
 * tree       one row. durable_seq: what a loss of power cannot take. clean: 1 after a clean end
 * node       a file, directory, link or special file. ino changes when a content is replaced
 * entry      a name in a directory, and its lineage: the row outlives the file (node is then NULL), and its id is what
 *            the entries of a directory name as their parent, so that lineages move with a directory and come back
 *            with it. prev: the lineage that a moved directory displaced
 * content    a whole content: the first size bytes of an object
 * version    content number N of a lineage, with the rights and the time it had. verdict: next (follows its basis),
 *            blind (had none), over (went on top of one it had not seen), merged, aside (kept, never the head).
 *            content is NULL once it was pruned
 * operation  every mutation, in order. outcome of a save: version, unchanged, refused, dropped
 * closing    saves that were closed but not yet published; recovery publishes them
 *
 * Since format 2:
 * access     a directory as it was, and (up) the one above it: whoever wants to see what was in it must be let through
 *            by all of them. up 0: none, it is the tree's root. version and operation name the one that they were made
 *            in; NULL: older than format 2
 * entry      last: the node that had the name before it went
 * gone       the rights that a file or directory had when its last name went
 * garbage    objects that nothing names any more, and that may still be there
 */
static const char tables[] =
	"CREATE TABLE tree (one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL,"
	" id INTEGER NOT NULL, epoch INTEGER NOT NULL, durable_seq INTEGER NOT NULL, clean INTEGER "
	"NOT NULL);"

	"CREATE TABLE node (id INTEGER PRIMARY KEY, ino INTEGER NOT NULL, mode INTEGER NOT NULL,"
	" uid INTEGER NOT NULL, gid INTEGER NOT NULL, rdev INTEGER NOT NULL, nlink INTEGER NOT "
	"NULL,"
	" atime INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, btime INTEGER "
	"NOT NULL,"
	" content INTEGER, live INTEGER NOT NULL, xattrs INTEGER NOT NULL, target BLOB);"
	"CREATE INDEX node_live ON node (id) WHERE live <> 0;"

	"CREATE TABLE entry (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL,"
	" node INTEGER, versions INTEGER NOT NULL, prev INTEGER);"
	"CREATE UNIQUE INDEX entry_name ON entry (parent, name);"
	"CREATE INDEX entry_scan ON entry (parent, id) WHERE node IS NOT NULL;"
	"CREATE INDEX entry_node ON entry (node) WHERE node IS NOT NULL;"

	"CREATE TABLE content (id INTEGER PRIMARY KEY, object INTEGER NOT NULL, size INTEGER NOT "
	"NULL,"
	" blocks INTEGER NOT NULL, hash BLOB NOT NULL, seq INTEGER NOT NULL);"
	"CREATE INDEX content_object ON content (object);"

	"CREATE TABLE version (lineage INTEGER NOT NULL, number INTEGER NOT NULL, content INTEGER,"
	" node INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, verdict TEXT NOT NULL,"
	" basis_kind TEXT NOT NULL, basis INTEGER, basis_number INTEGER, mode INTEGER NOT NULL, "
	"uid INTEGER NOT NULL,"
	" gid INTEGER NOT NULL, acl BLOB, mtime INTEGER NOT NULL, origin INTEGER, origin_number "
	"INTEGER,"
	" PRIMARY KEY (lineage, number));"
	"CREATE INDEX version_seq ON version (seq);"
	"CREATE INDEX version_content ON version (content);"

	"CREATE TABLE operation (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, epoch INTEGER "
	"NOT NULL,"
	" time INTEGER NOT NULL, kind TEXT NOT NULL, outcome TEXT, node INTEGER, entry INTEGER, "
	"target INTEGER,"
	" uid INTEGER NOT NULL, gid INTEGER NOT NULL, user TEXT NOT NULL, pid INTEGER NOT NULL,"
	" program TEXT NOT NULL, host TEXT NOT NULL);"
	"CREATE INDEX operation_entry ON operation (entry);"
	"CREATE INDEX operation_target ON operation (target) WHERE target IS NOT NULL;"

	"CREATE TABLE closing (object INTEGER PRIMARY KEY, node INTEGER NOT NULL, entry INTEGER "
	"NOT NULL,"
	" ino INTEGER NOT NULL, size INTEGER NOT NULL, hash BLOB NOT NULL, kind TEXT NOT NULL,"
	" basis_kind TEXT NOT NULL, basis INTEGER, basis_number INTEGER, mtime INTEGER NOT NULL, "
	"time INTEGER NOT NULL,"
	" uid INTEGER NOT NULL, gid INTEGER NOT NULL, user TEXT NOT NULL, pid INTEGER NOT NULL,"
	" program TEXT NOT NULL, host TEXT NOT NULL);"

	"CREATE TABLE xattr (node INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,"
	" PRIMARY KEY (node, name));";

/* Step N takes format N + 1 to N + 2. A released step is never edited. */
static const char *const migrations[] = {
	"CREATE TABLE access (id INTEGER PRIMARY KEY, up INTEGER NOT NULL, mode INTEGER NOT NULL,"
	" uid INTEGER NOT NULL, gid INTEGER NOT NULL);"
	"CREATE UNIQUE INDEX access_key ON access (up, mode, uid, gid);"
	"ALTER TABLE version ADD COLUMN access INTEGER;"
	"ALTER TABLE operation ADD COLUMN access INTEGER;"
	"ALTER TABLE entry ADD COLUMN last INTEGER;"
	"CREATE TABLE gone (node INTEGER PRIMARY KEY, mode INTEGER NOT NULL, uid INTEGER NOT NULL,"
	" gid INTEGER NOT NULL);"
	"CREATE TABLE garbage (object INTEGER PRIMARY KEY);",
};
_Static_assert(ARRAY_SIZE(migrations) == SCHEMA_FORMAT - 1, "a step for each format");

int schema_create(struct sql *sql, int64_t tree_id)
{
	int err = sql_begin(sql);

	if (err)
		return err;
	err = sql_script(sql, tables);
	for (size_t i = 0; i < ARRAY_SIZE(migrations) && !err; i++)
		err = sql_script(sql, migrations[i]);
	if (!err)
		err = sql_run(sql, NULL, "INSERT INTO tree VALUES (1, $1, $2, 0, 0, 1)", "ii",
			(int64_t)SCHEMA_FORMAT, tree_id);
	if (!err)
		return sql_commit(sql);
	sql_rollback(sql);
	return err;
}

static int migrate(struct sql *sql, int64_t format)
{
	int err = sql_begin(sql);

	if (err)
		return err;
	err = sql_script(sql, migrations[format - 1]);
	if (!err)
		err = sql_run(sql, NULL, "UPDATE tree SET format = $1", "i", format + 1);
	if (!err)
		return sql_commit(sql);
	sql_rollback(sql);
	return err;
}

int schema_open(struct sql *sql, bool readonly, const char *path, struct diag *diag)
{
	int64_t format = 0;
	int err = sql_int(sql, &format, "SELECT format FROM tree", "");

	if (err < 0 && err != -EPROTO)
		return diag_set(diag, err, "%s: the journal cannot be read: %s", path,
			err == -EUCLEAN
				? "it is damaged; nothing was changed, restore it from a backup"
				: "see the log");
	if (err != SQL_ROW || format < 1)
		return diag_set(diag, -EUCLEAN,
			"%s: this is not a journal, or a damaged one; nothing was changed", path);
	if (format > SCHEMA_FORMAT)
		return diag_set(diag, -EPROTONOSUPPORT,
			"%s: journal format %" PRId64
			" is newer than this intactfs knows (%d); use a newer intactfs",
			path, format, SCHEMA_FORMAT);
	if (readonly && format < SCHEMA_FORMAT)
		return diag_set(diag, -EROFS,
			"%s: journal format %" PRId64
			" must be migrated; mount it once for writing",
			path, format);
	for (; format < SCHEMA_FORMAT; format++) {
		err = migrate(sql, format);
		if (err)
			return diag_set(diag, err,
				"%s: migrating the journal from format %" PRId64 " failed", path,
				format);
	}
	return 0;
}
