#include "config/secrets.h"

#include "base/assert.h"

#define SECRETS_MAGIC UINT64_C(0x313059454b5f4e53) /* "SN_KEY01" in memory */

enum { BLOCK_ALIGNMENT = 8 };

/* References follow it, one for each key, then the bytes of the keys without a gap. */
struct secrets_header {
    uint64_t magic;
    uint64_t number; /* of the generation */
    uint32_t size;   /* of the whole block */
    uint32_t count;
};

static_assert(sizeof(struct secrets_header) + GENERATION_CERTIFICATES_MAX * sizeof(struct ref) <=
                  1024 * 1024,
              "the bound of the block has room for what is not keys");

static size_t keys_offset(uint32_t count)
{
    return sizeof(struct secrets_header) + (size_t)count * sizeof(struct ref);
}

size_t secrets_size(const struct span *keys, uint32_t count)
{
    size_t size = keys_offset(count);
    ASSERT(count <= GENERATION_CERTIFICATES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(keys[i].size <= SECRETS_KEY_MAX);
        size += keys[i].size;
    }
    ASSERT(size <= SECRETS_SIZE_MAX);
    return size;
}

void secrets_write(uint8_t *block, const struct span *keys, uint32_t count, uint64_t number)
{
    struct secrets_header header = {
        .magic = SECRETS_MAGIC,
        .number = number,
        .size = (uint32_t)secrets_size(keys, count),
        .count = count,
    };
    size_t used = keys_offset(count);
    memcpy(block, &header, sizeof(header));
    for (uint32_t i = 0; i < count; i++) {
        struct ref ref = {0};
        if (keys[i].size > 0) {
            ref = (struct ref){(uint32_t)used, (uint32_t)keys[i].size};
            memcpy(block + used, keys[i].data, keys[i].size);
            used += keys[i].size;
        }
        memcpy(block + keys_offset(i), &ref, sizeof(ref));
    }
    ASSERT(used == header.size);
}

/* A block of the builder's keys; NULL data where there is no room. */
static struct span finish_block(struct secrets_builder *builder, const struct span *keys,
                                uint32_t count, uint64_t number)
{
    size_t size = secrets_size(keys, count);
    uint8_t *block = arena_alloc(&builder->arena, size);
    if (block == NULL) {
        return SPAN_EMPTY;
    }
    secrets_write(block, keys, count, number);
    return span_of(block, size);
}

bool secrets_finish(struct secrets_builder *builder, uint32_t count, uint64_t number)
{
    struct span *checks = arena_calloc(&builder->arena, count, sizeof(*checks));
    for (uint32_t i = 0; checks != NULL && i < count; i++) {
        checks[i] = builder->is_checks[i] ? builder->keys[i] : SPAN_EMPTY;
    }
    builder->block = finish_block(builder, builder->keys, count, number);
    builder->check_block =
        checks == NULL ? SPAN_EMPTY : finish_block(builder, checks, count, number);
    return builder->block.size > 0 && builder->check_block.size > 0;
}

uint64_t secrets_bound(const struct generation *generation)
{
    enum { SMALL_KEY = 512 }; /* any but RSA, whose PEM has fewer bytes than the key has bits */
    uint32_t count = generation->header->certificates.count;
    uint64_t bytes = 2 * (uint64_t)keys_offset(count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits = generation_certificate(generation, i)->key_bits;
        bytes += 2 * (uint64_t)(bits > SMALL_KEY ? bits : SMALL_KEY);
    }
    return bytes;
}

bool secrets_open(struct secrets *secrets, struct span block, const struct generation *generation)
{
    if (block.data == NULL || block.size < sizeof(struct secrets_header) ||
        block.size > SECRETS_SIZE_MAX || (uintptr_t)block.data % BLOCK_ALIGNMENT != 0) {
        return false;
    }
    const struct secrets_header *header = (const void *)block.data;
    if (header->magic != SECRETS_MAGIC || header->size != block.size ||
        header->number != generation->header->number ||
        header->count != generation->header->certificates.count ||
        block.size < keys_offset(header->count)) {
        return false;
    }
    const struct ref *refs = (const void *)(header + 1);
    size_t used = keys_offset(header->count);
    for (uint32_t i = 0; i < header->count; i++) {
        if (refs[i].count == 0 && refs[i].offset == 0) {
            continue;
        }
        if (refs[i].offset != used || refs[i].count == 0 || refs[i].count > SECRETS_KEY_MAX ||
            refs[i].count > block.size - used) {
            return false;
        }
        used += refs[i].count;
    }
    if (used != block.size) {
        return false;
    }
    *secrets = (struct secrets){.base = block.data, .count = header->count};
    return true;
}

struct span secrets_key(const struct secrets *secrets, uint32_t index)
{
    ASSERT(index < secrets->count);
    struct ref ref;
    memcpy(&ref, secrets->base + keys_offset(index), sizeof(ref));
    return span_of(secrets->base + ref.offset, ref.count);
}
