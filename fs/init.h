/*
 * init: what is agreed with the kernel when the session starts.
 */
#ifndef INTACTFS_FS_INIT_H
#define INTACTFS_FS_INIT_H

#include <fuse3/fuse_lowlevel.h>
#include <stdbool.h>

/* After fuse_session_mount(): the session's messages pass through here, because libfuse 3.14 does not know every flag of the
 * INIT message that is wanted (FUSE_HANDLE_KILLPRIV_V2: without it each write is preceded by a GETXATTR). */
int init_session(struct fuse_session *session);
/* Whether that message has come, and libfuse agreed. */
bool init_answered(void);

void op_init(void *userdata, struct fuse_conn_info *conn);

/* Of mount.c: the first message was answered. */
void mount_answers(void);

#endif
