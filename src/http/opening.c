#include "http/opening.h"

#include "base/assert.h"

enum {
    STEPS_PER_TURN = 16,        /* of handshakes: a few milliseconds, then others are served */
    FIRST_READ_MAX = 16 * 1024, /* what a record holds at most; the library takes it in one piece */
};

static_assert(sizeof(((struct openings *)NULL)->failed.name) == TLS_HOST_NAME_MAX,
              "what a client may name has room");
static_assert(offsetof(struct opening, session) == 0,
              "sessions of all protocols share one address");

static const enum reason FAILURES[] = {
    [TLS_FAILURE_CLOSED] = REASON_TLS_CLOSED,
    [TLS_FAILURE_PLAIN_HTTP] = REASON_TLS_PLAIN_HTTP,
    [TLS_FAILURE_PROTOCOL] = REASON_TLS_PROTOCOL,
    [TLS_FAILURE_NO_COMMON] = REASON_TLS_NO_COMMON,
    [TLS_FAILURE_UNKNOWN_NAME] = REASON_TLS_UNKNOWN_NAME,
    [TLS_FAILURE_NO_ALPN] = REASON_TLS_NO_ALPN,
    [TLS_FAILURE_NO_CERTIFICATE] = REASON_TLS_NO_CERTIFICATE,
    [TLS_FAILURE_BAD_CERTIFICATE] = REASON_TLS_BAD_CERTIFICATE,
    [TLS_FAILURE_REFUSED] = REASON_TLS_REFUSED,
    [TLS_FAILURE_MEMORY] = REASON_TLS_MEMORY,
};

void openings_init(struct openings *openings)
{
    *openings = (struct openings){.steps = STEPS_PER_TURN};
    list_init(&openings->waiters);
}

/* Those who wait run again, as many as there is room for: they look themselves. */
static void call_waiters(struct session_context *context)
{
    struct openings *openings = &context->openings;
    uint32_t room = openings->open < openings->room ? openings->room - openings->open : 0;
    for (uint32_t i = 0; i < room && i < openings->steps; i++) {
        struct list *link = list_pop_front(&openings->waiters);
        if (link == NULL) {
            return;
        }
        struct opening *opening = CONTAINER_OF(link, struct opening, wait);
        io_requeue(context->io, &opening->session.transport.socket);
    }
}

void openings_turn(struct session_context *context)
{
    context->openings.steps = STEPS_PER_TURN;
    if (!list_is_empty(&context->openings.waiters)) {
        call_waiters(context);
    }
}

/* The handshake is over, one way or the other. */
static void leave(struct opening *opening)
{
    struct session_context *context = opening->session.context;
    list_unlink(&opening->wait);
    if (opening->counted) {
        opening->counted = false;
        context->openings.open--;
    }
}

/* For the record: with the connection goes what is known of it. */
static void note_failure(struct opening *opening)
{
    struct openings *openings = &opening->session.context->openings;
    struct tls_info info = {0};
    if (tls_is_on(&opening->session.transport)) {
        tls_describe(&opening->session.transport, &info);
        opening->session.detail = tls_failure_detail(&opening->session.transport);
    }
    bool fits = info.server_name.size <= sizeof(openings->failed.name);
    openings->failed.opening = opening;
    openings->failed.version = info.version;
    openings->failed.name_size = fits ? (uint8_t)info.server_name.size : 0;
    if (openings->failed.name_size > 0) {
        memcpy(openings->failed.name, info.server_name.data, info.server_name.size);
    }
}

void opening_describe(const struct opening *opening, struct span *version, struct span *name)
{
    const struct openings *openings = &opening->session.context->openings;
    bool is_it = openings->failed.opening == opening;
    *version = is_it ? openings->failed.version : SPAN_EMPTY;
    *name = is_it && openings->failed.name_size > 0
                ? span_of(openings->failed.name, openings->failed.name_size)
                : SPAN_EMPTY;
}

static void close_session(struct opening *opening, enum reason failure, bool reset)
{
    struct session *session = &opening->session;
    leave(opening);
    if (failure != REASON_NONE) {
        note_failure(opening);
    }
    timer_cancel(session->context->wheel, &session->timer);
    if (reset) {
        session->transport.ops->reset(&session->transport);
    } else {
        session->transport.ops->close(&session->transport);
    }
    session->failure = failure;
    session->step = SESSION_CLOSED;
    opening->event_closed = true;
}

