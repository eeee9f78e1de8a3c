/*
 * The simulator's inside, shared by its four files: io_sim.c (nodes, schedule, events, time),
 * io_sim_network.c (connections and what arrives on them), io_sim_socket.c (the calls of io.h),
 * io_sim_pipe.c (those on pipes).
 */
#ifndef SENTINEL_IO_IO_SIM_H
#define SENTINEL_IO_IO_SIM_H

#include "base/prng.h"
#include "io/sim.h"

enum { SIM_NAME_MAX = 32 };

enum sim_event_kind {
    SIM_SYN,       /* a connect reaches the listener; amount: how often it was tried before */
    SIM_CONNECTED, /* the answer to it reaches the client */
    SIM_REFUSED,   /* likewise; amount: the errno */
    SIM_DATA,      /* amount bytes reach the end */
    SIM_FIN,       /* the peer's FIN reaches the end */
    SIM_RESET,     /* the peer's reset reaches the end; amount 1: unread bytes are lost */
    SIM_SPACE,     /* the end may write again */
    SIM_TROUBLE,   /* the network breaks (amount 0) or stalls (1) the connection */
};

struct sim_event {
    uint64_t time;
    uint64_t order; /* events of one instant come in the order in which they were made */
    enum sim_event_kind kind;
    uint32_t amount;
    struct sim_end *end; /* whom it reaches */
};

/* One direction of a connection: the bytes on the way and, at their front, those that arrived. */
struct sim_pipe {
    uint8_t *ring;
    uint32_t ring_size;
    uint32_t head;     /* of the readable bytes */
    uint32_t readable; /* arrived, unread */
    uint32_t flying;   /* sent, not arrived */
    uint32_t limit;    /* of both together */
    uint32_t segment;  /* the largest piece that arrives at once */
    uint32_t wake_at;  /* room that makes a starved writer writable again */
    uint64_t carried;
    uint64_t delay;
    uint64_t rate; /* bytes per second, 0: no bound */
    uint64_t last_arrival;
    bool fin_sent;
    bool fin_arrived;
    bool starved;  /* the writer was told to wait */
    bool wake_due; /* a SIM_SPACE is on its way */
};

enum sim_end_state { SIM_CONNECTING, SIM_OPEN, SIM_CLOSED };

struct sim_end {
    struct sim_connection *connection;
    struct sim_end *peer;
    enum sim_end_state state;
    int fd;
    int failed;               /* errno of a broken connection */
    bool told;                /* the owner has got it */
    struct io *node;          /* NULL while in a backlog and after the close */
    struct io_socket *socket; /* likewise */
    struct list node_link;    /* in the node's sockets */
    struct list pending_link; /* in the node's pending: an edge that io_wait will report */
    struct sim_pipe out;      /* from here to the peer */
    struct address address;   /* its own */
};

struct sim_connection {
    struct sim *sim;
    struct sim_end client;
    struct sim_end server;
    struct list link;              /* in the simulator's connections */
    struct list backlog_link;      /* in a listener's backlog */
    struct sim_listener *listener; /* whose backlog */
    bool stalled;
};

/* A kernel pipe of a node; its io_pipe's descriptors are only marks. */
struct sim_kernel_pipe {
    struct io *node;
    struct io_pipe *pipe; /* the owner's */
    struct list link;     /* in the node's pipes */
    uint32_t first;       /* of the bytes in it */
    uint8_t bytes[];
};

struct sim_listener {
    struct address address;
    struct list backlog;
    uint32_t waiting;
    bool closed;
};

/* A node's registration of a listener. */
struct sim_sharer {
    struct io_socket *socket; /* NULL: free */
    bool paused;
};

struct io {
    struct sim *sim;
    char name[SIM_NAME_MAX];
    uint32_t ordinal;
    void (*turn)(void *context);
    void *context;
    struct address host;
    uint64_t now;
    uint64_t until;
    bool waited;  /* in this turn */
    bool blocked; /* a real io_wait would not have returned from the last one */
    struct prng random;
    struct list ready;
    struct list pending; /* ends with an edge to report */
    struct list sockets; /* ends */
    uint32_t socket_count;
    struct list pipes; /* open ones */
    uint32_t pipe_count;
    struct sim_sharer sharers[SIM_LISTENERS_MAX];
};

struct sim {
    struct sim_options options;
    struct prng prng;
    uint64_t now;
    int64_t wall_offset;
    uint64_t steps;
    uint64_t hash;
    uint64_t order;
    struct sim_event *events; /* a binary heap */
    size_t event_count;
    size_t event_room;
    struct sim_end **ends; /* by descriptor */
    size_t end_count;
    size_t end_room;
    struct list connections;
    struct io *nodes[SIM_NODES_MAX];
    uint32_t node_count;
    struct io *running; /* whose turn it is */
    struct sim_listener listeners[SIM_LISTENERS_MAX];
    uint32_t listener_count;
    uint16_t next_port;
};

/* io_sim.c */
void *sim_allocate(void *old, size_t count, size_t size); /* realloc that cannot fail */
void sim_schedule(struct sim_end *end, uint64_t time, enum sim_event_kind kind, uint32_t amount);
/* Folds one occurrence into the hash, and prints it. what: static; end may be NULL. */
void sim_record(struct sim *sim, const char *what, const struct sim_end *end, uint64_t amount);

/* io_sim_pipe.c: frees the node's pipes, whoever owns them. */
void sim_pipes_drop(struct io *io);

/* io_sim_socket.c: what io_splice_in and io_splice_out share with reading and writing. */
/* The end behind an open socket; asserts that it is this node's and where it was opened. */
struct sim_end *sim_end_of(struct io *io, const struct io_socket *socket);
/* Takes up to size bytes of what has arrived: OK, AGAIN, END or ERROR. */
/* What has arrived and was not read: up to size bytes, which stay. */
uint32_t sim_end_peek(const struct sim_end *end, uint8_t *bytes, uint32_t size);

enum status sim_socket_read(struct io *io, struct io_socket *socket, void *data, size_t size,
                            size_t *got);

/* io_sim_network.c */
struct sim_connection *sim_connection_create(struct sim *sim, struct io *client,
                                             const struct address *server);
void sim_connection_free(struct sim_connection *connection);
void sim_network_event(struct sim *sim, const struct sim_event *event);
/* Tries to reach the listener at once. False: nobody there, or the backlog is full. */
bool sim_handshake(struct sim_connection *connection);
/* What epoll would report of the end now: bits of enum io_ready. */
unsigned sim_end_level(const struct sim_end *end);
/* Notes that something happened, for the node's next io_wait. */
void sim_end_edge(struct sim_end *end);
uint32_t sim_pipe_room(const struct sim_pipe *pipe);
/* Sends size bytes, for which there is room. */
void sim_end_send(struct sim_end *end, const uint8_t *bytes, uint32_t size);
/* Takes up to size of what arrived. */
uint32_t sim_end_receive(struct sim_end *end, uint8_t *bytes, uint32_t size);
/* The writer must wait; a SIM_SPACE will come. */
void sim_end_starve(struct sim_end *end);
void sim_end_send_fin(struct sim_end *end);
void sim_end_send_reset(struct sim_end *end);
/* The kernel's part of close; abrupt: with a reset. The socket is let go before. */
void sim_end_close(struct sim_end *end, bool abrupt);
struct sim_listener *sim_find_listener(struct sim *sim, const struct address *address);

#endif
