#include "http/forwarded.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* The nodes of a line, a blank between them, `-` for none, and how it ended. */
static void assert_nodes(const char *line, const char *expected)
{
    char seen[512] = "";
    size_t used = 0;
    struct span rest = span_of_string(line);
    struct forwarded_element element;
    enum status status = forwarded_next(&rest, &element);
    for (int i = 0; status == OK && i < 20; i++) {
        char text[ADDRESS_TEXT_MAX] = "-";
        (void)(element.node.family != ADDRESS_NONE && address_print(&element.node, text));
        used += (size_t)snprintf(seen + used, sizeof(seen) - used, "%s ", text);
        status = forwarded_next(&rest, &element);
    }
    (void)snprintf(seen + used, sizeof(seen) - used, "%s", status == END ? "END" : "ERROR");
    if (strcmp(seen, expected) != 0) {
        fail_msg("%s: %s, not %s", line, seen, expected);
    }
}

static void every_element_names_who_came(void **state)
{
    (void)state;
    assert_nodes("for=192.0.2.43", "192.0.2.43:0 END");
    assert_nodes("For=\"[2001:db8:cafe::17]:4711\"", "[2001:db8:cafe::17]:4711 END");
    assert_nodes("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60:0 END");
    assert_nodes("for=192.0.2.43, for=198.51.100.17", "192.0.2.43:0 198.51.100.17:0 END");
    assert_nodes("for=\"192.0.2.43:80\",for=\"[::1]\"", "192.0.2.43:80 [::1]:0 END");
    assert_nodes("proto=https;FOR=192.0.2.43", "192.0.2.43:0 END");
    assert_nodes("for=\"[::ffff:192.0.2.1]\"", "192.0.2.1:0 END");
    assert_nodes("for=\"192.0.2.43:_gazonk\"", "192.0.2.43:0 END");
}

static void who_has_no_address_is_nobody(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "for=unknown",
        "for=_SEVKISEK",
        "for=\"_x:80\"",
        "for=\"\"",
        "for=2001",
        "for=\"2001:db8::1\"",
        "for=\"[1.2.3.4]\"",
        "for=\"[::1\"",
        "for=\"[::1]80\"",
        "for=\"[::1]:\"",
        "for=\"1.2.3.4:\"",
        "for=\"1.2.3.4:65536\"",
        "for=\"1.2.3.4:_\"",
        "for=\"1.2.3.4:000080\"",
        "for=\"1.2.3.4:8 \"",
        "for=\" 1.2.3.4\"",
        "for=\"1\\.2.3.4\"",
        "for=1.2.3",
        "by=1.2.3.4",
        "proto=http",
        ";",
        "fo=1.2.3.4",
        "x=\"for=1.2.3.4\"",
        "x=\",for=1.2.3.4\"",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        assert_nodes(lines[i], "- END");
    }
}

static void empty_elements_are_none(void **state)
{
    (void)state;
    assert_nodes("", "END");
    assert_nodes(" ,, \t, ", "END");
    assert_nodes(",for=1.2.3.4, ,for=5.6.7.8,", "1.2.3.4:0 5.6.7.8:0 END");
    assert_nodes("for=1.2.3.4;;proto=http;", "1.2.3.4:0 END");
    assert_nodes("for=1.2.3.4 ; proto=http ,\tfor=5.6.7.8", "1.2.3.4:0 5.6.7.8:0 END");
}

static void a_malformed_line_says_nothing_from_there_on(void **state)
{
    (void)state;
    assert_nodes("1.2.3.4", "ERROR");
    assert_nodes("for", "ERROR");
    assert_nodes("for=", "ERROR");
    assert_nodes("for =1.2.3.4", "ERROR");
    assert_nodes("for= 1.2.3.4", "ERROR");
    assert_nodes("for=1.2.3.4:80", "ERROR");
    assert_nodes("for=[::1]", "ERROR");
    assert_nodes("for=\"1.2.3.4", "ERROR");
    assert_nodes("for=\"1.2.3.4\\\"", "ERROR");
    assert_nodes("for=1.2.3.4 for=5.6.7.8", "ERROR");
    assert_nodes("for=1.2.3.4;for=5.6.7.8", "ERROR");
    assert_nodes("x=1;For=1.2.3.4;fOR=1.2.3.4", "ERROR");
    assert_nodes("for=1.2.3.4;host=a;host=b", "ERROR");
    assert_nodes("for=1.2.3.4,@,for=5.6.7.8", "1.2.3.4:0 ERROR");
}

static void host_and_proto_come_without_their_quotes(void **state)
{
    (void)state;
    struct forwarded_element element;
    struct span rest = SPAN("host=\"example.com:8080\";proto=https, host=a;proto=\"ht\\tp\"");
    assert_int_equal(forwarded_next(&rest, &element), OK);
    assert_true(span_equal(element.host, SPAN("example.com:8080")));
    assert_true(span_equal(element.proto, SPAN("https")));
    assert_int_equal(forwarded_next(&rest, &element), OK);
    assert_true(span_equal(element.host, SPAN("a")));
    assert_int_equal(element.proto.size, 0);
}

static void assert_written(const struct forwarded_hop *hop, const char *expected)
{
    char bytes[256];
    struct output output = output_over(bytes, sizeof(bytes));
    forwarded_write(&output, hop);
    assert_false(output.overflowed);
    if (!span_equal(output_bytes(&output), span_of_string(expected))) {
        fail_msg("%.*s, not %s", SPAN_ARGS(output_bytes(&output)), expected);
    }
}

static void what_is_written_has_quotes_where_they_are_needed(void **state)
{
    (void)state;
    struct forwarded_hop hop = {.node = {.family = ADDRESS_IPV4, .port = 80, .ip = {192, 0, 2, 1}}};
    assert_written(&hop, "for=192.0.2.1");
    hop.host = SPAN("example.com");
    hop.proto = SPAN("https");
    hop.by = SPAN("http-1");
    assert_written(&hop, "for=192.0.2.1;host=example.com;proto=https;by=_http-1");
    hop.host = SPAN("[::1]:8080");
    hop.node = (struct address){.family = ADDRESS_IPV6, .ip = {0x20, 0x01, [15] = 1}};
    assert_written(&hop, "for=\"[2001::1]\";host=\"[::1]:8080\";proto=https;by=_http-1");
    hop = (struct forwarded_hop){.node = {.family = ADDRESS_UNIX}, .host = SPAN("a\"b\\")};
    assert_written(&hop, "for=unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_names_who_came),
        cmocka_unit_test(who_has_no_address_is_nobody),
        cmocka_unit_test(empty_elements_are_none),
        cmocka_unit_test(a_malformed_line_says_nothing_from_there_on),
        cmocka_unit_test(host_and_proto_come_without_their_quotes),
        cmocka_unit_test(what_is_written_has_quotes_where_they_are_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
