#include "config/explain.h"

#include <inttypes.h>

#include "base/assert.h"
#include "config/schema.h"

enum { LINE_COLUMNS = 100, INDENT = 4 };

static bool is_unquoted(enum schema_type type)
{
    return schema_type_is_number(type) || type == TYPE_BOOLEAN;
}

/* A key's value as the example shows it. */
static void print_example_value(FILE *stream, const struct schema_key *key)
{
    if (key->example != NULL) {
        (void)fputs(key->example, stream);
    } else if (key->standard != NULL) {
        (void)fprintf(stream, is_unquoted(key->type) ? "%s" : "\"%s\"", key->standard);
    }
}

/* ---- The example ---- */

/* The example while it is printed. */
struct example {
    FILE *stream;
    unsigned depth;
    bool disabled; /* inside a block that is shown but not in force */
};

static void begin_line(const struct example *example)
{
    (void)fprintf(example->stream, "%s%*s", example->disabled ? "// " : "",
                  (int)(example->depth * INDENT), "");
}

/* A comment, broken into lines between words. */
static void print_comment(const struct example *example, const char *text)
{
    size_t width = LINE_COLUMNS - example->depth * INDENT - 6;
    struct span rest = span_of_string(text);
    while (rest.size > 0) {
        size_t size = rest.size;
        if (size > width) {
            size = width;
            while (size > 0 && rest.data[size] != ' ') {
                size--;
            }
            ASSERT(size > 0); /* no word of the table is as long as a line */
        }
        begin_line(example);
        (void)fprintf(example->stream, "// %.*s\n", SPAN_ARGS(span_first(rest, size)));
        rest = span_from(rest, size);
        if (rest.size > 0) {
            rest = span_from(rest, 1); /* the space */
        }
    }
}

/* `minimum to maximum`, where the table says so in numbers; nothing otherwise. */
static void print_range(FILE *stream, const struct schema_key *key, const char *before)
{
    char least[SCHEMA_NUMBER_MAX];
    char most[SCHEMA_NUMBER_MAX];
    if (!schema_type_is_number(key->type) || key->type == TYPE_REDIRECT_STATUS) {
        return;
    }
    schema_print_number(key, key->minimum, least);
    schema_print_number(key, key->maximum, most);
    (void)fprintf(stream, "%s%s to %s", before, least, most);
}

static void print_example_key(const struct example *example, const struct schema_key *key)
{
    struct example line = *example;
    print_comment(example, key->doc);
    line.disabled |= (key->flags & SCHEMA_MACHINE) != 0;
    begin_line(&line);
    (void)fprintf(example->stream, "%s ", key->name);
    print_example_value(example->stream, key);
    print_range(example->stream, key, "  // ");
    (void)fputc('\n', example->stream);
}

/* Whether the keys of the block stand on its own line, or between braces. */
static bool is_line(const struct schema_key *key)
{
    return key->form == FORM_ARGUMENT || key->form == FORM_PROPERTY;
}

static bool has_children(enum schema_block_id block)
{
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        if (schema_key(id)->block == block && !is_line(schema_key(id))) {
            return true;
        }
    }
    for (enum schema_block_id id = BLOCK_TOP + 1; id < SCHEMA_BLOCKS; id++) {
        if (schema_block(id)->parent == block) {
            return true;
        }
    }
    return false;
}

/* The block's own line: its name, arguments and properties, with their comments before. */
static void print_block_line(const struct example *example, const struct schema_block *block)
{
    print_comment(example, block->doc);
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        const struct schema_key *key = schema_key(id);
        if (key->block == block->id && is_line(key)) {
            char comment[512];
            int size = snprintf(comment, sizeof(comment), "%s: %s", key->name, key->doc);
            ASSERT(size > 0 && (size_t)size < sizeof(comment));
            print_comment(example, comment);
        }
    }
    begin_line(example);
    (void)fputs(block->name, example->stream);
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        const struct schema_key *key = schema_key(id);
        bool left_out = (key->flags & SCHEMA_MACHINE) != 0 && !example->disabled;
        if (key->block == block->id && is_line(key) && !left_out) {
            bool is_property = key->form == FORM_PROPERTY;
            (void)fprintf(example->stream, " %s%s", is_property ? key->name : "",
                          is_property ? "=" : "");
            print_example_value(example->stream, key);
        }
    }
}

