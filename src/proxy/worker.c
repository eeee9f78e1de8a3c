#include "proxy/worker.h"

#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "proxy/connection.h"
#include "proxy/exchange.h"
#include "proxy/worker_plan.h"

enum {
    ACCEPTS_PER_WAKE = 8,      /* a burst is shared: the others are woken for the rest */
    ACCEPTS_PER_REGISTER = 16, /* then to the back of the kernel's queue of sharers */
    READY_MAX = 1024,          /* sockets served in one turn */
    TIMERS_MAX = 1024,         /* timers fired in one turn */
    LINGER_BYTES_MAX = 1024 * 1024,
    ABORT_AGAIN_US = 100 * 1000,
    ACCEPT_AGAIN_US = 100 * 1000,
    YIELD_US = 100 * 1000,        /* accepting is left to others for so long at a time */
    PROBE_SLACK_US = 1000 * 1000, /* beyond a probe's timers: a turn may be long */
    CROWDED_PERCENT = 90,         /* of the connections: then none is kept alive */
};

static_assert((int)WORKER_SOCKET_FOREIGN == (int)SOCKET_FOREIGN, "one number for shells and us");
static_assert((int)FLIGHT_RESERVE >= (int)WORKER_PLAN_RESERVE_MAX, "every exchange has its cell");

struct listener {
    struct io_socket socket;
    uint32_t index;
    uint32_t accepted; /* since it was registered last */
};

struct worker {
    struct proxy proxy;
    struct worker_options options;
    struct listener *listeners;
    uint32_t listener_count;
    uint8_t *scratch;
    uint8_t *render;
    uint8_t *draft;
    bool listening;
    uint64_t accept_again;   /* accepting is paused: when to try again */
    bool yielding;           /* paused since others have fewer connections */
    bool tried;              /* to accept, in this turn */
    uint64_t drain_deadline; /* then what remains is aborted */
};

static const struct generation_server *server_of(const struct worker *worker)
{
    return &worker->options.generation->header->server;
}

static void set_limits(struct worker *worker)
{
    const struct generation_limits *limits = &server_of(worker)->limits;
    const struct generation_timeouts *timeouts = &server_of(worker)->timeouts;
    worker->proxy.sessions.limits = (struct session_limits){
        .head = {.request_line_max = limits->request_line,
                 .head_max = limits->head_size,
                 .fields_max = limits->header_fields,
                 .merge_slashes = server_of(worker)->merge_slashes != 0},
        .proxy_header_timeout = timeouts->proxy_header,
        .tls_handshake_timeout = timeouts->tls_handshake,
        .request_head_timeout = timeouts->request_head,
        .keep_alive_timeout = timeouts->keep_alive,
        .upstream_keep_alive_timeout = timeouts->upstream_keep_alive,
        .upstream_ping_timeout = timeouts->upstream_ping,
        .linger_timeout = timeouts->linger,
        .linger_bytes_max = LINGER_BYTES_MAX,
        .requests_max = limits->requests_per_connection,
    };
}

size_t worker_context_bytes(uint32_t listeners)
{
    return sizeof(struct worker) + (listeners + 1U) * sizeof(struct listener);
}

static bool make_slab(struct slab *slab, const struct worker_plan *plan, enum worker_plan_row row)
{
    return slab_init(slab, plan->items[row].size, plan->items[row].count);
}

static bool set_up_tls(struct worker *worker, const struct worker_plan *plan)
{
    char error[TLS_ERROR_MAX];
    struct proxy *proxy = &worker->proxy;
    if (tls_setup_init(&proxy->tls, proxy->generation, worker->options.secrets, plan, error)) {
        if (proxy->tls.engine != NULL) {
            tls_engine_set_ticket_keys(proxy->tls.engine, worker->options.tickets);
        }
        return true;
    }
    if (worker->options.error != NULL) {
        memcpy(worker->options.error, error, sizeof(error));
    }
    return false;
}

