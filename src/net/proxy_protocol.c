#include "net/proxy_protocol.h"

#include <stdio.h>

#include "base/assert.h"

enum {
    V1_MAX = 107, /* "PROXY UNKNOWN", two addresses of 39 characters, two ports, CRLF */
    V2_FIXED = 16,
    V2_VERSION = 0x20,
    V2_LOCAL = 0,
    V2_PROXY = 1,
    IPV4_SIZE = 12, /* two addresses, two ports */
    IPV6_SIZE = 36,
    UNIX_SIZE = 216, /* two paths */
    TLV_FIXED = 3,
    SSL_FIXED = 5, /* of the TLV of that name: what the client did, and whether it was verified */
};

enum v2_family { V2_UNSPEC, V2_INET, V2_INET6, V2_UNIX };

enum tlv_type {
    TLV_CRC32C = 0x03,
    TLV_UNIQUE_ID = 0x05,
    TLV_SSL = 0x20,
};

static_assert((int)PROXY_HEADER_MAX >= V2_FIXED + UNIX_SIZE && (int)PROXY_HEADER_MAX >= V1_MAX,
              "each kind of header fits");

static const uint8_t SIGNATURE[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                      0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
static const uint8_t MAPPED[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* CRC-32C (Castagnoli, RFC 3720, B.4), bit by bit: headers are short, and few have one. */
static uint32_t crc32c(uint32_t crc, struct span bytes)
{
    crc = ~crc;
    for (size_t i = 0; i < bytes.size; i++) {
        crc ^= bytes.data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78U : 0);
        }
    }
    return ~crc;
}

static uint32_t read_u16(const uint8_t *data)
{
    return (uint32_t)data[0] << 8 | data[1];
}

static uint32_t read_u32(const uint8_t *data)
{
    return read_u16(data) << 16 | read_u16(data + 2);
}

/* The bytes up to the next blank, which must be there, and cuts both off. */
static bool take_word(struct span *rest, struct span *word)
{
    size_t size = span_find(*rest, ' ');
    if (size == rest->size) {
        return false;
    }
    *word = span_first(*rest, size);
    *rest = span_from(*rest, size + 1);
    return true;
}

static bool read_port(struct span text, uint16_t *port)
{
    uint64_t value = 0;
    if ((text.size > 1 && text.data[0] == '0') || !span_to_u64(text, UINT16_MAX, &value)) {
        return false;
    }
    *port = (uint16_t)value;
    return true;
}

/* An address as it stands in version 1: in the form of the family that the line names. */
static bool read_host(struct span text, bool is_ipv6, struct address *address)
{
    bool has_colon = span_find(text, ':') < text.size;
    return has_colon == is_ipv6 && address_parse_host(text, address);
}

/* "SOURCE DESTINATION PORT PORT", one blank between them. */
static bool read_endpoints(struct span rest, bool is_ipv6, struct proxy_header *header)
{
    struct span source = SPAN_EMPTY;
    struct span destination = SPAN_EMPTY;
    struct span port = SPAN_EMPTY;
    return take_word(&rest, &source) && take_word(&rest, &destination) && take_word(&rest, &port) &&
           read_host(source, is_ipv6, &header->source) &&
           read_host(destination, is_ipv6, &header->destination) &&
           read_port(port, &header->source.port) && read_port(rest, &header->destination.port);
}

/* The line behind "PROXY ", without its CRLF. */
static bool read_line(struct span line, struct proxy_header *header)
{
    if (span_equal(line, SPAN("UNKNOWN")) || span_starts_with(line, SPAN("UNKNOWN "))) {
        return true; /* what follows the word is to be ignored */
    }
    if (span_starts_with(line, SPAN("TCP4 "))) {
        return read_endpoints(span_from(line, 5), false, header);
    }
    return span_starts_with(line, SPAN("TCP6 ")) &&
           read_endpoints(span_from(line, 5), true, header);
}

static enum status read_v1(struct span bytes, struct proxy_header *header)
{
    struct span prefix = SPAN("PROXY ");
    struct span window = span_first(bytes, bytes.size < V1_MAX ? bytes.size : V1_MAX);
    size_t end = span_find(window, '\n');
    for (size_t i = prefix.size; i < end; i++) {
        bool is_last = i + 1 == end;
        if ((window.data[i] < 0x20 || window.data[i] > 0x7e) &&
            !(is_last && window.data[i] == '\r')) {
            return ERROR;
        }
    }
    if (end == window.size) {
        return end < V1_MAX ? AGAIN : ERROR;
    }
    struct proxy_header read = {.size = (uint32_t)end + 1, .version = PROXY_VERSION_1};
    if (window.data[end - 1] != '\r' ||
        !read_line(span_from(span_first(window, end - 1), prefix.size), &read)) {
        return ERROR;
    }
    *header = read;
    return OK;
}

