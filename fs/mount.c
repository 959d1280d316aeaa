/*
 * mount: from the options to a filesystem that answers, and to its clean end.
 *
 * The end begins when the kernel has let go of the mount (unmount), or when a signal asks for it: then the mount is
 * detached first, so that nobody new comes in, and who has files open gets DRAIN_S to close them.
 */
#include "fs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "fs/fs.h"
#include "fs/init.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/redirect.h"
#include "fs/root.h"
#include "fs/timer.h"
#include "fs/watch.h"
#include "fs/job.h"
#include "journal/log.h"

#define DRAIN_S	    10
#define DRAIN_TEXT  "10"
#define MAX_THREADS 32
#define MAINTAIN_MS 1000

static struct {
	struct fs fs;
	pthread_t main_thread, signal_thread;
	int ready_fd; /* told when the mount answers; -1 in the foreground */
	struct timer maintain;
	pid_t watcher;
	sig_atomic_t over;
} self;

/* The caller of a background mount goes on. */
void mount_answers(void)
{
	int null;

	if (self.ready_fd < 0)
		return;
	if (write(self.ready_fd, "", 1) != 1)
		log_error("the caller of the mount is gone");
	close(self.ready_fd);
	self.ready_fd = -1;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

static int complain(const char *what, const struct diag *diag, int err)
{
	fprintf(stderr, "intactfs: %s%s%s\n", what, *what ? ": " : "",
		diag && diag->text[0] ? diag->text : strerror(-err));
	return 1;
}

/* Returns in the child with ready_fd set; in the parent, with the exit code, when the mount answers or has failed. */
static bool become_daemon(int *ret_exit)
{
	int pipe_fds[2], status;
	char byte;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
		*ret_exit = complain("cannot become a daemon", NULL, -errno);
		return false;
	}
	if (pid == 0) {
		close(pipe_fds[0]);
		self.ready_fd = pipe_fds[1];
		setsid();
		return true;
	}
	close(pipe_fds[1]);
	if (read(pipe_fds[0], &byte, 1) == 1)
		*ret_exit = 0;
	else
		*ret_exit = waitpid(pid, &status, 0) == pid && WIFEXITED(status)
				    ? WEXITSTATUS(status)
				    : 1;
	close(pipe_fds[0]);
	return false;
}

static void escape_option(FILE *out, const char *value)
{
	for (; *value; value++) {
		if (*value == ',' || *value == '\\')
			fputc('\\', out);
		fputc(*value, out);
	}
}

static char *session_options(const struct mount_options *options, const char *volume)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	if (!out)
		return NULL;
	fputs("subtype=intactfs,default_permissions", out);
	if (!strstr(options->fuse_options, "fsname=")) {
		fputs(",fsname=", out);
		escape_option(out, volume);
	}
	if (options->fuse_options[0])
		fprintf(out, ",%s", options->fuse_options);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static int session_start(struct fs *fs)
{
	autofree char *options = session_options(&fs->options, volume_path(fs->volume));
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);

	if (!options || fuse_opt_add_arg(&args, "intactfs") != 0 ||
		fuse_opt_add_arg(&args, "-o") != 0 || fuse_opt_add_arg(&args, options) != 0) {
		fuse_opt_free_args(&args);
		return complain("", NULL, -ENOMEM);
	}
	fs->session = fuse_session_new(&args, &ops_table, sizeof(ops_table), fs);
	fuse_opt_free_args(&args);
	if (!fs->session)
		return complain(
			"the FUSE session cannot be made; see the message above", NULL, -EINVAL);
	if (fuse_session_mount(fs->session, fs->mountpoint) != 0) {
		fuse_session_destroy(fs->session);
		fs->session = NULL;
		fprintf(stderr, "intactfs: %s cannot be mounted; see the message above\n",
			fs->mountpoint);
		return 1;
	}
	return init_session(fs->session) == 0
		       ? 0
		       : complain("the FUSE session cannot be set up", NULL, -EINVAL);
}

/* So that nobody new comes in; who is inside stays. */
static void detach(const char *mountpoint)
{
	pid_t pid;

	if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno == EINVAL)
		return;
	pid = fork();
	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", mountpoint,
			(char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void on_wake(int signal)
{
	(void)signal;
}

/* Ends the loop whatever the kernel does: its waiting thread looks again when a signal comes. */
static void end_loop(struct fs *fs)
{
	fuse_session_exit(fs->session);
	pthread_kill(self.main_thread, SIGUSR1);
}

/* Whether anybody has a file open for writing. */
static bool is_written(struct fs *fs)
{
	struct node *node;
	bool written = false;

	lock_take(&fs->nodes_lock);
	for (node = fs->nodes; node && !written; node = node->next)
		written = __atomic_load_n(&node->save, __ATOMIC_ACQUIRE) ||
			  __atomic_load_n(&node->live, __ATOMIC_ACQUIRE);
	lock_drop(&fs->nodes_lock);
	return written;
}

static void *signal_main(void *arg)
{
	static const struct timespec look = {0, 50000000};
	int64_t due_ms;
	struct fs *fs = arg;
	sigset_t set;
	int signal;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigwait(&set, &signal) != 0 || self.over)
		return NULL;
	log_info("%s: signal %d: unmounting", fs->mountpoint, signal);
	volume_closing(fs->volume);
	detach(fs->mountpoint);
	/* A second signal, or the time, ends the waiting for writers. The loop's own end sends one, too. */
	due_ms = time_mono_ms() + DRAIN_S * 1000;
	signal = -1;
	while (signal < 0 && !self.over && is_written(fs) && time_mono_ms() < due_ms)
		signal = sigtimedwait(&set, NULL, &look);
	if (self.over)
		return NULL;
	if (is_written(fs))
		log_warning("%s: files are still being written %s; ending all the same",
			fs->mountpoint,
			signal < 0 ? "after " DRAIN_TEXT " s" : "at the second signal");
	end_loop(fs);
	return NULL;
}

