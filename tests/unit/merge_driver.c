/*
 * Merges what test_merge.py sends: three contents (basis, staged, head), each a length of 4 bytes and its bytes. Answers with the
 * result of merge_contents() (4 bytes), and the merged content or the reason, in the same way. Numbers are the machine's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/merge.h"

static int read_content(struct merge_input *ret_content, char **ret_data)
{
	uint32_t size;

	if (fread(&size, sizeof(size), 1, stdin) != 1)
		return -1;
	/* exactly as large, so that a sanitizer sees what is read beyond it */
	*ret_data = malloc(size);
	*ret_content = (struct merge_input){*ret_data, size};
	return size && fread(*ret_data, 1, size, stdin) != size ? -1 : 0;
}

static void answer(int result, const char *data, size_t size)
{
	uint32_t length = (uint32_t)size;

	fwrite(&result, sizeof(result), 1, stdout);
	fwrite(&length, sizeof(length), 1, stdout);
	fwrite(data, 1, size, stdout);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct merge_limits limits = {.max_ms = argc > 1 ? atol(argv[1]) : 0};

	for (;;) {
		autofree char *b_data = NULL, *s_data = NULL, *h_data = NULL, *data = NULL;
		struct merge_input b, s, h;
		struct diag reason = {{0}};
		size_t size = 0;
		int result;

		if (read_content(&b, &b_data) || read_content(&s, &s_data) ||
			read_content(&h, &h_data))
			return 0;
		result = merge_contents(&b, &s, &h, &limits, &data, &size, &reason);
		if (result)
			answer(result, reason.text, strlen(reason.text));
		else
			answer(result, data, size);
	}
}
