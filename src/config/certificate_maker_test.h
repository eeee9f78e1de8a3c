/*
 * Certificates for tests, made when they are needed: none is in the tree, so none expires there.
 * Test programs only. Whatever is made lives until the program ends, in a list of its own.
 */
#ifndef SENTINEL_CONFIG_CERTIFICATE_MAKER_TEST_H
#define SENTINEL_CONFIG_CERTIFICATE_MAKER_TEST_H

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/span.h"

/* The time at which everything happens, and a day, in seconds. */
#define MAKER_NOW UINT64_C(1800000000)
#define MAKER_DAY INT64_C(86400)

struct made {
    EVP_PKEY *key;
    X509 *x509;
};

struct recipe {
    const char *name;         /* common name */
    const char *alternatives; /* subjectAltName as OpenSSL's configuration has it; NULL: none */
    const char *key;          /* NULL or "P-256" and the like; "RSA" with `bits`, "ED25519" */
    unsigned bits;
    const char *digest;      /* NULL: SHA-256, or none for Ed25519 */
    const struct made *from; /* who issues it; NULL: it does itself */
    bool is_ca;
    const char *usage; /* extendedKeyUsage; NULL: none */
    int64_t begins;    /* seconds from now; both 0: a day ago, and 90 days ahead */
    int64_t ends;
};

enum { MAKER_KEPT_MAX = 256 };

/* What is to be freed at the end. */
struct maker {
    struct made made[MAKER_KEPT_MAX];
    size_t made_count;
    char *texts[MAKER_KEPT_MAX];
    size_t texts_count;
};

static inline EVP_PKEY *make_key(const struct recipe *recipe)
{
    const char *kind = recipe->key != NULL ? recipe->key : "P-256";
    EVP_PKEY *key = NULL;
    if (strcmp(kind, "RSA") == 0) {
        key = EVP_RSA_gen(recipe->bits);
    } else if (strcmp(kind, "ED25519") == 0) {
        key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    } else {
        key = EVP_EC_gen(kind);
    }
    assert_non_null(key);
    return key;
}

static inline void make_extension(X509 *x509, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(x509, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* Makes a key and its certificate. */
static inline const struct made *make(struct maker *maker, struct recipe recipe)
{
    assert_true(maker->made_count < MAKER_KEPT_MAX);
    struct made *made = &maker->made[maker->made_count++];
    made->key = make_key(&recipe);
    made->x509 = X509_new();
    const struct made *issuer = recipe.from != NULL ? recipe.from : made;
    int64_t begins = recipe.begins == 0 && recipe.ends == 0 ? -MAKER_DAY : recipe.begins;
    int64_t ends = recipe.begins == 0 && recipe.ends == 0 ? 90 * MAKER_DAY : recipe.ends;
    X509_NAME *name = X509_get_subject_name(made->x509);
    assert_int_equal(X509_set_version(made->x509, 2), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(made->x509), (long)maker->made_count);
    ASN1_TIME_set(X509_getm_notBefore(made->x509), (time_t)((int64_t)MAKER_NOW + begins));
    ASN1_TIME_set(X509_getm_notAfter(made->x509), (time_t)((int64_t)MAKER_NOW + ends));
    assert_int_equal(X509_set_pubkey(made->x509, made->key), 1);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)recipe.name, -1, -1,
                               0);
    assert_int_equal(X509_set_issuer_name(made->x509, X509_get_subject_name(issuer->x509)), 1);
    make_extension(made->x509, issuer->x509, NID_basic_constraints,
                   recipe.is_ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (recipe.alternatives != NULL) {
        make_extension(made->x509, issuer->x509, NID_subject_alt_name, recipe.alternatives);
    }
    if (recipe.usage != NULL) {
        make_extension(made->x509, issuer->x509, NID_ext_key_usage, recipe.usage);
    }
    bool plain = EVP_PKEY_id(issuer->key) == EVP_PKEY_ED25519;
    const char *digest = recipe.digest != NULL ? recipe.digest : "SHA256";
    assert_true(X509_sign(made->x509, issuer->key, plain ? NULL : EVP_get_digestbyname(digest)) >
                0);
    return made;
}

/* Keeps what was written to the BIO as a text. */
static inline const char *make_text(struct maker *maker, BIO *bio)
{
    char *data = NULL;
    long size = BIO_get_mem_data(bio, &data);
    assert_true(maker->texts_count < MAKER_KEPT_MAX && size >= 0);
    char *text = calloc((size_t)size + 1, 1);
    assert_non_null(text);
    memcpy(text, data, (size_t)size);
    BIO_free(bio);
    maker->texts[maker->texts_count++] = text;
    return text;
}

static inline const char *pem_of(struct maker *maker, const struct made *made)
{
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, made->x509), 1);
    return make_text(maker, bio);
}

static inline const char *key_of(struct maker *maker, const struct made *made)
{
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(bio, made->key, NULL, NULL, 0, NULL, NULL), 1);
    return make_text(maker, bio);
}

/* Texts behind each other. */
static inline const char *joined(struct maker *maker, const char *first, const char *second)
{
    BIO *bio = BIO_new(BIO_s_mem());
    assert_true(BIO_puts(bio, first) >= 0 && BIO_puts(bio, second) >= 0);
    return make_text(maker, bio);
}

static inline void maker_free(struct maker *maker)
{
    for (size_t i = 0; i < maker->made_count; i++) {
        EVP_PKEY_free(maker->made[i].key);
        X509_free(maker->made[i].x509);
    }
    for (size_t i = 0; i < maker->texts_count; i++) {
        free(maker->texts[i]);
    }
    *maker = (struct maker){0};
}

#endif
