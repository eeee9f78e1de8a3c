#include "supervisor/children.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "observe/commons.h"
#include "observe/log.h"
#include "supervisor/channel.h"
#include "supervisor/process.h"
#include "supervisor/process_sample.h"
#include "supervisor/refusal.h"

static void close_descriptor(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
    *fd = -1;
}

static void clear(struct child *child)
{
    close_descriptor(&child->channel);
    close_descriptor(&child->segment_fd);
    segment_unmap(&child->segment);
    child->pid = 0;
    child->ready = false;
}

enum status children_init(struct children *children)
{
    memset(children, 0, sizeof(*children));
    for (uint32_t i = 0; i < SUPERVISOR_SLOTS_MAX; i++) {
        children->items[i].channel = -1;
        children->items[i].segment_fd = -1;
    }
    children->life[0] = -1;
    children->life[1] = -1;
    children->commons = -1;
    children->tickets.fd = -1;
    children->ledger_fd = -1;
    children->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    children->executable = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    ssize_t drawn = getrandom(&children->client_key, sizeof(children->client_key), 0);
    if (children->null < 0 || children->executable < 0 || pipe2(children->life, O_CLOEXEC) != 0 ||
        drawn != (ssize_t)sizeof(children->client_key)) {
        int error = errno;
        children_deinit(children);
        errno = error;
        return ERROR;
    }
    return OK;
}

void children_deinit(struct children *children)
{
    for (uint32_t i = 0; i < SUPERVISOR_SLOTS_MAX; i++) {
        clear(&children->items[i]);
    }
    for (; children->remains_count > 0; children->remains_count--) {
        close_descriptor(&children->remains[children->remains_count - 1].segment_fd);
    }
    unread_logs_clear(&children->unread);
    close_descriptor(&children->life[0]);
    close_descriptor(&children->life[1]);
    close_descriptor(&children->commons);
    ticket_memory_destroy(&children->tickets);
    close_descriptor(&children->ledger_fd);
    if (children->generation != NULL) {
        ledger_destroy(&children->ledger, children->generation);
    }
    close_descriptor(&children->null);
    close_descriptor(&children->executable);
}

void children_kill(struct children *children, uint32_t slot, int signal)
{
    ASSERT(slot < SUPERVISOR_SLOTS_MAX);
    /* Not yet reaped, so the number cannot have become another process's. */
    if (children->items[slot].pid > 0) {
        (void)kill(children->items[slot].pid, signal);
    }
}

/* Whoever cannot be told the news would act on old ones: it is made anew, with all of them. */
static void send_or_kill(struct children *children, uint32_t slot,
                         const struct channel_message *message, int descriptor)
{
    const struct child *child = &children->items[slot];
    if (child->pid == 0 || child->channel < 0) {
        return; /* it has closed its end: it is about to be reaped */
    }
    enum status status = channel_send(child->channel, message, descriptor);
    /* The second: the system bounds the descriptors that are on their way to all children. */
    if (status == AGAIN || (status == ERROR && errno == ETOOMANYREFS)) {
        log_message(LOG_ERROR, "process %d does not read its control channel; killed",
                    (int)child->pid);
        children_kill(children, slot, SIGKILL);
    }
}

void children_tell(struct children *children, uint32_t slot, enum supervisor_order order)
{
    static const enum channel_kind kinds[] = {
        [SUPERVISOR_ORDER_DRAIN] = CHANNEL_DRAIN, [SUPERVISOR_ORDER_QUIT] = CHANNEL_QUIT};
    ASSERT(slot < SUPERVISOR_SLOTS_MAX);
    struct channel_message message = {.kind = kinds[order]};
    send_or_kill(children, slot, &message, -1);
}

void children_tell_log(struct children *children, int log)
{
    struct channel_message message = {.kind = CHANNEL_LOG};
    send_or_kill(children, SUPERVISOR_SLOT_LOGGER, &message, log);
}

/* Whether a process of the first role reads the segments of the second. */
static bool reads(enum process_role reader, enum process_role owner)
{
    switch (reader) {
    case PROCESS_COMPILER:
        return false;
    case PROCESS_LOGGER:
        return owner == PROCESS_WORKER;
    case PROCESS_CONTROLLER:
        return owner == PROCESS_WORKER || owner == PROCESS_LOGGER;
    case PROCESS_WORKER:
        return owner != PROCESS_COMPILER;
    }
    UNREACHABLE("a role");
}

static struct channel_message message_of(enum channel_kind kind,
                                         const struct segment_identity *identity, int wait_status)
{
    return (struct channel_message){.kind = kind,
                                    .role = (uint32_t)identity->role,
                                    .index = identity->index,
                                    .wait_status = wait_status,
                                    .incarnation = identity->incarnation};
}

