/*
 * The memory of HTTP/2: one mapping for each worker, of fixed size, out of which come the codec's
 * state (nghttp2_mem), the sessions' own, their streams and the bytes that peers were allowed to
 * send ahead. It is a row of the worker's plan, so that no number of connections can take more.
 * Each connection has an account with a maximum of its own, so that none can take what the others
 * need.
 *
 * The mapping is divided into pages, a page into objects of one size class; an empty page goes back
 * and may serve another class. What is larger than a page, which only an oversize field brings
 * about, takes neighbouring pages. Memory that was never lent is never touched. Not thread-safe.
 */
#ifndef SENTINEL_HTTP_HTTP2_MEMORY_H
#define SENTINEL_HTTP_HTTP2_MEMORY_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    HTTP2_PAGE_SIZE = 16 * 1024 + 256, /* holds one frame of the codec's */
    HTTP2_MEMORY_CLASSES = 18,
};

struct http2_page;

struct http2_memory {
    uint8_t *pages;           /* mapped, owned; NULL: no HTTP/2 here */
    struct http2_page *table; /* what each page is used for; in the same mapping */
    uint32_t page_count;
    uint32_t fresh;     /* pages from here on were never lent */
    uint32_t free_head; /* of the list of free pages, or UINT32_MAX */
    uint32_t pages_in_use;
    uint32_t kept; /* pages that only the codec gets: without memory it ends a connection */
    uint32_t partial[HTTP2_MEMORY_CLASSES]; /* pages with a free object, by class */
};

/* What one connection holds of it. */
struct http2_account {
    struct http2_memory *memory;
    uint64_t used; /* bytes, rounded up as they are held */
    uint64_t max;
    uint64_t kept;    /* of it, what only the codec gets */
    void *given_back; /* by a codec that was refused, until http2_account_settle */
    bool refused;     /* the codec has once got nothing: its session cannot go on */
};

/* How many pages are in so many bytes, and what mapping them takes, bookkeeping included. */
uint32_t http2_memory_pages(uint64_t bytes);
uint64_t http2_memory_bytes(uint64_t bytes);

/* Maps room for `bytes`, at least one page's. False with errno when the system refuses. */
NODISCARD bool http2_memory_init(struct http2_memory *memory, uint64_t bytes);

/* Unmaps. All must be back; one that was never initialised (all zero) is fine. */
void http2_memory_deinit(struct http2_memory *memory);

/* Pages that nobody holds. */
static inline uint32_t http2_memory_spare(const struct http2_memory *memory)
{
    return memory->page_count - memory->pages_in_use;
}

/*
 * Lends bytes (at least 1), 16-byte aligned, not zeroed; NULL at either maximum, less what is kept
 * for the codec.
 */
NODISCARD void *http2_allocate(struct http2_account *account, size_t size);

/*
 * Moves an allocation to another size, keeping what fits; NULL (and nothing changed) at either
 * maximum. A NULL object is a new one.
 */
NODISCARD void *http2_resize(struct http2_account *account, void *object, size_t size);

/* How many bytes the object really has: at least what was asked for. */
size_t http2_size_of(const struct http2_account *account, const void *object);

/* Takes an object back; NULL is fine. */
void http2_free(struct http2_account *account, void *object);

/*
 * The account as the codec's allocator. The account must outlive what is allocated from it. Once it
 * has refused something, what the codec frees is kept until its session is gone: on its way out of
 * that nghttp2 (1.52) looks at an item that it has freed, and frees it again.
 */
nghttp2_mem http2_codec_memory(struct http2_account *account);

/* Takes back what was kept; the codec's session is gone. */
void http2_account_settle(struct http2_account *account);

#endif
