/*
 * The compiled configuration: one immutable, position-independent block of bytes that the compiler
 * process emits into a sealed memfd and every other process maps read-only. No text is parsed
 * after compilation. References are offsets from the block's start; generation_open checks every
 * one of them, every index and every enum, so that later reads need no checks.
 *
 * Records are plain structs of this build; `layout` refuses a block of any other. All times are
 * microseconds, all sizes bytes.
 */
#ifndef SENTINEL_CONFIG_GENERATION_H
#define SENTINEL_CONFIG_GENERATION_H

#include "base/address.h"
#include "base/span.h"
#include "base/status.h"

enum {
    GENERATION_SIZE_MAX = 64 * 1024 * 1024,
    GENERATION_SECURITY_MAX = 32, /* security fields of one response */
    GENERATION_CERTIFICATES_MAX = 1024,
    GENERATION_HEAD_ADDED = 3072, /* bytes that a head may grow by beside them on its way: Via,
                                     X-Forwarded-*, Host, Date, framing, the place of a redirect */
};

enum {
    GENERATION_STATUSES = 600,         /* below it a status has an access rate of its own */
    GENERATION_RATE_ONE = 1000000,     /* every record is kept */
    GENERATION_SERVICE_MAX = 255,      /* bytes of a service's name */
    GENERATION_CAPTURED_MAX = 16,      /* recorded fields of request and response together */
    GENERATION_CAPTURED_NAME_MAX = 64, /* bytes of the name of one */
};

#define GENERATION_MAGIC UINT64_C(0x31304e45475f4e53) /* "SN_GEN01" in memory */

/* count elements (bytes for text) at offset. Offset 0 with count 0 is the empty reference. */
struct ref {
    uint32_t offset;
    uint32_t count;
};

/* Where a thing stands in the configuration, for logs: `file:line`, never shown to clients. */
struct generation_place {
    struct ref file; /* text; empty for built-in configuration */
    uint32_t line;
    uint32_t reserved;
};

struct generation_limits {
    uint32_t header_fields;           /* fields in one head */
    uint32_t head_size;               /* bytes of one head, request line included */
    uint32_t request_line;            /* bytes */
    uint32_t connections_per_client;  /* one client address; IPv6 by /64 */
    uint32_t requests_per_connection; /* then the connection is closed after the response */
    uint32_t requests;                /* in flight, all workers */
    uint32_t handshakes;              /* under way, all workers */
    uint32_t upstream_connections;    /* all workers */
    uint32_t tunnels;                 /* open, all workers */
    uint32_t tunnels_per_client;      /* the same of one client address; IPv6 by /64 */
    uint32_t request_rate;            /* of one client, a second; 0: any */
    uint32_t request_burst;           /* of one client, at once; 0 without a rate */
    uint32_t splice_pipes;            /* all workers; 0: bodies are always copied */
    uint32_t http2_streams;           /* of one client connection at a time */
    uint32_t http2_window;            /* bytes that a peer may send ahead */
    uint32_t http2_glitches;          /* points: the budget of one connection */
    uint64_t http2_pool;              /* bytes per worker, where HTTP/2 is spoken */
    uint64_t buffer_pool;             /* bytes of body and head buffers per worker */
    uint64_t hold_pool;               /* bytes per worker, where a route buffers bodies */
};

struct generation_timeouts {
    uint64_t tls_handshake; /* from accept */
    uint64_t proxy_header;
    uint64_t request_head;
    uint64_t request_body_idle;
    uint64_t keep_alive;
    uint64_t response_write_idle;
    uint64_t connect;
    uint64_t queue;
    uint64_t continue_wait; /* for 100 Continue from the upstream, then the body is sent */
    uint64_t upstream_body_idle;
    uint64_t upstream_keep_alive;
    uint64_t tunnel_idle;           /* nothing in either direction */
    uint64_t tunnel_half_closed;    /* the same once one side has ended */
    uint64_t upstream_ping;         /* silence of an HTTP/2 connection, and the answer's time */
    uint64_t linger;                /* after an early close */
    uint64_t request_body_min_rate; /* bytes per second, judged after 10 s; 0: no minimum */
};

/* Whom the children become. */
struct generation_account {
    uint32_t change; /* boolean; false: they stay who started Sentinel, which is these */
    uint32_t user;
    uint32_t group;
    uint32_t reserved;
};

