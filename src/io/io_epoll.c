/*
 * The Linux backend of io.h: one epoll instance, edge-triggered. Events only set bits and queue
 * sockets, so a batch never holds a pointer to a socket that was closed while it was served.
 */
#include "io/io_epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h> /* not <netinet/tcp.h>, whose tcp_info ends early */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

enum {
    /*
     * One batch. What is read in a batch is sent on while it is still in the caches: 32 costs a
     * tenth less than 256 with 512 busy connections, and fewer save nothing (bench/RESULTS.md).
     */
    EVENTS_MAX = 32,
    ENTROPY_SIZE = 4096,    /* bytes fetched at once: ids would cost a system call each */
    ACCEPT_SKIPS_MAX = 16,  /* dead connections skipped in one accept */
    PIPE_SIZE = 256 * 1024, /* asked of the kernel; 1 MiB brings 5% (bench/RESULTS.md) */
    STREAM_EVENTS = (int)(EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET),
};

struct io {
    int epoll;
    uint64_t now;
    uint64_t wall;
    struct list ready;
    size_t entropy_used;
    uint8_t entropy[ENTROPY_SIZE];
    struct epoll_event events[EVENTS_MAX];
};

static uint64_t read_clock(clockid_t id)
{
    struct timespec time;
    int failed = clock_gettime(id, &time);
    ASSERT(failed == 0);
    return (uint64_t)time.tv_sec * 1000000U + (uint64_t)time.tv_nsec / 1000U;
}

static void refresh_clock(struct io *io)
{
    io->now = read_clock(CLOCK_MONOTONIC);
    io->wall = read_clock(CLOCK_REALTIME);
    ASSERT(io->now > 0);
}

struct io *io_epoll_create(void)
{
    struct io *io = calloc(1, sizeof(*io));
    if (io == NULL) {
        return NULL;
    }
    io->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (io->epoll < 0) {
        free(io);
        return NULL;
    }
    io->entropy_used = ENTROPY_SIZE;
    list_init(&io->ready);
    refresh_clock(io);
    return io;
}

void io_epoll_destroy(struct io *io)
{
    if (io == NULL) {
        return;
    }
    ASSERT(list_is_empty(&io->ready));
    close(io->epoll);
    free(io);
}

uint64_t io_now(const struct io *io)
{
    return io->now;
}

uint64_t io_wall(const struct io *io)
{
    return io->wall;
}

static void fetch_entropy(uint8_t *bytes, size_t size)
{
    size_t filled = 0;
    while (filled < size) {
        ssize_t got = getrandom(bytes + filled, size - filled, 0);
        ASSERT(got > 0 || errno == EINTR);
        filled += got > 0 ? (size_t)got : 0;
    }
}

void io_random(struct io *io, void *bytes, size_t size)
{
    if (size > ENTROPY_SIZE / 4) {
        fetch_entropy(bytes, size);
        return;
    }
    if (ENTROPY_SIZE - io->entropy_used < size) {
        fetch_entropy(io->entropy, ENTROPY_SIZE);
        io->entropy_used = 0;
    }
    memcpy(bytes, io->entropy + io->entropy_used, size);
    memset(io->entropy + io->entropy_used, 0, size);
    io->entropy_used += size;
}

static void queue_socket(struct io *io, struct io_socket *socket)
{
    if (!list_is_linked(&socket->ready_link)) {
        list_push_back(&io->ready, &socket->ready_link);
    }
}

/* The epoll timeout: 0 while there is work, rounded up so that a wake-up is never too early. */
static int wait_milliseconds(const struct io *io, uint64_t until)
{
    if (!list_is_empty(&io->ready)) {
        return 0;
    }
    if (until == UINT64_MAX) {
        return -1;
    }
    uint64_t now = read_clock(CLOCK_MONOTONIC);
    if (until <= now) {
        return 0;
    }
    uint64_t milliseconds = (until - now + 999U) / 1000U;
    return milliseconds < 3600000U ? (int)milliseconds : 3600000;
}

static void note_event(struct io *io, const struct epoll_event *event)
{
    struct io_socket *socket = event->data.ptr;
    unsigned ready = socket->ready;
    if ((event->events & EPOLLIN) != 0) {
        ready |= IO_READABLE;
    }
    if ((event->events & EPOLLOUT) != 0) {
        ready |= IO_WRITABLE;
    }
    if ((event->events & EPOLLRDHUP) != 0) {
        ready |= IO_PEER_CLOSED | IO_READABLE;
    }
    if ((event->events & (EPOLLERR | EPOLLHUP)) != 0) {
        ready |= IO_FAILED | IO_READABLE | IO_WRITABLE;
    }
    /*
     * Nothing new for who tries until AGAIN: a connection just accepted is told once more that it
     * can be written to. Listeners are level-triggered, and the foreign ones keep no bits.
     */
    if (ready != socket->ready || socket->foreign) {
        socket->ready = (uint8_t)ready;
        queue_socket(io, socket);
    }
}

