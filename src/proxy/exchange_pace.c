/*
 * The pace of an exchange's lanes, and what happens when one of its deadlines passes.
 */
#include "base/assert.h"
#include "proxy/exchange.h"

enum {
    RATE_WINDOW_US = 10 * 1000 * 1000,
    READ_MIN = 1024, /* bytes: who takes less of what it is sent does not read it */
    LOOK = 8,        /* the part of a wait after which it is looked at first, see has_read */
};

static const struct generation_timeouts *timeouts_of(const struct exchange *exchange)
{
    return &exchange->proxy->generation->header->server.timeouts;
}

static uint64_t now_of(const struct exchange *exchange)
{
    return io_now(exchange->proxy->io);
}

/*
 * What has moved. A gRPC call is a conversation: what one side says counts for the other, too, but
 * for a client that does not read.
 */
static uint64_t progress_of(const struct exchange *exchange, const struct lane *lane)
{
    const struct stream *to = lane->sink.stream;
    uint64_t own = lane->bytes + (to == NULL ? 0 : to->progress_out);
    bool request = lane == &exchange->upload.lane;
    if (!exchange->grpc.on || (!request && lane->waits == LANE_WAITS_SINK)) {
        return own;
    }
    const struct lane *other = request ? &exchange->response_lane : &exchange->upload.lane;
    return own + (request || exchange->uploads ? other->bytes : 0);
}

/*
 * Whether the other side of a call has spoken since the deadline was set: then the lane's next run
 * sets another one.
 */
static bool is_answered(const struct exchange *exchange, const struct lane *lane,
                        const struct lane_pace *pace)
{
    return exchange->grpc.on && lane->waits == pace->waits &&
           progress_of(exchange, lane) != pace->progress;
}

/* A lane that could not go on: its owner waits for buffers, too, if that is what is short. */
static void wait_for_buffers(struct exchange *exchange, const struct lane *lane)
{
    const struct stream *to = lane->sink.stream;
    struct buffer_pool *buffers = &exchange->proxy->buffers;
    bool unsent = lane->waits == LANE_WAITS_SINK || lane_held(lane) > 0;
    if (unsent && to != NULL && to->starved) {
        exchange_wait_in(exchange, &buffers->waiters);
    } else if (lane->waits == LANE_WAITS_SOURCE && buffers->slab.in_use == buffers->slab.capacity) {
        exchange_wait_in(exchange, &buffers->head_waiters); /* perhaps 100 Continue found none */
    }
}

/* Whoever the lane waits for has so long without progress; waiting for a client has a rate, too. */
void exchange_pace_lane(struct exchange *exchange, const struct lane *lane, struct lane_pace *pace,
                        enum exchange_deadline which)
{
    const struct generation_timeouts *timeouts = timeouts_of(exchange);
    bool request = which == DEADLINE_REQUEST;
    uint64_t now = now_of(exchange);
    uint64_t progress = progress_of(exchange, lane);
    shedding_note_lane(exchange, lane);
    wait_for_buffers(exchange, lane);
    if (lane->waits == LANE_WAITS_NOT) {
        *pace = (struct lane_pace){0};
        exchange_set_deadline(exchange, which, UINT64_MAX);
        return;
    }
    bool source = lane->waits == LANE_WAITS_SOURCE;
    uint64_t worth = !request && !source ? READ_MIN : 1; /* windows of HTTP/2 open by the byte */
    if (lane->waits == pace->waits && progress - pace->progress < worth) {
        return;
    }
    uint64_t idle = timeouts->upstream_body_idle;
    if (request && source) {
        idle = timeouts->request_body_idle;
    } else if (!request && !source) {
        idle = timeouts->response_write_idle;
    }
    if (!source || pace->waits != lane->waits) {
        pace->window_began = source ? now : 0;
        pace->window_bytes = lane->bytes;
    }
    pace->waits = lane->waits;
    pace->progress = progress;
    pace->idle_deadline = now + idle;
    pace->looked = false;
    if (!source) {
        exchange_set_deadline(exchange, which, now + idle / LOOK);
        return;
    }
    bool has_rate = timeouts->request_body_min_rate > 0 && !exchange->grpc.on;
    uint64_t window_end =
        request && source && has_rate ? pace->window_began + RATE_WINDOW_US : UINT64_MAX;
    exchange_set_deadline(exchange, which,
                          pace->idle_deadline < window_end ? pace->idle_deadline : window_end);
}

/*
 * Whether the one that a lane writes to may have more time. The kernel says that there is room only
 * when a third of its buffer, which may be megabytes, is free: a peer that reads slowly and never
 * stops would look as if it had. What it acknowledges tells the difference. It is looked at soon
 * after the wait has begun and at its end, which costs nothing where things move.
 */
