#include "config/certificate.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/assert.h"

enum { RSA_BITS_MIN = 2048, RSA_BITS_MANY = 4096 };

void findings_add(struct findings *findings, enum finding_kind kind, const char *help,
                  const char *format, ...)
{
    if (findings->count == FINDINGS_MAX) {
        return;
    }
    struct finding *finding = &findings->items[findings->count++];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(finding->text, sizeof(finding->text), format, arguments);
    va_end(arguments);
    finding->kind = kind;
    finding->help = help;
}

const char *certificate_key_name(enum generation_key_type type)
{
    static const char *const names[CERTIFICATE_KEY_TYPES] = {[CERTIFICATE_RSA] = "RSA",
                                                             [CERTIFICATE_ECDSA] = "ECDSA",
                                                             [CERTIFICATE_ED25519] = "Ed25519"};
    ASSERT(type < CERTIFICATE_KEY_TYPES);
    return names[type];
}

void certificate_print_date(uint64_t seconds, char text[CERTIFICATE_DATE_MAX])
{
    struct tm date;
    time_t time = (time_t)seconds;
    if (gmtime_r(&time, &date) == NULL ||
        strftime(text, CERTIFICATE_DATE_MAX, "%Y-%m-%d", &date) == 0) {
        (void)snprintf(text, CERTIFICATE_DATE_MAX, "unknown");
    }
}

/* The library's words for what it did not like last; its queue is empty then. */
static const char *take_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return reason != NULL ? reason : "it cannot be read";
}

/* Whether reading stopped only because there is no further block. */
static bool is_end_of_pem(void)
{
    unsigned long error = ERR_peek_last_error();
    bool end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    if (end) {
        ERR_clear_error();
    }
    return end;
}

static BIO *open_text(struct span text)
{
    return text.size <= INT32_MAX ? BIO_new_mem_buf(text.data, (int)text.size) : NULL;
}

/* Copies what was written to the BIO, whose own memory is wiped when it is freed. */
static struct span copy_out(BIO *bio, struct arena *arena)
{
    char *data = NULL;
    long size = BIO_get_mem_data(bio, &data);
    return size > 0 ? arena_copy(arena, span_of(data, (size_t)size)) : SPAN_EMPTY;
}

/* ---- One certificate ---- */

/* Seconds since 1970, at least 1; UINT64_MAX is never one. */
static uint64_t seconds_of(const ASN1_TIME *time)
{
    struct tm date = {0};
    if (ASN1_TIME_to_tm(time, &date) != 1) {
        return 1;
    }
    time_t seconds = timegm(&date);
    return seconds < 1 ? 1 : (uint64_t)seconds;
}

/* The curve of an EC key by its name in the certificate; NID_undef where it has none. */
static int curve_of(X509 *x509)
{
    X509_ALGOR *algorithm = NULL;
    const void *parameter = NULL;
    int type = 0;
    if (X509_PUBKEY_get0_param(NULL, NULL, NULL, &algorithm, X509_get_X509_PUBKEY(x509)) != 1) {
        return NID_undef;
    }
    X509_ALGOR_get0(NULL, &type, &parameter, algorithm);
    return type == V_ASN1_OBJECT ? OBJ_obj2nid(parameter) : NID_undef;
}

/* Keys that TLS libraries refuse as too weak, or cannot use at all. */
static bool check_key(X509 *x509, unsigned number, struct findings *findings)
{
    EVP_PKEY *key = X509_get0_pubkey(x509);
    if (key == NULL) {
        findings_add(findings, FINDING_ERROR, NULL, "has a key in certificate %u that is broken",
                     number);
        ERR_clear_error();
        return false;
    }
    int bits = EVP_PKEY_bits(key);
    int type = EVP_PKEY_id(key);
    int curve = type == EVP_PKEY_EC ? curve_of(x509) : NID_undef;
    if (type == EVP_PKEY_RSA && bits < RSA_BITS_MIN) {
        findings_add(findings, FINDING_ERROR, "make one of at least 2048 bits, or an ECDSA key",
                     "has an RSA key of only %d bits in certificate %u: it is too weak", bits,
                     number);
    } else if (type == EVP_PKEY_RSA && bits > RSA_BITS_MANY && number == 1) {
        findings_add(findings, FINDING_WARNING, "an ECDSA key on P-256 is as strong, and cheap",
                     "has an RSA key of %d bits: every full handshake pays for it", bits);
    } else if (type == EVP_PKEY_EC && curve != NID_X9_62_prime256v1 && curve != NID_secp384r1 &&
               curve != NID_secp521r1) {
        findings_add(findings, FINDING_ERROR, "use P-256, P-384 or P-521",
                     "has an ECDSA key in certificate %u on a curve that TLS does not use", number);
    } else if (type != EVP_PKEY_RSA && type != EVP_PKEY_EC && type != EVP_PKEY_ED25519) {
        findings_add(findings, FINDING_ERROR, "use RSA, ECDSA or Ed25519",
                     "has a kind of key in certificate %u that is not supported", number);
        return false;
    }
    return true;
}