/* Members of an access record (observe/access_log.h), in the order of the key's choices. */
enum generation_access_field {
    ACCESS_FIELD_TIME,
    ACCESS_FIELD_REQUEST_ID,
    ACCESS_FIELD_CLIENT,
    ACCESS_FIELD_LISTENER,
    ACCESS_FIELD_ROUTE,
    ACCESS_FIELD_METHOD,
    ACCESS_FIELD_HOST,
    ACCESS_FIELD_PATH,
    ACCESS_FIELD_PROTOCOL,
    ACCESS_FIELD_STATUS,
    ACCESS_FIELD_REASON,
    ACCESS_FIELD_BYTES_IN,
    ACCESS_FIELD_BYTES_OUT,
    ACCESS_FIELD_UPSTREAM,
    ACCESS_FIELD_ENDPOINT,
    ACCESS_FIELD_ATTEMPTS,
    ACCESS_FIELD_QUEUE,
    ACCESS_FIELD_CONNECT,
    ACCESS_FIELD_FIRST_BYTE,
    ACCESS_FIELD_TOTAL,
    ACCESS_FIELD_PLACE,
    ACCESS_FIELD_HINT,
    ACCESS_FIELD_DETAIL,
    ACCESS_FIELD_USUAL, /* so many stand in a record where nothing else is said */
    ACCESS_FIELD_TLS_VERSION = ACCESS_FIELD_USUAL,
    ACCESS_FIELD_TLS_CIPHER,
    ACCESS_FIELD_TLS_RESUMED,
    ACCESS_FIELD_SNI,
    ACCESS_FIELD_CLIENT_SUBJECT,
    ACCESS_FIELD_CLIENT_FINGERPRINT,
    ACCESS_FIELD_CLIENT_VERIFIED,
    ACCESS_FIELD_GRPC_STATUS,
    ACCESS_FIELD_COUNT
};

/* What is not to be read in the log, a bit each, in the order of the key's choices. */
enum generation_access_redaction {
    ACCESS_REDACT_CLIENT,
    ACCESS_REDACT_HOST,
    ACCESS_REDACT_METHOD,
    ACCESS_REDACT_PATH,
    ACCESS_REDACT_QUERY,
    ACCESS_REDACT_REQUEST_ID,
    ACCESS_REDACT_COUNT
};

enum generation_access_format { ACCESS_JSON, ACCESS_COMBINED };

/* A field of a request or response that is recorded. */
struct generation_captured {
    struct ref name;   /* text, as configured */
    uint32_t field;    /* enum field_id */
    uint32_t redacted; /* boolean: only its presence is shown */
};

struct generation_access {
    uint32_t format;              /* enum generation_access_format */
    uint32_t redacted;            /* bits 1 << enum generation_access_redaction */
    struct ref fields;            /* uint32_t[]: enum generation_access_field, each once; JSON */
    struct ref rates;             /* uint32_t[GENERATION_STATUSES]: millionths of the records of a
                                     status that are kept, [0] without one; empty: all are */
    struct ref query_names;       /* struct ref[] of text, lower case: values are not shown */
    struct ref request_captured;  /* struct generation_captured[]; combined: Referer, User-Agent */
    struct ref response_captured; /* struct generation_captured[] */
};

struct generation_server {
    uint32_t workers;     /* resolved: at least 1 */
    uint32_t connections; /* max-connections, all workers */
    uint64_t shutdown_timeout;
    uint64_t memory_budget;              /* bytes; held by the compiler */
    struct address admin;                /* family ADDRESS_NONE: no admin listener */
    uint32_t merge_slashes;              /* boolean */
    struct generation_place admin_place; /* of its address; line 0 where it is not configured */
    struct ref admin_hosts; /* struct ref[] of text: further Host values that are allowed */
    struct ref access_log;  /* text: "stdout", "off" or an absolute path */
    struct generation_place access_log_place; /* line 0 where it is not configured */
    struct ref control_socket;                /* text: "off" or an absolute path */
    struct generation_place control_place;    /* line 0 where it is not configured */
    uint32_t flight_recorder;                 /* finished requests that each worker keeps; 0: off */
    uint32_t control_group;                   /* of the socket's file; UINT32_MAX: our own */
    struct ref pid_file;                      /* text: "off" or an absolute path */
    struct generation_place pid_file_place;   /* line 0 where it is not configured */
    struct generation_account account;
    struct generation_access access; /* what its records look like */
    struct generation_limits limits;
    struct generation_timeouts timeouts;
};

/* An index that names nothing. */
#define GENERATION_NONE UINT32_MAX

enum generation_key_type {
    CERTIFICATE_RSA,
    CERTIFICATE_ECDSA,
    CERTIFICATE_ED25519,
    CERTIFICATE_KEY_TYPES
};

