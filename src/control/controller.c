#include "control/controller.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "control/admin.h"
#include "control/health_check.h"
#include "observe/health.h"
#include "observe/ledger.h"
#include "observe/log.h"
#include "observe/metrics.h"

enum { KIND_ADMIN_LISTENER, KIND_ADMIN, KIND_CONTROL_LISTENER, KIND_CONTROL, KIND_HEALTH };

/* Places in the list of processes. */
enum { PLACE_CONTROLLER, PLACE_LOGGER, PLACE_WORKERS };

enum {
    SOCKETS_MAX = 256, /* served in one turn: timers come to their right */
    TIMERS_MAX = 256,
};

static_assert((int)KIND_HEALTH < (int)CONTROLLER_FOREIGN, "kinds are told apart");

struct controller {
    struct controller_options options;
    struct timer_wheel wheel;
    struct health_board board;
    struct ledger_view ledger;
    struct metrics own;
    struct metrics_source source;
    struct tls_engine *tls_engine; /* NULL: no check speaks TLS */
    struct upstream_tls tls;
    struct health_checks *health;
    struct admin *admin;         /* NULL: no admin listener */
    struct admin *control;       /* the same code on the control socket; NULL: none */
    struct flight_recorder none; /* where nobody looks */
    struct crash_reports *crashes;
    struct crash_reports *own_crashes; /* where no segment has a place for them */
    struct recent_process *processes;  /* owned; see PLACE_CONTROLLER */
    struct recent_source recent;
    bool was_up; /* all workers have been up at some time */
    bool draining;
    struct segment_identity logger_identity;
    struct segment_identity *identities; /* of the workers whose cells are shown */
    const void *workers[];               /* cells of each worker; NULL: none now */
};

static uint64_t workers_up(const struct controller *controller)
{
    return metrics_source_sum(&controller->source, controller->own.layout.offsets[METRIC_WORKERS]);
}

/* For /ready: after the start one worker is enough, since the others are being restarted. */
static struct admin_unready tell_unready(const void *context)
{
    const struct controller *controller = (const struct controller *)context;
    return (struct admin_unready){
        .workers = !controller->was_up || workers_up(controller) == 0,
        .health_checks = health_checks_pending(controller->health) > 0,
        .draining = controller->draining,
    };
}

static void tell_trouble(const struct controller *controller, enum controller_trouble trouble,
                         int error)
{
    if (controller->options.on_trouble != NULL) {
        controller->options.on_trouble(controller->options.trouble_context, trouble, error);
    }
}

static void on_check_trouble(void *context, int error)
{
    tell_trouble((const struct controller *)context, TROUBLE_CHECK, error);
}

static void on_admin_trouble(void *context, int error)
{
    tell_trouble((const struct controller *)context, TROUBLE_ADMIN, error);
}

static void on_control_trouble(void *context, int error)
{
    tell_trouble((const struct controller *)context, TROUBLE_CONTROL, error);
}

/* Each check may be in its handshake at the same moment. */
static uint64_t tls_heap(const struct generation *generation)
{
    uint64_t checks = upstream_tls_endpoints(generation, UPSTREAM_TLS_CHECKS);
    return checks == 0 ? 0
                       : TLS_HEAP_BASE + upstream_tls_heap(generation, UPSTREAM_TLS_CHECKS) +
                             checks * (TLS_HEAP_IDLE + TLS_HEAP_PEER + TLS_HEAP_HANDSHAKE);
}

static uint64_t tls_bytes(const struct generation *generation)
{
    uint32_t checks = upstream_tls_endpoints(generation, UPSTREAM_TLS_CHECKS);
    return checks == 0
               ? 0
               : tls_heap(generation) + tls_engine_bytes(checks) + upstream_tls_bytes(generation);
}

