#include "net/tls_openssl_ends_test.h"

static void expect_client_auth(struct fixture *fixture, struct tls_server *server,
                               const struct made *shown, enum tls_version max, enum status expected,
                               enum tls_failure failure)
{
    struct tls_client *client = make_client(
        fixture, (struct tls_client_settings){.verify = true,
                                              .identity = shown == NULL ? NULL : &shown->identity});
    SSL_CTX_set_max_proto_version(client->context,
                                  max == TLS_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION);
    struct ends ends;
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    for (int i = 0; i < PUMP_MAX && ends.server_status == AGAIN; i++) {
        turn(fixture);
        ends.server_status = tls_handshake(&ends.server, &ends.server_failure);
    }
    assert_int_equal(ends.server_status, expected);
    if (expected == ERROR) {
        assert_int_equal(ends.server_failure, failure);
    } else {
        struct tls_info info;
        tls_describe(&ends.server, &info);
        assert_int_equal(info.peer_verified, shown != NULL);
    }
    close_ends(&ends);
    tls_client_destroy(client);
}

static void clients_show_their_certificates(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server_settings settings = {.client_auth = TLS_CLIENT_AUTH_REQUIRED,
                                           .client_ca_pem = span_of_string(fixture->ca.chain_pem)};
    struct tls_server *required = plain_server(fixture, settings);
    settings.client_auth = TLS_CLIENT_AUTH_OPTIONAL;
    struct tls_server *optional = plain_server(fixture, settings);
    for (int version = TLS_1_2; version <= TLS_1_3; version++) {
        enum tls_version max = (enum tls_version)version;
        expect_client_auth(fixture, required, &fixture->user, max, OK, 0);
        expect_client_auth(fixture, required, NULL, max, ERROR, TLS_FAILURE_NO_CERTIFICATE);
        expect_client_auth(fixture, required, &fixture->stranger, max, ERROR,
                           TLS_FAILURE_BAD_CERTIFICATE);
        expect_client_auth(fixture, required, &fixture->old_user, max, ERROR,
                           TLS_FAILURE_BAD_CERTIFICATE);
        expect_client_auth(fixture, optional, NULL, max, OK, 0);
        expect_client_auth(fixture, optional, &fixture->user, max, OK, 0);
        expect_client_auth(fixture, optional, &fixture->stranger, max, ERROR,
                           TLS_FAILURE_BAD_CERTIFICATE);
    }
    tls_server_destroy(required);
    tls_server_destroy(optional);
}

static void write_until_error(struct fixture *fixture, struct transport *transport)
{
    struct iovec piece = {"question", 8};
    size_t put = 0;
    enum status status = OK;
    for (int i = 0; i < PUMP_MAX && status == OK; i++) {
        status = transport->ops->write(transport, &piece, 1, &put);
        turn(fixture);
    }
    assert_int_equal(status, ERROR);
}

/* With TLS 1.3 the client takes the handshake for done by then. */
static void a_client_that_is_refused_afterwards_is_told_so(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server_settings settings = {.client_auth = TLS_CLIENT_AUTH_REQUIRED,
                                           .client_ca_pem = span_of_string(fixture->ca.chain_pem)};
    struct tls_server *server = plain_server(fixture, settings);
    struct tls_client *nobody = make_client(fixture, (struct tls_client_settings){.verify = true});
    struct tls_client *user = make_client(
        fixture, (struct tls_client_settings){.verify = true, .identity = &fixture->user.identity});
    struct ends ends;
    char data[16];
    size_t got = 0;
    open_ends(fixture, &ends, server, nobody, "a.example", NULL);
    for (int i = 0; i < PUMP_MAX && ends.server_status == AGAIN; i++) {
        turn(fixture);
        ends.server_status = tls_handshake(&ends.server, &ends.server_failure);
    }
    assert_int_equal(ends.client_status, OK);
    assert_int_equal(ends.server_status, ERROR);
    assert_false(tls_was_refused(&ends.client));
    assert_false(tls_is_accepted(&ends.client));
    ends.server.ops->close(&ends.server);
    write_until_error(fixture, &ends.client); /* what has come is read all the same */
    assert_int_equal(read_some(fixture, &ends.client, data, sizeof(data), &got), ERROR);
    assert_true(tls_was_refused(&ends.client));
    assert_int_equal(tls_failure_detail(&ends.client), TLS_DETAIL_ALERT_CERTIFICATE_REQUIRED);
    close_ends(&ends);

    /* An end that is none is a cut, and what comes after data is no refusal. */
    open_ends(fixture, &ends, server, user, "a.example", NULL);
    send_text(&ends.server, "answer");
    expect_text(fixture, &ends.client, "answer");
    ends.server.ops->reset(&ends.server);
    assert_int_equal(read_some(fixture, &ends.client, data, sizeof(data), &got), ERROR);
    assert_false(tls_was_refused(&ends.client));
    close_ends(&ends);
    tls_client_destroy(nobody);
    tls_client_destroy(user);
    tls_server_destroy(server);
}

