#include "base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#include "base/assert.h"

static_assert(sizeof(((struct sockaddr_un *)NULL)->sun_path) == ADDRESS_PATH_MAX + 1,
              "with its NUL");

enum { IPV4_BYTES = 4, IPV6_BYTES = 16, IPV6_GROUPS = 8 };

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static unsigned family_bits(uint8_t family)
{
    return family == ADDRESS_IPV4 ? 8 * IPV4_BYTES : 8 * IPV6_BYTES;
}

/* A number without sign, blanks or leading zeros, which other parsers may read as octal. */
static bool parse_number(struct span text, uint64_t max, uint64_t *value)
{
    if (text.size > 1 && text.data[0] == '0') {
        return false;
    }
    return span_to_u64(text, max, value);
}

/* Exactly four decimal parts: none of inet_aton's short, octal or hexadecimal forms. */
static bool parse_ipv4(struct span text, uint8_t ip[16])
{
    uint8_t parsed[16] = {0};
    for (size_t i = 0; i < IPV4_BYTES; i++) {
        size_t size = span_find(text, '.');
        uint64_t part = 0;
        bool is_last = i + 1 == IPV4_BYTES;
        if (is_last != (size == text.size) || !parse_number(span_first(text, size), 255, &part)) {
            return false;
        }
        parsed[i] = (uint8_t)part;
        text = span_from(text, is_last ? size : size + 1);
    }
    memcpy(ip, parsed, sizeof(parsed));
    return true;
}

/* RFC 4291, section 2.2, all three forms. A zone id is no part of an address: refused. */
static bool parse_ipv6(struct span text, uint8_t ip[16])
{
    char copy[INET6_ADDRSTRLEN];
    uint8_t parsed[16];
    if (text.size == 0 || text.size >= sizeof(copy) || span_find(text, '\0') != text.size) {
        return false;
    }
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    if (inet_pton(AF_INET6, copy, parsed) != 1) {
        return false;
    }
    memcpy(ip, parsed, sizeof(parsed));
    return true;
}

/* A peer must not escape an IPv4 rule by wearing the IPv6 form of its address (RFC 4291, 2.5.5.2).
 */
static uint8_t unmap_ipv4(uint8_t ip[16])
{
    if (memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) != 0) {
        return ADDRESS_IPV6;
    }
    memcpy(ip, ip + sizeof(mapped_prefix), IPV4_BYTES);
    memset(ip + IPV4_BYTES, 0, IPV6_BYTES - IPV4_BYTES);
    return ADDRESS_IPV4;
}

bool address_parse(struct span text, struct address *address)
{
    struct address parsed = {.family = ADDRESS_IPV4};
    uint64_t port = 0;
    struct span port_text;
    if (text.size > 0 && text.data[0] == '[') {
        size_t close = span_find(text, ']');
        if (text.size - close < 2 || text.data[close + 1] != ':' ||
            !parse_ipv6(span_from(span_first(text, close), 1), parsed.ip)) {
            return false;
        }
        parsed.family = unmap_ipv4(parsed.ip);
        port_text = span_from(text, close + 2);
    } else {
        size_t colon = span_find(text, ':');
        if (colon == text.size || !parse_ipv4(span_first(text, colon), parsed.ip)) {
            return false;
        }
        port_text = span_from(text, colon + 1);
    }
    if (!parse_number(port_text, UINT16_MAX, &port) || port == 0) {
        return false;
    }
    parsed.port = (uint16_t)port;
    *address = parsed;
    return true;
}

bool address_parse_host(struct span text, struct address *address)
{
    struct address parsed = {.family = ADDRESS_IPV4};
    if (!parse_ipv4(text, parsed.ip)) {
        if (!parse_ipv6(text, parsed.ip)) {
            return false;
        }
        parsed.family = unmap_ipv4(parsed.ip);
    }
    *address = parsed;
    return true;
}

