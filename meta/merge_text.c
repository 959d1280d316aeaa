/*
 * Merging by lines: libgit2's git_merge_file makes the merge. What the rules of merge.h need beyond it is seen from the
 * differences of both sides to the basis: the regions where they changed something. Regions that touch are one.
 *
 *   1. Between two hunks a side has the lines of the basis (check_hunks).
 *   2. The regions of one side, those where both have the same, and the lines of the basis between them are the result. It must be
 *      what git_merge_file says of the three texts without what both sides added at the end.
 *   3. What both sides added at the end follows.
 *
 * A last line without a line end is given one at first, so that it equals a line with one; see ends_open() for the way back.
 */
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "meta/lines.h"
#include "meta/merge_kind.h"

struct text {
	struct merge_input all; /* each line has a line end */
	char *owned;
	bool open; /* the last line had none */
	size_t *starts;
	uint32_t count;
};

struct side {
	struct text text;
	struct hunks hunks;
	size_t next; /* hunk */
};

/* Lines from (included) to (not included). */
struct range {
	uint32_t from, to;
};

struct region {
	struct range old, staged, head;
	enum { BY_STAGED, BY_HEAD, BY_BOTH, AT_END, CONFLICT } kind;
};

struct job {
	struct text basis;
	struct side staged, head;
	struct region *regions;
	size_t count;
	size_t line_end_bytes; /* of those that were given */
	struct diag *reason;
};

static void text_deinit(struct text *text)
{
	free(text->owned);
	free(text->starts);
}

static void job_deinit(struct job *job)
{
	text_deinit(&job->basis);
	text_deinit(&job->staged.text);
	text_deinit(&job->head.text);
	free(job->staged.hunks.list);
	free(job->head.hunks.list);
	free(job->regions);
}

/* Sets starts: where each line begins, and after them the end of the text. */
static int find_lines(struct text *text, struct diag *reason)
{
	const char *at = text->all.data, *end = at + text->all.size;
	uint32_t count = 0;

	for (const char *s = at; s < end; s = (const char *)memchr(s, '\n', end - s) + 1)
		if (++count > MERGE_MAX_LINES)
			return diag_set(
				reason, MERGE_TOO_LARGE, "more than %d lines", MERGE_MAX_LINES);
	text->starts = malloc((count + 1) * sizeof(*text->starts));
	if (!text->starts)
		return -ENOMEM;
	text->count = count;
	for (uint32_t i = 0; i < count; i++) {
		text->starts[i] = at - text->all.data;
		at = (const char *)memchr(at, '\n', end - at) + 1;
	}
	text->starts[count] = text->all.size;
	return 0;
}

static int text_init(struct text *text, const struct merge_input *from, const char *line_end,
	struct diag *reason)
{
	size_t length = strlen(line_end);

	text->all = from->size ? *from : (struct merge_input){"", 0};
	text->open = from->size && from->data[from->size - 1] != '\n';
	if (text->open) {
		text->owned = malloc(from->size + length);
		if (!text->owned)
			return -ENOMEM;
		memcpy(text->owned, from->data, from->size);
		memcpy(text->owned + from->size, line_end, length);
		text->all = (struct merge_input){text->owned, from->size + length};
	}
	return find_lines(text, reason);
}

/* The line end of the first line that has one. */
static const char *find_line_end(const struct merge_input *basis, const struct merge_input *staged,
	const struct merge_input *head)
{
	const struct merge_input *texts[] = {basis, head, staged};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		const char *end =
			texts[i]->size ? memchr(texts[i]->data, '\n', texts[i]->size) : NULL;

		if (end)
			return end > texts[i]->data && end[-1] == '\r' ? "\r\n" : "\n";
	}
	return "\n";
}

static struct merge_input lines_of(const struct text *text, uint32_t from, uint32_t to)
{
	return (struct merge_input){
		text->all.data + text->starts[from], text->starts[to] - text->starts[from]};
}

