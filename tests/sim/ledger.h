/*
 * What is known of every request of a run, from all sides: what the client sent and got, what each
 * attempt's origin saw and answered, what the access log says. The client numbers its requests; the
 * number travels in the path and comes back with the attempt's number in a field of the response,
 * and every payload byte follows from number, direction and offset. So a byte that is lost,
 * repeated, altered or crossed into another exchange is found where it arrives, and ledger_check
 * finds the rest.
 */
#ifndef SENTINEL_TESTS_SIM_LEDGER_H
#define SENTINEL_TESTS_SIM_LEDGER_H

#include "base/address.h"
#include "run.h"

enum {
    LEDGER_MAX = 4096,
    LEDGER_ATTEMPTS_MAX = 8,
};

enum side { SIDE_REQUEST, SIDE_RESPONSE };

enum verb { VERB_GET, VERB_HEAD, VERB_POST, VERB_PUT, VERB_CONNECT, VERB_COUNT };

enum outcome {
    OUTCOME_NONE,     /* never sent, or its connection ended while the client did not care */
    OUTCOME_ANSWERED, /* a complete response */
    OUTCOME_CUT,      /* a response began and was visibly cut short */
    OUTCOME_CLOSED,   /* the connection ended before a response */
};

struct ledger_attempt {
    uint16_t status;
    uint64_t size;       /* of the payload: planned, or for a body until close what was sent */
    bool sound;          /* a response that may be passed on */
    bool complete;       /* sent to its end */
    uint8_t grpc_status; /* of a call */
};

#define LEDGER_NEVER_COMPLETE UINT64_MAX /* the size of a request body that is malformed */

struct ledger_exchange {
    enum verb verb;
    uint64_t request_size;
    struct address client; /* whose it is, as origins and the access log are told; NONE: any */
    bool hostile;          /* must never reach an origin */
    bool head_sent;        /* its last byte has left the client */
    uint64_t head_began;   /* when its first byte left, 0: not yet */
    uint64_t head_took;    /* from then until its last */
    bool body_sent;
    bool body_dropped; /* on its way, by a verdict: it arrives empty */
    bool unprocessed;  /* its client was told that nobody has looked at it */
    uint32_t refusals; /* origins that have not looked at it, and said so */
    uint32_t attempts;
    struct ledger_attempt attempt[LEDGER_ATTEMPTS_MAX];
    enum outcome outcome;
    uint16_t status;      /* that the client saw */
    uint64_t received;    /* payload bytes of the response */
    bool from_origin;     /* the response carried an origin's mark */
    uint32_t answered_by; /* the attempt in that mark */
    uint32_t records;     /* in the access log */
    uint16_t logged_status;
    uint32_t logged_attempts;
    uint64_t logged_bytes_out;
    bool shed; /* for want of room among connections, before its head was complete */

    /* A tunnel (VERB_CONNECT): its bytes are those of request and response. */
    bool tunnel_open;    /* an origin has granted it */
    bool tunnel_may_end; /* whoever is between may end it, in order: in silence, in a drain */

    /* Of a gRPC call (call.h), all in microseconds. */
    bool call;
    bool has_timeout;
    uint64_t timeout;    /* that the client gave */
    uint64_t deadline;   /* after which it ends, by that or by its route */
    uint8_t grpc_status; /* that the client saw */
    uint8_t logged_grpc_status;
    uint64_t logged_time;
};

struct ledger {
    uint32_t count;
    struct ledger_exchange exchanges[LEDGER_MAX];
};

/* What the checks may expect beyond safety. */
struct ledger_expectation {
    bool logged;        /* there is an access log, and nothing was killed */
    bool all_answered;  /* nothing may fail */
    bool safe_answered; /* no GET or HEAD may fail */
    uint32_t attempts_max;
};

/* A new exchange's number, from 0. */
uint32_t ledger_add(struct ledger *ledger, enum verb verb, uint64_t request_size);
struct ledger_exchange *ledger_get(struct ledger *ledger, uint64_t number);

/* Payload: fills, or holds against what came (a difference fails the run). */
void payload_fill(uint32_t number, enum side side, uint64_t offset, uint8_t *bytes, size_t size);
void payload_verify(uint32_t number, enum side side, uint64_t offset, struct span bytes);

/* A request head of this exchange reached an origin; the attempt's index. */
uint32_t ledger_arrived(struct ledger *ledger, uint32_t number, enum verb verb);

/* A request reached an origin that did not look at it, and says so. */
void ledger_refused(struct ledger *ledger, uint32_t number, enum verb verb);

/* The whole request body reached an origin. */
void ledger_body_arrived(struct ledger *ledger, uint32_t number, uint64_t size);

/* A request is said to be of this client, by the access log or by a field that a worker adds. */
void ledger_check_client(struct ledger *ledger, uint32_t number, struct span name);

/* One line of the access log. */
void ledger_log_line(struct ledger *ledger, struct span line);

/* Everything that must hold between the sides at the end of a run. */
void ledger_check(struct ledger *ledger, const struct ledger_expectation *expectation);

const char *verb_name(enum verb verb);

/* False: none of them. */
bool verb_read(struct span name, enum verb *verb);

#endif
