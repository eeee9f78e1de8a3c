
#include "base/assert.h"
#include "config/compile_parts.h"

void *compile_scratch(struct compilation *compilation, size_t count, size_t size)
{
    void *memory = arena_calloc(compilation->validator.arena, count, size);
    compilation->no_room = compilation->no_room || memory == NULL;
    return memory;
}

struct address compile_address(const struct section *section, enum schema_key_id key)
{
    const struct setting_value *value = section_value(section, key);
    struct address address = {0};
    if (value != NULL) {
        return value->address;
    }
    bool valid = address_parse(span_of_string(schema_key(key)->standard), &address);
    ASSERT(valid);
    return address;
}

struct generation_place compile_place(struct compilation *compilation, struct position position)
{
    struct generation_place place = {.line = position.line};
    if (!compilation->is_builtin) {
        ASSERT(position.source != NULL);
        place.file = builder_file(&compilation->builder, position.source->name);
    }
    return place;
}

struct generation_place compile_file_place(struct compilation *compilation,
                                           struct position position)
{
    return (struct generation_place){
        .file = builder_file(&compilation->builder, position.source->name),
        .line = position.line,
    };
}

struct ref compile_texts(struct compilation *compilation, const struct section *section,
                         enum schema_key_id key)
{
    struct ref refs[SCHEMA_LIST_MAX];
    size_t count = 0;
    const struct setting *setting = section_setting(section, key);
    const struct setting_value *value = setting == NULL ? NULL : setting->values;
    for (; value != NULL && count < SCHEMA_LIST_MAX; value = value->next) {
        refs[count++] = builder_text(&compilation->builder, value->text);
    }
    return builder_array(&compilation->builder, refs, sizeof(refs[0]), count);
}

void compile_check_names(struct compilation *compilation, enum schema_block_id block)
{
    char help[COMPILE_HELP_MAX];
    const struct schema_key *key = schema_argument(block, 0);
    const struct section *first = section_child(compilation->parts, block);
    for (const struct section *at = first; at != NULL; at = section_next(at)) {
        struct span name = section_text(at, key->id);
        const struct section *other = first;
        while (other != at && !span_equal(section_text(other, key->id), name)) {
            other = section_next(other);
            ASSERT(other != NULL);
        }
        if (other != at && name.size > 0) {
            (void)snprintf(help, sizeof(help), "the other one is at %.*s:%u:%u",
                           SPAN_ARGS(other->position.source->name), other->position.line,
                           other->position.column);
            COMPILE_ERROR(compilation, section_setting(at, key->id)->position, help,
                          "there is another %s \"%.*s\"", at->schema->name, SPAN_ARGS(name));
        }
    }
}

void compile_refuse_setting(struct compilation *compilation, const struct section *section,
                            enum schema_key_id key, const char *why)
{
    const struct setting *setting = section_setting(section, key);
    if (setting != NULL) {
        COMPILE_ERROR(compilation, setting->position, why, "`%s` has no effect here",
                      setting->key->name);
    }
}

static void compile_rate(struct generation_limits *limits, const struct section *section)
{
    if (section_value(section, KEY_REQUEST_RATE_RATE) == NULL) {
        return;
    }
    limits->request_rate = section_number32(section, KEY_REQUEST_RATE_RATE);
    limits->request_burst = section_value(section, KEY_REQUEST_RATE_BURST) != NULL
                                ? section_number32(section, KEY_REQUEST_RATE_BURST)
                                : limits->request_rate;
}

