#include <errno.h>
#include <stdio.h>

#include "config/certificate_maker_test.h"
#include "config/compile.h"

enum { ARENA_SIZE = 8 * 1024 * 1024, SECRETS_ARENA_SIZE = 4 * 1024 * 1024, FILES_MAX = 16 };

struct file {
    const char *path;
    const char *text;
    uint32_t mode;
    int error;
};

/* What the compiler finds where it looks for files. */
static struct file files[FILES_MAX];
static size_t files_count;
static size_t files_read;

static int read_from_list(const char *path, uint8_t *memory, size_t size,
                          struct file_content *content)
{
    files_read++;
    for (size_t i = 0; i < files_count; i++) {
        if (strcmp(files[i].path, path) != 0) {
            continue;
        }
        size_t length = files[i].text == NULL ? 0 : strlen(files[i].text);
        if (files[i].error != 0 || length > size) {
            return files[i].error != 0 ? files[i].error : EFBIG;
        }
        memcpy(memory, files[i].text, length);
        *content = (struct file_content){.size = length, .mode = files[i].mode};
        return 0;
    }
    return ENOENT;
}

struct fixture {
    struct maker maker;
    void *memory;
    void *notes;
    void *keys;
    struct secrets_builder secrets;
    struct environment environment;
    struct diagnostics diagnostics;
    struct generation generation;
    struct span block;
    enum status status;
    char *report;
    size_t report_size;
    const struct made *host;
    const char *host_key;
};

static void add_file(const char *path, const char *text)
{
    assert_true(files_count < FILES_MAX);
    files[files_count++] = (struct file){.path = path, .text = text, .mode = 0100600};
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->memory = malloc(ARENA_SIZE);
    fixture->notes = malloc(COMPILE_DIAGNOSTICS_ARENA_SIZE);
    fixture->keys = malloc(SECRETS_ARENA_SIZE);
    assert_true(fixture->memory != NULL && fixture->notes != NULL && fixture->keys != NULL);
    fixture->environment = (struct environment){
        .cores = 1, .read_file = read_from_list, .secrets = &fixture->secrets, .now = MAKER_NOW};
    files_count = 0;
    struct maker *maker = &fixture->maker;
    fixture->host =
        make(maker, (struct recipe){.name = "a", .alternatives = "DNS:a.test,DNS:*.b.test"});
    const struct made *rsa = make(
        maker,
        (struct recipe){.name = "a", .alternatives = "DNS:a.test", .key = "RSA", .bits = 2048});
    const struct made *root = make(maker, (struct recipe){.name = "Root", .is_ca = true});
    fixture->host_key = key_of(maker, fixture->host);
    add_file("/etc/s/a.pem", pem_of(maker, fixture->host));
    add_file("/etc/s/a.key", fixture->host_key);
    add_file("/etc/s/rsa.pem", joined(maker, key_of(maker, rsa), pem_of(maker, rsa)));
    add_file("/ca.pem", pem_of(maker, root));
    add_file("/etc/ssl/certs/ca-certificates.crt", pem_of(maker, root));
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    maker_free(&fixture->maker);
    free(fixture->report);
    free(fixture->memory);
    free(fixture->notes);
    free(fixture->keys);
    free(fixture);
    return 0;
}

static void compile(struct fixture *fixture, const char *text)
{
    struct arena arena;
    struct arena notes;
    arena_init(&arena, fixture->memory, ARENA_SIZE);
    arena_init(&notes, fixture->notes, COMPILE_DIAGNOSTICS_ARENA_SIZE);
    memset(&fixture->secrets, 0, sizeof(fixture->secrets));
    arena_init(&fixture->secrets.arena, fixture->keys, SECRETS_ARENA_SIZE);
    diagnostics_init(&fixture->diagnostics, &notes);
    struct compile_input input = {
        .name = SPAN("/etc/s/t.kdl"),
        .text = span_of_string(text),
        .environment = &fixture->environment,
    };
    files_read = 0;
    fixture->status = compile_text(&input, &fixture->diagnostics, &arena, &fixture->block);
    free(fixture->report);
    FILE *stream = open_memstream(&fixture->report, &fixture->report_size);
    assert_non_null(stream);
    diagnostics_print(&fixture->diagnostics, stream);
    (void)fclose(stream);
    if (fixture->status == OK) {
        assert_true(generation_open(&fixture->generation, fixture->block));
    }
}

