#include "supervisor/pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "observe/log.h"

enum {
    TEXT_MAX = 32,  /* bytes of a process id with its line end, and some */
    TRIES_MAX = 16, /* another instance's end may take the file away just when we opened it */
};

/* What the file holds: a process id, 0 for nothing, -1 for anything else. */
static pid_t read_holder(int fd)
{
    char text[TEXT_MAX + 1];
    ssize_t size = pread(fd, text, TEXT_MAX, 0);
    pid_t pid = 0;
    if (size <= 0) {
        return size == 0 ? 0 : -1;
    }
    for (ssize_t i = 0; i < size; i++) {
        bool last = i == size - 1;
        if (last && i > 0 && text[i] == '\n') {
            break;
        }
        if (text[i] < '0' || text[i] > '9' || pid > 100000000) {
            return -1;
        }
        pid = pid * 10 + (text[i] - '0');
    }
    return pid > 0 ? pid : -1;
}

/* Whether the path still leads to the open file. */
static bool is_same(int fd, const char *path)
{
    struct stat open_file;
    struct stat named;
    return fstat(fd, &open_file) == 0 && lstat(path, &named) == 0 &&
           open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

/* Opens and locks what the path names now. -1: *outcome says why not. */
static int open_locked(const char *path, enum pid_file_outcome *outcome, pid_t *holder)
{
    *outcome = PID_FILE_FAILED;
    for (int i = 0; i < TRIES_MAX; i++) {
        /* O_NONBLOCK: a pipe of that name must not hold us up; it is refused below. */
        int fd =
            open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0644);
        if (fd < 0) {
            return -1;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            if (is_same(fd, path)) {
                return fd;
            }
        } else if (errno == EWOULDBLOCK) {
            pid_t pid = read_holder(fd);
            *holder = pid > 0 ? pid : 0;
            *outcome = PID_FILE_HELD;
            (void)close(fd);
            return -1;
        } else {
            int error = errno;
            (void)close(fd);
            errno = error;
            return -1;
        }
        (void)close(fd);
    }
    errno = EAGAIN;
    return -1;
}

static enum status write_own(int fd)
{
    char text[TEXT_MAX];
    int size = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    ASSERT(size > 0 && size < TEXT_MAX);
    if (ftruncate(fd, 0) != 0) {
        return ERROR;
    }
    ssize_t written = pwrite(fd, text, (size_t)size, 0);
    if (written >= 0 && written != size) {
        errno = ENOSPC;
    }
    return written == size ? OK : ERROR;
}

enum pid_file_outcome pid_file_take(struct pid_file *file, const char *path, pid_t *holder)
{
    ASSERT(file->fd < 0 && file->path == NULL);
    enum pid_file_outcome outcome;
    int fd = open_locked(path, &outcome, holder);
    if (fd < 0) {
        return outcome;
    }
    struct stat status;
    bool regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    if (!regular || read_holder(fd) < 0) {
        (void)close(fd);
        return PID_FILE_FOREIGN;
    }
    char *copy = strdup(path);
    if (copy == NULL || write_own(fd) != OK) {
        int error = errno;
        (void)unlink(path); /* half written, it would be taken for somebody else's */
        (void)close(fd);
        free(copy);
        errno = error;
        return PID_FILE_FAILED;
    }
    *file = (struct pid_file){.fd = fd, .path = copy};
    return PID_FILE_TAKEN;
}

/* Logs what is wrong with the file, and where that file was named. */
static void complain(enum log_level level, const char *path, const char *what,
                     const struct generation *generation)
{
    const struct generation_place *place = &generation->header->server.pid_file_place;
    if (place->line == 0) {
        log_message(level, "pid-file %s: %s", path, what);
        return;
    }
    struct span file = generation_text(generation, place->file);
    log_message(level, "pid-file %s: %s (%.*s:%u)", path, what, SPAN_ARGS(file), place->line);
}

static enum status open_path(struct pid_file *file, const char *path, bool wanted,
                             const struct generation *generation)
{
    char what[128];
    pid_t holder = 0;
    switch (pid_file_take(file, path, &holder)) {
    case PID_FILE_TAKEN:
        return OK;
    case PID_FILE_HELD:
        (void)snprintf(what, sizeof(what), "another instance holds it, process %d", (int)holder);
        complain(LOG_ERROR, path, what, generation);
        return ERROR;
    case PID_FILE_FOREIGN:
        (void)snprintf(what, sizeof(what), "it is no pid file; it was left alone");
        break;
    case PID_FILE_FAILED:
        (void)snprintf(what, sizeof(what), "%s",
                       errno == ELOOP ? "it is a symbolic link, which is not followed"
                                      : strerror(errno));
        break;
    }
    complain(wanted ? LOG_ERROR : LOG_WARNING, path, what, generation);
    return wanted ? ERROR : OK;
}

enum status pid_file_open(struct pid_file *file, const struct generation *generation,
                          const char *override)
{
    const struct generation_server *server = &generation->header->server;
    struct span configured = generation_text(generation, server->pid_file);
    bool wanted = override != NULL || server->pid_file_place.line > 0;
    char *path = override != NULL ? strdup(override)
                                  : strndup((const char *)configured.data, configured.size);
    if (path == NULL) {
        log_message(LOG_ERROR, "no memory for the pid file's name");
        return ERROR;
    }
    enum status status = strcmp(path, "off") == 0 ? OK : open_path(file, path, wanted, generation);
    free(path);
    return status;
}

void pid_file_close(struct pid_file *file)
{
    if (file->fd >= 0) {
        if (is_same(file->fd, file->path)) {
            (void)unlink(file->path); /* still locked, so nobody has taken it over */
        }
        (void)close(file->fd);
    }
    free(file->path);
    *file = (struct pid_file){.fd = -1};
}
