/*
 * forwarder PORT ORIGIN_PORT: the floor. Connects each client to the origin and copies bytes both
 * ways without looking at them; edge-triggered, registered once, one large scratch buffer. What a
 * proxy costs above this is what it does with HTTP. It cannot pool connections.
 */
#include "loopback.h"

enum { SCRATCH = 256 * 1024 };

struct side {
    int fd;
    int peer;
    bool ended; /* the end may be near: read to it */
    char *held; /* bytes for this side that its socket did not take */
    size_t held_size;
    size_t held_sent;
};

static struct side *sides[DESCRIPTORS_MAX];
static char scratch[SCRATCH];

static void drop(struct side *side)
{
    struct side *both[] = {side, sides[side->peer]};
    for (int i = 0; i < 2; i++) {
        close(both[i]->fd);
        sides[both[i]->fd] = NULL;
        free(both[i]->held);
        free(both[i]);
    }
}

static bool must_wait(void)
{
    return errno == EAGAIN || errno == ENOTCONN; /* ENOTCONN: still connecting */
}

/* Sends what is held. 1: all of it left; 0: wait; -1: broken. */
static int send_held(struct side *to)
{
    while (to->held_sent < to->held_size) {
        ssize_t sent =
            send(to->fd, to->held + to->held_sent, to->held_size - to->held_sent, MSG_NOSIGNAL);
        if (sent < 0) {
            return must_wait() ? 0 : -1;
        }
        to->held_sent += (size_t)sent;
    }
    free(to->held);
    to->held = NULL;
    to->held_size = 0;
    to->held_sent = 0;
    return 1;
}

static void hold(struct side *to, size_t from, size_t size)
{
    to->held = malloc(size - from);
    if (to->held == NULL) {
        quit("malloc");
    }
    memcpy(to->held, scratch + from, size - from);
    to->held_size = size - from;
    to->held_sent = 0;
}

/* Copies from one side to the other until one of them has to wait; false when it is over. */
static bool pump(struct side *from, struct side *to)
{
    for (;;) {
        int held = send_held(to);
        if (held <= 0) {
            return held == 0;
        }
        ssize_t got = recv(from->fd, scratch, SCRATCH, 0);
        if (got <= 0) {
            return got < 0 && must_wait();
        }
        ssize_t sent = send(to->fd, scratch, (size_t)got, MSG_NOSIGNAL);
        if (sent < 0 && !must_wait()) {
            return false;
        }
        if (sent < got) {
            hold(to, sent < 0 ? 0 : (size_t)sent, (size_t)got);
            return true;
        }
        if (got < SCRATCH && !from->ended) {
            return true; /* a short read means drained; an end is an event of its own */
        }
    }
}

static struct side *side_new(int epoll, int fd, int peer)
{
    struct side *side = calloc(1, sizeof(*side));
    if (side == NULL || fd >= DESCRIPTORS_MAX) {
        quit("connection");
    }
    side->fd = fd;
    side->peer = peer;
    sides[fd] = side;
    watch(epoll, fd);
    return side;
}

static void accept_all(int epoll, int listener, const struct sockaddr_in *origin)
{
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0) {
            return;
        }
        no_delay(client);
        int upstream = connect_to(origin);
        side_new(epoll, client, upstream);
        side_new(epoll, upstream, client);
    }
}

static void handle(struct side *side, uint32_t events)
{
    const uint32_t end = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    struct side *other = sides[side->peer];
    bool alive = true;
    /* A hint only: within one batch of events the descriptor may have passed to another client. */
    side->ended = side->ended || (events & end) != 0;
    if (events & EPOLLOUT) {
        alive = pump(other, side);
    }
    if (alive && (events & (EPOLLIN | end))) {
        alive = pump(side, other);
    }
    if (!alive) {
        drop(side);
    }
}

int main(int count, char **arguments)
{
    if (count != 3) {
        fprintf(stderr, "usage: forwarder PORT ORIGIN_PORT\n");
        return 2;
    }
    struct sockaddr_in origin = loopback(arguments[2]);
    int listener = listen_on(arguments[1]);
    int epoll = epoll_new();
    watch_listener(epoll, listener);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(epoll, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(epoll, listener, &origin);
            } else if (sides[fd] != NULL) {
                handle(sides[fd], events[i].events);
            }
        }
    }
}
