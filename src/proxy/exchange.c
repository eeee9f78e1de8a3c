/*
 * The story of a request, to be read from step_head downwards. Its end, well or not, stands in
 * exchange_end.c; the dispatcher, and the begin, at the end of this file.
 */
#include "proxy/exchange.h"

#include "base/assert.h"
#include "proxy/answer.h"
#include "proxy/exchange_steps.h"
#include "proxy/forward.h"
#include "proxy/origin.h"
#include "route/router.h"

enum {
    TRANSITIONS_MAX = 64,       /* of one run: more is a defect, not load */
    INTERIM_RESPONSES_MAX = 16, /* 1xx heads of one response */
    NOTES_MAX = 1024,           /* arena bytes of addresses, ids and numbers as text */
    PIECE = 64,                 /* arena bytes of one message's bookkeeping, and its alignment */
};

static const struct generation_timeouts *timeouts_of(const struct exchange *exchange)
{
    return &exchange->proxy->generation->header->server.timeouts;
}

static uint64_t now_of(const struct exchange *exchange)
{
    return io_now(exchange->proxy->io);
}

static enum reason why_client_broke(const struct exchange *exchange)
{
    enum reason failure = (enum reason)exchange->client->failure;
    return failure != REASON_NONE ? failure : REASON_CLIENT_CLOSED;
}

static enum progress fail(struct exchange *exchange, enum reason reason)
{
    exchange_fail(exchange, reason);
    return PROGRESS_NEXT;
}

/*
 * Of a refused head we believe nothing. What it looked like is for the log, and in which form it
 * would like to be told is for the answer.
 */
static void forget_head(struct exchange *exchange)
{
    struct fields *fields = &exchange->request.fields;
    enum http_version version = exchange->request.version == HTTP_2 ? HTTP_2 : HTTP_1_1;
    size_t kept = 0;
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->entries[i].id == FIELD_ACCEPT) {
            fields->entries[kept++] = fields->entries[i];
        }
    }
    fields->count = kept;
    exchange->request = (struct request_head){.fields = *fields,
                                              .method = exchange->request.method,
                                              .method_text = exchange->request.method_text,
                                              .target = exchange->request.target,
                                              .version = version,
                                              .max_forwards = UINT64_MAX};
}

/* Who does not say which host it is (HTTP/1.0) cannot be sent there. */
static enum progress redirect_to_https(struct exchange *exchange)
{
    if (exchange->request.host.size == 0) {
        return fail(exchange, REASON_BAD_HOST);
    }
    exchange->to_https = true;
    return exchange_enter(exchange, EXCHANGE_ANSWER);
}

/* HEAD: the head as the session parsed it, or why it is none. */
static enum progress step_head(struct exchange *exchange)
{
    enum reason reason = REASON_NONE;
    enum status status = exchange->client->ops->read_request(exchange->client, &exchange->arena,
                                                             &exchange->request, &reason);
    grpc_call_begin(exchange);
    if (status == ERROR) {
        forget_head(exchange);
    }
    forward_identify(exchange);
    exchange_note_request(exchange);
    if (status == ERROR) {
        return fail(exchange, reason);
    }
    ASSERT(status == OK); /* the session announces complete heads only */
    if (!exchange->counted) {
        return fail(exchange, REASON_REQUESTS_FULL);
    }
    if (!exchange_within_rate(exchange)) {
        return fail(exchange, REASON_CLIENT_REQUEST_RATE);
    }
    if (answer_ends_here(exchange)) {
        return exchange_enter(exchange, EXCHANGE_ANSWER);
    }
    if (connection_of_stream(exchange->client)->redirects && !origin_is_secure(exchange)) {
        return redirect_to_https(exchange);
    }
    return exchange_enter(exchange, EXCHANGE_ROUTE);
}

/*
 * A name that is served with another certificate is another place, maybe with other rules for who
 * may come in (RFC 9110, 7.4).
 */
