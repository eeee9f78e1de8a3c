#include "observe/ring.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/prng.h"

enum { CAPACITY = 4096, HEADER_SIZE = 128 };

struct fixture {
    uint8_t *memory;
    struct ring_writer writer;
    struct ring_reader reader;
    _Atomic uint64_t cursor;
};

static void begin(struct fixture *fixture, size_t capacity, uint64_t incarnation)
{
    *fixture = (struct fixture){.memory = aligned_alloc(64, ring_size(capacity))};
    assert_non_null(fixture->memory);
    ring_writer_init(&fixture->writer, fixture->memory, capacity, incarnation);
    ring_writer_attach(&fixture->writer, &fixture->cursor);
    ring_reader_init(&fixture->reader, fixture->memory, capacity, &fixture->cursor);
}

static void records_come_out_as_they_went_in(void **state)
{
    (void)state;
    struct fixture ring;
    begin(&ring, CAPACITY, 1);
    struct span record = SPAN_EMPTY;
    assert_int_equal(ring_read(&ring.reader, &record), AGAIN);
    assert_true(ring_write(&ring.writer, SPAN("first")));
    assert_true(ring_write(&ring.writer, SPAN("the second one")));
    assert_int_equal(ring_read(&ring.reader, &record), OK);
    assert_true(span_equal(record, SPAN("first")));
    assert_int_equal(ring_read(&ring.reader, &record), OK);
    assert_true(span_equal(record, SPAN("the second one")));
    assert_int_equal(ring_read(&ring.reader, &record), AGAIN);
    free(ring.memory);
}

static void a_reservation_without_commit_leaves_no_trace(void **state)
{
    (void)state;
    struct fixture ring;
    begin(&ring, CAPACITY, 0);
    assert_non_null(ring_reserve(&ring.writer, 100));
    struct span record = SPAN_EMPTY;
    assert_int_equal(ring_read(&ring.reader, &record), AGAIN);
    uint8_t *place = ring_reserve(&ring.writer, 100);
    assert_non_null(place);
    memcpy(place, "ab", 2);
    ring_commit(&ring.writer, 2);
    assert_int_equal(ring_read(&ring.reader, &record), OK);
    assert_true(span_equal(record, SPAN("ab")));
    free(ring.memory);
}

static void a_full_ring_refuses_until_the_reader_releases(void **state)
{
    (void)state;
    struct fixture ring;
    begin(&ring, CAPACITY, 3);
    unsigned written = 0;
    while (ring_write(&ring.writer, SPAN("0123456789"))) {
        written++;
        assert_true(written <= CAPACITY);
    }
    assert_int_equal(written, CAPACITY / 24);
    struct span record = SPAN_EMPTY;
    assert_int_equal(ring_read(&ring.reader, &record), OK);
    assert_false(ring_write(&ring.writer, SPAN("0123456789")));
    ring_release(&ring.reader);
    /* 16 bytes at the end are too few for a record of 24: one more must be let go. */
    assert_int_equal(ring_read(&ring.reader, &record), OK);
    ring_release(&ring.reader);
    assert_true(ring_write(&ring.writer, SPAN("9876543210")));
    for (unsigned i = 2; i < written; i++) {
        assert_int_equal(ring_read(&ring.reader, &record), OK);
        assert_true(span_equal(record, SPAN("0123456789")));
    }
    assert_int_equal(ring_read(&ring.reader, &record), OK);
    assert_true(span_equal(record, SPAN("9876543210")));
    free(ring.memory);
}

static void a_record_above_half_the_ring_is_refused(void **state)
{
    (void)state;
    struct fixture ring;
    begin(&ring, CAPACITY, 0);
    assert_null(ring_reserve(&ring.writer, CAPACITY / 2 + 1));
    assert_non_null(ring_reserve(&ring.writer, CAPACITY / 2));
    free(ring.memory);
}

