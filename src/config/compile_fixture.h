/*
 * For tests: a generation compiled from a text, for a machine with one processor. Whatever is wrong
 * is printed and asserted; nothing here is linked into a process.
 */
#ifndef SENTINEL_CONFIG_COMPILE_FIXTURE_H
#define SENTINEL_CONFIG_COMPILE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/compile.h"

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

#endif
