/*
 * A toy for the simulator that behaves as TLS does, without secrecy: records, a handshake of one
 * message each way, names that choose a certificate, an end that is told. What a real library is
 * strict about it is strict about, too: a record that could not be written out must be offered
 * again, which is asserted here byte by byte.
 *
 *     record     type, length (two bytes), payload, each of its bytes changed
 *     HELLO      of the client: the name; of the server: its protocol, and a hash of who it is
 *     DATA       1 to RECORD_MAX bytes
 *     GOODBYE    no more from this side
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/slab.h"
#include "net/tls.h"

enum { HEADER = 3, RECORD_MAX = 1024, MASK = 0x5a };

enum record { RECORD_HELLO = 0x16, RECORD_DATA = 0x17, RECORD_GOODBYE = 0x15 };

struct tls_engine {
    struct slab connections;
};

struct host {
    uint8_t *pattern; /* owned */
    size_t size;
    uint32_t identity; /* a hash of the certificates */
};

struct tls_server {
    struct tls_engine *engine;
    struct host *hosts; /* owned; the default last */
    uint32_t host_count;
    bool has_fallback;
    enum tls_alpn alpn;
};

struct tls_client {
    struct tls_engine *engine;
};

struct tls {
    struct tls_engine *engine;
    const struct tls_server *server; /* NULL: we are the client */
    const struct host *host;
    struct span early;
    enum tls_alpn alpn;
    bool established;
    bool ended;
    bool cut; /* ended without a GOODBYE */
    bool broken;
    bool said_goodbye;
    uint8_t name[TLS_HOST_NAME_MAX];
    size_t name_size;
    uint8_t in[HEADER + RECORD_MAX];
    size_t in_size; /* of a record that has come in part, or wholly */
    size_t in_read; /* of its payload */
    uint8_t out[HEADER + RECORD_MAX];
    size_t out_size; /* of a record that waits */
    size_t out_sent;
};

/* ---- The engine, servers and clients ---- */

uint64_t tls_engine_bytes(uint32_t connections)
{
    return sizeof(struct tls_engine) + slab_bytes(sizeof(struct tls), connections);
}

struct tls_engine *tls_engine_create(uint32_t connections, uint64_t heap_max)
{
    (void)heap_max;
    struct tls_engine *engine = calloc(1, sizeof(*engine));
    if (engine != NULL && !slab_init(&engine->connections, sizeof(struct tls), connections)) {
        free(engine);
        return NULL;
    }
    return engine;
}

void tls_engine_destroy(struct tls_engine *engine)
{
    if (engine != NULL) {
        slab_deinit(&engine->connections);
        free(engine);
    }
}

void tls_engine_set_ticket_keys(struct tls_engine *engine, const struct ticket_keys *keys)
{
    (void)engine, (void)keys;
}

uint64_t tls_engine_heap(const struct tls_engine *engine)
{
    (void)engine;
    return 0;
}

uint32_t tls_engine_connections(const struct tls_engine *engine)
{
    return engine->connections.in_use;
}

static bool copy_host(struct host *host, const struct tls_host *source)
{
    host->size = source->pattern.size;
    host->pattern = malloc(host->size + 1);
    if (host->pattern == NULL) {
        return false;
    }
    memcpy(host->pattern, source->pattern.data, host->size);
    uint32_t state = HASH_FAST_SEED;
    for (uint32_t i = 0; i < source->count; i++) {
        state ^= hash_fast(source->identities[i].chain_pem);
        state = hash_fast_step(state, (uint8_t)i);
    }
    host->identity = hash_fast_finish(state);
    return true;
}

struct tls_server *tls_server_create(struct tls_engine *engine,
                                     const struct tls_server_settings *settings,
                                     char error[TLS_ERROR_MAX])
{
    struct tls_server *server = calloc(1, sizeof(*server));
    error[0] = '\0';
    if (server == NULL) {
        return NULL;
    }
    *server = (struct tls_server){.engine = engine,
                                  .hosts = calloc(settings->host_count + 1U, sizeof(struct host)),
                                  .host_count = settings->host_count,
                                  .has_fallback = settings->fallback != NULL,
                                  .alpn = settings->alpn[0]};
    bool good = server->hosts != NULL;
    for (uint32_t i = 0; good && i < settings->host_count; i++) {
        good = copy_host(&server->hosts[i], &settings->hosts[i]);
    }
    if (good && server->has_fallback) {
        good = copy_host(&server->hosts[server->host_count], settings->fallback);
    }
    if (!good) {
        tls_server_destroy(server);
        return NULL;
    }
    return server;
}

