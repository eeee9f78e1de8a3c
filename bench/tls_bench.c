/*
 * tls_bench full|resumed|keep|bulk|idle COUNT: net/tls.h alone, both ends in one process over
 * loopback TCP. What the server's end does is called through serve(), so that callgrind's
 * --toggle-collect=serve sees nothing else; it shows the nanoseconds there. `full` and `resumed`
 * make COUNT connections with one small request each, `keep` COUNT requests on one, `bulk` writes
 * COUNT bodies of 1 MiB, `idle` shows what the library's heap holds for each of COUNT connections
 * that had a request.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io/io_epoll.h"
#include "net/tls_certificates_test.h"
#include "net/tls_openssl.h"

enum { CONNECTIONS = 4096, TURNS_MAX = 100000, BODY = 1024 * 1024, RESPONSE = 1300, REQUEST = 80 };

struct end {
    struct transport transport;
    enum status status; /* of the handshake */
};

struct bench {
    struct io *io;
    struct tls_engine *engine;
    struct tls_server *server;
    struct tls_client *client;
    struct io_socket listener;
    struct address address;
    struct tls_resumption resumption;
    uint64_t served_ns;
    uint64_t resumed;
};

enum work { BEGIN, SHAKE_HANDS, READ, WRITE, CLOSE };

/* What the server is asked to do: the only way to its end. */
struct order {
    enum work work;
    void *data;
    size_t size; /* given, and then what was done */
};

static uint8_t body[BODY];
static uint8_t scratch[BODY];

static _Noreturn void quit(const char *what)
{
    fprintf(stderr, "tls_bench: %s (%s)\n", what, strerror(errno));
    exit(1);
}

static enum status obey(struct bench *bench, struct end *end, struct order *order)
{
    struct transport *transport = &end->transport;
    enum tls_failure failure;
    struct iovec piece = {order->data, order->size};
    switch (order->work) {
    case BEGIN:
        return tls_begin_server(transport, bench->server, SPAN_EMPTY) ? OK : ERROR;
    case SHAKE_HANDS:
        return tls_handshake(transport, &failure);
    case READ:
        return transport->ops->read(transport, order->data, order->size, &order->size);
    case WRITE:
        return transport->ops->write(transport, &piece, 1, &order->size);
    case CLOSE:
    default:
        transport->ops->close(transport);
        return OK;
    }
}

static __attribute__((noinline)) enum status serve(struct bench *bench, struct end *end,
                                                   struct order *order)
{
    struct timespec from;
    struct timespec to;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    enum status status = obey(bench, end, order);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    bench->served_ns +=
        (uint64_t)((to.tv_sec - from.tv_sec) * 1000000000L + to.tv_nsec - from.tv_nsec);
    return status;
}

static void turn(struct bench *bench)
{
    io_wait(bench->io, io_now(bench->io) + 1000);
    while (io_next_ready(bench->io) != NULL) {
    }
}

static void connect_ends(struct bench *bench, struct end *server, struct end *client)
{
    struct address peer;
    *server = (struct end){.status = AGAIN};
    *client = (struct end){.status = AGAIN};
    transport_init_tcp(&server->transport, bench->io);
    transport_init_tcp(&client->transport, bench->io);
    if (io_connect(bench->io, &client->transport.socket, &bench->address, 2) == ERROR) {
        quit("connect");
    }
    enum status status = AGAIN;
    for (int i = 0; i < TURNS_MAX && status == AGAIN; i++) {
        turn(bench);
        status = io_accept(bench->io, &bench->listener, &server->transport.socket, 3, &peer);
    }
    if (status != OK) {
        quit("accept");
    }
    for (status = AGAIN; status == AGAIN; turn(bench)) {
        status = io_connect_result(bench->io, &client->transport.socket);
    }
}

static void shake_hands(struct bench *bench, struct end *server, struct end *client)
{
    const struct tls_peer peer = {.server_name = SPAN("bench.test")};
    struct order begin = {.work = BEGIN};
    struct order shake = {.work = SHAKE_HANDS};
    enum tls_failure failure;
    if (serve(bench, server, &begin) != OK ||
        !tls_begin_client(&client->transport, bench->client, &peer, &bench->resumption)) {
        quit("begin");
    }
    for (int i = 0; i < TURNS_MAX && (server->status != OK || client->status != OK); i++) {
        if (client->status == AGAIN) {
            client->status = tls_handshake(&client->transport, &failure);
        }
        turn(bench); /* an end is asked only once something came, as in a worker */
        if (server->status == AGAIN && transport_may_read(&server->transport)) {
            server->status = serve(bench, server, &shake);
        }
        if (server->status == ERROR || client->status == ERROR) {
            quit("handshake");
        }
    }
    struct tls_info info;
    tls_describe(&server->transport, &info);
    bench->resumed += info.resumed;
}

/* One end writes so many bytes, the other reads them. */
static void send_to_server(struct bench *bench, struct end *server, struct end *client, size_t size)
{
    size_t put = 0;
    struct iovec piece = {body, size};
    if (client->transport.ops->write(&client->transport, &piece, 1, &put) != OK || put != size) {
        quit("request");
    }
    for (size_t got = 0; got < size;) {
        struct order order = {.work = READ, .data = scratch, .size = sizeof(scratch)};
        turn(bench);
        enum status status = serve(bench, server, &order);
        if (status == OK) {
            got += order.size;
        } else if (status != AGAIN) {
            quit("request is cut");
        }
    }
}

