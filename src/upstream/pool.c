#include "upstream/pool.h"

#include "base/assert.h"

bool pool_init(struct pool *pool, struct session_context *context, struct metrics *metrics,
               uint32_t capacity)
{
    *pool = (struct pool){.context = context, .metrics = metrics};
    list_init(&pool->idle);
    list_init(&pool->waiters);
    return slab_init(&pool->connections, sizeof(struct pool_connection), capacity);
}

static uint32_t upstream_of(const struct pool_connection *connection)
{
    return connection->endpoint->config->upstream;
}

static struct session *session_of(struct pool_connection *connection)
{
    return &connection->client.wire.session;
}

/* Takes an idle connection off both lists. */
static void take_off(struct pool *pool, struct pool_connection *connection)
{
    ASSERT(list_is_linked(&connection->age) && connection->endpoint->idle_count > 0);
    list_unlink(&connection->age);
    list_unlink(&session_of(connection)->link);
    connection->endpoint->idle_count--;
    metrics_upstream_leave(pool->metrics, upstream_of(connection), METRICS_STATE_IDLE);
}

/* The connection is closed: its memory becomes a free slot. */
static void free_slot(struct pool *pool, struct pool_connection *connection)
{
    ASSERT(session_of(connection)->step == SESSION_CLOSED);
    ASSERT(!list_is_linked(&connection->age));
    slab_release(&pool->connections, connection);
}

static void close_idle(struct pool *pool, struct pool_connection *connection)
{
    take_off(pool, connection);
    session_of(connection)->ops->kill(session_of(connection));
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

static struct pool_connection *reuse(struct pool *pool, struct endpoint *endpoint)
{
    while (!list_is_empty(&endpoint->idle)) {
        struct session *session = CONTAINER_OF(endpoint->idle.next, struct session, link);
        struct pool_connection *connection = pool_connection_of(session);
        if (http1_client_reuse(&connection->client)) {
            take_off(pool, connection);
            metrics_count_at(pool->metrics, METRIC_UPSTREAM_CONNECTIONS_REUSED,
                             upstream_of(connection));
            return connection;
        }
        close_idle(pool, connection);
    }
    return NULL;
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

static void lend(struct pool *pool, struct pool_connection *connection)
{
    connection->endpoint->in_use++;
    metrics_upstream_enter(pool->metrics, upstream_of(connection), METRICS_STATE_ACTIVE);
}

enum status pool_lease(struct pool *pool, struct endpoint *endpoint, bool fresh,
                       struct pool_connection **connection)
{
    struct pool_connection *lease = fresh ? NULL : reuse(pool, endpoint);
    if (lease != NULL) {
        lease->reused = true;
        lend(pool, lease);
        *connection = lease;
        return OK;
    }
    lease = new_slot(pool);
    if (lease == NULL) {
        return AGAIN;
    }
    lease->endpoint = endpoint;
    lease->reused = false;
    list_init(&lease->age);
    http1_client_init(&lease->client, pool->context, pool->timer_kind);
    session_of(lease)->owner = lease;
    if (http1_client_connect(&lease->client, &endpoint->config->address, pool->socket_kind) != OK) {
        pool->lease_error = session_of(lease)->transport.socket.error;
        free_slot(pool, lease);
        return ERROR;
    }
    metrics_count_at(pool->metrics, METRIC_UPSTREAM_CONNECTIONS_OPENED, upstream_of(lease));
    lend(pool, lease);
    *connection = lease;
    return OK;
}

void pool_return(struct pool *pool, struct pool_connection *connection, bool keep)
{
    struct stream *stream = &connection->client.wire.stream;
    ASSERT(connection->endpoint->in_use > 0);
    connection->endpoint->in_use--;
    metrics_upstream_leave(pool->metrics, upstream_of(connection), METRICS_STATE_ACTIVE);
    stream->ops->release(stream, keep);
    connection->client.wire.event_closed = false; /* told here and now, not later */
    connection->client.wire.event_wake = false;
    if (http1_client_is_idle(&connection->client)) {
        list_push_front(&connection->endpoint->idle, &session_of(connection)->link);
        list_push_back(&pool->idle, &connection->age);
        connection->endpoint->idle_count++;
        metrics_upstream_enter(pool->metrics, upstream_of(connection), METRICS_STATE_IDLE);
    } else {
        free_slot(pool, connection);
    }
}
