#include "proxy/shedding.h"

#include "base/assert.h"
#include "proxy/exchange.h"

enum {
    HIGH_PERCENT = 90,
    CALM_PERCENT = 80, /* below it `high` ends */
    FULL_PERCENT = 95,
    ROOM_PERCENT = 90, /* below it `full` ends */
    IDLE_HIGH_US = 5 * 1000 * 1000,
    LINGER_US = 250 * 1000,    /* our answer has most likely been read */
    IDLE_LAST_US = 250 * 1000, /* a client that has just connected is about to send its request */
    STALL_US = 1000 * 1000,
    HANDSHAKE_US = 250 * 1000,
    HTTP2_HIGH_PERCENT = 70,
    HTTP2_CALM_PERCENT = 60,
    HTTP2_TRIED = 8, /* connections let go for a new one: each gives a few pages */
    LINGERS_TRIED = 8,
    LOOK_US = 100 * 1000, /* between two looks at the other workers while nothing is near */
};

void shedding_init(struct shedding *shedding)
{
    *shedding = (struct shedding){.again = UINT64_MAX};
    list_init(&shedding->lingers);
    list_init(&shedding->idle);
    list_init(&shedding->idle_http2);
    list_init(&shedding->handshakes);
    list_init(&shedding->heads);
    list_init(&shedding->senders);
    list_init(&shedding->readers);
    list_init(&shedding->uploads);
}

/* ---- Who stands where ---- */

static void move(struct shedding *shedding, struct connection *connection, enum session_step step)
{
    list_unlink(&connection->shed_link);
    if (connection->counted) {
        shedding->leaving += step == SESSION_LINGER ? 1 : 0;
        shedding->leaving -= connection->listed == SESSION_LINGER ? 1 : 0;
    }
    connection->listed = (uint8_t)step;
}

void shedding_note_connection(struct proxy *proxy, struct connection *connection)
{
    struct shedding *shedding = &proxy->shedding;
    enum session_step step = connection->session.step;
    if (connection->listed == step) {
        return;
    }
    move(shedding, connection, step);
    connection->since = io_now(proxy->io);
    bool http2 = http2_session_is(&connection->session);
    struct list *list = step == SESSION_IDLE && http2 ? &shedding->idle_http2
                        : step == SESSION_IDLE        ? &shedding->idle
                        : step == SESSION_PREFACE     ? &shedding->idle
                        : step == SESSION_HANDSHAKE   ? &shedding->handshakes
                        : step == SESSION_HEAD        ? &shedding->heads
                        : step == SESSION_LINGER      ? &shedding->lingers
                                                      : NULL;
    if (list != NULL) {
        list_push_back(list, &connection->shed_link);
    }
}

void shedding_forget_connection(struct proxy *proxy, struct connection *connection)
{
    move(&proxy->shedding, connection, SESSION_CLOSED);
}

/* Where an exchange stands for this lane; NULL: nobody waits, or for want of buffers only. */
static struct list *place_of(struct exchange *exchange, const struct lane *lane, bool unsent)
{
    struct shedding *shedding = &exchange->proxy->shedding;
    if (lane == &exchange->response_lane) {
        return unsent ? &shedding->readers : NULL;
    }
    if (lane->waits == LANE_WAITS_SOURCE) {
        return exchange->step == EXCHANGE_TUNNEL ? NULL : &shedding->senders; /* silence is fine */
    }
    return unsent ? &shedding->uploads : NULL;
}