/* A listener with this between the braces of its `tls`. */
static void compile_listener(struct fixture *fixture, const char *inside)
{
    char text[2048];
    int size =
        snprintf(text, sizeof(text),
                 "listener \"l\" { address \"127.0.0.1:1\"; protocol \"https\"; tls {\n%s\n} "
                 "}\nroute \"r\" { respond 200 }\n",
                 inside);
    assert_true(size > 0 && (size_t)size < sizeof(text));
    compile(fixture, text);
}

/* An upstream with this between the braces of its `tls`. */
static void compile_upstream(struct fixture *fixture, const char *inside)
{
    char text[2048];
    int size =
        snprintf(text, sizeof(text),
                 "listener \"l\" { address \"127.0.0.1:1\" }\nroute \"r\" { upstream \"u\" }\n"
                 "upstream \"u\" { target \"127.0.0.1:2\"\nhealth-check { type \"tcp\" }\n"
                 "tls { %s } }\n",
                 inside);
    assert_true(size > 0 && (size_t)size < sizeof(text));
    compile(fixture, text);
}

static void assert_good(const struct fixture *fixture)
{
    assert_string_equal(fixture->report, "");
    assert_int_equal(fixture->status, OK);
}

/* Refused, with a report that has this in it; a `^` in front stands for the line's begin. */
static void assert_refused(const struct fixture *fixture, const char *part)
{
    assert_int_equal(fixture->status, ERROR);
    if (strstr(fixture->report, part) == NULL) {
        fail_msg("no \"%s\" in\n%s", part, fixture->report);
    }
}

/* Accepted, but with a warning that has this in it. */
static void assert_warned(const struct fixture *fixture, const char *part)
{
    assert_int_equal(fixture->status, OK);
    if (strstr(fixture->report, part) == NULL) {
        fail_msg("no \"%s\" in\n%s", part, fixture->report);
    }
}

static struct span text_of(const struct fixture *fixture, struct ref ref)
{
    return generation_text(&fixture->generation, ref);
}

/* Whether the bytes of a private key, but for its PEM's armour, are in the memory. */
static bool holds_key(const struct fixture *fixture, const void *memory, size_t size)
{
    const char *line = strchr(fixture->host_key, '\n') + 1;
    return memmem(memory, size, line + 32, 32) != NULL; /* past what all keys begin with */
}

static void a_listener_shows_what_is_configured(void **state)
{
    struct fixture *fixture = *state;
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\"\ncertificate \"rsa.pem\"\n"
                              "host \"A.test\" \"*.b.test\" { certificate \"/etc/s/a.pem\" "
                              "key=\"a.key\" }\n"
                              "min-version \"1.3\"; alpn \"http/1.1\" \"h2\"\n"
                              "session-tickets false; client-auth \"optional\" ca=\"/ca.pem\" "
                              "forward=true");
    assert_good(fixture);
    const struct generation *generation = &fixture->generation;
    assert_int_equal(generation->header->certificates.count, 2); /* one is named twice */
    assert_int_equal(files_read, 5);                             /* rsa.pem for its key, too */
    assert_int_equal(generation_listener(generation, 0)->tls, 0);
    const struct generation_tls_server *server = generation_tls_server(generation, 0);
    const uint32_t *shown = generation_array(generation, server->certificates);
    assert_int_equal(server->certificates.count, 2);
    assert_int_equal(shown[0], 0);
    assert_int_equal(shown[1], 1);
    assert_int_equal(generation_certificate(generation, 1)->key_type, CERTIFICATE_RSA);
    assert_int_equal(generation_certificate(generation, 1)->key_bits, 2048);
    const struct generation_tls_host *hosts = generation_array(generation, server->hosts);
    assert_int_equal(server->hosts.count, 2);
    assert_true(span_equal(text_of(fixture, hosts[0].pattern), SPAN("a.test")));
    assert_true(span_equal(text_of(fixture, hosts[1].pattern), SPAN(".b.test")));
    assert_int_equal(hosts[1].certificates.count, 1);
    const uint32_t *alpn = generation_array(generation, server->alpn);
    assert_int_equal(server->alpn.count, 2);
    assert_int_equal(alpn[0], ALPN_HTTP1);
    assert_int_equal(server->version_min, TLS_VERSION_1_3);
    assert_int_equal(server->version_max, TLS_VERSION_1_3);
    assert_int_equal(server->session_tickets, 0);
    assert_int_equal(server->client_auth, CLIENT_AUTH_OPTIONAL);
    assert_int_equal(server->forward_client, 1);
    assert_true(span_starts_with(text_of(fixture, server->client_ca), SPAN("-----BEGIN CERT")));
}

