/*
 * HTTP/1 messages to bytes (RFC 9112): every head, chunk header and trailer section that leaves
 * Sentinel is rendered here, anew, from the parsed form. Body framing and connection management
 * come from the arguments alone: Content-Length, Transfer-Encoding, Connection and Keep-Alive among
 * the fields are skipped. After rendering it is asserted that the output has exactly the lines that
 * were meant, so that no value can split a message.
 *
 * All functions append to a bounded output and return false when it did not fit; the output is then
 * marked overflowed and must not be sent.
 */
#ifndef SENTINEL_HTTP_HTTP1_WRITE_H
#define SENTINEL_HTTP_HTTP1_WRITE_H

#include "base/output.h"
#include "http/stream.h"

enum http1_connection {
    HTTP1_CONNECTION_DEFAULT,    /* say nothing: HTTP/1.1 persists */
    HTTP1_CONNECTION_CLOSE,      /* Connection: close */
    HTTP1_CONNECTION_KEEP_ALIVE, /* Connection: keep-alive, for an HTTP/1.0 client that asked */
};

/* What the head says about the body and the connection. */
struct http1_delivery {
    enum framing framing;    /* NONE and CLOSE render no framing field */
    uint64_t content_length; /* with FRAMING_LENGTH */
    enum http1_connection connection;
    const struct switching *switching; /* a request for it, or a 101 that grants it; else NULL */
};

/* The start of a request. All spans non-empty but the query, whose NULL data means "none". */
struct http1_request_line {
    struct span method;
    struct span path;  /* canonical, or "*" */
    struct span query; /* without the `?` */
    struct span host;  /* value of Host, rendered first; a Host among the fields is skipped */
};

/*
 * METHOD path?query HTTP/1.1, Host, the fields in order, then framing and connection, which names
 * TE where that is among the fields (RFC 9110, 10.1.4). FRAMING_CLOSE is not allowed. fields may be
 * NULL for none.
 */
NODISCARD bool http1_write_request(struct output *output, const struct http1_request_line *line,
                                   const struct fields *fields,
                                   const struct http1_delivery *delivery);

/*
 * HTTP/1.1 STATUS phrase (also to HTTP/1.0 clients, RFC 9110, 6.2; the caller then does not choose
 * FRAMING_CHUNKED), the fields in order, then framing and connection. Status 100 to 599. For 1xx
 * and 204 no framing field, and for 1xx no Connection but that of a switch, is rendered whatever
 * the delivery says (RFC 9110, 8.6). The answer to HEAD passes FRAMING_LENGTH with the length that
 * GET would have, or FRAMING_NONE. fields may be NULL.
 */
NODISCARD bool http1_write_response(struct output *output, uint16_t status,
                                    const struct fields *fields,
                                    const struct http1_delivery *delivery);

enum {
    HTTP1_CHUNK_HEADER_MAX = 18, /* 16 digits and CRLF */
    HTTP1_CHUNK_END_MAX = 2,     /* the CRLF after a chunk's data */
    HTTP1_LAST_CHUNK_MAX = 5,    /* without trailers */
};

/* The size line of a chunk; size must not be 0, which would end the body. */
NODISCARD bool http1_write_chunk_header(struct output *output, uint64_t size);

/* The CRLF after a chunk's data. */
NODISCARD bool http1_write_chunk_end(struct output *output);

/*
 * The last chunk, the trailer fields (NULL for none; framing and connection fields are skipped) and
 * the empty line.
 */
NODISCARD bool http1_write_last_chunk(struct output *output, const struct fields *trailers);

#endif
