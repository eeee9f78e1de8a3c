/* Nodes, entries and blocks; the choice of the version. See kdl_lex.h for the layer below. */
#include "config/kdl.h"

#include "base/assert.h"
#include "config/kdl_lex.h"

static bool parse_nodes(struct kdl_parser *parser, struct node **first);

/* `(type)`, if there is one. White space around it is new in KDL 2. */
static bool parse_type(struct kdl_parser *parser, struct span *type)
{
    bool skipped = false;
    struct kdl_scalar name;
    if (kdl_byte(parser, parser->offset) != '(') {
        return true;
    }
    parser->offset++;
    if (parser->version == 2 && !kdl_skip_node_space(parser, &skipped)) {
        return false;
    }
    size_t start = parser->offset;
    if (!kdl_read_scalar(parser, "the name of a type", &name)) {
        return false;
    }
    if (name.value.kind != VALUE_STRING ||
        (name.bare && !kdl_is_identifier(name.value.text, parser->version))) {
        return kdl_fail(parser, start, "put it in quotes", "the name of a type is a string");
    }
    if (parser->version == 2 && !kdl_skip_node_space(parser, &skipped)) {
        return false;
    }
    if (kdl_byte(parser, parser->offset) != ')') {
        return kdl_fail_expected(parser, "`)` behind the type", NULL);
    }
    parser->offset++;
    *type = name.value.text;
    return parser->version == 1 || kdl_skip_node_space(parser, &skipped);
}

/* The name of a node or a property: a string whose bare words are no keywords. */
static bool check_name(struct kdl_parser *parser, size_t start, const struct kdl_scalar *scalar)
{
    if (scalar->value.kind != VALUE_STRING) {
        return kdl_fail(parser, start, "put it in quotes if it is meant as one",
                        "expected a name, found a value");
    }
    if (scalar->bare && !kdl_is_identifier(scalar->value.text, parser->version)) {
        return kdl_fail(parser, start, "put it in quotes to use it as a name",
                        "`%.*s` is a keyword, not a name", SPAN_ARGS(scalar->value.text));
    }
    return true;
}

/* Gives a bare word its meaning as a value: a string, or a keyword. */
static bool resolve_bare(struct kdl_parser *parser, size_t start, struct value *value)
{
    bool is_true = span_equal(value->text, SPAN("true"));
    bool keywords = parser->version == 1 || !parser->strict;
    if (keywords && (is_true || span_equal(value->text, SPAN("false")))) {
        value->kind = VALUE_BOOLEAN;
        value->boolean = is_true;
        value->text = SPAN_EMPTY;
        return true;
    }
    if (keywords && span_equal(value->text, SPAN("null"))) {
        value->kind = VALUE_NULL;
        value->text = SPAN_EMPTY;
        return true;
    }
    if (parser->version == 1) {
        return kdl_fail(parser, start, "strings need quotes in KDL 1",
                        "expected a value, found a bare word");
    }
    if (!kdl_is_identifier(value->text, 2)) {
        return kdl_fail(parser, start, "KDL 2 writes keywords as #true, #false, #null, #inf, #nan",
                        "the bare word `%.*s` is not allowed as a value", SPAN_ARGS(value->text));
    }
    return true;
}

static bool resolve_value(struct kdl_parser *parser, size_t start, struct kdl_scalar *scalar)
{
    return !scalar->bare || resolve_bare(parser, start, &scalar->value);
}

/* The value of a property, with its type. */
static bool parse_value(struct kdl_parser *parser, struct value *value)
{
    struct span type = SPAN_EMPTY;
    struct kdl_scalar scalar;
    if (!parse_type(parser, &type)) {
        return false;
    }
    size_t start = parser->offset;
    if (!kdl_read_scalar(parser, "a value", &scalar) || !resolve_value(parser, start, &scalar)) {
        return false;
    }
    *value = scalar.value;
    value->type = type;
    return true;
}

/* What a node has gathered while its line is read. */
struct draft {
    struct node *node;
    struct argument **next_argument;
    size_t properties;
};

