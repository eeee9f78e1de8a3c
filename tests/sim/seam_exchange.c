/*
 * One request of a story, between a client's stream and one or two upstreams', of whatever
 * protocol. Its parts move as they can; what may wait for what is all there is to it:
 *
 *    READ ---> REPLAY ---> RACE ---> RESPOND ---> DRAIN ---> over
 *     |          |          |           |
 *     +----------+----------+-----------+--> REFUSE -------> over
 *
 * REPLAY: a hedged request's body is kept, so that both attempts can read it. RACE: the request is
 * on its way, nobody has answered. RESPOND: one has, and the rest of the request goes on beside it.
 * DRAIN: an early response is out, the rest of the request is read and forgotten.
 */
#include <stdalign.h>
#include <stdlib.h>

#include "base/assert.h"
#include "seam_filter.h"

enum {
    ATTEMPTS = 2,
    ARENA_SIZE = 24 * 1024,
    REPLAY_MAX = 16 * 1024,
    IDLE_RUNS_MAX = 20000,          /* more than bytes can come in one by one, unread */
    REFUSAL_PATIENCE = 10 * SECOND, /* for a client that does not take a refusal */
};

enum exchange_step { STEP_READ, STEP_REPLAY, STEP_RACE, STEP_RESPOND, STEP_REFUSE, STEP_DRAIN };

struct attempt {
    struct seam_exchange *exchange;
    struct stream *stream; /* NULL: not begun, or over */
    bool begun;
    bool head_sent;
    bool answered;
    struct lane lane;
    struct stream_sink sink;
    size_t replayed;
    struct response_head head;
    struct arena arena;
    alignas(max_align_t) uint8_t memory[ARENA_SIZE];
};

struct seam_exchange {
    struct seam_task task;
    struct stream *client;
    enum exchange_step step;
    bool over;
    struct request_head request;
    uint32_t number; /* in the ledger */
    struct attempt attempts[ATTEMPTS];
    struct attempt *winner;
    bool hedged;
    uint64_t hedge_at;
    uint64_t deadline;
    uint32_t idle_runs; /* since something moved */
    uint64_t seen;      /* the sum of all that moved, at the last look */
    struct lane side;   /* from the client into the replay buffer, or into nothing */
    struct lane response;
    struct stream_sink response_sink;
    bool response_begun;
    struct seam_filter request_filter;
    struct seam_filter response_filter;
    enum reason reason; /* why it is refused */
    bool refusal_sent;
    size_t replay_size;
    uint8_t replay[REPLAY_MAX];
    struct arena arena;
    alignas(max_align_t) uint8_t memory[ARENA_SIZE];
};

static struct seam *seam_of(const struct seam_exchange *exchange)
{
    return exchange->task.seam;
}

static void end_attempt(struct attempt *attempt, bool keep)
{
    lane_abort(&attempt->lane);
    if (attempt->stream != NULL) {
        struct stream *stream = attempt->stream;
        attempt->stream = NULL;
        seam_release(seam_of(attempt->exchange), stream, keep);
    }
}

static void finish(struct seam_exchange *exchange, bool keep)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        end_attempt(&exchange->attempts[i], keep);
    }
    seam_filter_close(&exchange->request_filter);
    seam_filter_close(&exchange->response_filter);
    seam_release(seam_of(exchange), exchange->client, keep);
    seam_task_deinit(&exchange->task);
    exchange->over = true;
}

/* Answers the client ourselves, or shows it that its response ends here. */
static void refuse(struct seam_exchange *exchange, enum reason reason)
{
    ASSERT(reason != REASON_NONE);
    sim_note(seam_of(exchange)->io, "exchange %u: %s", exchange->number,
             reason_info(reason)->label);
    lane_abort(&exchange->side);
    lane_abort(&exchange->response);
    for (int i = 0; i < ATTEMPTS; i++) {
        end_attempt(&exchange->attempts[i], false);
    }
    if (exchange->client->out_begun || reason_info(reason)->status == 0) {
        finish(exchange, false);
        return;
    }
    exchange->reason = reason;
    exchange->step = STEP_REFUSE;
}

