#include "http/http2_client.h"

#include "base/assert.h"
#include "net/tls.h"

enum {
    READS_MAX = 8,      /* of the scratch's size in one run, then it is the others' turn */
    REQUEST_FIELDS = 6, /* what we add at most */
    LENGTH_SIZE_MAX = 20,
    PING_RARER = 4, /* so many times the wait, each time: some servers bear few in a row */
    PING_WAIT_MAX_US = 15 * 60 * 1000 * 1000,
};

static uint64_t now_of(const struct http2_wire *wire)
{
    return io_now(wire->session->context->io);
}

/* ---- What comes ---- */

static struct http2_stream *no_stream(struct http2_wire *wire, int32_t id)
{
    (void)wire, (void)id;
    return NULL; /* an upstream begins none: push is off */
}

static void head_came(struct http2_wire *wire, struct http2_stream *stream)
{
    (void)wire;
    stream->final_head = !http2_section_is_interim(&stream->head);
    http2_stream_wake(stream);
}

static const struct http2_role ROLE = {.begin_stream = no_stream, .head_came = head_came};

/* ---- The connection ---- */

static bool takes_no_more(const struct http2_wire *wire)
{
    return wire->dead || wire->muted || wire->in_ended || wire->goaway_received ||
           nghttp2_session_check_request_allowed(wire->codec) == 0;
}

static bool is_over(const struct http2_wire *wire)
{
    return wire->dead || wire->muted || wire->in_ended ||
           nghttp2_session_want_read(wire->codec) == 0;
}

/*
 * Takes the consequences of whatever happened, and sends (http2_wire_send, or _flush). The wire may
 * be gone afterwards.
 */
static void settle(struct http2_session *session, bool (*send)(struct http2_wire *wire))
{
    struct http2_wire *wire = session->wire;
    struct session *base = &session->session;
    if (base->step == SESSION_CLOSED) {
        return;
    }
    if (wire->windows_moved) {
        wire->windows_moved = false;
        http2_wire_wake_waiting(wire);
    }
    (void)send(wire);
    bool useless = wire->held == 0 && (takes_no_more(wire) || base->context->draining);
    if (is_over(wire) || useless) {
        http2_wire_close(session, wire->held > 0);
        return;
    }
    if (wire->held > 0) {
        wire->idle_deadline = UINT64_MAX;
    } else if (wire->idle_deadline == UINT64_MAX) {
        wire->ping_deadline = UINT64_MAX;
        wire->idle_deadline = now_of(wire) + base->context->limits.upstream_keep_alive_timeout;
    }
    base->step = wire->held > 0 ? SESSION_BUSY : SESSION_IDLE;
    http2_wire_arm(wire);
}

/* ---- Whether the peer lives ---- */

static void expect_life(struct http2_wire *wire)
{
    uint64_t now = now_of(wire);
    wire->heard = now;
    wire->pinged = false;
    wire->ping_wait = wire->session->context->limits.upstream_ping_timeout;
    wire->ping_deadline = wire->ping_wait == 0 ? UINT64_MAX : now + wire->ping_wait;
}

/* It was silent for long, or seems to have been: bytes that came have not moved the deadline. */
static void ask_for_life(struct http2_wire *wire, uint64_t now)
{
    uint64_t timeout = wire->session->context->limits.upstream_ping_timeout;
    if (wire->pinged) {
        wire->failure = REASON_UPSTREAM_PING_TIMEOUT;
        http2_wire_die(wire);
    } else if (wire->heard + wire->ping_wait > now) {
        wire->ping_deadline = wire->heard + wire->ping_wait;
    } else if (!wire->muted) {
        uint64_t wait = PING_RARER * wire->ping_wait;
        http2_wire_ping(wire);
        wire->pinged = true;
        wire->ping_wait = wait < PING_WAIT_MAX_US ? wait : PING_WAIT_MAX_US;
        wire->ping_deadline = now + timeout;
    }
}

