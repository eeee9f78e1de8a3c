/*
 * The logger process's core: takes the access records out of the workers' rings and appends them to
 * standard output or a file. A slow or failing disk stalls this process only: a ring that fills up
 * drops records at its worker, and records that cannot be written are dropped and counted here, so
 * that the rings keep moving. What comes out of a ring is bytes of a possibly compromised worker:
 * lengths are checked by the ring, contents are written as they are.
 *
 * Nobody wakes the logger: it looks at the rings and sleeps between looks, LOGGER_SLEEP_MIN after a
 * busy one, doubling to LOGGER_SLEEP_MAX over idle ones. So a record costs its worker no system
 * call and is on disk within a tenth of a second; a full ring of 1 MiB lasts 10 ms up to 100 MB/s.
 *
 * It opens no file: the supervisor does, and hands the descriptor over.
 *
 * Bounds: LOGGER_BATCH records a write, LOGGER_TURN_BYTES a turn and ring. It does no I/O but on
 * the log's descriptor and allocates at creation only.
 */
#ifndef SENTINEL_CONTROL_LOGGER_H
#define SENTINEL_CONTROL_LOGGER_H

#include "base/status.h"
#include "config/generation.h"

enum {
    LOGGER_SLEEP_MIN_MS = 10,
    LOGGER_SLEEP_MAX_MS = 100,
    LOGGER_BATCH = 64,               /* records in one write */
    LOGGER_TURN_BYTES = 1024 * 1024, /* per ring; then the next ring, and the channel, get a look */
};

struct logger;

/* Bytes of the cursors' region for this generation: one cursor a worker. */
size_t logger_cursors_size(const struct generation *generation);

/* The cursor of one worker's ring in such a region, as the worker maps it: for access_log_attach.
 */
const _Atomic uint64_t *logger_cursor(const void *cursors, uint32_t worker);

/*
 * Writes to `output` (see logger_set_output). `cursors` is the region in the process's own segment,
 * borrowed. NULL when memory is short; then `output` stays the caller's.
 */
NODISCARD struct logger *logger_create(const struct generation *generation, void *cursors,
                                       int output);

/* Closes its output. Records that were not drained stay in their rings. Accepts NULL. */
void logger_destroy(struct logger *logger);

/*
 * Reads the ring of this worker from now on: access_log_size bytes that stay mapped until the next
 * call for the same worker. What an earlier ring of this index still holds is written out first, so
 * the shell may unmap that one afterwards. NULL: only that.
 */
void logger_set_ring(struct logger *logger, uint32_t worker, const void *memory);

/*
 * One look at all rings. Returns how many milliseconds the shell may sleep, on its control channel,
 * before the next one: 0 while a ring holds more. Does not block longer than 100 ms, a blocking
 * standard output included.
 */
NODISCARD int logger_turn(struct logger *logger);

/*
 * Writes to this descriptor from now on (after a rotation), which the logger owns from here, and
 * closes the one before. A file, a pipe or a terminal; only what is no file may block or be full.
 */
void logger_set_output(struct logger *logger, int output);

/*
 * Empties all rings, for the end of the process: returns true once nothing is left, false when
 * the output did not take everything within the time.
 */
bool logger_flush(struct logger *logger, int timeout_ms);

/* Records that were taken out of a ring and lost, because the output failed or a ring was corrupt.
 */
uint64_t logger_lost(const struct logger *logger);

#endif
