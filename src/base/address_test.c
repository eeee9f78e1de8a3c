#include "base/address.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <sys/un.h>

#include <cmocka.h>

static struct address parsed(const char *text)
{
    struct address address;
    if (!address_parse(span_of_string(text), &address)) {
        fail_msg("refused: %s", text);
    }
    return address;
}

static struct address_block parsed_block(const char *text)
{
    struct address_block block;
    if (!address_block_parse(span_of_string(text), &block)) {
        fail_msg("refused: %s", text);
    }
    return block;
}

static void prints_what_it_parses_in_the_form_of_rfc_5952(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *printed;
        const char *host;
    } cases[] = {
        {"1.2.3.4:80", "1.2.3.4:80", "1.2.3.4"},
        {"0.0.0.0:1", "0.0.0.0:1", "0.0.0.0"},
        {"255.255.255.255:65535", "255.255.255.255:65535", "255.255.255.255"},
        {"[::1]:8080", "[::1]:8080", "::1"},
        {"[::]:80", "[::]:80", "::"},
        {"[2001:DB8:0:0:0:0:0:1]:80", "[2001:db8::1]:80", "2001:db8::1"},
        {"[2001:0db8::0001]:80", "[2001:db8::1]:80", "2001:db8::1"},
        {"[2001:db8:0:1:1:1:1:1]:80", "[2001:db8:0:1:1:1:1:1]:80", "2001:db8:0:1:1:1:1:1"},
        {"[2001:db8:0:0:1:0:0:1]:80", "[2001:db8::1:0:0:1]:80", "2001:db8::1:0:0:1"},
        {"[1:0:0:2:0:0:0:3]:80", "[1:0:0:2::3]:80", "1:0:0:2::3"},
        {"[1::]:80", "[1::]:80", "1::"},
        {"[0:0:1::]:80", "[0:0:1::]:80", "0:0:1::"},
        {"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
         "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
        {"[64:ff9b::1.2.3.4]:80", "[64:ff9b::102:304]:80", "64:ff9b::102:304"},
        {"[::ffff:1.2.3.4]:80", "1.2.3.4:80", "1.2.3.4"},
        {"[::ffff:102:304]:80", "1.2.3.4:80", "1.2.3.4"},
        {"[0:0:0:0:0:ffff:7f00:1]:80", "127.0.0.1:80", "127.0.0.1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address address = parsed(cases[i].text);
        char text[ADDRESS_TEXT_MAX];
        assert_int_equal(address_print(&address, text), strlen(cases[i].printed));
        assert_string_equal(text, cases[i].printed);
        struct address again = parsed(text);
        assert_true(address_equal(&address, &again));
        assert_int_equal(address_print_host(&address, text), strlen(cases[i].host));
        assert_string_equal(text, cases[i].host);
    }
}

/* It is no address with a port, and what was there stays. */
static void assert_refused(const char *text)
{
    struct address address = {.family = 77, .port = 7};
    if (address_parse(span_of_string(text), &address)) {
        fail_msg("taken: %s", text);
    }
    assert_int_equal(address.family, 77);
    assert_int_equal(address.port, 7);
}

static void refuses_what_is_no_ipv4_address_with_a_port(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        ":",
        ":80",
        "80",
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "1.2.3.4:080",
        "1.2.3.4:+80",
        "1.2.3.4:-1",
        "1.2.3.4: 80",
        "1.2.3.4:80 ",
        " 1.2.3.4:80",
        "1.2.3.4:80:80",
        "1.2.3.4:18446744073709551696",
        "1.2.3:80",
        "1.2.3.4.5:80",
        "1.2.3.4.:80",
        ".1.2.3.4:80",
        "1..3.4:80",
        "1.2.3.256:80",
        "1.2.3.04:80",
        "01.2.3.4:80",
        "0x7f.0.0.1:80",
        "127.1:80",
        "2130706433:80",
        "1.2.3.-4:80",
        "1.2.3.4e0:80",
        "localhost:80",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_refused(cases[i]);
    }
}