static bool is_misdirected(const struct exchange *exchange)
{
    const struct transport *transport = &exchange->client->session->transport;
    return tls_is_on(transport) && exchange->request.host.size > 0 &&
           !tls_serves_host(transport, exchange->request.host);
}

/* Who the client is by what its handshake has shown. */
static const struct tls_certificate *client_certificate(const struct exchange *exchange)
{
    const struct transport *transport = &exchange->client->session->transport;
    return tls_is_on(transport) ? tls_client_certificate(transport) : NULL;
}

/* ROUTE: one canonical path decides. `OPTIONS *` asks the server as a whole: it goes where / goes.
 */
static enum progress step_route(struct exchange *exchange)
{
    if (is_misdirected(exchange)) {
        return fail(exchange, REASON_MISDIRECTED);
    }
    const struct generation *generation = exchange->proxy->generation;
    struct request_head *request = &exchange->request;
    struct span path = request->path;
    uint32_t index = 0;
    if (request->target_form == TARGET_ASTERISK || span_equal(path, SPAN("*"))) {
        request->path = SPAN("/");
    }
    const struct router_request wanted = {request, client_certificate(exchange)};
    bool found = router_match(generation, &wanted, &index);
    request->path = path;
    if (!found) {
        return fail(exchange, REASON_NO_ROUTE);
    }
    const struct generation_rule *rules = generation_array(generation, generation->header->rules);
    exchange->rule = &rules[index];
    exchange->route_index = exchange->rule->route;
    exchange->route = generation_route(generation, exchange->route_index);
    flight_route(exchange->proxy->flight, exchange->flight, exchange->route_index);
    return exchange_enter(exchange, EXCHANGE_ADMIT);
}

/* From here on it is the upstream's time that counts. */
static enum progress begin_forward(struct exchange *exchange)
{
    uint64_t deadline = now_of(exchange) + exchange->route->timeout;
    exchange_set_deadline(exchange, DEADLINE_TOTAL,
                          deadline < exchange->grpc.deadline ? deadline : exchange->grpc.deadline);
    attempt_begin(exchange);
    return exchange_enter(exchange, EXCHANGE_FORWARD);
}

/* ADMIT: what can be refused before anybody is troubled. */
static enum progress step_admit(struct exchange *exchange)
{
    const struct generation_route *route = exchange->route;
    const struct request_head *request = &exchange->request;
    if ((request->encoded_slash && route->allow_encoded_slash == 0) ||
        (request->encoded_backslash && route->allow_encoded_backslash == 0)) {
        return fail(exchange, REASON_AMBIGUOUS_PATH);
    }
    if (route->body_size > 0 && request->framing == FRAMING_LENGTH && !exchange->grpc.on &&
        request->content_length > route->body_size) {
        return fail(exchange, REASON_BODY_TOO_LARGE);
    }
    if (route->action != ACTION_UPSTREAM) {
        return exchange_enter(exchange, EXCHANGE_ANSWER);
    }
    enum reason reason = grpc_call_admit(exchange);
    reason = reason == REASON_NONE ? tunnel_admit(exchange) : reason;
    if (reason != REASON_NONE) {
        return fail(exchange, reason);
    }
    if (!exchange->client->in_ended && !exchange->switches) {
        exchange_begin_upload(exchange, exchange->route->hold_request);
    }
    return exchange_collects(exchange) ? exchange_enter(exchange, EXCHANGE_COLLECT)
                                       : begin_forward(exchange);
}

/* COLLECT: a slow client's body takes nobody's time but ours. */
static enum progress step_collect(struct exchange *exchange)
{
    enum reason reason = REASON_NONE;
    enum status status = exchange_collect(exchange, &reason);
    if (status == ERROR) {
        return fail(exchange, reason);
    }
    if (exchange->client->ops->is_broken(exchange->client)) {
        return fail(exchange, why_client_broke(exchange));
    }
    if (status == END) {
        return begin_forward(exchange);
    }
    return status == OK ? PROGRESS_YIELD : PROGRESS_WAIT;
}

