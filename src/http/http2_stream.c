/*
 * The streams of an HTTP/2 session: what of http/stream.h is the same for both kinds.
 */
#include "base/assert.h"
#include "http/http2_wire.h"

enum {
    CHUNK_MIN = 512,       /* of body bytes, its own header included */
    CHUNK_MAX = 16 * 1024, /* a frame */
};

struct http2_stream *http2_stream_create(struct http2_wire *wire, const struct stream_ops *ops)
{
    struct http2_stream *stream = http2_allocate(&wire->account, sizeof(*stream));
    if (stream == NULL) {
        return NULL;
    }
    *stream = (struct http2_stream){
        .stream = {.ops = ops,
                   .session = wire->session,
                   .began = io_now(wire->session->context->io),
                   .in_begun = true},
    };
    list_push_back(&wire->streams, &stream->link);
    list_init(&stream->event_link);
    list_init(&stream->sending_link);
    list_init(&stream->waiting_link);
    return stream;
}

/* From here on the codec must not name it any more. */
static void forget_in_codec(struct http2_stream *stream)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    if (!stream->closed && !wire->muted && stream->id > 0) {
        (void)nghttp2_session_set_stream_user_data(wire->codec, stream->id, NULL);
    }
    wire->heads = wire->heads == stream ? NULL : wire->heads;
}

static void drop_chunks(struct http2_stream *stream)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    size_t unread = 0;
    while (stream->first != NULL) {
        struct http2_chunk *chunk = stream->first;
        stream->first = chunk->next;
        unread += chunk->size - chunk->offset;
        http2_free(&wire->account, chunk);
    }
    stream->last = NULL;
    http2_wire_let_go(wire, unread);
}

void http2_stream_drop_interim(struct http2_stream *stream)
{
    struct http2_account *account = &http2_wire_of_stream(stream)->account;
    struct http2_interim *interim = stream->interim;
    stream->interim = interim->next;
    http2_section_clear(&interim->head, account);
    http2_free(account, interim);
}

void http2_stream_destroy(struct http2_stream *stream)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    bool held = stream->announced;
    bool whole = stream->whole;
    wire->cut |= stream->out_mark > wire->out_sent && !stream->broken;
    forget_in_codec(stream);
    drop_chunks(stream);
    while (stream->interim != NULL) {
        http2_stream_drop_interim(stream);
    }
    http2_section_clear(&stream->head, &wire->account);
    http2_section_clear(&stream->trailer, &wire->account);
    http2_free(&wire->account, stream->trailers.entries);
    list_unlink(&stream->link);
    list_unlink(&stream->event_link);
    list_unlink(&stream->sending_link);
    list_unlink(&stream->waiting_link);
    http2_free(&wire->account, stream);
    if (held) {
        wire->whole -= whole ? 1 : 0;
        http2_wire_release(wire);
    }
}

void http2_stream_announce(struct http2_stream *stream, bool head)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    ASSERT(!stream->announced);
    stream->announced = true;
    stream->event_head = head;
    wire->held++;
    wire->session->context->http2->counts.streams++;
    if (head) {
        http2_stream_wake(stream);
    }
}

void http2_stream_wake(struct http2_stream *stream)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    if (!stream->announced || list_is_linked(&stream->event_link)) {
        return;
    }
    list_push_back(&wire->events, &stream->event_link);
    if (!wire->running && wire->session->step != SESSION_CLOSED) {
        /* Its events are taken after a run of the session, which is not what is going on. */
        http2_wire_requeue(wire);
    }
}

void http2_stream_reset(struct http2_stream *stream, uint32_t code)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    if (!stream->closed && !wire->muted && !wire->dead) {
        (void)nghttp2_submit_rst_stream(wire->codec, NGHTTP2_FLAG_NONE, stream->id, code);
    }
}

void http2_stream_break(struct http2_stream *stream)
{
    stream->broken = true;
    http2_stream_wake(stream);
}

/* ---- In ---- */

