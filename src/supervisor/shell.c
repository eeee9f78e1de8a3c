#include "supervisor/shell.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "observe/log.h"
#include "supervisor/children.h"
#include "supervisor/generation_memory.h"
#include "supervisor/listen.h"
#include "supervisor/log_file.h"
#include "supervisor/pid_file.h"
#include "supervisor/refusal.h"
#include "supervisor/sandbox.h"
#include "supervisor/supervisor.h"

enum {
    MESSAGES_A_TURN = 8, /* of one child: a chatty one takes no time from the others */
    PENDING_MAX = SUPERVISOR_SLOTS_MAX + 4,
};

/* The whole process. Too large for a frame, so it is allocated once. */
struct shell {
    struct supervisor machine;
    struct supervisor_actions actions;
    struct supervisor_event pending[PENDING_MAX]; /* what our own actions led to, in order */
    size_t pending_count;
    struct children children;
    struct children_world world;
    struct listeners listeners;
    struct pid_file pid_file;
    const char *pid_file_override;
    const char *control_socket; /* of the command line; NULL: as configured */
    struct generation generation;
    struct sealed_memory memory;
    struct pollfd polled[1 + SUPERVISOR_SLOTS_MAX];
    uint32_t polled_slots[1 + SUPERVISOR_SLOTS_MAX];
    uint64_t timer_at; /* microseconds; UINT64_MAX: none */
    uint64_t tick_at;  /* when the turns of all children are looked at next */
    int signals;       /* signalfd */
    bool ended;
    int exit_code;
};

static uint64_t monotonic_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- Doing what the machine says ---- */

static void push(struct shell *shell, struct supervisor_event event)
{
    ASSERT(shell->pending_count < PENDING_MAX);
    shell->pending[shell->pending_count++] = event;
}

/* Appends to a line that is cut where it would not fit. */
static void append(char *line, size_t size, const char *format, ...) PRINTF_LIKE(3, 4);

static void append(char *line, size_t size, const char *format, ...)
{
    size_t used = strlen(line);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line + used, size - used, format, arguments);
    va_end(arguments);
}

/* One line that says what runs: what an operator looks for first. */
static void log_start(const struct shell *shell)
{
    const struct generation *generation = &shell->generation;
    const struct generation_header *header = generation->header;
    char line[LOG_LINE_MAX - 128] = "";
    char address[ADDRESS_TEXT_MAX];
    append(line, sizeof(line), "listening on ");
    for (uint32_t i = 0; i < header->listeners.count; i++) {
        const struct generation_listener *listener = generation_listener(generation, i);
        append(line, sizeof(line), "%s%.*s (%.*s)", i > 0 ? ", " : "",
               SPAN_ARGS(generation_text(generation, listener->text)),
               SPAN_ARGS(generation_text(generation, listener->name)));
    }
    if (header->server.admin.family != ADDRESS_NONE) {
        (void)address_print(&header->server.admin, address);
        append(line, sizeof(line), "; admin on %s", address);
    }
    struct span access_log = generation_text(generation, header->server.access_log);
    append(line, sizeof(line), "; access log %.*s", SPAN_ARGS(access_log));
    log_message(LOG_INFO, "sentinel " SENTINEL_VERSION ", generation %llu of %s: %s",
                (unsigned long long)header->number,
                shell->world.config != NULL ? shell->world.config : "the built-in configuration",
                line);
}

static void open_listeners(struct shell *shell)
{
    /* First: beside another instance nothing else could be opened, and its line says it best. */
    if (pid_file_open(&shell->pid_file, &shell->generation, shell->pid_file_override) != OK) {
        push(shell, (struct supervisor_event){.kind = SUPERVISOR_REFUSED});
        return;
    }
    bool listening =
        listeners_open(&shell->listeners, &shell->generation, shell->control_socket) == OK;
    bool logging = log_file_open(&shell->world.log, &shell->generation) == OK;
    if (!listening || !logging) { /* each has said what is wrong */
        push(shell, (struct supervisor_event){.kind = SUPERVISOR_REFUSED});
        return;
    }
    log_start(shell);
    push(shell, (struct supervisor_event){.kind = SUPERVISOR_LISTENING});
}

