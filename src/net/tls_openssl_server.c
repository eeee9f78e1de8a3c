/*
 * A listener's contexts: which certificate for which name, who is asked for his own, which protocol
 * is spoken. The host is chosen at the first look at a ClientHello, before anything in it can
 * resume a session, so that every rule is the chosen host's.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "net/tls_openssl.h"

static const struct {
    const char *name; /* with its length in front (RFC 7301, 3.1) */
    unsigned size;
} ALPN[] = {
    [TLS_ALPN_NONE] = {"", 0},
    [TLS_ALPN_HTTP1] = {"\x08http/1.1", 9},
    [TLS_ALPN_HTTP2] = {"\x02h2", 3},
};

/* ---- Which host ---- */

static struct tls_served_host *look_up(struct tls_server *server, struct span pattern)
{
    uint32_t at = hash_fast(pattern) & server->mask;
    while (server->buckets[at] != 0) { /* at most half of them are in use */
        struct tls_served_host *host = &server->hosts[server->buckets[at] - 1];
        if (span_equal(host->pattern, pattern)) {
            return host;
        }
        at = (at + 1) & server->mask;
    }
    return NULL;
}

struct tls_served_host *tls_server_host(struct tls_server *server, struct span name)
{
    uint8_t lower[TLS_HOST_NAME_MAX];
    struct tls_served_host *fallback =
        server->has_fallback ? &server->hosts[server->host_count] : NULL;
    if (name.size > 0 && name.data[name.size - 1] == '.') {
        name.size--; /* the root may be spelled out */
    }
    if (name.size == 0 || name.size > sizeof(lower)) {
        return fallback;
    }
    for (size_t i = 0; i < name.size; i++) {
        lower[i] = ascii_lower(name.data[i]);
    }
    struct span rest = span_of(lower, name.size);
    struct tls_served_host *host = look_up(server, rest);
    while (host == NULL) { /* each turn takes one label off */
        size_t dot = rest.size == 0 ? 0 : 1 + span_find(span_from(rest, 1), '.');
        if (dot >= rest.size) {
            return fallback;
        }
        rest = span_from(rest, dot);
        host = look_up(server, rest);
    }
    return host;
}

/* The name in a server_name extension (RFC 6066, 3); empty: there is none, or none like that. */
static struct span name_of(SSL *ssl)
{
    const unsigned char *data = NULL;
    size_t size = 0;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &size) != 1 || size < 5 ||
        data[2] != TLSEXT_NAMETYPE_host_name) {
        return SPAN_EMPTY;
    }
    size_t length = (size_t)data[3] << 8 | data[4];
    return length <= size - 5 ? span_of(data + 5, length) : SPAN_EMPTY;
}

/* The name is kept for the record, as far as there is memory for it. */
static void refuse_name(struct tls *tls, struct span name)
{
    tls->unknown_name = true;
    tls->refused_name = name.size == 0 ? NULL : OPENSSL_memdup(name.data, name.size);
    tls->refused_name_size = tls->refused_name == NULL ? 0 : name.size;
}

/*
 * A session goes on under the very name that it began with (RFC 6066, 3). Of the hosts of one
 * pattern this is not to keep one from the other, whence a hash that anybody could find a second
 * name for.
 */
static void scope_of_name(const struct tls_served_host *host, struct span name,
                          uint8_t scope[TLS_SCOPE_SIZE])
{
    uint32_t hash = HASH_FAST_SEED;
    for (size_t i = 0; i < name.size; i++) {
        hash = hash_fast_step(hash, ascii_lower(name.data[i]));
    }
    hash = hash_fast_finish(hash);
    memcpy(scope, host->scope, TLS_SCOPE_SIZE);
    memcpy(scope, &hash, sizeof(hash));
}

/* AWS-LC calls this place select_certificate_cb. */
static int on_client_hello(SSL *ssl, int *alert, void *context)
{
    (void)context;
    struct tls *tls = tls_of_ssl(ssl);
    struct span name = name_of(ssl);
    struct tls_served_host *host = tls_server_host(tls->server, name);
    uint8_t scope[TLS_SCOPE_SIZE];
    if (host == NULL) {
        refuse_name(tls, name);
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_CLIENT_HELLO_ERROR;
    }
    tls->host = host;
    scope_of_name(host, name, scope);
    if (SSL_set_SSL_CTX(ssl, host->context) == NULL ||
        SSL_set_session_id_context(ssl, scope, sizeof(scope)) != 1) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    return SSL_CLIENT_HELLO_SUCCESS;
}

/* It was looked at already: all that is left is to tell the client that it was. */
static int on_server_name(SSL *ssl, int *alert, void *context)
{
    (void)ssl, (void)alert, (void)context;
    return SSL_TLSEXT_ERR_OK;
}