void tls_server_destroy(struct tls_server *server)
{
    if (server == NULL) {
        return;
    }
    for (uint32_t i = 0; server->hosts != NULL && i <= server->host_count; i++) {
        free(server->hosts[i].pattern);
    }
    free(server->hosts);
    free(server);
}

struct tls_client *tls_client_create(struct tls_engine *engine,
                                     const struct tls_client_settings *settings,
                                     char error[TLS_ERROR_MAX])
{
    (void)settings;
    struct tls_client *client = calloc(1, sizeof(*client));
    error[0] = '\0';
    if (client != NULL) {
        client->engine = engine;
    }
    return client;
}

void tls_client_destroy(struct tls_client *client)
{
    free(client);
}

void tls_resumption_drop(struct tls_resumption *resumption)
{
    resumption->session = NULL;
}

/* ---- Records ---- */

/* Bytes of the transport, what came early first. */
static enum status receive(struct transport *transport, uint8_t *data, size_t size, size_t *got)
{
    struct tls *tls = transport->tls;
    if (tls->early.size > 0) {
        *got = tls->early.size < size ? tls->early.size : size;
        memcpy(data, tls->early.data, *got);
        tls->early = span_from(tls->early, *got);
        return OK;
    }
    return io_read(transport->io, &transport->socket, data, size, got);
}

static size_t record_size(const struct tls *tls)
{
    return tls->in_size < HEADER ? HEADER : HEADER + ((size_t)tls->in[1] << 8 | tls->in[2]);
}

/* OK: a whole record stands in `in`. */
static enum status read_record(struct transport *transport)
{
    struct tls *tls = transport->tls;
    while (tls->in_size < HEADER || tls->in_size < record_size(tls)) {
        if (record_size(tls) > sizeof(tls->in)) {
            tls->broken = true;
            return ERROR;
        }
        size_t got = 0;
        enum status status =
            receive(transport, tls->in + tls->in_size, record_size(tls) - tls->in_size, &got);
        if (status != OK) {
            tls->cut = status != AGAIN;
            tls->ended = tls->ended || tls->cut;
            return status == AGAIN ? AGAIN : ERROR;
        }
        tls->in_size += got;
    }
    return OK;
}

static void drop_record(struct tls *tls)
{
    tls->in_size = 0;
    tls->in_read = 0;
}

static void put_record(struct tls *tls, enum record type, struct span payload)
{
    ASSERT(tls->out_size == 0 && payload.size <= RECORD_MAX);
    tls->out[0] = (uint8_t)type;
    tls->out[1] = (uint8_t)(payload.size >> 8);
    tls->out[2] = (uint8_t)payload.size;
    for (size_t i = 0; i < payload.size; i++) {
        tls->out[HEADER + i] = payload.data[i] ^ MASK;
    }
    tls->out_size = HEADER + payload.size;
    tls->out_sent = 0;
}

static enum status send_record(struct transport *transport)
{
    struct tls *tls = transport->tls;
    while (tls->out_sent < tls->out_size) {
        struct iovec piece = {tls->out + tls->out_sent, tls->out_size - tls->out_sent};
        size_t put = 0;
        enum status status = io_write(transport->io, &transport->socket, &piece, 1, &put);
        if (status != OK) {
            tls->broken = tls->broken || status == ERROR;
            return status;
        }
        tls->out_sent += put;
    }
    tls->out_size = 0;
    return OK;
}

/* ---- A connection's bytes ---- */

static bool sim_has_buffered(const struct transport *transport)
{
    const struct tls *tls = transport->tls;
    return !tls->ended && tls->in_size >= HEADER && tls->in_size == record_size(tls);
}

/* Makes sure that a DATA record with unread bytes stands in `in`. */
static enum status next_data(struct transport *transport)
{
    struct tls *tls = transport->tls;
    if (tls->ended || tls->broken) {
        return tls->cut || tls->broken ? ERROR : END;
    }
    enum status status = read_record(transport);
    if (status != OK) {
        return status;
    }
    if (tls->in[0] == RECORD_GOODBYE) {
        tls->ended = true;
        return END;
    }
    tls->broken = tls->in[0] != RECORD_DATA || tls->in_size == HEADER;
    return tls->broken ? ERROR : OK;
}

