#include "supervisor/budget.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/compile.h"

enum { ARENA_SIZE = 24 * 1024 * 1024, NOTES_SIZE = 64 * 1024, REPORT_SIZE = 16 * 1024 };

/* One compilation as the compiler process makes it, in a world of its own. */
struct run {
    uint8_t *memory;
    struct diagnostics diagnostics;
    _Alignas(max_align_t) uint8_t notes[NOTES_SIZE];
    char report[REPORT_SIZE];
    enum status status;
    struct generation generation;
    struct budget budget; /* OK only */
};

static uint64_t hard_limit; /* of descriptors, in the world of compile; 0: none */

static struct run *compile(const char *text, uint32_t cores)
{
    struct run *run = calloc(1, sizeof(*run));
    assert_non_null(run);
    run->memory = malloc(ARENA_SIZE);
    assert_non_null(run->memory);
    struct arena arena;
    struct arena notes;
    arena_init(&arena, run->memory, ARENA_SIZE);
    arena_init(&notes, run->notes, sizeof(run->notes));
    diagnostics_init(&run->diagnostics, &notes);
    struct environment environment = {
        .cores = cores, .descriptors = hard_limit, .measure = budget_measure};
    struct compile_input input = {SPAN("b.kdl"), span_of_string(text), &environment};
    struct span block = SPAN_EMPTY;
    run->status = compile_text(&input, &run->diagnostics, &arena, &block);
    FILE *stream = fmemopen(run->report, sizeof(run->report), "w");
    assert_non_null(stream);
    diagnostics_print(&run->diagnostics, stream);
    (void)fclose(stream);
    if (run->status == OK) {
        assert_true(generation_open(&run->generation, block));
        budget_init(&run->budget, &run->generation);
    }
    return run;
}

static void discard(struct run *run)
{
    free(run->memory);
    free(run);
}

static const struct generation_server *server_of(const struct run *run)
{
    return &run->generation.header->server;
}

/* The sample that is promised to users is explicit where the budget is tightest. */
static void four_workers_and_10000_connections_fit_without_a_word(void **state)
{
    (void)state;
    struct run *run = compile("server { workers 4; max-connections 10000 }", 2);
    assert_int_equal(run->status, OK);
    assert_int_equal(run->diagnostics.warnings, 0);
    assert_int_equal(server_of(run)->memory_budget, 512 * 1024 * 1024);
    assert_true(budget_bytes(&run->budget) <= server_of(run)->memory_budget);
    assert_int_equal(server_of(run)->limits.requests, 4096);
    assert_int_equal(server_of(run)->limits.buffer_pool, 32 * 1024 * 1024);
    discard(run);
}

static void defaults_fit_on_every_machine(void **state)
{
    (void)state;
    static const uint32_t cores[] = {1, 2, 4, 8, 16, 64, 128, 256, 1024};
    for (size_t i = 0; i < sizeof(cores) / sizeof(cores[0]); i++) {
        struct run *run = compile("", cores[i]);
        assert_int_equal(run->status, OK);
        assert_true(budget_bytes(&run->budget) <= server_of(run)->memory_budget);
        assert_int_equal(run->diagnostics.warnings > 0, cores[i] > 4);
        assert_true(server_of(run)->workers >= 1 && server_of(run)->workers <= cores[i]);
        assert_true(server_of(run)->limits.requests >= server_of(run)->workers);
        if (cores[i] <= 64) {
            assert_int_equal(server_of(run)->workers, cores[i]);
            assert_in_range(server_of(run)->connections, cores[i] <= 16 ? 10000 : 4000, 10000);
        }
        discard(run);
    }
}

static void what_was_lowered_is_said_with_the_figure(void **state)
{
    (void)state;
    struct run *run = compile("server { workers 16 }", 2);
    assert_int_equal(run->status, OK);
    assert_non_null(strstr(run->report, "warning: `buffer-pool` is lowered from 32MiB to "));
    assert_non_null(strstr(run->report, "`memory-budget` is 512MiB"));
    assert_null(strstr(run->report, "max-connections"));
    assert_null(strstr(run->report, "`workers`"));
    discard(run);
}

/* Whether a pool of so many MiB fits beside all that stays as it is by default. */
static bool fits(uint64_t pool, uint32_t requests)
{
    char text[160];
    (void)snprintf(text, sizeof(text),
                   "server { workers 16; max-connections 10000\n"
                   "limits { max-requests %" PRIu32 "; buffer-pool %" PRIu64 "MiB } }",
                   requests, pool);
    struct run *run = compile(text, 2);
    bool fitting = run->status == OK;
    discard(run);
    return fitting;
}