/*
 * A certificate with its chain, all of it public. Its private key is the one of the same index in
 * the secrets block (config/secrets.h). A pair that several places name stands here once.
 */
struct generation_certificate {
    struct ref name;     /* text: its first host name, else its common name, else its file's name */
    struct ref file;     /* text: the path it was read from */
    struct ref names;    /* struct ref[] of text: host names it is for, lower case, `*.` as such */
    struct ref chain;    /* text: PEM of the certificate itself, then of the intermediate ones */
    struct ref ocsp;     /* bytes: the DER of its OCSP response; empty: none to staple */
    uint64_t ocsp_until; /* seconds since 1970: from then on it is not stapled; 0 without one */
    uint32_t key_type;   /* enum generation_key_type */
    uint32_t key_bits;   /* of an RSA modulus or of the curve */
    uint64_t not_before; /* seconds since 1970, at least 1 */
    uint64_t not_after;  /* the same; later than not_before */
    struct generation_place place;
};

enum generation_tls_version { TLS_VERSION_1_2, TLS_VERSION_1_3 };
enum generation_alpn { ALPN_HTTP2, ALPN_HTTP1, ALPN_COUNT };
enum generation_client_auth { CLIENT_AUTH_OFF, CLIENT_AUTH_OPTIONAL, CLIENT_AUTH_REQUIRED };

/* What a client that names such a host is shown. */
struct generation_tls_host {
    struct ref pattern;      /* text, lower case: a host, or a suffix that starts with its dot, for
                                all below it but not itself */
    struct ref certificates; /* uint32_t[]: see generation_tls_server */
};

/*
 * The TLS of one listener. A client that names a host is shown the certificates of that host, else
 * of the longest suffix that fits it, else the default ones, as is one that names none.
 */
struct generation_tls_server {
    struct ref certificates;  /* uint32_t[]: indexes of certificates, at most one of each key type;
                                 the default ones. Empty: a handshake without a name that is listed
                                 is refused (unrecognized_name) */
    struct ref hosts;         /* struct generation_tls_host[], each pattern once; not empty where
                                 there are no default certificates */
    uint32_t version_min;     /* enum generation_tls_version */
    uint32_t version_max;     /* the same, not less */
    struct ref alpn;          /* uint32_t[]: enum generation_alpn, the preferred one first */
    uint32_t client_auth;     /* enum generation_client_auth */
    uint32_t session_tickets; /* boolean */
    uint32_t forward_client;  /* boolean: upstreams are told of the client's certificate; false
                                 where client_auth is off */
    uint32_t reserved;
    struct ref client_ca; /* text: PEM of those who may have signed a client's certificate;
                             empty where client_auth is off. Equal bundles are one text, of one
                             offset */
};

/* TLS towards the endpoints of an upstream. */
struct generation_upstream_tls {
    uint32_t on;            /* boolean; all else is zero where it is false, but `certificate` */
    uint32_t skip_verify;   /* boolean: any certificate is believed */
    struct ref ca;          /* text: PEM of those who are trusted, as client_ca; empty where nothing
                               is verified */
    struct ref server_name; /* text: SNI, and what the certificate must be for; empty: each
                               endpoint's own host name, or its address, which is no SNI */
    uint32_t certificate;   /* what we show when asked, or GENERATION_NONE */
    uint32_t reserved;
};

enum generation_protocol { UPSTREAM_PROTOCOL_HTTP, UPSTREAM_PROTOCOL_GRPC };

enum generation_http_version {
    UPSTREAM_HTTP_AUTO, /* what the endpoint chooses by ALPN; without TLS HTTP/1.1 */
    UPSTREAM_HTTP_1,
    UPSTREAM_HTTP_2, /* without TLS with prior knowledge */
};

enum generation_forwarded { FORWARDED_X, FORWARDED_STANDARD, FORWARDED_BOTH };

struct generation_listener {
    struct ref name; /* text */
    struct ref text; /* text: the address as configured; of a Unix socket unix:/its/path */
    struct address address;
    uint32_t socket_mode;       /* of a Unix socket's file; 0 elsewhere */
    uint32_t tls;               /* index of a TLS server, or GENERATION_NONE */
    uint32_t h2c;               /* HTTP/2 without TLS, where a client begins with it */
    struct ref trusted_proxies; /* struct address_block[] */
    struct ref proxied;         /* struct address_block[]: who begins with a PROXY header */
    struct ref hsts;            /* text: of Strict-Transport-Security; empty: none is sent */
    uint32_t forwarded;         /* enum generation_forwarded */
    uint32_t redirect_status;   /* of a redirect of all requests to https; 0: there is none */
    uint32_t redirect_port;     /* where that leads; 0 without a redirect */
    uint32_t reserved;
    struct generation_place place;
};

