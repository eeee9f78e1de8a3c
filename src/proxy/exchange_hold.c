/*
 * Bodies that a route buffers: of a request what is collected before an attempt begins, of a
 * response what its client does not take yet. Both are held in one pool of the worker; where that
 * is short, bodies stream as on any other route.
 */
#include "base/assert.h"
#include "proxy/exchange.h"

static size_t collect_room(void *self)
{
    struct exchange *exchange = self;
    return hold_room(&exchange->upload.held, &exchange->proxy->holds);
}

static enum status collect_write(void *self, struct span bytes, enum reason *reason)
{
    struct exchange *exchange = self;
    if (!hold_append(&exchange->upload.held, &exchange->proxy->holds, bytes)) {
        *reason = REASON_BUFFERS_FULL; /* room was promised */
        return ERROR;
    }
    return OK;
}

static enum status collect_end(void *self, const struct fields *trailers, enum reason *reason)
{
    (void)self, (void)trailers, (void)reason;
    return OK;
}

static enum status collect_flush(void *self, enum reason *reason)
{
    (void)self, (void)reason;
    return OK;
}

static enum status collect_read(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    return exchange_read_client(self, max, bytes, reason);
}

static void open_collecting(struct exchange *exchange)
{
    const struct source source = {.read = collect_read, .self = exchange};
    const struct sink sink = {.room = collect_room,
                              .write = collect_write,
                              .end = collect_end,
                              .flush = collect_flush,
                              .self = exchange};
    lane_open(&exchange->upload.lane, &source, &sink);
}

/* Messages of gRPC are answered one by one, maybe before the next is sent: nothing may wait. */
bool exchange_collects(const struct exchange *exchange)
{
    return exchange->uploads && exchange->route->hold_request > 0 && !exchange->grpc.on;
}

/*
 * What is held is sent first, and again where need be. A complete body has a length, however it
 * came; and where anything of it was asked for, the client has been told to continue.
 */
static void end_collecting(struct exchange *exchange)
{
    struct upload *upload = &exchange->upload;
    struct request_head *request = &exchange->request;
    const struct stream *client = exchange->client;
    lane_abort(&upload->lane);
    upload->lane = (struct lane){0};
    upload->pace = (struct lane_pace){0};
    list_unlink(&upload->stall.link);
    list_unlink(&exchange->wait_link);
    exchange_set_deadline(exchange, DEADLINE_REQUEST, UINT64_MAX);
    if (client->in_ended) {
        request->framing = FRAMING_LENGTH;
        request->content_length = upload->held.size;
    }
    request->expect_continue &= client->bytes_in == 0 && !client->in_ended;
    upload->replay.lost &= upload->held.size == 0;
}

enum status exchange_collect(struct exchange *exchange, enum reason *reason)
{
    struct lane *lane = &exchange->upload.lane;
    if (lane->state == LANE_CLOSED) {
        open_collecting(exchange);
    }
    enum status status = lane_run(lane, reason);
    bool full = status == AGAIN && lane->waits == LANE_WAITS_SINK;
    if (status == END || full) {
        end_collecting(exchange);
        return END;
    }
    if (status != ERROR) {
        exchange_pace_lane(exchange, lane, &exchange->upload.pace, DEADLINE_REQUEST);
    }
    return status;
}

struct sink exchange_hold_response(struct exchange *exchange, const struct sink *next)
{
    exchange->holds = true;
    return hold_filter_before(&exchange->response_hold, next, &exchange->proxy->holds,
                              exchange->route->hold_response);
}

/* The upstream has said all, or broken off: its failure is the reason, and shown in the end. */
static void end_attempt(struct exchange *exchange)
{
    struct lane *lane = &exchange->response_lane;
    if (lane->trailers != NULL && lane->trailers->count == 0) {
        lane->trailers = NULL; /* that there are none stands in the stream, which goes */
    }
    bool failed = lane->state == LANE_FAILING;
    if (failed) {
        metrics_upstream_failure(exchange->proxy->metrics, exchange->route->upstream,
                                 lane->failure);
        exchange->reason = lane->failure;
    }
    attempt_end(exchange, !failed);
}

/* Of HTTP/2 they lie in the stream, which others do not wait for as for a connection. */
static bool needs_trailers(const struct exchange *exchange)
{
    const struct lane *lane = &exchange->response_lane;
    const struct stream *upstream = exchange->attempt.lease.stream;
    return lane->state == LANE_ENDING && upstream != NULL && upstream->session->ops->multiplexed &&
           lane->trailers != NULL && lane->trailers->count > 0;
}

enum status exchange_note_held(struct exchange *exchange, enum status status)
{
    bool attempted = exchange->attempt.step != ATTEMPT_NONE && !needs_trailers(exchange);
    if (attempted && lane_source_is_over(&exchange->response_lane) &&
        !exchange_is_uploading(exchange)) {
        end_attempt(exchange);
    }
    return hold_filter_yields(&exchange->response_hold) && status == AGAIN ? OK : status;
}

void exchange_forget_held(struct exchange *exchange)
{
    if (exchange->uploads) {
        hold_clear(&exchange->upload.held, &exchange->proxy->holds);
    }
    if (exchange->holds) {
        hold_filter_clear(&exchange->response_hold);
        exchange->holds = false;
    }
}