static bool open_tls(struct controller *controller)
{
    const struct generation *generation = controller->options.generation;
    uint32_t checks = upstream_tls_endpoints(generation, UPSTREAM_TLS_CHECKS);
    char error[TLS_ERROR_MAX] = "no memory";
    if (checks == 0) {
        return true;
    }
    controller->tls_engine = tls_engine_create(checks, tls_heap(generation));
    if (controller->tls_engine == NULL ||
        !upstream_tls_init(&controller->tls, controller->tls_engine, generation,
                           controller->options.secrets, UPSTREAM_TLS_CHECKS, error)) {
        log_message(LOG_ERROR, "TLS of health checks cannot be set up: %s", error);
        return false;
    }
    return true;
}

static enum status open_parts(struct controller *controller)
{
    const struct controller_options *options = &controller->options;
    if (!open_tls(controller)) {
        errno = ENOMEM;
        return ERROR;
    }
    struct health_options health = {
        .io = options->io,
        .wheel = &controller->wheel,
        .generation = options->generation,
        .board = &controller->board,
        .metrics = &controller->own,
        .kind = KIND_HEALTH,
        .tls = &controller->tls,
        .flight = controller->options.flight,
        .on_change = options->on_health,
        .change_context = options->health_context,
        .on_trouble = on_check_trouble,
        .trouble_context = controller,
    };
    controller->health = health_checks_create(&health);
    if (controller->health == NULL) {
        errno = ENOMEM;
        return ERROR;
    }
    struct admin_options admin = {
        .io = options->io,
        .wheel = &controller->wheel,
        .generation = options->generation,
        .listener = options->admin,
        .kind_listener = KIND_ADMIN_LISTENER,
        .kind = KIND_ADMIN,
        .source = {&controller->source, tell_unready, controller, NULL},
        .on_trouble = on_admin_trouble,
        .trouble_context = controller,
    };
    if (options->admin >= 0) {
        controller->admin = admin_create(&admin);
    }
    if (options->admin >= 0 && controller->admin == NULL) {
        return ERROR;
    }
    if (options->control < 0) {
        return OK;
    }
    admin.listener = options->control;
    admin.kind_listener = KIND_CONTROL_LISTENER;
    admin.kind = KIND_CONTROL;
    admin.source.recent = &controller->recent;
    admin.on_trouble = on_control_trouble;
    controller->control = admin_create(&admin);
    return controller->control != NULL ? OK : ERROR;
}

/* The same for the same configuration on every machine, so no secret key. */
static uint64_t hash_of(const struct generation *generation)
{
    const struct hash_key key = {0};
    return hash_keyed(&key, span_of(generation->base, generation->header->size));
}

uint64_t controller_bytes(const struct generation *generation)
{
    return sizeof(struct controller) + generation->header->server.workers * sizeof(const void *) +
           (PLACE_WORKERS + (uint64_t)generation->header->server.workers) *
               sizeof(struct recent_process) +
           ledger_size(generation) / 2 + /* the own copy of its totals */
           health_checks_bytes(generation) + 2 * admin_bytes() + tls_bytes(generation);
}

uint64_t controller_descriptors(const struct generation *generation)
{
    /* The admin listener and the control socket, each with its connections. */
    return (uint64_t)generation->header->endpoints.count + 2 * (ADMIN_CONNECTIONS_MAX + 1);
}

