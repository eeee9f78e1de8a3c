#include "proxy/attempt.h"

#include <errno.h>

#include "base/assert.h"
#include "proxy/exchange.h"
#include "proxy/forward.h"

static void enter(struct exchange *exchange, enum attempt_step step)
{
    exchange->attempt.step = step;
    exchange->attempt.step_began = io_now(exchange->proxy->io);
    exchange_note_stage(exchange);
}

static const struct generation_timeouts *timeouts_of(const struct exchange *exchange)
{
    return &exchange->proxy->generation->header->server.timeouts;
}

static struct upstream *upstream_of(const struct exchange *exchange)
{
    return &exchange->proxy->upstreams.upstreams[exchange->route->upstream];
}

/* The step's deadline is never later than that of the try. */
static void set_step_deadline(struct exchange *exchange, uint64_t timeout)
{
    uint64_t deadline = timeout == UINT64_MAX ? UINT64_MAX : io_now(exchange->proxy->io) + timeout;
    uint64_t try_deadline = exchange->attempt.try_deadline;
    exchange_set_deadline(exchange, DEADLINE_STEP,
                          deadline < try_deadline ? deadline : try_deadline);
}

void attempt_begin(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    ASSERT(attempt->step == ATTEMPT_NONE || attempt->step == ATTEMPT_LOST);
    ASSERT(attempt->lease.connection == NULL);
    uint64_t timeout = exchange->route->try_timeout;
    attempt->reason = REASON_NONE;
    attempt->detail = TLS_DETAIL_NONE;
    attempt->body_gated = false;
    attempt->own_failure = false;
    attempt->unproven = false;
    attempt->try_deadline = timeout == 0 ? UINT64_MAX : io_now(exchange->proxy->io) + timeout;
    attempt->count++;
    if (attempt->count > 1) {
        metrics_count_at(exchange->proxy->metrics, METRIC_RETRIES, exchange->route->upstream);
    }
    enter(exchange, ATTEMPT_PICK);
}

/* Whatever became of it: nobody waits for this attempt's verdict any more. */
static void end_probe(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    if (attempt->probe) {
        attempt->probe = false;
        upstream_end_probe(upstream_of(exchange), attempt->endpoint);
    }
}

void attempt_end(struct exchange *exchange, bool keep)
{
    struct attempt *attempt = &exchange->attempt;
    list_unlink(&exchange->wait_link);
    exchange_set_deadline(exchange, DEADLINE_STEP, UINT64_MAX);
    end_probe(exchange);
    if (attempt->lease.connection != NULL) {
        pool_return(&exchange->proxy->pool, &attempt->lease, keep);
        proxy_wake_waiters(exchange->proxy);
    }
    attempt->step = ATTEMPT_NONE;
}

/*
 * Failures before a byte of the request was sent, TLS included: another endpoint may do better. A
 * certificate that does not hold costs an endpoint its place as a closed port does.
 */
static bool is_connect_failure(enum reason reason)
{
    return reason == REASON_CONNECT_FAILED || reason == REASON_CONNECT_TIMEOUT ||
           reason == REASON_UPSTREAM_TLS_FAILED || reason == REASON_UPSTREAM_TLS_REFUSED ||
           reason == REASON_UPSTREAM_TLS_CERTIFICATE;
}

/*
 * A failure to connect is the endpoint's; it may cost it its place for a while. Of those who waited
 * for one connection the first tells of it.
 */
static void note_endpoint(struct exchange *exchange, enum reason reason)
{
    struct proxy *proxy = exchange->proxy;
    struct endpoint *endpoint = exchange->attempt.endpoint;
    struct pool_connection *connection = exchange->attempt.lease.connection;
    if (!is_connect_failure(reason) || endpoint == NULL || exchange->attempt.own_failure) {
        return;
    }
    if (upstream_is_probed(endpoint) && !exchange->attempt.probe) {
        return; /* it began before the ejection: the probe tells more */
    }
    if (connection != NULL && connection->blamed) {
        return;
    }
    if (connection != NULL) {
        connection->blamed = true;
    }
    if (upstream_note_failure(upstream_of(exchange), endpoint, proxy->health, io_now(proxy->io))) {
        metrics_count_at(proxy->metrics, METRIC_ENDPOINT_EJECTIONS, endpoint->index);
    }
}