static bool same(struct merge_input a, struct merge_input b)
{
	return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/*
 * Differences and regions
 */

/* Whether the lines between the hunks are those of the basis. */
static bool check_hunks(const struct text *basis, const struct side *side)
{
	const struct text *text = &side->text;
	uint32_t old_at = 0, new_at = 0;

	for (size_t i = 0; i <= side->hunks.count; i++) {
		struct hunk end = {.old_at = basis->count, .new_at = text->count}, *hunk = &end;

		if (i < side->hunks.count)
			hunk = &side->hunks.list[i];
		if (hunk->old_at < old_at || hunk->new_at < new_at ||
			hunk->old_count > basis->count - hunk->old_at ||
			hunk->new_count > text->count - hunk->new_at ||
			!same(lines_of(basis, old_at, hunk->old_at),
				lines_of(text, new_at, hunk->new_at)))
			return false;
		old_at = hunk->old_at + hunk->old_count;
		new_at = hunk->new_at + hunk->new_count;
	}
	return true;
}

static const struct hunk *next_hunk(const struct side *side)
{
	return side->next < side->hunks.count ? &side->hunks.list[side->next] : NULL;
}

/* Takes the hunks of a side that touch the region into it; returns how many. */
static size_t take_hunks(struct side *side, struct range *old)
{
	const struct hunk *hunk;
	size_t taken = 0;

	for (; (hunk = next_hunk(side)) && hunk->old_at <= old->to; taken++, side->next++)
		if (hunk->old_at + hunk->old_count > old->to)
			old->to = hunk->old_at + hunk->old_count;
	return taken;
}

/* What the region is in a side, whose last hunks are in it. */
static struct range range_in(const struct side *side, size_t taken, struct range old)
{
	const struct hunk *last = &side->hunks.list[side->next - 1], *first = last - (taken - 1);

	return (struct range){
		first->new_at - (first->old_at - old.from),
		last->new_at + last->new_count + (old.to - last->old_at - last->old_count),
	};
}

static void next_region(struct job *job, struct region *region)
{
	const struct hunk *s = next_hunk(&job->staged), *h = next_hunk(&job->head);
	uint32_t at = !h || (s && s->old_at < h->old_at) ? s->old_at : h->old_at;
	size_t by_staged = 0, by_head = 0, before;

	region->old = (struct range){at, at};
	do {
		before = by_staged + by_head;
		by_staged += take_hunks(&job->staged, &region->old);
		by_head += take_hunks(&job->head, &region->old);
	} while (by_staged + by_head > before);
	if (by_staged)
		region->staged = range_in(&job->staged, by_staged, region->old);
	if (by_head)
		region->head = range_in(&job->head, by_head, region->old);
	if (!by_staged || !by_head)
		region->kind = by_staged ? BY_STAGED : BY_HEAD;
	else if (at == job->basis.count)
		region->kind = AT_END;
	else if (same(lines_of(&job->staged.text, region->staged.from, region->staged.to),
			 lines_of(&job->head.text, region->head.from, region->head.to)))
		region->kind = BY_BOTH;
	else
		region->kind = CONFLICT;
}

static int overlap_at(struct job *job, const struct region *region, const char *what)
{
	uint32_t from = region->head.from + 1, to = region->head.to;

	if (to > from)
		return diag_set(
			job->reason, MERGE_OVERLAP, "both %slines %u to %u", what, from, to);
	return diag_set(job->reason, MERGE_OVERLAP, "both %sline %u", what, from);
}

static int find_regions(struct job *job)
{
	size_t most = job->staged.hunks.count + job->head.hunks.count;

	job->regions = calloc(most + 1, sizeof(*job->regions));
	if (!job->regions)
		return -ENOMEM;
	while (next_hunk(&job->staged) || next_hunk(&job->head)) {
		struct region *region = &job->regions[job->count++];

		next_region(job, region);
		if (region->kind == CONFLICT)
			return overlap_at(job, region, "changed ");
		/* the same change, or the same lines added at the end? */
		if (region->kind == BY_BOTH && region->old.to == job->basis.count &&
			region->head.to - region->head.from > region->old.to - region->old.from)
			return overlap_at(job, region, "changed the end, ");
	}
	return 0;
}

/*
 * What may have been counted twice: a line that both sides removed, and one that both added, differ in their numbers only.
 */

struct print {
	uint64_t words, whole; /* hashes: without numbers, and with them */
};

struct prints {
	struct print *list;
	size_t count;
};

static int by_hash(const void *a, const void *b)
{
	const struct print *x = a, *y = b;

	if (x->words != y->words)
		return x->words < y->words ? -1 : 1;
	return x->whole < y->whole ? -1 : x->whole > y->whole;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* scratch has room for the line. A number is digits, with a sign before, and points or commas between them. */
static struct print print_of(struct merge_input line, char *scratch)
{
	const char *s = line.data, *end = s + line.size;
	size_t length = 0;

	while (s < end) {
		if (!is_digit(*s)) {
			scratch[length++] = *s++;
			continue;
		}
		if (length && (scratch[length - 1] == '-' || scratch[length - 1] == '+'))
			length--;
		while (s < end && (is_digit(*s) || ((*s == '.' || *s == ',') && s + 1 < end &&
							   is_digit(s[1]))))
			s++;
	}
	return (struct print){XXH3_64bits(scratch, length), XXH3_64bits(line.data, line.size)};
}

static void add_prints(
	struct prints *prints, const struct text *text, struct range range, char *scratch)
{
	for (uint32_t i = range.from; i < range.to; i++)
		prints->list[prints->count++] = print_of(lines_of(text, i, i + 1), scratch);
}

/* The first print that is not smaller. */
static const struct print *find_print(const struct prints *prints, struct print wanted)
{
	size_t low = 0, high = prints->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (by_hash(&prints->list[middle], &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < prints->count ? &prints->list[low] : NULL;
}

static bool has_print(const struct prints *prints, struct print wanted)
{
	const struct print *found = find_print(prints, wanted);

	return found && by_hash(found, &wanted) == 0;
}

/* Whether there is one with the same words, but other numbers. */
static bool has_other_number(const struct prints *prints, struct print wanted)
{
	const struct print *found = find_print(prints, (struct print){wanted.words, 0});

	for (; found && found < prints->list + prints->count && found->words == wanted.words;
		found++)
		if (found->whole != wanted.whole)
			return true;
	return false;
}

static int check_region(struct job *job, const struct region *region, const struct prints *removed,
	const struct prints *at_end, char *scratch)
{
	for (uint32_t i = region->head.from; i < region->head.to; i++) {
		struct print line = print_of(lines_of(&job->head.text, i, i + 1), scratch);
		struct region where = {.head = {i, i + 1}};

		if (region->kind == AT_END && !has_print(at_end, line))
			continue;
		if (has_other_number(removed, line))
			return overlap_at(job, &where, "changed the number in ");
		if (region->kind == AT_END && has_print(removed, line))
			return overlap_at(job, &where, "moved ");
	}
	return 0;
}

/* removed: what both sides removed, or changed, and at_end: what staged added at the end, when head did so, too */
static int check_numbers(struct job *job)
{
	size_t most = job->basis.all.size > job->staged.text.all.size ? job->basis.all.size
								      : job->staged.text.all.size;
	autofree char *scratch =
		malloc(most > job->head.text.all.size ? most : job->head.text.all.size);
	autofree struct print *prints =
		malloc((job->basis.count + job->staged.text.count + 1) * sizeof(*prints));
	struct prints removed = {.list = prints}, at_end;
	int err = 0;

	if (!prints || !scratch)
		return -ENOMEM;
	at_end = (struct prints){.list = prints + job->basis.count};
	for (size_t i = 0; i < job->count; i++) {
		if (job->regions[i].kind == BY_BOTH)
			add_prints(&removed, &job->basis, job->regions[i].old, scratch);
		else if (job->regions[i].kind == AT_END)
			add_prints(&at_end, &job->staged.text, job->regions[i].staged, scratch);
	}
	qsort(removed.list, removed.count, sizeof(*prints), by_hash);
	qsort(at_end.list, at_end.count, sizeof(*prints), by_hash);
	for (size_t i = 0; i < job->count && !err; i++)
		if (job->regions[i].kind >= BY_BOTH)
			err = check_region(job, &job->regions[i], &removed, &at_end, scratch);
	return err;
}

/*
 * The result
 */

/* Whether the last line of the result has no line end: as with the side that opened or closed the end. It must be one that was given
 * its line end. */
static bool ends_open(const struct job *job, struct merge_input last)
{
	const struct text *b = &job->basis, *s = &job->staged.text, *h = &job->head.text;
	const struct text *texts[] = {b, s, h};

	if (!(s->open != b->open ? s->open : h->open))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (texts[i]->open &&
			same(last, lines_of(texts[i], texts[i]->count - 1, texts[i]->count)))
			return true;
	return false;
}

/* The result so far, and its last line. */
struct output {
	char *data;
	size_t size;
	struct merge_input last;
};

static void put(struct output *out, const struct text *text, struct range range)
{
	struct merge_input lines = lines_of(text, range.from, range.to);

	if (range.from >= range.to)
		return;
	memcpy(out->data + out->size, lines.data, lines.size);
	out->size += lines.size;
	out->last = lines_of(text, range.to - 1, range.to);
}

/* Everything but what both added at the end. */
static void put_regions(const struct job *job, struct output *out)
{
	uint32_t at = 0;

	for (size_t i = 0; i < job->count; i++) {
		const struct region *region = &job->regions[i];

		put(out, &job->basis, (struct range){at, region->old.from});
		at = region->old.to;
		if (region->kind == BY_STAGED)
			put(out, &job->staged.text, region->staged);
		else if (region->kind != AT_END)
			put(out, &job->head.text, region->head);
	}
	put(out, &job->basis, (struct range){at, job->basis.count});
}

/* Compares what was put together with what libgit2 says. */
static int verify(const struct job *job, const struct region *end, const struct output *out)
{
	struct merge_input staged = job->staged.text.all, head = job->head.text.all;
	autofree char *data = NULL;
	size_t size = 0;
	int err;

	if (end) {
		staged.size = job->staged.text.starts[end->staged.from];
		head.size = job->head.text.starts[end->head.from];
	}
	err = lines_merge(&job->basis.all, &staged, &head, &data, &size);
	if (err < 0)
		return err;
	if (err || size != out->size || memcmp(data, out->data, size) != 0)
		return merge_unverified(job->reason);
	return 0;
}

static int build(struct job *job, char **ret_data, size_t *ret_size)
{
	const struct region *last = job->count ? &job->regions[job->count - 1] : NULL;
	const struct region *end = last && last->kind == AT_END ? last : NULL;
	struct output out = {0};
	autofree char *data = malloc(
		job->basis.all.size + job->staged.text.all.size + job->head.text.all.size + 1);
	int err;

	if (!data)
		return -ENOMEM;
	out.data = data;
	put_regions(job, &out);
	err = verify(job, end, &out);
	if (err)
		return err;
	if (end) {
		put(&out, &job->head.text, end->head);
		put(&out, &job->staged.text, end->staged);
	}
	if (end ? job->staged.text.open : out.size && ends_open(job, out.last))
		out.size -= job->line_end_bytes;
	*ret_data = data;
	*ret_size = out.size;
	data = NULL;
	return 0;
}

int merge_text(const struct merge_input *basis, const struct merge_input *staged,
	const struct merge_input *head, struct merge_clock *clock, char **ret_data,
	size_t *ret_size, struct diag *ret_reason)
{
	const char *line_end = find_line_end(basis, staged, head);
	__attribute__((cleanup(job_deinit))) struct job job = {
		.reason = ret_reason, .line_end_bytes = strlen(line_end)};
	int err;

	err = text_init(&job.basis, basis, line_end, ret_reason);
	if (!err)
		err = text_init(&job.staged.text, staged, line_end, ret_reason);
	if (!err)
		err = text_init(&job.head.text, head, line_end, ret_reason);
	if (!err)
		err = lines_diff(&job.basis.all, &job.staged.text.all, &job.staged.hunks);
	if (!err && time_mono_ms() > clock->end_ms)
		return merge_too_slow(ret_reason);
	if (!err)
		err = lines_diff(&job.basis.all, &job.head.text.all, &job.head.hunks);
	if (err)
		return err;
	if (!check_hunks(&job.basis, &job.staged) || !check_hunks(&job.basis, &job.head))
		return merge_unverified(ret_reason);
	err = find_regions(&job);
	if (!err)
		err = check_numbers(&job);
	if (err)
		return err;
	if (time_mono_ms() > clock->end_ms)
		return merge_too_slow(ret_reason);
	return build(&job, ret_data, ret_size);
}
