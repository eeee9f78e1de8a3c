/*
 * The log ring with a writer or a reader that dies between any two instructions: every record that
 * was committed comes out whole and once the cursor allows it, nothing that was not committed ever
 * does, and a writer never writes over what its reader has not released.
 */
#include "observe/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "single_step.h"

enum {
    CAPACITY = RING_CAPACITY_MIN,
    MEMORY = 3 * RING_CAPACITY_MIN, /* the ring, its reader's cursor, then private state */
    CURSOR_AT = 2 * RING_CAPACITY_MIN,
    JUDGED = CURSOR_AT + RING_CURSOR_STRIDE,
    RECORD_MAX = 1500,
    SMALL_RECORD = 20,
    INCARNATION = 7,
    STRIDE = 5,
};

/* Record number n: its size and bytes follow from n; every third is small. */
static size_t size_of(uint32_t n)
{
    return n % 3 == 0 ? SMALL_RECORD : 1 + (n * 389) % RECORD_MAX;
}

static void fill(uint8_t *bytes, uint32_t n)
{
    memset(bytes, (int)(n % 251) + 1, size_of(n));
}

static bool is_record(struct span record, uint32_t n)
{
    uint8_t bytes[RECORD_MAX + 1];
    fill(bytes, n);
    return span_equal(record, span_of(bytes, size_of(n)));
}

struct fixture {
    uint8_t *memory;
    struct ring_writer *writer; /* shared, beyond what is judged */
    struct ring_reader *reader;
    uint32_t *written;             /* committed so far */
    uint32_t released;             /* read and released so far */
    uint8_t bytes[RECORD_MAX + 1]; /* of the record to write, or expected, next */
};

static _Atomic uint64_t *cursor_in(uint8_t *memory)
{
    return (_Atomic uint64_t *)(void *)(memory + CURSOR_AT);
}

static void begin(struct fixture *fixture)
{
    uint8_t *memory = single_step_shared(MEMORY);
    assert_non_null(memory);
    assert_true(ring_size(CAPACITY) <= CURSOR_AT);
    *fixture = (struct fixture){
        .memory = memory,
        .writer = (struct ring_writer *)(void *)(memory + JUDGED),
        .reader = (struct ring_reader *)(void *)(memory + JUDGED + 256),
        .written = (uint32_t *)(void *)(memory + JUDGED + 512),
    };
    ring_writer_init(fixture->writer, memory, CAPACITY, INCARNATION);
    ring_writer_attach(fixture->writer, cursor_in(memory));
    ring_reader_init(fixture->reader, memory, CAPACITY, cursor_in(memory));
}

static void end(struct fixture *fixture)
{
    single_step_unshare(fixture->memory, MEMORY);
}

/* ---- A writer that dies ---- */

/* Of the bytes that lie prepared. */
static void write_prepared(void *context)
{
    struct fixture *fixture = context;
    if (ring_write(fixture->writer, span_of(fixture->bytes, size_of(*fixture->written)))) {
        ++*fixture->written;
    }
}

static void write_one(struct fixture *fixture)
{
    fill(fixture->bytes, *fixture->written);
    write_prepared(fixture);
}

/* At least once: the writer may not have seen all that its last reader released. */
static uint32_t first_of(const struct fixture *fixture, struct span record)
{
    uint32_t first = 0;
    while (first < fixture->released && !is_record(record, first)) {
        first++;
    }
    return first;
}

/* What is left holds all that was committed before, and the new record whole or not at all. */
static void read_what_a_dead_writer_left(void *context, void *remains)
{
    struct fixture *fixture = context;
    _Atomic uint64_t cursor = 0;
    struct ring_reader reader;
    struct span record = SPAN_EMPTY;
    ring_reader_init(&reader, remains, CAPACITY, &cursor);
    uint32_t next = fixture->released;
    enum status status;
    bool any = false;
    while ((status = ring_read(&reader, &record)) == OK) {
        next = any ? next : first_of(fixture, record);
        any = true;
        assert_true(is_record(record, next));
        next++;
    }
    assert_int_equal(status, AGAIN); /* never ERROR: no torn record is published */
    assert_true(next == *fixture->written || next == *fixture->written + 1);
}

static void read_and_release(struct fixture *fixture)
{
    struct span record = SPAN_EMPTY;
    while (ring_read(fixture->reader, &record) == OK) {
        assert_true(is_record(record, fixture->released));
        fixture->released++;
    }
    ring_release(fixture->reader);
}

