/*
 * For the tests of this folder, beside a compiled generation: cells and words of memory of the
 * right sizes. Everything is asserted; nothing here is linked into a process.
 */
#ifndef SENTINEL_CONTROL_CONTROL_FIXTURE_H
#define SENTINEL_CONTROL_CONTROL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "config/compile_fixture.h"
#include "observe/health.h"
#include "observe/metrics.h"

/* Zeroed memory, aligned as a segment's region is. */
static inline void *fixture_region(size_t size)
{
    void *memory = aligned_alloc(64, (size + 64) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0, (size + 64) / 64 * 64);
    return memory;
}

#endif
