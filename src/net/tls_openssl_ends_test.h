/*
 * Both ends of TLS connections over real TCP in one test process, and the certificates for them:
 * the fixture of the tests of net/tls.h. Every wait is bounded by PUMP_MAX turns.
 */
#ifndef SENTINEL_NET_TLS_OPENSSL_ENDS_TEST_H
#define SENTINEL_NET_TLS_OPENSSL_ENDS_TEST_H

#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/io_epoll.h"
#include "net/tls_certificates_test.h"
#include "net/tls_openssl.h"

enum { PUMP_MAX = 20000, BULK = 1024 * 1024, CONNECTIONS = 64 };

static const long VALID[2] = {-3600, 3600};
static const long EXPIRED[2] = {-7200, -3600};

struct fixture {
    struct io *io;
    struct tls_engine *engine;
    struct io_socket listener;
    int fd;
    struct address address;
    struct ticket_keys *keys;
    struct made ca, a, a_rsa, b, user, stranger, old_user;
};

/* Both ends of one connection. */
struct ends {
    struct transport server;
    struct transport client;
    enum status server_status;
    enum status client_status;
    enum tls_failure server_failure;
    enum tls_failure client_failure;
};

static inline int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    assert_int_equal(sigaction(SIGPIPE, &ignore, NULL), 0); /* as in every process of ours */
    fixture->io = io_epoll_create();
    fixture->keys = calloc(1, ticket_keys_size());
    fixture->engine = tls_engine_create(CONNECTIONS, UINT64_MAX);
    assert_non_null(fixture->engine);
    fixture->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(name);
    assert_int_equal(bind(fixture->fd, (struct sockaddr *)&name, size), 0);
    assert_int_equal(listen(fixture->fd, 16), 0);
    struct sockaddr_storage storage = {0};
    size = sizeof(storage);
    assert_int_equal(getsockname(fixture->fd, (struct sockaddr *)&storage, &size), 0);
    address_from_system(&storage, &fixture->address);
    io_socket_init(&fixture->listener);
    assert_int_equal(io_listen(fixture->io, &fixture->listener, fixture->fd, 1), OK);
    made_make(&fixture->ca, "authority", NULL, NULL, "EC", VALID);
    made_make(&fixture->a, "a", "DNS:a.example,DNS:www.a.example", &fixture->ca, "EC", VALID);
    made_make(&fixture->a_rsa, "a rsa", "DNS:a.example", &fixture->ca, "RSA", VALID);
    made_make(&fixture->b, "b", "DNS:b.example,DNS:*.b.example", &fixture->ca, "EC", VALID);
    made_make(&fixture->user, "user", "email:user@a.example", &fixture->ca, "EC", VALID);
    made_make(&fixture->old_user, "old", "email:old@a.example", &fixture->ca, "EC", EXPIRED);
    made_make(&fixture->stranger, "stranger", "email:x@x.example", NULL, "EC", VALID);
    *state = fixture;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(tls_engine_connections(fixture->engine), 0);
    io_close(fixture->io, &fixture->listener);
    close(fixture->fd);
    io_epoll_destroy(fixture->io);
    tls_engine_destroy(fixture->engine);
    struct made *made[] = {&fixture->ca,   &fixture->a,        &fixture->a_rsa,   &fixture->b,
                           &fixture->user, &fixture->stranger, &fixture->old_user};
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
        made_drop(made[i]);
    }
    free(fixture->keys);
    free(fixture);
    return 0;
}

/* ---- Building blocks ---- */

static inline struct tls_server *make_server(struct fixture *fixture,
                                             const struct tls_server_settings *settings)
{
    char error[TLS_ERROR_MAX] = "";
    struct tls_server *server = tls_server_create(fixture->engine, settings, error);
    if (server == NULL) {
        fail_msg("%s", error);
    }
    return server;
}

/* A server with a default, and nothing else that is not set in `settings`. */
static inline struct tls_server *plain_server(struct fixture *fixture,
                                              struct tls_server_settings settings)
{
    const struct tls_host fallback = {.identities = &fixture->a.identity, .count = 1};
    settings.fallback = &fallback;
    settings.version_max = TLS_1_3;
    settings.tickets = true;
    return make_server(fixture, &settings);
}

static inline struct tls_client *make_client(struct fixture *fixture,
                                             struct tls_client_settings settings)
{
    char error[TLS_ERROR_MAX] = "";
    settings.ca_pem = span_of_string(fixture->ca.chain_pem);
    struct tls_client *client = tls_client_create(fixture->engine, &settings, error);
    if (client == NULL) {
        fail_msg("%s", error);
    }
    return client;
}

