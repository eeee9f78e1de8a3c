#include "proxy/connection.h"

#include "base/assert.h"
#include "proxy/exchange.h"

/* Whichever session it is, its address is that of the part all sessions share. */
static_assert(offsetof(struct connection, session) == 0, "a connection's session is its beginning");
static_assert(offsetof(struct proxied, session) == 0, "see struct connection");
static_assert(offsetof(struct opening, session) == 0, "see struct connection");
static_assert(offsetof(struct http1_session, wire.session) == 0, "see struct connection");
static_assert(offsetof(struct http2_session, session) == 0, "see struct connection");

/* As whom those count who have not been named yet. */
static const struct address UNNAMED = {.family = ADDRESS_NONE};

static void note_state(struct proxy *proxy, struct connection *connection, bool active)
{
    if (connection->active == active) {
        return;
    }
    metrics_connection_leave(proxy->metrics, connection->listener,
                             active ? METRICS_STATE_IDLE : METRICS_STATE_ACTIVE);
    metrics_connection_enter(proxy->metrics, connection->listener,
                             active ? METRICS_STATE_ACTIVE : METRICS_STATE_IDLE);
    connection->active = active;
}

/* What failed as a whole, beside or without its requests, has a record of its own. */
static void record_failure(struct proxy *proxy, const struct connection *connection)
{
    struct refused_request refused = {.peer = &connection->peer,
                                      .listener = connection->listener,
                                      .reason = connection->session.failure,
                                      .detail = connection->session.detail,
                                      .began = connection->since};
    if (refused.reason == REASON_NONE) {
        return;
    }
    if (opening_is(&connection->session)) {
        opening_describe(&connection->opening, &refused.tls_version, &refused.sni);
    }
    exchange_record_failure(proxy, &refused);
}

static void forget(struct proxy *proxy, struct connection *connection)
{
    struct session *session = &connection->session;
    ASSERT(session->step == SESSION_CLOSED);
    record_failure(proxy, connection);
    list_unlink(&session->link);
    shedding_forget_connection(proxy, connection);
    if (connection->counted) {
        client_counts_leave(&proxy->clients, connection->unnamed ? &UNNAMED : &connection->peer);
    }
    metrics_connection_leave(proxy->metrics, connection->listener,
                             connection->active ? METRICS_STATE_ACTIVE : METRICS_STATE_IDLE);
    metrics_count_at(proxy->metrics, METRIC_CONNECTIONS_CLOSED, connection->listener);
    slab_release(&proxy->connections, connection);
}

static bool is_among(const struct generation *generation, struct ref blocks,
                     const struct address *address)
{
    const struct address_block *block = generation_array(generation, blocks);
    for (uint32_t i = 0; i < blocks.count; i++) {
        if (address_block_contains(&block[i], address)) {
            return true;
        }
    }
    return false;
}

bool connection_trusts(const struct proxy *proxy, uint32_t listener, const struct address *address)
{
    const struct generation *generation = proxy->generation;
    return is_among(generation, generation_listener(generation, listener)->trusted_proxies,
                    address);
}

/* Whether the new connection fits the bounds of all workers together. */
static bool fits(struct proxy *proxy)
{
    const struct client_counts *clients = &proxy->clients;
    proxy->connections_elsewhere = client_counts_elsewhere(clients);
    bool full = clients->connections >= proxy->connections_room ||
                clients->connections + proxy->connections_elsewhere >= proxy->connections_max;
    return !full || shedding_make_room(proxy);
}

/* Counts the connection against its client's bound, if there is room; it is named. */
static enum reason admit_client(struct proxy *proxy, struct connection *connection)
{
    struct client_counts *clients = &proxy->clients;
    if (connection->peer.family != ADDRESS_UNIX) { /* who has no address is no client of its own */
        uint64_t of_client = client_counts_of(clients, &connection->peer);
        uint64_t most = proxy->generation->header->server.limits.connections_per_client;
        limits_note_client(&proxy->limits, of_client < most ? of_client + 1 : of_client);
        if (of_client >= most) {
            return REASON_CLIENT_CONNECTIONS;
        }
    }
    client_counts_enter(clients, &connection->peer);
    connection->counted = true;
    return REASON_NONE;
}

