/*
 * mount: a volume becomes a mounted filesystem, and stays one until it is unmounted.
 *
 * Calling:   mount_run() returns in the caller when the mount answers, or with `foreground` when it
 *            has been unmounted and the journals are closed.
 * Errors:    an exit code; what went wrong has then been said on stderr.
 * Ownership: the options and their strings are the caller's, and stay until mount_run() returns.
 */
#ifndef INTACTFS_FS_MOUNT_H
#define INTACTFS_FS_MOUNT_H

#include <stdbool.h>
#include <stdint.h>

struct mount_options {
	const char *volume;
	const char *mountpoint;
	bool foreground;
	bool readonly;
	const char *fuse_options; /* comma list for libfuse, without our own options; may be "" */
	unsigned
		max_read_bytes; /* as in fuse_options, which has to agree with the INIT message; 0: not given */
	unsigned turn_wait_ms; /* how long a writer waits for its turn; 2000 by default */
	bool durable_close;    /* every close is as durable as an fsync */
	int64_t copy_limit_bytes; /* larger contents are not copied to be saved, or kept, but where a reflink does it */
};

int mount_run(const struct mount_options *options);

#endif