void io_wait(struct io *io, uint64_t until)
{
    int count = epoll_wait(io->epoll, io->events, EVENTS_MAX, wait_milliseconds(io, until));
    ASSERT(count >= 0 || errno == EINTR);
    refresh_clock(io);
    for (int i = 0; i < count; i++) {
        note_event(io, &io->events[i]);
    }
}

struct io_socket *io_next_ready(struct io *io)
{
    struct list *link = list_pop_front(&io->ready);
    return link == NULL ? NULL : CONTAINER_OF(link, struct io_socket, ready_link);
}

void io_requeue(struct io *io, struct io_socket *socket)
{
    ASSERT(io_is_open(socket));
    queue_socket(io, socket);
}

void io_socket_init(struct io_socket *socket)
{
    *socket = (struct io_socket){.fd = -1};
    list_init(&socket->ready_link);
}

static enum status fail(struct io_socket *socket)
{
    socket->error = errno;
    return ERROR;
}

static enum status register_socket(struct io *io, struct io_socket *socket, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = socket};
    return epoll_ctl(io->epoll, EPOLL_CTL_ADD, socket->fd, &event) == 0 ? OK : fail(socket);
}

static enum status open_foreign(struct io *io, struct io_socket *socket, int fd, uint8_t kind,
                                uint32_t events)
{
    ASSERT(!io_is_open(socket) && fd >= 0);
    socket->fd = fd;
    socket->kind = kind;
    socket->ready = 0;
    socket->foreign = true;
    if (register_socket(io, socket, events) != OK) {
        socket->fd = -1;
        return ERROR;
    }
    return OK;
}

static void set_stream_options(int fd)
{
    int on = 1;
    /* Refused only on sockets that are no TCP, where it does not matter. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

enum status io_listen(struct io *io, struct io_socket *socket, int fd, uint8_t kind)
{
    set_stream_options(fd); /* connections inherit them: no call for each */
    return open_foreign(io, socket, fd, kind, EPOLLIN | EPOLLEXCLUSIVE);
}

enum status io_epoll_watch(struct io *io, struct io_socket *socket, int fd, uint8_t kind)
{
    return open_foreign(io, socket, fd, kind, EPOLLIN);
}

void io_listen_pause(struct io *io, struct io_socket *listener)
{
    ASSERT(listener->foreign);
    int failed = epoll_ctl(io->epoll, EPOLL_CTL_DEL, listener->fd, NULL);
    ASSERT(failed == 0 || errno == ENOENT);
    listener->ready = 0;
    list_unlink(&listener->ready_link);
}

void io_listen_resume(struct io *io, struct io_socket *listener)
{
    ASSERT(listener->foreign);
    enum status status = register_socket(io, listener, EPOLLIN | EPOLLEXCLUSIVE);
    ASSERT(status == OK || listener->error == EEXIST || listener->error == ENOMEM);
    queue_socket(io, listener); /* what came meanwhile is found by trying */
}

static enum status open_stream(struct io *io, struct io_socket *socket, int fd, uint8_t kind)
{
    socket->fd = fd;
    socket->kind = kind;
    socket->error = 0;
    socket->stream = true;
    socket->foreign = false;
    socket->ready = 0;
    if (register_socket(io, socket, (uint32_t)STREAM_EVENTS) != OK) {
        close(fd);
        socket->fd = -1;
        return ERROR;
    }
    return OK;
}

/* Errors of accept that belong to the connection, not to us (accept(2)). */
static bool connection_died(int error)
{
    return error == ECONNABORTED || error == EPROTO || error == EINTR || error == EPERM ||
           error == ENETDOWN || error == ENETUNREACH || error == EHOSTDOWN ||
           error == EHOSTUNREACH || error == ENOPROTOOPT || error == EOPNOTSUPP;
}

