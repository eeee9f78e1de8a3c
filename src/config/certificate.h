/*
 * Certificates, private keys and OCSP responses as the compiler sees them: read from the bytes of a
 * file, checked, and told what is wrong with them. Pure but for OpenSSL, which is used through what
 * AWS-LC has, too. Compiler process only. Nothing here prints a name that a certificate bears
 * unless it is one of visible ASCII.
 */
#ifndef SENTINEL_CONFIG_CERTIFICATE_H
#define SENTINEL_CONFIG_CERTIFICATE_H

#include "base/arena.h"
#include "base/span.h"
#include "base/status.h"
#include "config/generation.h"

struct x509_st;

enum {
    CERTIFICATE_FILE_MAX = 64 * 1024,          /* a certificate with its chain, maybe its key */
    CERTIFICATE_AUTHORITIES_MAX = 1024 * 1024, /* a bundle of CAs */
    CERTIFICATE_OCSP_MAX = 16 * 1024,
    CERTIFICATE_CHAIN_MAX = 10,
    CERTIFICATE_NAME_MAX = 255,
    FINDINGS_MAX = 12,
    FINDING_TEXT_MAX = 160,
};

enum finding_kind {
    FINDING_WARNING,
    FINDING_ERROR,
    FINDING_EXPIRED, /* how bad that is, who asks decides */
};

/* What is wrong, as the rest of a sentence that begins with the file's name. */
struct finding {
    enum finding_kind kind;
    char text[FINDING_TEXT_MAX];
    const char *help; /* static; NULL: none */
};

struct findings {
    uint32_t count; /* more than FINDINGS_MAX are dropped */
    struct finding items[FINDINGS_MAX];
};

enum certificate_use { CERTIFICATE_OF_SERVER, CERTIFICATE_OF_CLIENT };

/* A certificate with its chain. All zero: none. The texts are in the arena it was read into. */
struct certificate {
    struct x509_st *chain[CERTIFICATE_CHAIN_MAX]; /* itself first */
    uint32_t count;
    uint32_t key_type; /* enum generation_key_type */
    uint32_t key_bits;
    uint64_t not_before; /* seconds since 1970; at least 1 */
    uint64_t not_after;
    struct span name;   /* its first host name, else its common name; empty: it has neither */
    struct span *names; /* host names and addresses that it is for, lower case */
    uint32_t names_count;
};

/*
 * Reads and checks what a PEM file holds of certificates; anything else in it is passed over. Each
 * of these functions adds what it finds, and returns ERROR, having said why, when nothing can be
 * done with it; an error among the findings does not make that so. `now` is in seconds since 1970.
 */
NODISCARD enum status certificate_read(struct certificate *certificate, struct span pem,
                                       enum certificate_use use, uint64_t now, struct arena *arena,
                                       struct findings *findings);
void certificate_free(struct certificate *certificate); /* harmless on none */

/* The chain as PEM, in the arena; empty when it has no room. */
struct span certificate_pem(const struct certificate *certificate, struct arena *arena);

/*
 * Reads the private key that a PEM file holds, and sees whether it is this certificate's. *key is
 * PEM in the arena, which is the only place where bytes of it remain.
 */
NODISCARD enum status certificate_read_key(const struct certificate *certificate, struct span pem,
                                           struct arena *arena, struct span *key,
                                           struct findings *findings);

/*
 * Checks an OCSP response in DER: that it is of this certificate, and signed by who may. *until is
 * when it is not to be shown any more, in seconds since 1970. ERROR as well when it is too old,
 * which is a warning.
 */
NODISCARD enum status certificate_read_ocsp(const struct certificate *certificate, struct span der,
                                            uint64_t now, uint64_t *until,
                                            struct findings *findings);

/*
 * Reads a bundle of CAs; *text is PEM of all of them, in the arena. None at all is an error, and so
 * is none that signs itself: chains end nowhere else.
 */
NODISCARD enum status certificate_read_authorities(struct span pem, uint64_t now,
                                                   struct arena *arena, struct span *text,
                                                   struct findings *findings);

/*
 * Whether names of a certificate stand for all hosts of a pattern (a host, or `*.` and a host),
 * both in lower case. A `*` of a certificate stands for one label (RFC 9525, 6.3).
 */
bool certificate_names_cover(const struct span *names, uint32_t count, struct span pattern);

/* Adds a finding. help is static, or NULL. */
void findings_add(struct findings *findings, enum finding_kind kind, const char *help,
                  const char *format, ...) PRINTF_LIKE(4, 5);

/* How a kind of key is called, "ECDSA". Static. */
const char *certificate_key_name(enum generation_key_type type);

/* Seconds as a date, `2026-11-24`, NUL-terminated. */
enum { CERTIFICATE_DATE_MAX = 16 };
void certificate_print_date(uint64_t seconds, char text[CERTIFICATE_DATE_MAX]);

#endif