/* A block and all below it. The recursion is as deep as the table. */
static void print_example_block(const struct example *around, const struct schema_block *block)
{
    struct example inside = *around;
    struct example *example = &inside;
    example->disabled |= (block->flags & SCHEMA_MACHINE) != 0;
    print_block_line(example, block);
    if (!has_children(block->id)) {
        (void)fputc('\n', example->stream);
        return;
    }
    (void)fputs(" {\n", example->stream);
    example->depth++;
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        if (schema_key(id)->block == block->id && !is_line(schema_key(id))) {
            print_example_key(example, schema_key(id));
        }
    }
    for (enum schema_block_id id = BLOCK_TOP + 1; id < SCHEMA_BLOCKS; id++) {
        const struct schema_block *child = schema_block(id);
        if (child->parent == block->id && (child->flags & SCHEMA_ALTERNATIVE) == 0) {
            (void)fputc('\n', example->stream);
            print_example_block(example, child);
        }
    }
    example->depth--;
    begin_line(example);
    (void)fputs("}\n", example->stream);
}

/* Blocks that exclude each other in a route get a route each. */
static void print_alternatives(struct example *example)
{
    for (enum schema_block_id id = BLOCK_TOP + 1; id < SCHEMA_BLOCKS; id++) {
        const struct schema_block *block = schema_block(id);
        if ((block->flags & SCHEMA_ALTERNATIVE) == 0) {
            continue;
        }
        (void)fprintf(example->stream,
                      "\nroute \"example-%s\" {\n    match path-prefix=\"/example/%s\"\n",
                      block->name, block->name);
        example->depth++;
        print_example_block(example, block);
        example->depth--;
        (void)fputs("}\n", example->stream);
    }
}

void explain_example(FILE *stream)
{
    struct example example = {.stream = stream};
    (void)fputs("// Everything that Sentinel can be told, with the defaults where there are any.\n"
                "// All blocks and keys may be left out, but for those a block cannot do without.\n"
                "// What may not hold on every machine stands in a comment.\n"
                "// Durations and sizes carry a unit: 250ms, 30s, 2m, 1h; 512B, 8KiB, 10MB.\n"
                "// Texts may hold ${NAME} or ${NAME:-default} from the environment.\n",
                stream);
    for (enum schema_block_id id = BLOCK_TOP + 1; id < SCHEMA_BLOCKS; id++) {
        const struct schema_block *block = schema_block(id);
        if (block->parent != BLOCK_TOP) {
            continue;
        }
        example.disabled = (block->flags & SCHEMA_REFUSED) != 0;
        (void)fputc('\n', stream);
        print_example_block(&example, block);
        if (id == BLOCK_ROUTE) {
            print_alternatives(&example);
        }
    }
}

/* ---- The table as JSON ---- */

/* The table holds only printable ASCII, so quotes and backslashes are all there is to escape. */
static void print_json_text(FILE *stream, const char *text)
{
    (void)fputc('"', stream);
    for (; *text != '\0'; text++) {
        ASSERT(*text >= 0x20 && *text < 0x7F);
        if (*text == '"' || *text == '\\') {
            (void)fputc('\\', stream);
        }
        (void)fputc(*text, stream);
    }
    (void)fputc('"', stream);
}

static void print_json_member(FILE *stream, const char *name, const char *text)
{
    (void)fprintf(stream, ", \"%s\": ", name);
    if (text == NULL) {
        (void)fputs("null", stream);
    } else {
        print_json_text(stream, text);
    }
}

static void print_json_flag(FILE *stream, const char *name, unsigned flags, enum schema_flag flag)
{
    (void)fprintf(stream, ", \"%s\": %s", name, (flags & flag) != 0 ? "true" : "false");
}

