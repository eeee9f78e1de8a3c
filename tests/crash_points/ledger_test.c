/*
 * The ledger of the dead, with its writer (the supervisor) or a reader (a controller) that dies or
 * is overtaken between any two instructions: totals are exact at every instant, no process is left
 * out or counted twice, and what is shown never goes back.
 */
#include "observe/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "control/control_fixture.h"
#include "single_step.h"

enum { DEATHS = 3, WORKERS = 2, STRIDE = 61 };

static const char CONFIG[] = "server { workers 2 }\nlistener \"http\" { address \"127.0.0.1:1\" }\n"
                             "route \"a\" { respond 204 }\n";

struct fixture {
    struct fixture_generation compiled;
    void *memory; /* the ledger's, shared */
    size_t size;
    struct ledger ledger;
    void *cells;             /* what the next one to be folded had counted */
    struct metrics dead;     /* in them */
    struct ledger_view view; /* its words are shared, too, so that a child's can be looked at */
    uint64_t *own_words;
    uint64_t folded; /* deaths in the ledger */
};

static struct segment_identity identity_of(uint64_t death)
{
    return (struct segment_identity){PROCESS_WORKER, (uint32_t)(death % WORKERS), 10 + death};
}

/* Death number n leaves n + 1 requests, so a sum tells who is in it. */
static uint64_t sum_of(uint64_t deaths)
{
    return deaths * (deaths + 1) / 2;
}

static uint32_t requests_cell(const struct metrics *metrics)
{
    return metrics->layout.offsets[METRIC_REQUESTS] + METRICS_STATUS_NONE;
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture_compile(&fixture->compiled, CONFIG);
    const struct generation *generation = &fixture->compiled.generation;
    fixture->size = ledger_size(generation);
    fixture->memory = single_step_shared(fixture->size);
    assert_non_null(fixture->memory);
    ledger_init(&fixture->ledger, fixture->memory, generation);
    fixture->cells = fixture_region(metrics_size(generation));
    metrics_init(&fixture->dead, fixture->cells, generation);
    assert_true(ledger_view_init(&fixture->view, fixture->memory, generation));
    fixture->own_words = fixture->view.folded;
    fixture->view.folded = single_step_shared(fixture->size);
    assert_non_null(fixture->view.folded);
    metrics_init(&fixture->view.totals, fixture->view.folded + fixture->view.owners, generation);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    single_step_unshare(fixture->view.folded, fixture->size);
    fixture->view.folded = fixture->own_words;
    ledger_view_deinit(&fixture->view);
    free(fixture->cells);
    single_step_unshare(fixture->memory, fixture->size);
    fixture_free(&fixture->compiled);
    free(fixture);
    return 0;
}

/* The next process dies: what it had counted, in a counter and in a histogram. */
static void prepare_death(struct fixture *fixture)
{
    struct metrics *dead = &fixture->dead;
    for (uint32_t i = 0; i < dead->layout.cells; i++) {
        atomic_store(dead->cells + i, 0);
    }
    metrics_add(dead, METRIC_REQUESTS_IN_FLIGHT, 1);
    for (uint64_t i = 0; i <= fixture->folded; i++) {
        metrics_request(dead, 0, 0, 1000);
    }
}

static void fold_next(void *context)
{
    struct fixture *fixture = context;
    struct segment_identity identity = identity_of(fixture->folded);
    ledger_fold(&fixture->ledger, &identity, fixture->cells);
}

/* The view holds a whole number of deaths: all of their cells, and their names. */
static uint64_t deaths_in(const struct ledger_view *view)
{
    const struct metrics *totals = &view->totals;
    uint64_t requests = atomic_load(totals->cells + requests_cell(totals));
    uint64_t deaths = 0;
    while (sum_of(deaths) < requests) {
        deaths++;
    }
    assert_int_equal(requests, sum_of(deaths));
    uint32_t histogram = totals->layout.offsets[METRIC_REQUEST_DURATION];
    assert_int_equal(atomic_load(totals->cells + histogram + metrics_bucket(1000)), requests);
    assert_int_equal(atomic_load(totals->cells + histogram + METRICS_BUCKETS + 1), requests * 1000);
    uint32_t gauge = totals->layout.offsets[METRIC_REQUESTS_IN_FLIGHT];
    assert_int_equal(atomic_load(totals->cells + gauge), 0);
    for (uint64_t death = 0; death < DEATHS + 2; death++) {
        struct segment_identity identity = identity_of(death);
        assert_int_equal(ledger_view_contains(view, &identity), death < deaths);
    }
    return deaths;
}

static void read_what_stands_there(void *context, void *remains)
{
    struct fixture *fixture = context;
    struct ledger_view view;
    assert_true(ledger_view_init(&view, remains, &fixture->compiled.generation));
    ledger_view_refresh(&view);
    uint64_t deaths = deaths_in(&view);
    assert_true(deaths == fixture->folded || deaths == fixture->folded + 1);
    ledger_view_deinit(&view);
}

static void a_fold_is_all_or_nothing_at_every_instruction(void **state)
{
    struct fixture *fixture = *state;
    for (fixture->folded = 0; fixture->folded < DEATHS; fixture->folded++) {
        prepare_death(fixture);
        struct crash_walk walk = {.run = fold_next,
                                  .check = read_what_stands_there,
                                  .context = fixture,
                                  .memory = fixture->memory,
                                  .size = fixture->size};
        assert_true(crash_walk(&walk));
        assert_true(walk.points > 3);
        fold_next(fixture); /* who is in it already is not counted again */
        ledger_view_refresh(&fixture->view);
        assert_int_equal(deaths_in(&fixture->view), fixture->folded + 1);
    }
}

static void refresh(void *context)
{
    struct fixture *fixture = context;
    ledger_view_refresh(&fixture->view);
}

/* While a reader copies, two more die: it takes the old totals, or the new, never a mixture. */
static void a_reader_that_is_overtaken_looks_again(void **state)
{
    struct fixture *fixture = *state;
    bool ended = false;
    uint64_t old = 0;
    for (uint64_t stop = 0; !ended; stop += STRIDE) {
        memset(fixture->memory, 0, fixture->size);
        memset(fixture->view.folded, 0, fixture->size - sizeof(uint64_t) * 16);
        fixture->folded = 0;
        prepare_death(fixture);
        fold_next(fixture);
        struct single_step step;
        assert_true(single_step_begin(&step, refresh, fixture));
        while (step.executed < stop && single_step_next(&step)) {
        }
        ended = step.pid == 0;
        for (fixture->folded = 1; fixture->folded < DEATHS; fixture->folded++) {
            prepare_death(fixture);
            fold_next(fixture);
        }
        assert_true(single_step_finish(&step));
        uint64_t deaths = deaths_in(&fixture->view);
        assert_true(deaths == 1 || deaths == DEATHS);
        assert_true(!ended || deaths == 1);
        old += deaths == 1;
    }
    assert_true(old < 5); /* only at its very end had it seen enough */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_fold_is_all_or_nothing_at_every_instruction, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_reader_that_is_overtaken_looks_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