static void compile_limits(struct compilation *compilation, const struct section *section)
{
    struct generation_limits *limits = &compilation->header.server.limits;
    limits->header_fields = section_number32(section, KEY_LIMITS_HEADER_FIELDS);
    limits->head_size = section_number32(section, KEY_LIMITS_HEAD_SIZE);
    limits->request_line = section_number32(section, KEY_LIMITS_REQUEST_LINE);
    limits->connections_per_client = section_number32(section, KEY_LIMITS_CONNECTIONS_PER_CLIENT);
    limits->requests_per_connection = section_number32(section, KEY_LIMITS_REQUESTS_PER_CONNECTION);
    limits->requests = section_number32(section, KEY_LIMITS_MAX_REQUESTS);
    limits->handshakes = section_number32(section, KEY_LIMITS_MAX_HANDSHAKES);
    limits->upstream_connections = section_number32(section, KEY_LIMITS_MAX_UPSTREAM_CONNECTIONS);
    limits->tunnels = section_number32(section, KEY_LIMITS_MAX_TUNNELS);
    limits->tunnels_per_client = section_number32(section, KEY_LIMITS_TUNNELS_PER_CLIENT);
    limits->http2_streams = section_number32(section, KEY_LIMITS_HTTP2_STREAMS);
    limits->http2_window = section_number32(section, KEY_LIMITS_HTTP2_WINDOW);
    limits->http2_glitches = section_number32(section, KEY_LIMITS_HTTP2_GLITCHES);
    limits->http2_pool = section_number(section, KEY_LIMITS_HTTP2_POOL);
    limits->buffer_pool = section_number(section, KEY_LIMITS_BUFFER_POOL);
    limits->hold_pool = section_number(section, KEY_LIMITS_HOLD_POOL);
    compile_rate(limits, section_child(section, BLOCK_REQUEST_RATE));
    limits->splice_pipes = section_number32(section, KEY_LIMITS_SPLICE_PIPES);
    if (limits->request_line > limits->head_size) {
        const struct setting *setting = section_setting(section, KEY_LIMITS_REQUEST_LINE);
        if (setting != NULL) {
            COMPILE_ERROR(compilation, setting->values->position,
                          "the request line is a part of the head",
                          "`request-line` exceeds `head-size`");
        }
        limits->request_line = limits->head_size;
    }
}

static void compile_timeouts(struct compilation *compilation, const struct section *section)
{
    compilation->header.server.timeouts = (struct generation_timeouts){
        .tls_handshake = section_number(section, KEY_TIMEOUTS_TLS_HANDSHAKE),
        .proxy_header = section_number(section, KEY_TIMEOUTS_PROXY_HEADER),
        .request_head = section_number(section, KEY_TIMEOUTS_REQUEST_HEAD),
        .request_body_idle = section_number(section, KEY_TIMEOUTS_REQUEST_BODY_IDLE),
        .keep_alive = section_number(section, KEY_TIMEOUTS_KEEP_ALIVE),
        .response_write_idle = section_number(section, KEY_TIMEOUTS_RESPONSE_WRITE_IDLE),
        .connect = section_number(section, KEY_TIMEOUTS_CONNECT),
        .queue = section_number(section, KEY_TIMEOUTS_QUEUE),
        .continue_wait = section_number(section, KEY_TIMEOUTS_CONTINUE),
        .upstream_body_idle = section_number(section, KEY_TIMEOUTS_UPSTREAM_BODY_IDLE),
        .upstream_keep_alive = section_number(section, KEY_TIMEOUTS_UPSTREAM_KEEP_ALIVE),
        .tunnel_idle = section_number(section, KEY_TIMEOUTS_TUNNEL_IDLE),
        .tunnel_half_closed = section_number(section, KEY_TIMEOUTS_TUNNEL_HALF_CLOSED),
        .upstream_ping = section_number(section, KEY_TIMEOUTS_UPSTREAM_PING),
        .linger = section_number(section, KEY_TIMEOUTS_LINGER),
        .request_body_min_rate = section_number(section, KEY_TIMEOUTS_REQUEST_BODY_MIN_RATE),
    };
}

/* Where a setting stands; line 0 where it is not set. */
static struct generation_place place_of(struct compilation *compilation,
                                        const struct section *section, enum schema_key_id key)
{
    const struct setting *setting = section_setting(section, key);
    return setting != NULL ? compile_file_place(compilation, setting->position)
                           : (struct generation_place){0};
}

static void compile_files(struct compilation *compilation, const struct section *section)
{
    struct generation_server *server = &compilation->header.server;
    struct span pid_file = section_text(section, KEY_SERVER_PID_FILE);
    server->pid_file = builder_text(&compilation->builder, pid_file);
    server->pid_file_place = place_of(compilation, section, KEY_SERVER_PID_FILE);
    struct span socket = section_text(section, KEY_SERVER_CONTROL_SOCKET);
    server->control_socket = builder_text(&compilation->builder, socket);
    server->control_place = place_of(compilation, section, KEY_SERVER_CONTROL_SOCKET);
}

