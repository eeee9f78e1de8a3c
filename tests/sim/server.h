/*
 * What origins have in common, whatever they speak: a node and a listener each, up to
 * ORIGIN_CONNECTIONS connections, read as they come. What is heard and answered is the matter of
 * its kind: origin.c, multi_origin.c.
 */
#ifndef SENTINEL_TESTS_SIM_SERVER_H
#define SENTINEL_TESTS_SIM_SERVER_H

#include "world.h"

/* One connection: the first member of its kind's struct, from calloc. */
struct server_connection {
    struct server *server;
    struct wire wire;
    bool abruptly; /* it ends with a reset */
};

struct server_ops {
    size_t connection_size;
    /* It was accepted. */
    void (*begin)(struct server_connection *connection);
    /* A turn. False: it is over. */
    bool (*serve)(struct server_connection *connection);
    /* It is closed next, or dropped with its node: frees what it holds; NULL: nothing. */
    void (*end)(struct server_connection *connection);
    /* When it has something to do by itself. */
    uint64_t (*wake_time)(struct server_connection *connection);
};

struct server {
    const struct server_ops *ops;
    struct world *world;
    struct io *io;
    struct prng prng;
    struct io_socket listener;
    struct server_connection *connections[ORIGIN_CONNECTIONS]; /* NULL: free */
    struct server_connection *next;                            /* for whoever is accepted next */
};

/* An origin of this kind, which may be one that does not listen. */
struct server *server_create(struct world *world, const struct server_ops *ops, uint32_t index);

/*
 * Hands what has come to `take`, until that is false: OK, it wants nothing more now. AGAIN: that
 * was all, for this turn. END, ERROR: of the connection.
 */
enum status server_read(struct server_connection *connection,
                        bool (*take)(struct server_connection *connection, struct span bytes));

static inline struct ledger *server_ledger(const struct server_connection *connection)
{
    return &connection->server->world->ledger;
}

/* What a request brought along; NULL data: nothing. */
struct server_seen {
    struct span number; /* X-Number */
    struct span via;
    struct span host;
    struct span forwarded_for;
};

/* Holds it against what was sent, and what workers add. */
void server_check_request(const struct server_connection *connection, uint32_t number,
                          const struct server_seen *seen);

/* What says that a request is a gRPC call, and what it brings along; NULL data: nothing. */
struct server_call {
    struct span content_type;
    struct span te;
    struct span timeout; /* grpc-timeout */
};

/* Whether it is one; holds it against what was sent. */
bool server_check_call(const struct server_connection *connection, uint32_t number,
                       const struct server_call *call);

/* The status of a sound response. */
uint16_t server_draw_status(struct server *server);

/* A moment from now on, or never: UINT64_MAX. */
uint64_t server_draw_time(struct server *server, uint32_t permille, uint64_t most);

#endif
