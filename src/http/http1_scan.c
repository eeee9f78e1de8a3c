/*
 * The search for a head's end.
 *
 *   START ──────► METHOD ──► START_LINE ──► LINE_START ──► FIELD_LINE
 *     (request)                  ▲            │   ▲            │
 *   VERSION ─────────────────────┘            │   └────────────┘
 *     (response)                              ▼
 *   LINE_START (trailers)                   FOUND
 *
 * Every state consumes what it can and remembers in `offset` how far it came, so that a byte is
 * looked at once (a CR without its LF yet: twice), however slowly a head drips in.
 */
#include "base/assert.h"
#include "http/bytes.h"
#include "http/http1_parse.h"

enum scan_state {
    SCAN_START,      /* perhaps an empty line */
    SCAN_METHOD,     /* token bytes up to SP */
    SCAN_VERSION,    /* the fixed beginning of a status line */
    SCAN_START_LINE, /* the rest of the first line */
    SCAN_LINE_START, /* a field line, or the empty line that ends the head */
    SCAN_FIELD_LINE,
    SCAN_FOUND,
};

void http1_scan_init(struct http1_scan *scan, enum http1_kind kind)
{
    static const uint8_t first_state[] = {
        [HTTP1_REQUEST] = SCAN_START,
        [HTTP1_RESPONSE] = SCAN_VERSION,
        [HTTP1_TRAILERS] = SCAN_LINE_START,
    };
    *scan = (struct http1_scan){.kind = kind, .state = first_state[kind]};
}

static enum status refuse(const struct http1_scan *scan, enum reason why, enum reason *reason)
{
    *reason = scan->kind == HTTP1_RESPONSE ? REASON_BAD_RESPONSE : why;
    return ERROR;
}

/* CRLF at the offset: OK. Something else: ERROR. Not there yet: AGAIN. */
static inline enum status take_crlf(struct span window, size_t *offset)
{
    struct span rest = span_from(window, *offset);
    if (rest.size > 0 && rest.data[0] != '\r') {
        return ERROR;
    }
    if (rest.size < 2) {
        return AGAIN;
    }
    if (rest.data[1] != '\n') {
        return ERROR;
    }
    *offset += 2;
    return OK;
}

/* Goes to the next control byte, which must be the CRLF of the line's end. */
static inline enum status take_line(struct span window, size_t *offset)
{
    struct span rest = span_from(window, *offset);
    *offset += bytes_find_control(rest.data, rest.size);
    return take_crlf(window, offset);
}

static enum status scan_start(struct http1_scan *scan, struct span window)
{
    if (scan->offset == window.size) {
        return AGAIN;
    }
    if (window.data[scan->offset] == '\r') {
        enum status status = take_crlf(window, &scan->offset);
        if (status != OK) {
            return status;
        }
        scan->head_start = scan->offset;
    }
    scan->state = SCAN_METHOD;
    return OK;
}

/* Tells a TLS handshake and other noise from a request by the first byte. */
static enum status scan_method(struct http1_scan *scan, struct span window)
{
    while (scan->offset < window.size && byte_is_token(window.data[scan->offset])) {
        scan->offset++;
        if (scan->offset - scan->head_start > HTTP1_METHOD_MAX) {
            return ERROR;
        }
    }
    if (scan->offset == window.size) {
        return AGAIN;
    }
    if (window.data[scan->offset] != ' ' || scan->offset == scan->head_start) {
        return ERROR;
    }
    scan->state = SCAN_START_LINE;
    return OK;
}

static enum status scan_version(struct http1_scan *scan, struct span window)
{
    const struct span version = SPAN("HTTP/1.");
    for (; scan->offset < version.size; scan->offset++) {
        if (scan->offset == window.size) {
            return AGAIN;
        }
        if (window.data[scan->offset] != version.data[scan->offset]) {
            return ERROR;
        }
    }
    scan->state = SCAN_START_LINE;
    return OK;
}

