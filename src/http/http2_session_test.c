#include "http/http2_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "http/http2_stage_test.h"

enum {
    STREAMS = 4,
    HELD = 2 * STREAMS, /* half of them whole to the client */
    FIELDS = 4,         /* of REQUEST, charged when nobody reads them */
    REFUSED_COST = 5,
    ARENA = 16 * 1024,
    OUTPUT = 256 * 1024,
    BODY = 60000,
};

static const uint8_t GREETING[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                  "\0\0\6\4\0\0\0\0\0"
                                  "\0\4\0\x10\0\0" /* windows of 1 MiB */
                                  "\0\0\4\x8\0\0\0\0\0"
                                  "\0\x10\0\0";

/* GET / of a.test; the stream is written into it. */
static const uint8_t REQUEST[] = "\0\0\x0b\1\5\0\0\0\0"
                                 "\x82\x86\x84\x01\x06"
                                 "a.test";

/* RST_STREAM with CANCEL, likewise. */
static const uint8_t CANCEL[] = {0, 0, 4, NGHTTP2_RST_STREAM, 0, 0, 0, 0, 0, 0, 0, 0, 8};

struct fixture {
    struct http2_session session;
    struct http2_stage stage;
    struct stream *streams[HELD];
    int stream_count;
    struct span input;
    int writes;
    size_t takes; /* bytes that the next writes take in all */
    bool no_room; /* for what the transport has to say of its end */
    int fins;
    size_t output_size;
    uint8_t output[OUTPUT];
    _Alignas(max_align_t) uint8_t memory[STREAMS][ARENA];
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
    if (it->takes == 0) {
        transport->socket.ready &= (uint8_t)~IO_WRITABLE;
        return AGAIN;
    }
    it->writes++;
    for (int i = 0; i < count && it->takes > 0; i++) {
        size_t part = pieces[i].iov_len < it->takes ? pieces[i].iov_len : it->takes;
        assert_true(part <= OUTPUT - it->output_size);
        memcpy(it->output + it->output_size, pieces[i].iov_base, part);
        it->output_size += part;
        it->takes -= part;
        sum += part;
    }
    *put = sum;
    return OK;
}

static enum status stub_shutdown(struct transport *transport)
{
    struct fixture *it = fixture_of(transport);
    it->fins += it->no_room ? 0 : 1;
    return it->no_room ? AGAIN : OK;
}

static const struct transport_ops STUB = {.name = "stub",
                                          .read = stub_read,
                                          .write = stub_write,
                                          .shutdown = stub_shutdown,
                                          .close = http2_stage_close,
                                          .reset = http2_stage_close};

static void take_events(struct fixture *it)
{
    struct session *session = &it->session.session;
    struct stream *stream = NULL;
    enum session_event event = session->ops->next_event(session, &stream);
    while (event != SESSION_EVENT_NONE && event != SESSION_EVENT_CLOSED) {
        if (event == SESSION_EVENT_HEAD) {
            assert_true(it->stream_count < HELD);
            it->streams[it->stream_count++] = stream;
        }
        event = session->ops->next_event(session, &stream);
    }
}

static void run(struct fixture *it)
{
    it->session.session.ops->run(&it->session.session);
    take_events(it);
}

/* A connection with so many requests, all of them read. */
static void begin(struct fixture *it, int requests)
{
    uint8_t input[sizeof(GREETING) + STREAMS * sizeof(REQUEST)];
    size_t size = sizeof(GREETING) - 1;
    memset(it, 0, sizeof(*it));
    http2_stage_init(&it->stage, STREAMS);
    memcpy(input, GREETING, size);
    for (int i = 0; i < requests; i++) {
        memcpy(input + size, REQUEST, sizeof(REQUEST) - 1);
        input[size + 8] = (uint8_t)(2 * i + 1);
        size += sizeof(REQUEST) - 1;
    }
    it->input = span_of(input, size);
    it->takes = SIZE_MAX;
    http2_stage_session(&it->stage, &it->session, &STUB);
    it->session.session.transport.socket.ready = IO_WRITABLE;
    http2_session_start(&it->session.session, NULL);
    take_events(it);
    assert_int_equal(it->stream_count, requests);
    for (int i = 0; i < requests; i++) {
        struct arena arena;
        struct request_head head;
        enum reason reason = REASON_NONE;
        struct stream *stream = it->streams[i];
        arena_init(&arena, it->memory[i], ARENA);
        assert_int_equal(stream->ops->read_request(stream, &arena, &head, &reason), OK);
        stream->holder = it;
    }
    it->writes = 0;
    it->output_size = 0;
}

static void give_back(struct fixture *it, int i)
{
    it->streams[i]->ops->release(it->streams[i], true);
    it->streams[i] = NULL;
    take_events(it);
}

static void end(struct fixture *it)
{
    struct session *session = &it->session.session;
    for (int i = 0; i < it->stream_count; i++) {
        if (it->streams[i] != NULL) {
            give_back(it, i);
        }
    }
    if (session->step != SESSION_CLOSED) {
        session->ops->kill(session);
    }
    take_events(it);
    http2_stage_check_idle(&it->stage);
    http2_stage_deinit(&it->stage);
}

static void respond(struct stream *stream, uint64_t length)
{
    const struct response_message message = {
        .status = 200, .framing = FRAMING_LENGTH, .content_length = length};
    assert_int_equal(stream->ops->write_response(stream, &message), OK);
}

static void fill(uint8_t *body, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        body[i] = (uint8_t)(i * 31 + i / 251);
    }
}