enum generation_balancer { BALANCER_ROUND_ROBIN };
enum generation_health { HEALTH_NONE, HEALTH_HTTP, HEALTH_TCP, HEALTH_GRPC };

enum generation_send_proxy { SEND_PROXY_OFF, SEND_PROXY_1, SEND_PROXY_2 };

struct generation_upstream {
    struct ref name;           /* text */
    uint32_t balancer;         /* enum generation_balancer */
    uint32_t endpoint_first;   /* index into endpoints */
    uint32_t endpoint_count;   /* at least 1 */
    uint32_t health;           /* enum generation_health */
    struct ref health_path;    /* text, HEALTH_HTTP only */
    struct ref health_host;    /* text: the Host field of a check, not of HEALTH_TCP */
    struct ref health_service; /* text, HEALTH_GRPC only; empty: the server as a whole */
    uint64_t health_interval;
    uint64_t health_timeout;
    uint32_t health_rise; /* successes that make an endpoint healthy */
    uint32_t health_fall; /* failures that make it unhealthy */
    struct generation_upstream_tls tls;
    uint32_t http_version;        /* enum generation_http_version */
    uint32_t send_proxy_protocol; /* enum generation_send_proxy */
    struct generation_place place;
};

struct generation_endpoint {
    struct ref text; /* text: the target as printed in logs and metrics; unix:/its/path */
    struct ref host; /* text: the host name of the target; empty where it is an address */
    struct address address;
    uint32_t weight; /* 1 to 256 */
    uint32_t upstream;
    uint32_t reserved;
};

struct generation_field {
    struct ref name;  /* text, canonical spelling as configured */
    struct ref value; /* text */
};

enum generation_action { ACTION_UPSTREAM, ACTION_REDIRECT, ACTION_RESPOND };

struct generation_route {
    struct ref name;          /* text */
    uint32_t action;          /* enum generation_action */
    uint32_t upstream;        /* ACTION_UPSTREAM: index */
    uint32_t status;          /* ACTION_REDIRECT, ACTION_RESPOND */
    uint32_t keep_path;       /* ACTION_REDIRECT: append path and query of the request */
    struct ref location;      /* text, ACTION_REDIRECT */
    struct ref body;          /* text, ACTION_RESPOND */
    struct ref content_type;  /* text, ACTION_RESPOND */
    struct ref upstream_host; /* text: Host towards the upstream; empty keeps the client's */
    uint64_t timeout;         /* until the response head */
    uint64_t try_timeout;     /* of one attempt; 0: only `timeout` */
    uint64_t body_size;       /* max-body-size; 0: unlimited */
    uint64_t hold_request;    /* bytes collected before an attempt begins; like the next 0 where
                                 there is no upstream */
    uint64_t hold_response;   /* bytes taken ahead of the client */
    uint32_t attempts;        /* at least 1 */
    uint32_t allow_encoded_slash;
    uint32_t allow_encoded_backslash;
    uint32_t upstream_wins; /* the upstream's own security fields are kept */
    struct ref upgrades;    /* struct ref[] of text: protocols that a request may switch to */
    struct ref security;    /* struct generation_field[]: set on every response */
    struct ref hsts;        /* text: in place of the listener's; empty: that one */
    struct generation_place place;
};

/* The router's tables; src/route/router.h says how they are searched. */
enum rule_path { RULE_PATH_ANY, RULE_PATH_PREFIX, RULE_PATH_EXACT };
enum rule_host { RULE_HOST_ANY, RULE_HOST_SUFFIX, RULE_HOST_EXACT };

/* What a condition looks at. Those behind QUERY have no name. */
enum rule_condition_kind {
    RULE_CONDITION_HEADER,
    RULE_CONDITION_QUERY,
    RULE_CONDITION_CERTIFICATE,    /* the client has shown one, whatever it says; no value */
    RULE_CONDITION_NO_CERTIFICATE, /* it has not; no value */
    RULE_CONDITION_SUBJECT,        /* the whole subject, as in struct tls_certificate */
    RULE_CONDITION_SAN,            /* one of its names, as there */
    RULE_CONDITION_FINGERPRINT,    /* as there */
    RULE_CONDITION_KINDS
};

