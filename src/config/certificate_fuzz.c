/*
 * Damaged certificates, keys and OCSP responses: the first byte says which file of a good set is
 * damaged, the rest is a list of patches (offset, width, value) to its DER, or, of an odd first
 * byte, the file itself. The set is made from fixed keys and times, so that an input means the same
 * each time. Whatever is read is then asked for everything that the compiler asks.
 */
#include "config/certificate.h"

#include <openssl/ocsp.h>
#include <stdlib.h>

#include "config/certificate_fixed_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_SIZE = 1024 * 1024, PATCH_SIZE = 7, FILES = 4 };

/* What can be damaged, in DER. */
enum file { FILE_HOST, FILE_ROOT, FILE_KEY, FILE_OCSP };

struct set {
    uint8_t *der[FILES];
    size_t sizes[FILES];
};

static void make_response(struct set *set, const X509 *host, X509 *root, EVP_PKEY *root_key)
{
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_cert_to_id(NULL, host, root);
    ASN1_TIME *from = ASN1_TIME_set(NULL, FUZZ_NOW - DAY);
    ASN1_TIME *next = ASN1_TIME_set(NULL, FUZZ_NOW + DAY);
    OCSP_basic_add1_status(basic, id, V_OCSP_CERTSTATUS_GOOD, 0, NULL, from, next);
    ASSERT(OCSP_basic_sign(basic, root, root_key, NULL, NULL, OCSP_NOTIME) == 1);
    OCSP_RESPONSE *response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    set->sizes[FILE_OCSP] = (size_t)i2d_OCSP_RESPONSE(response, &set->der[FILE_OCSP]);
    OCSP_RESPONSE_free(response);
    OCSP_BASICRESP_free(basic);
    OCSP_CERTID_free(id);
    ASN1_TIME_free(from);
    ASN1_TIME_free(next);
}

static void make_set(struct set *set)
{
    EVP_PKEY *root_key = fixed_key(1);
    EVP_PKEY *key = fixed_key(2);
    X509 *root = fixed_certificate("Root", root_key, NULL, root_key);
    X509 *host = fixed_certificate("a", key, root, root_key);
    set->sizes[FILE_HOST] = (size_t)i2d_X509(host, &set->der[FILE_HOST]);
    set->sizes[FILE_ROOT] = (size_t)i2d_X509(root, &set->der[FILE_ROOT]);
    set->sizes[FILE_KEY] = (size_t)i2d_PrivateKey(key, &set->der[FILE_KEY]);
    make_response(set, host, root, root_key);
    X509_free(root);
    X509_free(host);
    EVP_PKEY_free(root_key);
    EVP_PKEY_free(key);
}

/* One patch: two bytes of offset, a width of 1 to 4 in two bits, and the bytes to write there. */
static void apply_patch(uint8_t *der, size_t size, const uint8_t *patch)
{
    uint32_t offset = 0;
    memcpy(&offset, patch, 2);
    size_t width = 1 + (patch[2] & 3u);
    size_t start = offset % size;
    memcpy(der + start, patch + 3, width < size - start ? width : size - start);
}

/* As PEM, behind what is in the arena's text already. */
static struct span append_pem(struct arena *arena, struct span before, const char *name,
                              const uint8_t *der, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    ASSERT(bio != NULL && BIO_write(bio, before.data, (int)before.size) == (int)before.size);
    ASSERT(PEM_write_bio(bio, name, "", der, (long)size) > 0);
    long length = BIO_get_mem_data(bio, &data);
    struct span copy = arena_copy(arena, span_of(data, (size_t)length));
    BIO_free(bio);
    ASSERT(copy.data != NULL);
    return copy;
}

/* What the compiler does with a pair, a bundle and a response. The good set passes all of it. */
static void read_all(struct arena *arena, struct span chain, struct span key_text, struct span der,
                     bool is_good)
{
    struct findings findings = {0};
    struct certificate certificate = {0};
    struct span key = SPAN_EMPTY;
    struct span text = SPAN_EMPTY;
    uint64_t until = 0;
    if (certificate_read_authorities(chain, FUZZ_NOW, arena, &text, &findings) == OK) {
        ASSERT(text.size > 0);
    }
    findings.count = 0;
    if (certificate_read(&certificate, chain, CERTIFICATE_OF_SERVER, FUZZ_NOW, arena, &findings) !=
        OK) {
        ASSERT(!is_good && (findings.count > 0 || arena->overflowed));
        return;
    }
    ASSERT(certificate.not_before > 0 && certificate.not_after > certificate.not_before);
    ASSERT(certificate.count > 0 && certificate.key_type < CERTIFICATE_KEY_TYPES);
    (void)certificate_names_cover(certificate.names, certificate.names_count, SPAN("x.b.test"));
    ASSERT(certificate_pem(&certificate, arena).size > 0 || arena->overflowed);
    findings.count = 0;
    if (certificate_read_key(&certificate, key_text, arena, &key, &findings) == OK) {
        ASSERT(key.size > 0 && findings.count == 0);
    }
    ASSERT(!is_good || key.size > 0);
    findings.count = 0;
    if (certificate_read_ocsp(&certificate, der, FUZZ_NOW, &until, &findings) == OK) {
        ASSERT(until > FUZZ_NOW && findings.count == 0);
    }
    ASSERT(!is_good || until == FUZZ_NOW + DAY);
    certificate_free(&certificate);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct set set; /* made once: a harness has no process to hang it off */
    if (set.der[FILE_HOST] == NULL) {
        make_set(&set);
    }
    if (size == 0) {
        return 0;
    }
    struct arena arena;
    arena_init(&arena, malloc(ARENA_SIZE), ARENA_SIZE);
    ASSERT(arena.memory != NULL);
    enum file which = data[0] >> 1 & 3;
    struct span raw = span_of(data + 1, size - 1);
    struct span chain = SPAN_EMPTY;
    struct span key = SPAN_EMPTY;
    uint8_t *damaged = malloc(set.sizes[which]);
    ASSERT(damaged != NULL);
    memcpy(damaged, set.der[which], set.sizes[which]);
    for (struct span at = raw; (data[0] & 1) == 0 && at.size >= PATCH_SIZE;
         at = span_from(at, PATCH_SIZE)) {
        apply_patch(damaged, set.sizes[which], at.data);
    }
    const uint8_t *der[FILES];
    for (unsigned i = 0; i < FILES; i++) {
        der[i] = i == which ? damaged : set.der[i];
    }
    chain = append_pem(&arena, chain, "CERTIFICATE", der[FILE_HOST], set.sizes[FILE_HOST]);
    chain = append_pem(&arena, chain, "CERTIFICATE", der[FILE_ROOT], set.sizes[FILE_ROOT]);
    key = append_pem(&arena, key, "PRIVATE KEY", der[FILE_KEY], set.sizes[FILE_KEY]);
    struct span response = span_of(der[FILE_OCSP], set.sizes[FILE_OCSP]);
    if ((data[0] & 1) != 0) {
        chain = which <= FILE_ROOT ? raw : chain;
        key = which == FILE_KEY ? raw : key;
        response = which == FILE_OCSP ? raw : response;
    }
    read_all(&arena, chain, key, response, size == 1 && (data[0] & 1) == 0);
    free(damaged);
    free(arena.memory);
    return 0;
}
