/*
 * Records go from the ring's memory to the descriptor without a copy: a batch of them is read, held
 * as pieces of one vectored write, and released once it is written. While the output takes nothing,
 * the batch waits and its ring with it; the worker behind it drops what finds no room. Only the
 * rest of a line whose ring goes away is copied, so that the line can end.
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

/* What is told on the operator's log, each once in COMPLAINT_MS. */
enum complaint { COMPLAINT_OUTPUT, COMPLAINT_LOSS, COMPLAINT_RING, COMPLAINT_COUNT };

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
    uint64_t lost;         /* here */
    uint64_t refused;      /* by rings that are gone, for want of room */
    uint64_t told;         /* losses of both kinds that were told */
    uint64_t broken_since; /* 0: the output works */
    uint64_t retry_at;     /* of a broken output */
    bool told_broken;
    uint64_t complained_at[COMPLAINT_COUNT];
    /* The batch under way: records of ring `batch_ring` in pieces[batch_first..batch_count). */
    uint32_t batch_ring;
    int batch_first;
    int batch_count;
    size_t batch_written; /* bytes of pieces[batch_first] that are out already */
    struct iovec pieces[LOGGER_BATCH];
    /* The end of a line that was begun and whose ring is gone; before everything else. */
    size_t rest_size;
    size_t rest_written;
    uint8_t rest[ACCESS_LINE_MAX];
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

/* Whether this kind of trouble may be told again: a full disk must not fill the operator's log. */
static bool may_complain(struct logger *logger, enum complaint kind)
{
    uint64_t now = now_ms();
    uint64_t *last = &logger->complained_at[kind];
    if (*last != 0 && now - *last < COMPLAINT_MS) {
        return false;
    }
    *last = now;
    return true;
}

/* All losses, the workers' included; what these say is for people only. */
static uint64_t count_losses(const struct logger *logger)
{
    uint64_t losses = logger->lost + logger->refused;
    for (uint32_t i = 0; i < logger->workers; i++) {
        losses += logger->rings[i].open ? ring_refused(&logger->rings[i].reader) : 0;
    }
    return losses;
}

static void tell_losses(struct logger *logger)
{
    uint64_t losses = count_losses(logger);
    if (losses != logger->told && may_complain(logger, COMPLAINT_LOSS)) {
        log_message(LOG_WARNING,
                    "access log: %llu records lost, %llu in all: the output does not keep up",
                    (unsigned long long)(losses - logger->told), (unsigned long long)losses);
        logger->told = losses;
    }
}

static void output_broke(struct logger *logger, int why)
{
    uint64_t now = now_ms();
    logger->retry_at = now + LOGGER_RETRY_MS;
    if (logger->broken_since == 0) {
        logger->broken_since = now;
    }
    if (may_complain(logger, COMPLAINT_OUTPUT)) {
        logger->told_broken = true;
        log_message(LOG_ERROR,
                    "access log: cannot write: %s; it is tried again, and records wait until their "
                    "ring is full",
                    strerror(why));
    }
}

static void output_works(struct logger *logger)
{
    if (logger->broken_since != 0 && logger->told_broken) {
        log_message(LOG_WARNING, "access log: writes again after %llu s; records lost so far: %llu",
                    (unsigned long long)((now_ms() - logger->broken_since) / 1000),
                    (unsigned long long)count_losses(logger));
        logger->told = count_losses(logger);
    }
    logger->broken_since = 0;
    logger->told_broken = false;
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
    logger->batch_written = 0;
}

/* Gives the batch up, but for the rest of a line that was begun. */
static void batch_drop(struct logger *logger)
{
    int lost = logger->batch_count - logger->batch_first;
    if (logger->batch_written > 0) {
        const struct iovec *piece = &logger->pieces[logger->batch_first];
        ASSERT(logger->rest_size == 0 && piece->iov_len <= sizeof(logger->rest));
        memcpy(logger->rest, piece->iov_base, piece->iov_len);
        logger->rest_size = piece->iov_len;
        logger->rest_written = 0;
        lost--;
    }
    logger->lost += (uint64_t)lost;
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
            logger->batch_written += written;
            return;
        }
        written -= piece->iov_len;
        logger->batch_first++;
        logger->batch_written = 0;
    }
}

static bool has_output(const struct logger *logger)
{
    return logger->rest_size > 0 || logger->batch_first < logger->batch_count;
}

/* One write of as many whole pieces as the bound allows, or of a part of the first. -1 with errno.
 */
static ssize_t write_once(struct logger *logger)
{
    if (logger->rest_size > 0) {
        size_t left = logger->rest_size - logger->rest_written;
        size_t size = left < logger->write_max ? left : logger->write_max;
        ssize_t written = write(logger->fd, logger->rest + logger->rest_written, size);
        logger->rest_written += written > 0 ? (size_t)written : 0;
        if (logger->rest_written == logger->rest_size) {
            logger->rest_size = 0;
        }
        return written;
    }
    struct iovec *first = &logger->pieces[logger->batch_first];
    ssize_t written = 0;
    if (first->iov_len > logger->write_max) {
        written = write(logger->fd, first->iov_base, logger->write_max);
    } else {
        int count = 0;
        size_t size = 0;
        while (logger->batch_first + count < logger->batch_count &&
               first[count].iov_len <= logger->write_max - size) {
            size += first[count].iov_len;
            count++;
        }
        written = writev(logger->fd, first, count);
    }
    batch_advance(logger, written > 0 ? (size_t)written : 0);
    return written;
}

