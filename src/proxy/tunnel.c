#include "proxy/tunnel.h"

#include "base/assert.h"
#include "proxy/exchange.h"

#define KEY_FIELD SPAN("Sec-WebSocket-Key")
#define ACCEPT_FIELD SPAN("Sec-WebSocket-Accept")

/* ---- Which requests ---- */

/* The route's own spelling of a protocol that it lists; empty: it does not. */
static struct span listed(const struct exchange *exchange, struct span protocol)
{
    const struct generation *generation = exchange->proxy->generation;
    const struct ref *names = generation_array(generation, exchange->route->upgrades);
    for (uint32_t i = 0; i < exchange->route->upgrades.count; i++) {
        struct span name = generation_text(generation, names[i]);
        if (span_equal_nocase(name, protocol)) {
            return name;
        }
    }
    return SPAN_EMPTY;
}

/* The first of those that the client would like and the route lists (RFC 9110, 7.8). */
static struct span choose(const struct exchange *exchange)
{
    const struct fields *fields = &exchange->request.fields;
    for (size_t i = 0; i < fields->count; i++) {
        struct span rest = fields->entries[i].value;
        struct span element = SPAN_EMPTY;
        while (fields->entries[i].id == FIELD_UPGRADE && span_next_element(&rest, &element)) {
            struct span name = listed(exchange, element);
            if (name.size > 0) {
                return name;
            }
        }
    }
    return SPAN_EMPTY;
}

/* The one key of a client of HTTP/1.1; empty: there is none, or not one. */
static struct span find_key(const struct fields *fields)
{
    struct span key = SPAN_EMPTY;
    for (size_t i = 0; i < fields->count; i++) {
        if (span_equal_nocase(fields->entries[i].name, KEY_FIELD)) {
            if (key.size > 0 || !websocket_is_key(fields->entries[i].value)) {
                return SPAN_EMPTY;
            }
            key = fields->entries[i].value;
        }
    }
    return key;
}

/* Either side may speak HTTP/1.1, which has a key and its answer, or HTTP/2, which has none. */
static enum reason prepare_websocket(struct exchange *exchange)
{
    struct tunnel *tunnel = &exchange->tunnel;
    uint8_t nonce[WEBSOCKET_NONCE_SIZE];
    if (exchange->request.version == HTTP_2) {
        io_random(exchange->proxy->io, nonce, sizeof(nonce));
        websocket_make_key(nonce, tunnel->key);
        tunnel->asked.key = span_of(tunnel->key, sizeof(tunnel->key));
    } else {
        tunnel->asked.key = find_key(&exchange->request.fields);
    }
    if (tunnel->asked.key.size == 0) {
        return REASON_BAD_UPGRADE;
    }
    websocket_accept(tunnel->asked.key, tunnel->accept);
    tunnel->granted.key = span_of(tunnel->accept, sizeof(tunnel->accept));
    return REASON_NONE;
}

/* A look at each: they are few, and a switch is rare. */
static bool client_has_too_many(struct proxy *proxy, uint64_t client)
{
    uint32_t count = 0;
    for (struct list *link = proxy->tunnels.next; link != &proxy->tunnels; link = link->next) {
        count += CONTAINER_OF(link, struct tunnel, link)->client == client ? 1 : 0;
    }
    return client != 0 && count >= proxy->tunnels_of_client;
}

/* Whose tunnel it will be: peers on a Unix socket are no client of their own. */
static uint64_t client_of(const struct exchange *exchange)
{
    const struct address *client = &exchange->client_address;
    return client->family == ADDRESS_UNIX ? 0 : client_tag(&exchange->proxy->clients.key, client);
}

