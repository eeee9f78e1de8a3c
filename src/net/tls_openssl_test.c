#include "net/tls_openssl_ends_test.h"

static void bytes_arrive_in_both_directions(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(fixture, (struct tls_server_settings){0});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){.verify = true});
    struct ends ends;
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    assert_int_equal(ends.client_status, OK);
    assert_int_equal(ends.server_status, OK);
    struct tls_info info;
    tls_describe(&ends.server, &info);
    assert_true(span_equal(info.version, SPAN("TLSv1.3")));
    assert_true(span_equal(info.server_name, SPAN("a.example")));
    assert_false(info.resumed);
    assert_false(info.peer_verified);
    send_text(&ends.client, "question");
    expect_text(fixture, &ends.server, "question");
    send_text(&ends.server, "answer");
    expect_text(fixture, &ends.client, "answer");
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

/* Offers the rest of the bytes in three pieces, as sessions do. */
static enum status offer(struct transport *transport, const uint8_t *bytes, size_t size,
                         size_t *put)
{
    size_t first = size > 5 ? 5 : size;
    size_t second = size - first > 20000 ? 20000 : size - first;
    struct iovec pieces[3] = {{(void *)(uintptr_t)bytes, first},
                              {(void *)(uintptr_t)(bytes + first), second},
                              {(void *)(uintptr_t)(bytes + first + second), size - first - second}};
    return transport->ops->write(transport, pieces, 3, put);
}

static void a_slow_reader_gets_every_byte(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(fixture, (struct tls_server_settings){0});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){.verify = true});
    struct ends ends;
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    int window = 16 * 1024; /* it makes us wait */
    assert_int_equal(
        setsockopt(ends.server.socket.fd, SOL_SOCKET, SO_SNDBUF, &window, sizeof(window)), 0);
    uint8_t *bytes = malloc(BULK);
    uint8_t *arrived = malloc(BULK);
    for (size_t i = 0; i < BULK; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 977);
    }
    size_t sent = 0;
    size_t received = 0;
    int waits = 0;
    for (int i = 0; i < PUMP_MAX && received < BULK; i++) {
        size_t count = 0;
        enum status status = AGAIN;
        while (sent < BULK &&
               (status = offer(&ends.server, bytes + sent, BULK - sent, &count)) == OK) {
            sent += count;
        }
        assert_int_not_equal(status, ERROR);
        waits += sent < BULK;
        turn(fixture);
        for (int reads = 0; reads < 3; reads++) {
            size_t size = BULK - received < 30000 ? BULK - received : 30000;
            if (size == 0 ||
                ends.client.ops->read(&ends.client, arrived + received, size, &count) != OK) {
                break;
            }
            received += count;
        }
    }
    assert_int_equal(received, BULK);
    assert_memory_equal(bytes, arrived, BULK);
    assert_true(waits > 0); /* else the test shows nothing */
    free(bytes);
    free(arrived);
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static void what_openssl_holds_is_found_without_the_socket(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(fixture, (struct tls_server_settings){0});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){.verify = true});
    struct ends ends;
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    send_text(&ends.client, "two pieces");
    char piece[4];
    size_t got = 0;
    assert_int_equal(read_some(fixture, &ends.server, piece, sizeof(piece), &got), OK);
    assert_int_equal(ends.server.socket.ready & IO_READABLE, 0);
    assert_true(transport_may_read(&ends.server));
    expect_text(fixture, &ends.server, "pieces");
    assert_false(transport_may_read(&ends.server));
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

/* How a server's end takes it when its client changes keys so often, then again and again. */
static enum status update_keys(struct fixture *fixture, struct ends *ends, int times)
{
    uint8_t bytes[64];
    size_t got = 0;
    enum status status = AGAIN;
    SSL *ssl = ends->client.tls->ssl;
    for (int i = 0; i < times && status == AGAIN; i++) {
        assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(ssl), 1);
        if (i % 100 == 99) {
            turn(fixture);
            status = ends->server.ops->read(&ends->server, bytes, sizeof(bytes), &got);
        }
    }
    return status;
}

