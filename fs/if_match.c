#include "fs/if_match.h"

#include <errno.h>
#include <inttypes.h>

#include "fs/ops.h"

struct wish {
	uint64_t identity; /* of the process; 0: none */
	int64_t tree, entry, version;
};

/* The last ones. */
static struct {
	struct lock lock; /* protects the rest */
	struct wish wishes[IF_MATCH_MAX];
	unsigned count; /* ever */
} asked = {.lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF}};

static bool parse(const char *value, size_t bytes, int64_t *ret_version)
{
	int64_t version = 0;

	if (bytes == 0 || bytes > 18)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		if (value[i] < '0' || value[i] > '9')
			return false;
		version = version * 10 + (value[i] - '0');
	}
	*ret_version = version;
	return version > 0;
}

static struct wish *find(const struct wish *like)
{
	for (unsigned i = 0; i < IF_MATCH_MAX; i++)
		if (asked.wishes[i].identity == like->identity &&
			asked.wishes[i].tree == like->tree && asked.wishes[i].entry == like->entry)
			return &asked.wishes[i];
	return NULL;
}

int if_match_set(struct node *node, const struct process *process, const char *value, size_t bytes)
{
	struct wish wish = {.identity = process->identity}, *place;

	if (!parse(value, bytes, &wish.version))
		return -EINVAL;
	if (!node->file || !process->known)
		return -EOPNOTSUPP;
	wish.tree = node->file->tree->info.id;
	wish.entry = ops_lineage(node->file);
	lock_take(&asked.lock);
	place = find(&wish);
	if (!place)
		place = &asked.wishes[asked.count++ % IF_MATCH_MAX];
	*place = wish;
	lock_drop(&asked.lock);
	return 0;
}

int64_t if_match_take(const struct process *process, const struct tree *tree, int64_t entry)
{
	struct wish wish = {process->identity, tree->info.id, entry, 0}, *place;

	if (!process->known)
		return 0;
	lock_take(&asked.lock);
	place = asked.count ? find(&wish) : NULL;
	if (place) {
		wish.version = place->version;
		place->identity = 0;
	}
	lock_drop(&asked.lock);
	return wish.version;
}

int if_match_judge(struct judge *judge, int64_t entry, int64_t version)
{
	struct version_row last = {.number = 0};
	struct sql *sql;
	int err;

	if (!version)
		return 0;
	sql = journal_read_begin(judge->tree->journal);
	err = record_version_get(sql, entry, 0, &last);
	journal_read_end(judge->tree->journal);
	if (err < 0 || last.number == version)
		return err < 0 ? err : 0;
	judge_drop(judge);
	judge->outcome = JUDGE_REFUSED;
	diag_set(&judge->reason, 0,
		"it was to replace version %" PRId64 ", and there is version %" PRId64, version,
		last.number);
	return 0;
}