static void finish(struct opening *opening)
{
    struct session *session = &opening->session;
    struct openings *openings = &session->context->openings;
    struct tls_info info;
    tls_describe(&session->transport, &info);
    opening->alpn = info.alpn;
    openings->full += info.resumed ? 0 : 1;
    openings->resumed += info.resumed ? 1 : 0;
    leave(opening);
    timer_pause(&session->timer);
    opening->event_open = true;
}

/* Who speaks HTTP to a port of TLS is told so, in his own language. */
static void answer_in_plain(struct opening *opening)
{
    struct session *session = &opening->session;
    tls_abandon(&session->transport);
    leave(opening);
    timer_pause(&session->timer);
    opening->refusal = REASON_TLS_PLAIN_HTTP;
    opening->event_open = true;
}

static void go_on(struct opening *opening)
{
    struct session *session = &opening->session;
    struct openings *openings = &session->context->openings;
    enum tls_failure failure = TLS_FAILURE_CLOSED;
    if (openings->steps == 0) {
        io_requeue(session->context->io, &session->transport.socket);
        return;
    }
    openings->steps--;
    enum status status = tls_handshake(&session->transport, &failure);
    if (status == OK) {
        finish(opening);
    } else if (status == ERROR && failure == TLS_FAILURE_PLAIN_HTTP) {
        answer_in_plain(opening);
    } else if (status == ERROR) {
        close_session(opening, FAILURES[failure], false);
    }
}

/* The first bytes, if they are there and it is our turn. Who brings none, and goes, is no news. */
static void begin(struct opening *opening)
{
    struct session *session = &opening->session;
    struct session_context *context = session->context;
    struct openings *openings = &context->openings;
    struct transport *transport = &session->transport;
    size_t got = 0;
    if (list_is_linked(&opening->wait) || !transport_may_read(transport)) {
        return;
    }
    if (openings->open >= openings->room || openings->steps == 0) {
        list_push_back(&openings->waiters, &opening->wait);
        return;
    }
    enum status status = transport->ops->read(transport, context->scratch, FIRST_READ_MAX, &got);
    if (status == AGAIN) {
        return;
    }
    if (status != OK) {
        close_session(opening, REASON_NONE, false);
        return;
    }
    if (openings->short_of_memory ||
        !tls_begin_server(transport, opening->server, span_of(context->scratch, got))) {
        close_session(opening, REASON_TLS_MEMORY, true);
        return;
    }
    opening->counted = true;
    openings->open++;
    session->step = SESSION_HANDSHAKE;
    go_on(opening);
}

static void opening_run(struct session *session)
{
    struct opening *opening = opening_of(session);
    if (session->step == SESSION_PREFACE) {
        begin(opening);
    } else if (session->step == SESSION_HANDSHAKE) {
        go_on(opening);
    }
}

/* Who said nothing at all is not recorded: browsers connect in advance, and balancers to look. */
static void opening_expire(struct session *session)
{
    struct opening *opening = opening_of(session);
    bool waits = session->step == SESSION_HANDSHAKE || list_is_linked(&opening->wait);
    close_session(opening, waits ? REASON_TLS_HANDSHAKE_TIMEOUT : REASON_NONE, true);
}

static enum session_event opening_next_event(struct session *session, struct stream **stream)
{
    struct opening *opening = opening_of(session);
    (void)stream;
    if (opening->event_open) {
        opening->event_open = false;
        return SESSION_EVENT_OPEN;
    }
    if (opening->event_closed) {
        opening->event_closed = false;
        return SESSION_EVENT_CLOSED;
    }
    return SESSION_EVENT_NONE;
}

static void opening_refuse(struct session *session, enum reason reason)
{
    close_session(opening_of(session), reason, true);
}

static void opening_drain(struct session *session)
{
    if (session->step != SESSION_CLOSED) {
        close_session(opening_of(session), REASON_NONE, false);
    }
}

static void opening_kill(struct session *session)
{
    if (session->step != SESSION_CLOSED) {
        close_session(opening_of(session), session->failure, true);
    }
}

static const struct session_ops OPENING = {
    .run = opening_run,
    .expire = opening_expire,
    .next_event = opening_next_event,
    .refuse = opening_refuse,
    .drain = opening_drain,
    .kill = opening_kill,
};

void opening_start(struct session *session, struct tls_server *server)
{
    struct opening *opening = opening_of(session);
    struct session_context *context = session->context;
    session_clear_rest(session, sizeof(*opening));
    session->ops = &OPENING;
    session->step = SESSION_PREFACE;
    opening->server = server;
    list_init(&opening->wait);
    timer_set(context->wheel, &session->timer,
              io_now(context->io) + context->limits.tls_handshake_timeout);
}

bool opening_is(const struct session *session)
{
    return session->ops == &OPENING;
}
