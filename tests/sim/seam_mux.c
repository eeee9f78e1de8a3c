#include "seam_mux.h"

#include <stdlib.h>

#include "base/assert.h"

enum {
    OUTBOX_SIZE = 8 * 1024,
    CONTROL_RESERVE = 512, /* of the outbox, which data may not take */
};

enum mux_wait {
    MUX_WAITS_ROOM = 1,  /* for data */
    MUX_WAITS_PLACE = 2, /* for a head or an end, whatever the window */
    MUX_WAITS_SENT = 4,  /* for its last byte to leave */
};

struct mux_stream {
    struct stream stream;
    uint16_t id; /* 0: free */
    char text[MUX_TEXT_MAX];
    size_t text_size;
    uint8_t ring[MUX_WINDOW]; /* what has come and was not read */
    uint32_t head;
    uint32_t size;
    uint32_t lent;     /* of it, to whoever read last */
    uint32_t grant;    /* read, and not yet given back as window */
    uint32_t window;   /* we may send */
    uint64_t out_mark; /* the outbox's count behind the last byte of this stream */
    bool peer_ended;
    bool broken;   /* by R, or with the connection */
    uint8_t waits; /* bits of enum mux_wait: what its holder was told to wait for */
    bool resets;   /* an R is due; then the slot is free */
    bool event_head;
    bool event_wake;
};

struct mux_session {
    struct session session;
    struct mux_stream streams[MUX_SLOTS];
    uint32_t next; /* whose turn it is to have an event */
    uint32_t held;
    uint16_t last_id;
    bool dead; /* nothing more can be read or written */
    bool draining;
    bool event_closed;
    uint8_t inbox[2 * MUX_FRAME_MAX];
    size_t inbox_size;
    uint8_t outbox[OUTBOX_SIZE];
    size_t out_head;
    size_t out_size;
    uint64_t out_count; /* ever put into it */
    uint64_t out_sent;
};

static_assert(offsetof(struct mux_session, session) == 0, "freed as its session");

void mux_put_header(uint8_t header[MUX_HEADER], uint8_t type, uint16_t stream, size_t size)
{
    header[0] = type;
    header[1] = (uint8_t)(stream >> 8);
    header[2] = (uint8_t)stream;
    header[3] = (uint8_t)(size >> 8);
    header[4] = (uint8_t)size;
}

uint32_t mux_read_number(struct span payload)
{
    ASSERT(payload.size == 4);
    return (uint32_t)payload.data[0] << 24 | (uint32_t)payload.data[1] << 16 |
           (uint32_t)payload.data[2] << 8 | payload.data[3];
}

void mux_put_number(uint8_t payload[4], uint32_t number)
{
    for (int i = 0; i < 4; i++) {
        payload[i] = (uint8_t)(number >> (24 - 8 * i));
    }
}

enum status mux_next_frame(struct span *bytes, struct mux_frame *frame)
{
    if (bytes->size < MUX_HEADER) {
        return AGAIN;
    }
    const uint8_t *header = bytes->data;
    size_t size = (size_t)header[3] << 8 | header[4];
    if (size > MUX_DATA_MAX || strchr("HDERW", header[0]) == NULL) {
        return ERROR;
    }
    if (bytes->size < MUX_HEADER + size) {
        return AGAIN;
    }
    frame->type = header[0];
    frame->stream = (uint16_t)(header[1] << 8 | header[2]);
    frame->payload = span_of(header + MUX_HEADER, size);
    *bytes = span_from(*bytes, MUX_HEADER + size);
    return OK;
}

static struct mux_session *of_session(struct session *session)
{
    return CONTAINER_OF(session, struct mux_session, session);
}

static struct mux_stream *of_stream(struct stream *stream)
{
    return CONTAINER_OF(stream, struct mux_stream, stream);
}

static struct mux_session *session_of(const struct mux_stream *stream)
{
    return of_session(stream->stream.session);
}

/* ---- outgoing ---- */

static size_t outbox_room(const struct mux_session *mux)
{
    return OUTBOX_SIZE - mux->out_size;
}

