/*
 * Session tickets: what a client brings back so that its session goes on without a full handshake.
 * Nothing is kept here. A ticket is sealed with keys made from those that all workers share and the
 * scope of the host that gave it, so that no other host, and none with other rules for clients'
 * certificates, can as much as open it (CVE-2025-23419 is what happens else).
 */
#include <openssl/core_names.h>
#include <openssl/rand.h>

#include "base/assert.h"
#include "net/tls_openssl.h"

static_assert(TICKET_KEY_ID_SIZE == 16, "what a ticket begins with (RFC 5077, 4)");

enum purpose { PURPOSE_CIPHER = 1, PURPOSE_MAC };

struct keys {
    uint8_t cipher[32];
    uint8_t mac[32];
};

/*
 * The one-step key derivation of NIST SP 800-56C, with SHA-256: what is hashed begins with the
 * purpose as its counter, then comes the secret, then what the keys are for; all of fixed sizes.
 */
static bool derive(const struct tls *tls, const struct ticket_key *shared, enum purpose purpose,
                   uint8_t key[32])
{
    uint8_t message[4 + TICKET_KEY_SECRET_SIZE + TLS_SCOPE_SIZE] = {0, 0, 0, (uint8_t)purpose};
    memcpy(message + 4, shared->secret, TICKET_KEY_SECRET_SIZE);
    memcpy(message + 4 + TICKET_KEY_SECRET_SIZE, tls->host->scope, TLS_SCOPE_SIZE);
    bool good = EVP_Digest(message, sizeof(message), key, NULL, tls->engine->sha256, NULL) == 1;
    OPENSSL_cleanse(message, sizeof(message));
    return good;
}

/* The keys of the connection's host; the shared one is wiped. */
static bool make_keys(const struct tls *tls, struct ticket_key *shared, struct keys *keys)
{
    bool good = derive(tls, shared, PURPOSE_CIPHER, keys->cipher) &&
                derive(tls, shared, PURPOSE_MAC, keys->mac);
    OPENSSL_cleanse(shared->secret, sizeof(shared->secret));
    return good;
}

static bool set_mac(EVP_MAC_CTX *mac, struct keys *keys)
{
    char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, keys->mac, sizeof(keys->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

static bool begin_sealing(const struct tls *tls, struct keys *keys, unsigned char *iv,
                          EVP_CIPHER_CTX *cipher)
{
    const EVP_CIPHER *algorithm = tls->engine->ticket_cipher;
    return RAND_bytes(iv, EVP_CIPHER_get_iv_length(algorithm)) == 1 &&
           EVP_EncryptInit_ex(cipher, algorithm, NULL, keys->cipher, iv) == 1;
}

/* 0: no ticket; 1: here it is; 2: opened, and another one is due; -1: the connection ends. */
static int ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                      EVP_MAC_CTX *mac, int sealing)
{
    const struct tls *tls = tls_of_ssl(ssl);
    const struct ticket_keys *shared = tls->engine->ticket_keys;
    const struct transport *transport = SSL_get_app_data(ssl);
    uint64_t now = io_now(transport->io);
    struct ticket_key current;
    struct ticket_key found;
    struct keys keys;
    if (shared == NULL || tls->host == NULL || !ticket_keys_current(shared, now, &current)) {
        return 0;
    }
    if (sealing == 0 && !ticket_keys_find(shared, name, now, &found)) {
        OPENSSL_cleanse(&current, sizeof(current));
        return 0;
    }
    bool is_current = sealing != 0 || memcmp(current.id, found.id, TICKET_KEY_ID_SIZE) == 0;
    bool good = make_keys(tls, sealing != 0 ? &current : &found, &keys);
    if (sealing != 0) {
        memcpy(name, current.id, sizeof(current.id));
        good = good && begin_sealing(tls, &keys, iv, cipher);
    } else {
        good = good &&
               EVP_DecryptInit_ex(cipher, tls->engine->ticket_cipher, NULL, keys.cipher, iv) == 1;
    }
    good = good && set_mac(mac, &keys);
    OPENSSL_cleanse(&keys, sizeof(keys));
    OPENSSL_cleanse(&current, sizeof(current));
    /* In TLS 1.3 a ticket is used once: with each connection comes the next. */
    bool due = sealing == 0 && (!is_current || SSL_version(ssl) >= TLS1_3_VERSION);
    return !good ? -1 : due ? 2 : 1;
}

bool tls_session_is_current(SSL_SESSION *session)
{
    const X509 *certificate = session == NULL ? NULL : SSL_SESSION_get0_peer(session);
    return certificate == NULL || X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0;
}

static SSL_TICKET_RETURN ticket_opened(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                       size_t name_size, SSL_TICKET_STATUS status, void *context)
{
    (void)ssl, (void)name, (void)name_size, (void)context;
    switch (status) {
    case SSL_TICKET_EMPTY:
    case SSL_TICKET_NO_DECRYPT:
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    case SSL_TICKET_SUCCESS:
        return tls_session_is_current(session) ? SSL_TICKET_RETURN_USE
                                               : SSL_TICKET_RETURN_IGNORE_RENEW;
    case SSL_TICKET_SUCCESS_RENEW:
        return tls_session_is_current(session) ? SSL_TICKET_RETURN_USE_RENEW
                                               : SSL_TICKET_RETURN_IGNORE_RENEW;
    default:
        return SSL_TICKET_RETURN_IGNORE;
    }
}

static int ticket_made(SSL *ssl, void *context)
{
    (void)ssl, (void)context;
    return 1;
}

bool tls_tickets_install(SSL_CTX *context)
{
    SSL_CTX_set_timeout(context, TLS_TICKET_TIME_S);
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ticket_key) == 1 &&
           SSL_CTX_set_session_ticket_cb(context, ticket_made, ticket_opened, NULL) == 1 &&
           SSL_CTX_set_num_tickets(context, 1) == 1;
}
