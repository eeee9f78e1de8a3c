#include "proxy/origin.h"

#include "base/assert.h"
#include "base/output.h"
#include "http/forwarded.h"

enum {
    ELEMENT_GROWTH = 4, /* `::1,` becomes `for="[::1]", ` */
    ELEMENT_MAX = 160,  /* bytes of an element but for its host and by */
};

static_assert(ORIGIN_CHAINS >= ELEMENT_GROWTH + 1, "one chain as it is, one made of it");

/* Where in a head the client was found. */
struct walk {
    struct address client;
    size_t line;       /* index of the field */
    size_t start;      /* of the client's element in its value */
    struct span proto; /* what its element says besides, in Forwarded */
    struct span host;
    bool found;
};

static struct connection *connection_of(const struct exchange *exchange)
{
    return connection_of_stream(exchange->client);
}

static const struct generation_listener *listener_of(const struct exchange *exchange)
{
    return generation_listener(exchange->proxy->generation, connection_of(exchange)->listener);
}

/* The last element of a comma-separated list, cut off its end. False when it is empty. */
static bool take_last(struct span *list, struct span *element)
{
    size_t start = list->size;
    while (start > 0 && list->data[start - 1] != ',') {
        start--;
    }
    *element = span_trim(span_from(*list, start));
    *list = span_first(*list, start > 0 ? start - 1 : 0);
    return element->size > 0;
}

/* An address of X-Forwarded-For, which is usually written without a port. */
static bool parse_plain(struct span text, struct address *address)
{
    return address_parse(text, address) || address_parse_host(text, address);
}

/* Right to left: who stands before the last trusted proxy is the client. */
static void walk_x_forwarded(const struct exchange *exchange, struct walk *walk)
{
    const struct fields *fields = &exchange->request.fields;
    for (size_t i = fields->count; i > 0; i--) {
        const struct field *field = &fields->entries[i - 1];
        if (field->id != FIELD_X_FORWARDED_FOR) {
            continue;
        }
        struct span rest = field->value;
        struct span element = SPAN_EMPTY;
        struct address address;
        while (rest.size > 0) {
            if (!take_last(&rest, &element) || !parse_plain(element, &address)) {
                return;
            }
            *walk = (struct walk){.client = address,
                                  .line = i - 1,
                                  .start = (size_t)(element.data - field->value.data),
                                  .found = true};
            if (!connection_trusts(exchange->proxy, connection_of(exchange)->listener, &address)) {
                return;
            }
        }
    }
}

/*
 * The same client, but quotes can be read from left to right only. So whoever is not trusted is the
 * client until another such one follows; whoever is, only where nobody stands further left; and
 * what names nobody, or is malformed, forgets what stands left of it.
 */
static void walk_line(const struct exchange *exchange, size_t line, struct walk *walk)
{
    struct span value = exchange->request.fields.entries[line].value;
    struct span rest = value;
    struct forwarded_element element;
    enum status status = OK;
    while (status == OK) {
        size_t start = value.size - rest.size;
        status = forwarded_next(&rest, &element);
        if (status == ERROR || (status == OK && element.node.family == ADDRESS_NONE)) {
            walk->found = false;
        } else if (status == OK) {
            bool trusted = connection_trusts(exchange->proxy, connection_of(exchange)->listener,
                                             &element.node);
            if (!trusted || !walk->found) {
                *walk = (struct walk){element.node, line, start, element.proto, element.host, true};
            }
        }
    }
}

static void walk_forwarded(const struct exchange *exchange, struct walk *walk)
{
    const struct fields *fields = &exchange->request.fields;
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->entries[i].id == FIELD_FORWARDED) {
            walk_line(exchange, i, walk);
        }
    }
}

static bool agree(const struct walk *a, const struct walk *b)
{
    return a->found && b->found && address_same_host(&a->client, &b->client);
}

static void identify_behind(struct exchange *exchange)
{
    const struct fields *fields = &exchange->request.fields;
    uint32_t spoken = listener_of(exchange)->forwarded;
    bool has_plain = fields_have(fields, FIELD_X_FORWARDED_FOR);
    bool has_forwarded = fields_have(fields, FIELD_FORWARDED);
    struct walk plain = {.found = false};
    struct walk forwarded = {.found = false};
    bool both = has_plain && has_forwarded && spoken == FORWARDED_BOTH;
    bool reads_forwarded = has_forwarded && (!has_plain || spoken == FORWARDED_STANDARD);
    if (!reads_forwarded) {
        walk_x_forwarded(exchange, &plain);
    }
    if (reads_forwarded || both) {
        walk_forwarded(exchange, &forwarded);
    }
    if (both && !agree(&plain, &forwarded)) {
        exchange->chain = ORIGIN_DISPUTED;
        return;
    }
    exchange->chain = reads_forwarded ? ORIGIN_FORWARDED : ORIGIN_X_FORWARDED;
    const struct walk *walk = reads_forwarded ? &forwarded : &plain;
    if (walk->found) {
        exchange->client_address = walk->client;
    }
}

