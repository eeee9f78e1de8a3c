/* What texts mean: documents, values, positions, versions and the two extensions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/kdl.h"

enum { ARENA_SIZE = 256 * 1024, DUMP_SIZE = 16 * 1024 };

struct fixture {
    struct source source;
    struct document document;
    struct diagnostics diagnostics;
    struct arena arena;
    struct arena texts;
    size_t dump_size;
    char dump[DUMP_SIZE];
    uint8_t file[DUMP_SIZE];
    _Alignas(max_align_t) uint8_t memory[ARENA_SIZE];
    _Alignas(max_align_t) uint8_t text_memory[DUMP_SIZE];
};

static const struct kdl_options relaxed = {.version = 0, .strict = false};
static const struct kdl_options strict_1 = {.version = 1, .strict = true};
static const struct kdl_options strict_2 = {.version = 2, .strict = true};

static int set_up(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    return *state == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

static enum status parse(struct fixture *fixture, struct span text, struct kdl_options options)
{
    fixture->source = (struct source){.name = SPAN("test.kdl"), .text = text};
    fixture->document = (struct document){0};
    arena_init(&fixture->arena, fixture->memory, ARENA_SIZE);
    arena_init(&fixture->texts, fixture->text_memory, DUMP_SIZE);
    diagnostics_init(&fixture->diagnostics, &fixture->texts);
    return kdl_parse(&fixture->source, options, &fixture->arena, &fixture->diagnostics,
                     &fixture->document);
}

static void put(struct fixture *fixture, const char *format, ...) PRINTF_LIKE(2, 3);

static void put(struct fixture *fixture, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(fixture->dump + fixture->dump_size, DUMP_SIZE - fixture->dump_size, format,
                         arguments);
    va_end(arguments);
    assert_true(size >= 0 && (size_t)size < DUMP_SIZE - fixture->dump_size);
    fixture->dump_size += (size_t)size;
}

static void put_value(struct fixture *fixture, const struct value *value)
{
    if (value->type.data != NULL) {
        put(fixture, "(%.*s)", SPAN_ARGS(value->type));
    }
    switch (value->kind) {
    case VALUE_STRING:
        put(fixture, "'%.*s'", SPAN_ARGS(value->text));
        break;
    case VALUE_NUMBER:
        put(fixture, "%.*s", SPAN_ARGS(value->text));
        break;
    case VALUE_BOOLEAN:
        put(fixture, "%s", value->boolean ? "yes" : "no");
        break;
    case VALUE_NULL:
        put(fixture, "nothing");
        break;
    }
    if (value->unit.size > 0) {
        put(fixture, "|%.*s", SPAN_ARGS(value->unit));
    }
}

/* One node each `name value name=value { ... };`, strings in '', units behind |. */
static void put_nodes(struct fixture *fixture, const struct node *node)
{
    for (; node != NULL; node = node->next) {
        if (node->type.data != NULL) {
            put(fixture, "(%.*s)", SPAN_ARGS(node->type));
        }
        put(fixture, "%.*s", SPAN_ARGS(node->name));
        for (const struct argument *a = node->arguments; a != NULL; a = a->next) {
            put(fixture, " ");
            put_value(fixture, &a->value);
        }
        for (const struct property *p = node->properties; p != NULL; p = p->next) {
            put(fixture, " %.*s=", SPAN_ARGS(p->name));
            put_value(fixture, &p->value);
        }
        if (node->children != NULL) {
            put(fixture, "{");
            put_nodes(fixture, node->children);
            put(fixture, "}");
        }
        put(fixture, ";");
    }
}

static const char *dump(struct fixture *fixture)
{
    fixture->dump_size = 0;
    fixture->dump[0] = '\0';
    put_nodes(fixture, fixture->document.nodes);
    return fixture->dump;
}

struct meaning {
    const char *text;
    const char *document;
};

static void check_meanings(struct fixture *fixture, struct kdl_options options,
                           const struct meaning *meanings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (parse(fixture, span_of_string(meanings[i].text), options) != OK) {
            fail_msg("refused: %s (%.*s)", meanings[i].text,
                     SPAN_ARGS(fixture->diagnostics.entries[0].message));
        }
        assert_string_equal(dump(fixture), meanings[i].document);
    }
}

#define CHECK(fixture, options, meanings)                                                          \
    check_meanings(fixture, options, meanings, sizeof(meanings) / sizeof((meanings)[0]))

static void a_text_without_nodes_is_an_empty_document(void **state)
{
    static const struct meaning meanings[] = {
        {"", ""}, {"\n", ""}, {"// x", ""}, {"/* x */", ""}, {"\xEF\xBB\xBF", ""}, {"/-a", ""},
    };
    CHECK(*state, relaxed, meanings);
    assert_int_equal(parse(*state, SPAN_EMPTY, relaxed), OK);
}

