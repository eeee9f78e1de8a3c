/*
 * The shell of the controller process: gives it its io, the admin listener, its segment and the
 * workers' cells, and passes on what the supervisor says. Without a supervisor it ends at once: the
 * workers drain with the last word on each endpoint, since the memory outlives its owner.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "control/controller.h"
#include "io/io_epoll.h"
#include "observe/ledger.h"
#include "observe/log.h"
#include "supervisor/process.h"
#include "supervisor/process_watch.h"

struct control {
    struct process *process;
    struct io *io;
    struct controller *controller;
    struct process_watch watch;
    const void *ledger;      /* mapped; NULL: not yet */
    struct segment logger;   /* not mapped: not known yet */
    struct segment *workers; /* by index; likewise */
    bool quit;
};

/* Where the segment of such a process is kept; NULL: it is none that the controller looks at. */
static struct segment *place_of(struct control *control, const struct segment_identity *identity)
{
    if (identity->role == PROCESS_LOGGER) {
        return &control->logger;
    }
    uint32_t workers = control->process->generation.header->server.workers;
    bool known = identity->role == PROCESS_WORKER && identity->index < workers;
    return known ? &control->workers[identity->index] : NULL;
}

static void adopt(struct control *control, struct segment *segment)
{
    struct segment *place = place_of(control, &segment->identity);
    if (place == NULL) {
        segment_unmap(segment);
        return;
    }
    controller_set_process(control->controller, &segment->identity,
                           segment_region_read(segment, SEGMENT_METRICS));
    segment_unmap(place);
    *place = *segment;
}

/* Its totals are in the ledger, its gauges end with it. */
static void part_with(struct control *control, const struct segment_identity *identity)
{
    struct segment *place = place_of(control, identity);
    if (place != NULL && segment_is_mapped(place) &&
        place->identity.incarnation == identity->incarnation) {
        controller_set_process(control->controller, identity, NULL);
        segment_unmap(place);
    }
}

static void take_orders(struct control *control)
{
    bool orphaned = false;
    while (!control->quit) { /* the queue of orders is bounded */
        struct segment segment = {0};
        switch (process_next_order(control->process, &segment, NULL, &orphaned)) {
        case PROCESS_ORDER_NONE:
            return;
        case PROCESS_ORDER_QUIT:
            control->quit = true;
            break;
        case PROCESS_ORDER_DRAIN:
            controller_drain(control->controller);
            control->quit = orphaned;
            break;
        case PROCESS_ORDER_LOG:
            break;
        case PROCESS_ORDER_SEGMENT:
            adopt(control, &segment);
            break;
        case PROCESS_ORDER_GONE:
            part_with(control, &segment.identity);
            break;
        }
    }
}

static void on_foreign(void *context, struct io_socket *socket)
{
    struct control *control = context;
    if (socket == &control->watch.tick) {
        process_watch_take_tick(&control->watch);
    } else if (socket == &control->watch.channel) {
        take_orders(control);
    }
}

static void on_health(void *context, uint32_t endpoint, enum health_state state)
{
    const struct control *control = (const struct control *)context;
    const struct generation *generation = &control->process->generation;
    const struct generation_endpoint *target = generation_endpoint(generation, endpoint);
    const struct generation_upstream *upstream = generation_upstream(generation, target->upstream);
    bool up = state == HEALTH_UP;
    log_message(up ? LOG_INFO : LOG_WARNING, "endpoint %.*s of upstream \"%.*s\" is %s",
                SPAN_ARGS(generation_text(generation, target->text)),
                SPAN_ARGS(generation_text(generation, upstream->name)), up ? "up" : "down");
}

static enum status control_open(struct control *control)
{
    const struct process *process = control->process;
    control->workers =
        calloc(process->generation.header->server.workers, sizeof(*control->workers));
    control->io = io_epoll_create();
    control->ledger = ledger_map(SPAWN_FD_LEDGER, &process->generation);
    if (control->workers == NULL || control->ledger == NULL || control->io == NULL ||
        process_watch_open(&control->watch, control->io, CONTROLLER_FOREIGN) != OK) {
        return ERROR;
    }
    struct controller_options options = {
        .io = control->io,
        .generation = &process->generation,
        .admin = process->spec->listeners > 0 ? process->listeners[0] : -1,
        .health = segment_region(&process->segment, SEGMENT_HEALTH),
        .metrics = segment_region(&process->segment, SEGMENT_METRICS),
        .ledger = control->ledger,
        .on_foreign = on_foreign,
        .foreign_context = control,
        .on_health = on_health,
        .health_context = control,
    };
    control->controller = controller_create(&options);
    return control->controller != NULL ? OK : ERROR;
}

static void control_close(struct control *control)
{
    controller_destroy(control->controller);
    if (control->watch.io != NULL) {
        process_watch_close(&control->watch);
    }
    io_epoll_destroy(control->io);
    for (uint32_t i = 0;
         control->workers != NULL && i < control->process->generation.header->server.workers; i++) {
        segment_unmap(&control->workers[i]);
    }
    free(control->workers);
    segment_unmap(&control->logger);
    ledger_unmap(control->ledger, &control->process->generation);
}

int process_control(struct process *process)
{
    struct control control = {.process = process};
    if (control_open(&control) != OK) {
        log_message(LOG_ERROR, "the controller cannot start: %s", strerror(errno));
        control_close(&control);
        return 1;
    }
    process_send_ready();
    while (!control.quit) {
        controller_turn(control.controller);
        segment_count_turn(&process->segment);
    }
    control_close(&control);
    return 0;
}
