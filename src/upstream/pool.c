#include "upstream/pool.h"

#include "base/assert.h"

static_assert(offsetof(struct pool_connection, session) == 0, "served as its session");

/* Without TLS the configuration knows; with TLS the peer has to agree. */
static struct stream *start_http(struct pool_connection *connection)
{
    struct session *session = &connection->session;
    if (!connection->endpoint->http2) {
        return http1_client_start(session);
    }
    if (tls_is_on(&session->transport)) {
        struct tls_info info;
        tls_describe(&session->transport, &info);
        if (info.alpn != TLS_ALPN_HTTP2) {
            connection->reason = REASON_UPSTREAM_TLS_NO_ALPN;
            return NULL;
        }
    }
    struct stream *stream = http2_client_start(session);
    connection->reason = stream == NULL ? REASON_BUFFERS_FULL : REASON_NONE;
    return stream;
}

bool pool_init(struct pool *pool, struct session_context *context, struct metrics *metrics,
               uint32_t capacity)
{
    *pool = (struct pool){.context = context, .metrics = metrics, .start = start_http};
    list_init(&pool->idle);
    list_init(&pool->waiters);
    return slab_init(&pool->connections, sizeof(struct pool_connection), capacity);
}

static uint32_t upstream_of(const struct pool_connection *connection)
{
    return connection->endpoint->config->upstream;
}

/* Takes an idle connection off both lists. */
static void take_off(struct pool *pool, struct pool_connection *connection)
{
    ASSERT(list_is_linked(&connection->age) && connection->endpoint->idle_count > 0);
    ASSERT(connection->leases == 0);
    list_unlink(&connection->age);
    list_unlink(&connection->session.link);
    connection->endpoint->idle_count--;
    metrics_upstream_leave(pool->metrics, upstream_of(connection), METRICS_STATE_IDLE);
}

/* The connection is closed: its memory becomes a free slot. */
static void free_slot(struct pool *pool, struct pool_connection *connection)
{
    ASSERT(connection->session.step == SESSION_CLOSED);
    ASSERT(!list_is_linked(&connection->age) && list_is_empty(&connection->waiters));
    ASSERT(connection->leases == 0);
    list_unlink(&connection->session.link);
    slab_release(&pool->connections, connection);
}

static void close_idle(struct pool *pool, struct pool_connection *connection)
{
    take_off(pool, connection);
    connection->session.ops->kill(&connection->session);
    free_slot(pool, connection);
}

void pool_drain(struct pool *pool)
{
    while (!list_is_empty(&pool->idle)) {
        close_idle(pool, CONTAINER_OF(pool->idle.next, struct pool_connection, age));
    }
}

void pool_deinit(struct pool *pool)
{
    if (pool->connections.memory != NULL) {
        pool_drain(pool);
        ASSERT(list_is_empty(&pool->waiters));
    }
    slab_deinit(&pool->connections);
}

void pool_forget(struct pool *pool, struct pool_connection *connection)
{
    take_off(pool, connection);
    free_slot(pool, connection);
}

static void lend(struct pool *pool, struct pool_connection *connection, struct stream *stream,
                 bool reused, struct pool_lease *lease)
{
    if (connection->leases++ == 0) {
        metrics_upstream_enter(pool->metrics, upstream_of(connection), METRICS_STATE_ACTIVE);
    }
    connection->endpoint->in_use++;
    *lease = (struct pool_lease){connection, stream, reused};
}

/* A multiplexed connection that is in use has place for others; the last used comes first. */
static void share(struct pool_connection *connection)
{
    if (connection->session.ops->multiplexed && !connection->single) {
        list_push_front(&connection->endpoint->shared, &connection->session.link);
    }
}

static bool lease_idle(struct pool *pool, struct endpoint *endpoint, struct pool_lease *lease)
{
    while (!list_is_empty(&endpoint->idle)) {
        struct session *session = CONTAINER_OF(endpoint->idle.next, struct session, link);
        struct pool_connection *connection = pool_connection_of(session);
        struct stream *stream = session->ops->open_stream(session);
        if (stream != NULL) {
            take_off(pool, connection);
            share(connection);
            lend(pool, connection, stream, true, lease);
            return true;
        }
        close_idle(pool, connection);
    }
    return false;
}

