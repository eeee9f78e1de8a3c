/*
 * The controller's scenario: the real controller with health checks, admin listener, control socket
 * and crash reports; origins that are well and ill by turns (control_origin.c), clients that ask it
 * things, some of them rudely (control_asker.c), and workers that come, count and crash
 * (control.c). Each file judges what it sees:
 *
 *  - an endpoint's word follows from the outcomes of its checks, and from nothing else; each
 *    endpoint goes on being checked; what is always well is never told to be down;
 *  - an answer is whole and the one that was asked for, or says what was wrong; what /metrics
 *    counts is never less than what was counted before, nor more than what was counted at all;
 *  - where the network does no harm, nobody is left without an answer but those whose call failed;
 *  - at the end no connection is left, no timer, no memory.
 */
#ifndef SENTINEL_TESTS_SIM_CONTROL_H
#define SENTINEL_TESTS_SIM_CONTROL_H

#include "base/prng.h"
#include "io/sim.h"
#include "run.h"

enum {
    CHECKED_MAX = 4,
    CHECKED_BY_GRPC = 3,
    CHECK_INTERVAL = 5 * SECOND,
    CHECK_TIMEOUT = 2 * SECOND,
    CHECK_RISE = 2,
    CHECK_FALL = 3,
    TROUBLE_LASTS = 3 * SECOND, /* of a fault that is to last */
};

/* What askers and origins need to know of the run. Borrowed. */
struct control_view {
    struct sim *sim;
    struct prng *prng;
    bool calm;               /* the network does no harm */
    bool rude;               /* some askers do */
    const uint64_t *counted; /* what all workers have counted so far */
};

/* The time at which the fault of this run is over; 0: there was none. */
uint64_t control_fault_over(void);

/* 10.2.0.(index + 1):80 */
struct address checked_address(uint32_t index);

struct checked;

/* Origins: the first is always well, the others are ill for a while; the third is asked by TCP,
 * the last by gRPC. */
struct checked *checked_create(const struct control_view *view, uint32_t index);
void checked_destroy(struct checked *checked);

struct asker;

/* A client of the admin listener, or of the control socket. Asks until `until`, then goes. */
struct asker *asker_create(const struct control_view *view, uint32_t index,
                           const struct address *address, bool control);
void asker_ask_until(struct asker *asker, uint64_t until, bool polite);
bool asker_is_finished(const struct asker *asker);
uint32_t asker_answers(const struct asker *asker); /* whole ones, so far */
void asker_destroy(struct asker *asker);

#endif
