#include "config/validate.h"

#include "base/assert.h"
#include "config/suggest.h"
#include "config/validate_value.h"

enum { SHOWN_MAX = 64, HELP_MAX = 256 };

/* printf arguments for a text that may be long. */
#define SHOWN(span)                                                                                \
    (int)((span).size < SHOWN_MAX ? (span).size : SHOWN_MAX), (const char *)(span).data

#define COMPLAIN(validator, position, help, ...)                                                   \
    diagnostics_add((validator)->diagnostics, SEVERITY_ERROR, position, help, __VA_ARGS__)

/* What a reader of other pages may try, and why it is not accepted. */
struct absent {
    enum schema_block_id block;
    const char *name;
    const char *help;
};

static const struct absent absents[] = {
    {BLOCK_TOP, "agent", "agents are not in this build"},
    {BLOCK_TOP, "include", "include is not in this build: put everything into one file"},
};

const struct setting *section_setting(const struct section *section, enum schema_key_id key)
{
    if (section == NULL) {
        return NULL;
    }
    for (const struct setting *at = section->settings; at != NULL; at = at->next) {
        if (at->key->id == key) {
            return at;
        }
    }
    return NULL;
}

const struct setting_value *section_value(const struct section *section, enum schema_key_id key)
{
    const struct setting *setting = section_setting(section, key);
    return setting == NULL || setting->values->bad ? NULL : setting->values;
}

int64_t section_integer(const struct section *section, enum schema_key_id key)
{
    const struct setting_value *value = section_value(section, key);
    return value != NULL ? value->number : schema_default(schema_key(key));
}

uint64_t section_number(const struct section *section, enum schema_key_id key)
{
    int64_t number = section_integer(section, key);
    ASSERT(number >= 0);
    return (uint64_t)number;
}

uint32_t section_number32(const struct section *section, enum schema_key_id key)
{
    uint64_t number = section_number(section, key);
    ASSERT(number <= UINT32_MAX);
    return (uint32_t)number;
}

struct span section_text(const struct section *section, enum schema_key_id key)
{
    const struct setting_value *value = section_value(section, key);
    if (value != NULL) {
        return value->text;
    }
    const char *standard = schema_key(key)->standard;
    return standard != NULL ? span_of_string(standard) : SPAN_EMPTY;
}

const struct section *section_child(const struct section *section, enum schema_block_id block)
{
    const struct section *child = section == NULL ? NULL : section->children;
    while (child != NULL && child->schema->id != block) {
        child = child->next;
    }
    return child;
}

const struct section *section_next(const struct section *section)
{
    const struct section *next = section->next;
    while (next != NULL && next->schema != section->schema) {
        next = next->next;
    }
    return next;
}

uint32_t section_count(const struct section *section, enum schema_block_id block)
{
    uint32_t maximum = schema_block(block)->maximum;
    return section->counts[block] < maximum ? section->counts[block] : maximum;
}

void section_title(const struct section *section, char title[SECTION_TITLE_MAX])
{
    const struct setting *first = section->settings;
    if (first != NULL && first->key->form == FORM_ARGUMENT && first->key->type == TYPE_NAME) {
        (void)snprintf(title, SECTION_TITLE_MAX, "%s \"%.*s\"", section->schema->name,
                       SHOWN(first->values->text));
    } else {
        (void)snprintf(title, SECTION_TITLE_MAX, "%s", section->schema->name);
    }
}

/* Where in the file: "at the top level" or "in `route policies`". */
static void describe_place(enum schema_block_id block, char place[SCHEMA_PATH_MAX])
{
    if (block == BLOCK_TOP) {
        (void)snprintf(place, SCHEMA_PATH_MAX, "at the top level");
        return;
    }
    char path[SCHEMA_PATH_MAX];
    schema_block_path(block, ' ', path);
    int size = snprintf(place, SCHEMA_PATH_MAX, "in `%s`", path);
    ASSERT(size > 0 && size < SCHEMA_PATH_MAX);
}

static bool is_below(enum schema_block_id block, enum schema_block_id ancestor)
{
    while (block != BLOCK_TOP && block != ancestor) {
        block = schema_block(block)->parent;
    }
    return block == ancestor;
}

/*
 * Another block that has a key or block of this name, best one below `here`; BLOCK_TOP where none
 * has.
 */
static enum schema_block_id find_elsewhere(enum schema_block_id here, struct span name)
{
    enum schema_block_id found = BLOCK_TOP;
    for (enum schema_block_id block = BLOCK_TOP + 1; block < SCHEMA_BLOCKS; block++) {
        if ((schema_block(block)->flags & SCHEMA_REFUSED) != 0 ||
            (schema_find_key(block, name) == NULL && schema_find_block(block, name) == NULL)) {
            continue;
        }
        if (is_below(block, here)) {
            return block;
        }
        found = found == BLOCK_TOP ? block : found;
    }
    return found;
}