static void open_request_lane(struct exchange *exchange)
{
    struct upload *upload = &exchange->upload;
    const struct source source = exchange_request_body(exchange);
    upload->sink = (struct stream_sink){.stream = exchange->attempt.lease.stream,
                                        .failure = REASON_UPSTREAM_CLOSED};
    const struct sink sink = lane_stream_sink(&upload->sink);
    upload->lane = (struct lane){0};
    upload->pace = (struct lane_pace){0};
    lane_open(&upload->lane, &source, &sink);
    exchange_rewind_body(exchange);
}

/*
 * Runs the request lane while the attempt takes a body. ERROR: the request cannot go on, *reason. A
 * sink that failed is not the end: the upstream may have answered early and closed.
 */
static enum status run_request_lane(struct exchange *exchange, enum reason *reason)
{
    struct lane *lane = &exchange->upload.lane;
    if (!exchange->uploads) {
        return END;
    }
    if (lane->state == LANE_CLOSED && attempt_takes_body(exchange) &&
        !exchange->attempt.lease.stream->out_ended) {
        open_request_lane(exchange);
    }
    if (!lane_is_active(lane) || !attempt_takes_body(exchange)) {
        return END;
    }
    enum status status = lane_run(lane, reason);
    if (status == ERROR && !lane->source_failed) {
        exchange_close_upload(exchange);
        return END;
    }
    if (status != ERROR) {
        exchange_pace_lane(exchange, lane, &exchange->upload.pace, DEADLINE_REQUEST);
    }
    if (status == END && !exchange->upload.replay.lost && !exchange_may_send_again(exchange)) {
        exchange_lose_replay(exchange); /* it was sent, and is not sent again */
    }
    return status;
}

/* An interim response: 100 opens the body's gate, others are passed on (RFC 9110, 15.2). */
static enum progress relay_interim(struct exchange *exchange)
{
    struct fields fields;
    exchange->interim_responses++;
    if (exchange->interim_responses > INTERIM_RESPONSES_MAX) {
        attempt_lose(exchange, REASON_BAD_RESPONSE);
        return PROGRESS_NEXT;
    }
    if (exchange->response.status == 100) {
        exchange->attempt.body_gated = false;
    } else if (exchange->request.version != HTTP_1_0) {
        if (!forward_response(exchange, &fields)) { /* the draft is sized for it */
            return fail(exchange, REASON_BUFFERS_FULL);
        }
        const struct response_message message = {.status = exchange->response.status,
                                                 .fields = &fields};
        /* Interim responses are hints: one that finds no buffer is left out. */
        if (exchange->client->ops->write_response(exchange->client, &message) == OK &&
            exchange->client->ops->flush(exchange->client) == ERROR) {
            return fail(exchange, REASON_CLIENT_CLOSED);
        }
    }
    arena_rewind(&exchange->arena, exchange->attempt.response_mark);
    return PROGRESS_NEXT;
}

/* The attempt is lost: another one, or the answer that says why. */
static enum progress after_loss(struct exchange *exchange)
{
    exchange_close_upload(exchange);
    if (!attempt_may_retry(exchange)) {
        return fail(exchange, exchange->attempt.reason);
    }
    if (exchange->uploads) {
        exchange->upload.lane = (struct lane){0};
    }
    attempt_begin(exchange);
    return PROGRESS_NEXT;
}

/* What interim responses left behind goes on its way. False: the client is gone. */
static bool send_leftovers(struct exchange *exchange)
{
    struct stream *client = exchange->client;
    return client->unsent == 0 || client->ops->flush(client) != ERROR;
}