static void refuses_what_is_no_ipv6_address_with_a_port(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "::1",
        "::1:80",
        "[::1]",
        "[::1]:",
        "[::1]80",
        "[::1]:0",
        "[::1:80",
        "[]:80",
        "[",
        "[]",
        "[1.2.3.4]:80",
        "[::1%eth0]:80",
        "[fe80::1%25eth0]:80",
        "[fe80::1%1]:80",
        "[:::]:80",
        "[1::2::3]:80",
        "[1:2:3:4:5:6:7]:80",
        "[1:2:3:4:5:6:7:8:9]:80",
        "[1:2:3:4:5:6:7:8::]:80",
        "[:1:2:3:4:5:6:7]:80",
        "[1:2:3:4:5:6:7:]:80",
        "[00001::]:80",
        "[g::]:80",
        "[::1.2.3]:80",
        "[::1.2.3.256]:80",
        "[1.2.3.4::]:80",
        "[[::1]]:80",
        "[::1 ]:80",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:80",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_refused(cases[i]);
    }
}

static void a_nul_does_not_end_an_address_early(void **state)
{
    (void)state;
    struct address address;
    struct address_block block;
    assert_false(address_parse(SPAN("1.2.3.4\0:80"), &address));
    assert_false(address_parse(SPAN("1.2.3.4:80\0"), &address));
    assert_false(address_parse(SPAN("[::1\0]:80"), &address));
    assert_false(address_parse(SPAN("[\0::1]:80"), &address));
    assert_false(address_parse(SPAN_EMPTY, &address));
    assert_false(address_block_parse(SPAN("::1\0"), &block));
    assert_false(address_block_parse(SPAN("::1\0/64"), &block));
    assert_false(address_block_parse(SPAN_EMPTY, &block));
}

/* Every shorter text and every changed byte of good texts: nothing reads past the span (ASan). */
static void mutilated_texts_never_read_outside_and_print_back_when_taken(void **state)
{
    (void)state;
    static const char *const seeds[] = {"192.168.10.1:65535", "[2001:db8::ff:1.2.3.4]:443"};
    for (size_t i = 0; i < 2; i++) {
        size_t size = strlen(seeds[i]);
        for (size_t at = 0; at < size; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                uint8_t *exact = test_malloc(size);
                memcpy(exact, seeds[i], size);
                exact[at] = (uint8_t)byte;
                struct address address;
                struct address_block block;
                char text[ADDRESS_TEXT_MAX];
                if (address_parse(span_of(exact, size), &address)) {
                    size_t printed = address_print(&address, text);
                    struct address again;
                    assert_true(address_parse(span_of(text, printed), &again));
                    assert_true(address_equal(&address, &again));
                }
                assert_false(address_parse(span_of(exact, at), &address) && at < size - 4);
                (void)address_block_parse(span_of(exact, at), &block);
                test_free(exact);
            }
        }
    }
}

static void a_block_holds_exactly_the_addresses_with_its_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *block;
        const char *address;
        bool inside;
    } cases[] = {
        {"10.0.0.0/8", "10.255.0.1:80", true},
        {"10.0.0.0/8", "11.0.0.0:80", false},
        {"10.0.0.0/8", "9.255.255.255:80", false},
        {"172.16.0.0/12", "172.31.255.255:1", true},
        {"172.16.0.0/12", "172.32.0.0:1", false},
        {"192.168.1.128/25", "192.168.1.128:1", true},
        {"192.168.1.128/25", "192.168.1.127:1", false},
        {"1.2.3.4", "1.2.3.4:99", true},
        {"1.2.3.4/32", "1.2.3.5:99", false},
        {"1.2.3.4/31", "1.2.3.5:99", true},
        {"0.0.0.0/0", "203.0.113.9:1", true},
        {"0.0.0.0/0", "[::1]:1", false},
        {"::/0", "1.2.3.4:1", false},
        {"::/0", "[2001:db8::1]:1", true},
        {"::1/128", "[::1]:1", true},
        {"::1", "[::2]:1", false},
        {"2001:db8::/33", "[2001:db8:7fff::]:1", true},
        {"2001:db8::/33", "[2001:db8:8000::]:1", false},
        {"::ffff:10.0.0.0/104", "10.1.2.3:1", true},
        {"::ffff:10.0.0.0/104", "[::ffff:11.0.0.1]:1", false},
        {"::ffff:1.2.3.4", "1.2.3.4:1", true},
        {"10.0.0.0/8", "[::ffff:10.1.2.3]:1", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address_block block = parsed_block(cases[i].block);
        struct address address = parsed(cases[i].address);
        if (address_block_contains(&block, &address) != cases[i].inside) {
            fail_msg("%s in %s", cases[i].address, cases[i].block);
        }
    }
    struct address none = {.family = ADDRESS_NONE};
    struct address_block nothing = {.family = ADDRESS_NONE};
    assert_false(address_block_contains(&nothing, &none));
}

