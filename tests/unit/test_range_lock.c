#include "tests/unit/fixture.h"

#include <time.h>
#include <utlist.h>

#include "meta/range_lock.h"

#define TO_END INT64_MAX

static struct range_lock range(short type, int64_t start, int64_t end, uint64_t owner)
{
	return (struct range_lock){
		.kind = RANGE_POSIX, .type = type, .start = start, .end = end, .owner = owner};
}

static void set(struct range_lock **list, short type, int64_t start, int64_t end, uint64_t owner)
{
	struct range_lock wanted = range(type, start, end, owner);

	assert_true(type == F_UNLCK || !range_conflict(*list, &wanted));
	assert_ok(range_set(list, &wanted));
}

static void clear(struct range_lock **list)
{
	struct range_lock *lock, *next;

	DL_FOREACH_SAFE(*list, lock, next)
	{
		DL_DELETE(*list, lock);
		free(lock);
	}
}

/* The list as text: "1w0-9 2r20-" for owner 1 writing bytes 0 to 9, and 2 reading from 20 on. Flocks have their letter in upper case. */
static const char *text(const struct range_lock *list)
{
	static char said[1000];
	const struct range_lock *lock;
	char *at = said;

	*at = '\0';
	DL_FOREACH(list, lock)
	{
		char letter = lock->type == F_WRLCK ? 'w' : 'r';

		at += sprintf(at, "%s%d%c%lld-", at == said ? "" : " ", (int)lock->owner,
			lock->kind == RANGE_FLOCK ? letter - 'a' + 'A' : letter,
			(long long)lock->start);
		if (lock->end != TO_END)
			at += sprintf(at, "%lld", (long long)lock->end);
	}
	return said;
}

#define assert_text(list, expected) assert_string_equal(text(list), expected)

static void neighbours_of_one_type_become_one(void **state)
{
	struct range_lock *list = NULL;

	(void)state;
	set(&list, F_WRLCK, 10, 19, 1);
	set(&list, F_WRLCK, 20, 29, 1);
	assert_text(list, "1w10-29");
	set(&list, F_WRLCK, 0, 9, 1);
	assert_text(list, "1w0-29");
	set(&list, F_WRLCK, 40, 49, 1);
	set(&list, F_WRLCK, 31, 38, 1);
	assert_text(list, "1w0-29 1w31-38 1w40-49");
	set(&list, F_WRLCK, 39, 39, 1);
	assert_text(list, "1w0-29 1w31-49");
	set(&list, F_WRLCK, 30, 30, 1);
	assert_text(list, "1w0-49");
	clear(&list);
}

static void neighbours_of_another_type_or_owner_stay_apart(void **state)
{
	struct range_lock *list = NULL;

	(void)state;
	set(&list, F_WRLCK, 0, 9, 1);
	set(&list, F_RDLCK, 10, 19, 1);
	set(&list, F_RDLCK, 20, 29, 2);
	assert_text(list, "1w0-9 1r10-19 2r20-29");
	set(&list, F_RDLCK, 5, 9, 1);
	assert_text(list, "1w0-4 1r5-19 2r20-29");
	clear(&list);
}

static void what_lies_in_the_middle_cuts_in_two(void **state)
{
	struct range_lock *list = NULL;

	(void)state;
	set(&list, F_WRLCK, 0, 99, 1);
	set(&list, F_UNLCK, 40, 59, 1);
	assert_text(list, "1w0-39 1w60-99");
	set(&list, F_RDLCK, 70, 79, 1);
	assert_text(list, "1w0-39 1w60-69 1r70-79 1w80-99");
	set(&list, F_UNLCK, 0, 0, 1);
	set(&list, F_UNLCK, 99, 99, 1);
	assert_text(list, "1w1-39 1w60-69 1r70-79 1w80-98");
	set(&list, F_UNLCK, 30, 84, 1);
	assert_text(list, "1w1-29 1w85-98");
	set(&list, F_UNLCK, 0, 1000, 1);
	assert_null(list);
}

