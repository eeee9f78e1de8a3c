/* What all workers write: each word by itself, by whoever comes, and whatever stands there. */
#include "observe/commons.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/prng.h"
#include "observe/probe_lease.h"

enum { SECOND = 1000 * 1000, ENDPOINTS = 9, THREADS = 4, ROUNDS = 20000 };

struct fixture {
    struct generation_header header;
    struct generation generation;
    void *memory;
    struct commons commons;
};

static struct fixture *begin(uint32_t rate)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->header.endpoints.count = ENDPOINTS;
    fixture->header.server.connections = 100;
    fixture->header.server.limits.request_rate = rate;
    fixture->generation.header = &fixture->header;
    /* Exactly so large: the sanitizer sees whoever reads further. */
    size_t size = commons_size(&fixture->generation);
    fixture->memory = aligned_alloc(64, size);
    assert_non_null(fixture->memory);
    memset(fixture->memory, 0, size);
    commons_init(&fixture->commons, fixture->memory, &fixture->generation);
    return fixture;
}

static void end(struct fixture *fixture)
{
    free(fixture->memory);
    free(fixture);
}

static bool take(const struct fixture *fixture, uint32_t owner, uint64_t now, uint64_t *lease)
{
    return probe_lease_take(&fixture->commons, ENDPOINTS - 1, owner, now, SECOND, lease);
}

static void a_table_of_rates_exists_only_with_a_rate(void **state)
{
    (void)state;
    struct fixture *without = begin(0);
    struct fixture *with = begin(1);
    assert_int_equal(without->commons.rate_cells, 0);
    assert_true(with->commons.rate_cells >= 200);
    assert_true(commons_size(&with->generation) > commons_size(&without->generation));
    end(without);
    end(with);
}

static void only_one_holds_a_lease(void **state)
{
    (void)state;
    struct fixture *fixture = begin(0);
    uint64_t lease = 0;
    uint64_t other = 0;
    assert_true(take(fixture, 0, 5, &lease));
    assert_false(take(fixture, 1, 5, &other));
    assert_false(take(fixture, 0, 5, &other));
    assert_int_equal(other, 0);
    probe_lease_free(&fixture->commons, ENDPOINTS - 1, lease);
    assert_true(take(fixture, 1, 6, &other));
    end(fixture);
}

static void the_lease_of_the_dead_expires(void **state)
{
    (void)state;
    struct fixture *fixture = begin(0);
    uint64_t dead = 0;
    uint64_t lease = 0;
    assert_true(take(fixture, 0, 5, &dead));
    assert_false(take(fixture, 1, 5 + SECOND - 1, &lease));
    assert_true(take(fixture, 1, 5 + SECOND, &lease));
    /* Not dead, only slow: what it says now of a lease that is another's has no effect. */
    probe_lease_free(&fixture->commons, ENDPOINTS - 1, dead);
    probe_lease_ban(&fixture->commons, ENDPOINTS - 1, dead, 100 * SECOND);
    assert_false(take(fixture, 2, 6 + SECOND, &dead));
    end(fixture);
}

static void a_ban_holds_for_all_until_its_time(void **state)
{
    (void)state;
    struct fixture *fixture = begin(0);
    uint64_t lease = 0;
    assert_true(take(fixture, 3, 5, &lease));
    probe_lease_ban(&fixture->commons, ENDPOINTS - 1, lease, 20 * SECOND);
    for (uint32_t owner = 0; owner < 5; owner++) {
        assert_false(take(fixture, owner, 20 * SECOND - 1, &lease));
    }
    assert_true(take(fixture, 4, 20 * SECOND, &lease));
    end(fixture);
}

static void a_lease_ends_even_if_it_was_wanted_for_longer(void **state)
{
    (void)state;
    struct fixture *fixture = begin(0);
    uint64_t lease = 0;
    assert_true(probe_lease_take(&fixture->commons, 0, 1, 5, UINT64_MAX, &lease));
    assert_false(probe_lease_take(&fixture->commons, 0, 2, 4 + PROBE_LEASE_MAX, 1, &lease));
    assert_true(probe_lease_take(&fixture->commons, 0, 2, 5 + PROBE_LEASE_MAX, 1, &lease));
    end(fixture);
}

static void no_word_keeps_an_endpoint_from_being_tried_for_longer_than_a_lease(void **state)
{
    (void)state;
    struct fixture *fixture = begin(0);
    struct prng prng;
    prng_init(&prng, 1);
    for (int i = 0; i < 10000; i++) {
        uint64_t lease = 0;
        uint64_t now = 1 + prng_below(&prng, UINT32_MAX);
        atomic_store(fixture->commons.probes + ENDPOINTS - 1, prng_next(&prng));
        if (!take(fixture, 1, now, &lease)) {
            assert_true(take(fixture, 1, now + PROBE_LEASE_MAX, &lease));
        }
    }
    end(fixture);
}

