#include "fs/notify.h"

#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "fs/node.h"
#include "fs/park.h"

/* More than this waiting means that the kernel is stuck; it is asked for less then, never for more memory. */
#define QUEUE_MAX 100000
#define NAMES_MAX 64

struct notice {
	struct notice *next, *prev;
	struct tree *tree;
	int64_t dir;
	struct name name;
	struct file *file; /* whose name it is, with a reference; NULL: nobody waits */
};

static struct {
	struct lock lock; /* protects the rest */
	pthread_cond_t changed;
	pthread_t thread;
	struct notice *first;
	size_t count;
	bool running;
} queue;

/* The kernel knows the name only if it knows the directory. */
static void send_notice(struct fs *fs, const struct notice *notice)
{
	struct file *dir = tree_file_known(notice->tree, notice->dir);
	struct node *node = NULL;

	if (!dir)
		return;
	lock_take(&dir->lock);
	if (dir->head) {
		node = dir->head;
		node_ref_locked(node);
	}
	lock_drop(&dir->lock);
	if (node)
		fuse_lowlevel_notify_expire_entry(fs->session, node_id(node), notice->name.bytes,
			notice->name.length, FUSE_LL_EXPIRE_ONLY);
	node_unref(node, 1);
	file_unref(dir);
}

/* It was sent, or cannot be. */
static void notice_end(struct notice *notice)
{
	struct file *file = notice->file;
	struct parked *waiting = NULL;

	if (file) {
		lock_take(&file->lock);
		if (--file->notices == 0)
			waiting = park_claim_all_locked(&file->noticed);
		lock_drop(&file->lock);
	}
	park_resume(waiting, PARK_DONE);
	file_unref(file);
	free(notice);
}

static void *queue_main(void *arg)
{
	struct fs *fs = arg;
	struct notice *notice;

	lock_take(&queue.lock);
	while (queue.running || queue.first) {
		notice = queue.first;
		if (!notice) {
			lock_wait(&queue.lock, &queue.changed);
			continue;
		}
		DL_DELETE(queue.first, notice);
		queue.count--;
		lock_drop(&queue.lock);
		send_notice(fs, notice);
		notice_end(notice);
		lock_take(&queue.lock);
	}
	lock_drop(&queue.lock);
	return NULL;
}

int notify_start(struct fs *fs)
{
	lock_init(&queue.lock, LOCK_QUEUE);
	pthread_cond_init(&queue.changed, NULL);
	queue.running = true;
	return -pthread_create(&queue.thread, NULL, queue_main, fs);
}

void notify_stop(struct fs *fs)
{
	(void)fs;
	lock_take(&queue.lock);
	queue.running = false;
	pthread_cond_signal(&queue.changed);
	lock_drop(&queue.lock);
	pthread_join(queue.thread, NULL);
}

static void enqueue(struct tree *tree, int64_t dir, const char *name, struct file *file)
{
	struct notice *notice = calloc(1, sizeof(*notice));

	if (!notice)
		return;
	notice->tree = tree;
	notice->dir = dir;
	notice->name.length = strlen(name);
	memcpy(notice->name.bytes, name, notice->name.length + 1);
	if (file) {
		notice->file = file_ref(file);
		lock_take(&file->lock);
		file->notices++;
		lock_drop(&file->lock);
	}
	lock_take(&queue.lock);
	if (queue.running && queue.count < QUEUE_MAX) {
		DL_APPEND(queue.first, notice);
		queue.count++;
		pthread_cond_signal(&queue.changed);
		notice = NULL;
	}
	lock_drop(&queue.lock);
	if (notice)
		notice_end(notice);
}

void notify_names(struct fs *fs, struct file *file)
{
	struct file_name names[NAMES_MAX];
	size_t count = file_names(file, names, NAMES_MAX);

	(void)fs;
	for (size_t i = 0; i < count && i < NAMES_MAX; i++)
		enqueue(file->tree, names[i].dir, names[i].name.bytes, file);
}

void notify_name(struct fs *fs, struct file *dir, const char *name)
{
	(void)fs;
	enqueue(dir->tree, dir->id, name, NULL);
}

void notify_pages(struct fs *fs, struct node *node, int64_t offset, int64_t length)
{
	fuse_lowlevel_notify_inval_inode(fs->session, node_id(node), offset, length);
}

void notify_attributes(struct fs *fs, struct node *node)
{
	fuse_lowlevel_notify_inval_inode(fs->session, node_id(node), -1, 0);
}