static void a_default_is_lowered_no_further_than_it_must(void **state)
{
    (void)state;
    struct run *run = compile("server { workers 16 }", 2);
    uint64_t pool = server_of(run)->limits.buffer_pool;
    uint32_t requests = server_of(run)->limits.requests;
    assert_int_equal(pool % (1024 * 1024), 0);
    pool /= 1024 * 1024;
    assert_in_range(pool, 2, 31);
    assert_in_range(requests, 1024, 4095);
    assert_true(fits(pool, requests));
    assert_false(fits(pool, requests + 16));
    discard(run);
}

static void what_is_explicit_is_never_lowered(void **state)
{
    (void)state;
    struct run *run = compile("server {\n workers 4\n max-connections 100000\n limits {\n"
                              "  buffer-pool 64MiB\n  max-requests 20000\n }\n}\n",
                              2);
    assert_int_equal(run->status, ERROR);
    assert_int_equal(run->diagnostics.warnings, 0);
    assert_non_null(strstr(run->report, "MiB of memory, `memory-budget` is 512MiB"));
    assert_non_null(strstr(run->report, "by `max-connections` (b.kdl:3)"));
    assert_non_null(strstr(run->report, "by `max-requests` (b.kdl:6)"));
    assert_non_null(strstr(run->report, "by `buffer-pool` (b.kdl:5)"));
    discard(run);
    run = compile("server {\n workers 4\n max-connections 100000\n memory-budget 4GiB\n limits {\n"
                  "  buffer-pool 64MiB\n  max-requests 20000\n }\n}\n",
                  2);
    assert_int_equal(run->status, OK);
    assert_int_equal(run->diagnostics.warnings, 0);
    discard(run);
}

static void an_explicit_budget_is_where_the_error_points(void **state)
{
    (void)state;
    struct run *run = compile("server {\n  workers 2\n  memory-budget 8MiB\n}\n", 2);
    assert_int_equal(run->status, ERROR);
    assert_non_null(strstr(run->report, "b.kdl:3:17: error: this configuration can take "));
    discard(run);
}

/* What the compiler lets through, and lowers defaults to, are limits that no process exceeds. */
static void descriptors_stay_below_the_hard_limit(void **state)
{
    (void)state;
    static const uint64_t hard_limits[] = {512, 1024, 4096, 20000, 1048576};
    static const char *const texts[] = {"", "server { workers 4 }", "server { workers 1 }"};
    for (size_t i = 0; i < sizeof(hard_limits) / sizeof(hard_limits[0]); i++) {
        for (size_t j = 0; j < sizeof(texts) / sizeof(texts[0]); j++) {
            hard_limit = hard_limits[i];
            struct run *run = compile(texts[j], 2);
            assert_int_equal(run->status, OK);
            assert_true(budget_descriptors(&run->budget) <= hard_limit);
            discard(run);
        }
    }
    hard_limit = 20000;
    struct run *run = compile("server { workers 1; max-connections 10000 }", 2);
    assert_int_equal(run->status, OK);
    assert_int_equal(run->diagnostics.warnings, 0);
    assert_true(budget_descriptors(&run->budget) <= hard_limit);
    discard(run);
    hard_limit = 0;
}

static struct run *compile_within(uint64_t descriptors, const char *text, uint32_t cores)
{
    hard_limit = descriptors;
    struct run *run = compile(text, cores);
    hard_limit = 0;
    return run;
}

static void connections_that_the_machine_cannot_carry_are_refused(void **state)
{
    (void)state;
    struct run *run = compile_within(4096, "server { workers 1; max-connections 20000 }", 1);
    assert_int_equal(run->status, ERROR);
    assert_non_null(strstr(run->report, "b.kdl:1:37: error: a worker of this configuration can "
                                        "need 2"));
    assert_non_null(strstr(run->report, " descriptors, 4096 are allowed here\n"));
    discard(run);
    /* Where many workers share them, it is a worker's share that must fit. */
    run =
        compile_within(4096, "server { workers 16; memory-budget 2GiB; max-connections 20000 }", 1);
    assert_int_equal(run->status, OK);
    assert_int_equal(run->diagnostics.warnings, 0);
    discard(run);
}