static void print_json_choices(FILE *stream, const struct schema_key *key)
{
    (void)fputs(", \"choices\": [", stream);
    for (int64_t i = 0; i < schema_choices(key); i++) {
        struct span choice = schema_choice_text(key, i);
        (void)fprintf(stream, "%s\"%.*s\"", i == 0 ? "" : ", ", SPAN_ARGS(choice));
    }
    (void)fputs("]", stream);
}

static const char *form_name(enum schema_form form)
{
    static const char *const names[] = {
        [FORM_CHILD] = "child",
        [FORM_PROPERTY] = "property",
        [FORM_EITHER] = "child or property",
        [FORM_ARGUMENT] = "argument",
    };
    return names[form];
}

/* The base unit of minimum and maximum, for programs. */
static const char *unit_name(enum schema_type type)
{
    return type == TYPE_DURATION ? "microseconds" : type == TYPE_SIZE ? "bytes" : NULL;
}

static void print_json_key(FILE *stream, const struct schema_key *key)
{
    char path[SCHEMA_PATH_MAX];
    schema_block_path(key->block, '.', path);
    (void)fprintf(stream, "    {\"key\": \"%s.%s\"", path, key->name);
    print_json_member(stream, "block", path);
    print_json_member(stream, "name", key->name);
    print_json_member(stream, "form", form_name(key->form));
    print_json_member(stream, "type", schema_type_name(key->type));
    print_json_flag(stream, "required", key->flags, SCHEMA_REQUIRED);
    print_json_flag(stream, "list", key->flags, SCHEMA_LIST);
    print_json_flag(stream, "repeated", key->flags, SCHEMA_REPEATED);
    if (schema_type_is_number(key->type)) {
        (void)fprintf(stream, ", \"minimum\": %" PRId64 ", \"maximum\": %" PRId64, key->minimum,
                      key->maximum);
        print_json_member(stream, "unit",
                          unit_name(key->type) != NULL ? unit_name(key->type) : key->detail);
    }
    if (key->type == TYPE_CHOICE) {
        print_json_choices(stream, key);
    }
    print_json_member(stream, "default", key->standard);
    print_json_member(stream, "example", key->example);
    print_json_member(stream, "doc", key->doc);
    (void)fputs("}", stream);
}

void explain_schema(FILE *stream)
{
    char path[SCHEMA_PATH_MAX];
    (void)fputs("{\n  \"blocks\": [\n", stream);
    for (enum schema_block_id id = BLOCK_TOP + 1; id < SCHEMA_BLOCKS; id++) {
        const struct schema_block *block = schema_block(id);
        schema_block_path(id, '.', path);
        (void)fprintf(stream, "    {\"block\": \"%s\"", path);
        (void)fprintf(stream, ", \"maximum\": %u", block->maximum);
        print_json_flag(stream, "required", block->flags, SCHEMA_REQUIRED);
        print_json_flag(stream, "refused", block->flags, SCHEMA_REFUSED);
        print_json_member(stream, "doc", block->doc);
        (void)fputs(id + 1 < SCHEMA_BLOCKS ? "},\n" : "}\n", stream);
    }
    (void)fputs("  ],\n  \"keys\": [\n", stream);
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        print_json_key(stream, schema_key(id));
        (void)fputs(id + 1 < SCHEMA_KEYS ? ",\n" : "\n", stream);
    }
    (void)fputs("  ]\n}\n", stream);
}

/* ---- The reference page ---- */

/* Text in a table's cell: a bar would end it. */
static void print_cell(FILE *stream, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|') {
            (void)fputc('\\', stream);
        }
        (void)fputc(*text, stream);
    }
}

