/*
 * Frames of a hostile upstream: whatever comes, in pieces of any size, over a transport that takes
 * as much as it likes, no response that is handed out breaks the rules of HTTP/1, every stream that
 * was lent can be given back, and when the connection is over all memory is back.
 *
 * Input: two bytes that steer, then what the upstream says. A bit puts empty SETTINGS in front.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "http/hostile_peer_fuzz.h"
#include "http/http2_client.h"
#include "http/http2_stage_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    HOLDERS = 32,
    TURNS = 300,
    ARENA = 64 * 1024,
};

struct holder {
    struct stream *stream; /* NULL: free */
    struct arena arena;
    enum method method;
    uint64_t unsent; /* of the request's body */
    bool asked;
    bool answered;
    bool failed;
    _Alignas(max_align_t) uint8_t memory[ARENA];
};

struct world {
    struct http2_stage stage;
    struct http2_session session;
    struct holder holders[HOLDERS];
    uint32_t held;
    struct hostile_peer peer;
};

static void check_head(const struct world *world, const struct response_head *head,
                       const struct holder *holder)
{
    ASSERT(head->status >= 100 && head->status <= 599 && head->status != 101);
    ASSERT(head->version == HTTP_2);
    ASSERT(holder->method != METHOD_HEAD || head->framing == FRAMING_NONE || head->status < 200);
    peer_check_fields(&head->fields, world->stage.context.limits.head.fields_max);
}

/* ---- Holders, as attempts of exchanges ---- */

static void hold(struct world *world, struct stream *stream)
{
    static const enum method METHODS[] = {METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_POST};
    for (int i = 0; i < HOLDERS; i++) {
        struct holder *holder = &world->holders[i];
        if (holder->stream != NULL) {
            continue;
        }
        holder->stream = stream;
        holder->method = METHODS[peer_roll(&world->peer, 4)];
        holder->unsent = holder->method == METHOD_POST ? peer_roll(&world->peer, 3000) : 0;
        holder->asked = holder->answered = holder->failed = false;
        arena_init(&holder->arena, holder->memory, sizeof(holder->memory));
        stream->holder = holder;
        world->held++;
        return;
    }
    UNREACHABLE("no more streams are asked for than there are holders");
}

static void give_back(struct world *world, struct holder *holder)
{
    struct stream *stream = holder->stream;
    holder->stream = NULL;
    world->held--;
    stream->ops->release(stream, true);
}

static void ask(struct world *world, struct holder *holder)
{
    static const char *const NAMES[] = {"GET", "HEAD", "POST"};
    struct stream *stream = holder->stream;
    struct field field = {SPAN("X-Question"), SPAN("why"), FIELD_OTHER};
    const struct fields fields = {.entries = &field, .count = 1, .capacity = 1};
    bool announced = peer_roll(&world->peer, 2) == 0;
    const struct request_message message = {
        .method = span_of_string(NAMES[holder->method == METHOD_GET    ? 0
                                       : holder->method == METHOD_HEAD ? 1
                                                                       : 2]),
        .path = SPAN("/path"),
        .query = peer_roll(&world->peer, 2) == 0 ? SPAN("query") : SPAN_EMPTY,
        .host = SPAN("a.test"),
        .fields = &fields,
        .framing = holder->method != METHOD_POST ? FRAMING_NONE
                   : announced                   ? FRAMING_LENGTH
                                                 : FRAMING_CHUNKED,
        .content_length = holder->unsent,
    };
    enum status status = stream->ops->write_request(stream, &message);
    ASSERT(status != ERROR);
    holder->asked = status == OK;
}

static void send_body(struct holder *holder)
{
    static const uint8_t BYTES[4096];
    struct stream *stream = holder->stream;
    if (stream->out_ended) {
        return;
    }
    if (holder->unsent == 0) {
        (void)stream->ops->write_end(stream, NULL);
        return;
    }
    size_t room = stream->ops->room(stream);
    size_t size = room < holder->unsent ? room : (size_t)holder->unsent;
    if (size > 0 && stream->ops->write_body(stream, span_of(BYTES, size)) == OK) {
        holder->unsent -= size;
    }
}