static void values_keep_their_kind_and_their_digits(void **state)
{
    static const struct meaning meanings[] = {
        {"a b \"c\" #\"d\"#", "a 'b' 'c' 'd';"},
        {"a 1 -2 +3 0x1F 1_000 0.5e-10", "a 1 -2 +3 0x1F 1_000 0.5e-10;"},
        {"a 1.23E+1000 123456789012345678901234567", "a 1.23E+1000 123456789012345678901234567;"},
        {"a #true #false #null #inf #-inf #nan", "a yes no nothing #inf #-inf #nan;"},
        {"(t)a (u)1 k=(v)w", "(t)a (u)1 k=(v)'w';"},
        {"a \"\" (\"\")1", "a '' ()1;"},
    };
    CHECK(*state, strict_2, meanings);
}

static void the_last_property_of_a_name_wins(void **state)
{
    static const struct meaning meanings[] = {{"a x=1 y=2 x=3", "a x=3 y=2;"}};
    CHECK(*state, strict_2, meanings);
    const struct fixture *fixture = *state;
    assert_int_equal(fixture->document.nodes->properties->position.column, 11);
}

static void commented_parts_leave_nothing_behind(void **state)
{
    static const struct meaning meanings[] = {
        {"/-a 1 {b}\nc", "c;"},
        {"a /-1 2 /-k=1 l=2", "a 2 l=2;"},
        {"a /-{b} {c} /-{d}", "a{c;};"},
        {"a /-\n// x\n1 2", "a 2;"},
        {"a { /-b \"\\n\"; c \"\\t.\" }", "a{c '\t.';};"},
    };
    CHECK(*state, strict_2, meanings);
}

static void strings_over_several_lines_lose_their_indentation(void **state)
{
    static const struct meaning meanings[] = {
        {"a \"\"\"\n  x\r\n\n    y\n  \"\"\"", "a 'x\n\n  y';"},
        {"a \"\"\"\n  x \\\n      y\\n\n  \"\"\"", "a 'x y\n';"},
        {"a #\"\"\"\n\tx\\n\n\t\"\"\"#", "a 'x\\n';"},
        {"a \"\"\"\n\"\"\" \"\"\"\n\n\"\"\"", "a '' '';"},
    };
    CHECK(*state, strict_2, meanings);
}

static void version_1_has_its_own_strings_and_keywords(void **state)
{
    static const struct meaning meanings[] = {
        {"a r\"\\n\" r#\"\"\"# \"x\ny\" \"\\/\"", "a '\\n' '\"' 'x\ny' '/';"},
        {"a true k=false null", "a yes nothing k=no;"},
        {"a { b; c\n}", "a{b;c;};"},
        {"#x \"y\"", "#x 'y';"},
    };
    CHECK(*state, strict_1, meanings);
}

static void numbers_carry_units(void **state)
{
    static const struct meaning meanings[] = {
        {"a 30s 250ms 2m 1h", "a 30|s 250|ms 2|m 1|h;"},
        {"a 10MB 8KiB k=-1_0.5s", "a 10|MB 8|KiB k=-1_0.5|s;"},
        {"a 1e3 1e3s 1e 0x1e", "a 1e3 1e3|s 1|e 0x1e;"},
        {"a 30s/-1", "a 30|s;"},
        {"a{b 30s}", "a{b 30|s;};"},
    };
    CHECK(*state, relaxed, meanings);
    assert_int_equal(parse(*state, SPAN("a 30s"), strict_2), ERROR);
    assert_int_equal(parse(*state, SPAN("a 30s"), strict_1), ERROR);
}

static void bare_keywords_are_values_but_no_names(void **state)
{
    static const struct meaning meanings[] = {
        {"a true k=false null trueish", "a yes nothing 'trueish' k=no;"},
        {"a \"true\"", "a 'true';"},
    };
    CHECK(*state, relaxed, meanings);
    assert_int_equal(parse(*state, SPAN("a true"), strict_2), ERROR);
    assert_int_equal(parse(*state, SPAN("true 1"), relaxed), ERROR);
    assert_int_equal(parse(*state, SPAN("a true=1"), relaxed), ERROR);
}

static void the_version_is_found_unless_the_text_names_it(void **state)
{
    static const struct meaning meanings[] = {
        {"a r\"x\"", "a 'x';"}, /* only 1 */
        {"a x", "a 'x';"},      /* only 2 */
        {"/- kdl-version 1\na r\"x\"", "a 'x';"},
        {"/-kdl-version 2\r\na x", "a 'x';"},
        {"\xEF\xBB\xBF/- kdl-version 1 \na r\"x\"", "a 'x';"},
        {"/- kdl-version 1", ""},
        {"/- kdl-version 1 x\na x", "a 'x';"}, /* a node like any other */
        {"/- kdl-versions 3\na x", "a 'x';"},
    };
    CHECK(*state, relaxed, meanings);
    assert_int_equal(parse(*state, SPAN("/- kdl-version 1\na x"), relaxed), ERROR);
    assert_int_equal(parse(*state, SPAN("/- kdl-version 2\na r\"x\""), relaxed), ERROR);
    assert_int_equal(parse(*state, SPAN("/- kdl-version 3\na 1"), relaxed), ERROR);
}

