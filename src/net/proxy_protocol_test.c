#include "net/proxy_protocol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint8_t SIGNATURE[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                      0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

/* A header of version 2 in the making. */
struct maker {
    uint8_t bytes[2 * PROXY_HEADER_MAX];
    size_t size;
};

static void add(struct maker *maker, const void *bytes, size_t size)
{
    assert_true(size <= sizeof(maker->bytes) - maker->size);
    memcpy(maker->bytes + maker->size, bytes, size);
    maker->size += size;
    size_t body = maker->size - 16;
    maker->bytes[14] = (uint8_t)(body >> 8);
    maker->bytes[15] = (uint8_t)body;
}

static void begin(struct maker *maker, uint8_t command, uint8_t protocol)
{
    memcpy(maker->bytes, SIGNATURE, sizeof(SIGNATURE));
    maker->bytes[12] = command;
    maker->bytes[13] = protocol;
    maker->size = 16;
    add(maker, "", 0);
}

static void add_tlv(struct maker *maker, uint8_t type, const void *value, size_t size)
{
    const uint8_t head[3] = {type, (uint8_t)(size >> 8), (uint8_t)size};
    add(maker, head, sizeof(head));
    add(maker, value, size);
}

/* 192.0.2.1:1000 came to 198.51.100.2:443. */
static const uint8_t INET[12] = {192, 0, 2, 1, 198, 51, 100, 2, 0x03, 0xe8, 0x01, 0xbb};

static void begin_inet(struct maker *maker)
{
    begin(maker, 0x21, 0x11);
    add(maker, INET, sizeof(INET));
}

static enum status read_made(const struct maker *maker, struct proxy_header *header)
{
    return proxy_header_read(span_of(maker->bytes, maker->size), header);
}

/* From exactly so many bytes on the heap, so that reading further shows. */
static enum status read_exact(struct span bytes, struct proxy_header *header)
{
    uint8_t *copy = malloc(bytes.size + 1);
    assert_non_null(copy);
    memcpy(copy, bytes.data, bytes.size);
    uint8_t *exact = realloc(copy, bytes.size > 0 ? bytes.size : 1);
    assert_non_null(exact);
    enum status status = proxy_header_read(span_of(exact, bytes.size), header);
    free(exact);
    return status;
}

/* Every part of it asks for more, and what follows is not looked at. */
static void assert_reads(struct span bytes, const char *source, const char *destination)
{
    struct proxy_header header;
    for (size_t size = 0; size < bytes.size; size++) {
        assert_int_equal(read_exact(span_first(bytes, size), &header), AGAIN);
    }
    uint8_t followed[PROXY_HEADER_MAX + 4];
    assert_true(bytes.size <= PROXY_HEADER_MAX);
    memcpy(followed, bytes.data, bytes.size);
    memcpy(followed + bytes.size, "\r\nA ", 4);
    assert_int_equal(read_exact(bytes, &header), OK);
    assert_int_equal(header.size, bytes.size);
    assert_int_equal(proxy_header_read(span_of(followed, bytes.size + 4), &header), OK);
    assert_int_equal(header.size, bytes.size);
    char text[ADDRESS_TEXT_MAX] = "";
    (void)(header.source.family != ADDRESS_NONE && address_print(&header.source, text));
    assert_string_equal(text, source);
    text[0] = '\0';
    (void)(header.destination.family != ADDRESS_NONE && address_print(&header.destination, text));
    assert_string_equal(text, destination);
}

static void assert_refused(struct span bytes)
{
    struct proxy_header header = {.size = 77};
    if (proxy_header_read(bytes, &header) != ERROR) {
        fail_msg("taken: %.*s", SPAN_ARGS(bytes));
    }
    assert_int_equal(header.size, 77);
}

