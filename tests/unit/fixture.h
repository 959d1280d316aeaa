/*
 * fixture: a directory of its own for each test, and small helpers.
 */
#ifndef INTACTFS_TESTS_FIXTURE_H
#define INTACTFS_TESTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/base.h"

#define assert_ok(call) assert_int_equal(call, 0)

struct fixture {
	char dir[64];
	bool mounted;
};

static inline int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/intactfs-unit-XXXXXX");
	*state = f;
	return mkdtemp(f->dir) ? 0 : -1;
}

static inline int fixture_remove_one(
	const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	if (f->mounted)
		umount2(f->dir, MNT_DETACH);
	nftw(f->dir, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

/* A path below the fixture's directory; valid until the eighth call after it. */
static inline const char *fixture_path(struct fixture *f, const char *name)
{
	static char paths[8][512];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", f->dir, name);
	return path;
}

/* Mounts a small tmpfs on the fixture's directory, or skips the test. */
static inline void fixture_tmpfs(struct fixture *f, const char *options)
{
	if (mount("intactfs-unit", f->dir, "tmpfs", 0, options)) {
		print_message("skipped: needs to mount a tmpfs: %s\n", strerror(errno));
		skip();
	}
	f->mounted = true;
}

static inline void fixture_remount(struct fixture *f, unsigned long mount_flags)
{
	assert_ok(mount(NULL, f->dir, NULL, MS_REMOUNT | mount_flags, NULL));
}

/* Takes all space that is left. */
static inline void fixture_fill(struct fixture *f)
{
	static const char block[4096];
	int fd = open(fixture_path(f, "filler"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	while (write(fd, block, sizeof(block)) > 0)
		;
	assert_int_equal(errno, ENOSPC);
	close(fd);
}

static inline void fixture_write(
	struct fixture *f, const char *name, const void *bytes, size_t size_bytes, off_t offset)
{
	int fd = open(fixture_path(f, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, size_bytes, offset), size_bytes);
	close(fd);
}

static inline bool fixture_exists(struct fixture *f, const char *name)
{
	return !access(fixture_path(f, name), F_OK);
}

#define fixture_test(function)                                                                     \
	cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

#endif