/* Full ones go to the back, so that few looks find those with room. */
static bool lease_shared(struct pool *pool, struct endpoint *endpoint, struct pool_lease *lease)
{
    for (int looks = 0; looks < SHARED_LOOKS_MAX && !list_is_empty(&endpoint->shared); looks++) {
        struct session *session = CONTAINER_OF(endpoint->shared.next, struct session, link);
        struct pool_connection *connection = pool_connection_of(session);
        bool opening = dialing_is_under_way(session);
        struct stream *stream = opening ? NULL : session->ops->open_stream(session);
        if (stream != NULL || (opening && connection->leases < SHARED_WAITERS_MAX)) {
            lend(pool, connection, stream, !opening, lease);
            return true;
        }
        list_unlink(&session->link);
        list_push_back(&endpoint->shared, &session->link);
    }
    return false;
}

/* A connection that is being opened is new to whoever joins it: many lost at once need but one. */
static bool lease_opening(struct pool *pool, struct endpoint *endpoint, struct pool_lease *lease)
{
    struct list *link = endpoint->shared.next;
    for (int looks = 0; looks < SHARED_LOOKS_MAX && link != &endpoint->shared; looks++) {
        struct session *session = CONTAINER_OF(link, struct session, link);
        struct pool_connection *connection = pool_connection_of(session);
        if (dialing_is_under_way(session) && connection->leases < SHARED_WAITERS_MAX) {
            lend(pool, connection, NULL, false, lease);
            return true;
        }
        link = link->next;
    }
    return false;
}

static bool lease_open(struct pool *pool, struct endpoint *endpoint, struct pool_lease *lease)
{
    if (!lease_shared(pool, endpoint, lease) && !lease_idle(pool, endpoint, lease)) {
        return false;
    }
    if (lease->reused) {
        metrics_count_at(pool->metrics, METRIC_UPSTREAM_CONNECTIONS_REUSED,
                         upstream_of(lease->connection));
    }
    return true;
}

static struct pool_connection *new_slot(struct pool *pool)
{
    struct pool_connection *connection = slab_acquire(&pool->connections);
    if (connection == NULL && !list_is_empty(&pool->idle)) {
        close_idle(pool, CONTAINER_OF(pool->idle.next, struct pool_connection, age));
        connection = slab_acquire(&pool->connections);
    }
    return connection;
}

/* How many handshakes begin a session anew shows whether earlier ones are resumed. */
static void note_handshake(struct pool *pool, const struct pool_connection *connection)
{
    const struct transport *transport = &connection->session.transport;
    if (tls_is_on(transport)) {
        struct tls_info info;
        tls_describe(transport, &info);
        metrics_count_at(pool->metrics,
                         info.resumed ? METRIC_UPSTREAM_TLS_RESUMED : METRIC_UPSTREAM_TLS_FULL,
                         upstream_of(connection));
    }
}

/* NULL: its reason says why not; the connection is closed. */
static struct stream *start_protocol(struct pool *pool, struct pool_connection *connection)
{
    struct session *session = &connection->session;
    note_handshake(pool, connection);
    struct stream *stream = pool->start(connection);
    if (stream == NULL) {
        ASSERT(connection->reason != REASON_NONE);
        timer_cancel(session->context->wheel, &session->timer);
        session->transport.ops->close(&session->transport);
        session->step = SESSION_CLOSED;
        return NULL;
    }
    ASSERT(session->step == SESSION_BUSY);
    list_unlink(&connection->session.link);
    connection->endpoint->multiplexed = connection->session.ops->multiplexed;
    share(connection);
    return stream;
}