static void put(struct mux_session *mux, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    ASSERT(size <= outbox_room(mux));
    for (size_t i = 0; i < size; i++) {
        mux->outbox[(mux->out_head + mux->out_size + i) % OUTBOX_SIZE] = from[i];
    }
    mux->out_size += size;
    mux->out_count += size;
}

/* False: no room. */
static bool put_frame(struct mux_session *mux, uint8_t type, uint16_t stream, struct span payload)
{
    if (outbox_room(mux) < MUX_HEADER + payload.size) {
        return false;
    }
    uint8_t header[MUX_HEADER];
    mux_put_header(header, type, stream, payload.size);
    put(mux, header, sizeof(header));
    put(mux, payload.data, payload.size);
    return true;
}

static void update_unsent(struct mux_session *mux)
{
    for (uint32_t i = 0; i < MUX_SLOTS; i++) {
        struct mux_stream *stream = &mux->streams[i];
        if (stream->id != 0) {
            uint64_t mark = stream->out_mark;
            stream->stream.unsent = mark > mux->out_sent ? mark - mux->out_sent : 0;
        }
    }
}

/* Windows and resets that are due, as far as there is room for them. */
static void put_controls(struct mux_session *mux)
{
    for (uint32_t i = 0; i < MUX_SLOTS; i++) {
        struct mux_stream *stream = &mux->streams[i];
        if (stream->id == 0) {
            continue;
        }
        if (stream->resets) {
            if (put_frame(mux, 'R', stream->id, SPAN_EMPTY)) {
                stream->id = 0;
            }
            continue;
        }
        bool worth = stream->grant >= MUX_WINDOW / 4 || (stream->grant > 0 && stream->size == 0);
        uint8_t number[4];
        mux_put_number(number, stream->grant);
        if (worth && put_frame(mux, 'W', stream->id, span_of(number, sizeof(number)))) {
            stream->grant = 0;
        }
    }
}

static size_t data_room(const struct mux_stream *stream)
{
    size_t left = outbox_room(session_of(stream));
    left = left > CONTROL_RESERVE ? left - CONTROL_RESERVE : 0;
    size_t whole = left / MUX_FRAME_MAX * MUX_DATA_MAX;
    size_t rest = left % MUX_FRAME_MAX;
    size_t room = whole + (rest > MUX_HEADER ? rest - MUX_HEADER : 0);
    return room < stream->window ? room : stream->window;
}

/* What a holder may have waited for and need not any more. */
static unsigned has_come(const struct mux_stream *stream)
{
    const struct mux_session *mux = session_of(stream);
    if (mux->dead || stream->broken) {
        return MUX_WAITS_ROOM | MUX_WAITS_PLACE | MUX_WAITS_SENT;
    }
    bool place = outbox_room(mux) >= MUX_HEADER + MUX_TEXT_MAX;
    return (data_room(stream) > 0 ? MUX_WAITS_ROOM : 0U) | (place ? MUX_WAITS_PLACE : 0U) |
           (stream->out_mark <= mux->out_sent ? MUX_WAITS_SENT : 0U);
}

/*
 * Wakes those that were told to wait and need not any more. Their events are taken after a run of
 * the session, which may not be what is going on.
 */
static void wake_waiting(struct mux_session *mux)
{
    bool any = false;
    for (uint32_t i = 0; i < MUX_SLOTS; i++) {
        struct mux_stream *stream = &mux->streams[i];
        unsigned over = stream->id != 0 ? stream->waits & has_come(stream) : 0;
        if (over != 0) {
            stream->waits = 0;
            stream->event_wake = true;
            any = true;
        }
    }
    if (any) {
        io_requeue(mux->session.context->io, &mux->session.transport.socket);
    }
}

/* The connection is over: the next run closes it and tells everyone. */
static void die(struct mux_session *mux)
{
    if (!mux->dead) {
        mux->dead = true;
        io_requeue(mux->session.context->io, &mux->session.transport.socket);
    }
}

