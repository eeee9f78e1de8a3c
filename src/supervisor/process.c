#include "supervisor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "control/crash_report.h"
#include "control/logger.h"
#include "observe/access_log.h"
#include "observe/commons.h"
#include "observe/flight_recorder.h"
#include "observe/health.h"
#include "observe/log.h"
#include "proxy/client_board.h"
#include "supervisor/channel.h"
#include "supervisor/crash_handler.h"
#include "supervisor/privileges.h"

/* The name in tools that show no arguments; the system keeps 15 bytes. */
static const char *const short_names[PROCESS_ROLE_COUNT] = {
    [PROCESS_COMPILER] = "sentinel-compil",
    [PROCESS_LOGGER] = "sentinel-logger",
    [PROCESS_CONTROLLER] = "sentinel-contro",
    [PROCESS_WORKER] = "sentinel-worker",
};

static const struct spawn_spec *map_spec(void)
{
    struct stat stat;
    int seals = fcntl(SPAWN_FD_SPEC, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_WRITE) == 0 || (seals & F_SEAL_SHRINK) == 0 ||
        fstat(SPAWN_FD_SPEC, &stat) != 0 || stat.st_size != (off_t)sizeof(struct spawn_spec)) {
        return NULL;
    }
    void *memory = mmap(NULL, sizeof(struct spawn_spec), PROT_READ, MAP_SHARED, SPAWN_FD_SPEC, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    const struct spawn_spec *spec = memory;
    bool sound = spec->magic == SPAWN_MAGIC && spec->size == sizeof(*spec) &&
                 spec->role < PROCESS_ROLE_COUNT &&
                 memchr(spec->config, '\0', sizeof(spec->config)) != NULL;
    if (!sound) {
        (void)munmap(memory, sizeof(struct spawn_spec));
        return NULL;
    }
    return spec;
}

/* Copies of what the child uses must not travel further, should it ever start a program. */
static void mark_close_on_exec(uint32_t listeners)
{
    for (int fd = SPAWN_FD_SPEC; fd < SPAWN_FD_LISTENERS + (int)listeners; fd++) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}

static enum status open_listeners(struct process *process)
{
    uint32_t count = process->spec->listeners;
    process->listeners = calloc(count > 0 ? count : 1, sizeof(int));
    if (process->listeners == NULL) {
        return ERROR;
    }
    for (uint32_t i = 0; i < count; i++) {
        int fd = SPAWN_FD_LISTENERS + (int)i;
        process->listeners[i] = fcntl(fd, F_GETFD) >= 0 ? fd : -1;
    }
    return OK;
}

/* The private keys, for those roles that speak TLS, and a worker's keys for tickets. */
static enum status open_secrets(struct process *process, enum process_role role)
{
    if (role != PROCESS_WORKER && role != PROCESS_CONTROLLER) {
        return OK;
    }
    if (generation_memory_map_secrets(&process->secrets_memory, &process->secrets, SPAWN_FD_SECRETS,
                                      &process->generation) != OK) {
        log_message(LOG_ERROR, "cannot map the private keys: %s", strerror(errno));
        return ERROR;
    }
    (void)close(SPAWN_FD_SECRETS);
    if (role == PROCESS_WORKER && fcntl(SPAWN_FD_TICKETS, F_GETFD) >= 0) {
        process->tickets = ticket_memory_map(SPAWN_FD_TICKETS);
        if (process->tickets == NULL) {
            log_message(LOG_ERROR, "cannot map the keys for session tickets: %s", strerror(errno));
            return ERROR;
        }
        (void)close(SPAWN_FD_TICKETS);
    }
    return OK;
}

static enum status open_shared(struct process *process)
{
    const struct spawn_spec *spec = process->spec;
    if (generation_memory_map(&process->memory, &process->generation, SPAWN_FD_GENERATION) != OK) {
        log_message(LOG_ERROR, "cannot map the configuration: %s", strerror(errno));
        return ERROR;
    }
    enum process_role role = (enum process_role)spec->role;
    struct segment_identity identity = {role, spec->index, spec->incarnation};
    struct segment_plan plan = process_segment_plan(role, &process->generation);
    if (segment_map_owner(&process->segment, SPAWN_FD_SEGMENT, &plan, &identity) != OK) {
        log_message(LOG_ERROR, "cannot map the own segment: %s", strerror(errno));
        return ERROR;
    }
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    if (!flight_recorder_init(&process->flight, segment_region(&process->segment, SEGMENT_FLIGHT),
                              role, &process->generation, now_us)) {
        log_message(LOG_ERROR, "out of memory for the flight recorder");
        return ERROR;
    }
    if (crash_handler_install(process->flight.header) != OK) {
        log_message(LOG_WARNING, "crashes will not tell their cause: %s", strerror(errno));
    }
    if (role == PROCESS_WORKER) {
        process->commons = commons_map(SPAWN_FD_COMMONS, &process->generation);
        if (process->commons == NULL) {
            log_message(LOG_ERROR, "cannot map what the workers share: %s", strerror(errno));
            return ERROR;
        }
        (void)close(SPAWN_FD_COMMONS);
    }
    (void)close(SPAWN_FD_SEGMENT);
    (void)close(SPAWN_FD_GENERATION);
    return open_secrets(process, role);
}

static int run_role(struct process *process)
{
    switch ((enum process_role)process->spec->role) {
    case PROCESS_COMPILER:
        return process_compile(process, environ);
    case PROCESS_LOGGER:
        return process_log(process);
    case PROCESS_CONTROLLER:
        return process_control(process);
    case PROCESS_WORKER:
        return process_work(process);
    }
    UNREACHABLE("a role");
}