struct controller *controller_create(const struct controller_options *options)
{
    uint32_t workers = options->generation->header->server.workers;
    struct controller *controller =
        calloc(1, sizeof(*controller) + workers * sizeof(controller->workers[0]));
    if (controller == NULL) {
        return NULL;
    }
    controller->options = *options;
    if (options->flight == NULL) {
        controller->options.flight = &controller->none;
    }
    timer_wheel_init(&controller->wheel, io_now(options->io));
    health_board_init(&controller->board, options->health, options->generation);
    metrics_init(&controller->own, options->metrics, options->generation);
    controller->identities = calloc(workers, sizeof(controller->identities[0]));
    controller->own_crashes =
        options->crashes == NULL ? calloc(1, sizeof(*controller->own_crashes)) : NULL;
    controller->crashes = options->crashes == NULL ? controller->own_crashes : options->crashes;
    if (controller->identities == NULL || controller->crashes == NULL ||
        !ledger_view_init(&controller->ledger, options->ledger, options->generation)) {
        free(controller->own_crashes);
        free(controller->identities);
        free(controller);
        return NULL;
    }
    ledger_view_refresh(&controller->ledger); /* the time of our predecessors */
    controller->source = (struct metrics_source){
        .generation = options->generation,
        .workers = controller->workers,
        .worker_count = workers,
        .own = options->metrics,
        .totals = &controller->ledger.totals,
        .health = &controller->board,
        .processes = options->ledger == NULL
                         ? NULL
                         : ledger_processes_read(options->ledger, options->generation),
        .config_hash = hash_of(options->generation),
        .started = io_wall(options->io),
        .now = io_wall(options->io),
    };
    controller->processes = calloc(PLACE_WORKERS + (size_t)workers, sizeof(struct recent_process));
    controller->recent = (struct recent_source){
        .generation = options->generation,
        .processes = controller->processes,
        .process_count = PLACE_WORKERS + workers,
        .crashes = controller->crashes,
    };
    if (controller->processes == NULL || open_parts(controller) != OK) {
        int saved = errno;
        controller_destroy(controller);
        errno = saved;
        return NULL;
    }
    return controller;
}

void controller_destroy(struct controller *controller)
{
    if (controller == NULL) {
        return;
    }
    admin_destroy(controller->admin);
    admin_destroy(controller->control);
    free(controller->processes);
    health_checks_destroy(controller->health);
    upstream_tls_deinit(&controller->tls);
    tls_engine_destroy(controller->tls_engine);
    ledger_view_deinit(&controller->ledger);
    free(controller->identities);
    free(controller->own_crashes);
    free(controller);
}

/* What is in the totals by now is not shown a second time. */
static void drop_folded(struct controller *controller)
{
    ledger_view_refresh(&controller->ledger);
    for (uint32_t i = 0; i < controller->source.worker_count; i++) {
        if (controller->workers[i] != NULL &&
            ledger_view_contains(&controller->ledger, &controller->identities[i])) {
            controller->workers[i] = NULL;
        }
    }
    if (controller->source.logger != NULL &&
        ledger_view_contains(&controller->ledger, &controller->logger_identity)) {
        controller->source.logger = NULL;
    }
}

/* Nothing is written out while this runs, so all of it happens in the same instant for a scrape. */
void controller_set_process(struct controller *controller, const struct segment_identity *identity,
                            const void *metrics)
{
    drop_folded(controller);
    if (ledger_view_contains(&controller->ledger, identity)) {
        metrics = NULL; /* news of a process that has ended meanwhile */
    }
    if (identity->role == PROCESS_LOGGER) {
        controller->source.logger = metrics;
        controller->logger_identity = *identity;
        return;
    }
    ASSERT(identity->role == PROCESS_WORKER && identity->index < controller->source.worker_count);
    controller->workers[identity->index] = metrics;
    controller->identities[identity->index] = *identity;
}

static struct recent_process describe(const struct controller *controller,
                                      const struct segment_identity *identity, int32_t pid,
                                      const void *flight)
{
    struct recent_process process = {.identity = *identity, .pid = pid};
    flight_view_init(&process.view, flight, identity->role, controller->options.generation);
    return process;
}

void controller_set_flight(struct controller *controller, const struct segment_identity *identity,
                           int32_t pid, const void *flight)
{
    ASSERT(identity->role != PROCESS_COMPILER);
    uint32_t place = identity->role == PROCESS_CONTROLLER ? PLACE_CONTROLLER
                     : identity->role == PROCESS_LOGGER   ? PLACE_LOGGER
                                                          : PLACE_WORKERS + identity->index;
    ASSERT(place < controller->recent.process_count);
    controller->processes[place] = describe(controller, identity, pid, flight);
}