void attempt_lose(struct exchange *exchange, enum reason reason)
{
    struct attempt *attempt = &exchange->attempt;
    ASSERT(reason != REASON_NONE);
    struct stream *stream = attempt->lease.stream;
    bool died = reason == REASON_UPSTREAM_CLOSED || reason == REASON_UPSTREAM_PING_TIMEOUT;
    bool unprocessed = stream != NULL && stream->unprocessed;
    bool stale =
        stream != NULL && (attempt->lease.reused || unprocessed) && died && !stream->in_begun;
    bool unwritten = stream == NULL || stream->ops->is_unwritten(stream) || unprocessed;
    metrics_upstream_failure(exchange->proxy->metrics, exchange->route->upstream, reason);
    note_endpoint(exchange, reason);
    if (attempt->lease.connection != NULL) {
        attempt->detail = attempt->lease.connection->session.detail;
    }
    attempt_end(exchange, false);
    attempt->fresh_wanted = stale && !attempt->stale_retried;
    attempt->unprocessed = unprocessed;
    attempt->request_unwritten = unwritten;
    attempt->reason = reason;
    attempt->step = ATTEMPT_LOST;
}

bool attempt_may_retry(const struct exchange *exchange)
{
    const struct attempt *attempt = &exchange->attempt;
    bool repeatable =
        !exchange->uploads || exchange->client->bytes_in == 0 || !exchange->upload.replay.lost;
    bool safe = attempt->request_unwritten || method_is_idempotent(exchange->request.method);
    ASSERT(attempt->step == ATTEMPT_LOST);
    if (!repeatable || !safe || exchange->client->out_begun) {
        return false;
    }
    if (attempt->fresh_wanted) {
        return true; /* a stale connection says nothing of the endpoint, and is no attempt */
    }
    bool retriable = is_connect_failure(attempt->reason) || attempt->reason == REASON_TRY_TIMEOUT ||
                     attempt->reason == REASON_UPSTREAM_PING_TIMEOUT || attempt->unprocessed;
    uint32_t counted = attempt->count - (attempt->stale_retried ? 1 : 0);
    return retriable && counted < exchange->route->attempts;
}

static enum status lost(struct exchange *exchange, enum reason reason)
{
    attempt_lose(exchange, reason);
    return ERROR;
}

static enum status pick(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    struct proxy *proxy = exchange->proxy;
    if (attempt->fresh_wanted) {
        attempt->stale_retried = true; /* the same endpoint once more, on a new connection */
        enter(exchange, ATTEMPT_LEASE);
        return OK;
    }
    struct endpoint *endpoint = upstream_pick(upstream_of(exchange), proxy->health, &attempt->tried,
                                              true, io_now(proxy->io));
    if (endpoint == NULL) {
        return lost(exchange, REASON_NO_ENDPOINT);
    }
    attempt->endpoint = endpoint;
    attempt->probe = upstream_is_probed(endpoint);
    if (attempt->probe) {
        metrics_count_at(proxy->metrics, METRIC_ENDPOINT_PROBES, endpoint->index);
    }
    tried_endpoints_add(&attempt->tried, endpoint);
    flight_attempt(proxy->flight, exchange->flight, endpoint->index, attempt->count);
    enter(exchange, ATTEMPT_LEASE);
    return OK;
}

/* Waits for a slot; whoever comes later stands behind. */
static enum status queue(struct exchange *exchange)
{
    if (exchange->attempt.step == ATTEMPT_LEASE) {
        enter(exchange, ATTEMPT_QUEUE);
        set_step_deadline(exchange, timeouts_of(exchange)->queue);
    }
    exchange_wait_in(exchange, &exchange->proxy->pool.waiters);
    return AGAIN;
}

static void note_queue_time(struct exchange *exchange)
{
    uint64_t waited = io_now(exchange->proxy->io) - exchange->attempt.step_began;
    uint64_t before = exchange->queue_time == ACCESS_NO_TIME ? 0 : exchange->queue_time;
    exchange->queue_time = before + waited;
}

