#include "supervisor/control_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/refusal.h"

enum {
    BACKLOG = 64,
    MODE = 0660,
    LOOKS = 6, /* at one that answers, before it counts as alive */
    LOOK_AGAIN_MS = 100,
};

static int open_stream(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* Whether somebody listens there: then a connection is taken, or waits in a queue. */
static bool is_alive(const struct sockaddr_un *name)
{
    int fd = open_stream();
    if (fd < 0) {
        return true; /* not known: nothing is removed */
    }
    bool alive = connect(fd, (const struct sockaddr *)name, sizeof(*name)) == 0 || errno == EAGAIN;
    (void)close(fd);
    return alive;
}

/*
 * Whether an instance lives there and stays. The controller of one whose supervisor was killed a
 * moment ago answers still: a restart at once must not be refused for it.
 */
static bool stays_alive(const struct sockaddr_un *name)
{
    const struct timespec pause = {.tv_nsec = LOOK_AGAIN_MS * 1000000L};
    for (int look = 1; is_alive(name); look++) {
        if (look == LOOKS) {
            return true;
        }
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

/* Makes room for a socket's file. False with errno when what is there is not ours to remove. */
static bool clear_place(const struct sockaddr_un *name)
{
    struct stat stat;
    if (lstat(name->sun_path, &stat) != 0) {
        return errno == ENOENT;
    }
    if (!S_ISSOCK(stat.st_mode)) {
        errno = EEXIST;
        return false;
    }
    if (stays_alive(name)) {
        errno = EADDRINUSE;
        return false;
    }
    return unlink(name->sun_path) == 0;
}

/*
 * The file is born with its mode: it is never open to more than it should be, and no name is looked
 * up a second time, which somebody who may write to the folder could have exchanged meanwhile.
 */
static bool bind_with_mode(int fd, const struct sockaddr_un *name)
{
    mode_t before = umask(0);
    bool bound =
        fchmod(fd, MODE) == 0 && bind(fd, (const struct sockaddr *)name, sizeof(*name)) == 0;
    int error = errno;
    (void)umask(before);
    errno = error;
    return bound;
}

static int bind_path(const char *path, struct stat *stat)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    if (!clear_place(&name)) {
        return -1;
    }
    int fd = open_stream();
    if (fd < 0) {
        return -1;
    }
    bool bound = bind_with_mode(fd, &name);
    if (!bound || lstat(path, stat) != 0 || listen(fd, BACKLOG) != 0) {
        int error = errno;
        if (bound) {
            (void)unlink(path);
        }
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void log_refusal(const struct generation *generation, const char *path, bool asked,
                        bool configured)
{
    const char *why = refusal_reason(REFUSAL_OF_SOCKET, errno);
    const char *advice = refusal_advice(REFUSAL_OF_SOCKET, errno);
    if (asked) {
        log_message(LOG_ERROR, "control socket %s: %s (--control-socket)%s", path, why, advice);
    } else if (configured) {
        refusal_log(LOG_ERROR, generation, &generation->header->server.control_place, advice,
                    "control socket %s: %s", path, why);
    } else {
        log_message(LOG_WARNING,
                    "no control socket, so no `sentinel recent`: %s: %s; see server control-socket",
                    path, why);
    }
}

enum status control_socket_open(struct control_socket *control, const char *asked,
                                const struct generation *generation)
{
    const struct generation_server *server = &generation->header->server;
    struct span path =
        asked != NULL ? span_of_string(asked) : generation_text(generation, server->control_socket);
    bool configured = server->control_place.line != 0;
    struct control_socket opened = {.fd = -1};
    if (span_equal(path, SPAN("off"))) {
        *control = opened;
        return OK;
    }
    if (path.size > CONTROL_SOCKET_PATH_MAX) {
        log_message(LOG_ERROR, "the path of the control socket is longer than %d bytes",
                    (int)CONTROL_SOCKET_PATH_MAX);
        return ERROR;
    }
    (void)snprintf(opened.path, sizeof(opened.path), "%.*s", SPAN_ARGS(path));
    struct stat stat;
    opened.fd = bind_path(opened.path, &stat);
    if (opened.fd < 0) {
        log_refusal(generation, opened.path, asked != NULL, configured);
        if (asked != NULL || configured) {
            return ERROR;
        }
        *control = (struct control_socket){.fd = -1};
        return OK;
    }
    opened.device = stat.st_dev;
    opened.inode = stat.st_ino;
    *control = opened;
    return OK;
}

void control_socket_close(struct control_socket *control)
{
    struct stat stat;
    if (control->fd < 0) {
        return;
    }
    (void)close(control->fd);
    control->fd = -1;
    if (lstat(control->path, &stat) == 0 && stat.st_dev == control->device &&
        stat.st_ino == control->inode) {
        (void)unlink(control->path);
    }
}
