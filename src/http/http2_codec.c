/*
 * The codec's callbacks, the same for both kinds of session. They note what came and return: no
 * stream's holder runs inside one, nothing is sent from one, and no stream goes away in one.
 */
#include "base/assert.h"
#include "http/http1_chunked.h"
#include "http/http2_wire.h"

enum {
    CONTINUATIONS_MAX = 16,
    OUTBOUND_ACKS_MAX = 100,
    SETTINGS_MAX = 32,
    DATA_WORTH = 256,          /* bytes of a frame for which a peer may have to open a window */
    RESETS_BURST = 100 * 1000, /* the codec's own bound is by the wall clock: ours comes first */
};

static struct http2_counts *counts_of(const struct http2_wire *wire)
{
    return &wire->session->context->http2->counts;
}

static struct http2_stream *find(nghttp2_session *codec, int32_t id)
{
    return id == 0 ? NULL : nghttp2_session_get_stream_user_data(codec, id);
}

/* ---- What came ---- */

/* Every frame, also those that the codec then ignores or refuses. */
static int on_begin_frame(nghttp2_session *codec, const nghttp2_frame_hd *frame, void *context)
{
    struct http2_wire *wire = context;
    (void)codec;
    if (frame->type != NGHTTP2_PING || (frame->flags & NGHTTP2_FLAG_ACK) == 0) {
        wire->ping_wait = wire->session->context->limits.upstream_ping_timeout;
    }
    switch (frame->type) {
    case NGHTTP2_DATA:
    case NGHTTP2_HEADERS:
    case NGHTTP2_RST_STREAM:
    case NGHTTP2_PUSH_PROMISE:
        break;
    case NGHTTP2_GOAWAY:
        if (wire->goaway_received) {
            http2_wire_charge(wire, HTTP2_GLITCH_GOAWAY);
        }
        break;
    case NGHTTP2_SETTINGS:
        if ((frame->flags & NGHTTP2_FLAG_ACK) == 0 && wire->settings_seen++ > 0) {
            http2_wire_charge(wire, HTTP2_GLITCH_SETTINGS);
        }
        break;
    case NGHTTP2_PING:
        if ((frame->flags & NGHTTP2_FLAG_ACK) == 0 || wire->pings == 0) {
            http2_wire_charge(wire, HTTP2_GLITCH_PING);
        } else {
            wire->pings--;
        }
        break;
    case NGHTTP2_PRIORITY:
    case NGHTTP2_PRIORITY_UPDATE:
        http2_wire_charge(wire, HTTP2_GLITCH_PRIORITY);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        http2_wire_charge(wire, HTTP2_GLITCH_WINDOW_UPDATE);
        break;
    case NGHTTP2_CONTINUATION:
        http2_wire_charge(wire, HTTP2_GLITCH_CONTINUATION);
        break;
    default:
        http2_wire_charge(wire, HTTP2_GLITCH_UNKNOWN_FRAME);
    }
    return 0;
}

static int on_begin_headers(nghttp2_session *codec, const nghttp2_frame *frame, void *context)
{
    struct http2_wire *wire = context;
    int32_t id = frame->hd.stream_id;
    struct http2_stream *stream = find(codec, id);
    if (stream == NULL && frame->hd.type == NGHTTP2_HEADERS &&
        frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        stream = wire->role->begin_stream(wire, id);
        if (stream != NULL) {
            (void)nghttp2_session_set_stream_user_data(codec, id, stream);
        }
    }
    if (stream != NULL && !stream->final_head) {
        http2_stream_begin_head(stream);
        wire->heads = stream;
    }
    return 0;
}