/* A file that cannot be opened leaves the old one in use. */
static void reopen_logs(struct shell *shell)
{
    if (log_file_reopen(&shell->world.log, &shell->generation)) {
        children_tell_log(&shell->children, shell->world.log);
    }
}

static void do_action(struct shell *shell, const struct supervisor_action *action)
{
    switch (action->kind) {
    case SUPERVISOR_SPAWN:
        if (children_spawn(&shell->children, action->slot, &shell->world) != OK) {
            push(shell,
                 (struct supervisor_event){.kind = SUPERVISOR_SPAWN_FAILED, .slot = action->slot});
        }
        return;
    case SUPERVISOR_TELL:
        children_tell(&shell->children, action->slot, action->order);
        return;
    case SUPERVISOR_KILL:
        children_kill(&shell->children, action->slot, action->signal);
        return;
    case SUPERVISOR_OPEN_LISTENERS:
        open_listeners(shell);
        return;
    case SUPERVISOR_CLOSE_LISTENERS:
        listeners_stop(&shell->listeners);
        return;
    case SUPERVISOR_REOPEN_LOGS:
        reopen_logs(shell);
        return;
    case SUPERVISOR_ROTATE_TICKETS:
        children_rotate_tickets(&shell->children, monotonic_now());
        return;
    case SUPERVISOR_SET_TIMER:
        shell->timer_at = action->at;
        return;
    case SUPERVISOR_LOG:
        log_message(action->level, "%s", action->text);
        return;
    case SUPERVISOR_EXIT:
        shell->ended = true;
        shell->exit_code = action->code;
        return;
    }
    UNREACHABLE("an action");
}

/* Tells the machine of one event, and of whatever doing its actions leads to. */
static void tell_machine(struct shell *shell, struct supervisor_event event)
{
    ASSERT(shell->pending_count == 0);
    push(shell, event);
    for (size_t next = 0; next < shell->pending_count && !shell->ended; next++) {
        struct supervisor_event current = shell->pending[next];
        current.now = monotonic_now();
        supervisor_handle(&shell->machine, &current, &shell->actions);
        for (size_t i = 0; i < shell->actions.count; i++) {
            do_action(shell, &shell->actions.items[i]);
        }
    }
    shell->pending_count = 0;
}

/* ---- What happens ---- */

/* Whether any listener gives its clients session tickets. */
static bool issues_tickets(const struct generation *generation)
{
    for (uint32_t i = 0; i < generation->header->tls_servers.count; i++) {
        if (generation_tls_server(generation, i)->session_tickets != 0) {
            return true;
        }
    }
    return false;
}

/* The compiler has ended well: looks at what it left, trusting none of it unchecked. */
static void adopt_generation(struct shell *shell)
{
    if (generation_memory_map(&shell->memory, &shell->generation, shell->world.generation_fd) !=
        OK) {
        log_message(LOG_ERROR, "what the compiler wrote is no configuration of this build");
        tell_machine(shell, (struct supervisor_event){.kind = SUPERVISOR_REFUSED});
        return;
    }
    shell->world.generation = &shell->generation;
    const struct generation_server *server = &shell->generation.header->server;
    if (server->workers < 1 || server->workers > SUPERVISOR_WORKERS_MAX) {
        log_message(LOG_ERROR, "%u workers are more than the %d that this build can run",
                    server->workers, SUPERVISOR_WORKERS_MAX);
        tell_machine(shell, (struct supervisor_event){.kind = SUPERVISOR_REFUSED});
        return;
    }
    tell_machine(shell, (struct supervisor_event){.kind = SUPERVISOR_COMPILED,
                                                  .workers = server->workers,
                                                  .tickets = issues_tickets(&shell->generation),
                                                  .shutdown_timeout = server->shutdown_timeout});
}