static enum reason admit(struct proxy *proxy, struct connection *connection)
{
    if (!fits(proxy)) {
        return REASON_CONNECTIONS_FULL;
    }
    if (!connection->unnamed) {
        return admit_client(proxy, connection);
    }
    client_counts_enter(&proxy->clients, &UNNAMED);
    connection->counted = true;
    return REASON_NONE;
}

/* It is known whose it is: begins what the listener speaks. */
static void begin_spoken(struct proxy *proxy, struct connection *connection, enum reason refusal)
{
    struct session *session = &connection->session;
    struct tls_server *tls = tls_setup_server(&proxy->tls, proxy->generation, connection->listener);
    connection->trusted = connection_trusts(proxy, connection->listener, &connection->peer);
    if (tls != NULL) {
        opening_start(session, tls);
    } else {
        http1_session_start(session, NULL);
        if (generation_listener(proxy->generation, connection->listener)->h2c != 0) {
            http1_session_yield_to_http2(&connection->http1);
        }
    }
    if (refusal != REASON_NONE) {
        session->ops->refuse(session, refusal);
    }
}

/* The header has come: whom it names is the client, whoever brought it is nobody any more. */
static void take_name(struct proxy *proxy, struct connection *connection)
{
    struct session *session = &connection->session;
    const struct proxy_header header = connection->proxied.header;
    ASSERT(connection->unnamed && connection->counted);
    client_counts_leave(&proxy->clients, &UNNAMED);
    connection->counted = false;
    connection->unnamed = false;
    if (header.source.family != ADDRESS_NONE) {
        connection->peer = header.source;
    }
    enum reason refusal = admit_client(proxy, connection);
    begin_spoken(proxy, connection, refusal);
    if (refusal == REASON_NONE) {
        session->ops->run(session); /* bytes may have come behind it */
    }
}

/* The client has begun with HTTP/2's preface: another session in the same place. */
static void begin_http2(struct proxy *proxy, struct connection *connection)
{
    const struct session_early early = http1_session_leave(&connection->session);
    shedding_make_http2_room(proxy);
    http2_session_start(&connection->session, &early);
}

/* It is known what is spoken: another session in the same place. */
static void begin_protocol(struct proxy *proxy, struct session *session)
{
    if (proxied_is(session)) {
        take_name(proxy, connection_of_session(session));
        return;
    }
    if (!opening_is(session)) {
        begin_http2(proxy, connection_of_session(session));
        return;
    }
    enum reason refusal = opening_of(session)->refusal;
    if (opening_of(session)->alpn == TLS_ALPN_HTTP2) {
        shedding_make_http2_room(proxy);
        http2_session_start(session, NULL);
    } else {
        http1_session_start(session, NULL);
    }
    if (refusal != REASON_NONE) {
        session->ops->refuse(session, refusal);
    } else if (proxy->draining) {
        session->ops->drain(session);
    } else {
        session->ops->run(session); /* bytes may have come with the end of the handshake */
    }
}

void connection_serve(struct proxy *proxy, struct session *session)
{
    struct stream *stream = NULL;
    enum session_event event = session->ops->next_event(session, &stream);
    while (event != SESSION_EVENT_NONE) {
        if (event == SESSION_EVENT_CLOSED) {
            forget(proxy, connection_of_session(session));
            return;
        }
        if (event == SESSION_EVENT_OPEN) {
            begin_protocol(proxy, session);
        } else if (event == SESSION_EVENT_HEAD) {
            note_state(proxy, connection_of_session(session), true);
            if (!exchange_begin(proxy, stream)) {
                stream->ops->release(stream, false); /* says CLOSED next */
            }
        } else if (stream->holder != NULL) {
            exchange_wake(stream->holder);
        }
        event = session->ops->next_event(session, &stream);
    }
    shedding_note_connection(proxy, connection_of_session(session));
}