/* The line of the summary that begins like this. */
static void assert_summary(const struct fixture *fixture, const char *line)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    assert_non_null(stream);
    compile_print_summary(stream, &fixture->generation, fixture->environment.now);
    (void)fclose(stream);
    if (strstr(text, line) == NULL) {
        print_error("no \"%s\" in\n%s", line, text);
        fail();
    }
    free(text);
}

static void the_summary_tells_names_keys_and_ends(void **state)
{
    struct fixture *fixture = *state;
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\"; certificate \"rsa.pem\"\n"
                              "client-auth \"required\" ca=\"/ca.pem\"");
    assert_good(fixture);
    assert_summary(fixture, "listener \"l\" on 127.0.0.1:1 with TLS 1.2 to 1.3, h2, http/1.1, "
                            "client certificates required\n");
    assert_summary(fixture, "certificate \"/etc/s/a.pem\", ECDSA 256, until 2027-04-15 (90 days): "
                            "a.test *.b.test\n");
    assert_summary(fixture, "certificate \"/etc/s/rsa.pem\", RSA 2048, until 2027-04-15 (90 days): "
                            "a.test\n");
    fixture->environment.now += (uint64_t)(100 * MAKER_DAY);
    assert_summary(fixture, "ECDSA 256, EXPIRED on 2027-04-15: a.test");
    compile_upstream(fixture, "");
    assert_summary(fixture, "upstream \"u\" with TLS, checked by TCP: 127.0.0.1:2\n");
    compile_upstream(fixture, "insecure-skip-verify true");
    assert_summary(fixture, "upstream \"u\" with TLS, NOT VERIFIED, checked by TCP");
}

static void what_is_left_out_has_its_default(void **state)
{
    struct fixture *fixture = *state;
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\"");
    assert_good(fixture);
    const struct generation_tls_server *server = generation_tls_server(&fixture->generation, 0);
    const uint32_t *alpn = generation_array(&fixture->generation, server->alpn);
    assert_int_equal(server->version_min, TLS_VERSION_1_2);
    assert_int_equal(server->version_max, TLS_VERSION_1_3);
    assert_int_equal(server->alpn.count, 2);
    assert_int_equal(alpn[0], ALPN_HTTP2);
    assert_int_equal(server->session_tickets, 1);
    assert_int_equal(server->client_auth, CLIENT_AUTH_OFF);
    assert_int_equal(server->client_ca.count, 0);
}

static void private_keys_stand_in_the_secrets_and_nowhere_else(void **state)
{
    struct fixture *fixture = *state;
    struct secrets secrets;
    compile_listener(fixture, "certificate \"rsa.pem\"\ncertificate \"a.pem\" key=\"a.key\"");
    assert_good(fixture);
    assert_true(secrets_open(&secrets, fixture->secrets.block, &fixture->generation));
    assert_int_equal(secrets.count, 2);
    assert_true(span_equal(secrets_key(&secrets, 1), span_of_string(fixture->host_key)));
    assert_true(holds_key(fixture, fixture->keys, SECRETS_ARENA_SIZE));
    assert_false(holds_key(fixture, fixture->block.data, fixture->block.size));
    assert_false(holds_key(fixture, fixture->memory, ARENA_SIZE));
    assert_false(holds_key(fixture, fixture->notes, COMPILE_DIAGNOSTICS_ARENA_SIZE));
    struct span rsa = secrets_key(&secrets, 0);
    assert_null(memmem(fixture->memory, ARENA_SIZE, rsa.data + 100, 32)); /* from one file */
    /* Health checks show none of these: the controller is given none. */
    assert_true(secrets_open(&secrets, fixture->secrets.check_block, &fixture->generation));
    assert_int_equal(secrets_key(&secrets, 0).size, 0);
    assert_int_equal(secrets_key(&secrets, 1).size, 0);
}