/* OpenSSL reads on as long as there is no data: a client that sends none must not keep it there. */
static void a_flood_without_data_ends_its_connection(void **state)
{
    struct fixture *fixture = *state;
    struct ends ends;
    struct tls_server *server = plain_server(fixture, (struct tls_server_settings){0});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){0});
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    for (int i = 0; i < 10; i++) { /* far more than the bound in sum, but data are between */
        assert_int_equal(update_keys(fixture, &ends, 500), AGAIN);
        send_text(&ends.client, "data");
        expect_text(fixture, &ends.server, "data");
    }
    assert_int_equal(update_keys(fixture, &ends, 5000), ERROR);
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

/* The answer to a peer that wants new keys has to wait for the record that is under way. */
static void keys_change_while_nothing_can_be_written(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(fixture, (struct tls_server_settings){0});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){.verify = true});
    static uint8_t bytes[8 * BULK];
    static uint8_t arrived[64 * 1024];
    struct ends ends;
    size_t sent = 0;
    size_t count = 0;
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 977);
    }
    while (offer(&ends.server, bytes + sent, sizeof(bytes) - sent, &count) == OK) {
        sent += count;
        assert_true(sent < sizeof(bytes)); /* else the test shows nothing */
    }
    for (int i = 0; i < 3; i++) {
        SSL *ssl = ends.client.tls->ssl;
        assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(ssl), 1);
        send_text(&ends.client, "go on");
        expect_text(fixture, &ends.server, "go on");
    }
    size_t received = 0;
    for (int i = 0; i < PUMP_MAX && received < sizeof(bytes); i++) {
        enum status status = AGAIN;
        while (sent < sizeof(bytes) &&
               (status = offer(&ends.server, bytes + sent, sizeof(bytes) - sent, &count)) == OK) {
            sent += count;
        }
        assert_true(sent == sizeof(bytes) || status == AGAIN);
        turn(fixture);
        while (ends.client.ops->read(&ends.client, arrived, sizeof(arrived), &count) == OK) {
            assert_memory_equal(arrived, bytes + received, count);
            received += count;
        }
    }
    assert_int_equal(received, sizeof(bytes));
    send_text(&ends.client, "all of it");
    expect_text(fixture, &ends.server, "all of it");
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static void records_of_one_byte_do_not_hold_a_read(void **state)
{
    enum { RECORDS = 4000 };
    struct fixture *fixture = *state;
    static uint8_t bytes[TLS_RECORD_MAX];
    struct ends ends;
    size_t got = 0;
    struct tls_server *server = plain_server(fixture, (struct tls_server_settings){0});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){0});
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    for (int i = 0; i < RECORDS; i++) {
        send_text(&ends.client, "x");
    }
    turn(fixture);
    assert_int_equal(ends.server.ops->read(&ends.server, bytes, sizeof(bytes), &got), OK);
    assert_in_range(got, 1, RECORDS / 2);
    for (size_t left = RECORDS - got; left > 0; left -= got) {
        turn(fixture);
        assert_int_equal(ends.server.ops->read(&ends.server, bytes, sizeof(bytes), &got), OK);
    }
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static void the_last_words_wait_for_room(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(fixture, (struct tls_server_settings){0});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){.verify = true});
    struct ends ends;
    static char data[64 * 1024];
    struct iovec piece = {data, sizeof(data)};
    size_t put = 0;
    size_t got = 0;
    enum status status = OK;
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    while (status == OK) {
        status = ends.server.ops->write(&ends.server, &piece, 1, &put);
    }
    assert_int_equal(status, AGAIN);
    assert_int_equal(ends.server.ops->shutdown(&ends.server), AGAIN);
    assert_int_equal(ends.server.ops->shutdown(&ends.server), AGAIN);
    assert_int_equal(ends.server.ops->write(&ends.server, &piece, 1, &put), ERROR);
    bool told = false;
    for (int i = 0; i < PUMP_MAX && status != END; i++) {
        status = ends.client.ops->read(&ends.client, data, sizeof(data), &got);
        assert_int_not_equal(status, ERROR); /* which a cut would be */
        assert_true(status != END || told);  /* nothing but the last words is an end */
        told = told || ends.server.ops->shutdown(&ends.server) == OK;
        turn(fixture);
    }
    assert_int_equal(status, END);
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static void an_end_that_is_told_is_an_end_and_a_cut_is_an_error(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(fixture, (struct tls_server_settings){0});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){.verify = true});
    struct ends ends;
    char data[16];
    size_t got = 0;
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    send_text(&ends.client, "last words");
    assert_int_equal(ends.client.ops->shutdown(&ends.client), OK);
    expect_text(fixture, &ends.server, "last words");
    assert_int_equal(read_some(fixture, &ends.server, data, sizeof(data), &got), END);
    assert_int_equal(read_some(fixture, &ends.server, data, sizeof(data), &got), END);
    send_text(&ends.server, "heard"); /* the other half goes on */
    expect_text(fixture, &ends.client, "heard");
    close_ends(&ends);

    open_ends(fixture, &ends, server, client, "a.example", NULL);
    send_text(&ends.client, "last words");
    io_shutdown(fixture->io, &ends.client.socket); /* as somebody on the way could */
    expect_text(fixture, &ends.server, "last words");
    assert_int_equal(read_some(fixture, &ends.server, data, sizeof(data), &got), ERROR);
    send_text(&ends.server, "heard");
    expect_text(fixture, &ends.client, "heard");
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static struct tls_server *two_hosts(struct fixture *fixture, bool with_fallback)
{
    const struct tls_identity pair[2] = {fixture->a.identity, fixture->a_rsa.identity};
    const struct tls_host hosts[] = {
        {.pattern = SPAN("a.example"), .identities = pair, .count = 2},
        {.pattern = SPAN(".b.example"), .identities = &fixture->b.identity, .count = 1},
        {.pattern = SPAN("b.example"), .identities = &fixture->b.identity, .count = 1},
    };
    const struct tls_host fallback = {.identities = &fixture->stranger.identity, .count = 1};
    return make_server(fixture, &(struct tls_server_settings){
                                    .hosts = hosts,
                                    .host_count = 3,
                                    .fallback = with_fallback ? &fallback : NULL,
                                    .version_max = TLS_1_3,
                                    .tickets = true,
                                });
}

