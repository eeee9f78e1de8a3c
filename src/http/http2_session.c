#include "http/http2_session.h"

#include "base/assert.h"

enum {
    READS_MAX = 8,           /* of the scratch's size in one run, then it is the others' turn */
    NOTICE_US = 1000 * 1000, /* between the two GOAWAY, where the peer answers no PING */
    RESPONSE_FIELDS = 4,     /* what we add at most */
    STATUS_SIZE = 3,
    LENGTH_SIZE_MAX = 20,
};

static uint64_t now_of(const struct http2_wire *wire)
{
    return io_now(wire->session->context->io);
}

/* ---- Heads ---- */

static const struct stream_ops STREAM_OPS;

/*
 * More than were allowed, or than there is memory for: the peer may send it again, elsewhere. What
 * is whole to the client may still be on its way upstream, and takes a place of which the client
 * knows nothing: refused, too, but not held against it.
 */
static struct http2_stream *begin_stream(struct http2_wire *wire, int32_t id)
{
    struct session_context *context = wire->session->context;
    uint32_t max = context->http2->limits.streams;
    bool allowed = wire->held - wire->whole < max;
    bool room = allowed && wire->held < 2 * max;
    struct http2_stream *stream = room ? http2_stream_create(wire, &STREAM_OPS) : NULL;
    if (!allowed) {
        http2_wire_charge(wire, HTTP2_GLITCH_STREAM_REFUSED);
    }
    if (stream == NULL) {
        (void)nghttp2_submit_rst_stream(wire->codec, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
        return NULL;
    }
    stream->id = id;
    wire->last_id = id;
    wire->head_deadline = now_of(wire) + context->limits.request_head_timeout;
    return stream;
}

/* The head is complete or refused: from here on an exchange holds the stream. */
static void head_came(struct http2_wire *wire, struct http2_stream *stream)
{
    wire->head_deadline = UINT64_MAX;
    wire->streams_total++;
    wire->draining |= wire->streams_total >= wire->session->context->limits.requests_max;
    stream->final_head = true;
    http2_stream_announce(stream, true);
}

static const struct http2_role ROLE = {.begin_stream = begin_stream, .head_came = head_came};

/* The head that is coming in is refused, and with it the connection: what follows it is unknown. */
static void refuse_head(struct http2_wire *wire, enum reason reason)
{
    struct http2_stream *stream = wire->heads;
    wire->heads = NULL;
    stream->refusal = reason;
    stream->head_complete = true;
    head_came(wire, stream);
    wire->draining = true;
    wire->goaway_deadline = 0;
}

/* ---- The end of a connection ---- */

/* What lingers has given all back but its connection. */
static void end_linger(struct http2_session *session)
{
    struct session *base = &session->session;
    timer_cancel(base->context->wheel, &base->timer);
    base->transport.ops->close(&base->transport);
    base->step = SESSION_CLOSED;
    session->event_closed = true;
}

/* Reads and forgets, so that the peer can read our last words before a reset would destroy them. */
static void discard_input(struct http2_session *session)
{
    struct session_context *context = session->session.context;
    struct transport *transport = &session->session.transport;
    for (;;) {
        size_t got = 0;
        enum status status =
            transport->ops->read(transport, context->scratch, context->scratch_size, &got);
        if (status == AGAIN) {
            return;
        }
        if (status != OK || got > session->linger_left) {
            end_linger(session);
            return;
        }
        session->linger_left -= got;
    }
}

/* Says that no more comes as soon as there is room for it. */
static void linger(struct http2_session *session)
{
    struct transport *transport = &session->session.transport;
    if (session->fin_due) {
        session->fin_due = transport->ops->shutdown(transport) == AGAIN;
    }
    discard_input(session);
}

static void begin_linger(struct http2_session *session)
{
    struct http2_wire *wire = session->wire;
    struct session *base = &session->session;
    const struct session_limits *limits = &base->context->limits;
    if (wire->in_ended || base->context->crowded || !transport_is_open(&base->transport)) {
        http2_wire_close(session, false);
        return;
    }
    session->fin_due = true;
    base->step = SESSION_LINGER;
    session->linger_left = limits->linger_bytes_max;
    http2_wire_drop(session);
    timer_set(base->context->wheel, &base->timer,
              io_now(base->context->io) + limits->linger_timeout);
    linger(session);
}

/* The last GOAWAY: streams above the last one that we have seen were not looked at. */
static void say_goodbye(struct http2_wire *wire)
{
    wire->goaway_deadline = UINT64_MAX;
    wire->draining = true;
    wire->noticed = true;
    if (!wire->goaway_sent && !wire->muted) {
        wire->goaway_sent = true;
        (void)nghttp2_submit_goaway(wire->codec, NGHTTP2_FLAG_NONE, wire->last_id, NGHTTP2_NO_ERROR,
                                    NULL, 0);
    }
}

/* RFC 9113, 6.8: first a GOAWAY that names no stream, so that requests on their way are served. */
static void give_notice(struct http2_wire *wire)
{
    if (wire->noticed || wire->muted) {
        return;
    }
    wire->noticed = true;
    wire->goaway_deadline = wire->goaway_deadline == 0 ? 0 : now_of(wire) + NOTICE_US;
    (void)nghttp2_submit_shutdown_notice(wire->codec);
    http2_wire_ping(wire);
}

/* The codec will read nothing more: after its own GOAWAY, or the peer's and the last stream. */
static bool is_over(const struct http2_wire *wire)
{
    return wire->muted || wire->in_ended || nghttp2_session_want_read(wire->codec) == 0;
}

/* Without the peer's end of it no request on its way can become whole. */
static void break_unfinished(struct http2_wire *wire)
{
    for (struct list *link = wire->streams.next; link != &wire->streams; link = link->next) {
        struct http2_stream *stream = CONTAINER_OF(link, struct http2_stream, link);
        if (!stream->peer_ended && !stream->broken && stream->announced) {
            http2_stream_break(stream);
        }
    }
}

static void end_if_over(struct http2_session *session)
{
    struct http2_wire *wire = session->wire;
    if (wire->held > 0) {
        if (wire->in_ended) {
            break_unfinished(wire);
        } else {
            http2_wire_break_streams(wire);
        }
        return;
    }
    if (http2_wire_is_flushed(wire)) {
        begin_linger(session);
    }
}

/*
 * A peer that does not take our last words does not keep the connection for it: those of the end,
 * and what is left of a response that was given up, since its peer had taken nothing for its whole
 * time.
 */
static void set_output_deadline(struct http2_wire *wire)
{
    bool flushed = http2_wire_is_flushed(wire);
    bool last = wire->cut || wire->goaway_sent || is_over(wire);
    wire->cut &= !flushed;
    if (flushed || !last || wire->held > 0) {
        wire->output_deadline = UINT64_MAX;
    } else if (wire->output_deadline == UINT64_MAX) {
        wire->output_deadline = now_of(wire) + wire->session->context->limits.linger_timeout;
    }
}

/* Between requests the connection has so long; only requests count, no other frame. */
static void set_idle_deadline(struct http2_wire *wire)
{
    if (wire->held > 0) {
        wire->idle_deadline = UINT64_MAX;
    } else if (wire->idle_deadline == UINT64_MAX && !wire->goaway_sent) {
        wire->idle_deadline = now_of(wire) + wire->session->context->limits.keep_alive_timeout;
    }
}

/*
 * Takes the consequences of whatever happened, and sends (http2_wire_send, or _flush). The wire may
 * be gone afterwards.
 */
static void settle(struct http2_session *session, bool (*send)(struct http2_wire *wire))
{
    struct http2_wire *wire = session->wire;
    struct session *base = &session->session;
    if (base->step == SESSION_CLOSED || base->step == SESSION_LINGER) {
        return;
    }
    if (wire->windows_moved) {
        wire->windows_moved = false;
        http2_wire_wake_waiting(wire);
    }
    if (wire->draining || base->context->draining) {
        give_notice(wire);
    }
    if (wire->goaway_deadline <= now_of(wire)) {
        say_goodbye(wire);
    }
    (void)send(wire);
    if (wire->dead) {
        http2_wire_close(session, wire->held > 0);
        return;
    }
    if (is_over(wire)) {
        end_if_over(session);
        if (base->step == SESSION_CLOSED || base->step == SESSION_LINGER) {
            return;
        }
    }
    set_idle_deadline(wire);
    set_output_deadline(wire);
    base->step = wire->held > 0 ? SESSION_BUSY : wire->heads != NULL ? SESSION_HEAD : SESSION_IDLE;
    http2_wire_arm(wire);
}

/* ---- The session's methods ---- */

static void read_frames(struct http2_session *session)
{
    struct http2_wire *wire = session->wire;
    enum status status = OK;
    (void)http2_wire_send(wire); /* what has no room holds reading back */
    for (int i = 0; i < READS_MAX && status == OK; i++) {
        status = http2_wire_receive(wire);
        if (status == OK) {
            (void)http2_wire_pump(wire);
        }
    }
    if (status == OK) {
        http2_wire_requeue(wire); /* the others' turn */
    }
}

static void session_run(struct session *base)
{
    struct http2_session *session = http2_session_of(base);
    if (base->step == SESSION_CLOSED) {
        return;
    }
    if (base->step == SESSION_LINGER) {
        linger(session);
        return;
    }
    session->wire->running = true;
    read_frames(session);
    settle(session, http2_wire_send);
    if (session->wire != NULL) {
        session->wire->running = false;
    }
}

static void session_expire(struct session *base)
{
    struct http2_session *session = http2_session_of(base);
    struct http2_wire *wire = session->wire;
    uint64_t now = io_now(base->context->io);
    if (base->step == SESSION_LINGER) {
        end_linger(session);
        return;
    }
    if (wire->output_deadline <= now) {
        http2_wire_close(session, true);
        return;
    }
    wire->running = true;
    wire->retry = wire->retry <= now ? UINT64_MAX : wire->retry;
    /* What has passed is over: a deadline that stayed would be due again at once. */
    if (wire->head_deadline <= now) {
        wire->head_deadline = UINT64_MAX;
        if (wire->heads != NULL) { /* else it ended before it was complete */
            refuse_head(wire, REASON_REQUEST_HEAD_TIMEOUT);
        }
    }
    if (wire->idle_deadline <= now) {
        wire->idle_deadline = UINT64_MAX;
        say_goodbye(wire);
    }
    settle(session, http2_wire_send);
    if (session->wire != NULL) {
        session->wire->running = false;
    }
}

static void session_refuse(struct session *base, enum reason reason)
{
    struct http2_session *session = http2_session_of(base);
    struct http2_wire *wire = session->wire;
    if (base->step == SESSION_CLOSED || base->step == SESSION_LINGER) {
        return; /* there was no memory for it, or it has said goodbye already */
    }
    ASSERT(wire->held == 0);
    wire->running = true;
    if (wire->heads != NULL) {
        refuse_head(wire, reason);
    } else {
        http2_wire_terminate(wire, NGHTTP2_ENHANCE_YOUR_CALM, reason);
    }
    settle(session, http2_wire_send);
    if (session->wire != NULL) {
        session->wire->running = false;
    }
}

static void session_drain(struct session *base)
{
    struct http2_session *session = http2_session_of(base);
    struct http2_wire *wire = session->wire;
    if (base->step == SESSION_CLOSED || base->step == SESSION_LINGER) {
        return;
    }
    wire->running = true;
    wire->draining = true;
    if (wire->held == 0) {
        read_frames(session); /* a request that is here already is served */
    }
    if (wire->held == 0 && wire->heads == NULL) {
        say_goodbye(wire);
    }
    settle(session, http2_wire_send);
    if (session->wire != NULL) {
        session->wire->running = false;
    }
}

static void session_kill(struct session *base)
{
    if (base->step == SESSION_LINGER) {
        end_linger(http2_session_of(base));
    } else if (base->step != SESSION_CLOSED) {
        http2_wire_close(http2_session_of(base), base->step == SESSION_BUSY);
    }
}

/* ---- The stream's methods ---- */

static enum status read_request(struct stream *base, struct arena *arena, struct request_head *head,
                                enum reason *reason)
{
    struct http2_stream *stream = http2_stream_of(base);
    struct http2_wire *wire = http2_wire_of_stream(stream);
    enum status status = http2_parse_request(
        &stream->head, stream->bodyless, &wire->session->context->limits.head, arena, head, reason);
    http2_section_clear(&stream->head, &wire->account);
    if (stream->refusal != REASON_NONE) {
        *reason = stream->refusal;
        return ERROR;
    }
    if (status != OK) {
        stream->refusal = *reason;
        return ERROR;
    }
    if (stream->broken || wire->dead) {
        /* Reset before anybody was troubled with it. */
        stream->refusal =
            base->failure != REASON_NONE ? (enum reason)base->failure : REASON_CLIENT_CLOSED;
        *reason = stream->refusal;
        return ERROR;
    }
    stream->read = true;
    stream->in_length = head->framing == FRAMING_LENGTH;
    stream->in_remaining = head->content_length;
    stream->expects_continue = head->expect_continue;
    base->in_ended = stream->bodyless;
    return OK;
}

static enum status no_response(struct stream *stream, struct arena *arena, enum method method,
                               struct response_head *head, enum reason *reason)
{
    (void)stream, (void)arena, (void)method, (void)head, (void)reason;
    UNREACHABLE("a client sends no responses");
}

static enum status no_request(struct stream *stream, const struct request_message *message)
{
    (void)stream, (void)message;
    UNREACHABLE("a client is sent no requests");
}

static bool is_interim(const struct response_message *message)
{
    return message->status < 200 && message->switching == NULL;
}

/* The status, what only the message may say, and the fields, in the place for rendering. */
static struct http2_rendered render(const struct http2_wire *wire,
                                    const struct response_message *message,
                                    uint8_t status[STATUS_SIZE], struct output *length)
{
    struct session_context *context = wire->session->context;
    size_t fields = message->fields == NULL ? 0 : message->fields->count;
    struct http2_rendered rendered =
        http2_render_begin(context->render, context->render_size, fields + RESPONSE_FIELDS);
    uint16_t code = message->switching != NULL ? 200 : message->status; /* RFC 8441, 5 */
    for (int i = 0, rest = code; i < STATUS_SIZE; i++, rest /= 10) {
        status[STATUS_SIZE - 1 - i] = (uint8_t)('0' + rest % 10);
    }
    http2_render(&rendered, SPAN(":status"), span_of(status, STATUS_SIZE));
    http2_render_fields(&rendered, message->fields);
    bool has_length =
        message->status >= 200 && message->status != 204 && message->framing == FRAMING_LENGTH;
    if (has_length) {
        output_u64(length, message->content_length);
        http2_render(&rendered, SPAN("content-length"), output_bytes(length));
    }
    return rendered;
}

static enum status submit(struct http2_stream *stream, const struct http2_rendered *rendered,
                          const struct response_message *message)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    nghttp2_data_provider provider = http2_stream_provider(stream);
    uint64_t before = wire->out_count;
    int failed =
        is_interim(message)
            ? nghttp2_submit_headers(wire->codec, NGHTTP2_FLAG_NONE, stream->id, NULL,
                                     rendered->entries, rendered->count, NULL)
            : nghttp2_submit_response(wire->codec, stream->id, rendered->entries, rendered->count,
                                      message->head_only ? NULL : &provider);
    if (failed < 0) {
        http2_stream_break(stream); /* no memory: a flush says so */
    }
    (void)http2_wire_pump(wire);
    http2_stream_note_queued(stream, before);
    return OK;
}

