/*
 * PROXY headers from anyone. One that is taken is taken whole and asks for every byte of itself:
 * each part of it says AGAIN, what follows changes nothing. Whom it names can be said again, in
 * both versions, and is understood as the same.
 */
#include "base/assert.h"
#include "net/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_internet(const struct address *address)
{
    return address->family == ADDRESS_IPV4 || address->family == ADDRESS_IPV6;
}

static void check_again(enum proxy_version version, const struct proxy_header *header)
{
    uint8_t bytes[PROXY_HEADER_WRITTEN_MAX];
    struct proxy_header again;
    size_t size = proxy_header_write(version, &header->source, &header->destination, bytes);
    enum status status = proxy_header_read(span_of(bytes, size), &again);
    ASSERT(status == OK && again.size == size && again.version == version);
    if (is_internet(&header->source)) {
        ASSERT(address_equal(&again.source, &header->source));
        ASSERT(!is_internet(&header->destination) ||
               address_equal(&again.destination, &header->destination));
    } else {
        ASSERT(again.source.family == ADDRESS_NONE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header = {0};
    struct proxy_header part = {0};
    struct span bytes = span_of(data, size);
    enum status status = proxy_header_read(bytes, &header);
    if (status == AGAIN) {
        ASSERT(size < PROXY_HEADER_MAX);
    }
    if (status != OK) {
        return 0;
    }
    ASSERT(header.size <= size && header.size <= PROXY_HEADER_MAX);
    for (size_t i = 0; i < header.size; i++) {
        status = proxy_header_read(span_first(bytes, i), &part);
        ASSERT(status == AGAIN);
    }
    status = proxy_header_read(span_first(bytes, header.size), &part);
    ASSERT(status == OK && memcmp(&part, &header, sizeof(part)) == 0);
    check_again(PROXY_VERSION_1, &header);
    check_again(PROXY_VERSION_2, &header);
    return 0;
}
