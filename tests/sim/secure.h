/*
 * A client's side of the toy TLS (net/tls_sim.c), between its byte stream and its socket: records
 * of any size, cut and put together as the network likes; and clients that break its rules. On
 * purpose nothing of net/tls_sim.c, whose mistakes it shall not share.
 *
 * Where a world is secure its listener speaks nothing else. What is served has three names, two
 * certificates, and maybe a default.
 */
#ifndef SENTINEL_TESTS_SIM_SECURE_H
#define SENTINEL_TESTS_SIM_SECURE_H

#include "world.h"

enum {
    SECURE_RECORD_MAX = 1024,
    SECURE_HEADER = 3,
    SECURE_INBOX = 3000,            /* read ahead: two records, and a part of a third */
    HANDSHAKE_TIMEOUT = 5 * SECOND, /* of the workers */
    HANDSHAKE_SLACK = 2 * SECOND,   /* until what they do of it is seen */
};

/* Protocols as HELLO names them. */
enum secure_protocol { SECURE_HTTP1 = 1, SECURE_HTTP2 = 2 };

enum secure_kind {
    SECURE_GOOD,
    SECURE_OTHER_NAME,   /* of another certificate: every request of it is misdirected */
    SECURE_UNKNOWN_NAME, /* that nobody serves here */
    SECURE_NO_PROTOCOL,  /* asks for one that is not spoken */
    SECURE_NOISE,        /* its handshake is none */
    SECURE_ALERT,        /* refuses what it is shown */
    SECURE_GONE,         /* ends in the middle of its handshake */
    SECURE_SILENT,       /* likewise, without a word */
    SECURE_PLAIN,        /* speaks without TLS */
    SECURE_KINDS,
};

/* How a connection ends that began well. */
enum secure_end {
    SECURE_END_ORDERLY,  /* GOODBYE, or just FIN */
    SECURE_END_BREAKS,   /* a record that is none */
    SECURE_END_CUTS,     /* FIN, maybe in the middle of a record */
    SECURE_END_GOODBYES, /* GOODBYE, whatever is under way */
};

struct secure {
    enum secure_kind kind;
    enum secure_end end;
    uint64_t end_after;            /* bytes sent; UINT64_MAX: not by itself */
    uint8_t offers;                /* a set of protocols */
    enum secure_protocol protocol; /* that is spoken, whether it asks or not */
    struct span name;              /* static */
    size_t prefix;                 /* bytes in front of the first record, as they are */
    uint64_t limit;                /* bytes sent: those behind it wait for ever */
    bool drips;
    struct prng prng;

    bool said_hello;
    bool heard_hello;
    bool established; /* FINISHED has left, or is about to */
    bool ended;       /* nothing more is said: GOODBYE was, or worse */
    bool goodbye_due;
    bool fin_follows;
    bool goodbye_came;
    bool fin_sent;
    uint64_t shaken_at; /* FINISHED has left; 0: not yet */
    size_t plain;       /* bytes sent that the record below carries */
    size_t record_end;  /* size of it, 0: none waits */
    size_t record_sent;
    uint8_t record[SECURE_HEADER + SECURE_RECORD_MAX];
    size_t in_size;
    size_t in_read; /* of the first record's payload */
    uint8_t in[SECURE_INBOX];
};

/*
 * Draws how the next connection is secured: false, not at all. `http2`: what its client speaks.
 */
bool secure_draw(const struct world *world, struct prng *prng, bool http2, struct secure *secure);

/* Likewise, of a client that keeps to the rules, and speaks HTTP/1. */
bool secure_draw_good(const struct world *world, struct prng *prng, struct secure *secure);

/* Whether no request on it may reach an origin. */
static inline bool secure_is_hostile(const struct secure *secure)
{
    return secure->kind != SECURE_GOOD;
}

/* Whether its handshake cannot come to its end, and it is cut off. */
static inline bool secure_is_refused(const struct secure *secure)
{
    return secure->kind != SECURE_GOOD && secure->kind != SECURE_OTHER_NAME &&
           secure->kind != SECURE_PLAIN;
}

/* Whether all is said, GOODBYE included. */
static inline bool secure_is_shut(const struct secure *secure)
{
    return secure->ended && secure->record_end == 0;
}

/* Nothing more is said, not even GOODBYE. */
static inline void secure_fall_silent(struct secure *secure)
{
    secure->ended = secure->fin_sent = true;
}

/* As wire_pump, wire_read and io_shutdown; what is sent is counted without the coding. */
size_t secure_pump(struct wire *wire, size_t most);
enum status secure_read(struct wire *wire, uint8_t *bytes, size_t size, size_t *got);
void secure_shutdown(struct wire *wire);

/* It is closed next: says GOODBYE, or does not. */
void secure_finish(struct wire *wire);

#endif