/* FORWARD: attempts, one after the other, until one has a response head. */
static enum progress step_forward(struct exchange *exchange)
{
    enum reason reason = REASON_NONE;
    if (!send_leftovers(exchange)) {
        return fail(exchange, REASON_CLIENT_CLOSED);
    }
    enum status status = attempt_run(exchange);
    if (status == ERROR) {
        return after_loss(exchange);
    }
    if (status == OK && exchange->response.status < 200 &&
        exchange->response.framing != FRAMING_TUNNEL) {
        return relay_interim(exchange);
    }
    if (status == OK) {
        return exchange_enter(exchange, EXCHANGE_RESPOND);
    }
    status = run_request_lane(exchange, &reason);
    if (status == ERROR) {
        return fail(exchange, reason);
    }
    if (exchange->client->ops->is_broken(exchange->client)) {
        return fail(exchange, why_client_broke(exchange));
    }
    return status == OK ? PROGRESS_YIELD : PROGRESS_WAIT;
}

static void open_response_lane(struct exchange *exchange, const struct source *source)
{
    const struct request_head *request = &exchange->request;
    bool grpc = exchange->grpc.on && request->version == HTTP_2; /* it cannot do without */
    exchange->response_sink = (struct stream_sink){.stream = exchange->client,
                                                   .failure = REASON_CLIENT_CLOSED,
                                                   .trailers = request->te_trailers || grpc};
    struct sink sink = lane_stream_sink(&exchange->response_sink);
    if (exchange->step == EXCHANGE_RESPOND && exchange->route->hold_response > 0) {
        sink = exchange_hold_response(exchange, &sink);
    }
    exchange->response_lane = (struct lane){0};
    exchange->response_pace = (struct lane_pace){0};
    lane_open(&exchange->response_lane, source, &sink);
}

/*
 * A head cannot be queued: for want of buffers, or since interim responses before it wait for the
 * client. That wait is bounded like a client's.
 */
static enum progress wait_for_buffers(struct exchange *exchange)
{
    if (exchange->client->unsent == 0) {
        exchange_wait_in(exchange, &exchange->proxy->buffers.head_waiters);
    }
    if (exchange->deadlines[DEADLINE_RESPONSE] == UINT64_MAX) {
        exchange_set_deadline(exchange, DEADLINE_RESPONSE,
                              now_of(exchange) + timeouts_of(exchange)->response_write_idle);
    }
    return PROGRESS_WAIT;
}

static void describe_response(struct exchange *exchange, struct fields *fields,
                              struct response_message *message)
{
    const struct response_head *response = &exchange->response;
    bool no_body = response->framing == FRAMING_NONE;
    *message = (struct response_message){.status = response->status,
                                         .fields = fields,
                                         .framing = response->framing,
                                         .content_length = response->content_length,
                                         .head_only = no_body,
                                         .trailers = exchange->grpc.answered};
    if (response->framing == FRAMING_TUNNEL) {
        message->switching = &exchange->tunnel.granted;
    } else if (no_body) {
        message->framing = response->has_content_length ? FRAMING_LENGTH : FRAMING_NONE;
    } else if (response->framing == FRAMING_CLOSE) {
        message->framing = FRAMING_CHUNKED; /* its end will be known when it comes */
    } else if (response->framing == FRAMING_LENGTH && response->content_length == 0 &&
               !grpc_call_awaits_trailers(exchange)) {
        message->head_only = true;
        message->framing = grpc_call_is_trailers_only(exchange) ? FRAMING_NONE : FRAMING_LENGTH;
    }
}