/* The mask of the byte at this index in a prefix of so many bits. */
static unsigned mask_byte(unsigned prefix_bits, size_t index)
{
    unsigned before = 8 * (unsigned)index;
    if (prefix_bits >= before + 8) {
        return 0xff;
    }
    return prefix_bits <= before ? 0 : 0xff00U >> (prefix_bits - before) & 0xff;
}

static bool host_bits_are_zero(const struct address_block *block)
{
    for (size_t i = 0; i < IPV6_BYTES; i++) {
        if ((block->ip[i] & ~mask_byte(block->prefix_bits, i)) != 0) {
            return false;
        }
    }
    return true;
}

bool address_block_parse(struct span text, struct address_block *block)
{
    size_t slash = span_find(text, '/');
    struct span ip_text = span_first(text, slash);
    struct address_block parsed = {.family = ADDRESS_IPV4};
    if (!parse_ipv4(ip_text, parsed.ip)) {
        if (!parse_ipv6(ip_text, parsed.ip)) {
            return false;
        }
        parsed.family = ADDRESS_IPV6;
    }
    uint64_t bits = family_bits(parsed.family);
    if (slash < text.size && !parse_number(span_from(text, slash + 1), bits, &bits)) {
        return false;
    }
    parsed.prefix_bits = (uint8_t)bits;
    if (!host_bits_are_zero(&parsed)) {
        return false;
    }
    /* A block of mapped addresses has at least their 96 bits, or it had host bits just now. */
    if (parsed.family == ADDRESS_IPV6 && unmap_ipv4(parsed.ip) == ADDRESS_IPV4) {
        ASSERT(parsed.prefix_bits >= 96);
        parsed.family = ADDRESS_IPV4;
        parsed.prefix_bits = (uint8_t)(parsed.prefix_bits - 96);
    }
    *block = parsed;
    return true;
}

bool address_block_contains(const struct address_block *block, const struct address *address)
{
    if (block->family == ADDRESS_NONE || block->family != address->family) {
        return false;
    }
    ASSERT(block->prefix_bits <= family_bits(block->family));
    for (size_t i = 0; i < IPV6_BYTES; i++) {
        uint8_t difference = block->ip[i] ^ address->ip[i];
        if ((difference & mask_byte(block->prefix_bits, i)) != 0) {
            return false;
        }
    }
    return true;
}

bool address_equal(const struct address *a, const struct address *b)
{
    return address_same_host(a, b) && a->port == b->port;
}

