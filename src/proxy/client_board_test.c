#include "proxy/client_board.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

enum { WORKERS = 4, CLIENTS = 40 };

/* Workers as their processes hold them: a board each, and a list of all boards. */
struct fixture {
    struct generation_header header;
    struct generation generation;
    const void *boards[WORKERS];
    void *memory[WORKERS];
    struct client_counts counts[WORKERS];
};

static const struct hash_key key = {17, 4};

static struct fixture *begin(uint32_t max_connections)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->header.server.connections = max_connections;
    fixture->generation.header = &fixture->header;
    struct client_peers peers = {fixture->boards, WORKERS};
    for (int i = 0; i < WORKERS; i++) {
        /* Exactly so large: the sanitizer sees whoever reads further. */
        fixture->memory[i] = calloc(1, client_board_size(&fixture->generation));
        assert_non_null(fixture->memory[i]);
        fixture->boards[i] = fixture->memory[i];
        client_counts_init(&fixture->counts[i], &fixture->generation, fixture->memory[i], &key,
                           &peers);
    }
    return fixture;
}

static void end(struct fixture *fixture)
{
    for (int i = 0; i < WORKERS; i++) {
        free(fixture->memory[i]);
    }
    free(fixture);
}

static struct address client(uint32_t number)
{
    return (struct address){.family = ADDRESS_IPV4,
                            .port = (uint16_t)(1024 + number),
                            .ip = {10, 0, (uint8_t)(number >> 8), (uint8_t)number}};
}

static bool is_zero(const void *memory, size_t size)
{
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

struct model {
    uint32_t counts[WORKERS][CLIENTS];
    uint32_t totals[WORKERS];
};

static void compare(const struct fixture *fixture, const struct model *model, uint32_t number)
{
    uint64_t of_client = 0;
    uint64_t total = 0;
    uint32_t least = UINT32_MAX; /* of the others of worker 0 */
    for (int i = 0; i < WORKERS; i++) {
        of_client += model->counts[i][number];
        total += model->totals[i];
        least = i > 0 && model->totals[i] < least ? model->totals[i] : least;
        assert_int_equal(client_board_connections(fixture->boards[i]), model->totals[i]);
    }
    struct address address = client(number);
    for (int i = 0; i < WORKERS; i++) {
        const struct client_counts *counts = &fixture->counts[i];
        assert_int_equal(client_counts_of(counts, &address), of_client);
        assert_int_equal(client_counts_elsewhere(counts), total - model->totals[i]);
    }
    assert_false(client_counts_any_below(&fixture->counts[0], least));
    assert_true(client_counts_any_below(&fixture->counts[0], least + 1));
}

static void sums_are_those_of_a_model(void **state)
{
    (void)state;
    struct fixture *fixture = begin(CLIENTS); /* so that boards get as full as they may */
    struct model model = {0};
    struct prng prng;
    prng_init(&prng, 1);
    for (int step = 0; step < 200 * 1000; step++) {
        uint32_t worker = prng_below(&prng, WORKERS);
        uint32_t number = prng_below(&prng, CLIENTS);
        struct address address = client(number);
        address.port = (uint16_t)step;
        bool grows = prng_below(&prng, 100) < (step / 2000 % 2 == 0 ? 70U : 30U);
        if (grows && model.totals[worker] < CLIENTS) {
            client_counts_enter(&fixture->counts[worker], &address);
            model.counts[worker][number]++;
            model.totals[worker]++;
        } else if (!grows && model.counts[worker][number] > 0) {
            client_counts_leave(&fixture->counts[worker], &address);
            model.counts[worker][number]--;
            model.totals[worker]--;
        }
        compare(fixture, &model, prng_below(&prng, CLIENTS));
    }
    for (int i = 0; i < WORKERS; i++) {
        for (uint32_t number = 0; number < CLIENTS; number++) {
            struct address address = client(number);
            for (; model.counts[i][number] > 0; model.counts[i][number]--) {
                client_counts_leave(&fixture->counts[i], &address);
            }
        }
        assert_int_equal(fixture->counts[i].used, 0);
        assert_true(is_zero(fixture->memory[i], client_board_size(&fixture->generation)));
    }
    end(fixture);
}

static void a_full_board_of_different_clients_finds_each(void **state)
{
    (void)state;
    enum { FULL = 20000 };
    struct fixture *fixture = begin(FULL);
    for (uint32_t i = 0; i < FULL; i++) {
        struct address address = client(i);
        client_counts_enter(&fixture->counts[0], &address);
    }
    for (uint32_t i = 0; i < FULL; i++) {
        struct address address = client(i);
        assert_int_equal(client_counts_of(&fixture->counts[1], &address), 1);
    }
    struct address other = client(FULL);
    assert_int_equal(client_counts_of(&fixture->counts[1], &other), 0);
    end(fixture);
}

static void ipv6_clients_are_counted_by_their_network(void **state)
{
    (void)state;
    struct fixture *fixture = begin(100);
    struct address first = {.family = ADDRESS_IPV6, .ip = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 1}};
    struct address second = first;
    second.ip[15] = 9;
    second.port = 99;
    struct address neighbour = first;
    neighbour.ip[7] = 2;
    client_counts_enter(&fixture->counts[0], &first);
    client_counts_enter(&fixture->counts[1], &second);
    assert_int_equal(client_counts_of(&fixture->counts[2], &first), 2);
    assert_int_equal(client_counts_of(&fixture->counts[2], &neighbour), 0);
    struct address four = {.family = ADDRESS_IPV4, .ip = {10, 0, 0, 1}};
    struct address four_neighbour = {.family = ADDRESS_IPV4, .ip = {10, 0, 0, 2}};
    client_counts_enter(&fixture->counts[0], &four);
    assert_int_equal(client_counts_of(&fixture->counts[0], &four_neighbour), 0);
    end(fixture);
}

