#include "control/grpc_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The endpoint: the codec's server side, which answers each request as a scenario says. */
struct endpoint {
    nghttp2_session *codec;
    const char *const *head; /* names and values, NULL behind the last */
    struct span body;
    const char *const *trailers; /* NULL: the body, or the head, is the end */
    uint32_t reset;              /* in place of an answer, if not 0 */
    size_t body_sent;
    uint8_t asked[GRPC_HEALTH_REQUEST_MAX];
    size_t asked_size;
    char timeout[16];
    char authority[32];
};

static const char *const GOOD_HEAD[] = {":status", "200", "content-type", "application/grpc", NULL};
static const char *const GOOD_TRAILERS[] = {"grpc-status", "0", NULL};
static const struct span GOOD_BODY = {(const uint8_t *)"\0\0\0\0\x02\x08\x01", 7};

static size_t fields_of(const char *const *texts, nghttp2_nv *fields)
{
    size_t count = 0;
    for (; texts[2 * count] != NULL; count++) {
        const char *name = texts[2 * count];
        const char *value = texts[2 * count + 1];
        fields[count] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                                     .namelen = strlen(name),
                                     .value = (uint8_t *)(uintptr_t)value,
                                     .valuelen = strlen(value)};
    }
    return count;
}

static ssize_t read_body(nghttp2_session *codec, int32_t id, uint8_t *buffer, size_t max,
                         uint32_t *flags, nghttp2_data_source *source, void *context)
{
    struct endpoint *endpoint = context;
    size_t left = endpoint->body.size - endpoint->body_sent;
    size_t size = left < max ? left : max;
    (void)source;
    memcpy(buffer, endpoint->body.data + endpoint->body_sent, size);
    endpoint->body_sent += size;
    if (endpoint->body_sent == endpoint->body.size) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (endpoint->trailers != NULL) {
            nghttp2_nv fields[8];
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            assert_int_equal(
                nghttp2_submit_trailer(codec, id, fields, fields_of(endpoint->trailers, fields)),
                0);
        }
    }
    return (ssize_t)size;
}

static int on_frame(nghttp2_session *codec, const nghttp2_frame *frame, void *context)
{
    struct endpoint *endpoint = context;
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 || frame->hd.stream_id == 0) {
        return 0;
    }
    if (endpoint->reset != 0) {
        return nghttp2_submit_rst_stream(codec, 0, frame->hd.stream_id, endpoint->reset);
    }
    nghttp2_nv fields[8];
    const nghttp2_data_provider body = {.read_callback = read_body};
    return nghttp2_submit_response(codec, frame->hd.stream_id, fields,
                                   fields_of(endpoint->head, fields),
                                   endpoint->body.data == NULL ? NULL : &body);
}

static int on_data(nghttp2_session *codec, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t size, void *context)
{
    struct endpoint *endpoint = context;
    (void)codec, (void)flags, (void)id;
    assert_true(endpoint->asked_size + size <= sizeof(endpoint->asked));
    memcpy(endpoint->asked + endpoint->asked_size, data, size);
    endpoint->asked_size += size;
    return 0;
}

static int on_header(nghttp2_session *codec, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *context)
{
    struct endpoint *endpoint = context;
    nghttp2_vec field = nghttp2_rcbuf_get_buf(name);
    nghttp2_vec text = nghttp2_rcbuf_get_buf(value);
    (void)codec, (void)frame, (void)flags;
    if (span_equal(span_of(field.base, field.len), SPAN("grpc-timeout"))) {
        memcpy(endpoint->timeout, text.base, text.len);
    } else if (span_equal(span_of(field.base, field.len), SPAN(":authority"))) {
        memcpy(endpoint->authority, text.base, text.len);
    }
    return 0;
}

static void open_endpoint(struct endpoint *endpoint)
{
    nghttp2_session_callbacks *callbacks = NULL;
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    assert_int_equal(nghttp2_session_server_new(&endpoint->codec, callbacks, endpoint), 0);
    nghttp2_session_callbacks_del(callbacks);
    assert_int_equal(nghttp2_submit_settings(endpoint->codec, 0, NULL, 0), 0);
}