enum status io_accept(struct io *io, struct io_socket *listener, struct io_socket *socket,
                      uint8_t kind, struct address *peer)
{
    ASSERT(io_is_open(listener) && !io_is_open(socket));
    for (int skips = 0; skips < ACCEPT_SKIPS_MAX; skips++) {
        struct sockaddr_storage storage;
        socklen_t size = sizeof(storage);
        int fd =
            accept4(listener->fd, (struct sockaddr *)&storage, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            listener->ready = 0;
            return AGAIN;
        }
        if (fd < 0 && connection_died(errno)) {
            continue;
        }
        if (fd < 0) {
            return fail(listener);
        }
        address_from_system(&storage, peer);
        if (open_stream(io, socket, fd, kind) != OK) {
            listener->error = socket->error;
            return ERROR;
        }
        /* What is said of TCP holds there only. */
        socket->stream = peer->family == ADDRESS_IPV4 || peer->family == ADDRESS_IPV6;
        socket->ready = IO_READABLE | IO_WRITABLE; /* worth a try: most clients talk first */
        queue_socket(io, socket);
        return OK;
    }
    return AGAIN;
}

/* Apart, since a parameter named `socket` hides the system call of that name. */
static int create_stream(int family)
{
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static enum status connect_to(struct io *io, struct io_socket *socket,
                              const struct sockaddr_storage *name, socklen_t size, uint8_t kind)
{
    ASSERT(!io_is_open(socket));
    int fd = create_stream(name->ss_family);
    if (fd < 0) {
        return fail(socket);
    }
    if (name->ss_family != AF_UNIX) {
        set_stream_options(fd);
    }
    if (open_stream(io, socket, fd, kind) != OK) {
        return ERROR;
    }
    socket->stream = name->ss_family != AF_UNIX;
    if (connect(fd, (const struct sockaddr *)name, size) == 0) {
        socket->ready = IO_WRITABLE;
        return OK;
    }
    if (errno == EINPROGRESS) {
        return AGAIN;
    }
    int error = errno;
    io_close(io, socket);
    socket->error = error;
    return ERROR;
}

void io_local(struct io *io, const struct io_socket *socket, struct address *address)
{
    struct sockaddr_storage storage;
    socklen_t size = sizeof(storage);
    (void)io;
    ASSERT(io_is_open(socket));
    *address = (struct address){.family = ADDRESS_NONE};
    if (getsockname(socket->fd, (struct sockaddr *)&storage, &size) == 0) {
        address_from_system(&storage, address);
    }
}

uint64_t io_acknowledged(struct io *io, const struct io_socket *socket)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);
    (void)io;
    bool known =
        io_is_open(socket) && getsockopt(socket->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
        size >= offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof(info.tcpi_bytes_acked);
    return known ? info.tcpi_bytes_acked : 0;
}

enum status io_connect(struct io *io, struct io_socket *socket, const struct address *address,
                       uint8_t kind)
{
    struct sockaddr_storage storage;
    socklen_t size = address_to_system(address, &storage);
    return connect_to(io, socket, &storage, size, kind);
}

enum status io_connect_unix(struct io *io, struct io_socket *socket, struct span path, uint8_t kind)
{
    struct sockaddr_storage storage;
    socklen_t size = address_path_to_system(path, &storage);
    return connect_to(io, socket, &storage, size, kind);
}

enum status io_connect_result(struct io *io, struct io_socket *socket)
{
    (void)io;
    ASSERT(io_is_open(socket));
    if ((socket->ready & (IO_WRITABLE | IO_FAILED)) == 0) {
        return AGAIN;
    }
    int error = 0;
    socklen_t size = sizeof(error);
    int failed = getsockopt(socket->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    ASSERT(failed == 0);
    socket->error = error;
    return error == 0 ? OK : ERROR;
}

enum status io_read(struct io *io, struct io_socket *socket, void *data, size_t size, size_t *got)
{
    (void)io;
    ASSERT(io_is_open(socket) && size > 0);
    if ((socket->ready & IO_READABLE) == 0) {
        return AGAIN;
    }
    ssize_t count = recv(socket->fd, data, size, 0);
    if (count > 0) {
        bool drained = socket->stream && (size_t)count < size;
        if (drained && (socket->ready & (IO_PEER_CLOSED | IO_FAILED)) == 0) {
            socket->ready = (uint8_t)(socket->ready & ~(unsigned)IO_READABLE);
        }
        *got = (size_t)count;
        return OK;
    }
    if (count == 0) {
        return END;
    }
    if (errno == EAGAIN || errno == EINTR) {
        socket->ready = (uint8_t)(socket->ready & ~(unsigned)IO_READABLE);
        return AGAIN;
    }
    return fail(socket);
}

static size_t total_size(const struct iovec *pieces, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        total += pieces[i].iov_len;
    }
    return total;
}

enum status io_peek(struct io *io, struct io_socket *socket, void *data, size_t size, size_t *got)
{
    (void)io;
    ASSERT(io_is_open(socket) && size > 0);
    if ((socket->ready & IO_READABLE) == 0) {
        return AGAIN;
    }
    ssize_t count = recv(socket->fd, data, size, MSG_PEEK);
    if (count > 0) {
        *got = (size_t)count;
        return OK;
    }
    if (count == 0) {
        return END;
    }
    if (errno == EAGAIN || errno == EINTR) {
        socket->ready = (uint8_t)(socket->ready & ~(unsigned)IO_READABLE);
        return AGAIN;
    }
    return fail(socket);
}