static struct span closest_name(enum schema_block_id block, struct span name)
{
    struct suggestion suggestion;
    suggest_init(&suggestion, name);
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        const struct schema_key *key = schema_key(id);
        if (key->block == block && key->form != FORM_ARGUMENT) {
            suggest_offer(&suggestion, span_of_string(key->name));
        }
    }
    for (enum schema_block_id id = BLOCK_TOP + 1; id < SCHEMA_BLOCKS; id++) {
        if (schema_block(id)->parent == block) {
            suggest_offer(&suggestion, span_of_string(schema_block(id)->name));
        }
    }
    return suggestion.best;
}

static void refuse_unknown(struct validator *validator, enum schema_block_id block,
                           struct span name, struct position position)
{
    char place[SCHEMA_PATH_MAX];
    char other[SCHEMA_PATH_MAX];
    char help[HELP_MAX];
    const char *shown_help = NULL;
    struct span closest = closest_name(block, name);
    enum schema_block_id elsewhere = find_elsewhere(block, name);
    if (closest.size > 0) {
        (void)snprintf(help, sizeof(help), "did you mean `%.*s`?", SPAN_ARGS(closest));
        shown_help = help;
    } else if (elsewhere != BLOCK_TOP) {
        describe_place(elsewhere, other);
        (void)snprintf(help, sizeof(help), "there is a `%.*s` %s", SHOWN(name), other);
        shown_help = help;
    }
    for (size_t i = 0; i < sizeof(absents) / sizeof(absents[0]); i++) {
        if (absents[i].block == block && span_equal(span_of_string(absents[i].name), name)) {
            shown_help = absents[i].help;
        }
    }
    describe_place(block, place);
    COMPLAIN(validator, position, shown_help, "`%.*s` is not known %s", SHOWN(name), place);
}

static void refuse_second(struct validator *validator, const char *name, struct position position,
                          struct position first)
{
    char help[HELP_MAX];
    (void)snprintf(help, sizeof(help), "the first one is at %.*s:%u:%u", SHOWN(first.source->name),
                   first.line, first.column);
    COMPLAIN(validator, position, help, "`%s` stands here a second time", name);
}

/* Adds an empty setting to the section; NULL when the arena is full. */
static struct setting *add_setting(struct validator *validator, struct section *section,
                                   const struct schema_key *key, struct position position)
{
    struct setting *setting = arena_calloc(validator->arena, 1, sizeof(*setting));
    if (setting == NULL) {
        return NULL;
    }
    setting->key = key;
    setting->position = position;
    if (section->last_setting == NULL) {
        section->settings = setting;
    } else {
        section->last_setting->next = setting;
    }
    section->last_setting = setting;
    return setting;
}

/* Appends a value to the setting, behind *last; false when the arena is full. */
static bool add_value(struct validator *validator, struct setting *setting,
                      const struct value *value, struct setting_value **last)
{
    struct setting_value *added = arena_calloc(validator->arena, 1, sizeof(*added));
    if (added == NULL || !validate_value(validator, setting->key, setting->count, value, added)) {
        return false;
    }
    if (*last == NULL) {
        setting->values = added;
    } else {
        (*last)->next = added;
    }
    *last = added;
    setting->count++;
    return true;
}

/* Whether another occurrence of the key may stand in the section; complains otherwise. */
static bool may_stand(struct validator *validator, const struct section *section,
                      const struct schema_key *key, struct position position)
{
    size_t count = 0;
    const struct setting *first = NULL;
    for (const struct setting *at = section->settings; at != NULL; at = at->next) {
        if (at->key == key) {
            first = first == NULL ? at : first;
            count++;
        }
    }
    if (first != NULL && (key->flags & SCHEMA_REPEATED) == 0) {
        refuse_second(validator, key->name, position, first->position);
        return false;
    }
    if (count == SCHEMA_LIST_MAX) {
        COMPLAIN(validator, position, NULL, "`%s` stands here more than %d times", key->name,
                 SCHEMA_LIST_MAX);
        return false;
    }
    return true;
}

/* How many values a child of this key takes, in words; NULL when the count is right. */
static const char *wrong_count(const struct schema_key *key, size_t count)
{
    if ((key->flags & SCHEMA_PAIR) != 0) {
        return count == 2 ? NULL : "two values";
    }
    if ((key->flags & SCHEMA_LIST) != 0) {
        return count > 0 && count <= SCHEMA_LIST_MAX ? NULL : "1 to 64 values";
    }
    return count == 1 ? NULL : "one value";
}

