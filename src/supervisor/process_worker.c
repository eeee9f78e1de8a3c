/*
 * The shell of a worker process: gives the dataplane its io, its listeners, its segment and those
 * of the controller, the logger and the other workers, counts its turns, and passes on what the
 * supervisor says. When the supervisor dies the worker drains: it sees the end of the control
 * channel.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/logger.h"
#include "io/io_epoll.h"
#include "observe/access_log.h"
#include "observe/health.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "proxy/worker.h"
#include "supervisor/process.h"
#include "supervisor/process_watch.h"
#include "supervisor/sandbox.h"

struct work {
    struct process *process;
    struct io *io;
    struct worker *worker;
    struct process_watch watch;
    struct metrics metrics;
    struct access_log access_log;
    struct health_view health;
    struct segment controller; /* whose words `health` looks at */
    struct segment logger;     /* whose cursor `access_log` looks at */
    struct segment *peers;     /* the other workers', by index; not mapped: not known */
    const void **boards;       /* theirs, by index; NULL: not known */
    char error[WORKER_ERROR_MAX];
    bool draining;
    bool quit;
};

static bool is_of(const struct segment *segment, const struct segment_identity *identity)
{
    return segment_is_mapped(segment) && segment->identity.role == identity->role &&
           segment->identity.incarnation == identity->incarnation;
}

static void adopt_controller(struct work *work, const struct segment *segment)
{
    health_view_init(&work->health, segment_region_read(segment, SEGMENT_HEALTH),
                     &work->process->generation);
    segment_unmap(&work->controller);
    work->controller = *segment;
}

static void adopt_logger(struct work *work, const struct segment *segment)
{
    const void *cursors = segment_region_read(segment, SEGMENT_CURSORS);
    const _Atomic uint64_t *cursor =
        cursors != NULL ? logger_cursor(cursors, work->process->spec->index) : NULL;
    access_log_attach(&work->access_log, cursor);
    segment_unmap(&work->logger);
    work->logger = *segment;
}

static uint32_t workers_of(const struct work *work)
{
    return work->process->generation.header->server.workers;
}

static void adopt_peer(struct work *work, struct segment *segment)
{
    uint32_t index = segment->identity.index;
    if (index >= workers_of(work)) {
        segment_unmap(segment);
        return;
    }
    work->boards[index] = segment_region_read(segment, SEGMENT_CLIENTS);
    segment_unmap(&work->peers[index]);
    work->peers[index] = *segment;
}

/* The kernel has closed what it held: its connections count no more. */
static void part_with_peer(struct work *work, const struct segment_identity *identity)
{
    uint32_t index = identity->index;
    if (index < workers_of(work) && is_of(&work->peers[index], identity)) {
        work->boards[index] = NULL;
        segment_unmap(&work->peers[index]);
        worker_try_accept(work->worker); /* clients for whom only that one was woken */
    }
}

/* Without a controller all endpoints count as up; without a logger the ring keeps what fits. */
static void part_with(struct work *work, const struct segment_identity *identity)
{
    if (is_of(&work->controller, identity)) {
        health_view_init(&work->health, NULL, &work->process->generation);
        segment_unmap(&work->controller);
    } else if (is_of(&work->logger, identity)) {
        access_log_attach(&work->access_log, NULL);
        segment_unmap(&work->logger);
    } else if (identity->role == PROCESS_WORKER) {
        part_with_peer(work, identity);
    }
}

static void adopt(struct work *work, struct segment *segment)
{
    if (segment->identity.role == PROCESS_CONTROLLER) {
        adopt_controller(work, segment);
    } else if (segment->identity.role == PROCESS_LOGGER) {
        adopt_logger(work, segment);
    } else if (segment->identity.role == PROCESS_WORKER) {
        adopt_peer(work, segment);
    } else {
        segment_unmap(segment);
    }
}

/*
 * The drain takes what is queued and unregisters the listeners; here their descriptors go, which
 * are this process's. Whoever closes last makes the kernel refuse clients, who then try elsewhere:
 * they must not wait in a queue that nobody serves any more.
 */
