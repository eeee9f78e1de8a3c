#include "http/grpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static bool is_type(const char *value)
{
    return grpc_is_content_type(span_of_string(value));
}

static void calls_go_by_their_content_type(void **state)
{
    (void)state;
    assert_true(is_type("application/grpc"));
    assert_true(is_type("Application/GRPC"));
    assert_true(is_type("application/grpc+proto"));
    assert_true(is_type("application/grpc+json;charset=utf-8"));
    assert_true(is_type("application/grpc; a=b"));
    assert_true(is_type("application/grpc ;a=b"));
    assert_false(is_type(""));
    assert_false(is_type("application/grp"));
    assert_false(is_type("application/grpc+"));
    assert_false(is_type("application/grpc+;a=b"));
    assert_false(is_type("application/grpc+a b"));
    assert_false(is_type("application/grpc-web"));
    assert_false(is_type("application/grpc-web+proto"));
    assert_false(is_type("application/grpcx"));
    assert_false(is_type("application/grpc,text/html"));
    assert_false(is_type("text/application/grpc"));
}

static void only_post_with_one_content_type_is_a_call(void **state)
{
    struct field entries[2];
    struct fields fields = {.entries = entries, .capacity = 2};
    (void)state;
    assert_false(grpc_is_call(METHOD_POST, &fields));
    assert_true(fields_add(&fields, FIELD_CONTENT_TYPE, field_name(FIELD_CONTENT_TYPE),
                           SPAN("application/grpc")));
    assert_true(grpc_is_call(METHOD_POST, &fields));
    assert_false(grpc_is_call(METHOD_GET, &fields));
    assert_true(fields_add(&fields, FIELD_CONTENT_TYPE, field_name(FIELD_CONTENT_TYPE),
                           SPAN("application/grpc")));
    assert_false(grpc_is_call(METHOD_POST, &fields));
}

static uint64_t timeout(const char *value)
{
    uint64_t microseconds = UINT64_MAX;
    enum status status = grpc_timeout_read(span_of_string(value), &microseconds);
    assert_true(status == OK || (status == ERROR && microseconds == UINT64_MAX));
    return microseconds;
}

static void timeouts_are_digits_and_a_unit(void **state)
{
    (void)state;
    assert_int_equal(timeout("1H"), UINT64_C(3600000000));
    assert_int_equal(timeout("2M"), 120000000);
    assert_int_equal(timeout("3S"), 3000000);
    assert_int_equal(timeout("100m"), 100000);
    assert_int_equal(timeout("7u"), 7);
    assert_int_equal(timeout("1n"), 1);
    assert_int_equal(timeout("1000n"), 1);
    assert_int_equal(timeout("1001n"), 2);
    assert_int_equal(timeout("0S"), 0);
    assert_int_equal(timeout("0n"), 0);
    assert_int_equal(timeout("00000001S"), 1000000);
    assert_int_equal(timeout("99999999H"), UINT64_C(99999999) * 3600000000U);
    static const char *const MALFORMED[] = {"",     "S",   "1",          "1s",  "1h",   "1 S",
                                            " 1S",  "1S ", "+1S",        "-1S", "1.5S", "1SS",
                                            "0x1S", "1US", "100000000S", "S1"};
    for (size_t i = 0; i < sizeof(MALFORMED) / sizeof(MALFORMED[0]); i++) {
        assert_int_equal(timeout(MALFORMED[i]), UINT64_MAX);
    }
}

static void assert_written(uint64_t microseconds, const char *expected)
{
    uint8_t bytes[GRPC_TIMEOUT_MAX];
    struct span text = grpc_timeout_write(microseconds, bytes);
    assert_int_equal(text.size, strlen(expected));
    assert_memory_equal(text.data, expected, text.size);
    assert_true(timeout(expected) <= (microseconds > 0 ? microseconds : 1));
}

static void timeouts_are_written_as_finely_as_they_fit_and_never_longer(void **state)
{
    (void)state;
    assert_written(0, "1u");
    assert_written(1, "1u");
    assert_written(99999999, "99999999u");
    assert_written(100000000, "100000m");
    assert_written(100000999, "100000m");
    assert_written(UINT64_C(99999999) * 1000 + 999, "99999999m");
    assert_written(UINT64_C(100000000) * 1000, "100000S");
    assert_written(UINT64_C(100000000) * 1000000, "1666666M");
    assert_written(UINT64_C(100000000) * 60000000, "1666666H");
    assert_written(UINT64_MAX, "99999999H");
}

static enum grpc_status status(const char *value)
{
    return grpc_status_read(span_of_string(value));
}

