/*
 * notify: the kernel is told that what it caches is out of date.
 *
 * Names are told of by a thread of its own: the kernel takes the directory's lock for it
 * (fuse_reverse_inval_entry), which somebody may hold who waits for this daemon. Should the daemon be killed in just that
 * moment, both wait until the connection is aborted. So it is done only where nothing else will do: names of a file that is being
 * saved, or that has several, are answered without a timeout instead.
 */
#ifndef INTACTFS_FS_NOTIFY_H
#define INTACTFS_FS_NOTIFY_H

#include "fs/fs.h"

int notify_start(struct fs *fs);
void notify_stop(struct fs *fs);

/* The next walk of each name of the file asks again. Queued: until they are sent file->notices counts them, and then those that wait in
 * file->noticed go on. No lock may be held. */
void notify_names(struct fs *fs, struct file *file);
/* A name that has come to life without the kernel's doing. */
void notify_name(struct fs *fs, struct file *dir, const char *name);
/* The attributes of the node are asked for again; sent at once. No lock may be held. */
void notify_attributes(struct fs *fs, struct node *node);
/* So are its attributes and its pages from offset on (length 0: all of them); what was written to them by mappings comes first. */
void notify_pages(struct fs *fs, struct node *node, int64_t offset, int64_t length);

#endif
