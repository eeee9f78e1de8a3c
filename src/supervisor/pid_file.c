#include "supervisor/pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "supervisor/refusal.h"

enum {
    TEXT_MAX = 32,  /* bytes of a process id with its line end, and some */
    TRIES_MAX = 16, /* another instance's end may take the file away just when we opened it */
    MODE = 0644,
    MODE_UNLOCKED = 0600, /* of a new file: whoever could read it could lock it, before we do */
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

enum lock { LOCK_OURS, LOCK_OF_WRITER, LOCK_OF_READERS, LOCK_GONE, LOCK_FAILED };

/*
 * Locks the whole file for writing, which takes a descriptor that may write: who can only read the
 * file cannot hold such a lock, and so cannot pass for an instance.
 */
static enum lock lock_file(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        return LOCK_OURS;
    }
    if (errno != EAGAIN && errno != EACCES) {
        return LOCK_FAILED;
    }
    if (fcntl(fd, F_OFD_GETLK, &lock) != 0) {
        return LOCK_FAILED;
    }
    return lock.l_type == F_WRLCK   ? LOCK_OF_WRITER
           : lock.l_type == F_RDLCK ? LOCK_OF_READERS
                                    : LOCK_GONE; /* by now */
}

/* Gives a new file, once it is locked, the mode that it would have been made with. */
static void show(int fd)
{
    struct stat status;
    mode_t mask = umask(0);
    (void)umask(mask);
    if (fstat(fd, &status) == 0 && (status.st_mode & 07777) == (MODE_UNLOCKED & ~mask)) {
        (void)fchmod(fd, MODE & ~mask);
    }
}

/* Whether it is a pid file, or nothing yet. */
static bool is_ours_to_write(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && read_holder(fd) >= 0;
}

/*
 * Takes a left file away that readers keep us from locking. Somebody who starts another instance
 * in the same moment may have locked it just now: then both run, as far as their ports let them.
 */
static enum status remove_left(int fd, const char *path, enum pid_file_outcome *outcome)
{
    if (!is_ours_to_write(fd)) {
        *outcome = PID_FILE_FOREIGN;
        return ERROR;
    }
    return !is_same(fd, path) || unlink(path) == 0 ? AGAIN : ERROR;
}

/*
 * Locks the open file and sees to it that the path names it. AGAIN: it does not, or does not any
 * more, since it was left and removed; a new one takes its place. ERROR: *outcome says why.
 */
static enum status lock_at(int fd, const char *path, enum pid_file_outcome *outcome, pid_t *holder)
{
    pid_t pid = 0;
    *outcome = PID_FILE_FAILED;
    switch (lock_file(fd)) {
    case LOCK_OURS:
        return is_same(fd, path) ? OK : AGAIN;
    case LOCK_OF_WRITER:
        pid = read_holder(fd);
        *holder = pid > 0 ? pid : 0;
        *outcome = PID_FILE_HELD;
        return ERROR;
    case LOCK_OF_READERS:
        return remove_left(fd, path, outcome);
    case LOCK_GONE:
        return AGAIN;
    case LOCK_FAILED:
        return ERROR;
    }
    UNREACHABLE("a lock");
}

/* Opens and locks what the path names now. -1: *outcome says why not. */
static int open_locked(const char *path, enum pid_file_outcome *outcome, pid_t *holder)
{
    *outcome = PID_FILE_FAILED;
    for (int i = 0; i < TRIES_MAX; i++) {
        /* O_NONBLOCK: a pipe of that name must not hold us up; it is refused below. */
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK,
                      MODE_UNLOCKED);
        if (fd < 0) {
            return -1;
        }
        enum status status = lock_at(fd, path, outcome, holder);
        if (status == OK) {
            return fd;
        }
        int error = errno;
        (void)close(fd);
        errno = error;
        if (status == ERROR) {
            return -1;
        }
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
    if (!is_ours_to_write(fd)) {
        (void)close(fd);
        return PID_FILE_FOREIGN;
    }
    show(fd);
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

/* place: where the path is named in the configuration, line 0 for the default; NULL: an option. */
static enum status open_path(struct pid_file *file, const char *path,
                             const struct generation_place *place,
                             const struct generation *generation)
{
    bool wanted = place == NULL || place->line > 0;
    const struct generation_place nowhere = {0};
    const char *why = "it is no pid file; it was left alone";
    const char *advice = wanted ? "" : "; see server pid-file and --pid-file";
    enum log_level level = wanted ? LOG_ERROR : LOG_WARNING;
    char holder_text[64];
    pid_t holder = 0;
    switch (pid_file_take(file, path, &holder)) {
    case PID_FILE_TAKEN:
        return OK;
    case PID_FILE_HELD:
        (void)snprintf(holder_text, sizeof(holder_text), "another instance holds it, process %d",
                       (int)holder);
        why = holder_text;
        level = LOG_ERROR;
        break;
    case PID_FILE_FOREIGN:
        break;
    case PID_FILE_FAILED:
        why = refusal_reason(REFUSAL_OF_FILE, errno);
        advice = wanted ? refusal_advice(REFUSAL_OF_FILE, errno) : advice;
        break;
    }
    refusal_log(level, generation, place != NULL ? place : &nowhere, advice, "pid-file %s: %s%s",
                path, why, place != NULL ? "" : " (--pid-file)");
    return level == LOG_ERROR ? ERROR : OK;
}

enum status pid_file_open(struct pid_file *file, const struct generation *generation,
                          const char *override)
{
    const struct generation_server *server = &generation->header->server;
    struct span configured = generation_text(generation, server->pid_file);
    const struct generation_place *place = override != NULL ? NULL : &server->pid_file_place;
    char *path = override != NULL ? strdup(override)
                                  : strndup((const char *)configured.data, configured.size);
    if (path == NULL) {
        log_message(LOG_ERROR, "no memory for the pid file's name");
        return ERROR;
    }
    enum status status = strcmp(path, "off") == 0 ? OK : open_path(file, path, place, generation);
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
