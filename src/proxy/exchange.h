/*
 * An exchange is the story of one request: born when its head is complete or refused, it routes,
 * admits, forwards (through attempts, proxy/attempt.h), relays or answers, settles and leaves one
 * record in the access log. It is a machine of named steps (exchange.def); the dispatcher runs them
 * until one has to wait, checks the step's invariants and bounds the transitions of one run.
 *
 * It holds one stream on the client's side and, through its attempt, one on the upstream's. It
 * lives in a slab of the worker with its arena behind it; nothing else is allocated for a request.
 */
#ifndef SENTINEL_PROXY_EXCHANGE_H
#define SENTINEL_PROXY_EXCHANGE_H

#include "proxy/attempt.h"
#include "proxy/grpc_call.h"
#include "proxy/hold_filter.h"
#include "proxy/lane.h"
#include "proxy/proxy.h"
#include "proxy/tunnel.h"

enum exchange_step {
#define STEP(name, function, request, response, committed, retry) EXCHANGE_##name,
#include "proxy/exchange.def"
#undef STEP
    EXCHANGE_STEP_COUNT
};

/* The deadlines of an exchange; the timer stands at the earliest. */
enum exchange_deadline {
    DEADLINE_TOTAL,    /* until the response head; a gRPC call's own: until its end */
    DEADLINE_STEP,     /* of the attempt's step */
    DEADLINE_REQUEST,  /* the request lane makes no progress */
    DEADLINE_RESPONSE, /* the response lane makes no progress */
    DEADLINE_COUNT
};

/* Whose word of where the request came from is taken, behind a trusted proxy; see origin.h. */
enum origin_chain { ORIGIN_X_FORWARDED, ORIGIN_FORWARDED, ORIGIN_DISPUTED };

/* How a lane has been moving, for its idle deadline and its minimum rate. */
struct lane_pace {
    uint64_t progress; /* bytes that had moved when the deadline was set */
    uint64_t idle_deadline;
    uint64_t window_began; /* of the rate's window; 0: none */
    uint64_t window_bytes; /* lane bytes at its begin */
    uint64_t acknowledged; /* by whom a lane waits for that writes, when that was looked at last */
    bool looked;           /* since it began to wait */
    enum lane_wait waits;
};

/* The beginning of a request body, kept so that it can be sent again. */
struct replay {
    struct byte_queue bytes;
    size_t offset; /* of what the current attempt has read */
    bool lost;     /* it grew too large, or there is no need: the body cannot be sent again */
};

/* The body of an answer of our own, in two parts. */
struct answer_source {
    struct span front; /* static */
    struct span body;
    const struct fields *trailers; /* NULL: none */
    size_t offset;                 /* of what the lane has read, over both */
};

/* What moves the body of a request. */
struct upload {
    struct lane lane;
    struct lane_pace pace;
    struct stall stall;
    struct stream_sink sink;
    struct replay replay;
    struct hold held; /* what was collected before the first attempt, see exchange_collect */
};

/*
 * What the access record is to tell of TLS, in the arena: taken at the begin, since the connection
 * may be gone at the end.
 */
struct exchange_tls {
    struct tls_info info;
    struct tls_certificate client; /* empty where none was shown */
};

enum {
    /* Arena bytes of it, where records tell of it. */
    EXCHANGE_TLS_MAX = sizeof(struct exchange_tls) + TLS_HOST_NAME_MAX + TLS_SUBJECT_MAX +
                       TLS_FINGERPRINT_SIZE + 64
};

/*
 * Its members stand in the order in which a request touches them: thousands in flight are more than
 * the caches hold, and then each line is waited for. First what every run looks at and what the
 * response needs, then what is set once when the head is read, last what few requests need.
 */
