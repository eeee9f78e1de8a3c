/*
 * The calls of io.h over the simulated network. Bits are set in io_wait only, as epoll's are;
 * whoever uses a socket against the contract is stopped by an assertion.
 */
#include <errno.h>

#include "base/assert.h"
#include "io/io_sim.h"

enum { CONNECT_GIVES_UP = 127 * 1000000 }; /* microseconds: Linux's default of six retries */

static int draw_error(struct sim *sim, const int *errors, uint32_t count)
{
    return errors[prng_below(&sim->prng, count)];
}

static int why_refused(struct sim *sim, const int *errors, uint32_t count)
{
    int drawn = draw_error(sim, errors, count);
    return sim->options.fault_error != 0 ? sim->options.fault_error : drawn;
}

struct sim_end *sim_end_of(struct io *io, const struct io_socket *socket)
{
    ASSERT(io_is_open(socket) && (size_t)socket->fd < io->sim->end_count);
    struct sim_end *end = io->sim->ends[socket->fd];
    ASSERT(end->node == io);
    ASSERT(end->socket == socket); /* an open socket must not move */
    return end;
}

static struct sim_sharer *sharer_of(struct io *io, const struct io_socket *listener)
{
    int index = listener->fd - SIM_FD_LISTENER;
    ASSERT(index >= 0 && index < (int)io->sim->listener_count);
    ASSERT(io->sharers[index].socket == listener);
    return &io->sharers[index];
}

static void set_ready(struct io *io, struct io_socket *socket, unsigned bits)
{
    socket->ready = (uint8_t)(socket->ready | bits);
    if (!list_is_linked(&socket->ready_link)) {
        if (sim_chance(&io->sim->prng, 800)) {
            list_push_back(&io->ready, &socket->ready_link);
        } else {
            list_push_front(&io->ready, &socket->ready_link);
        }
    }
}

static void clear_ready(struct io_socket *socket, unsigned bits)
{
    socket->ready = (uint8_t)(socket->ready & ~bits);
}

/* Reports the edges since the last batch; the level decides what is reported, as in epoll. */
static uint32_t report_edges(struct io *io)
{
    struct list batch;
    list_take_all(&batch, &io->pending);
    uint32_t reported = 0;
    struct list *link = NULL;
    while ((link = list_pop_front(&batch)) != NULL) {
        struct sim_end *end = CONTAINER_OF(link, struct sim_end, pending_link);
        unsigned level = sim_end_level(end);
        if (level != 0) {
            set_ready(io, end->socket, level);
            reported++;
        }
    }
    return reported;
}

static uint32_t report_listeners(struct io *io)
{
    uint32_t reported = 0;
    for (uint32_t i = 0; i < io->sim->listener_count; i++) {
        struct sim_sharer *sharer = &io->sharers[i];
        if (sharer->socket != NULL && !sharer->paused && io->sim->listeners[i].waiting > 0) {
            set_ready(io, sharer->socket, IO_READABLE);
            reported++;
        }
    }
    return reported;
}

/* A wake-up without cause, on a random socket that is connected. */
static void report_nonsense(struct io *io)
{
    struct sim *sim = io->sim;
    if (io->socket_count == 0 || !sim_chance(&sim->prng, sim->options.spurious)) {
        return;
    }
    uint32_t skip = prng_below(&sim->prng, io->socket_count);
    struct list *link = io->sockets.next;
    while (skip-- > 0) {
        link = link->next;
    }
    struct sim_end *end = CONTAINER_OF(link, struct sim_end, node_link);
    if (end->state == SIM_OPEN) {
        set_ready(io, end->socket, 1 + prng_below(&sim->prng, 3));
    }
}

void io_wait(struct io *io, uint64_t until)
{
    ASSERT(io->sim->running == NULL || io->sim->running == io);
    io->now = io->sim->now;
    io->until = until;
    io->waited = true;
    bool idle = list_is_empty(&io->ready);
    uint32_t reported = report_edges(io) + report_listeners(io);
    io->blocked = idle && reported == 0 && until > io->now;
    if (!io->blocked) {
        report_nonsense(io);
    }
}

struct io_socket *io_next_ready(struct io *io)
{
    struct list *link = list_pop_front(&io->ready);
    return link == NULL ? NULL : CONTAINER_OF(link, struct io_socket, ready_link);
}