/* The next TLV of the list, cut off it; its type, or -1 where it does not fit. */
static int take_tlv(struct span *rest, struct span *value)
{
    if (rest->size < TLV_FIXED) {
        return -1;
    }
    int type = rest->data[0];
    size_t size = read_u16(rest->data + 1);
    if (size > rest->size - TLV_FIXED) {
        return -1;
    }
    *value = span_of(rest->data + TLV_FIXED, size);
    *rest = span_from(*rest, TLV_FIXED + size);
    return type;
}

static bool is_whole_list(struct span rest)
{
    while (rest.size > 0) {
        struct span value = SPAN_EMPTY;
        if (take_tlv(&rest, &value) < 0) {
            return false;
        }
    }
    return true;
}

/* The checksum is that of the whole header with zeros in its own place. */
static bool checksum_fits(struct span header, struct span value)
{
    static const uint8_t zeros[4] = {0};
    if (value.size != sizeof(zeros)) {
        return false;
    }
    size_t before = (size_t)(value.data - header.data);
    uint32_t crc = crc32c(0, span_first(header, before));
    crc = crc32c(crc, span_of(zeros, sizeof(zeros)));
    crc = crc32c(crc, span_from(header, before + sizeof(zeros)));
    return crc == read_u32(value.data);
}

/* Whether all behind the addresses is a list of TLVs such as the protocol knows them. */
static bool check_tlvs(struct span header, size_t start)
{
    struct span rest = span_from(header, start);
    bool has_checksum = false;
    while (rest.size > 0) {
        struct span value = SPAN_EMPTY;
        switch (take_tlv(&rest, &value)) {
        case -1:
            return false;
        case TLV_CRC32C:
            if (has_checksum || !checksum_fits(header, value)) {
                return false;
            }
            has_checksum = true;
            break;
        case TLV_UNIQUE_ID:
            if (value.size > PROXY_UNIQUE_ID_MAX) {
                return false;
            }
            break;
        case TLV_SSL:
            if (value.size < SSL_FIXED || !is_whole_list(span_from(value, SSL_FIXED))) {
                return false;
            }
            break;
        default:
            break; /* for others */
        }
    }
    return true;
}

static struct address internet(enum v2_family family, const uint8_t *ip, const uint8_t *port)
{
    struct address address = {.family = ADDRESS_IPV4, .port = (uint16_t)read_u16(port)};
    if (family == V2_INET) {
        memcpy(address.ip, ip, 4);
    } else if (memcmp(ip, MAPPED, sizeof(MAPPED)) == 0) {
        memcpy(address.ip, ip + sizeof(MAPPED), 4);
    } else {
        address.family = ADDRESS_IPV6;
        memcpy(address.ip, ip, 16);
    }
    return address;
}

static void read_addresses(enum v2_family family, const uint8_t *data, struct proxy_header *header)
{
    switch (family) {
    case V2_UNSPEC:
        break;
    case V2_INET:
        header->source = internet(family, data, data + 8);
        header->destination = internet(family, data + 4, data + 10);
        break;
    case V2_INET6:
        header->source = internet(family, data, data + 32);
        header->destination = internet(family, data + 16, data + 34);
        break;
    case V2_UNIX:
        header->source.family = ADDRESS_UNIX;
        header->destination.family = ADDRESS_UNIX;
        break;
    }
}

/*
 * Which family the addresses have. The protocol of LOCAL is not looked at, nor what follows it;
 * with PROXY it must be a stream over what we know. False: neither.
 */
static bool read_family(uint8_t command, uint8_t protocol, enum v2_family *family)
{
    if (command == (V2_VERSION | V2_LOCAL)) {
        *family = V2_UNSPEC;
        return true;
    }
    bool known = protocol == 0x00 || protocol == 0x11 || protocol == 0x21 || protocol == 0x31;
    if (command != (V2_VERSION | V2_PROXY) || !known) {
        return false;
    }
    *family = (enum v2_family)(protocol >> 4);
    return true;
}

static enum status read_v2(struct span bytes, struct proxy_header *header)
{
    static const size_t SIZES[] = {
        [V2_UNSPEC] = 0, [V2_INET] = IPV4_SIZE, [V2_INET6] = IPV6_SIZE, [V2_UNIX] = UNIX_SIZE};
    enum v2_family family = V2_UNSPEC;
    if (bytes.size < V2_FIXED) {
        return AGAIN;
    }
    size_t size = V2_FIXED + read_u16(bytes.data + 14);
    if (!read_family(bytes.data[12], bytes.data[13], &family) || size > PROXY_HEADER_MAX ||
        size < V2_FIXED + SIZES[family]) {
        return ERROR;
    }
    if (bytes.size < size) {
        return AGAIN;
    }
    struct span whole = span_first(bytes, size);
    struct proxy_header read = {.size = (uint32_t)size, .version = PROXY_VERSION_2};
    if (family != V2_UNSPEC) { /* what follows no family has no known form */
        if (!check_tlvs(whole, V2_FIXED + SIZES[family])) {
            return ERROR;
        }
        read_addresses(family, whole.data + V2_FIXED, &read);
    }
    *header = read;
    return OK;
}