/* Bodies are held only where a route says so. */
static bool allocate_holds(struct worker *worker, const struct worker_plan *plan)
{
    struct hold_pool *holds = &worker->proxy.holds;
    hold_pool_init_empty(holds);
    return plan->items[WORKER_PLAN_HOLDS].bytes == 0 ||
           hold_pool_init(holds, server_of(worker)->limits.hold_pool);
}

/* HTTP/2 has memory only where it is spoken. */
static bool allocate_http2(struct worker *worker, const struct worker_plan *plan)
{
    struct proxy *proxy = &worker->proxy;
    const struct generation_limits *limits = &server_of(worker)->limits;
    if (plan->items[WORKER_PLAN_HTTP2].bytes == 0) {
        return true;
    }
    proxy->sessions.http2 = &proxy->http2;
    return http2_context_init(
        &proxy->http2, limits->http2_pool,
        &(struct http2_limits){.streams = limits->http2_streams,
                               .window = limits->http2_window,
                               .glitches = limits->http2_glitches,
                               .switching = generation_switches(proxy->generation)});
}

/* Everything that a worker allocates is a row of the plan, so that the memory figure holds. */
static bool allocate(struct worker *worker, const struct worker_plan *plan)
{
    struct proxy *proxy = &worker->proxy;
    uint64_t buffers = server_of(worker)->limits.buffer_pool;
    proxy->arena_size = plan->arena_size;
    const struct upstream_probes probes = {
        .commons = &proxy->commons,
        .owner = worker->options.index,
        .lease_time = server_of(worker)->timeouts.queue + server_of(worker)->timeouts.connect +
                      PROBE_SLACK_US,
    };
    worker->scratch = malloc(SCRATCH_SIZE);
    worker->render = malloc(BYTE_QUEUE_MAX);
    worker->draft = malloc(plan->draft_size);
    if (worker->scratch == NULL || worker->render == NULL || worker->draft == NULL) {
        return false;
    }
    arena_init(&proxy->draft, worker->draft, plan->draft_size);
    return set_up_tls(worker, plan) && buffer_pool_init(&proxy->buffers, buffers) &&
           pipe_pool_init(&proxy->pipes, proxy->io, plan->splice_pipes) &&
           make_slab(&proxy->client_inboxes, plan, WORKER_PLAN_CLIENT_INBOXES) &&
           make_slab(&proxy->upstream_inboxes, plan, WORKER_PLAN_UPSTREAM_INBOXES) &&
           make_slab(&proxy->connections, plan, WORKER_PLAN_CONNECTIONS) &&
           make_slab(&proxy->exchanges, plan, WORKER_PLAN_EXCHANGES) &&
           allocate_holds(worker, plan) && allocate_http2(worker, plan) &&
           pool_init(&proxy->pool, &proxy->sessions, proxy->metrics, plan->upstream_connections) &&
           upstream_set_init(&proxy->upstreams, proxy->generation, &proxy->tls.upstreams, &probes,
                             &proxy->prng);
}

static void connect_context(struct worker *worker)
{
    struct proxy *proxy = &worker->proxy;
    struct session_context *sessions = &proxy->sessions;
    sessions->io = proxy->io;
    sessions->wheel = &proxy->wheel;
    sessions->buffers = &proxy->buffers;
    sessions->pipes = &proxy->pipes;
    sessions->client_inboxes = &proxy->client_inboxes;
    sessions->upstream_inboxes = &proxy->upstream_inboxes;
    sessions->scratch = worker->scratch;
    sessions->scratch_size = SCRATCH_SIZE;
    sessions->render = worker->render;
    sessions->render_size = BYTE_QUEUE_MAX;
    openings_init(&sessions->openings);
    proxy->pool.socket_kind = SOCKET_UPSTREAM;
    proxy->pool.timer_kind = TIMER_SESSION;
}

