/*
 * volume_lock: who has a volume open: VOLUME/lock and the line in it (its form is in volume.h). For volume.c only.
 *
 * Calling:   volume_lock_init; volume_lock_take, once, before the database is opened; volume_lock_closing
 *            when the daemon is on its way out; volume_lock_deinit, after the database is closed.
 * Errors:    0 or -errno with a text in diag (-ENOMEM: without): -EBUSY another daemon has the volume (names its
 *            pid, host and mount point), else that of opening or locking the file. A line that cannot be
 *            written is only logged.
 * Ownership: owns the descriptor and the line; borrows the path until volume_lock_deinit.
 */
#ifndef INTACTFS_JOURNAL_VOLUME_LOCK_H
#define INTACTFS_JOURNAL_VOLUME_LOCK_H

#include <stdbool.h>

#include "journal/base.h"

struct volume_lock {
	int fd; /* -1 when not opened: before volume_lock_take, or a read-only copy without its lock */
	bool readonly;
	const char *path; /* of the volume */
	char *holder;	  /* our line, without its end; NULL while it is not ours to write */
};

void volume_lock_init(struct volume_lock *lock);
/* Shared when readonly, else exclusively, and with our line written: its pid is the caller's. Waits for a daemon
 * that is just closing the volume, at most 30 s. After a failure only volume_lock_deinit may follow. */
int volume_lock_take(struct volume_lock *lock, int dir_fd, const char *path, bool readonly,
	const char *mountpoint, struct diag *diag);
/* Adds " closing" to the line; nothing when there is none of ours. */
void volume_lock_closing(struct volume_lock *lock);
/* Gives up the lock. The line stays. */
void volume_lock_deinit(struct volume_lock *lock);

#endif
