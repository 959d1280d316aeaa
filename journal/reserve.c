#include "journal/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "journal/log.h"

#define TARGET_BYTES  (2 << 20)
#define PART_BYTES    (128 << 10)
#define OPENING_BYTES (512 << 10) /* what the logs of a few trees begin with */

static int64_t bytes_held(struct reserve *reserve)
{
	struct stat st;

	return fstat(reserve->fd, &st) == 0 ? st.st_size : 0;
}

static int64_t bytes_free(struct reserve *reserve)
{
	struct statvfs fs;

	if (fstatvfs(reserve->fd, &fs) != 0)
		return 0;
	return (int64_t)((geteuid() == 0 ? fs.f_bfree : fs.f_bavail) * fs.f_frsize);
}

/* Whether it is whole. It leaves slack_bytes to others. */
static bool fill_up_locked(struct reserve *reserve, int64_t slack_bytes)
{
	int64_t held = bytes_held(reserve), missing = reserve->target_bytes - held;

	if (missing <= 0)
		return true;
	if (bytes_free(reserve) >= missing + slack_bytes &&
		posix_fallocate(reserve->fd, held, missing) == 0)
		return true;
	/* A failed attempt may hold on to what it got. */
	if (bytes_held(reserve) != held && ftruncate(reserve->fd, held) != 0)
		log_warning("the reserve cannot be cut to size");
	return false;
}

static bool give_locked(struct reserve *reserve)
{
	int64_t held = bytes_held(reserve);
	int64_t left = held > PART_BYTES ? held - PART_BYTES : 0;

	return held > 0 && ftruncate(reserve->fd, left) == 0;
}

static void set_low(struct reserve *reserve, bool low)
{
	if (low == __atomic_exchange_n(&reserve->low, low, __ATOMIC_ACQ_REL))
		return;
	if (low)
		log_warning("the volume is full: files can be removed, but nothing is written "
			    "until there is room");
	else
		log_info("the volume has room again");
}

int reserve_open(struct reserve *reserve, int volume_fd)
{
	struct statvfs fs;

	if (fstatvfs(volume_fd, &fs) != 0)
		return -errno;
	reserve->fd = openat(volume_fd, "reserve", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (reserve->fd < 0 && errno == ENOSPC)
		return 0;
	if (reserve->fd < 0)
		return -errno;
	reserve->target_bytes = (int64_t)(fs.f_blocks * fs.f_frsize / 16);
	if (reserve->target_bytes > TARGET_BYTES)
		reserve->target_bytes = TARGET_BYTES;
	pthread_mutex_lock(&reserve->lock);
	if (!fill_up_locked(reserve, OPENING_BYTES)) {
		while (bytes_free(reserve) < OPENING_BYTES && give_locked(reserve))
			;
		set_low(reserve, true);
	}
	pthread_mutex_unlock(&reserve->lock);
	return 0;
}

void reserve_close(struct reserve *reserve)
{
	if (reserve->fd < 0)
		return;
	fill_up_locked(reserve, 0);
	close(reserve->fd);
	reserve->fd = -1;
}

bool reserve_give(struct reserve *reserve, int err)
{
	bool given;

	if ((err != -ENOSPC && err != -EDQUOT) || reserve->fd < 0)
		return false;
	set_low(reserve, true);
	pthread_mutex_lock(&reserve->lock);
	given = give_locked(reserve);
	pthread_mutex_unlock(&reserve->lock);
	return given;
}

bool reserve_is_low(struct reserve *reserve)
{
	return __atomic_load_n(&reserve->low, __ATOMIC_ACQUIRE);
}

int reserve_room(struct reserve *reserve)
{
	if (!reserve_is_low(reserve))
		return 0;
	pthread_mutex_lock(&reserve->lock);
	if (fill_up_locked(reserve, TARGET_BYTES / 2))
		set_low(reserve, false);
	pthread_mutex_unlock(&reserve->lock);
	return reserve_is_low(reserve) ? -ENOSPC : 0;
}