static bool open_listeners(struct worker *worker)
{
    uint32_t count = worker->options.generation->header->listeners.count;
    worker->listeners = calloc(count + 1U, sizeof(*worker->listeners));
    if (worker->listeners == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        io_socket_init(&worker->listeners[i].socket);
        worker->listeners[i].index = i;
    }
    worker->listener_count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (io_listen(worker->proxy.io, &worker->listeners[i].socket, worker->options.listeners[i],
                      SOCKET_LISTENER) != OK) {
            return false;
        }
    }
    worker->listening = true;
    metrics_add(worker->proxy.metrics, METRIC_WORKERS, 1);
    return true;
}

struct worker *worker_create(const struct worker_options *options)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL) {
        return NULL;
    }
    struct proxy *proxy = &worker->proxy;
    struct worker_plan plan;
    worker->options = *options;
    proxy->io = options->io;
    proxy->generation = options->generation;
    proxy->metrics = options->metrics;
    proxy->access_log = options->access_log;
    proxy->flight = options->flight;
    proxy->health = options->health;
    worker->drain_deadline = UINT64_MAX;
    worker->accept_again = UINT64_MAX;
    worker_plan_init(&plan, options->generation, options->index);
    proxy->connections_max = server_of(worker)->connections;
    proxy->connections_share =
        worker_plan_share(proxy->connections_max, server_of(worker)->workers, options->index);
    proxy->connections_room = plan.connections;
    proxy->requests_max = server_of(worker)->limits.requests;
    proxy->requests_share =
        worker_plan_share(proxy->requests_max, server_of(worker)->workers, options->index);
    proxy->requests_place = plan.requests;
    proxy->tunnels_place = plan.tunnels;
    proxy->tunnels_of_client = plan.tunnels_per_client;
    list_init(&proxy->tunnels);
    proxy->handshakes_place = plan.handshakes;
    uint64_t seed = 0;
    io_random(proxy->io, &seed, sizeof(seed));
    prng_init(&proxy->prng, seed);
    timer_wheel_init(&proxy->wheel, io_now(proxy->io));
    list_init(&proxy->runnable);
    list_init(&proxy->open_connections);
    shedding_init(&proxy->shedding);
    client_counts_init(&proxy->clients, options->generation, options->board, &options->client_key,
                       &options->peers);
    commons_init(&proxy->commons, options->commons, options->generation);
    rate_table_init(&proxy->rates, &proxy->commons, options->generation);
    set_limits(worker);
    /* Every exchange has its cell, as far as cells go. */
    uint32_t cells = proxy->flight->slots;
    ASSERT(cells == 0 || cells == FLIGHT_SLOTS_MAX ||
           cells >= plan.items[WORKER_PLAN_EXCHANGES].count);
    if (!allocate(worker, &plan)) {
        worker_destroy(worker);
        return NULL;
    }
    connect_context(worker);
    limits_init(proxy);
    if (!open_listeners(worker)) {
        worker_destroy(worker);
        return NULL;
    }
    return worker;
}

static void wake_first(struct list *waiters, uint32_t count)
{
    for (; count > 0 && !list_is_empty(waiters); count--) {
        struct list *link = list_pop_front(waiters);
        exchange_wake(CONTAINER_OF(link, struct exchange, wait_link));
    }
}

/* As connection_serve, for an upstream's session. */
static void serve_upstream_events(struct proxy *proxy, struct session *session)
{
    struct stream *stream = NULL;
    enum session_event event = session->ops->next_event(session, &stream);
    while (event != SESSION_EVENT_NONE) {
        if (event == SESSION_EVENT_CLOSED) {
            pool_forget(&proxy->pool, pool_connection_of(session));
            return;
        }
        if (event == SESSION_EVENT_OPEN) {
            struct pool_connection *connection = pool_connection_of(session);
            pool_open(&proxy->pool, connection);
            wake_first(&connection->waiters, UINT32_MAX);
        } else if (stream->holder != NULL) {
            exchange_wake(stream->holder);
        }
        event = session->ops->next_event(session, &stream);
    }
}