static void up_and_down_again(void **state)
{
	struct range_lock *list = NULL;

	(void)state;
	set(&list, F_RDLCK, 0, 99, 1);
	set(&list, F_WRLCK, 0, 99, 1);
	assert_text(list, "1w0-99");
	set(&list, F_RDLCK, 0, 99, 1);
	assert_text(list, "1r0-99");
	set(&list, F_WRLCK, 50, 149, 1);
	assert_text(list, "1r0-49 1w50-149");
	set(&list, F_RDLCK, 50, 149, 1);
	assert_text(list, "1r0-149");
	set(&list, F_RDLCK, 20, 30, 1);
	assert_text(list, "1r0-149");
	clear(&list);
}

static void a_lock_to_the_end(void **state)
{
	struct range_lock *list = NULL, wanted;

	(void)state;
	set(&list, F_WRLCK, 0, TO_END, 1);
	assert_text(list, "1w0-");
	wanted = range(F_RDLCK, TO_END - 1, TO_END, 2);
	assert_non_null(range_conflict(list, &wanted));
	set(&list, F_UNLCK, 100, TO_END, 1);
	assert_text(list, "1w0-99");
	set(&list, F_WRLCK, 100, TO_END, 1);
	assert_text(list, "1w0-");
	set(&list, F_UNLCK, 10, 19, 1);
	assert_text(list, "1w0-9 1w20-");
	set(&list, F_RDLCK, 30, TO_END, 1);
	assert_text(list, "1w0-9 1w20-29 1r30-");
	set(&list, F_RDLCK, TO_END, TO_END, 1);
	assert_text(list, "1w0-9 1w20-29 1r30-");
	set(&list, F_UNLCK, TO_END, TO_END, 1);
	set(&list, F_UNLCK, 0, TO_END - 1, 1);
	assert_null(list);
}

static void others_are_kept_out(void **state)
{
	struct range_lock *list = NULL, wanted;

	(void)state;
	set(&list, F_RDLCK, 10, 19, 1);
	set(&list, F_RDLCK, 10, 29, 2);
	wanted = range(F_RDLCK, 0, TO_END, 3);
	assert_null(range_conflict(list, &wanted));
	wanted = range(F_WRLCK, 0, 9, 3);
	assert_null(range_conflict(list, &wanted));
	wanted.end = 10;
	assert_non_null(range_conflict(list, &wanted));
	wanted = range(F_WRLCK, 29, 29, 3);
	assert_int_equal(range_conflict(list, &wanted)->owner, 2);
	wanted.start = wanted.end = 30;
	assert_null(range_conflict(list, &wanted));
	/* Of its own, nothing keeps out. */
	wanted = range(F_WRLCK, 10, 29, 2);
	assert_int_equal(range_conflict(list, &wanted)->owner, 1);
	wanted.start = 20;
	assert_null(range_conflict(list, &wanted));
	set(&list, F_WRLCK, 20, 29, 2);
	wanted = range(F_RDLCK, 20, 20, 1);
	assert_int_equal(range_conflict(list, &wanted)->owner, 2);
	set(&list, F_WRLCK, 40, 49, 2);
	wanted = range(F_WRLCK, 0, TO_END, 3);
	assert_int_equal(range_conflict(list, &wanted)->start, 10);
	clear(&list);
}

static void unlocking_leaves_others_alone(void **state)
{
	struct range_lock *list = NULL;

	(void)state;
	set(&list, F_RDLCK, 0, 99, 1);
	set(&list, F_RDLCK, 0, 99, 2);
	set(&list, F_UNLCK, 0, TO_END, 3);
	set(&list, F_UNLCK, 50, TO_END, 1);
	set(&list, F_UNLCK, 0, 9, 2);
	assert_text(list, "1r0-49 2r10-99");
	range_drop_owner(&list, 1);
	assert_text(list, "2r10-99");
	assert_false(range_owned(list, RANGE_POSIX, 1));
	assert_true(range_owned(list, RANGE_POSIX, 2));
	assert_false(range_owned(list, RANGE_FLOCK, 2));
	clear(&list);
}