/* ---- sinks and sources of its own ---- */

static size_t replay_room(void *self)
{
    return REPLAY_MAX - ((struct seam_exchange *)self)->replay_size;
}

static enum status replay_write(void *self, struct span bytes, enum reason *reason)
{
    struct seam_exchange *exchange = self;
    (void)reason;
    memcpy(exchange->replay + exchange->replay_size, bytes.data, bytes.size);
    exchange->replay_size += bytes.size;
    return OK;
}

static size_t void_room(void *self)
{
    (void)self;
    return SIZE_MAX;
}

static enum status void_write(void *self, struct span bytes, enum reason *reason)
{
    (void)self, (void)bytes, (void)reason;
    return OK;
}

static enum status no_end(void *self, const struct fields *trailers, enum reason *reason)
{
    (void)self, (void)trailers, (void)reason;
    return OK;
}

static enum status no_flush(void *self, enum reason *reason)
{
    (void)self, (void)reason;
    return OK;
}

static enum status replay_read(void *self, size_t max, struct span *bytes, enum reason *reason)
{
    struct attempt *attempt = self;
    const struct seam_exchange *exchange = attempt->exchange;
    size_t left = exchange->replay_size - attempt->replayed;
    size_t size = left < max ? left : max;
    (void)reason;
    *bytes = span_of(exchange->replay + attempt->replayed, size);
    attempt->replayed += size;
    return size == 0 ? END : OK;
}

static void open_side(struct seam_exchange *exchange, bool keeps)
{
    struct source source = lane_stream_source(exchange->client);
    struct sink sink = {.room = keeps ? replay_room : void_room,
                        .write = keeps ? replay_write : void_write,
                        .end = no_end,
                        .flush = no_flush,
                        .self = exchange};
    exchange->side = (struct lane){0};
    lane_open(&exchange->side, &source, &sink);
}

/* ---- the request ---- */

/* Waits for buffers where they are what is missing; else a stream of its own will wake it. */
static void wait_for(struct seam_exchange *exchange, const struct stream *stream)
{
    if (stream->starved) {
        seam_wait_for_buffers(&exchange->task);
    }
}

static void begin_attempt(struct seam_exchange *exchange, uint32_t index)
{
    struct seam *seam = seam_of(exchange);
    struct attempt *attempt = &exchange->attempts[index];
    const struct address address =
        origin_address((exchange->number + index) % seam->world->habits.origins);
    attempt->begun = true;
    attempt->exchange = exchange;
    arena_init(&attempt->arena, attempt->memory, sizeof(attempt->memory));
    attempt->stream = seam_connect(seam, &address, &exchange->task);
    if (attempt->stream == NULL) {
        return;
    }
    attempt->sink = (struct stream_sink){attempt->stream, REASON_UPSTREAM_CLOSED, false};
    struct source source =
        exchange->hedged ? (struct source){.read = replay_read, .trailers = NULL, .self = attempt}
                         : lane_stream_source(exchange->client);
    struct sink sink = lane_stream_sink(&attempt->sink);
    bool held = exchange->request.framing != FRAMING_NONE && seam->manners.hold_max > 0 &&
                sim_chance(&seam->prng, 600);
    if (held) {
        seam_filter_open(&exchange->request_filter, &exchange->task, &sink,
                         (uint8_t)exchange->number);
        sink = seam_filter_sink(&exchange->request_filter);
    }
    lane_open(&attempt->lane, &source, &sink);
}