static bool has_read(struct exchange *exchange, const struct lane *lane, struct lane_pace *pace,
                     enum exchange_deadline which)
{
    const struct generation_timeouts *timeouts = timeouts_of(exchange);
    uint64_t idle =
        which == DEADLINE_REQUEST ? timeouts->upstream_body_idle : timeouts->response_write_idle;
    struct stream *to = lane->sink.stream;
    uint64_t acknowledged = to == NULL ? 0 : to->ops->acknowledged(to);
    bool first = !pace->looked;
    bool known = pace->acknowledged > 0; /* else it waited for a window, or nobody can know */
    if (!first && (!known || acknowledged < pace->acknowledged + READ_MIN)) {
        return false;
    }
    pace->idle_deadline = first ? pace->idle_deadline : now_of(exchange) + idle;
    pace->acknowledged = acknowledged;
    pace->looked = true;
    exchange_set_deadline(exchange, which, pace->idle_deadline);
    return true;
}

/* The upstream has used its time up: that counts against it, whatever it has begun to say. */
static void fail_upstream(struct exchange *exchange, enum reason reason)
{
    if (exchange->attempt.step != ATTEMPT_NONE) {
        attempt_lose(exchange, reason);
    }
    exchange_fail(exchange, reason);
}

/* The request lane made no progress in time, or too little of it. */
static void expire_request(struct exchange *exchange)
{
    struct lane_pace *pace = &exchange->upload.pace;
    uint64_t now = now_of(exchange);
    if (exchange->step == EXCHANGE_SETTLE) {
        exchange->drained = UINT64_MAX; /* waited long enough for the rest of the body */
        return;
    }
    bool listens = exchange->grpc.on && exchange->step == EXCHANGE_RELAY &&
                   pace->waits == LANE_WAITS_SOURCE; /* it is the service's turn to speak */
    if (listens || is_answered(exchange, &exchange->upload.lane, pace)) {
        return;
    }
    if (pace->waits == LANE_WAITS_SINK) {
        if (!has_read(exchange, &exchange->upload.lane, pace, DEADLINE_REQUEST)) {
            fail_upstream(exchange, REASON_UPSTREAM_WRITE_TIMEOUT);
        }
    } else if (pace->idle_deadline <= now) {
        exchange_fail(exchange, REASON_REQUEST_BODY_TIMEOUT);
    } else {
        uint64_t moved = exchange->upload.lane.bytes - pace->window_bytes;
        uint64_t rate = timeouts_of(exchange)->request_body_min_rate;
        if (moved < rate * (RATE_WINDOW_US / 1000000)) {
            exchange_fail(exchange, REASON_REQUEST_BODY_TOO_SLOW);
            return;
        }
        pace->window_began = now;
        pace->window_bytes = exchange->upload.lane.bytes;
        uint64_t window_end = now + RATE_WINDOW_US;
        exchange_set_deadline(exchange, DEADLINE_REQUEST,
                              pace->idle_deadline < window_end ? pace->idle_deadline : window_end);
    }
}

static void expire_response(struct exchange *exchange)
{
    if (!exchange->client->out_begun) {
        /* A head that waits: for what went before it, or for a buffer, as an answer would, too. */
        bool client = exchange->client->unsent > 0;
        exchange_fail(exchange, client ? REASON_CLIENT_WRITE_TIMEOUT : REASON_BUFFERS_FULL);
        exchange->step = EXCHANGE_ABORT;
    } else if (exchange->response_pace.waits == LANE_WAITS_SOURCE) {
        if (!is_answered(exchange, &exchange->response_lane, &exchange->response_pace)) {
            fail_upstream(exchange, REASON_UPSTREAM_BODY_TIMEOUT);
        }
    } else if (!has_read(exchange, &exchange->response_lane, &exchange->response_pace,
                         DEADLINE_RESPONSE)) {
        exchange_fail(exchange, REASON_CLIENT_WRITE_TIMEOUT);
    }
}

/* What a client is given in time it may still read: that is bounded by itself. */
static void expire_total(struct exchange *exchange)
{
    if (exchange->step == EXCHANGE_RELAY && exchange->client->out_ended) {
        exchange_set_deadline(exchange, DEADLINE_TOTAL, UINT64_MAX);
    } else {
        fail_upstream(exchange, grpc_call_expired(exchange));
    }
}

void exchange_expire(struct exchange *exchange)
{
    uint64_t now = now_of(exchange);
    exchange_wake(exchange);
    if (exchange->step == EXCHANGE_TUNNEL) {
        exchange_fail(exchange, REASON_TUNNEL_IDLE);
    } else if (exchange->deadlines[DEADLINE_TOTAL] <= now) {
        expire_total(exchange);
    } else if (exchange->deadlines[DEADLINE_STEP] <= now) {
        attempt_expire(exchange);
    } else if (exchange->deadlines[DEADLINE_REQUEST] <= now) {
        exchange_set_deadline(exchange, DEADLINE_REQUEST, UINT64_MAX);
        expire_request(exchange);
    } else if (exchange->deadlines[DEADLINE_RESPONSE] <= now) {
        exchange_set_deadline(exchange, DEADLINE_RESPONSE, UINT64_MAX);
        expire_response(exchange);
    }
}
