#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "control.h"
#include "wire.h"

enum { CONNECTIONS_MAX = 8, REQUEST_MAX = 1024, KIND_LISTENER = 1, KIND_CONNECTION = 2 };

struct check_connection {
    struct wire wire;
    size_t size;
    bool answered;
    char request[REQUEST_MAX];
};

struct checked {
    struct io *io;
    struct io_socket listener;
    uint64_t ill_from;
    uint64_t ill_until;
    const char *well;
    const char *ill; /* NULL: silence */
    struct check_connection connections[CONNECTIONS_MAX];
};

static const char *const WELL[] = {
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 301 Moved Permanently\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nno",
};

static const char *const ILL[] = {
    NULL,
    "",
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/1.1 2",
};

struct address checked_address(uint32_t index)
{
    return (struct address){
        .family = ADDRESS_IPV4, .port = 80, .ip = {10, 2, 0, (uint8_t)(index + 1)}};
}

static void accept_checks(struct checked *checked)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        struct check_connection *connection = &checked->connections[i];
        struct address peer;
        if (io_is_open(&connection->wire.socket)) {
            continue;
        }
        if (io_accept(checked->io, &checked->listener, &connection->wire.socket, KIND_CONNECTION,
                      &peer) != OK) {
            return;
        }
        connection->wire.connected = true;
        connection->wire.failed = false;
        connection->size = 0;
        connection->answered = false;
    }
}

static enum status answer_check(struct checked *checked, struct check_connection *connection)
{
    uint64_t now = io_now(checked->io);
    bool ill = now >= checked->ill_from && now < checked->ill_until;
    const char *answer = ill ? checked->ill : checked->well;
    connection->request[connection->size] = '\0';
    if (connection->answered || strstr(connection->request, "\r\n\r\n") == NULL) {
        return OK;
    }
    if (strncmp(connection->request, "GET /health?deep=1 HTTP/1.1\r\n", 29) != 0) {
        run_failed("a check asks `%s`", connection->request);
    }
    connection->answered = true;
    if (answer == NULL) {
        return OK;
    }
    wire_push(&connection->wire, answer, strlen(answer));
    return answer[0] == '\0' ? END : OK;
}

static void serve_check(struct checked *checked, struct check_connection *connection)
{
    struct wire *wire = &connection->wire;
    enum status status = OK;
    while (status == OK) {
        size_t got = 0;
        size_t room = REQUEST_MAX - 1 - connection->size;
        if (room == 0) {
            run_failed("a check's request has no end");
        }
        status = wire_read(wire, (uint8_t *)connection->request + connection->size, room, &got);
        if (status == OK) {
            connection->size += got;
            status = answer_check(checked, connection);
        }
    }
    (void)wire_pump(wire, SIZE_MAX);
    if (status != AGAIN || wire->failed) {
        wire_close(wire, false);
    }
}

static void turn(void *context)
{
    struct checked *checked = context;
    io_wait(checked->io, UINT64_MAX);
    struct io_socket *socket = NULL;
    while ((socket = io_next_ready(checked->io)) != NULL) {
        if (socket->kind == KIND_LISTENER) {
            accept_checks(checked);
        } else {
            serve_check(checked, CONTAINER_OF(socket, struct check_connection, wire.socket));
        }
    }
}

struct checked *checked_create(const struct control_view *view, uint32_t index)
{
    static const char *const names[CHECKED_MAX] = {"origin0", "origin1", "origin2"};
    struct checked *checked = calloc(1, sizeof(*checked));
    ASSERT(checked != NULL && index < CHECKED_MAX);
    checked->io = sim_node_create(view->sim, names[index]);
    checked->well = WELL[prng_below(view->prng, sizeof(WELL) / sizeof(WELL[0]))];
    checked->ill = ILL[prng_below(view->prng, sizeof(ILL) / sizeof(ILL[0]))];
    if (index > 0) {
        checked->ill_from = sim_now(view->sim) + sim_between(view->prng, 0, 20 * SECOND);
        checked->ill_until = checked->ill_from + sim_between(view->prng, 1, 25 * SECOND);
    }
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        wire_init(&checked->connections[i].wire, checked->io);
    }
    struct address address = checked_address(index);
    int fd = sim_listen(view->sim, &address);
    io_socket_init(&checked->listener);
    enum status status = io_listen(checked->io, &checked->listener, fd, KIND_LISTENER);
    ASSERT(status == OK);
    sim_node_run(checked->io, turn, checked);
    return checked;
}

void checked_destroy(struct checked *checked)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        wire_deinit(&checked->connections[i].wire);
    }
    free(checked);
}
