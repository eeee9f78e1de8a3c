/* Whose turn it is, who may take one, and who has lost the right to for a while. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/prng.h"
#include "observe/commons.h"
#include "observe/health.h"
#include "upstream/balancer.h"
#include "upstream/upstream.h"

enum { SECOND = 1000 * 1000, ENDPOINTS_MAX = 4, WORKERS = 4, LEASE_TIME = 9 * SECOND };

struct fixture {
    struct generation_upstream config;
    struct generation_endpoint configs[ENDPOINTS_MAX];
    struct endpoint endpoints[ENDPOINTS_MAX];
    struct upstream upstream;
    _Atomic uint32_t words[ENDPOINTS_MAX];
    struct health_view health;
    struct tried_endpoints tried;
    _Atomic uint64_t leases[ENDPOINTS_MAX];
    struct commons commons;
};

static void make(struct fixture *fixture, const uint32_t *weights, uint32_t count)
{
    *fixture = (struct fixture){0};
    for (uint32_t i = 0; i < count; i++) {
        fixture->configs[i].weight = weights[i];
        fixture->endpoints[i] = (struct endpoint){.config = &fixture->configs[i], .index = i};
        list_init(&fixture->endpoints[i].idle);
    }
    fixture->upstream = (struct upstream){.config = &fixture->config,
                                          .balancer = &BALANCE_ROUND_ROBIN,
                                          .endpoints = fixture->endpoints,
                                          .count = count};
    fixture->commons = (struct commons){.probes = fixture->leases, .probe_count = count};
    fixture->upstream.probes =
        (struct upstream_probes){.commons = &fixture->commons, .lease_time = LEASE_TIME};
    fixture->health = (struct health_view){.words = fixture->words, .count = count};
}

static struct endpoint *pick(struct fixture *fixture, uint64_t now)
{
    return upstream_pick(&fixture->upstream, &fixture->health, &fixture->tried, false, now);
}

static uint32_t pick_index(struct fixture *fixture, uint64_t now)
{
    struct endpoint *endpoint = pick(fixture, now);
    assert_non_null(endpoint);
    return endpoint->index;
}

static void a_cycle_gives_each_its_weight_evenly_interleaved(void **state)
{
    (void)state;
    static const uint32_t EXPECTED[] = {0, 0, 1, 0, 2, 0, 0};
    struct fixture fixture;
    make(&fixture, (const uint32_t[]){5, 1, 1}, 3);
    for (uint32_t turn = 0; turn < 70; turn++) {
        assert_int_equal(pick_index(&fixture, 1), EXPECTED[turn % 7]);
    }
}

static void a_random_start_keeps_the_shares(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct fixture fixture;
        struct prng prng;
        uint32_t counts[3] = {0};
        make(&fixture, (const uint32_t[]){3, 2, 1}, 3);
        prng_init(&prng, seed);
        BALANCE_ROUND_ROBIN.start(&fixture.upstream, &prng);
        for (uint32_t turn = 0; turn < 600; turn++) {
            counts[pick_index(&fixture, 1)]++;
        }
        assert_in_range(counts[0], 297, 303);
        assert_in_range(counts[1], 197, 203);
        assert_in_range(counts[2], 97, 103);
    }
}

static void random_starts_differ_between_workers(void **state)
{
    (void)state;
    uint32_t first[2] = {0};
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct fixture fixture;
        struct prng prng;
        make(&fixture, (const uint32_t[]){1, 1}, 2);
        prng_init(&prng, seed);
        BALANCE_ROUND_ROBIN.start(&fixture.upstream, &prng);
        first[pick_index(&fixture, 1)]++;
    }
    assert_in_range(first[0], 10, 90);
}

static void who_is_down_gets_no_turn(void **state)
{
    (void)state;
    struct fixture fixture;
    make(&fixture, (const uint32_t[]){1, 1}, 2);
    fixture.words[0] = HEALTH_DOWN;
    for (uint32_t turn = 0; turn < 10; turn++) {
        assert_int_equal(pick_index(&fixture, 1), 1);
    }
    fixture.words[1] = HEALTH_DOWN;
    assert_null(pick(&fixture, 1));
    fixture.words[0] = HEALTH_UNKNOWN;
    assert_int_equal(pick_index(&fixture, 1), 0);
}

static void who_was_tried_comes_again_only_if_asked(void **state)
{
    (void)state;
    struct fixture fixture;
    make(&fixture, (const uint32_t[]){1, 1}, 2);
    tried_endpoints_add(&fixture.tried, &fixture.endpoints[0]);
    tried_endpoints_add(&fixture.tried, &fixture.endpoints[0]);
    assert_int_equal(fixture.tried.count, 1);
    assert_int_equal(pick_index(&fixture, 1), 1);
    assert_int_equal(pick_index(&fixture, 1), 1);
    tried_endpoints_add(&fixture.tried, &fixture.endpoints[1]);
    assert_null(pick(&fixture, 1));
    assert_non_null(upstream_pick(&fixture.upstream, &fixture.health, &fixture.tried, true, 1));
}

/* Fails it so often that it is ejected; returns how long for. */
static uint64_t eject(struct fixture *fixture, uint32_t index, uint64_t now)
{
    struct endpoint *endpoint = &fixture->endpoints[index];
    for (uint32_t i = 1; i < EJECTION_FAILURES; i++) {
        assert_false(upstream_note_failure(&fixture->upstream, endpoint, &fixture->health, now));
    }
    assert_true(upstream_note_failure(&fixture->upstream, endpoint, &fixture->health, now));
    return endpoint->ejected_until - now;
}

