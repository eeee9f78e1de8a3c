#include <stdio.h>
#include <string.h>

#include "base/reason.h"
#include "base/span.h"
#include "cli/cli.h"
#include "http/grpc.h"

static const char head[] =
    "# Errors\n"
    "\n"
    "Generated from `src/base/error.def` by `sentinel error-reference`; do not edit.\n"
    "\n"
    "Every request that fails has one reason, and the reason has one label. It stands\n"
    "\n"
    "- in the access log, as `reason`, beside the timers of the request and the line of the\n"
    "  configuration that holds its route;\n"
    "- in the metrics `sentinel_failures_total{reason}` and, for each attempt that was lost,\n"
    "  `sentinel_upstream_failures_total{upstream,reason}`;\n"
    "- in the answer to the client: `Proxy-Status: sentinel; error=TYPE; details=\"LABEL\"` (RFC\n"
    "  9209), and in its body. `X-Request-Id` there is the `request_id` of the log.\n"
    "\n"
    "An answer without `Proxy-Status` is the upstream's own, not Sentinel's.\n"
    "\n"
    "The body is JSON (`status`, `reason`, `message`, `request_id`), plain text or a page of "
    "HTML,\n"
    "as the client's `Accept` asks (RFC 9110, 12.5.1): the highest quality, then the more "
    "specific\n"
    "range, then what is named first, then JSON; JSON, too, where nothing fits. `Retry-After` "
    "comes\n"
    "with 429 and 503: what the limit says, else 1 to 5 seconds at random, so that clients that\n"
    "were refused together do not come back together.\n"
    "\n"
    "Status `-`: no answer can be sent, since the peer is gone or the response has begun; the\n"
    "client sees the connection cut. The log then shows the status that was sent, or null for\n"
    "none.\n";

static const char grpc_head[] =
    "\n"
    "## gRPC\n"
    "\n"
    "A gRPC call (POST with a content-type of `application/grpc`) is answered in gRPC's way: HTTP\n"
    "status 200, `grpc-status` and `grpc-message` as trailers in the head, `Proxy-Status` and\n"
    "`X-Request-Id` as ever. Log and metrics go on speaking of the HTTP status above; the log's\n"
    "member `grpc_status` and `sentinel_grpc_requests_total` have the other one. Where the "
    "response\n"
    "of the upstream had begun over HTTP/2 and is cut short, it ends with trailers of these fields "
    "and\n"
    "`Proxy-Status`; nothing but a reset is sent where it has a `content-length`, or to a client "
    "that "
    "is\n"
    "gone or does not read.\n"
    "\n"
    "| HTTP status | gRPC status |\n"
    "| --- | --- |\n";

static const char grpc_reasons[] =
    "| any other | 2 UNKNOWN |\n"
    "\n"
    "For these reasons it is another one, whatever their HTTP status. "
    "CANCELLED stands in the log\n"
    "only: there is nobody to be told.\n"
    "\n"
    "| reason | gRPC status |\n"
    "| --- | --- |\n";

static void print_grpc(void)
{
    (void)fputs(grpc_head, stdout);
#define GRPC_HTTP(status, id) (void)printf("| %d | %d " #id " |\n", status, GRPC_##id);
#include "http/grpc.def"
    (void)fputs(grpc_reasons, stdout);
#define GRPC_REASON(reason, id)                                                                    \
    (void)printf("| `%s` | %d " #id " |\n", reason_info(REASON_##reason)->label, GRPC_##id);
#include "http/grpc.def"
}

static void print_keys(const char *keys)
{
    struct span rest = span_of_string(keys);
    const char *comma = "";
    while (rest.size > 0) {
        size_t size = span_find(rest, ' ');
        (void)printf("%s`%.*s`", comma, SPAN_ARGS(span_first(rest, size)));
        rest = span_from(rest, size < rest.size ? size + 1 : size);
        comma = ", ";
    }
}

/* Texts are printable and hold no `|` or `<` (a test sees to it), so they are Markdown as it is. */
static void print_reason(enum reason reason)
{
    const struct reason_info *info = reason_info(reason);
    (void)printf("| `%s` | ", info->label);
    if (info->status == 0) {
        (void)fputs("-", stdout);
    } else {
        (void)printf("%u", (unsigned)info->status);
    }
    (void)printf(" | %s | %s | ", info->text, info->hint);
    print_keys(info->keys);
    (void)printf(" | `%s` |\n", info->proxy_status);
}

static void print_group(const char *title)
{
    (void)printf("\n## %s\n"
                 "\n"
                 "| reason | status | what happened | what to do | timer or limit | error type |\n"
                 "| --- | --- | --- | --- | --- | --- |\n",
                 title);
}

int command_error_reference(const struct cli_arguments *arguments)
{
    (void)arguments;
    (void)fputs(head, stdout);
#define REASON_GROUP(title) print_group(title);
#define REASON(id, status, proxy_status, label, keys, text, hint) print_reason(REASON_##id);
#include "base/error.def"
#undef REASON
    print_grpc();
    return CLI_OK;
}
