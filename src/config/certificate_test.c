#include "config/certificate.h"

#include <openssl/err.h>
#include <openssl/ocsp.h>

#include "config/certificate_maker_test.h"
#include "config/generation.h"

enum { ARENA_SIZE = 256 * 1024 };

struct fixture {
    struct maker maker;
    struct arena arena;
    struct findings findings;
    struct certificate certificate;
    const struct made *root;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    arena_init(&fixture->arena, malloc(ARENA_SIZE), ARENA_SIZE);
    fixture->root = make(&fixture->maker, (struct recipe){.name = "Root", .is_ca = true});
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    certificate_free(&fixture->certificate);
    maker_free(&fixture->maker);
    free(fixture->arena.memory);
    free(fixture);
    return 0;
}

static enum status read_text(struct fixture *fixture, const char *pem)
{
    certificate_free(&fixture->certificate);
    fixture->findings.count = 0;
    enum status status =
        certificate_read(&fixture->certificate, span_of_string(pem), CERTIFICATE_OF_SERVER,
                         MAKER_NOW, &fixture->arena, &fixture->findings);
    assert_int_equal(ERR_peek_error(), 0); /* nothing is left for somebody else to stumble over */
    return status;
}

static enum status read_made(struct fixture *fixture, const struct made *made)
{
    return read_text(fixture, pem_of(&fixture->maker, made));
}

/* Exactly this was found. */
static void assert_found(const struct fixture *fixture, enum finding_kind kind, const char *text)
{
    if (fixture->findings.count != 1) {
        fail_msg("%u findings", fixture->findings.count);
    }
    assert_string_equal(fixture->findings.items[0].text, text);
    assert_int_equal(fixture->findings.items[0].kind, kind);
}

/* Some error that speaks of this was found. */
static bool found_error(const struct fixture *fixture, const char *part)
{
    for (uint32_t i = 0; i < fixture->findings.count; i++) {
        if (fixture->findings.items[i].kind == FINDING_ERROR &&
            strstr(fixture->findings.items[i].text, part) != NULL) {
            return true;
        }
    }
    return false;
}

static const struct made *make_host(struct fixture *fixture, const char *alternatives)
{
    return make(&fixture->maker, (struct recipe){.name = "Common.Example",
                                                 .alternatives = alternatives,
                                                 .from = fixture->root});
}

static void a_good_certificate_is_read_with_all_its_names(void **state)
{
    struct fixture *fixture = *state;
    const struct made *host =
        make_host(fixture, "DNS:Www.Example.org,DNS:*.example.org,IP:192.0.2.1,IP:2001:db8::1");
    assert_int_equal(read_made(fixture, host), OK);
    assert_int_equal(fixture->findings.count, 0);
    const struct certificate *certificate = &fixture->certificate;
    assert_int_equal(certificate->key_type, CERTIFICATE_ECDSA);
    assert_int_equal(certificate->key_bits, 256);
    assert_int_equal(certificate->not_before, MAKER_NOW - MAKER_DAY);
    assert_int_equal(certificate->not_after, MAKER_NOW + 90 * MAKER_DAY);
    assert_int_equal(certificate->names_count, 4);
    assert_true(span_equal(certificate->name, SPAN("www.example.org")));
    assert_true(span_equal(certificate->names[1], SPAN("*.example.org")));
    assert_true(span_equal(certificate->names[2], SPAN("192.0.2.1")));
    assert_true(span_equal(certificate->names[3], SPAN("2001:db8::1")));
}

static void names_that_could_steer_a_terminal_or_break_a_label_are_passed_over(void **state)
{
    struct fixture *fixture = *state;
    const struct made *host =
        make_host(fixture, "DNS:evil\x1b[2J.example,DNS:a\"b.example,DNS:good.example");
    assert_int_equal(read_made(fixture, host), OK);
    assert_int_equal(fixture->certificate.names_count, 1);
    assert_true(span_equal(fixture->certificate.name, SPAN("good.example")));
}

static void a_certificate_without_a_name_is_called_by_its_common_one(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(read_made(fixture, make_host(fixture, NULL)), OK);
    assert_found(fixture, FINDING_WARNING, "names no host in its subjectAltName");
    assert_true(span_equal(fixture->certificate.name, SPAN("common.example")));
}

