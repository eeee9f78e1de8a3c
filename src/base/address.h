/*
 * Internet addresses as values: 20 bytes, comparable, independent of the system's structures. Also
 * CIDR blocks, for lists of trusted peers. A Unix socket has a family here and nothing else: peers
 * on one have no name, and where one is, is a path that stands elsewhere.
 */
#ifndef SENTINEL_BASE_ADDRESS_H
#define SENTINEL_BASE_ADDRESS_H

#include <sys/socket.h>

#include "base/span.h"

enum address_family { ADDRESS_NONE, ADDRESS_IPV4, ADDRESS_IPV6, ADDRESS_UNIX };

enum { ADDRESS_PATH_MAX = 107 }; /* bytes of a Unix socket's path (unix(7)) */

struct address {
    uint8_t family; /* enum address_family */
    uint8_t reserved;
    uint16_t port;  /* host byte order */
    uint8_t ip[16]; /* network byte order; IPv4 in the first four, the rest zero */
};

/* All addresses whose first prefix_bits equal ip's. */
struct address_block {
    uint8_t family;
    uint8_t prefix_bits;
    uint8_t ip[16];
};

enum { ADDRESS_TEXT_MAX = 64 }; /* room for any printed address with port, NUL included */

/*
 * Parses `1.2.3.4:80` or `[::1]:80`. The port is required, 1 to 65535. IPv4-mapped IPv6 becomes
 * IPv4. False, with *address untouched, for anything else (names included).
 */
bool address_parse(struct span text, struct address *address);

/* As address_parse, of an address alone: `1.2.3.4` or `::1`, without port and brackets. */
bool address_parse_host(struct span text, struct address *address);

/* Parses `10.0.0.0/8`, `::1/128`, or a bare address as a block of one. Host bits must be zero. */
bool address_block_parse(struct span text, struct address_block *block);

/* Whether the block holds the address; families never match each other. */
bool address_block_contains(const struct address_block *block, const struct address *address);

bool address_equal(const struct address *a, const struct address *b);

/* Equality of the ip alone, ports aside. */
bool address_same_host(const struct address *a, const struct address *b);

/* Prints `1.2.3.4:80`, `[::1]:80` or `unix` into text, NUL-terminated; returns the length. */
size_t address_print(const struct address *address, char text[ADDRESS_TEXT_MAX]);

/* As address_print without port and brackets. */
size_t address_print_host(const struct address *address, char text[ADDRESS_TEXT_MAX]);

/*
 * To and from the system's form. from_system gives ADDRESS_NONE for other families, and IPv4 for an
 * IPv4-mapped peer of a dual-stack socket. to_system takes internet addresses only.
 */
socklen_t address_to_system(const struct address *address, struct sockaddr_storage *storage);

/* A Unix socket's path, absolute and of 1 to ADDRESS_PATH_MAX bytes without NUL, likewise. */
socklen_t address_path_to_system(struct span path, struct sockaddr_storage *storage);

void address_from_system(const struct sockaddr_storage *storage, struct address *address);

#endif