static int on_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_size,
                   const unsigned char *offered, unsigned int size, void *context)
{
    (void)context;
    const struct tls_server *server = tls_of_ssl(ssl)->server;
    for (size_t i = 0; i < sizeof(server->alpn) / sizeof(server->alpn[0]); i++) {
        struct span ours = span_of(ALPN[server->alpn[i]].name, ALPN[server->alpn[i]].size);
        struct span theirs = span_of(offered, size);
        while (ours.size > 0 && theirs.size > 0 && theirs.size > theirs.data[0]) {
            if (span_equal(span_first(theirs, theirs.data[0] + 1U), ours)) {
                *chosen = theirs.data + 1;
                *chosen_size = theirs.data[0];
                return SSL_TLSEXT_ERR_OK;
            }
            theirs = span_from(theirs, theirs.data[0] + 1U);
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301, 3.2 */
}

/* ---- Stapling ---- */

/* The response of the certificate that was chosen, unless its time is over: clients refuse that. */
static int on_status(SSL *ssl, void *context)
{
    (void)context;
    const struct transport *transport = SSL_get_app_data(ssl);
    uint64_t now = io_wall(transport->io) / 1000000;
    const struct tls *tls = tls_of_ssl(ssl);
    const X509 *own = SSL_get_certificate(ssl);
    for (size_t i = 0; tls->host != NULL && i < TLS_IDENTITIES_MAX; i++) {
        const struct tls_staple *staple = &tls->host->staples[i];
        if (own != NULL && staple->certificate == own && staple->size > 0 && now < staple->until) {
            uint8_t *copy = OPENSSL_memdup(staple->der, staple->size);
            if (copy == NULL) {
                return SSL_TLSEXT_ERR_NOACK;
            }
            SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)staple->size); /* takes it */
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static bool use_identity(struct tls_served_host *host, size_t index,
                         const struct tls_identity *identity, char error[TLS_ERROR_MAX])
{
    if (!tls_identity_use(host->context, identity, error)) {
        return false;
    }
    struct span ocsp = identity->ocsp_der;
    struct tls_staple *staple = &host->staples[index];
    staple->certificate = SSL_CTX_get0_certificate(host->context);
    staple->der = ocsp.size == 0 ? NULL : OPENSSL_memdup(ocsp.data, ocsp.size);
    staple->size = ocsp.size;
    staple->until = identity->ocsp_until;
    if (ocsp.size > 0 && staple->der == NULL) {
        tls_complain(error, "no memory for an OCSP response");
        return false;
    }
    return true;
}

/* ---- Contexts ---- */

static bool add_span(EVP_MD_CTX *hash, struct span bytes)
{
    uint64_t size = bytes.size;
    return EVP_DigestUpdate(hash, &size, sizeof(size)) == 1 &&
           (bytes.size == 0 || EVP_DigestUpdate(hash, bytes.data, bytes.size) == 1);
}

/* By what it stands for, so that it is the same in all workers and after a reload. */
static bool make_hashes(const struct tls_engine *engine, struct tls_served_host *host,
                        const struct tls_server_settings *settings, const struct tls_host *source)
{
    const uint8_t client_auth = (uint8_t)settings->client_auth;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool good = hash != NULL && EVP_DigestInit_ex(hash, engine->sha256, NULL) == 1;
    for (uint32_t i = 0; good && i < source->count; i++) {
        good = add_span(hash, source->identities[i].chain_pem);
    }
    good = good && EVP_DigestFinal_ex(hash, host->certificates, NULL) == 1 &&
           EVP_DigestInit_ex(hash, engine->sha256, NULL) == 1 && add_span(hash, source->pattern) &&
           add_span(hash, span_of(&client_auth, 1)) && add_span(hash, settings->client_ca_pem) &&
           add_span(hash, span_of(host->certificates, sizeof(host->certificates))) &&
           EVP_DigestFinal_ex(hash, host->scope, NULL) == 1;
    EVP_MD_CTX_free(hash);
    return good;
}

static bool ask_for_certificates(SSL_CTX *context, X509_STORE *trust,
                                 const struct tls_server_settings *settings)
{
    if (settings->client_auth == TLS_CLIENT_AUTH_OFF) {
        return true;
    }
    STACK_OF(X509_NAME) *names = tls_trust_names(settings->client_ca_pem);
    if (names == NULL) {
        return false;
    }
    SSL_CTX_set_client_CA_list(context, names); /* takes it */
    X509_STORE_up_ref(trust);
    SSL_CTX_set_cert_store(context, trust); /* takes it */
    SSL_CTX_set_verify(context,
                       settings->client_auth == TLS_CLIENT_AUTH_REQUIRED
                           ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                           : SSL_VERIFY_PEER,
                       NULL);
    return true;
}

/* A context with everything but certificates. */
static SSL_CTX *make_context(const struct tls_server *server,
                             const struct tls_server_settings *settings)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    bool good = context != NULL &&
                tls_context_harden(context, settings->version_min, settings->version_max) &&
                ask_for_certificates(context, server->trust, settings);
    if (good && settings->tickets) {
        good = tls_tickets_install(context);
    } else if (good) {
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        good = SSL_CTX_set_num_tickets(context, 0) == 1;
    }
    if (!good) {
        SSL_CTX_free(context);
        return NULL;
    }
    SSL_CTX_set_client_hello_cb(context, on_client_hello, NULL);
    SSL_CTX_set_tlsext_servername_callback(context, on_server_name);
    SSL_CTX_set_tlsext_status_cb(context, on_status);
    if (settings->alpn[0] != TLS_ALPN_NONE) {
        SSL_CTX_set_alpn_select_cb(context, on_alpn, NULL);
    }
    return context;
}

static bool make_host(struct tls_server *server, struct tls_served_host *host,
                      const struct tls_server_settings *settings, const struct tls_host *source,
                      char error[TLS_ERROR_MAX])
{
    ASSERT(source->count > 0 && source->count <= TLS_IDENTITIES_MAX);
    host->server = server;
    host->context = make_context(server, settings);
    if (host->context == NULL || !make_hashes(server->engine, host, settings, source)) {
        tls_complain(error, "TLS cannot be set up");
        return false;
    }
    for (uint32_t i = 0; i < source->count; i++) {
        if (!use_identity(host, i, &source->identities[i], error)) {
            return false;
        }
    }
    return true;
}

static void list_host(struct tls_server *server, uint32_t index)
{
    uint32_t at = hash_fast(server->hosts[index].pattern) & server->mask;
    while (server->buckets[at] != 0) {
        at = (at + 1) & server->mask;
    }
    server->buckets[at] = index + 1;
}

static bool allocate(struct tls_server *server, const struct tls_server_settings *settings)
{
    size_t bytes = 1;
    uint32_t buckets = 2;
    for (uint32_t i = 0; i < settings->host_count; i++) {
        bytes += settings->hosts[i].pattern.size;
    }
    while (buckets < 2 * settings->host_count) {
        buckets *= 2;
    }
    server->mask = buckets - 1;
    server->buckets = calloc(buckets, sizeof(*server->buckets));
    server->patterns = calloc(1, bytes);
    server->hosts = calloc(settings->host_count + 1U, sizeof(*server->hosts));
    return server->buckets != NULL && server->patterns != NULL && server->hosts != NULL;
}

static bool make_hosts(struct tls_server *server, const struct tls_server_settings *settings,
                       char error[TLS_ERROR_MAX])
{
    uint8_t *at = server->patterns;
    for (uint32_t i = 0; i < settings->host_count; i++) {
        struct tls_served_host *host = &server->hosts[i];
        const struct tls_host *source = &settings->hosts[i];
        memcpy(at, source->pattern.data, source->pattern.size);
        host->pattern = span_of(at, source->pattern.size);
        at += source->pattern.size;
        server->host_count++;
        if (!make_host(server, host, settings, source, error)) {
            return false;
        }
        list_host(server, i);
    }
    server->has_fallback = settings->fallback != NULL;
    return !server->has_fallback || make_host(server, &server->hosts[server->host_count], settings,
                                              settings->fallback, error);
}

struct tls_server *tls_server_create(struct tls_engine *engine,
                                     const struct tls_server_settings *settings,
                                     char error[TLS_ERROR_MAX])
{
    struct tls_server *server = calloc(1, sizeof(*server));
    if (server == NULL || !allocate(server, settings)) {
        tls_complain(error, "no memory for TLS");
        tls_server_destroy(server);
        return NULL;
    }
    server->engine = engine;
    memcpy(server->alpn, settings->alpn, sizeof(server->alpn));
    bool asks = settings->client_auth != TLS_CLIENT_AUTH_OFF;
    server->trust = asks ? tls_trust_store(settings->client_ca_pem, error) : NULL;
    bool good = !asks || server->trust != NULL;
    if (good) {
        server->base = make_context(server, settings);
        good = server->base != NULL;
        if (!good) {
            tls_complain(error, "TLS cannot be set up");
        }
    }
    if (!good || !make_hosts(server, settings, error)) {
        tls_server_destroy(server);
        return NULL;
    }
    return server;
}

static void drop_host(struct tls_served_host *host)
{
    for (size_t i = 0; i < TLS_IDENTITIES_MAX; i++) {
        OPENSSL_free(host->staples[i].der);
    }
    SSL_CTX_free(host->context);
}

void tls_server_destroy(struct tls_server *server)
{
    if (server == NULL) {
        return;
    }
    for (uint32_t i = 0; server->hosts != NULL && i <= server->host_count; i++) {
        drop_host(&server->hosts[i]);
    }
    SSL_CTX_free(server->base);
    X509_STORE_free(server->trust);
    free(server->hosts);
    free(server->buckets);
    free(server->patterns);
    free(server);
}