static void reap(struct shell *shell)
{
    uint32_t slot = 0;
    int wait_status = 0;
    while (!shell->ended && children_reap(&shell->children, &slot, &wait_status)) {
        tell_machine(shell, (struct supervisor_event){.kind = SUPERVISOR_CHILD_EXITED,
                                                      .slot = slot,
                                                      .wait_status = wait_status});
        if (slot == SUPERVISOR_SLOT_COMPILER && wait_status == 0 && !shell->ended) {
            adopt_generation(shell);
        }
    }
}

static void take_signals(struct shell *shell)
{
    struct signalfd_siginfo info;
    while (!shell->ended && read(shell->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            reap(shell);
        } else {
            tell_machine(shell, (struct supervisor_event){.kind = SUPERVISOR_SIGNALLED,
                                                          .signal = (int)info.ssi_signo});
        }
    }
}

static void take_messages(struct shell *shell, uint32_t slot)
{
    bool more = true;
    for (int i = 0; i < MESSAGES_A_TURN && more && !shell->ended; i++) {
        if (shell->children.items[slot].channel < 0) {
            return; /* it was reaped a moment ago */
        }
        if (children_receive(&shell->children, slot, &more)) {
            tell_machine(shell,
                         (struct supervisor_event){.kind = SUPERVISOR_CHILD_READY, .slot = slot});
        }
    }
}

static void take_turns(struct shell *shell)
{
    for (uint32_t slot = 0; slot < SUPERVISOR_SLOTS_MAX && !shell->ended; slot++) {
        const struct child *child = &shell->children.items[slot];
        if (child->pid != 0 && segment_is_mapped(&child->segment)) {
            tell_machine(shell, (struct supervisor_event){.kind = SUPERVISOR_CHILD_TURNS,
                                                          .slot = slot,
                                                          .turns = segment_turns(&child->segment)});
        }
    }
}

static void take_clock(struct shell *shell)
{
    uint64_t now = monotonic_now();
    if (!shell->ended && shell->timer_at <= now) {
        tell_machine(shell, (struct supervisor_event){.kind = SUPERVISOR_TIMER});
    }
    if (!shell->ended && shell->tick_at <= now) {
        shell->tick_at = now + SUPERVISOR_SECOND;
        take_turns(shell);
        children_sample(&shell->children);
        listeners_mend(&shell->listeners, &shell->generation);
    }
}

/* ---- The loop ---- */

static int milliseconds_to_wait(const struct shell *shell)
{
    uint64_t until = shell->timer_at < shell->tick_at ? shell->timer_at : shell->tick_at;
    uint64_t now = monotonic_now();
    return until <= now ? 0 : (int)((until - now + 999) / 1000); /* at most a second */
}

static void turn(struct shell *shell)
{
    nfds_t count = 0;
    shell->polled[count++] = (struct pollfd){.fd = shell->signals, .events = POLLIN};
    for (uint32_t slot = 0; slot < SUPERVISOR_SLOTS_MAX; slot++) {
        if (shell->children.items[slot].channel >= 0) {
            shell->polled_slots[count] = slot;
            shell->polled[count++] =
                (struct pollfd){.fd = shell->children.items[slot].channel, .events = POLLIN};
        }
    }
    int ready = poll(shell->polled, count, milliseconds_to_wait(shell));
    /* Messages first: a child that said "ready" and then died was ready. */
    for (nfds_t i = 1; ready > 0 && i < count && !shell->ended; i++) {
        if (shell->polled[i].revents != 0) {
            take_messages(shell, shell->polled_slots[i]);
        }
    }
    if (ready > 0 && shell->polled[0].revents != 0 && !shell->ended) {
        take_signals(shell);
    }
    take_clock(shell);
}

