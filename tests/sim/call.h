/*
 * gRPC calls (PROTOCOL-HTTP2 of its documentation) of clients of HTTP/2: what the actors draw, and
 * what may come of a call. Messages are not framed, since nobody between looks into them.
 */
#ifndef SENTINEL_TESTS_SIM_CALL_H
#define SENTINEL_TESTS_SIM_CALL_H

#include "base/prng.h"
#include "ledger.h"

struct world;

enum {
    CALL_OK = 0,
    CALL_NO_STATUS = UINT8_MAX,
    CALL_TIMEOUT_MAX = 16, /* bytes of a grpc-timeout, NUL included */
};

/* grpc-timeout of a call, in a unit that is drawn: text and, in the ledger, microseconds. */
void call_draw_timeout(const struct world *world, struct prng *prng,
                       struct ledger_exchange *exchange, char text[CALL_TIMEOUT_MAX]);

/* A status of an origin's: none that a worker gives by itself. */
uint8_t call_draw_status(struct prng *prng);

/* What an origin is told of the time that is left; NULL data: nothing. */
void call_check_timeout(const struct ledger_exchange *exchange, uint32_t number, struct span value);

/* grpc-status, in a head or in trailers, has reached the client; NULL data: there is none. */
void call_note_status(struct ledger_exchange *exchange, uint32_t number, struct span value);

/* Takes what a line of the access log says of a call. */
void call_note_record(struct ledger_exchange *exchange, struct span status, struct span total_ms);

/* Whether the client was told that a response of an origin was cut short. */
bool call_was_told(const struct ledger_exchange *exchange);

/* Everything that must hold of a call at the end of a run. */
void call_check(const struct ledger_exchange *exchange, uint32_t number);

#endif
