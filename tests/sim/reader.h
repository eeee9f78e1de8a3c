/*
 * The actors' own reading of HTTP/1: simple, strict where it matters here, and on purpose not the
 * parser of src/http, whose mistakes it shall not share.
 */
#ifndef SENTINEL_TESTS_SIM_READER_H
#define SENTINEL_TESTS_SIM_READER_H

#include "base/span.h"

enum { READER_HEAD_MAX = 32 * 1024 };

enum reader_state {
    READER_HEAD,       /* until the empty line */
    READER_HEAD_READY, /* look at it, then call reader_body */
    READER_LENGTH,     /* `left` bytes of body */
    READER_CHUNK_LINE,
    READER_CHUNK_DATA,
    READER_CHUNK_END,
    READER_TRAILERS,
    READER_UNTIL_CLOSE,
    READER_DONE,
    READER_BAD,
};

enum reader_framing { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_CLOSE };

struct reader {
    enum reader_state state;
    uint64_t left;
    uint64_t body; /* bytes of body so far */
    size_t line_size;
    char line[256];
    size_t head_size;
    uint8_t head[READER_HEAD_MAX];
};

void reader_reset(struct reader *reader);

/*
 * Consumes bytes until it has something to say: returns how many, and in *body what part of them is
 * body. Consumes nothing in HEAD_READY, DONE and BAD.
 */
size_t reader_feed(struct reader *reader, const uint8_t *bytes, size_t size, struct span *body);

/* Leaves HEAD_READY. */
void reader_body(struct reader *reader, enum reader_framing framing, uint64_t length);

/* The connection has ended in order: a body until close is done, all else is cut short. */
void reader_end(struct reader *reader);

/* The value of a field of the head, or NULL data. */
struct span reader_field(const struct reader *reader, const char *name);

/* The first line without its end. */
struct span reader_first_line(const struct reader *reader);

/* Chunked, a length, or neither: what the fields say. False: they contradict each other. */
bool reader_framing(const struct reader *reader, enum reader_framing *framing, uint64_t *length);

/* Decimal digits at `offset` of a text; UINT64_MAX where there are none. */
uint64_t digits_at(struct span text, size_t offset);

#endif