/* Tells a child of another's segment, or of its end, if it has to do with it. */
static void tell_of(struct children *children, uint32_t reader, uint32_t owner,
                    enum channel_kind kind, int wait_status)
{
    const struct child *child = &children->items[owner];
    if (reader == owner || !child->ready || child->segment_fd < 0 ||
        !reads(supervisor_role(reader), supervisor_role(owner))) {
        return;
    }
    struct channel_message message = message_of(kind, &child->segment.identity, wait_status);
    send_or_kill(children, reader, &message, kind == CHANNEL_SEGMENT ? child->segment_fd : -1);
}

/* Hands a new child the segments of those that are ready. */
static void hand_others(struct children *children, uint32_t reader)
{
    for (uint32_t owner = 0; owner < SUPERVISOR_SLOTS_MAX; owner++) {
        tell_of(children, reader, owner, CHANNEL_SEGMENT, 0);
    }
}

/* Tells all that live that a child has become ready, with its segment, or has ended. */
static void announce(struct children *children, uint32_t owner, enum channel_kind kind,
                     int wait_status)
{
    for (uint32_t reader = 0; reader < SUPERVISOR_SLOTS_MAX; reader++) {
        if (children->items[reader].pid != 0) {
            tell_of(children, reader, owner, kind, wait_status);
        }
    }
}

/* Tells the controller of a process that it does not know, or knows no more, and of its end. */
static void tell_of_remains(struct children *children, const struct remains *remains)
{
    struct channel_message segment = message_of(CHANNEL_SEGMENT, &remains->identity, 0);
    struct channel_message gone =
        message_of(CHANNEL_GONE, &remains->identity, remains->wait_status);
    send_or_kill(children, SUPERVISOR_SLOT_CONTROLLER, &segment, remains->segment_fd);
    send_or_kill(children, SUPERVISOR_SLOT_CONTROLLER, &gone, -1);
}

static void drop_first_remains(struct children *children)
{
    close_descriptor(&children->remains[0].segment_fd);
    children->remains_count--;
    memmove(children->remains, children->remains + 1,
            children->remains_count * sizeof(children->remains[0]));
}

static void hand_remains(struct children *children)
{
    while (children->remains_count > 0) {
        tell_of_remains(children, &children->remains[0]);
        drop_first_remains(children);
    }
}

/* A new logger reads first what those left who have ended. */
static void hand_unread(struct children *children)
{
    for (uint32_t i = 0; i < children->unread.count; i++) {
        const struct unread_log *log = &children->unread.items[i];
        struct channel_message segment = message_of(CHANNEL_SEGMENT, &log->segment.identity, 0);
        struct channel_message gone = message_of(CHANNEL_GONE, &log->segment.identity, 0);
        send_or_kill(children, SUPERVISOR_SLOT_LOGGER, &segment, log->fd);
        send_or_kill(children, SUPERVISOR_SLOT_LOGGER, &gone, -1);
    }
}

/*
 * Sees to it that a crash gets its report. A controller that knew the process has been told; one
 * that did not, since the process was not ready, is given what it left. Without a controller that
 * is kept for the next one, who so reports the end of the one before it.
 */
static void report_crash(struct children *children, uint32_t slot, int wait_status)
{
    struct child *child = &children->items[slot];
    const struct child *controller = &children->items[SUPERVISOR_SLOT_CONTROLLER];
    bool ended_well = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
    if (ended_well || child->segment_fd < 0) {
        return;
    }
    struct remains remains = {child->segment.identity, child->segment_fd, wait_status};
    if (controller != child && controller->pid != 0 && controller->channel >= 0) {
        if (!child->ready) {
            tell_of_remains(children, &remains);
        }
        return;
    }
    if (children->remains_count == REMAINS_MAX) {
        drop_first_remains(children);
    }
    children->remains[children->remains_count++] = remains;
    child->segment_fd = -1;
}

static enum status make_segment(struct children *children, uint32_t slot,
                                const struct generation *generation)
{
    struct child *child = &children->items[slot];
    enum process_role role = supervisor_role(slot);
    if (role == PROCESS_COMPILER) {
        return OK;
    }
    struct segment_identity identity = {role, supervisor_index(slot), children->incarnations};
    struct segment_plan plan = process_segment_plan(role, generation);
    child->segment_fd = segment_create(&plan, &identity);
    if (child->segment_fd < 0) {
        return ERROR;
    }
    return segment_map_reader(&child->segment, child->segment_fd, &plan, &identity);
}

