/*
 * A toy for the simulator that behaves as TLS does, without secrecy: records, a handshake of three
 * messages, names that choose a certificate, an end that is told. What a real library is strict
 * about it is strict about, too: a record that could not be written out must be offered again,
 * which is asserted here byte by byte. And what it does to its callers it does as well: it reads
 * ahead, so that bytes stand here of which the socket knows nothing any more, a record's part
 * among them; it holds buffers only while something stands in them, from memory that has an end;
 * a peer that has gone leaves what it had said.
 *
 *     record     type, length (two bytes), payload, each of its bytes changed
 *     HELLO      of the client: a set of protocols (a bit each; none: it does not ask), and the
 *                name; of the server: the protocol
 *     FINISHED   of the client, the protocol again: from now on there is data
 *     DATA       1 to RECORD_MAX bytes
 *     GOODBYE    no more from this side; before the handshake's end: a refusal
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/slab.h"
#include "net/tls.h"

enum { HEADER = 3, RECORD_MAX = 1024, INBOX_MAX = 2 * (HEADER + RECORD_MAX), MASK = 0x5a };

enum record {
    RECORD_FINISHED = 0x14,
    RECORD_GOODBYE = 0x15,
    RECORD_HELLO = 0x16,
    RECORD_DATA = 0x17,
};

struct tls_engine {
    struct slab connections;
    struct slab buffers; /* INBOX_MAX bytes each: two for a connection, while it needs them */
    uint64_t heap_max;
    uint32_t shaking; /* connections in their handshake */
    uint32_t hosts;
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
    enum tls_alpn alpn[2];
};

struct tls_client {
    struct tls_engine *engine;
    uint8_t offers; /* a bit for each protocol */
};

struct tls {
    struct tls_engine *engine;
    const struct tls_server *server; /* NULL: we are the client */
    const struct host *host;
    struct span early;
    enum tls_failure failure; /* why it is broken, during its handshake */
    enum tls_alpn alpn;
    uint8_t offers;
    bool answered; /* a client's: FINISHED is on its way */
    bool established;
    bool ended;
    bool cut; /* ended without a GOODBYE */
    bool broken;
    bool mute; /* nothing more can be written */
    bool said_goodbye;
    uint8_t name[TLS_HOST_NAME_MAX];
    size_t name_size;
    uint8_t *in; /* of the engine's buffers; NULL: nothing has come */
    size_t in_size;
    size_t in_read; /* of the first record's payload */
    uint8_t *out;   /* likewise; NULL: nothing waits */
    size_t out_size;
    size_t out_sent;
};

/* ---- The engine, servers and clients ---- */

uint64_t tls_engine_bytes(uint32_t connections)
{
    return sizeof(struct tls_engine) + slab_bytes(sizeof(struct tls), connections) +
           slab_bytes(INBOX_MAX, 2 * connections);
}

struct tls_engine *tls_engine_create(uint32_t connections, uint64_t heap_max)
{
    struct tls_engine *engine = calloc(1, sizeof(*engine));
    if (engine == NULL) {
        return NULL;
    }
    engine->heap_max = heap_max;
    if (!slab_init(&engine->connections, sizeof(struct tls), connections) ||
        !slab_init(&engine->buffers, INBOX_MAX, 2 * connections)) {
        tls_engine_destroy(engine);
        return NULL;
    }
    return engine;
}

void tls_engine_destroy(struct tls_engine *engine)
{
    if (engine != NULL) {
        slab_deinit(&engine->buffers);
        slab_deinit(&engine->connections);
        free(engine);
    }
}

void tls_engine_set_ticket_keys(struct tls_engine *engine, const struct ticket_keys *keys)
{
    (void)engine, (void)keys;
}

/* As much as the library would take, by the figures that memory is planned with. */
uint64_t tls_engine_heap(const struct tls_engine *engine)
{
    return TLS_HEAP_BASE + (uint64_t)engine->hosts * TLS_HEAP_HOST +
           (uint64_t)engine->connections.in_use * TLS_HEAP_IDLE +
           (uint64_t)engine->shaking * (TLS_HEAP_HANDSHAKE - TLS_HEAP_BUSY) +
           (uint64_t)engine->buffers.in_use * (TLS_HEAP_BUSY / 2);
}

