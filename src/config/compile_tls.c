#include "base/assert.h"
#include "config/compile_certificate.h"
#include "config/compile_parts.h"

enum { LISTENERS_MAX = 64, SHOWN_MAX = 3 };

static_assert(SHOWN_MAX == (int)CERTIFICATE_KEY_TYPES, "one certificate of each kind of key");

/* Choices are written as their index, so the table and the enums must agree. */
static_assert(TLS_VERSION_1_2 == 0 && TLS_VERSION_1_3 == 1, "the choices of min-version");
static_assert(ALPN_HTTP2 == 0 && ALPN_HTTP1 == 1 && ALPN_COUNT == 2, "the choices of alpn");
static_assert(CLIENT_AUTH_OFF == 0 && CLIENT_AUTH_OPTIONAL == 1 && CLIENT_AUTH_REQUIRED == 2,
              "the choices of client-auth");
static_assert(UPSTREAM_HTTP_AUTO == 0 && UPSTREAM_HTTP_1 == 1 && UPSTREAM_HTTP_2 == 2,
              "the choices of http-version");

struct compile_tls {
    struct certificate_set *certificates;
    struct generation_tls_server servers[LISTENERS_MAX];
    uint32_t count;
};

/* What is needed once there is TLS; NULL, with no_room set, when the arena is full. */
static struct compile_tls *tls_of(struct compilation *compilation)
{
    if (compilation->tls == NULL) {
        struct compile_tls *tls = compile_scratch(compilation, 1, sizeof(*tls));
        if (tls == NULL || (tls->certificates = certificate_set_create(compilation)) == NULL) {
            compilation->no_room = true;
            return NULL;
        }
        compilation->tls = tls;
    }
    return compilation->tls;
}

/* ---- Certificates of a place ---- */

/* The keys of the three blocks named `certificate`. */
struct certificate_keys {
    enum schema_block_id block;
    enum schema_key_id file;
    enum schema_key_id key;
    enum schema_key_id ocsp; /* SCHEMA_KEYS: it has none */
    enum certificate_use use;
};

static const struct certificate_keys default_keys = {BLOCK_CERTIFICATE, KEY_CERTIFICATE_FILE,
                                                     KEY_CERTIFICATE_KEY, KEY_CERTIFICATE_OCSP,
                                                     CERTIFICATE_OF_SERVER};
static const struct certificate_keys host_keys = {BLOCK_HOST_CERTIFICATE, KEY_HOST_CERTIFICATE_FILE,
                                                  KEY_HOST_CERTIFICATE_KEY,
                                                  KEY_HOST_CERTIFICATE_OCSP, CERTIFICATE_OF_SERVER};
static const struct certificate_keys upstream_keys = {
    BLOCK_UPSTREAM_CERTIFICATE, KEY_UPSTREAM_CERTIFICATE_FILE, KEY_UPSTREAM_CERTIFICATE_KEY,
    SCHEMA_KEYS, CERTIFICATE_OF_CLIENT};

/* The certificate of one section, or NULL where it is refused, which was reported. */
static const struct certificate_entry *take_certificate(struct compilation *compilation,
                                                        const struct section *section,
                                                        const struct certificate_keys *keys)
{
    struct certificate_request request = {
        .file = section_value(section, keys->file),
        .key = section_value(section, keys->key),
        .ocsp = keys->ocsp == SCHEMA_KEYS ? NULL : section_value(section, keys->ocsp),
        .use = keys->use,
    };
    if (request.file == NULL) {
        return NULL;
    }
    return certificate_set_take(compilation, compilation->tls->certificates, &request);
}

/* What a place shows. */
struct shown {
    const struct certificate_entry *entries[SHOWN_MAX];
    uint32_t indexes[SHOWN_MAX];
    uint32_t count;
};

static void refuse_second_kind(struct compilation *compilation, const struct section *section,
                               enum schema_key_id file)
{
    COMPILE_ERROR(compilation, section_value(section, file)->position,
                  "put it into a `host` block with the hosts that it is for",
                  "there is a certificate of this kind of key here already");
}

