/*
 * OpenSSL's word for what failed, as one of ours. Some of these reasons AWS-LC does not know.
 */
#include "net/tls_openssl.h"

static enum tls_detail of_certificate(long result)
{
    switch (result) {
#define VERIFY(id, text)                                                                           \
    case X509_V_ERR_##id:                                                                          \
        return TLS_DETAIL_VERIFY_##id;
#define ALERT(id, number, name)
#define REASON(id, text)
#include "net/tls_detail.def"
#undef VERIFY
#undef ALERT
#undef REASON
    default:
        return TLS_DETAIL_NONE;
    }
}

static enum tls_detail of_reason(int reason)
{
    switch (reason) {
#define VERIFY(id, text)
#define ALERT(id, number, name)                                                                    \
    case SSL_AD_REASON_OFFSET + (number):                                                          \
        return TLS_DETAIL_ALERT_##id;
#define REASON(id, text)                                                                           \
    case SSL_R_##id:                                                                               \
        return TLS_DETAIL_REASON_##id;
#include "net/tls_detail.def"
#undef VERIFY
#undef ALERT
#undef REASON
    default:
        return TLS_DETAIL_NONE;
    }
}

enum tls_detail tls_openssl_detail(unsigned long code, long verify_result)
{
    if (ERR_GET_LIB(code) != ERR_LIB_SSL) {
        return TLS_DETAIL_NONE;
    }
    int reason = ERR_GET_REASON(code);
    return reason == SSL_R_CERTIFICATE_VERIFY_FAILED ? of_certificate(verify_result)
                                                     : of_reason(reason);
}
