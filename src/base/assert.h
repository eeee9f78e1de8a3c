/*
 * Assertions that stay on in release builds: they guard our own invariants, never a peer's input
 * (that is an error path with a test). A failed assertion writes one line to standard error and
 * aborts the process; the supervisor starts it anew.
 */
#ifndef SENTINEL_BASE_ASSERT_H
#define SENTINEL_BASE_ASSERT_H

#include <assert.h> /* static_assert */

_Noreturn void assert_failed(const char *expression, const char *file, int line);

#define ASSERT(expression)                                                                         \
    (__builtin_expect(!!(expression), 1) ? (void)0 : assert_failed(#expression, __FILE__, __LINE__))

/* A point that correct code cannot reach, such as the default of an exhaustive switch. */
#define UNREACHABLE(why) assert_failed(why, __FILE__, __LINE__)

#endif