enum reason tunnel_admit(struct exchange *exchange)
{
    const struct request_head *request = &exchange->request;
    struct proxy *proxy = exchange->proxy;
    bool extended = request->protocol.size > 0;
    if (!extended && (!request->upgrade || exchange->route->upgrades.count == 0)) {
        return REASON_NONE;
    }
    struct span protocol = extended ? listed(exchange, request->protocol) : choose(exchange);
    if (protocol.size == 0) {
        return extended ? REASON_SWITCHING_REFUSED : REASON_NONE;
    }
    uint64_t client = client_of(exchange);
    if (proxy->tunnels_open >= proxy->tunnels_place) {
        return REASON_TUNNELS_FULL;
    }
    if (client_has_too_many(proxy, client)) {
        return REASON_CLIENT_TUNNELS;
    }
    struct tunnel *tunnel = &exchange->tunnel;
    *tunnel = (struct tunnel){.client = client,
                              .asked = {.protocol = protocol},
                              .granted = {.protocol = protocol},
                              .is_websocket = span_equal_nocase(protocol, SPAN("websocket"))};
    enum reason reason = tunnel->is_websocket ? prepare_websocket(exchange) : REASON_NONE;
    if (reason == REASON_NONE) {
        exchange->switches = true;
        proxy->tunnels_open++;
        list_push_back(&proxy->tunnels, &tunnel->link);
    }
    return reason;
}

static bool list_has(const struct fields *fields, enum field_id id, struct span token)
{
    for (size_t i = 0; i < fields->count; i++) {
        struct span rest = fields->entries[i].value;
        struct span element = SPAN_EMPTY;
        while (fields->entries[i].id == id && span_next_element(&rest, &element)) {
            if (span_equal_nocase(element, token)) {
                return true;
            }
        }
    }
    return false;
}

bool tunnel_is_granted(const struct exchange *exchange)
{
    const struct tunnel *tunnel = &exchange->tunnel;
    const struct response_head *response = &exchange->response;
    const struct field *upgrade = fields_find(&response->fields, FIELD_UPGRADE);
    const struct field *accept = fields_find_name(&response->fields, ACCEPT_FIELD);
    if (!exchange->switches || response->framing != FRAMING_TUNNEL) {
        return false;
    }
    if (response->version == HTTP_2) {
        return true;
    }
    return upgrade != NULL && span_equal_nocase(upgrade->value, tunnel->asked.protocol) &&
           list_has(&response->fields, FIELD_CONNECTION, SPAN("upgrade")) &&
           (!tunnel->is_websocket ||
            (accept != NULL && span_equal(accept->value, tunnel->granted.key)));
}

bool tunnel_tells(const struct field *field)
{
    return field->id == FIELD_OTHER && (span_equal_nocase(field->name, KEY_FIELD) ||
                                        span_equal_nocase(field->name, ACCEPT_FIELD));
}

/* ---- The tunnel ---- */

static void open_lane(struct lane *lane, struct stream *from, struct stream_sink *to)
{
    struct source source = lane_stream_source(from);
    const struct sink sink = lane_stream_sink(to);
    source.trailers = NULL;
    *lane = (struct lane){0};
    lane_open(lane, &source, &sink);
}

void tunnel_open(struct exchange *exchange)
{
    struct proxy *proxy = exchange->proxy;
    struct stream *client = exchange->client;
    struct stream *upstream = exchange->attempt.lease.stream;
    ASSERT(exchange->switches && !exchange->uploads);
    exchange_begin_upload(exchange, 0);
    exchange->upload.sink =
        (struct stream_sink){.stream = upstream, .failure = REASON_TUNNEL_BROKEN};
    exchange->response_sink =
        (struct stream_sink){.stream = client, .failure = REASON_CLIENT_CLOSED};
    open_lane(&exchange->upload.lane, client, &exchange->upload.sink);
    open_lane(&exchange->response_lane, upstream, &exchange->response_sink);
    exchange->tunnel.opened = io_now(proxy->io);
    metrics_add(proxy->metrics, METRIC_TUNNELS, 1);
    metrics_count(proxy->metrics, METRIC_TUNNELS_OPENED);
}

