/*
 * place: what a PATH argument stands for: a name in a directory on an intactfs
 * mount, whether a file is there now or only its history.
 *
 * Errors:    as in cli.h: an exit code, and the reason is on stderr.
 * Ownership: place_deinit frees everything; name points into path.
 */
#ifndef INTACTFS_TOOLS_PLACE_H
#define INTACTFS_TOOLS_PLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct place {
	char *path; /* without trailing slashes; symbolic links at its end are followed */
	char *parent;
	const char *name;
	char *history; /* PATH@@, or DIR@@/PATH@@ below a directory that is gone */
	bool exists;
	mode_t mode; /* when it exists */
};

#define autoplace __attribute__((cleanup(place_deinit)))

int place_init(struct place *place, const char *argument);
void place_deinit(struct place *place);

/* VERSION in the history; the caller frees it. */
char *place_version_path(const struct place *place, int64_t version);
/* Opens that version for reading. */
int place_open_version(const struct place *place, int64_t version, int *ret_fd);

/* The numbers of the versions there are, ascending; the caller frees them. None is no error. */
int place_versions(const struct place *place, int64_t **ret_versions, size_t *ret_count);
/* Says that there never was such a path; returns EXIT_COULD_NOT. */
int place_never(const struct place *place);
/* Says that there is no such version, and which there are; returns EXIT_COULD_NOT. */
int place_no_version(const struct place *place, int64_t version);
/* "1 to 4", "1, 3 to 7"; the caller frees it. */
char *place_describe_versions(const int64_t *versions, size_t count);

#endif