static bool has_memory(const struct tls_engine *engine)
{
    return tls_engine_heap(engine) < engine->heap_max;
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
    if (host->size > 0) {
        memcpy(host->pattern, source->pattern.data, host->size);
    }
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
                                  .alpn = {settings->alpn[0], settings->alpn[1]}};
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
    engine->hosts += server->host_count + 1;
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

static uint8_t bit_of(enum tls_alpn alpn)
{
    return (uint8_t)(alpn == TLS_ALPN_NONE ? 0U : 1U << (unsigned)alpn);
}

struct tls_client *tls_client_create(struct tls_engine *engine,
                                     const struct tls_client_settings *settings,
                                     char error[TLS_ERROR_MAX])
{
    struct tls_client *client = calloc(1, sizeof(*client));
    error[0] = '\0';
    if (client != NULL) {
        client->engine = engine;
        client->offers = (uint8_t)(bit_of(settings->alpn[0]) | bit_of(settings->alpn[1]));
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

static enum status fail(struct tls *tls, enum tls_failure why)
{
    tls->broken = true;
    tls->failure = why;
    return ERROR;
}

static uint8_t *take_buffer(struct tls *tls)
{
    return has_memory(tls->engine) ? slab_acquire(&tls->engine->buffers) : NULL;
}

static void give_buffer(struct tls *tls, uint8_t **buffer)
{
    if (*buffer != NULL) {
        slab_release(&tls->engine->buffers, *buffer);
        *buffer = NULL;
    }
}

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

static bool is_record(const struct tls *tls)
{
    return tls->in_size == 0 || (tls->in[0] >= RECORD_FINISHED && tls->in[0] <= RECORD_DATA &&
                                 record_size(tls) <= HEADER + RECORD_MAX);
}

/* OK: a whole record stands at the front of `in`. As much is read as has room. */
static enum status read_record(struct transport *transport)
{
    struct tls *tls = transport->tls;
    if (tls->in == NULL && (tls->in = take_buffer(tls)) == NULL) {
        return fail(tls, TLS_FAILURE_MEMORY);
    }
    while (is_record(tls) && (tls->in_size < HEADER || tls->in_size < record_size(tls))) {
        size_t got = 0;
        enum status status =
            receive(transport, tls->in + tls->in_size, INBOX_MAX - tls->in_size, &got);
        if (status != OK) {
            tls->cut = status != AGAIN;
            tls->ended = tls->ended || tls->cut;
            if (tls->in_size == 0) {
                give_buffer(tls, &tls->in);
            }
            return status == AGAIN ? AGAIN : ERROR;
        }
        tls->in_size += got;
    }
    return is_record(tls) ? OK : fail(tls, TLS_FAILURE_PROTOCOL);
}

static void drop_record(struct tls *tls)
{
    size_t size = record_size(tls);
    ASSERT(size <= tls->in_size);
    tls->in_size -= size;
    tls->in_read = 0;
    memmove(tls->in, tls->in + size, tls->in_size);
    if (tls->in_size == 0) {
        give_buffer(tls, &tls->in);
    }
}

static size_t payload_size(const struct tls *tls)
{
    return record_size(tls) - HEADER;
}

static bool put_record(struct tls *tls, enum record type, struct span payload)
{
    ASSERT(tls->out == NULL && payload.size <= RECORD_MAX);
    tls->out = take_buffer(tls);
    if (tls->out == NULL) {
        return false;
    }
    tls->out[0] = (uint8_t)type;
    tls->out[1] = (uint8_t)(payload.size >> 8);
    tls->out[2] = (uint8_t)payload.size;
    for (size_t i = 0; i < payload.size; i++) {
        tls->out[HEADER + i] = payload.data[i] ^ MASK;
    }
    tls->out_size = HEADER + payload.size;
    tls->out_sent = 0;
    return true;
}

static enum status send_record(struct transport *transport)
{
    struct tls *tls = transport->tls;
    while (tls->out != NULL && tls->out_sent < tls->out_size) {
        struct iovec piece = {tls->out + tls->out_sent, tls->out_size - tls->out_sent};
        size_t put = 0;
        enum status status = io_write(transport->io, &transport->socket, &piece, 1, &put);
        if (status != OK) {
            return status;
        }
        tls->out_sent += put;
    }
    give_buffer(tls, &tls->out);
    return OK;
}

/* ---- A connection's bytes ---- */

/* Also of a record that has come in part. */
static bool sim_has_buffered(const struct transport *transport)
{
    const struct tls *tls = transport->tls;
    return !tls->ended && tls->in_size > 0;
}

/* Makes sure that a DATA record with unread bytes stands in `in`. */
static enum status next_data(struct transport *transport)
{
    struct tls *tls = transport->tls;
    enum status status = read_record(transport);
    if (status != OK) {
        return status;
    }
    if (tls->in[0] == RECORD_GOODBYE && payload_size(tls) == 0) {
        tls->ended = true;
        return END;
    }
    bool good = tls->in[0] == RECORD_DATA && payload_size(tls) > 0;
    return good ? OK : fail(tls, TLS_FAILURE_PROTOCOL);
}

/* What of the record's payload has room. */
static size_t take_data(struct tls *tls, uint8_t *data, size_t size)
{
    size_t left = payload_size(tls) - tls->in_read;
    size_t part = left < size ? left : size;
    for (size_t i = 0; i < part; i++) {
        data[i] = tls->in[HEADER + tls->in_read + i] ^ MASK;
    }
    tls->in_read += part;
    if (part == left) {
        drop_record(tls);
    }
    return part;
}

static enum status sim_read(struct transport *transport, void *data, size_t size, size_t *got)
{
    struct tls *tls = transport->tls;
    enum status status = AGAIN;
    size_t sum = 0;
    ASSERT(tls->established && size > 0);
    if (tls->ended || tls->broken) {
        return tls->cut || tls->broken ? ERROR : END;
    }
    while (sum < size && transport_may_read(transport)) {
        status = next_data(transport);
        if (status != OK) {
            break; /* an end, or a failure, shows the next time, too */
        }
        sum += take_data(tls, (uint8_t *)data + sum, size - sum);
    }
    if (sum == 0) {
        return status;
    }
    *got = sum;
    return OK;
}

/* What stands behind the first `skip` bytes of the pieces, up to a record's worth. */
static size_t gather(const struct iovec *pieces, int count, size_t skip, uint8_t *into)
{
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        size_t over = skip < pieces[i].iov_len ? skip : pieces[i].iov_len;
        size_t left = pieces[i].iov_len - over;
        size_t part = left < RECORD_MAX - size ? left : RECORD_MAX - size;
        if (part > 0) {
            memcpy(into + size, (const uint8_t *)pieces[i].iov_base + over, part);
        }
        skip -= over;
        size += part;
    }
    return size;
}

/* One record more, or the one that waits; its payload's bytes, which must be what is offered. */
static enum status write_record(struct transport *transport, struct span front, size_t *put)
{
    struct tls *tls = transport->tls;
    if (tls->out == NULL && !put_record(tls, RECORD_DATA, front)) {
        return fail(tls, TLS_FAILURE_MEMORY);
    }
    const size_t payload = tls->out_size - HEADER;
    ASSERT(front.size >= payload); /* no shorter, and the same */
    for (size_t i = 0; i < payload; i++) {
        ASSERT((front.data[i] ^ MASK) == tls->out[HEADER + i]);
    }
    enum status status = send_record(transport);
    if (status == ERROR) { /* what had come is still to be read */
        tls->mute = true;
        transport->socket.ready |= IO_READABLE;
    }
    *put = status == OK ? payload : 0;
    return status;
}

static enum status sim_write(struct transport *transport, const struct iovec *pieces, int count,
                             size_t *put)
{
    struct tls *tls = transport->tls;
    uint8_t front[RECORD_MAX];
    size_t sum = 0;
    ASSERT(tls->established && count > 0);
    if (tls->broken || tls->mute || tls->said_goodbye) {
        return ERROR;
    }
    size_t size = gather(pieces, count, 0, front);
    while (size > 0) {
        size_t part = 0;
        enum status status = write_record(transport, span_of(front, size), &part);
        if (status != OK) {
            if (sum == 0) {
                return status;
            }
            break; /* a failure shows the next time, too */
        }
        sum += part;
        size = gather(pieces, count, sum, front);
    }
    *put = sum;
    return sum > 0 ? OK : AGAIN;
}

/* AGAIN: the socket has no room for it. Without memory, or behind half a record, FIN goes alone. */
static enum status say_goodbye(struct transport *transport)
{
    struct tls *tls = transport->tls;
    if (!tls->established || tls->broken || tls->mute) {
        return OK;
    }
    if (!tls->said_goodbye) {
        tls->said_goodbye = true;
        tls->mute = tls->out != NULL || !put_record(tls, RECORD_GOODBYE, SPAN_EMPTY);
    }
    enum status status = tls->mute ? OK : send_record(transport);
    tls->mute = tls->mute || status == ERROR;
    return status == AGAIN ? AGAIN : OK;
}

static enum status sim_shutdown(struct transport *transport)
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
    give_buffer(tls, &tls->in);
    give_buffer(tls, &tls->out);
    tls->engine->shaking -= tls->established ? 0 : 1;
    transport_restore_tcp(transport);
    slab_release(&tls->engine->connections, tls);
}

