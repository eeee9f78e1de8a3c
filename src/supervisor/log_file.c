#include "supervisor/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/refusal.h"

static bool is_file(struct span target)
{
    return !span_equal(target, SPAN("stdout")) && !span_equal(target, SPAN("off"));
}

/*
 * Whether we could write to what only root may, since somebody gave it a second name here. Anyone
 * but root opens no more than that one may open anyway.
 */
static bool is_linked_for_root(int fd)
{
    struct stat status;
    return geteuid() == 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
           status.st_nlink > 1;
}

static int open_there(const char *path, int flags)
{
    int fd = open(path, flags);
    if (fd >= 0 && is_linked_for_root(fd)) {
        (void)close(fd);
        errno = EMLINK;
        return -1;
    }
    return fd;
}

/*
 * Opens the file, or makes it and gives it to the account whose processes write to it, so that it
 * looks the same to whoever reads logs, whether Sentinel was started as root or as that account.
 */
static int open_or_make(const char *path, const struct generation_account *account)
{
    /* O_NONBLOCK: a path may name a pipe, whose reader may be away. */
    const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW;
    int fd = open_there(path, flags);
    if (fd >= 0 || errno != ENOENT) {
        return fd;
    }
    fd = open(path, flags | O_CREAT | O_EXCL, 0640);
    if (fd < 0 && errno == EEXIST) {
        return open_there(path, flags); /* somebody else has just made it */
    }
    if (fd >= 0 && account->change != 0 && fchown(fd, account->user, account->group) != 0) {
        log_message(LOG_WARNING, "%s stays root's: %s", path, strerror(errno));
    }
    return fd;
}

static int open_path(const struct generation *generation)
{
    struct span target = generation_text(generation, generation->header->server.access_log);
    char *path = strndup((const char *)target.data, target.size);
    if (path == NULL) {
        return -1;
    }
    int fd = open_or_make(path, &generation->header->server.account);
    int error = errno;
    free(path);
    errno = error;
    return fd;
}

/* Says which log it is that cannot be, and where it is configured. */
static void log_refusal(const struct generation *generation, const char *what, int error)
{
    const struct generation_server *server = &generation->header->server;
    refusal_log(LOG_ERROR, generation, &server->access_log_place,
                refusal_advice(REFUSAL_OF_FILE, error), "access-log %.*s: %s%s",
                SPAN_ARGS(generation_text(generation, server->access_log)), what,
                refusal_reason(REFUSAL_OF_FILE, error));
}

int log_file_separate(int fd)
{
    struct stat status;
    char path[32];
    if (fstat(fd, &status) != 0 || !(S_ISFIFO(status.st_mode) || isatty(fd))) {
        errno = EINVAL;
        return -1;
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

static int open_standard_output(void)
{
    int fd = log_file_separate(STDOUT_FILENO);
    return fd >= 0 ? fd : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
}

enum status log_file_open(int *log, const struct generation *generation)
{
    struct span target = generation_text(generation, generation->header->server.access_log);
    int fd = is_file(target) ? open_path(generation) : open_standard_output();
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
    int fd = open_path(generation);
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
