#include "observe/commons.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"

enum {
    LINE_WORDS = 8, /* of a cache line: those who write different things do not share one */
    RATE_CELLS_MIN = 4096,
    RATE_CELLS_MAX = 1024 * 1024,
    SAY_AGAIN_BELOW = COMMONS_BORROWING_TIME / 2,
    SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
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
    int fd = memfd_create("sentinel-commons", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -1;
    }
    if (ftruncate(fd, (off_t)commons_size(generation)) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* A descriptor that could still shrink would kill whoever has it mapped. */
static bool descriptor_fits(int fd, size_t size)
{
    struct stat stat;
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & SEALS) == SEALS && fstat(fd, &stat) == 0 &&
           stat.st_size == (off_t)size;
}

void *commons_map(int fd, const struct generation *generation)
{
    size_t size = commons_size(generation);
    if (!descriptor_fits(fd, size)) {
        errno = EINVAL;
        return NULL;
    }
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? NULL : memory;
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