static void without_a_reader_the_ring_fills_and_then_refuses(void **state)
{
    (void)state;
    struct fixture ring;
    begin(&ring, CAPACITY, 0);
    ring_writer_attach(&ring.writer, NULL);
    struct span record = SPAN_EMPTY;
    while (ring_write(&ring.writer, SPAN("x"))) {
        assert_int_equal(ring_read(&ring.reader, &record), OK);
        ring_release(&ring.reader);
    }
    assert_int_equal(ring.writer.tail, CAPACITY);
    free(ring.memory);
}

static void the_writer_ignores_cursors_that_cannot_be_true(void **state)
{
    (void)state;
    struct fixture ring;
    begin(&ring, CAPACITY, 5);
    struct span record = SPAN_EMPTY;
    assert_true(ring_write(&ring.writer, SPAN("one")));
    assert_int_equal(ring_read(&ring.reader, &record), OK);
    ring_release(&ring.reader);
    const uint64_t lies[] = {0, 1, UINT64_C(4) << 40, (UINT64_C(5) << 40) + 5000, UINT64_MAX};
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        atomic_store(&ring.cursor, lies[i]);
        while (ring_write(&ring.writer, SPAN("full"))) {
        }
        assert_true(ring.writer.tail - ring.writer.cursor <= CAPACITY);
        assert_true(ring.writer.cursor <= (UINT64_C(5) << 40) + 16);
    }
    free(ring.memory);
}

static void a_new_reader_goes_on_where_the_writer_last_saw_the_old_one(void **state)
{
    (void)state;
    struct fixture ring;
    begin(&ring, CAPACITY, 2);
    struct span record = SPAN_EMPTY;
    assert_true(ring_write(&ring.writer, SPAN("a")));
    assert_int_equal(ring_read(&ring.reader, &record), OK);
    ring_release(&ring.reader);
    assert_true(ring_write(&ring.writer, SPAN("b")));
    _Atomic uint64_t cursor = 0;
    struct ring_reader heir;
    ring_reader_init(&heir, ring.memory, CAPACITY, &cursor);
    assert_int_equal(ring_read(&heir, &record), OK);
    assert_true(span_equal(record, SPAN("b")));
    free(ring.memory);
}

static void what_a_reader_had_read_when_it_ended_is_not_read_again(void **state)
{
    (void)state;
    struct fixture ring;
    begin(&ring, CAPACITY, 0);
    struct span record = SPAN_EMPTY;
    assert_true(ring_write(&ring.writer, SPAN("one")));
    assert_true(ring_write(&ring.writer, SPAN("two")));
    assert_int_equal(ring_read(&ring.reader, &record), OK);
    ring_release(&ring.reader); /* nothing is written behind this, and nobody else looks */
    ring_writer_attach(&ring.writer, NULL);
    _Atomic uint64_t cursor = 0;
    struct ring_reader successor;
    ring_reader_init(&successor, ring.memory, CAPACITY, &cursor);
    assert_int_equal(ring_read(&successor, &record), OK);
    assert_true(span_equal(record, SPAN("two")));
    assert_int_equal(ring_read(&successor, &record), AGAIN);
    free(ring.memory);
}

static void a_corrupt_ring_is_reported_and_skipped_to_the_tail(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 42);
    for (unsigned round = 0; round < 2000; round++) {
        struct fixture ring;
        begin(&ring, CAPACITY, round);
        unsigned count = 1 + prng_below(&prng, 200);
        for (unsigned i = 0; i < count; i++) {
            if (!ring_write(&ring.writer, SPAN("some record"))) {
                break;
            }
        }
        /* Strike the data or, in one case of four, the header with the tail. */
        for (unsigned i = 0; i < 1 + prng_below(&prng, 8); i++) {
            size_t at = prng_below(&prng, 4) == 0 ? prng_below(&prng, HEADER_SIZE)
                                                  : HEADER_SIZE + prng_below(&prng, CAPACITY);
            ring.memory[at] = (uint8_t)prng_next(&prng);
        }
        struct span record = SPAN_EMPTY;
        unsigned reads = 0;
        enum status status = OK;
        while ((status = ring_read(&ring.reader, &record)) == OK) {
            assert_true(record.data >= ring.memory + HEADER_SIZE);
            assert_true(record.data + record.size <= ring.memory + HEADER_SIZE + CAPACITY);
            assert_true(++reads <= CAPACITY / 16);
        }
        if (status == ERROR) {
            ring_release(&ring.reader);
            assert_int_equal(ring_read(&ring.reader, &record), AGAIN);
        }
        free(ring.memory);
    }
}

