#include "control/admin.h"

#include <errno.h>
#include <stdlib.h>

#include "control/admin_answer.h"
#include "http/http1_parse.h"
#include "http/http1_write.h"

enum {
    FIELDS_MAX = 64,
    ACCEPTS_MAX = 8,    /* of one wake-up */
    QUANTUM_WRITES = 8, /* of one connection's turn */
    HEADS_MAX = 8,      /* requests of one connection's turn */
    LINGER_MAX = 64 * 1024,
    OUT_MAX = ADMIN_HEAD_MAX + ADMIN_CHUNK_MAX + HTTP1_CHUNK_HEADER_MAX + HTTP1_CHUNK_END_MAX +
              HTTP1_LAST_CHUNK_MAX,
};

enum step { STEP_FREE, STEP_HEAD, STEP_WRITE, STEP_LINGER };

struct connection {
    struct io_socket socket;
    struct timer timer;
    enum step step;
    bool close;   /* after the answer */
    bool chunked; /* how a streamed body travels */
    enum admin_body source;
    bool streaming; /* the source has more to come */
    struct http1_scan scan;
    struct metrics_text text;
    struct recent_text recent;
    size_t in_size;
    size_t out_size;
    size_t out_done;
    size_t drained;   /* LINGER */
    uint64_t since;   /* its last progress: who did least for longest makes room */
    uint64_t expires; /* WRITE: the end of all patience with this answer */
    uint8_t in[ADMIN_HEAD_MAX];
    uint8_t out[OUT_MAX];
};

struct admin {
    struct admin_options options;
    struct io_socket listener;
    bool paused; /* no connection is free, or none can be accepted now */
    struct timer accept_again;
    struct http1_limits limits;
    struct arena arena; /* for the head that is being parsed */
    void *arena_memory;
    struct connection connections[ADMIN_CONNECTIONS_MAX];
};

static void set_deadline(struct admin *admin, struct connection *connection)
{
    connection->since = io_now(admin->options.io);
    timer_set(admin->options.wheel, &connection->timer, connection->since + ADMIN_DEADLINE);
}

/* For any progress in writing, but never past the end of all patience. */
static void set_write_deadline(struct admin *admin, struct connection *connection)
{
    set_deadline(admin, connection);
    if (connection->expires < connection->since + ADMIN_DEADLINE) {
        timer_set(admin->options.wheel, &connection->timer, connection->expires);
    }
}

static void resume_accepting(struct admin *admin)
{
    timer_cancel(admin->options.wheel, &admin->accept_again);
    if (admin->paused) {
        admin->paused = false;
        io_listen_resume(admin->options.io, &admin->listener);
    }
}

static void close_connection(struct admin *admin, struct connection *connection)
{
    ASSERT(connection->step != STEP_FREE);
    io_close(admin->options.io, &connection->socket);
    timer_cancel(admin->options.wheel, &connection->timer);
    connection->step = STEP_FREE;
    resume_accepting(admin);
}

static void begin_head(struct admin *admin, struct connection *connection)
{
    connection->step = STEP_HEAD;
    http1_scan_init(&connection->scan, HTTP1_REQUEST);
    set_deadline(admin, connection);
}

/* Renders the head of an answer, and its body unless that is streamed or the request was HEAD. */
static void begin_answer(struct admin *admin, struct connection *connection,
                         const struct admin_answer *answer, bool has_body)
{
    struct output output = output_over(connection->out, sizeof(connection->out));
    bool written = admin_write_head(answer, &output, connection->chunked, connection->close);
    ASSERT(written);
    if (has_body) {
        output_span(&output, span_of(answer->body, answer->body_size));
    }
    ASSERT(!output.overflowed);
    connection->out_size = output.size;
    connection->out_done = 0;
    connection->source = answer->source;
    connection->streaming = answer->source != ADMIN_BODY_HERE && has_body;
    connection->text = (struct metrics_text){0};
    connection->recent = (struct recent_text){0};
    connection->step = STEP_WRITE;
    connection->expires = io_now(admin->options.io) + ADMIN_ANSWER_DEADLINE;
    set_write_deadline(admin, connection);
}