static bool read_request(struct seam_exchange *exchange)
{
    struct seam *seam = seam_of(exchange);
    struct request_head *request = &exchange->request;
    enum reason reason = REASON_NONE;
    enum status status =
        exchange->client->ops->read_request(exchange->client, &exchange->arena, request, &reason);
    if (status != OK) {
        if (status == ERROR) {
            refuse(exchange, reason);
        }
        return status == ERROR;
    }
    exchange->number = (uint32_t)digits_at(request->path, sizeof("/x/") - 1);
    bool small = request->framing == FRAMING_NONE ||
                 (request->framing == FRAMING_LENGTH && request->content_length <= REPLAY_MAX);
    exchange->hedged =
        seam->manners.hedge_after > 0 && small && method_is_idempotent(request->method);
    exchange->step = STEP_RACE;
    if (exchange->hedged) {
        exchange->step = STEP_REPLAY;
        open_side(exchange, true);
    } else {
        begin_attempt(exchange, 0);
    }
    return true;
}

static bool fill_replay(struct seam_exchange *exchange)
{
    enum reason reason = REASON_NONE;
    enum status status = lane_run(&exchange->side, &reason);
    if (status == END) {
        struct seam *seam = seam_of(exchange);
        exchange->step = STEP_RACE;
        exchange->hedge_at = io_now(seam->io) + seam->manners.hedge_after;
        begin_attempt(exchange, 0);
        return true;
    }
    if (status == ERROR) {
        refuse(exchange, reason);
    }
    return status == OK || status == ERROR;
}

static enum status send_head(struct seam_exchange *exchange, struct attempt *attempt)
{
    const struct request_head *request = &exchange->request;
    const struct request_message message = {
        .method = request->method_text,
        .path = request->path,
        .query = request->query,
        .host = request->host,
        .fields = &request->fields,
        /* Whoever may change the body must not have told its length. */
        .framing =
            seam_filter_is_used(&exchange->request_filter) ? FRAMING_CHUNKED : request->framing,
        .content_length = request->content_length,
    };
    enum status status = attempt->stream->ops->write_request(attempt->stream, &message);
    if (status == AGAIN) {
        wait_for(exchange, attempt->stream);
    }
    attempt->head_sent = status == OK;
    return status;
}

/* A dropped body is the ledger's matter, too. Only what was held can be dropped. */
static void note_drop(struct seam_exchange *exchange)
{
    struct ledger *ledger = &seam_of(exchange)->world->ledger;
    if (exchange->request_filter.verdict == VERDICT_DROP) {
        ledger_get(ledger, exchange->number)->body_dropped = true;
    }
    if (exchange->response_filter.verdict == VERDICT_DROP) {
        const struct field *mark =
            fields_find_name(&exchange->winner->head.fields, SPAN("X-Exchange"));
        size_t dash = span_find(mark->value, '-');
        ledger_get(ledger, exchange->number)->attempt[digits_at(mark->value, dash + 1)].size = 0;
    }
}

/*
 * Moves the request towards one upstream. A sink that fails is not the end: an answer may have come
 * before. A source that fails, and a verdict, are. ERROR: the exchange is over or refused.
 */
static enum status run_request(struct seam_exchange *exchange, struct attempt *attempt)
{
    struct seam_filter *filter = &exchange->request_filter;
    bool undecided = seam_filter_is_used(filter) && filter->verdict == VERDICT_PENDING;
    bool refused = seam_filter_is_used(filter) && filter->verdict == VERDICT_FAIL;
    enum reason reason = REASON_NONE;
    if (!attempt->head_sent && !undecided && !refused) {
        note_drop(exchange);
        enum status status = send_head(exchange, attempt);
        if (status != OK) {
            return AGAIN;
        }
    }
    if (!lane_is_active(&attempt->lane)) {
        return OK;
    }
    enum status status = lane_run(&attempt->lane, &reason);
    if (undecided) {
        ASSERT(filter->verdict == VERDICT_FAIL || attempt->lane.bytes <= filter->hold_max);
        ASSERT(attempt->lane.bytes == exchange->client->bytes_in); /* nobody keeps a remainder */
    }
    if (status == OK) {
        seam_wake(&exchange->task);
    }
    if (status == AGAIN) {
        /* Of the client: a 100 Continue that found no buffer. */
        bool sink = attempt->lane.waits == LANE_WAITS_SINK;
        wait_for(exchange, sink ? attempt->stream : exchange->client);
    }
    if (status == ERROR && (attempt->lane.source_failed || filter->verdict == VERDICT_FAIL)) {
        refuse(exchange, reason);
        return ERROR;
    }
    return AGAIN;
}