/* All certificates of a section; false where one was refused. */
static bool take_shown(struct compilation *compilation, const struct section *parent,
                       const struct certificate_keys *keys, struct shown *shown)
{
    bool good = true;
    const struct section *section = section_child(parent, keys->block);
    for (; section != NULL; section = section_next(section)) {
        const struct certificate_entry *entry = take_certificate(compilation, section, keys);
        bool is_second = false;
        for (uint32_t i = 0; entry != NULL && i < shown->count; i++) {
            is_second |= shown->entries[i]->key_type == entry->key_type;
        }
        if (is_second) {
            refuse_second_kind(compilation, section, keys->file);
        }
        if (entry == NULL || is_second) {
            good = false;
            continue;
        }
        ASSERT(shown->count < SHOWN_MAX);
        shown->entries[shown->count] = entry;
        shown->indexes[shown->count++] = entry->index;
    }
    return good;
}

/* ---- Hosts ---- */

/* Reports a pattern that an earlier host block of the listener has; the first one stays. */
static bool is_new_pattern(struct compilation *compilation, const struct section *tls,
                           const struct setting_value *pattern)
{
    char help[COMPILE_HELP_MAX];
    const struct section *host = section_child(tls, BLOCK_TLS_HOST);
    for (; host != NULL; host = section_next(host)) {
        const struct setting *names = section_setting(host, KEY_TLS_HOST_NAMES);
        const struct setting_value *value = names == NULL ? NULL : names->values;
        for (; value != NULL; value = value->next) {
            if (value == pattern) {
                return true;
            }
            if (!value->bad && span_equal(value->text, pattern->text)) {
                (void)snprintf(help, sizeof(help), "it stands at %.*s:%u:%u",
                               SPAN_ARGS(value->position.source->name), value->position.line,
                               value->position.column);
                COMPILE_ERROR(compilation, pattern->position, help,
                              "the host \"%.*s\" has its certificates already",
                              SPAN_ARGS(pattern->text));
                return false;
            }
        }
    }
    UNREACHABLE("a pattern of this block");
}

/* A client that names the host would refuse a certificate that is not for it. */
static void check_covered(struct compilation *compilation, const struct shown *shown,
                          const struct setting_value *pattern)
{
    for (uint32_t i = 0; i < shown->count; i++) {
        const struct certificate_entry *entry = shown->entries[i];
        if (!certificate_names_cover(entry->names, entry->names_count, pattern->text)) {
            COMPILE_WARNING(compilation, pattern->position,
                            "clients will refuse it; a * in a certificate stands for one label",
                            "%.*s is not for \"%.*s\"", SPAN_ARGS(entry->file),
                            SPAN_ARGS(pattern->text));
        }
    }
}

static struct ref compile_shown(struct compilation *compilation, const struct shown *shown)
{
    return builder_array(&compilation->builder, shown->indexes, sizeof(shown->indexes[0]),
                         shown->count);
}

static uint32_t count_patterns(const struct section *tls)
{
    uint32_t count = 0;
    const struct section *host = section_child(tls, BLOCK_TLS_HOST);
    for (; host != NULL; host = section_next(host)) {
        const struct setting *names = section_setting(host, KEY_TLS_HOST_NAMES);
        count += names == NULL ? 0 : (uint32_t)names->count;
    }
    return count;
}

/* The hosts of one block; their number. */
static uint32_t compile_host(struct compilation *compilation, const struct section *tls,
                             const struct section *host, struct generation_tls_host *hosts)
{
    struct shown shown = {0};
    uint32_t count = 0;
    bool good = take_shown(compilation, host, &host_keys, &shown);
    struct ref certificates = compile_shown(compilation, &shown);
    const struct setting *names = section_setting(host, KEY_TLS_HOST_NAMES);
    const struct setting_value *value = names == NULL ? NULL : names->values;
    for (; value != NULL; value = value->next) {
        if (value->bad || !is_new_pattern(compilation, tls, value)) {
            continue;
        }
        struct span text = value->text;
        if (good) {
            check_covered(compilation, &shown, value);
        }
        hosts[count++] = (struct generation_tls_host){
            .pattern = builder_text(&compilation->builder,
                                    span_starts_with(text, SPAN("*")) ? span_from(text, 1) : text),
            .certificates = certificates,
        };
    }
    return count;
}

