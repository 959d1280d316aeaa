#include "journal/object.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "journal/base.h"
#include "journal/reserve.h"

#define SHARD_OBJECTS 4096
#define BLOCK_BYTES   (512 * 1024)

/* The name of an object, relative to stage/ or to objects/. */
struct name {
	char staged[24];
	char shard[24];
	char published[48];
};

static struct name name_of(int64_t number)
{
	struct name name;

	snprintf(name.staged, sizeof(name.staged), "%" PRId64, number);
	snprintf(name.shard, sizeof(name.shard), "%" PRId64, number / SHARD_OBJECTS);
	snprintf(name.published, sizeof(name.published), "%s/%s", name.shard, name.staged);
	return name;
}

static int open_at(int dir_fd, const char *name, int open_flags, int *ret_fd)
{
	int fd = openat(dir_fd, name, open_flags | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static int open_dir(int dir_fd, const char *name, bool create, int *ret_fd)
{
	if (create && mkdirat(dir_fd, name, 0700) && errno != EEXIST)
		return -errno;
	return open_at(dir_fd, name, O_RDONLY | O_DIRECTORY, ret_fd);
}

int object_store_open(struct object_store *store, int tree_fd, bool create, struct reserve *reserve)
{
	int objects_fd = -1, stage_fd = -1, err;

	err = open_dir(tree_fd, "objects", create, &objects_fd);
	if (err)
		return err;
	err = open_dir(tree_fd, "stage", create, &stage_fd);
	if (!err && create && fsync(tree_fd)) {
		err = -errno;
		close(stage_fd);
	}
	if (err) {
		close(objects_fd);
		return err;
	}
	*store = (struct object_store){
		.objects_fd = objects_fd, .stage_fd = stage_fd, .reserve = reserve};
	return 0;
}

void object_store_close(struct object_store *store)
{
	close(store->objects_fd);
	close(store->stage_fd);
	*store = (struct object_store){.objects_fd = -1, .stage_fd = -1};
}

int object_room(struct object_store *store)
{
	return reserve_room(store->reserve);
}

int object_stage(struct object_store *store, int64_t number, int *ret_fd)
{
	return object_room(store)
		       ?: open_at(store->stage_fd, name_of(number).staged,
				  O_RDWR | O_CREAT | O_EXCL, ret_fd);
}

int object_open_staged(struct object_store *store, int64_t number, int open_flags, int *ret_fd)
{
	return open_at(store->stage_fd, name_of(number).staged, open_flags, ret_fd);
}

int object_publish(struct object_store *store, int64_t number)
{
	struct name name = name_of(number);

	if (!renameat(store->stage_fd, name.staged, store->objects_fd, name.published))
		return 0;
	if (errno != ENOENT)
		return -errno;
	if (mkdirat(store->objects_fd, name.shard, 0700) && errno != EEXIST)
		return -errno;
	if (renameat(store->stage_fd, name.staged, store->objects_fd, name.published))
		return -errno;
	return 0;
}

int object_unstage(struct object_store *store, int64_t number)
{
	return unlinkat(store->stage_fd, name_of(number).staged, 0) ? -errno : 0;
}

int object_open(struct object_store *store, int64_t number, int open_flags, int *ret_fd)
{
	return open_at(store->objects_fd, name_of(number).published, open_flags, ret_fd);
}

int object_remove(struct object_store *store, int64_t number)
{
	return unlinkat(store->objects_fd, name_of(number).published, 0) ? -errno : 0;
}

/* Reads all size_bytes; -EUCLEAN when the file ends before. */
static int read_full(int fd, char *buf, size_t size_bytes, int64_t offset)
{
	while (size_bytes) {
		ssize_t n = pread(fd, buf, size_bytes, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EUCLEAN;
		buf += n;
		offset += n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

static int write_full(int fd, const char *buf, size_t size_bytes, int64_t offset)
{
	while (size_bytes) {
		ssize_t n = pwrite(fd, buf, size_bytes, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		buf += n;
		offset += n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

static size_t block_bytes(int64_t left_bytes)
{
	return left_bytes < BLOCK_BYTES ? (size_t)left_bytes : BLOCK_BYTES;
}

/* A buffer for all blocks of length_bytes, never of size 0. */
static char *block_alloc(int64_t length_bytes)
{
	return malloc(block_bytes(length_bytes) + 1);
}

static int copy_by_blocks(int src_fd, int dst_fd, int64_t offset, int64_t end)
{
	autofree char *buf = block_alloc(end - offset);

	if (!buf)
		return -ENOMEM;
	while (offset < end) {
		size_t n = block_bytes(end - offset);
		int err = read_full(src_fd, buf, n, offset);

		if (!err)
			err = write_full(dst_fd, buf, n, offset);
		if (err)
			return err;
		offset += (int64_t)n;
	}
	return 0;
}

static int copy_extent(int src_fd, int dst_fd, int64_t offset, int64_t end)
{
	loff_t in = offset, out = offset;

	while (in < end) {
		ssize_t n = copy_file_range(src_fd, &in, dst_fd, &out, (size_t)(end - in), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
			return -errno;
		if (n <= 0) /* this kernel or filesystem cannot, or the file is shorter */
			return copy_by_blocks(src_fd, dst_fd, in, end);
	}
	return 0;
}

/* Like lseek with SEEK_DATA or SEEK_HOLE, within length_bytes, and as if all were data where that
 * is not known. */
static int64_t seek_within(int fd, int64_t offset, int whence, int64_t length_bytes)
{
	off_t found = lseek(fd, offset, whence);

	if (found < 0)
		found = errno == ENXIO || whence == SEEK_HOLE ? length_bytes : offset;
	return found < length_bytes ? found : length_bytes;
}

int object_reflink(int src_fd, int dst_fd, int64_t length_bytes)
{
	struct stat st;

	if (fstat(src_fd, &st))
		return -errno;
	if (st.st_size < length_bytes)
		return -EUCLEAN;
	if (ioctl(dst_fd, FICLONE, src_fd))
		return errno == ENOSPC || errno == EDQUOT || errno == EIO ? -errno : -EOPNOTSUPP;
	/* Cuts what it has beyond. */
	return ftruncate(dst_fd, length_bytes) ? -errno : 0;
}

int object_copy(int src_fd, int dst_fd, int64_t length_bytes)
{
	int err = object_reflink(src_fd, dst_fd, length_bytes);

	if (err != -EOPNOTSUPP)
		return err;
	for (int64_t offset = 0, end; offset < length_bytes; offset = end) {
		int64_t data = seek_within(src_fd, offset, SEEK_DATA, length_bytes);

		end = seek_within(src_fd, data, SEEK_HOLE, length_bytes);
		err = copy_extent(src_fd, dst_fd, data, end);
		if (err)
			return err;
	}
	/* Makes the hole at the end. */
	return ftruncate(dst_fd, length_bytes) ? -errno : 0;
}

static void hash_state_free(XXH3_state_t **state)
{
	XXH3_freeState(*state);
}

/* How far a hole reaches that begins at offset; offset itself when there is data, or nobody knows. */
static int64_t hole_end(int fd, int64_t offset, int64_t length_bytes)
{
	off_t data = lseek(fd, offset, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO ? length_bytes : offset;
	return data < length_bytes ? data : length_bytes;
}

static bool is_shorter(int fd, int64_t length_bytes)
{
	struct stat st;

	return fstat(fd, &st) != 0 || st.st_size < length_bytes;
}

/* Holes are hashed as the zeros that they read as, without filling the page cache with them. */
int object_hash(int fd, int64_t length_bytes, struct object_hash *ret_hash)
{
	__attribute__((cleanup(hash_state_free))) XXH3_state_t *state = XXH3_createState();
	autofree char *buf = block_alloc(length_bytes);
	XXH128_canonical_t canonical;
	int64_t offset = 0, hole = 0;

	if (!state || !buf)
		return -ENOMEM;
	if (is_shorter(fd, length_bytes))
		return -EUCLEAN;
	XXH3_128bits_reset(state);
	while (offset < length_bytes) {
		size_t n = block_bytes(length_bytes - offset);
		int err = 0;

		if (offset >= hole)
			hole = hole_end(fd, offset, length_bytes);
		if (offset < hole) {
			n = (int64_t)n > hole - offset ? (size_t)(hole - offset) : n;
			memset(buf, 0, n);
		} else {
			err = read_full(fd, buf, n, offset);
		}
		if (err)
			return err;
		XXH3_128bits_update(state, buf, n);
		offset += (int64_t)n;
	}
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
	memcpy(ret_hash->bytes, canonical.digest, OBJECT_HASH_BYTES);
	return 0;
}

/* The next offset at which one of them may have bytes other than zeros. */
static int64_t skip_holes(int fd_a, int fd_b, int64_t offset, int64_t length_bytes)
{
	int64_t a = lseek(fd_a, offset, SEEK_DATA), b = lseek(fd_b, offset, SEEK_DATA);

	if (a < 0)
		a = errno == ENXIO ? length_bytes : offset;
	if (b < 0)
		b = errno == ENXIO ? length_bytes : offset;
	return a < b ? a : b;
}

int object_equal(int fd_a, int fd_b, int64_t length_bytes)
{
	autofree char *a = block_alloc(length_bytes);
	autofree char *b = block_alloc(length_bytes);
	int64_t offset = 0;

	if (!a || !b)
		return -ENOMEM;
	while ((offset = skip_holes(fd_a, fd_b, offset, length_bytes)) < length_bytes) {
		size_t n = block_bytes(length_bytes - offset);
		int err = read_full(fd_a, a, n, offset);

		if (!err)
			err = read_full(fd_b, b, n, offset);
		if (err)
			return err;
		if (memcmp(a, b, n))
			return 0;
		offset += (int64_t)n;
	}
	return 1;
}

static int sync_at(int dir_fd, const char *name, int open_flags)
{
	autoclose int fd = -1;
	int err = open_at(dir_fd, name, O_RDONLY | open_flags, &fd);

	if (err)
		return err;
	return fsync(fd) ? -errno : 0;
}

/* An object that is published or unstaged meanwhile is found in its new place, or is nobody's any more. */
static int sync_content(struct object_store *store, int64_t number)
{
	struct name name = name_of(number);
	int err = sync_at(store->objects_fd, name.published, 0);

	if (err == -ENOENT)
		err = sync_at(store->stage_fd, name.staged, 0);
	if (err == -ENOENT)
		err = sync_at(store->objects_fd, name.published, 0);
	return err == -ENOENT ? 0 : err;
}

/* The directories come after the contents, and once for all of them. */
int object_sync(struct object_store *store, const int64_t *numbers, size_t count)
{
	int64_t shard = -1;
	int err = 0;

	for (size_t i = 0; i < count && !err; i++)
		err = sync_content(store, numbers[i]);
	for (size_t i = 0; i < count && !err; i++) {
		if (numbers[i] / SHARD_OBJECTS == shard)
			continue;
		shard = numbers[i] / SHARD_OBJECTS;
		err = sync_at(store->objects_fd, name_of(numbers[i]).shard, O_DIRECTORY);
		if (err == -ENOENT)
			err = 0;
	}
	if (!err && count > 0 && (fsync(store->objects_fd) || fsync(store->stage_fd)))
		err = -errno;
	return err;
}

/* The number that a name in stage/ stands for, or 0. */
static int64_t number_of(const char *name)
{
	int64_t number = strtoll(name, NULL, 10);

	return number > 0 && !strcmp(name_of(number).staged, name) ? number : 0;
}

static void dir_cleanup(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

int object_visit_staged(
	struct object_store *store, int (*visit)(int64_t number, void *arg), void *arg)
{
	__attribute__((cleanup(dir_cleanup))) DIR *dir = NULL;
	struct dirent *entry;
	int fd = -1, err;

	err = open_at(store->stage_fd, ".", O_RDONLY | O_DIRECTORY, &fd);
	if (err)
		return err;
	dir = fdopendir(fd);
	if (!dir) {
		err = -errno;
		close(fd);
		return err;
	}
	while (errno = 0, (entry = readdir(dir))) {
		int64_t number = number_of(entry->d_name);
		int result = number ? visit(number, arg) : 0;

		if (result)
			return result;
	}
	return -errno;
}
