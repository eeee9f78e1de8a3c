#include "observe/commons.h"

#include <fcntl.h> /* F_SEAL_SEAL */
#include <sys/mman.h>

#include "base/assert.h"
#include "observe/shared_memory.h"

enum {
    LINE_WORDS = 8, /* of a cache line: those who write different things do not share one */
    RATE_CELLS_MIN = 4096,
    RATE_CELLS_MAX = 1024 * 1024,
    SAY_AGAIN_BELOW = COMMONS_BORROWING_TIME / 2,
};

static uint32_t rate_cells_of(const struct generation *generation)
{
    const struct generation_server *server = &generation->header->server;
    uint32_t cells = RATE_CELLS_MIN;
    if (server->limits.request_rate == 0) {
        return 0;
    }
    while (cells < RATE_CELLS_MAX && cells / 2 < server->connections) {
        cells *= 2;
    }
    return cells;
}

static size_t lines(size_t words)
{
    return (words + LINE_WORDS - 1) / LINE_WORDS * LINE_WORDS;
}

size_t commons_size(const struct generation *generation)
{
    size_t words =
        LINE_WORDS + lines(generation->header->endpoints.count) + rate_cells_of(generation);
    return words * sizeof(uint64_t);
}

void commons_init(struct commons *commons, void *memory, const struct generation *generation)
{
    ASSERT((uintptr_t)memory % (LINE_WORDS * sizeof(uint64_t)) == 0);
    _Atomic uint64_t *words = (_Atomic uint64_t *)memory;
    uint32_t probes = generation->header->endpoints.count;
    *commons = (struct commons){.borrowing = words,
                                .probes = words + LINE_WORDS,
                                .rates = words + LINE_WORDS + lines(probes),
                                .probe_count = probes,
                                .rate_cells = rate_cells_of(generation)};
}

int commons_create(const struct generation *generation)
{
    /* No worker may seal it against the others. */
    return shared_memory_create("sentinel-commons", commons_size(generation), F_SEAL_SEAL);
}

void *commons_map(int fd, const struct generation *generation)
{
    return shared_memory_map(fd, commons_size(generation), PROT_READ | PROT_WRITE);
}

void commons_unmap(void *memory, const struct generation *generation)
{
    if (memory != NULL) {
        (void)munmap(memory, commons_size(generation));
    }
}

void commons_note_borrowing(const struct commons *commons, uint64_t now)
{
    uint64_t until = atomic_load_explicit(commons->borrowing, memory_order_relaxed);
    if (until > now + SAY_AGAIN_BELOW && until - now <= COMMONS_BORROWING_TIME) {
        return; /* the word is every worker's: it is written as seldom as will do */
    }
    /* Whoever else writes says the same: it does not matter who wins. */
    (void)atomic_compare_exchange_strong_explicit(commons->borrowing, &until,
                                                  now + COMMONS_BORROWING_TIME,
                                                  memory_order_seq_cst, memory_order_relaxed);
}
