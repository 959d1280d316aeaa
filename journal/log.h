/*
 * log: what the daemon has to say. To stderr in the foreground, else to syslog.
 * Thread-safe. A message is one line, names the thing and never holds file contents.
 */
#ifndef INTACTFS_JOURNAL_LOG_H
#define INTACTFS_JOURNAL_LOG_H

#include <stdbool.h>

/* Until this is called, messages go to stderr. */
void log_to_syslog(const char *ident);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