enum status pool_lease(struct pool *pool, struct endpoint *endpoint, bool fresh,
                       struct span preface, struct pool_lease *lease)
{
    bool single = preface.size > 0;
    if (!single &&
        (fresh ? lease_opening(pool, endpoint, lease) : lease_open(pool, endpoint, lease))) {
        return OK;
    }
    struct pool_connection *connection = new_slot(pool);
    if (connection == NULL) {
        return AGAIN;
    }
    connection->endpoint = endpoint;
    connection->first = NULL;
    connection->reason = REASON_NONE;
    connection->leases = 0;
    connection->blamed = false;
    connection->single = single;
    list_init(&connection->age);
    list_init(&connection->waiters);
    dialing_init(&connection->dialing, pool->context, pool->timer_kind);
    connection->session.owner = connection;
    enum status status =
        dialing_connect(&connection->dialing, &endpoint->target, preface, pool->socket_kind);
    if (status == ERROR) {
        pool->lease_error = connection->session.transport.socket.error;
        pool->lease_reason = connection->dialing.reason;
        pool->lease_detail = connection->session.detail;
        free_slot(pool, connection);
        return ERROR;
    }
    metrics_count_at(pool->metrics, METRIC_UPSTREAM_CONNECTIONS_OPENED, upstream_of(connection));
    struct stream *stream = status == OK ? start_protocol(pool, connection) : NULL;
    if (status == OK && stream == NULL) {
        pool->lease_error = 0;
        pool->lease_reason = connection->reason;
        pool->lease_detail = TLS_DETAIL_NONE;
        free_slot(pool, connection);
        return ERROR;
    }
    if (status != OK && endpoint->multiplexed && !single) {
        list_push_front(&endpoint->shared, &connection->session.link);
    }
    lend(pool, connection, stream, false, lease);
    return OK;
}

void pool_open(struct pool *pool, struct pool_connection *connection)
{
    ASSERT(connection->leases > 0 && connection->first == NULL);
    list_unlink(&connection->session.link); /* nobody joins one that failed */
    if (connection->session.step == SESSION_CLOSED) {
        connection->reason = connection->dialing.reason;
    } else {
        connection->first = start_protocol(pool, connection);
    }
}

enum status pool_connected(struct pool_lease *lease, enum reason *reason)
{
    struct pool_connection *connection = lease->connection;
    struct session *session = &connection->session;
    if (lease->stream != NULL) {
        return OK;
    }
    if (dialing_is_under_way(session)) {
        return AGAIN;
    }
    if (connection->reason != REASON_NONE) {
        *reason = connection->reason;
        return ERROR;
    }
    lease->stream =
        connection->first != NULL ? connection->first : session->ops->open_stream(session);
    connection->first = NULL;
    return lease->stream != NULL ? OK : END;
}

/* Nobody has a lease any more. */
static void settle(struct pool *pool, struct pool_connection *connection)
{
    struct session *session = &connection->session;
    metrics_upstream_leave(pool->metrics, upstream_of(connection), METRICS_STATE_ACTIVE);
    list_unlink(&session->link);
    if (connection->first != NULL) {
        struct stream *stream = connection->first; /* nobody came for it */
        connection->first = NULL;
        stream->ops->release(stream, true);
    }
    if (session->step == SESSION_IDLE && !connection->single) {
        list_push_front(&connection->endpoint->idle, &session->link);
        list_push_back(&pool->idle, &connection->age);
        connection->endpoint->idle_count++;
        metrics_upstream_enter(pool->metrics, upstream_of(connection), METRICS_STATE_IDLE);
        return;
    }
    if (session->step != SESSION_CLOSED) {
        session->ops->kill(session);
    }
    free_slot(pool, connection);
}

void pool_return(struct pool *pool, struct pool_lease *lease, bool keep)
{
    struct pool_connection *connection = lease->connection;
    struct stream *stream = lease->stream;
    *lease = (struct pool_lease){0};
    ASSERT(connection->leases > 0 && connection->endpoint->in_use > 0);
    connection->endpoint->in_use--;
    connection->leases--;
    if (stream != NULL) {
        stream->ops->release(stream, keep);
    }
    if (connection->leases == 0) {
        settle(pool, connection);
    } else if (stream != NULL && list_is_linked(&connection->session.link)) {
        list_unlink(&connection->session.link); /* it has room: to the front */
        share(connection);
        pool->streams_free++;
    }
}

uint32_t pool_places(struct pool *pool)
{
    const struct slab *slots = &pool->connections;
    uint32_t places = slots->capacity - slots->in_use;
    if (places == 0 && !list_is_empty(&pool->idle)) {
        places = 1; /* an idle connection can give its slot up */
    }
    places += pool->streams_free;
    pool->streams_free = 0;
    return places;
}
