/*
 * Whom a client of TLS believes, and what one connection's failure is to another.
 */
#include <time.h>

#include "net/tls_openssl_ends_test.h"

/* How a client that calls a host of that name takes a server with that certificate. */
static enum status call(struct fixture *fixture, const struct made *shown, const char *name)
{
    const struct tls_host fallback = {.identities = &shown->identity, .count = 1};
    struct tls_server *server = make_server(
        fixture, &(struct tls_server_settings){.fallback = &fallback, .version_max = TLS_1_3});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){.verify = true});
    struct ends ends;
    open_ends(fixture, &ends, server, client, name, NULL);
    enum status status = ends.client_status;
    if (status == ERROR) {
        assert_int_equal(ends.client_failure, TLS_FAILURE_BAD_CERTIFICATE);
        assert_int_equal(tls_failure_detail(&ends.client), TLS_DETAIL_VERIFY_HOSTNAME_MISMATCH);
    }
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
    return status;
}

static void a_name_counts_where_names_stand_and_a_star_is_one_whole_label(void **state)
{
    struct fixture *fixture = *state;
    static struct made subject;
    static struct made starred;
    made_make(&subject, "c.example", "email:c@c.example", &fixture->ca, "EC", VALID);
    made_make(&starred, "starred", "DNS:*.c.example,DNS:p*.d.example,DNS:*", &fixture->ca, "EC",
              VALID);
    assert_int_equal(call(fixture, &subject, "c.example"), ERROR);
    assert_int_equal(call(fixture, &starred, "x.c.example"), OK);
    assert_int_equal(call(fixture, &starred, "X.C.Example"), OK);
    assert_int_equal(call(fixture, &starred, "c.example"), ERROR);
    assert_int_equal(call(fixture, &starred, "x.y.c.example"), ERROR);
    assert_int_equal(call(fixture, &starred, "px.d.example"), ERROR);
    assert_int_equal(call(fixture, &starred, "localhost"), ERROR);
    made_drop(&subject);
    made_drop(&starred);
}

static void a_session_ends_with_the_certificate_that_it_began_with(void **state)
{
    struct fixture *fixture = *state;
    static const long SHORT[2] = {-3600, 3};
    for (int round = 0; round < 2; round++) {
        static struct made brief;
        struct ends ends;
        struct tls_resumption resumption = {NULL};
        made_make(&brief, "brief", "DNS:a.example", &fixture->ca, "EC", SHORT);
        const struct tls_host fallback = {.identities = &brief.identity, .count = 1};
        struct tls_server *server = make_server(
            fixture, &(struct tls_server_settings){.fallback = &fallback,
                                                   .version_max = round == 0 ? TLS_1_2 : TLS_1_3,
                                                   .tickets = true});
        struct tls_client *client =
            make_client(fixture, (struct tls_client_settings){.verify = true});
        struct tls_info info = {.resumed = false};
        rotate(fixture);
        for (int i = 0; i < 2; i++) {
            open_ends(fixture, &ends, server, client, "a.example", &resumption);
            assert_int_equal(ends.client_status, OK);
            send_text(&ends.server, "answer");
            expect_text(fixture, &ends.client, "answer");
            tls_describe(&ends.client, &info);
            close_ends(&ends);
        }
        assert_true(info.resumed); /* else the test shows nothing */
        const ASN1_TIME *end = X509_get0_notAfter(brief.certificate);
        for (int i = 0; i < PUMP_MAX && X509_cmp_current_time(end) > 0; i++) {
            turn(fixture);
        }
        open_ends(fixture, &ends, server, client, "a.example", &resumption);
        assert_int_equal(ends.client_status, ERROR);
        assert_int_equal(ends.client_failure, TLS_FAILURE_BAD_CERTIFICATE);
        assert_int_equal(tls_failure_detail(&ends.client), TLS_DETAIL_VERIFY_CERT_HAS_EXPIRED);
        close_ends(&ends);
        tls_resumption_drop(&resumption);
        tls_client_destroy(client);
        tls_server_destroy(server);
        made_drop(&brief);
    }
}

/* As something in the library might leave it that failed and was made good. */
static void leave_an_error(void)
{
    ERR_raise(ERR_LIB_SSL, SSL_R_HTTP_REQUEST);
}

static void what_is_left_of_one_connections_errors_is_no_failure_of_another(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(fixture, (struct tls_server_settings){0});
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){.verify = true});
    const struct tls_peer peer = {.server_name = SPAN("a.example")};
    static const char BYTES[1024 * 1024];
    struct iovec piece = {(void *)(uintptr_t)BYTES, sizeof(BYTES)};
    char data[16];
    size_t got = 0;
    struct ends ends;
    enum tls_failure failure = TLS_FAILURE_CLOSED;
    connect_ends(fixture, &ends);
    assert_true(tls_begin_server(&ends.server, server, SPAN_EMPTY));
    assert_true(tls_begin_client(&ends.client, client, &peer, NULL));
    leave_an_error();
    assert_int_equal(tls_handshake(&ends.client, &failure), AGAIN);
    shake_hands(fixture, &ends);
    leave_an_error();
    ends.server.socket.ready |= IO_READABLE;
    assert_int_equal(ends.server.ops->read(&ends.server, data, sizeof(data), &got), AGAIN);
    enum status status = OK;
    for (int i = 0; i < PUMP_MAX && status == OK; i++) {
        leave_an_error();
        status = ends.server.ops->write(&ends.server, &piece, 1, &got);
    }
    assert_int_equal(status, AGAIN);
    ERR_clear_error();
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_counts_where_names_stand_and_a_star_is_one_whole_label),
        cmocka_unit_test(a_session_ends_with_the_certificate_that_it_began_with),
        cmocka_unit_test(what_is_left_of_one_connections_errors_is_no_failure_of_another),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
