#include "meta/judge.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "journal/log.h"
#include "meta/merge.h"

/* A whole content in memory; NULL: err. */
static char *read_content(int fd, int64_t size_bytes, int *ret_err)
{
	char *data = malloc((size_t)size_bytes + 1);
	int64_t done = 0;
	ssize_t n;

	*ret_err = data ? 0 : -ENOMEM;
	while (data && done < size_bytes) {
		n = pread(fd, data + done, (size_t)(size_bytes - done), done);
		if (n > 0) {
			done += n;
		} else if (n == 0 || errno != EINTR) {
			*ret_err = n == 0 ? -EIO : -errno;
			free(data);
			return NULL;
		}
	}
	return data;
}

static int read_version(struct tree *tree, const struct content *content, char **ret_data)
{
	autoclose int fd = -1;
	int err;

	if (!content->id) {
		*ret_data = calloc(1, 1);
		return *ret_data ? 0 : -ENOMEM;
	}
	err = version_open(tree, content->object, &fd);
	if (!err)
		*ret_data = read_content(fd, content->size_bytes, &err);
	return err;
}

/* 1 with the content, 0 when it is not there any more. */
static int content_get(struct tree *tree, int64_t id, struct content *ret_content)
{
	struct sql *sql = journal_read_begin(tree->journal);
	int err = record_content_get(sql, id, ret_content);

	journal_read_end(tree->journal);
	return err;
}

int judge_content_of(struct tree *tree, int64_t object, int64_t *ret_content)
{
	struct sql *sql = journal_read_begin(tree->journal);
	int err;

	*ret_content = 0;
	err = sql_int(sql, ret_content,
		"SELECT id FROM content WHERE object = $1 ORDER BY id DESC LIMIT 1", "i", object);
	journal_read_end(tree->journal);
	return err < 0 ? err : 0;
}

int judge_last_content(struct tree *tree, int64_t lineage, struct content *ret_content)
{
	struct sql *sql = journal_read_begin(tree->journal);
	struct version_row last;
	int err = record_version_get(sql, lineage, 0, &last);

	if (err == SQL_ROW && last.content)
		err = record_content_get(sql, last.content, ret_content);
	else if (err == SQL_ROW)
		err = 0;
	journal_read_end(tree->journal);
	return err;
}

static bool same_bytes(struct tree *tree, const struct content *a, const struct content *b)
{
	autoclose int fd_a = -1, fd_b = -1;

	return a->size_bytes == b->size_bytes && memcmp(&a->hash, &b->hash, sizeof(a->hash)) == 0 &&
	       version_open(tree, a->object, &fd_a) == 0 &&
	       version_open(tree, b->object, &fd_b) == 0 &&
	       object_equal(fd_a, fd_b, a->size_bytes) == 1;
}

bool judge_is_same(struct tree *tree, int64_t id, const struct content *other)
{
	struct content content;

	return content_get(tree, id, &content) > 0 && same_bytes(tree, &content, other);
}

static int write_merged(struct judge *judge, const char *data, size_t size)
{
	struct journal *journal = judge->tree->journal;
	struct content *merged = &judge->merged;
	autoclose int fd = -1;
	struct stat st;
	size_t done = 0;
	ssize_t n;
	int err = volume_next_number(journal->volume, &merged->object);

	if (!err)
		err = object_stage(&journal->objects, merged->object, &fd);
	if (err) {
		merged->object = 0;
		return err;
	}
	while (!err && done < size) {
		n = pwrite(fd, data + done, size - done, (off_t)done);
		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			err = -errno;
	}
	if (!err && fstat(fd, &st) != 0)
		err = -errno;
	merged->size_bytes = (int64_t)size;
	merged->blocks = err ? 0 : st.st_blocks;
	err = err ?: object_hash(fd, merged->size_bytes, &merged->hash);
	if (err)
		judge_drop(judge);
	return err;
}

