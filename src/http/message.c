#include "http/message.h"

#include "base/assert.h"

#define FIELD(id, name, flags)                                                                     \
    static_assert(sizeof(name) - 1 >= 2 && sizeof(name) - 1 <= FIELD_NAME_MAX,                     \
                  "field_identify has no case for a name of this length");
#include "http/fields.def"
#undef FIELD

static const struct {
    struct span name;
    unsigned flags;
} known_fields[FIELD_COUNT] = {
#define FIELD(id, text, bits)                                                                      \
    [FIELD_##id] = {.name = {(const uint8_t *)(text), sizeof(text) - 1}, .flags = (bits)},
#include "http/fields.def"
#undef FIELD
};

struct span field_name(enum field_id id)
{
    ASSERT((unsigned)id < FIELD_COUNT);
    return known_fields[id].name;
}

unsigned field_flags(enum field_id id)
{
    ASSERT((unsigned)id < FIELD_COUNT);
    return known_fields[id].flags;
}

/*
 * Compares a word of a name with a word of a known one, ignoring case. Known names consist of
 * letters, digits and `-`, of which only letters have bit 6, so shifting that bit right gives the
 * case bits that may differ. With a literal on one side the mask is computed at compile time.
 */
static inline bool words_match(const uint8_t *name, const char *known)
{
    uint64_t a = 0;
    uint64_t b = 0;
    memcpy(&a, name, sizeof(a));
    memcpy(&b, known, sizeof(b));
    uint64_t case_bits = (b & UINT64_C(0x4040404040404040)) >> 1;
    return ((a ^ b) & ~case_bits) == 0;
}

static inline bool half_words_match(const uint8_t *name, const char *known)
{
    uint32_t a = 0;
    uint32_t b = 0;
    memcpy(&a, name, sizeof(a));
    memcpy(&b, known, sizeof(b));
    uint32_t case_bits = (b & UINT32_C(0x40404040)) >> 1;
    return ((a ^ b) & ~case_bits) == 0;
}

/* The last word overlaps the one before, so that no length needs a loop over its tail. */
__attribute__((always_inline)) static inline bool names_match(const uint8_t *name,
                                                              const char *known, size_t length)
{
    if (length >= 8) {
        bool match = words_match(name + length - 8, known + length - 8);
        for (size_t i = 0; i + 8 < length; i += 8) {
            match = match && words_match(name + i, known + i);
        }
        return match;
    }
    if (length >= 4) {
        return half_words_match(name, known) &&
               half_words_match(name + length - 4, known + length - 4);
    }
    for (size_t i = 0; i < length; i++) {
        if (ascii_lower(name[i]) != ascii_lower((uint8_t)known[i])) {
            return false;
        }
    }
    return true;
}

/*
 * Inlined once for each length, where the compiler drops all known names of another one: what is
 * left are a few word comparisons, and fields.def stays the only list.
 */
__attribute__((always_inline)) static inline enum field_id identify_of_length(const uint8_t *name,
                                                                              size_t length)
{
#define FIELD(id, text, flags)                                                                     \
    if (sizeof(text) - 1 == length && names_match(name, text, length)) {                           \
        return FIELD_##id;                                                                         \
    }
#include "http/fields.def"
#undef FIELD
    return FIELD_OTHER;
}

enum field_id field_identify(struct span name)
{
#define LENGTH(n)                                                                                  \
    case n:                                                                                        \
        return identify_of_length(name.data, n);
#define LENGTHS(a, b, c, d, e, f, g, h)                                                            \
    LENGTH(a) LENGTH(b) LENGTH(c) LENGTH(d) LENGTH(e) LENGTH(f) LENGTH(g) LENGTH(h)
    switch (name.size) {
        LENGTHS(1, 2, 3, 4, 5, 6, 7, 8)
        LENGTHS(9, 10, 11, 12, 13, 14, 15, 16)
        LENGTHS(17, 18, 19, 20, 21, 22, 23, 24)
        LENGTHS(25, 26, 27, 28, 29, 30, 31, 32)
    default:
        return FIELD_OTHER;
    }
#undef LENGTHS
#undef LENGTH
}

bool field_aliases_protected(struct span name)
{
    uint8_t copy[FIELD_NAME_MAX];
    if (name.size > sizeof(copy) || span_find(name, '_') == name.size) {
        return false;
    }
    for (size_t i = 0; i < name.size; i++) {
        copy[i] = name.data[i] == '_' ? '-' : name.data[i];
    }
    return (field_flags(field_identify(span_of(copy, name.size))) & FIELD_IS_PROTECTED) != 0;
}

enum method method_identify(struct span token)
{
    static const struct {
        struct span name;
        enum method method;
    } methods[] = {
#define METHOD(id) {{(const uint8_t *)#id, sizeof(#id) - 1}, METHOD_##id}
        METHOD(GET),     METHOD(POST),    METHOD(HEAD),  METHOD(PUT),   METHOD(DELETE),
        METHOD(OPTIONS), METHOD(CONNECT), METHOD(TRACE), METHOD(PATCH),
#undef METHOD
    };
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (span_equal(token, methods[i].name)) {
            return methods[i].method;
        }
    }
    return METHOD_OTHER;
}