/* Bytes to and fro, this many at most at a time, until the check has its verdict. */
static enum status converse(struct grpc_check *check, struct endpoint *endpoint, size_t piece)
{
    for (int turn = 0; turn < 10000; turn++) {
        struct span out = grpc_check_output(check);
        if (out.size > 0) {
            size_t size = out.size < piece ? out.size : piece;
            assert_int_equal(nghttp2_session_mem_recv(endpoint->codec, out.data, size), size);
            grpc_check_sent(check, size);
            continue;
        }
        const uint8_t *data = NULL;
        ssize_t size = nghttp2_session_mem_send(endpoint->codec, &data);
        if (size <= 0) {
            return AGAIN; /* nobody has anything to say */
        }
        for (size_t at = 0; at < (size_t)size; at += piece) {
            size_t left = (size_t)size - at;
            enum status status =
                grpc_check_input(check, span_of(data + at, left < piece ? left : piece));
            if (status != AGAIN) {
                return status;
            }
        }
    }
    return AGAIN;
}

static enum status check_with(struct endpoint *endpoint, size_t piece)
{
    struct grpc_check_context context;
    static struct grpc_check check;
    const struct grpc_question question = {
        .authority = SPAN("shop.test"), .service = SPAN("a.B"), .timeout = 1500000};
    assert_true(grpc_check_init(&context, 1));
    open_endpoint(endpoint);
    assert_true(grpc_check_begin(&check, &context, &question));
    enum status status = converse(&check, endpoint, piece);
    grpc_check_end(&check);
    grpc_check_end(&check);
    assert_int_equal(context.memory.pages_in_use, 0);
    grpc_check_deinit(&context);
    nghttp2_session_del(endpoint->codec);
    return status;
}

static void a_service_that_serves_is_well(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 100000; piece *= 7) {
        struct endpoint endpoint = {
            .head = GOOD_HEAD, .body = GOOD_BODY, .trailers = GOOD_TRAILERS};
        assert_int_equal(check_with(&endpoint, piece), OK);
        assert_true(
            span_equal(span_of(endpoint.asked, endpoint.asked_size), SPAN("\0\0\0\0\x05\x0a\x03"
                                                                          "a.B")));
        assert_string_equal(endpoint.timeout, "1500000u");
        assert_string_equal(endpoint.authority, "shop.test");
    }
}

static void assert_ill(const char *const *head, struct span body, const char *const *trailers)
{
    struct endpoint endpoint = {.head = head, .body = body, .trailers = trailers};
    assert_int_equal(check_with(&endpoint, 16384), ERROR);
}

static void any_other_answer_is_not(void **state)
{
    static const char *const NO_TYPE[] = {":status", "200", NULL};
    static const char *const HTML[] = {":status", "200", "content-type", "text/html", NULL};
    static const char *const BUSY[] = {":status", "503", "content-type", "application/grpc", NULL};
    static const char *const TYPES[] = {
        ":status",          "200", "content-type", "application/grpc", "content-type",
        "application/grpc", NULL};
    static const char *const FAILED[] = {"grpc-status", "5", NULL};
    static const char *const TWICE[] = {"grpc-status", "0", "grpc-status", "0", NULL};
    static const char *const ONLY[] = {
        ":status", "200", "content-type", "application/grpc", "grpc-status", "12", NULL};
    static uint8_t long_body[GRPC_HEALTH_RESPONSE_MAX + 1];
    const struct span not_serving = SPAN("\0\0\0\0\x02\x08\x02");
    (void)state;
    assert_ill(NO_TYPE, GOOD_BODY, GOOD_TRAILERS);
    assert_ill(HTML, GOOD_BODY, GOOD_TRAILERS);
    assert_ill(BUSY, GOOD_BODY, GOOD_TRAILERS);
    assert_ill(TYPES, GOOD_BODY, GOOD_TRAILERS);
    assert_ill(GOOD_HEAD, not_serving, GOOD_TRAILERS);
    assert_ill(GOOD_HEAD, GOOD_BODY, FAILED);
    assert_ill(GOOD_HEAD, GOOD_BODY, TWICE);
    assert_ill(GOOD_HEAD, GOOD_BODY, NULL);
    assert_ill(ONLY, SPAN_EMPTY, NULL);
    assert_ill(GOOD_HEAD, span_of(long_body, sizeof(long_body)), GOOD_TRAILERS);
}

