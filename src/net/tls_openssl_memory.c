/*
 * OpenSSL's heap: malloc's, counted, with a cap. The functions that the library calls are given no
 * context, so this count is the process's, and the one mutable global beside the crash handler's
 * pointer: a process has one engine, as it has one library.
 */
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "net/tls_openssl.h"

enum { CHUNK_HEADER = 8 }; /* malloc's own, before each piece */

static struct {
    uint64_t used;
    uint64_t max;
} heap = {.max = UINT64_MAX};

static uint64_t size_of(void *piece)
{
    return piece == NULL ? 0 : malloc_usable_size(piece) + CHUNK_HEADER;
}

static bool is_too_much(uint64_t more)
{
    return more > heap.max || heap.used > heap.max - more;
}

static void *heap_malloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    if (size == 0 || is_too_much(size)) {
        return NULL;
    }
    void *piece = malloc(size);
    heap.used += size_of(piece);
    return piece;
}

static void heap_free(void *piece, const char *file, int line)
{
    (void)file, (void)line;
    heap.used -= size_of(piece);
    free(piece);
}

static void *heap_realloc(void *piece, size_t size, const char *file, int line)
{
    if (piece == NULL) {
        return heap_malloc(size, file, line);
    }
    if (size == 0) {
        heap_free(piece, file, line);
        return NULL;
    }
    uint64_t before = size_of(piece);
    if (size > before && is_too_much(size - before)) {
        return NULL;
    }
    void *moved = realloc(piece, size);
    if (moved != NULL) {
        heap.used += size_of(moved) - before;
    }
    return moved;
}

bool tls_memory_install(uint64_t max)
{
    CRYPTO_malloc_fn function = NULL;
    CRYPTO_realloc_fn second = NULL;
    CRYPTO_free_fn third = NULL;
    CRYPTO_get_mem_functions(&function, &second, &third);
    heap.max = max;
    return function == heap_malloc ||
           CRYPTO_set_mem_functions(heap_malloc, heap_realloc, heap_free) == 1;
}

uint64_t tls_memory_used(void)
{
    return heap.used;
}