static void a_star_covers_one_label(void **state)
{
    (void)state;
    const struct span names[] = {SPAN("a.test"), SPAN("*.b.test")};
    assert_true(certificate_names_cover(names, 2, SPAN("a.test")));
    assert_true(certificate_names_cover(names, 2, SPAN("x.b.test")));
    assert_true(certificate_names_cover(names, 2, SPAN("*.b.test")));
    assert_false(certificate_names_cover(names, 2, SPAN("b.test")));
    assert_false(certificate_names_cover(names, 2, SPAN("x.y.b.test")));
    assert_false(certificate_names_cover(names, 2, SPAN("*.a.test")));
    assert_false(certificate_names_cover(names, 2, SPAN("*.x.b.test")));
    assert_false(certificate_names_cover(names, 2, SPAN("x.a.test")));
    assert_false(certificate_names_cover(names, 2, SPAN(".b.test")));
    assert_false(certificate_names_cover(names, 2, SPAN("test")));
}

static void what_is_no_certificate_is_refused(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(read_text(fixture, ""), ERROR);
    assert_found(fixture, FINDING_ERROR, "holds no certificate");
    assert_int_equal(read_text(fixture, "what is this?\n"), ERROR);
    assert_found(fixture, FINDING_ERROR, "holds no certificate");
    assert_int_equal(read_text(fixture, key_of(&fixture->maker, fixture->root)), ERROR);
    assert_found(fixture, FINDING_ERROR, "holds no certificate");
    assert_int_equal(read_text(fixture, "-----BEGIN CERTIFICATE-----\nMIIB\n"
                                        "-----END CERTIFICATE-----\n"),
                     ERROR);
    assert_true(found_error(fixture, "is broken at certificate 1: "));
    const char *good = pem_of(&fixture->maker, make_host(fixture, "DNS:a.test"));
    assert_int_equal(
        read_text(fixture, joined(&fixture->maker, good, "-----BEGIN CERTIFICATE-----\n!!\n")),
        ERROR);
    assert_true(found_error(fixture, "is broken at certificate 2: "));
}

static void more_certificates_than_any_chain_has_are_refused(void **state)
{
    struct fixture *fixture = *state;
    const char *text = "";
    const char *one = pem_of(&fixture->maker, make_host(fixture, "DNS:a.test"));
    for (int i = 0; i < CERTIFICATE_CHAIN_MAX + 1; i++) {
        text = joined(&fixture->maker, text, one);
    }
    assert_int_equal(read_text(fixture, text), ERROR);
    assert_found(fixture, FINDING_ERROR, "holds more than 10 certificates");
}

static void times_are_judged_by_the_clock(void **state)
{
    struct fixture *fixture = *state;
    struct recipe recipe = {.name = "x",
                            .alternatives = "DNS:a.test",
                            .from = fixture->root,
                            .begins = -90 * MAKER_DAY,
                            .ends = -MAKER_DAY};
    assert_int_equal(read_made(fixture, make(&fixture->maker, recipe)), OK);
    assert_found(fixture, FINDING_EXPIRED, "has expired on 2027-01-14");
    recipe.ends = 0;
    assert_int_equal(read_made(fixture, make(&fixture->maker, recipe)), OK);
    assert_found(fixture, FINDING_EXPIRED, "has expired on 2027-01-15"); /* this very second */
    recipe.ends = 1;
    assert_int_equal(read_made(fixture, make(&fixture->maker, recipe)), OK);
    assert_int_equal(fixture->findings.count, 0);
    recipe.begins = MAKER_DAY;
    recipe.ends = 2 * MAKER_DAY;
    assert_int_equal(read_made(fixture, make(&fixture->maker, recipe)), OK);
    assert_found(fixture, FINDING_WARNING, "is not valid before 2027-01-16");
    recipe.ends = 0;
    assert_int_equal(read_made(fixture, make(&fixture->maker, recipe)), ERROR);
    assert_true(found_error(fixture, "ends before it begins"));
}

