/*
 * object: whole file contents, stored as plain files.
 *
 * Life:      (none) -(object_stage)-> STAGED -(object_publish)-> PUBLISHED -(object_remove)-> (none)
 *            STAGED -(object_unstage)-> (none)
 *            STAGED objects are stage/NUMBER, only their saver writes them. PUBLISHED ones are
 *            objects/SHARD/NUMBER (decimal, SHARD = NUMBER / 4096), and are not changed, except that an object
 *            of a live file grows at its end or is written in place.
 * Numbers:   positive, unique in the volume, never used twice.
 * Errors:    -errno of the system call.
 * Threads:   everything here may be called by any number of threads at once; no locks are held over I/O.
 * Durable:   nothing is synced but by object_sync.
 */
#ifndef INTACTFS_JOURNAL_OBJECT_H
#define INTACTFS_JOURNAL_OBJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define OBJECT_HASH_BYTES 16

struct reserve;

struct object_store {
	int objects_fd, stage_fd; /* directories */
	struct reserve *reserve;  /* not owned */
};

/* XXH3-128 in its canonical (big-endian) form (https://github.com/Cyan4973/xxHash, XXH128_canonicalFromHash). */
struct object_hash {
	unsigned char bytes[OBJECT_HASH_BYTES];
};

/* Opens objects/ and stage/ under the directory tree_fd, making them (0700) when create is set. */
int object_store_open(
	struct object_store *store, int tree_fd, bool create, struct reserve *reserve);
void object_store_close(struct object_store *store);

/* A new, empty staged object, open for reading and writing (O_CLOEXEC, mode 0600). -EEXIST when the number is taken,
 * -ENOSPC when the reserve is low. */
int object_stage(struct object_store *store, int64_t number, int *ret_fd);
/* 0 when objects may grow, else -ENOSPC: to be asked before whatever makes one grow (reserve.h). */
int object_room(struct object_store *store);
int object_open_staged(struct object_store *store, int64_t number, int open_flags, int *ret_fd);
/* Published; makes the shard when it is the first there. -ENOENT when there is no such staged object. */
int object_publish(struct object_store *store, int64_t number);
int object_unstage(struct object_store *store, int64_t number);

int object_open(struct object_store *store, int64_t number, int open_flags, int *ret_fd);
int object_remove(struct object_store *store, int64_t number);

/* Makes dst (empty, open for writing) hold the first length_bytes of src: as a reflink where the filesystem can,
 * else copied with its holes kept (SEEK_DATA, copy_file_range, read/write). -EUCLEAN when src is shorter.
 * Moves the offset of src_fd. */
int object_copy(int src_fd, int dst_fd, int64_t length_bytes);

/* The same, but only as a reflink: -EOPNOTSUPP where that cannot be. */
int object_reflink(int src_fd, int dst_fd, int64_t length_bytes);

/* The hash of the first length_bytes; -EUCLEAN when the file is shorter. */
int object_hash(int fd, int64_t length_bytes, struct object_hash *ret_hash);

/* 1 when the first length_bytes are equal byte for byte, 0 when not, -errno. */
int object_equal(int fd_a, int fd_b, int64_t length_bytes);

/* After this the objects, their names included, survive a loss of power. Those that are not there (any more) are passed over. */
int object_sync(struct object_store *store, const int64_t *numbers, size_t count);

/* Calls visit for every staged object; stops at the first non-zero result and returns it.
 * Names in stage/ that are no numbers are ignored. visit may unstage or publish the object it is called for. */
int object_visit_staged(
	struct object_store *store, int (*visit)(int64_t number, void *arg), void *arg);

#endif