static void the_kinds_do_not_see_each_other(void **state)
{
	struct range_lock *list = NULL, flock = range(F_WRLCK, 0, TO_END, 2);

	(void)state;
	flock.kind = RANGE_FLOCK;
	set(&list, F_WRLCK, 0, TO_END, 1);
	assert_null(range_conflict(list, &flock));
	assert_ok(range_set(&list, &flock));
	flock.owner = 1;
	assert_int_equal(range_conflict(list, &flock)->owner, 2);
	set(&list, F_UNLCK, 0, TO_END, 2);
	set(&list, F_UNLCK, 10, TO_END, 1);
	assert_text(list, "2W0- 1w0-9");
	/* A close ends the POSIX locks of its owner only. */
	range_drop_owner(&list, 2);
	range_drop_owner(&list, 1);
	assert_text(list, "2W0-");
	flock.owner = 2;
	flock.type = F_UNLCK;
	assert_ok(range_set(&list, &flock));
	assert_null(list);
}

static void the_last_close_ends_what_came_by_that_file(void **state)
{
	struct range_lock *list = NULL, lock = range(F_RDLCK, 0, 9, 1);
	int a, b;

	(void)state;
	lock.via = &a;
	assert_ok(range_set(&list, &lock));
	lock.kind = RANGE_FLOCK;
	lock.end = TO_END;
	assert_ok(range_set(&list, &lock));
	lock.owner = 2;
	lock.via = &b;
	assert_ok(range_set(&list, &lock));
	assert_true(range_via(list, &a));
	range_drop_via(&list, &a);
	assert_false(range_via(list, &a));
	assert_true(range_via(list, &b));
	assert_text(list, "2R0-");
	range_drop_via(&list, &b);
	assert_null(list);
}

static void a_knot_of_those_who_wait_is_refused(void **state)
{
	struct range_wait a = {0}, b = {0}, c = {0}, again = {0};

	(void)state;
	assert_int_equal(range_wait_begin(&a, 1, 1), -EDEADLK);
	assert_ok(range_wait_begin(&a, 1, 2));
	assert_ok(range_wait_begin(&b, 2, 3));
	assert_int_equal(range_wait_begin(&c, 3, 1), -EDEADLK);
	assert_ok(range_wait_begin(&c, 3, 4));
	/* A second thread of owner 2. */
	assert_int_equal(range_wait_begin(&again, 4, 1), -EDEADLK);
	assert_ok(range_wait_begin(&again, 2, 5));
	assert_int_equal(range_wait_begin(&c, 5, 1), -EDEADLK);
	/* Whom it waits for changes. */
	assert_ok(range_wait_begin(&b, 2, 6));
	range_wait_end(&again);
	assert_ok(range_wait_begin(&again, 3, 1));
	range_wait_end(&again);
	range_wait_end(&a);
	range_wait_end(&b);
	range_wait_end(&c);
	range_wait_end(&c);
}

/* A file of few bytes, the last of which stands for all up to the end: who has which of them locked how. */
#define BYTES  24
#define OWNERS 3

struct model {
	short of[2][OWNERS][BYTES];
};

static bool model_conflict(const struct model *model, const struct range_lock *wanted)
{
	int last = wanted->end == TO_END ? BYTES - 1 : (int)wanted->end;

	for (int owner = 0; owner < OWNERS; owner++) {
		for (int i = (int)wanted->start; i <= last; i++) {
			short has = model->of[wanted->kind][owner][i];

			if ((uint64_t)owner != wanted->owner && has != F_UNLCK &&
				(has == F_WRLCK || wanted->type == F_WRLCK))
				return true;
		}
	}
	return false;
}

static void model_set(struct model *model, const struct range_lock *wanted)
{
	int last = wanted->end == TO_END ? BYTES - 1 : (int)wanted->end;

	for (int i = (int)wanted->start; i <= last; i++)
		model->of[wanted->kind][wanted->owner][i] = wanted->type;
}

