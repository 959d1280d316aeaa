/*
 * process: what /proc tells of the programs that use the mount.
 *
 * A request carries the id of a thread. A process is its thread group's id and an identity, since
 * ids are used again. A pid of 0, or one that cannot be looked up, is in another pid namespace: known is false then.
 * Sources: proc(5), /proc/PID/status, fdinfo (its ino line: Linux 5.14), pidfds (fs/pidfs.c: Linux 6.9; before, /proc/PID/stat).
 */
#ifndef INTACTFS_META_PROCESS_H
#define INTACTFS_META_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "journal/journal.h"

struct process {
	bool known;
	bool exiting;	   /* it has no memory any more: what it closes, it closes by its end */
	pid_t tid, pid;	   /* pid: the thread group */
	uint64_t identity; /* of the thread group: no other process has it, whatever its number */
	char program[32];
};

void process_get(pid_t tid, struct process *ret_process);
bool process_same(const struct process *a, const struct process *b);

/* True when pid descends from ancestor, and is not ancestor itself. */
bool process_descends(pid_t pid, const struct process *ancestor);
/* Of a thread that is exiting (else it may wait, see read_identity): whether its process is killed by a signal. Not known, and false,
 * where its stat is not ours to read (proc(5), exit_code). */
bool thread_is_killed(pid_t tid);
/* True when the process has a descriptor, open for writing, of the file with this inode number. It costs a look at each of its
 * descriptors. */
bool process_is_writing(pid_t pid, uint64_t ino);
/* The same of any descriptor. */
bool process_is_using(pid_t pid, uint64_t ino);
/* True when a signal is pending for the thread that ends its wait: one that kills it, or that it catches
 * to be told of (SIGINT, SIGALRM, ...); not one that is ignored or is no concern of a wait (SIGCHLD, SIGWINCH, ...). */
bool thread_interrupted(pid_t tid);

/* Who acts: the user of the request, and the program. */
void actor_get(struct actor *actor, const struct process *process, uid_t uid, gid_t gid);

#endif
