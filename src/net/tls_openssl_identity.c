/*
 * Certificates, keys and who is trusted, from text to OpenSSL's contexts; what the contexts of both
 * sides have in common.
 */
#include <limits.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "base/assert.h"
#include "net/tls_openssl.h"

/* Key exchange that keeps old traffic secret, and ciphers that authenticate; TLS 1.3 has no other.
 */
#define CIPHERS_1_2                                                                                \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
/* In the same order: SHA-256, which processors know, does most of a handshake's work. */
#define CIPHERS_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS "X25519:P-256:P-384"

enum { SECURITY_LEVEL = 2 }; /* 112 bits: RSA from 2048, no SHA-1 in signatures */

void tls_complain(char error[TLS_ERROR_MAX], const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *why = code == 0 ? NULL : ERR_reason_error_string(code);
    (void)snprintf(error, TLS_ERROR_MAX, why == NULL ? "%s" : "%s: %s", what, why);
    ERR_clear_error();
}

/* Without this a key that is encrypted would be asked for on the terminal. */
static int no_password(char *buffer, int size, int writing, void *context)
{
    (void)buffer, (void)size, (void)writing, (void)context;
    return -1;
}

static BIO *reader_of(struct span text)
{
    return text.size <= INT_MAX ? BIO_new_mem_buf(text.data, (int)text.size) : NULL;
}

/* The rest of the certificates in a text, for each of which `take` says whether to go on. */
static bool each_certificate(BIO *reader, bool (*take)(void *context, X509 *certificate),
                             void *context, unsigned *count)
{
    for (;;) { /* each turn takes bytes off the text */
        X509 *certificate = PEM_read_bio_X509(reader, NULL, no_password, NULL);
        if (certificate == NULL) {
            bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
            if (at_end) {
                ERR_clear_error();
            }
            return at_end;
        }
        bool good = take(context, certificate);
        X509_free(certificate);
        *count += 1;
        if (!good) {
            return false;
        }
    }
}

static bool take_chain(void *context, X509 *certificate)
{
    return SSL_CTX_add1_chain_cert(context, certificate) == 1;
}

static bool use_chain(SSL_CTX *context, struct span pem)
{
    BIO *reader = reader_of(pem);
    X509 *own = reader == NULL ? NULL : PEM_read_bio_X509(reader, NULL, no_password, NULL);
    unsigned count = 0;
    bool good = own != NULL && SSL_CTX_use_certificate(context, own) == 1 &&
                SSL_CTX_clear_chain_certs(context) == 1 &&
                each_certificate(reader, take_chain, context, &count);
    X509_free(own);
    BIO_free(reader);
    return good;
}

static bool use_key(SSL_CTX *context, struct span pem)
{
    BIO *reader = reader_of(pem);
    EVP_PKEY *key =
        reader == NULL ? NULL : PEM_read_bio_PrivateKey(reader, NULL, no_password, NULL);
    bool good = key != NULL && SSL_CTX_use_PrivateKey(context, key) == 1 &&
                SSL_CTX_check_private_key(context) == 1;
    EVP_PKEY_free(key);
    BIO_free(reader);
    return good;
}

bool tls_identity_use(SSL_CTX *context, const struct tls_identity *identity,
                      char error[TLS_ERROR_MAX])
{
    if (!use_chain(context, identity->chain_pem)) {
        tls_complain(error, "the certificate cannot be used");
        return false;
    }
    if (!use_key(context, identity->key_pem)) {
        tls_complain(error, "the private key cannot be used");
        return false;
    }
    return true;
}

static bool take_trusted(void *context, X509 *certificate)
{
    return X509_STORE_add_cert(context, certificate) == 1;
}

X509_STORE *tls_trust_store(struct span pem, char error[TLS_ERROR_MAX])
{
    X509_STORE *store = X509_STORE_new();
    BIO *reader = reader_of(pem);
    unsigned count = 0;
    bool good = store != NULL && reader != NULL &&
                each_certificate(reader, take_trusted, store, &count) && count > 0;
    BIO_free(reader);
    if (!good) {
        tls_complain(error, "the bundle of trusted certificates cannot be used");
        X509_STORE_free(store);
        return NULL;
    }
    return store;
}

static bool take_name(void *context, X509 *certificate)
{
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(certificate));
    if (name == NULL || sk_X509_NAME_push(context, name) <= 0) {
        X509_NAME_free(name);
        return false;
    }
    return true;
}

STACK_OF(X509_NAME) * tls_trust_names(struct span pem)
{
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    BIO *reader = reader_of(pem);
    unsigned count = 0;
    bool good =
        names != NULL && reader != NULL && each_certificate(reader, take_name, names, &count);
    BIO_free(reader);
    if (!good) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return NULL;
    }
    return names;
}

bool tls_context_harden(SSL_CTX *context, enum tls_version min, enum tls_version max)
{
    static const uint16_t VERSIONS[] = {[TLS_1_2] = TLS1_2_VERSION, [TLS_1_3] = TLS1_3_VERSION};
    uint64_t options =
        SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE;
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF
    /* Told as an end like any other; struct tls knows which it was. Else writing would end, too. */
    options |= SSL_OP_IGNORE_UNEXPECTED_EOF;
#endif
#ifdef SSL_OP_PRIORITIZE_CHACHA
    options |= SSL_OP_PRIORITIZE_CHACHA; /* where the client has no AES in hardware */
#endif
    SSL_CTX_set_options(context, options);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1); /* one call for a record, not two */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_cert_list(context, TLS_PEER_CHAIN_BYTES);
    SSL_CTX_set_verify_depth(context, TLS_CHAIN_MAX);
#ifndef OPENSSL_IS_AWSLC
    SSL_CTX_set_security_level(context, SECURITY_LEVEL);
#endif
    return SSL_CTX_set_min_proto_version(context, VERSIONS[min]) == 1 &&
           SSL_CTX_set_max_proto_version(context, VERSIONS[max]) == 1 &&
           SSL_CTX_set_cipher_list(context, CIPHERS_1_2) == 1 &&
           SSL_CTX_set_ciphersuites(context, CIPHERS_1_3) == 1 &&
           SSL_CTX_set1_groups_list(context, GROUPS) == 1;
}