void shedding_note_lane(struct exchange *exchange, const struct lane *lane)
{
    bool response = lane == &exchange->response_lane;
    struct stall *stall = response ? &exchange->response_stall : &exchange->upload.stall;
    const struct stream *to = lane->sink.stream;
    uint64_t held = lane_held(lane);
    bool closed = lane->waits == LANE_WAITS_SINK && to != NULL && !to->starved; /* a window */
    bool unsent = held > 0 || closed || (to != NULL && to->unsent > 0);
    struct list *place = place_of(exchange, lane, unsent);
    if (place == NULL) {
        if (list_is_linked(&stall->link)) {
            list_unlink(&stall->link);
        }
        return;
    }
    uint64_t progress = lane->bytes - held + (to == NULL ? 0 : to->progress_out);
    if (list_is_linked(&stall->link) && stall->in == place &&
        progress - stall->progress < SHED_STALL_BYTES) {
        return;
    }
    list_unlink(&stall->link);
    list_push_back(place, &stall->link);
    stall->in = place;
    stall->since = io_now(exchange->proxy->io);
    stall->progress = progress;
}

/* ---- How near the bounds are ---- */

static void judge(struct shed_level *level, uint64_t used, uint64_t bound)
{
    level->high = used * 100 >= bound * (level->high ? CALM_PERCENT : HIGH_PERCENT);
    level->full = used * 100 >= bound * (level->full ? ROOM_PERCENT : FULL_PERCENT);
}

static bool is_any_near(const struct shedding *shedding)
{
    return shedding->connections.high || shedding->requests.high;
}

/* The others' counts, which change without us: read often only where it matters. */
static void look_around(struct proxy *proxy, uint64_t now)
{
    struct shedding *shedding = &proxy->shedding;
    if (is_any_near(shedding) || now - shedding->looked >= LOOK_US) {
        shedding->looked = now;
        proxy->connections_elsewhere = client_counts_elsewhere(&proxy->clients);
        shedding->requests_elsewhere = client_counts_requests_elsewhere(&proxy->clients);
    }
}

/* The fuller of the two: the sum against the bound, or our own against the place we have. */
static void judge_requests(struct proxy *proxy)
{
    uint64_t own = proxy->requests_open;
    uint64_t sum = own + proxy->shedding.requests_elsewhere;
    bool own_is_fuller = own * proxy->requests_max > sum * proxy->requests_place;
    judge(&proxy->shedding.requests, own_is_fuller ? own : sum,
          own_is_fuller ? proxy->requests_place : proxy->requests_max);
}

bool shedding_admits_request(struct proxy *proxy)
{
    uint64_t now = io_now(proxy->io);
    uint32_t own = proxy->requests_open;
    if (own >= proxy->requests_place) {
        return false;
    }
    if (own < proxy->requests_share && !commons_is_borrowing(&proxy->commons, now)) {
        return true; /* nobody is above his share, so the sum is below the bound */
    }
    if (own + client_counts_requests_elsewhere(&proxy->clients) >= proxy->requests_max) {
        return false;
    }
    if (own >= proxy->requests_share) {
        commons_note_borrowing(&proxy->commons, now);
    }
    return true;
}

/* ---- Shedding ---- */

/* So long that it may go? Else that is when to look again. */
static bool is_due(struct shedding *shedding, uint64_t since, uint64_t age, uint64_t now)
{
    if (now - since >= age) {
        return true;
    }
    if (since + age < shedding->again) {
        shedding->again = since + age;
    }
    return false;
}

static struct connection *first_connection(const struct list *list)
{
    return list_is_empty(list) ? NULL : CONTAINER_OF(list->next, struct connection, shed_link);
}

/* Of both protocols, the one that has been idle longest. */
static struct connection *first_idle(const struct shedding *shedding)
{
    struct connection *of_http1 = first_connection(&shedding->idle);
    struct connection *of_http2 = first_connection(&shedding->idle_http2);
    if (of_http1 == NULL || of_http2 == NULL) {
        return of_http1 == NULL ? of_http2 : of_http1;
    }
    return of_http2->since < of_http1->since ? of_http2 : of_http1;
}