void io_requeue(struct io *io, struct io_socket *socket)
{
    ASSERT(io_is_open(socket));
    if (!list_is_linked(&socket->ready_link)) {
        list_push_back(&io->ready, &socket->ready_link);
    }
}

void io_socket_init(struct io_socket *socket)
{
    *socket = (struct io_socket){.fd = -1};
    list_init(&socket->ready_link);
}

/* By the dice, or because a test wants this very call to fail. */
static bool call_fails(struct sim *sim, const char *call, uint32_t permille)
{
    bool drawn = sim_chance(&sim->prng, permille);
    return drawn || (sim->options.fault != NULL && sim->options.fault(call));
}

enum status io_listen(struct io *io, struct io_socket *socket, int fd, uint8_t kind)
{
    int index = fd - SIM_FD_LISTENER;
    ASSERT(!io_is_open(socket));
    ASSERT(index >= 0 && index < (int)io->sim->listener_count);
    ASSERT(io->sharers[index].socket == NULL);
    if (call_fails(io->sim, "listen", 0)) {
        socket->error = ENOSPC; /* epoll's own limit */
        return ERROR;
    }
    io->sharers[index] = (struct sim_sharer){.socket = socket};
    socket->fd = fd;
    socket->kind = kind;
    socket->ready = 0;
    socket->foreign = true;
    return OK;
}

void io_listen_pause(struct io *io, struct io_socket *listener)
{
    sharer_of(io, listener)->paused = true;
    listener->ready = 0;
    list_unlink(&listener->ready_link);
}

void io_listen_resume(struct io *io, struct io_socket *listener)
{
    sharer_of(io, listener)->paused = false;
    io_requeue(io, listener);
}

static void open_socket(struct io *io, struct io_socket *socket, struct sim_end *end, uint8_t kind)
{
    socket->fd = end->fd;
    socket->kind = kind;
    socket->error = 0;
    socket->ready = 0;
    socket->stream = true;
    socket->foreign = false;
    end->node = io;
    end->socket = socket;
    list_push_back(&io->sockets, &end->node_link);
    io->socket_count++;
}

/* The socket and its end part; the end lives on in the network. */
static struct sim_end *let_go(struct io *io, struct io_socket *socket)
{
    struct sim_end *end = sim_end_of(io, socket);
    list_unlink(&socket->ready_link);
    list_unlink(&end->pending_link);
    list_unlink(&end->node_link);
    io->socket_count--;
    end->socket = NULL;
    socket->fd = -1;
    socket->ready = 0;
    return end;
}

enum status io_accept(struct io *io, struct io_socket *listener, struct io_socket *socket,
                      uint8_t kind, struct address *peer)
{
    struct sim *sim = io->sim;
    struct sim_listener *queue = &sim->listeners[listener->fd - SIM_FD_LISTENER];
    ASSERT(sharer_of(io, listener)->socket == listener && !io_is_open(socket));
    while (queue->waiting > 0) {
        if (call_fails(sim, "accept", sim->options.accept_error)) {
            static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
            listener->error = why_refused(sim, errors, 4);
            sim_record(sim, "accept fails", NULL, (uint64_t)listener->error);
            return ERROR;
        }
        struct sim_connection *connection =
            CONTAINER_OF(queue->backlog.next, struct sim_connection, backlog_link);
        list_unlink(&connection->backlog_link);
        connection->listener = NULL;
        queue->waiting--;
        if (connection->server.failed != 0 && sim_chance(&sim->prng, 500)) {
            sim_end_close(&connection->server, true);
            continue; /* ECONNABORTED */
        }
        open_socket(io, socket, &connection->server, kind);
        sim_record(sim, "accept", &connection->server, 0);
        *peer = connection->client.address;
        set_ready(io, socket, IO_READABLE | IO_WRITABLE);
        sim_end_edge(&connection->server);
        return OK;
    }
    listener->ready = 0;
    return AGAIN;
}

void io_local(struct io *io, const struct io_socket *socket, struct address *address)
{
    *address = sim_end_of(io, socket)->address;
}

