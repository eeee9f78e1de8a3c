#include "http/http2_wire.h"

#include "base/assert.h"
#include "net/tls.h"

enum {
    SLICE = 16 * 1024,          /* fed to the codec at once: the budget is looked at between */
    GOAWAY_SIZE = 17,           /* frame header, last stream, code */
    ACCOUNT_BASE = 256 * 1024,  /* the codec's state, and a field that is too large by far */
    ACCOUNT_STREAM = 4 * 1024,  /* a stream of the codec's, one of ours, a usual head */
    CODEC_RESERVE = 192 * 1024, /* of an account: a codec without memory ends the connection */
    RETRY_US = 10 * 1000,
    SETTINGS_SENT_MAX = 5,
    UPSTREAM_TRUST = 10, /* so many times the budget of a client: resets can be its way to fail */
    GATHER_MAX = 16 * 1024, /* bytes that wait for others in the queue: a record of TLS */
    COPY_MAX = 4 * 1024,    /* where nobody else may join in, as over HTTP/1 */
    PIECES_MAX = BYTE_QUEUE_BUFFERS_MAX + 2 * HTTP2_FRAMES_MAX,
    UNREAD_WINDOWS = 4, /* of a client: so many streams may stand before its others do */
};

static uint64_t now_of(const struct http2_wire *wire)
{
    return io_now(wire->session->context->io);
}

static struct session_traffic *traffic_of(const struct http2_wire *wire)
{
    struct session_context *context = wire->session->context;
    return wire->client ? &context->upstreams : &context->clients;
}

/* An upstream's connection carries the requests of many clients: each may leave a window unread. */
static uint64_t unread_max(const struct http2_limits *limits, bool client)
{
    return (client ? HTTP2_UPSTREAM_STREAMS_MAX : UNREAD_WINDOWS) * (uint64_t)limits->window;
}

static uint64_t account_max(const struct http2_limits *limits, bool client)
{
    uint64_t streams = client ? HTTP2_UPSTREAM_STREAMS_MAX : limits->streams;
    return ACCOUNT_BASE + unread_max(limits, client) + 2 * (uint64_t)limits->window +
           streams * ACCOUNT_STREAM;
}

static bool start_codec(struct http2_wire *wire)
{
    const struct http2_context *context = wire->session->context->http2;
    const struct http1_limits *head = &wire->session->context->limits.head;
    nghttp2_mem memory = http2_codec_memory(&wire->account);
    int failed = wire->client ? nghttp2_session_client_new3(&wire->codec, context->callbacks, wire,
                                                            context->options, &memory)
                              : nghttp2_session_server_new3(&wire->codec, context->callbacks, wire,
                                                            context->options, &memory);
    if (failed != 0) {
        wire->codec = NULL;
        return false;
    }
    const uint32_t window = context->limits.window;
    nghttp2_settings_entry settings[SETTINGS_SENT_MAX] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)(head->head_max + 32 * head->fields_max)},
        {wire->client ? NGHTTP2_SETTINGS_ENABLE_PUSH : NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
         wire->client ? 0 : context->limits.streams},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    size_t count = SETTINGS_SENT_MAX - 1;
    if (!wire->client && context->limits.switching) {
        settings[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
    }
    return nghttp2_submit_settings(wire->codec, NGHTTP2_FLAG_NONE, settings, count) == 0 &&
           nghttp2_session_set_local_window_size(wire->codec, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)window) == 0;
}

static void free_wire(struct http2_session *session)
{
    struct http2_wire *wire = session->wire;
    nghttp2_session_del(wire->codec);
    http2_account_settle(&wire->account);
    while (wire->lent != NULL) {
        struct http2_chunk *chunk = wire->lent;
        wire->lent = chunk->next;
        http2_free(&wire->account, chunk);
    }
    struct http2_account account = wire->account;
    http2_free(&account, wire);
    ASSERT(account.used == 0);
    session->wire = NULL;
    session->session.context->http2->counts.sessions--;
}

