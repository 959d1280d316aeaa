#include "meta/lines.h"

#include <errno.h>
#include <git2/diff.h>
#include <git2/errors.h>
#include <git2/global.h>
#include <git2/merge.h>
#include <pthread.h>
#include <string.h>

static void init_git(void)
{
	git_libgit2_init();
}

static void need_git(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_git);
}

static int git_error_number(void)
{
	const git_error *error = git_error_last();

	return error && error->klass == GIT_ERROR_NOMEMORY ? -ENOMEM : -EIO;
}

static const char *bytes_of(const struct merge_input *text)
{
	return text->size ? text->data : "";
}

struct collector {
	struct hunks hunks;
	size_t room;
};

static int collect(const git_diff_delta *delta, const git_diff_hunk *hunk, void *payload)
{
	struct collector *c = payload;
	struct hunk *to;

	(void)delta;
	if (c->hunks.count == c->room) {
		size_t room = c->room ? c->room * 2 : 16;
		struct hunk *grown = realloc(c->hunks.list, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		c->hunks.list = grown;
		c->room = room;
	}
	to = &c->hunks.list[c->hunks.count++];
	/* a hunk without lines on one side names the line before (diff -u) */
	*to = (struct hunk){
		.old_at = (uint32_t)hunk->old_start - (hunk->old_lines > 0),
		.old_count = (uint32_t)hunk->old_lines,
		.new_at = (uint32_t)hunk->new_start - (hunk->new_lines > 0),
		.new_count = (uint32_t)hunk->new_lines,
	};
	return 0;
}

int lines_diff(
	const struct merge_input *before, const struct merge_input *after, struct hunks *ret_hunks)
{
	git_diff_options options;
	struct collector c = {0};
	int err;

	need_git();
	git_diff_options_init(&options, GIT_DIFF_OPTIONS_VERSION);
	options.context_lines = 0;
	options.interhunk_lines = 0;
	options.flags = GIT_DIFF_FORCE_TEXT;
	err = git_diff_buffers(bytes_of(before), before->size, NULL, bytes_of(after), after->size,
		NULL, &options, NULL, NULL, collect, NULL, &c);
	if (err) {
		free(c.hunks.list);
		return err == -ENOMEM ? err : git_error_number();
	}
	*ret_hunks = c.hunks;
	return 0;
}

static git_merge_file_input input_of(const struct merge_input *text)
{
	return (git_merge_file_input){
		.version = GIT_MERGE_FILE_INPUT_VERSION,
		.ptr = bytes_of(text),
		.size = text->size,
	};
}

int lines_merge(const struct merge_input *basis, const struct merge_input *staged,
	const struct merge_input *head, char **ret_data, size_t *ret_size)
{
	git_merge_file_input b = input_of(basis), s = input_of(staged), h = input_of(head);
	git_merge_file_options options = {.version = GIT_MERGE_FILE_OPTIONS_VERSION};
	git_merge_file_result result = {0};
	char *data;
	int err = 0;

	need_git();
	if (git_merge_file(&result, &b, &s, &h, &options))
		return git_error_number();
	if (!result.automergeable) {
		err = LINES_CONFLICT;
	} else {
		data = malloc(result.len + 1);
		if (data) {
			memcpy(data, result.ptr ? result.ptr : "", result.len);
			*ret_data = data;
			*ret_size = result.len;
		} else {
			err = -ENOMEM;
		}
	}
	git_merge_file_result_free(&result);
	return err;
}