static void pause_listeners(struct worker *worker, uint64_t pause_us)
{
    worker->accept_again = io_now(worker->proxy.io) + pause_us;
    for (uint32_t i = 0; i < worker->listener_count; i++) {
        io_listen_pause(worker->proxy.io, &worker->listeners[i].socket);
    }
}

/* Level-triggered: what is left in the queue is told again in the next turn. */
static void serve_listener(struct worker *worker, struct listener *listener)
{
    enum status status = OK;
    worker->tried = true;
    for (int i = 0; i < ACCEPTS_PER_WAKE && status == OK; i++) {
        status = connection_accept(&worker->proxy, &listener->socket, listener->index);
        listener->accepted += status == OK ? 1 : 0;
    }
    if (status == ERROR) {
        /* Out of descriptors or memory: clients wait in the queue, and we do not spin. */
        pause_listeners(worker, ACCEPT_AGAIN_US);
        return;
    }
    if (status == OK && listener->accepted >= ACCEPTS_PER_REGISTER) {
        listener->accepted = 0;
        io_listen_pause(worker->proxy.io, &listener->socket);
        io_listen_resume(worker->proxy.io, &listener->socket);
    }
}

static void serve_socket(struct worker *worker, struct io_socket *socket)
{
    static const enum flight_phase PHASES[] = {[SOCKET_LISTENER] = FLIGHT_ACCEPT,
                                               [SOCKET_CLIENT] = FLIGHT_CLIENT,
                                               [SOCKET_UPSTREAM] = FLIGHT_UPSTREAM,
                                               [SOCKET_FOREIGN] = FLIGHT_CHANNEL};
    struct proxy *proxy = &worker->proxy;
    flight_doing(proxy->flight, PHASES[socket->kind], 0);
    if (socket->kind == SOCKET_LISTENER) {
        serve_listener(worker, CONTAINER_OF(socket, struct listener, socket));
        return;
    }
    if (socket->kind == SOCKET_FOREIGN) {
        worker->options.on_foreign(worker->options.foreign_context, socket);
        return;
    }
    struct transport *transport = CONTAINER_OF(socket, struct transport, socket);
    struct session *session = CONTAINER_OF(transport, struct session, transport);
    session->ops->run(session);
    if (socket->kind == SOCKET_CLIENT) {
        connection_serve(proxy, session);
    } else {
        serve_upstream_events(proxy, session);
    }
}

static void serve_ready(struct worker *worker)
{
    for (int i = 0; i < READY_MAX; i++) {
        struct io_socket *socket = io_next_ready(worker->proxy.io);
        if (socket == NULL) {
            return;
        }
        serve_socket(worker, socket);
    }
}

/* Each exchange that was runnable at the begin gets one run; who yields waits for the next turn. */
static void run_exchanges(struct proxy *proxy)
{
    struct list now;
    list_take_all(&now, &proxy->runnable);
    for (struct list *link = list_pop_front(&now); link != NULL; link = list_pop_front(&now)) {
        exchange_run(CONTAINER_OF(link, struct exchange, run_link));
    }
}

static void fire_timer(struct proxy *proxy, struct timer *timer)
{
    if (timer->kind == TIMER_EXCHANGE) {
        exchange_expire(CONTAINER_OF(timer, struct exchange, timer));
        return;
    }
    struct session *session = CONTAINER_OF(timer, struct session, timer);
    bool upstream = session->transport.socket.kind == SOCKET_UPSTREAM;
    session->ops->expire(session);
    if (upstream) {
        serve_upstream_events(proxy, session);
    } else {
        connection_serve(proxy, session);
    }
}

static void fire_timers(struct worker *worker)
{
    struct proxy *proxy = &worker->proxy;
    for (int i = 0; i < TIMERS_MAX; i++) {
        struct timer *timer = timer_wheel_expire(&proxy->wheel, io_now(proxy->io));
        if (timer == NULL) {
            return;
        }
        fire_timer(proxy, timer);
    }
}