const struct crash_report *controller_report_crash(struct controller *controller,
                                                   const struct segment_identity *identity,
                                                   int32_t pid, const void *flight, int wait_status)
{
    struct io *io = controller->options.io;
    const struct recent_process process = describe(controller, identity, pid, flight);
    const struct recent_clock clock = {io_now(io), io_wall(io)};
    return crash_reports_add(controller->crashes, &process, wait_status, &clock);
}

void controller_inherit_crashes(struct controller *controller, const void *crashes)
{
    crash_reports_inherit(controller->crashes, crashes, controller->options.generation);
}

void controller_drain(struct controller *controller)
{
    controller->draining = true;
}

static void serve(struct controller *controller, struct io_socket *socket)
{
    const struct flight_recorder *flight = controller->options.flight;
    switch (socket->kind) {
    case KIND_ADMIN_LISTENER:
        flight_doing(flight, FLIGHT_ADMIN, 0);
        admin_on_listener(controller->admin);
        return;
    case KIND_ADMIN:
        flight_doing(flight, FLIGHT_ADMIN, 0);
        admin_on_ready(controller->admin, socket);
        return;
    case KIND_CONTROL_LISTENER:
        flight_doing(flight, FLIGHT_CONTROL, 0);
        admin_on_listener(controller->control);
        return;
    case KIND_CONTROL:
        flight_doing(flight, FLIGHT_CONTROL, 0);
        admin_on_ready(controller->control, socket);
        return;
    case KIND_HEALTH:
        health_checks_on_ready(controller->health, socket);
        return;
    case CONTROLLER_FOREIGN:
        ASSERT(controller->options.on_foreign != NULL);
        flight_doing(flight, FLIGHT_CHANNEL, 0);
        controller->options.on_foreign(controller->options.foreign_context, socket);
        return;
    default:
        UNREACHABLE("a kind of socket");
    }
}

static void fire(struct controller *controller, struct timer *timer)
{
    const struct flight_recorder *flight = controller->options.flight;
    if (timer->kind == KIND_ADMIN) {
        flight_doing(flight, FLIGHT_ADMIN, 0);
        admin_on_timer(controller->admin, timer);
    } else if (timer->kind == KIND_CONTROL) {
        flight_doing(flight, FLIGHT_CONTROL, 0);
        admin_on_timer(controller->control, timer);
    } else {
        ASSERT(timer->kind == KIND_HEALTH);
        health_checks_on_timer(controller->health, timer);
    }
}

static void publish_admin(struct controller *controller)
{
    if (controller->admin != NULL) {
        metrics_set_at(&controller->own, METRIC_LIMIT_UTILIZATION, LIMIT_ADMIN_CONNECTIONS,
                       admin_connections(controller->admin) * UINT64_C(1000000) /
                           ADMIN_CONNECTIONS_MAX);
    }
}

uint64_t controller_shed(const struct controller *controller, enum shed_kind kind)
{
    return metrics_source_sum(&controller->source,
                              controller->own.layout.offsets[METRIC_SHED] + kind);
}

void controller_turn(struct controller *controller)
{
    struct io *io = controller->options.io;
    flight_doing(controller->options.flight, FLIGHT_WAIT, 0);
    io_wait(io, timer_wheel_next(&controller->wheel));
    controller->source.now = io_wall(io);
    flight_turn(controller->options.flight, io_now(io));
    controller->was_up |= workers_up(controller) >= controller->source.worker_count;
    struct io_socket *socket = NULL;
    for (unsigned i = 0; i < SOCKETS_MAX && (socket = io_next_ready(io)) != NULL; i++) {
        serve(controller, socket);
    }
    struct timer *timer = NULL;
    for (unsigned i = 0;
         i < TIMERS_MAX && (timer = timer_wheel_expire(&controller->wheel, io_now(io))) != NULL;
         i++) {
        fire(controller, timer);
    }
    publish_admin(controller);
}
