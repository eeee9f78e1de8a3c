#include "http/http1_session.h"

#include "base/assert.h"
#include "http/http1_write.h"

static struct http1_session *of_stream(struct stream *stream)
{
    return CONTAINER_OF(http1_wire_of_stream(stream), struct http1_session, wire);
}

static void set_timer(struct http1_session *session, uint64_t timeout)
{
    struct session_context *context = session->wire.session.context;
    timer_set(context->wheel, &session->wire.session.timer, io_now(context->io) + timeout);
}

static void close_quietly(struct http1_session *session)
{
    http1_wire_close(&session->wire, false);
}

/* The head is complete or refused: from here on an exchange holds the stream. */
static void hand_out(struct http1_session *session, enum reason refusal)
{
    struct http1_wire *wire = &session->wire;
    ASSERT(wire->stream.holder == NULL);
    wire->session.step = SESSION_BUSY;
    wire->event_head = true;
    wire->stream = (struct stream){
        .ops = wire->stream.ops,
        .session = &wire->session,
        .began = session->head_began != 0 ? session->head_began : io_now(wire->session.context->io),
    };
    wire->chunked = NULL;
    session->refusal = refusal;
    session->expects_continue = false;
    session->requests++;
    timer_pause(&wire->session.timer);
}

#define HTTP2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* Whether it is HTTP/2 that begins. AGAIN: it may be. Only the very first bytes can say so. */
static enum status judge_preface(struct http1_session *session, struct span bytes)
{
    const struct span preface = SPAN(HTTP2_PREFACE);
    size_t size = bytes.size < preface.size ? bytes.size : preface.size;
    session->yields = span_equal(span_first(bytes, size), span_first(preface, size));
    if (!session->yields) {
        return ERROR;
    }
    session->yielded = size == preface.size;
    return session->yielded ? OK : AGAIN;
}

struct session_early http1_session_leave(struct session *base)
{
    struct http1_wire *wire = &http1_session_of(base)->wire;
    struct session_early early = {wire->inbox, wire->inbox_start, wire->inbox_end};
    ASSERT(http1_session_of(base)->yielded && wire->outbox.size == 0);
    wire->inbox = NULL;
    return early;
}

/* The first byte of a head has come. */
static void note_head(struct http1_session *session)
{
    struct session *base = &session->wire.session;
    if (session->head_began == 0) {
        session->head_began = io_now(base->context->io);
        base->step = SESSION_HEAD;
        set_timer(session, base->context->limits.request_head_timeout);
    }
}

/* Looks at what has arrived of a head. True when that settled it, one way or the other. */
static bool scan_head(struct http1_session *session)
{
    struct http1_wire *wire = &session->wire;
    struct session_context *context = wire->session.context;
    struct span bytes = http1_wire_pending(wire);
    if (bytes.size == 0) {
        return false;
    }
    note_head(session);
    if (session->yields) {
        enum status judged = judge_preface(session, bytes);
        if (judged != ERROR) {
            return judged == OK;
        }
    }
    enum reason reason = REASON_NONE;
    enum status status = http1_scan_head(&wire->scan, bytes, &context->limits.head, &reason);
    if (status == AGAIN) {
        return false;
    }
    hand_out(session, status == OK ? REASON_NONE : reason);
    return true;
}

static void read_heads(struct http1_session *session)
{
    struct http1_wire *wire = &session->wire;
    for (;;) {
        if (scan_head(session)) {
            return;
        }
        enum status status = http1_wire_fill(wire);
        if (status == AGAIN) {
            if (transport_may_read(&wire->session.transport)) {
                note_head(session); /* a part of a record of TLS, which takes memory */
            }
            return;
        }
        if (status == OK) {
            continue; /* the scan refuses a head before the inbox is full: this ends */
        }
        if (http1_wire_pending(wire).size > 0) { /* else it was a part of a goodbye that had come */
            hand_out(session, REASON_CLIENT_CLOSED);
        } else {
            close_quietly(session);
        }
        return;
    }
}

static void begin_idle(struct http1_session *session)
{
    struct http1_wire *wire = &session->wire;
    struct session_context *context = wire->session.context;
    http1_scan_init(&wire->scan, HTTP1_REQUEST);
    session->head_began = 0;
    wire->session.step = SESSION_IDLE;
    set_timer(session, context->limits.keep_alive_timeout);
}