static void refuse(struct admin *admin, struct connection *connection, enum reason reason,
                   bool has_body)
{
    struct admin_answer answer = {0};
    admin_answer_refusal(&answer, reason);
    connection->close = true;
    connection->in_size = 0;
    begin_answer(admin, connection, &answer, has_body);
}

/* A complete head is there: answers it and keeps what came behind it. */
static void answer_head(struct admin *admin, struct connection *connection)
{
    struct span bytes = span_of(connection->in, connection->in_size);
    struct request_head head = {0};
    enum reason reason = REASON_NONE;
    arena_reset(&admin->arena);
    if (http1_parse_request(http1_scan_head_bytes(&connection->scan, bytes), &admin->limits,
                            &admin->arena, &head, &reason) != OK) {
        refuse(admin, connection, reason, head.method != METHOD_HEAD);
        return;
    }
    struct admin_answer answer = {0};
    admin_answer_request(&answer, admin->options.generation, &admin->options.source, &head);
    /* A body is not read, so nothing that follows it can be told from it. */
    bool body = head.framing == FRAMING_CHUNKED || head.content_length > 0;
    connection->chunked = head.version == HTTP_1_1;
    /* HTTP/1.0 gets one answer a connection: simple, and right for a streamed body. */
    connection->close = !head.keep_alive || body || head.version == HTTP_1_0;
    bool has_body = head.method != METHOD_HEAD;
    connection->in_size -= connection->scan.head_size;
    memmove(connection->in, connection->in + connection->scan.head_size, connection->in_size);
    begin_answer(admin, connection, &answer, has_body);
}

/* Renders the next part of a streamed body, which may be empty. */
static void render(struct admin *admin, struct connection *connection, struct output *output)
{
    const struct admin_source *source = &admin->options.source;
    if (connection->source == ADMIN_BODY_METRICS) {
        metrics_text_write(&connection->text, source->metrics, output);
        connection->streaming = !connection->text.ended;
        return;
    }
    const struct io *io = admin->options.io;
    struct recent_clock clock = {io_now(io), io_wall(io)};
    recent_text_write(&connection->recent, source->recent, &clock, output);
    connection->streaming = !connection->recent.ended;
}

/* The next part of a streamed body, as one chunk, into the empty output. */
static void produce(struct admin *admin, struct connection *connection)
{
    uint8_t *body = connection->out + HTTP1_CHUNK_HEADER_MAX;
    struct output output = output_over(body, ADMIN_CHUNK_MAX);
    render(admin, connection, &output);
    size_t end = HTTP1_CHUNK_HEADER_MAX + output.size;
    connection->out_done = HTTP1_CHUNK_HEADER_MAX;
    connection->out_size = end;
    if (!connection->chunked) {
        return;
    }
    /* The header is rendered apart and set right before the data, whose size is known by now. */
    uint8_t size_line[HTTP1_CHUNK_HEADER_MAX];
    struct output header = output_over(size_line, sizeof(size_line));
    struct output trailer = output_over(connection->out + end, OUT_MAX - end);
    bool written = output.size == 0 || (http1_write_chunk_header(&header, output.size) &&
                                        http1_write_chunk_end(&trailer));
    written = written && (connection->streaming || http1_write_last_chunk(&trailer, NULL));
    ASSERT(written);
    connection->out_done -= header.size;
    memcpy(connection->out + connection->out_done, size_line, header.size);
    connection->out_size += trailer.size;
}

/* OK: the answer is written. AGAIN: later. ERROR: the connection is broken. */
static enum status write_answer(struct admin *admin, struct connection *connection)
{
    for (unsigned i = 0; i < QUANTUM_WRITES; i++) {
        if (connection->out_done == connection->out_size) {
            if (!connection->streaming) {
                return OK;
            }
            produce(admin, connection);
        }
        if (connection->out_done == connection->out_size) {
            continue; /* it looked at a part in which there was nothing to tell */
        }
        struct iovec piece = {connection->out + connection->out_done,
                              connection->out_size - connection->out_done};
        size_t put = 0;
        enum status status = io_write(admin->options.io, &connection->socket, &piece, 1, &put);
        if (status != OK) {
            return status == AGAIN ? AGAIN : ERROR;
        }
        connection->out_done += put;
        set_write_deadline(admin, connection);
    }
    io_requeue(admin->options.io, &connection->socket);
    return AGAIN;
}