static struct ref compile_hosts(struct compilation *compilation, const struct section *tls)
{
    uint32_t count = 0;
    struct generation_tls_host *hosts =
        compile_scratch(compilation, count_patterns(tls), sizeof(*hosts));
    const struct section *host = section_child(tls, BLOCK_TLS_HOST);
    for (; hosts != NULL && host != NULL; host = section_next(host)) {
        count += compile_host(compilation, tls, host, hosts + count);
    }
    return hosts == NULL ? (struct ref){0}
                         : builder_array(&compilation->builder, hosts, sizeof(*hosts), count);
}

/* ---- A listener ---- */

static struct ref compile_alpn(struct compilation *compilation, const struct section *tls)
{
    uint32_t protocols[ALPN_COUNT];
    uint32_t count = 0;
    const struct setting *setting = section_setting(tls, KEY_TLS_ALPN);
    const struct setting_value *value = setting == NULL ? NULL : setting->values;
    for (; value != NULL; value = value->next) {
        bool is_second = count > 0 && protocols[0] == (uint32_t)value->number;
        if (value->bad) {
            continue;
        }
        if (count == ALPN_COUNT || is_second) {
            COMPILE_ERROR(compilation, value->position, NULL, "`alpn` names \"%.*s\" twice",
                          SPAN_ARGS(value->text));
        } else {
            protocols[count++] = (uint32_t)value->number;
        }
    }
    for (uint32_t i = 0; setting == NULL && i < ALPN_COUNT; i++) {
        protocols[count++] = i;
    }
    return builder_array(&compilation->builder, protocols, sizeof(protocols[0]), count);
}

static void compile_versions(struct compilation *compilation, const struct section *tls,
                             struct generation_tls_server *server)
{
    server->version_min = section_number32(tls, KEY_TLS_MIN_VERSION);
    server->version_max = section_number32(tls, KEY_TLS_MAX_VERSION);
    if (server->version_min > server->version_max) {
        COMPILE_ERROR(compilation, section_setting(tls, KEY_TLS_MAX_VERSION)->values->position,
                      NULL, "`max-version` is below `min-version`");
    }
}

/* Without a bundle of those who sign them, certificates of clients would be worth nothing. */
static void compile_client_auth(struct compilation *compilation, const struct section *tls,
                                struct generation_tls_server *server)
{
    const struct section *section = section_child(tls, BLOCK_CLIENT_AUTH);
    const struct setting_value *mode = section_value(section, KEY_CLIENT_AUTH_MODE);
    const struct setting_value *ca = section_value(section, KEY_CLIENT_AUTH_CA);
    if (mode == NULL) {
        return;
    }
    server->client_auth = (uint32_t)mode->number;
    if (mode->number == CLIENT_AUTH_OFF) {
        compile_refuse_setting(compilation, section, KEY_CLIENT_AUTH_CA,
                               "client certificates are off");
        compile_refuse_setting(compilation, section, KEY_CLIENT_AUTH_FORWARD,
                               "client certificates are off");
    } else if (section_setting(section, KEY_CLIENT_AUTH_CA) == NULL) {
        COMPILE_ERROR(compilation, mode->position,
                      "for example: client-auth \"required\" ca=\"clients.pem\"",
                      "`client-auth` lacks its `ca`: nobody's certificate could be believed");
    } else if (ca != NULL) {
        server->client_ca = certificate_set_bundle(compilation, compilation->tls->certificates, ca);
        server->forward_client = section_number32(section, KEY_CLIENT_AUTH_FORWARD);
    }
}

/* False where there is no TLS to compile; that it does not go with the protocol was reported. */
static bool check_protocol(struct compilation *compilation, const struct section *listener,
                           const struct section *tls)
{
    const struct setting_value *protocol = section_value(listener, KEY_LISTENER_PROTOCOL);
    bool is_https = protocol != NULL && span_equal(protocol->text, SPAN("https"));
    if (is_https && tls == NULL) {
        COMPILE_ERROR(compilation, protocol->position,
                      "for example: tls { certificate \"example.pem\" key=\"example.key\" }",
                      "a listener of \"https\" needs a `tls` with a certificate");
    } else if (!is_https && tls != NULL) {
        COMPILE_ERROR(compilation, tls->position, "add: protocol \"https\"",
                      "`tls` has no effect on a listener of \"http\"");
    }
    return tls != NULL;
}

