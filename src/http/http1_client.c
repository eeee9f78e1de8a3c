#include "http/http1_client.h"

#include "base/assert.h"
#include "http/http1_write.h"
#include "net/tls.h"

enum { IDLE_MARGIN_US = 1000000 }; /* stop using a connection this long before the peer's timeout */

static void begin_exchange(struct http1_client *client)
{
    struct http1_wire *wire = &client->wire;
    wire->stream = (struct stream){
        .ops = wire->stream.ops, .session = &wire->session, .holder = wire->stream.holder};
    wire->chunked = NULL;
    wire->session.step = SESSION_BUSY;
    client->persistent = false;
    client->head_read = false;
    client->switches = false;
    http1_scan_init(&wire->scan, HTTP1_RESPONSE);
    timer_pause(&wire->session.timer);
}

/*
 * Whether an idle connection may still be used: nothing was asked, so that whatever the peer has to
 * say makes it useless. That a read may make progress says little where a short read does not mean
 * that all was read: then one is tried.
 */
static bool is_silent(struct session *session)
{
    struct transport *transport = &session->transport;
    uint8_t byte = 0;
    size_t got = 0;
    if ((transport->socket.ready & (IO_PEER_CLOSED | IO_FAILED)) != 0) {
        return false;
    }
    return !transport_may_read(transport) ||
           transport->ops->read(transport, &byte, sizeof(byte), &got) == AGAIN;
}

static struct stream *open_stream(struct session *session)
{
    struct http1_client *client = http1_client_of(session);
    if (session->step != SESSION_IDLE || !is_silent(session)) {
        return NULL;
    }
    begin_exchange(client);
    return &client->wire.stream;
}

static void client_run(struct session *session)
{
    struct http1_client *client = http1_client_of(session);
    switch (session->step) {
    case SESSION_BUSY:
        client->wire.event_wake = true;
        break;
    case SESSION_IDLE:
        if (!is_silent(session)) {
            http1_wire_close(&client->wire, false);
        }
        break;
    case SESSION_CLOSED:
        break;
    case SESSION_PREFACE:
    case SESSION_HANDSHAKE:
    case SESSION_CONNECT:
    case SESSION_HEAD:
    case SESSION_LINGER:
        UNREACHABLE("a step of other sessions only");
    }
}

static void client_expire(struct session *session)
{
    ASSERT(session->step == SESSION_IDLE);
    http1_wire_close(http1_wire_of_session(session), false);
}

static void client_drain(struct session *session)
{
    if (session->step == SESSION_IDLE) {
        http1_wire_close(http1_wire_of_session(session), false);
    }
}

static void client_kill(struct session *session)
{
    if (session->step != SESSION_CLOSED) {
        ASSERT(http1_wire_of_session(session)->stream.holder == NULL);
        http1_wire_close(http1_wire_of_session(session), session->step == SESSION_BUSY);
    }
}

static enum status no_request(struct stream *stream, struct arena *arena, struct request_head *head,
                              enum reason *reason)
{
    (void)stream, (void)arena, (void)head, (void)reason;
    UNREACHABLE("an upstream sends no requests");
}

/* Finds the end of the next head. */
static enum status complete_head(struct http1_client *client, enum reason *reason)
{
    struct http1_wire *wire = &client->wire;
    const struct http1_limits *limits = &wire->session.context->limits.head;
    for (;;) {
        struct span bytes = http1_wire_pending(wire);
        wire->stream.in_begun |= bytes.size > 0;
        if (bytes.size > 0) {
            enum status status = http1_scan_head(&wire->scan, bytes, limits, reason);
            if (status != AGAIN) {
                return status;
            }
        }
        enum status status = http1_wire_fill(wire);
        if (status == AGAIN) {
            return AGAIN;
        }
        if (status != OK) {
            bool refused = session_was_refused(&wire->session);
            *reason = refused ? REASON_UPSTREAM_TLS_REFUSED : REASON_UPSTREAM_CLOSED;
            return ERROR;
        }
    }
}

/* How long the peer lets the connection idle, less a margin: ours if it does not say. */
static uint64_t idle_timeout(const struct http1_client *client, const struct response_head *head)
{
    uint64_t ours = client->wire.session.context->limits.upstream_keep_alive_timeout;
    if (head->keep_alive_timeout_s == UINT32_MAX) {
        return ours;
    }
    uint64_t theirs = (uint64_t)head->keep_alive_timeout_s * 1000000U;
    theirs = theirs > IDLE_MARGIN_US ? theirs - IDLE_MARGIN_US : 0;
    return theirs < ours ? theirs : ours;
}

/* RFC 9110, 7.8: only who was asked for it may switch. To what, the caller sees in Upgrade. */
static enum status grant_switch(struct http1_client *client, struct response_head *head,
                                enum reason *reason)
{
    if (!client->switches) {
        *reason = REASON_BAD_RESPONSE;
        return ERROR;
    }
    client->head_read = true;
    head->framing = FRAMING_TUNNEL;
    http1_wire_begin_tunnel(&client->wire);
    return OK;
}

