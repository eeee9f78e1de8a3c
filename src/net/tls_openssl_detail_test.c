/*
 * That the table of details says what OpenSSL means.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/x509_vfy.h>

#include "net/tls_openssl.h"

#define SSL_AD_USER_CANCELED SSL_AD_USER_CANCELLED /* the RFC's spelling is ours */

/* A row as it has to be: the library's error, what it is here, and the library's words for it. */
static void expect_row(unsigned long code, long result, enum tls_detail detail, const char *text)
{
    assert_int_equal(tls_openssl_detail(code, result), detail);
    assert_string_equal(tls_detail_text(detail), text);
    assert_in_range(strlen(text), 8, TLS_DETAIL_TEXT_MAX - 1);
    for (const char *byte = text; *byte != '\0'; byte++) {
        assert_in_range(*byte, 0x20, 0x7e);
    }
}

static unsigned long ssl_error(int reason)
{
    return ERR_PACK(ERR_LIB_SSL, 0, reason);
}

static void each_row_is_what_the_library_means_in_its_words(void **state)
{
    (void)state;
    assert_int_equal(OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS, NULL), 1);
#define VERIFY(id, text)                                                                           \
    expect_row(ssl_error(SSL_R_CERTIFICATE_VERIFY_FAILED), X509_V_ERR_##id,                        \
               TLS_DETAIL_VERIFY_##id, X509_verify_cert_error_string(X509_V_ERR_##id));
#define ALERT(id, number, name)                                                                    \
    expect_row(ssl_error(SSL_AD_REASON_OFFSET + (number)), X509_V_OK, TLS_DETAIL_ALERT_##id,       \
               "alert " name " (" #number ")");                                                    \
    assert_int_equal(number, SSL_AD_##id);
#define REASON(id, text)                                                                           \
    expect_row(ssl_error(SSL_R_##id), X509_V_OK, TLS_DETAIL_REASON_##id,                           \
               ERR_reason_error_string(ssl_error(SSL_R_##id)));
#include "net/tls_detail.def"
#undef VERIFY
#undef ALERT
#undef REASON
}

static void what_is_not_listed_has_no_detail(void **state)
{
    (void)state;
    const unsigned long failed = ssl_error(SSL_R_CERTIFICATE_VERIFY_FAILED);
    assert_int_equal(tls_openssl_detail(0, X509_V_OK), TLS_DETAIL_NONE);
    assert_int_equal(tls_openssl_detail(failed, X509_V_OK), TLS_DETAIL_NONE);
    assert_int_equal(tls_openssl_detail(failed, 1000), TLS_DETAIL_NONE);
    assert_int_equal(tls_openssl_detail(ssl_error(SSL_AD_REASON_OFFSET + 255), X509_V_OK),
                     TLS_DETAIL_NONE);
    /* Another library's reason of the same number is something else. */
    assert_int_equal(tls_openssl_detail(ERR_PACK(ERR_LIB_EVP, 0, SSL_R_NO_SHARED_CIPHER), 0),
                     TLS_DETAIL_NONE);
    assert_string_equal(tls_detail_text(TLS_DETAIL_NONE), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_is_what_the_library_means_in_its_words),
        cmocka_unit_test(what_is_not_listed_has_no_detail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
