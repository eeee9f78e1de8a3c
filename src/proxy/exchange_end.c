/*
 * How an exchange ends: by a failure, which turns it to its answer or cuts it off; in either case
 * both bodies stop, what is left of the request is drained or given up, one record is written and
 * everything that was borrowed goes back.
 */
#include "base/assert.h"
#include "proxy/exchange_steps.h"

enum {
    DRAIN_BYTES_MAX = 64 * 1024, /* of a request body that nobody wants */
    DRAIN_TIME_US = 2 * 1000 * 1000,
};

void exchange_close_upload(struct exchange *exchange)
{
    if (exchange->uploads) {
        lane_abort(&exchange->upload.lane);
        list_unlink(&exchange->upload.stall.link);
    }
    exchange_set_deadline(exchange, DEADLINE_REQUEST, UINT64_MAX);
}

static void close_lanes(struct exchange *exchange)
{
    exchange_close_upload(exchange);
    list_unlink(&exchange->response_stall.link);
    lane_abort(&exchange->response_lane);
    exchange_lose_replay(exchange);
    exchange_forget_held(exchange);
    exchange_set_deadline(exchange, DEADLINE_RESPONSE, UINT64_MAX);
}

void exchange_fail(struct exchange *exchange, enum reason reason)
{
    ASSERT(reason != REASON_NONE);
    bool answered = exchange->step == EXCHANGE_ANSWER || exchange->step == EXCHANGE_SETTLE ||
                    exchange->step == EXCHANGE_ABORT || exchange->step == EXCHANGE_FINISH;
    if (exchange->reason == REASON_NONE) {
        exchange->reason = reason;
    } else if (exchange->reason != reason) {
        metrics_failure(exchange->proxy->metrics, reason); /* of the answer: counted, no record */
    }
    if (exchange->step == EXCHANGE_TUNNEL) {
        tunnel_part(exchange, reason);
    }
    close_lanes(exchange);
    attempt_end(exchange, false);
    exchange_set_deadline(exchange, DEADLINE_TOTAL, UINT64_MAX);
    bool possible = !answered && !exchange->client->out_begun && reason_info(reason)->status != 0;
    possible = possible || grpc_call_can_close(exchange, exchange->reason);
    exchange->step = possible ? EXCHANGE_ANSWER : EXCHANGE_ABORT;
}

void exchange_abort(struct exchange *exchange, enum reason reason)
{
    exchange_fail(exchange, reason);
    exchange->step = EXCHANGE_ABORT;
    exchange_wake(exchange);
}

/* ABORT: nothing more can be said; the peers will see that something is missing. */
enum progress step_abort(struct exchange *exchange)
{
    close_lanes(exchange);
    attempt_end(exchange, false);
    return exchange_enter(exchange, EXCHANGE_FINISH);
}

/* Reads on what is left of the request body, up to a bound, so that the connection may persist. */
static enum progress drain_request(struct exchange *exchange)
{
    struct stream *client = exchange->client;
    if (client->closing || exchange->drained > DRAIN_BYTES_MAX) {
        return exchange_enter(exchange, EXCHANGE_FINISH);
    }
    struct span bytes = SPAN_EMPTY;
    enum reason reason = REASON_NONE;
    enum status status = client->ops->read_body(client, DRAIN_BYTES_MAX, &bytes, &reason);
    exchange->drained += bytes.size;
    if (status == OK) {
        return PROGRESS_YIELD;
    }
    if (status == AGAIN) {
        if (exchange->deadlines[DEADLINE_REQUEST] == UINT64_MAX) {
            exchange_set_deadline(exchange, DEADLINE_REQUEST,
                                  io_now(exchange->proxy->io) + DRAIN_TIME_US);
        }
        return PROGRESS_WAIT;
    }
    return exchange_enter(exchange, EXCHANGE_FINISH);
}

/* SETTLE: the response is through; what is left of the request is drained or given up. */
enum progress step_settle(struct exchange *exchange)
{
    exchange_set_deadline(exchange, DEADLINE_TOTAL, UINT64_MAX);
    if (exchange->attempt.step != ATTEMPT_NONE || exchange->holds) {
        attempt_end(exchange, true);
        close_lanes(exchange);
    }
    return exchange->client->in_ended ? exchange_enter(exchange, EXCHANGE_FINISH)
                                      : drain_request(exchange);
}

/* FINISH: one record, and everything that was borrowed goes back. */
enum progress step_finish(struct exchange *exchange)
{
    struct proxy *proxy = exchange->proxy;
    struct stream *client = exchange->client;
    ASSERT(exchange->attempt.lease.connection == NULL && !exchange_is_uploading(exchange));
    exchange_record(exchange);
    bool keep = client->in_ended && client->out_ended;
    timer_cancel(&proxy->wheel, &exchange->timer);
    list_unlink(&exchange->wait_link);
    list_unlink(&exchange->run_link);
    exchange_lose_replay(exchange);
    metrics_subtract(proxy->metrics, METRIC_REQUESTS_IN_FLIGHT, 1);
    tunnel_leave(exchange);
    if (exchange->counted) {
        client_counts_set_requests(&proxy->clients, --proxy->requests_open);
    }
    slab_release(&proxy->exchanges, exchange);
    connection_release(proxy, client, keep);
    return PROGRESS_GONE;
}