/* RESPOND: the head goes out. From here on nothing can be taken back. */
static enum progress step_respond(struct exchange *exchange)
{
    struct fields fields;
    struct response_message message;
    if (!send_leftovers(exchange)) {
        return fail(exchange, REASON_CLIENT_CLOSED);
    }
    if (!forward_response(exchange, &fields)) { /* the draft is sized for it */
        return fail(exchange, REASON_BUFFERS_FULL);
    }
    grpc_call_note_response(exchange);
    describe_response(exchange, &fields, &message);
    enum status status = exchange->client->ops->write_response(exchange->client, &message);
    if (status == AGAIN) {
        return wait_for_buffers(exchange);
    }
    if (status == ERROR) {
        return fail(exchange, REASON_RESPONSE_HEAD_TOO_LARGE); /* with what we add to it */
    }
    exchange->status = message.status;
    exchange->relayed = true;
    exchange_lose_replay(exchange);
    exchange_set_deadline(exchange, DEADLINE_TOTAL, exchange->grpc.deadline);
    if (message.switching != NULL) {
        tunnel_open(exchange);
        return exchange_enter(exchange, EXCHANGE_TUNNEL);
    }
    const struct source source = exchange_response_body(exchange);
    open_response_lane(exchange, &source);
    return exchange_enter(exchange, EXCHANGE_RELAY);
}

/* TUNNEL: bytes of another protocol, each direction until its end. */
static enum progress step_tunnel(struct exchange *exchange)
{
    enum reason reason = REASON_NONE;
    enum status status = tunnel_run(exchange, &reason);
    if (status == ERROR) {
        if (reason == REASON_TUNNEL_BROKEN) {
            metrics_upstream_failure(exchange->proxy->metrics, exchange->route->upstream, reason);
        }
        return fail(exchange, reason);
    }
    if (status == END) {
        return exchange_enter(exchange, EXCHANGE_SETTLE);
    }
    return status == OK ? PROGRESS_YIELD : PROGRESS_WAIT;
}

static enum status run_response_lane(struct exchange *exchange, enum reason *reason)
{
    enum status status = lane_run(&exchange->response_lane, reason);
    if (status != ERROR) {
        exchange_pace_lane(exchange, &exchange->response_lane, &exchange->response_pace,
                           DEADLINE_RESPONSE);
    }
    return exchange->holds ? exchange_note_held(exchange, status) : status;
}

/*
 * Everything that was announced has left: a client that goes now has got it, whatever the upstream
 * has still to say (over HTTP/2 the end may be a frame of its own).
 */
static bool has_everything(const struct exchange *exchange)
{
    const struct stream *client = exchange->client;
    return exchange->response.framing == FRAMING_LENGTH && !exchange->grpc.answered &&
           client->bytes_out == exchange->response.content_length && client->unsent == 0;
}

/* RELAY: both bodies move, each at its own pace, until the response is through. */
static enum progress step_relay(struct exchange *exchange)
{
    enum reason reason = REASON_NONE;
    enum status response = run_response_lane(exchange, &reason);
    if (response == ERROR) {
        if (exchange->response_lane.source_failed && exchange->attempt.step != ATTEMPT_NONE) {
            metrics_upstream_failure(exchange->proxy->metrics, exchange->route->upstream, reason);
        }
        return fail(exchange, reason);
    }
    if (response == END) {
        return exchange_enter(exchange, EXCHANGE_SETTLE);
    }
    bool gone = exchange->client->ops->is_broken(exchange->client); /* a lane may just wait */
    if (gone && has_everything(exchange)) {
        lane_abort(&exchange->response_lane);
        return exchange_enter(exchange, EXCHANGE_SETTLE);
    }
    enum status request = run_request_lane(exchange, &reason);
    if (request == ERROR) {
        return fail(exchange, reason);
    }
    if (exchange->client->ops->is_broken(exchange->client)) {
        return fail(exchange, why_client_broke(exchange));
    }
    return response == OK || request == OK ? PROGRESS_YIELD : PROGRESS_WAIT;
}

/* The answer's head is too large: a redirect that keeps a long path. We say so, if we can. */
static enum progress answer_otherwise(struct exchange *exchange)
{
    if (exchange->reason != REASON_NONE) {
        return fail(exchange, exchange->reason);
    }
    exchange->reason = REASON_URI_TOO_LONG;
    return PROGRESS_NEXT;
}