static void a_line_of_version_1_names_the_client(void **state)
{
    (void)state;
    assert_reads(SPAN("PROXY TCP4 192.0.2.1 198.51.100.2 1000 443\r\n"), "192.0.2.1:1000",
                 "198.51.100.2:443");
    assert_reads(SPAN("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"), "0.0.0.0:0",
                 "255.255.255.255:65535");
    assert_reads(SPAN("PROXY TCP6 2001:db8::1 ::1 1000 443\r\n"), "[2001:db8::1]:1000",
                 "[::1]:443");
    assert_reads(SPAN("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n"),
                 "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                 "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535");
}

static void an_ipv4_client_in_ipv6_form_is_an_ipv4_client(void **state)
{
    (void)state;
    assert_reads(SPAN("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 1000 443\r\n"),
                 "192.0.2.1:1000", "198.51.100.2:443");
    struct maker maker;
    uint8_t body[36] = {[10] = 0xff, 0xff, 192, 0, 2,    1,    [26] = 0xff, 0xff,
                        198,         51,   100, 2, 0x03, 0xe8, 0x01,        0xbb};
    begin(&maker, 0x21, 0x21);
    add(&maker, body, sizeof(body));
    assert_reads(span_of(maker.bytes, maker.size), "192.0.2.1:1000", "198.51.100.2:443");
}

static void who_is_unknown_has_no_address(void **state)
{
    (void)state;
    assert_reads(SPAN("PROXY UNKNOWN\r\n"), "", "");
    assert_reads(SPAN("PROXY UNKNOWN ::1 ::1 x 443\r\n"), "", "");
    struct maker maker;
    begin(&maker, 0x21, 0x00);
    assert_reads(span_of(maker.bytes, maker.size), "", "");
    add(&maker, "whatever", 8);
    assert_reads(span_of(maker.bytes, maker.size), "", "");
}

static void a_proxy_that_speaks_for_itself_names_nobody(void **state)
{
    (void)state;
    struct maker maker;
    begin(&maker, 0x20, 0x00);
    assert_reads(span_of(maker.bytes, maker.size), "", "");
    begin(&maker, 0x20, 0x11); /* its addresses are to be discarded */
    add(&maker, INET, sizeof(INET));
    assert_reads(span_of(maker.bytes, maker.size), "", "");
    begin(&maker, 0x20, 0x7f);
    assert_reads(span_of(maker.bytes, maker.size), "", "");
}

static void malformed_lines_are_refused(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "GET / HTTP/1.1\r\n",
        "PROXYTCP4",
        "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY \r\n",
        "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.1.1.1\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        "PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n",
        "PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n",
        "PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP4 ::ffff:1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP6 ::1 2.2.2.2 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY TCP6 ::1%lo ::1 1 2\r\n",
        "PROXY TCP6 ::1::1 ::1 1 2\r\n",
        "PROXY TCP6 ::1/128 ::1 1 2\r\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        assert_refused(span_of_string(lines[i]));
    }
    assert_refused(span_of("PROXY UNKNOWN \0\r\n", 17));
    assert_refused(span_of("PROXY TCP4 1.1.1.1\0 2.2.2.2 1 2\r\n", 34));
}

static void a_line_without_end_is_refused_at_its_bound(void **state)
{
    (void)state;
    char line[120];
    struct proxy_header header;
    memset(line, 'x', sizeof(line));
    memcpy(line, "PROXY UNKNOWN ", 14);
    assert_int_equal(proxy_header_read(span_of(line, 106), &header), AGAIN);
    assert_refused(span_of(line, 107));
    memcpy(line + 105, "\r\n", 2);
    assert_int_equal(proxy_header_read(span_of(line, 107), &header), OK);
    memcpy(line + 105, "x\r\n", 3);
    assert_refused(span_of(line, 108));
}

static void a_header_of_version_2_names_the_client(void **state)
{
    (void)state;
    struct maker maker;
    begin_inet(&maker);
    assert_reads(span_of(maker.bytes, maker.size), "192.0.2.1:1000", "198.51.100.2:443");
    uint8_t inet6[36] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1, [31] = 2, 0x03, 0xe8, 0x01, 0xbb};
    begin(&maker, 0x21, 0x21);
    add(&maker, inet6, sizeof(inet6));
    assert_reads(span_of(maker.bytes, maker.size), "[2001:db8::1]:1000", "[::2]:443");
    uint8_t paths[216] = "/run/client.sock";
    begin(&maker, 0x21, 0x31);
    add(&maker, paths, sizeof(paths));
    assert_reads(span_of(maker.bytes, maker.size), "unix", "unix");
}

static void other_commands_families_and_transports_are_refused(void **state)
{
    (void)state;
    static const uint8_t heads[][2] = {
        {0x22, 0x11}, {0x2f, 0x11}, {0x11, 0x11}, {0x31, 0x11}, {0x01, 0x11}, {0x21, 0x01},
        {0x21, 0x10}, {0x21, 0x12}, {0x21, 0x22}, {0x21, 0x32}, {0x21, 0x41}, {0x21, 0xf1},
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct maker maker;
        uint8_t body[216] = {0};
        begin(&maker, heads[i][0], heads[i][1]);
        add(&maker, body, sizeof(body));
        assert_refused(span_of(maker.bytes, maker.size));
    }
}

