/*
 * For the tests of this folder: a copy of a generation to which certificates have been added that
 * nobody has made. Only what the controller reads of them is there.
 */
#ifndef SENTINEL_CONTROL_CERTIFICATE_FIXTURE_TEST_H
#define SENTINEL_CONTROL_CERTIFICATE_FIXTURE_TEST_H

#include "control/control_fixture.h"

struct certificate_row {
    const char *name;
    const char *file;
    uint64_t not_before;
    uint64_t not_after;
};

enum { CERTIFICATE_ROW_SIZE = sizeof(struct generation_certificate) + 1024 };

/* The copy lives in *memory, which the caller frees. */
static inline struct generation fixture_add_certificates(const struct generation *generation,
                                                         const struct certificate_row *rows,
                                                         uint32_t count, void **memory)
{
    size_t size = (generation->header->size + 7u) & ~(size_t)7;
    uint8_t *copy = calloc(1, size + (size_t)count * CERTIFICATE_ROW_SIZE);
    assert_non_null(copy);
    memcpy(copy, generation->base, generation->header->size);
    struct generation_header *header = (void *)copy;
    struct generation_certificate *records = (void *)(copy + size);
    size_t used = size + count * sizeof(*records);
    for (uint32_t i = 0; i < count; i++) {
        struct ref *const refs[] = {&records[i].name, &records[i].file};
        const char *const texts[] = {rows[i].name, rows[i].file};
        for (size_t j = 0; j < 2; j++) {
            *refs[j] = (struct ref){(uint32_t)used, (uint32_t)strlen(texts[j])};
            assert_true(refs[j]->count <= 512);
            memcpy(copy + used, texts[j], refs[j]->count);
            used += refs[j]->count;
        }
        records[i].not_before = rows[i].not_before;
        records[i].not_after = rows[i].not_after;
    }
    header->certificates = (struct ref){(uint32_t)size, count};
    *memory = copy;
    return (struct generation){.base = copy, .header = header};
}

#endif
