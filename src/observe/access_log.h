/*
 * The access log's writing end: one record for every request, failures included, as one line,
 * formatted straight into the worker's ring; the logger process writes it out. It never blocks:
 * without room the record is dropped and counted. One per worker.
 *
 * What a line holds comes compiled in the generation (struct generation_access): a list of members,
 * a rate for each status, what is to be redacted, which header fields are recorded. In JSON these
 * are the members and their usual order; all are always there, and what is absent is null:
 *
 *   time request_id client listener route method host path protocol status reason bytes_in
 *   bytes_out upstream endpoint attempts queue_ms connect_ms first_byte_ms total_ms
 *
 * and only where `fields` names them, null on a connection without TLS:
 *
 *   tls_version tls_cipher tls_resumed sni client_subject client_fingerprint client_verified
 *
 * likewise grpc_status, null for what is no gRPC call, or said nothing of its outcome;
 *
 * and only where there is a reason: place (file:line of the route in the configuration) and hint;
 * only where it is a handshake that failed, and more is known of it: detail (net/tls_detail.def);
 * only where records are sampled: sample_rate; where fields are recorded: request_headers and
 * response_headers. Times are milliseconds with three decimals. Long texts are cut with a visible
 * mark, path at ACCESS_PATH_MAX escaped bytes, so that a line stays below ACCESS_LINE_MAX.
 *
 * The combined format is Apache's: client - - [time] "request line" status bytes "Referer"
 * "User-Agent", with its escapes. A request without an answer has status 499 there if the client
 * left, else 444, as nginx has it, since readers of the format want a number.
 *
 * Records that are written, left out by sampling and dropped add up to the requests counted.
 */
#ifndef SENTINEL_OBSERVE_ACCESS_LOG_H
#define SENTINEL_OBSERVE_ACCESS_LOG_H

#include "base/reason.h"
#include "http/grpc.h"
#include "http/message.h"
#include "net/tls_detail.h"
#include "observe/metrics.h"
#include "observe/ring.h"

enum {
    ACCESS_LINE_MAX = 16384, /* bytes of a line with its newline */
    ACCESS_PATH_MAX = 3072,
    ACCESS_HOST_MAX = 512,
    ACCESS_HEADER_MAX = 448, /* of a recorded field; several lines of it are joined */
    ACCESS_TEXT_MAX = 256,   /* of every other text */
    ACCESS_DATE_MAX = 28,
};

#define ACCESS_NO_TIME UINT64_MAX /* "this never happened", for the durations below */

/* Whether something is so, where it may be that the question has no sense. */
enum access_answer { ACCESS_NO_ANSWER, ACCESS_NO, ACCESS_YES };

/* Spans are borrowed for the call; NULL data means absent. Durations are microseconds. */
struct access_record {
    uint64_t time; /* microseconds since the Unix epoch: the request's begin */
    struct span request_id;
    struct span client; /* the address of the client, printed */
    struct span listener;
    struct span route;
    struct span method;
    struct span host;
    struct span path; /* as the client sent it, with the query */
    struct span protocol;
    struct span upstream;
    struct span endpoint;
    struct span place_file; /* where the route stands; empty: built-in */
    uint32_t place_line;
    uint16_t status; /* 0: no answer was sent */
    enum reason reason;
    enum tls_detail detail;       /* of a handshake, where one failed */
    enum grpc_status grpc_status; /* GRPC_STATUS_NONE: no call, or not known */
    uint32_t attempts;
    uint64_t bytes_in;  /* body bytes from the client */
    uint64_t bytes_out; /* body bytes to the client */
    uint64_t queue;
    uint64_t connect;
    uint64_t first_byte;
    uint64_t total;
    struct span tls_version;
    struct span tls_cipher;
    struct span sni;
    struct span client_subject;
    struct span client_fingerprint;
    enum access_answer tls_resumed;
    enum access_answer client_verified;   /* it has shown a certificate, which holds */
    const struct fields *request_fields;  /* as received; NULL: the head was none */
    const struct fields *response_fields; /* the upstream's; NULL: its response was not sent on */
};

struct access_log {
    struct ring_writer ring;
    struct metrics *metrics; /* borrowed: counts what is written, sampled out and dropped */
    bool enabled;
    bool tells_tls; /* a record has members that tell of TLS */
    const struct generation *generation;
    const struct generation_access *access;
    const uint32_t *fields; /* what follows: the arrays of `access`, resolved */
    const uint32_t *rates;  /* NULL: every record is kept */
    uint64_t second;        /* the one that `date` shows */
    uint8_t date[ACCESS_DATE_MAX];
    uint8_t scratch[ACCESS_PATH_MAX + 1]; /* a text while it is redacted or joined */
};

/* Bytes of ring memory: 0 where the generation says `access-log "off"`. */
size_t access_log_size(const struct generation *generation);

/* Whether records have members that tell of TLS. */
bool access_log_tells_tls(const struct generation *generation);

/*
 * Starts an empty log over memory of access_log_size bytes, aligned to 64; NULL: nothing is logged.
 * Memory, metrics and generation are borrowed; incarnation is the segment's (see ring.h).
 */
void access_log_init(struct access_log *log, void *memory, uint64_t incarnation,
                     struct metrics *metrics, const struct generation *generation);

/* Says where the logger publishes its cursor for this ring; NULL: there is no logger now. */
void access_log_attach(struct access_log *log, const _Atomic uint64_t *cursor);

/* KiB of records in the ring that the logger has not read; 0 without a log. */
uint32_t access_log_waiting(struct access_log *log);

/*
 * Writes the record, or counts it as sampled out (METRIC_ACCESS_LOG_SAMPLED) or dropped for want of
 * room (METRIC_ACCESS_LOG_DROPS).
 */
void access_log_write(struct access_log *log, const struct access_record *record);

#endif