void connection_release(struct proxy *proxy, struct stream *stream, bool keep)
{
    struct connection *connection = connection_of_stream(stream);
    struct session *session = &connection->session;
    stream->ops->release(stream, keep);
    if (session->step != SESSION_CLOSED) {
        note_state(proxy, connection, session->step == SESSION_BUSY); /* other streams */
    }
    connection_serve(proxy, session);
}

static void begin(struct proxy *proxy, struct connection *connection)
{
    struct session *session = &connection->session;
    const struct generation_listener *listener =
        generation_listener(proxy->generation, connection->listener);
    connection->redirects = listener->redirect_status != 0;
    connection->unnamed = is_among(proxy->generation, listener->proxied, &connection->peer);
    list_push_back(&proxy->open_connections, &session->link);
    metrics_count_at(proxy->metrics, METRIC_CONNECTIONS_ACCEPTED, connection->listener);
    metrics_connection_enter(proxy->metrics, connection->listener, METRICS_STATE_IDLE);
    enum reason refusal = admit(proxy, connection);
    if (connection->unnamed) {
        proxied_start(session);
        if (refusal != REASON_NONE) {
            session->ops->refuse(session, refusal);
        }
    } else {
        begin_spoken(proxy, connection, refusal);
    }
    connection_serve(proxy, session);
}

/* No memory is left even to say so: the connection is taken off the queue and reset. */
static enum status turn_away(struct proxy *proxy, struct io_socket *listener, uint32_t index)
{
    struct io_socket socket;
    struct address peer;
    io_socket_init(&socket);
    enum status status = io_accept(proxy->io, listener, &socket, SOCKET_CLIENT, &peer);
    if (status == OK) {
        io_reset(proxy->io, &socket);
        exchange_record_refused(proxy, &(struct refused_request){.peer = &peer,
                                                                 .listener = index,
                                                                 .reason = REASON_CONNECTIONS_FULL,
                                                                 .began = io_now(proxy->io)});
    }
    return status;
}

enum status connection_accept(struct proxy *proxy, struct io_socket *listener, uint32_t index)
{
    struct connection *connection = slab_acquire(&proxy->connections);
    if (connection == NULL && shedding_make_place(proxy)) {
        connection = slab_acquire(&proxy->connections);
    }
    if (connection == NULL) {
        return turn_away(proxy, listener, index);
    }
    session_init(&connection->session, &proxy->sessions, TIMER_SESSION);
    connection->session.owner = connection;
    connection->listener = index;
    connection->trusted = false;
    connection->unnamed = false;
    connection->counted = false;
    connection->active = false;
    connection->listed = SESSION_CLOSED;
    connection->since = io_now(proxy->io);
    list_init(&connection->shed_link);
    enum status status = io_accept(proxy->io, listener, &connection->session.transport.socket,
                                   SOCKET_CLIENT, &connection->peer);
    if (status != OK) {
        slab_release(&proxy->connections, connection);
        return status;
    }
    begin(proxy, connection);
    return OK;
}

/* The drain ends before the head does: there was a request all the same. */
static void record_cut_head(struct proxy *proxy, const struct connection *connection)
{
    if (connection->session.step == SESSION_HEAD) {
        exchange_record_refused(proxy, &(struct refused_request){.peer = &connection->peer,
                                                                 .listener = connection->listener,
                                                                 .reason = REASON_DRAINING,
                                                                 .began = connection->since});
    }
}

void connection_abort(struct proxy *proxy, struct session *session)
{
    record_cut_head(proxy, connection_of_session(session));
    session->ops->kill(session);
    connection_serve(proxy, session);
}