/* The payload of all DATA frames of the first stream, from whole frames only. */
static size_t body_in(const struct fixture *it, uint8_t *body, bool *ended)
{
    size_t at = 0;
    size_t size = 0;
    *ended = false;
    while (it->output_size - at >= HTTP2_FRAME_HEADER) {
        const uint8_t *frame = it->output + at;
        size_t payload = (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];
        if (it->output_size - at - HTTP2_FRAME_HEADER < payload) {
            break;
        }
        if (frame[3] == NGHTTP2_DATA && frame[8] == 1) {
            memcpy(body + size, frame + HTTP2_FRAME_HEADER, payload);
            size += payload;
            *ended = (frame[4] & NGHTTP2_FLAG_END_STREAM) != 0;
        }
        at += HTTP2_FRAME_HEADER + payload;
    }
    assert_int_equal(at, it->output_size);
    return size;
}

/* Requests on streams of these numbers, odd as a client's are. */
static void receive(struct fixture *it, int first, int count)
{
    uint8_t input[HELD * sizeof(REQUEST)];
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        memcpy(input + size, REQUEST, sizeof(REQUEST) - 1);
        input[size + 8] = (uint8_t)(first + 2 * i);
        size += sizeof(REQUEST) - 1;
    }
    it->input = span_of(input, size);
    it->session.session.transport.socket.ready |= IO_READABLE;
    run(it);
}

static void respond_wholly(struct stream *stream)
{
    respond(stream, 0);
    assert_int_equal(stream->ops->write_end(stream, NULL), OK);
    (void)stream->ops->flush(stream);
}

/* RST_STREAM with REFUSED_STREAM, and nothing behind it. */
static void assert_refused(const struct fixture *it, uint8_t id)
{
    const uint8_t frame[] = {0, 0, 4, NGHTTP2_RST_STREAM,    0, 0, 0, 0, id,
                             0, 0, 0, NGHTTP2_REFUSED_STREAM};
    assert_true(it->output_size >= sizeof(frame));
    assert_memory_equal(it->output + it->output_size - sizeof(frame), frame, sizeof(frame));
}