/*
 * Memory of the hold pool came back: responses that had to stay with their upstream for want of it
 * may go on, as many as there are blocks.
 */
static void wake_shorts(struct hold_pool *holds)
{
    uint32_t blocks = holds->slab.capacity - holds->slab.in_use;
    for (; blocks > 0 && !list_is_empty(&holds->shorts); blocks--) {
        struct list *link = list_pop_front(&holds->shorts);
        exchange_wake(CONTAINER_OF(link, struct exchange, response_hold.hold.link));
    }
}

void proxy_wake_waiters(struct proxy *proxy)
{
    uint32_t places = pool_places(&proxy->pool);
    /* They keep their places until they have a slot: whoever comes meanwhile stands behind. */
    const struct list *waiters = &proxy->pool.waiters;
    for (struct list *link = waiters->next; link != waiters && places > 0; link = link->next) {
        exchange_wake(CONTAINER_OF(link, struct exchange, wait_link));
        places--;
    }
    wake_first(&proxy->buffers.waiters, buffer_pool_spare(&proxy->buffers));
    /* A head may need several buffers, so that any number of free ones may be too few for it. */
    if (proxy->buffers.returned) {
        proxy->buffers.returned = false;
        wake_first(&proxy->buffers.head_waiters, UINT32_MAX);
    }
    if (proxy->holds.returned) {
        proxy->holds.returned = false;
        wake_shorts(&proxy->holds);
    }
}

/* What the counts hold since the last turn goes to the metrics. */
static void publish_http2(struct proxy *proxy)
{
    struct metrics *metrics = proxy->metrics;
    struct http2_counts *counts = &proxy->http2.counts;
    if (counts->sessions != proxy->http2_sessions_published ||
        counts->streams != proxy->http2_streams_published) {
        metrics_add(metrics, METRIC_HTTP2_CONNECTIONS,
                    (uint64_t)counts->sessions - proxy->http2_sessions_published);
        metrics_add(metrics, METRIC_HTTP2_STREAMS,
                    (uint64_t)counts->streams - proxy->http2_streams_published);
        proxy->http2_sessions_published = counts->sessions;
        proxy->http2_streams_published = counts->streams;
    }
    if (!counts->any) {
        return;
    }
    for (uint32_t i = 0; i < HTTP2_GLITCH_COUNT; i++) {
        metrics_add_at(metrics, METRIC_HTTP2_GLITCHES, i, counts->glitches[i]);
    }
    for (uint32_t i = 0; i < HTTP2_DIRECTIONS * HTTP2_CODES; i++) {
        metrics_add_at(metrics, METRIC_HTTP2_RESETS, i,
                       counts->resets[i / HTTP2_CODES][i % HTTP2_CODES]);
        metrics_add_at(metrics, METRIC_HTTP2_GOAWAYS, i,
                       counts->goaways[i / HTTP2_CODES][i % HTTP2_CODES]);
    }
    *counts = (struct http2_counts){.sessions = counts->sessions, .streams = counts->streams};
}

static void publish_holds(struct proxy *proxy)
{
    const struct hold_pool *holds = &proxy->holds;
    if (holds->held == proxy->held_published && holds->times_short == proxy->shorts_published) {
        return;
    }
    metrics_add(proxy->metrics, METRIC_HELD_BYTES, holds->held - proxy->held_published);
    metrics_add(proxy->metrics, METRIC_HOLD_POOL_SHORT,
                holds->times_short - proxy->shorts_published);
    proxy->held_published = holds->held;
    proxy->shorts_published = holds->times_short;
}