static inline void connect_ends(struct fixture *fixture, struct ends *ends)
{
    struct address peer;
    *ends = (struct ends){.server_status = AGAIN, .client_status = AGAIN};
    transport_init_tcp(&ends->server, fixture->io);
    transport_init_tcp(&ends->client, fixture->io);
    assert_int_not_equal(io_connect(fixture->io, &ends->client.socket, &fixture->address, 2),
                         ERROR);
    enum status status = AGAIN;
    for (int i = 0; i < PUMP_MAX && status == AGAIN; i++) {
        io_wait(fixture->io, io_now(fixture->io) + 1000);
        status = io_accept(fixture->io, &fixture->listener, &ends->server.socket, 3, &peer);
    }
    assert_int_equal(status, OK);
    status = AGAIN;
    for (int i = 0; i < PUMP_MAX && status == AGAIN; i++) {
        status = io_connect_result(fixture->io, &ends->client.socket);
        io_wait(fixture->io, io_now(fixture->io) + 1000);
    }
    assert_int_equal(status, OK);
}

static inline void turn(struct fixture *fixture)
{
    io_wait(fixture->io, io_now(fixture->io) + 1000);
    while (io_next_ready(fixture->io) != NULL) {
    }
}

/* Drives both handshakes until each has ended, or one has failed and the other was told. */
static inline void shake_hands(struct fixture *fixture, struct ends *ends)
{
    for (int i = 0; i < PUMP_MAX; i++) {
        if (ends->client_status == AGAIN) {
            ends->client_status = tls_handshake(&ends->client, &ends->client_failure);
        }
        if (ends->server_status == AGAIN) {
            ends->server_status = tls_handshake(&ends->server, &ends->server_failure);
        }
        bool failed = ends->client_status == ERROR || ends->server_status == ERROR;
        if (failed || (ends->client_status == OK && ends->server_status == OK)) {
            return;
        }
        turn(fixture);
    }
    fail_msg("the handshake does not end");
}

static inline void close_ends(struct ends *ends)
{
    ends->client.ops->close(&ends->client);
    ends->server.ops->close(&ends->server);
}

static inline void open_ends(struct fixture *fixture, struct ends *ends, struct tls_server *server,
                             struct tls_client *client, const char *name,
                             struct tls_resumption *resumption)
{
    const struct tls_peer peer = {.server_name = span_of_string(name)};
    connect_ends(fixture, ends);
    assert_true(tls_begin_server(&ends->server, server, SPAN_EMPTY));
    assert_true(tls_begin_client(&ends->client, client, &peer, resumption));
    shake_hands(fixture, ends);
}

/* Until something other than AGAIN. */
static inline enum status read_some(struct fixture *fixture, struct transport *transport,
                                    void *data, size_t size, size_t *got)
{
    enum status status = AGAIN;
    for (int i = 0; i < PUMP_MAX && status == AGAIN; i++) {
        status = transport->ops->read(transport, data, size, got);
        if (status == AGAIN) {
            turn(fixture);
        }
    }
    return status;
}

static inline void send_text(struct transport *transport, const char *text)
{
    struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
    size_t put = 0;
    assert_int_equal(transport->ops->write(transport, &piece, 1, &put), OK);
    assert_int_equal(put, strlen(text));
}

static inline void expect_text(struct fixture *fixture, struct transport *transport,
                               const char *text)
{
    char data[256];
    size_t got = 0;
    assert_int_equal(read_some(fixture, transport, data, sizeof(data), &got), OK);
    assert_int_equal(got, strlen(text));
    assert_memory_equal(data, text, got);
}

/* The common name of the certificate that the client was shown. */
static inline void expect_shown(const struct ends *ends, const char *name)
{
    char text[64] = "";
    X509 *certificate = SSL_get_peer_certificate(ends->client.tls->ssl);
    assert_non_null(certificate);
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, text,
                              sizeof(text));
    X509_free(certificate);
    assert_string_equal(text, name);
}

static inline void rotate(struct fixture *fixture)
{
    uint8_t random[TICKET_KEY_ID_SIZE + TICKET_KEY_SECRET_SIZE];
    struct ticket_key key;
    io_random(fixture->io, random, sizeof(random));
    assert_true(ticket_key_init(&key, random, io_now(fixture->io)));
    ticket_keys_rotate(fixture->keys, &key);
    tls_engine_set_ticket_keys(fixture->engine, fixture->keys);
}

#endif
