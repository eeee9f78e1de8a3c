#include "control/grpc_check.h"

#include "base/assert.h"
#include "http/grpc.h"

enum {
    SHARED_MEMORY = 320 * 1024, /* pages of each size of object may be half empty */
    WINDOW = 4096,
    HEAD_MAX = 8192,
    OUTBOUND_ACKS_MAX = 32,
    SETTINGS_MAX = 32,
    CONTINUATIONS_MAX = 8,
};

/* ---- What came ---- */

static void note_status(struct grpc_check *check, struct span value)
{
    uint64_t status = 0;
    check->failed |= !span_to_u64(value, 999, &status);
    check->status = (uint16_t)status;
    check->typed = false;
}

static struct span bytes_of(nghttp2_rcbuf *buffer)
{
    nghttp2_vec bytes = nghttp2_rcbuf_get_buf(buffer);
    return span_of(bytes.base, bytes.len);
}

static int on_header(nghttp2_session *codec, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *context)
{
    struct grpc_check *check = context;
    struct span field = bytes_of(name);
    struct span text = bytes_of(value);
    (void)codec, (void)flags;
    if (frame->hd.stream_id != check->stream) {
        return 0;
    }
    if (span_equal(field, SPAN(":status"))) {
        note_status(check, text); /* interim responses have one, too: the last one counts */
    } else if (span_equal(field, SPAN("content-type"))) {
        check->failed |= check->typed;
        check->typed = grpc_is_content_type(text);
    } else if (span_equal(field, SPAN("grpc-status"))) {
        check->failed |= check->well || grpc_status_read(text) != GRPC_OK;
        check->well = true;
    }
    return 0;
}

static int on_data(nghttp2_session *codec, uint8_t flags, int32_t stream, const uint8_t *data,
                   size_t size, void *context)
{
    struct grpc_check *check = context;
    (void)codec, (void)flags, (void)stream;
    if (size > sizeof(check->answer) - check->answer_size) {
        check->failed = true;
        return 0;
    }
    memcpy(check->answer + check->answer_size, data, size);
    check->answer_size += (uint32_t)size;
    return 0;
}

static int on_frame(nghttp2_session *codec, const nghttp2_frame *frame, void *context)
{
    struct grpc_check *check = context;
    (void)codec;
    bool body = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (body && frame->hd.stream_id == check->stream) {
        check->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    }
    return 0;
}

/* The codec says goodbye where the endpoint does not speak HTTP/2. */
static int on_sent(nghttp2_session *codec, const nghttp2_frame *frame, void *context)
{
    struct grpc_check *check = context;
    (void)codec;
    check->failed |= frame->hd.type == NGHTTP2_GOAWAY;
    return 0;
}

/* Whatever ends the stream otherwise ends the call: a reset, or a GOAWAY that excludes it. */
static int on_close(nghttp2_session *codec, int32_t stream, uint32_t code, void *context)
{
    struct grpc_check *check = context;
    (void)codec, (void)stream, (void)code;
    check->failed |= !check->ended;
    return 0;
}

/* Fields that the codec would leave out are no reason to be lenient. */
static int on_invalid_header(nghttp2_session *codec, const nghttp2_frame *frame,
                             nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags,
                             void *context)
{
    struct grpc_check *check = context;
    (void)codec, (void)frame, (void)name, (void)value, (void)flags;
    check->failed = true;
    return 0;
}

static ssize_t next_request(nghttp2_session *codec, int32_t stream, uint8_t *buffer, size_t max,
                            uint32_t *flags, nghttp2_data_source *source, void *context)
{
    struct grpc_check *check = context;
    size_t left = check->request_size - check->request_sent;
    size_t size = left < max ? left : max;
    (void)codec, (void)stream, (void)source;
    memcpy(buffer, check->request + check->request_sent, size);
    check->request_sent += (uint32_t)size;
    if (check->request_sent == check->request_size) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)size;
}

/* ---- What all calls share ---- */

uint64_t grpc_check_bytes(uint32_t calls)
{
    return calls == 0 ? 0 : http2_memory_bytes((uint64_t)calls * GRPC_CHECK_MEMORY + SHARED_MEMORY);
}

static void set_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
}