uint32_t compile_tls_listener(struct compilation *compilation, const struct section *listener)
{
    const struct section *section = section_child(listener, BLOCK_TLS);
    if (!check_protocol(compilation, listener, section) ||
        compilation->validator.environment->read_file == NULL) {
        return GENERATION_NONE;
    }
    struct compile_tls *tls = tls_of(compilation);
    if (tls == NULL) {
        return GENERATION_NONE;
    }
    struct shown shown = {0};
    struct generation_tls_server server = {
        .session_tickets = section_number32(section, KEY_TLS_SESSION_TICKETS),
    };
    bool taken = take_shown(compilation, section, &default_keys, &shown);
    server.certificates = compile_shown(compilation, &shown);
    server.hosts = compile_hosts(compilation, section);
    if (taken && shown.count == 0 && section_child(section, BLOCK_TLS_HOST) == NULL) {
        COMPILE_ERROR(compilation, section->position,
                      "for example: certificate \"example.pem\" key=\"example.key\"",
                      "`tls` lacks a `certificate`");
    }
    compile_versions(compilation, section, &server);
    server.alpn = compile_alpn(compilation, section);
    compile_client_auth(compilation, section, &server);
    ASSERT(tls->count < LISTENERS_MAX); /* the table allows no more */
    tls->servers[tls->count] = server;
    return tls->count++;
}

/* ---- An upstream ---- */

static void compile_trust(struct compilation *compilation, const struct section *section,
                          struct generation_upstream_tls *tls)
{
    const struct setting *skip = section_setting(section, KEY_UPSTREAM_TLS_SKIP_VERIFY);
    tls->skip_verify = section_number32(section, KEY_UPSTREAM_TLS_SKIP_VERIFY);
    if (tls->skip_verify != 0) {
        COMPILE_WARNING(compilation, skip->position, "for tests; give the endpoints' CA as `ca`",
                        "INSECURE: certificates of these endpoints are not verified; whoever is "
                        "on the way can read and change everything");
        compile_refuse_setting(compilation, section, KEY_UPSTREAM_TLS_CA, "nothing is verified");
        return;
    }
    if (section_setting(section, KEY_UPSTREAM_TLS_CA) == NULL) {
        tls->ca =
            certificate_set_system(compilation, compilation->tls->certificates, section->position);
        return;
    }
    const struct setting_value *ca = section_value(section, KEY_UPSTREAM_TLS_CA);
    if (ca != NULL) {
        tls->ca = certificate_set_bundle(compilation, compilation->tls->certificates, ca);
    }
}

void compile_tls_upstream(struct compilation *compilation, const struct section *section,
                          struct generation_upstream *upstream)
{
    const struct environment *environment = compilation->validator.environment;
    const struct section *block = section_child(section, BLOCK_UPSTREAM_TLS);
    if (block == NULL || environment->read_file == NULL || tls_of(compilation) == NULL) {
        return;
    }
    struct span name = section_text(block, KEY_UPSTREAM_TLS_SERVER_NAME);
    upstream->tls.on = 1;
    upstream->tls.server_name = builder_text(&compilation->builder, name);
    compile_trust(compilation, block, &upstream->tls);
    const struct section *certificate = section_child(block, BLOCK_UPSTREAM_CERTIFICATE);
    if (certificate != NULL) {
        const struct certificate_entry *entry =
            take_certificate(compilation, certificate, &upstream_keys);
        upstream->tls.certificate = entry == NULL ? GENERATION_NONE : entry->index;
        if (entry != NULL && upstream->health != HEALTH_NONE) {
            environment->secrets->is_checks[entry->index] = true;
        }
    }
}

bool compile_tls_finish(struct compilation *compilation)
{
    const struct compile_tls *tls = compilation->tls;
    if (tls != NULL) {
        compilation->header.certificates = certificate_set_finish(compilation, tls->certificates);
        compilation->header.tls_servers =
            builder_array(&compilation->builder, tls->servers, sizeof(tls->servers[0]), tls->count);
    }
    return !compilation->no_room;
}
