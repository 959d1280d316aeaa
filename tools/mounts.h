/*
 * mounts: where intactfs volumes are mounted, as the kernel tells this process.
 */
#ifndef INTACTFS_TOOLS_MOUNTS_H
#define INTACTFS_TOOLS_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>

struct mounts {
	char **points;
	size_t count;
};

/* An exit code, as in cli.h. A bind mount of a part is not counted. */
int mounts_init(struct mounts *mounts);
void mounts_deinit(struct mounts *mounts);

/* point is absolute, without symbolic links. */
bool mounts_have(const struct mounts *mounts, const char *point);

#endif
