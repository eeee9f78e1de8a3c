/*
 * The engine, and a connection's bytes: OpenSSL between the session and the socket.
 */
#include "net/tls_openssl.h"

#include <errno.h>
#include <limits.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "base/assert.h"

struct tls *tls_of_ssl(const SSL *ssl)
{
    const struct transport *transport = SSL_get_app_data(ssl);
    return transport->tls;
}

/* ---- Below OpenSSL: the socket ---- */

static int bio_read(BIO *bio, char *data, int size)
{
    struct transport *transport = BIO_get_data(bio);
    struct tls *tls = transport->tls;
    BIO_clear_retry_flags(bio);
    if (size <= 0) {
        return 0;
    }
    if (tls->early.size > 0) {
        size_t count = tls->early.size < (size_t)size ? tls->early.size : (size_t)size;
        memcpy(data, tls->early.data, count);
        tls->early = span_from(tls->early, count);
        return (int)count;
    }
    if (tls->established && tls->taken - tls->useful > TLS_SILENCE_MAX) {
        return -1; /* what it sends is work without end: OpenSSL would not come back from it */
    }
    size_t got = 0;
    enum status status = io_read(transport->io, &transport->socket, data, (size_t)size, &got);
    if (status == AGAIN) {
        BIO_set_retry_read(bio);
        return -1;
    }
    tls->taken += status == OK ? got : 0;
    tls->cut = status != OK;
    return status == OK ? (int)got : status == END ? 0 : -1;
}

/* False: no memory, or a peer that wants to be told more than anybody has to. */
static bool keep_coded(struct tls *tls, struct span bytes)
{
    size_t size = tls->coded_size + bytes.size;
    uint8_t *coded = size > TLS_CODED_MAX ? NULL : OPENSSL_realloc(tls->coded, size);
    if (coded == NULL) {
        return false;
    }
    memcpy(coded + tls->coded_size, bytes.data, bytes.size);
    tls->coded = coded;
    tls->coded_size = size;
    return true;
}

/* Tries to send what is kept. OK: all of it has left. */
static enum status send_coded(struct transport *transport)
{
    struct tls *tls = transport->tls;
    while (tls->coded_sent < tls->coded_size) {
        struct iovec piece = {tls->coded + tls->coded_sent, tls->coded_size - tls->coded_sent};
        size_t put = 0;
        enum status status = io_write(transport->io, &transport->socket, &piece, 1, &put);
        if (status != OK) {
            return status;
        }
        tls->coded_sent += put;
    }
    OPENSSL_free(tls->coded);
    tls->coded = NULL;
    tls->coded_size = 0;
    tls->coded_sent = 0;
    return OK;
}

/*
 * After the handshake all is taken, and kept where the socket does not take it: a library that
 * has a record of data half written cannot answer a KeyUpdate, and would end the connection.
 */
static int bio_write(BIO *bio, const char *data, int size)
{
    struct transport *transport = BIO_get_data(bio);
    struct tls *tls = transport->tls;
    BIO_clear_retry_flags(bio);
    if (size <= 0) {
        return 0;
    }
    struct iovec piece = {(void *)(uintptr_t)data, (size_t)size}; /* only read */
    size_t put = 0;
    enum status status =
        tls->coded == NULL ? io_write(transport->io, &transport->socket, &piece, 1, &put) : AGAIN;
    if (status != ERROR && tls->established) {
        struct span rest = span_from(span_of(data, (size_t)size), put);
        bool kept = rest.size == 0 || (keep_coded(tls, rest) && send_coded(transport) != ERROR);
        return kept ? size : -1;
    }
    if (status == AGAIN) {
        BIO_set_retry_write(bio);
        return -1;
    }
    return status == OK ? (int)put : -1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)number, (void)pointer;
    const struct transport *transport = BIO_get_data(bio);
    if (command == BIO_CTRL_EOF) {
        return transport->tls->cut ? 1 : 0;
    }
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *make_bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "io");
    if (method != NULL && BIO_meth_set_read(method, bio_read) == 1 &&
        BIO_meth_set_write(method, bio_write) == 1 && BIO_meth_set_ctrl(method, bio_control) == 1 &&
        BIO_meth_set_create(method, bio_create) == 1) {
        return method;
    }
    BIO_meth_free(method);
    return NULL;
}

/* ---- The engine ---- */

uint64_t tls_engine_bytes(uint32_t connections)
{
    return sizeof(struct tls_engine) + slab_bytes(sizeof(struct tls), connections);
}

