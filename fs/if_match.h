/*
 * if_match: what programs that want to know ask for with the extended attribute user.intactfs.if_match: the process's next save of the
 * file is refused, unless the version that it names is the head then. As If-Match of HTTP (RFC 9110).
 *
 * Limits: the last IF_MATCH_MAX of them are remembered.
 */
#ifndef INTACTFS_FS_IF_MATCH_H
#define INTACTFS_FS_IF_MATCH_H

#include "fs/node.h"
#include "meta/judge.h"

#define IF_MATCH_MAX 1024

/* -EINVAL when the value is no version's number. */
int if_match_set(struct node *node, const struct process *process, const char *value, size_t bytes);
/* The version that the process asked for, once; 0: it did not. */
int64_t if_match_take(const struct process *process, const struct tree *tree, int64_t entry);
/* Refuses what is judged, unless the version (0: any) is the lineage's last one. 0 or -errno. */
int if_match_judge(struct judge *judge, int64_t entry, int64_t version);

#endif