static int on_header(nghttp2_session *codec, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *context)
{
    static const struct http1_limits TRAILERS = {.request_line_max = HTTP1_TRAILERS_MAX,
                                                 .head_max = HTTP1_TRAILERS_MAX,
                                                 .fields_max = HTTP1_TRAILER_FIELDS_MAX};
    struct http2_wire *wire = context;
    struct http2_stream *stream = find(codec, frame->hd.stream_id);
    (void)flags;
    if (stream == NULL) {
        http2_wire_charge(wire, HTTP2_GLITCH_FIELDS);
        return 0;
    }
    nghttp2_vec name_bytes = nghttp2_rcbuf_get_buf(name);
    nghttp2_vec value_bytes = nghttp2_rcbuf_get_buf(value);
    struct http2_section *section = stream->final_head ? &stream->trailer : &stream->head;
    bool late = stream->announced && !wire->client && !stream->final_head; /* was refused */
    if (late || section->refusal != REASON_NONE) {
        http2_wire_charge(wire, HTTP2_GLITCH_FIELDS);
        return 0;
    }
    bool dropped = stream->final_head && !wire->client; /* a request's trailers go no further */
    http2_section_add(
        section, &wire->account, dropped ? &TRAILERS : &wire->session->context->limits.head,
        span_of(name_bytes.base, name_bytes.len), span_of(value_bytes.base, value_bytes.len),
        !wire->client && !stream->final_head);
    return 0;
}

/* Regular fields that the codec would leave out are no reason to be lenient. */
static int on_invalid_header(nghttp2_session *codec, const nghttp2_frame *frame,
                             nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags,
                             void *context)
{
    (void)codec, (void)frame, (void)name, (void)value, (void)flags, (void)context;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void on_headers(struct http2_wire *wire, struct http2_stream *stream)
{
    bool trailers = stream->final_head;
    wire->heads = NULL;
    if (trailers) {
        http2_stream_wake(stream);
        return;
    }
    if (!stream->head_complete) {
        stream->head_complete = true;
        wire->role->head_came(wire, stream);
    }
}

static void on_reset(struct http2_wire *wire, struct http2_stream *stream, uint32_t code)
{
    http2_count(counts_of(wire), &counts_of(wire)->resets[HTTP2_RECEIVED][http2_code_index(code)]);
    if (stream != NULL) {
        stream->error_code = code;
    }
    /* RFC 9113, 8.1: a server that has answered may do without the rest of a request. */
    bool early = wire->client && code == NGHTTP2_NO_ERROR && stream != NULL && stream->peer_ended;
    if (!early && (stream == NULL || !stream->end_sent)) {
        http2_wire_charge(wire, HTTP2_GLITCH_RESET_RECEIVED);
    }
}

static int on_frame_recv(nghttp2_session *codec, const nghttp2_frame *frame, void *context)
{
    struct http2_wire *wire = context;
    struct http2_stream *stream = find(codec, frame->hd.stream_id);
    bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (stream != NULL) {
            stream->peer_ended |= ends;
            stream->bodyless = ends && !stream->final_head;
            on_headers(wire, stream);
        }
        break;
    case NGHTTP2_DATA:
        if (!ends && frame->hd.length <= frame->data.padlen) {
            http2_wire_charge(wire, HTTP2_GLITCH_EMPTY_DATA);
        }
        if (stream != NULL && ends) {
            stream->peer_ended = true;
            http2_stream_wake(stream);
        }
        break;
    case NGHTTP2_RST_STREAM:
        on_reset(wire, stream, frame->rst_stream.error_code);
        break;
    case NGHTTP2_GOAWAY:
        wire->goaway_received = true;
        http2_count(
            counts_of(wire),
            &counts_of(wire)->goaways[HTTP2_RECEIVED][http2_code_index(frame->goaway.error_code)]);
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && wire->noticed) {
            wire->goaway_deadline = 0; /* who has answered knows of the first GOAWAY */
        }
        break;
    case NGHTTP2_SETTINGS:
        wire->settings_came |= (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0;
        wire->windows_moved = true;
        break;
    case NGHTTP2_WINDOW_UPDATE:
        wire->windows_moved = true;
        break;
    default:
        break;
    }
    return 0;
}

