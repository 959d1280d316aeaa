#include "tests/unit/fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "journal/sql.h"
#include "journal/volume.h"

static struct diag diag;

static int try_open(struct fixture *f, const char *name, unsigned flags, struct volume **ret_volume)
{
	return volume_open(fixture_path(f, name), flags, "/mnt/files", ret_volume, &diag);
}

static struct volume *open_volume(struct fixture *f, unsigned flags)
{
	struct volume *volume = NULL;
	int err = try_open(f, "v", flags, &volume);

	if (err)
		fail_msg("%s (%d)", diag.text, err);
	return volume;
}

/* The refusal, its number, and that it names the path and whatever else it should. */
static void check_refused(struct fixture *f, unsigned flags, int err, const char *named)
{
	struct volume *volume = NULL;

	assert_int_equal(try_open(f, "v", flags, &volume), err);
	assert_null(volume);
	if (!strstr(diag.text, fixture_path(f, "v")) || !strstr(diag.text, named))
		fail_msg("\"%s\" does not name the path and \"%s\"", diag.text, named);
}

static void alter(struct fixture *f, const char *script)
{
	struct sql *sql;

	assert_ok(sql_open(fixture_path(f, "v/intactfs.db"), SQL_EXCLUSIVE_JOURNAL, &sql, NULL));
	assert_ok(sql_script(sql, script));
	sql_close(sql);
}

static void a_new_volume_is_private_and_keeps_its_identity(void **state)
{
	struct fixture *f = *state;
	struct volume *v = open_volume(f, VOLUME_CREATE);
	char uuid[64];
	struct stat st;
	int64_t created_ns = volume_created_ns(v);

	assert_ok(stat(fixture_path(f, "v"), &st));
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	assert_ok(stat(fixture_path(f, "v/trees"), &st));
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	assert_int_equal(volume_owner(v), geteuid());
	assert_int_equal(volume_group(v), getegid());
	assert_string_equal(volume_path(v), fixture_path(f, "v"));
	assert_false(volume_readonly(v));
	assert_int_equal(volume_epoch(v), 1);
	assert_true(llabs(time_now_ns() - created_ns) < INT64_C(60000000000));
	strcpy(uuid, volume_uuid(v));
	assert_int_equal(strlen(uuid), 36);
	assert_int_equal(uuid[14], '4');
	volume_close(v);

	v = open_volume(f, 0);
	assert_string_equal(volume_uuid(v), uuid);
	assert_int_equal(volume_created_ns(v), created_ns);
	assert_int_equal(volume_epoch(v), 2);
	volume_close(v);
	assert_null(volume_close(NULL));
}

static void what_is_no_volume_is_refused(void **state)
{
	struct fixture *f = *state;
	struct volume *v = NULL;

	check_refused(f, 0, -ENOENT, "does not exist");
	check_refused(f, VOLUME_CREATE | VOLUME_READONLY, -ENOENT, "does not exist");
	assert_int_equal(try_open(f, "no/v", VOLUME_CREATE, &v), -ENOENT);
	assert_non_null(strstr(diag.text, "above"));

	fixture_write(f, "v", "", 0, 0);
	check_refused(f, VOLUME_CREATE, -ENOTDIR, "directory");
	assert_ok(unlink(fixture_path(f, "v")));

	assert_ok(mkdir(fixture_path(f, "v"), 0755));
	check_refused(f, 0, -ENOENT, "no volume");
	check_refused(f, VOLUME_CREATE | VOLUME_READONLY, -ENOENT, "no volume");
	fixture_write(f, "v/letter.txt", "dear", 4, 0);
	check_refused(f, VOLUME_CREATE, -ENOTEMPTY, "empty");
	check_refused(f, 0, -ENOTEMPTY, "empty");
	assert_false(fixture_exists(f, "v/lock"));
	assert_false(fixture_exists(f, "v/intactfs.db"));
}

static void an_empty_directory_becomes_one(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_ok(mkdir(fixture_path(f, "v"), 0755));
	assert_ok(mkdir(fixture_path(f, "v/lost+found"), 0700));
	volume_close(open_volume(f, VOLUME_CREATE));
	assert_ok(stat(fixture_path(f, "v"), &st));
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	volume_close(open_volume(f, 0));
}