void http2_stream_begin_head(struct http2_stream *stream)
{
    struct http2_account *account = &http2_wire_of_stream(stream)->account;
    struct http2_interim **last = &stream->interim;
    int count = 0;
    for (; *last != NULL; last = &(*last)->next) {
        count++;
    }
    struct http2_interim *interim = stream->head_complete && count < HTTP2_INTERIMS_MAX
                                        ? http2_allocate(account, sizeof(*interim))
                                        : NULL;
    if (interim != NULL) {
        *interim = (struct http2_interim){.head = stream->head};
        *last = interim;
        stream->head = (struct http2_section){0};
    }
    http2_section_clear(&stream->head, account);
    stream->head_complete = false;
}

size_t http2_stream_store(struct http2_stream *stream, struct span bytes)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    const size_t all = bytes.size;
    while (bytes.size > 0) {
        struct http2_chunk *chunk = stream->last;
        size_t room =
            chunk == NULL ? 0 : http2_size_of(&wire->account, chunk) - sizeof(*chunk) - chunk->size;
        if (room == 0) {
            size_t size = bytes.size + sizeof(*chunk);
            size = size < CHUNK_MIN ? CHUNK_MIN : size < CHUNK_MAX ? size : CHUNK_MAX;
            chunk = http2_allocate(&wire->account, size);
            if (chunk == NULL) {
                return all - bytes.size;
            }
            room = http2_size_of(&wire->account, chunk) - sizeof(*chunk);
            *chunk = (struct http2_chunk){0};
            if (stream->last == NULL) {
                stream->first = chunk;
            } else {
                stream->last->next = chunk;
            }
            stream->last = chunk;
        }
        size_t part = bytes.size < room ? bytes.size : room;
        memcpy(chunk->bytes + chunk->size, bytes.data, part);
        chunk->size += (uint32_t)part;
        bytes = span_from(bytes, part);
    }
    return all;
}

/* What was lent last had to stay until here. */
static void settle_loans(struct http2_wire *wire)
{
    while (wire->lent != NULL) {
        struct http2_chunk *chunk = wire->lent;
        wire->lent = chunk->next;
        http2_free(&wire->account, chunk);
    }
}

/* Lends from the first chunk. What the holder takes it was promised to have room for elsewhere. */
static struct span lend(struct http2_stream *stream, size_t max)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    struct http2_chunk *chunk = stream->first;
    size_t left = chunk->size - chunk->offset;
    size_t size = left < max ? left : max;
    struct span bytes = span_of(chunk->bytes + chunk->offset, size);
    chunk->offset += (uint32_t)size;
    if (chunk->offset == chunk->size) {
        stream->first = chunk->next;
        stream->last = stream->first == NULL ? NULL : stream->last;
        chunk->next = wire->lent;
        wire->lent = chunk;
    }
    if (!wire->muted && !wire->dead) {
        (void)nghttp2_session_consume_stream(wire->codec, stream->id, size);
    }
    http2_wire_let_go(wire, size);
    return bytes;
}

/* They stay where they came; only the table of them is made. */
static enum reason read_trailers(struct http2_stream *stream)
{
    struct http2_section *section = &stream->trailer;
    if (section->refusal != REASON_NONE || section->fields == 0) {
        return section->refusal != REASON_NONE ? section->refusal : REASON_BAD_TRAILER;
    }
    struct field *table = http2_allocate(&http2_wire_of_stream(stream)->account,
                                         section->fields * sizeof(struct field));
    if (table == NULL) {
        return REASON_BUFFERS_FULL;
    }
    stream->trailers =
        (struct fields){.entries = table, .capacity = section->fields, .absent = UINT64_MAX};
    return http2_parse_trailers(section, &stream->trailers) == OK ? REASON_NONE
                                                                  : REASON_BAD_TRAILER;
}

