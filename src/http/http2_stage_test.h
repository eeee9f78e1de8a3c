/*
 * What a session of HTTP/2 stands on in tests and fuzzers, as a worker would give it: loop, timers,
 * buffers, inboxes, HTTP/2's memory, and the context that names them.
 */
#ifndef SENTINEL_HTTP_HTTP2_STAGE_TEST_H
#define SENTINEL_HTTP_HTTP2_STAGE_TEST_H

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "http/http2_wire.h"
#include "io/io_epoll.h"

enum {
    STAGE_MEMORY = 4 * 1024 * 1024,
    STAGE_SCRATCH = 64 * 1024,
    STAGE_FD = 1000, /* never used: the transport is the test's own */
};

struct http2_stage {
    struct io *io;
    struct timer_wheel wheel;
    struct buffer_pool buffers;
    struct slab inboxes;
    struct http2_context http2;
    struct session_context context;
};

static inline void http2_stage_init(struct http2_stage *stage, uint32_t streams)
{
    const struct http2_limits limits = {.streams = streams, .window = 65536, .glitches = 300};
    const struct http1_limits head = {
        .request_line_max = 2048, .head_max = 4096, .fields_max = 40, .merge_slashes = true};
    stage->io = io_epoll_create();
    ASSERT(stage->io != NULL);
    timer_wheel_init(&stage->wheel, io_now(stage->io));
    bool ready = buffer_pool_init(&stage->buffers, (uint64_t)64 * BUFFER_SIZE) &&
                 slab_init(&stage->inboxes, head.head_max, 4) &&
                 http2_context_init(&stage->http2, STAGE_MEMORY, &limits);
    ASSERT(ready);
    stage->context = (struct session_context){
        .io = stage->io,
        .wheel = &stage->wheel,
        .buffers = &stage->buffers,
        .client_inboxes = &stage->inboxes,
        .upstream_inboxes = &stage->inboxes,
        .scratch = malloc(STAGE_SCRATCH),
        .scratch_size = STAGE_SCRATCH,
        .render = malloc(BYTE_QUEUE_MAX),
        .render_size = BYTE_QUEUE_MAX,
        .http2 = &stage->http2,
        .limits = {.head = head,
                   .request_head_timeout = 1000000,
                   .keep_alive_timeout = 1000000,
                   .upstream_keep_alive_timeout = 1000000,
                   .linger_timeout = 1000000,
                   .linger_bytes_max = 100000,
                   .requests_max = 50},
    };
    ASSERT(stage->context.scratch != NULL && stage->context.render != NULL);
}

/* No session is left: everything is back. */
static inline void http2_stage_check_idle(const struct http2_stage *stage)
{
    ASSERT(stage->http2.memory.pages_in_use == 0 && stage->http2.counts.sessions == 0);
    ASSERT(stage->http2.counts.streams == 0 && stage->buffers.slab.in_use == 0);
    ASSERT(stage->wheel.count == 0);
}

static inline void http2_stage_deinit(struct http2_stage *stage)
{
    http2_context_deinit(&stage->http2);
    buffer_pool_deinit(&stage->buffers);
    slab_deinit(&stage->inboxes);
    free(stage->context.scratch);
    free(stage->context.render);
    io_epoll_destroy(stage->io);
}

/* For a stub's transport_ops: what is there to be read comes at once; and how it closes. */
static inline enum status http2_stage_take(struct span *input, void *data, size_t size, size_t *got)
{
    if (input->size == 0) {
        return AGAIN;
    }
    ASSERT(size >= input->size);
    memcpy(data, input->data, input->size);
    *got = input->size;
    *input = SPAN_EMPTY;
    return OK;
}

static inline void http2_stage_close(struct transport *transport)
{
    transport->socket.fd = -1;
    list_unlink(&transport->socket.ready_link);
}

/* A session at its beginning, on a transport of the test's own. */
static inline void http2_stage_session(struct http2_stage *stage, struct http2_session *session,
                                       const struct transport_ops *transport)
{
    session_init(&session->session, &stage->context, 1);
    session->session.transport.ops = transport;
    session->session.transport.socket.fd = STAGE_FD;
}

#endif