/* A peer here has no buffer of its own: what it has not read is on its way. */
uint64_t io_acknowledged(struct io *io, const struct io_socket *socket)
{
    if (!io_is_open(socket)) {
        return 0;
    }
    const struct sim_pipe *pipe = &sim_end_of(io, socket)->out;
    return pipe->carried - pipe->flying - pipe->readable;
}

static enum status refuse_connect(struct io *io, struct io_socket *socket)
{
    static const int errors[] = {EMFILE, ENFILE, ENOBUFS, EADDRNOTAVAIL, ENETUNREACH};
    socket->error = why_refused(io->sim, errors, 5);
    sim_record(io->sim, "connect fails", NULL, (uint64_t)socket->error);
    return ERROR;
}

/* The network has no Unix sockets: nobody listens on one. */
enum status io_connect_unix(struct io *io, struct io_socket *socket, struct span path, uint8_t kind)
{
    (void)kind;
    ASSERT(!io_is_open(socket) && path.size > 0);
    socket->error = ECONNREFUSED;
    sim_record(io->sim, "connect fails", NULL, ECONNREFUSED);
    return ERROR;
}

enum status io_connect(struct io *io, struct io_socket *socket, const struct address *address,
                       uint8_t kind)
{
    struct sim *sim = io->sim;
    const struct sim_options *options = &sim->options;
    ASSERT(!io_is_open(socket));
    if (call_fails(sim, "connect", options->connect_error)) {
        return refuse_connect(io, socket);
    }
    struct sim_connection *connection = sim_connection_create(sim, io, address);
    struct sim_end *client = &connection->client;
    open_socket(io, socket, client, kind);
    sim_record(sim, "connect", client, address->port);
    if (sim_chance(&sim->prng, options->connect_blackhole)) {
        sim_schedule(client, sim->now + CONNECT_GIVES_UP, SIM_REFUSED, ETIMEDOUT);
        return AGAIN;
    }
    bool refused = sim_chance(&sim->prng, options->connect_refused);
    if (!refused && sim_chance(&sim->prng, options->connect_instant) && sim_handshake(connection)) {
        client->state = SIM_OPEN;
        socket->ready = IO_WRITABLE;
        return OK;
    }
    sim_schedule(&connection->server, sim->now + client->out.delay, SIM_SYN,
                 refused ? UINT32_MAX : 0);
    return AGAIN;
}

/* Linux tells an error once, to whichever call comes first; later reads see a plain end. */
static enum status broken(struct sim_end *end, struct io_socket *socket)
{
    socket->error = end->told ? EPIPE : end->failed;
    end->told = true;
    return ERROR;
}

enum status io_connect_result(struct io *io, struct io_socket *socket)
{
    struct sim_end *end = sim_end_of(io, socket);
    if ((socket->ready & (IO_WRITABLE | IO_FAILED)) == 0) {
        return AGAIN;
    }
    return end->failed != 0 ? broken(end, socket) : OK;
}

/* A call that fails for a reason of this machine: the connection cannot be used any further. */
static bool draw_call_error(struct sim *sim, struct sim_end *end, const char *call)
{
    if (end->failed != 0 || !call_fails(sim, call, sim->options.call_error)) {
        return false;
    }
    static const int errors[] = {ENOBUFS, ENOMEM, ETIMEDOUT, EHOSTUNREACH};
    sim_end_send_reset(end);
    end->failed = draw_error(sim, errors, 4);
    end->peer->out.readable = 0;
    sim_end_edge(end);
    sim_record(sim, "call fails", end, (uint64_t)end->failed);
    return true;
}

/* OK: there are bytes to be had. */
static enum status find_bytes(struct io *io, struct io_socket *socket)
{
    struct sim_end *end = sim_end_of(io, socket);
    const struct sim_pipe *in = &end->peer->out;
    if ((socket->ready & IO_READABLE) == 0) {
        return AGAIN;
    }
    if (draw_call_error(io->sim, end, "read")) {
        return broken(end, socket);
    }
    if (in->readable > 0) {
        return OK;
    }
    if (end->failed != 0 && !end->told) {
        return broken(end, socket);
    }
    if (in->fin_arrived || end->failed != 0) {
        return END;
    }
    clear_ready(socket, IO_READABLE);
    return AGAIN;
}