static void weak_keys_and_signatures_are_refused(void **state)
{
    struct fixture *fixture = *state;
    struct recipe recipe = {.name = "x",
                            .alternatives = "DNS:a.test",
                            .from = fixture->root,
                            .key = "RSA",
                            .bits = 1024};
    assert_int_equal(read_made(fixture, make(&fixture->maker, recipe)), OK);
    assert_found(fixture, FINDING_ERROR,
                 "has an RSA key of only 1024 bits in certificate 1: it is too weak");
    recipe.key = "P-224";
    assert_int_equal(read_made(fixture, make(&fixture->maker, recipe)), OK);
    assert_found(fixture, FINDING_ERROR,
                 "has an ECDSA key in certificate 1 on a curve that TLS does not use");
    recipe.key = "P-256";
    recipe.digest = "SHA1";
    assert_int_equal(read_made(fixture, make(&fixture->maker, recipe)), OK);
    assert_found(fixture, FINDING_ERROR, "has certificate 1 signed with SHA-1, which is broken");
    recipe.digest = NULL;
    recipe.key = "ED25519";
    assert_int_equal(read_made(fixture, make(&fixture->maker, recipe)), OK);
    assert_int_equal(fixture->findings.count, 0);
    assert_int_equal(fixture->certificate.key_type, CERTIFICATE_ED25519);
}

static void a_certificate_that_is_not_for_servers_is_told(void **state)
{
    struct fixture *fixture = *state;
    const struct made *made = make(&fixture->maker, (struct recipe){.name = "x",
                                                                    .alternatives = "DNS:a.test",
                                                                    .from = fixture->root,
                                                                    .usage = "clientAuth"});
    assert_int_equal(read_made(fixture, made), OK);
    assert_found(fixture, FINDING_WARNING, "is not meant for a TLS server");
    fixture->findings.count = 0;
    certificate_free(&fixture->certificate);
    assert_int_equal(
        certificate_read(&fixture->certificate, span_of_string(pem_of(&fixture->maker, made)),
                         CERTIFICATE_OF_CLIENT, MAKER_NOW, &fixture->arena, &fixture->findings),
        OK);
    assert_int_equal(fixture->findings.count, 0);
}

static void a_chain_goes_from_the_host_to_its_root(void **state)
{
    struct fixture *fixture = *state;
    struct maker *maker = &fixture->maker;
    const struct made *middle =
        make(maker, (struct recipe){.name = "Middle", .is_ca = true, .from = fixture->root});
    const struct made *host =
        make(maker, (struct recipe){.name = "x", .alternatives = "DNS:a.test", .from = middle});
    const struct made *stranger = make(maker, (struct recipe){.name = "Stranger", .is_ca = true});
    const char *host_pem = pem_of(maker, host);
    const char *middle_pem = pem_of(maker, middle);
    const char *root_pem = pem_of(maker, fixture->root);
    const char *upwards = joined(maker, middle_pem, root_pem);
    assert_int_equal(read_text(fixture, joined(maker, host_pem, upwards)), OK);
    assert_int_equal(fixture->findings.count, 0);
    assert_int_equal(fixture->certificate.count, 3);
    assert_int_equal(read_text(fixture, joined(maker, upwards, host_pem)), OK);
    assert_true(found_error(fixture, "has its chain in the wrong order"));
    const char *swapped = joined(maker, root_pem, middle_pem);
    assert_int_equal(read_text(fixture, joined(maker, host_pem, swapped)), OK);
    assert_found(fixture, FINDING_ERROR,
                 "has its chain in the wrong order: certificate 1 was issued by certificate 3");
    assert_int_equal(read_text(fixture, joined(maker, host_pem, pem_of(maker, stranger))), OK);
    assert_found(fixture, FINDING_WARNING,
                 "has a certificate 2 that did not issue the one before it");
}

static enum status read_key(struct fixture *fixture, const char *pem, struct span *key)
{
    fixture->findings.count = 0;
    enum status status = certificate_read_key(&fixture->certificate, span_of_string(pem),
                                              &fixture->arena, key, &fixture->findings);
    assert_int_equal(ERR_peek_error(), 0);
    return status;
}

