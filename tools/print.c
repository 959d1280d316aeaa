#include "tools/print.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/cli.h"

#define GAP 2 /* spaces between columns */

static const char *ring_keep(char *text)
{
	static char *ring[PRINT_RING];
	static size_t next;

	next = (next + 1) % PRINT_RING;
	free(ring[next]);
	ring[next] = text;
	return text;
}

const char *print_clean(const char *text)
{
	char *clean = malloc(4 * strlen(text) + 1);
	char *out = clean;

	if (!clean)
		cli_oom();
	for (const char *in = text; *in; in++) {
		unsigned char c = (unsigned char)*in;

		if (c < 0x20 || c == 0x7f)
			out += sprintf(out, "\\%03o", c);
		else
			*out++ = *in;
	}
	*out = '\0';
	return ring_keep(clean);
}

const char *print_size(int64_t size_bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double size = (double)size_bytes;
	size_t unit = 0;

	while (size >= 1023.5 && unit + 1 < ARRAY_SIZE(units)) {
		size /= 1024;
		unit++;
	}
	return ring_keep(
		cli_format(unit && size < 9.95 ? "%.1f %s" : "%.0f %s", size, units[unit]));
}

static bool parse_time(const char *rfc3339, time_t *ret_time)
{
	struct tm tm = {0};

	if (!strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &tm))
		return false;
	*ret_time = timegm(&tm);
	return true;
}

const char *print_time(const char *rfc3339)
{
	char text[64];
	struct tm tm;
	time_t time;

	if (!parse_time(rfc3339, &time) || !localtime_r(&time, &tm))
		return rfc3339;
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	return ring_keep(cli_format("%s", text));
}

const char *print_age(const char *rfc3339)
{
	time_t then;
	long age_s;

	if (!parse_time(rfc3339, &then))
		return "";
	age_s = (long)(time(NULL) - then);
	if (age_s < 0)
		age_s = 0;
	if (age_s < 120)
		return ring_keep(cli_format("%ld s", age_s));
	if (age_s < 2 * 3600)
		return ring_keep(cli_format("%ld min", age_s / 60));
	if (age_s < 2 * 86400)
		return ring_keep(cli_format("%ld h", age_s / 3600));
	return ring_keep(cli_format("%ld d", age_s / 86400));
}

const char *print_user(const json_t *object)
{
	const char *user = json_text(object, "user");

	return *user ? user : ring_keep(cli_format("%lld", (long long)json_number(object, "uid")));
}

const char *json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

int64_t json_number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

void print_json(const json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
}

void table_init(struct table *table, const struct column *columns, size_t column_count)
{
	*table = (struct table){.columns = columns, .column_count = column_count};
}

void table_cell(struct table *table, const char *fmt, ...)
{
	autofree char *text = NULL;
	va_list ap;
	char **cells = reallocarray(table->cells, table->cell_count + 1, sizeof(*cells));

	if (!cells)
		cli_oom();
	table->cells = cells;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		cli_oom();
	va_end(ap);
	cells[table->cell_count++] = cli_format("%s", print_clean(text));
}

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static int text_width(const char *text)
{
	int width = 0;

	for (; *text; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

/* 0 for a column to be left out. */
static int column_width(const struct table *table, size_t column)
{
	int width = 0;

	for (size_t i = column; i < table->cell_count; i += table->column_count)
		if (text_width(table->cells[i]) > width)
			width = text_width(table->cells[i]);
	if (width && text_width(table->columns[column].heading) > width)
		width = text_width(table->columns[column].heading);
	return width;
}

/* Spaces are written only when something follows them, so that no line ends in any. */
static void print_row(const struct table *table, const int *widths, char *const *cells)
{
	int spaces = 0;

	for (size_t i = 0; i < table->column_count; i++) {
		const char *text = cells ? cells[i] : table->columns[i].heading;
		int room = widths[i] - text_width(text);

		if (!widths[i])
			continue;
		if (*text) {
			spaces += table->columns[i].align == RIGHT ? room : 0;
			printf("%*s%s", spaces, "", text);
			spaces = table->columns[i].align == RIGHT ? GAP : GAP + room;
		} else {
			spaces += widths[i] + GAP;
		}
	}
	putchar('\n');
}

void table_print(struct table *table)
{
	autofree int *widths = calloc(table->column_count, sizeof(*widths));

	if (!widths)
		cli_oom();
	for (size_t i = 0; i < table->column_count; i++)
		widths[i] = column_width(table, i);
	print_row(table, widths, NULL);
	for (size_t i = 0; i + table->column_count <= table->cell_count; i += table->column_count)
		print_row(table, widths, table->cells + i);
	for (size_t i = 0; i < table->cell_count; i++)
		free(table->cells[i]);
	free(table->cells);
	table_init(table, table->columns, table->column_count);
}