/* OK: the final head is there. AGAIN: not yet. ERROR: this attempt fails. */
static enum status read_head(struct seam_exchange *exchange, struct attempt *attempt,
                             enum reason *reason)
{
    enum status status = OK;
    do {
        arena_reset(&attempt->arena);
        status = attempt->stream->ops->read_response(
            attempt->stream, &attempt->arena, exchange->request.method, &attempt->head, reason);
    } while (status == OK && attempt->head.status < 200 && attempt->head.status != 101);
    if (status == OK && attempt->head.status == 101) {
        *reason = REASON_BAD_RESPONSE;
        return ERROR;
    }
    return status;
}

/* False: the exchange has come to an end in it. */
static bool run_attempt(struct seam_exchange *exchange, struct attempt *attempt)
{
    enum reason reason = REASON_CONNECT_FAILED;
    enum status status = seam_connected(attempt->stream);
    if (status == OK) {
        if (run_request(exchange, attempt) == ERROR) {
            return false;
        }
        status = AGAIN;
        if (attempt->head_sent) {
            (void)attempt->stream->ops->flush(attempt->stream);
            status = read_head(exchange, attempt, &reason);
        }
    }
    attempt->answered = status == OK;
    if (status == ERROR) {
        end_attempt(attempt, false);
        exchange->reason = reason;
    }
    return true;
}

static struct sink response_sink(struct seam_exchange *exchange)
{
    struct seam *seam = seam_of(exchange);
    exchange->response_sink = (struct stream_sink){exchange->client, REASON_CLIENT_CLOSED, false};
    struct sink sink = lane_stream_sink(&exchange->response_sink);
    if (seam->manners.hold_max > 0 && exchange->winner->head.framing != FRAMING_NONE &&
        sim_chance(&seam->prng, 600)) {
        seam_filter_open(&exchange->response_filter, &exchange->task, &sink,
                         (uint8_t)exchange->number);
        return seam_filter_sink(&exchange->response_filter);
    }
    return sink;
}

/* The first head wins; no byte of the loser's body has been read, so none can have got through. */
static void settle_race(struct seam_exchange *exchange, struct attempt *winner)
{
    exchange->winner = winner;
    exchange->step = STEP_RESPOND;
    for (int i = 0; i < ATTEMPTS; i++) {
        struct attempt *attempt = &exchange->attempts[i];
        if (attempt != winner && attempt->stream != NULL) {
            ASSERT(attempt->stream->bytes_in == 0);
            sim_note(seam_of(exchange)->io, "exchange %u: attempt %d wins", exchange->number,
                     1 - i);
            end_attempt(attempt, true);
        }
    }
    struct source source = lane_stream_source(winner->stream);
    struct sink sink = response_sink(exchange);
    lane_open(&exchange->response, &source, &sink);
}

static bool race(struct seam_exchange *exchange)
{
    uint64_t now = io_now(seam_of(exchange)->io);
    uint32_t alive = 0;
    for (uint32_t i = 0; i < ATTEMPTS; i++) {
        struct attempt *attempt = &exchange->attempts[i];
        bool due = exchange->hedged && (now >= exchange->hedge_at || alive == 0);
        if (!attempt->begun && due) {
            begin_attempt(exchange, i);
        }
        if (attempt->stream != NULL && !run_attempt(exchange, attempt)) {
            return true;
        }
        if (attempt->answered) {
            settle_race(exchange, attempt);
            return true;
        }
        alive += attempt->stream != NULL;
    }
    if (alive == 0) {
        refuse(exchange,
               exchange->reason != REASON_NONE ? exchange->reason : REASON_CONNECT_FAILED);
    }
    return alive == 0;
}

/* ---- the response ---- */