static int on_data(nghttp2_session *codec, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t size, void *context)
{
    struct http2_stream *stream = find(codec, id);
    (void)flags;
    if (stream == NULL || stream->broken) {
        (void)nghttp2_session_consume(codec, id, size);
        return 0;
    }
    size_t kept = http2_stream_store(stream, span_of(data, size));
    http2_wire_take_in(context, kept);
    if (kept < size) {
        (void)nghttp2_session_consume(codec, id, size - kept);
        stream->stream.failure = REASON_BUFFERS_FULL;
        http2_stream_reset(stream, NGHTTP2_INTERNAL_ERROR);
        http2_stream_break(stream);
        return 0;
    }
    http2_stream_wake(stream);
    return 0;
}

/*
 * The codec refused a frame. Where that was a stream's matter it has queued a reset for it; the
 * rest ends the connection, which shows by itself.
 */
static int on_invalid_frame(nghttp2_session *codec, const nghttp2_frame *frame, int error,
                            void *context)
{
    struct http2_wire *wire = context;
    struct http2_stream *stream = find(codec, frame->hd.stream_id);
    (void)error;
    http2_wire_charge(wire, HTTP2_GLITCH_RESET_CAUSED);
    if (stream == NULL) {
        return 0;
    }
    stream->stream.failure = REASON_HTTP2_MALFORMED;
    if (!stream->announced) {
        stream->refusal = REASON_HTTP2_MALFORMED;
        wire->heads = wire->heads == stream ? NULL : wire->heads;
        stream->head_complete = true;
        wire->role->head_came(wire, stream);
    }
    http2_stream_break(stream);
    return 0;
}

static int on_stream_close(nghttp2_session *codec, int32_t id, uint32_t code, void *context)
{
    struct http2_stream *stream = find(codec, id);
    struct http2_wire *wire = context;
    wire->submitted -= wire->client && wire->submitted > 0 ? 1 : 0;
    if (stream == NULL) {
        return 0;
    }
    stream->closed = true;
    stream->error_code = code;
    stream->whole =
        stream->peer_ended && stream->end_sent && code == NGHTTP2_NO_ERROR && stream->announced;
    if (stream->whole) {
        wire->whole++;
    } else {
        http2_stream_break(stream);
    }
    wire->heads = wire->heads == stream ? NULL : wire->heads;
    return 0;
}

/* Frames of types that nobody announced are noticed, and forgotten. */
static int on_extension(nghttp2_session *codec, const nghttp2_frame_hd *frame, const uint8_t *data,
                        size_t size, void *context)
{
    (void)codec, (void)frame, (void)data, (void)size, (void)context;
    return 0;
}

static int forget_extension(nghttp2_session *codec, void **payload, const nghttp2_frame_hd *frame,
                            void *context)
{
    (void)codec, (void)payload, (void)frame, (void)context;
    return NGHTTP2_ERR_CANCEL;
}

/* ---- What went ---- */

/* Small ones do where they are all there is to say, not where the peer opens windows by the byte.
 */
static bool earns_credit(const struct http2_wire *wire, const nghttp2_frame *frame)
{
    int32_t id = frame->hd.stream_id;
    return frame->hd.length >= DATA_WORTH ||
           (nghttp2_session_get_remote_window_size(wire->codec) > 0 &&
            nghttp2_session_get_stream_remote_window_size(wire->codec, id) > 0);
}

static int on_frame_send(nghttp2_session *codec, const nghttp2_frame *frame, void *context)
{
    struct http2_wire *wire = context;
    struct http2_stream *stream = find(codec, frame->hd.stream_id);
    bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) {
        if (stream != NULL && ends) {
            stream->end_sent = true;
        }
        if (frame->hd.type == NGHTTP2_DATA && earns_credit(wire, frame)) {
            http2_budget_credit(&wire->budget, HTTP2_CREDIT_DATA);
        }
    } else if (frame->hd.type == NGHTTP2_RST_STREAM) {
        if (stream != NULL && stream->stream.failure == REASON_NONE) {
            /* Not ours: a body that is not as long as announced, a window beyond all bounds. */
            stream->stream.failure = REASON_HTTP2_MALFORMED;
            http2_wire_charge(wire, HTTP2_GLITCH_RESET_CAUSED);
        }
        http2_count(
            counts_of(wire),
            &counts_of(wire)->resets[HTTP2_SENT][http2_code_index(frame->rst_stream.error_code)]);
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        http2_count(
            counts_of(wire),
            &counts_of(wire)->goaways[HTTP2_SENT][http2_code_index(frame->goaway.error_code)]);
        if (frame->goaway.error_code != NGHTTP2_NO_ERROR) {
            wire->failure = REASON_HTTP2_PROTOCOL; /* of the codec's own accord */
            wire->goaway_sent = true;
        }
    }
    return 0;
}