static enum status read_response(struct stream *stream, struct arena *arena, enum method method,
                                 struct response_head *head, enum reason *reason)
{
    struct http1_client *client = http1_client_of_stream(stream);
    struct http1_wire *wire = &client->wire;
    ASSERT(!client->head_read);
    enum status status = complete_head(client, reason);
    if (status != OK) {
        return status;
    }
    struct span bytes = http1_scan_head_bytes(&wire->scan, http1_wire_pending(wire));
    struct span copy = arena_copy(arena, bytes);
    if (copy.data == NULL) { /* arenas are sized for the largest head */
        *reason = REASON_BUFFERS_FULL;
        return ERROR;
    }
    http1_wire_consume(wire, wire->scan.head_size);
    http1_wire_trim(wire);
    status = http1_parse_response(copy, method, &wire->session.context->limits.head, arena, head,
                                  reason);
    if (status != OK) {
        return ERROR;
    }
    http1_scan_init(&wire->scan, HTTP1_RESPONSE);
    if (head->status == 101) {
        return grant_switch(client, head, reason);
    }
    if (head->status < 200) {
        return OK;
    }
    client->head_read = true;
    client->persistent = head->keep_alive;
    client->idle_timeout = idle_timeout(client, head);
    if (!http1_wire_begin_body(wire, HTTP1_RESPONSE, head->framing, head->content_length, arena)) {
        *reason = REASON_BUFFERS_FULL;
        return ERROR;
    }
    return OK;
}

static enum status read_body(struct stream *stream, size_t max, struct span *bytes,
                             enum reason *reason)
{
    struct http1_wire *wire = http1_wire_of_stream(stream);
    return http1_wire_read_body(wire, max, bytes, REASON_UPSTREAM_TRUNCATED, reason);
}

static enum status splice_body(struct stream *stream, struct io_pipe *pipe, size_t max,
                               size_t *size, enum reason *reason)
{
    return http1_wire_splice_body(http1_wire_of_stream(stream), pipe, max, size,
                                  REASON_UPSTREAM_TRUNCATED, reason);
}

static enum status write_request(struct stream *stream, const struct request_message *message)
{
    struct http1_client *client = http1_client_of_stream(stream);
    struct http1_wire *wire = &client->wire;
    const struct http1_request_line line = {.method = message->method,
                                            .path = message->path,
                                            .query = message->query,
                                            .host = message->host};
    const struct http1_delivery delivery = {.framing = message->framing,
                                            .content_length = message->content_length,
                                            .switching = message->switching};
    struct output output = http1_wire_begin_output(wire);
    if (!http1_write_request(&output, &line, message->fields, &delivery)) {
        return ERROR; /* a head at its limit, and our own fields on top */
    }
    if (!http1_wire_commit_output(wire, &output)) {
        return AGAIN;
    }
    client->switches = message->switching != NULL;
    bool body = message->framing == FRAMING_CHUNKED ||
                (message->framing == FRAMING_LENGTH && message->content_length > 0);
    http1_wire_begin_out(wire, body ? message->framing : FRAMING_NONE, message->content_length);
    return OK;
}

static enum status no_response(struct stream *stream, const struct response_message *message)
{
    (void)stream, (void)message;
    UNREACHABLE("an upstream is sent no responses");
}

static bool is_reusable(const struct http1_client *client)
{
    const struct http1_wire *wire = &client->wire;
    const struct stream *stream = &wire->stream;
    return client->persistent && client->head_read && stream->in_ended && stream->out_ended &&
           stream->unsent == 0 && http1_wire_pending(wire).size == 0 && !wire->in_broken &&
           !wire->out_broken && !wire->in_ended_by_peer && client->idle_timeout > 0 &&
           !wire->tunnel && !wire->session.context->draining;
}

static void release(struct stream *stream, bool keep)
{
    struct http1_client *client = http1_client_of_stream(stream);
    struct http1_wire *wire = &client->wire;
    struct session_context *context = wire->session.context;
    stream->holder = NULL;
    wire->event_wake = false;
    if (!keep || !is_reusable(client)) {
        bool told =
            stream->in_ended || wire->tunnel; /* the end of a tunnel needs no more of theirs */
        bool whole = told && stream->out_ended && stream->unsent == 0;
        http1_wire_close(wire, !whole);
        wire->event_closed = false; /* told by the step, here and now */
        return;
    }
    http1_wire_trim(wire); /* not idle with an inbox, and the next one takes this, still warm */
    wire->session.step = SESSION_IDLE;
    timer_set(context->wheel, &wire->session.timer, io_now(context->io) + client->idle_timeout);
}

static const struct stream_ops STREAM_OPS = {
    .read_request = no_request,
    .read_response = read_response,
    .read_body = read_body,
    .spliceable = http1_wire_spliceable,
    .splice_body = splice_body,
    .trailers = http1_wire_trailers,
    .write_request = write_request,
    .write_response = no_response,
    .room = http1_wire_room,
    .write_body = http1_wire_write_body,
    .open_pipe = http1_wire_open_pipe,
    .write_pipe = http1_wire_write_pipe,
    .write_end = http1_wire_write_end,
    .flush = http1_wire_flush,
    .is_broken = http1_wire_is_broken,
    .is_unwritten = http1_wire_is_unwritten,
    .acknowledged = http1_wire_acknowledged,
    .release = release,
};

static const struct session_ops SESSION_OPS = {
    .run = client_run,
    .expire = client_expire,
    .next_event = http1_wire_next_event,
    .open_stream = open_stream,
    .drain = client_drain,
    .kill = client_kill,
};

struct stream *http1_client_start(struct session *session)
{
    struct http1_client *client = http1_client_of(session);
    ASSERT(transport_is_open(&session->transport));
    session_clear_rest(session, sizeof(*client));
    http1_wire_init(&client->wire, &SESSION_OPS);
    client->wire.inbox_slab = session->context->upstream_inboxes;
    client->wire.upstream = true;
    client->wire.stream.ops = &STREAM_OPS;
    begin_exchange(client);
    return &client->wire.stream;
}