static int merge(struct judge *judge, const struct content *basis)
{
	autofree char *base = NULL, *staged = NULL, *head = NULL, *merged = NULL;
	size_t size;
	int err;

	if ((size_t)judge->size_bytes > MERGE_DEFAULT_MAX_BYTES ||
		(size_t)judge->head.size_bytes > MERGE_DEFAULT_MAX_BYTES ||
		(size_t)basis->size_bytes > MERGE_DEFAULT_MAX_BYTES) {
		diag_set(&judge->reason, 0, "it is too large to be merged");
		judge->outcome = JUDGE_REFUSED;
		return 0;
	}
	err = read_version(judge->tree, basis, &base);
	if (!err)
		err = read_version(judge->tree, &judge->head, &head);
	if (!err)
		staged = read_content(judge->fd, judge->size_bytes, &err);
	if (err)
		return err;
	err = merge_contents(&(struct merge_input){base, (size_t)basis->size_bytes},
		&(struct merge_input){staged, (size_t)judge->size_bytes},
		&(struct merge_input){head, (size_t)judge->head.size_bytes}, NULL, &merged, &size,
		&judge->reason);
	if (err > 0)
		judge->outcome = JUDGE_REFUSED;
	if (err)
		return err < 0 ? err : 0;
	judge->outcome = JUDGE_SAME;
	if (size == (size_t)judge->head.size_bytes && memcmp(merged, head, size) == 0)
		return 0;
	judge->outcome = JUDGE_MERGED;
	return write_merged(judge, merged, size);
}

static void refuse(struct judge *judge, const char *why)
{
	judge->outcome = JUDGE_REFUSED;
	diag_set(&judge->reason, 0, "%s", why);
}

static int judge_stale(struct judge *judge, const struct content *basis)
{
	switch (judge->policy) {
	case POLICY_OVERWRITE:
	case POLICY_LIVE:
		judge->outcome = JUDGE_OVER;
		return 0;
	case POLICY_MERGE:
		if (basis)
			return merge(judge, basis);
		refuse(judge, "what it is based on is not there any more, so it cannot be merged");
		return 0;
	case POLICY_TURN:
	case POLICY_TURN_THREAD:
	case POLICY_REFUSE:
		break;
	}
	refuse(judge, "others saved the file since the program last read it");
	return 0;
}

int judge_save(struct judge *judge)
{
	struct content basis = {.id = 0};
	int err;

	judge->merged = (struct content){.object = 0};
	judge->basis_content = judge->basis.content;
	if (judge->basis.object) {
		err = judge_content_of(judge->tree, judge->basis.object, &judge->basis_content);
		if (err)
			return err;
		/* Of a file that was removed while it was being saved: nobody else has that. */
		if (!judge->basis_content)
			judge->basis.kind = SIGHT_NONE;
	}
	judge->outcome = JUDGE_NEXT;
	if (!judge->head.id)
		return 0;
	if (judge->basis.kind == SIGHT_NONE) {
		judge->outcome = JUDGE_BLIND;
		return 0;
	}
	if (judge->basis.kind == SIGHT_LOST)
		return judge_stale(judge, NULL);
	if (judge->basis_content == judge->head.id)
		return 0;
	if (judge->basis_content) {
		err = content_get(judge->tree, judge->basis_content, &basis);
		if (err < 0)
			return err;
		if (err == 0)
			return judge_stale(judge, NULL);
		if (same_bytes(judge->tree, &basis, &judge->head)) {
			judge->basis_content = judge->head.id;
			return 0;
		}
	}
	return judge_stale(judge, &basis);
}

void judge_drop(struct judge *judge)
{
	if (judge->merged.object)
		object_unstage(&judge->tree->journal->objects, judge->merged.object);
	judge->merged.object = 0;
}

/* In the order of enum sight_kind. Only closings have the last. */
static const char *const kinds[] = {"none", "own", "inherited", "lost"};

struct basis judge_basis(const struct judge *judge)
{
	return (struct basis){kinds[judge->basis.kind], judge->basis_content, 0};
}

struct sight judge_sight(const char *kind, int64_t content)
{
	size_t i = 0;

	while (i + 1 < ARRAY_SIZE(kinds) && strcmp(kinds[i], kind) != 0)
		i++;
	return (struct sight){.kind = (enum sight_kind)i, .content = content};
}
