/*
 * Records go from the ring's memory to the descriptor without a copy: a batch of them is read, held
 * as pieces of one vectored write, and released once it is written. While the output takes nothing,
 * the batch waits and its ring with it; the worker behind it drops what finds no room.
 */
#include "control/logger.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "observe/access_log.h"
#include "observe/log.h"
#include "observe/ring.h"

enum {
    TURN_MS = 100,        /* how long a turn may wait for the output */
    COMPLAINT_MS = 60000, /* between two lines about the same trouble */
    RETIRE_MS = 100,      /* for what a dead worker left behind */
};

struct logger_ring {
    bool open;
    struct ring_reader reader;
};

struct logger {
    int fd;
    size_t write_max; /* bytes of one write: a pipe that has room for so much does not block */
    uint8_t *cursors;
    uint32_t workers;
    uint32_t first; /* the ring that this turn begins with */
    int sleep_ms;
    bool torn; /* the last record was written in part and then given up: end its line first */
    uint64_t lost;
    uint64_t complained_at;
    /* The batch under way: records of ring `batch_ring` in pieces[batch_first..batch_count). */
    uint32_t batch_ring;
    int batch_first;
    int batch_count;
    bool batch_partial; /* some bytes of pieces[batch_first] are written */
    struct iovec pieces[LOGGER_BATCH];
    struct logger_ring rings[];
};