static void counts_go_with_their_worker(void **state)
{
    (void)state;
    struct fixture *fixture = begin(100);
    struct address address = client(1);
    client_counts_enter(&fixture->counts[0], &address);
    client_counts_enter(&fixture->counts[1], &address);
    client_counts_enter(&fixture->counts[1], &address);
    assert_int_equal(client_counts_of(&fixture->counts[0], &address), 3);
    assert_int_equal(client_counts_elsewhere(&fixture->counts[0]), 2);
    fixture->boards[1] = NULL;
    assert_int_equal(client_counts_of(&fixture->counts[0], &address), 1);
    assert_int_equal(client_counts_elsewhere(&fixture->counts[0]), 0);
    fixture->boards[2] = fixture->boards[3] = NULL;
    assert_false(client_counts_any_below(&fixture->counts[0], 100)); /* nobody else is there */
    end(fixture);
}

static void without_peers_only_the_own_count(void **state)
{
    (void)state;
    struct fixture *fixture = begin(100);
    struct client_peers none = {NULL, 0};
    client_counts_init(&fixture->counts[0], &fixture->generation, fixture->memory[0], &key, &none);
    struct address address = client(1);
    client_counts_enter(&fixture->counts[0], &address);
    assert_int_equal(client_counts_of(&fixture->counts[0], &address), 1);
    assert_int_equal(client_counts_elsewhere(&fixture->counts[0]), 0);
    end(fixture);
}

/* Every cell taken by somebody, every count the largest. */
static void deface(struct client_board *board, size_t size, uint64_t tag)
{
    size_t cells = (size - sizeof(*board)) / sizeof(board->cells[0]);
    atomic_store(&board->connections, UINT32_MAX);
    for (size_t i = 0; i < cells; i++) {
        atomic_store(&board->cells[i].tag, tag);
        atomic_store(&board->cells[i].count, UINT32_MAX);
    }
}

static void nothing_on_anothers_board_is_trusted(void **state)
{
    (void)state;
    struct fixture *fixture = begin(1000);
    size_t size = client_board_size(&fixture->generation);
    struct address address = client(1);
    client_counts_enter(&fixture->counts[0], &address);
    const struct client_board *own = fixture->memory[0];
    uint64_t tag = 0;
    for (size_t i = 0; tag == 0; i++) {
        tag = own->cells[i].tag;
    }
    for (int i = 1; i < WORKERS; i++) {
        deface(fixture->memory[i], size, tag);
    }
    uint64_t most = (uint64_t)UINT32_MAX * (WORKERS - 1);
    assert_int_equal(client_counts_elsewhere(&fixture->counts[0]), most);
    assert_int_equal(client_counts_of(&fixture->counts[0], &address), most + 1);
    for (int i = 1; i < WORKERS; i++) {
        deface(fixture->memory[i], size, tag + 1); /* no free cell, never the tag */
    }
    for (uint32_t i = 2; i < 3000; i++) { /* from every home, round the end of the memory */
        struct address other = client(i);
        assert_int_equal(client_counts_of(&fixture->counts[0], &other), 0);
    }
    assert_int_equal(client_counts_of(&fixture->counts[0], &address), 1);
    /* The own counts are not touched by any of this. */
    client_counts_leave(&fixture->counts[0], &address);
    assert_true(is_zero(fixture->memory[0], size));
    end(fixture);
}

