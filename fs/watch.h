/*
 * watch: a process that looks after a mount whose daemon is killed.
 *
 * The kernel ends the waiting of all programs when the last descriptor of /dev/fuse is closed. But a thread of the daemon that is
 * killed while it tells the kernel of a name (fuse_reverse_inval_entry) waits for the directory's lock, whose holder
 * waits for the daemon: nobody moves, and the descriptor stays open. The watcher has no such descriptor; it aborts the connection
 * (/sys/fs/fuse/connections/N/abort) when the daemon's first thread has died.
 */
#ifndef INTACTFS_FS_WATCH_H
#define INTACTFS_FS_WATCH_H

#include <sys/types.h>

/* To be called by the thread that lives as long as the daemon, before there are others. The watcher's process id, or -errno. */
pid_t watch_start(const char *mountpoint);
/* At a clean end, while the mount is still this daemon's. */
void watch_stop(pid_t watcher);

#endif