bool http2_wire_open(struct http2_session *session, const struct http2_role *role, bool client)
{
    struct http2_context *context = session->session.context->http2;
    struct http2_account account = {.memory = &context->memory,
                                    .max = account_max(&context->limits, client),
                                    .kept = CODEC_RESERVE};
    struct http2_wire *wire =
        http2_context_has_room(context) ? http2_allocate(&account, sizeof(*wire)) : NULL;
    if (wire == NULL) {
        return false;
    }
    *wire = (struct http2_wire){
        .session = &session->session,
        .role = role,
        .account = account,
        .client = client,
        .unread_max = unread_max(&context->limits, client),
        .head_deadline = UINT64_MAX,
        .idle_deadline = UINT64_MAX,
        .goaway_deadline = UINT64_MAX,
        .output_deadline = UINT64_MAX,
        .ping_deadline = UINT64_MAX,
        .retry = UINT64_MAX,
    };
    list_init(&wire->streams);
    list_init(&wire->events);
    list_init(&wire->sending);
    list_init(&wire->waiting);
    http2_budget_init(&wire->budget, context->limits.glitches * (client ? UPSTREAM_TRUST : 1),
                      now_of(wire));
    context->counts.sessions++;
    session->wire = wire;
    if (!start_codec(wire)) {
        free_wire(session);
        return false;
    }
    return true;
}

void http2_wire_break_streams(struct http2_wire *wire)
{
    struct list *link = wire->streams.next;
    while (link != &wire->streams) {
        struct http2_stream *stream = CONTAINER_OF(link, struct http2_stream, link);
        link = link->next;
        if (stream->whole && !wire->dead && !wire->muted) {
            continue; /* all of it is in the queue, which is still sent */
        }
        if (stream->announced) {
            http2_stream_break(stream);
        } else {
            http2_stream_destroy(stream); /* nobody knows it, and its head is not complete */
        }
    }
}

void http2_wire_drop(struct http2_session *session)
{
    struct http2_wire *wire = session->wire;
    ASSERT(wire->held == 0);
    http2_wire_break_streams(wire);
    byte_queue_clear(&wire->outbox, session->session.context->buffers);
    session->session.failure = wire->failure;
    free_wire(session);
}

static void tidy_closed(struct http2_session *session)
{
    if (session->session.step == SESSION_CLOSED && session->wire != NULL &&
        session->wire->held == 0) {
        http2_wire_drop(session);
        session->event_closed = true;
    }
}

void http2_wire_close(struct http2_session *session, bool reset)
{
    struct http2_wire *wire = session->wire;
    struct session *base = &session->session;
    ASSERT(base->step != SESSION_CLOSED);
    wire->dead = true;
    wire->pending = SPAN_EMPTY;
    byte_queue_clear(&wire->outbox, base->context->buffers);
    http2_wire_break_streams(wire);
    timer_cancel(base->context->wheel, &base->timer);
    if (reset) {
        base->transport.ops->reset(&base->transport);
    } else {
        base->transport.ops->close(&base->transport);
    }
    base->step = SESSION_CLOSED;
    tidy_closed(session);
}

void http2_wire_release(struct http2_wire *wire)
{
    ASSERT(wire->held > 0);
    wire->held--;
    wire->session->context->http2->counts.streams--;
    tidy_closed(http2_session_of(wire->session));
}

void http2_wire_ping(struct http2_wire *wire)
{
    wire->pings++;
    (void)nghttp2_submit_ping(wire->codec, NGHTTP2_FLAG_NONE, NULL);
}

void http2_wire_requeue(struct http2_wire *wire)
{
    struct session *session = wire->session;
    if (transport_is_open(&session->transport)) { /* else the process is only being swept up */
        io_requeue(session->context->io, &session->transport.socket);
    }
}

