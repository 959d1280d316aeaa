#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/cli.h"
#include "tools/mounts.h"
#include "tools/print.h"

#define ANSWER_MS 3000

static void print_head(const json_t *status)
{
	printf("%s%s: volume %s, format %lld\n", print_clean(json_text(status, "mountpoint")),
		json_is_true(json_object_get(status, "readonly")) ? " (read-only)" : "",
		print_clean(json_text(status, "volume")), (long long)json_number(status, "format"));
	printf("intactfs %s, process %lld on %s, since %s, turn wait %g s\n\n",
		json_text(status, "version"), (long long)json_number(status, "pid"),
		json_text(status, "host"), print_time(json_text(status, "since")),
		(double)json_number(json_object_get(status, "options"), "turn_wait_ms") / 1000);
}

static void print_count(struct table *table, const json_t *tree, const char *key)
{
	if (json_object_get(tree, key))
		table_cell(table, "%lld", (long long)json_number(tree, key));
	else
		table_cell(table, "-");
}

static void print_trees(const json_t *trees)
{
	static const struct column columns[] = {
		{"tree", LEFT},
		{"owner", LEFT},
		{"mode", LEFT},
		{"operations", RIGHT},
		{"files", RIGHT},
		{"versions", RIGHT},
		{"size", RIGHT},
		{"blind", RIGHT},
	};
	struct table table;
	json_t *tree;
	size_t i;

	if (!json_array_size(trees)) {
		puts("no trees");
		return;
	}
	table_init(&table, columns, ARRAY_SIZE(columns));
	json_array_foreach(trees, i, tree)
	{
		table_cell(&table, "%s", json_text(tree, "name"));
		table_cell(&table, "%s", print_user(tree));
		table_cell(&table, "%s", json_text(tree, "mode"));
		print_count(&table, tree, "seq");
		print_count(&table, tree, "files");
		print_count(&table, tree, "versions");
		table_cell(&table, "%s",
			json_object_get(tree, "bytes") ? print_size(json_number(tree, "bytes"))
						       : "-");
		print_count(&table, tree, "blind");
	}
	table_print(&table);
}

/* vim 4711 (alice), 3 s */
static char *describe_who(const json_t *who)
{
	const char *program = json_text(who, "program");

	return cli_format("%s %lld (%s), %s", *program ? program : "?",
		(long long)json_number(who, "pid"), print_user(who),
		print_age(json_text(who, "since")));
}

/* What has no name any more has no path. */
static void put_file(struct table *table, const json_t *tree, const json_t *activity)
{
	const char *name = json_text(tree, "name");

	if (json_is_null(json_object_get(activity, "path")))
		table_cell(table, "%s (deleted)", name);
	else
		table_cell(table, "%s/%s", name, json_text(activity, "path"));
}

/* Nothing when there is nothing in it. */
static void print_list(struct table *table)
{
	if (table->cell_count == 0)
		return;
	putchar('\n');
	table_print(table);
}

static void print_saves(const json_t *trees)
{
	static const struct column columns[] = {
		{"save of", LEFT}, {"state", LEFT}, {"size", RIGHT}, {"age", RIGHT}, {"by", LEFT}};
	struct table table;
	json_t *tree, *save;
	size_t i, j;

	table_init(&table, columns, ARRAY_SIZE(columns));
	json_array_foreach(trees, i, tree)
	{
		json_array_foreach(json_object_get(tree, "saves"), j, save)
		{
			const json_t *who = json_object_get(save, "by");

			put_file(&table, tree, save);
			table_cell(&table, "%s", json_text(save, "state"));
			table_cell(&table, "%s", print_size(json_number(save, "size")));
			table_cell(&table, "%s", print_age(json_text(save, "since")));
			table_cell(&table, "%s %lld (%s)", json_text(who, "program"),
				(long long)json_number(who, "pid"), print_user(who));
		}
	}
	print_list(&table);
}

static void print_turns(const json_t *trees)
{
	static const struct column columns[] = {
		{"turn of", LEFT}, {"", LEFT}, {"who, since", LEFT}};
	struct table table;
	json_t *tree, *turn, *who;
	size_t i, j, k;

	table_init(&table, columns, ARRAY_SIZE(columns));
	json_array_foreach(trees, i, tree)
	{
		json_array_foreach(json_object_get(tree, "turns"), j, turn)
		{
			const json_t *holder = json_object_get(turn, "holder");
			autofree char *text = json_is_object(holder) ? describe_who(holder)
								     : cli_format("nobody");

			put_file(&table, tree, turn);
			table_cell(&table, "held by");
			table_cell(&table, "%s", text);
			json_array_foreach(json_object_get(turn, "waiting"), k, who)
			{
				autofree char *waiting = describe_who(who);

				table_cell(&table, "%s", "");
				table_cell(&table, "waiting");
				table_cell(&table, "%s", waiting);
			}
		}
	}
	print_list(&table);
}