/* Reads and forgets, so that the peer can read our last answer before a reset would destroy it. */
static void discard_input(struct http1_session *session)
{
    struct http1_wire *wire = &session->wire;
    struct session_context *context = wire->session.context;
    struct transport *transport = &wire->session.transport;
    for (;;) {
        size_t got = 0;
        enum status status =
            transport->ops->read(transport, context->scratch, context->scratch_size, &got);
        if (status == AGAIN) {
            return;
        }
        if (status != OK || got > wire->in_remaining) {
            close_quietly(session);
            return;
        }
        wire->in_remaining -= got;
    }
}

/* Says that no more comes as soon as there is room for it. */
static void linger(struct http1_session *session)
{
    struct http1_wire *wire = &session->wire;
    struct transport *transport = &wire->session.transport;
    if (wire->fin_due) {
        wire->fin_due = transport->ops->shutdown(transport) == AGAIN;
    }
    discard_input(session);
}

static void begin_linger(struct http1_session *session)
{
    struct http1_wire *wire = &session->wire;
    struct session_context *context = wire->session.context;
    /* Not open: the simulator has killed the process, which is only being swept up. */
    if (wire->in_ended_by_peer || wire->in_broken || !transport_is_open(&wire->session.transport)) {
        close_quietly(session);
        return;
    }
    wire->inbox_start = wire->inbox_end;
    http1_wire_trim(wire);
    wire->fin_due = true;
    wire->session.step = SESSION_LINGER;
    wire->in_remaining = context->limits.linger_bytes_max;
    set_timer(session, context->limits.linger_timeout);
    linger(session);
}

/* Unread input would turn our close into a reset that can overtake the answer. */
static void end_connection(struct http1_session *session)
{
    struct http1_wire *wire = &session->wire;
    bool unread = transport_may_read(&wire->session.transport) || http1_wire_pending(wire).size > 0;
    if (wire->stream.in_ended && !unread) {
        close_quietly(session);
    } else {
        begin_linger(session);
    }
}

static void session_run(struct session *base)
{
    struct http1_session *session = http1_session_of(base);
    switch (base->step) {
    case SESSION_IDLE:
    case SESSION_HEAD:
        read_heads(session);
        break;
    case SESSION_BUSY:
        session->wire.event_wake = true;
        break;
    case SESSION_LINGER:
        linger(session);
        break;
    case SESSION_CLOSED:
        break;
    case SESSION_PREFACE:
    case SESSION_HANDSHAKE:
    case SESSION_CONNECT:
        UNREACHABLE("a client's session does not connect");
    }
}

static void session_expire(struct session *base)
{
    struct http1_session *session = http1_session_of(base);
    if (base->step == SESSION_HEAD) {
        hand_out(session, REASON_REQUEST_HEAD_TIMEOUT);
    } else {
        ASSERT(base->step == SESSION_IDLE || base->step == SESSION_LINGER);
        close_quietly(session);
    }
}

static void session_refuse(struct session *base, enum reason reason)
{
    ASSERT(base->step == SESSION_IDLE || base->step == SESSION_HEAD);
    hand_out(http1_session_of(base), reason);
}

static void session_drain(struct session *base)
{
    struct http1_session *session = http1_session_of(base);
    session->draining = true;
    if (base->step == SESSION_IDLE) {
        read_heads(session); /* a request that is here already is served */
    }
    if (base->step == SESSION_IDLE) {
        close_quietly(session);
    }
}

static void session_kill(struct session *base)
{
    struct http1_session *session = http1_session_of(base);
    if (base->step == SESSION_CLOSED) {
        return;
    }
    ASSERT(session->wire.stream.holder == NULL);
    http1_wire_close(&session->wire, base->step == SESSION_BUSY);
}

/* Where the next message begins is unknown from here on. */
static enum status refuse(struct http1_session *session, enum reason why, enum reason *reason)
{
    session->refusal = why;
    *reason = why;
    return ERROR;
}

/* Of the head as much as has come, or as there is arena for: it may be too large. */
static void describe_refused(struct http1_wire *wire, struct arena *arena,
                             struct request_head *head)
{
    const struct http1_limits *limits = &wire->session.context->limits.head;
    struct span bytes = span_from(http1_wire_pending(wire), wire->scan.head_start);
    size_t size = bytes.size < limits->head_max ? bytes.size : limits->head_max;
    struct span copy = arena_copy(arena, span_first(bytes, size));
    if (copy.data != NULL) { /* arenas are sized for the largest head */
        http1_parse_refused(copy, limits, arena, head);
    }
}

