#include "tools/mounts.h"

#include <errno.h>
#include <string.h>

#include "tools/cli.h"

#define FSTYPE "fuse.intactfs"

/* The kernel writes blanks and backslashes as \ooo. */
static void decode_octal(char *text)
{
	char *out = text;

	for (const char *in = text; *in; out++) {
		unsigned code;

		if (*in == '\\' && sscanf(in + 1, "%3o", &code) == 1) {
			*out = (char)code;
			in += 4;
		} else {
			*out = *in++;
		}
	}
	*out = '\0';
}

/*
 * 36 35 98:0 /root /mount/point options [tags...] - fstype source options
 *
 * Returns the mount point, in line, or NULL when it is not one of ours.
 */
static char *parse_line(char *line)
{
	char *save = NULL;
	char *root = NULL;
	char *point = NULL;
	char *rest = strstr(line, " - " FSTYPE " ");

	if (!rest)
		return NULL;
	*rest = '\0';
	for (int i = 0; i < 5; i++) {
		char *word = strtok_r(i ? NULL : line, " ", &save);

		if (i == 3)
			root = word;
		if (i == 4)
			point = word;
	}
	if (!root || !point || strcmp(root, "/"))
		return NULL;
	decode_octal(point);
	return point;
}

int mounts_init(struct mounts *mounts)
{
	static const char path[] = "/proc/self/mountinfo";
	autofile FILE *file = fopen(path, "re");
	autofree char *line = NULL;
	size_t size = 0;

	*mounts = (struct mounts){0};
	if (!file)
		return cli_errno(errno, "read", path);
	while (getline(&line, &size, file) >= 0) {
		char *point = parse_line(line);
		char **points;

		if (!point)
			continue;
		points = reallocarray(mounts->points, mounts->count + 1, sizeof(*points));
		if (!points)
			cli_oom();
		mounts->points = points;
		points[mounts->count++] = cli_format("%s", point);
	}
	return EXIT_DONE;
}

void mounts_deinit(struct mounts *mounts)
{
	for (size_t i = 0; i < mounts->count; i++)
		free(mounts->points[i]);
	free(mounts->points);
}

bool mounts_have(const struct mounts *mounts, const char *point)
{
	for (size_t i = 0; i < mounts->count; i++)
		if (!strcmp(mounts->points[i], point))
			return true;
	return false;
}
