/*
 * What more is known of a failed handshake than its reason, as a number that goes into a record or
 * another process, and the constant text that it stands for (tls_detail.def). Pure: whoever prints
 * one needs no library of TLS.
 */
#ifndef SENTINEL_NET_TLS_DETAIL_H
#define SENTINEL_NET_TLS_DETAIL_H

enum tls_detail {
    TLS_DETAIL_NONE, /* nothing */
#define VERIFY(id, text) TLS_DETAIL_VERIFY_##id,
#define ALERT(id, number, name) TLS_DETAIL_ALERT_##id,
#define REASON(id, text) TLS_DETAIL_REASON_##id,
#include "net/tls_detail.def"
#undef VERIFY
#undef ALERT
#undef REASON
    TLS_DETAIL_COUNT
};

enum { TLS_DETAIL_TEXT_MAX = 80 };

/* Static, printable ASCII below TLS_DETAIL_TEXT_MAX bytes; empty for NONE. */
const char *tls_detail_text(enum tls_detail detail);

#endif
