/*
 * Faults in turn: a sweep takes one seed of a scenario and lets each allocation and each call of
 * the code under test fail, one a run. The run is forked at every point where something could
 * fail: the child goes on with that failure, the parent without. So each failure meets the very
 * state that the run had reached, and nothing is replayed.
 *
 * Allocations are caught at link time (--wrap, see CMakeLists.txt), calls by sim_options.fault. The
 * shipped code knows nothing of either.
 */
#ifndef SENTINEL_TESTS_SIM_FAULT_H
#define SENTINEL_TESTS_SIM_FAULT_H

#include <stdbool.h>

#include "run.h"

enum fault_stage {
    FAULTS_NONE,     /* the code that runs is a test's own */
    FAULTS_AT_START, /* of a process: malloc, calloc, mmap, listen */
    FAULTS_AT_WORK,  /* slabs, arenas, HTTP/2's memory, reads, writes, accepts, connects */
    FAULTS_OF_CALLS, /* of these only the last four: what runs is in part a test's own */
};

/* Between these the code under test runs. */
void fault_begin(enum fault_stage stage);
void fault_end(void);

/* Whether the code under test runs, at work. */
bool fault_is_at_work(void);

/* Whether this process sweeps, or replays one fault. */
bool fault_is_watching(void);

/* Whether this process is one in which something was made to fail. */
bool fault_has_struck(void);

/* sim_options.fault: true where the call is to fail. Returns twice, as fork does. */
bool fault_strikes(const char *call);

/* The call that was made to fail; NULL: none was, yet. */
const char *fault_call(void);

/*
 * Whether the point that fails stands for trouble that lasts: every other one does. It is up to the
 * scenario to let the same call fail on for a while.
 */
bool fault_lasts(void);

/* A process did not start: ends the run, in good order if that is what a fault should lead to. */
_Noreturn void fault_refused_start(void);

/* From now on point number `point` (from 1) fails, and nothing else. */
void fault_replay(uint64_t point);

struct fault_sweep {
    const struct scenario *scenario;
    uint64_t seed;
    uint64_t points; /* at most so many, spread evenly over the run; 0: all */
    uint32_t jobs;
    const char *program; /* for the command that replays a failure */
};

struct fault_tally {
    uint64_t passed;
    uint64_t failed;
};

/* Runs the sweep, printing what fails, and adds to the tally. */
void fault_sweep(const struct fault_sweep *sweep, struct fault_tally *tally);

#endif
