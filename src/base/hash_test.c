#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Expected values computed with OpenSSL's SIPHASH MAC (8 bytes, 1 and 3 rounds), key 00 01 .. 0f.
 */
static void keyed_hash_equals_an_independent_siphash(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        uint8_t expected[8];
    } cases[] = {
        {0, {0xdc, 0xc4, 0x0f, 0x05, 0x58, 0x01, 0xac, 0xab}},
        {1, {0x93, 0xca, 0x57, 0x7d, 0xf3, 0x9b, 0xf4, 0xc9}},
        {7, {0x40, 0x11, 0xb1, 0x9b, 0x98, 0x7d, 0x92, 0xd3}},
        {8, {0x8e, 0x9a, 0x29, 0x8d, 0x11, 0x95, 0x90, 0x36}},
        {9, {0xe4, 0x3d, 0x06, 0x6c, 0xb3, 0x8e, 0xa4, 0x25}},
        {15, {0x56, 0x99, 0x51, 0x2a, 0x6d, 0xd8, 0x20, 0xd3}},
        {16, {0x66, 0x8b, 0x90, 0x7d, 0x1a, 0xdd, 0x4f, 0xcc}},
        {63, {0xa8, 0xb3, 0xbb, 0xb7, 0x62, 0x90, 0x19, 0x9d}},
    };
    const struct hash_key key = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    uint8_t bytes[63];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)i;
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t expected = 0;
        for (size_t j = 0; j < 8; j++) {
            expected |= (uint64_t)cases[i].expected[j] << (8 * j);
        }
        assert_true(hash_keyed(&key, span_of(bytes, cases[i].size)) == expected);
    }
    assert_true(hash_keyed(&key, SPAN_EMPTY) == hash_keyed(&key, SPAN("")));
}

static void keyed_hash_depends_on_both_halves_of_the_key(void **state)
{
    (void)state;
    const struct hash_key none = {0, 0};
    const struct hash_key low = {1, 0};
    const struct hash_key high = {0, 1};
    /* CPython 3.11 hashes bytes with SipHash-1-3; under PYTHONHASHSEED=0 its key is zero. */
    assert_true(hash_keyed(&none, SPAN("sentinel")) == UINT64_C(0x9fa172e0ff918bf6));
    assert_true(hash_keyed(&low, SPAN("sentinel")) != hash_keyed(&none, SPAN("sentinel")));
    assert_true(hash_keyed(&high, SPAN("sentinel")) != hash_keyed(&none, SPAN("sentinel")));
    assert_true(hash_keyed(&high, SPAN("sentinel")) != hash_keyed(&low, SPAN("sentinel")));
}

static void fast_hash_is_the_same_whole_and_by_steps(void **state)
{
    (void)state;
    struct span text = SPAN("/api/v1/users");
    uint32_t hash = HASH_FAST_SEED;
    for (size_t i = 0; i <= text.size; i++) {
        assert_int_equal(hash_fast_finish(hash), hash_fast(span_first(text, i)));
        if (i < text.size) {
            hash = hash_fast_step(hash, text.data[i]);
        }
    }
}

/* Paths that differ in a digit or two are what a configuration looks like. */
static void fast_hash_spreads_similar_keys_over_the_low_bits(void **state)
{
    (void)state;
    enum { KEYS = 4096, BUCKETS = 1024 };
    static uint32_t load[BUCKETS];
    uint32_t most = 0;
    memset(load, 0, sizeof(load));
    for (unsigned i = 0; i < KEYS; i++) {
        uint8_t key[] = {'/',
                         's',
                         (uint8_t)('0' + i / 512),
                         (uint8_t)('0' + i / 64 % 8),
                         (uint8_t)('0' + i / 8 % 8),
                         (uint8_t)('0' + i % 8)};
        uint32_t bucket = hash_fast(span_of(key, sizeof(key))) % BUCKETS;
        load[bucket]++;
        most = load[bucket] > most ? load[bucket] : most;
    }
    assert_in_range(most, 4, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keyed_hash_equals_an_independent_siphash),
        cmocka_unit_test(keyed_hash_depends_on_both_halves_of_the_key),
        cmocka_unit_test(fast_hash_is_the_same_whole_and_by_steps),
        cmocka_unit_test(fast_hash_spreads_similar_keys_over_the_low_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