void http2_wire_die(struct http2_wire *wire)
{
    if (!wire->dead) {
        wire->dead = true;
        http2_wire_requeue(wire);
    }
}

void http2_wire_charge(struct http2_wire *wire, enum http2_glitch kind)
{
    struct http2_counts *counts = &wire->session->context->http2->counts;
    http2_count(counts, &counts->glitches[kind]);
    http2_budget_charge(&wire->budget, kind, now_of(wire));
}

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

/*
 * The frame is made by our own hand: the codec may be out of memory, or in the middle of one of its
 * callbacks, and is not asked again.
 */
void http2_wire_terminate(struct http2_wire *wire, uint32_t code, enum reason why)
{
    if (wire->muted) {
        return;
    }
    uint8_t frame[GOAWAY_SIZE] = {0, 0, 8, NGHTTP2_GOAWAY};
    put_u32(frame + 9, (uint32_t)wire->last_id);
    put_u32(frame + 13, code);
    struct span bytes = span_of(frame, sizeof(frame));
    wire->muted = true;
    wire->goaway_sent = true;
    wire->failure = why;
    wire->pending = SPAN_EMPTY;
    if (byte_queue_append(&wire->outbox, wire->session->context->buffers, bytes)) {
        wire->out_count += sizeof(frame);
    }
    struct http2_counts *counts = &wire->session->context->http2->counts;
    http2_count(counts, &counts->goaways[HTTP2_SENT][http2_code_index(code)]);
    http2_wire_break_streams(wire);
}

/* ---- In ---- */

/* What the codec's own errors mean; it has said nothing to the peer about these. */
static void codec_failed(struct http2_wire *wire, ssize_t error)
{
    bool flooded = error == NGHTTP2_ERR_FLOODED || error == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS;
    bool memory = error == NGHTTP2_ERR_NOMEM;
    http2_wire_terminate(wire,
                         flooded  ? NGHTTP2_ENHANCE_YOUR_CALM
                         : memory ? NGHTTP2_INTERNAL_ERROR
                                  : NGHTTP2_PROTOCOL_ERROR,
                         flooded  ? REASON_HTTP2_GLITCHES
                         : memory ? REASON_HTTP2_MEMORY
                                  : REASON_HTTP2_PROTOCOL);
}

void http2_wire_feed(struct http2_wire *wire, struct span bytes)
{
    while (bytes.size > 0 && !wire->muted && !wire->dead) {
        size_t size = bytes.size < SLICE ? bytes.size : SLICE;
        ssize_t used = nghttp2_session_mem_recv(wire->codec, bytes.data, size);
        if (used < 0 || wire->account.refused) {
            codec_failed(wire, used < 0 ? used : NGHTTP2_ERR_NOMEM);
        } else if (wire->budget.overdrawn) {
            http2_wire_terminate(wire, NGHTTP2_ENHANCE_YOUR_CALM, REASON_HTTP2_GLITCHES);
        }
        bytes = span_from(bytes, size);
    }
}

static void open_window(struct http2_wire *wire, uint64_t size)
{
    wire->owed -= size;
    if (size > 0 && !wire->muted && !wire->dead) {
        (void)nghttp2_session_consume_connection(wire->codec, (size_t)size);
    }
}

void http2_wire_take_in(struct http2_wire *wire, size_t size)
{
    wire->unread += size;
    wire->owed += size;
    if (wire->unread <= wire->unread_max && http2_context_is_ample(wire->session->context->http2)) {
        open_window(wire, wire->owed);
    }
}

void http2_wire_let_go(struct http2_wire *wire, size_t size)
{
    ASSERT(size <= wire->unread && wire->owed <= wire->unread);
    wire->unread -= size;
    open_window(wire, size < wire->owed ? size : wire->owed);
}