/*
 * The number of workers, each of which has its share of what all may take, and no share can be less
 * than one: what is written must hold, what is left to us fits in.
 */
static void compile_workers(struct compilation *compilation, const struct section *section)
{
    struct generation_server *server = &compilation->header.server;
    const struct section *limits = section_child(section, BLOCK_LIMITS);
    const struct {
        enum schema_key_id key;
        uint32_t value;
    } bounds[] = {
        {KEY_LIMITS_MAX_REQUESTS, server->limits.requests},
        {KEY_LIMITS_MAX_UPSTREAM_CONNECTIONS, server->limits.upstream_connections},
    };
    uint32_t cores = compilation->validator.environment->cores;
    uint32_t most = (uint32_t)schema_key(KEY_SERVER_WORKERS)->maximum;
    uint32_t workers = section_number32(section, KEY_SERVER_WORKERS);
    ASSERT(cores >= 1);
    server->workers = workers > 0 ? workers : cores < most ? cores : most;
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
        if (bounds[i].value >= server->workers) {
            continue;
        }
        if (workers == 0) {
            server->workers = bounds[i].value;
            continue;
        }
        const struct setting *setting = section_setting(limits, bounds[i].key);
        char help[COMPILE_HELP_MAX];
        (void)snprintf(help, sizeof(help), "set at least %u, or fewer `workers`", workers);
        COMPILE_ERROR(compilation,
                      setting != NULL ? setting->values->position
                                      : section_setting(section, KEY_SERVER_WORKERS)->position,
                      help, "`%s` %u is less than one for each of the %u workers",
                      schema_key(bounds[i].key)->name, bounds[i].value, workers);
    }
}

/* A file or socket that the instance makes for itself. */
struct own_file {
    const char *name;
    struct span path;
    const struct setting *setting; /* NULL: the default */
};

enum { OWN_FILES = 3 };

static struct own_file own_file(const struct section *section, enum schema_key_id key,
                                const char *name)
{
    return (struct own_file){name, section_text(section, key), section_setting(section, key)};
}

static void list_own_files(const struct compilation *compilation, struct own_file files[OWN_FILES])
{
    const struct section *server = section_child(compilation->top, BLOCK_SERVER);
    const struct section *observability = section_child(compilation->top, BLOCK_OBSERVABILITY);
    const struct section *log = section_child(observability, BLOCK_ACCESS_LOG);
    files[0] = own_file(server, KEY_SERVER_PID_FILE, "pid-file");
    files[1] = own_file(server, KEY_SERVER_CONTROL_SOCKET, "control-socket");
    files[2] = own_file(log, KEY_ACCESS_LOG_TARGET, "access-log");
}

static bool is_same_file(struct span a, struct span b)
{
    return span_starts_with(a, SPAN("/")) && span_equal(a, b); /* not "off" */
}

/* Each removes its own at the end: a log that is the pid file, too, would go with it. */
static void check_own_files(struct compilation *compilation)
{
    struct own_file files[OWN_FILES];
    list_own_files(compilation, files);
    for (size_t i = 1; i < OWN_FILES; i++) {
        for (size_t j = 0; j < i; j++) {
            const struct setting *setting =
                files[i].setting != NULL ? files[i].setting : files[j].setting;
            if (setting != NULL && is_same_file(files[i].path, files[j].path)) {
                COMPILE_ERROR(compilation, setting->values->position, "name another path",
                              "`%s` and `%s` cannot both be \"%.*s\"", files[j].name, files[i].name,
                              SPAN_ARGS(files[i].path));
            }
        }
    }
}

