#include "config/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/address.h"
#include "base/assert.h"
#include "config/suggest.h"

static void every_default_is_a_value_in_range(void **state)
{
    (void)state;
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        const struct schema_key *key = schema_key(id);
        assert_true(key->minimum <= key->maximum);
        if (key->standard == NULL) {
            continue;
        }
        if (schema_type_is_number(key->type) || key->type == TYPE_BOOLEAN) {
            int64_t number = schema_default(key);
            assert_true(number >= key->minimum && number <= key->maximum);
        } else if (key->type == TYPE_CHOICE) {
            int64_t choice = schema_default(key);
            assert_true(span_equal(schema_choice_text(key, choice), span_of_string(key->standard)));
        } else if (key->type == TYPE_ADDRESS_OR_OFF) {
            struct address address;
            assert_true(address_parse(span_of_string(key->standard), &address));
        } else {
            assert_true((int64_t)strlen(key->standard) <= key->maximum);
        }
    }
}

/* All values behind such a key are its own. */
static bool is_last_argument(const struct schema_key *key)
{
    size_t count = 0;
    while (schema_argument(key->block, count) != NULL) {
        count++;
    }
    return key->form == FORM_ARGUMENT && schema_argument(key->block, count - 1) == key;
}

static void every_key_can_be_shown_in_the_example(void **state)
{
    (void)state;
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        const struct schema_key *key = schema_key(id);
        assert_true(key->standard != NULL || key->example != NULL);
        assert_true((key->flags & SCHEMA_REQUIRED) == 0 || key->standard == NULL);
        bool has_name = key->form == FORM_CHILD || key->form == FORM_EITHER;
        assert_true((key->flags & SCHEMA_PAIR) == 0 || has_name);
        assert_true((key->flags & SCHEMA_LIST) == 0 || has_name || is_last_argument(key));
        assert_true(key->doc[strlen(key->doc) - 1] == '.');
    }
}

static void names_are_unique_in_their_block(void **state)
{
    (void)state;
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        const struct schema_key *key = schema_key(id);
        if (key->form != FORM_ARGUMENT) {
            assert_ptr_equal(schema_find_key(key->block, span_of_string(key->name)), key);
            assert_null(schema_find_block(key->block, span_of_string(key->name)));
        }
    }
    for (enum schema_block_id id = BLOCK_TOP + 1; id < SCHEMA_BLOCKS; id++) {
        const struct schema_block *block = schema_block(id);
        assert_true(block->parent < id);
        assert_ptr_equal(schema_find_block(block->parent, span_of_string(block->name)), block);
    }
}

static void paths_name_the_place_of_a_block(void **state)
{
    (void)state;
    char path[SCHEMA_PATH_MAX];
    schema_block_path(BLOCK_TOP, '.', path);
    assert_string_equal(path, "");
    schema_block_path(BLOCK_RETRY_POLICY, '.', path);
    assert_string_equal(path, "route.policies.retry-policy");
    schema_block_path(BLOCK_HEALTH_TYPE, ' ', path);
    assert_string_equal(path, "upstream health-check type");
}

static enum quantity read_quantity(enum schema_type type, const char *text, int64_t *number)
{
    struct span digits;
    struct span unit;
    schema_split_quantity(span_of_string(text), &digits, &unit);
    return schema_quantity(type, digits, unit, number);
}