enum status http2_wire_receive(struct http2_wire *wire)
{
    struct session_context *context = wire->session->context;
    struct transport *transport = &wire->session->transport;
    size_t got = 0;
    if (wire->dead) {
        return ERROR;
    }
    if (wire->in_ended) {
        return END;
    }
    if (wire->muted) {
        return AGAIN; /* nothing that it sends counts any more */
    }
    if (wire->pending.size > 0) {
        wire->held_back = true;
        return AGAIN; /* its answers have no room: what it sends has to wait */
    }
    enum status status =
        transport->ops->read(transport, context->scratch, context->scratch_size, &got);
    if (status == OK) {
        traffic_of(wire)->received += got;
        wire->heard = now_of(wire);
        wire->pinged = false;
        http2_wire_feed(wire, span_of(context->scratch, got));
    }
    wire->in_ended = status == END;
    wire->dead |= status == ERROR;
    wire->refused |= status == ERROR && session_was_refused(wire->session);
    return status;
}

/* ---- Out ---- */

/* Whatever had no buffer is tried again: there may be no stream whose holder waits for one. */
static void note_starved(struct http2_wire *wire)
{
    if (wire->outbox.size == 0 && wire->retry == UINT64_MAX) {
        wire->retry = now_of(wire) + RETRY_US;
        http2_wire_arm(wire);
    }
}

/* What did not leave of the frames, from this byte on, stays in the queue. */
static bool queue_frames(struct http2_wire *wire, size_t done)
{
    struct http2_frames *frames = wire->frames;
    struct buffer_pool *buffers = wire->session->context->buffers;
    for (uint32_t i = 0; i < 2 * frames->count; i++) {
        struct span piece = http2_frames_piece(frames, i);
        size_t part = done < piece.size ? done : piece.size;
        done -= part;
        if (!byte_queue_append(&wire->outbox, buffers, span_from(piece, part))) {
            return false;
        }
    }
    frames->count = 0;
    frames->size = 0;
    return true;
}

/* What the codec says goes behind all that was said before. */
static bool queue_pending(struct http2_wire *wire)
{
    struct buffer_pool *buffers = wire->session->context->buffers;
    if (wire->frames != NULL && wire->frames->count > 0 && !queue_frames(wire, 0)) {
        http2_wire_die(wire); /* the room was promised */
        return false;
    }
    if (!byte_queue_append(&wire->outbox, buffers, wire->pending)) {
        note_starved(wire);
        return false;
    }
    wire->out_count += wire->pending.size;
    wire->pending = SPAN_EMPTY;
    return true;
}

bool http2_wire_pump(struct http2_wire *wire)
{
    while (!wire->dead) {
        if (wire->pending.size > 0 && !queue_pending(wire)) {
            return false;
        }
        const uint8_t *data = NULL;
        bool refused = wire->account.refused && !wire->muted; /* it may not know of a reset */
        bool wants = !wire->muted && !refused && nghttp2_session_want_write(wire->codec) != 0;
        ssize_t size = wants ? nghttp2_session_mem_send(wire->codec, &data) : 0;
        if (size < 0 || (wire->account.refused && !wire->muted)) {
            codec_failed(wire, size < 0 ? size : NGHTTP2_ERR_NOMEM); /* it may have lost anything */
            continue;
        }
        if (size == 0) {
            wire->retry = UINT64_MAX;
            return true;
        }
        wire->pending = span_of(data, (size_t)size);
    }
    return false;
}

bool http2_wire_is_worth_sending(const struct http2_wire *wire, size_t size)
{
    size_t most = wire->held > 1 ? GATHER_MAX : COPY_MAX;
    return wire->outbox.size + size > most;
}

