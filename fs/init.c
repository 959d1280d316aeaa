#include "fs/init.h"

#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/fs.h"
#include "journal/base.h"

/* Releases must not queue behind one another: the next open of the file may wait for them. */
#define MAX_BACKGROUND 1024

static struct {
	bool seen, answered;
	uint64_t unique;
	uint32_t offered; /* the kernel's flags */
} init;

/* The first message is INIT; nothing else comes before it is answered. */
static ssize_t read_message(int fd, void *buf, size_t size, void *userdata)
{
	const struct fuse_in_header *header = buf;
	const struct fuse_init_in *in = (const void *)(header + 1);
	ssize_t n = read(fd, buf, size);

	(void)userdata;
	if (!init.seen && n >= (ssize_t)(sizeof(*header) + offsetof(struct fuse_init_in, flags2)) &&
		header->opcode == FUSE_INIT) {
		init.seen = true;
		init.unique = header->unique;
		init.offered = in->flags;
	}
	return n;
}

static void amend_init(struct iovec *iov, int count)
{
	const struct fuse_out_header *header = iov[0].iov_base;
	struct fuse_init_out *out;

	if (count < 2 || header->unique != init.unique || header->error)
		return;
	init.answered = true;
	if (iov[1].iov_len < offsetof(struct fuse_init_out, max_background))
		return;
	out = iov[1].iov_base;
	out->flags |= init.offered & FUSE_HANDLE_KILLPRIV_V2;
}

static ssize_t write_message(int fd, struct iovec *iov, int count, void *userdata)
{
	bool first = !init.answered;
	ssize_t n;

	(void)userdata;
	if (first)
		amend_init(iov, count);
	n = writev(fd, iov, count);
	if (first && init.answered && n > 0)
		mount_answers();
	return n;
}

bool init_answered(void)
{
	return init.answered;
}

int init_session(struct fuse_session *session)
{
	static const struct fuse_custom_io io = {.read = read_message, .writev = write_message};

	return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}

void op_init(void *userdata, struct fuse_conn_info *conn)
{
	const unsigned wanted =
		FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_SPLICE_WRITE |
		FUSE_CAP_SPLICE_MOVE | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS |
		FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO;

	conn->max_read = ((struct fs *)userdata)->options.max_read_bytes;
	/* What a node stands for never changes by itself: no invalidation by time, no clearing of bits asked for by flags that
	 * libfuse does not pass on. */
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV);
	conn->want |= conn->capable & wanted;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
}