static void borrowing_is_believed_for_a_while(void **state)
{
    (void)state;
    struct fixture *fixture = begin(0);
    const struct commons *commons = &fixture->commons;
    assert_false(commons_is_borrowing(commons, 7));
    commons_note_borrowing(commons, 7);
    assert_true(commons_is_borrowing(commons, 7));
    assert_true(commons_is_borrowing(commons, 6 + COMMONS_BORROWING_TIME));
    assert_false(commons_is_borrowing(commons, 7 + COMMONS_BORROWING_TIME));
    commons_note_borrowing(commons, 4 * SECOND);
    assert_true(commons_is_borrowing(commons, 3 * SECOND + COMMONS_BORROWING_TIME));
    /* Nobody can speak for longer. */
    atomic_store(commons->borrowing, UINT64_MAX);
    assert_false(commons_is_borrowing(commons, 8));
    commons_note_borrowing(commons, 8);
    assert_true(commons_is_borrowing(commons, 8));
    end(fixture);
}

struct racer {
    const struct fixture *fixture;
    pthread_barrier_t *start;
    _Atomic uint32_t *inside; /* holders at this moment */
    uint32_t owner;
    uint32_t taken;
    bool shared; /* two held it at once */
};

static void *race(void *context)
{
    struct racer *racer = context;
    (void)pthread_barrier_wait(racer->start);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t lease = 0;
        if (take(racer->fixture, racer->owner, SECOND, &lease)) {
            racer->taken++;
            racer->shared |= atomic_fetch_add(racer->inside, 1) != 0;
            (void)atomic_fetch_sub(racer->inside, 1);
            probe_lease_free(&racer->fixture->commons, ENDPOINTS - 1, lease);
        }
    }
    return NULL;
}

static void of_many_who_ask_at_once_one_gets_it(void **state)
{
    (void)state;
    struct fixture *fixture = begin(0);
    struct racer racers[THREADS];
    pthread_t threads[THREADS];
    pthread_barrier_t start;
    _Atomic uint32_t inside = 0;
    uint32_t taken = 0;
    assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        racers[i] =
            (struct racer){.fixture = fixture, .start = &start, .inside = &inside, .owner = i};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(racers[i].shared);
        taken += racers[i].taken;
    }
    assert_true(taken > 0);
    assert_int_equal(atomic_load(fixture->commons.probes + ENDPOINTS - 1), 0);
    assert_int_equal(pthread_barrier_destroy(&start), 0);
    end(fixture);
}

static void the_memory_is_the_same_for_all_who_map_it_and_cannot_shrink(void **state)
{
    (void)state;
    struct fixture *fixture = begin(10);
    int fd = commons_create(&fixture->generation);
    assert_true(fd >= 0);
    void *maps[2];
    struct commons views[2];
    for (int i = 0; i < 2; i++) {
        maps[i] = commons_map(fd, &fixture->generation);
        assert_non_null(maps[i]);
        commons_init(&views[i], maps[i], &fixture->generation);
    }
    uint64_t lease = 0;
    assert_true(probe_lease_take(&views[0], 2, 0, 5, SECOND, &lease));
    assert_false(probe_lease_take(&views[1], 2, 1, 5, SECOND, &lease));
    assert_int_not_equal(ftruncate(fd, 0), 0);
    fixture->header.server.connections = 100000; /* another generation's */
    assert_null(commons_map(fd, &fixture->generation));
    assert_int_equal(errno, EINVAL);
    fixture->header.server.connections = 100;
    commons_unmap(maps[0], &fixture->generation);
    commons_unmap(maps[1], &fixture->generation);
    commons_unmap(NULL, &fixture->generation);
    assert_int_equal(close(fd), 0);
    int loose = memfd_create("loose", MFD_CLOEXEC);
    assert_int_equal(ftruncate(loose, (off_t)commons_size(&fixture->generation)), 0);
    assert_null(commons_map(loose, &fixture->generation));
    assert_int_equal(close(loose), 0);
    end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_of_rates_exists_only_with_a_rate),
        cmocka_unit_test(only_one_holds_a_lease),
        cmocka_unit_test(the_lease_of_the_dead_expires),
        cmocka_unit_test(a_ban_holds_for_all_until_its_time),
        cmocka_unit_test(a_lease_ends_even_if_it_was_wanted_for_longer),
        cmocka_unit_test(no_word_keeps_an_endpoint_from_being_tried_for_longer_than_a_lease),
        cmocka_unit_test(borrowing_is_believed_for_a_while),
        cmocka_unit_test(of_many_who_ask_at_once_one_gets_it),
        cmocka_unit_test(the_memory_is_the_same_for_all_who_map_it_and_cannot_shrink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
