/*
 * Certificates for fuzzers: made from fixed keys and times, so that an input means the same each
 * time. Ed25519 signs without chance. Harnesses only.
 */
#ifndef SENTINEL_CONFIG_CERTIFICATE_FIXED_FUZZ_H
#define SENTINEL_CONFIG_CERTIFICATE_FIXED_FUZZ_H

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/assert.h"
#include "config/environment.h"

enum { FUZZ_NOW = 1800000000, DAY = 86400, FIXED_TEXT_MAX = 8192 };

static inline EVP_PKEY *fixed_key(uint8_t byte)
{
    uint8_t raw[32];
    memset(raw, byte, sizeof(raw));
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, raw, sizeof(raw));
    ASSERT(key != NULL);
    return key;
}

static inline void extend(X509 *x509, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, NULL, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    ASSERT(extension != NULL && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static inline X509 *fixed_certificate(const char *name, EVP_PKEY *key, const X509 *issuer,
                                      EVP_PKEY *issuer_key)
{
    X509 *x509 = X509_new();
    ASSERT(x509 != NULL && X509_set_version(x509, 2) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), issuer == NULL ? 1 : 2);
    ASN1_TIME_set(X509_getm_notBefore(x509), FUZZ_NOW - DAY);
    ASN1_TIME_set(X509_getm_notAfter(x509), FUZZ_NOW + DAY);
    X509_set_pubkey(x509, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x509, X509_get_subject_name(issuer == NULL ? x509 : issuer));
    extend(x509, NID_basic_constraints, issuer == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    if (issuer != NULL) {
        extend(x509, NID_subject_alt_name, "DNS:a.test,DNS:*.b.test,IP:192.0.2.1");
        extend(x509, NID_ext_key_usage, "serverAuth");
    }
    ASSERT(X509_sign(x509, issuer_key, NULL) > 0);
    return x509;
}

/*
 * Every file there is: a certificate that is its own issuer, and its key; but for names that begin
 * with `no`, which are missing. Fits environment.read_file.
 */
static inline int fixed_read_file(const char *path, uint8_t *memory, size_t size,
                                  struct file_content *content)
{
    static char text[FIXED_TEXT_MAX]; /* made once: a harness has no process to hang it off */
    static size_t length;
    if (length == 0) {
        EVP_PKEY *key = fixed_key(3);
        X509 *x509 = fixed_certificate("a.test", key, NULL, key);
        BIO *bio = BIO_new(BIO_s_mem());
        ASSERT(PEM_write_bio_X509(bio, x509) == 1);
        ASSERT(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
        int got = BIO_read(bio, text, sizeof(text));
        ASSERT(got > 0 && (size_t)got < sizeof(text));
        length = (size_t)got;
        BIO_free(bio);
        X509_free(x509);
        EVP_PKEY_free(key);
    }
    if (strncmp(path, "no", 2) == 0) {
        return ENOENT;
    }
    if (length > size) {
        return EFBIG;
    }
    memcpy(memory, text, length);
    *content = (struct file_content){.size = length, .mode = 0100644};
    return 0;
}

#endif
