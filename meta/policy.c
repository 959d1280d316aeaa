#include "meta/policy.h"

#include <fnmatch.h>
#include <string.h>

#include "journal/base.h"

static const char *const live_patterns[] = {
	/* databases */
	"*.db", "*.db3", "*.sqlite*", "*.mdb",
	/* disk images */
	"*.img", "*.qcow2", "*.vdi", "*.vmdk",
	/* what others follow while it grows */
	"*.log"};

static const char *const scratch_patterns[] = {
	/* SQLite's */
	"*-wal", "*-shm", "*-journal",
	/* what an editor writes for another one, and for after a crash */
	".*.sw?"};

/* Sources: https://www.sqlite.org/fileformat.html, magic(5) of file(1), and the headers of Berkeley DB (db_page.h), GDBM
 * (gdbmconst.h), LMDB (mdb.c: MDB_MAGIC after the page header), TDB (tdb_private.h), and QEMU (qcow2.h). */
static const struct {
	size_t offset, length;
	const char *bytes;
} magics[] = {
	{0, 16, "SQLite format 3\0"},
	{16, 4, "\xde\xc0\xef\xbe"}, /* LMDB */
	{12, 4, "\x62\x31\x05\x00"},
	{12, 4, "\x00\x05\x31\x62"}, /* Berkeley DB, btree */
	{12, 4, "\x61\x15\x06\x00"},
	{12, 4, "\x00\x06\x15\x61"}, /* Berkeley DB, hash */
	{0, 4, "\xce\x9a\x57\x13"},
	{0, 4, "\xcf\x9a\x57\x13"}, /* GDBM */
	{0, 4, "\xcd\x9a\x57\x13"},
	{0, 9, "TDB file\n"},
	{0, 4, "QFI\xfb"},
};

static bool matches(const char *name, const char *const *patterns, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (fnmatch(patterns[i], name, 0) == 0)
			return true;
	return false;
}

bool policy_is_live(const char *name)
{
	return matches(name, live_patterns, ARRAY_SIZE(live_patterns)) || policy_is_scratch(name);
}

bool policy_is_scratch(const char *name)
{
	return matches(name, scratch_patterns, ARRAY_SIZE(scratch_patterns));
}

bool policy_is_database(const void *head, size_t bytes)
{
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if (magics[i].offset + magics[i].length <= bytes &&
			memcmp((const char *)head + magics[i].offset, magics[i].bytes,
				magics[i].length) == 0)
			return true;
	return false;
}