static void a_failed_probe_ejects_for_longer_up_to_a_minute(void **state)
{
    (void)state;
    static const uint64_t EXPECTED[] = {10, 20, 40, 60, 60};
    struct fixture fixture;
    uint64_t now = SECOND;
    make(&fixture, (const uint32_t[]){1, 1}, 2);
    struct endpoint *endpoint = &fixture.endpoints[0];
    (void)eject(&fixture, 0, now);
    for (size_t i = 0; i < sizeof(EXPECTED) / sizeof(EXPECTED[0]); i++) {
        uint64_t time = endpoint->ejected_until - now;
        assert_int_equal(time, EXPECTED[i] * SECOND);
        assert_int_equal(pick_index(&fixture, now), 1);
        assert_int_equal(pick_index(&fixture, now + time - 1), 1);
        now += time;
        assert_int_equal(pick_index(&fixture, now), 0); /* the probe, before all others */
        assert_true(upstream_is_probed(endpoint));
        assert_int_equal(pick_index(&fixture, now), 1); /* and only one */
        assert_int_equal(pick_index(&fixture, now), 1);
        assert_true(upstream_note_failure(&fixture.upstream, endpoint, &fixture.health, now));
    }
    now = endpoint->ejected_until;
    assert_int_equal(pick_index(&fixture, now), 0);
    upstream_note_success(&fixture.upstream, endpoint);
    assert_int_equal(fixture.upstream.ejected, 0);
    assert_int_equal(pick_index(&fixture, now) + pick_index(&fixture, now), 1);
    assert_int_equal(eject(&fixture, 0, now), 10 * SECOND);
}

/* Workers with a commons of their own, all of whom have ejected endpoint 0. */
static uint64_t eject_in_all(struct fixture *fixtures)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        make(&fixtures[i], (const uint32_t[]){1, 1}, 2);
        fixtures[i].upstream.probes.commons = &fixtures[0].commons;
        fixtures[i].upstream.probes.owner = i;
        (void)eject(&fixtures[i], 0, SECOND);
    }
    return fixtures[0].endpoints[0].ejected_until;
}

/* How many workers of those from `first` on send their next request to endpoint 0. */
static uint32_t probes(struct fixture *fixtures, uint32_t first, uint64_t now)
{
    uint32_t count = 0;
    for (uint32_t i = first; i < WORKERS; i++) {
        count += pick_index(&fixtures[i], now) == 0 ? 1 : 0;
    }
    return count;
}

static void of_all_workers_one_probes(void **state)
{
    (void)state;
    static struct fixture fixtures[WORKERS];
    uint64_t now = eject_in_all(fixtures);
    assert_int_equal(probes(fixtures, 0, now), 1);
    assert_int_equal(probes(fixtures, 0, now), 0);
    struct endpoint *endpoint = &fixtures[0].endpoints[0];
    assert_true(upstream_note_failure(&fixtures[0].upstream, endpoint, &fixtures[0].health, now));
    /* What it has learned holds for all, whose own time has passed already. */
    assert_int_equal(probes(fixtures, 0, endpoint->ejected_until - 1), 0);
    now = endpoint->ejected_until;
    assert_int_equal(probes(fixtures, 1, now), 1);
    upstream_note_success(&fixtures[1].upstream, &fixtures[1].endpoints[0]);
    assert_int_equal(probes(fixtures, 2, now), 1);
}