static void shed_lingers(struct proxy *proxy, uint64_t count, uint64_t age, uint64_t now)
{
    struct shedding *shedding = &proxy->shedding;
    struct connection *connection = first_connection(&shedding->lingers);
    while (count > 0 && connection != NULL && is_due(shedding, connection->since, age, now)) {
        metrics_count_at(proxy->metrics, METRIC_SHED, SHED_LINGERING);
        connection->session.ops->kill(&connection->session);
        connection_serve(proxy, &connection->session);
        count--;
        connection = first_connection(&shedding->lingers);
    }
}

bool shedding_make_place(struct proxy *proxy)
{
    shed_lingers(proxy, 1, 0, io_now(proxy->io));
    return proxy->connections.in_use < proxy->connections.capacity;
}

/* Closes idle connections of that age; returns how many. A request that is here is served. */
static uint64_t shed_idle(struct proxy *proxy, uint64_t count, uint64_t age, uint64_t now)
{
    struct shedding *shedding = &proxy->shedding;
    uint64_t done = 0;
    struct connection *connection = first_idle(shedding);
    while (done < count && connection != NULL && is_due(shedding, connection->since, age, now)) {
        struct session *session = &connection->session;
        session->ops->drain(session);
        if (session->step == SESSION_CLOSED) {
            metrics_count_at(proxy->metrics, METRIC_SHED, SHED_IDLE_CONNECTION);
        } else if (session->step == SESSION_IDLE) {
            move(shedding, connection, SESSION_CLOSED); /* its last words do not leave: the next */
        }
        done++;
        connection_serve(proxy, session); /* out of the list, one way or the other */
        connection = first_idle(shedding);
    }
    return done;
}

bool shedding_make_room(struct proxy *proxy)
{
    uint32_t before = proxy->clients.connections;
    uint64_t now = io_now(proxy->io);
    for (int i = 0; i < LINGERS_TRIED && !list_is_empty(&proxy->shedding.lingers); i++) {
        shed_lingers(proxy, 1, 0, now);
        if (proxy->clients.connections < before) {
            return true; /* it counted: not all of them do */
        }
    }
    return shed_idle(proxy, 1, IDLE_LAST_US, now) > 0 && proxy->clients.connections < before;
}

static uint64_t http2_percent(const struct http2_memory *memory)
{
    return memory->page_count == 0 ? 0 : (uint64_t)memory->pages_in_use * 100 / memory->page_count;
}

/* Closes the connection of HTTP/2 that has been idle longest. False: none has, for so long. */
static bool shed_idle_http2(struct proxy *proxy, uint64_t age, uint64_t now)
{
    struct shedding *shedding = &proxy->shedding;
    struct connection *connection = first_connection(&shedding->idle_http2);
    if (connection == NULL || !is_due(shedding, connection->since, age, now)) {
        return false;
    }
    struct session *session = &connection->session;
    session->ops->drain(session);
    if (session->step == SESSION_CLOSED || session->step == SESSION_LINGER) {
        metrics_count_at(proxy->metrics, METRIC_SHED, SHED_IDLE_HTTP2);
    } else { /* a request was here, or its last words do not leave */
        move(shedding, connection, SESSION_CLOSED); /* it stands behind the others anew */
    }
    connection_serve(proxy, session);
    return true;
}

void shedding_make_http2_room(struct proxy *proxy)
{
    uint64_t now = io_now(proxy->io);
    for (int i = 0; i < HTTP2_TRIED && !http2_context_has_room(&proxy->http2); i++) {
        if (!shed_idle_http2(proxy, IDLE_LAST_US, now)) {
            return;
        }
    }
}

/* How many wait, up to a bound. */
static uint64_t waiting(const struct list *waiters)
{
    uint64_t count = 0;
    for (const struct list *link = waiters->next; link != waiters && count < SHED_TURN_MAX;
         link = link->next) {
        count++;
    }
    return count;
}