static void refuses_blocks_with_host_bits_or_odd_prefixes(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/08",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "10.0.0.0/ 8",
        "10.0.0.1/8",
        "10.0.0.0/255.0.0.0",
        "10.0.0/24",
        "10.0.0.0:80",
        "1.2.3.4/0",
        "::1/129",
        "::1/127",
        "2001:db8::1/64",
        "[::1]/128",
        "fe80::1%eth0",
        "fe80::%1/64",
        "::ffff:1.2.3.4/90",
        "::ffff:10.0.0.1/104",
        "example.com",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address_block block = {.family = 77};
        if (address_block_parse(span_of_string(cases[i]), &block)) {
            fail_msg("taken: %s", cases[i]);
        }
        assert_int_equal(block.family, 77);
    }
}

static void an_address_alone_has_neither_port_nor_brackets_nor_prefix(void **state)
{
    (void)state;
    static const char *const refused[] = {"",      "1.2.3.4:80", "1.2.3.4/32", "[::1]", "::1/128",
                                          "1.2.3", "01.2.3.4",   "::1%lo",     "unix",  "a.b"};
    struct address address = {.family = ADDRESS_NONE};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_false(address_parse_host(span_of_string(refused[i]), &address));
        assert_int_equal(address.family, ADDRESS_NONE);
    }
    char text[ADDRESS_TEXT_MAX];
    assert_true(address_parse_host(SPAN("192.0.2.1"), &address));
    (void)address_print(&address, text);
    assert_string_equal(text, "192.0.2.1:0");
    assert_true(address_parse_host(SPAN("2001:DB8::1"), &address));
    (void)address_print(&address, text);
    assert_string_equal(text, "[2001:db8::1]:0");
    assert_true(address_parse_host(SPAN("::ffff:192.0.2.1"), &address));
    assert_int_equal(address.family, ADDRESS_IPV4);
}

static void same_host_ignores_the_port_and_equality_does_not(void **state)
{
    (void)state;
    struct address a = parsed("1.2.3.4:80");
    struct address b = parsed("1.2.3.4:81");
    struct address c = parsed("[102:304::]:80"); /* the same leading bytes, another family */
    assert_true(address_same_host(&a, &b));
    assert_false(address_equal(&a, &b));
    assert_true(address_equal(&a, &a));
    assert_false(address_same_host(&a, &c));
}

static void survives_the_way_to_the_system_and_back(void **state)
{
    (void)state;
    static const char *const cases[] = {"127.0.0.1:8080", "[2001:db8::7]:443"};
    for (size_t i = 0; i < 2; i++) {
        struct address address = parsed(cases[i]);
        struct address back;
        struct sockaddr_storage storage;
        socklen_t size = address_to_system(&address, &storage);
        assert_int_equal(size, i == 0 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        assert_int_equal(storage.ss_family, i == 0 ? AF_INET : AF_INET6);
        address_from_system(&storage, &back);
        assert_true(address_equal(&address, &back));
    }
}

static void a_mapped_peer_of_a_dual_stack_socket_is_its_ipv4_self(void **state)
{
    (void)state;
    struct sockaddr_in6 system = {.sin6_family = AF_INET6, .sin6_port = htons(5)};
    struct sockaddr_storage storage = {0};
    struct address address;
    struct address expected = parsed("10.1.2.3:5");
    const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3};
    memcpy(&system.sin6_addr, mapped, sizeof(mapped));
    memcpy(&storage, &system, sizeof(system));
    address_from_system(&storage, &address);
    assert_true(address_equal(&address, &expected));
}