/* What the workers share outlives each of them: it is made once. */
static enum status make_commons(struct children *children, uint32_t slot,
                                const struct generation *generation)
{
    if (supervisor_role(slot) == PROCESS_WORKER && children->commons < 0) {
        children->commons = commons_create(generation);
        return children->commons >= 0 ? OK : ERROR;
    }
    return OK;
}

static uint64_t wall_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The ledger outlives each of those that it counts. */
static enum status make_ledger(struct children *children, uint32_t slot,
                               const struct generation *generation)
{
    if (supervisor_role(slot) != PROCESS_COMPILER && children->ledger_fd < 0) {
        children->ledger_fd = ledger_create(&children->ledger, generation);
        children->generation = generation;
        if (children->ledger_fd >= 0) {
            process_row_begin(ledger_processes(&children->ledger, generation), wall_now());
        }
        return children->ledger_fd >= 0 ? OK : ERROR;
    }
    return OK;
}

static_assert((int)SUPERVISOR_SLOT_LOGGER == (int)PROCESS_ROW_LOGGER &&
                  (int)SUPERVISOR_SLOT_CONTROLLER == (int)PROCESS_ROW_CONTROLLER &&
                  (int)SUPERVISOR_SLOT_WORKERS == (int)PROCESS_ROW_WORKERS,
              "a slot is a row, and the compiler's is the supervisor's");

static struct process_row *row_of(const struct children *children, uint32_t slot)
{
    ASSERT(slot < process_table_rows(children->generation));
    return ledger_processes(&children->ledger, children->generation) + slot;
}

void children_sample(struct children *children)
{
    unread_logs_forget(&children->unread, &children->items[SUPERVISOR_SLOT_LOGGER].segment);
    if (children->ledger_fd < 0) {
        return; /* there is nobody to tell yet */
    }
    struct process_sample sample = process_sample_of(getpid());
    process_row_set(row_of(children, PROCESS_ROW_SUPERVISOR), &sample);
    for (uint32_t slot = PROCESS_ROW_LOGGER; slot < process_table_rows(children->generation);
         slot++) {
        if (children->items[slot].pid > 0) {
            sample = process_sample_of(children->items[slot].pid);
            process_row_set(row_of(children, slot), &sample);
        }
    }
}

static void fill_spec(struct children *children, uint32_t slot, const struct children_world *world)
{
    struct spawn_spec *spec = &children->spec;
    memset(spec, 0, sizeof(*spec));
    spec->magic = SPAWN_MAGIC;
    spec->size = sizeof(*spec);
    spec->role = (uint32_t)supervisor_role(slot);
    spec->index = supervisor_index(slot);
    spec->incarnation = children->incarnations;
    if (spec->role == PROCESS_WORKER) {
        spec->listeners = world->listeners->count;
        spec->client_key = children->client_key;
    } else if (spec->role == PROCESS_CONTROLLER) {
        spec->listeners = LISTENERS_OF_CONTROLLER;
    } else if (spec->role == PROCESS_COMPILER && world->config != NULL) {
        (void)snprintf(spec->config, sizeof(spec->config), "%s", world->config);
    }
}

void children_rotate_tickets(struct children *children, uint64_t now)
{
    if ((children->tickets.fd < 0 && ticket_memory_create(&children->tickets) != OK) ||
        ticket_memory_rotate(&children->tickets, now) != OK) {
        log_message(LOG_ERROR, "no new key for TLS session tickets: %s", strerror(errno));
    }
}

/* What the role is given beside its one set of keys. */
static int further_of(const struct children *children, enum process_role role,
                      const struct children_world *world)
{
    return role == PROCESS_COMPILER ? world->check_secrets_fd
           : role == PROCESS_WORKER ? children->tickets.fd
                                    : -1;
}

/* The private keys that the role gets to see, or, the compiler, to write. */
static int secrets_of(enum process_role role, const struct children_world *world)
{
    switch (role) {
    case PROCESS_COMPILER:
    case PROCESS_WORKER:
        return world->secrets_fd;
    case PROCESS_CONTROLLER:
        return world->check_secrets_fd;
    case PROCESS_LOGGER:
        return -1;
    }
    UNREACHABLE("a role");
}