static void the_name_chooses_the_certificate(void **state)
{
    static const struct {
        const char *name;
        const char *shown;
    } cases[] = {
        {"a.example", "a"},         {"A.Example", "a"},          {"b.example", "b"},
        {"x.b.example", "b"},       {"y.x.b.example", "b"},      {"c.example", "stranger"},
        {"aa.example", "stranger"}, {"x.a.example", "stranger"}, {"", "stranger"},
    };
    struct fixture *fixture = *state;
    struct tls_server *server = two_hosts(fixture, true);
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){0});
    struct ends ends;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        open_ends(fixture, &ends, server, client, cases[i].name, NULL);
        assert_int_equal(ends.client_status, OK);
        expect_shown(&ends, cases[i].shown);
        assert_int_equal(tls_serves_host(&ends.server, SPAN("a.example")),
                         cases[i].shown[0] == 'a');
        assert_int_equal(tls_serves_host(&ends.server, SPAN("Other.B.example.")),
                         cases[i].shown[0] == 'b');
        assert_int_equal(tls_serves_host(&ends.server, SPAN("192.0.2.1")),
                         cases[i].shown[0] == 's');
        close_ends(&ends);
    }
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static void a_name_that_nobody_serves_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = two_hosts(fixture, false);
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){0});
    struct ends ends;
    open_ends(fixture, &ends, server, client, "c.example", NULL);
    assert_int_equal(ends.server_status, ERROR);
    assert_int_equal(ends.server_failure, TLS_FAILURE_UNKNOWN_NAME);
    close_ends(&ends);
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    assert_int_equal(ends.server_status, OK);
    assert_false(tls_serves_host(&ends.server, SPAN("c.example")));
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static void a_client_without_ecdsa_is_shown_rsa(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = two_hosts(fixture, true);
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){0});
    struct ends ends;
    SSL_CTX_set1_sigalgs_list(client->context, "RSA-PSS+SHA256:RSA+SHA256");
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    assert_int_equal(ends.client_status, OK);
    expect_shown(&ends, "a rsa");
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static void a_client_believes_the_right_certificate_only(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = two_hosts(fixture, true);
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){.verify = true});
    struct ends ends;
    open_ends(fixture, &ends, server, client, "www.a.example", NULL); /* a stranger's is shown */
    assert_int_equal(ends.client_status, ERROR);
    assert_int_equal(ends.client_failure, TLS_FAILURE_BAD_CERTIFICATE);
    assert_int_equal(tls_failure_detail(&ends.client),
                     TLS_DETAIL_VERIFY_DEPTH_ZERO_SELF_SIGNED_CERT);
    close_ends(&ends);
    open_ends(fixture, &ends, server, client, "y.x.b.example", NULL); /* not what it is for */
    assert_int_equal(ends.client_failure, TLS_FAILURE_BAD_CERTIFICATE);
    assert_int_equal(tls_failure_detail(&ends.client), TLS_DETAIL_VERIFY_HOSTNAME_MISMATCH);
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

