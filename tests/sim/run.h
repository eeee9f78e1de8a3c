/*
 * What every run of a seed has: its name, the way to end it when a promise is broken, the units of
 * its clock.
 */
#ifndef SENTINEL_TESTS_SIM_RUN_H
#define SENTINEL_TESTS_SIM_RUN_H

#include <stdint.h>
#include <stdio.h>

enum {
    MICROSECOND = 1,
    MILLISECOND = 1000,
    SECOND = 1000 * MILLISECOND,
};

struct scenario;

/* The scenario's name; static. */
const char *scenario_name(const struct scenario *scenario);

/* Runs one seed to its end. A broken invariant does not return. */
void scenario_run(const struct scenario *scenario, uint64_t seed, FILE *trace);

/* Ends the run: prints the broken invariant and exits with status 1. */
_Noreturn void run_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Scenarios without a world of workers: the controller's (control.h), the logger's (logging.c). */
void control_run(uint64_t seed, FILE *trace);
void logging_run(uint64_t seed, FILE *trace);

#endif