static void send_outbox(struct mux_session *mux)
{
    struct transport *transport = &mux->session.transport;
    bool moved = false;
    put_controls(mux);
    while (mux->out_size > 0 && !mux->dead) {
        size_t straight = OUTBOX_SIZE - mux->out_head;
        size_t first = mux->out_size < straight ? mux->out_size : straight;
        struct iovec piece = {mux->outbox + mux->out_head, first};
        size_t sent = 0;
        enum status status = transport->ops->write(transport, &piece, 1, &sent);
        if (status == AGAIN) {
            break;
        }
        if (status == ERROR) {
            die(mux);
            break;
        }
        moved = true;
        mux->out_head = (mux->out_head + sent) % OUTBOX_SIZE;
        mux->out_size -= sent;
        mux->out_sent += sent;
        put_controls(mux);
    }
    update_unsent(mux);
    if (moved) {
        wake_waiting(mux);
    }
}

/* ---- the session ---- */

static void set_idle_timer(struct mux_session *mux)
{
    struct session_context *context = mux->session.context;
    if (mux->held == 0 && mux->session.step != SESSION_CLOSED) {
        mux->session.step = SESSION_IDLE;
        timer_set(context->wheel, &mux->session.timer,
                  io_now(context->io) + context->limits.keep_alive_timeout);
    } else {
        timer_cancel(context->wheel, &mux->session.timer);
    }
}

/* The memory is the worker's again only when the last stream was given back. */
static void close_session(struct mux_session *mux)
{
    struct session *session = &mux->session;
    mux->dead = true;
    for (uint32_t i = 0; i < MUX_SLOTS; i++) {
        struct mux_stream *stream = &mux->streams[i];
        if (stream->id != 0 && !stream->resets) {
            stream->broken = stream->event_wake = true;
        }
    }
    timer_cancel(session->context->wheel, &session->timer);
    session->transport.ops->close(&session->transport);
    session->step = SESSION_CLOSED;
    mux->event_closed = true;
}

static struct mux_stream *find_stream(struct mux_session *mux, uint16_t id)
{
    for (uint32_t i = 0; i < MUX_SLOTS; i++) {
        struct mux_stream *stream = &mux->streams[i];
        if (id != 0 && stream->id == id && !stream->resets) {
            return stream;
        }
    }
    return NULL;
}

/* False: the peer breaks the protocol. */
static bool on_head(struct mux_session *mux, const struct mux_frame *frame)
{
    if (frame->stream <= mux->last_id || frame->payload.size > MUX_TEXT_MAX) {
        return false;
    }
    mux->last_id = frame->stream;
    for (uint32_t i = 0; i < MUX_SLOTS; i++) {
        struct mux_stream *stream = &mux->streams[i];
        if (stream->id != 0) {
            continue;
        }
        *stream = (struct mux_stream){
            .stream = {.ops = stream->stream.ops,
                       .session = &mux->session,
                       .began = io_now(mux->session.context->io),
                       .in_begun = true},
            .id = frame->stream,
            .window = MUX_WINDOW,
            .text_size = frame->payload.size,
            .event_head = !mux->draining,
            .resets = mux->draining,
        };
        memcpy(stream->text, frame->payload.data, frame->payload.size);
        if (stream->event_head) {
            mux->held++;
            mux->session.step = SESSION_BUSY;
            set_idle_timer(mux);
        }
        return true;
    }
    return put_frame(mux, 'R', frame->stream, SPAN_EMPTY); /* more streams than there may be */
}

static bool on_data(struct mux_stream *stream, struct span bytes)
{
    if (bytes.size > MUX_WINDOW - stream->size || stream->peer_ended) {
        return false;
    }
    for (size_t i = 0; i < bytes.size; i++) {
        stream->ring[(stream->head + stream->size + i) % MUX_WINDOW] = bytes.data[i];
    }
    stream->size += (uint32_t)bytes.size;
    return true;
}