/* What write_body offers becomes a frame at once; an end of its own has no bytes. */
static int send_data(nghttp2_session *codec, nghttp2_frame *frame, const uint8_t *header,
                     size_t size, nghttp2_data_source *source, void *context)
{
    struct http2_wire *wire = context;
    struct http2_stream *stream = source->ptr;
    (void)codec;
    ASSERT(frame->data.padlen == 0 && size <= stream->offered.size);
    if (!http2_wire_put_data(wire, header, span_first(stream->offered, size))) {
        return NGHTTP2_ERR_WOULDBLOCK; /* room said otherwise: write_body gives up */
    }
    stream->offered = span_from(stream->offered, size);
    return 0;
}

static ssize_t next_data(nghttp2_session *codec, int32_t id, uint8_t *buffer, size_t max,
                         uint32_t *flags, nghttp2_data_source *source, void *context)
{
    struct http2_stream *stream = source->ptr;
    size_t size = stream->offered.size < max ? stream->offered.size : max;
    (void)codec, (void)id, (void)buffer, (void)context;
    if (size > 0) {
        bool last = stream->out_framing == FRAMING_LENGTH && stream->out_remaining == 0 &&
                    size == stream->offered.size && !stream->end_apart;
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY | (last ? (unsigned)NGHTTP2_DATA_FLAG_EOF : 0U);
        return (ssize_t)size;
    }
    if (!stream->stream.out_ended) {
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return 0;
}

nghttp2_data_provider http2_stream_provider(struct http2_stream *stream)
{
    return (nghttp2_data_provider){.source = {.ptr = stream}, .read_callback = next_data};
}

/* ---- The context ---- */

static void set_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(callbacks, on_extension);
    nghttp2_session_callbacks_set_unpack_extension_callback(callbacks, forget_extension);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
}

/* What the codec would allow beyond what we do; HTTP messaging is enforced, which is the default.
 */
static void set_options(nghttp2_option *options)
{
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
    nghttp2_option_set_max_reserved_remote_streams(options, 0);
    nghttp2_option_set_max_outbound_ack(options, OUTBOUND_ACKS_MAX);
    nghttp2_option_set_max_settings(options, SETTINGS_MAX);
    nghttp2_option_set_max_continuations(options, CONTINUATIONS_MAX);
    nghttp2_option_set_stream_reset_rate_limit(options, RESETS_BURST, RESETS_BURST);
    for (unsigned type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; type++) {
        nghttp2_option_set_user_recv_extension_type(options, (uint8_t)type);
    }
}

bool http2_context_init(struct http2_context *context, uint64_t bytes,
                        const struct http2_limits *limits)
{
    *context = (struct http2_context){.limits = *limits};
    if (nghttp2_session_callbacks_new(&context->callbacks) != 0 ||
        nghttp2_option_new(&context->options) != 0 || !http2_memory_init(&context->memory, bytes)) {
        return false;
    }
    set_callbacks(context->callbacks);
    set_options(context->options);
    return true;
}

void http2_context_deinit(struct http2_context *context)
{
    ASSERT(context->counts.sessions == 0 && context->counts.streams == 0);
    nghttp2_session_callbacks_del(context->callbacks);
    nghttp2_option_del(context->options);
    http2_memory_deinit(&context->memory);
    *context = (struct http2_context){0};
}