/* OK: a head was complete and its answer begun. AGAIN: later. ERROR: the connection is to close. */
static enum status read_head(struct admin *admin, struct connection *connection)
{
    for (;;) { /* each round adds bytes, up to the bound of a head */
        if (connection->in_size > 0) {
            enum reason reason = REASON_NONE;
            enum status status =
                http1_scan_head(&connection->scan, span_of(connection->in, connection->in_size),
                                &admin->limits, &reason);
            if (status == OK) {
                answer_head(admin, connection);
                return OK;
            }
            if (status == ERROR || connection->in_size == sizeof(connection->in)) {
                refuse(admin, connection, status == ERROR ? reason : REASON_HEAD_TOO_LARGE, true);
                return OK;
            }
        }
        size_t got = 0;
        enum status status =
            io_read(admin->options.io, &connection->socket, connection->in + connection->in_size,
                    sizeof(connection->in) - connection->in_size, &got);
        if (status != OK) {
            return status == AGAIN ? AGAIN : ERROR;
        }
        connection->in_size += got;
    }
}

/* Takes what the client still sends, so that closing does not reset the answer on its way. */
static enum status linger(struct admin *admin, struct connection *connection)
{
    while (connection->drained < LINGER_MAX) {
        size_t got = 0;
        enum status status = io_read(admin->options.io, &connection->socket, connection->in,
                                     sizeof(connection->in), &got);
        if (status != OK) {
            return status;
        }
        connection->drained += got;
    }
    return END;
}

static void end_answer(struct admin *admin, struct connection *connection)
{
    if (!connection->close) {
        begin_head(admin, connection);
        return;
    }
    io_shutdown(admin->options.io, &connection->socket);
    connection->step = STEP_LINGER;
    connection->drained = 0;
    set_deadline(admin, connection);
}

static enum status run_step(struct admin *admin, struct connection *connection)
{
    switch (connection->step) {
    case STEP_HEAD:
        return read_head(admin, connection);
    case STEP_WRITE: {
        enum status status = write_answer(admin, connection);
        if (status == OK) {
            end_answer(admin, connection);
        }
        return status;
    }
    case STEP_LINGER:
        return linger(admin, connection);
    case STEP_FREE:
        break;
    }
    UNREACHABLE("a free connection is never run");
}

static void run(struct admin *admin, struct connection *connection)
{
    /* Each request takes two steps, and pipelined ones must not keep the others waiting. */
    for (unsigned i = 0; i < 2 * HEADS_MAX; i++) {
        enum status status = run_step(admin, connection);
        if (status == AGAIN) {
            return;
        }
        if (status != OK) {
            close_connection(admin, connection);
            return;
        }
    }
    io_requeue(admin->options.io, &connection->socket);
}

static struct connection *find_free(struct admin *admin)
{
    for (unsigned i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        if (admin->connections[i].step == STEP_FREE) {
            return &admin->connections[i];
        }
    }
    return NULL;
}

/* Who goes first; equals go by age. */
enum turn { TURN_IDLE, TURN_LINGER, TURN_PARTIAL, TURN_STALLED, TURN_NEVER };

static enum turn turn_of(const struct admin *admin, const struct connection *connection)
{
    bool stalled = io_now(admin->options.io) - connection->since >= ADMIN_STALL;
    switch (connection->step) {
    case STEP_FREE:
        return TURN_NEVER;
    case STEP_HEAD:
        return connection->in_size == 0 ? TURN_IDLE : TURN_PARTIAL;
    case STEP_WRITE:
        return stalled ? TURN_STALLED : TURN_NEVER;
    case STEP_LINGER:
        return TURN_LINGER;
    }
    UNREACHABLE("a step");
}

/*
 * All places are taken, the last by this newcomer: whoever uses his least gives it up for the next
 * one. So nobody is locked out by those who hold connections and ask nothing.
 */
static void make_room(struct admin *admin, const struct connection *newcomer)
{
    struct connection *victim = NULL;
    enum turn first = TURN_NEVER;
    for (unsigned i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        struct connection *connection = &admin->connections[i];
        enum turn turn = turn_of(admin, connection);
        bool sooner =
            turn < first || (turn == first && victim != NULL && connection->since < victim->since);
        if (connection != newcomer && turn != TURN_NEVER && sooner) {
            victim = connection;
            first = turn;
        }
    }
    if (victim != NULL) {
        close_connection(admin, victim);
    }
}

