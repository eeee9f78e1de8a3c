#include "balancer.h"

#include <stdio.h>

#include "base/assert.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

enum {
    SIGNATURE_SIZE = sizeof(SIGNATURE) - 1,
    COMMAND_LOCAL = 0x20,
    COMMAND_PROXY = 0x21,
    TCP_IPV4 = 0x11,
    TCP_IPV6 = 0x21,
};

bool host_is_balancer(uint32_t host)
{
    return host % 2 == 0;
}

struct address named_client(uint32_t index)
{
    if (index % 2 == 0) {
        return (struct address){.family = ADDRESS_IPV4, .ip = {10, 4, 0, (uint8_t)(index + 1)}};
    }
    return (struct address){.family = ADDRESS_IPV6,
                            .ip = {0x20, 1, 0xd, 0xb8, 0, 0, 0, (uint8_t)index, [15] = 1}};
}

static void add(struct header *header, const void *bytes, size_t size)
{
    ASSERT(size <= sizeof(header->bytes) - header->size);
    memcpy(header->bytes + header->size, bytes, size);
    header->size += size;
}

static void add_u16(struct header *header, size_t value)
{
    const uint8_t bytes[] = {(uint8_t)(value >> 8), (uint8_t)value};
    add(header, bytes, sizeof(bytes));
}

static void make_version1(struct header *header, uint16_t port)
{
    bool ipv4 = header->client.family == ADDRESS_IPV4;
    char client[ADDRESS_TEXT_MAX];
    char line[128];
    (void)address_print_host(&header->client, client);
    int size = snprintf(line, sizeof(line), "PROXY %s %s %s %u 8080\r\n", ipv4 ? "TCP4" : "TCP6",
                        client, ipv4 ? "10.1.0.1" : "2001:db8::1", port);
    add(header, line, (size_t)size);
}

/* The first part of version 2, of which so many bytes follow. */
static void begin_version2(struct header *header, uint8_t command, uint8_t family, size_t follow)
{
    const uint8_t bytes[] = {command, family};
    add(header, SIGNATURE, SIGNATURE_SIZE);
    add(header, bytes, sizeof(bytes));
    add_u16(header, follow);
}

static void make_version2(struct header *header, uint16_t port, size_t padding)
{
    static const uint8_t listener[16] = {10, 1, 0, 1};
    static const uint8_t zeros[HEADER_MAX] = {0};
    bool ipv4 = header->client.family == ADDRESS_IPV4;
    size_t width = ipv4 ? 4 : 16;
    size_t tlv = padding > 0 ? 3 + padding : 0;
    begin_version2(header, COMMAND_PROXY, ipv4 ? TCP_IPV4 : TCP_IPV6, 2 * width + 4 + tlv);
    add(header, header->client.ip, width);
    add(header, listener, width);
    add_u16(header, port);
    add_u16(header, 8080);
    if (padding > 0) { /* a TLV of the type for that */
        add(header, "\x04", 1);
        add_u16(header, padding);
        add(header, zeros, padding);
    }
}

static void make_good(struct prng *prng, struct header *header)
{
    uint16_t port = (uint16_t)sim_between(prng, 1, UINT16_MAX);
    header->client = named_client(prng_below(prng, NAMED_CLIENTS));
    if (sim_chance(prng, 500)) {
        make_version1(header, port);
    } else {
        make_version2(header, port, sim_chance(prng, 300) ? sim_magnitude(prng, 1, 300) : 0);
    }
}

static void make_of_nobody(struct prng *prng, struct header *header)
{
    if (sim_chance(prng, 500)) {
        static const char LINE[] = "PROXY UNKNOWN\r\n";
        add(header, LINE, sizeof(LINE) - 1);
    } else {
        begin_version2(header, COMMAND_LOCAL, 0, 0);
    }
}

static void make_bad(struct prng *prng, struct header *header)
{
    const struct span kinds[] = {
        SPAN("PROXY TCP4 10.4.0.1\r\n"),
        SPAN("PROXY TCP4 10.4.0.1 10.1.0.1 1 65536\r\n"),
        SPAN("PROXY TCP4 10.4.0.1 10.1.0.1 1 080\r\n"),
        SPAN("PROXY TCP4 10.4.0.01 10.1.0.1 1 80\r\n"),
        SPAN("PROXY TCP4 2001:db8::1 2001:db8::2 1 80\r\n"),
        SPAN("PROXY TCP4  10.4.0.1 10.1.0.1 1 80\r\n"),
        SPAN("PROXY TCP4 10.4.0.1 10.1.0.1 1 80\n\n\r\n"),
        SPAN("PROXY UDP4 10.4.0.1 10.1.0.1 1 80\r\n"),
        SPAN("proxy TCP4 10.4.0.1 10.1.0.1 1 80\r\n"),
        SPAN(SIGNATURE "\x31\x11\0\x0c\x0a\4\0\1\x0a\1\0\1\0\1\0\x50"),     /* version 3 */
        SPAN(SIGNATURE "\x22\x11\0\x0c\x0a\4\0\1\x0a\1\0\1\0\1\0\x50"),     /* no command */
        SPAN(SIGNATURE "\x21\x12\0\x0c\x0a\4\0\1\x0a\1\0\1\0\1\0\x50"),     /* datagrams */
        SPAN(SIGNATURE "\x21\x11\0\x0b\x0a\4\0\1\x0a\1\0\1\0\1\0\x50"),     /* too short */
        SPAN(SIGNATURE "\x21\x11\0\x0e\x0a\4\0\1\x0a\1\0\1\0\1\0\x50\4\0"), /* half a TLV */
        SPAN(SIGNATURE "\x21\x11\xff\xff\x0a\4\0\1"),                       /* beyond all bounds */
        SPAN("\r\n\r\n\0\r\nQUIT\r"),
    };
    struct span kind = kinds[prng_below(prng, sizeof(kinds) / sizeof(kinds[0]))];
    add(header, kind.data, kind.size);
}

static enum header_kind draw_kind(const struct world *world, struct prng *prng, uint32_t host)
{
    const struct proxied_habits *habits = &world->habits.proxied;
    if (!habits->on) {
        return HEADER_NONE;
    }
    if (!host_is_balancer(host)) {
        return sim_chance(prng, habits->unasked) ? HEADER_UNASKED : HEADER_NONE;
    }
    if (sim_chance(prng, habits->bad)) {
        static const enum header_kind kinds[] = {HEADER_BAD, HEADER_BAD, HEADER_CUT,
                                                 HEADER_MISSING};
        return kinds[prng_below(prng, 4)];
    }
    return sim_chance(prng, habits->nobody) ? HEADER_NOBODY : HEADER_GOOD;
}

void header_draw(const struct world *world, struct prng *prng, uint32_t host, struct header *header)
{
    *header = (struct header){.kind = draw_kind(world, prng, host)};
    switch (header->kind) {
    case HEADER_NONE:
    case HEADER_MISSING:
        break;
    case HEADER_NOBODY:
        make_of_nobody(prng, header);
        break;
    case HEADER_BAD:
        make_bad(prng, header);
        break;
    case HEADER_GOOD:
    case HEADER_CUT:
    case HEADER_UNASKED:
        make_good(prng, header);
        break;
    }
    if (header->kind == HEADER_CUT) {
        header->size = sim_between(prng, 0, header->size - 1);
    }
    if (header->kind != HEADER_GOOD) {
        header->client = client_host(host);
    }
    header->drips = header->size > 0 && sim_chance(prng, world->habits.proxied.drips);
}