static void the_controller_gets_the_keys_of_health_checks_only(void **state)
{
    struct fixture *fixture = *state;
    struct secrets secrets;
    compile(fixture,
            "listener \"l\" { address \"127.0.0.1:1\"; protocol \"https\"\n"
            "tls { certificate \"rsa.pem\" } }\nroute \"r\" { upstream \"u\" }\n"
            "upstream \"u\" { target \"a.test:2\"; tls { certificate \"a.pem\" key=\"a.key\" }\n"
            "health-check { type \"tcp\" } }\n");
    assert_refused(fixture, "has no address"); /* no resolver here; all else is well */
    assert_int_equal(fixture->diagnostics.errors, 1);
    compile(fixture,
            "listener \"l\" { address \"127.0.0.1:1\"; protocol \"https\"\n"
            "tls { certificate \"rsa.pem\" } }\nroute \"r\" { upstream \"u\" }\n"
            "upstream \"u\" { target \"127.0.0.1:2\"; tls { certificate \"a.pem\" key=\"a.key\" }\n"
            "health-check { type \"tcp\" } }\n");
    assert_good(fixture);
    assert_true(secrets_open(&secrets, fixture->secrets.check_block, &fixture->generation));
    assert_int_equal(secrets_key(&secrets, 0).size, 0);
    assert_true(span_equal(secrets_key(&secrets, 1), span_of_string(fixture->host_key)));
}

/* What `sentinel check` counts for keys before anybody has seen them. */
static void keys_of_every_kind_take_no_more_than_their_bound(void **state)
{
    struct fixture *fixture = *state;
    static const struct recipe recipes[] = {
        {.name = "a", .alternatives = "DNS:a.test", .key = "P-521"},
        {.name = "a", .alternatives = "DNS:a.test", .key = "ED25519"},
        {.name = "a", .alternatives = "DNS:a.test", .key = "RSA", .bits = 2048},
        {.name = "a", .alternatives = "DNS:a.test", .key = "RSA", .bits = 3072},
    };
    for (size_t i = 0; i < sizeof(recipes) / sizeof(recipes[0]); i++) {
        const struct made *made = make(&fixture->maker, recipes[i]);
        files[2].text =
            joined(&fixture->maker, key_of(&fixture->maker, made), pem_of(&fixture->maker, made));
        compile_upstream(fixture, "certificate \"rsa.pem\"");
        assert_good(fixture);
        uint64_t taken = fixture->secrets.block.size + fixture->secrets.check_block.size;
        assert_true(taken <= secrets_bound(&fixture->generation));
    }
}

static void an_upstream_trusts_the_bundle_or_the_system(void **state)
{
    struct fixture *fixture = *state;
    compile_upstream(fixture, "ca \"/ca.pem\"; server-name \"B.test\"\n"
                              "certificate \"a.pem\" key=\"a.key\"");
    assert_good(fixture);
    const struct generation_upstream_tls *tls = &generation_upstream(&fixture->generation, 0)->tls;
    assert_int_equal(tls->on, 1);
    assert_int_equal(tls->skip_verify, 0);
    assert_int_equal(tls->certificate, 0);
    assert_true(tls->ca.count > 0);
    assert_true(span_equal(text_of(fixture, tls->server_name), SPAN("b.test")));
    compile_upstream(fixture, "");
    assert_good(fixture);
    tls = &generation_upstream(&fixture->generation, 0)->tls;
    assert_true(tls->ca.count > 0);
    assert_int_equal(tls->certificate, GENERATION_NONE);
    files[files_count - 1].path = "/etc/pki/tls/certs/ca-bundle.crt"; /* another system's place */
    compile_upstream(fixture, "");
    assert_good(fixture);
    files_count--;
    compile_upstream(fixture, "");
    assert_refused(fixture, "this system has no bundle of CAs to verify endpoints with");
}

static void trust_in_anybody_is_said_loudly(void **state)
{
    struct fixture *fixture = *state;
    compile_upstream(fixture, "insecure-skip-verify true");
    assert_warned(fixture, "warning: INSECURE: certificates of these endpoints are not verified");
    assert_int_equal(generation_upstream(&fixture->generation, 0)->tls.skip_verify, 1);
    compile_upstream(fixture, "insecure-skip-verify true; ca \"/ca.pem\"");
    assert_refused(fixture, "`ca` has no effect here");
}

