/*
 * Certificates for tests, made when they run: an authority, and what it signs. They live in static
 * buffers of the test program that includes this, and are as many as fit.
 */
#ifndef SENTINEL_NET_TLS_CERTIFICATES_TEST_H
#define SENTINEL_NET_TLS_CERTIFICATES_TEST_H

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "base/assert.h"
#include "net/tls.h"

enum { MADE_PEM_MAX = 8192 };

struct made {
    X509 *certificate;
    EVP_PKEY *key;
    char chain_pem[MADE_PEM_MAX];
    char key_pem[MADE_PEM_MAX];
    struct tls_identity identity;
};

static inline void made_print(BIO *bio, char into[MADE_PEM_MAX])
{
    int size = BIO_read(bio, into, MADE_PEM_MAX - 1);
    ASSERT(size > 0);
    into[size] = '\0';
    BIO_free(bio);
}

static inline void made_add(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    ASSERT(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/*
 * A certificate with that common name, and those alternative names ("DNS:a,IP:::1"; NULL: it is an
 * authority), valid from `from` to `until` seconds from now; signed by `by`, or by itself.
 */
static inline void made_make(struct made *made, const char *name, const char *names,
                             const struct made *by, const char *kind, const long times[2])
{
    static long serial = 0;
    made->key = kind[0] == 'R' ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    made->certificate = X509_new();
    X509 *certificate = made->certificate;
    ASSERT(made->key != NULL && certificate != NULL);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), times[0]);
    X509_gmtime_adj(X509_getm_notAfter(certificate), times[1]);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate,
                         X509_get_subject_name(by == NULL ? certificate : by->certificate));
    X509_set_pubkey(certificate, made->key);
    made_add(certificate, NID_basic_constraints, names == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    if (names != NULL) {
        made_add(certificate, NID_subject_alt_name, names);
    }
    ASSERT(X509_sign(certificate, by == NULL ? made->key : by->key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, certificate);
    made_print(bio, made->chain_pem);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, made->key, NULL, NULL, 0, NULL, NULL);
    made_print(bio, made->key_pem);
    made->identity = (struct tls_identity){.chain_pem = span_of_string(made->chain_pem),
                                           .key_pem = span_of_string(made->key_pem)};
}

/* The same certificate with another subject (a common name in UTF-8) and names. */
static inline void made_rename(struct made *made, const struct made *by, struct span name,
                               GENERAL_NAMES *names)
{
    X509 *certificate = made->certificate;
    X509_NAME *subject = X509_NAME_new();
    ASSERT(X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8, (const unsigned char *)"a, b",
                                      -1, -1, 0) == 1);
    if (name.size > 0) {
        ASSERT(X509_NAME_add_entry_by_txt(subject, "description", MBSTRING_UTF8, name.data,
                                          (int)name.size, -1, 0) == 1);
    }
    X509_set_subject_name(certificate, subject);
    X509_NAME_free(subject);
    ASSERT(X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, X509V3_ADD_REPLACE) == 1);
    ASSERT(X509_sign(certificate, by->key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, certificate);
    made_print(bio, made->chain_pem);
    made->identity.chain_pem = span_of_string(made->chain_pem);
}

static inline void made_drop(struct made *made)
{
    X509_free(made->certificate);
    EVP_PKEY_free(made->key);
    *made = (struct made){0};
}

#endif