static void a_stream_that_is_reset_is_not_well(void **state)
{
    struct endpoint endpoint = {.reset = NGHTTP2_REFUSED_STREAM};
    (void)state;
    assert_int_equal(check_with(&endpoint, 16384), ERROR);
}

static void bytes_beyond_any_answer_end_it(void **state)
{
    struct grpc_check_context context;
    static struct grpc_check check;
    static const uint8_t PING_ACK[17] = {0, 0, 8, NGHTTP2_PING, NGHTTP2_FLAG_ACK};
    static const uint8_t SETTINGS[9] = {0, 0, 0, NGHTTP2_SETTINGS};
    (void)state;
    assert_true(grpc_check_init(&context, 1));
    assert_true(grpc_check_begin(&check, &context,
                                 &(struct grpc_question){.authority = SPAN("a"), .timeout = 1}));
    assert_int_equal(grpc_check_input(&check, span_of(SETTINGS, sizeof(SETTINGS))), AGAIN);
    enum status status = AGAIN;
    size_t sent = 0;
    while (status == AGAIN) {
        assert_true(sent <= GRPC_CHECK_BYTES_MAX);
        status = grpc_check_input(&check, span_of(PING_ACK, sizeof(PING_ACK)));
        sent += sizeof(PING_ACK);
    }
    assert_int_equal(status, ERROR);
    grpc_check_end(&check);
    grpc_check_deinit(&context);
}

static void noise_is_not_well(void **state)
{
    struct grpc_check_context context;
    static struct grpc_check check;
    (void)state;
    assert_true(grpc_check_init(&context, 1));
    assert_true(grpc_check_begin(&check, &context,
                                 &(struct grpc_question){.authority = SPAN("a"), .timeout = 1}));
    enum status status = grpc_check_input(&check, SPAN("HTTP/1.1 200 OK\r\n\r\n"));
    for (int i = 0; i < 8; i++) {
        struct span out = grpc_check_output(&check);
        if (out.size > 0) {
            grpc_check_sent(&check, out.size);
        }
    }
    assert_true(status == ERROR || check.failed);
    grpc_check_end(&check);
    grpc_check_deinit(&context);
}

/* As many at a time as were planned for have memory, each of them for all that it may need. */
static void calls_at_a_time_have_the_memory_that_was_planned(void **state)
{
    enum { CALLS = 40 };
    struct grpc_check_context context;
    static struct grpc_check checks[CALLS];
    static struct endpoint endpoints[CALLS];
    (void)state;
    assert_true(grpc_check_init(&context, CALLS));
    for (int i = 0; i < CALLS; i++) {
        endpoints[i] =
            (struct endpoint){.head = GOOD_HEAD, .body = GOOD_BODY, .trailers = GOOD_TRAILERS};
        open_endpoint(&endpoints[i]);
        assert_true(grpc_check_begin(
            &checks[i], &context, &(struct grpc_question){.authority = SPAN("a"), .timeout = 1}));
    }
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(converse(&checks[i], &endpoints[i], 100), OK);
        assert_true(checks[i].account.used <= GRPC_CHECK_MEMORY / 2);
    }
    for (int i = 0; i < CALLS; i++) {
        grpc_check_end(&checks[i]);
        nghttp2_session_del(endpoints[i].codec);
    }
    grpc_check_deinit(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_service_that_serves_is_well),
        cmocka_unit_test(any_other_answer_is_not),
        cmocka_unit_test(a_stream_that_is_reset_is_not_well),
        cmocka_unit_test(bytes_beyond_any_answer_end_it),
        cmocka_unit_test(noise_is_not_well),
        cmocka_unit_test(calls_at_a_time_have_the_memory_that_was_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
