/*
 * Frames of a hostile client: whatever comes, in pieces of any size, over a transport that takes as
 * much as it likes, no request that is handed out breaks the rules of HTTP/1, every stream that was
 * announced can be given back, and when the connection is over all memory is back.
 *
 * Input: two bytes that steer, then what follows the preface (unless a bit leaves that out).
 */
#include <stdlib.h>

#include "base/assert.h"
#include "http/bytes.h"
#include "http/hostile_peer_fuzz.h"
#include "http/http1_chunked.h"
#include "http/http2_session.h"
#include "io/io_epoll.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    HOLDERS = 64,
    TURNS = 400,
    MEMORY = 4 * 1024 * 1024,
    ARENA = 64 * 1024,
    FD = 1000, /* never used: the transport is ours */
};

static const struct http1_limits HEAD = {
    .request_line_max = 2048, .head_max = 4096, .fields_max = 40, .merge_slashes = true};

struct holder {
    struct stream *stream; /* NULL: free */
    struct arena arena;
    uint64_t sent;
    bool refused;
    bool answered;
    _Alignas(max_align_t) uint8_t memory[ARENA];
};

struct world {
    struct io *io;
    struct timer_wheel wheel;
    struct buffer_pool buffers;
    struct slab inboxes;
    struct http2_context http2;
    struct session_context context;
    struct http2_session session;
    struct holder holders[HOLDERS];
    struct hostile_peer peer;
    bool closed;
};

static void check_head(const struct request_head *head)
{
    ASSERT(head->method_text.size > 0 && head->path.size > 0 && head->host.size > 0);
    ASSERT(head->path.data[0] == '/' || span_equal(head->path, SPAN("*")));
    ASSERT(head->fields.count <= HEAD.fields_max && head->version == HTTP_2);
    for (size_t i = 0; i < head->fields.count; i++) {
        const struct field *field = &head->fields.entries[i];
        ASSERT(field->name.size > 0);
        for (size_t j = 0; j < field->name.size; j++) {
            ASSERT(byte_is_token(field->name.data[j]));
        }
        ASSERT(bytes_find_control(field->value.data, field->value.size) == field->value.size);
        ASSERT(field->id != FIELD_CONNECTION && field->id != FIELD_TRANSFER_ENCODING);
    }
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
        check_head(&head);
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

static void set_up(struct world *world)
{
    const struct http2_limits limits = {.streams = 20, .window = 65536, .glitches = 300};
    world->io = io_epoll_create();
    ASSERT(world->io != NULL);
    timer_wheel_init(&world->wheel, io_now(world->io));
    bool ready = buffer_pool_init(&world->buffers, (uint64_t)64 * BUFFER_SIZE) &&
                 slab_init(&world->inboxes, HEAD.head_max, 4) &&
                 http2_context_init(&world->http2, MEMORY, &limits);
    ASSERT(ready);
    world->context = (struct session_context){
        .io = world->io,
        .wheel = &world->wheel,
        .buffers = &world->buffers,
        .client_inboxes = &world->inboxes,
        .scratch = malloc(65536),
        .scratch_size = 65536,
        .render = malloc(BYTE_QUEUE_MAX),
        .render_size = BYTE_QUEUE_MAX,
        .http2 = &world->http2,
        .limits = {.head = HEAD,
                   .request_head_timeout = 1000000,
                   .keep_alive_timeout = 1000000,
                   .linger_timeout = 1000000,
                   .linger_bytes_max = 100000,
                   .requests_max = 50},
    };
    ASSERT(world->context.scratch != NULL && world->context.render != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t input[1 << 16];
    const struct span preface = SPAN("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    static struct world *world;
    if (world == NULL) {
        world = calloc(1, sizeof(*world));
        ASSERT(world != NULL);
        the_peer = &world->peer;
        set_up(world);
    }
    if (size < 2 || size > sizeof(input) - preface.size) {
        return 0;
    }
    size_t front = (data[0] & 1) != 0 ? 0 : preface.size;
    memcpy(input, preface.data, front);
    memcpy(input + front, data + 2, size - 2);
    world->peer.input = span_of(input, front + size - 2);
    world->peer.random = (uint32_t)data[0] << 8 | data[1];
    world->closed = false;
    session_init(&world->session.session, &world->context, 1);
    world->session.session.transport.ops = &HOSTILE_PEER;
    world->session.session.transport.socket.fd = FD;
    http2_session_start(&world->session.session, NULL);
    take_events(world);
    live(world);
    ASSERT(world->http2.memory.pages_in_use == 0 && world->http2.counts.sessions == 0);
    ASSERT(world->http2.counts.streams == 0 && world->buffers.slab.in_use == 0);
    ASSERT(world->wheel.count == 0);
    return 0;
}