/* Errors of connect that say something of this machine and nothing of the endpoint. */
static bool is_our_own(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
           error == EADDRNOTAVAIL;
}

/* The header by which the upstream is told who the client is; its size, 0 where it is not. */
static size_t make_preface(const struct exchange *exchange, uint8_t bytes[PROXY_HEADER_WRITTEN_MAX])
{
    uint32_t version = upstream_of(exchange)->config->send_proxy_protocol;
    if (version == SEND_PROXY_OFF) {
        return 0;
    }
    struct address local;
    const struct session *client = exchange->client->session;
    io_local(exchange->proxy->io, &client->transport.socket, &local);
    return proxy_header_write((enum proxy_version)version, &exchange->client_address, &local,
                              bytes);
}

static enum status lease(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    uint8_t preface[PROXY_HEADER_WRITTEN_MAX];
    struct pool *pool = &exchange->proxy->pool;
    if (!list_is_empty(&pool->waiters) && pool->waiters.next != &exchange->wait_link) {
        return queue(exchange); /* behind those who came before */
    }
    enum status status =
        pool_lease(pool, attempt->endpoint, attempt->fresh_wanted || attempt->probe,
                   span_of(preface, make_preface(exchange, preface)), &attempt->lease);
    if (status == ERROR) {
        attempt->own_failure = is_our_own(pool->lease_error);
        attempt->detail = pool->lease_detail;
        return lost(exchange, pool->lease_reason);
    }
    if (status == AGAIN) {
        return queue(exchange);
    }
    list_unlink(&exchange->wait_link);
    if (attempt->step == ATTEMPT_QUEUE) {
        note_queue_time(exchange);
    }
    enter(exchange, ATTEMPT_CONNECT);
    set_step_deadline(exchange, timeouts_of(exchange)->connect);
    return OK;
}

/* The endpoint does well, once it cannot refuse us any more. */
static void note_accepted(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    const struct transport *transport = &attempt->lease.connection->session.transport;
    if (tls_is_on(transport) && !tls_is_accepted(transport)) {
        return;
    }
    upstream_note_success(upstream_of(exchange), attempt->endpoint);
    attempt->unproven = false;
    attempt->probe = false;
}

static enum status connect_endpoint(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    struct pool_connection *connection = attempt->lease.connection;
    enum reason reason = REASON_NONE;
    enum status status = pool_connected(&attempt->lease, &reason);
    if (status == AGAIN) {
        exchange_wait_in(exchange, &connection->waiters);
        return AGAIN;
    }
    list_unlink(&exchange->wait_link);
    if (status == ERROR) {
        return lost(exchange, reason);
    }
    if (status == END) { /* it was shared in advance, and cannot be */
        pool_return(&exchange->proxy->pool, &attempt->lease, true);
        enter(exchange, ATTEMPT_LEASE);
        return OK;
    }
    attempt->lease.stream->holder = exchange;
    if (!attempt->lease.reused) {
        attempt->unproven = true;
        note_accepted(exchange);
        exchange->connect_time = io_now(exchange->proxy->io) - attempt->step_began;
    }
    enter(exchange, ATTEMPT_SEND_HEAD);
    set_step_deadline(exchange, UINT64_MAX);
    return OK;
}

/* For as long as for a connection: both are places in this worker. */
static enum status wait_for_buffer(struct exchange *exchange)
{
    uint64_t waited = io_now(exchange->proxy->io) - exchange->attempt.step_began;
    uint64_t patience = timeouts_of(exchange)->queue;
    exchange_wait_in(exchange, &exchange->proxy->buffers.head_waiters);
    set_step_deadline(exchange, waited < patience ? patience - waited : 0);
    return AGAIN;
}

