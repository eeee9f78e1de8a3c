/*
 * The PROXY protocol of HAProxy, versions 1 and 2: what a proxy that forwards bytes says first on a
 * connection, so that whoever accepts it knows the client. Pure functions over bytes, used by the
 * worker for what it accepts and by worker and controller for what they open; who may send one is
 * not decided here.
 *
 * Bounds: a header of up to PROXY_HEADER_MAX bytes; longer ones are refused as soon as they say so.
 * Reading is strict: what another reader might understand differently is an error.
 */
#ifndef SENTINEL_NET_PROXY_PROTOCOL_H
#define SENTINEL_NET_PROXY_PROTOCOL_H

#include "base/address.h"
#include "base/status.h"

enum proxy_version { PROXY_VERSION_NONE, PROXY_VERSION_1, PROXY_VERSION_2 };

enum {
    PROXY_HEADER_MAX = 1024,        /* bytes, TLVs included; version 1 has 107 */
    PROXY_HEADER_WRITTEN_MAX = 108, /* bytes of one that we make */
    PROXY_UNIQUE_ID_MAX = 128,      /* bytes of the TLV of that name */
};

/* What a header says. */
struct proxy_header {
    /*
     * Of the client and of where it connected to. ADDRESS_NONE, both: the header names nobody (the
     * proxy speaks for itself, LOCAL, or cannot say, UNKNOWN and UNSPEC), and the addresses of the
     * connection itself hold. ADDRESS_UNIX: a Unix socket.
     */
    struct address source;
    struct address destination;
    uint32_t size; /* bytes of the header: what follows is the client's */
    enum proxy_version version;
};

/*
 * Reads the header at the start of the bytes. AGAIN: it is right so far and all of the bytes are
 * part of it. ERROR: they are not, or not as we would have it: a wrong checksum, a family or
 * transport other than streams over IPv4, IPv6 and Unix sockets, a TLV that does not fit, a header
 * above PROXY_HEADER_MAX.
 */
NODISCARD enum status proxy_header_read(struct span bytes, struct proxy_header *header);

/*
 * Makes a header of version 1 or 2 that names these two; its size. Where the source has no internet
 * address, it names nobody. An IPv4 address beside an IPv6 one goes in its mapped form; a
 * destination without an internet address is all zeros.
 */
size_t proxy_header_write(enum proxy_version version, const struct address *source,
                          const struct address *destination,
                          uint8_t bytes[PROXY_HEADER_WRITTEN_MAX]);

#endif