static void shed_heads(struct proxy *proxy, uint64_t count, uint64_t now)
{
    struct shedding *shedding = &proxy->shedding;
    struct connection *connection = first_connection(&shedding->heads);
    while (count > 0 && connection != NULL && is_due(shedding, connection->since, STALL_US, now)) {
        metrics_count_at(proxy->metrics, METRIC_SHED, SHED_SLOW_HEAD);
        connection->session.ops->refuse(&connection->session, REASON_CONNECTIONS_FULL);
        connection_serve(proxy, &connection->session);
        count--;
        connection = first_connection(&shedding->heads);
    }
}

/* Ends handshakes of that age; returns how many. */
static uint64_t shed_handshakes(struct proxy *proxy, uint64_t count, uint64_t age, uint64_t now)
{
    struct shedding *shedding = &proxy->shedding;
    uint64_t done = 0;
    struct connection *connection = first_connection(&shedding->handshakes);
    while (done < count && connection != NULL && is_due(shedding, connection->since, age, now)) {
        metrics_count_at(proxy->metrics, METRIC_SHED, SHED_HANDSHAKE);
        connection->session.ops->refuse(&connection->session, REASON_TLS_HANDSHAKES_FULL);
        connection_serve(proxy, &connection->session);
        done++;
        connection = first_connection(&shedding->handshakes);
    }
    return done;
}

/*
 * How many handshakes there may be here, given what the other workers have; where some wait for
 * room, those go that stand still: in a flood of half handshakes a client that goes on needs its
 * place for a few round trips only.
 */
static void bound_handshakes(struct proxy *proxy, uint64_t now)
{
    struct openings *openings = &proxy->sessions.openings;
    if (proxy->tls.engine == NULL) {
        return;
    }
    uint64_t elsewhere = client_counts_handshakes_elsewhere(&proxy->clients);
    uint64_t most = proxy->generation->header->server.limits.handshakes;
    uint64_t room = elsewhere < most ? most - elsewhere : 1; /* nobody starves */
    openings->room = room < proxy->handshakes_place ? (uint32_t)room : proxy->handshakes_place;
    client_counts_set_handshakes(&proxy->clients, openings->open);
    uint64_t heap = tls_engine_heap(proxy->tls.engine);
    openings->short_of_memory = heap * 100 >= proxy->tls.heap_max * FULL_PERCENT;
    if (heap * 100 >= proxy->tls.heap_max * HIGH_PERCENT) {
        shed_heads(proxy, SHED_TURN_MAX, now); /* records in part, which hold a buffer each */
    }
    if (!list_is_empty(&openings->waiters) && openings->open >= openings->room) {
        (void)shed_handshakes(proxy, waiting(&openings->waiters), HANDSHAKE_US, now);
    }
}

/* Our part of what is too much, by our part of all there is. */
static uint64_t own_part(uint64_t own, uint64_t sum, uint64_t bound)
{
    uint64_t room = bound * ROOM_PERCENT / 100;
    uint64_t part = sum > room ? (sum - room) * own / sum + 1 : 0;
    return part < SHED_TURN_MAX ? part : SHED_TURN_MAX;
}

static void shed_connections(struct proxy *proxy, uint64_t now)
{
    const struct shed_level *level = &proxy->shedding.connections;
    uint64_t own = proxy->clients.connections;
    uint64_t sum = own + proxy->connections_elsewhere;
    if (level->high) {
        (void)shed_idle(proxy, SHED_TURN_MAX, IDLE_HIGH_US, now);
    }
    if (level->full) {
        uint64_t count = own_part(own, sum, proxy->connections_max);
        uint64_t leaving = proxy->shedding.leaving; /* they need nobody else to go in their place */
        count -= leaving < count ? leaving : count;
        shed_lingers(proxy, SHED_TURN_MAX, LINGER_US, now);
        count -= shed_handshakes(proxy, count, STALL_US, now);
        shed_heads(proxy, count - shed_idle(proxy, count, STALL_US, now), now);
    }
}

