/*
 * Clients that come by a balancer: the PROXY headers (versions 1 and 2) that their connections
 * begin with, good and bad ones. On purpose nothing of net/proxy_protocol.h, whose mistakes it
 * shall not share.
 *
 * Where a world has balancers they are the hosts of even numbers: they have to begin with a header,
 * nobody else may.
 */
#ifndef SENTINEL_TESTS_SIM_BALANCER_H
#define SENTINEL_TESTS_SIM_BALANCER_H

#include "world.h"

enum {
    HEADER_MAX = 512,
    NAMED_CLIENTS = 8,           /* that headers name */
    HEADER_TIMEOUT = 5 * SECOND, /* of the workers, for a whole one */
    HEADER_SLACK = 2 * SECOND,   /* until what they do of it is seen */
    HEADER_PIECE_MAX = 8,        /* bytes at a time of one that drips */
    HEADER_PAUSE = 500 * 1000,   /* microseconds between two of them, at most */
};

enum header_kind {
    HEADER_NONE,    /* nobody asks for one */
    HEADER_GOOD,    /* names a client */
    HEADER_NOBODY,  /* speaks for the balancer itself, LOCAL and UNKNOWN */
    HEADER_BAD,     /* is none */
    HEADER_MISSING, /* does not come */
    HEADER_CUT,     /* comes in part: then its sender is silent */
    HEADER_UNASKED, /* a good one, from whom none may come */
};

/* What a connection begins with. */
struct header {
    enum header_kind kind;
    bool drips;            /* a few bytes at a time */
    struct address client; /* whom the requests behind it are of */
    size_t size;           /* of its bytes, maybe 0 */
    uint8_t bytes[HEADER_MAX];
};

/* Draws how a connection from this host begins. */
void header_draw(const struct world *world, struct prng *prng, uint32_t host,
                 struct header *header);

/* Whether whoever begins like this is cut off without a word. */
static inline bool header_is_refused(const struct header *header)
{
    return header->kind == HEADER_BAD || header->kind == HEADER_MISSING ||
           header->kind == HEADER_CUT;
}

/* Whether no request behind it may reach an origin. */
static inline bool header_is_hostile(const struct header *header)
{
    return header_is_refused(header) || header->kind == HEADER_UNASKED;
}

bool host_is_balancer(uint32_t host);

/* The clients that headers name. */
struct address named_client(uint32_t index);

#endif