static void a_creation_that_was_cut_off_is_made_again(void **state)
{
	struct fixture *f = *state;

	assert_ok(mkdir(fixture_path(f, "v"), 0700));
	fixture_write(f, "v/lock", "1 box /mnt\n", 11, 0);
	volume_close(open_volume(f, VOLUME_CREATE));
	assert_ok(unlink(fixture_path(f, "v/intactfs.db")));
	assert_ok(unlink(fixture_path(f, "v/reserve")));
	assert_ok(rmdir(fixture_path(f, "v/trees")));
	assert_ok(rmdir(fixture_path(f, "v/removed")));

	fixture_write(f, "v/intactfs.db", "", 0, 0);
	check_refused(f, 0, -ENOENT, "no volume");
	check_refused(f, VOLUME_READONLY, -ENOENT, "no volume");
	volume_close(open_volume(f, VOLUME_CREATE));

	/* Cut off after the tables were there, but not the directories. */
	assert_ok(rmdir(fixture_path(f, "v/trees")));
	assert_ok(rmdir(fixture_path(f, "v/removed")));
	volume_close(open_volume(f, 0));
	assert_true(fixture_exists(f, "v/trees"));
}

static void a_database_without_contents_is_not_made_again_over_trees(void **state)
{
	struct fixture *f = *state;

	volume_close(open_volume(f, VOLUME_CREATE));
	assert_ok(truncate(fixture_path(f, "v/intactfs.db"), 0));
	check_refused(f, VOLUME_CREATE, -EUCLEAN, "backup");
	assert_ok(unlink(fixture_path(f, "v/intactfs.db")));
	check_refused(f, VOLUME_CREATE, -ENOTEMPTY, "empty");
}

static void a_damaged_database_is_refused(void **state)
{
	struct fixture *f = *state;
	char junk[8192];

	volume_close(open_volume(f, VOLUME_CREATE));
	memset(junk, 0xa5, sizeof(junk));
	fixture_write(f, "v/intactfs.db", junk, sizeof(junk), 4096);
	check_refused(f, 0, -EUCLEAN, "damaged");
	fixture_write(f, "v/intactfs.db", junk, sizeof(junk), 0);
	check_refused(f, VOLUME_CREATE, -EUCLEAN, "damaged");
	check_refused(f, VOLUME_READONLY, -EUCLEAN, "backup");
}

static void a_newer_format_is_refused_untouched(void **state)
{
	struct fixture *f = *state;
	struct volume *v;

	volume_close(open_volume(f, VOLUME_CREATE));
	alter(f, "UPDATE meta SET value = '77' WHERE key = 'format'");
	check_refused(f, 0, -EPROTONOSUPPORT, "77");
	check_refused(f, VOLUME_CREATE, -EPROTONOSUPPORT, "newer");
	check_refused(f, VOLUME_READONLY, -EPROTONOSUPPORT, INTACTFS_VERSION);
	alter(f, "UPDATE meta SET value = '1' WHERE key = 'format'");
	v = open_volume(f, 0);
	assert_int_equal(volume_epoch(v), 2);
	volume_close(v);
	alter(f, "DELETE FROM meta");
	check_refused(f, 0, -EUCLEAN, "format");
}

static void the_second_daemon_is_told_who_has_it(void **state)
{
	struct fixture *f = *state;
	struct volume *v = NULL, *other = NULL;
	char pid[32], host[256];

	assert_ok(volume_open(fixture_path(f, "v"), VOLUME_CREATE, "/mnt/my files", &v, &diag));
	snprintf(pid, sizeof(pid), "process %d ", (int)getpid());
	gethostname(host, sizeof(host));
	check_refused(f, VOLUME_CREATE, -EBUSY, pid);
	check_refused(f, 0, -EBUSY, host);
	check_refused(f, VOLUME_READONLY, -EBUSY, "/mnt/my\\040files");
	volume_close(v);

	v = open_volume(f, VOLUME_READONLY);
	other = open_volume(f, VOLUME_READONLY);
	check_refused(f, 0, -EBUSY, "read-only");
	volume_close(v);
	check_refused(f, 0, -EBUSY, "read-only");
	volume_close(other);
	volume_close(open_volume(f, 0));
}

static void *close_later(void *volume)
{
	usleep(300 * 1000);
	volume_close(volume);
	return NULL;
}

static void a_daemon_that_is_closing_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct volume *v = open_volume(f, VOLUME_CREATE);
	int64_t start_ms = time_mono_ms();
	pthread_t thread;

	volume_closing(v);
	assert_ok(pthread_create(&thread, NULL, close_later, v));
	v = open_volume(f, 0);
	assert_in_range(time_mono_ms() - start_ms, 250, 10000);
	pthread_join(thread, NULL);
	volume_close(v);
}