bool http2_wire_put_data(struct http2_wire *wire, const uint8_t *header, struct span bytes)
{
    struct buffer_pool *buffers = wire->session->context->buffers;
    struct http2_frames *frames = wire->frames;
    size_t size = HTTP2_FRAME_HEADER + bytes.size;
    if (!http2_wire_takes(wire, size + (frames != NULL ? frames->size : 0))) {
        return false; /* what does not leave must have room */
    }
    wire->out_count += size;
    if (frames != NULL && !http2_frames_are_full(frames)) {
        http2_frames_add(frames, header, bytes);
        return true;
    }
    bool queued = (frames == NULL || queue_frames(wire, 0)) &&
                  byte_queue_append(&wire->outbox, buffers, span_of(header, HTTP2_FRAME_HEADER)) &&
                  byte_queue_append(&wire->outbox, buffers, bytes);
    if (!queued) {
        http2_wire_die(wire); /* the room was promised; a part of the frame may be in the queue */
    }
    return queued;
}

size_t http2_wire_room(const struct http2_wire *wire)
{
    size_t room = byte_queue_room(&wire->outbox, wire->session->context->buffers);
    size_t overhead = (room / SLICE + 1) * HTTP2_FRAME_HEADER;
    return wire->pending.size == 0 && room > overhead ? room - overhead : 0;
}

bool http2_wire_takes(const struct http2_wire *wire, size_t size)
{
    const struct slab *slab = &wire->session->context->buffers->slab;
    uint32_t free = slab->capacity - slab->in_use;
    uint32_t more = BYTE_QUEUE_BUFFERS_MAX - wire->outbox.buffers;
    size_t tail = wire->outbox.buffers == 0 ? 0 : BUFFER_SIZE - wire->outbox.tail;
    return tail + (size_t)(more < free ? more : free) * BUFFER_SIZE >= size;
}

/* What has left of those that wait for it. They stand in the order of their last bytes. */
static void note_sent(struct http2_wire *wire)
{
    while (!list_is_empty(&wire->sending)) {
        struct http2_stream *stream =
            CONTAINER_OF(wire->sending.next, struct http2_stream, sending_link);
        http2_stream_note_sent(stream);
        if (stream->stream.unsent > 0) {
            return;
        }
    }
}

void http2_wire_wake_waiting(struct http2_wire *wire)
{
    struct list *link = wire->waiting.next;
    while (link != &wire->waiting) {
        struct http2_stream *stream = CONTAINER_OF(link, struct http2_stream, waiting_link);
        link = link->next;
        if (http2_stream_may_go_on(stream)) {
            stream->waits = 0;
            list_unlink(&stream->waiting_link);
            http2_stream_wake(stream);
        }
    }
}

static struct iovec piece_of(struct span bytes)
{
    return (struct iovec){(void *)(uintptr_t)bytes.data, bytes.size}; /* only read */
}

/* Writes from the queue, and what stands behind it; *put is of both. */
static enum status write_pieces(struct http2_wire *wire, const struct http2_frames *frames,
                                size_t *put)
{
    struct transport *transport = &wire->session->transport;
    struct span queued[BYTE_QUEUE_BUFFERS_MAX];
    struct iovec vector[PIECES_MAX];
    int count = byte_queue_pieces(&wire->outbox, queued);
    for (int i = 0; i < count; i++) {
        vector[i] = piece_of(queued[i]);
    }
    for (uint32_t i = 0; frames != NULL && i < 2 * frames->count; i++) {
        vector[count++] = piece_of(http2_frames_piece(frames, i));
    }
    enum status status = transport->ops->write(transport, vector, count, put);
    if (status == OK) {
        size_t queue = *put < wire->outbox.size ? *put : wire->outbox.size;
        byte_queue_consume(&wire->outbox, wire->session->context->buffers, queue);
        wire->out_sent += *put;
        traffic_of(wire)->sent += *put;
    }
    return status;
}

/* A peer that has gone may have said why. Data are none any more, whence the one byte. */
static void hear_out(struct http2_wire *wire)
{
    struct transport *transport = &wire->session->transport;
    uint8_t byte = 0;
    size_t got = 0;
    if (tls_is_on(transport)) {
        (void)transport->ops->read(transport, &byte, sizeof(byte), &got);
        wire->refused |= session_was_refused(wire->session);
    }
}