static enum status read_request(struct stream *stream, struct arena *arena,
                                struct request_head *head, enum reason *reason)
{
    struct http1_session *session = of_stream(stream);
    struct http1_wire *wire = &session->wire;
    if (session->refusal != REASON_NONE) {
        describe_refused(wire, arena, head);
        *reason = session->refusal;
        return ERROR;
    }
    struct span bytes = http1_scan_head_bytes(&wire->scan, http1_wire_pending(wire));
    struct span copy = arena_copy(arena, bytes);
    if (copy.data == NULL) { /* arenas are sized for the largest head */
        return refuse(session, REASON_BUFFERS_FULL, reason);
    }
    http1_wire_consume(wire, wire->scan.head_size);
    http1_wire_trim(wire);
    const struct http1_limits *limits = &wire->session.context->limits.head;
    size_t mark = arena_mark(arena);
    if (http1_parse_request(copy, limits, arena, head, reason) != OK) {
        arena_rewind(arena, mark);
        http1_parse_refused(copy, limits, arena, head);
        return refuse(session, *reason, reason);
    }
    session->http_1_0 = head->version == HTTP_1_0;
    session->keep_alive = head->keep_alive;
    session->expects_continue = head->expect_continue;
    if (!http1_wire_begin_body(wire, HTTP1_REQUEST, head->framing, head->content_length, arena)) {
        return refuse(session, REASON_BUFFERS_FULL, reason);
    }
    return OK;
}

static enum status no_response(struct stream *stream, struct arena *arena, enum method method,
                               struct response_head *head, enum reason *reason)
{
    (void)stream, (void)arena, (void)method, (void)head, (void)reason;
    UNREACHABLE("a client sends no responses");
}

/* False when no buffer is free: the body then waits, as without room. */
static bool send_continue(struct http1_session *session)
{
    struct http1_wire *wire = &session->wire;
    const struct http1_delivery nothing = {0};
    struct output output = http1_wire_begin_output(wire);
    bool fits = http1_write_response(&output, 100, NULL, &nothing);
    ASSERT(fits);
    if (!http1_wire_commit_output(wire, &output)) {
        return false;
    }
    session->expects_continue = false;
    (void)http1_wire_flush(&wire->stream); /* a failure shows at the next read or write */
    return true;
}

static enum status read_body(struct stream *stream, size_t max, struct span *bytes,
                             enum reason *reason)
{
    struct http1_session *session = of_stream(stream);
    if (session->expects_continue && http1_wire_pending(&session->wire).size > 0) {
        session->expects_continue = false; /* the client did not wait (RFC 9110, 10.1.1) */
    }
    bool due = session->expects_continue && !stream->out_begun && !stream->in_ended;
    /* What of it waits for the client holds a buffer, and the lane was promised all there are. */
    if (due && (!send_continue(session) || stream->unsent > 0)) {
        return AGAIN;
    }
    return http1_wire_read_body(&session->wire, max, bytes, REASON_CLIENT_BODY_TRUNCATED, reason);
}

static uint64_t spliceable(struct stream *stream)
{
    return of_stream(stream)->expects_continue ? 0 : http1_wire_spliceable(stream);
}

static enum status splice_body(struct stream *stream, struct io_pipe *pipe, size_t max,
                               size_t *size, enum reason *reason)
{
    return http1_wire_splice_body(http1_wire_of_stream(stream), pipe, max, size,
                                  REASON_CLIENT_BODY_TRUNCATED, reason);
}

static enum status no_request(struct stream *stream, const struct request_message *message)
{
    (void)stream, (void)message;
    UNREACHABLE("a client is sent no requests");
}

/* Whether the connection can carry another request after this response. */
static bool may_persist(const struct http1_session *session, const struct response_message *message)
{
    const struct session_context *context = session->wire.session.context;
    return !message->close && session->refusal == REASON_NONE && session->keep_alive &&
           !session->draining && !context->draining &&
           session->requests < context->limits.requests_max && !session->wire.in_broken &&
           !session->expects_continue;
}

static enum http1_connection connection_option(const struct http1_session *session)
{
    if (!session->keep_alive) {
        return HTTP1_CONNECTION_CLOSE;
    }
    return session->http_1_0 ? HTTP1_CONNECTION_KEEP_ALIVE : HTTP1_CONNECTION_DEFAULT;
}

static enum status render(struct http1_session *session, const struct response_message *message,
                          const struct http1_delivery *delivery)
{
    struct http1_wire *wire = &session->wire;
    struct output output = http1_wire_begin_output(wire);
    if (!http1_write_response(&output, message->status, message->fields, delivery)) {
        return ERROR; /* a head at its limit, and our own fields on top */
    }
    return http1_wire_commit_output(wire, &output) ? OK : AGAIN;
}