static enum status write_response(struct stream *base, const struct response_message *message)
{
    struct http2_stream *stream = http2_stream_of(base);
    struct http2_wire *wire = http2_wire_of_stream(stream);
    uint8_t status[STATUS_SIZE];
    uint8_t digits[LENGTH_SIZE_MAX];
    struct output length = output_over(digits, sizeof(digits));
    bool alive = !stream->broken && !wire->dead;
    if (alive) {
        struct http2_rendered rendered = render(wire, message, status, &length);
        if (rendered.overflowed) {
            return ERROR; /* a head at its limit, and our own fields on top */
        }
        if (!http2_stream_takes_head(stream, rendered.weight + HTTP2_FRAME_HEADER)) {
            return AGAIN;
        }
        if (!is_interim(message)) {
            enum framing framing = message->head_only ? FRAMING_NONE : message->framing;
            http2_stream_begin_out(stream, framing, message->content_length);
            stream->end_apart = message->trailers;
            base->closing =
                true; /* what is left of the request is not waited for: a reset ends it */
        }
        return submit(stream, &rendered, message);
    }
    if (!is_interim(message)) {
        http2_stream_begin_out(stream, message->head_only ? FRAMING_NONE : message->framing,
                               message->content_length);
    }
    return OK; /* a flush says that nobody is there */
}