static_assert(SCHEMA_LIST_MAX == 64, "the message above says so");

/* All values of a node, or where their count is wrong only the first, a bad one in its absence. */
static bool read_values(struct validator *validator, struct setting *setting,
                        const struct node *node, bool all)
{
    struct setting_value *last = NULL;
    for (const struct argument *at = node->arguments; at != NULL; at = at->next) {
        if (!add_value(validator, setting, &at->value, &last)) {
            return false;
        }
        if (!all) {
            break;
        }
    }
    if (setting->values == NULL) {
        setting->values = arena_calloc(validator->arena, 1, sizeof(*setting->values));
        if (setting->values == NULL) {
            return false;
        }
        setting->values->bad = true;
        setting->count = 1;
    }
    return true;
}

/* A key that stands as a node: `name value`. */
static bool read_child(struct validator *validator, struct section *section,
                       const struct schema_key *key, const struct node *node)
{
    size_t count = 0;
    for (const struct argument *at = node->arguments; at != NULL; at = at->next) {
        count++;
    }
    if (!may_stand(validator, section, key, node->position)) {
        return true;
    }
    for (const struct property *at = node->properties; at != NULL; at = at->next) {
        COMPLAIN(validator, at->position, NULL, "`%s` takes no property `%.*s`", key->name,
                 SHOWN(at->name));
    }
    if (node->children != NULL) {
        COMPLAIN(validator, node->children->position, NULL, "`%s` takes no block", key->name);
    }
    const char *wrong = wrong_count(key, count);
    if (wrong != NULL) {
        char help[HELP_MAX];
        const char *example = key->example != NULL ? key->example : key->standard;
        bool quoted =
            key->example == NULL && !schema_type_is_number(key->type) && key->type != TYPE_BOOLEAN;
        (void)snprintf(help, sizeof(help), quoted ? "for example: %s \"%s\"" : "for example: %s %s",
                       key->name, example);
        COMPLAIN(validator, node->position, help, "`%s` takes %s, not %zu", key->name, wrong,
                 count);
    }
    struct setting *setting = add_setting(validator, section, key, node->position);
    return setting != NULL && read_values(validator, setting, node, wrong == NULL);
}

/* A setting of one value: a property, or an argument of a block's node. */
static bool read_single(struct validator *validator, struct section *section,
                        const struct schema_key *key, struct position position,
                        const struct value *value)
{
    struct setting *setting = add_setting(validator, section, key, position);
    struct setting_value *last = NULL;
    return setting != NULL && add_value(validator, setting, value, &last);
}

/* One more value of a list that is an argument. */
static bool read_further(struct validator *validator, struct setting *setting,
                         const struct value *value)
{
    struct setting_value *last = setting->values;
    if (setting->count == SCHEMA_LIST_MAX) {
        COMPLAIN(validator, value->position, NULL, "`%s` takes at most %d values",
                 setting->key->name, SCHEMA_LIST_MAX);
        return true;
    }
    while (last->next != NULL) {
        last = last->next;
    }
    return add_value(validator, setting, value, &last);
}

static bool read_arguments(struct validator *validator, struct section *section,
                           const struct node *node)
{
    enum schema_block_id block = section->schema->id;
    size_t count = 0;
    const struct schema_key *key = NULL;
    for (const struct argument *at = node->arguments; at != NULL; at = at->next) {
        if (key != NULL && (key->flags & SCHEMA_LIST) != 0) {
            if (!read_further(validator, section->last_setting, &at->value)) {
                return false;
            }
            continue;
        }
        key = schema_argument(block, count++);
        if (key == NULL) {
            COMPLAIN(validator, at->value.position, NULL,
                     count == 1 ? "`%s` takes no value here" : "`%s` takes no further value",
                     section->schema->name);
            return true;
        }
        if (!read_single(validator, section, key, at->value.position, &at->value)) {
            return false;
        }
    }
    key = schema_argument(block, count);
    if (key != NULL && (key->flags & SCHEMA_REQUIRED) != 0) {
        char help[HELP_MAX];
        (void)snprintf(help, sizeof(help), "for example: %s %s", section->schema->name,
                       key->example);
        COMPLAIN(validator, node->position, help, "`%s` lacks its %s", section->schema->name,
                 key->name);
    }
    return true;
}