static struct exchange *first_stalled(const struct list *list, bool request)
{
    if (list_is_empty(list)) {
        return NULL;
    }
    return request ? CONTAINER_OF(list->next, struct exchange, upload.stall.link)
                   : CONTAINER_OF(list->next, struct exchange, response_stall.link);
}

/* The exchange behind this one in the list, or NULL. */
static struct exchange *next_stalled(const struct list *list, const struct stall *stall,
                                     bool request)
{
    const struct list before = {.next = stall->link.next};
    return stall->link.next == list ? NULL : first_stalled(&before, request);
}

static void give_up(struct exchange *exchange, enum shed_kind kind)
{
    static const enum reason reasons[SHED_KIND_COUNT] = {
        [SHED_SLOW_BODY] = REASON_SHED_SLOW_BODY,
        [SHED_SLOW_READER] = REASON_SHED_SLOW_READER,
        [SHED_SLOW_UPSTREAM] = REASON_BUFFERS_FULL,
    };
    metrics_count_at(exchange->proxy->metrics, METRIC_SHED, kind);
    exchange_fail(exchange, reasons[kind]); /* leaves the list */
    exchange_wake(exchange);
}

/* Ends exchanges of a list that have stood still for long; returns how many. */
static uint64_t shed_stalled(struct proxy *proxy, const struct list *list, enum shed_kind kind,
                             uint64_t count, uint64_t now)
{
    bool request = kind != SHED_SLOW_READER;
    uint64_t done = 0;
    struct exchange *exchange = first_stalled(list, request);
    while (done < count && exchange != NULL) {
        const struct stall *stall = request ? &exchange->upload.stall : &exchange->response_stall;
        if (!is_due(&proxy->shedding, stall->since, STALL_US, now)) {
            break;
        }
        give_up(exchange, kind);
        done++;
        exchange = first_stalled(list, request);
    }
    return done;
}

/* It has memory without which others cannot give their upstream connection back. */
static bool holds_scarce_memory(const struct exchange *exchange)
{
    if (list_is_empty(&exchange->proxy->holds.shorts)) {
        return false;
    }
    return (exchange->holds && exchange->response_hold.hold.blocks > 0) ||
           (exchange->uploads && exchange->upload.held.blocks > 0);
}

/* It has an upstream connection, or what others need to give theirs back. */
static bool holds_upstream(const struct exchange *exchange)
{
    return exchange->attempt.lease.connection != NULL || holds_scarce_memory(exchange);
}

static bool is_of_http2(const struct exchange *exchange)
{
    return http2_session_is(exchange->client->session);
}

/* Its response stands in a window, which the connection that it shares may need for others. */
static bool is_from_http2(const struct exchange *exchange)
{
    const struct stream *upstream = exchange->attempt.lease.stream;
    return upstream != NULL && upstream->session->ops->multiplexed;
}

/* The same, of those that are chosen; looks at SHED_TURN_MAX exchanges at most. */
static uint64_t shed_chosen(struct proxy *proxy, const struct list *list, enum shed_kind kind,
                            bool (*chosen)(const struct exchange *exchange), uint64_t count)
{
    uint64_t now = io_now(proxy->io);
    bool request = kind != SHED_SLOW_READER;
    uint64_t done = 0;
    struct exchange *exchange = first_stalled(list, request);
    for (int i = 0; i < SHED_TURN_MAX && done < count && exchange != NULL; i++) {
        const struct stall *stall = request ? &exchange->upload.stall : &exchange->response_stall;
        struct exchange *next = next_stalled(list, stall, request);
        if (!is_due(&proxy->shedding, stall->since, STALL_US, now)) {
            break;
        }
        if (chosen(exchange)) {
            give_up(exchange, kind);
            done++;
        }
        exchange = next;
    }
    return done;
}