static void drain(struct work *work)
{
    if (work->draining) {
        return;
    }
    work->draining = true;
    worker_drain(work->worker);
    for (uint32_t i = 0; i < work->process->spec->listeners; i++) {
        (void)close(work->process->listeners[i]);
    }
}

static void take_orders(struct work *work)
{
    bool orphaned = false;
    for (;;) { /* the queue of orders is bounded */
        struct segment segment = {0};
        switch (process_next_order(work->process, &segment, NULL, &orphaned)) {
        case PROCESS_ORDER_NONE:
            return;
        case PROCESS_ORDER_QUIT:
            work->quit = true;
            return;
        case PROCESS_ORDER_DRAIN:
            drain(work);
            if (orphaned) {
                process_watch_forget_channel(&work->watch);
                return;
            }
            break;
        case PROCESS_ORDER_LOG:
        case PROCESS_ORDER_LOST: /* its connections are worth more than a neighbour's segment */
            break;
        case PROCESS_ORDER_SEGMENT:
            adopt(work, &segment);
            break;
        case PROCESS_ORDER_GONE:
            part_with(work, &segment.identity);
            break;
        }
    }
}

static void on_foreign(void *context, struct io_socket *socket)
{
    struct work *work = context;
    if (socket == &work->watch.tick) {
        process_watch_take_tick(&work->watch);
        worker_try_accept(work->worker); /* a worker that hangs takes no one with it, either */
    } else if (socket == &work->watch.channel) {
        take_orders(work);
    }
}

static enum status work_open(struct work *work)
{
    const struct process *process = work->process;
    metrics_init(&work->metrics, segment_region(&process->segment, SEGMENT_METRICS),
                 &process->generation);
    access_log_init(&work->access_log, segment_region(&process->segment, SEGMENT_RING),
                    process->spec->incarnation, &work->metrics, &process->generation);
    work->peers = calloc(workers_of(work), sizeof(*work->peers));
    work->boards = calloc(workers_of(work), sizeof(*work->boards));
    work->io = io_epoll_create();
    if (work->peers == NULL || work->boards == NULL || work->io == NULL ||
        process_watch_open(&work->watch, work->io, WORKER_SOCKET_FOREIGN) != OK) {
        return ERROR;
    }
    struct worker_options options = {
        .io = work->io,
        .generation = &process->generation,
        .listeners = process->listeners,
        .metrics = &work->metrics,
        .access_log = &work->access_log,
        .flight = &work->process->flight,
        .health = &work->health,
        .board = segment_region(&process->segment, SEGMENT_CLIENTS),
        .commons = process->commons,
        .client_key = process->spec->client_key,
        .peers = {.boards = work->boards, .count = workers_of(work)},
        .secrets = &process->secrets,
        .tickets = process->tickets,
        .error = work->error,
        .index = process->spec->index,
        .on_foreign = on_foreign,
        .foreign_context = work,
    };
    work->worker = worker_create(&options);
    return work->worker != NULL ? OK : ERROR;
}

static void work_close(struct work *work)
{
    worker_destroy(work->worker);
    if (work->watch.io != NULL) {
        process_watch_close(&work->watch);
    }
    io_epoll_destroy(work->io);
    segment_unmap(&work->controller);
    segment_unmap(&work->logger);
    for (uint32_t i = 0; work->peers != NULL && i < workers_of(work); i++) {
        segment_unmap(&work->peers[i]);
    }
    free(work->peers);
    free(work->boards);
    free(work);
}

int process_work(struct process *process)
{
    struct work *work = calloc(1, sizeof(*work));
    if (work == NULL) {
        return 1;
    }
    work->process = process;
    if (work_open(work) != OK) {
        log_message(LOG_ERROR, "worker %u cannot start: %s", process->spec->index,
                    work->error[0] != '\0' ? work->error : strerror(errno));
        work_close(work);
        return 1;
    }
    process_forget_secrets(process);
    if (sandbox_enter(PROCESS_WORKER, &process->generation) != OK) {
        work_close(work);
        return 1;
    }
    take_orders(work); /* who else is there must be known before the first accept */
    process_send_ready();
    while (!work->quit && !worker_is_drained(work->worker)) {
        worker_turn(work->worker);
        segment_count_turn(&process->segment);
    }
    work_close(work);
    return 0;
}