struct tls_engine *tls_engine_create(uint32_t connections, uint64_t heap_max)
{
    struct tls_engine *engine = calloc(1, sizeof(*engine));
    if (engine == NULL) {
        return NULL;
    }
    /* Without its configuration file: what a listener offers stands in ours. */
    if (tls_memory_install(heap_max) &&
        slab_init(&engine->connections, sizeof(struct tls), connections) &&
        OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_SSL_STRINGS, NULL) == 1) {
        engine->bio = make_bio_method();
        engine->text_bio = tls_text_method();
        engine->ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
        engine->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    }
    if (engine->bio == NULL || engine->text_bio == NULL || engine->ticket_cipher == NULL ||
        engine->sha256 == NULL) {
        tls_engine_destroy(engine);
        errno = ENOMEM;
        return NULL;
    }
    return engine;
}

void tls_engine_destroy(struct tls_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    ASSERT(engine->connections.in_use == 0);
    BIO_meth_free(engine->bio);
    BIO_meth_free(engine->text_bio);
    EVP_CIPHER_free(engine->ticket_cipher);
    EVP_MD_free(engine->sha256);
    slab_deinit(&engine->connections);
    ERR_clear_error();
    free(engine);
}

void tls_engine_set_ticket_keys(struct tls_engine *engine, const struct ticket_keys *keys)
{
    engine->ticket_keys = keys;
}

uint64_t tls_engine_heap(const struct tls_engine *engine)
{
    (void)engine;
    return tls_memory_used();
}

uint32_t tls_engine_connections(const struct tls_engine *engine)
{
    return engine->connections.in_use;
}

/* ---- A connection's bytes ---- */

/*
 * What one call fails with is told by a queue that all connections share. Whatever may be left in
 * it by a call that did not fail would be taken for the next one's failure.
 */
static void forget_errors(void)
{
    if (ERR_peek_error() != 0) {
        ERR_clear_error();
    }
}

/* Whether the library complains of an alert that the peer has sent. */
static bool is_alert(unsigned long code)
{
    return ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET;
}

/* Stays silent about what the session did not ask: a connection's end is told by what it returns.
 */
static enum status judge(struct tls *tls, int result)
{
    int error = SSL_get_error(tls->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        return AGAIN;
    }
    if (!tls->heard && is_alert(ERR_peek_error())) {
        tls->refused = true;
        tls->detail = tls_openssl_detail(ERR_peek_error(), X509_V_OK);
    }
    ERR_clear_error();
    if (error == SSL_ERROR_ZERO_RETURN && !tls->cut) {
        tls->ended = true;
        return END;
    }
    tls->ended = true; /* an end without a word may be an attacker's */
    tls->broken = tls->broken || error != SSL_ERROR_ZERO_RETURN;
    return ERROR;
}

static bool tls_has_buffered(const struct transport *transport)
{
    const struct tls *tls = transport->tls;
    return !tls->ended && SSL_has_pending(tls->ssl) == 1;
}

static enum status tls_read(struct transport *transport, void *data, size_t size, size_t *got)
{
    struct tls *tls = transport->tls;
    ASSERT(tls->established && size > 0);
    if (tls->ended || tls->broken) {
        return tls->cut || tls->broken ? ERROR : END;
    }
    size_t sum = 0;
    enum status status = AGAIN;
    const uint64_t before = tls->taken;
    forget_errors();
    /*
     * Asked only where something can have come: OpenSSL takes longer than this look. Records of one
     * byte each make much of little, so what was taken from the socket is bounded as well.
     */
    while (sum < size && tls->taken - before < size && transport_may_read(transport)) {
        size_t left = size - sum;
        int count = SSL_read(tls->ssl, (uint8_t *)data + sum, left < INT_MAX ? (int)left : INT_MAX);
        if (count <= 0) {
            status = judge(tls, count);
            break;
        }
        sum += (size_t)count;
        tls->heard = true;
        tls->useful = tls->taken;
    }
    if (sum == 0) {
        return status;
    }
    *got = sum;
    return OK;
}

/* What waits to be written: pieces, and how far the first of them is done. */
struct rest {
    const struct iovec *pieces;
    int count;
    size_t done;
    size_t size;
};

static void advance(struct rest *rest, size_t size)
{
    rest->size -= size;
    while (rest->count > 0 && size >= rest->pieces->iov_len - rest->done) {
        size -= rest->pieces->iov_len - rest->done;
        rest->done = 0;
        rest->pieces++;
        rest->count--;
    }
    rest->done += size;
}