static void a_body_without_room_for_its_addresses_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint8_t protocol;
        size_t size;
    } cases[] = {{0x11, 11}, {0x11, 0}, {0x21, 35}, {0x21, 12}, {0x31, 215}};
    uint8_t body[216] = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct maker maker;
        begin(&maker, 0x21, cases[i].protocol);
        add(&maker, body, cases[i].size);
        assert_refused(span_of(maker.bytes, maker.size));
    }
}

static void a_header_above_the_bound_is_refused_before_it_came(void **state)
{
    (void)state;
    struct maker maker;
    struct proxy_header header;
    uint8_t filler[PROXY_HEADER_MAX] = {0};
    begin_inet(&maker);
    add_tlv(&maker, 0x04, filler, PROXY_HEADER_MAX - 16 - 12 - 3);
    assert_int_equal(read_made(&maker, &header), OK);
    assert_int_equal(header.size, PROXY_HEADER_MAX);
    begin_inet(&maker);
    add_tlv(&maker, 0x04, filler, PROXY_HEADER_MAX - 16 - 12 - 3 + 1);
    assert_refused(span_of(maker.bytes, 16));
    maker.bytes[12] = 0x20; /* for nobody's sake */
    assert_refused(span_of(maker.bytes, 16));
}

static void tlvs_are_checked_and_left(void **state)
{
    (void)state;
    struct maker maker;
    uint8_t id[129] = {0};
    static const uint8_t ssl[] = {7, 0, 0, 0, 0, 0x21, 0, 7, 'T', 'L', 'S', 'v', '1', '.', '3'};
    begin_inet(&maker);
    add_tlv(&maker, 0x01, "h2", 2);
    add_tlv(&maker, 0x02, "example.com", 11);
    add_tlv(&maker, 0x04, "", 0);
    add_tlv(&maker, 0x05, id, 128);
    add_tlv(&maker, 0x20, ssl, sizeof(ssl));
    add_tlv(&maker, 0xea, "\001vpce", 5);
    assert_reads(span_of(maker.bytes, maker.size), "192.0.2.1:1000", "198.51.100.2:443");
    begin_inet(&maker);
    add_tlv(&maker, 0x05, id, 129);
    assert_refused(span_of(maker.bytes, maker.size));
}

static void tlvs_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct maker maker;
    static const char *const rests[] = {"\004", "\004\000", "\004\000\001", "\004\000\005abcd"};
    static const size_t sizes[] = {1, 2, 3, 7};
    for (size_t i = 0; i < 4; i++) {
        begin_inet(&maker);
        add(&maker, rests[i], sizes[i]);
        assert_refused(span_of(maker.bytes, maker.size));
    }
    begin_inet(&maker);
    add_tlv(&maker, 0x20, "\007\0\0\0", 4);
    assert_refused(span_of(maker.bytes, maker.size));
    begin_inet(&maker);
    add_tlv(&maker, 0x20, "\007\0\0\0\0\041\000\005T", 9);
    assert_refused(span_of(maker.bytes, maker.size));
}

