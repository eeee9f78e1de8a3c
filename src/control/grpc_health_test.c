#include "control/grpc_health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SERVING(bytes) grpc_health_is_serving(SPAN(bytes))

static void the_request_names_the_service(void **state)
{
    uint8_t bytes[GRPC_HEALTH_REQUEST_MAX];
    (void)state;
    struct span request = grpc_health_request(SPAN("a.B"), bytes);
    assert_true(span_equal(request, SPAN("\0\0\0\0\x05\x0a\x03"
                                         "a.B")));
    request = grpc_health_request(SPAN_EMPTY, bytes);
    assert_true(span_equal(request, SPAN("\0\0\0\0\0")));
}

static void long_names_have_a_length_of_two_bytes(void **state)
{
    uint8_t bytes[GRPC_HEALTH_REQUEST_MAX];
    uint8_t name[GRPC_HEALTH_SERVICE_MAX];
    (void)state;
    memset(name, 'x', sizeof(name));
    struct span request = grpc_health_request(span_of(name, 127), bytes);
    assert_int_equal(request.size, GRPC_PREFIX_SIZE + 2 + 127);
    assert_memory_equal(request.data, "\0\0\0\0\x81\x0a\x7f", 7);
    request = grpc_health_request(span_of(name, sizeof(name)), bytes);
    assert_int_equal(request.size, GRPC_HEALTH_REQUEST_MAX);
    assert_memory_equal(request.data, "\0\0\0\x01\x02\x0a\xff\x01x", 9);
}

static void only_serving_is_well(void **state)
{
    (void)state;
    assert_true(SERVING("\0\0\0\0\x02\x08\x01"));
    assert_false(SERVING("\0\0\0\0\x02\x08\x00"));
    assert_false(SERVING("\0\0\0\0\x02\x08\x02"));
    assert_false(SERVING("\0\0\0\0\x02\x08\x03"));
    assert_false(SERVING("\0\0\0\0\0")); /* UNKNOWN, which is not written */
    assert_false(SERVING(""));
}

static void the_message_is_read_strictly(void **state)
{
    (void)state;
    assert_false(SERVING("\x01\0\0\0\x02\x08\x01"));         /* compressed */
    assert_false(SERVING("\0\0\0\0\x03\x08\x01"));           /* cut off */
    assert_false(SERVING("\0\0\0\0\x01\x08\x01"));           /* too long */
    assert_false(SERVING("\0\0\0\0\x02\x08\x01\0\0\0\0\0")); /* a second message */
    assert_false(SERVING("\0\0\0\0\x04\x08\x01\x08\x01"));   /* twice */
    assert_false(SERVING("\0\0\0\0\x03\x08\x81\x00"));       /* longer than needed */
    assert_false(SERVING("\0\0\0\0\x02\x08\x81"));           /* without its end */
    assert_false(SERVING("\0\0\0\0\x03\x0a\x01\x01"));       /* a text */
    assert_false(SERVING("\0\0\0\0\x04\x08\x01\x00\x00"));   /* a field of number 0 */
    assert_false(SERVING("\0\0\0\0\x0b\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x02"));
}

static void other_fields_are_skipped(void **state)
{
    (void)state;
    assert_true(SERVING("\0\0\0\0\x04\x10\x05\x08\x01"));
    assert_true(SERVING("\0\0\0\0\x06\x12\x02xy\x08\x01"));
    assert_true(SERVING("\0\0\0\0\x07\x08\x01\x15"
                        "abcd"));
    assert_true(SERVING("\0\0\0\0\x0b\x11"
                        "abcdefgh\x08\x01"));
    assert_false(SERVING("\0\0\0\0\x05\x12\x03x\x08\x01"));
    assert_false(SERVING("\0\0\0\0\x03\x13\x08\x01")); /* a group */
    assert_false(SERVING("\0\0\0\0\x03\x08\x01\x15")); /* four bytes that are not there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_request_names_the_service),
        cmocka_unit_test(long_names_have_a_length_of_two_bytes),
        cmocka_unit_test(only_serving_is_well),
        cmocka_unit_test(the_message_is_read_strictly),
        cmocka_unit_test(other_fields_are_skipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
