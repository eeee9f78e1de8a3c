/*
 * The shell of the controller process: gives it its io, the admin listener, its segment and the
 * workers' cells, and passes on what the supervisor says. Without a supervisor it ends at once: the
 * workers drain with the last word on each endpoint, since the memory outlives its owner.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "control/certificate_watch.h"
#include "control/controller.h"
#include "io/io_epoll.h"
#include "observe/ledger.h"
#include "observe/log.h"
#include "supervisor/listen.h"
#include "supervisor/process.h"
#include "supervisor/process_watch.h"
#include "supervisor/sandbox.h"

struct control {
    struct process *process;
    struct io *io;
    struct controller *controller;
    struct process_watch watch;
    const void *ledger;      /* mapped; NULL: not yet */
    struct segment *workers; /* by index; not mapped: not known yet */
    struct segment logger;   /* likewise */
    struct segment former;   /* what the controller before this one left when it crashed */
    uint64_t shed_told[SHED_KIND_COUNT];   /* what the log has been told of */
    uint64_t shed_again[SHED_KIND_COUNT];  /* when it may be told more */
    uint64_t trouble_again[TROUBLE_COUNT]; /* when the log may be told of the same again */
    struct certificate_watch certificates;
    bool ticked;
    bool quit;
    int exit_code;
};

enum { SHED_TELL_EVERY_US = 10 * 1000 * 1000, TROUBLE_TELL_EVERY_US = 60 * 1000 * 1000 };

/* Where the segment of such a process is kept; NULL: it is of no interest here. */
static struct segment *place_of(struct control *control, const struct segment_identity *identity)
{
    switch (identity->role) {
    case PROCESS_COMPILER:
        return NULL;
    case PROCESS_LOGGER:
        return &control->logger;
    case PROCESS_CONTROLLER:
        return &control->former;
    case PROCESS_WORKER:
        return identity->index < control->process->generation.header->server.workers
                   ? &control->workers[identity->index]
                   : NULL;
    }
    UNREACHABLE("a role");
}

static void adopt(struct control *control, struct segment *segment)
{
    struct segment *place = place_of(control, &segment->identity);
    if (place == NULL) {
        segment_unmap(segment);
        return;
    }
    const struct segment_identity *identity = &segment->identity;
    if (identity->role != PROCESS_CONTROLLER) {
        controller_set_process(control->controller, identity,
                               segment_region_read(segment, SEGMENT_METRICS));
        controller_set_flight(control->controller, identity, segment_pid(segment),
                              segment_region_read(segment, SEGMENT_FLIGHT));
    } else {
        controller_inherit_crashes(control->controller,
                                   segment_region_read(segment, SEGMENT_CRASHES));
    }
    segment_unmap(place);
    *place = *segment;
}

/* What the crashed process was doing, told on the operator's log. */
static void report(struct control *control, const struct segment *segment, int wait_status)
{
    const struct crash_report *made =
        controller_report_crash(control->controller, &segment->identity, segment_pid(segment),
                                segment_region_read(segment, SEGMENT_FLIGHT), wait_status);
    char line[CRASH_LINE_MAX];
    for (uint32_t i = 0; crash_report_line(made, &control->process->generation, i, line); i++) {
        log_message(LOG_ERROR, "%s", line);
    }
}

/* Its totals are in the ledger, its gauges end with it. */
static void part_with(struct control *control, const struct segment_identity *identity,
                      int wait_status)
{
    struct segment *segment = place_of(control, identity);
    if (segment == NULL || !segment_is_mapped(segment) ||
        segment->identity.incarnation != identity->incarnation) {
        return;
    }
    if (crash_is_one(wait_status)) {
        report(control, segment, wait_status);
    }
    if (identity->role != PROCESS_CONTROLLER) {
        controller_set_process(control->controller, identity, NULL);
        controller_set_flight(control->controller, identity, 0, NULL);
    }
    segment_unmap(segment);
}

static void take_orders(struct control *control)
{
    bool orphaned = false;
    while (!control->quit) { /* the queue of orders is bounded */
        struct segment segment = {0};
        int detail = 0;
        switch (process_next_order(control->process, &segment, &detail, &orphaned)) {
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
            (void)close(detail); /* the logger's */
            break;
        case PROCESS_ORDER_SEGMENT:
            adopt(control, &segment);
            break;
        case PROCESS_ORDER_GONE:
            part_with(control, &segment.identity, detail);
            break;
        case PROCESS_ORDER_LOST: /* maybe a process that would be shown no more: a successor does */
            control->quit = true;
            control->exit_code = 1;
            break;
        }
    }
}

/*
 * Tells of what the workers shed, who do not write logs themselves: at once, then every ten seconds
 * while it goes on. What a controller before this one knew is not told again.
 */
