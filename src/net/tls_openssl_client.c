/*
 * The settings towards one upstream: whom we believe, what we show, and the session that may go on.
 */
#include <stdlib.h>

#include "net/tls_openssl.h"

/* A ticket came: the next connection may bring it. It is used once (RFC 8446, C.4). */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *tls = tls_of_ssl(ssl);
    struct tls_resumption *resumption = tls->resumption;
    tls->ticketed |= tls->established;
    if (resumption == NULL) {
        return 0;
    }
    tls_resumption_drop(resumption);
    resumption->session = session;
    return 1;
}

/* What is shown stands in the context already; only that it was asked for is news. */
static int on_certificate_request(SSL *ssl, void *context)
{
    (void)context;
    tls_of_ssl(ssl)->asked = true;
    return 1;
}

static bool offer_alpn(SSL_CTX *context, const enum tls_alpn alpn[2])
{
    uint8_t list[16];
    unsigned size = 0;
    for (size_t i = 0; i < 2; i++) {
        struct span name = alpn[i] == TLS_ALPN_HTTP2   ? SPAN("\x02h2")
                           : alpn[i] == TLS_ALPN_HTTP1 ? SPAN("\x08http/1.1")
                                                       : SPAN_EMPTY;
        if (name.size > 0) {
            memcpy(list + size, name.data, name.size);
            size += (unsigned)name.size;
        }
    }
    return size == 0 || SSL_CTX_set_alpn_protos(context, list, size) == 0; /* 0 is success here */
}

static bool set_up(struct tls_client *client, const struct tls_client_settings *settings,
                   char error[TLS_ERROR_MAX])
{
    SSL_CTX *context = client->context;
    if (context == NULL || !tls_context_harden(context, TLS_1_2, TLS_1_3) ||
        !offer_alpn(context, settings->alpn)) {
        tls_complain(error, "TLS cannot be set up");
        return false;
    }
    if (settings->verify) {
        X509_STORE *trust = tls_trust_store(settings->ca_pem, error);
        if (trust == NULL) {
            return false;
        }
        SSL_CTX_set_cert_store(context, trust); /* takes it */
    }
    SSL_CTX_set_verify(context, settings->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(context, on_session);
    SSL_CTX_set_cert_cb(context, on_certificate_request, NULL);
    return settings->identity == NULL || tls_identity_use(context, settings->identity, error);
}

struct tls_client *tls_client_create(struct tls_engine *engine,
                                     const struct tls_client_settings *settings,
                                     char error[TLS_ERROR_MAX])
{
    struct tls_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        tls_complain(error, "no memory for TLS");
        return NULL;
    }
    client->engine = engine;
    client->verify = settings->verify;
    client->context = SSL_CTX_new(TLS_client_method());
    if (!set_up(client, settings, error)) {
        tls_client_destroy(client);
        return NULL;
    }
    return client;
}

void tls_client_destroy(struct tls_client *client)
{
    if (client == NULL) {
        return;
    }
    SSL_CTX_free(client->context);
    free(client);
}
