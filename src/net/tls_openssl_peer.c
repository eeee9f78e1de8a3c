/*
 * Who a client is: its certificate as texts that logs and fields can hold. They are written once,
 * when the handshake ends, so that nothing can fail later; whoever shows no certificate has none.
 */
#include <openssl/x509v3.h>

#include "base/address.h"
#include "base/assert.h"
#include "base/output.h"
#include "net/tls_openssl.h"

static_assert(TLS_SUBJECT_MAX + TLS_NAMES_MAX + TLS_FINGERPRINT_SIZE <= TLS_RECORD_MAX,
              "there is room where they are written");

static const char HEX[] = "0123456789abcdef";

static int text_write(BIO *bio, const char *data, int size)
{
    if (size > 0) {
        output_span(BIO_get_data(bio), span_of(data, (size_t)size));
    }
    return size;
}

static int text_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

BIO_METHOD *tls_text_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "text");
    if (method != NULL && BIO_meth_set_write(method, text_write) == 1 &&
        BIO_meth_set_create(method, text_create) == 1) {
        return method;
    }
    BIO_meth_free(method);
    return NULL;
}

static bool is_visible(uint8_t byte)
{
    return byte > ' ' && byte < 0x7f;
}

/* The library escapes what is not printable; that it did is too important to be taken for granted.
 */
static bool is_printable(struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!is_visible(text.data[i]) && text.data[i] != ' ') {
            return false;
        }
    }
    return true;
}

/* What did not fit, or cannot be shown, is not shown at all. */
static struct span whole_text(const struct output *output)
{
    struct span text = output_bytes(output);
    return output->overflowed || !is_printable(text) ? SPAN_EMPTY : text;
}

/* False: no memory. */
static bool write_subject(const struct tls_engine *engine, const X509 *certificate,
                          struct output *output)
{
    BIO *bio = BIO_new(engine->text_bio);
    if (bio == NULL) {
        return false;
    }
    BIO_set_data(bio, output);
    if (X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) < 0) {
        output->overflowed = true; /* a text that is none in its own coding */
    }
    BIO_free(bio);
    return true;
}

/* Bytes of a name: a comma would end it, and what follows could claim to be another. */
static void write_escaped(struct output *output, const ASN1_STRING *text)
{
    struct span bytes = span_of(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = bytes.data[i];
        if (is_visible(byte) && byte != '%' && byte != ',' && byte != '"' && byte != '\\') {
            output_byte(output, byte);
        } else {
            output_byte(output, '%');
            output_byte(output, (uint8_t)HEX[byte >> 4]);
            output_byte(output, (uint8_t)HEX[byte & 15]);
        }
    }
}

static void write_address(struct output *output, const ASN1_STRING *octets)
{
    struct address address = {.family = ADDRESS_NONE};
    char text[ADDRESS_TEXT_MAX];
    size_t size = (size_t)ASN1_STRING_length(octets);
    if (size == 4 || size == 16) {
        address.family = size == 4 ? ADDRESS_IPV4 : ADDRESS_IPV6;
        memcpy(address.ip, ASN1_STRING_get0_data(octets), size);
        output_span(output, span_of(text, address_print_host(&address, text)));
    }
}

static void write_name(struct output *output, const GENERAL_NAME *name)
{
    const struct span between = output->size == 0 ? SPAN_EMPTY : SPAN(", ");
    int kind = 0;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &kind);
    if (kind != GEN_DNS && kind != GEN_EMAIL && kind != GEN_URI && kind != GEN_IPADD) {
        return;
    }
    output_span(output, between);
    output_span(output, kind == GEN_DNS     ? SPAN("DNS:")
                        : kind == GEN_EMAIL ? SPAN("email:")
                        : kind == GEN_URI   ? SPAN("URI:")
                                            : SPAN("IP:"));
    if (kind == GEN_IPADD) {
        write_address(output, value);
    } else {
        write_escaped(output, value);
    }
}

static void write_names(const X509 *certificate, struct output *output)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        write_name(output, sk_GENERAL_NAME_value(names, i));
    }
    GENERAL_NAMES_free(names);
}

static bool write_fingerprint(const struct tls_engine *engine, const X509 *certificate,
                              struct output *output)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (X509_digest(certificate, engine->sha256, digest, &size) != 1) {
        return false;
    }
    ASSERT(2 * size == TLS_FINGERPRINT_SIZE);
    for (unsigned i = 0; i < size; i++) {
        output_byte(output, (uint8_t)HEX[digest[i] >> 4]);
        output_byte(output, (uint8_t)HEX[digest[i] & 15]);
    }
    return true;
}

/* Copies a text behind those before it. */
static struct span keep(uint8_t **at, struct span text)
{
    uint8_t *place = *at;
    if (text.size > 0) {
        memcpy(place, text.data, text.size);
    }
    *at += text.size;
    return span_of(place, text.size);
}

static struct tls_certificate *make_peer(struct tls_engine *engine, const X509 *certificate)
{
    uint8_t *scratch = engine->gather;
    struct output subject = output_over(scratch, TLS_SUBJECT_MAX);
    struct output names = output_over(scratch + TLS_SUBJECT_MAX, TLS_NAMES_MAX);
    struct output print =
        output_over(scratch + TLS_SUBJECT_MAX + TLS_NAMES_MAX, TLS_FINGERPRINT_SIZE);
    ERR_clear_error();
    if (!write_subject(engine, certificate, &subject) ||
        !write_fingerprint(engine, certificate, &print)) {
        return NULL;
    }
    write_names(certificate, &names);
    if (ERR_GET_REASON(ERR_peek_error()) == ERR_R_MALLOC_FAILURE) {
        return NULL; /* what is missing would be taken for not being there */
    }
    struct tls_certificate texts = {whole_text(&subject), whole_text(&names), output_bytes(&print)};
    struct tls_certificate *peer = OPENSSL_malloc(sizeof(*peer) + texts.subject.size +
                                                  texts.names.size + texts.fingerprint.size);
    if (peer != NULL) {
        uint8_t *at = (uint8_t *)(peer + 1);
        peer->subject = keep(&at, texts.subject);
        peer->names = keep(&at, texts.names);
        peer->fingerprint = keep(&at, texts.fingerprint);
    }
    return peer;
}

bool tls_peer_read(struct tls *tls)
{
    X509 *certificate = SSL_get_peer_certificate(tls->ssl);
    if (certificate == NULL) {
        return true;
    }
    ASSERT(SSL_get_verify_result(tls->ssl) == X509_V_OK); /* the handshake would have failed */
    tls->peer = make_peer(tls->engine, certificate);
    X509_free(certificate);
    ERR_clear_error();
    return tls->peer != NULL;
}
