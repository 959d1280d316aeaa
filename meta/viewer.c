#include "meta/viewer.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "journal/access.h"

enum question { QUESTION_THEN, QUESTION_NOW };

/* Without padding, since its bytes are the key. */
struct viewer_key {
	int64_t question, id, what;
};

struct viewer_answer {
	struct viewer_key key;
	bool may;
	UT_hash_handle hh;
};

void viewer_init(struct viewer *viewer,
	bool (*allows)(void *arg, const struct rights *rights, int what), void *arg,
	bool everything)
{
	*viewer = (struct viewer){.allows = allows, .arg = arg, .everything = everything};
}

void viewer_deinit(struct viewer *viewer)
{
	struct viewer_answer *answer, *next;

	HASH_ITER(hh, viewer->answers, answer, next)
	{
		HASH_DELETE(hh, viewer->answers, answer);
		free(answer);
	}
}

/* Without memory it is found out again. */
static void remember(struct viewer *viewer, const struct viewer_key *key, bool may)
{
	struct viewer_answer *answer = malloc(sizeof(*answer));

	if (!answer)
		return;
	answer->key = *key;
	answer->may = may;
	HASH_ADD(hh, viewer->answers, key, sizeof(answer->key), answer);
}

/* A directory's rights, and what is above it. */
static int one_step(
	struct sql *sql, enum question question, int64_t id, int64_t *ret_up, struct rights *rights)
{
	int err = question == QUESTION_THEN ? record_access_get(sql, id, ret_up, rights)
					    : record_entry_rights(sql, id, ret_up, rights);

	return err < 0 ? err : err == SQL_ROW ? 0 : -EUCLEAN;
}

static int ask(struct viewer *viewer, struct sql *sql, enum question question, int64_t id, int what)
{
	struct viewer_key key = {question, id, what};
	struct viewer_answer *answer;
	struct rights rights;
	int64_t up;
	int may, err;

	/* Above the root; what a moved directory displaced is in none. */
	if (id <= 0)
		return 1;
	HASH_FIND(hh, viewer->answers, &key, sizeof(key), answer);
	if (answer)
		return answer->may;
	err = one_step(sql, question, id, &up, &rights);
	if (err)
		return err;
	rights.mode |= S_IFDIR;
	may = viewer->allows(viewer->arg, &rights, what);
	if (may)
		may = ask(viewer, sql, question, up, what | X_OK);
	if (may >= 0)
		remember(viewer, &key, may);
	return may;
}

int viewer_then(struct viewer *viewer, struct sql *sql, int64_t access, uid_t uid, int what)
{
	const struct rights own = {S_IFDIR | 0700, uid, (gid_t)-1};

	if (viewer->everything)
		return 1;
	if (access == ACCESS_UNKNOWN)
		return viewer->allows(viewer->arg, &own, what);
	return ask(viewer, sql, QUESTION_THEN, access, what);
}

int viewer_now(struct viewer *viewer, struct sql *sql, int64_t directory, int what)
{
	return viewer->everything ? 1 : ask(viewer, sql, QUESTION_NOW, directory, what);
}

int viewer_reads(struct viewer *viewer, struct sql *sql, const struct version_row *version)
{
	struct rights then = {version->mode, version->uid, version->gid}, now;
	int64_t parent;
	int err;

	if (viewer->everything)
		return 1;
	if (!viewer->allows(viewer->arg, &then, R_OK))
		return 0;
	err = viewer_then(viewer, sql, version->access, version->uid, X_OK);
	if (err <= 0)
		return err;
	/* The file that it was a version of; and what has the name now, which need not be that file any more. */
	err = record_node_rights(sql, version->node, &now);
	if (err < 0 || (err == SQL_ROW && !viewer->allows(viewer->arg, &now, R_OK)))
		return err < 0 ? err : 0;
	err = record_entry_rights(sql, version->lineage, &parent, &now);
	if (err != SQL_ROW)
		return err < 0 ? err : -EUCLEAN;
	return viewer->allows(viewer->arg, &now, R_OK);
}
