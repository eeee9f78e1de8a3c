/*
 * The commons with a worker that dies between any two instructions of each operation: a cell holds
 * what it held before or what it was to hold, nothing between, and whoever comes next goes on.
 */
#include "observe/commons.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "observe/probe_lease.h"
#include "observe/rate_table.h"
#include "single_step.h"

enum { SECOND = 1000 * 1000, NOW = 100 * SECOND, RATE = 1, BURST = 3, SET_CELLS = 8 };

#define CLIENT UINT64_C(0x123456789abcdef0)

struct fixture {
    struct generation_header header;
    struct generation generation;
    void *memory;
    size_t size;
    struct commons commons;
    struct rate_table table;
    uint64_t lease;
};

static void begin(struct fixture *fixture)
{
    *fixture = (struct fixture){0};
    fixture->header.endpoints.count = 2;
    fixture->header.server.connections = 1;
    fixture->header.server.limits.request_rate = RATE;
    fixture->header.server.limits.request_burst = BURST;
    fixture->generation.header = &fixture->header;
    fixture->size = commons_size(&fixture->generation);
    fixture->memory = single_step_shared(fixture->size);
    assert_non_null(fixture->memory);
    commons_init(&fixture->commons, fixture->memory, &fixture->generation);
    rate_table_init(&fixture->table, &fixture->commons, &fixture->generation);
}

static void end(struct fixture *fixture)
{
    single_step_unshare(fixture->memory, fixture->size);
}

/* The operation is one change of one word: two states, before and after, and none else. */
static void walk_through(struct fixture *fixture, void (*run)(void *),
                         void (*check)(void *, void *))
{
    struct crash_walk walk = {.run = run,
                              .check = check,
                              .context = fixture,
                              .memory = fixture->memory,
                              .size = fixture->size};
    assert_true(crash_walk(&walk));
    assert_int_equal(walk.points, 2);
}

static struct commons survivor(const struct fixture *fixture, void *remains)
{
    struct commons commons;
    commons_init(&commons, remains, &fixture->generation);
    return commons;
}

/* ---- Probe leases ---- */

static void take(void *context)
{
    struct fixture *fixture = context;
    if (!probe_lease_take(&fixture->commons, 1, 3, NOW, SECOND, &fixture->lease)) {
        abort();
    }
}

static void give_back(void *context)
{
    const struct fixture *fixture = context;
    probe_lease_free(&fixture->commons, 1, fixture->lease);
}

static void ban(void *context)
{
    const struct fixture *fixture = context;
    probe_lease_ban(&fixture->commons, 1, fixture->lease, NOW + 20 * SECOND);
}

/* Free, or held for a while: then it is free again. The neighbour's lease is as it was. */
static void probe_next(const struct fixture *fixture, void *remains, uint64_t at_most)
{
    struct commons commons = survivor(fixture, remains);
    uint64_t lease = 0;
    if (!probe_lease_take(&commons, 1, 4, NOW, SECOND, &lease)) {
        assert_true(probe_lease_take(&commons, 1, 4, NOW + at_most, SECOND, &lease));
    }
    assert_true(probe_lease_take(&commons, 0, 4, NOW, SECOND, &lease));
}

static void succeed_a_prober(void *context, void *remains)
{
    probe_next(context, remains, SECOND);
}

static void succeed_a_failed_prober(void *context, void *remains)
{
    probe_next(context, remains, 20 * SECOND);
}

static void a_prober_killed_at_any_instruction_is_succeeded(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture);
    walk_through(&fixture, take, succeed_a_prober); /* its lease is the child's: taken once more */
    atomic_store(fixture.commons.probes + 1, 0);
    take(&fixture);
    walk_through(&fixture, give_back, succeed_a_prober);
    take(&fixture);
    walk_through(&fixture, ban, succeed_a_failed_prober);
    end(&fixture);
}

/* ---- Request rates ---- */

static void ask(void *context)
{
    const struct fixture *fixture = context;
    uint64_t wait = 0;
    (void)!rate_table_admit(&fixture->table, CLIENT, NOW, &wait);
}

/* What is left allows a burst less what was counted, by one more or less, and later a whole one. */
static void ask_next(void *context, void *remains)
{
    const struct fixture *fixture = context;
    struct commons commons = survivor(fixture, remains);
    struct rate_table table;
    rate_table_init(&table, &commons, &fixture->generation);
    uint64_t wait = 0;
    uint32_t admitted = 0;
    while (rate_table_admit(&table, CLIENT, NOW, &wait)) {
        admitted++;
        assert_true(admitted <= BURST);
    }
    assert_in_range(wait, 1, SECOND / RATE);
    for (int i = 0; i < BURST; i++) {
        assert_true(rate_table_admit(&table, CLIENT, NOW + BURST * SECOND, &wait));
    }
}

static void a_worker_killed_while_it_counts_a_request_counts_it_or_does_not(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture);
    for (int i = 0; i < BURST; i++) {
        walk_through(&fixture, ask, ask_next);
    }
    /* A full set of others: one of them makes place. */
    _Atomic uint64_t *set =
        fixture.table.cells + (size_t)(CLIENT & fixture.table.set_mask) * SET_CELLS;
    for (uint64_t i = 0; i < SET_CELLS; i++) {
        atomic_store(set + i, i << 42 | (uint64_t)(NOW + SECOND));
    }
    walk_through(&fixture, ask, ask_next);
    end(&fixture);
}

/* ---- Borrowed requests ---- */

static void borrow(void *context)
{
    const struct fixture *fixture = context;
    commons_note_borrowing(&fixture->commons, NOW);
}

static void believe_no_longer_than_said(void *context, void *remains)
{
    struct commons commons = survivor(context, remains);
    assert_false(commons_is_borrowing(&commons, NOW + COMMONS_BORROWING_TIME));
    commons_note_borrowing(&commons, NOW);
    assert_true(commons_is_borrowing(&commons, NOW));
}

static void a_worker_killed_while_it_says_that_it_borrows_is_believed_for_a_while(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture);
    walk_through(&fixture, borrow, believe_no_longer_than_said);
    end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prober_killed_at_any_instruction_is_succeeded),
        cmocka_unit_test(a_worker_killed_while_it_counts_a_request_counts_it_or_does_not),
        cmocka_unit_test(a_worker_killed_while_it_says_that_it_borrows_is_believed_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
