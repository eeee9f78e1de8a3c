#include "certificates.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

enum { DAY = 24 * 3600 };

static void add_names(X509 *certificate, const char *name)
{
    char names[160];
    (void)snprintf(names, sizeof(names), "DNS:%s.test,DNS:*.%s.test", name, name);
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, NID_subject_alt_name, names);
    ASSERT(extension != NULL);
    bool added = X509_add_ext(certificate, extension, -1) == 1;
    ASSERT(added);
    X509_EXTENSION_free(extension);
}

/* Signed with its own key. */
static X509 *make(const char *name, EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    ASSERT(certificate != NULL);
    X509_NAME *subject = X509_get_subject_name(certificate);
    bool good =
        X509_set_version(certificate, 2) == 1 &&
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
        ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)CERTIFICATES_NOW - DAY) != NULL &&
        ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)CERTIFICATES_NOW + 90L * DAY) !=
            NULL &&
        X509_set_pubkey(certificate, key) == 1 &&
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
                                   0) == 1 &&
        X509_set_issuer_name(certificate, subject) == 1;
    ASSERT(good);
    add_names(certificate, name);
    int size = X509_sign(certificate, key, EVP_sha256());
    ASSERT(size > 0);
    return certificate;
}

/* One for all, and for both times that a file is read. */
static EVP_PKEY *common_key(void)
{
    static EVP_PKEY *key;
    key = key != NULL ? key : EVP_EC_gen("P-256");
    ASSERT(key != NULL);
    return key;
}

int certificates_read_file(const char *path, uint8_t *memory, size_t size,
                           struct file_content *content)
{
    char name[64];
    const char *dot = strchr(path, '.');
    if (dot == NULL || dot - path >= (ptrdiff_t)sizeof(name)) {
        return ENOENT;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)(dot - path), path);
    EVP_PKEY *key = common_key();
    X509 *certificate = make(name, key);
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    bool written = bio != NULL && PEM_write_bio_X509(bio, certificate) == 1 &&
                   PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1;
    ASSERT(written);
    long length = BIO_get_mem_data(bio, &text);
    ASSERT(length > 0 && (size_t)length <= size);
    memcpy(memory, text, (size_t)length);
    *content = (struct file_content){.size = (size_t)length, .mode = 0100600};
    BIO_free(bio);
    X509_free(certificate);
    return 0;
}