/*
 * ANSWER: a response of our own, head and body, on the same lane as any other; or, where a gRPC
 * response has begun, the trailers that say why it ends.
 */
static enum progress step_answer(struct exchange *exchange)
{
    struct stream *client = exchange->client;
    if (exchange->response_lane.state == LANE_ABORTED) {
        exchange->response_lane = (struct lane){0};
    }
    if (!send_leftovers(exchange)) {
        return fail(exchange, REASON_CLIENT_CLOSED);
    }
    if (!client->out_begun) {
        struct response_message message;
        size_t mark = arena_mark(&exchange->arena);
        if (!answer_make(exchange, &message)) { /* arenas are sized for it */
            return fail(exchange, REASON_BUFFERS_FULL);
        }
        enum status written = client->ops->write_response(client, &message);
        if (written != OK) {
            arena_rewind(&exchange->arena, mark);
            return written == AGAIN ? wait_for_buffers(exchange) : answer_otherwise(exchange);
        }
        exchange->status = answer_status(exchange);
        if (message.head_only) {
            exchange->answer = (struct answer_source){0};
        }
        const struct source source = answer_as_source(exchange);
        open_response_lane(exchange, &source);
    } else if (exchange->response_lane.state == LANE_CLOSED) {
        if (!answer_make_closing(exchange)) {
            return exchange_enter(exchange, EXCHANGE_ABORT);
        }
        const struct source source = answer_as_source(exchange);
        open_response_lane(exchange, &source);
    }
    enum reason reason = REASON_NONE;
    enum status status = run_response_lane(exchange, &reason);
    if (status == ERROR) {
        return fail(exchange, reason);
    }
    if (status == END) {
        return exchange_enter(exchange, EXCHANGE_SETTLE);
    }
    return status == OK ? PROGRESS_YIELD : PROGRESS_WAIT;
}

struct step {
    const char *name;
    enum progress (*run)(struct exchange *exchange);
    bool request_lane; /* may move */
    bool response_lane;
    bool committed;
    bool retry;
};

