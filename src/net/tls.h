/*
 * TLS over a transport, for both sides of the proxy. The library hides behind this header: two
 * implementations exist and one is linked, tls_openssl*.c and tls_sim.c (a toy record layer for the
 * simulator, without secrecy). Nothing here is shared between processes but the ticket keys, which
 * are borrowed (net/ticket_keys.h).
 *
 * An engine is what one process has once: the library set up, its heap, memory for connections. A
 * server is one listener's settings: certificates by host name, made once at start; a client those
 * towards one upstream. A transport that is open as plain TCP becomes TLS by tls_begin_server or
 * tls_begin_client; after tls_handshake said OK its operations have transport.h's contract.
 *
 * What a library holds of one connection stands in the library's own heap, which has a hard cap:
 * what does not fit any more fails, and ends that connection alone. Bounds: connections of the
 * engine, and the cap.
 */
#ifndef SENTINEL_NET_TLS_H
#define SENTINEL_NET_TLS_H

#include "net/tls_detail.h"
#include "net/transport.h"

struct ticket_keys;
struct tls_client;
struct tls_engine;
struct tls_server;

/* Figures of the library's heap, for whoever plans memory; measured, and held by tls_test.c. */
enum {
    TLS_HEAP_BASE = 2 * 1024 * 1024, /* the library itself */
    TLS_HEAP_HOST = 64 * 1024,       /* the certificates and settings of one host name */
    TLS_HEAP_IDLE = 15 * 1024,       /* a connection on which nothing is under way */
    TLS_HEAP_PEER = 14 * 1024,       /* and the certificate that its peer has shown */
    TLS_HEAP_BUSY = 40 * 1024,       /* what one takes on top while bytes are read and written */
    TLS_HEAP_HANDSHAKE = 64 * 1024,  /* the same during its handshake */
    TLS_HOST_NAME_MAX = 255,
    TLS_ERROR_MAX = 256,
    TLS_SUBJECT_MAX = 512, /* bytes of a certificate's subject, and of its names, as text */
    TLS_NAMES_MAX = 1024,
    TLS_FINGERPRINT_SIZE = 64, /* a SHA-256 in hexadecimal */
};

enum tls_version { TLS_1_2, TLS_1_3 };

enum tls_alpn { TLS_ALPN_NONE, TLS_ALPN_HTTP1, TLS_ALPN_HTTP2 };

enum tls_client_auth {
    TLS_CLIENT_AUTH_OFF,
    TLS_CLIENT_AUTH_OPTIONAL, /* a client may show none, but none that does not hold */
    TLS_CLIENT_AUTH_REQUIRED,
};

/* A certificate and what belongs to it. Borrowed for the call it is given to. */
struct tls_identity {
    struct span chain_pem; /* the certificate itself first, then what signed it */
    struct span key_pem;
    struct span ocsp_der; /* the response to staple; empty: none */
    uint64_t ocsp_until;  /* seconds since 1970: from then on it is not stapled */
};

/* What a client that names such a host is shown. */
struct tls_host {
    struct span pattern; /* lower case: a host, or a suffix that begins with its dot, which is all
                            below it but not itself; of the default host empty */
    const struct tls_identity *identities; /* at most one of each kind of key; at least one */
    uint32_t count;
};

struct tls_server_settings {
    const struct tls_host *fallback; /* for who names no host that is listed; NULL: refused */
    const struct tls_host *hosts;    /* each pattern once */
    uint32_t host_count;
    enum tls_version version_min;
    enum tls_version version_max;
    enum tls_alpn alpn[2]; /* the preferred one first, NONE behind the last */
    enum tls_client_auth client_auth;
    struct span client_ca_pem; /* who may have signed a client's certificate; empty where off */
    bool tickets;              /* sessions can be resumed, once the engine has keys */
};

struct tls_client_settings {
    bool verify;
    struct span ca_pem;                  /* where it verifies: who is trusted; not empty */
    const struct tls_identity *identity; /* shown when asked; NULL: none */
    enum tls_alpn alpn[2];               /* as above; NONE at once: not spoken of */
};

/* Whom a client calls. Borrowed until the connection ends. */
struct tls_peer {
    struct span server_name;  /* sent as SNI, and what the certificate must be for; or empty */
    struct span address_text; /* without a name: the address that the certificate must be for */
};

/* Why a handshake failed. */
enum tls_failure {
    TLS_FAILURE_CLOSED,       /* the peer has gone */
    TLS_FAILURE_PLAIN_HTTP,   /* the client speaks HTTP without TLS */
    TLS_FAILURE_PROTOCOL,     /* what came is no TLS, or breaks its rules */
    TLS_FAILURE_NO_COMMON,    /* no version, cipher, curve or signature in common */
    TLS_FAILURE_UNKNOWN_NAME, /* the client named no host that is served here */
    TLS_FAILURE_NO_ALPN,      /* no application protocol in common */
    TLS_FAILURE_NO_CERTIFICATE,
    TLS_FAILURE_BAD_CERTIFICATE, /* the peer's: see tls_failure_detail */
    TLS_FAILURE_REFUSED,         /* the peer sent an alert */
    TLS_FAILURE_MEMORY,
};