/* False: the peer breaks the protocol. */
static bool on_frame(struct mux_session *mux, const struct mux_frame *frame)
{
    if (frame->type == 'H') {
        return on_head(mux, frame);
    }
    struct mux_stream *stream = find_stream(mux, frame->stream);
    if (stream == NULL) {
        return frame->stream <= mux->last_id; /* on its way when the stream ended */
    }
    stream->event_wake = true;
    switch (frame->type) {
    case 'D':
        return on_data(stream, frame->payload);
    case 'E':
        stream->peer_ended = true;
        return true;
    case 'R':
        stream->broken = true;
        return true;
    default:
        stream->window += mux_read_number(frame->payload);
        return true;
    }
}

static enum status read_frames(struct mux_session *mux)
{
    struct transport *transport = &mux->session.transport;
    size_t got = 0;
    enum status status = transport->ops->read(transport, mux->inbox + mux->inbox_size,
                                              sizeof(mux->inbox) - mux->inbox_size, &got);
    if (status != OK) {
        return status;
    }
    struct span bytes = span_of(mux->inbox, mux->inbox_size + got);
    struct mux_frame frame;
    while ((status = mux_next_frame(&bytes, &frame)) == OK) {
        if (!on_frame(mux, &frame)) {
            return ERROR;
        }
    }
    memmove(mux->inbox, bytes.data, bytes.size);
    mux->inbox_size = bytes.size;
    return status == AGAIN ? OK : ERROR;
}

static void mux_run(struct session *session)
{
    struct mux_session *mux = of_session(session);
    enum { READS = 64 };
    enum status status = mux->dead ? ERROR : OK;
    for (int i = 0; i < READS && status == OK; i++) {
        status = read_frames(mux);
    }
    if (status == OK) {
        io_requeue(session->context->io, &session->transport.socket); /* the others' turn */
    }
    if (status == OK || status == AGAIN) {
        send_outbox(mux);
    }
    bool drained = mux->draining && mux->held == 0 && mux->out_size == 0;
    if (status == END || status == ERROR || mux->dead || drained) {
        close_session(mux);
    }
}

static void mux_expire(struct session *session)
{
    close_session(of_session(session));
}

static void mux_drain(struct session *session)
{
    struct mux_session *mux = of_session(session);
    mux->draining = true;
    if (session->step != SESSION_CLOSED && mux->held == 0) {
        close_session(mux);
    }
}

static void mux_kill(struct session *session)
{
    struct mux_session *mux = of_session(session);
    ASSERT(mux->held == 0);
    if (session->step != SESSION_CLOSED) {
        close_session(mux);
    }
}

static enum session_event mux_next_event(struct session *session, struct stream **stream)
{
    struct mux_session *mux = of_session(session);
    for (uint32_t i = 0; i < MUX_SLOTS; i++) {
        struct mux_stream *candidate = &mux->streams[(mux->next + i) % MUX_SLOTS];
        *stream = &candidate->stream;
        if (candidate->event_head) {
            candidate->event_head = false;
            return SESSION_EVENT_HEAD;
        }
        if (candidate->event_wake) {
            candidate->event_wake = false;
            mux->next = (mux->next + i + 1) % MUX_SLOTS;
            return SESSION_EVENT_WAKE;
        }
    }
    if (mux->event_closed && mux->held == 0) {
        mux->event_closed = false;
        return SESSION_EVENT_CLOSED;
    }
    return SESSION_EVENT_NONE;
}

static const struct session_ops SESSION_OPS = {
    .run = mux_run,
    .expire = mux_expire,
    .next_event = mux_next_event,
    .drain = mux_drain,
    .kill = mux_kill,
};

/* ---- a stream ---- */

static struct span next_word(struct span *rest)
{
    size_t size = span_find(*rest, ' ');
    struct span word = span_first(*rest, size);
    *rest = span_from(*rest, size < rest->size ? size + 1 : size);
    return word;
}

