/*
 * What the logger writes to, in a simulation: files and pipes that are memory, on a clock that
 * moves only when somebody waits. While outputs_attend is on, the calls that the logger makes
 * (poll, write, writev, fstat, close, clock_gettime) end here instead of in the system; they are
 * caught at link time, see CMakeLists.txt. A write that would block the process ends the run: the
 * logger must never make one.
 */
#ifndef SENTINEL_TESTS_SIM_OUTPUTS_H
#define SENTINEL_TESTS_SIM_OUTPUTS_H

#include <stdbool.h>

#include "base/span.h"
#include "run.h"

enum {
    OUTPUTS_MAX = 32,
    OUTPUT_HANDLES_MAX = 64,
    OUTPUT_PIPE_BYTES = 64 * 1024,
    OUTPUT_TROUBLE = 3 * SECOND, /* of a fault that is to last */
};

struct output_options {
    bool pipe;            /* else a file */
    bool blocking;        /* of a pipe: nobody made it non-blocking */
    uint64_t rate;        /* of a pipe's reader: bytes a second */
    uint64_t outage_from; /* a full disk, a reader that stands still */
    uint64_t outage_until;
};

/* Starts anew: no outputs, nothing said. Frees what was there. */
void outputs_reset(void);

/* A new output; its number, from 0. */
uint32_t outputs_add(const struct output_options *options);

/* Another descriptor of this output. */
int outputs_open(uint32_t output);

/* Between the two the calls of this thread are the logger's. */
void outputs_attend(bool on);

/* Microseconds; moved on by waiting, and by this. */
uint64_t outputs_now(void);
void outputs_wait(uint64_t microseconds);

/* What was written to it; how many descriptors are open. */
struct span outputs_content(uint32_t output);
uint32_t outputs_count(void);
uint32_t outputs_open_handles(void);

/* What was said on standard error: lines with this text in them, and the number behind its last. */
uint32_t outputs_said(const char *text);
uint64_t outputs_said_last(const char *text);

/* Writes that failed for good; said on standard error or not. */
uint32_t outputs_failures(void);

#endif