/* A connection of that version: what the client learns before and after it reads that. */
static void expect_accepted(struct fixture *fixture, enum tls_client_auth auth, int version,
                            bool at_once, const char *answer)
{
    struct tls_server_settings settings = {.client_auth = auth,
                                           .client_ca_pem = span_of_string(fixture->ca.chain_pem)};
    struct tls_server *server = plain_server(fixture, settings);
    struct tls_client *client = make_client(fixture, (struct tls_client_settings){.verify = true});
    struct ends ends;
    char data[16];
    size_t got = 0;
    assert_int_equal(SSL_CTX_set_max_proto_version(client->context, version), 1);
    open_ends(fixture, &ends, server, client, "a.example", NULL);
    assert_int_equal(ends.server_status, OK);
    assert_int_equal(tls_is_accepted(&ends.client), at_once);
    if (answer != NULL) {
        send_text(&ends.server, answer);
        expect_text(fixture, &ends.client, answer);
    }
    for (int i = 0; i < PUMP_MAX && !tls_is_accepted(&ends.client); i++) { /* for the ticket */
        turn(fixture);
        assert_int_equal(ends.client.ops->read(&ends.client, data, sizeof(data), &got), AGAIN);
    }
    assert_true(tls_is_accepted(&ends.client));
    close_ends(&ends);
    tls_client_destroy(client);
    tls_server_destroy(server);
}

static void a_client_is_accepted_once_it_cannot_be_refused(void **state)
{
    struct fixture *fixture = *state;
    tls_engine_set_ticket_keys(fixture->engine, NULL);
    expect_accepted(fixture, TLS_CLIENT_AUTH_OFF, TLS1_3_VERSION, true, NULL);
    expect_accepted(fixture, TLS_CLIENT_AUTH_OPTIONAL, TLS1_2_VERSION, true, NULL);
    expect_accepted(fixture, TLS_CLIENT_AUTH_OPTIONAL, TLS1_3_VERSION, false, "answer");
    rotate(fixture);
    expect_accepted(fixture, TLS_CLIENT_AUTH_OPTIONAL, TLS1_3_VERSION, false, NULL);
    tls_engine_set_ticket_keys(fixture->engine, NULL);
}

static void add_name(GENERAL_NAMES *names, int kind, struct span value)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *text = kind == GEN_IPADD ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
    assert_int_equal(ASN1_STRING_set(text, value.data, (int)value.size), 1);
    GENERAL_NAME_set0_value(name, kind, text);
    assert_true(sk_GENERAL_NAME_push(names, name) > 0);
}

/* One connection of this user; the texts are good until it is closed. */
static const struct tls_certificate *show(struct fixture *fixture, struct tls_server *server,
                                          const struct made *user, struct ends *ends)
{
    const struct tls_identity *identity = user == NULL ? NULL : &user->identity;
    struct tls_client *client =
        make_client(fixture, (struct tls_client_settings){.verify = true, .identity = identity});
    open_ends(fixture, ends, server, client, "a.example", NULL);
    assert_int_equal(ends->server_status, OK);
    tls_client_destroy(client);
    return tls_client_certificate(&ends->server);
}

static void expect_span(struct span actual, const char *expected)
{
    if (!span_equal(actual, span_of_string(expected))) {
        fail_msg("%.*s is not %s", SPAN_ARGS(actual), expected);
    }
}