/* One record's worth from the front. */
static struct span next_record(struct tls_engine *engine, const struct rest *rest)
{
    size_t size = rest->size < TLS_RECORD_MAX ? rest->size : TLS_RECORD_MAX;
    const uint8_t *first = (const uint8_t *)rest->pieces->iov_base + rest->done;
    if (rest->pieces->iov_len - rest->done >= size) {
        return span_of(first, size);
    }
    struct rest from = *rest;
    size_t filled = 0;
    while (filled < size) {
        size_t piece = from.pieces->iov_len - from.done;
        size_t part = piece < size - filled ? piece : size - filled;
        memcpy(engine->gather + filled, (const uint8_t *)from.pieces->iov_base + from.done, part);
        filled += part;
        advance(&from, part);
    }
    return span_of(engine->gather, size);
}

/*
 * A peer that has gone may have said why, or answered early: what has come is still to be read,
 * though the news of it may not have been fetched.
 */
static enum status fall_mute(struct transport *transport)
{
    transport->tls->mute = true;
    transport->socket.ready |= IO_READABLE;
    return ERROR;
}

/* Only the library's own errors end both directions. */
static enum status judge_write(struct transport *transport, int result)
{
    if (SSL_get_error(transport->tls->ssl, result) != SSL_ERROR_SYSCALL) {
        return judge(transport->tls, result) == AGAIN ? AGAIN : ERROR;
    }
    ERR_clear_error();
    return fall_mute(transport);
}

/* What is kept goes first; the data in it stand at the front of what is offered again. */
static enum status take_coded(struct transport *transport, struct rest *rest)
{
    struct tls *tls = transport->tls;
    enum status status = send_coded(transport);
    if (status != OK) {
        return status == AGAIN ? AGAIN : fall_mute(transport);
    }
    if (tls->owed > rest->size) { /* transport.h forbids it: what has left would be told wrongly */
        tls->broken = true;
        return ERROR;
    }
    advance(rest, tls->owed);
    tls->owed = 0;
    return OK;
}

static enum status tls_write(struct transport *transport, const struct iovec *pieces, int count,
                             size_t *put)
{
    struct tls *tls = transport->tls;
    ASSERT(tls->established && count > 0);
    if (tls->broken || tls->mute || tls->said_goodbye) {
        return ERROR;
    }
    struct rest rest = {.pieces = pieces, .count = count};
    for (int i = 0; i < count; i++) {
        rest.size += pieces[i].iov_len;
    }
    const size_t all = rest.size;
    enum status sent = take_coded(transport, &rest);
    if (sent != OK) {
        return sent;
    }
    forget_errors();
    while (rest.size > 0) {
        struct span record = next_record(tls->engine, &rest);
        int result = SSL_write(tls->ssl, record.data, (int)record.size);
        if (result <= 0) {
            enum status status = judge_write(transport, result);
            if (rest.size == all) {
                return status;
            }
            break; /* a failure shows the next time, too */
        }
        if (tls->coded != NULL) {
            tls->owed = (size_t)result;
            break;
        }
        advance(&rest, (size_t)result);
    }
    *put = all - rest.size;
    return *put > 0 ? OK : AGAIN;
}

/* Without close_notify an end is a cut (RFC 8446, 6.1). AGAIN: the socket has no room for it. */
static enum status say_goodbye(struct transport *transport)
{
    struct tls *tls = transport->tls;
    if (!tls->established || tls->broken || tls->mute) {
        return OK;
    }
    if (!tls->said_goodbye) {
        tls->said_goodbye = true;
        if (SSL_shutdown(tls->ssl) < 0) {
            ERR_clear_error();
        }
    }
    return send_coded(transport) == AGAIN ? AGAIN : OK;
}

static enum status tls_shutdown(struct transport *transport)
{
    if (say_goodbye(transport) == AGAIN) {
        return AGAIN;
    }
    io_shutdown(transport->io, &transport->socket);
    return OK;
}

void tls_abandon(struct transport *transport)
{
    struct tls *tls = transport->tls;
    struct slab *connections = &tls->engine->connections;
    SSL_free(tls->ssl);
    OPENSSL_free(tls->coded);
    OPENSSL_free(tls->peer);
    OPENSSL_free(tls->refused_name);
    ERR_clear_error();
    transport_restore_tcp(transport);
    slab_release(connections, tls);
}