/* One connection; whether it went on with an earlier session. */
static bool resumes(struct fixture *fixture, struct tls_server *server, struct tls_client *client,
                    const char *name, struct tls_resumption *resumption)
{
    struct ends ends;
    struct tls_info info;
    open_ends(fixture, &ends, server, client, name, resumption);
    assert_int_equal(ends.client_status, OK);
    assert_int_equal(ends.server_status, OK);
    send_text(&ends.server, "hello"); /* a ticket comes before it */
    expect_text(fixture, &ends.client, "hello");
    tls_describe(&ends.server, &info);
    assert_true(span_equal_nocase(info.server_name, span_of_string(name)));
    close_ends(&ends);
    return info.resumed;
}

static void sessions_go_on_with_tickets_of_the_same_scope(void **state)
{
    struct fixture *fixture = *state;
    for (int version = TLS_1_2; version <= TLS_1_3; version++) {
        struct tls_server *server = two_hosts(fixture, true);
        struct tls_server *twin = two_hosts(fixture, true); /* another worker */
        const struct tls_server_settings strict = {.client_auth = TLS_CLIENT_AUTH_OPTIONAL,
                                                   .client_ca_pem =
                                                       span_of_string(fixture->ca.chain_pem)};
        struct tls_server *other = plain_server(fixture, strict);
        struct tls_client *client = make_client(fixture, (struct tls_client_settings){0});
        SSL_CTX_set_max_proto_version(client->context,
                                      version == TLS_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION);
        struct tls_resumption resumption = {0};
        tls_engine_set_ticket_keys(fixture->engine, NULL);
        assert_false(resumes(fixture, server, client, "a.example", &resumption));
        assert_false(resumes(fixture, server, client, "a.example", &resumption)); /* no keys */
        rotate(fixture);
        assert_false(resumes(fixture, server, client, "a.example", &resumption));
        assert_true(resumes(fixture, server, client, "a.example", &resumption));
        assert_true(resumes(fixture, twin, client, "a.example", &resumption));
        rotate(fixture); /* what the older key sealed still opens */
        assert_true(resumes(fixture, server, client, "a.example", &resumption));
        rotate(fixture);
        rotate(fixture); /* both are new */
        assert_false(resumes(fixture, server, client, "a.example", &resumption));
        assert_true(resumes(fixture, server, client, "a.example", &resumption));
        assert_false(resumes(fixture, other, client, "a.example", &resumption));
        assert_false(resumes(fixture, server, client, "a.example", &resumption));
        assert_false(resumes(fixture, server, client, "b.example", &resumption));
        tls_resumption_drop(&resumption);
        tls_client_destroy(client);
        tls_server_destroy(other);
        tls_server_destroy(twin);
        tls_server_destroy(server);
    }
}

