/*
 * The two bodies of an exchange as the sources of its lanes, and what is kept of the request's so
 * that it can be sent again.
 */
#include "base/assert.h"
#include "proxy/exchange.h"
#include "proxy/forward.h"

/* Over HTTP/2 it may whatever the method: the upstream can say that it has not looked at it. */
bool exchange_may_send_again(const struct exchange *exchange)
{
    const struct upstream *upstream =
        &exchange->proxy->upstreams.upstreams[exchange->route->upstream];
    return method_is_idempotent(exchange->request.method) ||
           upstream->config->http_version == UPSTREAM_HTTP_2;
}

/* Only where it may be sent again is it worth keeping. */
void exchange_begin_upload(struct exchange *exchange, uint64_t hold_max)
{
    bool repeatable = exchange_may_send_again(exchange) && !exchange->switches;
    exchange->upload = (struct upload){.replay = {.lost = !repeatable}};
    list_init(&exchange->upload.stall.link);
    hold_init(&exchange->upload.held, hold_max);
    exchange->uploads = true;
}

/* Keeps what was just read, while there is room and all of it may still fit. */
static void keep_for_replay(struct exchange *exchange, struct span bytes)
{
    struct replay *replay = &exchange->upload.replay;
    struct buffer_pool *buffers = &exchange->proxy->buffers;
    struct stream *upstream = exchange->attempt.lease.stream;
    /* Room last: the lane was promised it at the upstream, out of the same pool. */
    bool kept = buffer_pool_is_ample(buffers) &&
                byte_queue_room(&replay->bytes, buffers) >= bytes.size &&
                byte_queue_append(&replay->bytes, buffers, bytes) &&
                upstream->ops->room(upstream) >= bytes.size;
    replay->offset = replay->bytes.size;
    if (!kept) {
        exchange_lose_replay(exchange);
    }
}

void exchange_lose_replay(struct exchange *exchange)
{
    if (exchange->uploads) {
        byte_queue_clear(&exchange->upload.replay.bytes, &exchange->proxy->buffers);
        exchange->upload.replay = (struct replay){.lost = true};
        hold_drop_read(&exchange->upload.held, &exchange->proxy->holds);
    }
}

void exchange_rewind_body(struct exchange *exchange)
{
    exchange->upload.replay.offset = 0;
    if (!exchange->upload.replay.lost) {
        hold_rewind(&exchange->upload.held);
    }
}

enum status exchange_read_client(struct exchange *exchange, size_t max, struct span *bytes,
                                 enum reason *reason)
{
    struct stream *client = exchange->client;
    enum status status = client->ops->read_body(client, max, bytes, reason);
    uint64_t limit = exchange->route->body_size;
    bool fits = status != OK || (exchange->grpc.on ? grpc_call_takes(exchange, *bytes)
                                                   : limit == 0 || client->bytes_in <= limit);
    if (!fits) {
        *reason = REASON_BODY_TOO_LARGE;
        return ERROR;
    }
    return status;
}

/* Once the upstream has heard of it, what is never sent twice is needed once. */
static void lend_held(struct exchange *exchange, size_t max, struct span *bytes)
{
    struct upload *upload = &exchange->upload;
    struct stream *upstream = exchange->attempt.lease.stream;
    bool begun = !upstream->ops->is_unwritten(upstream);
    upload->replay.lost |= begun && !exchange_may_send_again(exchange);
    if (upload->replay.lost) {
        hold_drop_read(&upload->held, &exchange->proxy->holds);
    }
    *bytes = hold_peek(&upload->held);
    *bytes = span_first(*bytes, bytes->size < max ? bytes->size : max);
    hold_advance(&upload->held, bytes->size);
}

/* First what was collected or an earlier attempt has read already, then the client's. */
static enum status read_request(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    struct exchange *exchange = self;
    struct replay *replay = &exchange->upload.replay;
    if (exchange->upload.held.unread > 0) {
        lend_held(exchange, max, bytes);
        return OK;
    }
    if (replay->offset < replay->bytes.size) {
        struct span kept = byte_queue_peek(&replay->bytes, replay->offset);
        *bytes = span_first(kept, kept.size < max ? kept.size : max);
        replay->offset += bytes->size;
        return OK;
    }
    enum status status = exchange_read_client(exchange, max, bytes, reason);
    if (status == OK && !replay->lost) {
        keep_for_replay(exchange, *bytes);
    }
    return status;
}

static uint64_t request_spliceable(void *self)
{
    struct exchange *exchange = self;
    struct stream *client = exchange->client;
    bool looked_at = exchange->upload.replay.offset < exchange->upload.replay.bytes.size ||
                     exchange->upload.held.unread > 0 || exchange->grpc.on;
    return looked_at || client->ops->spliceable == NULL ? 0 : client->ops->spliceable(client);
}

/* What goes through a pipe cannot be kept; so much is still to come that it would not fit anyway.
 */
static enum status splice_request(void *self, struct io_pipe *pipe, size_t max, size_t *size,
                                  enum reason *reason)
{
    struct exchange *exchange = self;
    struct stream *client = exchange->client;
    enum status status = client->ops->splice_body(client, pipe, max, size, reason);
    if (status == OK && !exchange->upload.replay.lost) {
        exchange_lose_replay(exchange);
    }
    /* Only lengths that were announced, and admitted, are spliced. */
    ASSERT(exchange->route->body_size == 0 || client->bytes_in <= exchange->route->body_size);
    return status;
}

static const struct fields *no_trailers(void *self)
{
    (void)self;
    return NULL; /* an HTTP/1.1 origin cannot say that it wants any (RFC 9110, 6.5.1) */
}

struct source exchange_request_body(struct exchange *exchange)
{
    return (struct source){.read = read_request,
                           .spliceable = request_spliceable,
                           .splice = splice_request,
                           .trailers = no_trailers,
                           .self = exchange};
}

static bool response_is_at_end(void *self)
{
    struct exchange *exchange = self;
    struct stream *upstream = exchange->attempt.lease.stream;
    return upstream->ops->is_at_end != NULL && upstream->ops->is_at_end(upstream);
}

static enum status read_response(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    struct exchange *exchange = self;
    struct stream *upstream = exchange->attempt.lease.stream;
    return upstream->ops->read_body(upstream, max, bytes, reason);
}

static uint64_t response_spliceable(void *self)
{
    struct exchange *exchange = self;
    struct stream *upstream = exchange->attempt.lease.stream;
    return upstream->ops->spliceable == NULL ? 0 : upstream->ops->spliceable(upstream);
}

static enum status splice_response(void *self, struct io_pipe *pipe, size_t max, size_t *size,
                                   enum reason *reason)
{
    struct exchange *exchange = self;
    struct stream *upstream = exchange->attempt.lease.stream;
    return upstream->ops->splice_body(upstream, pipe, max, size, reason);
}

static const struct fields *response_trailers(void *self)
{
    struct exchange *exchange = self;
    struct stream *upstream = exchange->attempt.lease.stream;
    struct fields *trailers = upstream->ops->trailers(upstream);
    grpc_call_note_trailers(exchange, trailers);
    return forward_trailers(exchange, trailers);
}

struct source exchange_response_body(struct exchange *exchange)
{
    return (struct source){.read = read_response,
                           .is_at_end = response_is_at_end,
                           .spliceable = response_spliceable,
                           .splice = splice_response,
                           .trailers = response_trailers,
                           .self = exchange};
}
