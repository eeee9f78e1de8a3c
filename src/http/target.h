/*
 * Request targets and authorities (RFC 9112, section 3.2; RFC 3986): one canonical path, made once,
 * by which a request is matched, authorised and forwarded, so that no two parts of the chain can
 * read a path differently. Pure functions, the same for every protocol version. Results borrow from
 * the input where nothing had to change, else from the arena.
 */
#ifndef SENTINEL_HTTP_TARGET_H
#define SENTINEL_HTTP_TARGET_H

#include "http/message.h"

struct target_path {
    struct span path;
    bool encoded_slash;     /* holds %2F */
    bool encoded_backslash; /* holds %5C */
};

/*
 * Canonicalises a path that begins with `/` (without query): escapes of unreserved bytes decoded,
 * the hex digits of all others upper-case, bytes that no path may hold raw but that browsers send
 * (such as `|` and `[`) encoded, `.` and `..` segments removed, `//` merged if asked. `%25` is
 * never decoded. The result is a fixed point: canonicalising it again changes nothing.
 *
 * ERROR: BAD_TARGET for `#`, `\`, control bytes, SP, bytes above 0x7E, broken escapes and %00, and
 * where it does not begin with `/`; AMBIGUOUS_PATH for `..` above the root, for a `.` or `..`
 * segment with parameters (`..;`, which some servers take for `..`), and for one beside an encoded
 * separator or climbing over one; BUFFERS_FULL when the arena cannot hold 3 * raw.size bytes.
 */
NODISCARD enum status target_canonical_path(struct span raw, bool merge_slashes,
                                            struct arena *arena, struct target_path *out,
                                            enum reason *reason);

enum { TARGET_HOST_MAX = 255 }; /* bytes of a host name: the bound of DNS */

struct authority {
    struct span host; /* lower case, no final dot; brackets kept for IPv6 */
    bool has_port;
    uint16_t port;
};

/*
 * Splits and checks `host [":" port]` (RFC 9110, 7.2). The host is a bracketed IPv6 address or a
 * name of letters, digits, `-`, `.`, `_` and `~` with no empty label, at most 255 bytes: the part
 * of RFC 3986's reg-name that DNS can hold (IPv4 included). Userinfo, escapes, zones and an empty
 * host are refused. An empty port counts as none. false: malformed, or no room in the arena
 * (arena->overflowed tells).
 */
NODISCARD bool target_parse_authority(struct span text, struct arena *arena, struct authority *out);

/* A request target taken apart. */
struct target {
    enum target_form form;
    struct span authority; /* absolute and authority form; else empty */
    struct span path;      /* raw; "*" in asterisk form; "/" where an absolute form has none */
    struct span query;     /* NULL data when there is none */
};

/*
 * Recognises the four forms (RFC 9112, 3.2): asterisk only for OPTIONS, authority form exactly for
 * CONNECT, absolute form with scheme http or https. A query may hold visible ASCII but `#`; path
 * and authority are only delimited here, their own functions check them. An OPTIONS in absolute
 * form without path and query means "*" (RFC 9112, 3.2.4). ERROR: BAD_TARGET.
 */
NODISCARD enum status target_split(struct span text, enum method method, struct target *out,
                                   enum reason *reason);

#endif