static void a_key_is_held_against_its_certificate(void **state)
{
    struct fixture *fixture = *state;
    struct maker *maker = &fixture->maker;
    const struct made *host = make_host(fixture, "DNS:a.test");
    const char *both = joined(maker, pem_of(maker, host), pem_of(maker, fixture->root));
    struct span key = SPAN_EMPTY;
    assert_int_equal(read_text(fixture, both), OK);
    assert_int_equal(read_key(fixture, key_of(maker, host), &key), OK);
    assert_true(span_equal(key, span_of_string(key_of(maker, host))));
    assert_int_equal(read_key(fixture, joined(maker, both, key_of(maker, host)), &key), OK);
    assert_int_equal(read_key(fixture, key_of(maker, make_host(fixture, NULL)), &key), ERROR);
    assert_found(fixture, FINDING_ERROR, "holds the key of another certificate");
    assert_int_equal(read_key(fixture, key_of(maker, fixture->root), &key), ERROR);
    assert_found(fixture, FINDING_ERROR,
                 "holds the key of certificate 2 in the chain, not of the first");
    assert_int_equal(read_key(fixture, both, &key), ERROR);
    assert_found(fixture, FINDING_ERROR, "holds no private key");
    assert_int_equal(
        read_key(fixture, "-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----\n", &key),
        ERROR);
    assert_true(found_error(fixture, "holds a broken private key: "));
}

static void an_encrypted_key_is_refused_without_asking_for_its_passphrase(void **state)
{
    struct fixture *fixture = *state;
    const struct made *host = make_host(fixture, "DNS:a.test");
    struct span key = SPAN_EMPTY;
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(bio, host->key, EVP_aes_128_cbc(),
                                              (const unsigned char *)"secret", 6, NULL, NULL),
                     1);
    assert_int_equal(read_made(fixture, host), OK);
    assert_int_equal(read_key(fixture, make_text(&fixture->maker, bio), &key), ERROR);
    assert_found(fixture, FINDING_ERROR,
                 "holds an encrypted private key, and nobody is there to type its passphrase");
}

static void only_certificates_of_a_file_are_passed_on(void **state)
{
    struct fixture *fixture = *state;
    struct maker *maker = &fixture->maker;
    const struct made *host = make_host(fixture, "DNS:a.test");
    const char *combined = joined(maker, joined(maker, "# a comment\n", key_of(maker, host)),
                                  joined(maker, pem_of(maker, host), "rubbish\n"));
    assert_int_equal(read_text(fixture, combined), OK);
    struct span pem = certificate_pem(&fixture->certificate, &fixture->arena);
    assert_true(span_equal(pem, span_of_string(pem_of(maker, host))));
}

static void a_bundle_holds_at_least_one_certificate(void **state)
{
    struct fixture *fixture = *state;
    struct maker *maker = &fixture->maker;
    struct span text = SPAN_EMPTY;
    struct findings *findings = &fixture->findings;
    const char *root = pem_of(maker, fixture->root);
    const char *two = joined(maker, root, root);
    assert_int_equal(certificate_read_authorities(span_of_string(joined(maker, "comment\n", two)),
                                                  MAKER_NOW, &fixture->arena, &text, findings),
                     OK);
    assert_true(span_equal(text, span_of_string(two)));
    assert_int_equal(findings->count, 0);
    assert_int_equal(
        certificate_read_authorities(SPAN("empty"), MAKER_NOW, &fixture->arena, &text, findings),
        ERROR);
    assert_found(fixture, FINDING_ERROR, "holds no certificate: nobody would be trusted");
    findings->count = 0;
    assert_int_equal(certificate_read_authorities(
                         span_of_string(joined(maker, root, "-----BEGIN CERTIFICATE-----\n!\n")),
                         MAKER_NOW, &fixture->arena, &text, findings),
                     ERROR);
    assert_true(found_error(fixture, "is broken at certificate 2: "));
    findings->count = 0;
    assert_int_equal(certificate_read_authorities(span_of_string(root),
                                                  MAKER_NOW + (uint64_t)(91 * MAKER_DAY),
                                                  &fixture->arena, &text, findings),
                     OK);
    assert_found(fixture, FINDING_WARNING, "holds only certificates that have expired");
}

