#include "http/http2_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/http2_stage_test.h"

enum { STREAMS = 3 };

struct fixture {
    struct http2_session session;
    struct http2_stage stage;
    struct stream *streams[STREAMS];
    struct span input;
    size_t room; /* bytes that it takes */
    bool gone;   /* the peer is, which shows at the next write */
};

static struct fixture *fixture_of(struct transport *transport)
{
    struct session *session = CONTAINER_OF(transport, struct session, transport);
    return CONTAINER_OF(http2_session_of(session), struct fixture, session);
}

static enum status stub_read(struct transport *transport, void *data, size_t size, size_t *got)
{
    return http2_stage_take(&fixture_of(transport)->input, data, size, got);
}

static enum status stub_write(struct transport *transport, const struct iovec *pieces, int count,
                              size_t *put)
{
    struct fixture *it = fixture_of(transport);
    size_t sum = 0;
    if (it->gone || it->room == 0) {
        return it->gone ? ERROR : AGAIN;
    }
    for (int i = 0; i < count; i++) {
        sum += pieces[i].iov_len;
    }
    *put = sum < it->room ? sum : it->room;
    it->room -= *put;
    return OK;
}

static const struct transport_ops STUB = {.name = "stub",
                                          .read = stub_read,
                                          .write = stub_write,
                                          .close = http2_stage_close,
                                          .reset = http2_stage_close};

static void ask(struct stream *stream)
{
    const struct request_message message = {
        .method = SPAN("GET"), .path = SPAN("/"), .host = SPAN("a.test"), .framing = FRAMING_NONE};
    assert_int_equal(stream->ops->write_request(stream, &message), OK);
}

/* A connection with its first stream. */
static void start(struct fixture *it)
{
    memset(it, 0, sizeof(*it));
    it->room = SIZE_MAX;
    http2_stage_init(&it->stage, STREAMS);
    struct session *session = &it->session.session;
    http2_stage_session(&it->stage, &it->session, &STUB);
    session->transport.socket.ready = IO_WRITABLE;
    it->streams[0] = http2_client_start(session);
    assert_non_null(it->streams[0]);
    it->streams[0]->holder = it;
}

/* A connection with requests on all streams, and nothing queued. */
static void begin(struct fixture *it)
{
    start(it);
    struct session *session = &it->session.session;
    ask(it->streams[0]);
    for (int i = 1; i < STREAMS; i++) {
        it->streams[i] = session->ops->open_stream(session);
        assert_non_null(it->streams[i]);
        it->streams[i]->holder = it;
        ask(it->streams[i]);
    }
    it->input = SPAN("\0\0\0\4\0\0\0\0\0");
    session->ops->run(session);
    list_unlink(&session->transport.socket.ready_link);
}

static void give_back(struct fixture *it, int i)
{
    struct stream *stream = it->streams[i];
    it->streams[i] = NULL;
    stream->ops->release(stream, true);
}

static void end(struct fixture *it)
{
    for (int i = 0; i < STREAMS; i++) {
        if (it->streams[i] != NULL) {
            give_back(it, i);
        }
    }
    it->session.session.ops->kill(&it->session.session);
    http2_stage_check_idle(&it->stage);
    http2_stage_deinit(&it->stage);
}

/* The worker's next step: runs the session if it has asked for that; how many streams it wakes. */
static int woken(struct fixture *it)
{
    struct session *session = &it->session.session;
    struct stream *stream = NULL;
    int count = 0;
    if (!list_is_linked(&session->transport.socket.ready_link)) {
        return 0;
    }
    session->ops->run(session);
    while (session->ops->next_event(session, &stream) == SESSION_EVENT_WAKE) {
        count++;
    }
    return count;
}

static enum reason why_lost(struct stream *stream)
{
    struct response_head head;
    struct arena arena = {0};
    enum reason reason = REASON_NONE;
    assert_int_equal(stream->ops->read_response(stream, &arena, METHOD_GET, &head, &reason), ERROR);
    return reason;
}

/* Two others are held: the reset of the first one waits for the next run. */
static void whoever_finds_the_peer_gone_when_giving_back_leaves_word(void **state)
{
    (void)state;
    static struct fixture it;
    begin(&it);
    it.gone = true;
    give_back(&it, 0);
    give_back(&it, 1); /* now there is one other: it is sent at once */
    assert_int_equal(woken(&it), 1);
    assert_true(it.streams[2]->ops->is_broken(it.streams[2]));
    assert_int_equal(why_lost(it.streams[2]), REASON_UPSTREAM_CLOSED);
    end(&it);
}

/* Its head has left, and before its body stands another's head, as large: both requests wait. */
static void a_request_is_written_as_soon_as_a_byte_of_it_left(void **state)
{
    (void)state;
    static struct fixture it;
    begin(&it);
    give_back(&it, 0);
    give_back(&it, 1);
    struct session *session = &it.session.session;
    session->ops->run(session); /* their resets leave */
    it.room = 0;
    const struct request_message message = {.method = SPAN("POST"),
                                            .path = SPAN("/a/path"),
                                            .host = SPAN("a.test"),
                                            .framing = FRAMING_LENGTH,
                                            .content_length = 4};
    for (int i = 0; i < 2; i++) {
        it.streams[i] = session->ops->open_stream(session);
        assert_non_null(it.streams[i]);
        it.streams[i]->holder = &it;
        assert_int_equal(it.streams[i]->ops->write_request(it.streams[i], &message), OK);
    }
    assert_int_equal(it.streams[0]->ops->write_body(it.streams[0], SPAN("body")), OK);
    assert_true(it.streams[0]->ops->is_unwritten(it.streams[0]));
    it.room = 1;
    session->ops->run(session);
    assert_int_equal(it.room, 0);
    assert_false(it.streams[0]->ops->is_unwritten(it.streams[0]));
    assert_true(it.streams[1]->ops->is_unwritten(it.streams[1]));
    end(&it);
}

/* Such as one to open a tunnel: nothing of it was sent, so that it may go elsewhere. */
static void a_request_that_waits_for_settings_was_not_looked_at(void **state)
{
    (void)state;
    static struct fixture it;
    const struct switching switching = {.protocol = SPAN("websocket")};
    const struct request_message message = {.method = SPAN("GET"),
                                            .path = SPAN("/"),
                                            .host = SPAN("a.test"),
                                            .framing = FRAMING_TUNNEL,
                                            .switching = &switching};
    start(&it);
    struct stream *stream = it.streams[0];
    it.gone = true;
    assert_int_equal(stream->ops->write_request(stream, &message), AGAIN);
    it.session.session.ops->run(&it.session.session);
    assert_int_equal(stream->ops->write_request(stream, &message), OK);
    assert_int_equal(why_lost(stream), REASON_UPSTREAM_CLOSED);
    assert_true(stream->unprocessed);
    end(&it);
}

static void a_request_that_left_may_have_been_looked_at(void **state)
{
    (void)state;
    static struct fixture it;
    begin(&it);
    it.gone = true;
    it.session.session.transport.socket.ready |= IO_READABLE;
    it.session.session.ops->run(&it.session.session);
    give_back(&it, 0);
    (void)woken(&it);
    assert_int_equal(why_lost(it.streams[1]), REASON_UPSTREAM_CLOSED);
    assert_false(it.streams[1]->unprocessed);
    end(&it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_finds_the_peer_gone_when_giving_back_leaves_word),
        cmocka_unit_test(a_request_is_written_as_soon_as_a_byte_of_it_left),
        cmocka_unit_test(a_request_that_waits_for_settings_was_not_looked_at),
        cmocka_unit_test(a_request_that_left_may_have_been_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