static void send_to_client(struct bench *bench, struct end *server, struct end *client, size_t size)
{
    size_t put = 0;
    for (size_t got = 0; got < size;) {
        struct order order = {.work = WRITE, .data = body + put, .size = size - put};
        if (put < size && serve(bench, server, &order) == OK) {
            put += order.size;
        }
        size_t more = 0;
        turn(bench);
        enum status status =
            client->transport.ops->read(&client->transport, scratch, sizeof(scratch), &more);
        if (status == OK) {
            got += more;
        } else if (status != AGAIN) {
            quit("response is cut");
        }
    }
}

static void close_ends(struct bench *bench, struct end *server, struct end *client)
{
    struct order order = {.work = CLOSE};
    (void)serve(bench, server, &order);
    client->transport.ops->close(&client->transport);
}

static void handshakes(struct bench *bench, int count, bool resumes)
{
    for (int i = 0; i < count; i++) {
        struct end server;
        struct end client;
        if (!resumes) {
            tls_resumption_drop(&bench->resumption);
        }
        connect_ends(bench, &server, &client);
        shake_hands(bench, &server, &client);
        send_to_server(bench, &server, &client, REQUEST);
        send_to_client(bench, &server, &client, RESPONSE);
        close_ends(bench, &server, &client);
    }
    fprintf(stderr, "%llu of %d resumed\n", (unsigned long long)bench->resumed, count);
}

static void requests(struct bench *bench, int count, size_t response)
{
    struct end server;
    struct end client;
    connect_ends(bench, &server, &client);
    shake_hands(bench, &server, &client);
    bench->served_ns = 0;
    for (int i = 0; i < count; i++) {
        send_to_server(bench, &server, &client, REQUEST);
        send_to_client(bench, &server, &client, response);
    }
    close_ends(bench, &server, &client);
}

static void idle(struct bench *bench, int count)
{
    struct end *servers = calloc((size_t)count, sizeof(struct end));
    struct end *clients = calloc((size_t)count, sizeof(struct end));
    if (servers == NULL || clients == NULL || count * 2 > CONNECTIONS) {
        quit("so many connections");
    }
    uint64_t before = tls_engine_heap(bench->engine);
    for (int i = 0; i < count; i++) {
        connect_ends(bench, &servers[i], &clients[i]);
        shake_hands(bench, &servers[i], &clients[i]);
        send_to_server(bench, &servers[i], &clients[i], REQUEST);
        send_to_client(bench, &servers[i], &clients[i], RESPONSE);
    }
    uint64_t both = tls_engine_heap(bench->engine);
    for (int i = 0; i < count; i++) {
        struct transport *client = &clients[i].transport;
        tls_abandon(client);
        client->ops->close(client);
    }
    uint64_t after = tls_engine_heap(bench->engine);
    printf("%llu bytes of heap for a server's connection, %llu for a client's\n",
           (unsigned long long)((after - before) / (uint64_t)count),
           (unsigned long long)((both - after) / (uint64_t)count));
    for (int i = 0; i < count; i++) {
        servers[i].transport.ops->reset(&servers[i].transport);
    }
    free(servers);
    free(clients);
}

static void make_listener(struct bench *bench)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof(bound);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &size) < 0) {
        quit("listen");
    }
    address_from_system(&bound, &bench->address);
    io_socket_init(&bench->listener);
    if (io_listen(bench->io, &bench->listener, fd, 1) != OK) {
        quit("listen");
    }
}

static void set_up(struct bench *bench, bool tickets)
{
    static const long VALID[2] = {-3600, 3600};
    static struct made made;
    char error[TLS_ERROR_MAX] = "";
    struct ticket_keys *keys = calloc(1, ticket_keys_size());
    uint8_t random[TICKET_KEY_ID_SIZE + TICKET_KEY_SECRET_SIZE];
    struct ticket_key key;
    bench->io = io_epoll_create();
    bench->engine = tls_engine_create(CONNECTIONS, UINT64_MAX);
    if (bench->io == NULL || bench->engine == NULL || keys == NULL) {
        quit("engine");
    }
    io_random(bench->io, random, sizeof(random));
    if (!ticket_key_init(&key, random, io_now(bench->io))) {
        quit("ticket key");
    }
    ticket_keys_rotate(keys, &key);
    tls_engine_set_ticket_keys(bench->engine, keys);
    made_make(&made, "bench.test", "DNS:bench.test", NULL, "EC", VALID);
    const struct tls_host host = {.identities = &made.identity, .count = 1};
    bench->server = tls_server_create(bench->engine,
                                      &(struct tls_server_settings){.fallback = &host,
                                                                    .version_max = TLS_1_3,
                                                                    .tickets = tickets,
                                                                    .alpn = {TLS_ALPN_HTTP1}},
                                      error);
    bench->client = tls_client_create(
        bench->engine, &(struct tls_client_settings){.alpn = {TLS_ALPN_HTTP1}}, error);
    if (bench->server == NULL || bench->client == NULL) {
        quit(error);
    }
    make_listener(bench);
}

int main(int count, char **arguments)
{
    static struct bench bench;
    int times = count == 3 ? (int)strtol(arguments[2], NULL, 10) : 0;
    if (times <= 0) {
        fprintf(stderr, "usage: tls_bench full|resumed|keep|bulk|idle COUNT\n");
        return 2;
    }
    const char *what = arguments[1];
    bool resumes = strcmp(what, "resumed") == 0;
    set_up(&bench, resumes);
    if (strcmp(what, "idle") == 0) {
        idle(&bench, times);
        return 0;
    }
    if (resumes || strcmp(what, "full") == 0) {
        handshakes(&bench, times, resumes);
    } else {
        requests(&bench, times, strcmp(what, "bulk") == 0 ? BODY : RESPONSE);
    }
    printf("%.1f us\n", (double)bench.served_ns / 1000 / times);
    return 0;
}
