/*
 * timer: things that are due at a time, called by one thread, one after the other.
 *
 * Life:      IDLE -(timer_set)-> SET -(due)-> IDLE, called; SET -(timer_cancel)-> IDLE
 * Ownership: the caller's memory; it must stay until the timer was called or cancelled. What a timer needs while
 *            it is called, it holds a reference of.
 * Locks:     timer_set and timer_cancel take LOCK_TIMER only. A call holds no lock and must not block for long.
 */
#ifndef INTACTFS_FS_TIMER_H
#define INTACTFS_FS_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
	struct timer *next, *prev;
	int64_t due_ms; /* time_mono_ms() */
	void (*call)(struct timer *timer);
	bool set;
};

int timers_start(void);
/* Ends the thread; timers that are still set are not called. */
void timers_stop(void);

/* Sets it, or moves it to another time. True when it was not set before. */
bool timer_set(struct timer *timer, int64_t due_ms);
/* True when it was set and will not be called; false when it was not, or is being called just now. */
bool timer_cancel(struct timer *timer);

#endif