/* The peer has ended and all was read. ERROR: what it announced, or its trailers, were not so. */
static enum status end_body(struct http2_stream *stream, enum reason *reason)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    bool trailer = stream->trailer.size > 0 || stream->trailer.refusal != REASON_NONE;
    bool tunnel = stream->out_framing == FRAMING_TUNNEL; /* nothing but DATA: RFC 9113, 8.5 */
    if ((stream->in_length && stream->in_remaining > 0) || (tunnel && trailer)) {
        *reason = REASON_HTTP2_MALFORMED;
        return ERROR;
    }
    if (trailer) {
        enum reason why = read_trailers(stream);
        if (why != REASON_NONE) {
            *reason = wire->client ? why : REASON_BAD_TRAILER;
            return ERROR;
        }
    }
    stream->stream.in_ended = true;
    return END;
}

enum status http2_stream_read(struct http2_stream *stream, size_t max, struct span *bytes,
                              enum reason truncated, enum reason *reason)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    ASSERT(max > 0);
    settle_loans(wire);
    if (stream->stream.in_ended) {
        return END;
    }
    if (stream->stream.failure != REASON_NONE) {
        *reason = (enum reason)stream->stream.failure;
        return ERROR;
    }
    if (stream->first != NULL) {
        *bytes = lend(stream, max);
        if (stream->in_length && bytes->size > stream->in_remaining) {
            *reason = REASON_HTTP2_MALFORMED;
            return ERROR;
        }
        stream->in_remaining -= stream->in_length ? bytes->size : 0;
        stream->stream.bytes_in += bytes->size;
        return OK;
    }
    if (stream->peer_ended) {
        return end_body(stream, reason);
    }
    if (stream->broken || wire->dead || wire->in_ended) {
        *reason = truncated;
        return ERROR;
    }
    if (nghttp2_session_want_write(wire->codec) != 0) {
        (void)http2_wire_flush(wire); /* the window that the peer may be waiting for */
    }
    return AGAIN;
}

bool http2_stream_is_at_end(struct stream *stream)
{
    const struct http2_stream *self = http2_stream_of(stream);
    return self->peer_ended && self->first == NULL;
}

struct fields *http2_stream_trailers(struct stream *stream)
{
    ASSERT(stream->in_ended);
    return &http2_stream_of(stream)->trailers;
}

/* ---- Out ---- */

static void wait_for(struct http2_stream *stream, enum http2_wait what)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    stream->waits |= (uint8_t)what;
    if (!list_is_linked(&stream->waiting_link)) {
        list_push_back(&wire->waiting, &stream->waiting_link);
    }
}

/* The smaller one of the windows of the stream and of its connection, or 0. */
static size_t window_of(const struct http2_stream *stream)
{
    const struct http2_wire *wire = http2_wire_of_stream(stream);
    int32_t window = nghttp2_session_get_stream_remote_window_size(wire->codec, stream->id);
    int32_t all = nghttp2_session_get_remote_window_size(wire->codec);
    window = window < all ? window : all;
    return window <= 0 ? 0 : (size_t)window;
}

/* Room in the queue and in both windows. */
static size_t data_room(const struct http2_stream *stream)
{
    size_t window = window_of(stream);
    size_t room = http2_wire_room(http2_wire_of_stream(stream));
    return room < window ? room : window;
}

static bool is_gone(const struct http2_stream *stream)
{
    const struct http2_wire *wire = http2_wire_of_stream(stream);
    return stream->broken || wire->dead;
}

bool http2_stream_may_go_on(const struct http2_stream *stream)
{
    const struct http2_wire *wire = http2_wire_of_stream(stream);
    bool sent =
        stream->out_mark <= wire->out_sent && (stream->end_sent || !stream->stream.out_ended);
    return is_gone(stream) || ((stream->waits & HTTP2_WAITS_SENT) != 0 && sent) ||
           ((stream->waits & HTTP2_WAITS_HEAD) != 0 && http2_wire_takes(wire, stream->needs)) ||
           ((stream->waits & HTTP2_WAITS_SETTINGS) != 0 && wire->settings_came) ||
           ((stream->waits & HTTP2_WAITS_ROOM) != 0 && data_room(stream) > 0);
}

