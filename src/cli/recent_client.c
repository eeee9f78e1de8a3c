#include "cli/recent_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "control/recent.h"

enum { BUFFER_MAX = 16 * 1024 };

static_assert((int)RECENT_LINE_MAX < (int)BUFFER_MAX, "a whole line can be held");

struct answer {
    int fd;
    bool in_body;
    size_t size;
    char bytes[BUFFER_MAX];
};

static void say_system(char *why, size_t size, const char *path)
{
    int error = errno;
    if (error == ENOENT || error == ECONNREFUSED) {
        (void)snprintf(why, size, "no instance of Sentinel answers at %s", path);
    } else if (error == EACCES) {
        (void)snprintf(why, size,
                       "%s: permission denied; it is for its owner and its group: become root, or "
                       "see server control-group",
                       path);
    } else if (error == EAGAIN || error == EWOULDBLOCK || error == EINPROGRESS) {
        (void)snprintf(why, size, "the instance at %s does not answer within %d s", path,
                       (int)RECENT_WAIT_SECONDS);
    } else {
        (void)snprintf(why, size, "%s: %s", path, strerror(error));
    }
}

static int open_socket(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = RECENT_WAIT_SECONDS};
    if (strlen(path) >= sizeof(name.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0 ||
        connect(fd, (const struct sockaddr *)&name, sizeof(name)) != 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void drop(struct answer *answer, size_t count)
{
    answer->size -= count;
    memmove(answer->bytes, answer->bytes + count, answer->size);
}

/* Takes the head of the response off, once it is there. False when it does not say 200. */
static bool take_head(struct answer *answer, char *why, size_t size)
{
    static const char GOOD[] = "HTTP/1.1 200 ";
    const char *end = memmem(answer->bytes, answer->size, "\r\n\r\n", 4);
    if (end == NULL) {
        if (answer->size < sizeof(answer->bytes)) {
            return true;
        }
        (void)snprintf(why, size, "what answers there is no Sentinel");
        return false;
    }
    if (memcmp(answer->bytes, GOOD, sizeof(GOOD) - 1) != 0) {
        (void)snprintf(why, size, "the instance refuses to tell (it may be of another version)");
        return false;
    }
    answer->in_body = true;
    drop(answer, (size_t)(end - answer->bytes) + 4);
    return true;
}

static bool take_lines(struct answer *answer, recent_line_taker *take, void *context, char *why,
                       size_t size)
{
    size_t used = 0;
    for (;;) { /* each round takes a line off the bytes */
        const char *begin = answer->bytes + used;
        const char *newline = memchr(begin, '\n', answer->size - used);
        if (newline == NULL) {
            break;
        }
        size_t length = (size_t)(newline - begin);
        if (!take(context, span_of(begin, length))) {
            (void)snprintf(why, size, "the answer cannot be read");
            return false;
        }
        used += length + 1;
    }
    drop(answer, used);
    if (answer->size == sizeof(answer->bytes)) {
        (void)snprintf(why, size, "the answer has a line that is too long");
        return false;
    }
    return true;
}

static time_t monotonic_seconds(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static enum status read_answer(struct answer *answer, recent_line_taker *take, void *context,
                               char *why, size_t size)
{
    time_t end = monotonic_seconds() + RECENT_WHOLE_SECONDS;
    while (monotonic_seconds() < end) {
        ssize_t got =
            recv(answer->fd, answer->bytes + answer->size, sizeof(answer->bytes) - answer->size, 0);
        if (got == 0) {
            return OK;
        }
        if (got < 0) {
            return ERROR;
        }
        answer->size += (size_t)got;
        if (!answer->in_body && !take_head(answer, why, size)) {
            return ERROR;
        }
        if (answer->in_body && !take_lines(answer, take, context, why, size)) {
            return ERROR;
        }
    }
    (void)snprintf(why, size, "the answer takes longer than %d s", (int)RECENT_WHOLE_SECONDS);
    return ERROR;
}

enum status recent_ask(const char *path, recent_line_taker *take, void *context, char *why,
                       size_t size)
{
    static const char REQUEST[] = "GET /recent HTTP/1.0\r\n\r\n";
    struct answer *answer = calloc(1, sizeof(*answer));
    if (answer == NULL) {
        (void)snprintf(why, size, "out of memory");
        return ERROR;
    }
    why[0] = '\0';
    enum status status = ERROR;
    answer->fd = open_socket(path);
    if (answer->fd >= 0 && send(answer->fd, REQUEST, sizeof(REQUEST) - 1, MSG_NOSIGNAL) ==
                               (ssize_t)sizeof(REQUEST) - 1) {
        status = read_answer(answer, take, context, why, size);
    }
    if (status != OK && why[0] == '\0') {
        say_system(why, size, path);
    }
    if (answer->fd >= 0) {
        (void)close(answer->fd);
    }
    free(answer);
    return status;
}