/* Runs one direction, unless it is through. What breaks is told by who broke it. */
static enum status run_direction(struct exchange *exchange, struct lane *lane, enum reason *reason)
{
    bool up = lane == &exchange->upload.lane;
    if (!lane_is_active(lane)) {
        return END;
    }
    enum status status = lane_run(lane, reason);
    if (status == ERROR) {
        bool client = up == lane->source_failed;
        *reason = client ? REASON_CLIENT_CLOSED : REASON_TUNNEL_BROKEN;
        return ERROR;
    }
    shedding_note_lane(exchange, lane);
    if (lane->waits == LANE_WAITS_SINK && lane->sink.stream->starved) {
        exchange_wait_in(exchange, &exchange->proxy->buffers.waiters);
    }
    return status;
}

/* Any byte that comes or goes begins the time anew; the end of one side shortens it. */
static void pace(struct exchange *exchange, bool half_closed)
{
    struct tunnel *tunnel = &exchange->tunnel;
    const struct generation_timeouts *timeouts =
        &exchange->proxy->generation->header->server.timeouts;
    uint64_t moved = exchange->upload.lane.bytes + exchange->response_lane.bytes +
                     exchange->client->progress_out + exchange->attempt.lease.stream->progress_out;
    if (moved == tunnel->moved && half_closed == tunnel->half_closed &&
        exchange->deadlines[DEADLINE_RESPONSE] != UINT64_MAX) {
        return;
    }
    tunnel->moved = moved;
    tunnel->half_closed = half_closed;
    uint64_t patience = timeouts->tunnel_idle;
    if (half_closed && timeouts->tunnel_half_closed < patience) {
        patience = timeouts->tunnel_half_closed;
    }
    exchange_set_deadline(exchange, DEADLINE_RESPONSE, io_now(exchange->proxy->io) + patience);
}

enum status tunnel_run(struct exchange *exchange, enum reason *reason)
{
    const struct stream *upstream = exchange->attempt.lease.stream;
    enum status down = run_direction(exchange, &exchange->response_lane, reason);
    if (down == ERROR) {
        return ERROR;
    }
    enum status up = run_direction(exchange, &exchange->upload.lane, reason);
    if (up == ERROR && (*reason == REASON_CLIENT_CLOSED || !upstream->in_ended)) {
        return ERROR;
    }
    if (up == ERROR) {
        up = END; /* it has said all that it had to say, and need not listen */
    }
    if (down == END && up == END) {
        return END;
    }
    /* No look at is_broken: once both sides have ended it says so, and bytes may still be unread.
     */
    pace(exchange, down == END || up == END);
    return down == OK || up == OK ? OK : AGAIN;
}

static void end_stream(struct stream *stream)
{
    if (!stream->out_ended && !stream->ops->is_broken(stream) &&
        stream->ops->write_end(stream, NULL) == OK) {
        (void)stream->ops->flush(stream); /* what does not leave now is cut off */
    }
}

void tunnel_part(struct exchange *exchange, enum reason reason)
{
    if (reason == REASON_TUNNEL_IDLE || reason == REASON_DRAINING) {
        end_stream(exchange->client);
        end_stream(exchange->attempt.lease.stream);
    }
}

bool tunnel_is_open(const struct exchange *exchange)
{
    return exchange->switches && exchange->tunnel.opened != 0;
}

void tunnel_leave(struct exchange *exchange)
{
    struct proxy *proxy = exchange->proxy;
    if (!exchange->switches) {
        return;
    }
    proxy->tunnels_open--;
    list_unlink(&exchange->tunnel.link);
    if (tunnel_is_open(exchange)) {
        metrics_subtract(proxy->metrics, METRIC_TUNNELS, 1);
        metrics_add(proxy->metrics, METRIC_TUNNEL_BYTES,
                    exchange->client->bytes_in + exchange->client->bytes_out);
    }
}