static void files_that_cannot_be_read_are_named(void **state)
{
    struct fixture *fixture = *state;
    compile_listener(fixture, "certificate \"no.pem\" key=\"no.key\"");
    assert_refused(fixture, "/etc/s/t.kdl:2:13: error: cannot read /etc/s/no.pem: No such file");
    files[1].error = EACCES;
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\"");
    assert_refused(fixture, "/etc/s/t.kdl:2:25: error: cannot read /etc/s/a.key: Permission");
    files[1].error = EFBIG;
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\"");
    assert_refused(fixture, "cannot read /etc/s/a.key: it is larger than 64 KiB");
    files[1].error = EINVAL;
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\"");
    assert_refused(fixture, "cannot read /etc/s/a.key: it is no regular file");
    files[1].error = 0;
    files[1].mode = 0100644;
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\"");
    assert_warned(fixture, "/etc/s/a.key holds a private key and is open to everybody");
}

static void everything_wrong_is_told_in_one_run(void **state)
{
    struct fixture *fixture = *state;
    compile_listener(fixture, "certificate \"a.pem\"\ncertificate \"no.pem\"\n"
                              "host \"a.test\" { certificate \"a.pem\" key=\"rsa.pem\" }\n"
                              "client-auth \"required\" ca=\"no-ca.pem\"\n"
                              "min-version \"1.3\"; max-version \"1.2\"; alpn \"h2\" \"h2\"");
    assert_refused(fixture, "/etc/s/a.pem holds no private key");
    assert_refused(fixture, "cannot read /etc/s/no.pem");
    assert_refused(fixture, "/etc/s/rsa.pem holds the key of another certificate");
    assert_refused(fixture, "cannot read /etc/s/no-ca.pem");
    assert_refused(fixture, "`max-version` is below `min-version`");
    assert_refused(fixture, "`alpn` names \"h2\" twice");
    assert_int_equal(fixture->diagnostics.errors, 6);
}

static void clients_are_never_believed_without_who_signs_them(void **state)
{
    struct fixture *fixture = *state;
    compile_listener(fixture, "certificate \"rsa.pem\"; client-auth \"required\"");
    assert_refused(fixture, "`client-auth` lacks its `ca`");
    compile_listener(fixture, "certificate \"rsa.pem\"; client-auth \"optional\"");
    assert_refused(fixture, "`client-auth` lacks its `ca`");
    compile_listener(fixture, "certificate \"rsa.pem\"; client-auth \"off\" forward=true");
    assert_refused(fixture, "client certificates are off");
    compile_listener(fixture, "certificate \"rsa.pem\"; client-auth \"off\" ca=\"/ca.pem\"");
    assert_refused(fixture, "`ca` has no effect here");
    add_file("/empty.pem", "");
    compile_listener(fixture,
                     "certificate \"rsa.pem\"; client-auth \"required\" ca=\"/empty.pem\"");
    assert_refused(fixture, "/empty.pem holds no certificate: nobody would be trusted");
}

static void a_bundle_without_a_root_is_refused_at_its_place(void **state)
{
    struct fixture *fixture = *state;
    struct maker *maker = &fixture->maker;
    const struct made *root = make(maker, (struct recipe){.name = "Root", .is_ca = true});
    const struct made *between =
        make(maker, (struct recipe){.name = "between", .from = root, .is_ca = true});
    add_file("/between.pem", pem_of(maker, between));
    compile_listener(fixture,
                     "certificate \"rsa.pem\"; client-auth \"required\" ca=\"/between.pem\"");
    assert_refused(fixture, "/etc/s/t.kdl:2:50: error: /between.pem holds no root");
    compile_upstream(fixture, "ca \"/between.pem\"");
    assert_refused(fixture, ": error: /between.pem holds no root");
    add_file("/both.pem", joined(maker, pem_of(maker, between), pem_of(maker, root)));
    compile_upstream(fixture, "ca \"/both.pem\"");
    assert_good(fixture);
}

