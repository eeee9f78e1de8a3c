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

/* A target in another form than a path may hold a user's name and password: it is not told. */
static struct span path_of(const struct request_head *request)
{
    if (request->path.size > 0) {
        return request->path;
    }
    bool is_path = request->target.size > 0 && request->target.data[0] == '/';
    return is_path ? span_first(request->target, span_find(request->target, '?')) : SPAN_EMPTY;
}

void exchange_note_begin(struct exchange *exchange)
{
    const struct connection *connection = connection_of_stream(exchange->client);
    const struct flight_request request = {
        .began = exchange->wall_began,
        .client = connection->peer,
        .listener = connection->listener,
    };
    exchange->flight = flight_begin(exchange->proxy->flight, &request);
    exchange->stage = UINT16_MAX;
    exchange_note_stage(exchange);
}

void exchange_note_request(struct exchange *exchange)
{
    const struct request_head *head = &exchange->request;
    const struct flight_request request = {
        .began = exchange->wall_began,
        .client = exchange->client_address,
        .listener = connection_of_stream(exchange->client)->listener,
        .id = span_of(exchange->request_id, exchange->request_id_size),
        .method = head->method_text,
        .host = head->host,
        .path = path_of(head),
        .has_query = head->query.data != NULL,
    };
    flight_describe(exchange->proxy->flight, exchange->flight, &request);
}

/* Of the last attempt's handshake, where that is what the request failed of. */
static enum tls_detail detail_of(const struct exchange *exchange)
{
    const struct attempt *attempt = &exchange->attempt;
    return exchange->reason == attempt->reason ? attempt->detail : TLS_DETAIL_NONE;
}

static void end_flight(const struct exchange *exchange, uint64_t total)
{
    const struct endpoint *endpoint = exchange->attempt.endpoint;
    const struct flight_outcome outcome = {
        .route = exchange->route == NULL ? FLIGHT_NONE : exchange->route_index,
        .endpoint = endpoint == NULL ? FLIGHT_NONE : endpoint->index,
        .attempts = exchange->attempt.count,
        .status = exchange->status,
        .reason = exchange->reason,
        .detail = detail_of(exchange),
        .total = total,
        .first_byte = exchange->first_byte_time,
    };
    flight_end(exchange->proxy->flight, exchange->flight, &outcome);
}

static struct span protocol_name(enum http_version version)
{
    return version == HTTP_2     ? SPAN("HTTP/2.0")
           : version == HTTP_1_0 ? SPAN("HTTP/1.0")
                                 : SPAN("HTTP/1.1");
}

void exchange_note_tls(struct exchange *exchange)
{
    const struct transport *transport = &exchange->client->session->transport;
    if (!tls_is_on(transport)) {
        return;
    }
    const struct tls_certificate *client = tls_client_certificate(transport);
    struct arena *arena = &exchange->arena;
    struct exchange_tls *tls = arena_calloc(arena, 1, sizeof(*tls));
    ASSERT(tls != NULL); /* arenas are sized for it, and copies of nothing have no data */
    tls_describe(transport, &tls->info);
    if (tls->info.server_name.size > 0) {
        tls->info.server_name = arena_copy(arena, tls->info.server_name);
    }
    if (client != NULL && client->subject.size > 0) {
        tls->client.subject = arena_copy(arena, client->subject);
    }
    if (client != NULL) {
        tls->client.fingerprint = arena_copy(arena, client->fingerprint);
    }
    exchange->tls = tls;
}

static enum access_answer answer_of(bool yes)
{
    return yes ? ACCESS_YES : ACCESS_NO;
}

static void describe_tls(const struct exchange *exchange, struct access_record *record)
{
    const struct exchange_tls *tls = exchange->tls;
    if (tls != NULL) {
        record->tls_version = tls->info.version;
        record->tls_cipher = tls->info.cipher;
        record->tls_resumed = answer_of(tls->info.resumed);
        record->sni = tls->info.server_name;
        record->client_subject = tls->client.subject;
        record->client_fingerprint = tls->client.fingerprint;
        record->client_verified = answer_of(tls->info.peer_verified);
    }
}

static void write_access_record(const struct exchange *exchange, uint64_t total)
{
    struct proxy *proxy = exchange->proxy;
    const struct connection *connection = connection_of_stream(exchange->client);
    const struct request_head *request = &exchange->request;
    char client[ADDRESS_TEXT_MAX];
    size_t client_size = address_print_host(&exchange->client_address, client);
    struct access_record record = {
        .time = exchange->wall_began,
        .request_id = span_of(exchange->request_id, exchange->request_id_size),
        .client = span_of(client, client_size),
        .listener =
            text_of(exchange, generation_listener(proxy->generation, connection->listener)->name),
        .method = request->method_text,
        .host = request->host,
        .path = request->target,
        .protocol = protocol_name(request->version),
        .status = exchange->status,
        .reason = exchange->reason,
        .detail = detail_of(exchange),
        .grpc_status = grpc_call_outcome(exchange),
        .attempts = exchange->attempt.count,
        .bytes_in = exchange->client->bytes_in,
        .bytes_out = exchange->client->bytes_out,
        .queue = exchange->queue_time,
        .connect = exchange->connect_time,
        .first_byte = exchange->first_byte_time,
        .total = total,
        .request_fields = &exchange->request.fields,
        .response_fields = exchange->relayed ? &exchange->response.fields : NULL,
    };
    describe_route(exchange, &record);
    describe_tls(exchange, &record);
    access_log_write(proxy->access_log, &record);
}

void exchange_record(const struct exchange *exchange)
{
    struct proxy *proxy = exchange->proxy;
    uint64_t total = io_now(proxy->io) - exchange->began;
    if (proxy->access_log->enabled) {
        write_access_record(exchange, total);
    }
    /* How long a tunnel was open says nothing of how fast the route answers. */
    metrics_request(proxy->metrics, exchange->route_index, exchange->status,
                    tunnel_is_open(exchange) ? exchange->tunnel.opened - exchange->began : total);
    metrics_failure(proxy->metrics, exchange->reason);
    if (exchange->grpc.on) {
        metrics_grpc_request(proxy->metrics, exchange->route_index, grpc_call_outcome(exchange));
    }
    end_flight(exchange, total);
}

void exchange_record_failure(struct proxy *proxy, const struct refused_request *refused)
{
    char client[ADDRESS_TEXT_MAX];
    uint8_t id[REQUEST_ID_SIZE];
    size_t client_size = address_print_host(refused->peer, client);
    uint64_t total = io_now(proxy->io) - refused->began;
    request_id_make(proxy->io, id);
    const struct generation_listener *listener =
        generation_listener(proxy->generation, refused->listener);
    const struct access_record record = {
        .time = io_wall(proxy->io) - total,
        .request_id = span_of(id, sizeof(id)),
        .client = span_of(client, client_size),
        .listener = generation_text(proxy->generation, listener->name),
        .reason = refused->reason,
        .grpc_status = GRPC_STATUS_NONE,
        .queue = ACCESS_NO_TIME,
        .connect = ACCESS_NO_TIME,
        .first_byte = ACCESS_NO_TIME,
        .total = total,
        .tls_version = refused->tls_version,
        .sni = refused->sni,
        .detail = refused->detail,
    };
    access_log_write(proxy->access_log, &record);
    metrics_failure(proxy->metrics, refused->reason);
}

void exchange_record_refused(struct proxy *proxy, const struct refused_request *refused)
{
    exchange_record_failure(proxy, refused);
    metrics_request(proxy->metrics, METRICS_NO_ROUTE, 0, io_now(proxy->io) - refused->began);
}