void origin_identify(struct exchange *exchange)
{
    const struct connection *connection = connection_of(exchange);
    exchange->client_address = connection->peer;
    if (connection->trusted) {
        identify_behind(exchange);
    }
}

static struct span own_scheme(const struct exchange *exchange)
{
    return connection_is_secure(connection_of(exchange)) ? SPAN("https") : SPAN("http");
}

/* What a trusted peer said in a field beside its chain, else our own. */
static struct span trusted_or(const struct exchange *exchange, enum field_id id, struct span own)
{
    bool believed = connection_of(exchange)->trusted && exchange->chain == ORIGIN_X_FORWARDED;
    const struct field *field = believed ? fields_find(&exchange->request.fields, id) : NULL;
    return field != NULL && field->value.size > 0 ? field->value : own;
}

/* What the client's element in Forwarded says, where that chain is the one that is believed. */
static struct walk believed_forwarded(const struct exchange *exchange)
{
    struct walk walk = {.found = false};
    if (connection_of(exchange)->trusted && exchange->chain == ORIGIN_FORWARDED) {
        walk_forwarded(exchange, &walk);
    }
    return walk;
}

/* How the client came to the first proxy that is believed, or to us. */
static struct span scheme_of(const struct exchange *exchange, const struct walk *walk)
{
    struct span own = walk->found && walk->proto.size > 0 ? walk->proto : own_scheme(exchange);
    return trusted_or(exchange, FIELD_X_FORWARDED_PROTO, own);
}

bool origin_is_secure(const struct exchange *exchange)
{
    struct walk walk = believed_forwarded(exchange);
    return span_equal_nocase(scheme_of(exchange, &walk), SPAN("https"));
}

static bool add(struct fields *fields, enum field_id id, struct span value)
{
    return value.data != NULL && fields_add(fields, id, field_name(id), value);
}

static struct span print_address(struct exchange *exchange, const struct address *address)
{
    char *text = arena_alloc(&exchange->proxy->draft, ADDRESS_TEXT_MAX);
    return text == NULL ? SPAN_EMPTY : span_of(text, address_print_host(address, text));
}

static size_t bytes_of(const struct fields *fields, enum field_id id)
{
    size_t size = 0;
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->entries[i].id == id) {
            size += fields->entries[i].value.size + 2;
        }
    }
    return size;
}

static bool is_well_formed(struct span line)
{
    struct forwarded_element element;
    enum status status = OK;
    while (status == OK) {
        status = forwarded_next(&line, &element);
    }
    return status == END;
}

/* The chain so far as the trusted peer gave it, all field lines joined, ours to follow. */
static void repeat_chain(const struct fields *fields, enum field_id id, struct output *output)
{
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->entries[i];
        bool fit = field->id == id && field->value.size > 0 &&
                   (id != FIELD_FORWARDED || is_well_formed(field->value));
        if (fit) {
            output_span(output, field->value);
            OUTPUT_LITERAL(output, ", ");
        }
    }
}

/* From the client on, each who came as an address alone. */
static void plain_from_forwarded(const struct exchange *exchange, const struct walk *from,
                                 struct output *output)
{
    const struct fields *fields = &exchange->request.fields;
    for (size_t i = from->line; i < fields->count; i++) {
        struct span rest = fields->entries[i].value;
        struct forwarded_element element;
        if (fields->entries[i].id != FIELD_FORWARDED) {
            continue;
        }
        rest = i == from->line ? span_from(rest, from->start) : rest;
        while (forwarded_next(&rest, &element) == OK) {
            char text[ADDRESS_TEXT_MAX];
            output_span(output, span_of(text, address_print_host(&element.node, text)));
            OUTPUT_LITERAL(output, ", ");
        }
    }
}

/* From the client on, each who came as an element; the client's says how. */
static void forwarded_from_plain(const struct exchange *exchange, const struct walk *from,
                                 struct output *output)
{
    const struct fields *fields = &exchange->request.fields;
    struct forwarded_hop hop = {
        .host = trusted_or(exchange, FIELD_X_FORWARDED_HOST, SPAN_EMPTY),
        .proto = trusted_or(exchange, FIELD_X_FORWARDED_PROTO, SPAN_EMPTY),
    };
    for (size_t i = from->line; i < fields->count; i++) {
        struct span rest = fields->entries[i].value;
        struct span element = SPAN_EMPTY;
        if (fields->entries[i].id != FIELD_X_FORWARDED_FOR) {
            continue;
        }
        rest = i == from->line ? span_from(rest, from->start) : rest;
        while (span_next_element(&rest, &element)) {
            if (!parse_plain(element, &hop.node)) {
                hop.node = (struct address){.family = ADDRESS_NONE};
            }
            forwarded_write(output, &hop);
            OUTPUT_LITERAL(output, ", ");
            hop = (struct forwarded_hop){.host = SPAN_EMPTY};
        }
    }
}

