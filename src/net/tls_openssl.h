/*
 * What the files of the OpenSSL implementation share: private to src/net/tls_openssl*.c, all in one
 * process and one thread. Only the part of OpenSSL's interface that AWS-LC has as well is used,
 * except where a comment says otherwise. Bounds are those of tls.h.
 */
#ifndef SENTINEL_NET_TLS_OPENSSL_H
#define SENTINEL_NET_TLS_OPENSSL_H

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include "base/slab.h"
#include "net/ticket_keys.h"
#include "net/tls.h"

enum {
    TLS_RECORD_MAX = 16 * 1024, /* bytes of one record (RFC 8446, 5.1) */
    TLS_SCOPE_SIZE = 32,        /* what a session is bound to: a hash */
    TLS_IDENTITIES_MAX = 3,     /* kinds of keys */
    TLS_TICKET_TIME_S = 12 * 60 * 60,
    TLS_CHAIN_MAX = 8,                /* certificates between a peer's and one that is trusted */
    TLS_PEER_CHAIN_BYTES = 32 * 1024, /* of the certificates that a peer shows */
    TLS_CODED_MAX = 32 * 1024, /* one record of data, and what the peer had to be told meanwhile */
    TLS_SILENCE_MAX = 32 * 1024, /* bytes without one of data among them: updates of keys,
                                    tickets, attempts to renegotiate; and a record in part */
};

struct tls_engine {
    struct slab connections; /* struct tls */
    BIO_METHOD *bio;
    BIO_METHOD *text_bio;      /* writes to a struct output */
    EVP_CIPHER *ticket_cipher; /* found once: looking one up takes longer than using it */
    EVP_MD *sha256;
    const struct ticket_keys *ticket_keys; /* borrowed; NULL: none */
    uint8_t gather[TLS_RECORD_MAX];        /* pieces of one record, while it is written; a text */
};

/* An OCSP response, in OpenSSL's heap, and whose it is. */
struct tls_staple {
    const X509 *certificate; /* borrowed from the context */
    uint8_t *der;
    size_t size;
    uint64_t until; /* seconds since 1970 */
};

/* The contexts of one host name, or of who names none. */
struct tls_served_host {
    struct tls_server *server;
    struct span pattern; /* owned by the server; NULL data: the default */
    SSL_CTX *context;
    uint8_t scope[TLS_SCOPE_SIZE];        /* sessions of another scope are not resumed */
    uint8_t certificates[TLS_SCOPE_SIZE]; /* a hash: who shows the same serves the same */
    struct tls_staple staples[TLS_IDENTITIES_MAX];
};

struct tls_server {
    struct tls_engine *engine;
    struct tls_served_host *hosts; /* the default last */
    uint32_t host_count;           /* without the default */
    bool has_fallback;
    uint32_t *buckets; /* indexes of hosts + 1, by hash of the pattern; 0: free */
    uint32_t mask;
    uint8_t *patterns; /* their bytes */
    X509_STORE *trust; /* for clients' certificates; NULL: they are not asked for any */
    SSL_CTX *base;     /* what a connection begins with, before its host is known */
    enum tls_alpn alpn[2];
};

struct tls_client {
    struct tls_engine *engine;
    SSL_CTX *context;
    bool verify;
};

/* One connection. */
struct tls {
    SSL *ssl;
    struct tls_engine *engine;
    struct tls_server *server;         /* NULL: we are the client */
    struct tls_served_host *host;      /* of a server's: what the client's name led to */
    struct tls_resumption *resumption; /* of a client's; may be NULL */
    struct tls_certificate *peer;      /* of a server's, with its texts: in OpenSSL's heap */
    uint8_t *refused_name;             /* that a client named and nobody serves: there, too */
    size_t refused_name_size;
    struct span early;      /* read before TLS began */
    enum tls_detail detail; /* of a failure */
    uint8_t *coded; /* records that the socket has not taken: in OpenSSL's heap; NULL: none */
    size_t coded_size;
    size_t coded_sent;
    size_t owed;     /* bytes of data in them, which are told as written when they have left */
    uint64_t taken;  /* bytes, from the socket */
    uint64_t useful; /* of them, until data were last found */
    bool established;
    bool unknown_name; /* the client named nothing that is served */
    bool heard;        /* the peer has sent data */
    bool refused;      /* it sent an alert in their place */
    bool asked;        /* of a client's: the server has asked for a certificate */
    bool ticketed;     /* of a client's: a ticket came after the handshake */
    bool cut;          /* the socket has ended */
    bool ended;        /* nothing more is to be read */
    bool broken;       /* nothing more can be done */
    bool mute;         /* nothing more can be written */
    bool said_goodbye; /* close_notify was sent */
};

/* tls_openssl_memory.c: OpenSSL's heap, one for the process, since it asks without saying who. */
NODISCARD bool tls_memory_install(uint64_t max);
uint64_t tls_memory_used(void);

/* tls_openssl_server.c */

/* The host that is served for this name; NULL: none. */
struct tls_served_host *tls_server_host(struct tls_server *server, struct span name);

/* tls_openssl_tickets.c */

/* Lets the context seal and open tickets with the engine's keys, bound to its host's scope. */
NODISCARD bool tls_tickets_install(SSL_CTX *context);

/* Whether the certificate that the session's peer has shown, if any, has not ended. NULL: no
 * session. */
bool tls_session_is_current(SSL_SESSION *session);

/* tls_openssl_identity.c: what is common to both sides. */

/* Puts one certificate, its chain and key into the context; false with a text. */
NODISCARD bool tls_identity_use(SSL_CTX *context, const struct tls_identity *identity,
                                char error[TLS_ERROR_MAX]);

/* The certificates of a bundle as a store; at least one, or NULL with a text. */
NODISCARD X509_STORE *tls_trust_store(struct span pem, char error[TLS_ERROR_MAX]);

/* Their names as a list for clients to choose a certificate by. NULL: no memory. */
NODISCARD STACK_OF(X509_NAME) * tls_trust_names(struct span pem);

/* What both sides' contexts have in common: versions, ciphers, no old features. */
NODISCARD bool tls_context_harden(SSL_CTX *context, enum tls_version min, enum tls_version max);

/* tls_openssl_detail.c: what an error of OpenSSL is, its code and what became of a chain. */
enum tls_detail tls_openssl_detail(unsigned long code, long verify_result);

/* tls_openssl_peer.c */

/* What writes to a struct output, which is its data; whatever does not fit marks that. */
BIO_METHOD *tls_text_method(void);

/*
 * After a server's handshake: reads who the client is into tls->peer, if it has shown that. False:
 * no memory.
 */
NODISCARD bool tls_peer_read(struct tls *tls);

/* The library's last complaint as a text; empties its queue. */
void tls_complain(char error[TLS_ERROR_MAX], const char *what);

/* The transport's operations while it is TLS, and its connection. tls_openssl.c */
struct tls *tls_of_ssl(const SSL *ssl);

#endif