static void tell_shedding(struct control *control)
{
    uint64_t now = io_now(control->io);
    for (unsigned kind = 0; kind < SHED_KIND_COUNT; kind++) {
        uint64_t total = controller_shed(control->controller, (enum shed_kind)kind);
        uint64_t told = control->shed_told[kind];
        if (!control->ticked || total < told) {
            control->shed_told[kind] = total;
        } else if (total > told && now >= control->shed_again[kind]) {
            control->shed_told[kind] = total;
            control->shed_again[kind] = now + SHED_TELL_EVERY_US;
            log_message(LOG_WARNING, "a bound is near: %llu %s", (unsigned long long)(total - told),
                        metrics_shed_text((enum shed_kind)kind));
        }
    }
    control->ticked = true;
}

/* The rest of it stands in /metrics. */
static void tell_certificates(struct control *control)
{
    char line[CERTIFICATE_LINE_MAX];
    uint64_t now = io_wall(control->io) / 1000000;
    while (certificate_watch_tell(&control->certificates, now, line)) { /* each at most thrice */
        log_message(LOG_WARNING, "%s", line);
    }
}

static void on_foreign(void *context, struct io_socket *socket)
{
    struct control *control = context;
    if (socket == &control->watch.tick) {
        process_watch_take_tick(&control->watch);
        tell_shedding(control);
        tell_certificates(control);
    } else if (socket == &control->watch.channel) {
        take_orders(control);
    }
}

static void on_health(void *context, uint32_t endpoint, enum health_state state,
                      enum tls_detail detail)
{
    const struct control *control = (const struct control *)context;
    const struct generation *generation = &control->process->generation;
    const struct generation_endpoint *target = generation_endpoint(generation, endpoint);
    const struct generation_upstream *upstream = generation_upstream(generation, target->upstream);
    bool up = state == HEALTH_UP;
    log_message(up ? LOG_INFO : LOG_WARNING, "endpoint %.*s of upstream \"%.*s\" is %s%s%s",
                SPAN_ARGS(generation_text(generation, target->text)),
                SPAN_ARGS(generation_text(generation, upstream->name)), up ? "up" : "down",
                detail == TLS_DETAIL_NONE ? "" : ": TLS: ", tls_detail_text(detail));
}

static void on_trouble(void *context, enum controller_trouble trouble, int error)
{
    static const char *const what[TROUBLE_COUNT] = {
        [TROUBLE_CHECK] = "health checks cannot be made, and endpoints stay what they were",
        [TROUBLE_ADMIN] = "the admin listener cannot accept connections",
        [TROUBLE_CONTROL] = "the control socket cannot accept connections",
    };
    struct control *control = context;
    uint64_t now = io_now(control->io);
    if (now >= control->trouble_again[trouble]) {
        control->trouble_again[trouble] = now + TROUBLE_TELL_EVERY_US;
        log_message(LOG_ERROR, "%s: %s; it is tried again", what[trouble], strerror(error));
    }
}

static enum status control_open(struct control *control)
{
    const struct process *process = control->process;
    control->workers =
        calloc(process->generation.header->server.workers, sizeof(*control->workers));
    control->io = io_epoll_create();
    control->ledger = ledger_map(SPAWN_FD_LEDGER, &process->generation);
    if (control->workers == NULL || control->ledger == NULL || control->io == NULL ||
        !certificate_watch_init(&control->certificates, &process->generation) ||
        process_watch_open(&control->watch, control->io, CONTROLLER_FOREIGN) != OK) {
        return ERROR;
    }
    struct controller_options options = {
        .io = control->io,
        .generation = &process->generation,
        .secrets = &process->secrets,
        .admin = process->listeners[LISTENERS_ADMIN],
        .control = process->listeners[LISTENERS_CONTROL],
        .flight = &control->process->flight,
        .health = segment_region(&process->segment, SEGMENT_HEALTH),
        .metrics = segment_region(&process->segment, SEGMENT_METRICS),
        .crashes = segment_region(&process->segment, SEGMENT_CRASHES),
        .ledger = control->ledger,
        .on_foreign = on_foreign,
        .foreign_context = control,
        .on_health = on_health,
        .health_context = control,
        .on_trouble = on_trouble,
        .trouble_context = control,
    };
    control->controller = controller_create(&options);
    if (control->controller == NULL) {
        return ERROR;
    }
    controller_set_flight(control->controller, &process->segment.identity, getpid(),
                          segment_region_read(&process->segment, SEGMENT_FLIGHT));
    return OK;
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
    segment_unmap(&control->logger);
    segment_unmap(&control->former);
    certificate_watch_deinit(&control->certificates);
    free(control->workers);
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
    process_forget_secrets(process);
    if (sandbox_enter(PROCESS_CONTROLLER, &process->generation) != OK) {
        control_close(&control);
        return 1;
    }
    process_send_ready();
    while (!control.quit) {
        controller_turn(control.controller);
        segment_count_turn(&process->segment);
    }
    control_close(&control);
    return control.exit_code;
}