static void sim_close(struct transport *transport)
{
    if (transport_is_open(transport)) { /* the simulator may have killed the process */
        (void)say_goodbye(transport);
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
    struct tls *tls = has_memory(engine) ? slab_acquire(&engine->connections) : NULL;
    if (tls != NULL) {
        *tls = (struct tls){.engine = engine};
        engine->shaking++;
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
    uint8_t hello[1 + TLS_HOST_NAME_MAX] = {client->offers};
    ASSERT(peer->server_name.size <= TLS_HOST_NAME_MAX);
    tls->offers = client->offers;
    tls->name_size = peer->server_name.size;
    if (tls->name_size > 0) {
        memcpy(tls->name, peer->server_name.data, tls->name_size);
        memcpy(hello + 1, peer->server_name.data, tls->name_size);
    }
    if (!put_record(tls, RECORD_HELLO, span_of(hello, 1 + tls->name_size))) {
        tls_abandon(transport);
        return false;
    }
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

/* What a client asked for, in our order. False: nothing of that. */
static bool choose_alpn(struct tls *tls)
{
    for (int i = 0; i < 2 && tls->offers != 0; i++) {
        if ((tls->offers & bit_of(tls->server->alpn[i])) != 0) {
            tls->alpn = tls->server->alpn[i];
            return true;
        }
    }
    return tls->offers == 0 || tls->server->alpn[0] == TLS_ALPN_NONE;
}

/* The record that is due: OK, it stands in `in`. */
static enum status expect(struct transport *transport, enum record type, size_t least, size_t most)
{
    struct tls *tls = transport->tls;
    enum status status = read_record(transport);
    if (status == ERROR) {
        return ERROR;
    }
    if (tls->in_size > 0 && tls->in[0] == RECORD_GOODBYE) {
        return status == OK ? fail(tls, TLS_FAILURE_REFUSED) : status;
    }
    bool good = payload_size(tls) >= least && payload_size(tls) <= most;
    bool other = tls->in_size > 0 && tls->in[0] != (uint8_t)type;
    return other || (status == OK && !good) ? fail(tls, TLS_FAILURE_PROTOCOL) : status;
}

/* What the client's hello says; what the server answers. */
static enum status take_client_hello(struct tls *tls)
{
    tls->offers = tls->in[HEADER] ^ MASK;
    tls->name_size = payload_size(tls) - 1;
    for (size_t i = 0; i < tls->name_size; i++) {
        tls->name[i] = tls->in[HEADER + 1 + i] ^ MASK;
    }
    drop_record(tls);
    tls->host = find_host(tls->server, span_of(tls->name, tls->name_size));
    if (tls->host == NULL) {
        return fail(tls, TLS_FAILURE_UNKNOWN_NAME);
    }
    if (!choose_alpn(tls)) {
        return fail(tls, TLS_FAILURE_NO_ALPN);
    }
    const uint8_t answer = (uint8_t)tls->alpn;
    return put_record(tls, RECORD_HELLO, span_of(&answer, 1)) ? OK : fail(tls, TLS_FAILURE_MEMORY);
}

static enum status take_server_hello(struct tls *tls)
{
    const uint8_t answer = tls->in[HEADER] ^ MASK;
    bool good = answer == TLS_ALPN_NONE ||
                (answer <= TLS_ALPN_HTTP2 && (tls->offers & bit_of((enum tls_alpn)answer)) != 0);
    drop_record(tls);
    if (!good) {
        return fail(tls, TLS_FAILURE_PROTOCOL);
    }
    tls->alpn = (enum tls_alpn)answer;
    tls->answered = true;
    return put_record(tls, RECORD_FINISHED, span_of(&answer, 1)) ? OK
                                                                 : fail(tls, TLS_FAILURE_MEMORY);
}

static enum status shake_as_server(struct transport *transport)
{
    struct tls *tls = transport->tls;
    enum status status = OK;
    if (tls->host == NULL) {
        status = expect(transport, RECORD_HELLO, 1, 1 + sizeof(tls->name));
        if (tls->in_size > 0 && tls->in[0] >= 'A' && tls->in[0] <= 'Z') {
            return fail(tls, TLS_FAILURE_PLAIN_HTTP);
        }
        status = status == OK ? take_client_hello(tls) : status;
    }
    status = status == OK ? send_record(transport) : status;
    status = status == OK ? expect(transport, RECORD_FINISHED, 1, 1) : status;
    if (status == OK) {
        bool same = (tls->in[HEADER] ^ MASK) == tls->alpn;
        drop_record(tls);
        status = same ? OK : fail(tls, TLS_FAILURE_PROTOCOL);
    }
    return status;
}

static enum status shake_as_client(struct transport *transport)
{
    struct tls *tls = transport->tls;
    enum status status = send_record(transport);
    if (status == OK && !tls->answered) {
        status = expect(transport, RECORD_HELLO, 1, 1);
        status = status == OK ? take_server_hello(tls) : status;
        status = status == OK ? send_record(transport) : status;
    }
    return status;
}

enum status tls_handshake(struct transport *transport, enum tls_failure *failure)
{
    struct tls *tls = transport->tls;
    ASSERT(!tls->established && !tls->broken);
    tls->failure = TLS_FAILURE_CLOSED;
    enum status status =
        tls->server != NULL ? shake_as_server(transport) : shake_as_client(transport);
    if (status == AGAIN && tls->early.size > 0) { /* lent for this call only */
        status = fail(tls, TLS_FAILURE_PROTOCOL);
    }
    if (status == ERROR) {
        bool alerts = tls->failure == TLS_FAILURE_PROTOCOL ||
                      tls->failure == TLS_FAILURE_UNKNOWN_NAME ||
                      tls->failure == TLS_FAILURE_NO_ALPN;
        tls->broken = true;
        if (alerts && tls->out == NULL && put_record(tls, RECORD_GOODBYE, SPAN_EMPTY)) {
            (void)send_record(transport);
        }
        *failure = tls->failure;
    } else if (status == OK) {
        tls->established = true;
        tls->engine->shaking--;
    }
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
    bool agreed = tls->host != NULL || tls->answered;
    *info = (struct tls_info){.version = agreed ? SPAN("toy") : SPAN_EMPTY,
                              .cipher = agreed ? SPAN("toy") : SPAN_EMPTY,
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