/* Reads a bundle of these; NULL ends them. The findings are the last ones. */
static enum status read_bundle(struct fixture *fixture, const struct made *const *certificates)
{
    struct span text = SPAN_EMPTY;
    const char *pem = "";
    for (size_t i = 0; certificates[i] != NULL; i++) {
        pem = joined(&fixture->maker, pem, pem_of(&fixture->maker, certificates[i]));
    }
    fixture->findings.count = 0;
    return certificate_read_authorities(span_of_string(pem), MAKER_NOW, &fixture->arena, &text,
                                        &fixture->findings);
}

/* Whether OpenSSL, as it is set up here, believes the host by such a bundle. */
static bool is_believed(const struct made *host, const struct made *const *bundle,
                        const struct made *shown)
{
    X509_STORE *store = X509_STORE_new();
    STACK_OF(X509) *chain = sk_X509_new_null();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    assert_true(store != NULL && chain != NULL && context != NULL);
    for (size_t i = 0; bundle[i] != NULL; i++) {
        assert_int_equal(X509_STORE_add_cert(store, bundle[i]->x509), 1);
    }
    assert_true(sk_X509_push(chain, shown->x509) > 0);
    assert_int_equal(X509_STORE_CTX_init(context, store, host->x509, chain), 1);
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(context), (time_t)MAKER_NOW);
    bool believed = X509_verify_cert(context) == 1;
    X509_STORE_CTX_free(context);
    sk_X509_free(chain);
    X509_STORE_free(store);
    return believed;
}

static void what_no_chain_can_end_at_is_no_bundle(void **state)
{
    struct fixture *fixture = *state;
    struct maker *maker = &fixture->maker;
    const struct made *root = fixture->root;
    const struct made *between =
        make(maker, (struct recipe){.name = "between", .from = root, .is_ca = true});
    const struct made *below =
        make(maker, (struct recipe){.name = "below", .from = between, .is_ca = true});
    const struct made *host =
        make(maker, (struct recipe){.name = "host", .alternatives = "DNS:a.test", .from = between});
    const struct made *alone =
        make(maker, (struct recipe){.name = "alone", .alternatives = "DNS:a.test"});
    const struct made *const lacking[][4] = {{between}, {below, between}, {host}, {host, between}};
    const struct made *const enough[][4] = {{root}, {between, root}, {below, between, root}};
    for (size_t i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++) {
        assert_int_equal(read_bundle(fixture, lacking[i]), OK);
        assert_found(fixture, FINDING_ERROR,
                     "holds no root, that is, no certificate that signs itself: nobody would be "
                     "trusted");
        assert_false(is_believed(host, lacking[i], between));
    }
    for (size_t i = 0; i < sizeof(enough) / sizeof(enough[0]); i++) {
        assert_int_equal(read_bundle(fixture, enough[i]), OK);
        assert_int_equal(fixture->findings.count, 0);
        assert_true(is_believed(host, enough[i], between));
    }
    /* A host's own certificate may be trusted as such, if nobody else has signed it. */
    assert_int_equal(read_bundle(fixture, (const struct made *const[]){alone, NULL}), OK);
    assert_int_equal(fixture->findings.count, 0);
    assert_true(is_believed(alone, (const struct made *const[]){alone, NULL}, between));
}

static void a_part_of_a_bundle_that_leads_nowhere_is_told(void **state)
{
    struct fixture *fixture = *state;
    struct maker *maker = &fixture->maker;
    const struct made *other = make(maker, (struct recipe){.name = "other", .is_ca = true});
    const struct made *lost =
        make(maker, (struct recipe){.name = "lost", .from = other, .is_ca = true});
    const struct made *below =
        make(maker, (struct recipe){.name = "below", .from = lost, .is_ca = true});
    const struct made *host =
        make(maker, (struct recipe){.name = "host", .alternatives = "DNS:a.test", .from = lost});
    const struct made *const one[] = {fixture->root, below, lost, NULL};
    assert_int_equal(read_bundle(fixture, one), OK);
    assert_found(fixture, FINDING_WARNING,
                 "holds certificate 3 without the one that issued it: nobody is trusted by it");
    assert_false(is_believed(host, one, lost));
    assert_int_equal(
        read_bundle(fixture, (const struct made *const[]){lost, fixture->root, lost, NULL}), OK);
    assert_found(fixture, FINDING_WARNING,
                 "holds certificate 1 without the one that issued it, and others so: nobody is "
                 "trusted by it");
}

