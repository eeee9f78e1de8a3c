#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "supervisor/refusal.h"

enum { TITLE_MAX = 48, ENVIRONMENT_KEPT_MAX = 8 };

/* The descriptors of a child by their number there; -1: closed. */
struct plan {
    int *sources;
    int count;
    int executable;
};

static int write_spec(const struct spawn_spec *spec)
{
    int fd = memfd_create("sentinel-spec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -1;
    }
    ssize_t written = write(fd, spec, sizeof(*spec));
    if (written >= 0 && written != (ssize_t)sizeof(*spec)) {
        errno = EFBIG; /* a limit of file sizes cuts it first, and only then fails */
        written = -1;
    }
    if (written < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void print_title(char title[TITLE_MAX], const struct spawn_spec *spec)
{
    static const char *const names[PROCESS_ROLE_COUNT] = {"compiler", "logger", "controller",
                                                          "worker"};
    ASSERT(spec->role < PROCESS_ROLE_COUNT);
    if (spec->role == PROCESS_WORKER) {
        (void)snprintf(title, TITLE_MAX, SPAWN_TITLE_PREFIX "worker %u", spec->index);
    } else {
        (void)snprintf(title, TITLE_MAX, SPAWN_TITLE_PREFIX "%s", names[spec->role]);
    }
}

/*
 * Secrets travel in environments, so only the compiler, which needs it, is given ours. The
 * sanitizers' settings are passed on, without which their builds could not be tested.
 */
static void keep_environment(char *kept[ENVIRONMENT_KEPT_MAX])
{
    static const char *const names[] = {"ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS="};
    size_t count = 0;
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++) {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            if (count < ENVIRONMENT_KEPT_MAX - 1 &&
                strncmp(*variable, names[i], strlen(names[i])) == 0) {
                kept[count++] = *variable;
            }
        }
    }
    kept[count] = NULL;
}

static enum status ignore_signals(void)
{
    static const int ignored[] = {SIGINT,  SIGTERM, SIGQUIT, SIGHUP, SIGUSR1,
                                  SIGUSR2, SIGPIPE, SIGXFSZ}; /* a log at its limit of size */
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        if (sigaction(ignored[i], &ignore, NULL) != 0) {
            return ERROR;
        }
    }
    sigset_t none;
    (void)sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0 ? OK : ERROR;
}

/*
 * Puts each source on its number. All are first copied above every number that is wanted, since a
 * source may sit on another one's place.
 */
static enum status place_descriptors(struct plan *plan)
{
    plan->executable = fcntl(plan->executable, F_DUPFD_CLOEXEC, plan->count);
    if (plan->executable < 0) {
        return ERROR;
    }
    for (int i = 0; i < plan->count; i++) {
        if (plan->sources[i] < 0) {
            continue;
        }
        plan->sources[i] = fcntl(plan->sources[i], F_DUPFD_CLOEXEC, plan->count);
        if (plan->sources[i] < 0) {
            return ERROR;
        }
    }
    for (int i = 0; i < plan->count; i++) {
        if (plan->sources[i] < 0) {
            (void)close(i);
        } else if (dup2(plan->sources[i], i) < 0) {
            return ERROR;
        }
    }
    /* Ours are close-on-exec already; what we were started with may not be. */
    return close_range((unsigned)plan->count, ~0U, CLOSE_RANGE_CLOEXEC) == 0 ? OK : ERROR;
}

static _Noreturn void become(const struct spawn_options *options, struct plan *plan)
{
    char title[TITLE_MAX];
    print_title(title, options->spec);
    char *arguments[] = {title, NULL};
    char *kept[ENVIRONMENT_KEPT_MAX];
    keep_environment(kept);
    char *const *environment = options->environment != NULL ? options->environment : kept;
    if (ignore_signals() == OK && place_descriptors(plan) == OK) {
        (void)execveat(plan->executable, "", arguments, environment, AT_EMPTY_PATH);
    }
    log_message(LOG_ERROR, "cannot become \"%s\": %s%s", title,
                refusal_reason(REFUSAL_OF_PROCESS, errno),
                refusal_advice(REFUSAL_OF_PROCESS, errno));
    _exit(SPAWN_EXIT_FAILED);
}

pid_t spawn_child(const struct spawn_options *options)
{
    const struct spawn_spec *spec = options->spec;
    int count = SPAWN_FD_LISTENERS + (int)spec->listeners;
    int *sources = calloc((size_t)count, sizeof(int));
    if (sources == NULL) {
        return -1;
    }
    int spec_fd = write_spec(spec);
    if (spec_fd < 0) {
        free(sources);
        return -1;
    }
    sources[STDIN_FILENO] = options->null;
    sources[STDOUT_FILENO] = options->output;
    sources[STDERR_FILENO] = STDERR_FILENO;
    sources[SPAWN_FD_SPEC] = spec_fd;
    sources[SPAWN_FD_CHANNEL] = options->channel;
    sources[SPAWN_FD_GENERATION] = options->generation;
    sources[SPAWN_FD_SEGMENT] = options->segment;
    sources[SPAWN_FD_LIFE] = options->life;
    sources[SPAWN_FD_COMMONS] = options->shared;
    sources[SPAWN_FD_SECRETS] = options->secrets;
    sources[SPAWN_FD_TICKETS] = options->further;
    for (uint32_t i = 0; i < spec->listeners; i++) {
        sources[SPAWN_FD_LISTENERS + i] = options->listeners[i];
    }
    struct plan plan = {.sources = sources, .count = count, .executable = options->executable};
    pid_t pid = fork();
    if (pid == 0) {
        become(options, &plan);
    }
    int error = errno;
    (void)close(spec_fd);
    free(sources);
    errno = error;
    return pid;
}