bool address_same_host(const struct address *a, const struct address *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

/* The longest run of zero groups, the first of equals, two at least (RFC 5952, section 4.2). */
static void find_zero_run(const uint16_t groups[IPV6_GROUPS], size_t *start, size_t *length)
{
    size_t run = 0;
    *start = IPV6_GROUPS;
    *length = 1;
    for (size_t i = 0; i < IPV6_GROUPS; i++) {
        run = groups[i] == 0 ? run + 1 : 0;
        if (run > *length) {
            *length = run;
            *start = i + 1 - run;
        }
    }
}

/* Apart from printf: every request has its client's address printed. */
static size_t print_octet(uint8_t octet, char *text)
{
    size_t used = 0;
    if (octet >= 100) {
        text[used++] = (char)('0' + octet / 100);
    }
    if (octet >= 10) {
        text[used++] = (char)('0' + octet / 10 % 10);
    }
    text[used++] = (char)('0' + octet % 10);
    return used;
}

static size_t print_ipv4(const uint8_t ip[4], char *text)
{
    size_t used = print_octet(ip[0], text);
    for (size_t i = 1; i < IPV4_BYTES; i++) {
        text[used++] = '.';
        used += print_octet(ip[i], text + used);
    }
    text[used] = '\0';
    return used;
}

/* Lower-case hexadecimal without leading zeros. */
static size_t print_group(uint16_t group, char *text)
{
    static const char digits[] = "0123456789abcdef";
    size_t used = 0;
    for (int shift = 12; shift >= 0; shift -= 4) {
        if (used > 0 || shift == 0 || group >> shift != 0) {
            text[used++] = digits[group >> shift & 15];
        }
    }
    return used;
}

static size_t print_ipv6(const uint8_t ip[16], char *text)
{
    uint16_t groups[IPV6_GROUPS];
    size_t run_start = 0;
    size_t run_length = 0;
    size_t used = 0;
    for (size_t i = 0; i < IPV6_GROUPS; i++) {
        groups[i] = (uint16_t)(ip[2 * i] << 8 | ip[2 * i + 1]);
    }
    find_zero_run(groups, &run_start, &run_length);
    for (size_t i = 0; i < IPV6_GROUPS;) {
        if (i == run_start) {
            text[used++] = ':';
            text[used++] = ':';
            i += run_length;
            continue;
        }
        if (i > 0 && i != run_start + run_length) {
            text[used++] = ':';
        }
        used += print_group(groups[i], text + used);
        i++;
    }
    text[used] = '\0';
    return used;
}

size_t address_print_host(const struct address *address, char text[ADDRESS_TEXT_MAX])
{
    switch ((enum address_family)address->family) {
    case ADDRESS_IPV4:
        return print_ipv4(address->ip, text);
    case ADDRESS_IPV6:
        return print_ipv6(address->ip, text);
    case ADDRESS_UNIX:
        return (size_t)snprintf(text, ADDRESS_TEXT_MAX, "unix");
    case ADDRESS_NONE:
        break;
    }
    return (size_t)snprintf(text, ADDRESS_TEXT_MAX, "-");
}

size_t address_print(const struct address *address, char text[ADDRESS_TEXT_MAX])
{
    char host[ADDRESS_TEXT_MAX];
    if (address->family != ADDRESS_IPV4 && address->family != ADDRESS_IPV6) {
        return address_print_host(address, text);
    }
    address_print_host(address, host);
    bool bracketed = address->family == ADDRESS_IPV6;
    return (size_t)snprintf(text, ADDRESS_TEXT_MAX, "%s%.45s%s:%u", bracketed ? "[" : "", host,
                            bracketed ? "]" : "", address->port);
}

socklen_t address_to_system(const struct address *address, struct sockaddr_storage *storage)
{
    memset(storage, 0, sizeof(*storage));
    if (address->family == ADDRESS_IPV4) {
        struct sockaddr_in system = {.sin_family = AF_INET, .sin_port = htons(address->port)};
        memcpy(&system.sin_addr, address->ip, IPV4_BYTES);
        memcpy(storage, &system, sizeof(system));
        return sizeof(system);
    }
    ASSERT(address->family == ADDRESS_IPV6);
    struct sockaddr_in6 system = {.sin6_family = AF_INET6, .sin6_port = htons(address->port)};
    memcpy(&system.sin6_addr, address->ip, IPV6_BYTES);
    memcpy(storage, &system, sizeof(system));
    return sizeof(system);
}

socklen_t address_path_to_system(struct span path, struct sockaddr_storage *storage)
{
    struct sockaddr_un system = {.sun_family = AF_UNIX};
    ASSERT(path.size > 0 && path.size <= ADDRESS_PATH_MAX && path.data[0] == '/');
    memcpy(system.sun_path, path.data, path.size);
    memset(storage, 0, sizeof(*storage));
    memcpy(storage, &system, sizeof(system));
    return sizeof(system);
}

void address_from_system(const struct sockaddr_storage *storage, struct address *address)
{
    *address = (struct address){.family = ADDRESS_NONE};
    if (storage->ss_family == AF_INET) {
        struct sockaddr_in system;
        memcpy(&system, storage, sizeof(system));
        address->family = ADDRESS_IPV4;
        address->port = ntohs(system.sin_port);
        memcpy(address->ip, &system.sin_addr, IPV4_BYTES);
    } else if (storage->ss_family == AF_INET6) {
        struct sockaddr_in6 system;
        memcpy(&system, storage, sizeof(system));
        address->port = ntohs(system.sin6_port);
        memcpy(address->ip, &system.sin6_addr, IPV6_BYTES);
        address->family = unmap_ipv4(address->ip);
    } else if (storage->ss_family == AF_UNIX) {
        address->family = ADDRESS_UNIX;
    }
}