/* Worked out by another implementation of CRC-32C. */
static void a_checksum_is_held_against_the_header(void **state)
{
    (void)state;
    struct maker maker;
    struct proxy_header header;
    static const uint8_t crc[4] = {0xa4, 0x67, 0x26, 0x25};
    begin_inet(&maker);
    add_tlv(&maker, 0x03, crc, sizeof(crc));
    add_tlv(&maker, 0x04, "x", 1);
    assert_int_equal(read_made(&maker, &header), OK);
    for (size_t i = 16; i < maker.size; i++) {
        bool is_frame = (i >= 28 && i < 31) || (i >= 35 && i < 38); /* types and lengths */
        for (int bit = 0; bit < 8 && !is_frame; bit++) {
            maker.bytes[i] ^= (uint8_t)(1 << bit);
            assert_int_equal(read_made(&maker, &header), ERROR);
            maker.bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
    assert_int_equal(read_made(&maker, &header), OK);
}

static void a_checksum_stands_there_once_and_has_four_bytes(void **state)
{
    (void)state;
    struct maker maker;
    for (size_t size = 0; size < 6; size++) {
        if (size != 4) {
            begin_inet(&maker);
            add_tlv(&maker, 0x03, "\0\0\0\0\0", size);
            assert_refused(span_of(maker.bytes, maker.size));
        }
    }
    static const uint8_t twice[4] = {0x66, 0xe1, 0x05,
                                     0x06}; /* right, if the second were not one */
    begin_inet(&maker);
    add_tlv(&maker, 0x03, twice, sizeof(twice));
    add_tlv(&maker, 0x03, "\0\0\0\0", 4);
    assert_refused(span_of(maker.bytes, maker.size));
}

static struct address address_of(const char *text)
{
    struct address address = {.family = ADDRESS_UNIX};
    bool valid = *text == 'u' || address_parse(span_of_string(text), &address);
    assert_true(valid);
    return address;
}

static struct span written(enum proxy_version version, const char *source, const char *destination,
                           uint8_t bytes[PROXY_HEADER_WRITTEN_MAX])
{
    struct address from = address_of(source);
    struct address to = address_of(destination);
    return span_of(bytes, proxy_header_write(version, &from, &to, bytes));
}

static void what_is_written_in_version_1_is_that_line(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"192.0.2.1:1000", "198.51.100.2:443", "PROXY TCP4 192.0.2.1 198.51.100.2 1000 443\r\n"},
        {"[2001:db8::1]:1000", "[::1]:443", "PROXY TCP6 2001:db8::1 ::1 1000 443\r\n"},
        {"192.0.2.1:1000", "[::1]:443", "PROXY TCP6 ::ffff:192.0.2.1 ::1 1000 443\r\n"},
        {"[2001:db8::1]:1000", "198.51.100.2:443",
         "PROXY TCP6 2001:db8::1 ::ffff:198.51.100.2 1000 443\r\n"},
        {"192.0.2.1:1000", "unix", "PROXY TCP4 192.0.2.1 0.0.0.0 1000 0\r\n"},
        {"unix", "198.51.100.2:443", "PROXY UNKNOWN\r\n"},
        {"unix", "unix", "PROXY UNKNOWN\r\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[PROXY_HEADER_WRITTEN_MAX];
        struct span line = written(PROXY_VERSION_1, cases[i][0], cases[i][1], bytes);
        assert_true(span_equal(line, span_of_string(cases[i][2])));
    }
    uint8_t bytes[PROXY_HEADER_WRITTEN_MAX];
    struct span line = written(PROXY_VERSION_1, "[fffe:fffe:fffe:fffe:fffe:fffe:fffe:fffe]:65535",
                               "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", bytes);
    struct proxy_header header;
    assert_int_equal(proxy_header_read(line, &header), OK);
}

static void what_is_written_in_version_2_is_read_back(void **state)
{
    (void)state;
    static const char *const cases[][4] = {
        {"192.0.2.1:1000", "198.51.100.2:443", "192.0.2.1:1000", "198.51.100.2:443"},
        {"[2001:db8::1]:1000", "[::1]:443", "[2001:db8::1]:1000", "[::1]:443"},
        {"192.0.2.1:1000", "[::1]:443", "192.0.2.1:1000", "[::1]:443"},
        {"192.0.2.1:1000", "unix", "192.0.2.1:1000", "0.0.0.0:0"},
        {"unix", "198.51.100.2:443", "", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[PROXY_HEADER_WRITTEN_MAX];
        struct span header = written(PROXY_VERSION_2, cases[i][0], cases[i][1], bytes);
        assert_int_equal(bytes[12], cases[i][2][0] == '\0' ? 0x20 : 0x21);
        assert_reads(header, cases[i][2], cases[i][3]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_of_version_1_names_the_client),
        cmocka_unit_test(an_ipv4_client_in_ipv6_form_is_an_ipv4_client),
        cmocka_unit_test(who_is_unknown_has_no_address),
        cmocka_unit_test(a_proxy_that_speaks_for_itself_names_nobody),
        cmocka_unit_test(malformed_lines_are_refused),
        cmocka_unit_test(a_line_without_end_is_refused_at_its_bound),
        cmocka_unit_test(a_header_of_version_2_names_the_client),
        cmocka_unit_test(other_commands_families_and_transports_are_refused),
        cmocka_unit_test(a_body_without_room_for_its_addresses_is_refused),
        cmocka_unit_test(a_header_above_the_bound_is_refused_before_it_came),
        cmocka_unit_test(tlvs_are_checked_and_left),
        cmocka_unit_test(tlvs_that_do_not_fit_are_refused),
        cmocka_unit_test(a_checksum_is_held_against_the_header),
        cmocka_unit_test(a_checksum_stands_there_once_and_has_four_bytes),
        cmocka_unit_test(what_is_written_in_version_1_is_that_line),
        cmocka_unit_test(what_is_written_in_version_2_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
