#include "meta/pattern.h"

#include <fnmatch.h>
#include <string.h>

static size_t component_length(const char *text)
{
	return strcspn(text, "/");
}

/* What follows the first component. */
static const char *next_component(const char *text)
{
	text += component_length(text);
	return *text ? text + 1 : text;
}

static bool component_is(const char *text, const char *what)
{
	size_t length = component_length(text);

	return length == strlen(what) && memcmp(text, what, length) == 0;
}

bool pattern_is_path(const char *pattern)
{
	return strchr(pattern, '/');
}

static const char *without_slash(const char *pattern)
{
	return *pattern == '/' ? pattern + 1 : pattern;
}

const char *pattern_complaint(const char *pattern, size_t length)
{
	if (length == 0)
		return "it is empty";
	if (length > PATTERN_MAX)
		return "it is longer than 255 bytes";
	if (memchr(pattern, '\0', length))
		return "it contains a NUL byte";
	if (pattern[length - 1] == '/')
		return "it ends in a slash: what is below a directory is DIRECTORY/**";
	for (pattern = without_slash(pattern); *pattern; pattern = next_component(pattern)) {
		if (component_is(pattern, ""))
			return "it has two slashes in a row";
		if (component_is(pattern, ".") || component_is(pattern, ".."))
			return "paths in it are relative to the tree, without . and ..";
	}
	return NULL;
}

/* A component is no longer than a name or a pattern, but for the one of a path that cannot be. */
static bool component_matches(const char *pattern, const char *path)
{
	char pattern_part[PATTERN_MAX + 1], path_part[PATTERN_MAX + 1];
	size_t pattern_length = component_length(pattern), path_length = component_length(path);

	if (pattern_length > PATTERN_MAX || path_length > PATTERN_MAX)
		return false;
	memcpy(pattern_part, pattern, pattern_length);
	pattern_part[pattern_length] = '\0';
	memcpy(path_part, path, path_length);
	path_part[path_length] = '\0';
	return fnmatch(pattern_part, path_part, 0) == 0;
}

/* After a mismatch the last ** takes one directory more; those before it need not. */
static bool path_matches(const char *pattern, const char *path)
{
	const char *again_pattern = NULL, *again_path = NULL;

	while (*path) {
		if (component_is(pattern, "**")) {
			pattern = next_component(pattern);
			if (!*pattern)
				return true;
			again_pattern = pattern;
			again_path = path;
		} else if (*pattern && component_matches(pattern, path)) {
			pattern = next_component(pattern);
			path = next_component(path);
		} else if (again_pattern) {
			pattern = again_pattern;
			path = again_path = next_component(again_path);
		} else {
			return false;
		}
	}
	return !*pattern;
}

bool pattern_matches(const char *pattern, const char *subject)
{
	if (!pattern_is_path(pattern))
		return fnmatch(pattern, subject, 0) == 0;
	return path_matches(without_slash(pattern), subject);
}
