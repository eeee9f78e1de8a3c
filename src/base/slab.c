#include "base/slab.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/assert.h"

enum { SLAB_ALIGNMENT = 16 };

static const uint32_t NONE = UINT32_MAX;
static const uint32_t LENT = UINT32_MAX - 1;

struct slot {
    uint32_t lease; /* odd while lent; counts up at each acquire and release */
    uint32_t next_free;
    uint64_t reserved;
};

static_assert(sizeof(struct slot) == SLAB_ALIGNMENT, "objects stay aligned behind their header");

static struct slot *slot_at(const struct slab *slab, uint32_t index)
{
    return (struct slot *)(void *)(slab->memory + (size_t)index * slab->stride);
}

static uint32_t index_of(const struct slab *slab, const void *object)
{
    size_t offset = (size_t)((const uint8_t *)object - slab->memory) - sizeof(struct slot);
    ASSERT(offset % slab->stride == 0 && offset / slab->stride < slab->capacity);
    return (uint32_t)(offset / slab->stride);
}

/* Bytes from object to object and of all of them; false when that cannot be counted. */
static bool measure(size_t object_size, uint32_t capacity, size_t *stride, size_t *total)
{
    if (__builtin_add_overflow(object_size, sizeof(struct slot) + SLAB_ALIGNMENT - 1, stride)) {
        return false;
    }
    *stride &= ~(size_t)(SLAB_ALIGNMENT - 1);
    return !__builtin_mul_overflow(*stride, capacity, total);
}

uint64_t slab_bytes(size_t object_size, uint32_t capacity)
{
    size_t stride = 0;
    size_t total = 0;
    return measure(object_size, capacity, &stride, &total) ? total : UINT64_MAX;
}

bool slab_init(struct slab *slab, size_t object_size, uint32_t capacity)
{
    ASSERT(object_size > 0 && capacity > 0 && capacity < LENT);
    size_t stride = 0;
    size_t total = 0;
    if (!measure(object_size, capacity, &stride, &total)) {
        errno = ENOMEM;
        return false;
    }
    void *memory = mmap(NULL, total, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    *slab = (struct slab){.memory = memory,
                          .stride = stride,
                          .object_size = object_size,
                          .capacity = capacity,
                          .free_head = NONE};
    return true;
}

void slab_drop(struct slab *slab)
{
    if (slab->memory != NULL) {
        int failed = munmap(slab->memory, slab->stride * slab->capacity);
        ASSERT(failed == 0);
    }
    *slab = (struct slab){0};
}

void slab_deinit(struct slab *slab)
{
    ASSERT(slab->in_use == 0);
    slab_drop(slab);
}

void *slab_acquire(struct slab *slab)
{
    uint32_t index = slab->free_head;
    if (index != NONE) {
        slab->free_head = slot_at(slab, index)->next_free;
    } else if (slab->fresh < slab->capacity) {
        index = slab->fresh++;
    } else {
        return NULL;
    }
    struct slot *slot = slot_at(slab, index);
    ASSERT(slot->lease % 2 == 0);
    slot->lease++;
    slot->next_free = LENT;
    slab->in_use++;
    return slot + 1;
}

void slab_release(struct slab *slab, void *object)
{
    uint32_t index = index_of(slab, object);
    struct slot *slot = slot_at(slab, index);
    ASSERT(slot->lease % 2 == 1 && slot->next_free == LENT);
    ASSERT(slab->in_use > 0);
    slot->lease++;
    slot->next_free = slab->free_head;
    slab->free_head = index;
    slab->in_use--;
}

void *slab_next(const struct slab *slab, uint32_t *place)
{
    while (*place < slab->fresh) {
        struct slot *slot = slot_at(slab, (*place)++);
        if (slot->lease % 2 == 1) {
            return slot + 1;
        }
    }
    return NULL;
}

uint64_t slab_handle(const struct slab *slab, const void *object)
{
    uint32_t index = index_of(slab, object);
    uint32_t lease = slot_at(slab, index)->lease;
    ASSERT(lease % 2 == 1);
    return (uint64_t)lease << 32 | index;
}

void *slab_resolve(const struct slab *slab, uint64_t handle)
{
    uint32_t index = (uint32_t)handle;
    uint32_t lease = (uint32_t)(handle >> 32);
    if (lease % 2 == 0 || index >= slab->fresh) {
        return NULL; /* no handle: 0, or made up */
    }
    struct slot *slot = slot_at(slab, index);
    return slot->lease == lease ? slot + 1 : NULL;
}