static enum status begin_response(struct seam_exchange *exchange)
{
    const struct response_head *head = &exchange->winner->head;
    bool unknown =
        head->framing == FRAMING_CLOSE || seam_filter_is_used(&exchange->response_filter);
    struct response_message message = {
        .status = head->status,
        .fields = &head->fields,
        .framing = unknown ? FRAMING_CHUNKED : head->framing,
        .content_length = head->content_length,
        .head_only = head->framing == FRAMING_NONE,
    };
    if (message.head_only && head->has_content_length) {
        message.framing = FRAMING_LENGTH;
    }
    note_drop(exchange);
    enum status status = exchange->client->ops->write_response(exchange->client, &message);
    exchange->response_begun = status == OK;
    if (status == AGAIN) {
        wait_for(exchange, exchange->client);
    }
    return status;
}

/* The response is out. What remains of an early answered request is read, or cut off. */
static bool conclude(struct seam_exchange *exchange)
{
    struct seam *seam = seam_of(exchange);
    bool early = lane_is_active(&exchange->winner->lane) || !exchange->client->in_ended;
    if (!early) {
        finish(exchange, true);
        return true;
    }
    bool drains = sim_chance(&seam->prng, seam->manners.drains) && !exchange->client->closing;
    sim_note(seam->io, "exchange %u: an early response, the request is %s", exchange->number,
             drains ? "drained" : "cut off");
    if (!drains) {
        finish(exchange, true);
        return true;
    }
    end_attempt(exchange->winner, false);
    open_side(exchange, false);
    exchange->step = STEP_DRAIN;
    return true;
}

static bool respond(struct seam_exchange *exchange)
{
    struct attempt *winner = exchange->winner;
    struct seam_filter *filter = &exchange->response_filter;
    bool undecided = seam_filter_is_used(filter) && filter->verdict == VERDICT_PENDING;
    bool refused = seam_filter_is_used(filter) && filter->verdict == VERDICT_FAIL;
    enum reason reason = REASON_NONE;
    if (lane_is_active(&winner->lane) && run_request(exchange, winner) == ERROR) {
        return true;
    }
    if (!exchange->response_begun && !undecided && !refused && begin_response(exchange) != OK) {
        return false;
    }
    enum status status = lane_run(&exchange->response, &reason);
    if (undecided) {
        ASSERT(filter->verdict == VERDICT_FAIL || exchange->response.bytes <= filter->hold_max);
        ASSERT(exchange->response.bytes == winner->stream->bytes_in);
    }
    if (status == END) {
        return conclude(exchange);
    }
    if (status == ERROR) {
        refuse(exchange, reason);
        return true;
    }
    if (exchange->response.waits == LANE_WAITS_SINK && !undecided) {
        wait_for(exchange, exchange->client);
    }
    return status == OK;
}

static bool drain(struct seam_exchange *exchange)
{
    enum reason reason = REASON_NONE;
    enum status status = lane_run(&exchange->side, &reason);
    if (status == END || status == ERROR) {
        finish(exchange, status == END);
        return true;
    }
    return status == OK;
}

static bool send_refusal(struct seam_exchange *exchange)
{
    struct stream *client = exchange->client;
    enum status status = OK;
    if (!client->out_begun) {
        const struct response_message message = {
            .status = reason_info(exchange->reason)->status,
            .framing = FRAMING_LENGTH,
            .close = true,
        };
        status = client->ops->write_response(client, &message);
    }
    if (status == OK && !client->out_ended) {
        status = client->ops->write_end(client, NULL);
    }
    if (status == AGAIN) {
        wait_for(exchange, client);
        return false;
    }
    if (status == OK) {
        status = client->ops->flush(client);
    }
    if (status != AGAIN) {
        finish(exchange, status == OK);
    }
    return status != AGAIN;
}

/* ---- the task ---- */

static uint64_t moved_by(const struct stream *stream)
{
    return stream == NULL ? 1 : stream->bytes_in + stream->bytes_out + stream->progress_out;
}

