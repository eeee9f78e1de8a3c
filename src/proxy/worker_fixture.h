/*
 * For tests: everything that a worker borrows (worker.h), made from a configuration, for whichever
 * backend of io.h it is to run on. Nothing here is linked into a process.
 */
#ifndef SENTINEL_PROXY_WORKER_FIXTURE_H
#define SENTINEL_PROXY_WORKER_FIXTURE_H

#include "config/compile_fixture.h"
#include "observe/access_log.h"
#include "observe/commons.h"
#include "observe/flight_recorder.h"
#include "observe/health.h"
#include "observe/metrics.h"
#include "proxy/worker.h"

struct worker_fixture {
    struct fixture_generation compiled;
    struct metrics metrics;
    struct access_log log;
    struct health_view health;
    struct flight_recorder flight; /* records nothing */
    void *cells;
    void *ring;
    void *board;
    void *commons;
};

/* Zeroed and aligned as shared memory is. */
static inline void *worker_fixture_shared(size_t size)
{
    size_t whole = (size + 63) / 64 * 64;
    void *memory = aligned_alloc(64, whole);
    assert_non_null(memory);
    memset(memory, 0, whole);
    return memory;
}

static inline void worker_fixture_init(struct worker_fixture *fixture, const char *text)
{
    *fixture = (struct worker_fixture){0};
    fixture_compile(&fixture->compiled, text);
    const struct generation *generation = &fixture->compiled.generation;
    fixture->cells = worker_fixture_shared(metrics_size(generation));
    fixture->ring = worker_fixture_shared(access_log_size(generation));
    fixture->board = worker_fixture_shared(client_board_size(generation));
    fixture->commons = worker_fixture_shared(commons_size(generation));
    metrics_init(&fixture->metrics, fixture->cells, generation);
    access_log_init(&fixture->log, fixture->ring, 1, &fixture->metrics, generation);
    health_view_init(&fixture->health, NULL, generation);
}

static inline void worker_fixture_deinit(struct worker_fixture *fixture)
{
    free(fixture->cells);
    free(fixture->ring);
    free(fixture->board);
    free(fixture->commons);
    fixture_free(&fixture->compiled);
}

/* The worker of this index; the listeners are borrowed until it is destroyed. */
static inline struct worker *worker_fixture_create(struct worker_fixture *fixture, struct io *io,
                                                   const int *listeners, uint32_t index)
{
    const struct worker_options options = {
        .io = io,
        .generation = &fixture->compiled.generation,
        .listeners = listeners,
        .metrics = &fixture->metrics,
        .access_log = &fixture->log,
        .health = &fixture->health,
        .board = fixture->board,
        .commons = fixture->commons,
        .flight = &fixture->flight,
        .index = index,
    };
    struct worker *worker = worker_create(&options);
    assert_non_null(worker);
    return worker;
}

#endif