static enum status switch_protocol(struct http1_session *session,
                                   const struct response_message *message)
{
    const struct http1_delivery delivery = {.framing = FRAMING_TUNNEL,
                                            .switching = message->switching};
    enum status status = render(session, message, &delivery);
    if (status == OK) {
        session->keep_alive = false;
        session->wire.stream.closing = true;
        http1_wire_begin_tunnel(&session->wire);
    }
    return status;
}

static enum status write_response(struct stream *stream, const struct response_message *message)
{
    struct http1_session *session = of_stream(stream);
    struct http1_wire *wire = &session->wire;
    struct http1_delivery delivery = {.framing = message->framing,
                                      .content_length = message->content_length};
    if (message->switching != NULL) {
        return switch_protocol(session, message);
    }
    if (message->status < 200) {
        return render(session, message, &delivery);
    }
    bool unknown_length = message->framing == FRAMING_CHUNKED && !message->head_only;
    struct session_context *context = wire->session.context;
    bool persists = may_persist(session, message) && !(unknown_length && session->http_1_0);
    context->crowded_closes += persists && context->crowded ? 1 : 0;
    session->keep_alive = persists && !context->crowded;
    if (delivery.framing == FRAMING_CHUNKED && session->http_1_0) {
        delivery.framing = message->head_only ? FRAMING_NONE : FRAMING_CLOSE;
    }
    delivery.connection = connection_option(session);
    stream->closing = !session->keep_alive;
    enum status status = render(session, message, &delivery);
    if (status != OK) {
        return status;
    }
    http1_wire_begin_out(wire, message->head_only ? FRAMING_NONE : delivery.framing,
                         message->content_length);
    return OK;
}

static void release(struct stream *stream, bool keep)
{
    struct http1_session *session = of_stream(stream);
    struct http1_wire *wire = &session->wire;
    bool truncated = stream->out_begun && !stream->out_ended;
    bool sent = stream->unsent == 0 && !wire->out_broken;
    stream->holder = NULL;
    /* Where length or chunks tell that something is missing, what there is may arrive in peace. */
    bool silent = truncated && wire->out_framing == FRAMING_CLOSE;
    if (silent || !sent || !stream->out_begun) {
        http1_wire_close(wire, true);
        return;
    }
    bool over = session->draining || wire->session.context->draining;
    if (truncated || over || !keep || !session->keep_alive || !stream->in_ended ||
        wire->in_broken) {
        end_connection(session);
        return;
    }
    begin_idle(session);
    /* Not at once: a client that pipelines takes its turn behind the others. */
    io_requeue(wire->session.context->io, &wire->session.transport.socket);
}

static const struct stream_ops STREAM_OPS = {
    .read_request = read_request,
    .read_response = no_response,
    .read_body = read_body,
    .spliceable = spliceable,
    .splice_body = splice_body,
    .trailers = http1_wire_trailers,
    .write_request = no_request,
    .write_response = write_response,
    .room = http1_wire_room,
    .write_body = http1_wire_write_body,
    .open_pipe = http1_wire_open_pipe,
    .write_pipe = http1_wire_write_pipe,
    .write_end = http1_wire_write_end,
    .flush = http1_wire_flush,
    .is_broken = http1_wire_is_broken,
    .is_unwritten = http1_wire_is_unwritten,
    .acknowledged = http1_wire_acknowledged,
    .release = release,
};

static enum session_event session_next_event(struct session *base, struct stream **stream)
{
    struct http1_session *session = http1_session_of(base);
    return session->yielded ? SESSION_EVENT_OPEN : http1_wire_next_event(base, stream);
}

static const struct session_ops SESSION_OPS = {
    .run = session_run,
    .expire = session_expire,
    .next_event = session_next_event,
    .refuse = session_refuse,
    .drain = session_drain,
    .kill = session_kill,
};

void http1_session_start(struct session *base, const struct session_early *early)
{
    struct http1_session *session = http1_session_of(base);
    session_clear_rest(base, sizeof(*session));
    http1_wire_init(&session->wire, &SESSION_OPS);
    session->wire.inbox_slab = base->context->client_inboxes;
    session->wire.stream.ops = &STREAM_OPS;
    session->keep_alive = true;
    if (early != NULL) {
        session->wire.inbox = early->inbox;
        session->wire.inbox_start = early->start;
        session->wire.inbox_end = early->end;
    }
    begin_idle(session);
}