enum status sim_socket_read(struct io *io, struct io_socket *socket, void *data, size_t size,
                            size_t *got)
{
    ASSERT(size > 0);
    enum status status = find_bytes(io, socket);
    if (status == OK) {
        struct sim_end *end = sim_end_of(io, socket);
        uint32_t most = size < SIM_BUFFER_MAX ? (uint32_t)size : SIM_BUFFER_MAX;
        uint32_t taken = sim_end_receive(end, data, most);
        sim_record(io->sim, "read", end, taken);
        *got = taken;
    }
    return status;
}

enum status io_peek(struct io *io, struct io_socket *socket, void *data, size_t size, size_t *got)
{
    ASSERT(size > 0);
    enum status status = find_bytes(io, socket);
    if (status == OK) {
        struct sim_end *end = sim_end_of(io, socket);
        uint32_t most = size < SIM_BUFFER_MAX ? (uint32_t)size : SIM_BUFFER_MAX;
        *got = sim_end_peek(end, data, most);
        sim_record(io->sim, "peek", end, *got);
    }
    return status;
}

enum status io_read(struct io *io, struct io_socket *socket, void *data, size_t size, size_t *got)
{
    enum status status = sim_socket_read(io, socket, data, size, got);
    if (status == OK && *got < size && (socket->ready & (IO_PEER_CLOSED | IO_FAILED)) == 0) {
        clear_ready(socket, IO_READABLE);
    }
    return status;
}

static uint32_t total_size(const struct iovec *pieces, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        total += pieces[i].iov_len;
    }
    ASSERT(total > 0 && total <= UINT32_MAX);
    return (uint32_t)total;
}

static void send_pieces(struct sim_end *end, const struct iovec *pieces, uint32_t size)
{
    for (uint32_t sent = 0; sent < size; pieces++) {
        uint32_t left = size - sent;
        uint32_t piece = pieces->iov_len < left ? (uint32_t)pieces->iov_len : left;
        if (piece > 0) {
            sim_end_send(end, pieces->iov_base, piece);
        }
        sent += piece;
    }
}

enum status io_write(struct io *io, struct io_socket *socket, const struct iovec *pieces, int count,
                     size_t *put)
{
    struct sim *sim = io->sim;
    struct sim_end *end = sim_end_of(io, socket);
    ASSERT(count > 0 && count <= 16);
    uint32_t total = total_size(pieces, count);
    if ((socket->ready & IO_WRITABLE) == 0) {
        return AGAIN;
    }
    if (end->failed != 0 || draw_call_error(sim, end, "write")) {
        return broken(end, socket);
    }
    ASSERT(end->state == SIM_OPEN);
    ASSERT(!end->out.fin_sent); /* EPIPE: a write after io_shutdown */
    uint32_t room = sim_pipe_room(&end->out);
    uint32_t size = total < room ? total : room;
    if (size > 1 && sim_chance(&sim->prng, sim->options.short_write)) {
        size = (uint32_t)sim_magnitude(&sim->prng, 1, size - 1);
    }
    send_pieces(end, pieces, size);
    if (size < total) {
        clear_ready(socket, IO_WRITABLE);
        sim_end_starve(end);
    }
    if (size == 0) {
        return AGAIN;
    }
    *put = size;
    return OK;
}

void io_shutdown(struct io *io, struct io_socket *socket)
{
    struct sim_end *end = sim_end_of(io, socket);
    if (end->state == SIM_OPEN) {
        sim_end_send_fin(end);
    }
}

static void close_socket(struct io *io, struct io_socket *socket, bool abrupt)
{
    if (!io_is_open(socket)) {
        return;
    }
    if (socket->fd >= SIM_FD_LISTENER) {
        *sharer_of(io, socket) = (struct sim_sharer){0};
        list_unlink(&socket->ready_link);
        socket->fd = -1;
        socket->ready = 0;
        return;
    }
    struct sim_end *end = let_go(io, socket);
    sim_record(io->sim, abrupt ? "abort" : "close", end, 0);
    end->node = NULL;
    sim_end_close(end, abrupt);
}

void io_close(struct io *io, struct io_socket *socket)
{
    close_socket(io, socket, false);
}

void io_reset(struct io *io, struct io_socket *socket)
{
    close_socket(io, socket, true);
}