static void publish(struct proxy *proxy)
{
    struct metrics *metrics = proxy->metrics;
    struct session_context *sessions = &proxy->sessions;
    metrics_add(metrics, METRIC_CLIENT_RECEIVED_BYTES, sessions->clients.received);
    metrics_add(metrics, METRIC_CLIENT_SENT_BYTES, sessions->clients.sent);
    metrics_add(metrics, METRIC_UPSTREAM_RECEIVED_BYTES, sessions->upstreams.received);
    metrics_add(metrics, METRIC_UPSTREAM_SENT_BYTES, sessions->upstreams.sent);
    metrics_add(metrics, METRIC_SPLICED_BYTES, sessions->spliced);
    metrics_add_at(metrics, METRIC_SHED, SHED_KEEP_ALIVE, sessions->crowded_closes);
    sessions->crowded_closes = 0;
    metrics_add(metrics, METRIC_TLS_HANDSHAKES, sessions->openings.full);
    metrics_add(metrics, METRIC_TLS_RESUMED, sessions->openings.resumed);
    sessions->openings.full = 0;
    sessions->openings.resumed = 0;
    sessions->clients = (struct session_traffic){0};
    sessions->upstreams = (struct session_traffic){0};
    sessions->spliced = 0;
    uint32_t in_use = proxy->buffers.slab.in_use;
    metrics_add(metrics, METRIC_BUFFERS_IN_USE, (uint64_t)in_use - proxy->buffers_published);
    proxy->buffers_published = in_use;
    publish_holds(proxy);
    limits_publish(proxy);
    publish_http2(proxy);
    metrics_add(metrics, METRIC_SPLICE_PIPES_IN_USE,
                (uint64_t)proxy->pipes.in_use - proxy->pipes_published);
    proxy->pipes_published = proxy->pipes.in_use;
}

/*
 * Ends what is still open. With `answer`, those who have heard nothing yet get a 503; whatever is
 * left of them is aborted the next time.
 */
static void abort_rest(struct worker *worker, bool answer)
{
    struct proxy *proxy = &worker->proxy;
    worker->drain_deadline = io_now(proxy->io) + ABORT_AGAIN_US; /* those that linger */
    uint32_t place = 0;
    for (struct exchange *exchange = slab_next(&proxy->exchanges, &place); exchange != NULL;
         exchange = slab_next(&proxy->exchanges, &place)) {
        if (answer && exchange->step != EXCHANGE_HEAD) {
            exchange_fail(exchange, REASON_DRAINING);
            exchange_wake(exchange);
        } else {
            exchange_abort(exchange, REASON_DRAINING);
        }
    }
    struct list all;
    list_take_all(&all, &proxy->open_connections);
    while (!list_is_empty(&all)) {
        struct session *session = CONTAINER_OF(all.next, struct session, link);
        list_unlink(&session->link);
        list_push_back(&proxy->open_connections, &session->link);
        if (session->step != SESSION_BUSY) {
            connection_abort(proxy, session);
        }
    }
}

static uint64_t next_wake(const struct worker *worker)
{
    const struct proxy *proxy = &worker->proxy;
    if (!list_is_empty(&proxy->runnable)) {
        return io_now(proxy->io);
    }
    uint64_t timers = timer_wheel_next(&proxy->wheel);
    uint64_t own = worker->drain_deadline < worker->accept_again ? worker->drain_deadline
                                                                 : worker->accept_again;
    own = proxy->shedding.again < own ? proxy->shedding.again : own;
    return timers < own ? timers : own;
}

static void resume_listeners(struct worker *worker)
{
    worker->accept_again = UINT64_MAX;
    worker->yielding = false;
    for (uint32_t i = 0; worker->listening && i < worker->listener_count; i++) {
        io_listen_resume(worker->proxy.io, &worker->listeners[i].socket);
    }
}

/*
 * A worker above its fair share of max-connections leaves new ones to those below theirs, who never
 * yield. Nobody yields when nobody is below: then the limit is near, and somebody has to say 503.
 * It is decided when every listener had its batch of accepts, and it ends by itself, with another
 * batch of each: should those with room hang, clients still wait no longer than YIELD_US. What we
 * leave in the queue is known to others: it came while we were awake, so it has woken one of them.
 */