/*
 * Writes the batch under way. OK: it is gone. AGAIN: the output took nothing more until the
 * deadline. ERROR: the output is broken, and the batch waits for it.
 */
static enum status batch_write(struct logger *logger, uint64_t deadline_ms)
{
    while (has_output(logger)) {
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
        if (ready < 0) {
            output_broke(logger, errno); /* not known to have room, so a write could block */
            return ERROR;
        }
        ssize_t written = write_once(logger);
        if (written > 0) {
            output_works(logger);
        } else if (written < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (patience == 0) {
                return AGAIN;
            }
        } else {
            output_broke(logger, written < 0 ? errno : EIO); /* ready, and takes nothing: no loop */
            return ERROR;
        }
    }
    batch_end(logger);
    return OK;
}

/*
 * Reads records of a ring into a batch; returns their bytes. Those that are left out count, too:
 * who writes nothing else, and never stops, must not keep the logger here.
 */
static size_t batch_fill(struct logger *logger, uint32_t ring)
{
    ASSERT(logger->batch_count == 0);
    struct ring_reader *reader = &logger->rings[ring].reader;
    size_t size = 0;
    logger->batch_ring = ring;
    for (int i = 0; i < LOGGER_BATCH; i++) {
        struct span record = SPAN_EMPTY;
        enum status status = ring_read(reader, &record);
        if (status == ERROR) {
            logger->lost++;
            if (may_complain(logger, COMPLAINT_RING)) {
                log_message(LOG_ERROR, "access log: a ring is corrupt: what it held was skipped");
            }
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

/* Drains one ring up to its share of a turn; *more when it may hold more. Else as batch_write. */
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
        enum status status = batch_write(logger, deadline_ms);
        if (status != OK) {
            return status;
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
    if (has_output(logger)) {
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
    logger->refused += ring_refused(&ring->reader);
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

/* Goes through all rings once. AGAIN and ERROR as batch_write. */
static enum status drain_all(struct logger *logger, uint64_t deadline_ms, bool *busy, bool *more)
{
    if (has_output(logger)) {
        *busy = true;
        enum status status = batch_write(logger, deadline_ms);
        if (status != OK) {
            return status;
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
        if (status != OK) {
            return status;
        }
    }
    return OK;
}

int logger_turn(struct logger *logger)
{
    bool busy = false;
    bool more = false;
    uint64_t now = now_ms();
    tell_losses(logger);
    if (logger->broken_since != 0 && now < logger->retry_at) {
        return LOGGER_SLEEP_MAX_MS;
    }
    enum status status = drain_all(logger, now + TURN_MS, &busy, &more);
    if (status == ERROR) {
        return LOGGER_SLEEP_MAX_MS;
    }
    if (status == AGAIN || more) {
        return 0; /* the wait for the output was the pause */
    }
    int doubled = logger->sleep_ms * 2;
    logger->sleep_ms = busy                            ? LOGGER_SLEEP_MIN_MS
                       : doubled < LOGGER_SLEEP_MAX_MS ? doubled
                                                       : LOGGER_SLEEP_MAX_MS;
    return logger->sleep_ms;
}

static bool is_same_file(int a, int b)
{
    struct stat of_a;
    struct stat of_b;
    return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino;
}

/* A line that the old output has in part begins anew in the next one. */
static void begin_line_anew(struct logger *logger)
{
    if (logger->rest_size > 0) {
        logger->rest_size = 0;
        logger->lost++;
    }
    if (logger->batch_written > 0) {
        struct iovec *piece = &logger->pieces[logger->batch_first];
        piece->iov_base = (uint8_t *)piece->iov_base - logger->batch_written;
        piece->iov_len += logger->batch_written;
        logger->batch_written = 0;
    }
}

void logger_set_output(struct logger *logger, int output)
{
    ASSERT(output >= 0 && output != logger->fd);
    bool begun = logger->rest_size > 0 || logger->batch_written > 0;
    if (begun && !is_same_file(logger->fd, output) && batch_write(logger, now_ms()) != OK) {
        begin_line_anew(logger);
    }
    (void)close(logger->fd);
    logger->fd = output;
    logger->write_max = write_bound(output);
    logger->retry_at = 0; /* perhaps this one works */
}

bool logger_flush(struct logger *logger, int timeout_ms)
{
    uint64_t deadline = now_ms() + (uint64_t)timeout_ms;
    bool more = true;
    while (more && now_ms() <= deadline) {
        bool busy = false;
        more = false;
        if (drain_all(logger, deadline, &busy, &more) != OK) {
            return false;
        }
    }
    return !more;
}
