#include "supervisor/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "observe/log.h"

static bool is_file(struct span target)
{
    return !span_equal(target, SPAN("stdout")) && !span_equal(target, SPAN("off"));
}

static int open_path(struct span target)
{
    char *path = strndup((const char *)target.data, target.size);
    if (path == NULL) {
        return -1;
    }
    /* O_NONBLOCK: a path may name a pipe, whose reader may be away. */
    const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW;
    int fd = open(path, flags | O_CREAT, 0640);
    int error = errno;
    free(path);
    errno = error;
    return fd;
}

static const char *reason(int error)
{
    return error == ELOOP ? "it is a symbolic link, which is not followed" : strerror(error);
}

/* Says which log it is that cannot be, and where it is configured. */
static void log_refusal(const struct generation *generation, const char *what, int error)
{
    const struct generation_server *server = &generation->header->server;
    struct span file = generation_text(generation, server->access_log_place.file);
    struct span target = generation_text(generation, server->access_log);
    if (file.size == 0) {
        log_message(LOG_ERROR, "access-log %.*s: %s%s", SPAN_ARGS(target), what, reason(error));
        return;
    }
    log_message(LOG_ERROR, "access-log %.*s: %s%s (%.*s:%u)", SPAN_ARGS(target), what,
                reason(error), SPAN_ARGS(file), server->access_log_place.line);
}

enum status log_file_open(int *log, const struct generation *generation)
{
    struct span target = generation_text(generation, generation->header->server.access_log);
    int fd = is_file(target) ? open_path(target) : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        log_refusal(generation, "", errno);
        return ERROR;
    }
    *log = fd;
    return OK;
}

bool log_file_reopen(int *log, const struct generation *generation)
{
    struct span target = generation_text(generation, generation->header->server.access_log);
    if (!is_file(target)) {
        return false;
    }
    int fd = open_path(target);
    if (fd < 0) {
        log_refusal(generation, "cannot reopen, the old file stays in use: ", errno);
        return false;
    }
    log_file_close(log);
    *log = fd;
    return true;
}

void log_file_close(int *log)
{
    if (*log >= 0) {
        (void)close(*log);
    }
    *log = -1;
}