bool compile_server(struct compilation *compilation)
{
    const struct section *section = section_child(compilation->top, BLOCK_SERVER);
    const struct section *admin = section_child(section, BLOCK_ADMIN);
    struct generation_server *server = &compilation->header.server;
    server->connections = section_number32(section, KEY_SERVER_MAX_CONNECTIONS);
    server->shutdown_timeout = section_number(section, KEY_SERVER_SHUTDOWN_TIMEOUT);
    server->memory_budget = section_number(section, KEY_SERVER_MEMORY_BUDGET);
    server->merge_slashes = section_number32(section, KEY_SERVER_MERGE_SLASHES);
    compilation->merge_slashes = server->merge_slashes != 0;
    server->admin = compile_address(admin, KEY_ADMIN_ADDRESS);
    server->admin_place = place_of(compilation, admin, KEY_ADMIN_ADDRESS);
    server->admin_hosts = compile_texts(compilation, admin, KEY_ADMIN_ALLOWED_HOSTS);
    if (server->admin.family == ADDRESS_NONE && section_value(admin, KEY_ADMIN_ADDRESS) != NULL) {
        compile_refuse_setting(compilation, admin, KEY_ADMIN_ALLOWED_HOSTS,
                               "the admin listener is off");
    }
    const struct section *observability = section_child(compilation->top, BLOCK_OBSERVABILITY);
    compile_files(compilation, section);
    check_own_files(compilation);
    compile_account(compilation, section);
    compile_control_group(compilation, section);
    compile_access_log(compilation, section_child(observability, BLOCK_ACCESS_LOG));
    server->flight_recorder = section_number32(observability, KEY_OBSERVABILITY_FLIGHT_RECORDER);
    compile_limits(compilation, section_child(section, BLOCK_LIMITS));
    compile_workers(compilation, section);
    compile_timeouts(compilation, section_child(section, BLOCK_TIMEOUTS));
    return true;
}

/* Whether two sockets cannot both listen: same port, and same address or one takes all. */
static bool addresses_clash(const struct address *a, const struct address *b)
{
    if (a->family == ADDRESS_UNIX) {
        return false; /* paths are compared as texts */
    }
    struct address any = {.family = a->family, .port = a->port};
    return a->port == b->port && a->family == b->family &&
           (address_equal(a, b) || address_equal(a, &any) || address_equal(b, &any));
}

static void check_socket_path(struct compilation *compilation, const struct setting_value *value)
{
    struct own_file files[OWN_FILES];
    list_own_files(compilation, files);
    for (size_t i = 0; value->address.family == ADDRESS_UNIX && i < OWN_FILES; i++) {
        if (is_same_file(span_from(value->text, SPAN("unix:").size), files[i].path)) {
            COMPILE_ERROR(compilation, value->position, "name another path",
                          "`%s` has the path of this listener", files[i].name);
        }
    }
}

/* Reports a listener whose address another one, or the admin listener, has. */
static void check_clash(struct compilation *compilation, const struct section *section)
{
    char help[COMPILE_HELP_MAX];
    const struct setting_value *value = section_value(section, KEY_LISTENER_ADDRESS);
    if (value == NULL) {
        return;
    }
    check_socket_path(compilation, value);
    const struct section *other = section_child(compilation->parts, BLOCK_LISTENER);
    for (; other != section; other = section_next(other)) {
        ASSERT(other != NULL);
        const struct setting_value *taken = section_value(other, KEY_LISTENER_ADDRESS);
        if (taken != NULL && (addresses_clash(&value->address, &taken->address) ||
                              span_equal(value->text, taken->text))) {
            (void)snprintf(help, sizeof(help), "it is taken at %.*s:%u:%u",
                           SPAN_ARGS(taken->position.source->name), taken->position.line,
                           taken->position.column);
            COMPILE_ERROR(compilation, value->position, help,
                          "two listeners cannot share the address \"%.*s\"",
                          SPAN_ARGS(value->text));
            return;
        }
    }
    const struct address *admin = &compilation->header.server.admin;
    if (admin->family != ADDRESS_NONE && addresses_clash(&value->address, admin)) {
        COMPILE_ERROR(compilation, value->position, "see server admin address; it can be \"off\"",
                      "the admin listener has the address \"%.*s\"", SPAN_ARGS(value->text));
    }
}

static struct ref compile_networks(struct compilation *compilation, const struct section *section,
                                   enum schema_key_id key)
{
    struct address_block blocks[SCHEMA_LIST_MAX];
    size_t count = 0;
    const struct setting *setting = section_setting(section, key);
    const struct setting_value *value = setting == NULL ? NULL : setting->values;
    for (; value != NULL && count < SCHEMA_LIST_MAX; value = value->next) {
        blocks[count++] = value->network;
    }
    return builder_array(&compilation->builder, blocks, sizeof(blocks[0]), count);
}