/* Idle connections first, then bodies that stand in windows since nobody takes them. */
static void shed_http2(struct proxy *proxy, uint64_t now)
{
    const struct http2_memory *memory = &proxy->http2.memory;
    struct shed_level *level = &proxy->shedding.http2;
    uint64_t percent = http2_percent(memory);
    bool more = true;
    level->high = percent >= (level->high ? HTTP2_CALM_PERCENT : HTTP2_HIGH_PERCENT);
    level->full = memory->page_count > 0 && !http2_context_has_room(&proxy->http2);
    for (int i = 0; i < SHED_TURN_MAX && more && level->high; i++) {
        more = http2_percent(memory) >= HTTP2_CALM_PERCENT &&
               shed_idle_http2(proxy, level->full ? STALL_US : IDLE_HIGH_US, now);
    }
    if (level->high && http2_percent(memory) >= HTTP2_CALM_PERCENT) {
        (void)shed_chosen(proxy, &proxy->shedding.readers, SHED_SLOW_READER, is_from_http2,
                          HTTP2_TRIED);
    }
    if (memory->page_count > 0 && !http2_context_has_room(&proxy->http2)) {
        (void)shed_chosen(proxy, &proxy->shedding.uploads, SHED_SLOW_UPSTREAM, is_of_http2,
                          HTTP2_TRIED);
    }
}

static void shed_requests(struct proxy *proxy, uint64_t now)
{
    struct shedding *shedding = &proxy->shedding;
    if (!shedding->requests.full) {
        return;
    }
    uint64_t own = proxy->requests_open;
    uint64_t count = own_part(own, own, proxy->requests_place);
    uint64_t of_all = own_part(own, own + shedding->requests_elsewhere, proxy->requests_max);
    count = of_all > count ? of_all : count;
    count -= shed_stalled(proxy, &shedding->senders, SHED_SLOW_BODY, count, now);
    (void)shed_stalled(proxy, &shedding->readers, SHED_SLOW_READER, count, now);
}

static void shed_upstreams(struct proxy *proxy)
{
    const struct pool *pool = &proxy->pool;
    if (list_is_empty(&pool->waiters) || !list_is_empty(&pool->idle) ||
        pool->connections.in_use < pool->connections.capacity) {
        return;
    }
    uint64_t count = waiting(&pool->waiters);
    count -= shed_chosen(proxy, &proxy->shedding.senders, SHED_SLOW_BODY, holds_upstream, count);
    (void)shed_chosen(proxy, &proxy->shedding.readers, SHED_SLOW_READER, holds_upstream, count);
}

static void shed_buffers(struct proxy *proxy, uint64_t now)
{
    struct shedding *shedding = &proxy->shedding;
    const struct buffer_pool *buffers = &proxy->buffers;
    if (buffer_pool_spare(buffers) > 0) {
        return;
    }
    uint64_t count = waiting(&buffers->waiters);
    if (count == 0 && buffers->slab.in_use == buffers->slab.capacity) {
        count = waiting(&buffers->head_waiters);
    }
    if (count > 0) {
        count -= shed_stalled(proxy, &shedding->readers, SHED_SLOW_READER, count, now);
        (void)shed_stalled(proxy, &shedding->uploads, SHED_SLOW_UPSTREAM, count, now);
    }
}

void shedding_turn(struct proxy *proxy)
{
    struct shedding *shedding = &proxy->shedding;
    uint64_t now = io_now(proxy->io);
    look_around(proxy, now);
    judge(&shedding->connections, proxy->clients.connections + proxy->connections_elsewhere,
          proxy->connections_max);
    judge_requests(proxy);
    proxy->sessions.crowded = is_any_near(shedding);
    shedding->again = UINT64_MAX;
    if (proxy->requests_open > proxy->requests_share) {
        commons_note_borrowing(&proxy->commons, now); /* as long as it lasts */
        shedding->again = now + COMMONS_BORROWING_TIME / 2;
    }
    bound_handshakes(proxy, now);
    shed_connections(proxy, now);
    shed_http2(proxy, now);
    shed_requests(proxy, now);
    shed_upstreams(proxy);
    shed_buffers(proxy, now);
}
