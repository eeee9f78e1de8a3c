/*
 * Kills a process between any two instructions, for tests of memory that is shared between
 * processes: what a writer that dies there leaves behind must be sound for whoever comes next.
 *
 * A function runs in a forked child, one instruction at a time (ptrace), and its stores go to
 * shared memory; the test, in the parent, looks at that memory while the child stands still. A kill
 * changes no memory, so "the child is killed here" and "the child stands here" look the same from
 * outside, and one walk through the function visits all places where it could have died. How to use
 * it:
 *
 *     void *segment = single_step_shared(size);       // shared with the child, zeroed
 *     ...init the writer's end in it...
 *     struct crash_walk walk = {.run = change,        // the operation, in the child
 *                               .check = judge,       // the successor or reader, in the parent
 *                               .context = &test, .memory = segment, .size = size};
 *     assert_true(crash_walk(&walk));                 // walked from the first instruction to the
 * end assert_true(walk.points > 2);                   // and the operation did store something
 *     single_step_unshare(segment, size);
 *
 * judge(context, remains) is called for the memory before the first instruction and then after each
 * instruction that changed it. `remains` is a copy (aligned to 64) that it may write to as a
 * successor would. It may assert with cmocka's macros. Private state of the writer (struct
 * ring_writer and the like) changes in the child only: whoever needs it in the parent keeps it in
 * the shared memory, too, beyond walk.size.
 *
 * To put two processes between each other's instructions (a reader that a writer overtakes), step
 * by hand: single_step_begin, single_step_next n times, act in the parent, then single_step_finish.
 *
 * Test processes only; one child at a time. Bound: SINGLE_STEP_MAX instructions a walk. Each costs
 * some microseconds, so keep operations below some ten thousand of them.
 */
#ifndef SENTINEL_TESTS_CRASH_POINTS_SINGLE_STEP_H
#define SENTINEL_TESTS_CRASH_POINTS_SINGLE_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SINGLE_STEP_MAX = 4 * 1000 * 1000 };

/* A child that stands still between two instructions. */
struct single_step {
    pid_t pid;         /* 0: it has ended */
    bool failed;       /* it ended otherwise than by returning: it crashed or an assertion failed */
    uint64_t executed; /* instructions so far */
};

/*
 * Forks a child that is about to call run(context). False: the system allows no tracing or no
 * process; nothing was started.
 */
bool single_step_begin(struct single_step *step, void (*run)(void *context), void *context);

/* Executes one instruction. False: the function has returned, or failed; the child has ended. */
bool single_step_next(struct single_step *step);

/* Lets the child go on to its end. True when the function returned. */
bool single_step_finish(struct single_step *step);

/* Kills the child where it stands. Harmless when it has ended. */
void single_step_kill(struct single_step *step);

/* Zeroed memory that parent and children share, aligned to a page; NULL: none to be had. */
void *single_step_shared(size_t size);
void single_step_unshare(void *memory, size_t size);

struct crash_walk {
    void (*run)(void *context);
    void (*check)(void *context, void *remains);
    void *context;
    const void *memory; /* shared, at `size` bytes; what run() changes and check() judges */
    size_t size;
    /* Told by the walk: */
    uint64_t instructions;
    uint64_t points; /* different states of the memory that were judged */
};

/*
 * Walks through run() as told above. False: it could not be started, did not return within
 * SINGLE_STEP_MAX instructions, or failed.
 */
bool crash_walk(struct crash_walk *walk);

#endif