static void a_probe_without_a_verdict_leaves_the_next_to_anybody(void **state)
{
    (void)state;
    static struct fixture fixtures[WORKERS];
    uint64_t now = eject_in_all(fixtures);
    assert_int_equal(probes(fixtures, 0, now), 1);
    upstream_end_probe(&fixtures[0].upstream, &fixtures[0].endpoints[0]);
    assert_int_equal(probes(fixtures, 1, now), 1);
    upstream_end_probe(&fixtures[2].upstream, &fixtures[2].endpoints[0]); /* it has none */
    assert_int_equal(probes(fixtures, 2, now), 0);
}

static void a_worker_that_dies_with_a_probe_is_waited_for_no_longer_than_its_lease(void **state)
{
    (void)state;
    static struct fixture fixtures[WORKERS];
    uint64_t now = eject_in_all(fixtures);
    assert_int_equal(pick_index(&fixtures[0], now), 0);
    assert_int_equal(probes(fixtures, 1, now + LEASE_TIME - 1), 0);
    assert_int_equal(probes(fixtures, 1, now + LEASE_TIME), 1);
}

static void a_failed_probe_of_the_last_endpoint_brings_it_back(void **state)
{
    (void)state;
    struct fixture fixture;
    make(&fixture, (const uint32_t[]){1, 1}, 2);
    (void)eject(&fixture, 0, SECOND);
    uint64_t now = fixture.endpoints[0].ejected_until;
    fixture.words[1] = HEALTH_DOWN;
    assert_int_equal(pick_index(&fixture, now), 0);
    assert_false(
        upstream_note_failure(&fixture.upstream, &fixture.endpoints[0], &fixture.health, now));
    assert_int_equal(pick_index(&fixture, now), 0);
    assert_int_equal(pick_index(&fixture, now), 0);
    assert_false(upstream_is_probed(&fixture.endpoints[0]));
}

static void a_success_between_failures_starts_the_count_anew(void **state)
{
    (void)state;
    struct fixture fixture;
    make(&fixture, (const uint32_t[]){1, 1}, 2);
    for (uint32_t round = 0; round < 10; round++) {
        for (uint32_t i = 1; i < EJECTION_FAILURES; i++) {
            assert_false(upstream_note_failure(&fixture.upstream, &fixture.endpoints[0],
                                               &fixture.health, 1));
        }
        upstream_note_success(&fixture.upstream, &fixture.endpoints[0]);
    }
    assert_int_equal(fixture.endpoints[0].ejected_until, 0);
}

static void the_last_endpoint_is_never_ejected(void **state)
{
    (void)state;
    struct fixture fixture;
    make(&fixture, (const uint32_t[]){1, 1}, 2);
    (void)eject(&fixture, 0, SECOND);
    for (uint32_t i = 0; i < 20; i++) {
        assert_false(upstream_note_failure(&fixture.upstream, &fixture.endpoints[1],
                                           &fixture.health, SECOND));
    }
    assert_int_equal(pick_index(&fixture, SECOND), 1);
}

static void who_is_down_does_not_count_as_left(void **state)
{
    (void)state;
    struct fixture fixture;
    make(&fixture, (const uint32_t[]){1, 1}, 2);
    fixture.words[1] = HEALTH_DOWN;
    for (uint32_t i = 0; i < 20; i++) {
        assert_false(upstream_note_failure(&fixture.upstream, &fixture.endpoints[0],
                                           &fixture.health, SECOND));
    }
    assert_int_equal(pick_index(&fixture, SECOND), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cycle_gives_each_its_weight_evenly_interleaved),
        cmocka_unit_test(a_random_start_keeps_the_shares),
        cmocka_unit_test(random_starts_differ_between_workers),
        cmocka_unit_test(who_is_down_gets_no_turn),
        cmocka_unit_test(who_was_tried_comes_again_only_if_asked),
        cmocka_unit_test(a_failed_probe_ejects_for_longer_up_to_a_minute),
        cmocka_unit_test(of_all_workers_one_probes),
        cmocka_unit_test(a_probe_without_a_verdict_leaves_the_next_to_anybody),
        cmocka_unit_test(a_worker_that_dies_with_a_probe_is_waited_for_no_longer_than_its_lease),
        cmocka_unit_test(a_failed_probe_of_the_last_endpoint_brings_it_back),
        cmocka_unit_test(a_success_between_failures_starts_the_count_anew),
        cmocka_unit_test(the_last_endpoint_is_never_ejected),
        cmocka_unit_test(who_is_down_does_not_count_as_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