static void what_is_printed_is_what_is_held_against_the_limit(void **state)
{
    (void)state;
    const char *text = "server { workers 1; max-connections 1000; limits { splice-pipes 8; "
                       "max-upstream-connections 100; } }";
    struct run *run = compile_within(0, text, 1);
    uint64_t needed = budget_descriptors(&run->budget);
    discard(run);
    run = compile_within(needed, text, 1);
    assert_int_equal(run->status, OK);
    assert_int_equal(run->diagnostics.warnings, 0);
    discard(run);
    run = compile_within(needed - 1, text, 1);
    assert_int_equal(run->status, ERROR);
    discard(run);
}

static void descriptors_are_lowered_to_what_fits_and_half_are_left_to_clients(void **state)
{
    (void)state;
    struct run *run = compile_within(1024, "", 1);
    assert_int_equal(run->status, OK);
    assert_non_null(strstr(run->report, "warning: `max-connections` is lowered from 10000 to "));
    assert_int_equal(budget_descriptors(&run->budget), 1024);
    assert_int_equal(server_of(run)->limits.upstream_connections, 1024 / 4);
    assert_true(server_of(run)->connections > 512);
    discard(run);
}

static void a_limit_that_is_too_small_for_the_supervisor_is_told(void **state)
{
    (void)state;
    struct run *run = compile_within(150, "", 64);
    assert_int_equal(run->status, OK);
    assert_non_null(strstr(run->report, "warning: `workers` is lowered from 64 to "));
    assert_true(run->budget.supervisor_descriptors <= 150);
    discard(run);
    run = compile_within(30, "", 1);
    assert_int_equal(run->status, ERROR);
    assert_non_null(strstr(run->report, " descriptors, 30 are allowed here\n"));
    assert_int_equal(run->diagnostics.warnings, 0);
    discard(run);
}

#define LISTENER(name, port) "listener \"" name "\" { address \"127.0.0.1:" port "\" }\n"
#define ROUTE "route \"all\" { respond 200 }\n"

/* A child between fork and exec has all of the supervisor's, and copies of all its listeners. */
static void the_supervisors_descriptors_are_those_of_a_child_in_the_making(void **state)
{
    (void)state;
    struct run *run = compile("server { workers 2 }\n" LISTENER("a", "1") ROUTE, 1);
    assert_int_equal(run->status, OK);
    uint64_t one = run->budget.supervisor_descriptors;
    discard(run);
    run = compile("server { workers 3 }\n" LISTENER("a", "1") LISTENER("b", "2") ROUTE, 1);
    assert_int_equal(run->status, OK);
    assert_int_equal(run->budget.supervisor_descriptors - one, 2 + 2);
    discard(run);
}

static void the_figure_is_the_sum_of_its_rows(void **state)
{
    (void)state;
    struct run *run = compile("server { workers 3 }", 2);
    struct figure figure;
    budget_measure(&run->generation, &figure);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < figure.count; i++) {
        assert_non_null(figure.items[i].name);
        sum += figure.items[i].bytes;
    }
    assert_int_equal(sum, figure.memory);
    assert_int_equal(sum, budget_bytes(&run->budget));
    assert_int_equal(figure.descriptors, budget_descriptors(&run->budget));
    uint64_t planned = 0;
    for (uint32_t i = 0; i < 3; i++) {
        struct worker_plan plan;
        worker_plan_init(&plan, &run->generation, i);
        planned += worker_plan_bytes(&plan);
    }
    assert_true(budget_workers(&run->budget) > planned);
    assert_true(budget_one_worker(&run->budget) * 3 >= budget_workers(&run->budget));
    discard(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_workers_and_10000_connections_fit_without_a_word),
        cmocka_unit_test(defaults_fit_on_every_machine),
        cmocka_unit_test(what_was_lowered_is_said_with_the_figure),
        cmocka_unit_test(a_default_is_lowered_no_further_than_it_must),
        cmocka_unit_test(what_is_explicit_is_never_lowered),
        cmocka_unit_test(an_explicit_budget_is_where_the_error_points),
        cmocka_unit_test(descriptors_stay_below_the_hard_limit),
        cmocka_unit_test(connections_that_the_machine_cannot_carry_are_refused),
        cmocka_unit_test(what_is_printed_is_what_is_held_against_the_limit),
        cmocka_unit_test(descriptors_are_lowered_to_what_fits_and_half_are_left_to_clients),
        cmocka_unit_test(a_limit_that_is_too_small_for_the_supervisor_is_told),
        cmocka_unit_test(the_supervisors_descriptors_are_those_of_a_child_in_the_making),
        cmocka_unit_test(the_figure_is_the_sum_of_its_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