/* Any progress puts the deadline off. Who is run over and over for nothing waits for nothing. */
static void set_deadline(struct seam_exchange *exchange)
{
    struct seam *seam = seam_of(exchange);
    uint64_t moved = moved_by(exchange->client) + (uint64_t)exchange->step;
    for (int i = 0; i < ATTEMPTS; i++) {
        moved += moved_by(exchange->attempts[i].stream);
    }
    exchange->idle_runs = moved != exchange->seen ? 0 : exchange->idle_runs + 1;
    if (exchange->idle_runs > IDLE_RUNS_MAX) {
        run_failed("exchange %u was run %d times for nothing", exchange->number, IDLE_RUNS_MAX);
    }
    if (moved != exchange->seen || exchange->deadline == 0) {
        uint64_t patience = seam->manners.patience;
        if (exchange->step == STEP_REFUSE && patience > REFUSAL_PATIENCE) {
            patience = REFUSAL_PATIENCE;
        }
        exchange->seen = moved;
        exchange->deadline = io_now(seam->io) + patience;
    }
    bool hedges = exchange->step == STEP_RACE && exchange->hedged && !exchange->attempts[1].begun;
    bool sooner = hedges && exchange->hedge_at < exchange->deadline;
    timer_set(&seam->wheel, &exchange->task.timer,
              sooner ? exchange->hedge_at : exchange->deadline);
}

static bool run_step(struct seam_exchange *exchange)
{
    switch (exchange->step) {
    case STEP_READ:
        return read_request(exchange);
    case STEP_REPLAY:
        return fill_replay(exchange);
    case STEP_RACE:
        return race(exchange);
    case STEP_RESPOND:
        return respond(exchange);
    case STEP_REFUSE:
        return send_refusal(exchange);
    case STEP_DRAIN:
        return drain(exchange);
    }
    UNREACHABLE("an exchange in no step");
}

static void run(struct seam_task *task)
{
    struct seam_exchange *exchange = CONTAINER_OF(task, struct seam_exchange, task);
    if (!exchange->over && exchange->client->ops->is_broken(exchange->client)) {
        finish(exchange, false);
    }
    enum { STEPS = 8 };
    bool more = true;
    for (int i = 0; i < STEPS && more && !exchange->over; i++) {
        more = run_step(exchange);
    }
    if (exchange->over) {
        free(exchange);
        return;
    }
    if (more) {
        seam_wake(task);
    }
    set_deadline(exchange);
}

static void expire(struct seam_task *task)
{
    struct seam_exchange *exchange = CONTAINER_OF(task, struct seam_exchange, task);
    bool late = io_now(seam_of(exchange)->io) >= exchange->deadline;
    if (late && exchange->step == STEP_REFUSE) {
        finish(exchange, false);
    } else if (late) {
        refuse(exchange, REASON_UPSTREAM_TIMEOUT);
    }
    run(task);
}

void seam_exchange_begin(struct seam *seam, struct stream *stream)
{
    struct seam_exchange *exchange = calloc(1, sizeof(*exchange));
    ASSERT(exchange != NULL);
    exchange->task.run = run;
    exchange->task.expire = expire;
    seam_task_init(&exchange->task, seam);
    arena_init(&exchange->arena, exchange->memory, sizeof(exchange->memory));
    exchange->client = stream;
    stream->holder = &exchange->task;
    seam_wake(&exchange->task);
}

/* ---- the stories of HTTP/1 clients ---- */

const struct seam_story seam_plain = {
    .session_create = seam_http1_create,
    .session_start = seam_http1_start,
    .head = seam_exchange_begin,
};

static void begin_holding(struct seam *seam)
{
    seam->actors = seam_agent_create(seam);
}

static void end_holding(struct seam *seam)
{
    seam_agent_destroy(seam->actors);
}

const struct seam_story seam_holding = {
    .begin = begin_holding,
    .end = end_holding,
    .session_create = seam_http1_create,
    .session_start = seam_http1_start,
    .head = seam_exchange_begin,
};
