/*
 * save_internal: what save.c (the life of a save) and publish.c (its second moment) share.
 */
#ifndef INTACTFS_FS_SAVE_INTERNAL_H
#define INTACTFS_FS_SAVE_INTERNAL_H

#include "fs/save.h"

struct journal *save_journal(struct save *save);
/* The timer holds a reference while it is set. */
void save_set_timer(struct save *save, int64_t due_ms);
/* Whether there is anything to publish. */
bool save_has_content(const struct save *save);
/* The save's object becomes its own to change: made, copied from the basis, or from what a version names now. io_lock is held.
 * SAVE_IS_LIVE; -ESTALE when the save is over. */
int save_own_object(struct save *save);
/* Size, hash and blocks as they are now. io_lock is held. */
int save_seal(struct save *save);
/* Takes the save out of the file, whose lock is held. The reference of the file's list goes to the caller, and so do the requests
 * that waited for the publish, and (ret_next) for the turn: for save_end(), without locks. */
struct parked *save_leave_locked(struct save *save, struct parked **ret_next);
void save_end(struct save *save, struct parked *waiting, struct parked *next);

#endif