/* One worker in a race: counts connections of one client while the limit allows. */
struct racer {
    pthread_t thread;
    pthread_barrier_t *start;
    struct client_counts *counts;
    uint32_t limit;
};

static void *race(void *context)
{
    struct racer *racer = context;
    struct address address = client(7);
    struct client_counts *counts = racer->counts;
    (void)pthread_barrier_wait(racer->start);
    while (counts->connections + client_counts_elsewhere(counts) < racer->limit &&
           client_counts_of(counts, &address) < racer->limit) {
        client_counts_enter(counts, &address);
    }
    return NULL;
}

static void a_race_overshoots_by_one_for_each_other_worker_at_most(void **state)
{
    (void)state;
    enum { ROUNDS = 300, LIMIT = 50 };
    for (int round = 0; round < ROUNDS; round++) {
        struct fixture *fixture = begin(LIMIT);
        pthread_barrier_t start;
        assert_int_equal(pthread_barrier_init(&start, NULL, WORKERS), 0);
        struct racer racers[WORKERS];
        for (int i = 0; i < WORKERS; i++) {
            racers[i] =
                (struct racer){.start = &start, .counts = &fixture->counts[i], .limit = LIMIT};
            assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
        }
        for (int i = 0; i < WORKERS; i++) {
            assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
        }
        struct address address = client(7);
        uint64_t sum = client_counts_of(&fixture->counts[0], &address);
        assert_in_range(sum, LIMIT, LIMIT + WORKERS - 1);
        (void)pthread_barrier_destroy(&start);
        end(fixture);
    }
}

/* Churns clients on its board until told to stop; one of them stays. */
struct churner {
    struct client_counts *counts;
    _Atomic bool stop;
};

static void *churn(void *context)
{
    struct churner *churner = context;
    struct prng prng;
    prng_init(&prng, 2);
    uint32_t held[CLIENTS] = {0};
    while (!atomic_load_explicit(&churner->stop, memory_order_relaxed)) {
        uint32_t number = 1 + prng_below(&prng, CLIENTS - 1);
        struct address address = client(number);
        if (held[number] == 0) {
            client_counts_enter(churner->counts, &address);
        } else {
            client_counts_leave(churner->counts, &address);
        }
        held[number] = 1 - held[number];
    }
    return NULL;
}

static void readers_of_a_changing_board_miss_little(void **state)
{
    (void)state;
    enum { READS = 200 * 1000, STAYS = 5 };
    struct fixture *fixture = begin(CLIENTS + STAYS);
    struct address address = client(0);
    for (int i = 0; i < STAYS; i++) {
        client_counts_enter(&fixture->counts[0], &address);
    }
    struct churner churner = {.counts = &fixture->counts[0]};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, churn, &churner), 0);
    uint32_t right = 0;
    for (int i = 0; i < READS; i++) {
        uint64_t seen = client_counts_of(&fixture->counts[1], &address);
        assert_true(seen == STAYS || seen <= 1); /* missed, or a neighbour's */
        right += seen == STAYS ? 1 : 0;
    }
    atomic_store(&churner.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_in_range(right, READS / 100 * 95, READS);
    assert_int_equal(client_counts_of(&fixture->counts[1], &address), STAYS);
    end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_a_model),
        cmocka_unit_test(a_full_board_of_different_clients_finds_each),
        cmocka_unit_test(ipv6_clients_are_counted_by_their_network),
        cmocka_unit_test(counts_go_with_their_worker),
        cmocka_unit_test(without_peers_only_the_own_count),
        cmocka_unit_test(nothing_on_anothers_board_is_trusted),
        cmocka_unit_test(a_race_overshoots_by_one_for_each_other_worker_at_most),
        cmocka_unit_test(readers_of_a_changing_board_miss_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