static void a_daemon_that_dies_while_closing_is_waited_for(void **state)
{
	struct fixture *f = *state;
	int64_t start_ms;
	int pipe_fd[2];
	char ready;
	pid_t pid;

	assert_ok(pipe(pipe_fd));
	pid = fork();
	if (!pid) {
		volume_closing(open_volume(f, VOLUME_CREATE));
		if (write(pipe_fd[1], "r", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(pipe_fd[0], &ready, 1), 1);
	start_ms = time_mono_ms();
	kill(pid, SIGKILL);
	volume_close(open_volume(f, 0));
	assert_true(time_mono_ms() - start_ms < 5000);
	waitpid(pid, NULL, 0);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

static void *take_numbers(void *arg)
{
	int64_t number, last = 100;

	for (int i = 0; i < 50000; i++) {
		if (volume_next_number(arg, &number) || number <= last)
			return arg;
		last = number;
	}
	return NULL;
}

static void numbers_never_repeat(void **state)
{
	struct fixture *f = *state;
	struct volume *v = open_volume(f, VOLUME_CREATE);
	int64_t first, number;
	pthread_t threads[4];
	void *failed;
	pid_t pid;

	assert_ok(volume_next_number(v, &first));
	assert_true(first > 100);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_ok(pthread_create(&threads[i], NULL, take_numbers, v));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_ok(volume_next_number(v, &number));
	assert_int_equal(number, first + 4 * 50000 + 1); /* so each was given once */
	volume_close(v);

	v = open_volume(f, 0);
	assert_ok(volume_next_number(v, &first));
	assert_int_equal(first, number + 1);
	volume_close(v);

	pid = fork();
	if (!pid) { /* a crash, just after the last number of a block */
		v = open_volume(f, 0);
		for (int i = 0; i < 65536; i++)
			volume_next_number(v, &number);
		_exit(number == first + 65536 ? 0 : 1);
	}
	waitpid(pid, &(int){0}, 0);
	v = open_volume(f, 0);
	assert_ok(volume_next_number(v, &number));
	assert_true(number > first + 65536);
	volume_close(v);
}

static void trees_come_sorted_and_go(void **state)
{
	struct fixture *f = *state;
	struct volume *v = open_volume(f, VOLUME_CREATE);
	struct volume_tree bob, alice, again, *trees;
	struct stat st;
	size_t count;
	int fd;

	assert_ok(volume_trees(v, &trees, &count));
	assert_int_equal(count, 0);
	free(trees);
	assert_int_equal(volume_tree_known(v, "bob"), 0);
	assert_ok(volume_tree_add(v, "bob", &bob));
	assert_ok(volume_tree_add(v, "al\xff ice", &alice));
	assert_int_equal(volume_tree_add(v, "bob", &again), -EEXIST);
	assert_ok(stat(fixture_path(f, "v/trees/bob"), &st));
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	assert_ok(volume_tree_open(v, &bob, &fd));
	close(fd);
	volume_close(v);

	v = open_volume(f, 0);
	assert_ok(volume_trees(v, &trees, &count));
	assert_int_equal(count, 2);
	assert_string_equal(trees[0].name, "al\xff ice");
	assert_string_equal(trees[1].name, "bob");
	assert_int_equal(trees[1].id, bob.id);
	assert_int_equal(trees[1].created_ns, bob.created_ns);
	free(trees);

	fixture_write(f, "v/trees/bob/journal.db", "kept", 4, 0);
	assert_ok(volume_tree_remove(v, &bob));
	assert_int_equal(volume_tree_remove(v, &bob), -ENOENT);
	assert_int_equal(volume_tree_open(v, &bob, &fd), -ENOENT);
	assert_int_equal(volume_tree_known(v, "bob"), 1);
	assert_true(fixture_exists(f, "v/removed/bob.1/journal.db"));
	assert_ok(volume_trees(v, &trees, &count));
	assert_int_equal(count, 1);
	free(trees);

	assert_ok(volume_tree_add(v, "bob", &again));
	assert_int_not_equal(again.id, bob.id);
	assert_ok(volume_tree_remove(v, &again));
	volume_close(v);
}

static void names_of_trees(void **state)
{
	struct fixture *f = *state;
	struct volume *v = open_volume(f, VOLUME_CREATE);
	struct volume_tree tree;
	char name[300] = "";

	memset(name, 'n', 256);
	assert_int_equal(volume_tree_add(v, name, &tree), -ENAMETOOLONG);
	name[255] = '\0';
	assert_ok(volume_tree_add(v, name, &tree));
	assert_ok(volume_tree_remove(v, &tree));
	assert_int_equal(volume_tree_add(v, "", &tree), -EINVAL);
	assert_int_equal(volume_tree_add(v, ".", &tree), -EINVAL);
	assert_int_equal(volume_tree_add(v, "..", &tree), -EINVAL);
	assert_int_equal(volume_tree_add(v, ".intactfs", &tree), -EINVAL);
	assert_int_equal(volume_tree_add(v, "a/b", &tree), -EINVAL);
	volume_close(v);
}

/* A crash in the middle leaves the directory, but no row. */
static void unfinished_trees_and_removals_are_not_in_the_way(void **state)
{
	struct fixture *f = *state;
	struct volume *v = open_volume(f, VOLUME_CREATE);
	struct volume_tree tree;

	assert_ok(mkdir(fixture_path(f, "v/trees/new"), 0700));
	assert_ok(volume_tree_add(v, "new", &tree));

	fixture_write(f, "v/trees/new/journal.db", "old", 3, 0);
	alter(f, "UPDATE tree SET removed_ns = 1");
	assert_ok(volume_tree_add(v, "new", &tree));
	assert_true(fixture_exists(f, "v/removed/new.1/journal.db"));
	assert_false(fixture_exists(f, "v/trees/new/journal.db"));

	assert_ok(mkdir(fixture_path(f, "v/trees/foreign"), 0700));
	fixture_write(f, "v/trees/foreign/letter.txt", "dear", 4, 0);
	assert_int_equal(volume_tree_add(v, "foreign", &tree), -EEXIST);
	assert_true(fixture_exists(f, "v/trees/foreign/letter.txt"));
	volume_close(v);
}

static void read_only_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct volume *v;
	struct volume_tree tree, *trees;
	int64_t number;
	size_t count;

	fixture_tmpfs(f, "size=4m");
	v = open_volume(f, VOLUME_CREATE);
	assert_ok(volume_tree_add(v, "alice", &tree));
	volume_close(v);
	fixture_remount(f, MS_RDONLY);
	check_refused(f, 0, -EROFS, "-o ro");
	v = open_volume(f, VOLUME_READONLY);
	assert_true(volume_readonly(v));
	assert_int_equal(volume_epoch(v), 1);
	assert_int_equal(volume_next_number(v, &number), -EROFS);
	assert_int_equal(volume_tree_add(v, "bob", &tree), -EROFS);
	assert_ok(volume_trees(v, &trees, &count));
	assert_int_equal(count, 1);
	assert_int_equal(volume_tree_remove(v, &trees[0]), -EROFS);
	free(trees);
	volume_close(v);
}

static void a_full_disk(void **state)
{
	struct fixture *f = *state;
	struct volume *v = NULL;
	struct volume_tree tree;
	size_t added = 0;
	int err = 0;

	fixture_tmpfs(f, "size=512k");
	fixture_fill(f);
	check_refused(f, VOLUME_CREATE, -ENOSPC, "space");
	assert_ok(unlink(fixture_path(f, "filler")));

	v = open_volume(f, VOLUME_CREATE); /* what the failed one left is no hindrance */
	volume_close(v);
	fixture_fill(f);
	v = open_volume(f, 0); /* so that something can be deleted */
	for (; !err && added < 2000; added++) {
		char name[200];

		snprintf(name, sizeof(name), "%0199zu", added);
		err = volume_tree_add(v, name, &tree);
	}
	assert_int_equal(err, -ENOSPC);
	assert_ok(unlink(fixture_path(f, "filler")));
	assert_ok(volume_tree_add(v, "bob", &tree));
	volume_close(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fixture_test(a_new_volume_is_private_and_keeps_its_identity),
		fixture_test(what_is_no_volume_is_refused),
		fixture_test(an_empty_directory_becomes_one),
		fixture_test(a_creation_that_was_cut_off_is_made_again),
		fixture_test(a_database_without_contents_is_not_made_again_over_trees),
		fixture_test(a_damaged_database_is_refused),
		fixture_test(a_newer_format_is_refused_untouched),
		fixture_test(the_second_daemon_is_told_who_has_it),
		fixture_test(a_daemon_that_is_closing_is_waited_for),
		fixture_test(a_daemon_that_dies_while_closing_is_waited_for),
		fixture_test(numbers_never_repeat),
		fixture_test(trees_come_sorted_and_go),
		fixture_test(names_of_trees),
		fixture_test(unfinished_trees_and_removals_are_not_in_the_way),
		fixture_test(read_only_changes_nothing),
		fixture_test(a_full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