static bool is_self_signed(X509 *x509)
{
    return X509_check_issued(x509, x509) == X509_V_OK;
}

/* What a root has signed itself with is of no account. */
static void check_signature(X509 *x509, unsigned number, struct findings *findings)
{
    int digest = NID_undef;
    int kind = NID_undef;
    if (OBJ_find_sigid_algs(X509_get_signature_nid(x509), &digest, &kind) != 1) {
        ERR_clear_error();
        return;
    }
    if ((digest == NID_md5 || digest == NID_md4 || digest == NID_sha1) && !is_self_signed(x509)) {
        findings_add(findings, FINDING_ERROR, "have it issued anew, with SHA-256 or better",
                     "has certificate %u signed with %s, which is broken", number,
                     digest == NID_sha1 ? "SHA-1" : "MD5");
    }
}

static void check_times(X509 *x509, unsigned number, uint64_t now, struct findings *findings)
{
    char date[CERTIFICATE_DATE_MAX];
    uint64_t not_before = seconds_of(X509_get0_notBefore(x509));
    uint64_t not_after = seconds_of(X509_get0_notAfter(x509));
    if (not_after <= now) {
        certificate_print_date(not_after, date);
        findings_add(findings, number == 1 ? FINDING_EXPIRED : FINDING_WARNING,
                     "clients will not accept it", "has expired on %s%s", date,
                     number == 1 ? "" : ", that is, an intermediate certificate in it");
    } else if (not_before > now) {
        certificate_print_date(not_before, date);
        findings_add(findings, FINDING_WARNING,
                     "clients will not accept it before; is the clock right?",
                     "is not valid before %s", date);
    }
}

/* ---- Names ---- */

/* A name that can be shown and compared; others are passed over. In the arena, lower case. */
static struct span take_name(struct span text, struct arena *arena)
{
    uint8_t copy[CERTIFICATE_NAME_MAX];
    if (text.size == 0 || text.size > sizeof(copy)) {
        return SPAN_EMPTY;
    }
    for (size_t i = 0; i < text.size; i++) {
        copy[i] = ascii_lower(text.data[i]);
        if (copy[i] <= ' ' || copy[i] >= 0x7F || copy[i] == '"' || copy[i] == '\\') {
            return SPAN_EMPTY;
        }
    }
    return arena_copy(arena, span_of(copy, text.size));
}

static struct span take_general_name(const GENERAL_NAME *name, struct arena *arena)
{
    char printed[INET6_ADDRSTRLEN];
    const ASN1_STRING *string = name->type == GEN_DNS     ? name->d.dNSName
                                : name->type == GEN_IPADD ? name->d.iPAddress
                                                          : NULL;
    if (string == NULL || ASN1_STRING_length(string) <= 0) {
        return SPAN_EMPTY;
    }
    struct span text = span_of(ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string));
    if (name->type == GEN_DNS) {
        return take_name(text, arena);
    }
    int family = text.size == 4 ? AF_INET : AF_INET6;
    if ((text.size != 4 && text.size != 16) ||
        inet_ntop(family, text.data, printed, sizeof(printed)) == NULL) {
        return SPAN_EMPTY;
    }
    return take_name(span_of_string(printed), arena);
}

static struct span common_name(X509 *x509, struct arena *arena)
{
    char text[CERTIFICATE_NAME_MAX + 1];
    int size =
        X509_NAME_get_text_by_NID(X509_get_subject_name(x509), NID_commonName, text, sizeof(text));
    return size > 0 ? take_name(span_of(text, (size_t)size), arena) : SPAN_EMPTY;
}

