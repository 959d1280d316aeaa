#include "journal/base.h"

#include <stdarg.h>

int diag_set(struct diag *diag, int err, const char *fmt, ...)
{
	va_list args;

	if (diag) {
		va_start(args, fmt);
		vsnprintf(diag->text, sizeof(diag->text), fmt, args);
		va_end(args);
	}
	return err;
}

int64_t time_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int64_t time_mono_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

const char *time_format(int64_t time_ns, char *buf, size_t size_bytes)
{
	int64_t ns = time_ns % 1000000000;
	time_t seconds = time_ns / 1000000000;
	struct tm tm;

	if (ns < 0) { /* before 1970 */
		ns += 1000000000;
		seconds--;
	}
	gmtime_r(&seconds, &tm);
	snprintf(buf, size_bytes, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year + 1900,
		tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ns / 1000));
	return buf;
}
