#include "observe/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "observe/shared_memory.h"

enum {
    OWNER_LOGGER,
    OWNER_CONTROLLER,
    OWNER_WORKERS,
    LINE_WORDS = 8,    /* of a cache line */
    TRIES_MAX = 10000, /* each lost one means that another process has ended meanwhile */
};

struct ledger_memory {
    _Alignas(LINE_WORDS * sizeof(uint64_t)) _Atomic uint64_t version;
    _Alignas(LINE_WORDS * sizeof(uint64_t)) _Atomic uint64_t words[];
};

static uint32_t owners_of(const struct generation *generation)
{
    return OWNER_WORKERS + generation->header->server.workers;
}

/* The words of one copy: the last incarnation of each owner, then the cells. */
static size_t copy_words(const struct generation *generation)
{
    size_t words = owners_of(generation) + metrics_size(generation) / sizeof(uint64_t);
    return (words + LINE_WORDS - 1) / LINE_WORDS * LINE_WORDS;
}

/* Where the table of processes begins: copies are whole cache lines. */
static size_t table_offset(const struct generation *generation)
{
    return sizeof(struct ledger_memory) + 2 * copy_words(generation) * sizeof(uint64_t);
}

size_t ledger_size(const struct generation *generation)
{
    return table_offset(generation) + process_table_size(generation);
}

struct process_row *ledger_processes(const struct ledger *ledger,
                                     const struct generation *generation)
{
    return (struct process_row *)(void *)((uint8_t *)ledger->memory + table_offset(generation));
}

const struct process_row *ledger_processes_read(const void *memory,
                                                const struct generation *generation)
{
    return (const struct process_row *)(const void *)((const uint8_t *)memory +
                                                      table_offset(generation));
}

/* The owner's place; `owners` for one that the ledger does not know. */
static uint32_t owner_of(const struct segment_identity *identity, uint32_t owners)
{
    switch (identity->role) {
    case PROCESS_COMPILER:
        return owners;
    case PROCESS_LOGGER:
        return OWNER_LOGGER;
    case PROCESS_CONTROLLER:
        return OWNER_CONTROLLER;
    case PROCESS_WORKER:
        return identity->index < owners - OWNER_WORKERS ? OWNER_WORKERS + identity->index : owners;
    }
    UNREACHABLE("a role");
}

void ledger_init(struct ledger *ledger, void *memory, const struct generation *generation)
{
    ASSERT((uintptr_t)memory % (LINE_WORDS * sizeof(uint64_t)) == 0);
    *ledger =
        (struct ledger){.memory = (struct ledger_memory *)memory, .owners = owners_of(generation)};
    for (size_t i = 0; i < 2; i++) {
        ledger->folded[i] = ledger->memory->words + i * copy_words(generation);
        metrics_init(&ledger->copies[i], ledger->folded[i] + ledger->owners, generation);
    }
}

int ledger_create(struct ledger *ledger, const struct generation *generation)
{
    size_t size = ledger_size(generation);
    int fd = shared_memory_create("sentinel-ledger", size, 0);
    if (fd < 0) {
        return -1;
    }
    void *memory = shared_memory_map(fd, size, PROT_READ | PROT_WRITE);
    if (memory == NULL || shared_memory_close_to_writers(fd) != OK) {
        int error = errno;
        if (memory != NULL) {
            (void)munmap(memory, size);
        }
        (void)close(fd);
        errno = error;
        return -1;
    }
    ledger_init(ledger, memory, generation);
    return fd;
}

void ledger_destroy(struct ledger *ledger, const struct generation *generation)
{
    if (ledger->memory != NULL) {
        (void)munmap(ledger->memory, ledger_size(generation));
    }
    *ledger = (struct ledger){0};
}

const void *ledger_map(int fd, const struct generation *generation)
{
    return shared_memory_map(fd, ledger_size(generation), PROT_READ);
}

void ledger_unmap(const void *memory, const struct generation *generation)
{
    if (memory != NULL) {
        (void)munmap((void *)(uintptr_t)memory, ledger_size(generation));
    }
}

/*
 * The version is moved on with release, after all of its copy; the fence keeps the stores of the
 * next fold behind it, so that a reader who sees one of those also sees that the version moved.
 */
static void publish(struct ledger *ledger, uint64_t version)
{
    atomic_store_explicit(&ledger->memory->version, version, memory_order_release);
    atomic_thread_fence(memory_order_release);
}

void ledger_fold(struct ledger *ledger, const struct segment_identity *identity, const void *cells)
{
    uint32_t owner = owner_of(identity, ledger->owners);
    uint64_t version = atomic_load_explicit(&ledger->memory->version, memory_order_relaxed);
    size_t from = version % 2;
    size_t to = 1 - from;
    if (owner >= ledger->owners || ledger->folded[from][owner] >= identity->incarnation) {
        return;
    }
    uint32_t words = ledger->owners + ledger->copies[from].layout.cells;
    for (uint32_t i = 0; i < words; i++) {
        uint64_t word = atomic_load_explicit(&ledger->folded[from][i], memory_order_relaxed);
        atomic_store_explicit(&ledger->folded[to][i], word, memory_order_relaxed);
    }
    metrics_fold(&ledger->copies[to], cells);
    atomic_store_explicit(&ledger->folded[to][owner], identity->incarnation, memory_order_relaxed);
    publish(ledger, version + 1);
}

bool ledger_view_init(struct ledger_view *view, const void *memory,
                      const struct generation *generation)
{
    *view = (struct ledger_view){.memory = (const struct ledger_memory *)memory,
                                 .owners = owners_of(generation)};
    view->folded = calloc(copy_words(generation), sizeof(uint64_t));
    if (view->folded == NULL) {
        return false;
    }
    metrics_init(&view->totals, view->folded + view->owners, generation);
    return true;
}

void ledger_view_deinit(struct ledger_view *view)
{
    free(view->folded);
    *view = (struct ledger_view){0};
}

/* Copies the current copy; false when it was written to meanwhile. */
static bool copy_current(uint64_t *words, size_t count, const struct ledger_memory *memory,
                         size_t stride)
{
    uint64_t version = atomic_load_explicit(&memory->version, memory_order_acquire);
    const _Atomic uint64_t *from = memory->words + (version % 2) * stride;
    for (size_t i = 0; i < count; i++) {
        words[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
    }
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&memory->version, memory_order_relaxed) == version;
}

void ledger_view_refresh(struct ledger_view *view)
{
    if (view->memory == NULL) {
        return;
    }
    size_t words = view->owners + view->totals.layout.cells;
    size_t stride = (words + LINE_WORDS - 1) / LINE_WORDS * LINE_WORDS;
    unsigned tries = 0;
    while (!copy_current(view->folded, words, view->memory, stride)) {
        tries++;
        ASSERT(tries < TRIES_MAX);
    }
}

bool ledger_view_contains(const struct ledger_view *view, const struct segment_identity *identity)
{
    uint32_t owner = owner_of(identity, view->owners);
    return owner < view->owners && view->folded[owner] >= identity->incarnation;
}
