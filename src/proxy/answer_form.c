#include "proxy/answer_form.h"

#include "http/accept.h"
#include "observe/json_write.h"

/*
 * Light and dark by the reader's choice, legible without it. The policy below names the SHA-256 of
 * exactly this text, so that the page can hold no other style, and no script at all.
 */
#define STYLE                                                                                      \
    ":root{color-scheme:light dark;--ink:#1c2530;--soft:#566373;--page:#f4f6f8;--card:#fff;"       \
    "--line:#dce1e7;--mark:#b3261e}"                                                               \
    "@media(prefers-color-scheme:dark){:root{--ink:#e7ebf0;--soft:#a0acb9;--page:#11151a;"         \
    "--card:#191f26;--line:#2d3640;--mark:#ff8f86}}"                                               \
    "*{box-sizing:border-box}"                                                                     \
    "body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.25rem;"              \
    "background:var(--page);color:var(--ink);font:1rem/1.6 system-ui,sans-serif}"                  \
    "main{width:100%;max-width:34rem;padding:2.25rem;background:var(--card);"                      \
    "border:1px solid var(--line);border-radius:.75rem}"                                           \
    "h1{margin:0 0 1rem;font-size:1.5rem;line-height:1.25}"                                        \
    "h1 span{display:block;font-size:3.5rem;line-height:1.1;color:var(--mark)}"                    \
    "p{margin:0 0 1rem}p::first-letter{text-transform:uppercase}"                                  \
    "dl{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1rem;margin:1.5rem 0 0;"            \
    "padding-top:1.25rem;border-top:1px solid var(--line);font-size:.875rem}"                      \
    "dt{color:var(--soft)}"                                                                        \
    "dd{margin:0;overflow-wrap:anywhere;font-family:ui-monospace,monospace}"

#define STYLE_HASH "sha256-6Z9iH+/Tzs73Wu1SbKUaRI6jB3l6tPBABbTagQ8oHEY="

struct form {
    struct media_type type;
    struct span content_type;
    struct span policy;
    struct span front;
};

static struct form form_of(enum answer_form form)
{
    switch (form) {
    case ANSWER_JSON:
        return (struct form){.type = {"application", "json"},
                             .content_type = SPAN("application/json")};
    case ANSWER_TEXT:
        return (struct form){.type = {"text", "plain"},
                             .content_type = SPAN("text/plain; charset=utf-8")};
    case ANSWER_HTML:
        return (struct form){
            .type = {"text", "html"},
            .content_type = SPAN("text/html; charset=utf-8"),
            .policy = SPAN("default-src 'none'; style-src '" STYLE_HASH "'; base-uri 'none'; "
                           "form-action 'none'; frame-ancestors 'none'"),
            .front = SPAN("<!doctype html>\n"
                          "<html lang=\"en\">\n"
                          "<head>\n"
                          "<meta charset=\"utf-8\">\n"
                          "<meta name=\"viewport\" content=\"width=device-width, "
                          "initial-scale=1\">\n"
                          "<meta name=\"robots\" content=\"noindex\">\n"
                          "<style>" STYLE "</style>\n"),
        };
    case ANSWER_FORM_COUNT:
        break;
    }
    UNREACHABLE("a form without a name");
}

enum answer_form answer_form_choose(const struct fields *fields)
{
    struct media_type offers[ANSWER_FORM_COUNT];
    for (enum answer_form form = 0; form < ANSWER_FORM_COUNT; form++) {
        offers[form] = form_of(form).type;
    }
    return (enum answer_form)accept_choose(fields, offers, ANSWER_FORM_COUNT);
}

struct span answer_form_type(enum answer_form form)
{
    return form_of(form).content_type;
}

struct span answer_form_policy(enum answer_form form)
{
    return form_of(form).policy;
}

struct span answer_form_front(enum answer_form form)
{
    return form_of(form).front;
}

/* As text between tags: what HTML would take for markup becomes a reference. */
static void write_escaped(struct output *output, struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        switch (text.data[i]) {
        case '&':
            OUTPUT_LITERAL(output, "&amp;");
            break;
        case '<':
            OUTPUT_LITERAL(output, "&lt;");
            break;
        case '>':
            OUTPUT_LITERAL(output, "&gt;");
            break;
        default:
            output_byte(output, text.data[i]);
        }
    }
}

static void write_json(const struct reason_info *info, struct span request_id,
                       struct output *output)
{
    OUTPUT_LITERAL(output, "{\"status\":");
    output_u64(output, info->status);
    OUTPUT_LITERAL(output, ",\"reason\":");
    json_string(output, span_of_string(info->label), ANSWER_FORM_MAX);
    OUTPUT_LITERAL(output, ",\"message\":");
    json_string(output, span_of_string(info->text), ANSWER_FORM_MAX);
    OUTPUT_LITERAL(output, ",\"request_id\":");
    json_string(output, request_id, ANSWER_FORM_MAX);
    OUTPUT_LITERAL(output, "}\n");
}

static void write_text(const struct reason_info *info, struct span request_id,
                       struct output *output)
{
    output_u64(output, info->status);
    output_byte(output, ' ');
    output_span(output, span_of_string(status_phrase(info->status)));
    OUTPUT_LITERAL(output, ": ");
    output_span(output, span_of_string(info->text));
    OUTPUT_LITERAL(output, "\n\nreason: ");
    output_span(output, span_of_string(info->label));
    OUTPUT_LITERAL(output, "\nrequest id: ");
    output_span(output, request_id);
    OUTPUT_LITERAL(output, "\n");
}

static void write_html(const struct reason_info *info, struct span request_id,
                       struct output *output)
{
    struct span phrase = span_of_string(status_phrase(info->status));
    OUTPUT_LITERAL(output, "<title>");
    output_u64(output, info->status);
    output_byte(output, ' ');
    write_escaped(output, phrase);
    OUTPUT_LITERAL(output, "</title>\n</head>\n<body>\n<main>\n<h1><span>");
    output_u64(output, info->status);
    OUTPUT_LITERAL(output, "</span> ");
    write_escaped(output, phrase);
    OUTPUT_LITERAL(output, "</h1>\n<p>");
    write_escaped(output, span_of_string(info->text));
    OUTPUT_LITERAL(output, ".</p>\n"
                           "<p>If this keeps happening, tell whoever runs this site, and pass on\n"
                           "the request id.</p>\n"
                           "<dl>\n<dt>Reason</dt><dd>");
    write_escaped(output, span_of_string(info->label));
    OUTPUT_LITERAL(output, "</dd>\n<dt>Request id</dt><dd>");
    write_escaped(output, request_id);
    OUTPUT_LITERAL(output, "</dd>\n</dl>\n</main>\n</body>\n</html>\n");
}

void answer_form_write(enum answer_form form, const struct reason_info *info,
                       struct span request_id, struct output *output)
{
    switch (form) {
    case ANSWER_JSON:
        write_json(info, request_id, output);
        return;
    case ANSWER_TEXT:
        write_text(info, request_id, output);
        return;
    case ANSWER_HTML:
        write_html(info, request_id, output);
        return;
    case ANSWER_FORM_COUNT:
        break;
    }
    UNREACHABLE("a form without a name");
}
