#include "supervisor/process_sample.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static void the_fields_are_found_behind_any_name(void **state)
{
    (void)state;
    static const char *const names[] = {"(sentinel)", "(a b)", "(a) R 9 (b)", "()"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char text[256];
        (void)snprintf(text, sizeof(text),
                       "12 %s S 4 5 6 7 8 9 10 11 12 13 150 50 16 17 18 19 20 21 22 23 300 25\n",
                       names[i]);
        /* Fields 23 and 24 of proc(5) are the last but two. */
        struct process_sample sample = {0};
        assert_int_equal(process_sample_parse(span_of_string(text), 100, 4096, &sample), OK);
        assert_int_equal(sample.processor, 2000000);
    }
}

static void what_is_no_such_text_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "12", "12 (a", "12 (a)", "12 (a) S 1 2 3", ")"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct process_sample sample = {1, 2, 3};
        assert_int_equal(process_sample_parse(span_of_string(texts[i]), 100, 4096, &sample), ERROR);
        assert_int_equal(sample.processor, 1);
    }
}

static void this_process_is_told_of(void **state)
{
    (void)state;
    struct process_sample before = process_sample_of(getpid());
    assert_true(before.resident > 100000 && before.resident != PROCESS_UNKNOWN);
    assert_true(before.processor != PROCESS_UNKNOWN);
    int opened[5];
    for (size_t i = 0; i < 5; i++) {
        opened[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    assert_int_equal(process_sample_of(getpid()).descriptors, before.descriptors + 5);
    for (size_t i = 0; i < 5; i++) {
        close(opened[i]);
    }
}

static void a_process_that_is_not_there_is_unknown(void **state)
{
    (void)state;
    struct process_sample sample = process_sample_of(0x3FFFFFFF);
    assert_true(sample.resident == PROCESS_UNKNOWN && sample.processor == PROCESS_UNKNOWN);
    assert_true(sample.descriptors == PROCESS_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fields_are_found_behind_any_name),
        cmocka_unit_test(what_is_no_such_text_is_refused),
        cmocka_unit_test(this_process_is_told_of),
        cmocka_unit_test(a_process_that_is_not_there_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