static void print_reference_key(FILE *stream, const struct schema_key *key)
{
    (void)fprintf(stream, "| `%s` | %s | %s%s", key->name, form_name(key->form),
                  schema_type_name(key->type), (key->flags & SCHEMA_LIST) != 0 ? "s" : "");
    if (key->type == TYPE_CHOICE) {
        for (int64_t i = 0; i < schema_choices(key); i++) {
            (void)fprintf(stream, "%s `\"%.*s\"`", i == 0 ? ":" : ",",
                          SPAN_ARGS(schema_choice_text(key, i)));
        }
    } else {
        print_range(stream, key, ", ");
    }
    if ((key->flags & SCHEMA_REQUIRED) != 0) {
        (void)fputs(" | required | ", stream);
    } else if (key->standard == NULL) {
        (void)fputs(" | | ", stream);
    } else {
        (void)fprintf(stream, is_unquoted(key->type) ? " | `%s` | " : " | `\"%s\"` | ",
                      key->standard);
    }
    print_cell(stream, key->doc);
    if (key->example != NULL) {
        (void)fputs(" For example `", stream);
        print_cell(stream, key->example);
        (void)fputs("`.", stream);
    }
    (void)fputs(" |\n", stream);
}

static void print_reference_block(FILE *stream, const struct schema_block *block)
{
    char path[SCHEMA_PATH_MAX];
    bool has_table = false;
    schema_block_path(block->id, ' ', path);
    (void)fprintf(stream, "\n%s `%s`\n\n%s", block->parent == BLOCK_TOP ? "##" : "###", path,
                  block->doc);
    if (block->maximum > 1) {
        (void)fprintf(stream, " At most %u.", block->maximum);
    }
    if ((block->flags & SCHEMA_REQUIRED) != 0) {
        (void)fputs(" Required.", stream);
    }
    (void)fputs("\n", stream);
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        if (schema_key(id)->block != block->id) {
            continue;
        }
        if (!has_table) {
            (void)fputs("\n| key | form | type | default | what it does |\n"
                        "| --- | --- | --- | --- | --- |\n",
                        stream);
        }
        has_table = true;
        print_reference_key(stream, schema_key(id));
    }
}

static const char reference_head[] =
    "# Configuration reference\n"
    "\n"
    "Generated from `src/config/schema.def` by `sentinel config-reference`; do not edit.\n"
    "`sentinel config-example` prints a file with all of it, `sentinel check --config FILE` says\n"
    "what is wrong with one, all in one run.\n"
    "\n"
    "The language is [KDL](https://kdl.dev) 2 or 1. Beyond it:\n"
    "\n"
    "- Numbers carry a unit where they measure something: `250ms`, `30s`, `2m`, `1h`; `512B`,\n"
    "  `10KB`, `10MB`, `1GB` (thousands), `8KiB`, `32MiB`, `1GiB` (1024). A duration or size "
    "without\n"
    "  a unit is refused, but for 0. `\"30s\"` in quotes means the same.\n"
    "- `true` and `false` need no `#`.\n"
    "- Texts may hold `${NAME}` or `${NAME:-default}` from the environment; `$${` is a literal "
    "`${`.\n"
    "  A variable that is not set and has no default is an error. For numbers, put it in quotes:\n"
    "  `workers \"${WORKERS:-4}\"`.\n"
    "\n"
    "What is not on this page is refused, never ignored; so is a key where it has no effect. The\n"
    "forms: a *child* is written `name value` between the braces of its block, a *property*\n"
    "`name=value` on the block's own line, an *argument* right behind the block's name. Lists "
    "take\n"
    "1 to 64 values.\n"
    "\n"
    "If a file has no listener, upstream and route at all, the built-in ones apply: listen on\n"
    "0.0.0.0:8080, pass everything to 127.0.0.1:8081. Without a file they apply too, and\n"
    "`SENTINEL_LISTEN`, `SENTINEL_UPSTREAM` and `SENTINEL_WORKERS` change them; with a file these\n"
    "variables are ignored, with a warning.\n";

void explain_reference(FILE *stream)
{
    (void)fputs(reference_head, stream);
    for (enum schema_block_id id = BLOCK_TOP + 1; id < SCHEMA_BLOCKS; id++) {
        print_reference_block(stream, schema_block(id));
    }
}