/* False when the arena is full. */
static bool read_names(struct certificate *certificate, enum certificate_use use,
                       struct arena *arena, struct findings *findings)
{
    X509 *x509 = certificate->chain[0];
    GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
    int count = names == NULL ? 0 : (int)sk_GENERAL_NAME_num(names);
    certificate->names = arena_calloc(arena, (size_t)count, sizeof(*certificate->names));
    for (int i = 0; certificate->names != NULL && i < count; i++) {
        struct span name = take_general_name(sk_GENERAL_NAME_value(names, i), arena);
        if (name.size > 0) {
            certificate->names[certificate->names_count++] = name;
        }
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    if (certificate->names == NULL) {
        return false;
    }
    if (certificate->names_count == 0 && use == CERTIFICATE_OF_SERVER) {
        findings_add(findings, FINDING_WARNING, "clients look at no other name",
                     "names no host in its subjectAltName");
    }
    certificate->name =
        certificate->names_count > 0 ? certificate->names[0] : common_name(x509, arena);
    return !arena->overflowed;
}

/* Whether a name of a certificate stands for all hosts of a pattern. */
static bool name_covers(struct span name, struct span pattern)
{
    size_t dot = span_find(pattern, '.');
    if (span_equal(name, pattern)) {
        return true;
    }
    return span_starts_with(name, SPAN("*.")) && dot > 0 && dot < pattern.size &&
           !span_starts_with(pattern, SPAN("*")) &&
           span_equal(span_from(name, 1), span_from(pattern, dot));
}

bool certificate_names_cover(const struct span *names, uint32_t count, struct span pattern)
{
    for (uint32_t i = 0; i < count; i++) {
        if (name_covers(names[i], pattern)) {
            return true;
        }
    }
    return false;
}

/* ---- A chain ---- */

static bool has_issued(X509 *issuer, X509 *subject)
{
    return X509_check_issued(issuer, subject) == X509_V_OK;
}

/* Which other certificate of the file, from `first` on and before `end`, issued it; `end`: none. */
static uint32_t find_issuer(const struct certificate *certificate, uint32_t subject, uint32_t first,
                            uint32_t end)
{
    for (uint32_t i = first; i < end; i++) {
        if (i != subject && has_issued(certificate->chain[i], certificate->chain[subject])) {
            return i;
        }
    }
    return end;
}

/* Each certificate is followed by the one that issued it; clients need not sort them. */
static void check_order(const struct certificate *certificate, struct findings *findings)
{
    for (uint32_t i = 0; i + 1 < certificate->count; i++) {
        if (has_issued(certificate->chain[i + 1], certificate->chain[i])) {
            continue;
        }
        uint32_t subject = i;
        uint32_t issuer = find_issuer(certificate, i, 0, certificate->count);
        if (issuer == certificate->count) { /* its issuer is not there; is it the next one's? */
            subject = i + 1;
            issuer = find_issuer(certificate, i + 1, 0, i + 1);
        }
        if (issuer != subject && issuer < certificate->count) {
            findings_add(findings, FINDING_ERROR,
                         "put the certificate of the host first, then the one that issued it, "
                         "then that one's issuer",
                         "has its chain in the wrong order: certificate %u was issued by "
                         "certificate %u",
                         subject + 1, issuer + 1);
        } else {
            findings_add(findings, FINDING_WARNING, "take out what does not belong to the chain",
                         "has a certificate %u that did not issue the one before it", i + 2);
        }
        return;
    }
}

static void read_key_type(struct certificate *certificate)
{
    const EVP_PKEY *key = X509_get0_pubkey(certificate->chain[0]);
    int type = EVP_PKEY_id(key);
    certificate->key_type = type == EVP_PKEY_RSA  ? CERTIFICATE_RSA
                            : type == EVP_PKEY_EC ? CERTIFICATE_ECDSA
                                                  : CERTIFICATE_ED25519;
    certificate->key_bits = (uint32_t)EVP_PKEY_bits(key);
}

static void check_use(X509 *x509, enum certificate_use use, struct findings *findings)
{
    int purpose = use == CERTIFICATE_OF_SERVER ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT;
    if (X509_check_purpose(x509, purpose, 0) != 1) {
        findings_add(findings, FINDING_WARNING, "see its (extended) key usage; peers may refuse it",
                     "is not meant for a TLS %s",
                     use == CERTIFICATE_OF_SERVER ? "server" : "client");
    }
    ERR_clear_error();
}

/* All certificates of the file, in its order. False, reported, when there are none or one broke. */
static bool read_chain(struct certificate *certificate, BIO *bio, struct findings *findings)
{
    for (;;) { /* each round takes a certificate off the file, or ends */
        X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (x509 == NULL) {
            break;
        }
        if (certificate->count == CERTIFICATE_CHAIN_MAX) {
            X509_free(x509);
            findings_add(findings, FINDING_ERROR, NULL, "holds more than %d certificates",
                         CERTIFICATE_CHAIN_MAX);
            return false;
        }
        certificate->chain[certificate->count++] = x509;
    }
    if (!is_end_of_pem()) {
        findings_add(findings, FINDING_ERROR, "it is PEM: -----BEGIN CERTIFICATE-----",
                     "is broken at certificate %u: %s", certificate->count + 1, take_reason());
        return false;
    }
    if (certificate->count == 0) {
        findings_add(findings, FINDING_ERROR, "it is PEM: -----BEGIN CERTIFICATE-----",
                     "holds no certificate");
        return false;
    }
    return true;
}

enum status certificate_read(struct certificate *certificate, struct span pem,
                             enum certificate_use use, uint64_t now, struct arena *arena,
                             struct findings *findings)
{
    struct certificate read = {0};
    BIO *bio = open_text(pem);
    bool good = bio != NULL && read_chain(&read, bio, findings);
    BIO_free(bio);
    for (uint32_t i = 0; good && i < read.count; i++) {
        good = check_key(read.chain[i], i + 1, findings);
        check_signature(read.chain[i], i + 1, findings);
        check_times(read.chain[i], i + 1, now, findings);
    }
    if (good) {
        read_key_type(&read);
    }
    if (!good || !read_names(&read, use, arena, findings)) {
        certificate_free(&read);
        return ERROR;
    }
    check_order(&read, findings);
    check_use(read.chain[0], use, findings);
    read.not_before = seconds_of(X509_get0_notBefore(read.chain[0]));
    read.not_after = seconds_of(X509_get0_notAfter(read.chain[0]));
    if (read.not_after <= read.not_before) {
        findings_add(findings, FINDING_ERROR, NULL, "ends before it begins");
        certificate_free(&read);
        return ERROR;
    }
    *certificate = read;
    return OK;
}

void certificate_free(struct certificate *certificate)
{
    for (uint32_t i = 0; i < certificate->count; i++) {
        X509_free(certificate->chain[i]);
    }
    *certificate = (struct certificate){0};
}

struct span certificate_pem(const struct certificate *certificate, struct arena *arena)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool written = bio != NULL;
    for (uint32_t i = 0; written && i < certificate->count; i++) {
        written = PEM_write_bio_X509(bio, certificate->chain[i]) == 1;
    }
    struct span text = written ? copy_out(bio, arena) : SPAN_EMPTY;
    BIO_free(bio);
    return text;
}