static uint64_t now_ms(void)
{
    struct timespec now;
    int failed = clock_gettime(CLOCK_MONOTONIC, &now);
    ASSERT(failed == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

size_t logger_cursors_size(const struct generation *generation)
{
    return (size_t)generation->header->server.workers * RING_CURSOR_STRIDE;
}

const _Atomic uint64_t *logger_cursor(const void *cursors, uint32_t worker)
{
    const uint8_t *bytes = (const uint8_t *)cursors;
    return (const _Atomic uint64_t *)(const void *)(bytes + (size_t)worker * RING_CURSOR_STRIDE);
}

static _Atomic uint64_t *own_cursor(struct logger *logger, uint32_t worker)
{
    return (_Atomic uint64_t *)(void *)(logger->cursors + (size_t)worker * RING_CURSOR_STRIDE);
}

/* Says what is wrong, at most once a minute: a full disk must not fill the operator's log. */
static void complain(struct logger *logger, const char *what, const char *why)
{
    uint64_t now = now_ms();
    if (logger->complained_at != 0 && now - logger->complained_at < COMPLAINT_MS) {
        return;
    }
    logger->complained_at = now;
    log_message(LOG_ERROR, "access log: %s: %s; records lost so far: %llu", what, why,
                (unsigned long long)logger->lost);
}

/* A file never blocks for long; anything else may, so it gets no more than it surely takes. */
static size_t write_bound(int fd)
{
    struct stat status;
    bool regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    return regular ? SIZE_MAX : PIPE_BUF;
}

struct logger *logger_create(const struct generation *generation, void *cursors, int output)
{
    uint32_t workers = generation->header->server.workers;
    struct logger *logger = calloc(1, sizeof(*logger) + workers * sizeof(struct logger_ring));
    if (logger == NULL) {
        return NULL;
    }
    ASSERT(output >= 0);
    logger->fd = output;
    logger->write_max = write_bound(output);
    logger->cursors = (uint8_t *)cursors;
    logger->workers = workers;
    logger->sleep_ms = LOGGER_SLEEP_MIN_MS;
    return logger;
}

void logger_destroy(struct logger *logger)
{
    if (logger == NULL) {
        return;
    }
    (void)close(logger->fd);
    free(logger);
}

uint64_t logger_lost(const struct logger *logger)
{
    return logger->lost;
}

static void batch_end(struct logger *logger)
{
    if (logger->batch_count > 0) {
        ring_release(&logger->rings[logger->batch_ring].reader);
    }
    logger->batch_first = 0;
    logger->batch_count = 0;
    logger->batch_partial = false;
}

static void batch_drop(struct logger *logger)
{
    logger->lost += (uint64_t)(logger->batch_count - logger->batch_first);
    logger->torn |= logger->batch_partial;
    batch_end(logger);
}

static void batch_advance(struct logger *logger, size_t written)
{
    while (written > 0) {
        ASSERT(logger->batch_first < logger->batch_count);
        struct iovec *piece = &logger->pieces[logger->batch_first];
        if (written < piece->iov_len) {
            piece->iov_base = (uint8_t *)piece->iov_base + written;
            piece->iov_len -= written;
            logger->batch_partial = true;
            return;
        }
        written -= piece->iov_len;
        logger->batch_first++;
        logger->batch_partial = false;
    }
}

/* One write of as many whole pieces as the bound allows, or of a part of the first. */
static ssize_t batch_write_once(struct logger *logger)
{
    if (logger->torn) {
        ssize_t ended = write(logger->fd, "\n", 1);
        logger->torn = ended != 1;
        return ended < 0 ? -1 : 0;
    }
    struct iovec *first = &logger->pieces[logger->batch_first];
    if (first->iov_len > logger->write_max) {
        return write(logger->fd, first->iov_base, logger->write_max);
    }
    int count = 0;
    size_t size = 0;
    while (logger->batch_first + count < logger->batch_count &&
           first[count].iov_len <= logger->write_max - size) {
        size += first[count].iov_len;
        count++;
    }
    return writev(logger->fd, first, count);
}

/*
 * Writes the batch under way. OK: it is gone, written or dropped because the output is broken.
 * AGAIN: the output took nothing more until the deadline.
 */
static enum status batch_write(struct logger *logger, uint64_t deadline_ms)
{
    while (logger->batch_first < logger->batch_count) {
        uint64_t now = now_ms();
        int patience = now < deadline_ms ? (int)(deadline_ms - now) : 0;
        struct pollfd polled = {.fd = logger->fd, .events = POLLOUT};
        int ready = poll(&polled, 1, patience);
        if (ready == 0 || (ready < 0 && errno == EINTR && patience == 0)) {
            return AGAIN;
        }
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        ssize_t written = batch_write_once(logger);
        if (written >= 0) {
            batch_advance(logger, (size_t)written);
        } else if (errno == EAGAIN || errno == EINTR) {
            if (patience == 0) {
                return AGAIN;
            }
        } else {
            int why = errno;
            batch_drop(logger);
            complain(logger, "cannot write", strerror(why));
        }
    }
    batch_end(logger);
    return OK;
}

/* Reads records of a ring into a batch; returns their bytes. */
static size_t batch_fill(struct logger *logger, uint32_t ring)
{
    ASSERT(logger->batch_count == 0);
    struct ring_reader *reader = &logger->rings[ring].reader;
    size_t size = 0;
    logger->batch_ring = ring;
    while (logger->batch_count < LOGGER_BATCH) {
        struct span record = SPAN_EMPTY;
        enum status status = ring_read(reader, &record);
        if (status == ERROR) {
            logger->lost++;
            complain(logger, "a ring is corrupt", "what it held was skipped");
        }
        if (status != OK) {
            break;
        }
        if (record.size > ACCESS_LINE_MAX) {
            logger->lost++; /* no worker in its right mind writes such a line */
            continue;
        }
        /* A vectored write wants pointers to what it could change; it does not. */
        union {
            const uint8_t *bytes;
            void *base;
        } piece = {.bytes = record.data};
        logger->pieces[logger->batch_count++] =
            (struct iovec){.iov_base = piece.base, .iov_len = record.size};
        size += record.size;
    }
    if (logger->batch_count == 0) {
        ring_release(reader); /* what was skipped, if anything */
    }
    return size;
}

/* Drains one ring up to its share of a turn; *more when it may hold more. AGAIN as batch_write. */
static enum status drain_ring(struct logger *logger, uint32_t ring, uint64_t deadline_ms,
                              bool *more)
{
    size_t taken = 0;
    while (taken < LOGGER_TURN_BYTES) {
        size_t size = batch_fill(logger, ring);
        if (size == 0) {
            return OK;
        }
        taken += size;
        if (batch_write(logger, deadline_ms) == AGAIN) {
            return AGAIN;
        }
    }
    *more = true;
    return OK;
}

static void retire_ring(struct logger *logger, uint32_t worker)
{
    struct logger_ring *ring = &logger->rings[worker];
    uint64_t deadline = now_ms() + RETIRE_MS;
    enum status status = OK;
    if (logger->batch_count > 0) {
        status = batch_write(logger, deadline); /* maybe another ring's, which stays in order */
    }
    while (status == OK && batch_fill(logger, worker) > 0) {
        status = batch_write(logger, deadline);
    }
    /* The memory goes away: what the output did not take by now is lost. */
    if (logger->batch_count > 0 && logger->batch_ring == worker) {
        batch_drop(logger);
    }
    struct span record = SPAN_EMPTY;
    while (ring_read(&ring->reader, &record) == OK) {
        logger->lost++;
    }
    ring_release(&ring->reader);
    ring->open = false;
}

void logger_set_ring(struct logger *logger, uint32_t worker, const void *memory)
{
    ASSERT(worker < logger->workers);
    struct logger_ring *ring = &logger->rings[worker];
    if (ring->open) {
        retire_ring(logger, worker);
    }
    if (memory != NULL) {
        ring_reader_init(&ring->reader, memory, RING_CAPACITY_DEFAULT, own_cursor(logger, worker));
        ring->open = true;
    }
}

/* Goes through all rings once. AGAIN: the output took nothing more until the deadline. */
static enum status drain_all(struct logger *logger, uint64_t deadline_ms, bool *busy, bool *more)
{
    if (logger->batch_count > 0) {
        *busy = true;
        if (batch_write(logger, deadline_ms) == AGAIN) {
            return AGAIN;
        }
    }
    logger->first = (logger->first + 1) % logger->workers;
    for (uint32_t i = 0; i < logger->workers; i++) {
        uint32_t worker = (logger->first + i) % logger->workers;
        struct logger_ring *ring = &logger->rings[worker];
        if (!ring->open) {
            continue;
        }
        uint64_t before = ring->reader.position;
        enum status status = drain_ring(logger, worker, deadline_ms, more);
        *busy |= ring->reader.position != before;
        if (status == AGAIN) {
            return AGAIN;
        }
    }
    return OK;
}

int logger_turn(struct logger *logger)
{
    bool busy = false;
    bool more = false;
    enum status status = drain_all(logger, now_ms() + TURN_MS, &busy, &more);
    if (status == AGAIN || more) {
        return 0; /* the wait for the output was the pause */
    }
    int doubled = logger->sleep_ms * 2;
    logger->sleep_ms = busy                            ? LOGGER_SLEEP_MIN_MS
                       : doubled < LOGGER_SLEEP_MAX_MS ? doubled
                                                       : LOGGER_SLEEP_MAX_MS;
    return logger->sleep_ms;
}

void logger_set_output(struct logger *logger, int output)
{
    ASSERT(output >= 0 && output != logger->fd);
    /* A record that is written in part stays whole in the old file, if that takes it at once. */
    if (logger->batch_partial && batch_write(logger, now_ms()) == AGAIN) {
        batch_drop(logger);
    }
    logger->torn = false;
    (void)close(logger->fd);
    logger->fd = output;
    logger->write_max = write_bound(output);
}

bool logger_flush(struct logger *logger, int timeout_ms)
{
    uint64_t deadline = now_ms() + (uint64_t)timeout_ms;
    bool more = true;
    while (more && now_ms() <= deadline) {
        bool busy = false;
        more = false;
        if (drain_all(logger, deadline, &busy, &more) == AGAIN) {
            return false;
        }
    }
    return !more;
}
