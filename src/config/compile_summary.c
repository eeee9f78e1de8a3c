#include <inttypes.h>

#include "config/certificate.h"
#include "config/compile.h"
#include "config/schema.h"
#include "http/message.h"

/* The methods with a bit in a mask, in the order of the enum. */
static const char *const method_names[] = {
    [METHOD_OTHER] = "",          [METHOD_GET] = "GET",         [METHOD_HEAD] = "HEAD",
    [METHOD_POST] = "POST",       [METHOD_PUT] = "PUT",         [METHOD_DELETE] = "DELETE",
    [METHOD_CONNECT] = "CONNECT", [METHOD_OPTIONS] = "OPTIONS", [METHOD_TRACE] = "TRACE",
    [METHOD_PATCH] = "PATCH",
};

/* Writes a configured text so that it can neither hide nor steer the terminal. */
static void print_text(FILE *stream, const struct generation *generation, struct ref ref)
{
    struct span text = generation_text(generation, ref);
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < 0x20 || text.data[i] >= 0x7F) {
            (void)fprintf(stream, "\\x%02X", text.data[i]);
        } else {
            (void)fputc(text.data[i], stream);
        }
    }
}

static void print_named(FILE *stream, const struct generation *generation, const char *kind,
                        struct ref name)
{
    (void)fprintf(stream, "%s \"", kind);
    print_text(stream, generation, name);
    (void)fputc('"', stream);
}

static void print_server(FILE *stream, const struct generation *generation)
{
    char text[ADDRESS_TEXT_MAX] = "off";
    const struct generation_server *server = &generation->header->server;
    if (server->admin.family != ADDRESS_NONE) {
        (void)address_print(&server->admin, text);
    }
    (void)fprintf(stream, "%u worker%s, %u connections, admin %s\n", server->workers,
                  server->workers == 1 ? "" : "s", server->connections, text);
    if (server->account.change != 0) {
        (void)fprintf(stream, "started as root: the processes become user %u, group %u\n",
                      server->account.user, server->account.group);
    }
    (void)fputs("pid file ", stream);
    print_text(stream, generation, server->pid_file);
    (void)fputs("\ncontrol socket ", stream);
    print_text(stream, generation, server->control_socket);
    if (server->control_group != ACCOUNT_NO_GROUP) {
        (void)fprintf(stream, ", group %u", server->control_group);
    }
    (void)fputc('\n', stream);
}

/* ` with TLS 1.2 to 1.3, h2, http/1.1`, or nothing. */
static void print_tls(FILE *stream, const struct generation *generation,
                      const struct generation_listener *listener)
{
    static const char *const versions[] = {[TLS_VERSION_1_2] = "1.2", [TLS_VERSION_1_3] = "1.3"};
    static const char *const protocols[] = {[ALPN_HTTP2] = "h2", [ALPN_HTTP1] = "http/1.1"};
    static const char *const clients[] = {[CLIENT_AUTH_OFF] = "",
                                          [CLIENT_AUTH_OPTIONAL] = ", client certificates optional",
                                          [CLIENT_AUTH_REQUIRED] =
                                              ", client certificates required"};
    if (listener->tls == GENERATION_NONE) {
        return;
    }
    const struct generation_tls_server *server = generation_tls_server(generation, listener->tls);
    const uint32_t *alpn = generation_array(generation, server->alpn);
    (void)fprintf(stream, " with TLS %s", versions[server->version_min]);
    if (server->version_min != server->version_max) {
        (void)fprintf(stream, " to %s", versions[server->version_max]);
    }
    for (uint32_t i = 0; i < server->alpn.count; i++) {
        (void)fprintf(stream, ", %s", protocols[alpn[i]]);
    }
    (void)fputs(clients[server->client_auth], stream);
    (void)fputs(server->forward_client != 0 ? " and told upstreams" : "", stream);
}

static void print_listeners(FILE *stream, const struct generation *generation)
{
    char text[ADDRESS_TEXT_MAX];
    for (uint32_t i = 0; i < generation->header->listeners.count; i++) {
        const struct generation_listener *listener = generation_listener(generation, i);
        print_named(stream, generation, "listener", listener->name);
        (void)fputs(" on ", stream);
        if (listener->address.family == ADDRESS_UNIX) {
            print_text(stream, generation, listener->text);
            (void)fprintf(stream, " (mode %04o)", listener->socket_mode);
        } else {
            (void)address_print(&listener->address, text);
            (void)fputs(text, stream);
        }
        print_tls(stream, generation, listener);
        (void)fputc('\n', stream);
    }
}

/* What is shown to peers: names, key, end. */
static void print_certificates(FILE *stream, const struct generation *generation, uint64_t now)
{
    char date[CERTIFICATE_DATE_MAX];
    for (uint32_t i = 0; i < generation->header->certificates.count; i++) {
        const struct generation_certificate *certificate = generation_certificate(generation, i);
        const struct ref *names = generation_array(generation, certificate->names);
        uint64_t end = certificate->not_after;
        certificate_print_date(end, date);
        print_named(stream, generation, "certificate", certificate->file);
        (void)fprintf(stream, ", %s %u, %s %s",
                      certificate_key_name((enum generation_key_type)certificate->key_type),
                      certificate->key_bits, end > now ? "until" : "EXPIRED on", date);
        if (end > now) {
            (void)fprintf(stream, " (%" PRIu64 " days)", (end - now) / 86400);
        }
        (void)fputs(certificate->ocsp.count > 0 ? ", with OCSP response:" : ":", stream);
        if (certificate->names.count == 0) {
            (void)fputc(' ', stream);
            print_text(stream, generation, certificate->name);
        }
        for (uint32_t j = 0; j < certificate->names.count; j++) {
            (void)fputc(' ', stream);
            print_text(stream, generation, names[j]);
        }
        (void)fputc('\n', stream);
    }
}