/* flock write; fcntl read 0-99; fcntl write 100- */
static char *describe_lock(const json_t *lock)
{
	const json_t *end = json_object_get(lock, "end");
	int64_t start = json_number(lock, "start");
	char last[24] = "";

	if (json_is_integer(end))
		snprintf(last, sizeof(last), "%lld", (long long)json_integer_value(end));
	if (start == 0 && !last[0])
		return cli_format("%s %s", json_text(lock, "kind"), json_text(lock, "type"));
	return cli_format("%s %s %lld-%s", json_text(lock, "kind"), json_text(lock, "type"),
		(long long)start, last);
}

static void put_locks(struct table *table, const char *state, const json_t *locks, bool *first,
	const json_t *tree, const json_t *file)
{
	json_t *lock;
	size_t i;

	json_array_foreach(locks, i, lock)
	{
		autofree char *what = describe_lock(lock);
		autofree char *who = describe_who(json_object_get(lock, "by"));

		if (*first)
			put_file(table, tree, file);
		else
			table_cell(table, "%s", "");
		*first = false;
		table_cell(table, "%s", state);
		table_cell(table, "%s", what);
		table_cell(table, "%s", who);
	}
}

static void print_locks(const json_t *trees)
{
	static const struct column columns[] = {
		{"lock of", LEFT}, {"", LEFT}, {"", LEFT}, {"who, since", LEFT}};
	struct table table;
	json_t *tree, *file;
	size_t i, j;

	table_init(&table, columns, ARRAY_SIZE(columns));
	json_array_foreach(trees, i, tree)
	{
		json_array_foreach(json_object_get(tree, "locks"), j, file)
		{
			bool first = true;

			put_locks(&table, "held by", json_object_get(file, "held"), &first, tree,
				file);
			put_locks(&table, "waiting", json_object_get(file, "waiting"), &first, tree,
				file);
		}
	}
	print_list(&table);
}

static void print_status(const json_t *status)
{
	const json_t *trees = json_object_get(status, "trees");

	print_head(status);
	print_trees(trees);
	print_saves(trees);
	print_turns(trees);
	print_locks(trees);
}

static const char *reason(int err)
{
	if (err == EACCES)
		return "permission denied: mounted by another user without allow_other";
	if (err == ENOTCONN)
		return "its daemon has died: 'intactfs unmount' it";
	if (err == ETIMEDOUT)
		return "it does not answer";
	return err == EBADMSG ? "its status is not readable" : strerror(err);
}

/* A mount whose daemon hangs would keep whoever looks at it: a child looks first, who can be killed. */
static bool answers(const char *file)
{
	struct pollfd end = {.events = POLLIN};
	pid_t pid = fork();
	bool ended;

	if (pid == 0) {
		int fd = open(file, O_RDONLY | O_CLOEXEC);

		_exit(fd >= 0 ? 0 : 1);
	}
	if (pid < 0)
		return true;
	end.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	ended = end.fd < 0 || poll(&end, 1, ANSWER_MS) != 0;
	if (end.fd >= 0)
		close(end.fd);
	if (!ended)
		kill(pid, SIGKILL);
	/* What hangs beyond a kill is left to init. */
	waitpid(pid, NULL, ended ? 0 : WNOHANG);
	return ended;
}

/* Other people's mounts, which cannot be asked, are named; they are no failure of this command. */
static int status_all(bool as_json)
{
	autojson json_t *all = json_array();
	struct mounts mounts;
	int rc = mounts_init(&mounts);

	if (rc)
		return rc;
	for (size_t i = 0; i < mounts.count; i++) {
		autofree char *file = cli_format("%s/.intactfs/status", mounts.points[i]);
		json_t *status = NULL;
		int err = answers(file) ? cli_read_json(file, &status) : ETIMEDOUT;

		if (as_json) {
			json_array_append_new(all,
				!err ? status
				     : json_pack("{s:s%,s:s}", "mountpoint", mounts.points[i],
					       strlen(mounts.points[i]), "error", reason(err)));
			continue;
		}
		if (i)
			putchar('\n');
		if (err)
			printf("%s: %s\n", print_clean(mounts.points[i]), reason(err));
		else
			print_status(status);
		json_decref(status);
	}
	if (as_json)
		print_json(all);
	else if (!mounts.count)
		puts("no intactfs volume is mounted");
	mounts_deinit(&mounts);
	return EXIT_DONE;
}

static int run_status(const struct cli_args *args)
{
	autojson json_t *status = NULL;
	int rc;

	if (!args->operand_count)
		return status_all(args->json);
	rc = cli_read_mount(args->operands[0], "status", &status);
	if (rc)
		return rc;
	if (args->json)
		print_json(status);
	else
		print_status(status);
	return EXIT_DONE;
}

const struct command command_status = {
	.name = "status",
	.synopsis = "[--json] [MOUNTPOINT]",
	.summary = "Show trees, saves in progress, and who holds and awaits which turn or lock",
	.help = "MOUNTPOINT may be any path in the mount. Without one, all intactfs mounts are "
		"shown.\n"
		"\n"
		"  operations  changes recorded in the tree's journal\n"
		"  blind       versions that replaced one from which they had not started\n"
		"\n"
		"  --json      An object; without MOUNTPOINT an array of them\n",
	.takes = "j",
	.operands_max = 1,
	.run = run_status,
};
