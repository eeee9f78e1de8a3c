/*
 * Frames of a hostile upstream: whatever comes, in pieces of any size, over a transport that takes
 * as much as it likes, no response that is handed out breaks the rules of HTTP/1, every stream that
 * was lent can be given back, and when the connection is over all memory is back.
 *
 * Input: two bytes that steer, then what the upstream says. A bit puts empty SETTINGS in front.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "http/bytes.h"
#include "http/hostile_peer_fuzz.h"
#include "http/http1_chunked.h"
#include "http/http2_client.h"
#include "http/http2_wire.h"
#include "io/io_epoll.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    HOLDERS = 32,
    TURNS = 300,
    MEMORY = 4 * 1024 * 1024,
    ARENA = 64 * 1024,
    FD = 1000, /* never used: the transport is ours */
};

static const struct http1_limits HEAD = {
    .request_line_max = 2048, .head_max = 4096, .fields_max = 40, .merge_slashes = true};

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
    struct io *io;
    struct timer_wheel wheel;
    struct buffer_pool buffers;
    struct slab inboxes;
    struct http2_context http2;
    struct session_context context;
    struct http2_session session;
    struct holder holders[HOLDERS];
    uint32_t held;
    struct hostile_peer peer;
};

static void check_fields(const struct fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->entries[i];
        ASSERT(field->name.size > 0);
        for (size_t j = 0; j < field->name.size; j++) {
            ASSERT(byte_is_token(field->name.data[j]));
        }
        ASSERT(bytes_find_control(field->value.data, field->value.size) == field->value.size);
        ASSERT(field->id != FIELD_CONNECTION && field->id != FIELD_TRANSFER_ENCODING);
    }
}

static void check_head(const struct response_head *head, const struct holder *holder)
{
    ASSERT(head->status >= 100 && head->status <= 599 && head->status != 101);
    ASSERT(head->fields.count <= HEAD.fields_max && head->version == HTTP_2);
    ASSERT(holder->method != METHOD_HEAD || head->framing == FRAMING_NONE || head->status < 200);
    check_fields(&head->fields);
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
            check_head(&head, holder);
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
            check_fields(stream->ops->trailers(stream));
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
        .upstream_inboxes = &world->inboxes,
        .scratch = malloc(65536),
        .scratch_size = 65536,
        .render = malloc(BYTE_QUEUE_MAX),
        .render_size = BYTE_QUEUE_MAX,
        .http2 = &world->http2,
        .limits = {.head = HEAD, .upstream_keep_alive_timeout = 1000000},
    };
    ASSERT(world->context.scratch != NULL && world->context.render != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t input[1 << 16];
    const struct span settings = SPAN("\0\0\0\4\0\0\0\0\0");
    static struct world *world;
    if (world == NULL) {
        world = calloc(1, sizeof(*world));
        ASSERT(world != NULL);
        the_peer = &world->peer;
        set_up(world);
    }
    if (size < 2 || size > sizeof(input) - settings.size) {
        return 0;
    }
    size_t front = (data[0] & 1) != 0 ? 0 : settings.size;
    memcpy(input, settings.data, front);
    memcpy(input + front, data + 2, size - 2);
    world->peer.input = span_of(input, front + size - 2);
    world->peer.random = (uint32_t)data[0] << 8 | data[1];
    struct session *session = &world->session.session;
    session_init(session, &world->context, 1);
    session->transport.ops = &HOSTILE_PEER;
    session->transport.socket.fd = FD;
    struct stream *stream = http2_client_start(session);
    ASSERT(stream != NULL && session->step == SESSION_BUSY);
    hold(world, stream);
    live(world);
    ASSERT(world->http2.memory.pages_in_use == 0 && world->http2.counts.sessions == 0);
    ASSERT(world->http2.counts.streams == 0 && world->buffers.slab.in_use == 0);
    ASSERT(world->wheel.count == 0 && world->held == 0);
    return 0;
}
