/*
 * HTTP messages in parsed form, the same for every protocol version: what a session produces from
 * bytes, what routing and policy read, what a session writes anew on the other side (no byte of a
 * head is ever passed through). All spans are borrowed, usually from the exchange's arena.
 * Vocabulary: RFC 9110.
 */
#ifndef SENTINEL_HTTP_MESSAGE_H
#define SENTINEL_HTTP_MESSAGE_H

#include "base/arena.h"
#include "base/assert.h"
#include "base/reason.h"
#include "base/span.h"
#include "base/status.h"

enum method {
    METHOD_OTHER, /* any other token; see request_head.method_text */
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_CONNECT,
    METHOD_OPTIONS,
    METHOD_TRACE,
    METHOD_PATCH,
};

enum http_version { HTTP_1_0, HTTP_1_1, HTTP_2 };

/* How the end of a body is told (RFC 9112, section 6.3). */
enum framing {
    FRAMING_NONE,    /* no body, whatever the fields say */
    FRAMING_LENGTH,  /* content_length bytes */
    FRAMING_CHUNKED, /* the chunked coding */
    FRAMING_CLOSE,   /* until the connection ends: responses only */
    FRAMING_TUNNEL,  /* no message any more: bytes both ways, until each side ends its own */
};

enum field_id {
    FIELD_OTHER,
#define FIELD(id, name, flags) FIELD_##id,
#include "http/fields.def"
#undef FIELD
    FIELD_COUNT
};

enum { FIELD_NAME_MAX = 32 }; /* bytes of the longest known name, with room */

enum field_flag {
    FIELD_IS_HOP = 1,
    FIELD_IS_PROTECTED = 2,
    FIELD_IS_FORWARDED = 4,
    FIELD_IS_SINGLE = 8,
    FIELD_IS_OURS = 16,
};

/* One field line. The value has no OWS at its ends and no control byte but HTAB. */
struct field {
    struct span name;
    struct span value;
    enum field_id id;
};

/* A field section in its order of arrival. The entries live in the arena of their message. */
struct fields {
    struct field *entries;
    size_t count;
    size_t capacity;
    uint64_t absent; /* a bit for each id that surely is not among them: a search is spared */
};

static_assert(FIELD_COUNT <= 64, "a bit for each known field");

/* The form of a request target (RFC 9112, section 3.2). */
enum target_form { TARGET_ORIGIN, TARGET_ABSOLUTE, TARGET_AUTHORITY, TARGET_ASTERISK };

struct request_head {
    enum method method;
    enum http_version version;
    enum target_form target_form;
    struct span method_text;
    struct span target;    /* the raw request target, for logs */
    struct span path;      /* canonical path, percent-encoding normalised; "*" for OPTIONS * */
    struct span query;     /* after the `?`, raw; NULL data when there is none */
    struct span authority; /* Host as given, port included; empty for HTTP/1.0 without Host */
    struct span host;      /* the authority without port, lower case, brackets kept for IPv6 */
    struct span protocol;  /* :protocol of an extended CONNECT (RFC 8441); empty elsewhere */
    struct fields fields;
    enum framing framing; /* NONE, LENGTH or CHUNKED */
    uint64_t content_length;
    uint64_t max_forwards;  /* UINT64_MAX when absent */
    bool keep_alive;        /* the client lets the connection persist (RFC 9112, 9.3) */
    bool expect_continue;   /* Expect: 100-continue in HTTP/1.1 */
    bool te_trailers;       /* TE: trailers */
    bool upgrade;           /* Upgrade is meant, in HTTP/1.1 (RFC 9110, 7.8) */
    bool encoded_slash;     /* the path holds %2F */
    bool encoded_backslash; /* the path holds %5C */
};

struct response_head {
    uint16_t status;
    enum http_version version;
    struct fields fields;
    enum framing framing;
    uint64_t content_length;
    bool has_content_length;       /* also where the body is absent: HEAD, 304 */
    bool keep_alive;               /* the upstream lets the connection persist */
    uint32_t keep_alive_timeout_s; /* Keep-Alive: timeout=N; UINT32_MAX when absent */
};

/* Canonical spelling and flags of a known field; FIELD_OTHER has an empty name and no flags. */
struct span field_name(enum field_id id);
unsigned field_flags(enum field_id id);

/* The id of a name, ignoring case; FIELD_OTHER when unknown. */
enum field_id field_identify(struct span name);

/*
 * Whether a name, with its `_` read as `-`, is that of a PROTECTED field: CGI-like servers make
 * both one variable, so that such a field would speak in the protected one's place.
 */
bool field_aliases_protected(struct span name);

/* The method of a token (case-sensitive, RFC 9110, 9.1). */
enum method method_identify(struct span token);

/* Safe and idempotent methods in the sense of RFC 9110, 9.2. */
bool method_is_safe(enum method method);
bool method_is_idempotent(enum method method);

/* Allocates room for capacity fields; false when the arena is full. */
NODISCARD bool fields_init(struct fields *fields, struct arena *arena, size_t capacity);

/* Gives the unused entries back to the arena, of which the table must be the last piece. */
void fields_trim(struct fields *fields, struct arena *arena);

/* Appends; false when the capacity is used up. The spans are borrowed, not copied. */
NODISCARD static inline bool fields_add(struct fields *fields, enum field_id id, struct span name,
                                        struct span value)
{
    if (fields->count >= fields->capacity) {
        return false;
    }
    fields->entries[fields->count++] = (struct field){.name = name, .value = value, .id = id};
    fields->absent &= ~(UINT64_C(1) << id);
    return true;
}

/* The first field with this id, or NULL. */
const struct field *fields_find(const struct fields *fields, enum field_id id);

static inline bool fields_have(const struct fields *fields, enum field_id id)
{
    return (fields->absent >> id & 1) == 0 && fields_find(fields, id) != NULL;
}

/* The first field with this name, ignoring case, or NULL. */
const struct field *fields_find_name(const struct fields *fields, struct span name);

/* The registered reason phrase of a status, or "Unknown". Static. */
const char *status_phrase(uint16_t status);

#endif
