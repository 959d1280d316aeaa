/*
 * pattern: which files of a tree a rule is for.
 *
 * Without a slash it is matched against a file's name, in any directory; with one, against its path, relative to the
 * tree, component by component. A slash at the beginning says no more than that it is a path. * ? [...] and \ are as in
 * fnmatch(3), a leading dot being nothing special. A component ** stands for any number of directories, as the last one
 * for whatever is below. Bytes are compared, so that ? is one byte.
 */
#ifndef INTACTFS_META_PATTERN_H
#define INTACTFS_META_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#define PATTERN_MAX 255 /* bytes */

/* What is wrong with it, as a sentence about "it"; NULL: nothing. */
const char *pattern_complaint(const char *pattern, size_t length);

/* Whether it is matched against a path. */
bool pattern_is_path(const char *pattern);
/* subject: a path, relative to the tree, where pattern_is_path(); else a name. */
bool pattern_matches(const char *pattern, const char *subject);

#endif