enum status proxy_header_read(struct span bytes, struct proxy_header *header)
{
    struct span v1 = SPAN("PROXY ");
    struct span v2 = span_of(SIGNATURE, sizeof(SIGNATURE));
    if (span_starts_with(bytes, v2)) {
        return read_v2(bytes, header);
    }
    if (span_starts_with(bytes, v1)) {
        return read_v1(bytes, header);
    }
    return span_starts_with(v1, bytes) || span_starts_with(v2, bytes) ? AGAIN : ERROR;
}

static bool is_internet(const struct address *address)
{
    return address->family == ADDRESS_IPV4 || address->family == ADDRESS_IPV6;
}

/* The 16 bytes of an address in a header of IPv6. */
static void put_ipv6(uint8_t *place, const struct address *address)
{
    if (address->family == ADDRESS_IPV4) {
        memcpy(place, MAPPED, sizeof(MAPPED));
        memcpy(place + sizeof(MAPPED), address->ip, 4);
    } else {
        memcpy(place, address->ip, 16);
    }
}

static void put_u16(uint8_t *place, size_t value)
{
    place[0] = (uint8_t)(value >> 8);
    place[1] = (uint8_t)value;
}

static size_t write_v2(bool is_ipv4, const struct address *source,
                       const struct address *destination, uint8_t *bytes)
{
    memcpy(bytes, SIGNATURE, sizeof(SIGNATURE));
    bytes[12] = V2_VERSION | (source == NULL ? V2_LOCAL : V2_PROXY);
    uint8_t *body = bytes + V2_FIXED;
    size_t size = 0;
    if (source == NULL) {
        bytes[13] = 0;
    } else if (is_ipv4) {
        bytes[13] = V2_INET << 4 | 1;
        size = IPV4_SIZE;
        memcpy(body, source->ip, 4);
        memcpy(body + 4, destination->ip, 4);
    } else {
        bytes[13] = V2_INET6 << 4 | 1;
        size = IPV6_SIZE;
        put_ipv6(body, source);
        put_ipv6(body + 16, destination);
    }
    if (source != NULL) {
        put_u16(body + size - 4, source->port);
        put_u16(body + size - 2, destination->port);
    }
    put_u16(bytes + 14, size);
    return V2_FIXED + size;
}

/* As text, in the form of the line's family. */
static void print_host(bool is_ipv4, const struct address *address, char text[ADDRESS_TEXT_MAX])
{
    if (is_ipv4 || address->family == ADDRESS_IPV6) {
        (void)address_print_host(address, text);
        return;
    }
    char ipv4[ADDRESS_TEXT_MAX];
    (void)address_print_host(address, ipv4);
    (void)snprintf(text, ADDRESS_TEXT_MAX, "::ffff:%.15s", ipv4);
}

static size_t write_v1(bool is_ipv4, const struct address *source,
                       const struct address *destination, uint8_t *bytes)
{
    char from[ADDRESS_TEXT_MAX];
    char to[ADDRESS_TEXT_MAX];
    int size = 0;
    if (source == NULL) {
        size = snprintf((char *)bytes, PROXY_HEADER_WRITTEN_MAX, "PROXY UNKNOWN\r\n");
    } else {
        print_host(is_ipv4, source, from);
        print_host(is_ipv4, destination, to);
        size = snprintf((char *)bytes, PROXY_HEADER_WRITTEN_MAX, "PROXY TCP%c %s %s %u %u\r\n",
                        is_ipv4 ? '4' : '6', from, to, source->port, destination->port);
    }
    ASSERT(size > 0 && size < PROXY_HEADER_WRITTEN_MAX);
    return (size_t)size;
}

size_t proxy_header_write(enum proxy_version version, const struct address *source,
                          const struct address *destination,
                          uint8_t bytes[PROXY_HEADER_WRITTEN_MAX])
{
    ASSERT(version != PROXY_VERSION_NONE);
    struct address nowhere = {.family = source->family};
    const struct address *named = is_internet(source) ? source : NULL;
    const struct address *there = is_internet(destination) ? destination : &nowhere;
    bool is_ipv4 = source->family == ADDRESS_IPV4 && there->family == ADDRESS_IPV4;
    return version == PROXY_VERSION_1 ? write_v1(is_ipv4, named, there, bytes)
                                      : write_v2(is_ipv4, named, there, bytes);
}
