/*
 * Health checks: one per endpoint whose upstream has a health-check, each a small machine on io.h
 * that connects, for HTTP asks and reads the head of the answer, for gRPC makes a call
 * (control/grpc_check.h), and judges. Runs in the controller
 * process; the outcome goes to the health words (observe/health.h), which the workers read.
 *
 *     WAITING --timer--> CONNECTING --> HANDSHAKE --HTTP--> SENDING --> READING --> WAITING
 *                             |        (where TLS) |                                 ^
 *                             |                    +--gRPC--> CALLING ---------------+
 *                             +--------------------+-- TCP: done, or anything: failed-+
 *
 * A check has the upstream's timeout in all, then fails. Checks begin one interval apart, plus or
 * minus a tenth so that endpoints do not beat in step; the first begins at once. A check for which
 * this process lacks a descriptor or memory says nothing of the endpoint: it has no outcome, and
 * the next one comes in its time. Memory: one buffer of HEALTH_HEAD_MAX bytes for each endpoint,
 * touched by HTTP and gRPC checks only, and GRPC_CHECK_MEMORY for each that speaks gRPC.
 */
#ifndef SENTINEL_CONTROL_HEALTH_CHECK_H
#define SENTINEL_CONTROL_HEALTH_CHECK_H

#include "base/prng.h"
#include "base/timer_wheel.h"
#include "io/io.h"
#include "observe/flight_recorder.h"
#include "observe/health.h"
#include "observe/metrics.h"
#include "upstream/upstream_tls.h"

enum { HEALTH_HEAD_MAX = 8192 }; /* bytes of a check's request, and of the answer's head */

/* The thresholds at work: pure, one per endpoint. All zero: unknown. */
struct health_judge {
    enum health_state state;
    uint32_t streak; /* outcomes in a row that speak against the state */
};

/*
 * Takes one outcome. `fall` failures in a row make down, `rise` successes in a row make up again;
 * an endpoint that was never judged is up with its first success. Both are at least 1.
 */
void health_judge_note(struct health_judge *judge, bool success, uint32_t rise, uint32_t fall);

struct health_checks;

/* What the checks work with. All borrowed. */
struct health_options {
    struct io *io;
    struct timer_wheel *wheel;
    const struct generation *generation;
    struct health_board *board;
    const struct upstream_tls *tls;       /* NULL: no endpoint that is checked speaks TLS */
    uint8_t kind;                         /* of their sockets and timers */
    const struct flight_recorder *flight; /* told which endpoint is being checked */
    struct metrics *metrics;              /* where checks are counted; borrowed */
    health_listener *on_change; /* told when an endpoint changes its state; NULL: nobody */
    void *change_context;
    void (*on_trouble)(void *context, int error); /* told when none can be made; NULL: nobody */
    void *trouble_context;
};

/* Bytes that the checks of this generation allocate. */
uint64_t health_checks_bytes(const struct generation *generation);

/* Sets the first checks on the wheel, due now. NULL when memory is short. */
NODISCARD struct health_checks *health_checks_create(const struct health_options *options);

/* Closes what is open. Accepts NULL. */
void health_checks_destroy(struct health_checks *checks);

/* One of its sockets is ready; one of its timers has fired. */
void health_checks_on_ready(struct health_checks *checks, struct io_socket *socket);
void health_checks_on_timer(struct health_checks *checks, struct timer *timer);

/* Endpoints with a check that has not ended once. */
uint32_t health_checks_pending(const struct health_checks *checks);

#endif