static void print_upstreams(FILE *stream, const struct generation *generation)
{
    static const char *const checks[] = {
        [HEALTH_NONE] = "unchecked",
        [HEALTH_HTTP] = "checked by HTTP",
        [HEALTH_TCP] = "checked by TCP",
    };
    char text[ADDRESS_TEXT_MAX];
    for (uint32_t i = 0; i < generation->header->upstreams.count; i++) {
        const struct generation_upstream *upstream = generation_upstream(generation, i);
        print_named(stream, generation, "upstream", upstream->name);
        if (upstream->tls.on != 0) {
            (void)fputs(upstream->tls.skip_verify != 0 ? " with TLS, NOT VERIFIED" : " with TLS",
                        stream);
        }
        (void)fprintf(stream, ", %s:", checks[upstream->health]);
        for (uint32_t j = 0; j < upstream->endpoint_count; j++) {
            const struct generation_endpoint *endpoint =
                generation_endpoint(generation, upstream->endpoint_first + j);
            (void)fputc(' ', stream);
            if (endpoint->address.family == ADDRESS_UNIX) {
                print_text(stream, generation, endpoint->text);
            } else {
                (void)address_print(&endpoint->address, text);
                (void)fputs(text, stream);
            }
            if (endpoint->weight != 1) {
                (void)fprintf(stream, " (weight %u)", endpoint->weight);
            }
        }
        (void)fputc('\n', stream);
    }
}

static void print_methods(FILE *stream, const struct generation *generation,
                          const struct generation_rule *rule)
{
    const char *separator = " ";
    for (unsigned i = 1; i < sizeof(method_names) / sizeof(method_names[0]); i++) {
        if ((rule->method_mask >> i & 1u) != 0) {
            (void)fprintf(stream, "%s%s", separator, method_names[i]);
            separator = "|";
        }
    }
    const struct ref *names = generation_array(generation, rule->methods);
    for (uint32_t i = 0; i < rule->methods.count; i++) {
        (void)fputs(separator, stream);
        print_text(stream, generation, names[i]);
        separator = "|";
    }
}

static void print_condition(FILE *stream, const struct generation *generation,
                            const struct generation_condition *condition)
{
    static const char *const kinds[RULE_CONDITION_KINDS] = {
        [RULE_CONDITION_HEADER] = "header ",
        [RULE_CONDITION_QUERY] = "query ",
        [RULE_CONDITION_CERTIFICATE] = "with a client certificate",
        [RULE_CONDITION_NO_CERTIFICATE] = "without a client certificate",
        [RULE_CONDITION_SUBJECT] = "client-subject",
        [RULE_CONDITION_SAN] = "client-san",
        [RULE_CONDITION_FINGERPRINT] = "client-fingerprint",
    };
    (void)fputs(kinds[condition->kind], stream);
    print_text(stream, generation, condition->name);
    if (condition->present_only == 0) {
        (void)fputc('=', stream);
        print_text(stream, generation, condition->value);
    }
}

static void print_rule(FILE *stream, const struct generation *generation,
                       const struct generation_rule *rule)
{
    print_methods(stream, generation, rule);
    (void)fputc(' ', stream);
    if (rule->host_kind != RULE_HOST_ANY) {
        (void)fputs(rule->host_kind == RULE_HOST_SUFFIX ? "*" : "", stream);
        print_text(stream, generation, rule->host);
    }
    print_text(stream, generation, rule->path);
    if (rule->path_kind == RULE_PATH_ANY) {
        (void)fputs(rule->host_kind == RULE_HOST_ANY ? "everything" : "/...", stream);
    } else if (rule->path_kind == RULE_PATH_PREFIX) {
        (void)fputs(rule->path.count == 1 ? "..." : "[/...]", stream);
    }
    const struct generation_condition *conditions = generation_array(generation, rule->conditions);
    for (uint32_t i = 0; i < rule->conditions.count; i++) {
        bool is_alternative = i > 0 && conditions[i].group == conditions[i - 1].group;
        (void)fputs(is_alternative ? " or " : ", ", stream);
        print_condition(stream, generation, &conditions[i]);
    }
}

static void print_action(FILE *stream, const struct generation *generation,
                         const struct generation_route *route)
{
    switch (route->action) {
    case ACTION_UPSTREAM:
        print_named(stream, generation, "upstream",
                    generation_upstream(generation, route->upstream)->name);
        break;
    case ACTION_REDIRECT:
        (void)fprintf(stream, "redirect %u to ", route->status);
        print_text(stream, generation, route->location);
        break;
    default:
        (void)fprintf(stream, "respond %u", route->status);
        break;
    }
}

void compile_print_summary(FILE *stream, const struct generation *generation, uint64_t now)
{
    const struct generation_rule *rules = generation_array(generation, generation->header->rules);
    print_server(stream, generation);
    print_listeners(stream, generation);
    print_certificates(stream, generation, now);
    print_upstreams(stream, generation);
    (void)fputs("routes, in the order in which they are tried:\n", stream);
    for (uint32_t i = 0; i < generation->header->rules.count; i++) {
        const struct generation_route *route = generation_route(generation, rules[i].route);
        (void)fprintf(stream, "%5u ", i + 1);
        print_named(stream, generation, "", route->name);
        print_rule(stream, generation, &rules[i]);
        (void)fputs(" -> ", stream);
        print_action(stream, generation, route);
        (void)fputc('\n', stream);
    }
}