/* Whether what the peer said of the way so far is repeated. */
static bool is_believed(const struct exchange *exchange)
{
    return connection_of(exchange)->trusted && exchange->chain != ORIGIN_DISPUTED;
}

/* X-Forwarded-For: the chain, and the peer behind it. */
static struct span plain_chain(struct exchange *exchange, struct span peer, const struct walk *from)
{
    const struct fields *fields = &exchange->request.fields;
    if (!is_believed(exchange)) {
        return peer;
    }
    bool repeats = exchange->chain == ORIGIN_X_FORWARDED;
    size_t size = bytes_of(fields, repeats ? FIELD_X_FORWARDED_FOR : FIELD_FORWARDED) + peer.size;
    struct output output = output_over(arena_alloc(&exchange->proxy->draft, size), size);
    if (output.data == NULL) {
        return SPAN_EMPTY;
    }
    if (repeats) {
        repeat_chain(fields, FIELD_X_FORWARDED_FOR, &output);
    } else if (from->found) {
        plain_from_forwarded(exchange, from, &output); /* shorter than what it is made of */
    }
    output_span(&output, peer);
    ASSERT(!output.overflowed);
    return output_bytes(&output);
}

/* Forwarded: the chain, and what we know of the peer behind it. */
static struct span forwarded_chain(struct exchange *exchange)
{
    const struct connection *connection = connection_of(exchange);
    const struct fields *fields = &exchange->request.fields;
    const struct generation *generation = exchange->proxy->generation;
    const struct forwarded_hop hop = {
        .node = connection->peer,
        .host = exchange->request.authority,
        .proto = own_scheme(exchange),
        .by = generation_text(generation, listener_of(exchange)->name),
    };
    size_t size = bytes_of(fields, FIELD_FORWARDED) +
                  ELEMENT_GROWTH * bytes_of(fields, FIELD_X_FORWARDED_FOR) + hop.host.size +
                  hop.by.size + ELEMENT_MAX;
    size += bytes_of(fields, FIELD_X_FORWARDED_HOST) + bytes_of(fields, FIELD_X_FORWARDED_PROTO);
    struct output output = output_over(arena_alloc(&exchange->proxy->draft, size), size);
    if (output.data == NULL) {
        return SPAN_EMPTY;
    }
    if (is_believed(exchange)) {
        struct walk walk = {.found = false};
        bool repeats = exchange->chain == ORIGIN_FORWARDED ||
                       (listener_of(exchange)->forwarded == FORWARDED_BOTH &&
                        fields_have(fields, FIELD_FORWARDED)); /* they agree */
        if (repeats) {
            repeat_chain(fields, FIELD_FORWARDED, &output);
        } else {
            walk_x_forwarded(exchange, &walk);
        }
        if (walk.found) {
            forwarded_from_plain(exchange, &walk, &output);
        }
    }
    forwarded_write(&output, &hop);
    ASSERT(!output.overflowed);
    return output_bytes(&output);
}

static bool add_plain(struct exchange *exchange, struct fields *fields)
{
    /* Behind no trusted proxy the peer is the client. */
    const struct connection *connection = connection_of(exchange);
    const struct walk walk = believed_forwarded(exchange);
    struct span peer = print_address(exchange, &connection->peer);
    struct span client =
        connection->trusted ? print_address(exchange, &exchange->client_address) : peer;
    struct span chain = peer.data == NULL ? SPAN_EMPTY : plain_chain(exchange, peer, &walk);
    struct span own = walk.host.size > 0 ? walk.host : exchange->request.authority;
    struct span host = trusted_or(exchange, FIELD_X_FORWARDED_HOST, own);
    struct span port = trusted_or(exchange, FIELD_X_FORWARDED_PORT, SPAN_EMPTY);
    return add(fields, FIELD_X_FORWARDED_FOR, chain) &&
           add(fields, FIELD_X_FORWARDED_PROTO, scheme_of(exchange, &walk)) &&
           (host.size == 0 || add(fields, FIELD_X_FORWARDED_HOST, host)) &&
           (port.size == 0 || add(fields, FIELD_X_FORWARDED_PORT, port)) &&
           add(fields, FIELD_X_REAL_IP, client);
}

bool origin_add(struct exchange *exchange, struct fields *fields)
{
    uint32_t spoken = listener_of(exchange)->forwarded;
    struct span id = span_of(exchange->request_id, exchange->request_id_size);
    return (spoken == FORWARDED_STANDARD || add_plain(exchange, fields)) &&
           (spoken == FORWARDED_X || add(fields, FIELD_FORWARDED, forwarded_chain(exchange))) &&
           add(fields, FIELD_X_REQUEST_ID, id);
}
