/*
 * One attempt to get a response from one endpoint: pick it, get a connection, send the head, await
 * the response's. The exchange makes one after the other as long as it may retry. The attempt owns
 * the lease of the upstream connection; its steps:
 *
 *   PICK -> LEASE -> CONNECT -> SEND_HEAD -> AWAIT_HEAD -> STREAM
 *     |       |         |           |            |
 *     |       +-> QUEUE (no connection slot free, then LEASE again)
 *     +-------+---------+-----------+------------+--> LOST(reason)
 */
#ifndef SENTINEL_PROXY_ATTEMPT_H
#define SENTINEL_PROXY_ATTEMPT_H

#include "base/reason.h"
#include "upstream/pool.h"

struct exchange;

enum attempt_step {
    ATTEMPT_NONE, /* not begun, or given back */
    ATTEMPT_PICK,
    ATTEMPT_LEASE,
    ATTEMPT_QUEUE,
    ATTEMPT_CONNECT,
    ATTEMPT_SEND_HEAD,
    ATTEMPT_AWAIT_HEAD,
    ATTEMPT_STREAM, /* the response head was read */
    ATTEMPT_LOST,
};

struct attempt {
    enum attempt_step step;
    enum reason reason;        /* when LOST */
    enum tls_detail detail;    /* when LOST: what TLS knows of it */
    struct endpoint *endpoint; /* stays known after the attempt, for the log */
    struct pool_lease lease;   /* of the upstream connection */
    bool fresh_wanted;         /* a stale connection was just met: connect anew */
    bool body_gated;           /* Expect: 100-continue went out: the body waits for the answer */
    bool stale_retried;        /* the one retry after a stale connection was used up */
    bool probe;                /* it finds out whether an ejected endpoint is back */
    bool own_failure;          /* it could not connect for reasons of this machine */
    bool unproven;             /* connected, but by TLS 1.3 the endpoint may still refuse us */
    bool request_unwritten;    /* when LOST: the upstream has seen no byte of it */
    bool unprocessed;          /* when LOST: the upstream says that it has not looked at it */
    size_t response_mark;      /* arena mark from before the response head */
    uint32_t count;            /* attempts so far, this one included */
    uint64_t step_began;
    uint64_t try_deadline; /* of this attempt: the retry policy's timeout */
    struct tried_endpoints tried;
};

/* Begins the next attempt. */
void attempt_begin(struct exchange *exchange);

/* Goes on. OK: a response head is in exchange->response. AGAIN. ERROR: LOST, see attempt.reason. */
NODISCARD enum status attempt_run(struct exchange *exchange);

/* Its step deadline passed: opens the gate of the body, or is LOST. */
void attempt_expire(struct exchange *exchange);

/* Ends it as lost; counted against its endpoint's upstream. */
void attempt_lose(struct exchange *exchange, enum reason reason);

/* Whether a lost attempt may be followed by another. */
bool attempt_may_retry(const struct exchange *exchange);

/* Gives the connection back, kept where possible if asked. Harmless in every step. */
void attempt_end(struct exchange *exchange, bool keep);

/* Whether the request's body may be pulled and sent now. */
bool attempt_takes_body(const struct exchange *exchange);

#endif