static enum status sim_read(struct transport *transport, void *data, size_t size, size_t *got)
{
    struct tls *tls = transport->tls;
    enum status status = next_data(transport);
    if (status != OK) {
        return status;
    }
    size_t left = tls->in_size - HEADER - tls->in_read;
    size_t part = left < size ? left : size;
    for (size_t i = 0; i < part; i++) {
        ((uint8_t *)data)[i] = tls->in[HEADER + tls->in_read + i] ^ MASK;
    }
    tls->in_read += part;
    if (part == left) {
        drop_record(tls);
    }
    *got = part;
    return OK;
}

/* The front of the pieces, up to a record's worth. */
static size_t gather(const struct iovec *pieces, int count, uint8_t *into)
{
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        size_t room = RECORD_MAX - size;
        size_t part = pieces[i].iov_len < room ? pieces[i].iov_len : room;
        memcpy(into + size, pieces[i].iov_base, part);
        size += part;
    }
    return size;
}

static enum status sim_write(struct transport *transport, const struct iovec *pieces, int count,
                             size_t *put)
{
    struct tls *tls = transport->tls;
    uint8_t front[RECORD_MAX];
    if (tls->broken || tls->said_goodbye) {
        return ERROR;
    }
    size_t size = gather(pieces, count, front);
    if (tls->out_size == 0) {
        put_record(tls, RECORD_DATA, span_of(front, size));
    }
    const size_t payload = tls->out_size - HEADER;
    ASSERT(size >= payload); /* no shorter, and the same */
    for (size_t i = 0; i < payload; i++) {
        ASSERT((front[i] ^ MASK) == tls->out[HEADER + i]);
    }
    enum status status = send_record(transport);
    if (status == OK) {
        *put = payload;
    }
    return status;
}

static void say_goodbye(struct transport *transport)
{
    struct tls *tls = transport->tls;
    if (tls->established && !tls->broken && !tls->said_goodbye && tls->out_size == 0) {
        tls->said_goodbye = true;
        put_record(tls, RECORD_GOODBYE, SPAN_EMPTY);
        (void)send_record(transport);
    }
}

static void sim_shutdown(struct transport *transport)
{
    say_goodbye(transport);
    io_shutdown(transport->io, &transport->socket);
}

void tls_abandon(struct transport *transport)
{
    struct tls *tls = transport->tls;
    transport_restore_tcp(transport);
    slab_release(&tls->engine->connections, tls);
}

static void sim_close(struct transport *transport)
{
    if (transport_is_open(transport)) { /* the simulator may have killed the process */
        say_goodbye(transport);
    }
    tls_abandon(transport);
    transport->ops->close(transport);
}

static void sim_reset(struct transport *transport)
{
    tls_abandon(transport);
    transport->ops->reset(transport);
}

static const struct transport_ops TLS = {
    .name = "tls",
    .read = sim_read,
    .write = sim_write,
    .has_buffered = sim_has_buffered,
    .shutdown = sim_shutdown,
    .close = sim_close,
    .reset = sim_reset,
};

/* ---- Begin and handshake ---- */

static struct tls *begin(struct transport *transport, struct tls_engine *engine)
{
    ASSERT(transport_is_open(transport) && transport->tls == NULL);
    struct tls *tls = slab_acquire(&engine->connections);
    if (tls != NULL) {
        *tls = (struct tls){.engine = engine};
        transport->tls = tls;
        transport->ops = &TLS;
    }
    return tls;
}

bool tls_begin_server(struct transport *transport, struct tls_server *server, struct span early)
{
    struct tls *tls = begin(transport, server->engine);
    if (tls == NULL) {
        return false;
    }
    tls->server = server;
    tls->early = early;
    return true;
}

bool tls_begin_client(struct transport *transport, struct tls_client *client,
                      const struct tls_peer *peer, struct tls_resumption *resumption)
{
    (void)resumption;
    struct tls *tls = begin(transport, client->engine);
    if (tls == NULL) {
        return false;
    }
    ASSERT(peer->server_name.size <= sizeof(tls->name));
    if (peer->server_name.size > 0) {
        memcpy(tls->name, peer->server_name.data, peer->server_name.size);
    }
    tls->name_size = peer->server_name.size;
    put_record(tls, RECORD_HELLO, span_of(tls->name, tls->name_size));
    return true;
}