static bool read_properties(struct validator *validator, struct section *section,
                            const struct node *node)
{
    enum schema_block_id block = section->schema->id;
    for (const struct property *at = node->properties; at != NULL; at = at->next) {
        const struct schema_key *key = schema_find_key(block, at->name);
        if (key == NULL && schema_find_block(block, at->name) == NULL) {
            refuse_unknown(validator, block, at->name, at->position);
        } else if (key == NULL || key->form == FORM_CHILD) {
            COMPLAIN(validator, at->position, "write it there without `=`",
                     "`%.*s` belongs between the braces of `%s`", SHOWN(at->name),
                     section->schema->name);
        } else if (!read_single(validator, section, key, at->position, &at->value)) {
            return false;
        }
    }
    return true;
}

static bool read_node(struct validator *validator, struct section *section,
                      const struct node *node);

static void check_required(struct validator *validator, const struct section *section)
{
    char title[SECTION_TITLE_MAX];
    char help[HELP_MAX];
    section_title(section, title);
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        const struct schema_key *key = schema_key(id);
        if (key->block == section->schema->id && key->form != FORM_ARGUMENT &&
            (key->flags & SCHEMA_REQUIRED) != 0 && section_setting(section, id) == NULL) {
            (void)snprintf(help, sizeof(help), "for example: %s %s", key->name, key->example);
            COMPLAIN(validator, section->position, help, "%s has no `%s`", title, key->name);
        }
    }
    for (enum schema_block_id id = BLOCK_TOP + 1; id < SCHEMA_BLOCKS; id++) {
        const struct schema_block *block = schema_block(id);
        if (block->parent == section->schema->id && (block->flags & SCHEMA_REQUIRED) != 0 &&
            section->counts[id] == 0) {
            const struct schema_key *argument = schema_argument(id, 0);
            (void)snprintf(help, sizeof(help), "for example: %s %s", block->name,
                           argument->example);
            COMPLAIN(validator, section->position, help, "%s has no `%s`", title, block->name);
        }
    }
}

/* Whether one more block of this kind may stand in the section; complains where the bound is met.
 */
static bool may_have_child(struct validator *validator, struct section *section,
                           const struct schema_block *block, struct position position)
{
    uint32_t count = section->counts[block->id]++;
    if (count < block->maximum) {
        return true;
    }
    if (block->maximum == 1) {
        const struct section *first = section_child(section, block->id);
        ASSERT(first != NULL);
        refuse_second(validator, block->name, position, first->position);
    } else if (count == block->maximum) {
        COMPLAIN(validator, position, NULL, "there are more than %u `%s`", block->maximum,
                 block->name);
    }
    return false;
}

static bool read_block(struct validator *validator, struct section *parent,
                       const struct schema_block *block, const struct node *node)
{
    if (!may_have_child(validator, parent, block, node->position)) {
        return true;
    }
    struct section *section = arena_calloc(validator->arena, 1, sizeof(*section));
    if (section == NULL) {
        return false;
    }
    section->schema = block;
    section->position = node->position;
    if (parent->last_child == NULL) {
        parent->children = section;
    } else {
        parent->last_child->next = section;
    }
    parent->last_child = section;
    if (!read_arguments(validator, section, node) || !read_properties(validator, section, node)) {
        return false;
    }
    for (const struct node *at = node->children; at != NULL; at = at->next) {
        if (!read_node(validator, section, at)) {
            return false;
        }
    }
    check_required(validator, section);
    return true;
}

/* Recursion ends with the table's depth: what is unknown is not entered. */
static bool read_node(struct validator *validator, struct section *section, const struct node *node)
{
    enum schema_block_id block = section->schema->id;
    const struct schema_block *child = schema_find_block(block, node->name);
    const struct schema_key *key = schema_find_key(block, node->name);
    if (node->type.data != NULL) {
        COMPLAIN(validator, node->position, NULL, "the type annotation (%.*s) has no meaning here",
                 SHOWN(node->type));
        return true;
    }
    if (child != NULL) {
        return read_block(validator, section, child, node);
    }
    if (key == NULL) {
        refuse_unknown(validator, block, node->name, node->position);
        return true;
    }
    if (key->form == FORM_PROPERTY) {
        char help[HELP_MAX];
        (void)snprintf(help, sizeof(help), "write `%s ... %s=...`", section->schema->name,
                       key->name);
        COMPLAIN(validator, node->position, help, "`%s` is a property of `%s`", key->name,
                 section->schema->name);
        return true;
    }
    return read_child(validator, section, key, node);
}

struct section *validate_document(struct validator *validator, const struct document *document)
{
    struct section *top = arena_calloc(validator->arena, 1, sizeof(*top));
    if (top == NULL) {
        return NULL;
    }
    top->schema = schema_block(BLOCK_TOP);
    for (const struct node *at = document->nodes; at != NULL; at = at->next) {
        if (!read_node(validator, top, at)) {
            return NULL;
        }
    }
    return top;
}