bool method_is_safe(enum method method)
{
    return method == METHOD_GET || method == METHOD_HEAD || method == METHOD_OPTIONS ||
           method == METHOD_TRACE;
}

bool method_is_idempotent(enum method method)
{
    return method_is_safe(method) || method == METHOD_PUT || method == METHOD_DELETE;
}

bool fields_init(struct fields *fields, struct arena *arena, size_t capacity)
{
    size_t size = 0;
    struct field *entries = NULL;
    if (!__builtin_mul_overflow(capacity, sizeof(struct field), &size)) {
        entries = arena_alloc(arena, size);
    }
    if (entries == NULL) {
        return false;
    }
    *fields = (struct fields){.entries = entries, .capacity = capacity, .absent = UINT64_MAX};
    return true;
}

void fields_trim(struct fields *fields, struct arena *arena)
{
    const uint8_t *end = (const uint8_t *)(fields->entries + fields->capacity);
    ASSERT(end == arena->memory + arena->used);
    fields->capacity = fields->count;
    arena_rewind(arena, (size_t)((uint8_t *)(fields->entries + fields->count) - arena->memory));
}

const struct field *fields_find(const struct fields *fields, enum field_id id)
{
    if ((fields->absent >> id & 1) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->entries[i].id == id) {
            return &fields->entries[i];
        }
    }
    return NULL;
}

const struct field *fields_find_name(const struct fields *fields, struct span name)
{
    for (size_t i = 0; i < fields->count; i++) {
        if (span_equal_nocase(fields->entries[i].name, name)) {
            return &fields->entries[i];
        }
    }
    return NULL;
}

/* The registry of RFC 9110, 16.2.1, indexed by status. */
static const char *const phrases[] = {
    [100] = "Continue",
    [101] = "Switching Protocols",
    [102] = "Processing",
    [103] = "Early Hints",
    [200] = "OK",
    [201] = "Created",
    [202] = "Accepted",
    [203] = "Non-Authoritative Information",
    [204] = "No Content",
    [205] = "Reset Content",
    [206] = "Partial Content",
    [207] = "Multi-Status",
    [208] = "Already Reported",
    [226] = "IM Used",
    [300] = "Multiple Choices",
    [301] = "Moved Permanently",
    [302] = "Found",
    [303] = "See Other",
    [304] = "Not Modified",
    [305] = "Use Proxy",
    [307] = "Temporary Redirect",
    [308] = "Permanent Redirect",
    [400] = "Bad Request",
    [401] = "Unauthorized",
    [402] = "Payment Required",
    [403] = "Forbidden",
    [404] = "Not Found",
    [405] = "Method Not Allowed",
    [406] = "Not Acceptable",
    [407] = "Proxy Authentication Required",
    [408] = "Request Timeout",
    [409] = "Conflict",
    [410] = "Gone",
    [411] = "Length Required",
    [412] = "Precondition Failed",
    [413] = "Content Too Large",
    [414] = "URI Too Long",
    [415] = "Unsupported Media Type",
    [416] = "Range Not Satisfiable",
    [417] = "Expectation Failed",
    [421] = "Misdirected Request",
    [422] = "Unprocessable Content",
    [423] = "Locked",
    [424] = "Failed Dependency",
    [425] = "Too Early",
    [426] = "Upgrade Required",
    [428] = "Precondition Required",
    [429] = "Too Many Requests",
    [431] = "Request Header Fields Too Large",
    [451] = "Unavailable For Legal Reasons",
    [500] = "Internal Server Error",
    [501] = "Not Implemented",
    [502] = "Bad Gateway",
    [503] = "Service Unavailable",
    [504] = "Gateway Timeout",
    [505] = "HTTP Version Not Supported",
    [506] = "Variant Also Negotiates",
    [507] = "Insufficient Storage",
    [508] = "Loop Detected",
    [511] = "Network Authentication Required",
};

const char *status_phrase(uint16_t status)
{
    bool known = status < sizeof(phrases) / sizeof(phrases[0]) && phrases[status] != NULL;
    return known ? phrases[status] : "Unknown";
}
