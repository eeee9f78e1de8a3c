/*
 * Frames of a hostile client: whatever comes, in pieces of any size, over a transport that takes as
 * much as it likes, no request that is handed out breaks the rules of HTTP/1, every stream that was
 * announced can be given back, and when the connection is over all memory is back.
 *
 * Input: two bytes that steer, then what follows the preface (unless a bit leaves that out).
 */
#include <stdlib.h>

#include "base/assert.h"
#include "http/hostile_peer_fuzz.h"
#include "http/http2_session.h"
#include "http/http2_stage_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    HOLDERS = 64,
    TURNS = 400,
    ARENA = 64 * 1024,
};

struct holder {
    struct stream *stream; /* NULL: free */
    struct arena arena;
    uint64_t sent;
    bool refused;
    bool answered;
    _Alignas(max_align_t) uint8_t memory[ARENA];
};

struct world {
    struct http2_stage stage;
    struct http2_session session;
    struct holder holders[HOLDERS];
    struct hostile_peer peer;
    bool closed;
};

static void check_head(const struct world *world, const struct request_head *head)
{
    ASSERT(head->method_text.size > 0 && head->path.size > 0 && head->host.size > 0);
    ASSERT(head->path.data[0] == '/' || span_equal(head->path, SPAN("*")));
    ASSERT(head->version == HTTP_2);
    peer_check_fields(&head->fields, world->stage.context.limits.head.fields_max);
}

static void take_head(struct world *world, struct stream *stream)
{
    struct request_head head;
    enum reason reason = REASON_NONE;
    struct holder *holder = NULL;
    for (int i = 0; i < HOLDERS && holder == NULL; i++) {
        holder = world->holders[i].stream == NULL ? &world->holders[i] : NULL;
    }
    if (holder == NULL || peer_roll(&world->peer, 20) == 0) {
        stream->ops->release(stream, false);
        return;
    }
    holder->stream = stream;
    holder->sent = 0;
    holder->answered = false;
    arena_init(&holder->arena, holder->memory, sizeof(holder->memory));
    stream->holder = holder;
    enum status status = stream->ops->read_request(stream, &holder->arena, &head, &reason);
    ASSERT(status == OK || (status == ERROR && reason != REASON_NONE));
    holder->refused = status == ERROR;
    if (status == OK) {
        check_head(world, &head);
    }
}

static void give_back(struct holder *holder)
{
    struct stream *stream = holder->stream;
    holder->stream = NULL;
    stream->ops->release(stream, true);
}

static void answer(struct world *world, struct holder *holder)
{
    struct stream *stream = holder->stream;
    struct field field = {SPAN("X-Answer"), SPAN("yes"), FIELD_OTHER};
    const struct fields fields = {.entries = &field, .count = 1, .capacity = 1};
    const struct response_message message = {
        .status = peer_roll(&world->peer, 10) == 0 ? 103 : 200,
        .fields = &fields,
        .framing = peer_roll(&world->peer, 2) == 0 ? FRAMING_LENGTH : FRAMING_CHUNKED,
        .content_length = 1000,
    };
    if (stream->ops->write_response(stream, &message) == OK && message.status == 200) {
        holder->answered = true;
        holder->sent = message.framing == FRAMING_LENGTH ? 1000 : 1 + peer_roll(&world->peer, 3000);
    }
}

/* One run of a holder, as an exchange would make it. */
static void run_holder(struct world *world, struct holder *holder)
{
    static const uint8_t BYTES[4096];
    struct stream *stream = holder->stream;
    struct span bytes = SPAN_EMPTY;
    enum reason reason = REASON_NONE;
    if (!holder->refused && peer_roll(&world->peer, 2) == 0) {
        size_t max = 1 + peer_roll(&world->peer, 9000);
        enum status status = stream->ops->read_body(stream, max, &bytes, &reason);
        ASSERT(status != OK || (bytes.size > 0 && bytes.size <= max));
        ASSERT(status != END || stream->in_ended);
        if (status == END) {
            (void)stream->ops->trailers(stream);
        }
    }
    if (!holder->answered) {
        answer(world, holder);
    } else if (holder->sent > 0 && !stream->out_ended) {
        size_t room = stream->ops->room(stream);
        size_t size = room < holder->sent ? room : (size_t)holder->sent;
        size = size < sizeof(BYTES) ? size : sizeof(BYTES);
        if (size > 0 && stream->ops->write_body(stream, span_of(BYTES, size)) == OK) {
            holder->sent -= size;
        }
    } else if (!stream->out_ended) {
        (void)stream->ops->write_end(stream, NULL);
    }
    enum status flushed = stream->ops->flush(stream);
    bool over = (stream->out_ended && flushed == OK) || flushed == ERROR;
    if (over || peer_roll(&world->peer, 30) == 0) {
        give_back(holder);
    }
}

static void take_events(struct world *world)
{
    struct session *session = &world->session.session;
    struct stream *stream = NULL;
    for (;;) {
        enum session_event event = session->ops->next_event(session, &stream);
        if (event == SESSION_EVENT_NONE) {
            return;
        }
        if (event == SESSION_EVENT_CLOSED) {
            world->closed = true;
            return;
        }
        if (event == SESSION_EVENT_HEAD) {
            take_head(world, stream);
        }
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

static void live(struct world *world)
{
    struct session *session = &world->session.session;
    for (int turn = 0; turn < TURNS && !world->closed; turn++) {
        session->ops->run(session);
        take_events(world);
        run_holders(world);
        take_events(world);
        if (!world->closed && session->step != SESSION_CLOSED && peer_roll(&world->peer, 60) == 0) {
            session->ops->drain(session);
            take_events(world);
        }
        if (!world->closed && session->step != SESSION_CLOSED &&
            peer_roll(&world->peer, 100) == 0) {
            session->ops->expire(session); /* before any deadline: harmless, or the linger's end */
            take_events(world);
        }
    }
    for (int i = 0; i < HOLDERS && !world->closed; i++) {
        if (world->holders[i].stream != NULL) {
            give_back(&world->holders[i]);
            take_events(world);
        }
    }
    while (!world->closed) {
        /* What was announced last has found a holder, too. */
        for (int i = 0; i < HOLDERS; i++) {
            if (world->holders[i].stream != NULL) {
                give_back(&world->holders[i]);
            }
        }
        session->ops->kill(session);
        take_events(world);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span preface = SPAN("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    static struct world *world;
    if (world == NULL) {
        world = calloc(1, sizeof(*world));
        ASSERT(world != NULL);
        the_peer = &world->peer;
        http2_stage_init(&world->stage, 20);
    }
    if (!peer_begin(&world->peer, preface, span_of(data, size))) {
        return 0;
    }
    world->closed = false;
    http2_stage_session(&world->stage, &world->session, &HOSTILE_PEER);
    http2_session_start(&world->session.session, NULL);
    take_events(world);
    live(world);
    http2_stage_check_idle(&world->stage);
    return 0;
}
