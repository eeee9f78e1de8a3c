#include "http/forwarded.h"

enum parameter { FOR = 1, BY = 2, HOST = 4, PROTO = 8 };

/* tchar (RFC 9110, 5.6.2). */
static bool is_token_byte(uint8_t byte)
{
    bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
    static const char others[] = "!#$%&'*+-.^_`|~";
    return letter || ascii_is_digit(byte) || (byte != 0 && memchr(others, byte, 15) != NULL);
}

static size_t token_size(struct span text)
{
    size_t size = 0;
    while (size < text.size && is_token_byte(text.data[size])) {
        size++;
    }
    return size;
}

static void skip_blanks(struct span *rest)
{
    while (rest->size > 0 && (rest->data[0] == ' ' || rest->data[0] == '\t')) {
        *rest = span_from(*rest, 1);
    }
}

/* Cuts off the byte if it is the next. */
static bool take_byte(struct span *rest, uint8_t byte)
{
    if (rest->size == 0 || rest->data[0] != byte) {
        return false;
    }
    *rest = span_from(*rest, 1);
    return true;
}

/* A quoted-string whose first quote is taken. One with escapes is empty: no address needs any. */
static bool take_quoted(struct span *rest, struct span *value)
{
    bool escaped = false;
    for (size_t i = 0; i < rest->size; i++) {
        if (rest->data[i] == '"') {
            *value = span_first(*rest, escaped ? 0 : i);
            *rest = span_from(*rest, i + 1);
            return true;
        }
        if (rest->data[i] == '\\') {
            escaped = true;
            i++;
        }
    }
    return false;
}

static bool take_value(struct span *rest, struct span *value)
{
    if (take_byte(rest, '"')) {
        return take_quoted(rest, value);
    }
    size_t size = token_size(*rest);
    *value = span_first(*rest, size);
    *rest = span_from(*rest, size);
    return size > 0;
}

/* A number, or a name for one that begins with `_`, which is as good as none. */
static bool read_port(struct span text, uint16_t *port)
{
    uint64_t value = 0;
    if (text.size > 1 && text.data[0] == '_') {
        return token_size(text) == text.size;
    }
    if (text.size > 5 || !span_to_u64(text, UINT16_MAX, &value)) {
        return false;
    }
    *port = (uint16_t)value;
    return true;
}

/* 192.0.2.1 or [2001:db8::1], maybe with a port (RFC 7239, 6). */
static struct address read_node(struct span text)
{
    const struct address nobody = {.family = ADDRESS_NONE};
    struct address address = nobody;
    bool bracketed = text.size > 0 && text.data[0] == '[';
    size_t end = span_find(text, bracketed ? ']' : ':');
    if (bracketed && end == text.size) {
        return nobody;
    }
    struct span host = bracketed ? span_from(span_first(text, end), 1) : span_first(text, end);
    struct span port = span_from(text, bracketed ? end + 1 : end);
    bool has_colon = span_find(host, ':') < host.size;
    if (has_colon != bracketed || !address_parse_host(host, &address)) {
        return nobody;
    }
    if (port.size > 0 && (port.data[0] != ':' || !read_port(span_from(port, 1), &address.port))) {
        return nobody;
    }
    return address;
}

static enum parameter identify(struct span name)
{
    static const struct {
        const char *name;
        enum parameter parameter;
    } known[] = {{"for", FOR}, {"by", BY}, {"host", HOST}, {"proto", PROTO}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (span_equal_nocase(name, span_of_string(known[i].name))) {
            return known[i].parameter;
        }
    }
    return 0;
}

/* name=value, or nothing at all. */
static bool take_pair(struct span *rest, struct forwarded_element *element, unsigned *seen)
{
    struct span value = SPAN_EMPTY;
    size_t size = token_size(*rest);
    if (size == 0) {
        return true;
    }
    enum parameter parameter = identify(span_first(*rest, size));
    *rest = span_from(*rest, size);
    if ((*seen & parameter) != 0 || !take_byte(rest, '=') || !take_value(rest, &value)) {
        return false;
    }
    *seen |= parameter;
    if (parameter == FOR) {
        element->node = read_node(value);
    } else if (parameter == HOST) {
        element->host = value;
    } else if (parameter == PROTO) {
        element->proto = value;
    }
    return true;
}

enum status forwarded_next(struct span *rest, struct forwarded_element *element)
{
    struct span left = *rest;
    struct forwarded_element read = {.node = {.family = ADDRESS_NONE}};
    unsigned seen = 0;
    do { /* empty elements are none (RFC 9110, 5.6.1) */
        skip_blanks(&left);
    } while (take_byte(&left, ','));
    if (left.size == 0) {
        *rest = left;
        return END;
    }
    do {
        skip_blanks(&left);
        if (!take_pair(&left, &read, &seen)) {
            return ERROR;
        }
        skip_blanks(&left);
    } while (take_byte(&left, ';'));
    if (left.size > 0 && !take_byte(&left, ',')) {
        return ERROR;
    }
    *rest = left;
    *element = read;
    return OK;
}

/* A parameter where there is a value that needs no escapes: as a token where it is one, else
 * quoted.
 */
static void write_parameter(struct output *output, struct span name, struct span value)
{
    bool quoted = token_size(value) < value.size;
    bool escaped = span_find(value, '"') < value.size || span_find(value, '\\') < value.size;
    if (value.size == 0 || escaped) {
        return;
    }
    output_span(output, name);
    output_span(output, quoted ? SPAN("\"") : SPAN_EMPTY);
    output_span(output, value);
    output_span(output, quoted ? SPAN("\"") : SPAN_EMPTY);
}

static void write_node(struct output *output, const struct address *address)
{
    char text[ADDRESS_TEXT_MAX];
    if (address->family != ADDRESS_IPV4 && address->family != ADDRESS_IPV6) {
        OUTPUT_LITERAL(output, "for=unknown");
        return;
    }
    struct span host = span_of(text, address_print_host(address, text));
    bool quoted = address->family == ADDRESS_IPV6;
    output_span(output, quoted ? SPAN("for=\"[") : SPAN("for="));
    output_span(output, host);
    output_span(output, quoted ? SPAN("]\"") : SPAN_EMPTY);
}

void forwarded_write(struct output *output, const struct forwarded_hop *hop)
{
    write_node(output, &hop->node);
    write_parameter(output, SPAN(";host="), hop->host);
    write_parameter(output, SPAN(";proto="), hop->proto);
    if (hop->by.size > 0) {
        OUTPUT_LITERAL(output, ";by=_");
        output_span(output, hop->by);
    }
}
