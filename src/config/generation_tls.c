/*
 * The records of TLS under examination. The certificates themselves are not read again: what is
 * wrong with them inside, the TLS library of whoever uses them finds.
 */
#include "config/generation_check.h"
#include "config/validate_text.h"

static bool is_certificates(struct span text)
{
    return span_starts_with(text, SPAN("-----BEGIN CERTIFICATE-----\n"));
}

/* A host, or a suffix of hosts with its dot; where it is matched it has been made lower case. */
static bool is_pattern(struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] != ascii_lower(text.data[i])) {
            return false;
        }
    }
    return text.size > 0 && text_is_field_value(text) && !span_equal(text, SPAN("."));
}

static bool check_certificate(const struct generation_check *check,
                              const struct generation_certificate *certificate)
{
    return generation_check_text_as(check, certificate->name, text_is_field_value) &&
           certificate->name.count > 0 &&
           generation_check_text_as(check, certificate->file, text_has_no_nul) &&
           certificate->file.count > 0 && generation_check_texts(check, certificate->names) &&
           generation_check_text_as(check, certificate->chain, is_certificates) &&
           generation_check_text(check, certificate->ocsp) &&
           (certificate->ocsp.count > 0) == (certificate->ocsp_until > 0) &&
           certificate->key_type < CERTIFICATE_KEY_TYPES && certificate->not_before > 0 &&
           certificate->not_after > certificate->not_before &&
           certificate->not_after <= INT64_MAX && generation_check_place(check, certificate->place);
}

static bool check_certificates(const struct generation_check *check)
{
    struct ref ref = check->header->certificates;
    if (ref.count > GENERATION_CERTIFICATES_MAX ||
        !GENERATION_CHECK_ARRAY(check, ref, struct generation_certificate)) {
        return false;
    }
    const struct generation_certificate *certificates = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (!check_certificate(check, &certificates[i])) {
            return false;
        }
    }
    return true;
}

/* What one host is shown: the kind of key chooses among them, so no kind is there twice. */
static bool check_shown(const struct generation_check *check, struct ref ref)
{
    if (ref.count > CERTIFICATE_KEY_TYPES || !GENERATION_CHECK_ARRAY(check, ref, uint32_t)) {
        return false;
    }
    const uint32_t *shown = (const void *)(check->base + ref.offset);
    const struct generation_certificate *certificates =
        (const void *)(check->base + check->header->certificates.offset);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < ref.count; i++) {
        if (shown[i] >= check->header->certificates.count ||
            (seen & 1u << certificates[shown[i]].key_type) != 0) {
            return false;
        }
        seen |= 1u << certificates[shown[i]].key_type;
    }
    return true;
}

static bool check_hosts(const struct generation_check *check, struct ref ref)
{
    if (!GENERATION_CHECK_ARRAY(check, ref, struct generation_tls_host)) {
        return false;
    }
    const struct generation_tls_host *hosts = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (!generation_check_text_as(check, hosts[i].pattern, is_pattern) ||
            hosts[i].certificates.count == 0 || !check_shown(check, hosts[i].certificates)) {
            return false;
        }
    }
    return true;
}

static bool check_alpn(const struct generation_check *check, struct ref ref)
{
    if (ref.count == 0 || ref.count > ALPN_COUNT || !GENERATION_CHECK_ARRAY(check, ref, uint32_t)) {
        return false;
    }
    const uint32_t *protocols = (const void *)(check->base + ref.offset);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < ref.count; i++) {
        if (protocols[i] >= ALPN_COUNT || (seen & 1u << protocols[i]) != 0) {
            return false;
        }
        seen |= 1u << protocols[i];
    }
    return true;
}

/* A server that asks for certificates and knows nobody who signs them would let everyone in. */
static bool check_client_auth(const struct generation_check *check,
                              const struct generation_tls_server *server)
{
    return server->client_auth <= CLIENT_AUTH_REQUIRED &&
           generation_check_text_or_none(check, server->client_ca, is_certificates) &&
           (server->client_auth == CLIENT_AUTH_OFF) == (server->client_ca.count == 0) &&
           server->forward_client <= (server->client_auth != CLIENT_AUTH_OFF ? 1U : 0U) &&
           server->reserved == 0;
}

bool generation_check_tls(const struct generation_check *check)
{
    struct ref ref = check->header->tls_servers;
    if (!check_certificates(check) ||
        !GENERATION_CHECK_ARRAY(check, ref, struct generation_tls_server)) {
        return false;
    }
    const struct generation_tls_server *servers = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        const struct generation_tls_server *server = &servers[i];
        if (!check_shown(check, server->certificates) || !check_hosts(check, server->hosts) ||
            (server->certificates.count == 0 && server->hosts.count == 0) ||
            server->version_max > TLS_VERSION_1_3 || server->version_min > server->version_max ||
            !check_alpn(check, server->alpn) || !check_client_auth(check, server) ||
            !generation_check_boolean(server->session_tickets)) {
            return false;
        }
    }
    return true;
}

static bool check_no_upstream_tls(const struct generation_upstream_tls *tls)
{
    static const struct generation_upstream_tls none = {.certificate = GENERATION_NONE};
    return memcmp(tls, &none, sizeof(none)) == 0;
}

bool generation_check_upstream_tls(const struct generation_check *check,
                                   const struct generation_upstream *upstream)
{
    const struct generation_upstream_tls *tls = &upstream->tls;
    if (upstream->http_version > UPSTREAM_HTTP_2) {
        return false;
    }
    if (tls->on == 0) {
        return check_no_upstream_tls(tls);
    }
    return generation_check_boolean(tls->on) && generation_check_boolean(tls->skip_verify) &&
           generation_check_text_or_none(check, tls->ca, is_certificates) &&
           (tls->skip_verify != 0) == (tls->ca.count == 0) &&
           generation_check_text_or_none(check, tls->server_name, is_pattern) &&
           (tls->certificate < check->header->certificates.count ||
            tls->certificate == GENERATION_NONE) &&
           tls->reserved == 0;
}