/* What a line begins with: the empty line's CRLF is END, white space (obs-fold) an ERROR. */
static inline enum status start_line(struct span window, size_t *offset)
{
    if (*offset == window.size) {
        return AGAIN;
    }
    uint8_t first = window.data[*offset];
    if (first == '\r') {
        enum status status = take_crlf(window, offset);
        return status == OK ? END : status;
    }
    return first == ' ' || first == '\t' ? ERROR : OK;
}

/* All lines from here on; END at the empty line. */
static enum status scan_fields(struct http1_scan *scan, struct span window)
{
    size_t offset = scan->offset;
    bool in_line = scan->state == SCAN_FIELD_LINE;
    enum status status = OK;
    while (status == OK) {
        status = in_line ? OK : start_line(window, &offset);
        in_line = status == OK;
        if (in_line) {
            status = take_line(window, &offset);
            in_line = status != OK;
        }
    }
    scan->offset = offset;
    scan->state = in_line ? SCAN_FIELD_LINE : SCAN_LINE_START;
    return status;
}

/*
 * Where the search must stop for now, and the reason if it wants to go beyond. The bounds depend on
 * the state only, so that a byte too many is told at the same place however the bytes were split.
 * A request line that no head could hold is too long itself, whichever bound is the smaller one.
 */
static size_t window_end(const struct http1_scan *scan, const struct http1_limits *limits,
                         enum reason *beyond)
{
    size_t head_end = scan->head_start + limits->head_max;
    size_t line_end = scan->head_start + limits->request_line_max + 2;
    bool in_request_line = scan->kind == HTTP1_REQUEST && scan->state <= SCAN_START_LINE;
    if (in_request_line) {
        *beyond = REASON_URI_TOO_LONG;
        return line_end < head_end ? line_end : head_end;
    }
    *beyond = scan->kind == HTTP1_RESPONSE ? REASON_RESPONSE_HEAD_TOO_LARGE : REASON_HEAD_TOO_LARGE;
    return head_end;
}

/* Runs one state; *why is the reason should it fail. */
static enum status run_state(struct http1_scan *scan, struct span window, enum reason *why)
{
    enum status status = ERROR;
    switch ((enum scan_state)scan->state) {
    case SCAN_START:
        *why = REASON_BAD_REQUEST_LINE;
        return scan_start(scan, window);
    case SCAN_METHOD:
        *why = REASON_BAD_METHOD;
        return scan_method(scan, window);
    case SCAN_VERSION:
        return scan_version(scan, window);
    case SCAN_START_LINE:
        *why = REASON_BAD_REQUEST_LINE;
        status = take_line(window, &scan->offset);
        scan->state = status == OK ? SCAN_LINE_START : scan->state;
        return status;
    case SCAN_LINE_START:
    case SCAN_FIELD_LINE:
        *why = REASON_BAD_FIELD;
        return scan_fields(scan, window);
    case SCAN_FOUND:
        break;
    }
    UNREACHABLE("a scan goes on after its end");
}

enum status http1_scan_head(struct http1_scan *scan, struct span bytes,
                            const struct http1_limits *limits, enum reason *reason)
{
    ASSERT(scan->offset <= bytes.size);
    ASSERT(limits->head_max > 0 && limits->request_line_max > 0);
    for (;;) {
        enum reason beyond = REASON_NONE;
        enum reason why = REASON_NONE;
        size_t end = window_end(scan, limits, &beyond);
        struct span window = span_first(bytes, bytes.size < end ? bytes.size : end);
        enum status status = run_state(scan, window, &why);
        if (status == ERROR) {
            return refuse(scan, why, reason);
        }
        if (status == END) {
            scan->state = SCAN_FOUND;
            scan->head_size = scan->offset;
            return OK;
        }
        if (status == AGAIN && bytes.size < end) {
            return AGAIN;
        }
        if (status == AGAIN) {
            *reason = beyond;
            return ERROR;
        }
    }
}
