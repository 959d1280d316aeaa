#include "tests/unit/fixture.h"

#include "journal/object.h"
#include "journal/reserve.h"

#define MIB (1024 * 1024)

struct numbers {
	struct object_store *store;
	int64_t seen[8];
	size_t count;
};

static struct reserve no_reserve = {.fd = -1};
static struct object_store open_store(struct fixture *f)
{
	struct object_store store;
	int tree_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_ok(object_store_open(&store, tree_fd, true, &no_reserve));
	close(tree_fd);
	return store;
}

static int temporary(struct fixture *f)
{
	int fd = open(f->dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void put(int fd, const void *bytes, size_t size_bytes, off_t offset)
{
	assert_int_equal(pwrite(fd, bytes, size_bytes, offset), size_bytes);
}

static char *pattern(size_t size_bytes)
{
	char *bytes = malloc(size_bytes);
	unsigned value = 1;

	for (size_t i = 0; i < size_bytes; i++) {
		value = value * 1103515245 + 12345;
		bytes[i] = (char)(value >> 16);
	}
	return bytes;
}

static void from_staged_to_published_to_nothing(void **state)
{
	struct fixture *f = *state;
	struct object_store store = open_store(f);
	const int64_t numbers[] = {8195, 1, 8196};
	struct stat st;
	char buf[8];
	int fd, again;

	assert_ok(object_stage(&store, 8195, &fd));
	assert_int_equal(object_stage(&store, 8195, &again), -EEXIST);
	put(fd, "hello", 5, 0);
	assert_ok(fstat(fd, &st));
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_ok(object_sync(&store, numbers, ARRAY_SIZE(numbers)));
	assert_int_equal(object_open(&store, 8195, O_RDONLY, &again), -ENOENT);

	assert_ok(object_publish(&store, 8195));
	assert_int_equal(object_publish(&store, 8195), -ENOENT);
	assert_true(fixture_exists(f, "objects/2/8195"));
	assert_int_equal(object_open_staged(&store, 8195, O_RDONLY, &again), -ENOENT);
	assert_ok(object_sync(&store, numbers, ARRAY_SIZE(numbers)));
	assert_ok(object_open(&store, 8195, O_RDONLY, &again));
	assert_int_equal(read(again, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
	close(again);
	close(fd);

	assert_ok(object_remove(&store, 8195));
	assert_int_equal(object_remove(&store, 8195), -ENOENT);
	assert_int_equal(object_unstage(&store, 8195), -ENOENT);
	assert_int_equal(object_publish(&store, 5), -ENOENT);
	object_store_close(&store);
}

static void a_store_that_is_not_there(void **state)
{
	struct fixture *f = *state;
	struct object_store store;
	autoclose int tree_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(object_store_open(&store, tree_fd, false, &no_reserve), -ENOENT);
	assert_ok(object_store_open(&store, tree_fd, true, &no_reserve));
	object_store_close(&store);
	assert_ok(object_store_open(&store, tree_fd, false, &no_reserve));
	object_store_close(&store);
}

static int unstage_each(int64_t number, void *arg)
{
	struct numbers *numbers = arg;

	numbers->seen[numbers->count++] = number;
	return object_unstage(numbers->store, number);
}

static int stop_at_once(int64_t number, void *arg)
{
	(void)number, (void)arg;
	return -ECANCELED;
}

static void visits_what_is_staged(void **state)
{
	struct fixture *f = *state;
	struct object_store store = open_store(f);
	struct numbers numbers = {.store = &store};
	int64_t sum = 0;
	int fd;

	for (int64_t number = 101; number <= 103; number++) {
		assert_ok(object_stage(&store, number, &fd));
		close(fd);
	}
	fixture_write(f, "stage/0", "", 0, 0);
	fixture_write(f, "stage/-5", "", 0, 0);
	fixture_write(f, "stage/007", "", 0, 0);
	fixture_write(f, "stage/12x", "", 0, 0);
	fixture_write(f, "stage/99999999999999999999", "", 0, 0);
	assert_int_equal(object_visit_staged(&store, stop_at_once, NULL), -ECANCELED);
	assert_ok(object_visit_staged(&store, unstage_each, &numbers));
	assert_int_equal(numbers.count, 3);
	for (size_t i = 0; i < numbers.count; i++)
		sum += numbers.seen[i];
	assert_int_equal(sum, 306);
	numbers.count = 0;
	assert_ok(object_visit_staged(&store, unstage_each, &numbers));
	assert_int_equal(numbers.count, 0);
	object_store_close(&store);
}

static void check_hash(int fd, int64_t length_bytes, const char *expected)
{
	struct object_hash hash;
	char text[2 * OBJECT_HASH_BYTES + 1];

	assert_ok(object_hash(fd, length_bytes, &hash));
	for (size_t i = 0; i < OBJECT_HASH_BYTES; i++)
		sprintf(text + 2 * i, "%02x", hash.bytes[i]);
	assert_string_equal(text, expected);
}

/* The expected values are those of XXH3_128bits in one go. */
static void hashes(void **state)
{
	struct fixture *f = *state;
	autoclose int fd = temporary(f);
	autofree char *bytes = pattern(3 * MIB + 17);
	struct object_hash hash;

	check_hash(fd, 0, "99aa06d3014798d86001c324468d497f");
	put(fd, "hello", 5, 0);
	check_hash(fd, 5, "b5e9c1ad071b3e7fc779cfaa5e523818");
	check_hash(fd, 0, "99aa06d3014798d86001c324468d497f");
	assert_int_equal(object_hash(fd, 6, &hash), -EUCLEAN);
	put(fd, bytes, 3 * MIB + 17, 0);
	check_hash(fd, 3 * MIB + 17, "c90d9b26dc59b8fcb9b9b42f971ed322");
}

static void equal_and_unequal(void **state)
{
	struct fixture *f = *state;
	autoclose int a = temporary(f);
	autoclose int b = temporary(f);
	autofree char *bytes = pattern(2 * MIB);

	assert_int_equal(object_equal(a, b, 0), 1);
	put(a, bytes, 2 * MIB, 0);
	put(b, bytes, 2 * MIB, 0);
	assert_int_equal(object_equal(a, b, 2 * MIB), 1);
	put(b, "?", 1, 2 * MIB - 1);
	assert_int_equal(object_equal(a, b, 2 * MIB), 0);
	assert_int_equal(object_equal(a, b, 2 * MIB - 1), 1);
	assert_ok(ftruncate(b, MIB));
	assert_int_equal(object_equal(a, b, 2 * MIB), -EUCLEAN);
}

/* 64 KiB of data, a hole, 64 KiB of data, a hole. */
static int sparse(struct fixture *f)
{
	autofree char *bytes = pattern(65536);
	int fd = temporary(f);

	put(fd, bytes, 65536, 0);
	put(fd, bytes, 65536, 8 * MIB);
	assert_ok(ftruncate(fd, 16 * MIB));
	return fd;
}

static void copies_keep_holes(void **state)
{
	struct fixture *f = *state;
	autoclose int src = sparse(f);
	autoclose int dst = temporary(f);
	struct stat st;

	assert_ok(object_copy(src, dst, 16 * MIB));
	assert_ok(fstat(dst, &st));
	assert_int_equal(st.st_size, 16 * MIB);
	assert_int_equal(object_equal(src, dst, 16 * MIB), 1);
	assert_true(st.st_blocks * 512 < MIB);
}

static void copies_of_a_part(void **state)
{
	struct fixture *f = *state;
	autoclose int src = sparse(f);
	static const int64_t lengths[] = {0, 1, 65535, 65537, MIB, 8 * MIB + 3, 16 * MIB - 1};

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		autoclose int dst = temporary(f);
		struct stat st;

		assert_ok(object_copy(src, dst, lengths[i]));
		assert_ok(fstat(dst, &st));
		assert_int_equal(st.st_size, lengths[i]);
		assert_int_equal(object_equal(src, dst, lengths[i]), 1);
	}
}

/* No copy_file_range between these: bytes are read and written. */
static void copies_across_filesystems(void **state)
{
	struct fixture *f = *state;
	autofree char *bytes = pattern(3 * MIB);
	autoclose int src = memfd_create("unit", MFD_CLOEXEC);
	autoclose int dst = temporary(f);

	put(src, bytes, 3 * MIB, 0);
	assert_ok(object_copy(src, dst, 3 * MIB - 5));
	assert_int_equal(object_equal(src, dst, 3 * MIB - 5), 1);
	assert_int_equal(lseek(dst, 0, SEEK_END), 3 * MIB - 5);
}

static void a_copy_of_more_than_there_is(void **state)
{
	struct fixture *f = *state;
	autoclose int src = temporary(f);
	autoclose int dst = temporary(f);

	put(src, "hello", 5, 0);
	assert_int_equal(object_copy(src, dst, 6), -EUCLEAN);
}

static void a_full_filesystem(void **state)
{
	struct fixture *f = *state;
	struct object_store store;
	autofree char *bytes = pattern(600 * 1024);
	int src, dst;

	fixture_tmpfs(f, "size=1m");
	store = open_store(f);
	assert_ok(object_stage(&store, 101, &src));
	put(src, bytes, 600 * 1024, 0);
	assert_ok(object_stage(&store, 102, &dst));
	assert_int_equal(object_copy(src, dst, 600 * 1024), -ENOSPC);
	assert_ok(object_unstage(&store, 102));
	assert_ok(object_publish(&store, 101));
	close(src);
	close(dst);
	object_store_close(&store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fixture_test(from_staged_to_published_to_nothing),
		fixture_test(a_store_that_is_not_there),
		fixture_test(visits_what_is_staged),
		fixture_test(hashes),
		fixture_test(equal_and_unequal),
		fixture_test(copies_keep_holes),
		fixture_test(copies_of_a_part),
		fixture_test(copies_across_filesystems),
		fixture_test(a_copy_of_more_than_there_is),
		fixture_test(a_full_filesystem),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
