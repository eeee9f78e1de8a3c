/*
 * A connection of the benchmark's client: a socket, and OpenSSL upon it where TLS is asked for. All
 * proxies are offered the same: TLS 1.3, one cipher, key exchange on one curve, HTTP/1.1 by ALPN.
 * What is asked for is checked: a handshake that was resumed where a full one was wanted, or the
 * other way round, is an error.
 */
#ifndef BENCH_CHANNEL_H
#define BENCH_CHANNEL_H

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>

#include "loopback.h"

enum security { PLAIN, TLS_FULL, TLS_RESUMED };

struct channel {
    int fd;
    SSL *ssl;             /* NULL: plain */
    SSL_SESSION *session; /* of the last connection, to be resumed */
};

struct channels {
    struct sockaddr_in proxy;
    enum security security;
    SSL_CTX *context;   /* NULL: plain */
    SSL_SESSION *first; /* what is resumed by a channel without a session of its own */
};

/* A ticket has come. */
static inline int channel_keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct channel *channel = SSL_get_app_data(ssl);
    SSL_SESSION_free(channel->session);
    channel->session = session;
    return 1;
}

static inline void channel_close(struct channel *channel)
{
    if (channel->ssl != NULL) { /* else its session would not be resumable */
        SSL_set_shutdown(channel->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(channel->ssl);
    channel->ssl = NULL;
    close(channel->fd);
    channel->fd = -1;
}

static inline void channel_open(const struct channels *channels, struct channel *channel)
{
    channel->fd = connect_to(&channels->proxy);
    if (channels->security == PLAIN) {
        return;
    }
    SSL *ssl = SSL_new(channels->context);
    if (ssl == NULL || SSL_set_fd(ssl, channel->fd) != 1 || SSL_set_app_data(ssl, channel) != 1 ||
        SSL_set_tlsext_host_name(ssl, "bench.test") != 1) {
        quit("TLS");
    }
    SSL_SESSION *session = channel->session != NULL ? channel->session : channels->first;
    if (channels->security == TLS_RESUMED && session != NULL &&
        SSL_set_session(ssl, session) != 1) {
        quit("session");
    }
    SSL_set_connect_state(ssl);
    channel->ssl = ssl;
}

/* As send and recv: a count, 0 at the end, or -1 with EAGAIN or another error. */
static inline ssize_t channel_judge(const struct channel *channel, int result)
{
    int error = result > 0 ? SSL_ERROR_NONE : SSL_get_error(channel->ssl, result);
    if (error == SSL_ERROR_NONE) {
        return result;
    }
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return error == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

/* The first one does the handshake, too. */
static inline ssize_t channel_send(const struct channel *channel, const void *data, size_t size)
{
    if (channel->ssl == NULL) {
        return send(channel->fd, data, size, MSG_NOSIGNAL);
    }
    ERR_clear_error();
    return channel_judge(channel, SSL_write(channel->ssl, data, (int)size));
}

static inline ssize_t channel_receive(const struct channel *channel, void *data, size_t size)
{
    if (channel->ssl == NULL) {
        return recv(channel->fd, data, size, 0);
    }
    ERR_clear_error();
    return channel_judge(channel, SSL_read(channel->ssl, data, (int)size));
}

/* Whether the handshake was what was asked for. */
static inline bool channel_is_as_asked(const struct channels *channels,
                                       const struct channel *channel)
{
    return channels->security == PLAIN ||
           (SSL_session_reused(channel->ssl) == 1) == (channels->security == TLS_RESUMED);
}

/* The session that all channels begin with: of one connection, before anything is counted. */
static inline void channels_take_first(struct channels *channels, const char *request)
{
    struct channel channel = {.fd = -1};
    char scratch[4096];
    size_t sent = 0;
    ssize_t got = -1;
    channel_open(channels, &channel);
    while (got != 0 && channel.session == NULL) {
        struct pollfd wait = {channel.fd, POLLIN, 0};
        ssize_t put = sent > 0 ? 0 : channel_send(&channel, request, strlen(request));
        sent += put > 0 ? (size_t)put : 0;
        got = sent > 0 ? channel_receive(&channel, scratch, sizeof(scratch)) : -1;
        if (got < 0 && (errno != EAGAIN || poll(&wait, 1, 10000) != 1)) {
            break;
        }
    }
    channels->first = channel.session;
    channel_close(&channel);
    if (channels->first == NULL) {
        errno = EPROTO;
        quit("no session ticket came");
    }
}

static inline void channels_prepare(struct channels *channels, const char *request)
{
    static const unsigned char alpn[] = "\x08http/1.1";
    if (channels->security == PLAIN) {
        return;
    }
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(context, "X25519") != 1 ||
        SSL_CTX_set_alpn_protos(context, alpn, sizeof(alpn) - 1) != 0) {
        quit("TLS");
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
    channels->context = context;
    if (channels->security == TLS_RESUMED) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, channel_keep_session);
        channels_take_first(channels, request);
    }
}

#endif