/* ---- OCSP ---- */

struct answer {
    const struct made *of;
    const struct made *issuer;
    const struct made *signer;
    int status;
    int64_t begins;
    int64_t ends; /* 0: it says nothing of its end */
};

/* A response in DER, in the arena. */
static struct span make_response(struct fixture *fixture, const struct answer *answer)
{
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_cert_to_id(NULL, answer->of->x509, answer->issuer->x509);
    ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)((int64_t)MAKER_NOW + answer->begins));
    ASN1_TIME *next =
        answer->ends == 0 ? NULL : ASN1_TIME_set(NULL, (time_t)((int64_t)MAKER_NOW + answer->ends));
    ASN1_TIME *revoked = answer->status == V_OCSP_CERTSTATUS_REVOKED ? from : NULL;
    assert_non_null(OCSP_basic_add1_status(basic, id, answer->status, 0, revoked, from, next));
    assert_int_equal(
        OCSP_basic_sign(basic, answer->signer->x509, answer->signer->key, EVP_sha256(), NULL, 0),
        1);
    OCSP_RESPONSE *response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    unsigned char *der = NULL;
    int size = i2d_OCSP_RESPONSE(response, &der);
    assert_true(size > 0);
    struct span copy = arena_copy(&fixture->arena, span_of(der, (size_t)size));
    OPENSSL_free(der);
    OCSP_RESPONSE_free(response);
    OCSP_BASICRESP_free(basic);
    OCSP_CERTID_free(id);
    ASN1_TIME_free(from);
    ASN1_TIME_free(next);
    return copy;
}

static enum status read_response(struct fixture *fixture, struct span der, uint64_t *until)
{
    fixture->findings.count = 0;
    enum status status =
        certificate_read_ocsp(&fixture->certificate, der, MAKER_NOW, until, &fixture->findings);
    assert_int_equal(ERR_peek_error(), 0);
    return status;
}

static void a_response_is_stapled_only_where_a_client_would_believe_it(void **state)
{
    struct fixture *fixture = *state;
    struct maker *maker = &fixture->maker;
    const struct made *host = make_host(fixture, "DNS:a.test");
    const struct made *other = make_host(fixture, "DNS:b.test");
    const struct made *responder =
        make(maker, (struct recipe){.name = "OCSP", .from = fixture->root, .usage = "OCSPSigning"});
    uint64_t until = 0;
    struct answer answer = {.of = host,
                            .issuer = fixture->root,
                            .signer = fixture->root,
                            .begins = -60,
                            .ends = MAKER_DAY};
    const char *chain = joined(maker, pem_of(maker, host), pem_of(maker, fixture->root));
    assert_int_equal(read_text(fixture, chain), OK);
    assert_int_equal(read_response(fixture, make_response(fixture, &answer), &until), OK);
    assert_int_equal(until, MAKER_NOW + MAKER_DAY);
    assert_int_equal(fixture->findings.count, 0);
    answer.signer = responder;
    assert_int_equal(read_response(fixture, make_response(fixture, &answer), &until), OK);
    answer.signer = other; /* the root has signed it, but not for that */
    assert_int_equal(read_response(fixture, make_response(fixture, &answer), &until), ERROR);
    assert_found(fixture, FINDING_ERROR,
                 "is not signed by who issued the certificate, nor for them");
    answer.signer = fixture->root;
    answer.of = other;
    assert_int_equal(read_response(fixture, make_response(fixture, &answer), &until), ERROR);
    assert_found(fixture, FINDING_ERROR, "is an OCSP response for another certificate");
}