static void quantities_are_read_with_their_units(void **state)
{
    (void)state;
    static const struct {
        enum schema_type type;
        const char *text;
        enum quantity result;
        int64_t number;
    } cases[] = {
        {TYPE_DURATION, "30s", QUANTITY_OK, 30000000},
        {TYPE_DURATION, "250ms", QUANTITY_OK, 250000},
        {TYPE_DURATION, "2m", QUANTITY_OK, 120000000},
        {TYPE_DURATION, "1h", QUANTITY_OK, INT64_C(3600000000)},
        {TYPE_DURATION, "0", QUANTITY_OK, 0},
        {TYPE_DURATION, "30", QUANTITY_NO_UNIT, -1},
        {TYPE_DURATION, "30 s", QUANTITY_NOT_A_NUMBER, -1},
        {TYPE_DURATION, "30S", QUANTITY_BAD_UNIT, -1},
        {TYPE_DURATION, "s", QUANTITY_NOT_A_NUMBER, -1},
        {TYPE_DURATION, "", QUANTITY_NOT_A_NUMBER, -1},
        {TYPE_DURATION, "9223372036854775807", QUANTITY_NO_UNIT, -1},
        {TYPE_DURATION, "9223372036854775807h", QUANTITY_TOO_LARGE, -1},
        {TYPE_DURATION, "9223372036854775808s", QUANTITY_TOO_LARGE, -1},
        {TYPE_SIZE, "8KiB", QUANTITY_OK, 8192},
        {TYPE_SIZE, "10MB", QUANTITY_OK, 10000000},
        {TYPE_SIZE, "1GiB", QUANTITY_OK, INT64_C(1) << 30},
        {TYPE_SIZE, "1_024B", QUANTITY_OK, 1024},
        {TYPE_SIZE, "8kb", QUANTITY_BAD_UNIT, -1},
        {TYPE_INTEGER, "0x10", QUANTITY_OK, 16},
        {TYPE_INTEGER, "0b101", QUANTITY_OK, 5},
        {TYPE_INTEGER, "0o17", QUANTITY_OK, 15},
        {TYPE_INTEGER, "-5", QUANTITY_OK, -5},
        {TYPE_INTEGER, "+5", QUANTITY_OK, 5},
        {TYPE_INTEGER, "--5", QUANTITY_NOT_A_NUMBER, -1},
        {TYPE_INTEGER, "1e3", QUANTITY_NOT_A_NUMBER, -1},
        {TYPE_INTEGER, "1.0", QUANTITY_NOT_A_NUMBER, -1},
        {TYPE_INTEGER, "5s", QUANTITY_BAD_UNIT, -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t number = -1;
        assert_int_equal(read_quantity(cases[i].type, cases[i].text, &number), cases[i].result);
        assert_int_equal(number, cases[i].number);
    }
}

static void printed_numbers_read_back_as_themselves(void **state)
{
    (void)state;
    static const enum schema_key_id keys[] = {KEY_SERVER_SHUTDOWN_TIMEOUT, KEY_LIMITS_HEAD_SIZE,
                                              KEY_SERVER_WORKERS};
    static const int64_t numbers[] = {0, 1000, 8192, 1000000, 1048576, 10000000, 3600000000};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        for (size_t j = 0; j < sizeof(numbers) / sizeof(numbers[0]); j++) {
            const struct schema_key *key = schema_key(keys[i]);
            char text[SCHEMA_NUMBER_MAX];
            int64_t number = -1;
            if (key->type == TYPE_DURATION && numbers[j] % 1000 != 0) {
                continue; /* the language has no microseconds */
            }
            schema_print_number(key, numbers[j], text);
            assert_int_equal(read_quantity(key->type, text, &number), QUANTITY_OK);
            assert_int_equal(number, numbers[j]);
        }
    }
}

static void distances_count_edits(void **state)
{
    (void)state;
    static const struct {
        const char *a;
        const char *b;
        size_t distance;
    } cases[] = {
        {"", "", 0},
        {"", "abc", 3},
        {"abc", "abc", 0},
        {"abc", "ABC", 0},
        {"abc", "abd", 1},
        {"abc", "ab", 1},
        {"abc", "acb", 1},
        {"timout", "timeout", 1},
        {"kitten", "sitting", 3},
        {"ca", "abc", 3},
        {"listner", "listener", 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct span a = span_of_string(cases[i].a);
        struct span b = span_of_string(cases[i].b);
        assert_int_equal(suggest_distance(a, b), cases[i].distance);
        assert_int_equal(suggest_distance(b, a), cases[i].distance);
    }
}

static void only_close_words_are_suggested(void **state)
{
    (void)state;
    struct suggestion suggestion;
    suggest_init(&suggestion, SPAN("timout"));
    suggest_offer(&suggestion, SPAN("interval"));
    assert_int_equal(suggestion.best.size, 0);
    suggest_offer(&suggestion, SPAN("timeouts"));
    suggest_offer(&suggestion, SPAN("timeout"));
    assert_true(span_equal(suggestion.best, SPAN("timeout")));
    suggest_init(&suggestion, SPAN("ab"));
    suggest_offer(&suggestion, SPAN("cd"));
    assert_int_equal(suggestion.best.size, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_default_is_a_value_in_range),
        cmocka_unit_test(every_key_can_be_shown_in_the_example),
        cmocka_unit_test(names_are_unique_in_their_block),
        cmocka_unit_test(paths_name_the_place_of_a_block),
        cmocka_unit_test(quantities_are_read_with_their_units),
        cmocka_unit_test(printed_numbers_read_back_as_themselves),
        cmocka_unit_test(distances_count_edits),
        cmocka_unit_test(only_close_words_are_suggested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