bool grpc_check_init(struct grpc_check_context *context, uint32_t calls)
{
    *context = (struct grpc_check_context){0};
    if (calls == 0) {
        return true;
    }
    if (nghttp2_session_callbacks_new(&context->callbacks) != 0 ||
        nghttp2_option_new(&context->options) != 0 ||
        !http2_memory_init(&context->memory, (uint64_t)calls * GRPC_CHECK_MEMORY + SHARED_MEMORY)) {
        grpc_check_deinit(context);
        return false;
    }
    set_callbacks(context->callbacks);
    nghttp2_option_set_no_closed_streams(context->options, 1);
    nghttp2_option_set_max_reserved_remote_streams(context->options, 0);
    nghttp2_option_set_max_send_header_block_length(context->options, HEAD_MAX);
    nghttp2_option_set_max_outbound_ack(context->options, OUTBOUND_ACKS_MAX);
    nghttp2_option_set_max_settings(context->options, SETTINGS_MAX);
    nghttp2_option_set_max_continuations(context->options, CONTINUATIONS_MAX);
    return true;
}

void grpc_check_deinit(struct grpc_check_context *context)
{
    nghttp2_session_callbacks_del(context->callbacks);
    nghttp2_option_del(context->options);
    http2_memory_deinit(&context->memory);
    *context = (struct grpc_check_context){0};
}

/* ---- One call ---- */

static nghttp2_nv field_of(const char *name, struct span value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name, /* only read, and copied */
                        .namelen = strlen(name),
                        .value = (uint8_t *)(uintptr_t)value.data,
                        .valuelen = value.size};
}

static bool submit(struct grpc_check *check, const struct grpc_question *question)
{
    uint8_t timeout[GRPC_TIMEOUT_MAX];
    const nghttp2_nv head[] = {
        field_of(":method", SPAN("POST")),
        field_of(":scheme", question->secure ? SPAN("https") : SPAN("http")),
        field_of(":authority", question->authority),
        field_of(":path", SPAN("/grpc.health.v1.Health/Check")),
        field_of("te", SPAN("trailers")),
        field_of("content-type", SPAN("application/grpc")),
        field_of("grpc-timeout", grpc_timeout_write(question->timeout, timeout)),
        field_of("user-agent", SPAN("sentinel/" SENTINEL_VERSION " (health check)")),
    };
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEAD_MAX},
    };
    const nghttp2_data_provider body = {.read_callback = next_request};
    if (nghttp2_submit_settings(check->codec, NGHTTP2_FLAG_NONE, settings,
                                sizeof(settings) / sizeof(settings[0])) != 0) {
        return false;
    }
    check->stream = nghttp2_submit_request(check->codec, NULL, head, sizeof(head) / sizeof(head[0]),
                                           &body, NULL);
    return check->stream > 0;
}

bool grpc_check_begin(struct grpc_check *check, struct grpc_check_context *context,
                      const struct grpc_question *question)
{
    ASSERT(check->codec == NULL && context->callbacks != NULL);
    *check = (struct grpc_check){
        .account = {.memory = &context->memory, .max = GRPC_CHECK_MEMORY},
    };
    check->request_size = (uint32_t)grpc_health_request(question->service, check->request).size;
    nghttp2_mem memory = http2_codec_memory(&check->account);
    if (nghttp2_session_client_new3(&check->codec, context->callbacks, check, context->options,
                                    &memory) != 0) {
        check->codec = NULL;
        return false;
    }
    if (!submit(check, question)) {
        grpc_check_end(check);
        return false;
    }
    return true;
}

struct span grpc_check_output(struct grpc_check *check)
{
    if (check->pending.size == 0 && !check->failed) {
        const uint8_t *data = NULL;
        ssize_t size = nghttp2_session_mem_send(check->codec, &data);
        check->failed |= size < 0;
        check->pending = size > 0 ? span_of(data, (size_t)size) : SPAN_EMPTY;
    }
    return check->pending;
}

void grpc_check_sent(struct grpc_check *check, size_t size)
{
    ASSERT(size <= check->pending.size);
    check->pending = span_from(check->pending, size);
}

/* All of it is there: is it what a service that is well says? */
static bool is_well(const struct grpc_check *check)
{
    return check->status == 200 && check->typed && check->well &&
           grpc_health_is_serving(span_of(check->answer, check->answer_size));
}

enum status grpc_check_input(struct grpc_check *check, struct span bytes)
{
    if (bytes.size > GRPC_CHECK_BYTES_MAX - check->received) {
        return ERROR;
    }
    check->received += (uint32_t)bytes.size;
    bool taken =
        check->failed || nghttp2_session_mem_recv(check->codec, bytes.data, bytes.size) >= 0;
    if (!taken || check->failed) {
        return ERROR;
    }
    if (check->ended) {
        return is_well(check) ? OK : ERROR;
    }
    return nghttp2_session_want_read(check->codec) != 0 ? AGAIN : ERROR;
}

void grpc_check_end(struct grpc_check *check)
{
    nghttp2_session_del(check->codec);
    http2_account_settle(&check->account);
    ASSERT(check->account.used == 0);
    *check = (struct grpc_check){0};
}
