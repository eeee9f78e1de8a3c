/*
 * The board of a worker that dies between any two instructions, as the other workers see it until
 * they hear of the death: no count that nobody ever had, no search without an end, no look beyond
 * the board; and nothing of it once the board is gone.
 */
#include "proxy/client_board.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "single_step.h"

enum { CLIENTS = 12, CONNECTIONS_MAX = 16, ROUNDS = 60 };

static const struct hash_key KEY = {17, 4};

struct fixture {
    struct generation_header header;
    struct generation generation;
    void *memory; /* the dying worker's board, shared */
    size_t size;
    struct client_counts owner;
    const void *boards[2]; /* what the observer looks at */
    void *own_board;
    struct client_counts observer;
    uint32_t counted[CLIENTS];
    uint32_t open;
    uint32_t changing; /* the client whose count changes */
    bool enters;
};

static struct address client(uint32_t number)
{
    return (struct address){.family = ADDRESS_IPV4, .port = 1, .ip = {10, 0, 0, (uint8_t)number}};
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->header.server.connections = CONNECTIONS_MAX;
    fixture->generation.header = &fixture->header;
    fixture->size = client_board_size(&fixture->generation);
    fixture->memory = single_step_shared(fixture->size);
    fixture->own_board = calloc(1, fixture->size);
    assert_non_null(fixture->memory);
    assert_non_null(fixture->own_board);
    struct client_peers alone = {fixture->boards, 0};
    struct client_peers peers = {fixture->boards, 2};
    client_counts_init(&fixture->owner, &fixture->generation, fixture->memory, &KEY, &alone);
    client_counts_init(&fixture->observer, &fixture->generation, fixture->own_board, &KEY, &peers);
    fixture->boards[0] = fixture->own_board;
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    single_step_unshare(fixture->memory, fixture->size);
    free(fixture->own_board);
    free(fixture);
    return 0;
}

static void change(void *context)
{
    struct fixture *fixture = context;
    struct address address = client(fixture->changing);
    if (fixture->enters) {
        client_counts_enter(&fixture->owner, &address);
    } else {
        client_counts_leave(&fixture->owner, &address);
    }
}

/* Whether somebody has so many connections, before the change or after it. */
static bool somebody_has(const struct fixture *fixture, uint64_t count)
{
    bool found = count == 0;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        uint32_t own = fixture->counted[i];
        uint32_t after = i != fixture->changing ? own : fixture->enters ? own + 1 : own - 1;
        found |= count == own || count == after;
    }
    return found;
}

static void look_at_the_board(void *context, void *remains)
{
    struct fixture *fixture = context;
    fixture->boards[1] = remains;
    uint64_t elsewhere = client_counts_elsewhere(&fixture->observer);
    uint32_t after = fixture->enters ? fixture->open + 1 : fixture->open - 1;
    assert_true(elsewhere == fixture->open || elsewhere == after);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct address address = client(i);
        uint64_t count = client_counts_of(&fixture->observer, &address);
        assert_true(somebody_has(fixture, count));
        wrong += i != fixture->changing && count != fixture->counted[i];
        assert_true(!fixture->enters || wrong == 0); /* only a removal moves others */
    }
    assert_true(wrong <= 1);
    fixture->boards[1] = NULL; /* its end was told */
    assert_int_equal(client_counts_elsewhere(&fixture->observer), 0);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct address address = client(i);
        assert_int_equal(client_counts_of(&fixture->observer, &address), 0);
    }
}

static void a_worker_killed_at_any_instruction_leaves_no_strange_count(void **state)
{
    struct fixture *fixture = *state;
    uint32_t removals = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        fixture->changing = (round * 5) % CLIENTS;
        uint32_t *counted = &fixture->counted[fixture->changing];
        fixture->enters = *counted == 0 || (round % 3 == 0 && round < ROUNDS / 2);
        removals += !fixture->enters && *counted == 1;
        struct crash_walk walk = {.run = change,
                                  .check = look_at_the_board,
                                  .context = fixture,
                                  .memory = fixture->memory,
                                  .size = fixture->size};
        /* The child changes its own copy of the private state, and the shared board for good. */
        void *before = malloc(fixture->size);
        assert_non_null(before);
        memcpy(before, fixture->memory, fixture->size);
        assert_true(crash_walk(&walk));
        assert_true(walk.points >= 3);
        memcpy(fixture->memory, before, fixture->size);
        free(before);
        change(fixture);
        *counted += fixture->enters ? 1 : -1U;
        fixture->open += fixture->enters ? 1 : -1U;
    }
    assert_true(removals > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_worker_killed_at_any_instruction_leaves_no_strange_count,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