static bool add_argument(struct kdl_parser *parser, struct draft *draft, const struct value *value)
{
    struct argument *argument = arena_calloc(parser->arena, 1, sizeof(*argument));
    if (argument == NULL) {
        return kdl_fail_memory(parser);
    }
    argument->value = *value;
    *draft->next_argument = argument;
    draft->next_argument = &argument->next;
    return true;
}

/* The last property of a name wins, and takes the place of the first. */
static bool add_property(struct kdl_parser *parser, struct draft *draft, size_t start,
                         const struct property *property)
{
    struct property **place = &draft->node->properties;
    while (*place != NULL && !span_equal((*place)->name, property->name)) {
        place = &(*place)->next;
    }
    struct property *next = NULL;
    if (*place != NULL) {
        next = (*place)->next;
    } else if (draft->properties == KDL_PROPERTIES_MAX) {
        return kdl_fail(parser, start, NULL, "a node has at most %d properties",
                        KDL_PROPERTIES_MAX);
    } else {
        *place = arena_alloc(parser->arena, sizeof(**place));
        if (*place == NULL) {
            return kdl_fail_memory(parser);
        }
        draft->properties++;
    }
    **place = *property;
    (*place)->next = next;
    return true;
}

/* Moves to the `=` behind a name, if there is one; KDL 2 allows white space around it. */
static bool find_equals(struct kdl_parser *parser, bool *found)
{
    size_t start = parser->offset;
    bool skipped = false;
    if (parser->version == 2 && !kdl_skip_node_space(parser, &skipped)) {
        return false;
    }
    *found = kdl_byte(parser, parser->offset) == '=';
    if (!*found) {
        parser->offset = start;
        return true;
    }
    parser->offset++;
    return parser->version == 1 || kdl_skip_node_space(parser, &skipped);
}

/* An argument or a property: which one shows behind its first scalar. */
static bool parse_entry(struct kdl_parser *parser, struct draft *draft)
{
    struct span type = SPAN_EMPTY;
    struct kdl_scalar scalar;
    struct property property = {0};
    bool is_property = false;
    if (!parse_type(parser, &type)) {
        return false;
    }
    size_t start = parser->offset;
    if (!kdl_read_scalar(parser, "a value, a property or the end of the node", &scalar) ||
        !find_equals(parser, &is_property)) {
        return false;
    }
    if (!is_property) {
        scalar.value.type = type;
        return resolve_value(parser, start, &scalar) && add_argument(parser, draft, &scalar.value);
    }
    if (type.data != NULL) {
        return kdl_fail(parser, start, "write name=(type)value",
                        "the type of a property stands before its value");
    }
    property.name = scalar.value.text;
    property.position = scalar.value.position;
    return check_name(parser, start, &scalar) && parse_value(parser, &property.value) &&
           add_property(parser, draft, start, &property);
}

/* `{ ... }`; depth is bounded, and with it the recursion. */
static bool parse_block(struct kdl_parser *parser, struct node **first)
{
    size_t start = parser->offset;
    ASSERT(kdl_byte(parser, start) == '{');
    if (parser->depth == KDL_DEPTH_MAX) {
        return kdl_fail(parser, start, NULL, "blocks are nested more than %d deep", KDL_DEPTH_MAX);
    }
    parser->offset++;
    parser->depth++;
    if (!parse_nodes(parser, first)) {
        return false;
    }
    parser->depth--;
    if (kdl_byte(parser, parser->offset) != '}') {
        return kdl_fail(parser, start, "each `{` needs its `}`",
                        "the block that begins here is never closed");
    }
    parser->offset++;
    return true;
}

/* `/-` and the white space behind it: what follows is parsed, then forgotten. */
static bool skip_slashdash(struct kdl_parser *parser, bool *found)
{
    bool skipped = false;
    *found = kdl_at(parser, SPAN("/-"));
    if (!*found) {
        return true;
    }
    parser->offset += 2;
    /* KDL 2 lets the commented part begin on a later line. */
    return parser->version == 2 ? kdl_skip_line_space(parser)
                                : kdl_skip_node_space(parser, &skipped);
}

