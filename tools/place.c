#include "tools/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/cli.h"

#define autodir __attribute__((cleanup(cleanup_dir)))

static void cleanup_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static char *without_slashes(const char *path)
{
	size_t length = strlen(path);

	while (length > 1 && path[length - 1] == '/')
		length--;
	return cli_format("%.*s", (int)length, path);
}

/* `@@` is added to the last component: so it must be a name, not `.`, `..` or a link. */
static void place_resolve(struct place *place)
{
	const char *slash = strrchr(place->path, '/');
	const char *name = slash ? slash + 1 : place->path;
	struct stat st;
	char *real;

	if (strcmp(name, ".") && strcmp(name, "..") &&
		(lstat(place->path, &st) || !S_ISLNK(st.st_mode)))
		return;
	real = realpath(place->path, NULL);
	if (real) {
		free(place->path);
		place->path = real;
	}
}

static void place_split(struct place *place)
{
	char *slash = strrchr(place->path, '/');

	place->name = slash ? slash + 1 : place->path;
	if (!slash)
		place->parent = cli_format(".");
	else if (slash == place->path)
		place->parent = cli_format("/");
	else
		place->parent = cli_format("%.*s", (int)(slash - place->path), place->path);
}

/* How much of a path, of its first length bytes, is there: it ends before a slash, or is empty. */
static size_t existing_length(const char *path, size_t length)
{
	struct stat st;

	while (length > 0) {
		autofree char *part = cli_format("%.*s", (int)length, path);

		if (!lstat(part, &st))
			break;
		while (length > 0 && path[length - 1] != '/')
			length--;
		while (length > 0 && path[length - 1] == '/')
			length--;
	}
	return length;
}

/* A directory that is gone is walked through by its history, too. */
static void place_find_history(struct place *place)
{
	size_t there = existing_length(place->parent, strlen(place->parent)), length;
	const char *rest = place->path + there;
	char *text = NULL;
	FILE *out;
	size_t size;

	if (there > 0 && there == strlen(place->parent)) {
		place->history = cli_format("%s@@", place->path);
		return;
	}
	out = open_memstream(&text, &size);
	if (!out)
		cli_oom();
	fprintf(out, "%.*s", (int)there, place->path);
	for (; *rest; rest += length) {
		length = strspn(rest, "/");
		fprintf(out, "%.*s", (int)length, rest);
		rest += length;
		length = strcspn(rest, "/");
		fprintf(out, "%.*s%s", (int)length, rest, length ? "@@" : "");
	}
	if (fclose(out))
		cli_oom();
	place->history = text;
}

/* What there is of the parent, to ask about the mount. */
static char *existing_parent(const struct place *place)
{
	size_t there = existing_length(place->parent, strlen(place->parent));

	return there > 0 ? cli_format("%.*s", (int)there, place->parent)
			 : cli_format("%s", *place->path == '/' ? "/" : ".");
}

static int place_check_mount(const struct place *place)
{
	autofree char *parent = existing_parent(place);
	const char *where = place->exists ? place->path : parent;
	autofree char *mountpoint = cli_xattr(where, "user.intactfs.mount");

	/* Links and special files have no user attributes: what they are in, has. */
	if (!mountpoint && place->exists && !S_ISREG(place->mode) && !S_ISDIR(place->mode))
		mountpoint = cli_xattr(place->parent, "user.intactfs.mount");
	if (mountpoint)
		return EXIT_DONE;
	if (errno == ENODATA || errno == ENOTSUP || errno == EPERM)
		return cli_error("%s is not on an intactfs mount", place->path);
	return cli_errno(errno, "look at", where);
}

int place_init(struct place *place, const char *argument)
{
	struct stat st;

	*place = (struct place){0};
	if (!*argument)
		return cli_error("an empty path names nothing");
	place->path = without_slashes(argument);
	place_resolve(place);
	place_split(place);
	place->exists = !lstat(place->path, &st);
	if (!place->exists && errno != ENOENT)
		return cli_errno(errno, "look at", place->path);
	place->mode = place->exists ? st.st_mode : 0;
	place_find_history(place);
	return place_check_mount(place);
}

void place_deinit(struct place *place)
{
	free(place->path);
	free(place->parent);
	free(place->history);
}

char *place_version_path(const struct place *place, int64_t version)
{
	return cli_format("%s/%lld", place->history, (long long)version);
}

int place_open_version(const struct place *place, int64_t version, int *ret_fd)
{
	autofree char *path = place_version_path(place, version);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? place_no_version(place, version)
				       : cli_errno(errno, "read", path);
	*ret_fd = fd;
	return EXIT_DONE;
}

static int compare_versions(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a;
	int64_t right = *(const int64_t *)b;

	return (left > right) - (left < right);
}

int place_versions(const struct place *place, int64_t **ret_versions, size_t *ret_count)
{
	const char *path = place->history;
	autodir DIR *dir = opendir(path);
	autofree int64_t *versions = NULL;
	size_t count = 0;
	struct dirent *entry;

	if (!dir && errno != ENOENT)
		return cli_errno(errno, "read", path);
	while (dir && (entry = readdir(dir))) {
		long long version = strtoll(entry->d_name, NULL, 10);
		int64_t *more;

		if (version < 1)
			continue;
		more = reallocarray(versions, count + 1, sizeof(*versions));
		if (!more)
			cli_oom();
		versions = more;
		versions[count++] = version;
	}
	if (count)
		qsort(versions, count, sizeof(*versions), compare_versions);
	*ret_versions = versions;
	*ret_count = count;
	versions = NULL;
	return EXIT_DONE;
}

char *place_describe_versions(const int64_t *versions, size_t count)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		cli_oom();
	for (size_t first = 0, last; first < count; first = last + 1) {
		for (last = first; last + 1 < count && versions[last + 1] == versions[last] + 1;)
			last++;
		fprintf(out, "%s%lld", first ? ", " : "", (long long)versions[first]);
		if (last > first)
			fprintf(out, " to %lld", (long long)versions[last]);
	}
	if (fclose(out))
		cli_oom();
	return text;
}

int place_never(const struct place *place)
{
	return cli_error(
		"there is no %s, and there never was, as far as you may see: it has no history",
		place->path);
}

int place_no_version(const struct place *place, int64_t version)
{
	autofree int64_t *versions = NULL;
	autofree char *text = NULL;
	size_t count;
	int rc = place_versions(place, &versions, &count);

	if (rc)
		return rc;
	if (!count && !place->exists)
		return place_never(place);
	if (!count)
		return cli_error("%s has no versions that you may see", place->path);
	text = place_describe_versions(versions, count);
	return cli_error(
		"%s has no version %lld: it has %s", place->path, (long long)version, text);
}