static void read_answer(struct world *world, struct holder *holder)
{
    struct stream *stream = holder->stream;
    struct response_head head;
    struct span bytes = SPAN_EMPTY;
    enum reason reason = REASON_NONE;
    enum status status = AGAIN;
    if (!holder->answered) {
        size_t mark = arena_mark(&holder->arena);
        status = stream->ops->read_response(stream, &holder->arena, holder->method, &head, &reason);
        if (status == OK) {
            check_head(world, &head, holder);
            holder->answered = head.status >= 200;
        }
        if (status != OK || head.status < 200) {
            arena_rewind(&holder->arena, mark);
        }
    } else {
        size_t max = 1 + peer_roll(&world->peer, 9000);
        status = stream->ops->read_body(stream, max, &bytes, &reason);
        ASSERT(status != OK || (bytes.size > 0 && bytes.size <= max));
        ASSERT(status != END || stream->in_ended);
        if (status == END) {
            peer_check_fields(stream->ops->trailers(stream),
                              world->stage.context.limits.head.fields_max);
        }
    }
    ASSERT(status != ERROR || reason != REASON_NONE);
    holder->failed = status == ERROR;
}

/* One run of a holder, as an attempt and its lanes would make it. */
static void run_holder(struct world *world, struct holder *holder)
{
    struct stream *stream = holder->stream;
    if (!holder->asked) {
        ask(world, holder);
    } else if (peer_roll(&world->peer, 2) == 0) {
        send_body(holder);
    } else {
        read_answer(world, holder);
    }
    (void)stream->ops->flush(stream);
    bool over = holder->failed || (holder->answered && stream->in_ended && stream->out_ended);
    if (over || peer_roll(&world->peer, 40) == 0) {
        give_back(world, holder);
    }
}

static void run_holders(struct world *world)
{
    for (int i = 0; i < HOLDERS; i++) {
        if (world->holders[i].stream != NULL && peer_roll(&world->peer, 3) != 0) {
            run_holder(world, &world->holders[i]);
        }
    }
}

/* ---- The connection, as the pool would keep it ---- */

static void take_events(struct world *world)
{
    struct session *session = &world->session.session;
    struct stream *stream = NULL;
    enum session_event event = session->ops->next_event(session, &stream);
    while (event != SESSION_EVENT_NONE) {
        ASSERT(event == SESSION_EVENT_WAKE || event == SESSION_EVENT_CLOSED);
        ASSERT(event != SESSION_EVENT_CLOSED || world->held == 0);
        event = session->ops->next_event(session, &stream);
    }
}

static bool is_closed(const struct world *world)
{
    return world->session.session.step == SESSION_CLOSED && world->held == 0;
}

static void lend_another(struct world *world)
{
    struct session *session = &world->session.session;
    if (world->held == HOLDERS || session->step == SESSION_CLOSED) {
        return;
    }
    bool idle = session->step == SESSION_IDLE;
    struct stream *stream = session->ops->open_stream(session);
    if (stream != NULL) {
        hold(world, stream);
    } else if (idle) {
        session->ops->kill(session); /* it has gone stale */
    }
}

static void disturb(struct world *world)
{
    struct session *session = &world->session.session;
    if (session->step == SESSION_CLOSED) {
        return;
    }
    switch (peer_roll(&world->peer, 100)) {
    case 0:
        session->ops->drain(session);
        break;
    case 1:
        session->ops->expire(session); /* before any deadline: harmless */
        break;
    default:
        break;
    }
}

static void live(struct world *world)
{
    struct session *session = &world->session.session;
    for (int turn = 0; turn < TURNS && !is_closed(world); turn++) {
        session->ops->run(session);
        take_events(world);
        run_holders(world);
        take_events(world);
        if (peer_roll(&world->peer, 3) == 0) {
            lend_another(world);
            take_events(world);
        }
        disturb(world);
        take_events(world);
    }
    for (int i = 0; i < HOLDERS; i++) {
        if (world->holders[i].stream != NULL) {
            give_back(world, &world->holders[i]);
            take_events(world);
        }
    }
    session->ops->kill(session);
    take_events(world);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span settings = SPAN("\0\0\0\4\0\0\0\0\0");
    static struct world *world;
    if (world == NULL) {
        world = calloc(1, sizeof(*world));
        ASSERT(world != NULL);
        the_peer = &world->peer;
        http2_stage_init(&world->stage, 20);
    }
    if (!peer_begin(&world->peer, settings, span_of(data, size))) {
        return 0;
    }
    struct session *session = &world->session.session;
    http2_stage_session(&world->stage, &world->session, &HOSTILE_PEER);
    struct stream *stream = http2_client_start(session);
    ASSERT(stream != NULL && session->step == SESSION_BUSY);
    hold(world, stream);
    live(world);
    ASSERT(world->held == 0);
    http2_stage_check_idle(&world->stage);
    return 0;
}