static void pause_accepting(struct admin *admin)
{
    admin->paused = true;
    io_listen_pause(admin->options.io, &admin->listener);
}

/* Level-triggered: a listener that stayed would be told at once, again and again. */
static void accept_later(struct admin *admin)
{
    const struct admin_options *options = &admin->options;
    pause_accepting(admin);
    timer_set(options->wheel, &admin->accept_again, io_now(options->io) + ADMIN_ACCEPT_AGAIN);
    if (options->on_trouble != NULL) {
        options->on_trouble(options->trouble_context, admin->listener.error);
    }
}

void admin_on_listener(struct admin *admin)
{
    for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
        struct connection *connection = find_free(admin);
        if (connection == NULL) {
            pause_accepting(admin);
            return;
        }
        struct address peer;
        enum status status = io_accept(admin->options.io, &admin->listener, &connection->socket,
                                       admin->options.kind, &peer);
        if (status == ERROR) {
            accept_later(admin);
        }
        if (status != OK) {
            return;
        }
        connection->in_size = 0;
        begin_head(admin, connection);
        run(admin, connection);
        if (find_free(admin) == NULL) {
            make_room(admin, connection);
        }
    }
}

void admin_on_ready(struct admin *admin, struct io_socket *socket)
{
    run(admin, CONTAINER_OF(socket, struct connection, socket));
}

void admin_on_timer(struct admin *admin, struct timer *timer)
{
    if (timer == &admin->accept_again) {
        resume_accepting(admin);
        return;
    }
    struct connection *connection = CONTAINER_OF(timer, struct connection, timer);
    if (connection->step == STEP_HEAD && connection->in_size > 0) {
        refuse(admin, connection, REASON_REQUEST_HEAD_TIMEOUT, true);
        run(admin, connection);
        return;
    }
    close_connection(admin, connection);
}

static struct http1_limits limits_of_heads(void)
{
    return (struct http1_limits){
        .request_line_max = ADMIN_HEAD_MAX / 4,
        .head_max = ADMIN_HEAD_MAX,
        .fields_max = FIELDS_MAX,
        .merge_slashes = true,
    };
}

uint64_t admin_bytes(void)
{
    struct http1_limits limits = limits_of_heads();
    return sizeof(struct admin) + http1_arena_max(&limits);
}

struct admin *admin_create(const struct admin_options *options)
{
    struct admin *admin = calloc(1, sizeof(*admin));
    if (admin == NULL) {
        return NULL;
    }
    admin->options = *options;
    admin->limits = limits_of_heads();
    io_socket_init(&admin->listener);
    timer_init(&admin->accept_again, options->kind);
    for (unsigned i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        io_socket_init(&admin->connections[i].socket);
        timer_init(&admin->connections[i].timer, options->kind);
    }
    size_t arena_size = http1_arena_max(&admin->limits);
    admin->arena_memory = malloc(arena_size);
    if (admin->arena_memory == NULL) {
        admin_destroy(admin);
        errno = ENOMEM;
        return NULL;
    }
    arena_init(&admin->arena, admin->arena_memory, arena_size);
    if (io_listen(options->io, &admin->listener, options->listener, options->kind_listener) != OK) {
        int saved = admin->listener.error;
        admin_destroy(admin);
        errno = saved;
        return NULL;
    }
    return admin;
}

uint32_t admin_connections(const struct admin *admin)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        count += admin->connections[i].step != STEP_FREE ? 1 : 0;
    }
    return count;
}

void admin_destroy(struct admin *admin)
{
    if (admin == NULL) {
        return;
    }
    for (unsigned i = 0; i < ADMIN_CONNECTIONS_MAX; i++) {
        if (admin->connections[i].step != STEP_FREE) {
            admin->paused = false;
            close_connection(admin, &admin->connections[i]);
        }
    }
    timer_cancel(admin->options.wheel, &admin->accept_again);
    io_close(admin->options.io, &admin->listener);
    free(admin->arena_memory);
    free(admin);
}