struct exchange {
    _Alignas(max_align_t) struct proxy *proxy; /* the arena behind us is aligned, too */
    struct stream *client;
    enum exchange_step step;
    uint32_t flight;       /* its slot in the flight recorder */
    uint16_t stage;        /* step and attempt's step, as the flight recorder knows them */
    uint16_t status;       /* of the response that was sent; 0: none */
    enum reason reason;    /* why it failed; the first one counts */
    bool counted;          /* it counts against max-requests */
    bool relayed;          /* the response was the upstream's */
    bool to_https;         /* it is answered with a redirect there, whatever its route */
    bool uploads;          /* it was admitted with a body, or is a tunnel: `upload` is set */
    bool switches;         /* it asks to switch protocols, and may: `tunnel` is set */
    bool holds;            /* the response's lane has a filter: `response_hold` is set */
    uint32_t retry_after;  /* seconds, for an answer that refuses; 0: not said */
    struct list run_link;  /* in proxy->runnable, while it is to run */
    struct list wait_link; /* in a list of waiters for buffers or connections */
    struct timer timer;
    uint64_t deadlines[DEADLINE_COUNT];
    uint64_t began; /* first byte of the head */
    struct attempt attempt;
    uint64_t first_byte_time; /* ACCESS_NO_TIME where it never happened, like the next two */
    uint64_t connect_time;
    uint64_t queue_time;
    struct arena arena;
    struct response_head response;
    struct stream_sink response_sink;
    struct lane response_lane;
    struct lane_pace response_pace;
    struct stall response_stall;
    uint32_t interim_responses;
    uint32_t route_index;                 /* METRICS_NO_ROUTE without a route */
    const struct generation_route *route; /* NULL: none yet */
    const struct generation_rule *rule;

    struct grpc_call grpc;
    const struct exchange_tls *tls; /* of its connection; NULL: not asked for, or plain */
    uint64_t drained;               /* bytes of a request body read only to be forgotten */
    uint64_t wall_began;            /* as `began`, on the wall clock */
    struct request_head request;
    struct address client_address; /* behind trusted proxies: who they say it is */
    enum origin_chain chain;       /* in what they said it */
    uint32_t request_id_size;

    /* From here on set before it is read, and not at the begin. */
    uint8_t request_id[REQUEST_ID_SIZE_MAX];
    struct answer_source answer;
    struct upload upload;
    struct tunnel tunnel;
    struct hold_filter response_hold;
};

/* Bytes of arena that any request within these limits can need. */
size_t exchange_arena_size(const struct http1_limits *limits);

/*
 * Bytes that forwarding one message within these limits can need, where routes set at most so many
 * security fields. One place of them does for a worker: see proxy.draft.
 */
size_t exchange_draft_size(const struct http1_limits *limits, size_t security_fields);

/*
 * Begins an exchange on a client's stream that holds a complete or refused head. It becomes the
 * stream's holder and is made runnable. False without memory for it: that is recorded, and
 * the caller gives the stream back.
 */
NODISCARD bool exchange_begin(struct proxy *proxy, struct stream *client);

/*
 * Counts the request against its client's rate, over all workers. False: it is one too many, and
 * retry_after is set. exchange_admit.c
 */
NODISCARD bool exchange_within_rate(struct exchange *exchange);

/* Runs it until it waits or ends. It may be gone afterwards. */
void exchange_run(struct exchange *exchange);

/* Its timer is due: takes the consequences of the deadline that passed; it is then runnable. */
void exchange_expire(struct exchange *exchange);

/* The worker is giving up on it: it fails with this reason; runnable. */
void exchange_abort(struct exchange *exchange, enum reason reason);

/* Whether its request's body is on the way to an upstream, or being collected. */
static inline bool exchange_is_uploading(const struct exchange *exchange)
{
    return exchange->uploads && lane_is_active(&exchange->upload.lane);
}

/* Makes it run in this turn (or the next, when it is running now). Harmless twice. */
void exchange_wake(struct exchange *exchange);

/*
 * Records the failure and turns to ANSWER, or to ABORT where no answer is possible any more. Ends
 * the attempt and both lanes. The first reason is the exchange's; one that befalls its answer is
 * counted in the metrics only.
 */
void exchange_fail(struct exchange *exchange, enum reason reason);

/*
 * After a run of a lane: sets its idle deadline (and the window of its rate), and waits for buffers
 * if they are what is short. exchange_pace.c
 */