/* Who closes does not wait. */
static void tls_close(struct transport *transport)
{
    (void)say_goodbye(transport);
    tls_abandon(transport);
    transport->ops->close(transport);
}

static void tls_reset(struct transport *transport)
{
    tls_abandon(transport);
    transport->ops->reset(transport);
}

static const struct transport_ops TLS = {
    .name = "tls",
    .read = tls_read,
    .write = tls_write,
    .has_buffered = tls_has_buffered,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .reset = tls_reset,
};

/* ---- Begin and handshake ---- */

static struct tls *begin(struct transport *transport, struct tls_engine *engine, SSL_CTX *context)
{
    ASSERT(transport_is_open(transport) && transport->tls == NULL);
    struct tls *tls = slab_acquire(&engine->connections);
    if (tls == NULL) {
        return NULL;
    }
    *tls = (struct tls){.engine = engine, .ssl = SSL_new(context)};
    BIO *bio = tls->ssl == NULL ? NULL : BIO_new(engine->bio);
    if (bio == NULL || SSL_set_app_data(tls->ssl, transport) != 1) {
        BIO_free(bio);
        SSL_free(tls->ssl);
        ERR_clear_error();
        slab_release(&engine->connections, tls);
        return NULL;
    }
    BIO_set_data(bio, transport);
    SSL_set_bio(tls->ssl, bio, bio); /* takes it */
    transport->tls = tls;
    transport->ops = &TLS;
    return tls;
}

bool tls_begin_server(struct transport *transport, struct tls_server *server, struct span early)
{
    struct tls *tls = begin(transport, server->engine, server->base);
    if (tls == NULL) {
        return false;
    }
    tls->server = server;
    tls->early = early;
    SSL_set_accept_state(tls->ssl);
    return true;
}

/*
 * The name, and what the certificate must be for: in its subjectAltName, never in its subject (RFC
 * 9110, 4.3.4), a `*` being all of the first label (RFC 9525, 6.3).
 */
static bool set_peer(SSL *ssl, const struct tls_client *client, const struct tls_peer *peer)
{
    char text[TLS_HOST_NAME_MAX + 1];
    struct span name = peer->server_name.size > 0 ? peer->server_name : peer->address_text;
    if (name.size > TLS_HOST_NAME_MAX) {
        return false;
    }
    if (name.size == 0) {
        return !client->verify;
    }
    memcpy(text, name.data, name.size);
    text[name.size] = '\0';
    if (peer->server_name.size > 0 && SSL_set_tlsext_host_name(ssl, text) != 1) {
        return false;
    }
    if (!client->verify) {
        return true;
    }
    X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return peer->server_name.size > 0
               ? X509_VERIFY_PARAM_set1_host(parameters, text, name.size) == 1
               : X509_VERIFY_PARAM_set1_ip_asc(parameters, text) == 1;
}

bool tls_begin_client(struct transport *transport, struct tls_client *client,
                      const struct tls_peer *peer, struct tls_resumption *resumption)
{
    struct tls *tls = begin(transport, client->engine, client->context);
    if (tls == NULL) {
        return false;
    }
    tls->resumption = resumption;
    SSL_set_connect_state(tls->ssl);
    if (client->verify && resumption != NULL && !tls_session_is_current(resumption->session)) {
        tls_resumption_drop(resumption); /* who was believed once is asked anew */
    }
    bool resumes = resumption != NULL && resumption->session != NULL;
    if (!set_peer(tls->ssl, client, peer) ||
        (resumes && SSL_set_session(tls->ssl, resumption->session) != 1)) {
        tls_abandon(transport);
        return false;
    }
    if (resumes) {
        tls_resumption_drop(resumption); /* the connection has it */
    }
    return true;
}

void tls_resumption_drop(struct tls_resumption *resumption)
{
    SSL_SESSION_free(resumption->session);
    resumption->session = NULL;
}

/* OpenSSL's reason for a failed handshake, as one of ours. */
static enum tls_failure failure_of(int reason)
{
    switch (reason) {
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
        return TLS_FAILURE_PLAIN_HTTP;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_NO_CIPHERS_SPECIFIED:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
    case SSL_R_INAPPROPRIATE_FALLBACK:
        return TLS_FAILURE_NO_COMMON;
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
        return TLS_FAILURE_NO_ALPN;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return TLS_FAILURE_NO_CERTIFICATE;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return TLS_FAILURE_BAD_CERTIFICATE;
    case ERR_R_MALLOC_FAILURE:
        return TLS_FAILURE_MEMORY;
    default:
        return reason > SSL_AD_REASON_OFFSET ? TLS_FAILURE_REFUSED : TLS_FAILURE_PROTOCOL;
    }
}

