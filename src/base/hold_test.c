#include "base/hold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/death_test.h"
#include "base/prng.h"

enum { BLOCK = HOLD_BLOCK_SIZE, PLENTY = 64 * BLOCK };

/* Bytes to append, different at every offset up to a prime. */
static uint8_t pattern[PLENTY];

static int fill_pattern(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (uint8_t)(i % 251);
    }
    return 0;
}

static void begin(struct hold_pool *pool, uint32_t blocks)
{
    assert_true(hold_pool_init(pool, (uint64_t)blocks * BLOCK));
    assert_int_equal(pool->slab.capacity, blocks);
}

/* Reads up to `most` bytes and holds them against the pattern from `from` on. */
static size_t take(struct hold *hold, size_t from, size_t most)
{
    size_t done = 0;
    while (done < most && hold->unread > 0) {
        struct span bytes = hold_peek(hold);
        size_t part = bytes.size < most - done ? bytes.size : most - done;
        assert_true(part > 0 && part <= BLOCK);
        assert_memory_equal(bytes.data, pattern + from + done, part);
        hold_advance(hold, part);
        done += part;
    }
    return done;
}

static void bytes_come_out_as_they_went_in(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct hold_pool pool;
        struct hold hold;
        begin(&pool, 64);
        hold_init(&hold, PLENTY);
        size_t size = 0;
        for (int times = 0; times < 8; times++) {
            assert_true(hold_append(&hold, &pool, span_of(pattern + size, pieces[i])));
            size += pieces[i];
        }
        assert_int_equal(hold.size, size);
        assert_int_equal(take(&hold, 0, size), size);
        assert_int_equal(hold_peek(&hold).size, 0);
        hold_clear(&hold, &pool);
        assert_int_equal(pool.slab.in_use, 0);
        assert_int_equal(pool.held, size);
        hold_pool_deinit(&pool);
    }
}

static void what_was_read_can_be_read_again_until_it_is_dropped(void **state)
{
    (void)state;
    struct hold_pool pool;
    struct hold hold;
    begin(&pool, 16);
    hold_init(&hold, 5 * BLOCK);
    assert_true(hold_append(&hold, &pool, span_of(pattern, 3 * BLOCK + 7)));
    for (int times = 0; times < 3; times++) {
        assert_int_equal(take(&hold, 0, SIZE_MAX), 3 * BLOCK + 7);
        hold_rewind(&hold);
    }
    assert_int_equal(take(&hold, 0, BLOCK + 5), BLOCK + 5);
    assert_int_equal(pool.slab.in_use, 4);
    hold_drop_read(&hold, &pool);
    assert_int_equal(pool.slab.in_use, 3); /* the block that was begun is still needed */
    assert_int_equal(hold.size, 2 * BLOCK + 2);
    assert_int_equal(take(&hold, BLOCK + 5, SIZE_MAX), 2 * BLOCK + 2);
    hold_drop_read(&hold, &pool);
    assert_int_equal(pool.slab.in_use, 0);
    assert_int_equal(hold.size, 0);
    assert_true(pool.returned);
    hold_clear(&hold, &pool);
    hold_pool_deinit(&pool);
}

static void reading_goes_on_where_bytes_were_appended_later(void **state)
{
    (void)state;
    struct hold_pool pool;
    struct hold hold;
    begin(&pool, 16);
    hold_init(&hold, 4 * BLOCK);
    assert_true(hold_append(&hold, &pool, span_of(pattern, BLOCK)));
    assert_int_equal(take(&hold, 0, SIZE_MAX), BLOCK); /* exactly to the end of a block */
    assert_true(hold_append(&hold, &pool, span_of(pattern + BLOCK, 10)));
    assert_int_equal(take(&hold, BLOCK, SIZE_MAX), 10);
    hold_clear(&hold, &pool);
    hold_pool_deinit(&pool);
}

static void its_maximum_is_its_own(void **state)
{
    (void)state;
    struct hold_pool pool;
    struct hold hold;
    begin(&pool, 64);
    hold_init(&hold, BLOCK + 100);
    assert_int_equal(hold_room(&hold, &pool), BLOCK + 100);
    assert_true(hold_append(&hold, &pool, span_of(pattern, BLOCK)));
    assert_int_equal(hold_room(&hold, &pool), 100);
    assert_true(hold_append(&hold, &pool, span_of(pattern + BLOCK, 100)));
    assert_int_equal(hold_room(&hold, &pool), 0);
    assert_int_equal(pool.times_short, 0); /* it is full: memory is not what is short */
    assert_int_equal(take(&hold, 0, 50), 50);
    hold_drop_read(&hold, &pool);
    assert_int_equal(hold_room(&hold, &pool), 50);
    hold_clear(&hold, &pool);
    hold_pool_deinit(&pool);
}

static void one_hold_leaves_as_much_as_it_has(void **state)
{
    (void)state;
    struct hold_pool pool;
    struct hold holds[4];
    begin(&pool, 16);
    uint32_t expected[] = {8, 4, 2, 1};
    size_t at = 0;
    for (int i = 0; i < 4; i++) {
        hold_init(&holds[i], PLENTY);
        size_t room = hold_room(&holds[i], &pool);
        assert_int_equal(room, expected[i] * BLOCK);
        assert_true(hold_append(&holds[i], &pool, span_of(pattern, room)));
        at += room;
        assert_int_equal(hold_room(&holds[i], &pool), 0);
        assert_true(holds[i].is_short);
    }
    assert_int_equal(at, 15 * BLOCK);
    struct hold late;
    hold_init(&late, PLENTY);
    assert_int_equal(hold_room(&late, &pool), BLOCK); /* one is still there for whoever has none */
    assert_int_equal(pool.times_short, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(hold_room(&holds[i], &pool), 0);
    }
    assert_int_equal(pool.times_short, 4); /* each was told once */
    hold_clear(&holds[0], &pool);
    assert_true(hold_room(&holds[1], &pool) > 0);
    for (int i = 1; i < 4; i++) {
        hold_clear(&holds[i], &pool);
    }
    hold_pool_deinit(&pool);
}

