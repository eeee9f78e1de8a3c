/*
 * A scripted client: several connections one after the other, each a random sequence of requests
 * with one or another bad habit. One node each.
 */
#ifndef SENTINEL_TESTS_SIM_CLIENT_H
#define SENTINEL_TESTS_SIM_CLIENT_H

#include "world.h"

enum client_state { CLIENT_PAUSED, CLIENT_TALKING, CLIENT_FINISHED };
enum send_phase { SEND_HEAD, SEND_CONTINUE, SEND_BODY };

struct request_plan {
    uint32_t number; /* in the ledger */
    bool chunked;
    bool expects;
    uint64_t head_mark; /* wire.sent once the head has left */
    uint64_t body_mark; /* likewise, UINT64_MAX while the body's end is not produced */
};

struct client {
    struct world *world;
    struct io *io;
    struct prng prng;
    enum client_state state;
    uint32_t connections_left;
    uint64_t begin_at;

    /* the connection */
    struct wire wire;
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
    bool slow_sender;
    bool slow_reader;
    uint64_t next_send;
    uint64_t next_read;
    uint64_t abort_at;     /* UINT64_MAX: never */
    uint64_t silent_after; /* bytes sent; UINT64_MAX: never */
    uint64_t progress_at;
};

/* Makes what is to be sent next, as far as the buffer and the other side allow. */
void client_produce(struct client *client);

/* Reads and judges responses. False: the connection is over, with everything settled. */
bool client_receive(struct client *client);

/* Settles what was not answered, as CLOSED or CUT, or leaves it open when the client gave up. */
void client_settle(struct client *client, bool gave_up);

/* A request that must be refused; draws one, enters it into the ledger and pushes it. */
void hostile_push(struct client *client);

#endif