static enum tls_failure diagnose(struct tls *tls, unsigned long code)
{
    int reason = ERR_GET_REASON(code);
    tls->detail = tls_openssl_detail(code, SSL_get_verify_result(tls->ssl));
    if (tls->unknown_name) {
        return TLS_FAILURE_UNKNOWN_NAME;
    }
    return code == 0 || tls->cut ? TLS_FAILURE_CLOSED : failure_of(reason);
}

/* A session of TLS 1.2 may go on many times; of 1.3 each time with what came last. */
static void keep_session(struct tls *tls)
{
    struct tls_resumption *resumption = tls->resumption;
    if (resumption != NULL && resumption->session == NULL && SSL_session_reused(tls->ssl) == 1 &&
        SSL_version(tls->ssl) < TLS1_3_VERSION) {
        resumption->session = SSL_get1_session(tls->ssl);
    }
}

enum status tls_handshake(struct transport *transport, enum tls_failure *failure)
{
    struct tls *tls = transport->tls;
    ASSERT(!tls->established && !tls->broken);
    forget_errors();
    int result = SSL_do_handshake(tls->ssl);
    if (result == 1 && tls->server != NULL && !tls_peer_read(tls)) {
        *failure = TLS_FAILURE_MEMORY;
        tls->broken = true;
        return ERROR;
    }
    if (result == 1) {
        tls->established = true;
        tls->useful = tls->taken;
        keep_session(tls);
        return OK;
    }
    int error = SSL_get_error(tls->ssl, result);
    bool consumed = tls->early.size == 0; /* what came early is lent for this call only */
    if (consumed && (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)) {
        return AGAIN;
    }
    *failure = diagnose(tls, ERR_peek_error());
    tls->broken = true;
    ERR_clear_error();
    return ERROR;
}

enum tls_detail tls_failure_detail(const struct transport *transport)
{
    return transport->tls->detail;
}

static enum tls_alpn alpn_of(const SSL *ssl)
{
    const unsigned char *name = NULL;
    unsigned int size = 0;
    SSL_get0_alpn_selected(ssl, &name, &size);
    struct span chosen = span_of(name, size);
    return span_equal(chosen, SPAN("h2"))         ? TLS_ALPN_HTTP2
           : span_equal(chosen, SPAN("http/1.1")) ? TLS_ALPN_HTTP1
                                                  : TLS_ALPN_NONE;
}

void tls_describe(const struct transport *transport, struct tls_info *info)
{
    const struct tls *tls = transport->tls;
    const SSL *ssl = tls->ssl;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const SSL_CIPHER *cipher =
        tls->established ? SSL_get_current_cipher(ssl) : SSL_get_pending_cipher(ssl);
    *info = (struct tls_info){
        .server_name = name == NULL ? span_of(tls->refused_name, tls->refused_name_size)
                                    : span_of_string(name),
        .alpn = alpn_of(ssl),
        .resumed = SSL_session_reused(ssl) == 1,
    };
    if (cipher != NULL) { /* it is chosen after the version */
        info->version = span_of_string(SSL_get_version(ssl));
        info->cipher = span_of_string(SSL_CIPHER_standard_name(cipher));
    }
    if (tls->established) {
        X509 *peer = SSL_get_peer_certificate(ssl);
        info->peer_verified = peer != NULL && SSL_get_verify_result(ssl) == X509_V_OK;
        X509_free(peer);
    }
}

bool tls_was_refused(const struct transport *transport)
{
    return transport->tls->refused;
}

bool tls_is_accepted(const struct transport *transport)
{
    const struct tls *tls = transport->tls;
    ASSERT(tls->server == NULL && tls->established);
    return !tls->asked || tls->heard || tls->ticketed || SSL_version(tls->ssl) < TLS1_3_VERSION;
}

const struct tls_certificate *tls_client_certificate(const struct transport *transport)
{
    return transport->tls->peer;
}

bool tls_serves_host(const struct transport *transport, struct span host)
{
    const struct tls *tls = transport->tls;
    ASSERT(tls->server != NULL && tls->established);
    const struct tls_served_host *other = tls_server_host(tls->server, host);
    return other == tls->host ||
           (other != NULL &&
            memcmp(other->certificates, tls->host->certificates, sizeof(other->certificates)) == 0);
}
