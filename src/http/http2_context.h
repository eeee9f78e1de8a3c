/*
 * What all HTTP/2 sessions of one worker share: their memory, the codec's table of callbacks and
 * options, the limits, and what the metrics want to know. Made once, when the worker is created.
 */
#ifndef SENTINEL_HTTP_HTTP2_CONTEXT_H
#define SENTINEL_HTTP_HTTP2_CONTEXT_H

#include "http/http2_budget.h"
#include "http/http2_memory.h"

enum {
    HTTP2_UPSTREAM_STREAMS_MAX = 100, /* on one connection, whatever the peer would allow */
    HTTP2_AMPLE_PERCENT = 30,         /* of the memory is free: windows may open */
};

struct http2_limits {
    uint32_t streams;  /* of one connection at a time */
    uint32_t window;   /* bytes that a peer may send ahead, on a connection and on each stream */
    uint32_t glitches; /* the budget of one connection */
    bool switching;    /* clients may ask for other protocols by extended CONNECT (RFC 8441) */
};

/* Since they were published last. */
struct http2_counts {
    uint64_t glitches[HTTP2_GLITCH_COUNT];
    uint64_t resets[HTTP2_DIRECTIONS][HTTP2_CODES];
    uint64_t goaways[HTTP2_DIRECTIONS][HTTP2_CODES];
    bool any;          /* something has changed */
    uint32_t sessions; /* open now */
    uint32_t streams;  /* held now */
};

static inline void http2_count(struct http2_counts *counts, uint64_t *cell)
{
    counts->any = true;
    (*cell)++;
}

struct http2_context {
    struct http2_memory memory;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;
    struct http2_limits limits;
    struct http2_counts counts;
};

/* Memory of `bytes`. False with errno when the system refuses. */
NODISCARD bool http2_context_init(struct http2_context *context, uint64_t bytes,
                                  const struct http2_limits *limits);

/* All sessions are over. One that never was initialised (all zero) is fine. */
void http2_context_deinit(struct http2_context *context);

/* Whether there is memory for another session beside what those there are may need. */
static inline bool http2_context_has_room(const struct http2_context *context)
{
    return http2_memory_spare(&context->memory) > context->memory.page_count / 4;
}

/* Whether bytes that wait for their readers may come to be more than they are. */
static inline bool http2_context_is_ample(const struct http2_context *context)
{
    return http2_memory_spare(&context->memory) >
           (uint64_t)context->memory.page_count * HTTP2_AMPLE_PERCENT / 100;
}

#endif