static void a_client_may_prefer_any_protocol_that_is_served(void **state)
{
    static const struct {
        enum tls_alpn offered[2];
        enum tls_alpn chosen;
        enum status status;
    } cases[] = {
        {{TLS_ALPN_HTTP1, TLS_ALPN_HTTP2}, TLS_ALPN_HTTP2, OK},
        {{TLS_ALPN_HTTP1}, TLS_ALPN_HTTP1, OK},
        {{TLS_ALPN_NONE}, TLS_ALPN_NONE, OK},
    };
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(
        fixture, (struct tls_server_settings){.alpn = {TLS_ALPN_HTTP2, TLS_ALPN_HTTP1}});
    struct tls_server *old =
        plain_server(fixture, (struct tls_server_settings){.alpn = {TLS_ALPN_HTTP1}});
    struct ends ends;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tls_info info;
        struct tls_client *client = make_client(
            fixture,
            (struct tls_client_settings){.alpn = {cases[i].offered[0], cases[i].offered[1]}});
        open_ends(fixture, &ends, server, client, "a.example", NULL);
        assert_int_equal(ends.server_status, cases[i].status);
        tls_describe(&ends.server, &info);
        assert_int_equal(info.alpn, cases[i].chosen);
        close_ends(&ends);
        tls_client_destroy(client);
    }
    struct tls_client *client =
        make_client(fixture, (struct tls_client_settings){.alpn = {TLS_ALPN_HTTP2}});
    open_ends(fixture, &ends, old, client, "a.example", NULL);
    assert_int_equal(ends.server_failure, TLS_FAILURE_NO_ALPN);
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(old);
    tls_server_destroy(server);
}

static void versions_that_are_not_allowed_are_refused(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server =
        plain_server(fixture, (struct tls_server_settings){.version_min = TLS_1_3});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){0});
    struct ends ends;
    SSL_CTX_set_max_proto_version(client->context, TLS1_2_VERSION);
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    assert_int_equal(ends.server_status, ERROR);
    assert_int_equal(ends.server_failure, TLS_FAILURE_NO_COMMON);
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static void expect_failure_of(struct fixture *fixture, struct tls_server *server, struct span bytes,
                              enum tls_failure failure)
{
    struct ends ends;
    connect_ends(fixture, &ends);
    assert_true(tls_begin_server(&ends.server, server, bytes));
    io_shutdown(fixture->io, &ends.client.socket);
    for (int i = 0; i < PUMP_MAX && ends.server_status == AGAIN; i++) {
        ends.server_status = tls_handshake(&ends.server, &ends.server_failure);
        turn(fixture);
    }
    assert_int_equal(ends.server_status, ERROR);
    assert_int_equal(ends.server_failure, failure);
    close_ends(&ends);
}

static void what_is_no_tls_is_told_apart(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(fixture, (struct tls_server_settings){0});
    expect_failure_of(fixture, server, SPAN("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
                      TLS_FAILURE_PLAIN_HTTP);
    expect_failure_of(fixture, server, SPAN("\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17"),
                      TLS_FAILURE_PROTOCOL);
    expect_failure_of(fixture, server, SPAN("\x16\3\1\0\4\2\0\0\0"), TLS_FAILURE_PROTOCOL);
    expect_failure_of(fixture, server, SPAN("\x16\3\1\2\0\1"), TLS_FAILURE_CLOSED);
    expect_failure_of(fixture, server, SPAN_EMPTY, TLS_FAILURE_CLOSED);
    tls_server_destroy(server);
}

static int take_status(SSL *ssl, void *context)
{
    const unsigned char *response = NULL;
    bool *stapled = context;
    long size = SSL_get_tlsext_status_ocsp_resp(ssl, &response);
    *stapled = size > 0 && span_equal(span_of(response, (size_t)size), SPAN("ocsp of b"));
    return 1;
}

/* Whether a client that asks gets the response of that end. */
static bool is_stapled(struct fixture *fixture, uint64_t until)
{
    struct tls_identity identity = fixture->b.identity;
    identity.ocsp_der = SPAN("ocsp of b");
    identity.ocsp_until = until;
    const struct tls_host host = {
        .pattern = SPAN("b.example"), .identities = &identity, .count = 1};
    const struct tls_host fallback = {.identities = &fixture->a.identity, .count = 1};
    struct tls_server *server = make_server(
        fixture, &(struct tls_server_settings){
                     .hosts = &host, .host_count = 1, .fallback = &fallback, .version_max = 1});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){0});
    bool stapled = false;
    struct ends ends;
    SSL_CTX_set_tlsext_status_type(client->context, TLSEXT_STATUSTYPE_ocsp);
    SSL_CTX_set_tlsext_status_cb(client->context, take_status);
    SSL_CTX_set_tlsext_status_arg(client->context, &stapled);
    open_ends(fixture, &ends, server, client, "b.example", NULL);
    assert_int_equal(ends.client_status, OK);
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
    return stapled;
}