static enum status send_head(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    struct request_message message;
    if (!forward_request(exchange, &message)) { /* the draft is sized for it */
        return lost(exchange, REASON_BUFFERS_FULL);
    }
    enum status status = attempt->lease.stream->ops->write_request(attempt->lease.stream, &message);
    if (status == AGAIN) {
        return wait_for_buffer(exchange);
    }
    if (status == ERROR) {
        return lost(exchange, REASON_HEAD_TOO_LARGE); /* with what we add to it */
    }
    attempt->body_gated = exchange->request.expect_continue && exchange->client->bytes_in == 0;
    enter(exchange, ATTEMPT_AWAIT_HEAD);
    set_step_deadline(exchange,
                      attempt->body_gated ? timeouts_of(exchange)->continue_wait : UINT64_MAX);
    /* Without a body lane nobody else would send it; with one, it goes with the first bytes. */
    bool no_lane = attempt->lease.stream->out_ended || attempt->body_gated || exchange->switches;
    if (no_lane && attempt->lease.stream->ops->flush(attempt->lease.stream) == ERROR) {
        return OK; /* what the upstream has to say shows at the next read */
    }
    return OK;
}

static enum status await_head(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    struct stream *stream = attempt->lease.stream;
    if (stream->unsent > 0) {
        (void)stream->ops->flush(stream); /* a broken connection shows at the read below */
    }
    attempt->response_mark = arena_mark(&exchange->arena);
    enum reason reason = REASON_NONE;
    enum status status = stream->ops->read_response(
        stream, &exchange->arena, exchange->request.method, &exchange->response, &reason);
    if (status == ERROR) {
        arena_rewind(&exchange->arena, attempt->response_mark);
        return lost(exchange, reason);
    }
    if (attempt->unproven) {
        note_accepted(exchange);
    }
    if (status == AGAIN) {
        return AGAIN;
    }
    if (exchange->first_byte_time == ACCESS_NO_TIME) {
        exchange->first_byte_time = io_now(exchange->proxy->io) - exchange->began;
    }
    bool switched = exchange->response.status == 101;
    if (switched && !tunnel_is_granted(exchange)) {
        return lost(exchange, REASON_BAD_RESPONSE);
    }
    if (switched || exchange->response.status >= 200) {
        enter(exchange, ATTEMPT_STREAM);
        set_step_deadline(exchange, UINT64_MAX);
        exchange_set_deadline(exchange, DEADLINE_STEP, UINT64_MAX);
    }
    return OK;
}

enum status attempt_run(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    enum status status = OK;
    while (status == OK) {
        switch (attempt->step) {
        case ATTEMPT_PICK:
            status = pick(exchange);
            break;
        case ATTEMPT_LEASE:
        case ATTEMPT_QUEUE:
            status = lease(exchange);
            break;
        case ATTEMPT_CONNECT:
            status = connect_endpoint(exchange);
            break;
        case ATTEMPT_SEND_HEAD:
            status = send_head(exchange);
            break;
        case ATTEMPT_AWAIT_HEAD:
            return await_head(exchange);
        case ATTEMPT_LOST:
            return ERROR;
        case ATTEMPT_NONE:
        case ATTEMPT_STREAM:
            UNREACHABLE("an attempt runs between its begin and its response head");
        }
    }
    return status;
}

void attempt_expire(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    uint64_t now = io_now(exchange->proxy->io);
    exchange_set_deadline(exchange, DEADLINE_STEP, UINT64_MAX);
    if (attempt->step == ATTEMPT_QUEUE) {
        attempt_lose(exchange, REASON_QUEUE_TIMEOUT);
    } else if (attempt->step == ATTEMPT_CONNECT) {
        attempt_lose(exchange, REASON_CONNECT_TIMEOUT);
    } else if (attempt->try_deadline <= now) {
        attempt_lose(exchange, REASON_TRY_TIMEOUT);
    } else if (attempt->step == ATTEMPT_SEND_HEAD) {
        /* Else it is the upstream that does not read, or has not said what it takes. */
        bool starved = attempt->lease.stream->starved;
        attempt_lose(exchange, starved ? REASON_BUFFERS_FULL : REASON_UPSTREAM_WRITE_TIMEOUT);
    } else if (attempt->body_gated) {
        attempt->body_gated = false; /* the upstream may not know the expectation: send the body */
        set_step_deadline(exchange, UINT64_MAX);
    }
}

bool attempt_takes_body(const struct exchange *exchange)
{
    const struct attempt *attempt = &exchange->attempt;
    return (attempt->step == ATTEMPT_AWAIT_HEAD || attempt->step == ATTEMPT_STREAM) &&
           !attempt->body_gated;
}
