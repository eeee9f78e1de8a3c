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
    bool grpc;
    struct span well;
    struct span ill; /* NULL data: silence; empty: it closes */
    struct check_connection connections[CONNECTIONS_MAX];
};

#define TEXT(text)                                                                                 \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    }

static const struct span WELL[] = {
    TEXT("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    TEXT("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
    TEXT("HTTP/1.1 301 Moved Permanently\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nno"),
};

static const struct span ILL[] = {
    {0},
    TEXT(""),
    TEXT("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
    TEXT("HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    TEXT("SSH-2.0-OpenSSH_9.2\r\n"),
    TEXT("HTTP/1.1 2"),
};

/* Frames of HTTP/2, fields without Huffman coding and table. */
#define SETTINGS "\0\0\0\x04\0\0\0\0\0"
#define HEAD                                                                                       \
    "\0\0\x14\x01\x04\0\0\0\x01\x88\x0f\x10\x10"                                                   \
    "application/grpc"
#define MESSAGE(status) "\0\0\x07\0\0\0\0\0\x01\0\0\0\0\x02\x08" status
#define TRAILERS                                                                                   \
    "\0\0\x0f\x01\x05\0\0\0\x01\0\x0b"                                                             \
    "grpc-status\x01"                                                                              \
    "0"

static const struct span GRPC_WELL = TEXT(SETTINGS HEAD MESSAGE("\x01") TRAILERS);

static const struct span GRPC_ILL[] = {
    {0},
    TEXT(""),
    TEXT("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    TEXT(SETTINGS HEAD MESSAGE("\x02") TRAILERS),
    TEXT(SETTINGS HEAD MESSAGE("\x01")),
    TEXT(SETTINGS "\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0"), /* GOAWAY */
    TEXT(SETTINGS "\0\0\x04\x03\0\0\0\0\x01\0\0\0\x02"),     /* RST_STREAM */
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

/* Whether what is asked is all there; it has to be what the configuration says. */
static bool is_asked(const struct checked *checked, struct check_connection *connection)
{
    static const struct span MESSAGE_ASKED = TEXT("\0\0\0\0\x05\x0a\x03"
                                                  "a.B");
    struct span preface = SPAN("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    if (checked->grpc) {
        struct span request = span_of(connection->request, connection->size);
        if (request.size >= preface.size && !span_starts_with(request, preface)) {
            run_failed("a gRPC check does not begin with HTTP/2's preface");
        }
        return memmem(request.data, request.size, MESSAGE_ASKED.data, MESSAGE_ASKED.size) != NULL;
    }
    connection->request[connection->size] = '\0';
    if (strstr(connection->request, "\r\n\r\n") == NULL) {
        return false;
    }
    if (strncmp(connection->request, "GET /health?deep=1 HTTP/1.1\r\n", 29) != 0) {
        run_failed("a check asks `%s`", connection->request);
    }
    return true;
}

static enum status answer_check(struct checked *checked, struct check_connection *connection)
{
    uint64_t now = io_now(checked->io);
    bool ill = now >= checked->ill_from && now < checked->ill_until;
    struct span answer = ill ? checked->ill : checked->well;
    if (connection->answered || !is_asked(checked, connection)) {
        return OK;
    }
    connection->answered = true;
    if (answer.data == NULL) {
        return OK;
    }
    wire_push(&connection->wire, answer.data, answer.size);
    return answer.size == 0 ? END : OK;
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
    static const char *const names[CHECKED_MAX] = {"origin0", "origin1", "origin2", "origin3"};
    struct checked *checked = calloc(1, sizeof(*checked));
    ASSERT(checked != NULL && index < CHECKED_MAX);
    checked->io = sim_node_create(view->sim, names[index]);
    checked->well = WELL[prng_below(view->prng, sizeof(WELL) / sizeof(WELL[0]))];
    checked->ill = ILL[prng_below(view->prng, sizeof(ILL) / sizeof(ILL[0]))];
    checked->grpc = index == CHECKED_BY_GRPC;
    if (checked->grpc) {
        checked->well = GRPC_WELL;
        checked->ill = GRPC_ILL[prng_below(view->prng, sizeof(GRPC_ILL) / sizeof(GRPC_ILL[0]))];
    }
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