static enum status fork_child(struct children *children, uint32_t slot,
                              const struct children_world *world)
{
    struct child *child = &children->items[slot];
    enum process_role role = supervisor_role(slot);
    int ends[2];
    if (channel_create(ends) != OK) {
        return ERROR;
    }
    fill_spec(children, slot, world);
    struct spawn_options options = {
        .executable = children->executable,
        .null = children->null,
        .output = role == PROCESS_LOGGER ? world->log : children->null,
        .channel = ends[1],
        .generation = world->generation_fd,
        .segment = child->segment_fd,
        .life = role == PROCESS_WORKER   ? children->life[1]
                : role == PROCESS_LOGGER ? children->life[0]
                                         : -1,
        .shared = role == PROCESS_WORKER       ? children->commons
                  : role == PROCESS_CONTROLLER ? children->ledger_fd
                                               : -1,
        .secrets = secrets_of(role, world),
        .further = further_of(children, role, world),
        .listeners =
            role == PROCESS_CONTROLLER ? world->listeners->controller : world->listeners->fds,
        .spec = &children->spec,
        .environment = role == PROCESS_COMPILER ? world->environment : NULL,
    };
    pid_t pid = spawn_child(&options);
    int error = errno;
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        errno = error;
        return ERROR;
    }
    child->pid = pid;
    child->channel = ends[0];
    if (role != PROCESS_COMPILER) {
        process_row_begin(row_of(children, slot), wall_now());
    }
    return OK;
}

enum status children_spawn(struct children *children, uint32_t slot,
                           const struct children_world *world)
{
    struct child *child = &children->items[slot];
    ASSERT(child->pid == 0 && child->channel < 0 && child->segment_fd < 0);
    children->incarnations++;
    if (make_segment(children, slot, world->generation) != OK ||
        make_commons(children, slot, world->generation) != OK ||
        make_ledger(children, slot, world->generation) != OK ||
        fork_child(children, slot, world) != OK) {
        log_message(LOG_ERROR, "cannot make a process: %s%s",
                    refusal_reason(REFUSAL_OF_PROCESS, errno),
                    refusal_advice(REFUSAL_OF_PROCESS, errno));
        clear(child);
        return ERROR;
    }
    if (supervisor_role(slot) == PROCESS_CONTROLLER) {
        hand_remains(children);
    } else if (supervisor_role(slot) == PROCESS_LOGGER) {
        hand_unread(children);
    }
    hand_others(children, slot);
    return OK;
}

/*
 * Whether a child has closed its end: an empty packet, which none of ours sends, reads like that,
 * and nobody would listen to that child any more.
 */
static bool has_hung_up(const struct child *child)
{
    struct pollfd polled = {.fd = child->channel};
    return poll(&polled, 1, 0) == 1 && (polled.revents & POLLHUP) != 0;
}

bool children_receive(struct children *children, uint32_t slot, bool *more)
{
    struct child *child = &children->items[slot];
    struct channel_message message;
    int descriptor = -1;
    enum status status = channel_receive(child->channel, &message, &descriptor);
    *more = status == OK;
    close_descriptor(&descriptor); /* nothing of a child's is wanted here */
    bool strange = (status == OK && (message.kind != CHANNEL_READY || child->ready)) ||
                   (status == END && !has_hung_up(child));
    if (status == ERROR || strange) {
        log_message(LOG_ERROR, "process %d sent what no child of ours sends; killed",
                    (int)child->pid);
        children_kill(children, slot, SIGKILL);
        close_descriptor(&child->channel);
        *more = false;
        return false;
    }
    if (status == END) {
        close_descriptor(&child->channel);
    }
    if (status != OK) {
        return false;
    }
    child->ready = true;
    announce(children, slot, CHANNEL_SEGMENT, 0);
    return true;
}

/* The child has ended, so its cells are final. */
static void fold(struct children *children, uint32_t slot)
{
    const struct segment *segment = &children->items[slot].segment;
    if (segment_is_mapped(segment)) {
        ledger_fold(&children->ledger, &segment->identity,
                    segment_region_read(segment, SEGMENT_METRICS));
    }
}

/* The first: also the last look at what a logger that has ended had read. */
static void keep_log(struct children *children, uint32_t slot)
{
    const struct child *child = &children->items[slot];
    unread_logs_forget(&children->unread, &children->items[SUPERVISOR_SLOT_LOGGER].segment);
    if (supervisor_role(slot) == PROCESS_WORKER && child->ready) {
        unread_logs_keep(&children->unread, &child->segment, child->segment_fd);
    }
}

bool children_reap(struct children *children, uint32_t *slot, int *wait_status)
{
    int status = 0;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (uint32_t i = 0; i < SUPERVISOR_SLOTS_MAX; i++) {
            if (children->items[i].pid == pid) {
                fold(children, i);
                if (children->ledger_fd >= 0 && i != SUPERVISOR_SLOT_COMPILER) {
                    process_row_end(row_of(children, i));
                }
                announce(children, i, CHANNEL_GONE, status);
                keep_log(children, i);
                report_crash(children, i, status);
                clear(&children->items[i]);
                *slot = i;
                *wait_status = status;
                return true;
            }
        }
    }
    return false;
}
