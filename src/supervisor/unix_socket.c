#include "supervisor/unix_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

enum {
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
 * Whether an instance lives there and stays. The children of one whose supervisor was killed a
 * moment ago answer still: a restart at once must not be refused for it.
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
 * The file is born with its mode and group: it is never open to more than it should be, and no name
 * is looked up a second time, which somebody who may write to the folder could have exchanged.
 */
static bool bind_file(int fd, const struct sockaddr_un *name, const struct unix_socket_file *file)
{
    mode_t mask = umask(0);
    bool own = file->group == UNIX_SOCKET_OWN_GROUP;
    gid_t group = own ? 0 : (gid_t)setfsgid(file->group);
    bool bound =
        fchmod(fd, file->mode) == 0 && bind(fd, (const struct sockaddr *)name, sizeof(*name)) == 0;
    int error = errno;
    if (!own) {
        (void)setfsgid(group);
    }
    (void)umask(mask);
    errno = error;
    return bound;
}

static int bind_path(const char *path, const struct unix_socket_file *file, struct stat *stat)
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
    bool bound = bind_file(fd, &name, file);
    if (!bound || lstat(path, stat) != 0 || listen(fd, file->backlog) != 0) {
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

void unix_socket_init(struct unix_socket *socket)
{
    *socket = (struct unix_socket){.fd = -1};
}

enum status unix_socket_open(struct unix_socket *socket, struct span path,
                             const struct unix_socket_file *file)
{
    struct unix_socket opened;
    struct stat stat;
    ASSERT(path.size <= ADDRESS_PATH_MAX);
    unix_socket_init(&opened);
    (void)snprintf(opened.path, sizeof(opened.path), "%.*s", SPAN_ARGS(path));
    opened.fd = bind_path(opened.path, file, &stat);
    if (opened.fd < 0) {
        return ERROR;
    }
    opened.device = stat.st_dev;
    opened.inode = stat.st_ino;
    *socket = opened;
    return OK;
}

void unix_socket_remove(const struct unix_socket *socket)
{
    struct stat stat;
    if (lstat(socket->path, &stat) == 0 && stat.st_dev == socket->device &&
        stat.st_ino == socket->inode) {
        (void)unlink(socket->path);
    }
}

void unix_socket_close(struct unix_socket *socket)
{
    if (socket->fd < 0) {
        return;
    }
    (void)close(socket->fd);
    socket->fd = -1;
    unix_socket_remove(socket);
}