void exchange_pace_lane(struct exchange *exchange, const struct lane *lane, struct lane_pace *pace,
                        enum exchange_deadline which);

/* Tells the flight recorder where it stands, if that is new. */
static inline void exchange_note_stage(struct exchange *exchange)
{
    unsigned stage = (unsigned)exchange->attempt.step << 8 | (unsigned)exchange->step;
    if (stage != exchange->stage) {
        exchange->stage = (uint16_t)stage;
        flight_step(exchange->proxy->flight, exchange->flight, exchange->step,
                    exchange->attempt.step, io_now(exchange->proxy->io));
    }
}

/* Tells the flight recorder that the exchange has begun. exchange_record.c */
void exchange_note_begin(struct exchange *exchange);

/* Takes what the record is to tell of the connection's TLS. exchange_record.c */
void exchange_note_tls(struct exchange *exchange);

/* Tells the flight recorder what is asked, and from route on, of which route. */
void exchange_note_request(struct exchange *exchange);

/* The request has a body, of which so much may be held, or is a tunnel. exchange_body.c */
void exchange_begin_upload(struct exchange *exchange, uint64_t hold_max);

/* Whether an upstream that was sent it may have to be sent it again. exchange_body.c */
bool exchange_may_send_again(const struct exchange *exchange);

/* From here on the request's body cannot be sent again. exchange_body.c */
void exchange_lose_replay(struct exchange *exchange);

/* The next attempt sends it from its first byte on. exchange_body.c */
void exchange_rewind_body(struct exchange *exchange);

/* The body of the client's request as it comes, within the route's bound. exchange_body.c */
enum status exchange_read_client(struct exchange *exchange, size_t max, struct span *bytes,
                                 enum reason *reason);

/* Whether the route collects this request's body before an attempt begins. exchange_hold.c */
bool exchange_collects(const struct exchange *exchange);

/*
 * Goes on with that. END: the body is complete, or as much of it was taken as may be; what there is
 * comes first when the body is read. AGAIN, OK: as a lane. ERROR: *reason.
 */
NODISCARD enum status exchange_collect(struct exchange *exchange, enum reason *reason);

/* Puts the route's filter, if it has one, before the sink of the response that now begins. */
struct sink exchange_hold_response(struct exchange *exchange, const struct sink *next);

/*
 * After a run of the response's lane that has a filter, and said `status`: gives the upstream
 * connection back when nothing more is wanted of it. What the run then says.
 */
enum status exchange_note_held(struct exchange *exchange, enum status status);

/* Gives back the memory of both directions. */
void exchange_forget_held(struct exchange *exchange);

/* The bodies of the client's request and of the attempt's response, as sources. exchange_body.c */
struct source exchange_request_body(struct exchange *exchange);
struct source exchange_response_body(struct exchange *exchange);

/* Writes the one record of a finished exchange and counts it. exchange_record.c */
void exchange_record(const struct exchange *exchange);

/* What never became an exchange: no memory was there for one, or its head was cut off. */
struct refused_request {
    const struct address *peer;
    uint32_t listener;
    enum reason reason;
    uint64_t began;          /* its first byte, or the connection's accept */
    struct span tls_version; /* of a handshake that failed, as far as it had come; or empty */
    struct span sni;
    enum tls_detail detail; /* what more is known of why it failed */
};

/* The record and the counts of such a one, as of any other without an answer. exchange_record.c */
void exchange_record_refused(struct proxy *proxy, const struct refused_request *refused);

/* The same for a connection on which nothing was asked: it is counted among failures only. */
void exchange_record_failure(struct proxy *proxy, const struct refused_request *refused);

/* Waits in a list of waiters (of the pool or the buffers) unless it waits already. */
static inline void exchange_wait_in(struct exchange *exchange, struct list *waiters)
{
    if (!list_is_linked(&exchange->wait_link)) {
        list_push_back(waiters, &exchange->wait_link);
    }
}

/* Sets one deadline; the timer follows at the end of the run. */
static inline void exchange_set_deadline(struct exchange *exchange, enum exchange_deadline which,
                                         uint64_t deadline)
{
    exchange->deadlines[which] = deadline;
}

#endif