static bool at_node_end(const struct kdl_parser *parser)
{
    int byte = kdl_byte(parser, parser->offset);
    return byte < 0 || byte == ';' || byte == '}' || kdl_newline(parser, parser->offset) > 0 ||
           kdl_at(parser, SPAN("//"));
}

/* The blocks of one node: KDL 2 lets commented ones surround the one that counts. */
struct blocks {
    bool any;
    bool real;
};

static bool parse_node_block(struct kdl_parser *parser, struct node *node, bool discarded,
                             struct blocks *blocks)
{
    struct node *ignored = NULL;
    if ((blocks->real && !discarded) || (blocks->any && parser->version == 1)) {
        return kdl_fail(parser, parser->offset, "begin the next node on a new line",
                        "a node has at most one block of children");
    }
    blocks->any = true;
    blocks->real = blocks->real || !discarded;
    return parse_block(parser, discarded ? &ignored : &node->children);
}

static bool check_entry_place(struct kdl_parser *parser, const struct blocks *blocks, bool spaced)
{
    if (blocks->any) {
        return kdl_fail_expected(parser, "the end of the node behind its block",
                                 "begin the next node on a new line, or end this one with `;`");
    }
    if (!spaced) {
        return kdl_fail_expected(parser, "a space or the end of the node", NULL);
    }
    return true;
}

/* One entry or block, or the end of the node (*ended). */
static bool parse_node_part(struct kdl_parser *parser, struct draft *draft, struct blocks *blocks,
                            bool *ended)
{
    bool spaced = false;
    bool discarded = false;
    if (!kdl_skip_node_space(parser, &spaced)) {
        return false;
    }
    size_t mark = arena_mark(parser->arena);
    if (!skip_slashdash(parser, &discarded)) {
        return false;
    }
    if (at_node_end(parser)) {
        *ended = true;
        return !discarded || kdl_fail_expected(parser, "what `/-` comments out", NULL);
    }
    bool is_block = kdl_byte(parser, parser->offset) == '{';
    struct node ignored = {0};
    struct draft ignoring = {.node = &ignored, .next_argument = &ignored.arguments};
    /* KDL 2 needs no space before `/-`, nor any version before a block. */
    bool apart = spaced || (discarded && parser->version == 2);
    bool parsed = is_block ? parse_node_block(parser, draft->node, discarded, blocks)
                           : check_entry_place(parser, blocks, apart) &&
                                 parse_entry(parser, discarded ? &ignoring : draft);
    if (parsed && discarded) {
        arena_rewind(parser->arena, mark);
    }
    return parsed;
}

static bool parse_node(struct kdl_parser *parser, struct node **result)
{
    struct kdl_scalar name;
    struct node *node = arena_calloc(parser->arena, 1, sizeof(*node));
    if (node == NULL) {
        return kdl_fail_memory(parser);
    }
    if (!parse_type(parser, &node->type)) {
        return false;
    }
    size_t start = parser->offset;
    if (!kdl_read_scalar(parser, "the name of a node", &name) ||
        !check_name(parser, start, &name)) {
        return false;
    }
    node->name = name.value.text;
    node->position = name.value.position;
    struct draft draft = {.node = node, .next_argument = &node->arguments};
    struct blocks blocks = {0};
    bool ended = false;
    while (!ended) {
        if (!parse_node_part(parser, &draft, &blocks, &ended)) {
            return false;
        }
    }
    *result = node;
    return true;
}

/* What ends a node. A `}` and the end of the text are left; KDL 1 wants a newline before a `}`. */
static bool parse_node_end(struct kdl_parser *parser)
{
    ASSERT(at_node_end(parser));
    if (kdl_byte(parser, parser->offset) == ';') {
        parser->offset++;
    } else if (kdl_byte(parser, parser->offset) == '}' && parser->version == 1) {
        return kdl_fail_expected(parser, "the end of the node",
                                 "KDL 1 needs `;` or a new line before `}`");
    }
    return true; /* a newline or a comment is white space to the next node */
}