/* What is known of a connection. Borrowed from the transport. */
struct tls_info {
    struct span version;     /* "TLSv1.3"; empty: none was agreed on */
    struct span cipher;      /* "TLS_AES_256_GCM_SHA384"; empty likewise */
    struct span server_name; /* as the client sent it; empty: none */
    enum tls_alpn alpn;
    bool resumed;
    bool peer_verified; /* the peer has shown a certificate, and it holds */
};

/*
 * Whom a client's certificate, which holds, is for, as printable ASCII that no other certificate of
 * other names can have. A text that is longer than its bound is empty: a part of a name could be
 * someone else's.
 */
struct tls_certificate {
    struct span subject; /* as RFC 4514 writes it, the most specific part first: CN=user,O=a */
    struct span names;   /* subjectAltName: DNS:a.example, email:user@a.example, URI:..., IP:...;
                            in each of them what is no visible character, `%`, `,`, `"` and `\` as
                            %XX; other kinds are left out */
    struct span fingerprint; /* SHA-256 of its DER, in lower-case hexadecimal */
};

/*
 * The bytes that tls_engine_create allocates besides the library's heap for so many connections.
 */
uint64_t tls_engine_bytes(uint32_t connections);

/*
 * Sets the library up, its heap with a cap of so many bytes. No file is read, then or later.
 * NULL with errno.
 */
NODISCARD struct tls_engine *tls_engine_create(uint32_t connections, uint64_t heap_max);

/* All connections, servers and clients must be gone. Accepts NULL. */
void tls_engine_destroy(struct tls_engine *engine);

/* Borrows the keys that session tickets are sealed with. Without any nothing is resumed. */
void tls_engine_set_ticket_keys(struct tls_engine *engine, const struct ticket_keys *keys);

/* Bytes of the library's heap that are in use, and connections. */
uint64_t tls_engine_heap(const struct tls_engine *engine);
uint32_t tls_engine_connections(const struct tls_engine *engine);

/*
 * Makes a listener's contexts; nothing of the settings is kept. NULL: what is wrong stands in
 * `error` as a text (never a part of a key).
 */
NODISCARD struct tls_server *tls_server_create(struct tls_engine *engine,
                                               const struct tls_server_settings *settings,
                                               char error[TLS_ERROR_MAX]);
void tls_server_destroy(struct tls_server *server);

/* The same for the connections to an upstream. */
NODISCARD struct tls_client *tls_client_create(struct tls_engine *engine,
                                               const struct tls_client_settings *settings,
                                               char error[TLS_ERROR_MAX]);
void tls_client_destroy(struct tls_client *client);

/* The session of an earlier connection, to be resumed; embedded in its owner, zero at first. */
struct tls_resumption {
    void *session;
};

void tls_resumption_drop(struct tls_resumption *resumption);

/*
 * Makes an open plain transport one that speaks TLS. `early` is what was read of it already, which
 * must stay valid during the first tls_handshake. False: no memory; the transport is as before.
 */
NODISCARD bool tls_begin_server(struct transport *transport, struct tls_server *server,
                                struct span early);

/* `resumption` outlives the transport; NULL: nothing is resumed. */
NODISCARD bool tls_begin_client(struct transport *transport, struct tls_client *client,
                                const struct tls_peer *peer, struct tls_resumption *resumption);

/* Goes back to a plain transport, still open: for a client that spoke no TLS. */
void tls_abandon(struct transport *transport);

static inline bool tls_is_on(const struct transport *transport)
{
    return transport->tls != NULL;
}

/*
 * Goes on with the handshake. OK: done. AGAIN: the peer's turn. ERROR: *failure tells; the peer was
 * sent an alert where there is one for it, and the transport is good for nothing but closing.
 */
NODISCARD enum status tls_handshake(struct transport *transport, enum tls_failure *failure);

/* What more is known of the failure, or of why the connection `was_refused` after its handshake. */
enum tls_detail tls_failure_detail(const struct transport *transport);

/* What the connection is; before the end of its handshake, or after it failed, what is known by
 * then.
 */
void tls_describe(const struct transport *transport, struct tls_info *info);

/*
 * Whether the peer has broken the connection off with an alert before it sent any data. With
 * TLS 1.3 a server refuses what its client has shown, or that it has shown nothing, only when the
 * client takes the handshake for done.
 */
bool tls_was_refused(const struct transport *transport);

/*
 * Of a client's connection whose handshake is done: whether its server cannot refuse it any more.
 * With TLS 1.3 (RFC 8446, 4.4.2.4) one that has asked for a certificate shows by the first thing it
 * sends, a ticket or data, that it takes what it was shown.
 */
bool tls_is_accepted(const struct transport *transport);

/* Of a server's: what the client has shown; NULL: nothing. Borrowed from the transport. */
const struct tls_certificate *tls_client_certificate(const struct transport *transport);

/*
 * Whether a client of this connection, had it named that host (any case, no port), would have been
 * shown the same certificates. A listener's requests are all held to the same rules for clients'
 * certificates.
 */
bool tls_serves_host(const struct transport *transport, struct span host);

#endif
