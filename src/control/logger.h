/*
 * The logger process's core: takes the access records out of the workers' rings and appends them to
 * standard output or a file. A slow, full or broken output stalls this process only: what it does
 * not take stays in the rings, and a ring that is full drops records at its worker, which counts
 * them. So an outage that the rings outlast loses nothing, and after a longer one the log goes on
 * with what was oldest. A line that was begun is always ended before the next one, however long
 * that takes, so no line is torn; a broken output is tried again every LOGGER_RETRY. A pipe whose
 * reader is gone counts as broken: it may be a FIFO that gets another one. All of it is told on the
 * operator's log, each kind of trouble once a minute at most.
 *
 * What comes out of a ring is bytes of a possibly compromised worker: lengths are checked by the
 * ring, contents are written as they are.
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
    LOGGER_RETRY_MS = 250,           /* until a broken output is tried again */
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
 * before the next one: 0 while a ring holds more. Does not block longer than 100 ms.
 */
NODISCARD int logger_turn(struct logger *logger);

/*
 * Writes to this descriptor from now on (after a rotation), which the logger owns from here, and
 * closes the one before. A file, a pipe or a terminal; only what is no file may block or be full. A
 * line that was begun ends in the old file if that takes the rest at once; else, since a file that
 * was moved away gets nothing more, the whole line goes to the new one.
 */
void logger_set_output(struct logger *logger, int output);

/*
 * Empties all rings, for the end of the process: returns true once nothing is left, false when
 * the output is broken or did not take everything within the time.
 */
bool logger_flush(struct logger *logger, int timeout_ms);

/*
 * Records lost on this side: what a dead worker left and the output did not take in time, what a
 * corrupt ring held, the rest of a line that neither the old nor the new output could get. Those
 * that found no room in a ring are counted by its worker.
 */
uint64_t logger_lost(const struct logger *logger);

#endif