/* ---- The key ---- */

/* Nobody is there to type a passphrase. */
static int refuse_passphrase(char *buffer, int size, int writing, void *context)
{
    bool *asked = context;
    (void)buffer;
    (void)size;
    (void)writing;
    *asked = true;
    return -1;
}

static bool holds(struct span text, struct span part)
{
    return memmem(text.data, text.size, part.data, part.size) != NULL;
}

static EVP_PKEY *read_key(struct span pem, struct findings *findings)
{
    bool asked = false;
    BIO *bio = open_text(pem);
    EVP_PKEY *key =
        bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &asked);
    BIO_free(bio);
    if (key == NULL && asked) {
        findings_add(findings, FINDING_ERROR, "decrypt it: openssl pkey -in KEY -out PLAIN",
                     "holds an encrypted private key, and nobody is there to type its passphrase");
    } else if (key == NULL && !holds(pem, SPAN("PRIVATE KEY-----"))) {
        findings_add(findings, FINDING_ERROR, "it is PEM: -----BEGIN PRIVATE KEY-----",
                     "holds no private key");
    } else if (key == NULL) {
        findings_add(findings, FINDING_ERROR, "it is PEM: -----BEGIN PRIVATE KEY-----",
                     "holds a broken private key: %s", take_reason());
    }
    ERR_clear_error();
    return key;
}

/* Whether it is the key of the first certificate, and if not, whose it is. */
static bool check_pair(const struct certificate *certificate, EVP_PKEY *key,
                       struct findings *findings)
{
    for (uint32_t i = 0; i < certificate->count; i++) {
        bool fits = X509_check_private_key(certificate->chain[i], key) == 1;
        ERR_clear_error();
        if (fits && i == 0) {
            return true;
        }
        if (fits) {
            findings_add(findings, FINDING_ERROR,
                         "put the certificate of the host first, then the one that issued it, "
                         "then that one's issuer",
                         "holds the key of certificate %u in the chain, not of the first", i + 1);
            return false;
        }
    }
    findings_add(findings, FINDING_ERROR, "certificate and key were made as a pair",
                 "holds the key of another certificate");
    return false;
}

