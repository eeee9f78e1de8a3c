/*
 * OCSP responses for stapling (RFC 6960, RFC 6066, 8): one that a client would not believe is worse
 * than none, since some then refuse the connection.
 */
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <time.h>

#include "config/certificate.h"

/* A response of no end is believed for so long. */
enum { DAY = 86400, CLOCKS_DIFFER = 300 };

/* Whether the one who issued the certificate signed it, or somebody whom he has made for that. */
static bool is_signed(OCSP_BASICRESP *basic, X509 *issuer, uint64_t now)
{
    X509_STORE *store = X509_STORE_new();
    STACK_OF(X509) *issuers = sk_X509_new_null();
    bool good = store != NULL && issuers != NULL && X509_STORE_add_cert(store, issuer) == 1 &&
                X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) == 1 &&
                sk_X509_push(issuers, issuer) > 0;
    if (good) {
        X509_VERIFY_PARAM_set_time(X509_STORE_get0_param(store), (time_t)now);
    }
    good = good && OCSP_basic_verify(basic, issuers, store, 0) == 1;
    sk_X509_free(issuers);
    X509_STORE_free(store);
    ERR_clear_error();
    return good;
}

static uint64_t seconds_of(const ASN1_GENERALIZEDTIME *time)
{
    struct tm date = {0};
    return time != NULL && ASN1_TIME_to_tm(time, &date) == 1 ? (uint64_t)timegm(&date) : 0;
}

/* What it says of the certificate. False, reported, where it is not to be shown. */
static bool check_status(OCSP_BASICRESP *basic, OCSP_CERTID *id, uint64_t now, uint64_t *until,
                         struct findings *findings)
{
    int status = V_OCSP_CERTSTATUS_UNKNOWN;
    int why = 0;
    ASN1_GENERALIZEDTIME *from = NULL;
    ASN1_GENERALIZEDTIME *next = NULL;
    if (OCSP_resp_find_status(basic, id, &status, &why, NULL, &from, &next) != 1) {
        findings_add(findings, FINDING_ERROR, "ask for one with openssl ocsp, for this certificate",
                     "is an OCSP response for another certificate");
        return false;
    }
    uint64_t begin = seconds_of(from);
    uint64_t end = next != NULL ? seconds_of(next) : begin + DAY;
    char date[CERTIFICATE_DATE_MAX];
    if (status == V_OCSP_CERTSTATUS_REVOKED) {
        findings_add(findings, FINDING_WARNING, "have the certificate issued anew",
                     "says that the certificate is revoked; it is not stapled");
        return false;
    }
    if (status != V_OCSP_CERTSTATUS_GOOD) {
        findings_add(findings, FINDING_WARNING, NULL,
                     "does not know the certificate; it is not stapled");
        return false;
    }
    if (end <= now || begin > now + CLOCKS_DIFFER) {
        certificate_print_date(end <= now ? end : begin, date);
        findings_add(findings, FINDING_WARNING,
                     "fetch a new one; see what should do that regularly",
                     end <= now ? "was good until %s; it is not stapled"
                                : "is not good before %s; it is not stapled",
                     date);
        return false;
    }
    *until = end;
    return true;
}

/* The certificate's issuer: the next one in its file, or itself. */
static X509 *issuer_of(const struct certificate *certificate)
{
    X509 *leaf = certificate->chain[0];
    if (certificate->count > 1 && X509_check_issued(certificate->chain[1], leaf) == X509_V_OK) {
        return certificate->chain[1];
    }
    return X509_check_issued(leaf, leaf) == X509_V_OK ? leaf : NULL;
}

static bool check_basic(const struct certificate *certificate, OCSP_BASICRESP *basic, uint64_t now,
                        uint64_t *until, struct findings *findings)
{
    X509 *issuer = issuer_of(certificate);
    if (issuer == NULL) {
        findings_add(findings, FINDING_ERROR, "put the issuer's certificate behind it in its file",
                     "cannot be checked: the certificate comes without the one that issued it");
        return false;
    }
    OCSP_CERTID *id = OCSP_cert_to_id(NULL, certificate->chain[0], issuer);
    bool good = id != NULL && check_status(basic, id, now, until, findings);
    OCSP_CERTID_free(id);
    if (good && !is_signed(basic, issuer, now)) {
        findings_add(findings, FINDING_ERROR, NULL,
                     "is not signed by who issued the certificate, nor for them");
        good = false;
    }
    return good;
}

enum status certificate_read_ocsp(const struct certificate *certificate, struct span der,
                                  uint64_t now, uint64_t *until, struct findings *findings)
{
    const unsigned char *at = der.data;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)der.size);
    OCSP_BASICRESP *basic = NULL;
    bool whole = response != NULL && at == der.data + der.size;
    if (whole && OCSP_response_status(response) == OCSP_RESPONSE_STATUS_SUCCESSFUL) {
        basic = OCSP_response_get1_basic(response);
    }
    ERR_clear_error();
    bool good = basic != NULL;
    if (!good) {
        findings_add(findings, FINDING_ERROR, "it is DER, as openssl ocsp -respout writes it",
                     whole ? "is an OCSP response of failure" : "is no OCSP response");
    }
    good = good && check_basic(certificate, basic, now, until, findings);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    return good ? OK : ERROR;
}