static void yield_or_not(struct worker *worker)
{
    struct proxy *proxy = &worker->proxy;
    bool above = proxy->clients.connections > proxy->connections_share;
    if (worker->tried && above && worker->listening && worker->accept_again == UINT64_MAX &&
        client_counts_any_below(&proxy->clients, proxy->connections_share)) {
        worker->yielding = true;
        pause_listeners(worker, YIELD_US);
    }
    worker->tried = false;
    if (worker->yielding && !above) {
        resume_listeners(worker);
    }
}

void worker_turn(struct worker *worker)
{
    struct proxy *proxy = &worker->proxy;
    flight_doing(proxy->flight, FLIGHT_WAIT, 0);
    io_wait(proxy->io, next_wake(worker));
    flight_turn(proxy->flight, io_now(proxy->io));
    openings_turn(&proxy->sessions);
    serve_ready(worker);
    run_exchanges(proxy);
    flight_doing(proxy->flight, FLIGHT_TIMER, 0);
    fire_timers(worker);
    flight_doing(proxy->flight, FLIGHT_TIDY, 0);
    if (worker->drain_deadline <= io_now(proxy->io)) {
        abort_rest(worker, true);
    }
    shedding_turn(proxy);
    yield_or_not(worker);
    if (worker->accept_again <= io_now(proxy->io)) {
        resume_listeners(worker);
    }
    proxy_wake_waiters(proxy);
    publish(proxy);
}

void worker_try_accept(struct worker *worker)
{
    bool short_of_something = worker->accept_again != UINT64_MAX && !worker->yielding;
    if (!worker->listening || short_of_something) {
        return;
    }
    for (uint32_t i = 0; i < worker->listener_count; i++) {
        io_listen_pause(worker->proxy.io, &worker->listeners[i].socket);
    }
    resume_listeners(worker);
}

static void close_listeners(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->listener_count; i++) {
        io_close(worker->proxy.io, &worker->listeners[i].socket);
    }
    worker->listening = false;
    metrics_subtract(worker->proxy.metrics, METRIC_WORKERS, 1);
}

void worker_drain(struct worker *worker)
{
    struct proxy *proxy = &worker->proxy;
    if (proxy->draining) {
        return;
    }
    flight_doing(proxy->flight, FLIGHT_DRAIN, 0);
    for (uint32_t i = 0; i < worker->listener_count; i++) {
        /* Once: whoever connected before the drain is served. */
        uint32_t bound = proxy->connections_max;
        struct listener *listener = &worker->listeners[i];
        while (bound-- > 0 && connection_accept(proxy, &listener->socket, listener->index) == OK) {
        }
    }
    close_listeners(worker);
    proxy->draining = true;
    proxy->sessions.draining = true;
    worker->drain_deadline = io_now(proxy->io) + server_of(worker)->shutdown_timeout;
    struct list all;
    list_take_all(&all, &proxy->open_connections);
    while (!list_is_empty(&all)) {
        struct session *session = CONTAINER_OF(all.next, struct session, link);
        list_unlink(&session->link);
        list_push_back(&proxy->open_connections, &session->link);
        session->ops->drain(session);
        connection_serve(proxy, session);
    }
    pool_drain(&proxy->pool);
}

bool worker_is_drained(const struct worker *worker)
{
    const struct proxy *proxy = &worker->proxy;
    return proxy->draining && list_is_empty(&proxy->open_connections) &&
           proxy->exchanges.in_use == 0;
}