static void a_stream_that_its_client_has_reset_keeps_its_place(void **state)
{
    (void)state;
    static struct fixture it;
    uint8_t resets[STREAMS * sizeof(CANCEL)];
    begin(&it, STREAMS);
    for (size_t i = 0; i < STREAMS; i++) {
        memcpy(resets + i * sizeof(CANCEL), CANCEL, sizeof(CANCEL));
        resets[i * sizeof(CANCEL) + 8] = (uint8_t)(2 * i + 1);
    }
    it.input = span_of(resets, sizeof(resets));
    it.session.session.transport.socket.ready |= IO_READABLE;
    run(&it);
    uint32_t left = it.session.wire->budget.left;
    receive(&it, 2 * STREAMS + 1, 1);
    assert_refused(&it, 2 * STREAMS + 1);
    assert_int_equal(it.stream_count, STREAMS);
    assert_int_equal(left - it.session.wire->budget.left, FIELDS + REFUSED_COST);
    end(&it);
}

static void the_place_of_a_stream_that_is_whole_to_its_client_is_not_held_against_it(void **state)
{
    (void)state;
    static struct fixture it;
    begin(&it, STREAMS);
    for (int i = 0; i < STREAMS; i++) {
        respond_wholly(it.streams[i]);
    }
    run(&it);
    receive(&it, 2 * STREAMS + 1, STREAMS);
    assert_int_equal(it.stream_count, HELD);
    for (int i = STREAMS; i < HELD; i++) {
        respond_wholly(it.streams[i]);
    }
    run(&it);
    uint32_t left = it.session.wire->budget.left;
    receive(&it, 2 * HELD + 1, 1);
    assert_refused(&it, 2 * HELD + 1);
    assert_int_equal(it.stream_count, HELD);
    assert_int_equal(left - it.session.wire->budget.left, FIELDS);
    end(&it);
}

static void what_one_stream_says_leaves_at_once(void **state)
{
    (void)state;
    static struct fixture it;
    static const uint8_t BYTES[100];
    begin(&it, 1);
    respond(it.streams[0], sizeof(BYTES));
    assert_int_equal(it.streams[0]->ops->write_body(it.streams[0], span_of(BYTES, 100)), OK);
    assert_int_equal(it.writes, 0);
    assert_int_equal(it.streams[0]->ops->write_end(it.streams[0], NULL), OK);
    assert_int_equal(it.streams[0]->ops->flush(it.streams[0]), OK);
    assert_int_equal(it.writes, 1);
    end(&it);
}

static void what_many_streams_say_leaves_with_one_call(void **state)
{
    (void)state;
    static struct fixture it;
    static const uint8_t BYTES[1000];
    begin(&it, 3);
    for (int i = 0; i < 3; i++) {
        struct stream *stream = it.streams[i];
        respond(stream, sizeof(BYTES));
        assert_int_equal(stream->ops->write_body(stream, span_of(BYTES, sizeof(BYTES))), OK);
        assert_int_equal(stream->ops->write_end(stream, NULL), OK);
        assert_int_equal(stream->ops->flush(stream), AGAIN);
        assert_true(stream->unsent > sizeof(BYTES));
    }
    assert_int_equal(it.writes, 0);
    assert_true(list_is_linked(&it.session.session.transport.socket.ready_link));
    run(&it);
    assert_int_equal(it.writes, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(it.streams[i]->ops->flush(it.streams[i]), OK);
        assert_int_equal(it.streams[i]->unsent, 0);
    }
    assert_int_equal(it.writes, 1);
    end(&it);
}

static void more_than_a_record_does_not_wait_for_others(void **state)
{
    (void)state;
    static struct fixture it;
    static uint8_t body[BODY];
    begin(&it, 2);
    respond(it.streams[0], BODY);
    assert_int_equal(it.streams[0]->ops->write_body(it.streams[0], span_of(body, BODY)), OK);
    assert_int_equal(it.writes, 1);
    assert_int_equal(it.stage.buffers.slab.in_use, 0); /* nothing of it was copied and kept */
    end(&it);
}