static int block_signals(void)
{
	struct sigaction wake = {.sa_handler = on_wake};
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	/* It has its limit from who mounts, as by `ulimit -f`: what is too large is an error. */
	signal(SIGXFSZ, SIG_IGN);
	sigaction(SIGUSR1, &wake, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	return -pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void maintain_tree(struct tree *tree)
{
	int err = journal_maintain(tree->journal);

	if (err)
		log_error("%s: maintenance: %s", tree->journal->path, strerror(-err));
	journal_check_more(tree->journal);
}

static void hurry_tree(struct tree *tree)
{
	journal_closing(tree->journal);
}

static void *maintain_main(void *arg)
{
	struct fs *fs = arg;

	root_sweep(fs);
	root_visit(fs, maintain_tree);
	__atomic_store_n(&fs->maintaining, false, __ATOMIC_RELEASE);
	return NULL;
}

/* A checkpoint takes its time: it gets a thread when there may be something to do. */
static void on_maintain(struct timer *timer)
{
	struct fs *fs = &self.fs;
	pthread_t thread;

	if (!__atomic_exchange_n(&fs->maintaining, true, __ATOMIC_ACQ_REL)) {
		if (pthread_create(&thread, NULL, maintain_main, fs) == 0)
			pthread_detach(thread);
		else
			fs->maintaining = false;
	}
	timer_set(timer, time_mono_ms() + MAINTAIN_MS);
}

static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	if (geteuid() == 0)
		limit.rlim_max = 1 << 20;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void finish_tree(struct tree *tree)
{
	struct file *file, *next = NULL, **files = NULL;
	size_t count = 0;

	/* Publishing changes the table: the files are held first. */
	lock_take(&tree->lock);
	files = calloc(HASH_COUNT(tree->files) + 1, sizeof(*files));
	for (file = tree->files; file && files; file = next) {
		next = file->hh.next;
		files[count++] = file_ref(file);
	}
	lock_drop(&tree->lock);
	for (size_t i = 0; i < count; i++) {
		ops_locks_end(files[i]);
		save_finish_all(files[i]);
		file_unref(files[i]);
	}
	free(files);
}

/* Releases may have got lost; the handles still keep the nodes. */
static void finish_live(struct fs *fs)
{
	struct node *node;

	for (node = fs->nodes; node; node = node->next) {
		if (node->kind != NODE_LIVE || !node->live)
			continue;
		node->live->writers = 1;
		live_release(node, false);
	}
}

/* What the kernel still knew is forgotten. */
static void finish_nodes(struct fs *fs)
{
	while (fs->nodes)
		node_unref(fs->nodes, fs->nodes->refs);
}

static void finish(struct fs *fs)
{
	watch_stop(self.watcher);
	volume_closing(fs->volume);
	self.over = 1;
	pthread_kill(self.signal_thread, SIGTERM);
	pthread_join(self.signal_thread, NULL);
	timers_stop();
	job_stop();
	root_visit(fs, hurry_tree);
	while (__atomic_load_n(&fs->maintaining, __ATOMIC_ACQUIRE))
		usleep(1000);
	root_visit(fs, finish_tree);
	finish_live(fs);
	ops_handles_drop();
	notify_stop(fs);
	redirect_clear();
	finish_nodes(fs);
	fuse_session_unmount(fs->session);
	fuse_session_destroy(fs->session);
}

static int serve(struct fs *fs)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int err = block_signals();

	fuse_loop_cfg_set_max_threads(config, MAX_THREADS);
	fuse_loop_cfg_set_idle_threads(config, MAX_THREADS);
	self.main_thread = pthread_self();
	self.watcher = watch_start(fs->mountpoint);
	if (self.watcher < 0)
		log_warning("no watcher: %s", strerror((int)-self.watcher));
	if (!err)
		err = job_start();
	if (!err)
		err = timers_start();
	if (!err)
		err = notify_start(fs);
	if (!err)
		err = -pthread_create(&self.signal_thread, NULL, signal_main, fs);
	if (err) {
		fuse_loop_cfg_destroy(config);
		return complain("threads cannot be started", NULL, err);
	}
	self.maintain.call = on_maintain;
	timer_set(&self.maintain, time_mono_ms() + MAINTAIN_MS);
	log_info("%s is mounted on %s", volume_path(fs->volume), fs->mountpoint);
	fuse_session_loop_mt(fs->session, config);
	fuse_loop_cfg_destroy(config);
	finish(fs);
	if (!init_answered())
		return complain("the kernel does not take the mount (see above)", NULL, -EPROTO);
	return 0;
}

static int run(const struct mount_options *options)
{
	unsigned flags = options->readonly ? VOLUME_READONLY : VOLUME_CREATE;
	struct fs *fs = &self.fs;
	struct diag diag = {""};
	int err, code;

	fs->options = *options;
	fs->hooks = (struct tree_hooks){save_hook_unlinked, save_hook_replaced};
	fs->mounted_ns = time_now_ns();
	gethostname(fs->host, sizeof(fs->host) - 1);
	lock_init(&fs->nodes_lock, LOCK_LEAF);
	raise_limits();
	err = volume_open(options->volume, flags, fs->mountpoint, &fs->volume, &diag);
	if (err)
		return complain("", &diag, err);
	err = root_open(fs, &diag);
	code = err ? complain("", &diag, err) : session_start(fs);
	if (!code) {
		if (!options->foreground)
			log_to_syslog("intactfs");
		if (chdir("/") != 0)
			log_warning("chdir: %s", strerror(errno));
		code = serve(fs);
	}
	root_close(fs);
	volume_close(fs->volume);
	return code;
}

static bool check_mountpoint(const char *path, char **ret_absolute)
{
	struct stat st;

	*ret_absolute = realpath(path, NULL);
	if (!*ret_absolute || stat(*ret_absolute, &st) != 0) {
		fprintf(stderr, "intactfs: %s: %s; %s\n", path, strerror(errno),
			errno == ENOTCONN ? "the daemon that served it is gone: unmount it first "
					    "(intactfs unmount)"
					  : "make the mount point first (mkdir)");
		return false;
	}
	if (!S_ISDIR(st.st_mode)) {
		fprintf(stderr, "intactfs: %s: the mount point is not a directory\n", path);
		return false;
	}
	return true;
}

/* The absolute path of the volume, which may not be there yet: then by the directory that it is to be made in. */
static char *absolute_volume(const char *path)
{
	char *absolute = realpath(path, NULL), *joined = NULL;
	autofree char *for_dir = absolute ? NULL : strdup(path);
	autofree char *for_name = absolute ? NULL : strdup(path);
	autofree char *parent = NULL;

	if (absolute || !for_dir || !for_name)
		return absolute;
	parent = realpath(dirname(for_dir), NULL);
	if (parent && asprintf(&joined, "%s/%s", parent, basename(for_name)) < 0)
		joined = NULL;
	return joined;
}

/* Whether path is dir, or in it. */
static bool is_within(const char *path, const char *dir)
{
	size_t length = strlen(dir);

	return strncmp(path, dir, length) == 0 &&
	       (path[length] == '\0' || path[length] == '/' || strcmp(dir, "/") == 0);
}

/* A volume must be reached without the mount that it is to serve, and lie on what keeps its files as they were written. What
 * else is wrong with it, volume_open() says. */
static bool check_place(const char *path, const char *mountpoint)
{
	autofree char *volume = absolute_volume(path), *copy = volume ? strdup(volume) : NULL;
	char owner[PATH_MAX];
	struct statfs st;
	const char *there;
	ssize_t length;

	if (!copy)
		return true;
	if (is_within(volume, mountpoint) || is_within(mountpoint, volume)) {
		fprintf(stderr,
			"intactfs: %s: the volume and the mount point %s lie within one another; "
			"choose places beside each other\n",
			volume, mountpoint);
		return false;
	}
	there = access(volume, F_OK) == 0 ? volume : dirname(copy);
	length = getxattr(there, "user.intactfs.mount", owner, sizeof(owner) - 1);
	if (length >= 0) {
		owner[length] = '\0';
		fprintf(stderr,
			"intactfs: %s: a volume cannot lie in an intactfs mount (%s); choose a "
			"directory outside\n",
			volume, owner);
		return false;
	}
	if (statfs(there, &st) == 0 && st.f_type == OVERLAYFS_SUPER_MAGIC)
		fprintf(stderr,
			"intactfs: warning: %s is on overlayfs, which is not supported as a "
			"volume's filesystem\n",
			volume);
	return true;
}

int mount_run(const struct mount_options *options)
{
	int code = 1;

	self.ready_fd = -1;
	if (!check_mountpoint(options->mountpoint, &self.fs.mountpoint))
		return 1;
	if (!check_place(options->volume, self.fs.mountpoint)) {
		free(self.fs.mountpoint);
		return 1;
	}
	if (options->foreground || become_daemon(&code))
		code = run(options);
	free(self.fs.mountpoint);
	return code;
}
