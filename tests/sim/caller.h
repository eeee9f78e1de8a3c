/*
 * What clients have in common, whatever they speak: a node each, connections one after the other, a
 * pace at which they send and read, and patience that ends. What is said and heard on a connection
 * is the matter of its kind: client.c, multi_client.c.
 */
#ifndef SENTINEL_TESTS_SIM_CALLER_H
#define SENTINEL_TESTS_SIM_CALLER_H

#include "balancer.h"
#include "secure.h"

enum caller_state { CALLER_PAUSED, CALLER_TALKING, CALLER_FINISHED };

struct caller_ops {
    const char *name; /* of its node */
    bool http2;       /* what is spoken */

    /* A connection is about to be made: draws what becomes of it. */
    void (*plan)(struct caller *caller);
    /* It is being made: says what comes first. */
    void (*greet)(struct caller *caller);
    /* A turn on one that stands: does what is due by time. Or NULL. */
    void (*keep_appointments)(struct caller *caller);
    /* Pushes what is to be sent next, as far as buffer and other side allow. */
    void (*produce)(struct caller *caller);
    /* wire.sent has moved: tells the ledger whose last byte has left. */
    void (*note_sent)(struct caller *caller);
    /* Judges what has come. False: nothing more can come of this connection. */
    bool (*take)(struct caller *caller, struct span bytes);
    /* The other side's FIN has come. Or NULL. */
    void (*on_end)(struct caller *caller);
    /* Everything that was asked is answered, and nothing keeps the client here. */
    bool (*is_content)(struct caller *caller);
    /* Settles what was not answered, as CLOSED or CUT, or leaves it open: the client gave up. */
    void (*settle)(struct caller *caller, bool gave_up);
    /* The connection is closed next: its last words, and what it holds. Or NULL. */
    void (*end)(struct caller *caller);
    /* When it has something to do by itself, of a connection that stands. */
    uint64_t (*wake_time)(struct caller *caller);
};

struct caller {
    const struct caller_ops *ops;
    struct world *world;
    struct io *io;
    struct prng prng;
    enum caller_state state;
    uint32_t host; /* of the world's; 0 where it has none */
    uint32_t connections_left;
    uint64_t begin_at;

    /* the connection */
    struct wire wire;
    struct header header;
    struct secure secure;  /* GOOD where nothing is secured */
    uint64_t connected_at; /* 0: not yet, like the next */
    uint64_t header_sent_at;
    bool slow_sender;
    bool slow_reader;
    uint64_t next_send;
    uint64_t next_read;
    uint64_t silent_after; /* bytes sent; UINT64_MAX: never */
    uint64_t abort_at;     /* UINT64_MAX: never */
    uint64_t progress_at;
};

/* A node for it. The rest of the kind's struct is its own; freed with it. */
void caller_init(struct caller *caller, const struct caller_ops *ops, struct world *world,
                 uint32_t index);

static inline bool caller_draws(struct caller *caller, uint32_t permille)
{
    return sim_chance(&caller->prng, permille);
}

/* A moment from now on, or never: UINT64_MAX. */
uint64_t caller_draw_time(struct caller *caller, uint32_t permille, uint64_t most);

/* Enters a request that is about to be made into the ledger; its number. */
uint32_t caller_add_exchange(struct caller *caller, enum verb verb, uint64_t size);

/* The exchange of this number. */
static inline struct ledger_exchange *caller_exchange(const struct caller *caller, uint32_t number)
{
    return ledger_get(&caller->world->ledger, number);
}

/* A verb as the world's habits have it. */
enum verb caller_draw_verb(struct caller *caller);

/* The origin's mark, `number-attempt`, or NULL data: whose response is this? */
void caller_read_mark(struct caller *caller, uint32_t number, struct span mark);

/* A final response to this exchange: notes its status, which may not let a hostile request pass. */
void caller_note_status(struct caller *caller, uint32_t number, uint16_t status);

static inline uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

#endif