static void a_response_that_would_do_harm_is_left_out_with_a_warning(void **state)
{
    struct fixture *fixture = *state;
    struct maker *maker = &fixture->maker;
    const struct made *host = make_host(fixture, "DNS:a.test");
    uint64_t until = 0;
    struct answer answer = {.of = host,
                            .issuer = fixture->root,
                            .signer = fixture->root,
                            .begins = -3 * MAKER_DAY,
                            .ends = -MAKER_DAY};
    const char *chain = joined(maker, pem_of(maker, host), pem_of(maker, fixture->root));
    assert_int_equal(read_text(fixture, chain), OK);
    assert_int_equal(read_response(fixture, make_response(fixture, &answer), &until), ERROR);
    assert_found(fixture, FINDING_WARNING, "was good until 2027-01-14; it is not stapled");
    answer.ends = 0;
    assert_int_equal(read_response(fixture, make_response(fixture, &answer), &until), ERROR);
    answer.begins = MAKER_DAY;
    assert_int_equal(read_response(fixture, make_response(fixture, &answer), &until), ERROR);
    assert_found(fixture, FINDING_WARNING, "is not good before 2027-01-16; it is not stapled");
    answer.begins = -60;
    assert_int_equal(read_response(fixture, make_response(fixture, &answer), &until), OK);
    assert_int_equal(until, MAKER_NOW - 60 + MAKER_DAY);
    answer.status = V_OCSP_CERTSTATUS_REVOKED;
    assert_int_equal(read_response(fixture, make_response(fixture, &answer), &until), ERROR);
    assert_found(fixture, FINDING_WARNING,
                 "says that the certificate is revoked; it is not stapled");
}

static void what_is_no_response_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct maker *maker = &fixture->maker;
    const struct made *host = make_host(fixture, "DNS:a.test");
    const char *chain = joined(maker, pem_of(maker, host), pem_of(maker, fixture->root));
    uint64_t until = 0;
    struct answer answer = {.of = host,
                            .issuer = fixture->root,
                            .signer = fixture->root,
                            .begins = -60,
                            .ends = MAKER_DAY};
    struct span good = make_response(fixture, &answer);
    assert_int_equal(read_made(fixture, host), OK);
    assert_int_equal(read_response(fixture, good, &until), ERROR);
    assert_found(fixture, FINDING_ERROR,
                 "cannot be checked: the certificate comes without the one that issued it");
    assert_int_equal(read_text(fixture, chain), OK);
    assert_int_equal(read_response(fixture, SPAN(""), &until), ERROR);
    assert_found(fixture, FINDING_ERROR, "is no OCSP response");
    for (size_t size = 0; size < good.size; size++) {
        assert_int_equal(read_response(fixture, span_first(good, size), &until), ERROR);
    }
    static const uint8_t try_later[] = {0x30, 0x03, 0x0A, 0x01, 0x03};
    assert_int_equal(read_response(fixture, span_of(try_later, sizeof(try_later)), &until), ERROR);
    assert_found(fixture, FINDING_ERROR, "is an OCSP response of failure");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_good_certificate_is_read_with_all_its_names),
        TEST(names_that_could_steer_a_terminal_or_break_a_label_are_passed_over),
        TEST(a_certificate_without_a_name_is_called_by_its_common_one),
        TEST(a_star_covers_one_label),
        TEST(what_is_no_certificate_is_refused),
        TEST(more_certificates_than_any_chain_has_are_refused),
        TEST(times_are_judged_by_the_clock),
        TEST(weak_keys_and_signatures_are_refused),
        TEST(a_certificate_that_is_not_for_servers_is_told),
        TEST(a_chain_goes_from_the_host_to_its_root),
        TEST(a_key_is_held_against_its_certificate),
        TEST(an_encrypted_key_is_refused_without_asking_for_its_passphrase),
        TEST(only_certificates_of_a_file_are_passed_on),
        TEST(a_bundle_holds_at_least_one_certificate),
        TEST(what_no_chain_can_end_at_is_no_bundle),
        TEST(a_part_of_a_bundle_that_leads_nowhere_is_told),
        TEST(a_response_is_stapled_only_where_a_client_would_believe_it),
        TEST(a_response_that_would_do_harm_is_left_out_with_a_warning),
        TEST(what_is_no_response_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