struct generation_condition {
    struct ref name;  /* text: field name (lower case) or query key */
    struct ref value; /* text; ignored where present_only */
    uint32_t present_only;
    uint32_t kind;  /* enum rule_condition_kind */
    uint32_t group; /* same kind and name in one match: alternatives, of which any may hold */
    uint32_t reserved;
};

/* One alternative of a route: one path and one host value of one `match`. Sorted, best first. */
struct generation_rule {
    uint32_t route;
    uint32_t path_kind;    /* enum rule_path */
    uint32_t host_kind;    /* enum rule_host */
    uint32_t method_mask;  /* bit per enum method; 0: any */
    struct ref path;       /* text; a prefix has no trailing slash but for "/" itself */
    struct ref host;       /* text, lower case; a suffix starts with its dot */
    struct ref methods;    /* struct ref[] of text: the other methods (METHOD_OTHER) by name */
    struct ref conditions; /* struct generation_condition[], grouped: by group in order */
    struct generation_place place;
};

/* One bucket of the open-addressed path index: rules with this path, a run in rule_lists. */
struct generation_bucket {
    uint32_t hash;
    uint32_t path_kind; /* RULE_PATH_ANY: the bucket is free */
    struct ref path;    /* text */
    struct ref rules;   /* uint32_t[]: indexes of rules, best first */
};

struct generation_header {
    uint64_t magic;
    uint32_t layout; /* sizeof all record types folded into one number */
    uint32_t size;   /* of the whole block */
    uint64_t number; /* of this generation, increasing */
    struct generation_server server;
    struct ref listeners;
    struct ref upstreams;
    struct ref endpoints;
    struct ref routes;
    struct ref rules;
    struct ref buckets;          /* power of two, at most half full */
    struct ref any_rules;        /* uint32_t[]: rules without a path, best first */
    struct ref default_security; /* struct generation_field[]: for answers without a route */
    struct ref certificates;     /* struct generation_certificate[], at most
                                    GENERATION_CERTIFICATES_MAX */
    struct ref tls_servers;      /* struct generation_tls_server[] */
};

/* An opened block. Borrowed: whoever mapped it unmaps it after the last reader. */
struct generation {
    const uint8_t *base;
    const struct generation_header *header;
};

/*
 * Checks the block completely (magic, layout, size, alignment, bounds, indexes, enums, ranges that
 * the workers rely on). The block must be 8-byte aligned and stay mapped and unchanged. False for
 * anything that this build's compiler could not have written; never reads outside the block.
 */
NODISCARD bool generation_open(struct generation *generation, struct span block);

/*
 * Whether every head within these limits fits the queue that it leaves by (BYTE_QUEUE_MAX), with a
 * path that was escaped anew, so many security fields, whose names and values are so many bytes,
 * and what else we add. Without security fields it does for all limits that the schema allows.
 */
bool generation_head_fits(const struct generation_limits *limits, size_t security_fields,
                          uint64_t security_bytes);

/* The layout number of this build, for whoever writes a block. */
uint32_t generation_layout(void);

/* Resolves text or an array. The reference must be from this generation. */
static inline struct span generation_text(const struct generation *generation, struct ref ref)
{
    return span_of(generation->base + ref.offset, ref.count);
}

/* Of an address as configured: the path of the Unix socket that it is; empty for all others. */
static inline struct span generation_unix_path(const struct generation *generation, struct ref text)
{
    struct span address = generation_text(generation, text);
    struct span kind = SPAN("unix:");
    return span_starts_with(address, kind) ? span_from(address, kind.size) : SPAN_EMPTY;
}

static inline const void *generation_array(const struct generation *generation, struct ref ref)
{
    return generation->base + ref.offset;
}

const struct generation_listener *generation_listener(const struct generation *, uint32_t index);
/* Whether any listener or upstream may speak HTTP/2: then workers need memory for it. */
bool generation_speaks_http2(const struct generation *);
/* Whether any route buffers bodies: then workers need memory for that. */
bool generation_buffers(const struct generation *);

/* Whether a route may switch protocols: clients of HTTP/2 are told then. */
bool generation_switches(const struct generation *);

const struct generation_upstream *generation_upstream(const struct generation *, uint32_t index);
const struct generation_endpoint *generation_endpoint(const struct generation *, uint32_t index);
const struct generation_route *generation_route(const struct generation *, uint32_t index);
const struct generation_certificate *generation_certificate(const struct generation *,
                                                            uint32_t index);
const struct generation_tls_server *generation_tls_server(const struct generation *,
                                                          uint32_t index);

#endif
