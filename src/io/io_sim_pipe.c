/*
 * Pipes of the simulator. A move through one is a read and a write like any other, with the same
 * ways to fail, byte for byte; what a real pipe adds is that it takes less than there is.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "io/io_sim.h"

enum { SMALL = 8 * 1024, LEAST = 64 * 1024, MOST = 256 * 1024 };

static struct sim_kernel_pipe *inside_of(struct io *io, const struct io_pipe *pipe)
{
    for (struct list *link = io->pipes.next; link != &io->pipes; link = link->next) {
        struct sim_kernel_pipe *inside = CONTAINER_OF(link, struct sim_kernel_pipe, link);
        if (inside->pipe == pipe) {
            return inside;
        }
    }
    UNREACHABLE("an open pipe must not move, and is used by its own process only");
}

enum status io_pipe_open(struct io *io, struct io_pipe *pipe)
{
    struct sim *sim = io->sim;
    if (sim_chance(&sim->prng, sim->options.pipe_error)) {
        sim_record(sim, "no pipe", NULL, io->ordinal);
        return ERROR;
    }
    bool small = sim->options.pipe_error > 0 && sim_chance(&sim->prng, 200);
    uint32_t capacity = small ? SMALL : (uint32_t)sim_magnitude(&sim->prng, LEAST, MOST);
    struct sim_kernel_pipe *inside =
        sim_allocate(NULL, 1, sizeof(struct sim_kernel_pipe) + capacity);
    *inside = (struct sim_kernel_pipe){.node = io, .pipe = pipe};
    list_push_back(&io->pipes, &inside->link);
    io->pipe_count++;
    *pipe = (struct io_pipe){.in = 0, .out = 0, .capacity = capacity};
    return OK;
}

void io_pipe_close(struct io *io, struct io_pipe *pipe)
{
    if (pipe->in < 0) {
        return;
    }
    struct sim_kernel_pipe *inside = inside_of(io, pipe);
    list_unlink(&inside->link);
    io->pipe_count--;
    free(inside);
    *pipe = (struct io_pipe){.in = -1, .out = -1};
}

void sim_pipes_drop(struct io *io)
{
    struct list *link = io->pipes.next;
    while (link != &io->pipes) { /* all of them go: none is unlinked */
        struct list *next = link->next;
        free(CONTAINER_OF(link, struct sim_kernel_pipe, link));
        link = next;
    }
    list_init(&io->pipes);
}

/* How much of it is moved at once: sometimes less than there is. */
static size_t some_of(struct sim *sim, size_t size)
{
    if (size > 1 && sim_chance(&sim->prng, sim->options.short_splice)) {
        return (size_t)sim_magnitude(&sim->prng, 1, size - 1);
    }
    return size;
}

enum status io_splice_in(struct io *io, struct io_socket *socket, struct io_pipe *pipe, size_t max,
                         size_t *got)
{
    struct sim_kernel_pipe *inside = inside_of(io, pipe);
    ASSERT(pipe->size == 0 && max > 0);
    size_t most = max < pipe->capacity ? max : pipe->capacity;
    enum status status = sim_socket_read(io, socket, inside->bytes, some_of(io->sim, most), got);
    if (status == OK) {
        pipe->size = (uint32_t)*got;
        inside->first = 0;
    }
    return status;
}

enum status io_splice_out(struct io *io, struct io_socket *socket, struct io_pipe *pipe,
                          size_t *put)
{
    struct sim_kernel_pipe *inside = inside_of(io, pipe);
    ASSERT(pipe->size > 0);
    const struct iovec piece = {.iov_base = inside->bytes + inside->first,
                                .iov_len = some_of(io->sim, pipe->size)};
    enum status status = io_write(io, socket, &piece, 1, put);
    if (status == OK) {
        inside->first += (uint32_t)*put;
        pipe->size -= (uint32_t)*put;
    }
    return status;
}