/* The list says of each byte what the model says; it is in order, and has nothing twice or cut up. */
static bool is_as_modelled(const struct range_lock *list, const struct model *model)
{
	const struct range_lock *lock, *other;
	struct model found;

	for (int i = 0; i < 2 * OWNERS * BYTES; i++)
		(&found.of[0][0][0])[i] = F_UNLCK;
	DL_FOREACH(list, lock)
	{
		int last = lock->end == TO_END ? BYTES - 1 : (int)lock->end;

		if (lock->start > lock->end || last >= BYTES || lock->type == F_UNLCK)
			return false;
		if (lock->next && lock->next->start < lock->start)
			return false;
		for (int i = (int)lock->start; i <= last; i++) {
			short *at = &found.of[lock->kind][lock->owner][i];

			if (*at != F_UNLCK)
				return false;
			*at = lock->type;
		}
		DL_FOREACH(list, other)
		{
			if (other->kind == lock->kind && other->owner == lock->owner &&
				other->type == lock->type && lock->end != TO_END &&
				other->start == lock->end + 1)
				return false;
		}
	}
	return !memcmp(&found, model, sizeof(found));
}

static void as_an_array_of_bytes(void **state)
{
	static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
	unsigned seed = getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : (unsigned)time(NULL);
	unsigned refused = 0;

	(void)state;
	print_message("SEED=%u\n", seed);
	srandom(seed);
	for (int round = 0; round < 300; round++) {
		struct range_lock *list = NULL;
		struct model model;

		for (int i = 0; i < 2 * OWNERS * BYTES; i++)
			(&model.of[0][0][0])[i] = F_UNLCK;
		for (int step = 0; step < 200; step++) {
			struct range_lock wanted = range(types[random() % 3], random() % BYTES, 0,
				(uint64_t)random() % OWNERS);
			const struct range_lock *conflict;

			wanted.kind = random() % 4 ? RANGE_POSIX : RANGE_FLOCK;
			wanted.end = wanted.start + random() % 8;
			/* The bytes beyond the model's last are one with it. */
			if (wanted.end >= BYTES - 1)
				wanted.end = TO_END;
			conflict = range_conflict(list, &wanted);
			if (wanted.type == F_UNLCK)
				conflict = NULL;
			else if (!conflict != !model_conflict(&model, &wanted))
				fail_msg("round %d, step %d: conflict of %s", round, step,
					text(list));
			if (conflict) {
				refused++;
				continue;
			}
			assert_ok(range_set(&list, &wanted));
			model_set(&model, &wanted);
			if (!is_as_modelled(list, &model))
				fail_msg("round %d, step %d: %s after %d%c%lld-%lld", round, step,
					text(list), (int)wanted.owner, "rwu"[wanted.type],
					(long long)wanted.start, (long long)wanted.end);
			for (int owner = 0; owner < OWNERS; owner++) {
				bool any = false;

				for (int i = 0; i < BYTES; i++)
					any |= model.of[RANGE_POSIX][owner][i] != F_UNLCK;
				assert_int_equal(
					range_owned(list, RANGE_POSIX, (uint64_t)owner), any);
			}
		}
		clear(&list);
	}
	assert_in_range(refused, 1000, 300 * 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours_of_one_type_become_one),
		cmocka_unit_test(neighbours_of_another_type_or_owner_stay_apart),
		cmocka_unit_test(what_lies_in_the_middle_cuts_in_two),
		cmocka_unit_test(up_and_down_again),
		cmocka_unit_test(a_lock_to_the_end),
		cmocka_unit_test(others_are_kept_out),
		cmocka_unit_test(unlocking_leaves_others_alone),
		cmocka_unit_test(the_kinds_do_not_see_each_other),
		cmocka_unit_test(the_last_close_ends_what_came_by_that_file),
		cmocka_unit_test(a_knot_of_those_who_wait_is_refused),
		cmocka_unit_test(as_an_array_of_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