/* Choices are written as their index, so the table and the enum must agree. */
static_assert(FORWARDED_X == 0 && FORWARDED_STANDARD == 1 && FORWARDED_BOTH == 2,
              "the choices of forwarded");

/* The choices of socket-mode, in their order. */
static const uint32_t SOCKET_MODES[] = {0600, 0660, 0666};

static uint32_t socket_mode(struct compilation *compilation, const struct section *section,
                            const struct setting_value *address)
{
    if (address != NULL && address->address.family == ADDRESS_UNIX) {
        return SOCKET_MODES[section_number32(section, KEY_LISTENER_SOCKET_MODE)];
    }
    compile_refuse_setting(compilation, section, KEY_LISTENER_SOCKET_MODE,
                           "only a Unix socket has it");
    return 0;
}

static struct ref compile_listener_hsts(struct compilation *compilation,
                                        const struct section *section)
{
    static const struct hsts_keys keys = {KEY_HSTS_MAX_AGE, KEY_HSTS_INCLUDE_SUBDOMAINS,
                                          KEY_HSTS_PRELOAD};
    const struct section *hsts = section_child(section, BLOCK_HSTS);
    if (hsts != NULL && section_number32(section, KEY_LISTENER_PROTOCOL) == 0) {
        COMPILE_ERROR(compilation, hsts->position,
                      "put it on the listener of protocol \"https\", and redirect-https here",
                      "`hsts` has no effect here: clients believe it over https only");
    }
    return compile_hsts(compilation, hsts, &keys);
}

static void compile_redirect_https(struct compilation *compilation, const struct section *section,
                                   struct generation_listener *listener)
{
    const struct section *redirect = section_child(section, BLOCK_REDIRECT_HTTPS);
    if (redirect == NULL) {
        return;
    }
    if (section_number32(section, KEY_LISTENER_PROTOCOL) != 0) {
        COMPILE_ERROR(compilation, redirect->position,
                      "put it on the listener of protocol \"http\"",
                      "`redirect-https` has no effect here: this listener speaks https");
        return;
    }
    listener->redirect_status = section_number32(redirect, KEY_REDIRECT_HTTPS_STATUS);
    listener->redirect_port = section_number32(redirect, KEY_REDIRECT_HTTPS_PORT);
}

bool compile_listeners(struct compilation *compilation)
{
    uint32_t count = section_count(compilation->parts, BLOCK_LISTENER);
    struct generation_listener *listeners = compile_scratch(compilation, count, sizeof(*listeners));
    if (listeners == NULL) {
        return false;
    }
    compile_check_names(compilation, BLOCK_LISTENER);
    uint32_t index = 0;
    const struct section *section = section_child(compilation->parts, BLOCK_LISTENER);
    for (; section != NULL; section = section_next(section)) {
        const struct setting_value *address = section_value(section, KEY_LISTENER_ADDRESS);
        check_clash(compilation, section);
        ASSERT(index < count);
        listeners[index] = (struct generation_listener){
            .name = builder_text(&compilation->builder, section_text(section, KEY_LISTENER_NAME)),
            .text =
                builder_text(&compilation->builder, section_text(section, KEY_LISTENER_ADDRESS)),
            .address = address == NULL ? (struct address){0} : address->address,
            .socket_mode = socket_mode(compilation, section, address),
            .tls = compile_tls_listener(compilation, section),
            .hsts = compile_listener_hsts(compilation, section),
            .h2c = section_number32(section, KEY_LISTENER_H2C),
            .trusted_proxies = compile_networks(compilation, section, KEY_LISTENER_TRUSTED_PROXIES),
            .proxied = compile_networks(compilation, section_child(section, BLOCK_PROXY_PROTOCOL),
                                        KEY_PROXY_PROTOCOL_FROM),
            .forwarded = section_number32(section, KEY_LISTENER_FORWARDED),
            .place = compile_place(compilation, section->position),
        };
        compile_redirect_https(compilation, section, &listeners[index]);
        index++;
    }
    compilation->header.listeners =
        builder_array(&compilation->builder, listeners, sizeof(*listeners), index);
    return true;
}
