/*
 * base: the few things every file may use: cleanup by attribute, time, and
 * the text that goes with an error.
 *
 * Errors:    functions return 0 or -errno; what a person has to be told beside the number
 *            goes into a struct diag, which names the thing and says what to do.
 */
#ifndef INTACTFS_JOURNAL_BASE_H
#define INTACTFS_JOURNAL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define INTACTFS_VERSION "0.1.0"

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a)			(sizeof(a) / sizeof((a)[0]))

/* Declares a variable that is freed, or closed, when it goes out of scope. */
#define autofree  __attribute__((cleanup(base_cleanup_free)))
#define autoclose __attribute__((cleanup(base_cleanup_fd)))
#define autofile  __attribute__((cleanup(base_cleanup_file)))

static inline void base_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void base_cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void base_cleanup_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

/* What to tell a person about the last error; empty when there is nothing to add to the errno. */
struct diag {
	char text[1024];
};

/* Writes the text (diag may be NULL) and returns err, so that callers can return diag_set(...). */
int diag_set(struct diag *diag, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Nanoseconds of CLOCK_REALTIME: for what is recorded. */
int64_t time_now_ns(void);

/* Milliseconds of CLOCK_MONOTONIC: for everything that waits. */
int64_t time_mono_ms(void);

/* RFC 3339 in UTC with microseconds: "2026-01-02T03:04:05.000006Z". buf holds at least 32 bytes. */
const char *time_format(int64_t time_ns, char *buf, size_t size_bytes);

#endif