static void hosts_have_their_certificates_once_and_these_are_for_them(void **state)
{
    struct fixture *fixture = *state;
    compile_listener(fixture,
                     "host \"a.test\" { certificate \"rsa.pem\" }\n"
                     "host \"x.b.test\" \"A.test\" { certificate \"a.pem\" key=\"a.key\" }");
    assert_refused(fixture, "/etc/s/t.kdl:3:17: error: the host \"a.test\" has its certificates "
                            "already");
    assert_refused(fixture, "help: it stands at /etc/s/t.kdl:2:6");
    compile_listener(fixture,
                     "host \"a.test\" { certificate \"rsa.pem\" }\n"
                     "host \"x.b.test\" \"*.x.test\" { certificate \"a.pem\" key=\"a.key\" }");
    assert_warned(fixture, "/etc/s/t.kdl:3:17: warning: a.pem is not for \"*.x.test\"");
    assert_int_equal(fixture->diagnostics.warnings, 1);
    compile_listener(fixture, "certificate \"rsa.pem\"; certificate \"rsa.pem\"");
    assert_refused(fixture, "there is a certificate of this kind of key here already");
    compile_listener(fixture, "session-tickets true");
    assert_refused(fixture, "`tls` lacks a `certificate`");
    compile_listener(fixture, "host \"a.test\" { certificate \"rsa.pem\" }");
    assert_good(fixture); /* whoever names another host is refused */
}

static void an_expired_certificate_is_an_error_only_where_it_is_asked_for(void **state)
{
    struct fixture *fixture = *state;
    fixture->environment.now = MAKER_NOW + (uint64_t)(91 * MAKER_DAY);
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\"");
    assert_warned(fixture, "warning: /etc/s/a.pem has expired on 2027-04-15");
    fixture->environment.refuses_expired = true;
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\"");
    assert_refused(fixture, "error: /etc/s/a.pem has expired on 2027-04-15");
}

static void a_broken_ocsp_response_is_refused(void **state)
{
    struct fixture *fixture = *state;
    add_file("/etc/s/a.ocsp", "nonsense");
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\" ocsp=\"a.ocsp\"");
    assert_refused(fixture, "/etc/s/t.kdl:2:38: error: /etc/s/a.ocsp is no OCSP response");
}

static void without_files_tls_is_left_out(void **state)
{
    struct fixture *fixture = *state;
    fixture->environment.read_file = NULL;
    fixture->environment.secrets = NULL;
    compile_listener(fixture, "certificate \"no.pem\" key=\"no.key\"");
    assert_good(fixture);
    assert_int_equal(generation_listener(&fixture->generation, 0)->tls, GENERATION_NONE);
}

static void a_unix_socket_needs_the_name_that_its_certificate_is_for(void **state)
{
    struct fixture *fixture = *state;
    static const char TEXT[] = "listener \"l\" { address \"127.0.0.1:1\" }\n"
                               "route \"r\" { upstream \"u\" }\n"
                               "upstream \"u\" { target \"unix:/run/x\"; tls { %s } }\n";
    char text[sizeof(TEXT) + 64];
    (void)snprintf(text, sizeof(text), TEXT, "ca \"/ca.pem\"");
    compile(fixture, text);
    assert_refused(fixture, "nothing says which name the certificate of \"unix:/run/x\" is for");
    (void)snprintf(text, sizeof(text), TEXT, "ca \"/ca.pem\"; server-name \"a.test\"");
    compile(fixture, text);
    assert_good(fixture);
}

/* ---- Damaged blocks ---- */

/* Damages one member, sees it refused, and restores it. */
#define REFUSED(member, value)                                                                     \
    do {                                                                                           \
        __typeof__(member) good_ = (member);                                                       \
        (member) = (value);                                                                        \
        assert_false(generation_open(&fixture->generation, fixture->block));                       \
        (member) = good_;                                                                          \
        assert_true(generation_open(&fixture->generation, fixture->block));                        \
    } while (0)

/* The blocks lie in memory of ours. */
static void *writable(const struct fixture *fixture, struct ref ref)
{
    size_t offset = (size_t)(fixture->block.data - (const uint8_t *)fixture->memory) + ref.offset;
    return (uint8_t *)fixture->memory + offset;
}