static void a_clients_certificate_is_told_so_that_nothing_can_be_taken_for_another(void **state)
{
    struct fixture *fixture = *state;
    struct tls_server *server = plain_server(
        fixture,
        (struct tls_server_settings){.client_auth = TLS_CLIENT_AUTH_OPTIONAL,
                                     .client_ca_pem = span_of_string(fixture->ca.chain_pem)});
    struct ends ends;
    assert_null(show(fixture, server, NULL, &ends));
    close_ends(&ends);
    const struct tls_certificate *shown = show(fixture, server, &fixture->user, &ends);
    expect_span(shown->subject, "CN=user");
    expect_span(shown->names, "email:user@a.example");
    uint8_t digest[EVP_MAX_MD_SIZE];
    char print[TLS_FINGERPRINT_SIZE + 1];
    assert_int_equal(X509_digest(fixture->user.certificate, EVP_sha256(), digest, NULL), 1);
    for (size_t i = 0; i < TLS_FINGERPRINT_SIZE / 2; i++) {
        (void)snprintf(print + 2 * i, 3, "%02x", digest[i]);
    }
    expect_span(shown->fingerprint, print);
    close_ends(&ends);

    GENERAL_NAMES *names = GENERAL_NAMES_new();
    static const uint8_t six[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};
    add_name(names, GEN_DNS, SPAN("a.example, DNS:b.example"));
    add_name(names, GEN_URI, SPAN("spiffe://a/%2C\r\nX-Role: admin"));
    add_name(names, GEN_IPADD, span_of(six, sizeof(six)));
    add_name(names, GEN_IPADD, SPAN("\xc0\x00\x02\x01"));
    made_rename(&fixture->user, &fixture->ca, SPAN("x,CN=root\r\nX-Role: \xc3\xa4\"\\"), names);
    shown = show(fixture, server, &fixture->user, &ends);
    expect_span(shown->subject, "description=x\\,CN=root\\0D\\0AX-Role: \\C3\\A4\\\"\\\\,O=a\\, b");
    expect_span(shown->names, "DNS:a.example%2c%20DNS:b.example, "
                              "URI:spiffe://a/%252C%0d%0aX-Role:%20admin, IP:2001:db8::1, "
                              "IP:192.0.2.1");
    close_ends(&ends);
    GENERAL_NAMES_free(names);
    tls_server_destroy(server);
}

static void a_text_that_is_too_long_is_left_out_and_not_cut(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t long_name[TLS_NAMES_MAX];
    struct tls_server *server = plain_server(
        fixture,
        (struct tls_server_settings){.client_auth = TLS_CLIENT_AUTH_REQUIRED,
                                     .client_ca_pem = span_of_string(fixture->ca.chain_pem)});
    memset(long_name, 'a', sizeof(long_name));
    for (int longer = 0; longer < 2; longer++) { /* what just fits; a byte more */
        const size_t subject = sizeof("description=,O=a\\, b") - 1;
        const size_t one = (size_t)(TLS_SUBJECT_MAX + longer) - subject;
        const size_t two = (size_t)(TLS_NAMES_MAX + longer) - (sizeof("email:") - 1);
        struct ends ends;
        GENERAL_NAMES *names = GENERAL_NAMES_new();
        add_name(names, GEN_EMAIL, span_of(long_name, two));
        made_rename(&fixture->user, &fixture->ca, span_of(long_name, one), names);
        const struct tls_certificate *shown = show(fixture, server, &fixture->user, &ends);
        assert_int_equal(shown->subject.size, longer ? 0 : TLS_SUBJECT_MAX);
        assert_int_equal(shown->names.size, longer ? 0 : TLS_NAMES_MAX);
        assert_int_equal(shown->fingerprint.size, TLS_FINGERPRINT_SIZE);
        close_ends(&ends);
        GENERAL_NAMES_free(names);
    }
    tls_server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_show_their_certificates),
        cmocka_unit_test(a_client_that_is_refused_afterwards_is_told_so),
        cmocka_unit_test(a_client_is_accepted_once_it_cannot_be_refused),
        cmocka_unit_test_setup_teardown(
            a_clients_certificate_is_told_so_that_nothing_can_be_taken_for_another, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(a_text_that_is_too_long_is_left_out_and_not_cut, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