static int open_signals(void)
{
    static const int taken[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
        (void)sigaddset(&set, taken[i]);
    }
    /*
     * The third: shared memory beyond a limit of file sizes is an error that is told. The fourth:
     * who starts us may ignore the ends of his children, and of ours we would never hear then.
     */
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 || sigaction(SIGPIPE, &ignore, NULL) != 0 ||
        sigaction(SIGXFSZ, &ignore, NULL) != 0 || sigaction(SIGCHLD, &standard, NULL) != 0) {
        return -1;
    }
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* Each connection takes a descriptor or two, and the soft limit is made for other programs. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/*
 * A terminal says that it has room when it has less than a line takes: the supervisor must not wait
 * for somebody to look at it. Children inherit what is opened here.
 */
static void separate_standard_error(void)
{
    int fd = log_file_separate(STDERR_FILENO);
    if (fd >= 0) {
        (void)dup2(fd, STDERR_FILENO);
        (void)close(fd);
    }
}

static enum status shell_open(struct shell *shell, const struct shell_options *options)
{
    shell->signals = -1;
    listeners_init(&shell->listeners);
    shell->control_socket = options->control_socket;
    shell->pid_file.fd = -1;
    shell->pid_file_override = options->pid_file;
    shell->timer_at = UINT64_MAX;
    shell->tick_at = monotonic_now() + SUPERVISOR_SECOND;
    shell->world = (struct children_world){.config = options->config,
                                           .environment = options->environment,
                                           .generation_fd = -1,
                                           .secrets_fd = -1,
                                           .check_secrets_fd = -1,
                                           .listeners = &shell->listeners,
                                           .log = -1};
    if (children_init(&shell->children) != OK) {
        return ERROR;
    }
    shell->world.generation_fd = sealed_memory_create("sentinel-generation");
    shell->signals = open_signals();
    uint64_t seed = 0;
    shell->world.secrets_fd = sealed_memory_create("sentinel-secrets");
    shell->world.check_secrets_fd = sealed_memory_create("sentinel-secrets");
    if (shell->world.generation_fd < 0 || shell->world.secrets_fd < 0 ||
        shell->world.check_secrets_fd < 0 || shell->signals < 0 ||
        getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
        int error = errno;
        children_deinit(&shell->children);
        errno = error;
        return ERROR;
    }
    supervisor_init(&shell->machine, seed);
    return OK;
}

static void shell_close(struct shell *shell)
{
    children_deinit(&shell->children);
    listeners_close(&shell->listeners);
    log_file_close(&shell->world.log);
    pid_file_close(&shell->pid_file);
    sealed_memory_unmap(&shell->memory);
    (void)close(shell->world.generation_fd);
    (void)close(shell->world.secrets_fd);
    (void)close(shell->world.check_secrets_fd);
    (void)close(shell->signals);
}

int shell_run(const struct shell_options *options)
{
    if (options->config != NULL && strlen(options->config) >= SPAWN_PATH_MAX) {
        log_message(LOG_ERROR, "the path of the configuration is too long");
        return 1;
    }
    struct shell *shell = calloc(1, sizeof(*shell));
    if (shell == NULL || shell_open(shell, options) != OK) {
        log_message(LOG_ERROR, "cannot start: %s%s", refusal_reason(REFUSAL_OF_PROCESS, errno),
                    refusal_advice(REFUSAL_OF_PROCESS, errno));
        free(shell);
        return 1;
    }
    raise_descriptor_limit();
    separate_standard_error();
    struct sandbox_support support;
    sandbox_probe(&support); /* here, so that it is said once and not by every child */
    sandbox_log_missing(&support);
    tell_machine(shell, (struct supervisor_event){.kind = SUPERVISOR_STARTED});
    while (!shell->ended) {
        turn(shell);
    }
    int exit_code = shell->exit_code;
    shell_close(shell);
    free(shell);
    return exit_code;
}