static enum status write_outbox(struct http2_wire *wire)
{
    size_t put = 0;
    return write_pieces(wire, NULL, &put);
}

bool http2_wire_send_frames(struct http2_wire *wire)
{
    struct http2_frames *frames = wire->frames;
    size_t before = wire->outbox.size;
    size_t put = 0;
    if (frames->count == 0 || wire->dead) {
        return !wire->dead;
    }
    enum status status = write_pieces(wire, frames, &put);
    bool queued = status != ERROR && queue_frames(wire, put > before ? put - before : 0);
    if (!queued) {
        hear_out(wire);
        http2_wire_die(wire);
        return false;
    }
    if (put > 0) {
        note_sent(wire);
        http2_wire_wake_waiting(wire);
    }
    return true;
}

bool http2_wire_send(struct http2_wire *wire)
{
    uint64_t before = wire->out_sent;
    if (!transport_is_open(&wire->session->transport)) {
        wire->dead = true; /* the process is only being swept up */
    }
    (void)http2_wire_pump(wire);
    while (wire->outbox.size > 0 && !wire->dead) {
        enum status status = write_outbox(wire);
        if (status == AGAIN) {
            break;
        }
        if (status == ERROR) {
            hear_out(wire);
            http2_wire_die(wire);
            break;
        }
        if (wire->pending.size > 0) {
            (void)http2_wire_pump(wire); /* there is room for it now, and for what is behind it */
        }
    }
    if (wire->held_back && wire->pending.size == 0) {
        wire->held_back = false;
        http2_wire_requeue(wire);
    }
    if (wire->out_sent != before) {
        note_sent(wire);
        http2_wire_wake_waiting(wire);
    }
    return !wire->dead;
}

bool http2_wire_flush(struct http2_wire *wire)
{
    bool others = wire->held > 1 && (wire->session->transport.socket.ready & IO_WRITABLE) != 0;
    if (wire->dead || !others || wire->outbox.size >= GATHER_MAX) {
        return http2_wire_send(wire);
    }
    if (wire->outbox.size > 0 || wire->pending.size > 0 ||
        nghttp2_session_want_write(wire->codec) != 0) {
        http2_wire_requeue(wire);
    }
    return true;
}

bool http2_wire_is_flushed(const struct http2_wire *wire)
{
    return wire->outbox.size == 0 && wire->pending.size == 0 &&
           (wire->muted || nghttp2_session_want_write(wire->codec) == 0);
}

/* ---- Events and time ---- */

void http2_wire_arm(struct http2_wire *wire)
{
    const uint64_t deadlines[] = {wire->head_deadline,   wire->idle_deadline, wire->goaway_deadline,
                                  wire->output_deadline, wire->ping_deadline, wire->retry};
    uint64_t earliest = UINT64_MAX;
    for (size_t i = 0; i < sizeof(deadlines) / sizeof(deadlines[0]); i++) {
        earliest = deadlines[i] < earliest ? deadlines[i] : earliest;
    }
    timer_set(wire->session->context->wheel, &wire->session->timer, earliest);
}

enum session_event http2_wire_next_event(struct session *session, struct stream **stream)
{
    struct http2_session *http2 = http2_session_of(session);
    struct http2_wire *wire = http2->wire;
    if (wire != NULL && !list_is_empty(&wire->events)) {
        struct http2_stream *next =
            CONTAINER_OF(list_pop_front(&wire->events), struct http2_stream, event_link);
        enum session_event event = next->event_head ? SESSION_EVENT_HEAD : SESSION_EVENT_WAKE;
        next->event_head = false;
        *stream = &next->stream;
        return event;
    }
    if (http2->event_closed) {
        http2->event_closed = false;
        return SESSION_EVENT_CLOSED;
    }
    return SESSION_EVENT_NONE;
}