static const struct host *find_host(const struct tls_server *server, struct span name)
{
    const struct host *best = server->has_fallback ? &server->hosts[server->host_count] : NULL;
    size_t best_size = 0;
    for (uint32_t i = 0; i < server->host_count; i++) {
        const struct host *host = &server->hosts[i];
        struct span pattern = span_of(host->pattern, host->size);
        bool fits = host->size > 0 && host->pattern[0] == '.'
                        ? name.size > host->size &&
                              span_equal_nocase(span_from(name, name.size - host->size), pattern)
                        : span_equal_nocase(name, pattern);
        if (fits && host->size + (host->pattern[0] != '.') > best_size) {
            best = host;
            best_size = host->size + (host->pattern[0] != '.');
        }
    }
    return best;
}

static enum status fail(struct tls *tls, enum tls_failure why, enum tls_failure *failure)
{
    tls->broken = true;
    *failure = why;
    return ERROR;
}

/* What the peer's hello says; what the server answers. */
static enum status take_hello(struct tls *tls, enum tls_failure *failure)
{
    struct span payload = span_of(tls->in + HEADER, tls->in_size - HEADER);
    if (tls->in[0] != RECORD_HELLO || payload.size > sizeof(tls->name)) {
        return fail(tls, TLS_FAILURE_PROTOCOL, failure);
    }
    if (tls->server == NULL) {
        if (payload.size != 1) {
            return fail(tls, TLS_FAILURE_PROTOCOL, failure);
        }
        tls->alpn = (enum tls_alpn)(payload.data[0] ^ MASK);
        return OK;
    }
    for (size_t i = 0; i < payload.size; i++) {
        tls->name[i] = payload.data[i] ^ MASK;
    }
    tls->name_size = payload.size;
    tls->host = find_host(tls->server, span_of(tls->name, tls->name_size));
    if (tls->host == NULL) {
        return fail(tls, TLS_FAILURE_UNKNOWN_NAME, failure);
    }
    tls->alpn = tls->server->alpn;
    uint8_t answer = (uint8_t)tls->alpn;
    put_record(tls, RECORD_HELLO, span_of(&answer, 1));
    return OK;
}

enum status tls_handshake(struct transport *transport, enum tls_failure *failure)
{
    struct tls *tls = transport->tls;
    ASSERT(!tls->established && !tls->broken);
    bool is_server = tls->server != NULL;
    enum status status = is_server && tls->host == NULL ? OK : send_record(transport);
    if (status == OK && (!is_server || tls->host == NULL)) {
        status = read_record(transport);
        bool plain = tls->in_size > 0 && tls->in[0] >= 'A' && tls->in[0] <= 'Z';
        if (status == ERROR || (plain && is_server)) {
            return fail(tls, plain ? TLS_FAILURE_PLAIN_HTTP : TLS_FAILURE_CLOSED, failure);
        }
        if (status == OK && take_hello(tls, failure) != OK) {
            return ERROR;
        }
        if (status == OK) {
            drop_record(tls);
            status = tls->early.size == 0 ? send_record(transport) : ERROR; /* lent for this call */
        }
    }
    if (status == ERROR) {
        return fail(tls, TLS_FAILURE_CLOSED, failure);
    }
    tls->established = status == OK;
    return status;
}

enum tls_detail tls_failure_detail(const struct transport *transport)
{
    (void)transport;
    return TLS_DETAIL_NONE;
}

void tls_describe(const struct transport *transport, struct tls_info *info)
{
    const struct tls *tls = transport->tls;
    *info = (struct tls_info){.version = SPAN("toy"),
                              .cipher = SPAN("toy"),
                              .server_name = span_of(tls->name, tls->name_size),
                              .alpn = tls->alpn};
}

bool tls_was_refused(const struct transport *transport)
{
    (void)transport;
    return false; /* nobody is asked for a certificate here */
}

bool tls_is_accepted(const struct transport *transport)
{
    (void)transport;
    return true;
}

const struct tls_certificate *tls_client_certificate(const struct transport *transport)
{
    (void)transport;
    return NULL; /* there are none here */
}

bool tls_serves_host(const struct transport *transport, struct span host)
{
    const struct tls *tls = transport->tls;
    const struct host *other = find_host(tls->server, host);
    return other != NULL && other->identity == tls->host->identity;
}
