/*
 * ops: the requests of the kernel. ops.c has the table; the files ops_*.c answer each request exactly once, and alone turn
 * outcomes into errnos. ESTALE only ever redirects (redirect.h).
 */
#ifndef INTACTFS_FS_OPS_H
#define INTACTFS_FS_OPS_H

#include "fs/node.h"
#include "fs/save.h"

extern const struct fuse_lowlevel_ops ops_table;

/* An open file. */
struct handle {
	struct handle *next, *prev; /* all of them: releases may get lost at the end of a mount */
	struct node *node;	    /* with a reference */
	struct save *save;	/* with a reference; NULL unless it was opened on a staged save */
	int fd;			/* of a reader; -1: none yet */
	int64_t version_object; /* what fd is of, when that is an old version; else 0 */
	int64_t limit_bytes;
	bool writer;
	bool live;    /* atomic; a writer of a live file, since it was opened or took a lock */
	pid_t opener; /* a thread */
	bool closing; /* file->lock; live, and its opener closed it */
	bool noflush; /* its closes are not told of */
	int64_t flushed_ms; /* file->lock; time_mono_ms() of the last close of one of its descriptors */
	int64_t shown_ino;   /* what the kernel knows its node by */
	struct node *former; /* with a reference; what node was, before it went on in the head's */
	unsigned followed;   /* node->followed when fd was opened; atomic */
};

static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static inline bool is_root(fuse_ino_t id)
{
	return id == FUSE_ROOT_ID;
}

/* What a lock request needs to know of a handle that is about to be answered. True: closes need no FLUSH. */
bool ops_handle_opened(struct handle *handle, pid_t opener);
/* Those who still wait for locks at the end get none. */
void ops_locks_end(struct file *file);
/* Who has the node open, which is not the head, reads and is told of the head from now on. */
void ops_follow_head(struct node *node);
/* A descriptor of what everybody reads now; -1: nothing was published yet. */
int ops_open_head(struct file *file, int *ret_fd);
/* A superseded node that nobody has open keeps no version for anybody. Who looks at it is told of the head; who opens it, and walked no
 * path, means the file, and so do all that follow. Whether it is so. */
bool ops_stat_left(struct node *node, struct stat *ret_stat);
bool ops_follow_if_left(struct node *node);
/* The live file that a writer's handle works on; NULL when it works on a staged save. */
struct live *ops_live(struct handle *handle);
/* The head was written to through ino, which to the kernel is another node than the handle's. */
void ops_tell_head(struct handle *handle, fuse_ino_t ino, int64_t offset, int64_t length);
/* With fd -1 and no limit; NULL: no memory. node may be NULL. It is in the list of all handles. */
struct handle *ops_handle_new(struct node *node);
/* The end of a writer: the last one of a save publishes it. */
void ops_end_writing(struct handle *handle);
/* Frees it; its writing has ended. */
void ops_handle_free(struct handle *handle);
/* Who reads a version whose object is about to be written in place goes on in its copy. */
void ops_version_moved(struct tree *tree, int64_t from, int64_t to);
/* Between these the objects of versions that are being read do not move. */
void ops_versions_hold(void);
void ops_versions_release(void);
/* At the end: frees what was never released. */
void ops_handles_drop(void);
/* A close ends the POSIX locks that its process (owner) has on the file. What was saved under them is published first. */
void ops_locks_flushed(struct handle *handle, uint64_t owner);
/* And the last close those of the open file, when its writing has ended. */
bool ops_locks_held(struct handle *handle);
void ops_locks_released(struct handle *handle);

/* A handle that the kernel does not know, or no more: ends its writing, and frees it. */
void ops_close(struct handle *handle);

/* The directory of a request that changes names in it; NULL when it was answered: nothing but trees can be
 * made in the root (EPERM), nothing in a virtual directory (EROFS). */
struct file *ops_directory(fuse_req_t req, fuse_ino_t id);

/* Fills in what a name is answered with; file->lock is held. */
void ops_entry_locked(struct node *node, bool busy, struct fuse_entry_param *ret_entry);
/* Answers with the node, whose reference becomes the kernel's. */
void ops_reply_entry(fuse_req_t req, const struct fuse_entry_param *entry, struct node *node);
double ops_attr_timeout_locked(struct node *node);

/* Publishes what was closed of a file whose name is about to change; with written, also what was not closed yet. by: only what
 * the process wrote, or what nobody has open any more who wrote it. True when there was something. */
bool ops_publish_closed(struct file *file, bool written, const struct process *by);
/* A wait for a release was in vain: what was closed, and is not held by anybody who wrote it, is published now. */
void ops_publish_let_go(struct file *file);
/* The attributes that the kernel has of the file's other nodes are out of date. No lock is held. */
void ops_tell_others(struct file *file, struct node *except);
/* The save that the thread is to be sent to: its own, or a new reservation, with the turn when that is free. Takes no lock over; false: no
 * memory. For changes by path that are not opens. */
bool ops_reserve(fuse_req_t req, struct node *node, const struct process *process);
/* The lineage by which the file is known. */
int64_t ops_lineage(struct file *file);

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_file_info *fi);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
	const char *to_name, unsigned flags);

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
	struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock);
void op_setlk(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep);
void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
	struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in,
	struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t offset_out,
	struct fuse_file_info *fi_out, size_t length, int flags);

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
	int flags);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

#endif
