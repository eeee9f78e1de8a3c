/*
 * Actors that speak HTTP/2: clients with several requests on a connection at a time, and origins
 * that answer many at a time, in any order. One node each. What they say and expect is the same as
 * of those of HTTP/1 (client.h, origin.h), and either may stand at the other's far end.
 */
#ifndef SENTINEL_TESTS_SIM_MULTI_H
#define SENTINEL_TESTS_SIM_MULTI_H

#include "call.h"
#include "caller.h"
#include "peer.h"
#include "server.h"

enum { MULTI_BUFFERED_MAX = 16 * 1024 /* produced and unsent */ };

/* ---- Clients ---- */

/* One request of a client; the owner of its stream. */
struct multi_request {
    uint32_t number; /* in the ledger */
    enum verb verb;
    uint64_t size;
    uint64_t offset; /* produced */
    bool announces;  /* Content-Length */
    bool expects;
    bool got_continue;
    bool has_trailers;
    bool call;
    bool tunnel;
    bool open;    /* and granted */
    bool listens; /* a tunnel's end: comes behind the other side's */
    uint64_t continue_until;
    uint64_t head_mark;    /* wire.sent once the head has left */
    uint64_t body_mark;    /* likewise of all; UINT64_MAX while its end is not produced */
    uint64_t silent_after; /* bytes of body; UINT64_MAX: never */
    uint64_t reset_at;     /* UINT64_MAX: never */
    bool settled;          /* the ledger knows what became of it */
    uint64_t length;       /* that the response announced; UINT64_MAX: none */
    uint64_t received;
};

struct multi_client {
    struct caller caller; /* first */

    /* the connection */
    struct peer peer;
    uint32_t count; /* requests planned */
    uint32_t begun;
    uint32_t streams; /* at a time */
    bool hostile;     /* ends in what no client may send */
    bool loiters;     /* waits for the other side to close */
    bool noisy; /* what comes means nothing any more: the hostile end was sent, or all is refused */
    uint64_t change_at; /* UINT64_MAX: never, like the next */
    uint64_t goodbye_at;
};

/* What is said: operations of its caller. */
void multi_client_produce(struct caller *caller);
uint64_t multi_client_wake_time(const struct multi_client *client);

static inline struct multi_client *multi_client_of(struct peer *peer)
{
    return CONTAINER_OF(peer, struct multi_client, peer);
}

static inline struct multi_client *multi_caller(struct caller *caller)
{
    return CONTAINER_OF(caller, struct multi_client, caller);
}

/* A request that must be refused; its stream's reset, or an answer of 4xx, is all that may come. */
void multi_hostile_push(struct multi_client *client);

/* The end of a hostile connection: frames that nobody may send, or noise. */
void multi_hostile_end(struct multi_client *client);

/* The request that a stream carries. */
static inline struct multi_request *multi_request_of(const struct peer_stream *stream)
{
    return stream->owner;
}

/* What became of a request, once. */
void multi_client_settle(struct multi_client *client, struct multi_request *request,
                         enum outcome outcome);

/* ---- Origins ---- */

enum multi_fate {
    MULTI_COMPLETE,
    MULTI_SILENT,    /* never answers */
    MULTI_RESET,     /* instead of a head */
    MULTI_TRUNCATE,  /* a reset in the middle of the body */
    MULTI_SHORT,     /* END_STREAM before the announced length is through */
    MULTI_LONG,      /* more than was announced */
    MULTI_MALFORMED, /* a head that is none */
    MULTI_CLOSE,     /* the connection's FIN, without an answer */
    MULTI_ABORT,     /* the connection's reset, likewise */
    MULTI_CUT,       /* either, in the middle of the body */
};

/* One request at an origin, and what is answered; the owner of its stream. */
struct multi_response {
    uint32_t number;
    uint32_t attempt;
    enum verb verb;
    bool taken;      /* the origin has looked at it */
    bool body_whole; /* of the request */
    bool expects;
    bool call;
    bool tunnel; /* that is granted */
    bool listens;
    bool silent; /* without an end */
    uint64_t body_in;
    uint64_t take_at;

    enum multi_fate fate;
    uint16_t status;
    uint64_t size; /* of the payload */
    uint64_t cut_at;
    bool bodiless;
    bool announces; /* Content-Length */
    bool has_trailers;
    bool trailers_only; /* a call's: nothing but a head */
    uint8_t grpc_status;
    bool early;
    bool slow;
    bool head_made;
    uint64_t offset;
    uint64_t next_send;
};

struct multi_connection {
    struct server_connection base; /* first */
    struct peer peer;
    uint32_t last_taken;
    uint64_t goodbye_at; /* UINT64_MAX: never, like the next two */
    uint64_t change_at;
    uint64_t close_at; /* if nothing is asked until then */
    bool idle;         /* nothing is */
    bool over;
};

static inline struct multi_response *multi_response_of(const struct peer_stream *stream)
{
    return stream->owner;
}

/* Draws what becomes of a request that the origin has looked at. */
void multi_origin_plan(struct multi_connection *connection, struct multi_response *response);

/* Pushes what there is to say on a stream. */
void multi_origin_respond(struct multi_connection *connection, struct peer_stream *stream);

/* ---- Both ---- */

/* How an end of a connection behaves in this world. */
struct peer_manners multi_manners(const struct world *world, struct prng *prng);

/* Announces another value of something. */
void multi_change_settings(struct peer *peer, const struct world *world, struct prng *prng);

#endif