enum status certificate_read_key(const struct certificate *certificate, struct span pem,
                                 struct arena *arena, struct span *key, struct findings *findings)
{
    EVP_PKEY *read = read_key(pem, findings);
    if (read == NULL) {
        return ERROR;
    }
    struct span text = SPAN_EMPTY;
    BIO *bio = BIO_new(BIO_s_mem());
    if (check_pair(certificate, read, findings) && bio != NULL &&
        PEM_write_bio_PrivateKey(bio, read, NULL, NULL, 0, NULL, NULL) == 1) {
        text = copy_out(bio, arena);
    }
    BIO_free(bio);
    EVP_PKEY_free(read);
    if (text.size == 0) {
        return ERROR;
    }
    *key = text;
    return OK;
}

/* ---- Those who sign ---- */

/*
 * Whether chains can end at it. The library asks for names and key identifiers only: a host's own
 * certificate that signs itself is trusted without any right to sign.
 */
static bool is_root(X509 *x509)
{
    return (X509_get_extension_flags(x509) & EXFLAG_SS) != 0;
}

static bool has_issuer(const STACK_OF(X509) * bundle, X509 *x509)
{
    for (int i = 0; i < sk_X509_num(bundle); i++) {
        if (X509_check_issued(sk_X509_value(bundle, i), x509) == X509_V_OK) {
            return true;
        }
    }
    return false;
}

/*
 * A chain that ends below a root is not believed, though each certificate of the bundle were in it:
 * that would take X509_V_FLAG_PARTIAL_CHAIN, which nobody sets who does not ask for it.
 */
static void check_roots(const STACK_OF(X509) * bundle, struct findings *findings)
{
    int roots = 0;
    int orphans = 0;
    int first = 0;
    for (int i = 0; i < sk_X509_num(bundle); i++) {
        X509 *x509 = sk_X509_value(bundle, i);
        if (is_root(x509)) {
            roots++;
        } else if (!has_issuer(bundle, x509)) {
            first = orphans == 0 ? i + 1 : first;
            orphans++;
        }
    }
    if (roots == 0) {
        findings_add(findings, FINDING_ERROR,
                     "append the root that they lead to: openssl x509 -noout -issuer says whose it "
                     "is",
                     "holds no root, that is, no certificate that signs itself: nobody would be "
                     "trusted");
    } else if (orphans > 0) {
        findings_add(findings, FINDING_WARNING,
                     "append its issuer, up to the root, or leave it out",
                     "holds certificate %d without the one that issued it%s: nobody is trusted "
                     "by it",
                     first, orphans > 1 ? ", and others so" : "");
    }
}

enum status certificate_read_authorities(struct span pem, uint64_t now, struct arena *arena,
                                         struct span *text, struct findings *findings)
{
    BIO *in = open_text(pem);
    BIO *out = BIO_new(BIO_s_mem());
    STACK_OF(X509) *bundle = sk_X509_new_null();
    uint32_t count = 0;
    uint32_t expired = 0;
    bool written = in != NULL && out != NULL && bundle != NULL;
    X509 *x509 = NULL;
    while (written && (x509 = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL) {
        expired += seconds_of(X509_get0_notAfter(x509)) <= now;
        count++;
        written = PEM_write_bio_X509(out, x509) == 1 && sk_X509_push(bundle, x509) > 0;
        if (!written) {
            X509_free(x509);
        }
    }
    bool whole = is_end_of_pem();
    struct span copy = written && whole && count > 0 ? copy_out(out, arena) : SPAN_EMPTY;
    BIO_free(in);
    BIO_free(out);
    if (!whole) {
        findings_add(findings, FINDING_ERROR, NULL, "is broken at certificate %u: %s", count + 1,
                     take_reason());
    } else if (count == 0) {
        findings_add(findings, FINDING_ERROR, "it is PEM: -----BEGIN CERTIFICATE-----",
                     "holds no certificate: nobody would be trusted");
    } else if (expired == count) {
        findings_add(findings, FINDING_WARNING, "whatever they have signed will be refused",
                     "holds only certificates that have expired");
    }
    if (whole && count > 0 && written) {
        check_roots(bundle, findings);
    }
    sk_X509_pop_free(bundle, X509_free);
    ERR_clear_error();
    if (copy.size == 0) {
        return ERROR;
    }
    *text = copy;
    return OK;
}
