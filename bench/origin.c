/*
 * origin PORT: the origin behind every proxy of the benchmark. Answers GET /1k, /64k and /1m with
 * so many bytes from memory, and closes when the request says `Connection: close`. As cheap as an
 * epoll server can be, so that what is measured is the proxy.
 */
#include "loopback.h"

enum { REQUEST_MAX = 4096 };

struct response {
    const char *path;
    size_t body;
    char *bytes; /* head and body */
    size_t size;
};

struct connection {
    size_t have; /* bytes of an unfinished head */
    const char *out;
    size_t left;
    bool close; /* once `left` is sent */
    char in[REQUEST_MAX];
};

static struct response responses[] = {{.path = "/1k", .body = 1024},
                                      {.path = "/64k", .body = 65536},
                                      {.path = "/1m", .body = 1048576}};
static struct connection *connections[DESCRIPTORS_MAX];

static void prepare(struct response *response)
{
    char head[256];
    int size =
        snprintf(head, sizeof(head),
                 "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                 "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
                 response->body);
    response->size = (size_t)size + response->body;
    response->bytes = malloc(response->size);
    if (response->bytes == NULL) {
        quit("malloc");
    }
    memcpy(response->bytes, head, (size_t)size);
    memset(response->bytes + size, 'x', response->body);
}

static void drop(int fd)
{
    close(fd);
    free(connections[fd]);
    connections[fd] = NULL;
}

/* False when the socket is full or the connection is over. */
static bool send_left(int fd, struct connection *connection)
{
    while (connection->left > 0) {
        ssize_t sent = send(fd, connection->out, connection->left, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) {
                drop(fd);
            }
            return false;
        }
        connection->out += sent;
        connection->left -= (size_t)sent;
    }
    if (connection->close) {
        drop(fd);
        return false;
    }
    return true;
}

/* Takes one whole request off the front; false when there is none. */
static bool take_request(struct connection *connection)
{
    char *end = memmem(connection->in, connection->have, "\r\n\r\n", 4);
    if (end == NULL) {
        return false;
    }
    *end = '\0'; /* the head is text from here */
    const char *path = strchr(connection->in, ' ');
    connection->close = strcasestr(connection->in, "\r\nconnection: close") != NULL;
    for (size_t i = 0; i < sizeof(responses) / sizeof(responses[0]); i++) {
        size_t size = strlen(responses[i].path);
        if (path != NULL && strncmp(path + 1, responses[i].path, size) == 0 &&
            path[1 + size] == ' ') {
            connection->out = responses[i].bytes;
            connection->left = responses[i].size;
        }
    }
    size_t used = (size_t)(end + 4 - connection->in);
    memmove(connection->in, end + 4, connection->have - used);
    connection->have -= used;
    if (connection->left == 0) {
        connection->close = true; /* nothing we know */
    }
    return true;
}

static void serve(int fd, struct connection *connection)
{
    for (;;) {
        if (!send_left(fd, connection)) {
            return;
        }
        if (take_request(connection)) {
            continue;
        }
        size_t room = REQUEST_MAX - connection->have;
        ssize_t got = room == 0 ? 0 : recv(fd, connection->in + connection->have, room, 0);
        if (got <= 0) {
            if (got == 0 || errno != EAGAIN) {
                drop(fd);
            }
            return;
        }
        connection->have += (size_t)got;
    }
}

static void accept_all(int epoll, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        if (fd >= DESCRIPTORS_MAX ||
            (connections[fd] = calloc(1, sizeof(struct connection))) == NULL) {
            quit("accept");
        }
        no_delay(fd);
        watch(epoll, fd);
    }
}

int main(int count, char **arguments)
{
    if (count != 2) {
        fprintf(stderr, "usage: origin PORT\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof(responses) / sizeof(responses[0]); i++) {
        prepare(&responses[i]);
    }
    int listener = listen_on(arguments[1]);
    int epoll = epoll_new();
    watch_listener(epoll, listener);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(epoll, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(epoll, listener);
            } else if (connections[fd] != NULL) {
                serve(fd, connections[fd]);
            }
        }
    }
}