/* While bytes are pending their departure wakes; behind an empty queue only the pool can. */
static void note_starved(struct http2_stream *stream, bool refused)
{
    stream->stream.starved = refused && http2_wire_of_stream(stream)->outbox.size == 0;
}

size_t http2_stream_room(struct stream *base)
{
    struct http2_stream *stream = http2_stream_of(base);
    struct http2_wire *wire = http2_wire_of_stream(stream);
    if (is_gone(stream)) {
        base->starved = false;
        return 0; /* a flush says so */
    }
    if (stream->end_sent) {
        base->starved = false;
        return 1; /* the length that was announced is through: the source has nothing but its end */
    }
    (void)http2_wire_pump(wire);
    size_t size = is_gone(stream) ? 0 : data_room(stream);
    note_starved(stream, http2_wire_room(wire) == 0);
    if (size == 0) {
        wait_for(stream, HTTP2_WAITS_ROOM);
    }
    return size;
}

bool http2_stream_takes_head(struct http2_stream *stream, size_t weight)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    bool takes = http2_wire_pump(wire) && http2_wire_takes(wire, weight);
    note_starved(stream, !takes);
    if (!takes) {
        stream->needs = (uint32_t)weight;
        wait_for(stream, HTTP2_WAITS_HEAD);
    }
    return takes;
}

void http2_stream_wait_for_settings(struct http2_stream *stream)
{
    wait_for(stream, HTTP2_WAITS_SETTINGS);
}

void http2_stream_note_sent(struct http2_stream *stream)
{
    const struct http2_wire *wire = http2_wire_of_stream(stream);
    uint64_t left = stream->out_mark > wire->out_sent ? stream->out_mark - wire->out_sent : 0;
    if (left < stream->stream.unsent) {
        stream->stream.unsent = left;
    }
    stream->stream.progress_out = stream->out_total - stream->stream.unsent;
    if (left == 0) {
        list_unlink(&stream->sending_link);
    }
}

void http2_stream_note_queued(struct http2_stream *stream, uint64_t before)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    uint64_t more = wire->out_count - before;
    if (more == 0) {
        return;
    }
    stream->out_start = stream->out_total == 0 ? before : stream->out_start;
    stream->out_total += more;
    stream->stream.unsent += more;
    stream->out_mark = wire->out_count;
    list_unlink(&stream->sending_link);
    list_push_back(&wire->sending, &stream->sending_link);
}

void http2_stream_begin_out(struct http2_stream *stream, enum framing framing, uint64_t length)
{
    stream->out_framing = (uint8_t)framing;
    stream->out_remaining = framing == FRAMING_LENGTH ? length : 0;
    stream->stream.out_begun = true;
    stream->stream.out_ended = framing == FRAMING_NONE;
}

/* Makes frames of what is offered, in the queue. */
static void write_queued(struct http2_stream *stream)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    uint64_t before = wire->out_count;
    (void)nghttp2_session_resume_data(wire->codec, stream->id);
    (void)http2_wire_pump(wire);
    http2_stream_note_queued(stream, before);
}

/* Makes frames of what is offered, and sends them where they stand. */
static void write_through(struct http2_stream *stream)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    struct http2_frames frames;
    frames.count = 0;
    frames.size = 0;
    wire->frames = &frames;
    write_queued(stream);
    (void)http2_wire_send_frames(wire);
    wire->frames = NULL;
}

enum status http2_stream_write_body(struct stream *base, struct span bytes)
{
    struct http2_stream *stream = http2_stream_of(base);
    struct http2_wire *wire = http2_wire_of_stream(stream);
    ASSERT(base->out_begun && !base->out_ended && bytes.size > 0);
    if (is_gone(stream)) {
        return ERROR;
    }
    if (stream->out_framing == FRAMING_LENGTH) {
        ASSERT(bytes.size <= stream->out_remaining);
        stream->out_remaining -= bytes.size;
    }
    stream->offered = bytes;
    base->bytes_out += bytes.size;
    if (http2_wire_is_worth_sending(wire, bytes.size)) {
        write_through(stream);
    } else {
        write_queued(stream);
    }
    if (stream->offered.size > 0) {
        stream->offered = SPAN_EMPTY;
        http2_wire_die(wire); /* room was asked for, and it is gone all the same */
    }
    return wire->dead ? ERROR : OK;
}