static void send_continue(struct http2_stream *stream)
{
    const struct response_message message = {.status = 100};
    if (write_response(&stream->stream, &message) == OK) {
        stream->expects_continue = false;
        (void)http2_stream_flush(&stream->stream); /* a failure shows at the next read or write */
    }
}

static enum status read_body(struct stream *base, size_t max, struct span *bytes,
                             enum reason *reason)
{
    struct http2_stream *stream = http2_stream_of(base);
    if (stream->first != NULL || stream->peer_ended || base->out_begun) {
        stream->expects_continue = false; /* the client did not wait (RFC 9110, 10.1.1) */
    }
    if (stream->expects_continue && !stream->broken) {
        send_continue(stream);
    }
    return http2_stream_read(stream, max, bytes, REASON_CLIENT_BODY_TRUNCATED, reason);
}

/* What becomes of a stream that the codec still knows. */
static void finish(struct http2_stream *stream)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    const struct stream *base = &stream->stream;
    if (stream->refusal == REASON_HTTP2_MALFORMED ||
        stream->stream.failure == REASON_HTTP2_MALFORMED) {
        if (stream->stream.failure ==
            REASON_NONE) { /* else the codec has found it, and done that */
            http2_wire_charge(wire, HTTP2_GLITCH_RESET_CAUSED);
        }
        http2_stream_reset(stream, NGHTTP2_PROTOCOL_ERROR);
    } else if (!base->out_begun && !stream->read && stream->refusal == REASON_NONE) {
        http2_stream_reset(stream, NGHTTP2_REFUSED_STREAM); /* nobody has looked at it */
    } else if (!base->out_begun || !base->out_ended) {
        http2_stream_reset(stream, NGHTTP2_INTERNAL_ERROR); /* shows as cut short */
    } else if (!stream->end_sent) {
        http2_stream_reset(stream, NGHTTP2_CANCEL);
    } else if (!stream->peer_ended) {
        http2_stream_reset(stream, NGHTTP2_NO_ERROR); /* RFC 9113, 8.1: an early answer */
    }
}