static void statuses_that_nobody_knows_are_unknown(void **state)
{
    (void)state;
    assert_int_equal(status("0"), GRPC_OK);
    assert_int_equal(status("14"), GRPC_UNAVAILABLE);
    assert_int_equal(status("16"), GRPC_UNAUTHENTICATED);
    static const char *const OTHERS[] = {"", "17", "00", "014", "-1", "1 ", "OK", "99999999999999"};
    for (size_t i = 0; i < sizeof(OTHERS) / sizeof(OTHERS[0]); i++) {
        assert_int_equal(status(OTHERS[i]), GRPC_UNKNOWN);
    }
    for (int code = 0; code < GRPC_STATUS_COUNT; code++) {
        assert_int_equal(grpc_status_read(grpc_status_digits((enum grpc_status)code)), code);
    }
}

static void failures_map_as_published_and_where_we_know_better(void **state)
{
    (void)state;
    assert_int_equal(grpc_status_of_http(400), GRPC_INTERNAL);
    assert_int_equal(grpc_status_of_http(401), GRPC_UNAUTHENTICATED);
    assert_int_equal(grpc_status_of_http(403), GRPC_PERMISSION_DENIED);
    assert_int_equal(grpc_status_of_http(404), GRPC_UNIMPLEMENTED);
    assert_int_equal(grpc_status_of_http(429), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_status_of_http(503), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_status_of_http(418), GRPC_UNKNOWN);
    assert_int_equal(grpc_status_of_http(UINT16_MAX), GRPC_UNKNOWN);
    assert_int_equal(grpc_status_of_reason(REASON_CONNECT_FAILED), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_status_of_reason(REASON_DRAINING), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_status_of_reason(REASON_NO_ROUTE), GRPC_UNIMPLEMENTED);
    assert_int_equal(grpc_status_of_reason(REASON_CLIENT_REQUEST_RATE), GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(grpc_status_of_reason(REASON_GRPC_DEADLINE), GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(grpc_status_of_reason(REASON_UPSTREAM_TIMEOUT), GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(grpc_status_of_reason(REASON_UPSTREAM_TRUNCATED), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_status_of_reason(REASON_CLIENT_CLOSED), GRPC_CANCELLED);
}

static void every_reason_means_a_failure(void **state)
{
    (void)state;
    for (int reason = REASON_NONE + 1; reason < REASON_COUNT; reason++) {
        enum grpc_status meant = grpc_status_of_reason((enum reason)reason);
        assert_true(meant != GRPC_OK && meant < GRPC_STATUS_COUNT);
        /* A reason that never makes an answer has to be in the table: 0 is no HTTP status. */
        if (reason_info((enum reason)reason)->status != 0) {
            assert_true(meant != GRPC_CANCELLED);
        }
    }
}

static void messages_are_percent_encoded(void **state)
{
    uint8_t memory[64];
    struct output output = output_over(memory, sizeof(memory));
    (void)state;
    grpc_message_write(&output, SPAN("100% of ~ \n\x7f\xc3\xa4"));
    assert_false(output.overflowed);
    const struct span expected = SPAN("100%25 of ~ %0A%7F%C3%A4");
    assert_int_equal(output.size, expected.size);
    assert_memory_equal(output.data, expected.data, expected.size);
}

static bool takes_in_pieces(struct span body, size_t piece, uint64_t max)
{
    struct grpc_messages messages = {0};
    while (body.size > 0) {
        size_t size = body.size < piece ? body.size : piece;
        if (!grpc_messages_read(&messages, span_first(body, size), max)) {
            return false;
        }
        body = span_from(body, size);
    }
    return true;
}

static void messages_are_bounded_one_by_one_however_they_come(void **state)
{
    const struct span body = SPAN("\0\0\0\0\3abc"
                                  "\1\0\0\0\0"
                                  "\0\0\0\1\2......................................."
                                  "........................................................"
                                  "........................................................"
                                  "........................................................"
                                  "..................................................."
                                  "\0\0\0\0\2ab");
    (void)state;
    for (size_t piece = 1; piece <= body.size; piece++) {
        assert_true(takes_in_pieces(body, piece, 258));
        assert_false(takes_in_pieces(body, piece, 257));
        assert_false(takes_in_pieces(SPAN("\0\xff\xff\xff\xff"), piece, UINT32_MAX - 1));
        assert_true(takes_in_pieces(SPAN("\0\xff\xff\xff\xff"), piece, UINT32_MAX));
    }
    assert_true(takes_in_pieces(span_first(body, 12), 3, 3)); /* what has no length yet has none */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_go_by_their_content_type),
        cmocka_unit_test(only_post_with_one_content_type_is_a_call),
        cmocka_unit_test(timeouts_are_digits_and_a_unit),
        cmocka_unit_test(timeouts_are_written_as_finely_as_they_fit_and_never_longer),
        cmocka_unit_test(statuses_that_nobody_knows_are_unknown),
        cmocka_unit_test(failures_map_as_published_and_where_we_know_better),
        cmocka_unit_test(every_reason_means_a_failure),
        cmocka_unit_test(messages_are_percent_encoded),
        cmocka_unit_test(messages_are_bounded_one_by_one_however_they_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
