#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/reason.h"
#include "cli/cli.h"
#include "cli/recent_client.h"
#include "cli/recent_view.h"
#include "config/schema.h"
#include "supervisor/compilation.h"

enum { WHY_MAX = 256, PATH_MAX_HERE = 128 };

static int refuse(const char *option, const char *why)
{
    (void)fprintf(stderr, "sentinel: '%s' %s\nTry 'sentinel recent --help'.\n", option, why);
    return CLI_USAGE;
}

static bool is_status(const char *text)
{
    return strlen(text) == 3 && text[0] >= '1' && text[0] <= '5' &&
           ((text[1] == 'x' && text[2] == 'x') ||
            (ascii_is_digit((uint8_t)text[1]) && ascii_is_digit((uint8_t)text[2])));
}

static bool is_reason(const char *text)
{
    bool found = false;
    for (unsigned i = REASON_NONE + 1; i < REASON_COUNT && !found; i++) {
        found = strcmp(reason_info((enum reason)i)->label, text) == 0;
    }
    return found;
}

/* The one mode that was asked for; *option is its name. False for two of them. */
static bool read_mode(const struct cli_arguments *arguments, enum recent_mode *mode)
{
    static const struct {
        enum cli_option option;
        enum recent_mode mode;
    } MODES[] = {{CLI_FAILURES, RECENT_FAILURES},
                 {CLI_IN_FLIGHT, RECENT_IN_FLIGHT},
                 {CLI_CRASHES, RECENT_CRASHES}};
    unsigned asked = 0;
    *mode = RECENT_FINISHED;
    for (size_t i = 0; i < sizeof(MODES) / sizeof(MODES[0]); i++) {
        if (arguments->values[MODES[i].option] != NULL) {
            *mode = MODES[i].mode;
            asked++;
        }
    }
    return asked <= 1;
}

/* 0, or the exit code of a usage error, which was told. */
static int read_filters(const struct cli_arguments *arguments, struct recent_filters *filters)
{
    const char *const *values = arguments->values;
    uint64_t limit = RECENT_LIMIT_DEFAULT;
    uint64_t worker = 0;
    *filters = (struct recent_filters){.route = values[CLI_ROUTE],
                                       .status = values[CLI_STATUS],
                                       .reason = values[CLI_REASON],
                                       .worker = values[CLI_WORKER]};
    if (!read_mode(arguments, &filters->mode)) {
        (void)fputs("sentinel: only one of '--failures', '--in-flight' and '--crashes' at a time\n"
                    "Try 'sentinel recent --help'.\n",
                    stderr);
        return CLI_USAGE;
    }
    if (filters->reason != NULL && !is_reason(filters->reason)) {
        return refuse("--reason", "wants a reason as `sentinel error-reference` lists them");
    }
    if (values[CLI_CLIENT] != NULL &&
        !address_block_parse(span_of_string(values[CLI_CLIENT]), &filters->client)) {
        return refuse("--client", "wants an address such as 192.0.2.7, or a block: 192.0.2.0/24");
    }
    if (filters->status != NULL && !is_status(filters->status)) {
        return refuse("--status", "wants a status such as 503, or 5xx");
    }
    /* It is compared as it is written: 01 would be nobody's number. */
    if (filters->worker != NULL &&
        (!span_to_u64(span_of_string(filters->worker), UINT32_MAX, &worker) ||
         (filters->worker[0] == '0' && filters->worker[1] != '\0'))) {
        return refuse("--worker", "wants a number such as 0 or 12");
    }
    if (values[CLI_LIMIT] != NULL &&
        (!span_to_u64(span_of_string(values[CLI_LIMIT]), RECENT_LIMIT_MAX, &limit) || limit == 0)) {
        return refuse("--limit", "wants a number from 1 to 10000");
    }
    bool unfinished = filters->mode == RECENT_IN_FLIGHT || filters->mode == RECENT_CRASHES;
    if (unfinished && (filters->status != NULL || filters->reason != NULL)) {
        return refuse("--status", "and --reason are of finished requests");
    }
    if (filters->mode == RECENT_CRASHES &&
        (filters->route != NULL || values[CLI_CLIENT] != NULL || filters->worker != NULL)) {
        return refuse("--crashes", "takes --json and --limit only");
    }
    filters->limit = (uint32_t)limit;
    return CLI_OK;
}

/* Where the instance of this configuration listens. False when that has been told to be nowhere. */
static bool find_socket(const struct cli_arguments *arguments, char path[PATH_MAX_HERE])
{
    const char *asked = arguments->values[CLI_CONTROL_SOCKET];
    if (asked != NULL || arguments->config == NULL) {
        const char *standard = schema_key(KEY_SERVER_CONTROL_SOCKET)->standard;
        (void)snprintf(path, PATH_MAX_HERE, "%s", asked != NULL ? asked : standard);
        return true;
    }
    struct compilation compilation = {0};
    struct generation generation;
    if (compilation_open(&compilation, arguments->config, arguments->environment,
                         COMPILATION_TO_LOOK) != OK) {
        return false;
    }
    bool opened = generation_open(&generation, compilation.block);
    ASSERT(opened); /* the compiler's word */
    struct span text = generation_text(&generation, generation.header->server.control_socket);
    (void)snprintf(path, PATH_MAX_HERE, "%.*s", SPAN_ARGS(text));
    compilation_close(&compilation);
    if (strcmp(path, "off") == 0) {
        (void)fprintf(stderr, "sentinel: this configuration has no control socket\n");
        return false;
    }
    return true;
}

static bool take_line(void *context, struct span line)
{
    return recent_view_take(context, line);
}

int command_recent(const struct cli_arguments *arguments)
{
    struct recent_filters filters;
    struct recent_view view;
    char path[PATH_MAX_HERE];
    char why[WHY_MAX];
    int wrong = read_filters(arguments, &filters);
    if (wrong != CLI_OK) {
        return wrong;
    }
    if (!find_socket(arguments, path)) {
        return CLI_REFUSED;
    }
    if (!recent_view_init(&view, &filters)) {
        (void)fprintf(stderr, "sentinel: out of memory\n");
        return CLI_REFUSED;
    }
    enum status status = recent_ask(path, take_line, &view, why, sizeof(why));
    if (status != OK || !view.ended) {
        (void)fprintf(stderr, "sentinel: %s\n", status != OK ? why : "the answer was cut short");
        recent_view_deinit(&view);
        return CLI_REFUSED;
    }
    recent_view_print(&view, arguments->values[CLI_JSON] != NULL, stdout);
    recent_view_deinit(&view);
    return CLI_OK;
}