static enum status write_trailers(struct http2_stream *stream, const struct fields *trailers)
{
    struct http2_wire *wire = http2_wire_of_stream(stream);
    struct session_context *context = wire->session->context;
    struct http2_rendered rendered =
        http2_render_begin(context->render, context->render_size, trailers->count);
    http2_render_fields(&rendered, trailers);
    ASSERT(!rendered.overflowed); /* trailers are bounded far below the place for rendering */
    if (!http2_stream_takes_head(stream, rendered.weight)) {
        return AGAIN;
    }
    uint64_t before = wire->out_count;
    stream->stream.out_ended = true;
    if (nghttp2_submit_trailer(wire->codec, stream->id, rendered.entries, rendered.count) != 0) {
        return ERROR;
    }
    (void)http2_wire_pump(wire);
    http2_stream_note_queued(stream, before);
    return OK;
}

enum status http2_stream_write_end(struct stream *base, const struct fields *trailers)
{
    struct http2_stream *stream = http2_stream_of(base);
    struct http2_wire *wire = http2_wire_of_stream(stream);
    ASSERT(base->out_begun && !base->out_ended);
    ASSERT(stream->out_framing != FRAMING_LENGTH || stream->out_remaining == 0);
    if (is_gone(stream) || stream->end_sent) {
        base->out_ended = true; /* with the last bytes of the length that was announced */
        return OK;
    }
    if (trailers != NULL && trailers->count > 0) {
        return write_trailers(stream, trailers);
    }
    if (!wire->client && stream->out_framing != FRAMING_TUNNEL && window_of(stream) == 0) {
        /*
         * An empty DATA frame needs no window (RFC 9113, 6.9.1), but the codec waits for one; an
         * empty trailer section says the same. Some services would take none of a request.
         */
        static const struct fields NONE = {0};
        return write_trailers(stream, &NONE);
    }
    if (!http2_stream_takes_head(stream, HTTP2_FRAME_HEADER)) {
        return AGAIN;
    }
    uint64_t before = wire->out_count;
    base->out_ended = true;
    (void)nghttp2_session_resume_data(wire->codec, stream->id);
    (void)http2_wire_pump(wire);
    http2_stream_note_queued(stream, before);
    return OK;
}

enum status http2_stream_flush(struct stream *base)
{
    struct http2_stream *stream = http2_stream_of(base);
    struct http2_wire *wire = http2_wire_of_stream(stream);
    bool alive = wire->session->step != SESSION_CLOSED && http2_wire_flush(wire);
    if (list_is_linked(&stream->sending_link)) {
        http2_stream_note_sent(stream);
    }
    bool ended = stream->end_sent || !base->out_ended;
    if (base->unsent == 0 && stream->end_sent) {
        return OK; /* all is said, whatever became of the stream */
    }
    if (!alive || is_gone(stream)) {
        return ERROR;
    }
    if (base->unsent > 0 || !ended) {
        wait_for(stream, HTTP2_WAITS_SENT);
        return AGAIN;
    }
    return OK;
}

bool http2_stream_is_broken(struct stream *base)
{
    const struct http2_stream *stream = http2_stream_of(base);
    return is_gone(stream) || transport_has_failed(&base->session->transport);
}

/* Not by progress_out: while frames of others stand between its own, that says less than is true.
 */
bool http2_stream_is_unwritten(struct stream *base)
{
    struct http2_stream *stream = http2_stream_of(base);
    return stream->out_total == 0 || http2_wire_of_stream(stream)->out_sent <= stream->out_start;
}

uint64_t http2_stream_acknowledged(struct stream *base)
{
    const struct transport *transport = &base->session->transport;
    return window_of(http2_stream_of(base)) == 0
               ? 0
               : io_acknowledged(transport->io, &transport->socket);
}
