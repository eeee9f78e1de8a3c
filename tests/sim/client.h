/*
 * A client of HTTP/1: on each connection a random sequence of requests with one or another bad
 * habit.
 */
#ifndef SENTINEL_TESTS_SIM_CLIENT_H
#define SENTINEL_TESTS_SIM_CLIENT_H

#include "caller.h"
#include "reader.h"

enum send_phase { SEND_HEAD, SEND_CONTINUE, SEND_BODY };

struct request_plan {
    uint32_t number; /* in the ledger */
    bool chunked;
    bool expects;
    uint64_t head_mark; /* wire.sent once the head has left */
    uint64_t body_mark; /* likewise, UINT64_MAX while the body's end is not produced */
};

struct client {
    struct caller caller; /* first */

    /* the connection */
    struct reader reader;
    struct request_plan plans[REQUESTS_MAX + 1];
    uint32_t count;     /* requests planned */
    uint32_t produced;  /* heads made: the ledger knows them */
    uint32_t receiving; /* index of the next response */
    enum send_phase phase;
    uint64_t body_offset;
    bool got_continue;
    uint64_t continue_until;
    bool http10;
    bool half_closes;
    bool shut;
    bool hostile;
    bool hostile_sent;
};

static inline struct client *client_of(struct caller *caller)
{
    return CONTAINER_OF(caller, struct client, caller);
}

/* What is said and heard: the operations of its caller, by the file that has them. */
void client_produce(struct caller *caller);
bool client_take(struct caller *caller, struct span bytes);
void client_on_end(struct caller *caller);
bool client_is_content(struct caller *caller);

/* A request that must be refused; draws one, enters it into the ledger and pushes it. */
void hostile_push(struct client *client);

#endif
