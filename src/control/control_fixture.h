/*
 * For the tests of this folder: a generation compiled from a text, and cells and words of memory of
 * the right sizes. Everything is asserted; nothing here is linked into a process.
 */
#ifndef SENTINEL_CONTROL_CONTROL_FIXTURE_H
#define SENTINEL_CONTROL_CONTROL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "config/compile.h"
#include "observe/health.h"
#include "observe/metrics.h"

enum { FIXTURE_ARENA_SIZE = 8 * 1024 * 1024 };

struct fixture_generation {
    void *memory;
    void *notes;
    struct generation generation;
};

static inline void fixture_compile(struct fixture_generation *fixture, const char *text)
{
    fixture->memory = malloc(FIXTURE_ARENA_SIZE);
    fixture->notes = malloc(COMPILE_DIAGNOSTICS_ARENA_SIZE);
    assert_non_null(fixture->memory);
    assert_non_null(fixture->notes);
    struct arena arena;
    struct arena notes;
    struct diagnostics *diagnostics = malloc(sizeof(*diagnostics));
    assert_non_null(diagnostics);
    arena_init(&arena, fixture->memory, FIXTURE_ARENA_SIZE);
    arena_init(&notes, fixture->notes, COMPILE_DIAGNOSTICS_ARENA_SIZE);
    diagnostics_init(diagnostics, &notes);
    struct environment environment = {.cores = 1};
    struct compile_input input = {SPAN("test.kdl"), span_of_string(text), &environment};
    struct span block = SPAN_EMPTY;
    enum status status = compile_text(&input, diagnostics, &arena, &block);
    if (status != OK) {
        diagnostics_print(diagnostics, stderr);
    }
    free(diagnostics);
    assert_int_equal(status, OK);
    assert_true(generation_open(&fixture->generation, block));
}

static inline void fixture_free(struct fixture_generation *fixture)
{
    free(fixture->memory);
    free(fixture->notes);
}

/* Zeroed memory, aligned as a segment's region is. */
static inline void *fixture_region(size_t size)
{
    void *memory = aligned_alloc(64, (size + 64) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0, (size + 64) / 64 * 64);
    return memory;
}

#endif