static void a_writer_killed_at_any_instruction_leaves_whole_records(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture);
    uint32_t refusals = 0;
    for (uint32_t round = 0; round < 24; round++) { /* several times around the ring */
        uint32_t before = *fixture.written;
        fill(fixture.bytes, *fixture.written);
        struct crash_walk walk = {.run = write_prepared,
                                  .check = read_what_a_dead_writer_left,
                                  .context = &fixture,
                                  .memory = fixture.memory,
                                  .size = JUDGED};
        assert_true(crash_walk(&walk));
        bool was_full = *fixture.written == before;
        assert_true(was_full || walk.points > 3);
        refusals += was_full;
        if (was_full) {
            read_and_release(&fixture);
        }
    }
    read_and_release(&fixture);
    assert_int_equal(fixture.released, *fixture.written);
    assert_true(refusals >= 2 && *fixture.written > 15);
    end(&fixture);
}

/* ---- A reader that dies ---- */

static void read_two(void *context)
{
    struct fixture *fixture = context;
    struct span record = SPAN_EMPTY;
    enum status first = ring_read(fixture->reader, &record);
    enum status second = ring_read(fixture->reader, &record);
    ring_release(fixture->reader);
    if (first != OK || second != OK) {
        abort();
    }
}

/*
 * The cursor that a dead reader left stands before or behind what it read, never between. A writer
 * goes on with it, and its next reader sees everything from there on, whole.
 */
static void succeed_a_dead_reader(void *context, void *remains)
{
    struct fixture *fixture = context;
    struct ring_writer writer = *fixture->writer;
    writer.header = (struct ring_header *)remains;
    writer.data = (uint8_t *)remains + (fixture->writer->data - fixture->memory);
    ring_writer_attach(&writer, cursor_in(remains));
    uint32_t written = *fixture->written;
    uint8_t bytes[RECORD_MAX + 1];
    fill(bytes, written);
    written += ring_write(&writer, span_of(bytes, size_of(written))) ? 1 : 0;
    _Atomic uint64_t cursor = 0;
    struct ring_reader successor;
    struct span record = SPAN_EMPTY;
    ring_reader_init(&successor, remains, CAPACITY, &cursor);
    assert_int_equal(ring_read(&successor, &record), OK);
    uint32_t next =
        is_record(record, fixture->released) ? fixture->released : fixture->released + 2;
    assert_true(is_record(record, next));
    for (next++; next < written; next++) {
        assert_int_equal(ring_read(&successor, &record), OK);
        assert_true(is_record(record, next));
    }
    assert_int_equal(ring_read(&successor, &record), AGAIN);
}

static void a_reader_killed_at_any_instruction_loses_no_record(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture);
    for (uint32_t round = 0; round < 12; round++) {
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t before = *fixture.written;
            write_one(&fixture);
            assert_true(i > 2 || *fixture.written == before + 1);
        }
        struct crash_walk walk = {.run = read_two,
                                  .check = succeed_a_dead_reader,
                                  .context = &fixture,
                                  .memory = fixture.memory,
                                  .size = JUDGED};
        assert_true(crash_walk(&walk));
        assert_int_equal(walk.points, 2); /* the cursor before, and the cursor after */
        fixture.released += 2;
        read_and_release(&fixture);
    }
    assert_int_equal(fixture.released, *fixture.written);
    end(&fixture);
}

/* ---- Both at once ---- */

static void copy_one(void *context)
{
    struct fixture *fixture = context;
    struct span record = SPAN_EMPTY;
    if (ring_read(fixture->reader, &record) != OK || record.size != size_of(fixture->released) ||
        memcmp(record.data, fixture->bytes, record.size) != 0) {
        abort();
    }
    ring_release(fixture->reader);
}

/* A ring that is about to wrap, with a small record to read. */
static void begin_near_the_end(struct fixture *fixture)
{
    begin(fixture);
    while (*fixture->written < 6) {
        write_one(fixture);
        read_and_release(fixture);
    }
    write_one(fixture);
}

/*
 * The writer fills the ring while the reader stands: it must not write over what that one looks at.
 * A place costs a process, so not all are tried; the stride has no factor in common with a loop.
 */
static void a_writer_overtakes_a_reader_at_none_of_its_instructions(void **state)
{
    (void)state;
    bool ended = false;
    for (uint64_t stop = 0; !ended; stop += STRIDE) {
        struct fixture fixture;
        begin_near_the_end(&fixture);
        fill(fixture.bytes, fixture.released);
        struct single_step step;
        assert_true(single_step_begin(&step, copy_one, &fixture));
        while (step.executed < stop && single_step_next(&step)) {
        }
        ended = step.pid == 0;
        for (uint32_t i = 0; i < 8; i++) {
            write_one(&fixture);
        }
        assert_true(single_step_finish(&step));
        fixture.released++;
        fixture.reader->position = atomic_load(cursor_in(fixture.memory));
        read_and_release(&fixture);
        assert_int_equal(fixture.released, *fixture.written);
        end(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_writer_killed_at_any_instruction_leaves_whole_records),
        cmocka_unit_test(a_reader_killed_at_any_instruction_loses_no_record),
        cmocka_unit_test(a_writer_overtakes_a_reader_at_none_of_its_instructions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
