/*
 * How a client's session of HTTP/1 ends where TLS has to say so first, and the socket has no room.
 */
#include "http/http1_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/http2_stage_test.h"

struct fixture {
    struct http1_session session;
    struct http2_stage stage;
    struct stream *stream;
    struct span input;
    bool room; /* for the last words */
    int fins;
    _Alignas(max_align_t) uint8_t memory[16 * 1024];
};

static struct fixture *fixture_of(struct transport *transport)
{
    struct session *session = CONTAINER_OF(transport, struct session, transport);
    return CONTAINER_OF(http1_session_of(session), struct fixture, session);
}

static enum status stub_read(struct transport *transport, void *data, size_t size, size_t *got)
{
    return http2_stage_take(&fixture_of(transport)->input, data, size, got);
}

static enum status stub_write(struct transport *transport, const struct iovec *pieces, int count,
                              size_t *put)
{
    (void)transport;
    *put = 0;
    for (int i = 0; i < count; i++) {
        *put += pieces[i].iov_len;
    }
    return OK;
}

static enum status stub_shutdown(struct transport *transport)
{
    struct fixture *it = fixture_of(transport);
    it->fins += it->room ? 1 : 0;
    return it->room ? OK : AGAIN;
}

static const struct transport_ops STUB = {.name = "stub",
                                          .read = stub_read,
                                          .write = stub_write,
                                          .shutdown = stub_shutdown,
                                          .close = http2_stage_close,
                                          .reset = http2_stage_close};

/* A request that has come, over TLS or not, and is held. */
static void begin(struct fixture *it, const char *request, bool tls)
{
    static uint8_t some_tls;
    struct arena arena;
    struct request_head head;
    enum reason reason = REASON_NONE;
    memset(it, 0, sizeof(*it));
    http2_stage_init(&it->stage, 1);
    struct session *base = &it->session.wire.session;
    session_init(base, &it->stage.context, 1);
    base->transport.ops = &STUB;
    base->transport.tls = tls ? (struct tls *)(void *)&some_tls : NULL;
    base->transport.socket.fd = STAGE_FD;
    base->transport.socket.ready = IO_WRITABLE | IO_READABLE;
    it->input = span_of_string(request);
    http1_session_start(base, NULL);
    base->ops->run(base);
    assert_int_equal(base->ops->next_event(base, &it->stream), SESSION_EVENT_HEAD);
    it->stream->holder = it;
    arena_init(&arena, it->memory, sizeof(it->memory));
    assert_int_equal(it->stream->ops->read_request(it->stream, &arena, &head, &reason), OK);
}

static void respond(struct fixture *it, struct response_message message)
{
    struct field entries[1];
    const struct fields fields = {.entries = entries, .capacity = 1};
    message.status = 200;
    message.fields = &fields;
    assert_int_equal(it->stream->ops->write_response(it->stream, &message), OK);
    assert_int_equal(it->stream->ops->write_body(it->stream, SPAN("body")), OK);
    assert_int_equal(it->stream->ops->write_end(it->stream, NULL), OK);
}

static void end(struct fixture *it)
{
    struct session *base = &it->session.wire.session;
    if (base->step != SESSION_CLOSED) {
        base->ops->kill(base);
    }
    http2_stage_check_idle(&it->stage);
    http2_stage_deinit(&it->stage);
}

static const char OLD[] = "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n";
static const char LAST[] = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n"
                           "Content-Length: 9\r\n\r\n";

static void a_body_without_length_has_left_when_its_end_is_told(void **state)
{
    (void)state;
    static struct fixture it;
    begin(&it, OLD, true);
    respond(&it, (struct response_message){.framing = FRAMING_CHUNKED});
    for (int i = 0; i < 2; i++) {
        assert_int_equal(it.stream->ops->flush(it.stream), AGAIN);
        assert_int_equal(it.stream->unsent, 0);
    }
    it.room = true;
    assert_int_equal(it.stream->ops->flush(it.stream), OK);
    assert_int_equal(it.stream->ops->flush(it.stream), OK);
    assert_int_equal(it.fins, 1);
    it.session.wire.session.transport.socket.ready = IO_WRITABLE;
    it.stream->ops->release(it.stream, true);
    assert_int_equal(it.session.wire.session.step, SESSION_CLOSED);
    end(&it);
}

static void what_says_its_length_or_has_no_tls_does_not_wait(void **state)
{
    (void)state;
    static struct fixture it;
    begin(&it, OLD, false);
    respond(&it, (struct response_message){.framing = FRAMING_CHUNKED});
    assert_int_equal(it.stream->ops->flush(it.stream), OK);
    it.stream->ops->release(it.stream, true);
    end(&it);
    begin(&it, OLD, true);
    respond(&it, (struct response_message){.framing = FRAMING_LENGTH, .content_length = 4});
    assert_int_equal(it.stream->ops->flush(it.stream), OK);
    it.stream->ops->release(it.stream, true);
    end(&it);
}

static void one_that_lingers_says_so_when_there_is_room(void **state)
{
    (void)state;
    static struct fixture it;
    begin(&it, LAST, true);
    struct session *base = &it.session.wire.session;
    respond(&it, (struct response_message){.framing = FRAMING_LENGTH, .content_length = 4});
    assert_int_equal(it.stream->ops->flush(it.stream), OK);
    it.stream->ops->release(it.stream, true); /* the request's body has not come */
    assert_int_equal(base->step, SESSION_LINGER);
    base->ops->run(base);
    assert_int_equal(it.fins, 0);
    it.room = true;
    base->ops->run(base);
    base->ops->run(base);
    assert_int_equal(it.fins, 1);
    assert_int_equal(base->step, SESSION_LINGER);
    end(&it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_without_length_has_left_when_its_end_is_told),
        cmocka_unit_test(what_says_its_length_or_has_no_tls_does_not_wait),
        cmocka_unit_test(one_that_lingers_says_so_when_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
