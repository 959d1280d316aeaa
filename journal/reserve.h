/*
 * reserve: space that is kept back for a full disk, so that files can still be removed on it, and what was closed is
 * published.
 *
 *   VOLUME/reserve       plain bytes, allocated; 2 MiB, or a sixteenth of a smaller filesystem
 *
 * A change that takes little and may not fail (change.vital) is tried again after reserve_give(). From then on until
 * there is room to fill it up, the reserve is low: then nobody else gets space (reserve_room), or it would be theirs
 * at once. Other users of the backing filesystem can take what was given; nobody can prevent that.
 *
 * Threads:   any. A zeroed reserve with fd -1 is none: it has nothing to give, and there is always room.
 */
#ifndef INTACTFS_JOURNAL_RESERVE_H
#define INTACTFS_JOURNAL_RESERVE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct reserve {
	int fd, dir_fd;
	int64_t target_bytes;
	bool low; /* atomic */
	pthread_mutex_t lock;
};

/* Opens VOLUME/reserve, makes or fills it up where there is room. On a full disk it gives what the opening of journals
 * takes. */
int reserve_open(struct reserve *reserve, int volume_fd);
/* Fills it up with what the end of the journals has given back. */
void reserve_close(struct reserve *reserve);

/* True when a part was given back to the filesystem; false when nothing is left, or err is not about space. */
bool reserve_give(struct reserve *reserve, int err);
/* 0 when space may be taken, else -ENOSPC. When low, it looks whether there is room again; otherwise it costs nothing. */
int reserve_room(struct reserve *reserve);
bool reserve_is_low(struct reserve *reserve);

#endif