static void positions_count_lines_and_code_points(void **state)
{
    struct fixture *fixture = *state;
    const struct span text = SPAN("\xEF\xBB\xBF// \xC3\xA9\r\n\t\xC3\xA9 {\r  b (t)1 \"\xC3\xA9\" "
                                  "k = 2\n}");
    assert_int_equal(parse(fixture, text, strict_2), OK);
    const struct node *outer = fixture->document.nodes;
    const struct node *inner = outer->children;
    const struct argument *first = inner->arguments;
    assert_ptr_equal(outer->position.source, &fixture->source);
    assert_int_equal(outer->position.line, 2);
    assert_int_equal(outer->position.column, 2);
    assert_int_equal(inner->position.line, 3);
    assert_int_equal(inner->position.column, 3);
    assert_int_equal(first->value.position.column, 8); /* behind its type */
    assert_int_equal(first->next->value.position.column, 10);
    assert_int_equal(inner->properties->position.column, 14);
    assert_int_equal(inner->properties->value.position.column, 18);
    assert_int_equal(inner->properties->value.position.line, 3);
}

static struct span read_sample(struct fixture *fixture, const char *path)
{
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    size_t size = fread(fixture->file, 1, sizeof(fixture->file), stream);
    assert_int_equal(fclose(stream), 0);
    assert_true(size > 0 && size < sizeof(fixture->file));
    return span_of(fixture->file, size);
}

static void the_promised_samples_parse(void **state)
{
    struct fixture *fixture = *state;
    struct span text = read_sample(fixture, SENTINEL_SOURCE_DIR "/tests/corpus/kdl/sentinel.kdl");
    assert_int_equal(parse(fixture, text, relaxed), OK);
    assert_string_equal(
        dump(fixture),
        "server{workers 4;max-connections 10000;graceful-shutdown-timeout 30|s;};"
        "listener 'http'{address '0.0.0.0:8080';protocol 'http';};"
        "upstream 'backend'{target '10.0.1.10:8080' weight=1;target '10.0.1.11:8080' weight=1;"
        "health-check{type 'http' path='/health';interval 10|s;timeout 5|s;};"
        "load-balancing 'round_robin';};"
        "route 'api'{match path-prefix='/api';upstream 'backend';"
        "policies{timeout 30|s;retry-policy{max-attempts 3;timeout 10|s;};"
        "failure-mode 'closed';};};");
    text = read_sample(fixture, SENTINEL_SOURCE_DIR "/tests/corpus/kdl/waf.kdl");
    assert_int_equal(parse(fixture, text, relaxed), OK);
    assert_string_equal(dump(fixture),
                        "waf{engine 'modsecurity';ruleset{crs-version '3.3.4';paranoia-level 1;"
                        "anomaly-threshold 5;};mode 'prevention';audit-log yes;};");
}

static void identifiers_are_what_the_parser_reads_without_quotes(void **state)
{
    static const char *const words[] = {"a",   "-",  "-a",   ".a",  "a.1", "<",   "a,",      "r#",
                                        "-.5", ".5", "true", "inf", "-1",  "1",   "a b",     "a\"",
                                        "",    "(",  "+.",   "nan", "a#",  "-in", "\xC3\xA9"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        for (unsigned version = 1; version <= 2; version++) {
            struct fixture *fixture = *state;
            struct span word = span_of_string(words[i]);
            struct kdl_options options = {.version = version, .strict = true};
            bool read = parse(fixture, word, options) == OK && fixture->document.nodes != NULL &&
                        span_equal(fixture->document.nodes->name, word);
            if (kdl_is_identifier(word, version) != read) {
                fail_msg("`%s` in version %u", words[i], version);
            }
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_text_without_nodes_is_an_empty_document),
        TEST(values_keep_their_kind_and_their_digits),
        TEST(the_last_property_of_a_name_wins),
        TEST(commented_parts_leave_nothing_behind),
        TEST(strings_over_several_lines_lose_their_indentation),
        TEST(version_1_has_its_own_strings_and_keywords),
        TEST(numbers_carry_units),
        TEST(bare_keywords_are_values_but_no_names),
        TEST(the_version_is_found_unless_the_text_names_it),
        TEST(positions_count_lines_and_code_points),
        TEST(the_promised_samples_parse),
        TEST(identifiers_are_what_the_parser_reads_without_quotes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
