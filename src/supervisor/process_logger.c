/*
 * The shell of the logger process: gives it its segment and the workers' rings, and passes on what
 * the supervisor says. It writes to its standard output, which the supervisor opened, until another
 * descriptor comes over the channel: it opens nothing itself. It is the last to go: when it is told
 * to, it empties the rings first, and without a supervisor it stays until the last worker has
 * ended, which it sees at the life pipe.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control/logger.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "supervisor/process.h"
#include "supervisor/sandbox.h"

enum { FLUSH_TIMEOUT_MS = 4000 }; /* below the supervisor's patience */

struct logging {
    struct process *process;
    struct logger *logger;
    struct segment *workers; /* by index; not mapped: not known yet */
    struct metrics metrics;
    uint64_t lost; /* as counted in the metrics */
    bool orphaned;
    bool quit;
    int exit_code;
};

static void adopt_worker(struct logging *logging, struct segment *segment)
{
    uint32_t index = segment->identity.index;
    if (segment->identity.role != PROCESS_WORKER ||
        index >= logging->process->generation.header->server.workers) {
        segment_unmap(segment);
        return;
    }
    logger_set_ring(logging->logger, index, segment_region_read(segment, SEGMENT_RING));
    segment_unmap(&logging->workers[index]);
    logging->workers[index] = *segment;
}

/* What its ring still holds is written out. */
static void part_with(struct logging *logging, const struct segment_identity *identity)
{
    uint32_t index = identity->index;
    if (identity->role != PROCESS_WORKER ||
        index >= logging->process->generation.header->server.workers ||
        !segment_is_mapped(&logging->workers[index]) ||
        logging->workers[index].identity.incarnation != identity->incarnation) {
        return;
    }
    logger_set_ring(logging->logger, index, NULL);
    segment_unmap(&logging->workers[index]);
}

static void take_orders(struct logging *logging)
{
    while (!logging->quit && !logging->orphaned) { /* the queue of orders is bounded */
        struct segment segment = {0};
        int log = -1;
        switch (process_next_order(logging->process, &segment, &log, &logging->orphaned)) {
        case PROCESS_ORDER_NONE:
            return;
        case PROCESS_ORDER_QUIT:
            logging->quit = true;
            break;
        case PROCESS_ORDER_DRAIN:
            break; /* the logger has no part in it, or is an orphan now */
        case PROCESS_ORDER_LOG:
            flight_doing(&logging->process->flight, FLIGHT_REOPEN_LOG, 0);
            logger_set_output(logging->logger, log);
            break;
        case PROCESS_ORDER_SEGMENT:
            adopt_worker(logging, &segment);
            break;
        case PROCESS_ORDER_GONE:
            part_with(logging, &segment.identity);
            break;
        case PROCESS_ORDER_LOST: /* maybe a ring that nobody would read: a successor does */
            logging->quit = true;
            logging->exit_code = 1;
            break;
        }
    }
}

static void publish(struct logging *logging)
{
    uint64_t lost = logger_lost(logging->logger);
    metrics_add(&logging->metrics, METRIC_ACCESS_LOG_LOST, lost - logging->lost);
    logging->lost = lost;
}

/* Sleeps until an order comes, the last worker has ended, or so long. */
static void sleep_at_most(struct logging *logging, int milliseconds)
{
    struct pollfd polled[] = {
        {.fd = logging->orphaned ? -1 : SPAWN_FD_CHANNEL, .events = POLLIN},
        {.fd = SPAWN_FD_LIFE}, /* its end is told unasked; what a worker writes there is nobody's */
    };
    if (poll(polled, sizeof(polled) / sizeof(polled[0]), milliseconds) <= 0) {
        return;
    }
    if (polled[0].revents != 0) {
        take_orders(logging);
    }
    if ((polled[1].revents & (POLLHUP | POLLERR)) != 0) {
        logging->quit = true;
    }
}

static uint64_t monotonic_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static enum status logging_open(struct logging *logging)
{
    const struct process *process = logging->process;
    logging->workers =
        calloc(process->generation.header->server.workers, sizeof(*logging->workers));
    logging->logger =
        logging->workers == NULL
            ? NULL
            : logger_create(&process->generation,
                            segment_region(&process->segment, SEGMENT_CURSORS), STDOUT_FILENO);
    if (logging->logger == NULL) {
        log_message(LOG_ERROR, "the logger cannot start: %s", strerror(errno));
        return ERROR;
    }
    return sandbox_enter(PROCESS_LOGGER, &process->generation);
}

static void logging_close(struct logging *logging)
{
    logger_destroy(logging->logger);
    uint32_t workers = logging->process->generation.header->server.workers;
    for (uint32_t i = 0; logging->workers != NULL && i < workers; i++) {
        segment_unmap(&logging->workers[i]);
    }
    free(logging->workers);
}

int process_log(struct process *process)
{
    struct logging logging = {.process = process};
    if (logging_open(&logging) != OK) {
        logging_close(&logging);
        return 1;
    }
    metrics_init(&logging.metrics, segment_region(&process->segment, SEGMENT_METRICS),
                 &process->generation);
    process_send_ready();
    while (!logging.quit) {
        flight_turn(&process->flight, monotonic_now());
        flight_doing(&process->flight, FLIGHT_WRITE_LOG, 0);
        int pause = logger_turn(logging.logger);
        publish(&logging);
        flight_doing(&process->flight, FLIGHT_WAIT, 0);
        segment_count_turn(&process->segment);
        sleep_at_most(&logging, pause);
    }
    flight_doing(&process->flight, FLIGHT_END, 0);
    if (!logger_flush(logging.logger, FLUSH_TIMEOUT_MS)) {
        log_message(LOG_WARNING, "the access log did not take everything in time");
    }
    logging_close(&logging);
    return logging.exit_code;
}