static void a_size_beyond_the_ring_is_corrupt(void **state)
{
    (void)state;
    const uint32_t sizes[] = {0, 17, CAPACITY, UINT32_MAX - 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct fixture ring;
        begin(&ring, CAPACITY, 0);
        assert_true(ring_write(&ring.writer, SPAN("sixteen bytes...")));
        memcpy(ring.memory + HEADER_SIZE, &sizes[i], sizeof(sizes[i]));
        struct span record = SPAN_EMPTY;
        assert_int_equal(ring_read(&ring.reader, &record), ERROR);
        assert_int_equal(ring_read(&ring.reader, &record), AGAIN);
        assert_true(ring_write(&ring.writer, SPAN("next")));
        assert_int_equal(ring_read(&ring.reader, &record), OK);
        assert_true(span_equal(record, SPAN("next")));
        free(ring.memory);
    }
}

enum { STRESS_RECORDS = 200000, STRESS_SIZE_MAX = 300 };

/* A record holds its number, then bytes that follow from it. */
static size_t stress_record(uint32_t number, uint8_t bytes[STRESS_SIZE_MAX])
{
    size_t size = sizeof(number) + number * 2654435761U % (STRESS_SIZE_MAX - sizeof(number));
    memcpy(bytes, &number, sizeof(number));
    memset(bytes + sizeof(number), (int)(number % 251), size - sizeof(number));
    return size;
}

static void *stress_writer(void *argument)
{
    struct ring_writer *writer = (struct ring_writer *)argument;
    for (uint32_t number = 0; number < STRESS_RECORDS; number++) {
        uint8_t bytes[STRESS_SIZE_MAX];
        size_t size = stress_record(number, bytes);
        while (!ring_write(writer, span_of(bytes, size))) {
            sched_yield();
        }
    }
    return NULL;
}

static void a_writer_and_a_reader_agree_on_every_byte(void **state)
{
    (void)state;
    struct fixture ring;
    begin(&ring, CAPACITY, 7);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stress_writer, &ring.writer), 0);
    uint32_t expected = 0;
    while (expected < STRESS_RECORDS) {
        struct span record = SPAN_EMPTY;
        enum status status = ring_read(&ring.reader, &record);
        assert_int_not_equal(status, ERROR);
        if (status == AGAIN) {
            ring_release(&ring.reader);
            sched_yield();
            continue;
        }
        uint8_t bytes[STRESS_SIZE_MAX];
        size_t size = stress_record(expected, bytes);
        assert_true(span_equal(record, span_of(bytes, size)));
        expected++;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    free(ring.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_out_as_they_went_in),
        cmocka_unit_test(a_reservation_without_commit_leaves_no_trace),
        cmocka_unit_test(a_full_ring_refuses_until_the_reader_releases),
        cmocka_unit_test(a_record_above_half_the_ring_is_refused),
        cmocka_unit_test(without_a_reader_the_ring_fills_and_then_refuses),
        cmocka_unit_test(the_writer_ignores_cursors_that_cannot_be_true),
        cmocka_unit_test(a_new_reader_goes_on_where_the_writer_last_saw_the_old_one),
        cmocka_unit_test(what_a_reader_had_read_when_it_ended_is_not_read_again),
        cmocka_unit_test(a_corrupt_ring_is_reported_and_skipped_to_the_tail),
        cmocka_unit_test(a_size_beyond_the_ring_is_corrupt),
        cmocka_unit_test(a_writer_and_a_reader_agree_on_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