static enum status read_request(struct stream *stream, struct arena *arena,
                                struct request_head *head, enum reason *reason)
{
    struct mux_stream *mux = of_stream(stream);
    struct span rest = arena_copy(arena, span_of(mux->text, mux->text_size));
    struct span verb = next_word(&rest);
    struct span number = next_word(&rest);
    struct request_head read = {
        .method = method_identify(verb),
        .version = HTTP_1_1,
        .method_text = verb,
        .path = arena_printf(arena, "/x/%.*s", SPAN_ARGS(number)),
        .host = SPAN("sim.test"),
        .framing = span_equal(rest, SPAN("1")) ? FRAMING_CHUNKED : FRAMING_NONE,
        .keep_alive = true,
    };
    bool fits = fields_init(&read.fields, arena, 1) &&
                fields_add(&read.fields, FIELD_OTHER, SPAN("X-Number"), number);
    if (!fits || verb.size == 0 || number.size == 0) {
        *reason = REASON_BAD_REQUEST_LINE;
        return ERROR;
    }
    stream->in_ended = read.framing == FRAMING_NONE;
    *head = read;
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

/* What was lent last is given back only now: until here it had to stay. */
static void settle_loan(struct mux_stream *stream)
{
    stream->head = (stream->head + stream->lent) % MUX_WINDOW;
    stream->size -= stream->lent;
    stream->grant += stream->lent;
    stream->lent = 0;
}

static enum status read_body(struct stream *stream, size_t max, struct span *bytes,
                             enum reason *reason)
{
    struct mux_stream *mux = of_stream(stream);
    settle_loan(mux);
    put_controls(session_of(mux));
    if (stream->in_ended) {
        return END;
    }
    if (mux->size == 0 && mux->peer_ended) {
        stream->in_ended = true;
        return END;
    }
    if (mux->broken) {
        *reason = REASON_CLIENT_BODY_TRUNCATED;
        return ERROR;
    }
    if (mux->size == 0) {
        send_outbox(session_of(mux)); /* the window that the peer may be waiting for */
        return AGAIN;
    }
    uint32_t straight = MUX_WINDOW - mux->head;
    uint32_t size = mux->size < straight ? mux->size : straight;
    size = size < max ? size : (uint32_t)max;
    mux->lent = size;
    stream->bytes_in += size;
    *bytes = span_of(mux->ring + mux->head, size);
    return OK;
}

static struct fields *no_trailers(struct stream *stream)
{
    (void)stream;
    return NULL;
}

static enum status write_response(struct stream *stream, const struct response_message *message)
{
    struct mux_stream *mux = of_stream(stream);
    const struct field *mark =
        message->fields == NULL ? NULL : fields_find_name(message->fields, SPAN("X-Exchange"));
    char text[MUX_TEXT_MAX];
    int size = snprintf(text, sizeof(text), "%u %.*s", message->status,
                        mark == NULL ? 0 : (int)mark->value.size,
                        mark == NULL ? "" : (const char *)mark->value.data);
    ASSERT(size > 0 && (size_t)size < sizeof(text));
    if (!put_frame(session_of(mux), 'H', mux->id, span_of(text, (size_t)size))) {
        mux->waits |= MUX_WAITS_PLACE;
        return AGAIN;
    }
    mux->out_mark = session_of(mux)->out_count;
    stream->out_begun = true;
    if (message->head_only && !put_frame(session_of(mux), 'E', mux->id, SPAN_EMPTY)) {
        return OK; /* the end is written when there is room */
    }
    stream->out_ended = message->head_only;
    mux->out_mark = session_of(mux)->out_count;
    update_unsent(session_of(mux));
    return OK;
}

static size_t room(struct stream *stream)
{
    struct mux_stream *mux = of_stream(stream);
    size_t size = mux->broken ? 0 : data_room(mux);
    mux->waits |= size == 0 ? MUX_WAITS_ROOM : 0;
    return size;
}

static enum status write_body(struct stream *stream, struct span bytes)
{
    struct mux_stream *mux = of_stream(stream);
    ASSERT(stream->out_begun && !stream->out_ended && bytes.size <= data_room(mux));
    mux->window -= (uint32_t)bytes.size;
    stream->bytes_out += bytes.size;
    while (bytes.size > 0) {
        size_t size = bytes.size < MUX_DATA_MAX ? bytes.size : MUX_DATA_MAX;
        bool fits = put_frame(session_of(mux), 'D', mux->id, span_first(bytes, size));
        ASSERT(fits);
        bytes = span_from(bytes, size);
    }
    mux->out_mark = session_of(mux)->out_count;
    update_unsent(session_of(mux));
    return OK;
}

static enum status write_end(struct stream *stream, const struct fields *trailers)
{
    struct mux_stream *mux = of_stream(stream);
    (void)trailers;
    ASSERT(stream->out_begun && !stream->out_ended);
    if (!put_frame(session_of(mux), 'E', mux->id, SPAN_EMPTY)) {
        mux->waits |= MUX_WAITS_PLACE;
        return AGAIN;
    }
    mux->out_mark = session_of(mux)->out_count;
    stream->out_ended = true;
    update_unsent(session_of(mux));
    return OK;
}

/* Sends for all of them; only this stream's own bytes count. */
static enum status flush(struct stream *stream)
{
    struct mux_stream *mux = of_stream(stream);
    uint64_t before = session_of(mux)->out_sent;
    if (mux->broken || session_of(mux)->dead) {
        return ERROR;
    }
    send_outbox(session_of(mux));
    stream->progress_out += session_of(mux)->out_sent - before;
    if (session_of(mux)->dead) {
        return ERROR;
    }
    mux->waits |= stream->unsent > 0 ? MUX_WAITS_SENT : 0;
    return stream->unsent > 0 ? AGAIN : OK;
}

static bool is_broken(struct stream *stream)
{
    const struct mux_stream *mux = of_stream(stream);
    const struct mux_session *session = session_of(mux);
    return mux->broken || session->dead || transport_has_failed(&session->session.transport);
}

static bool is_unwritten(struct stream *stream)
{
    return stream->progress_out == 0;
}

static uint64_t acknowledged(struct stream *stream)
{
    const struct transport *transport = &stream->session->transport;
    return io_acknowledged(transport->io, &transport->socket);
}

/* Only this stream ends. The connection goes on, unless it had ended before. */
static void release(struct stream *stream, bool keep)
{
    struct mux_stream *mux = of_stream(stream);
    struct mux_session *session = session_of(mux);
    bool whole = mux->peer_ended && stream->out_ended;
    (void)keep;
    stream->holder = NULL;
    mux->event_wake = false;
    mux->resets = !whole && !mux->broken;
    mux->id = mux->resets ? mux->id : 0;
    ASSERT(session->held > 0);
    session->held--;
    if (session->session.step != SESSION_CLOSED) {
        set_idle_timer(session);
        send_outbox(session);
        io_requeue(session->session.context->io, &session->session.transport.socket);
    }
}

static const struct stream_ops STREAM_OPS = {
    .read_request = read_request,
    .read_response = no_response,
    .read_body = read_body,
    .trailers = no_trailers,
    .write_request = no_request,
    .write_response = write_response,
    .room = room,
    .write_body = write_body,
    .write_end = write_end,
    .flush = flush,
    .is_broken = is_broken,
    .is_unwritten = is_unwritten,
    .acknowledged = acknowledged,
    .release = release,
};

struct session *mux_session_create(struct seam *seam)
{
    struct mux_session *mux = calloc(1, sizeof(*mux));
    ASSERT(mux != NULL);
    mux->session =
        (struct session){.ops = &SESSION_OPS, .context = &seam->sessions, .step = SESSION_IDLE};
    transport_init_tcp(&mux->session.transport, seam->io);
    timer_init(&mux->session.timer, SEAM_TIMER_SESSION);
    list_init(&mux->session.link);
    for (uint32_t i = 0; i < MUX_SLOTS; i++) {
        mux->streams[i].stream.ops = &STREAM_OPS;
    }
    return &mux->session;
}

void mux_session_start(struct session *session)
{
    struct mux_session *mux = of_session(session);
    set_idle_timer(mux);
}
