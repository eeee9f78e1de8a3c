/*
 * An origin of HTTP/1: each request gets a plan, a sound response in some framing or one of the
 * ways to fail.
 */
#ifndef SENTINEL_TESTS_SIM_ORIGIN_H
#define SENTINEL_TESTS_SIM_ORIGIN_H

#include "reader.h"
#include "server.h"

enum origin_state {
    ORIGIN_HEAD,    /* between requests, or in a head */
    ORIGIN_BODY,    /* reading the request body */
    ORIGIN_RESPOND, /* may still read the body, when it answers early */
    ORIGIN_SILENT,  /* never answers */
    ORIGIN_TUNNEL,  /* bytes both ways, each with an end of its own */
    ORIGIN_LINGER,  /* all is said: the rest of the request is read, then closed */
};

enum fate {
    FATE_COMPLETE,
    FATE_TRUNCATE,  /* FIN in the middle of the body */
    FATE_RESET,     /* reset there */
    FATE_HALF_HEAD, /* FIN or reset in the middle of the head */
    FATE_CLOSE,     /* no answer: FIN */
    FATE_ABORT,     /* no answer: reset */
    FATE_SILENT,
    FATE_MALFORMED,
    FATE_EXTRA, /* complete, and more bytes behind it */
};

struct response_plan {
    enum fate fate;
    uint16_t status;
    enum reader_framing framing;
    uint64_t size;   /* of the payload */
    uint64_t cut_at; /* TRUNCATE, RESET: payload bytes that are sent */
    bool closes;     /* Connection: close */
    bool call;       /* the answer to a gRPC call */
    uint8_t grpc_status;
    bool early;
    bool slow;
};

struct origin_connection {
    struct server_connection base; /* first */
    struct reader reader;
    enum origin_state state;
    bool half_closed;   /* the peer has */
    bool body_complete; /* of the request */
    uint32_t number;
    uint32_t attempt;
    enum verb verb;
    bool call; /* a gRPC call */
    struct response_plan plan;
    uint64_t offset; /* payload produced */
    uint64_t tunnel_in;
    bool tunnel_listens; /* speaks when the other side has ended */
    bool tunnel_silent;  /* has no end */
    bool head_made;
    bool end_made;
    uint64_t next_send;
    uint64_t close_at; /* an idle connection's stale close; UINT64_MAX: never */
};

/* Draws what becomes of the request whose head was just read. */
void origin_plan(struct origin_connection *connection);

/* The tunnel that was asked for is refused, in so many words: with 200 a worker would have to. */
void origin_refuse_tunnel(struct origin_connection *connection);

/* The tunnel that was asked for is granted. Bytes of the other side, and its end (of no bytes). */
void origin_open_tunnel(struct origin_connection *connection);
void origin_take_tunnel(struct origin_connection *connection, struct span bytes);

/* Sends what there is to send in a tunnel. False: it is over. */
bool origin_serve_tunnel(struct origin_connection *connection);

/* Produces and sends. False: the connection is over. */
bool origin_respond(struct origin_connection *connection);

#endif