static const struct step STEPS[EXCHANGE_STEP_COUNT] = {
#define STEP(name, function, request, response, committed, retry)                                  \
    [EXCHANGE_##name] = {#name, function, request, response, committed, retry},
#include "proxy/exchange.def"
#undef STEP
};

/* The invariants of the step that the exchange stands in, after each step function. */
static void check(const struct exchange *exchange)
{
    ASSERT((unsigned)exchange->step < EXCHANGE_STEP_COUNT);
    const struct step *step = &STEPS[exchange->step];
    ASSERT(step->request_lane || !exchange_is_uploading(exchange) ||
           exchange->step == EXCHANGE_SETTLE);
    ASSERT(step->response_lane || !lane_is_active(&exchange->response_lane));
    ASSERT(!step->retry || !exchange->client->out_begun);
    ASSERT(exchange->step != EXCHANGE_RELAY || exchange->client->out_begun);
    ASSERT(exchange->client->holder == exchange);
}

/* The timer stands at the earliest deadline. */
static void arm_timer(struct exchange *exchange)
{
    uint64_t earliest = UINT64_MAX;
    for (int i = 0; i < DEADLINE_COUNT; i++) {
        if (exchange->deadlines[i] < earliest) {
            earliest = exchange->deadlines[i];
        }
    }
    timer_set(&exchange->proxy->wheel, &exchange->timer, earliest);
}

void exchange_wake(struct exchange *exchange)
{
    if (!list_is_linked(&exchange->run_link)) {
        list_push_back(&exchange->proxy->runnable, &exchange->run_link);
    }
}

void exchange_run(struct exchange *exchange)
{
    flight_doing(exchange->proxy->flight, FLIGHT_EXCHANGE, exchange->flight);
    for (int transitions = 0; transitions < TRANSITIONS_MAX; transitions++) {
        exchange_note_stage(exchange);
        enum progress progress = STEPS[exchange->step].run(exchange);
        if (progress == PROGRESS_GONE) {
            return;
        }
        check(exchange);
        if (progress == PROGRESS_WAIT) {
            arm_timer(exchange);
            return;
        }
        if (progress == PROGRESS_YIELD) {
            arm_timer(exchange);
            exchange_wake(exchange);
            return;
        }
    }
    UNREACHABLE("an exchange makes a bounded number of transitions in one run");
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t exchange_draft_size(const struct http1_limits *limits, size_t security_fields)
{
    /* The fields, and the request's chains of addresses. */
    return sizeof(struct field) * (limits->fields_max + FORWARD_FIELDS_ADDED + security_fields) +
           FORWARD_NOMINATIONS_SIZE + sizeof(struct fields) + PIECE +
           ORIGIN_CHAINS * limits->head_max + NOTES_MAX;
}

size_t exchange_arena_size(const struct http1_limits *limits)
{
    const size_t trailers = HTTP1_TRAILERS_ARENA_MAX + sizeof(struct http1_chunked) + PIECE;
    /* All along: the request, what we found out of it, its trailers. */
    const size_t parsing = limits->head_max + http1_arena_max(limits) + PIECE;
    const size_t kept = limits->head_max + http1_request_arena_kept(limits) + PIECE + NOTES_MAX;
    /* Then the response, and either its trailers or an answer of ours. */
    const size_t response = limits->head_max + http1_response_arena_kept(limits) + PIECE;
    const size_t answering = response + larger(trailers, ANSWER_ARENA_MAX);
    /* A redirect repeats the path, which may fill a line by its escapes, and two thirds of a line
     * of query, which is what such a path leaves. */
    const size_t redirecting = limits->request_line_max * 5 / 3 + ANSWER_ARENA_MAX;
    return larger(parsing, kept + trailers + larger(answering, redirecting));
}

bool exchange_begin(struct proxy *proxy, struct stream *client)
{
    struct exchange *exchange = slab_acquire(&proxy->exchanges);
    if (exchange == NULL) {
        const struct connection *connection = connection_of_stream(client);
        exchange_record_refused(proxy, &(struct refused_request){.peer = &connection->peer,
                                                                 .listener = connection->listener,
                                                                 .reason = REASON_REQUESTS_FULL,
                                                                 .began = client->began});
        return false;
    }
    memset(exchange, 0, offsetof(struct exchange, request_id));
    exchange->proxy = proxy;
    exchange->client = client;
    exchange->step = EXCHANGE_HEAD;
    exchange->route_index = METRICS_NO_ROUTE;
    exchange->queue_time = ACCESS_NO_TIME;
    exchange->connect_time = ACCESS_NO_TIME;
    exchange->first_byte_time = ACCESS_NO_TIME;
    exchange->began = client->began;
    exchange->wall_began = io_wall(proxy->io) - (io_now(proxy->io) - exchange->began);
    exchange->request.max_forwards = UINT64_MAX;
    exchange->request.version = HTTP_1_1;
    exchange->counted = shedding_admits_request(proxy);
    if (exchange->counted) {
        client_counts_set_requests(&proxy->clients, ++proxy->requests_open);
    }
    metrics_add(proxy->metrics, METRIC_REQUESTS_IN_FLIGHT, 1);
    for (int i = 0; i < DEADLINE_COUNT; i++) {
        exchange->deadlines[i] = UINT64_MAX;
    }
    list_init(&exchange->run_link);
    list_init(&exchange->wait_link);
    list_init(&exchange->response_stall.link);
    timer_init(&exchange->timer, TIMER_EXCHANGE);
    arena_init(&exchange->arena, exchange + 1, proxy->arena_size);
    client->holder = exchange;
    if (proxy->access_log->tells_tls) {
        exchange_note_tls(exchange);
    }
    exchange_note_begin(exchange);
    exchange_wake(exchange);
    return true;
}