static void a_pool_without_memory_gives_none(void **state)
{
    (void)state;
    struct hold_pool pool;
    struct hold hold;
    hold_pool_init_empty(&pool);
    hold_init(&hold, PLENTY);
    assert_int_equal(hold_room(&hold, &pool), 0);
    assert_false(hold_append(&hold, &pool, span_of(pattern, 1)));
    assert_int_equal(hold.size, 0);
    hold_clear(&hold, &pool);
    hold_pool_deinit(&pool);
}

static void an_append_that_finds_no_memory_changes_nothing(void **state)
{
    (void)state;
    struct hold_pool pool;
    struct hold hold;
    begin(&pool, 3);
    hold_init(&hold, PLENTY);
    assert_false(hold_append(&hold, &pool, span_of(pattern, 3 * BLOCK + 1)));
    assert_int_equal(pool.slab.in_use, 0);
    assert_true(hold_append(&hold, &pool, span_of(pattern, BLOCK + 10)));
    assert_false(hold_append(&hold, &pool, span_of(pattern + BLOCK + 10, 2 * BLOCK)));
    assert_int_equal(pool.slab.in_use, 2);
    assert_int_equal(hold.size, BLOCK + 10);
    assert_true(hold_append(&hold, &pool, span_of(pattern + BLOCK + 10, BLOCK)));
    assert_int_equal(take(&hold, 0, SIZE_MAX), 2 * BLOCK + 10);
    hold_clear(&hold, &pool);
    hold_pool_deinit(&pool);
}

static void a_wish_stands_in_the_list_once_and_ends_with_the_hold(void **state)
{
    (void)state;
    struct hold_pool pool;
    struct hold hold;
    begin(&pool, 1);
    hold_init(&hold, PLENTY);
    hold_wish(&hold, &pool);
    hold_wish(&hold, &pool);
    assert_false(list_is_empty(&pool.shorts));
    hold_clear(&hold, &pool);
    assert_true(list_is_empty(&pool.shorts));
    hold_pool_deinit(&pool);
}

/* Random appends, reads and drops against a position in the pattern. */
static void nothing_is_lost_whatever_is_done(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 5);
    for (int round = 0; round < 200; round++) {
        struct hold_pool pool;
        struct hold hold;
        size_t written = 0;
        size_t read = 0;
        size_t dropped = 0;
        begin(&pool, 1 + (uint32_t)prng_below(&prng, 12));
        hold_init(&hold, 1 + prng_below(&prng, 8 * BLOCK));
        while (written < sizeof(pattern) / 2) {
            size_t room = hold_room(&hold, &pool);
            size_t size = room == 0 ? 0 : 1 + (size_t)prng_below(&prng, (uint32_t)room);
            size = size < sizeof(pattern) - written ? size : sizeof(pattern) - written;
            assert_true(size == 0 || hold_append(&hold, &pool, span_of(pattern + written, size)));
            written += size;
            if (hold.unread > 0) {
                read += take(&hold, read, 1 + (size_t)prng_below(&prng, 3 * BLOCK));
            }
            if (!hold.dropped && prng_below(&prng, 4) == 0) {
                hold_rewind(&hold);
                read = dropped;
            }
            if (prng_below(&prng, 2) == 0 || room == 0) {
                hold_drop_read(&hold, &pool);
                dropped = read;
            }
            assert_int_equal(hold.unread, written - read);
            assert_int_equal(hold.size, written - dropped);
            assert_true(pool.slab.in_use <= hold.size / BLOCK + 2);
        }
        hold_clear(&hold, &pool);
        assert_int_equal(pool.slab.in_use, 0);
        hold_pool_deinit(&pool);
    }
}

static void rewind_after_drop(void *context)
{
    hold_rewind(context);
}

static void what_was_dropped_cannot_be_asked_for(void **state)
{
    (void)state;
    struct hold_pool pool;
    struct hold hold;
    begin(&pool, 4);
    hold_init(&hold, PLENTY);
    assert_true(hold_append(&hold, &pool, span_of(pattern, 100)));
    assert_int_equal(take(&hold, 0, 10), 10);
    hold_drop_read(&hold, &pool);
    assert_true(aborts(rewind_after_drop, &hold));
    hold_clear(&hold, &pool);
    hold_pool_deinit(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_out_as_they_went_in),
        cmocka_unit_test(what_was_read_can_be_read_again_until_it_is_dropped),
        cmocka_unit_test(reading_goes_on_where_bytes_were_appended_later),
        cmocka_unit_test(its_maximum_is_its_own),
        cmocka_unit_test(one_hold_leaves_as_much_as_it_has),
        cmocka_unit_test(a_pool_without_memory_gives_none),
        cmocka_unit_test(an_append_that_finds_no_memory_changes_nothing),
        cmocka_unit_test(a_wish_stands_in_the_list_once_and_ends_with_the_hold),
        cmocka_unit_test(nothing_is_lost_whatever_is_done),
        cmocka_unit_test(what_was_dropped_cannot_be_asked_for),
    };
    return cmocka_run_group_tests(tests, fill_pattern, NULL);
}
