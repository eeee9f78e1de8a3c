#include "net/ticket_keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RANDOM_SIZE = TICKET_KEY_ID_SIZE + TICKET_KEY_SECRET_SIZE };

#define START UINT64_C(1000000)

static int setup(void **state)
{
    *state = calloc(1, ticket_keys_size());
    assert_non_null(*state);
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

/* The nth key: all its bytes are n + 1. */
static struct ticket_key key_number(uint64_t n)
{
    uint8_t random[RANDOM_SIZE];
    struct ticket_key key;
    memset(random, (int)n + 1, sizeof(random));
    assert_true(ticket_key_init(&key, random, START + n * TICKET_KEYS_PERIOD));
    return key;
}

static void rotate_to(struct ticket_keys *keys, uint64_t first, uint64_t end)
{
    for (uint64_t n = first; n < end; n++) {
        struct ticket_key key = key_number(n);
        ticket_keys_rotate(keys, &key);
    }
}

static bool holds_bytes_of(const struct ticket_keys *keys, uint64_t n)
{
    struct ticket_key key = key_number(n);
    return memmem(keys, ticket_keys_size(), key.secret, sizeof(key.secret)) != NULL ||
           memmem(keys, ticket_keys_size(), key.id, sizeof(key.id)) != NULL;
}

static void fresh_memory_holds_no_key(void **state)
{
    struct ticket_key key;
    const uint8_t zeros[TICKET_KEY_ID_SIZE] = {0};
    assert_false(ticket_keys_current(*state, START, &key));
    assert_false(ticket_keys_find(*state, zeros, START, &key));
}

static void the_newest_key_seals_and_the_one_before_it_still_opens(void **state)
{
    struct ticket_keys *keys = *state;
    for (uint64_t n = 0; n < 10; n++) {
        uint64_t now = START + n * TICKET_KEYS_PERIOD;
        struct ticket_key found;
        struct ticket_key newest = key_number(n);
        rotate_to(keys, n, n + 1);
        assert_true(ticket_keys_current(keys, now, &found));
        assert_memory_equal(&found, &newest, sizeof(found));
        for (uint64_t older = 0; older <= n; older++) {
            struct ticket_key key = key_number(older);
            bool opens = older + 1 >= n;
            assert_int_equal(ticket_keys_find(keys, key.id, now, &found), opens);
            assert_true(!opens || memcmp(&found, &key, sizeof(key)) == 0);
            assert_int_equal(holds_bytes_of(keys, older), opens); /* else it is wiped */
        }
    }
}

static void a_key_that_nobody_replaces_ends_all_the_same(void **state)
{
    struct ticket_keys *keys = *state;
    struct ticket_key key = key_number(0);
    struct ticket_key found;
    rotate_to(keys, 0, 1);
    uint64_t end = START + 2 * TICKET_KEYS_PERIOD;
    assert_true(ticket_keys_find(keys, key.id, end - 1, &found));
    assert_true(ticket_keys_current(keys, end - 1, &found));
    assert_false(ticket_keys_find(keys, key.id, end, &found));
    assert_false(ticket_keys_current(keys, end, &found));
    const struct ticket_key nothing = {0};
    assert_memory_equal(&found, &nothing, sizeof(found)); /* no copy is left with the caller */
}

static void an_unknown_id_opens_nothing(void **state)
{
    struct ticket_keys *keys = *state;
    struct ticket_key other = key_number(7);
    struct ticket_key found;
    rotate_to(keys, 0, 2);
    assert_false(ticket_keys_find(keys, other.id, START, &found));
}

static void what_another_process_wrote_there_is_never_an_index(void **state)
{
    struct ticket_keys *keys = *state;
    struct ticket_key found;
    rotate_to(keys, 0, 2);
    memset(keys, 0xFF, ticket_keys_size());
    assert_false(ticket_keys_current(keys, START, &found)); /* as if it was just written */
    assert_false(ticket_keys_find(keys, key_number(0).id, START, &found));
    memset(keys, 0xFE, ticket_keys_size());
    assert_true(ticket_keys_current(keys, START, &found)); /* it was read, from a slot */
}

static void zeros_are_no_random_key(void **state)
{
    (void)state;
    const uint8_t zeros[RANDOM_SIZE] = {0};
    struct ticket_key key;
    assert_false(ticket_key_init(&key, zeros, START));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fresh_memory_holds_no_key, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_key_seals_and_the_one_before_it_still_opens,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_that_nobody_replaces_ends_all_the_same, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_unknown_id_opens_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(what_another_process_wrote_there_is_never_an_index, setup,
                                        teardown),
        cmocka_unit_test(zeros_are_no_random_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