static void a_peer_on_a_unix_socket_is_called_unix(void **state)
{
    (void)state;
    struct sockaddr_storage storage = {.ss_family = AF_UNIX};
    struct address address = parsed("1.2.3.4:80");
    struct address_block all = {.family = ADDRESS_UNIX};
    struct address_block block;
    char text[ADDRESS_TEXT_MAX];
    address_from_system(&storage, &address);
    assert_int_equal(address.family, ADDRESS_UNIX);
    assert_int_equal(address_print(&address, text), 4);
    assert_string_equal(text, "unix");
    assert_int_equal(address_print_host(&address, text), 4);
    assert_string_equal(text, "unix");
    assert_true(address_block_contains(&all, &address));
    address = parsed("1.2.3.4:80");
    assert_false(address_block_contains(&all, &address));
    /* No text that a peer sends becomes one. */
    assert_false(address_parse(SPAN("unix"), &address));
    assert_false(address_block_parse(SPAN("unix"), &block));
}

static void a_path_becomes_the_systems_form(void **state)
{
    (void)state;
    struct sockaddr_storage storage;
    struct sockaddr_un system;
    char longest[ADDRESS_PATH_MAX];
    assert_int_equal(address_path_to_system(SPAN("/run/x"), &storage), sizeof(system));
    memcpy(&system, &storage, sizeof(system));
    assert_int_equal(system.sun_family, AF_UNIX);
    assert_string_equal(system.sun_path, "/run/x");
    memset(longest, '/', sizeof(longest));
    (void)address_path_to_system(span_of(longest, sizeof(longest)), &storage);
    memcpy(&system, &storage, sizeof(system));
    assert_int_equal(system.sun_path[ADDRESS_PATH_MAX], 0);
}

static void other_families_become_no_address(void **state)
{
    (void)state;
    struct sockaddr_storage storage = {.ss_family = AF_PACKET};
    struct address address = parsed("1.2.3.4:80");
    char text[ADDRESS_TEXT_MAX];
    address_from_system(&storage, &address);
    assert_int_equal(address.family, ADDRESS_NONE);
    assert_int_equal(address_print(&address, text), 1);
    assert_string_equal(text, "-");
    assert_int_equal(address_print_host(&address, text), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_what_it_parses_in_the_form_of_rfc_5952),
        cmocka_unit_test(refuses_what_is_no_ipv4_address_with_a_port),
        cmocka_unit_test(refuses_what_is_no_ipv6_address_with_a_port),
        cmocka_unit_test(a_nul_does_not_end_an_address_early),
        cmocka_unit_test(mutilated_texts_never_read_outside_and_print_back_when_taken),
        cmocka_unit_test(a_block_holds_exactly_the_addresses_with_its_prefix),
        cmocka_unit_test(refuses_blocks_with_host_bits_or_odd_prefixes),
        cmocka_unit_test(an_address_alone_has_neither_port_nor_brackets_nor_prefix),
        cmocka_unit_test(same_host_ignores_the_port_and_equality_does_not),
        cmocka_unit_test(survives_the_way_to_the_system_and_back),
        cmocka_unit_test(a_mapped_peer_of_a_dual_stack_socket_is_its_ipv4_self),
        cmocka_unit_test(a_peer_on_a_unix_socket_is_called_unix),
        cmocka_unit_test(a_path_becomes_the_systems_form),
        cmocka_unit_test(other_families_become_no_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