static void the_response_of_the_certificate_is_stapled_until_its_time_is_over(void **state)
{
    struct fixture *fixture = *state;
    uint64_t now = io_wall(fixture->io) / 1000000;
    assert_true(is_stapled(fixture, now + 3600));
    assert_false(is_stapled(fixture, now));
    assert_false(is_stapled(fixture, now - 3600));
}

static void expect_refused(struct fixture *fixture, const struct tls_server_settings *settings,
                           const char *why)
{
    char error[TLS_ERROR_MAX] = "";
    assert_null(tls_server_create(fixture->engine, settings, error));
    if (strstr(error, why) == NULL) {
        fail_msg("%s", error);
    }
}

static void settings_that_cannot_be_used_are_refused(void **state)
{
    struct fixture *fixture = *state;
    struct tls_identity identity = fixture->a.identity;
    const struct tls_host fallback = {.identities = &identity, .count = 1};
    struct tls_server_settings settings = {
        .fallback = &fallback, .version_max = TLS_1_3, .client_auth = TLS_CLIENT_AUTH_REQUIRED};
    expect_refused(fixture, &settings, "trusted certificates");
    settings.client_ca_pem = SPAN("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    expect_refused(fixture, &settings, "trusted certificates");
    settings.client_auth = TLS_CLIENT_AUTH_OFF;
    identity.key_pem = fixture->b.identity.key_pem;
    expect_refused(fixture, &settings, "private key");
    identity.key_pem = SPAN("no key");
    expect_refused(fixture, &settings, "private key");
    identity.chain_pem = SPAN("no certificate");
    expect_refused(fixture, &settings, "certificate cannot");
}

/* The library's heap that one server's connection holds while nothing is under way. */
static uint64_t idle_bytes(struct fixture *fixture, enum tls_client_auth client_auth)
{
    enum { COUNT = 8 };
    struct ends ends[COUNT];
    struct tls_server *server = plain_server(
        fixture,
        (struct tls_server_settings){.client_auth = client_auth,
                                     .client_ca_pem = span_of_string(fixture->ca.chain_pem)});
    struct tls_client *client = make_client(
        fixture, (struct tls_client_settings){.verify = true, .identity = &fixture->user.identity});
    rotate(fixture);
    (void)resumes(fixture, server, client, "a.example", NULL); /* what is made once is made */
    uint64_t before = tls_engine_heap(fixture->engine);
    for (int i = 0; i < COUNT; i++) {
        open_ends(fixture, &ends[i], server, client, "a.example", NULL);
        send_text(&ends[i].client, "question");
        expect_text(fixture, &ends[i].server, "question");
        send_text(&ends[i].server, "answer");
        expect_text(fixture, &ends[i].client, "answer");
        ends[i].client.ops->reset(&ends[i].client); /* only the server's share is counted */
    }
    uint64_t each = (tls_engine_heap(fixture->engine) - before) / COUNT;
    for (int i = 0; i < COUNT; i++) {
        ends[i].server.ops->close(&ends[i].server);
    }
    tls_client_destroy(client);
    tls_server_destroy(server);
    return each;
}

static void an_idle_connection_takes_no_more_than_is_planned(void **state)
{
    struct fixture *fixture = *state;
    uint64_t plain = idle_bytes(fixture, TLS_CLIENT_AUTH_OFF);
    uint64_t known = idle_bytes(fixture, TLS_CLIENT_AUTH_REQUIRED);
    print_message("             %llu bytes, with a client's certificate %llu\n",
                  (unsigned long long)plain, (unsigned long long)known);
    assert_true(plain > 1024 && plain + sizeof(struct tls) <= 16 * 1024);
    assert_true(plain <= TLS_HEAP_IDLE);
    assert_true(known <= TLS_HEAP_IDLE + TLS_HEAP_PEER);
}

/* Whatever the library cannot allocate, only that connection ends. */
static void a_failing_allocation_ends_one_connection(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(
        fixture,
        (struct tls_server_settings){.client_auth = TLS_CLIENT_AUTH_OPTIONAL,
                                     .client_ca_pem = span_of_string(fixture->ca.chain_pem)});
    struct tls_client *client = make_client(
        fixture, (struct tls_client_settings){.verify = true, .identity = &fixture->user.identity});
    struct ends neighbour;
    int failed = 0;
    int good = 0;
    rotate(fixture);
    open_ends(fixture, &neighbour, server, client, "a.example", NULL);
    uint64_t before = tls_engine_heap(fixture->engine);
    for (uint64_t room = 0; room < 400 * 1024 && good < 3; room += room < 4096 ? 61 : 509) {
        struct ends ends;
        const struct tls_peer peer = {.server_name = SPAN("a.example")};
        connect_ends(fixture, &ends);
        assert_true(tls_memory_install(before + room));
        bool begun = tls_begin_server(&ends.server, server, SPAN_EMPTY) &&
                     tls_begin_client(&ends.client, client, &peer, NULL);
        if (begun) {
            shake_hands(fixture, &ends);
        }
        bool whole = begun && ends.client_status == OK && ends.server_status == OK;
        if (whole) { /* as it is, not as far as there was memory */
            const struct tls_certificate *shown = tls_client_certificate(&ends.server);
            assert_int_equal(shown->subject.size, sizeof("CN=user") - 1);
            assert_int_equal(shown->names.size, sizeof("email:user@a.example") - 1);
        }
        good = whole ? good + 1 : 0;
        failed += !whole;
        close_ends(&ends);
        assert_true(tls_memory_install(UINT64_MAX));
        assert_int_equal(tls_engine_connections(fixture->engine), 2);
        send_text(&neighbour.client, "still there");
        expect_text(fixture, &neighbour.server, "still there");
    }
    assert_true(failed > 50 && good == 3);
    assert_true(tls_engine_heap(fixture->engine) < before + 128 * 1024); /* nothing is lost */
    close_ends(&neighbour);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_arrive_in_both_directions),
        cmocka_unit_test(a_slow_reader_gets_every_byte),
        cmocka_unit_test(what_openssl_holds_is_found_without_the_socket),
        cmocka_unit_test(a_flood_without_data_ends_its_connection),
        cmocka_unit_test(keys_change_while_nothing_can_be_written),
        cmocka_unit_test(records_of_one_byte_do_not_hold_a_read),
        cmocka_unit_test(the_last_words_wait_for_room),
        cmocka_unit_test(an_end_that_is_told_is_an_end_and_a_cut_is_an_error),
        cmocka_unit_test(the_name_chooses_the_certificate),
        cmocka_unit_test(a_name_that_nobody_serves_is_refused),
        cmocka_unit_test(a_client_without_ecdsa_is_shown_rsa),
        cmocka_unit_test(a_client_believes_the_right_certificate_only),
        cmocka_unit_test(sessions_go_on_with_tickets_of_the_same_scope),
        cmocka_unit_test(a_client_may_prefer_any_protocol_that_is_served),
        cmocka_unit_test(versions_that_are_not_allowed_are_refused),
        cmocka_unit_test(what_is_no_tls_is_told_apart),
        cmocka_unit_test(the_response_of_the_certificate_is_stapled_until_its_time_is_over),
        cmocka_unit_test(settings_that_cannot_be_used_are_refused),
        cmocka_unit_test(an_idle_connection_takes_no_more_than_is_planned),
        cmocka_unit_test(a_failing_allocation_ends_one_connection),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
