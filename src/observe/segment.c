#include "observe/segment.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "observe/shared_memory.h"

enum { SEGMENT_LAYOUT = 2 };

#define SEGMENT_MAGIC UINT64_C(0x53454e5345474d31) /* "SENSEGM1" */

/* What the supervisor writes is above the line; the owner alone writes below it. */
struct segment_header {
    uint64_t magic;
    uint32_t layout;
    uint32_t role;
    uint64_t size;
    uint64_t incarnation;
    uint64_t regions[SEGMENT_REGION_COUNT]; /* sizes, compared with the plan and never used */
    uint32_t index;
    uint32_t reserved;
    /* ---- */
    _Alignas(SEGMENT_ALIGNMENT) _Atomic uint64_t turns;
    _Atomic int32_t pid;
};

static_assert(sizeof(struct segment_header) % SEGMENT_ALIGNMENT == 0, "regions are aligned");

static size_t round_up(size_t size)
{
    return (size + SEGMENT_ALIGNMENT - 1) & ~(size_t)(SEGMENT_ALIGNMENT - 1);
}

/* The whole segment's bytes, or 0 when the plan exceeds the bound. */
static size_t plan_size(const struct segment_plan *plan)
{
    size_t size = sizeof(struct segment_header);
    for (size_t i = 0; i < SEGMENT_REGION_COUNT; i++) {
        if (plan->sizes[i] > SEGMENT_SIZE_MAX || size > SEGMENT_SIZE_MAX) {
            return 0;
        }
        size += round_up(plan->sizes[i]);
    }
    return size <= SEGMENT_SIZE_MAX ? size : 0;
}

static size_t region_offset(const struct segment_plan *plan, enum segment_region region)
{
    size_t offset = sizeof(struct segment_header);
    for (size_t i = 0; i < (size_t)region; i++) {
        offset += round_up(plan->sizes[i]);
    }
    return offset;
}

static void fill_header(struct segment_header *header, const struct segment_plan *plan,
                        const struct segment_identity *identity)
{
    header->magic = SEGMENT_MAGIC;
    header->layout = SEGMENT_LAYOUT;
    header->role = (uint32_t)identity->role;
    header->size = plan_size(plan);
    header->incarnation = identity->incarnation;
    header->index = identity->index;
    for (size_t i = 0; i < SEGMENT_REGION_COUNT; i++) {
        header->regions[i] = plan->sizes[i];
    }
}

static bool header_matches(const struct segment_header *header, const struct segment_plan *plan,
                           const struct segment_identity *identity)
{
    struct segment_header expected = {0};
    fill_header(&expected, plan, identity);
    for (size_t i = 0; i < SEGMENT_REGION_COUNT; i++) {
        if (header->regions[i] != expected.regions[i]) {
            return false;
        }
    }
    return header->magic == expected.magic && header->layout == expected.layout &&
           header->role == expected.role && header->size == expected.size &&
           header->incarnation == expected.incarnation && header->index == expected.index;
}

static int write_header(int fd, const struct segment_plan *plan,
                        const struct segment_identity *identity)
{
    struct segment_header header = {0};
    fill_header(&header, plan, identity);
    ssize_t put = pwrite(fd, &header, sizeof(header), 0);
    if (put >= 0 && (size_t)put != sizeof(header)) {
        errno = EIO;
        return -1;
    }
    return put < 0 ? -1 : 0;
}

int segment_create(const struct segment_plan *plan, const struct segment_identity *identity)
{
    size_t size = plan_size(plan);
    if (size == 0) {
        errno = EFBIG;
        return -1;
    }
    int fd = shared_memory_create("sentinel-segment", size, 0);
    if (fd >= 0 && write_header(fd, plan, identity) != 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static enum status map(struct segment *segment, int fd, const struct segment *wanted)
{
    size_t size = plan_size(&wanted->plan);
    int protection = wanted->writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *memory = shared_memory_map(fd, size, protection);
    if (memory == NULL) {
        return ERROR;
    }
    if (!header_matches(memory, &wanted->plan, &wanted->identity)) {
        (void)munmap(memory, size);
        errno = EINVAL;
        return ERROR;
    }
    *segment = *wanted;
    segment->header = memory;
    segment->size = size;
    return OK;
}

enum status segment_map_owner(struct segment *segment, int fd, const struct segment_plan *plan,
                              const struct segment_identity *identity)
{
    struct segment wanted = {.writable = true, .plan = *plan, .identity = *identity};
    struct segment mapped = {0};
    if (map(&mapped, fd, &wanted) != OK) {
        return ERROR;
    }
    if (shared_memory_close_to_writers(fd) != OK) {
        int error = errno;
        segment_unmap(&mapped);
        errno = error;
        return ERROR;
    }
    atomic_store_explicit(&mapped.header->pid, (int32_t)getpid(), memory_order_relaxed);
    *segment = mapped;
    return OK;
}

enum status segment_map_reader(struct segment *segment, int fd, const struct segment_plan *plan,
                               const struct segment_identity *identity)
{
    struct segment wanted = {.plan = *plan, .identity = *identity};
    return map(segment, fd, &wanted);
}

void segment_unmap(struct segment *segment)
{
    if (segment->header != NULL) {
        (void)munmap(segment->header, segment->size);
    }
    *segment = (struct segment){0};
}

void *segment_region(const struct segment *segment, enum segment_region region)
{
    ASSERT(segment_is_mapped(segment) && segment->writable);
    ASSERT(region < SEGMENT_REGION_COUNT);
    if (segment->plan.sizes[region] == 0) {
        return NULL;
    }
    return (char *)segment->header + region_offset(&segment->plan, region);
}

const void *segment_region_read(const struct segment *segment, enum segment_region region)
{
    ASSERT(segment_is_mapped(segment));
    ASSERT(region < SEGMENT_REGION_COUNT);
    if (segment->plan.sizes[region] == 0) {
        return NULL;
    }
    return (const char *)segment->header + region_offset(&segment->plan, region);
}

int32_t segment_pid(const struct segment *segment)
{
    ASSERT(segment_is_mapped(segment));
    return atomic_load_explicit(&segment->header->pid, memory_order_relaxed);
}

void segment_count_turn(struct segment *segment)
{
    ASSERT(segment->writable);
    /* One writer: a plain increment, published as one word, costs a nanosecond. */
    uint64_t turns = atomic_load_explicit(&segment->header->turns, memory_order_relaxed);
    atomic_store_explicit(&segment->header->turns, turns + 1, memory_order_relaxed);
}

uint64_t segment_turns(const struct segment *segment)
{
    ASSERT(segment_is_mapped(segment));
    return atomic_load_explicit(&segment->header->turns, memory_order_relaxed);
}