static void damaged_records_of_tls_are_refused(void **state)
{
    struct fixture *fixture = *state;
    compile_listener(fixture, "certificate \"a.pem\" key=\"a.key\"; certificate \"rsa.pem\"\n"
                              "host \"a.test\" { certificate \"rsa.pem\" }\n"
                              "client-auth \"required\" ca=\"/ca.pem\"");
    assert_good(fixture);
    struct generation_header *header = writable(fixture, (struct ref){0});
    struct generation_certificate *certificate = writable(fixture, header->certificates);
    struct generation_tls_server *server = writable(fixture, header->tls_servers);
    struct generation_tls_host *host = writable(fixture, server->hosts);
    struct generation_listener *listener = writable(fixture, header->listeners);
    uint32_t *shown = writable(fixture, server->certificates);
    uint32_t *alpn = writable(fixture, server->alpn);
    const struct ref none = {0};
    const struct ref outside = {header->size - 4, 8};
    REFUSED(listener->tls, 1);
    REFUSED(certificate[0].chain, none);
    REFUSED(certificate[0].chain, outside);
    REFUSED(certificate[0].chain, certificate[0].name);
    REFUSED(certificate[0].name, none);
    REFUSED(certificate[0].names, outside);
    REFUSED(certificate[0].file, none);
    REFUSED(certificate[0].file, outside);
    REFUSED(certificate[0].ocsp, certificate[0].name); /* of no end */
    REFUSED(certificate[0].ocsp_until, 1);
    REFUSED(certificate[0].key_type, CERTIFICATE_KEY_TYPES);
    REFUSED(certificate[0].not_before, 0);
    REFUSED(certificate[0].not_after, certificate[0].not_before);
    REFUSED(certificate[0].place.reserved, 1);
    REFUSED(shown[0], 2);
    REFUSED(shown[0], 1); /* a kind of key twice */
    REFUSED(server->certificates, outside);
    REFUSED(server->hosts, outside);
    REFUSED(host->pattern, none);
    REFUSED(host->certificates, none);
    REFUSED(server->version_min, TLS_VERSION_1_3 + 1);
    REFUSED(server->version_max, TLS_VERSION_1_3 + 1);
    REFUSED(alpn[0], ALPN_COUNT);
    REFUSED(alpn[0], alpn[1]);
    REFUSED(server->alpn, none);
    REFUSED(server->client_auth, CLIENT_AUTH_REQUIRED + 1);
    REFUSED(server->client_auth, CLIENT_AUTH_OFF); /* with a bundle */
    REFUSED(server->client_ca, none);              /* everybody would get in */
    REFUSED(server->session_tickets, 2);
    REFUSED(server->forward_client, 2);
    REFUSED(server->reserved, 1);
}

static void damaged_tls_of_upstreams_is_refused(void **state)
{
    struct fixture *fixture = *state;
    compile_upstream(fixture, "ca \"/ca.pem\"; server-name \"b\"; certificate \"rsa.pem\"");
    assert_good(fixture);
    struct generation_header *header = writable(fixture, (struct ref){0});
    struct generation_upstream *upstream = writable(fixture, header->upstreams);
    const struct ref none = {0};
    REFUSED(upstream->tls.on, 2);
    REFUSED(upstream->tls.on, 0);
    REFUSED(upstream->tls.skip_verify, 1);
    REFUSED(upstream->tls.ca, none); /* anybody would be believed */
    REFUSED(upstream->tls.certificate, 1);
    REFUSED(upstream->tls.reserved, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_listener_shows_what_is_configured),
        TEST(the_summary_tells_names_keys_and_ends),
        TEST(what_is_left_out_has_its_default),
        TEST(private_keys_stand_in_the_secrets_and_nowhere_else),
        TEST(the_controller_gets_the_keys_of_health_checks_only),
        TEST(keys_of_every_kind_take_no_more_than_their_bound),
        TEST(an_upstream_trusts_the_bundle_or_the_system),
        TEST(a_bundle_without_a_root_is_refused_at_its_place),
        TEST(trust_in_anybody_is_said_loudly),
        TEST(files_that_cannot_be_read_are_named),
        TEST(everything_wrong_is_told_in_one_run),
        TEST(clients_are_never_believed_without_who_signs_them),
        TEST(hosts_have_their_certificates_once_and_these_are_for_them),
        TEST(an_expired_certificate_is_an_error_only_where_it_is_asked_for),
        TEST(a_broken_ocsp_response_is_refused),
        TEST(without_files_tls_is_left_out),
        TEST(a_unix_socket_needs_the_name_that_its_certificate_is_for),
        TEST(damaged_records_of_tls_are_refused),
        TEST(damaged_tls_of_upstreams_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
