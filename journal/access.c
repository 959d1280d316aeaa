#include "journal/access.h"

#include <errno.h>
#include <stdlib.h>
#include <uthash.h>

#include "journal/record.h"

struct access_known {
	int64_t directory, access;
	UT_hash_handle hh;
};

void access_forget(struct journal *journal)
{
	struct access_known *known, *next;

	HASH_ITER(hh, journal->access, known, next)
	{
		HASH_DELETE(hh, journal->access, known);
		free(known);
	}
}

/* Without memory it is looked up again. */
static void remember(struct journal *journal, int64_t directory, int64_t access)
{
	struct access_known *known;

	if (HASH_COUNT(journal->access) >= ACCESS_KNOWN_MAX)
		access_forget(journal);
	known = malloc(sizeof(*known));
	if (!known)
		return;
	known->directory = directory;
	known->access = access;
	HASH_ADD(hh, journal->access, directory, sizeof(known->directory), known);
}

static int find_or_insert(
	struct sql *sql, int64_t up, const struct rights *rights, int64_t *ret_access)
{
	int64_t mode = rights->mode & 0777;
	int err = sql_int(sql, ret_access,
		"SELECT id FROM access WHERE up = $1 AND mode = $2 AND uid = $3 AND gid = $4",
		"iiii", up, mode, (int64_t)rights->uid, (int64_t)rights->gid);

	if (err == 0)
		err = sql_int(sql, ret_access,
			"INSERT INTO access (up, mode, uid, gid) VALUES ($1, $2, $3, $4) RETURNING "
			"id",
			"iiii", up, mode, (int64_t)rights->uid, (int64_t)rights->gid);
	return err == SQL_ROW ? 0 : err < 0 ? err : -EIO;
}

int access_of(struct txn *txn, int64_t directory, int64_t *ret_access)
{
	struct access_known *known;
	struct rights rights;
	int64_t parent, up = ACCESS_NONE;
	int err;

	/* What a moved directory displaced is in no directory: its parent is negative. */
	if (directory <= 0) {
		*ret_access = ACCESS_NONE;
		return 0;
	}
	HASH_FIND(hh, txn->journal->access, &directory, sizeof(directory), known);
	if (known) {
		*ret_access = known->access;
		return 0;
	}
	err = record_entry_rights(txn->sql, directory, &parent, &rights);
	if (err != SQL_ROW)
		return err < 0 ? err : -EUCLEAN;
	err = access_of(txn, parent, &up);
	if (!err)
		err = find_or_insert(txn->sql, up, &rights, ret_access);
	if (!err)
		remember(txn->journal, directory, *ret_access);
	return err;
}

int access_of_entry(struct txn *txn, int64_t entry, int64_t *ret_access)
{
	int64_t parent;
	int err = sql_int(txn->sql, &parent, "SELECT parent FROM entry WHERE id = $1", "i", entry);

	if (err != SQL_ROW)
		return err < 0 ? err : -EUCLEAN;
	return access_of(txn, parent, ret_access);
}