struct segment_plan process_segment_plan(enum process_role role,
                                         const struct generation *generation)
{
    struct segment_plan plan = {0};
    if (role != PROCESS_COMPILER) {
        plan.sizes[SEGMENT_FLIGHT] = flight_size(role, generation);
    }
    switch (role) {
    case PROCESS_COMPILER:
        break;
    case PROCESS_LOGGER:
        plan.sizes[SEGMENT_METRICS] = metrics_size(generation);
        plan.sizes[SEGMENT_CURSORS] = logger_cursors_size(generation);
        return plan;
    case PROCESS_CONTROLLER:
        plan.sizes[SEGMENT_METRICS] = metrics_size(generation);
        plan.sizes[SEGMENT_HEALTH] = health_size(generation);
        plan.sizes[SEGMENT_CRASHES] = sizeof(struct crash_reports);
        return plan;
    case PROCESS_WORKER:
        plan.sizes[SEGMENT_METRICS] = metrics_size(generation);
        plan.sizes[SEGMENT_RING] = access_log_size(generation);
        plan.sizes[SEGMENT_CLIENTS] = client_board_size(generation);
        return plan;
    }
    UNREACHABLE("a role without a segment");
}

int process_main(void)
{
    struct process process = {.spec = map_spec()};
    if (process.spec == NULL) {
        log_message(LOG_ERROR, "this command is started by `sentinel run` only");
        return 1;
    }
    (void)prctl(PR_SET_NAME, short_names[process.spec->role]);
    mark_close_on_exec(process.spec->listeners);
    if (open_listeners(&process) != OK) {
        return 1;
    }
    /* The compiler, without which there is no account yet, has its own way: process_compile. */
    bool opened = process.spec->role == PROCESS_COMPILER ||
                  (open_shared(&process) == OK &&
                   privileges_drop(&process.generation.header->server.account) == OK);
    if (opened && process.spec->role != PROCESS_COMPILER) {
        process_reserve(&process);
    }
    int exit_code = opened ? run_role(&process) : 1;
    flight_recorder_deinit(&process.flight);
    segment_unmap(&process.segment);
    commons_unmap(process.commons, &process.generation);
    process_forget_secrets(&process);
    ticket_memory_unmap(process.tickets);
    sealed_memory_unmap(&process.memory);
    free(process.listeners);
    return exit_code;
}

void process_forget_secrets(struct process *process)
{
    sealed_memory_unmap(&process->secrets_memory);
    process->secrets = (struct secrets){0};
}

void process_send_ready(void)
{
    struct channel_message message = {.kind = CHANNEL_READY};
    /* A supervisor that is gone is noticed when its next order is asked for. */
    enum status ignored = channel_tell(SPAWN_FD_CHANNEL, &message);
    (void)ignored;
}

static bool map_peer(const struct process *process, const struct channel_message *message,
                     int descriptor, struct segment *segment)
{
    struct segment_identity identity = channel_identity(message);
    bool mapped = false;
    if (identity.role != PROCESS_COMPILER) {
        struct segment_plan plan = process_segment_plan(identity.role, &process->generation);
        mapped = segment_map_reader(segment, descriptor, &plan, &identity) == OK;
    }
    if (!mapped) {
        log_message(LOG_ERROR, "cannot map another process's segment: %s", strerror(errno));
    }
    (void)close(descriptor);
    return mapped;
}

static enum process_order take_order(const struct process *process, struct segment *segment,
                                     int *detail, bool *orphaned)
{
    for (;;) { /* each round takes a message off a bounded queue */
        struct channel_message message;
        int descriptor = -1;
        enum status status = channel_receive(SPAWN_FD_CHANNEL, &message, &descriptor);
        if (status == AGAIN) {
            return PROCESS_ORDER_NONE;
        }
        if (status == END) {
            *orphaned = true;
            return PROCESS_ORDER_DRAIN;
        }
        if (status == ERROR) {
            log_message(LOG_ERROR, "an order cannot be taken: no descriptor is free for what it "
                                   "brings, or it is malformed");
            return PROCESS_ORDER_LOST;
        }
        switch ((enum channel_kind)message.kind) {
        case CHANNEL_READY:
            break;
        case CHANNEL_DRAIN:
            return PROCESS_ORDER_DRAIN;
        case CHANNEL_QUIT:
            return PROCESS_ORDER_QUIT;
        case CHANNEL_LOG:
            if (detail != NULL) {
                *detail = descriptor;
                return PROCESS_ORDER_LOG;
            }
            (void)close(descriptor);
            break;
        case CHANNEL_GONE:
            segment->identity = channel_identity(&message);
            if (detail != NULL) {
                *detail = message.wait_status;
            }
            return PROCESS_ORDER_GONE;
        case CHANNEL_SEGMENT:
            return map_peer(process, &message, descriptor, segment) ? PROCESS_ORDER_SEGMENT
                                                                    : PROCESS_ORDER_LOST;
        }
    }
}

void process_reserve(struct process *process)
{
    if (process->spare == 0) {
        int copy = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, SPAWN_FD_LISTENERS);
        process->spare = copy < 0 ? 0 : copy;
    }
}

enum process_order process_next_order(struct process *process, struct segment *segment, int *detail,
                                      bool *orphaned)
{
    if (process->spare > 0) {
        (void)close(process->spare);
        process->spare = 0;
    }
    enum process_order order = take_order(process, segment, detail, orphaned);
    process_reserve(process);
    return order;
}