static void read_frames(struct http2_wire *wire)
{
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

static void client_run(struct session *base)
{
    struct http2_session *session = http2_session_of(base);
    if (base->step == SESSION_CLOSED) {
        return;
    }
    session->wire->running = true;
    read_frames(session->wire);
    settle(session, http2_wire_send);
    if (session->wire != NULL) {
        session->wire->running = false;
    }
}

static void client_expire(struct session *base)
{
    struct http2_session *session = http2_session_of(base);
    struct http2_wire *wire = session->wire;
    if (wire->idle_deadline <= now_of(wire)) {
        http2_wire_close(session, false);
        return;
    }
    if (wire->ping_deadline <= now_of(wire)) {
        ask_for_life(wire, now_of(wire));
    }
    wire->retry = UINT64_MAX;
    client_run(base);
}

static void client_drain(struct session *base)
{
    if (base->step == SESSION_IDLE) {
        http2_wire_close(http2_session_of(base), false);
    }
}

static void client_kill(struct session *base)
{
    struct http2_session *session = http2_session_of(base);
    if (base->step != SESSION_CLOSED) {
        ASSERT(session->wire->held == 0);
        http2_wire_close(session, base->step == SESSION_BUSY);
    }
}

static const struct stream_ops STREAM_OPS;

static struct stream *begin_stream(struct http2_session *session)
{
    struct http2_wire *wire = session->wire;
    struct http2_stream *stream = http2_stream_create(wire, &STREAM_OPS);
    if (stream == NULL) {
        return NULL;
    }
    stream->stream.in_begun = false;
    http2_stream_announce(stream, false);
    wire->idle_deadline = UINT64_MAX;
    if (wire->ping_deadline == UINT64_MAX) {
        expect_life(wire);
    }
    session->session.step = SESSION_BUSY;
    http2_wire_arm(wire);
    return &stream->stream;
}

/* What the peer allows, as far as it has said so. */
static uint32_t streams_max(const struct http2_wire *wire)
{
    uint32_t allowed =
        nghttp2_session_get_remote_settings(wire->codec, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    return allowed < HTTP2_UPSTREAM_STREAMS_MAX ? allowed : HTTP2_UPSTREAM_STREAMS_MAX;
}

static struct stream *open_stream(struct session *base)
{
    struct http2_session *session = http2_session_of(base);
    struct http2_wire *wire = session->wire;
    if (base->step == SESSION_CLOSED || transport_has_failed(&base->transport)) {
        return NULL;
    }
    if (base->step == SESSION_IDLE && transport_may_read(&base->transport)) {
        read_frames(wire); /* it may have said goodbye while nobody looked */
    }
    if (takes_no_more(wire) || wire->held >= streams_max(wire)) {
        return NULL;
    }
    return begin_stream(session);
}

/* ---- The stream's methods ---- */

static enum status no_request(struct stream *stream, struct arena *arena, struct request_head *head,
                              enum reason *reason)
{
    (void)stream, (void)arena, (void)head, (void)reason;
    UNREACHABLE("an upstream sends no requests");
}

static enum status no_response(struct stream *stream, const struct response_message *message)
{
    (void)stream, (void)message;
    UNREACHABLE("an upstream is sent no responses");
}

/* A connection that has died of its silence has a reason of its own. */
static enum reason why_ended(const struct http2_wire *wire, enum reason otherwise)
{
    return wire->failure == REASON_UPSTREAM_PING_TIMEOUT ? wire->failure : otherwise;
}

static enum status read_response(struct stream *base, struct arena *arena, enum method method,
                                 struct response_head *head, enum reason *reason)
{
    struct http2_stream *stream = http2_stream_of(base);
    struct http2_wire *wire = http2_wire_of_stream(stream);
    if (stream->interim != NULL && base->failure == REASON_NONE) {
        enum status status =
            http2_parse_response(&stream->interim->head, false, method, arena, head, reason);
        http2_stream_drop_interim(stream);
        base->in_begun = true;
        return status;
    }
    if (stream->head_complete && base->failure == REASON_NONE) {
        enum status status =
            http2_parse_response(&stream->head, stream->bodyless, method, arena, head, reason);
        http2_section_clear(&stream->head, &wire->account);
        stream->head_complete = false;
        base->in_begun = true;
        if (status != OK || head->status < 200) {
            return status;
        }
        if (stream->out_framing == FRAMING_TUNNEL && head->status < 300) {
            head->status = 101; /* as an upstream of HTTP/1.1 would say it */
            head->framing = FRAMING_TUNNEL;
        } else if (stream->out_framing == FRAMING_TUNNEL) {
            stream->out_framing = FRAMING_CHUNKED; /* refused: a response like any, trailers too */
        }
        stream->in_length = head->framing == FRAMING_LENGTH;
        stream->in_remaining = head->content_length;
        base->in_ended = stream->bodyless;
        return OK;
    }
    if (stream->broken || wire->dead) {
        bool unsent = stream->id == 0 && stream->refusal == REASON_NONE;
        base->unprocessed = unsent || stream->error_code == NGHTTP2_REFUSED_STREAM;
        *reason = stream->refusal != REASON_NONE ? stream->refusal
                  : base->failure != REASON_NONE ? REASON_BAD_RESPONSE
                  : wire->refused                ? REASON_UPSTREAM_TLS_REFUSED
                                                 : why_ended(wire, REASON_UPSTREAM_CLOSED);
        return ERROR;
    }
    return AGAIN;
}

/* Why a response is cut, in terms of the upstream: its trailers are bounded as its head is. */
static enum reason judge_body(enum reason why)
{
    switch ((unsigned)why) {
    case REASON_BUFFERS_FULL:
    case REASON_UPSTREAM_PING_TIMEOUT:
        return why;
    case REASON_HEAD_TOO_LARGE:
    case REASON_TOO_MANY_FIELDS:
        return REASON_RESPONSE_HEAD_TOO_LARGE;
    case REASON_BAD_TRAILER:
        return REASON_UPSTREAM_BAD_BODY;
    default:
        return REASON_UPSTREAM_TRUNCATED;
    }
}

static enum status read_body(struct stream *base, size_t max, struct span *bytes,
                             enum reason *reason)
{
    struct http2_stream *stream = http2_stream_of(base);
    enum reason truncated = why_ended(http2_wire_of_stream(stream), REASON_UPSTREAM_TRUNCATED);
    enum reason why = REASON_NONE;
    enum status status = http2_stream_read(stream, max, bytes, truncated, &why);
    if (status == ERROR) {
        *reason = judge_body(why);
    }
    return status;
}

/* The path and what follows the question mark, in one piece of the place for names. */
static struct span join_target(struct http2_rendered *rendered,
                               const struct request_message *message)
{
    bool query = message->query.data != NULL;
    size_t size = message->path.size + (query ? message->query.size + 1 : 0);
    uint8_t *place = output_take(&rendered->names, size);
    if (place == NULL) {
        rendered->overflowed = true;
        return message->path;
    }
    struct output output = output_over(place, size);
    output_span(&output, message->path);
    if (query) {
        output_byte(&output, '?');
        output_span(&output, message->query);
    }
    return output_bytes(&output);
}

static struct http2_rendered render(const struct http2_wire *wire,
                                    const struct request_message *message, struct output *length)
{
    struct session_context *context = wire->session->context;
    size_t fields = message->fields == NULL ? 0 : message->fields->count;
    struct http2_rendered rendered =
        http2_render_begin(context->render, context->render_size, fields + REQUEST_FIELDS);
    const struct switching *switching = message->switching;
    http2_render(&rendered, SPAN(":method"), switching != NULL ? SPAN("CONNECT") : message->method);
    if (switching != NULL) {
        http2_render(&rendered, SPAN(":protocol"), switching->protocol);
    }
    http2_render(&rendered, SPAN(":scheme"),
                 tls_is_on(&wire->session->transport) ? SPAN("https") : SPAN("http"));
    http2_render(&rendered, SPAN(":authority"), message->host);
    http2_render(&rendered, SPAN(":path"), join_target(&rendered, message));
    http2_render_fields(&rendered, message->fields);
    if (message->framing == FRAMING_LENGTH) {
        output_u64(length, message->content_length);
        http2_render(&rendered, SPAN("content-length"), output_bytes(length));
    }
    return rendered;
}

/* The peer has lowered its bound, or said goodbye, since the stream was opened. */
static bool is_refused_now(const struct http2_wire *wire)
{
    return takes_no_more(wire) || wire->submitted >= streams_max(wire);
}

/*
 * RFC 8441, 3: only a peer that says so takes an extended CONNECT, so its SETTINGS are waited for.
 * False: they have not come. Who does not say so gets no request, which shows at the next read.
 */
static bool judge_switching(struct http2_stream *stream)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    if (!wire->settings_came) {
        (void)http2_wire_send(wire); /* ours first: a failure shows at the next read */
        http2_stream_wait_for_settings(stream);
        return false;
    }
    if (nghttp2_session_get_remote_settings(wire->codec,
                                            NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 0) {
        stream->refusal = REASON_UPSTREAM_NO_SWITCHING;
        http2_stream_break(stream);
    }
    return true;
}

static void submit(struct http2_stream *stream, struct http2_rendered *rendered, bool body)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    nghttp2_data_provider provider = http2_stream_provider(stream);
    uint64_t before = wire->out_count;
    for (size_t i = 0; i < rendered->count; i++) {
        rendered->entries[i].flags = NGHTTP2_NV_FLAG_NONE; /* the codec may keep it for a while */
    }
    int32_t id = nghttp2_submit_request(wire->codec, NULL, rendered->entries, rendered->count,
                                        body ? &provider : NULL, stream);
    if (id < 0) {
        http2_stream_break(stream); /* shows at the next read */
        return;
    }
    stream->id = id;
    wire->submitted++;
    (void)http2_wire_pump(wire);
    http2_stream_note_queued(stream, before);
}

static enum status write_request(struct stream *base, const struct request_message *message)
{
    struct http2_stream *stream = http2_stream_of(base);
    struct http2_wire *wire = http2_wire_of_stream(stream);
    uint8_t digits[LENGTH_SIZE_MAX];
    struct output length = output_over(digits, sizeof(digits));
    bool body = message->framing == FRAMING_CHUNKED || message->framing == FRAMING_TUNNEL ||
                (message->framing == FRAMING_LENGTH && message->content_length > 0);
    enum framing framing = body ? message->framing : FRAMING_NONE;
    ASSERT(stream->id == 0);
    if (message->switching != NULL && !stream->broken && !judge_switching(stream)) {
        return AGAIN;
    }
    if (!stream->broken && is_refused_now(wire)) {
        stream->error_code = NGHTTP2_REFUSED_STREAM;
        http2_stream_break(stream);
    }
    if (stream->broken) {
        http2_stream_begin_out(stream, framing, message->content_length);
        return OK; /* shows at the next read */
    }
    struct http2_rendered rendered = render(wire, message, &length);
    if (rendered.overflowed) {
        return ERROR; /* a head at its limit, and our own fields on top */
    }
    if (!http2_stream_takes_head(stream, rendered.weight + HTTP2_FRAME_HEADER)) {
        return AGAIN;
    }
    http2_stream_begin_out(stream, framing, message->content_length);
    submit(stream, &rendered, body);
    return OK;
}

/*
 * Nobody takes a session's events after a release, and on a closed connection nobody would ever:
 * what has befallen the other streams is a matter of its next run.
 */
static void settle_for_others(struct http2_wire *wire)
{
    (void)http2_wire_flush(wire);
    if (is_over(wire) || !list_is_empty(&wire->events)) {
        http2_wire_requeue(wire);
    }
}

/* Only this stream ends; what becomes of the connection the step says. */
static void release(struct stream *base, bool keep)
{
    struct http2_stream *stream = http2_stream_of(base);
    struct http2_session *session = http2_session_of(base->session);
    struct http2_wire *wire = session->wire;
    (void)keep;
    base->holder = NULL;
    if (stream->whole) {
        http2_budget_credit(&wire->budget, HTTP2_CREDIT_STREAM);
    } else if (stream->id > 0) {
        http2_stream_reset(stream, NGHTTP2_CANCEL);
    }
    bool running = wire->running;
    wire->running = true;
    http2_stream_destroy(stream);
    if (session->wire != NULL && wire->held > 0 && session->session.step != SESSION_CLOSED) {
        settle_for_others(wire);
    } else if (session->wire != NULL) {
        settle(session, http2_wire_flush);
    }
    if (session->wire != NULL) {
        session->wire->running = running;
    }
    session->event_closed = false; /* told by the step, here and now */
}

static const struct stream_ops STREAM_OPS = {
    .read_request = no_request,
    .read_response = read_response,
    .read_body = read_body,
    .is_at_end = http2_stream_is_at_end,
    .trailers = http2_stream_trailers,
    .write_request = write_request,
    .write_response = no_response,
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
    .run = client_run,
    .expire = client_expire,
    .next_event = http2_wire_next_event,
    .open_stream = open_stream,
    .multiplexed = true,
    .drain = client_drain,
    .kill = client_kill,
};

struct stream *http2_client_start(struct session *base)
{
    struct http2_session *session = http2_session_of(base);
    ASSERT(transport_is_open(&base->transport));
    session_clear_rest(base, sizeof(*session));
    if (!http2_wire_open(session, &ROLE, true)) {
        return NULL;
    }
    base->ops = &SESSION_OPS;
    base->step = SESSION_IDLE;
    struct stream *stream = begin_stream(session);
    if (stream == NULL) {
        http2_wire_drop(session);
    } else if (transport_may_read(&base->transport)) {
        http2_wire_requeue(session->wire); /* it spoke first: nobody else would look */
    }
    return stream;
}