void worker_check_idle(const struct worker *worker)
{
    const struct proxy *proxy = &worker->proxy;
    const struct slab *slots = &proxy->pool.connections;
    ASSERT(list_is_empty(&proxy->open_connections) && list_is_empty(&proxy->runnable));
    ASSERT(proxy->connections.in_use == 0);
    ASSERT(proxy->clients.connections == 0 && proxy->clients.used == 0);
    ASSERT(proxy->exchanges.in_use == 0 && proxy->requests_open == 0);
    ASSERT(proxy->http2.counts.sessions == 0 && proxy->http2.memory.pages_in_use == 0);
    flight_recorder_check_idle(proxy->flight);
    ASSERT(proxy->buffers.slab.in_use == 0 && list_is_empty(&proxy->buffers.waiters));
    ASSERT(list_is_empty(&proxy->buffers.head_waiters) && proxy->pipes.in_use == 0);
    ASSERT(proxy->holds.slab.in_use == 0 && list_is_empty(&proxy->holds.shorts));
    ASSERT(proxy->client_inboxes.in_use == 0 && proxy->upstream_inboxes.in_use == 0);
    ASSERT(list_is_empty(&proxy->pool.waiters));
    ASSERT(list_is_empty(&proxy->shedding.lingers) && proxy->shedding.leaving == 0);
    ASSERT(list_is_empty(&proxy->shedding.idle) && list_is_empty(&proxy->shedding.heads));
    ASSERT(list_is_empty(&proxy->shedding.idle_http2));
    ASSERT(list_is_empty(&proxy->shedding.senders) && list_is_empty(&proxy->shedding.readers));
    ASSERT(list_is_empty(&proxy->shedding.uploads));
    ASSERT(proxy->wheel.count <= slots->in_use); /* idle upstream connections have one each */
    for (uint32_t i = 0; i < proxy->upstreams.endpoint_count; i++) {
        ASSERT(proxy->upstreams.endpoints[i].in_use == 0);
    }
}

void worker_destroy(struct worker *worker)
{
    if (worker == NULL) {
        return;
    }
    struct proxy *proxy = &worker->proxy;
    if (worker->listening) {
        close_listeners(worker);
    }
    abort_rest(worker, false); /* an order to quit can come in the middle of a drain, too */
    while (!list_is_empty(&proxy->runnable)) {
        run_exchanges(proxy);
    }
    abort_rest(worker, false); /* those that linger */
    pool_deinit(&proxy->pool);
    buffer_pool_deinit(&proxy->buffers);
    hold_pool_deinit(&proxy->holds);
    pipe_pool_deinit(&proxy->pipes);
    slab_deinit(&proxy->client_inboxes);
    slab_deinit(&proxy->upstream_inboxes);
    slab_deinit(&proxy->connections);
    slab_deinit(&proxy->exchanges);
    http2_context_deinit(&proxy->http2);
    upstream_set_deinit(&proxy->upstreams);
    tls_setup_deinit(&proxy->tls);
    free(worker->listeners);
    free(worker->scratch);
    free(worker->render);
    free(worker->draft);
    free(worker);
}

/* Two decimal digits. */
static void put_two(uint8_t *at, int value)
{
    at[0] = (uint8_t)('0' + value / 10 % 10);
    at[1] = (uint8_t)('0' + value % 10);
}

struct span proxy_date(struct proxy *proxy)
{
    static const char DAYS[] = "SunMonTueWedThuFriSat";
    static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    uint64_t second = io_wall(proxy->io) / 1000000U;
    if (second != proxy->date_second) {
        struct tm utc;
        time_t time = (time_t)second;
        struct tm *converted = gmtime_r(&time, &utc);
        ASSERT(converted != NULL);
        memcpy(proxy->date, "xxx, 00 xxx 0000 00:00:00 GMT", DATE_SIZE);
        memcpy(proxy->date, DAYS + (ptrdiff_t)3 * utc.tm_wday, 3);
        put_two(proxy->date + 5, utc.tm_mday);
        memcpy(proxy->date + 8, MONTHS + (ptrdiff_t)3 * utc.tm_mon, 3);
        put_two(proxy->date + 12, (utc.tm_year + 1900) / 100);
        put_two(proxy->date + 14, (utc.tm_year + 1900) % 100);
        put_two(proxy->date + 17, utc.tm_hour);
        put_two(proxy->date + 20, utc.tm_min);
        put_two(proxy->date + 23, utc.tm_sec);
        proxy->date_second = second;
    }
    return span_of(proxy->date, DATE_SIZE);
}
