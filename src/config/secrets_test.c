#include "config/secrets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 3, NUMBER = 7 };

/* Which bytes hold what; the layout is private to secrets.c. */
enum { AT_MAGIC = 0, AT_NUMBER = 8, AT_SIZE = 16, AT_COUNT = 20, AT_REFS = 24 };

static const struct generation_header header = {.number = NUMBER, .certificates = {512, KEYS}};
static const struct generation generation = {.base = (const uint8_t *)&header, .header = &header};

struct block {
    uint8_t *bytes; /* exactly its size: the sanitizer guards its end */
    uint8_t *good;
    size_t size;
};

static int make_block(void **state)
{
    const struct span keys[KEYS] = {SPAN("first"), SPAN_EMPTY, SPAN("the third")};
    struct block *block = calloc(1, sizeof(*block));
    assert_non_null(block);
    block->size = secrets_size(keys, KEYS);
    block->bytes = malloc(block->size);
    block->good = malloc(block->size);
    assert_non_null(block->bytes);
    assert_non_null(block->good);
    secrets_write(block->good, keys, KEYS, NUMBER);
    memcpy(block->bytes, block->good, block->size);
    *state = block;
    return 0;
}

static int drop_block(void **state)
{
    struct block *block = *state;
    free(block->bytes);
    free(block->good);
    free(block);
    return 0;
}

static bool opens(const struct block *block)
{
    struct secrets secrets;
    return secrets_open(&secrets, span_of(block->bytes, block->size), &generation);
}

/* Whether the block is refused once it holds this value there; restores it. */
static bool is_refused_with(struct block *block, size_t offset, uint32_t value)
{
    memcpy(block->bytes + offset, &value, sizeof(value));
    bool refused = !opens(block);
    memcpy(block->bytes, block->good, block->size);
    assert_true(opens(block));
    return refused;
}

static void each_key_is_found_under_its_certificate(void **state)
{
    const struct block *block = *state;
    struct secrets secrets;
    assert_true(secrets_open(&secrets, span_of(block->bytes, block->size), &generation));
    assert_int_equal(secrets.count, KEYS);
    assert_true(span_equal(secrets_key(&secrets, 0), SPAN("first")));
    assert_int_equal(secrets_key(&secrets, 1).size, 0);
    assert_true(span_equal(secrets_key(&secrets, 2), SPAN("the third")));
}

static void a_block_without_keys_opens(void **state)
{
    (void)state;
    const struct generation_header none = {.number = NUMBER};
    const struct generation plain = {.base = (const uint8_t *)&none, .header = &none};
    _Alignas(8) uint8_t bytes[64];
    struct secrets secrets;
    size_t size = secrets_size(NULL, 0);
    assert_true(size <= sizeof(bytes));
    secrets_write(bytes, NULL, 0, NUMBER);
    assert_true(secrets_open(&secrets, span_of(bytes, size), &plain));
    assert_int_equal(secrets.count, 0);
}

static void a_block_of_another_generation_is_refused(void **state)
{
    struct block *block = *state;
    assert_true(is_refused_with(block, AT_NUMBER, NUMBER + 1));
    assert_true(is_refused_with(block, AT_COUNT, KEYS - 1));
    assert_true(is_refused_with(block, AT_COUNT, KEYS + 1));
    assert_true(is_refused_with(block, AT_MAGIC, 0));
}

static void every_other_size_and_alignment_is_refused(void **state)
{
    struct block *block = *state;
    struct secrets secrets;
    for (size_t size = 0; size < block->size; size++) {
        assert_false(secrets_open(&secrets, span_of(block->bytes, size), &generation));
    }
    assert_false(secrets_open(&secrets, span_of(NULL, 0), &generation));
    assert_false(secrets_open(&secrets, span_of(block->bytes + 4, block->size - 4), &generation));
    assert_true(is_refused_with(block, AT_SIZE, (uint32_t)block->size - 1));
    assert_true(is_refused_with(block, AT_SIZE, (uint32_t)block->size + 1));
}

static void every_reference_out_of_place_is_refused(void **state)
{
    struct block *block = *state;
    const uint32_t wrong[] = {0, 1, 23, (uint32_t)block->size, UINT32_MAX, UINT32_MAX - 7};
    for (size_t offset = AT_REFS; offset < AT_REFS + 8 * KEYS; offset += 4) {
        uint32_t good = 0;
        memcpy(&good, block->good + offset, sizeof(good));
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
            assert_true(wrong[i] == good || is_refused_with(block, offset, wrong[i]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_key_is_found_under_its_certificate, make_block,
                                        drop_block),
        cmocka_unit_test(a_block_without_keys_opens),
        cmocka_unit_test_setup_teardown(a_block_of_another_generation_is_refused, make_block,
                                        drop_block),
        cmocka_unit_test_setup_teardown(every_other_size_and_alignment_is_refused, make_block,
                                        drop_block),
        cmocka_unit_test_setup_teardown(every_reference_out_of_place_is_refused, make_block,
                                        drop_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
