/*
 * What an exchange leaves behind: its access record and its place in the metrics.
 */
#include "proxy/exchange.h"

static struct span text_of(const struct exchange *exchange, struct ref ref)
{
    return generation_text(exchange->proxy->generation, ref);
}

static void describe_route(const struct exchange *exchange, struct access_record *record)
{
    const struct generation *generation = exchange->proxy->generation;
    const struct endpoint *endpoint = exchange->attempt.endpoint;
    if (exchange->route == NULL) {
        return;
    }
    record->route = text_of(exchange, exchange->route->name);
    record->place_file = text_of(exchange, exchange->route->place.file);
    record->place_line = exchange->route->place.line;
    if (exchange->route->action == ACTION_UPSTREAM) {
        const struct generation_upstream *upstream =
            generation_upstream(generation, exchange->route->upstream);
        record->upstream = text_of(exchange, upstream->name);
        record->endpoint =
            endpoint == NULL ? SPAN_EMPTY : text_of(exchange, endpoint->config->text);
    }
}

void exchange_record(const struct exchange *exchange)
{
    struct proxy *proxy = exchange->proxy;
    const struct connection *connection = connection_of_stream(exchange->client);
    const struct request_head *request = &exchange->request;
    char client[ADDRESS_TEXT_MAX];
    size_t client_size = address_print_host(&exchange->client_address, client);
    uint64_t total = io_now(proxy->io) - exchange->began;
    struct access_record record = {
        .time = exchange->wall_began,
        .request_id = span_of(exchange->request_id, exchange->request_id_size),
        .client = span_of(client, client_size),
        .listener =
            text_of(exchange, generation_listener(proxy->generation, connection->listener)->name),
        .method = request->method_text,
        .host = request->host,
        .path = request->target,
        .protocol = request->version == HTTP_1_0 ? SPAN("HTTP/1.0") : SPAN("HTTP/1.1"),
        .status = exchange->status,
        .reason = exchange->reason,
        .attempts = exchange->attempt.count,
        .bytes_in = exchange->client->bytes_in,
        .bytes_out = exchange->client->bytes_out,
        .queue = exchange->queue_time,
        .connect = exchange->connect_time,
        .first_byte = exchange->first_byte_time,
        .total = total,
    };
    describe_route(exchange, &record);
    access_log_write(proxy->access_log, &record);
    metrics_request(proxy->metrics, exchange->route_index, exchange->status, total);
    metrics_failure(proxy->metrics, exchange->reason);
}