enum status io_write(struct io *io, struct io_socket *socket, const struct iovec *pieces, int count,
                     size_t *put)
{
    (void)io;
    ASSERT(io_is_open(socket) && count > 0 && count <= 16);
    if ((socket->ready & IO_WRITABLE) == 0) {
        return AGAIN;
    }
    /* Not send: with a flag of TCP Fast Open it connects, and a sandbox would have to look. */
    ssize_t sent = count == 1 ? write(socket->fd, pieces[0].iov_base, pieces[0].iov_len)
                              : writev(socket->fd, pieces, count);
    if (sent > 0) {
        if ((size_t)sent < total_size(pieces, count)) {
            socket->ready = (uint8_t)(socket->ready & ~(unsigned)IO_WRITABLE);
        }
        *put = (size_t)sent;
        return OK;
    }
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
        socket->ready = (uint8_t)(socket->ready & ~(unsigned)IO_WRITABLE);
        return AGAIN;
    }
    return fail(socket);
}

enum status io_pipe_open(struct io *io, struct io_pipe *pipe)
{
    (void)io;
    int ends[2];
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) {
        return ERROR;
    }
    int size = fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE);
    if (size < 0) {
        size = fcntl(ends[1], F_GETPIPE_SZ); /* this user has many already: what we were given */
    }
    *pipe =
        (struct io_pipe){.in = ends[1], .out = ends[0], .capacity = size > 0 ? (uint32_t)size : 0};
    return OK;
}

void io_pipe_close(struct io *io, struct io_pipe *pipe)
{
    (void)io;
    if (pipe->in >= 0) {
        close(pipe->in);
        close(pipe->out);
        *pipe = (struct io_pipe){.in = -1, .out = -1};
    }
}

enum status io_splice_in(struct io *io, struct io_socket *socket, struct io_pipe *pipe, size_t max,
                         size_t *got)
{
    (void)io;
    ASSERT(io_is_open(socket) && pipe->in >= 0 && pipe->size == 0 && max > 0);
    if ((socket->ready & IO_READABLE) == 0) {
        return AGAIN;
    }
    ssize_t count =
        splice(socket->fd, NULL, pipe->in, NULL, max, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (count > 0) {
        pipe->size = (uint32_t)count;
        *got = (size_t)count;
        return OK;
    }
    if (count == 0) {
        return END;
    }
    if (errno == EAGAIN || errno == EINTR) { /* the pipe is empty: it is the socket's */
        socket->ready = (uint8_t)(socket->ready & ~(unsigned)IO_READABLE);
        return AGAIN;
    }
    return fail(socket);
}

/* No SPLICE_F_MORE: the kernel would keep the last bytes back should none follow for a while. */
enum status io_splice_out(struct io *io, struct io_socket *socket, struct io_pipe *pipe,
                          size_t *put)
{
    (void)io;
    ASSERT(io_is_open(socket) && pipe->in >= 0 && pipe->size > 0);
    if ((socket->ready & IO_WRITABLE) == 0) {
        return AGAIN;
    }
    ssize_t count =
        splice(pipe->out, NULL, socket->fd, NULL, pipe->size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (count > 0) {
        ASSERT((size_t)count <= pipe->size);
        pipe->size -= (uint32_t)count;
        *put = (size_t)count;
        return OK;
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        socket->ready = (uint8_t)(socket->ready & ~(unsigned)IO_WRITABLE);
        return AGAIN;
    }
    return fail(socket);
}

void io_shutdown(struct io *io, struct io_socket *socket)
{
    (void)io;
    ASSERT(io_is_open(socket));
    (void)shutdown(socket->fd, SHUT_WR); /* fails only when the connection is gone already */
}

void io_close(struct io *io, struct io_socket *socket)
{
    if (!io_is_open(socket)) {
        return;
    }
    list_unlink(&socket->ready_link);
    if (socket->foreign) {
        (void)epoll_ctl(io->epoll, EPOLL_CTL_DEL, socket->fd, NULL);
    } else {
        close(socket->fd); /* ends the registration, too: nobody has a copy of the descriptor */
    }
    socket->fd = -1;
    socket->ready = 0;
}

void io_reset(struct io *io, struct io_socket *socket)
{
    if (!io_is_open(socket)) {
        return;
    }
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(socket->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    io_close(io, socket);
}