/* Nodes up to a `}` or the end of the text, which is left. */
static bool parse_nodes(struct kdl_parser *parser, struct node **first)
{
    struct node **next = first;
    for (;;) {
        if (!kdl_skip_line_space(parser)) {
            return false;
        }
        int byte = kdl_byte(parser, parser->offset);
        if (byte < 0 || (byte == '}' && parser->depth > 0)) {
            return true;
        }
        if (byte == '}') {
            return kdl_fail(parser, parser->offset, NULL, "this `}` closes no block");
        }
        bool discarded = false;
        size_t mark = arena_mark(parser->arena);
        struct node *node = NULL;
        if (!skip_slashdash(parser, &discarded) || !parse_node(parser, &node) ||
            !parse_node_end(parser)) {
            return false;
        }
        if (discarded) {
            arena_rewind(parser->arena, mark);
        } else {
            ASSERT(node != NULL);
            *next = node;
            next = &node->next;
        }
    }
}

static size_t skip_spaces(const struct kdl_parser *parser, size_t offset)
{
    size_t size = 0;
    while ((size = kdl_space(parser, offset)) > 0) {
        offset += size;
    }
    return offset;
}

/*
 * Reads `/- kdl-version N` in the first line. *version stays where there is none. To every parser
 * it is also a node that is commented out, so nothing is consumed.
 */
static bool read_version_marker(struct kdl_parser *parser, unsigned *version)
{
    struct span word = SPAN("kdl-version");
    if (!kdl_at(parser, SPAN("/-"))) {
        return true;
    }
    size_t offset = skip_spaces(parser, parser->offset + 2);
    if (!span_starts_with(span_from(parser->text, offset), word)) {
        return true;
    }
    size_t number = skip_spaces(parser, offset + word.size);
    size_t end = number;
    while (end < parser->text.size && ascii_is_digit(parser->text.data[end])) {
        end++;
    }
    size_t rest = skip_spaces(parser, end);
    bool alone = rest >= parser->text.size || kdl_newline(parser, rest) > 0;
    if (number == offset + word.size || end == number || !alone) {
        return true;
    }
    uint64_t value = 0;
    if (!span_to_u64(kdl_slice(parser, number, end), 2, &value) || value == 0) {
        return kdl_fail(parser, number, NULL, "this KDL version is not known; 1 and 2 are");
    }
    *version = (unsigned)value;
    return true;
}

/* One attempt at one version; what it took from the arena is given back when it fails. */
static bool attempt(struct kdl_parser *parser, struct document *document)
{
    size_t mark = arena_mark(parser->arena);
    struct node *nodes = NULL;
    if (parse_nodes(parser, &nodes)) {
        ASSERT(parser->offset == parser->text.size);
        ASSERT(parser->depth == 0);
        document->nodes = nodes;
        return true;
    }
    arena_rewind(parser->arena, mark);
    return false;
}

enum status kdl_parse(const struct source *source, struct kdl_options options, struct arena *arena,
                      struct diagnostics *diagnostics, struct document *document)
{
    ASSERT(options.version <= 2);
    struct kdl_parser parser;
    unsigned version = options.version;
    kdl_parser_init(&parser, source, options.strict, arena);
    if (kdl_check_text(&parser) && (version != 0 || read_version_marker(&parser, &version))) {
        struct kdl_parser older = parser;
        parser.version = version == 1 ? 1 : 2;
        older.version = 1;
        if (attempt(&parser, document) || (version == 0 && attempt(&older, document))) {
            return OK;
        }
    }
    struct position position = kdl_position(&parser, parser.failure.offset);
    diagnostics_add(diagnostics, SEVERITY_ERROR, position, parser.failure.help, "%s",
                    parser.failure.message);
    return ERROR;
}