/* Only this stream ends; the connection goes on. */
static void release(struct stream *base, bool keep)
{
    struct http2_stream *stream = http2_stream_of(base);
    struct http2_session *session = http2_session_of(base->session);
    struct http2_wire *wire = session->wire;
    (void)keep;
    base->holder = NULL;
    if (!stream->closed) {
        finish(stream);
    } else if (stream->whole) {
        http2_budget_credit(&wire->budget, HTTP2_CREDIT_STREAM);
    }
    bool running = wire->running;
    wire->running = true;
    http2_stream_destroy(stream);
    if (session->wire == NULL) {
        return; /* it was the last one of a connection that is over */
    }
    if (session->session.context->crowded && !wire->draining) {
        session->session.context->crowded_closes++;
        wire->draining = true;
    }
    settle(session, http2_wire_flush);
    if (session->wire != NULL) {
        session->wire->running = running;
    }
}

static const struct stream_ops STREAM_OPS = {
    .read_request = read_request,
    .read_response = no_response,
    .read_body = read_body,
    .is_at_end = http2_stream_is_at_end,
    .trailers = http2_stream_trailers,
    .write_request = no_request,
    .write_response = write_response,
    .room = http2_stream_room,
    .write_body = http2_stream_write_body,
    .write_end = http2_stream_write_end,
    .flush = http2_stream_flush,
    .is_broken = http2_stream_is_broken,
    .is_unwritten = http2_stream_is_unwritten,
    .acknowledged = http2_stream_acknowledged,
    .release = release,
};