static void a_body_arrives_whole_however_much_the_transport_takes(void **state)
{
    (void)state;
    static struct fixture it;
    static uint8_t body[BODY];
    static uint8_t seen[OUTPUT];
    const size_t cuts[] = {0,     1,     20,    30,    50,    100,   5000,  16000,   16400,
                           16450, 32768, 33000, 49152, 50000, 60000, 60100, SIZE_MAX};
    fill(body, sizeof(body));
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        bool ended = false;
        begin(&it, 1);
        struct stream *stream = it.streams[0];
        respond(stream, BODY);
        assert_true(stream->ops->room(stream) >= BODY);
        it.takes = cuts[i];
        assert_int_equal(stream->ops->write_body(stream, span_of(body, BODY)), OK);
        assert_true(stream->unsent > 0 || it.output_size > BODY);
        it.takes = SIZE_MAX;
        it.session.session.transport.socket.ready |= IO_WRITABLE;
        run(&it);
        assert_int_equal(stream->ops->write_end(stream, NULL), OK);
        assert_int_equal(stream->ops->flush(stream), OK);
        assert_int_equal(body_in(&it, seen, &ended), BODY);
        assert_memory_equal(seen, body, BODY);
        assert_true(ended);
        end(&it);
    }
}

static void a_connection_that_lingers_has_given_its_memory_back(void **state)
{
    (void)state;
    static struct fixture it;
    begin(&it, 1);
    respond(it.streams[0], 0);
    assert_int_equal(it.streams[0]->ops->write_end(it.streams[0], NULL), OK);
    assert_int_equal(it.streams[0]->ops->flush(it.streams[0]), OK);
    give_back(&it, 0);
    struct session *session = &it.session.session;
    assert_int_equal(session->step, SESSION_IDLE);
    assert_true(it.stage.http2.memory.pages_in_use > 0);
    it.no_room = true;
    session->ops->drain(session);
    assert_int_equal(session->step, SESSION_LINGER);
    assert_int_equal(it.stage.http2.memory.pages_in_use, 0);
    session->ops->run(session);
    assert_int_equal(it.fins, 0);
    it.no_room = false; /* the end is told once there is room for it, and once */
    session->ops->run(session);
    session->ops->run(session);
    assert_int_equal(it.fins, 1);
    session->ops->expire(session);
    assert_int_equal(session->step, SESSION_CLOSED);
    end(&it);
}

/* The codec knows the stream no more, and would read nothing more: what is queued is sent. */
static void an_answer_in_the_queue_is_whole_after_the_goodbye(void **state)
{
    (void)state;
    static struct fixture it;
    static uint8_t body[BODY];
    static uint8_t seen[OUTPUT];
    bool ended = false;
    begin(&it, 1);
    struct stream *stream = it.streams[0];
    fill(body, sizeof(body));
    respond(stream, BODY);
    it.takes = 100;
    assert_int_equal(stream->ops->write_body(stream, span_of(body, BODY)), OK);
    assert_int_equal(stream->ops->write_end(stream, NULL), OK);
    it.input = SPAN("\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0"); /* GOAWAY */
    run(&it);
    assert_int_equal(stream->ops->flush(stream), AGAIN);
    assert_false(stream->ops->is_broken(stream));
    it.takes = SIZE_MAX;
    it.session.session.transport.socket.ready |= IO_WRITABLE;
    run(&it);
    assert_int_equal(stream->ops->flush(stream), OK);
    assert_int_equal(body_in(&it, seen, &ended), BODY);
    assert_true(ended);
    give_back(&it, 0);
    assert_int_equal(it.session.session.step, SESSION_LINGER);
    end(&it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_that_its_client_has_reset_keeps_its_place),
        cmocka_unit_test(the_place_of_a_stream_that_is_whole_to_its_client_is_not_held_against_it),
        cmocka_unit_test(what_one_stream_says_leaves_at_once),
        cmocka_unit_test(what_many_streams_say_leaves_with_one_call),
        cmocka_unit_test(more_than_a_record_does_not_wait_for_others),
        cmocka_unit_test(a_body_arrives_whole_however_much_the_transport_takes),
        cmocka_unit_test(a_connection_that_lingers_has_given_its_memory_back),
        cmocka_unit_test(an_answer_in_the_queue_is_whole_after_the_goodbye),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