static const struct session_ops SESSION_OPS = {
    .run = session_run,
    .expire = session_expire,
    .next_event = http2_wire_next_event,
    .refuse = session_refuse,
    .drain = session_drain,
    .kill = session_kill,
};

bool http2_session_is(const struct session *session)
{
    return session->ops == &SESSION_OPS;
}

/* Without a codec: empty SETTINGS, and GOAWAY with ENHANCE_YOUR_CALM. */
static void turn_away(struct http2_session *session)
{
    static const uint8_t WORDS[] = {0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7,
                                    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11};
    struct session *base = &session->session;
    struct iovec piece = {(void *)(uintptr_t)WORDS, sizeof(WORDS)}; /* only read */
    size_t put = 0;
    (void)base->transport.ops->write(&base->transport, &piece, 1, &put);
    timer_cancel(base->context->wheel, &base->timer); /* the session before us may have set it */
    base->transport.ops->close(&base->transport);
    base->step = SESSION_CLOSED;
    base->failure = REASON_HTTP2_MEMORY;
    session->event_closed = true;
}

void http2_session_start(struct session *base, const struct session_early *early)
{
    struct http2_session *session = http2_session_of(base);
    session_clear_rest(base, sizeof(*session));
    base->ops = &SESSION_OPS;
    bool open = http2_wire_open(session, &ROLE, false);
    if (open) {
        base->step = SESSION_IDLE;
        session->wire->running = true;
        (void)http2_wire_pump(session->wire); /* our SETTINGS come first, whatever is said next */
        if (early != NULL && early->inbox != NULL) {
            http2_wire_feed(session->wire,
                            span_of(early->inbox + early->start, early->end - early->start));
        }
    }
    if (early != NULL && early->inbox != NULL) {
        slab_release(base->context->client_inboxes, early->inbox);
    }
    if (!open) {
        turn_away(session);
        return;
    }
    read_frames(session);
    settle(session, http2_wire_send);
    if (session->wire != NULL) {
        session->wire->running = false;
    }
}
