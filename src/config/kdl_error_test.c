/* What is refused: the message, its place, its help, and the bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/kdl.h"

enum { ARENA_SIZE = 1024 * 1024, TEXT_ARENA_SIZE = 4096 };

struct fixture {
    struct diagnostics diagnostics;
    struct document document;
    struct arena arena;
    struct arena texts;
    _Alignas(max_align_t) uint8_t memory[ARENA_SIZE];
    _Alignas(max_align_t) uint8_t text_memory[TEXT_ARENA_SIZE];
};

static const struct kdl_options relaxed = {.version = 0, .strict = false};
static const struct kdl_options strict = {.version = 0, .strict = true};
static const struct kdl_options version_1 = {.version = 1, .strict = false};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    *state = fixture;
    if (fixture == NULL) {
        return -1;
    }
    arena_init(&fixture->arena, fixture->memory, ARENA_SIZE);
    return 0;
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

static enum status parse(struct fixture *fixture, struct span text, struct kdl_options options)
{
    struct source source = {.name = SPAN("test.kdl"), .text = text};
    arena_init(&fixture->texts, fixture->text_memory, TEXT_ARENA_SIZE);
    diagnostics_init(&fixture->diagnostics, &fixture->texts);
    return kdl_parse(&source, options, &fixture->arena, &fixture->diagnostics, &fixture->document);
}

struct mistake {
    const char *text;
    uint32_t line;
    uint32_t column;
    const char *message;
    const char *help; /* a part of it; NULL: there is none */
};

static bool contains(struct span text, const char *part)
{
    return part == NULL ? text.size == 0 : memmem(text.data, text.size, part, strlen(part)) != NULL;
}

static void check_mistakes(struct fixture *fixture, struct kdl_options options,
                           const struct mistake *mistakes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct mistake *mistake = &mistakes[i];
        struct node *untouched = fixture->document.nodes;
        size_t used = fixture->arena.used;
        if (parse(fixture, span_of_string(mistake->text), options) != ERROR) {
            fail_msg("accepted: %s", mistake->text);
        }
        assert_ptr_equal(fixture->document.nodes, untouched);
        assert_int_equal(fixture->arena.used, used);
        assert_int_equal(fixture->diagnostics.errors, 1);
        const struct diagnostic *entry = &fixture->diagnostics.entries[0];
        if (entry->position.line != mistake->line || entry->position.column != mistake->column ||
            !span_equal(entry->message, span_of_string(mistake->message)) ||
            !contains(entry->help, mistake->help)) {
            fail_msg("%s\nsays %u:%u: %.*s (%.*s)", mistake->text, entry->position.line,
                     entry->position.column, SPAN_ARGS(entry->message), SPAN_ARGS(entry->help));
        }
    }
}

#define CHECK(fixture, options, mistakes)                                                          \
    check_mistakes(fixture, options, mistakes, sizeof(mistakes) / sizeof((mistakes)[0]))

static void habits_of_other_languages_get_a_hint(void **state)
{
    static const struct mistake mistakes[] = {
        {"server {\n\tworkers = 4\n}", 2, 10,
         "expected a value, a property or the end of the node, found `=`", "`name value`"},
        {"a [1, 2]", 1, 3, "expected a value, a property or the end of the node, found `[`",
         "no lists in brackets"},
        {"a 1\n# b", 2, 1,
         "expected #true, #false, #null, #inf, #-inf, #nan or a raw string after `#`",
         "comments begin with //"},
        {"a 10.0.0.1:80", 1, 7, "expected the end of the number, found `.`", "needs quotes"},
        {"a .5", 1, 3, "a number needs a digit before its decimal point", "`0.5`"},
        {"a (t)k=1", 1, 6, "the type of a property stands before its value", "name=(type)value"},
        {"true 1", 1, 1, "`true` is a keyword, not a name", "quotes"},
        {"a inf", 1, 3, "the bare word `inf` is not allowed as a value", "#inf"},
        {"a \"C:\\dir\"", 1, 6, "unknown escape in a string", "\\u{...}"},
    };
    CHECK(*state, relaxed, mistakes);
}

static void strict_mode_says_what_it_misses(void **state)
{
    static const struct mistake mistakes[] = {
        {"a 30s", 1, 5, "expected the end of the number, found `s`", "no units"},
        {"a b true", 1, 5, "the bare word `true` is not allowed as a value", "#true"},
    };
    CHECK(*state, strict, mistakes);
}

static void what_is_never_closed_is_shown_where_it_begins(void **state)
{
    static const struct mistake mistakes[] = {
        {"a {\n  b \"x\n}", 2, 5, "the string that begins here is not closed on its line",
         "closing quote"},
        {"a \"x", 1, 3, "the string that begins here is never closed", NULL},
        {"a ##\"x\"#", 1, 3, "the raw string that begins here is never closed", "as many `#`"},
        {"a \"\"\"\nx\n", 1, 3, "the string that begins here is never closed", NULL},
        {"a {\n  b {\n}\n", 1, 3, "the block that begins here is never closed", "`}`"},
        {"a /* /* */\n", 1, 3, "the comment that begins here is never closed", "nest"},
        {"a\n}\n", 2, 1, "this `}` closes no block", NULL},
    };
    CHECK(*state, relaxed, mistakes);
}

static void strings_over_several_lines_explain_their_rules(void **state)
{
    static const struct mistake mistakes[] = {
        {"a \"\"\"x\"\"\"", 1, 3, "the text between \"\"\" begins on a new line", "one quote"},
        {"a \"\"\"\n  x\n\ty\n  \"\"\"", 3, 1,
         "this line is not indented like the closing \"\"\" of its string", "spaces and tabs"},
        {"a \"\"\"\n  x\"\"\"", 2, 4, "the closing \"\"\" must stand on a line of its own",
         "removed from the lines above"},
    };
    CHECK(*state, relaxed, mistakes);
}

static void escapes_must_name_a_character(void **state)
{
    static const struct mistake mistakes[] = {
        {"a \"\\u{}\"", 1, 4, "`\\u` needs one to six hexadecimal digits in braces", "1F600"},
        {"a \"\\u{0000041}\"", 1, 4, "`\\u` needs one to six hexadecimal digits in braces", ""},
        {"a \"\\u{41\"", 1, 4, "`\\u` needs one to six hexadecimal digits in braces", ""},
        {"a \"\\u{D800}\"", 1, 4, "U+D800 is not a Unicode character", NULL},
        {"a \"\\u{110000}\"", 1, 4, "U+110000 is not a Unicode character", NULL},
    };
    CHECK(*state, relaxed, mistakes);
}

static void misplaced_parts_are_named(void **state)
{
    static const struct mistake mistakes[] = {
        {"a {} {}", 1, 6, "a node has at most one block of children", "new line"},
        {"a {} b", 1, 6, "expected the end of the node behind its block, found `b`", "`;`"},
        {"a /-", 1, 5, "expected what `/-` comments out, found the end of the text", NULL},
        {"a \"b\"\"c\"", 1, 6, "expected a space or the end of the node, found `\"`", NULL},
        {"a (1)2", 1, 4, "the name of a type is a string", "quotes"},
        {"a (t", 1, 5, "expected `)` behind the type, found the end of the text", NULL},
        {"a (t)\n", 1, 6,
         "expected a value, a property or the end of the node, found the end of "
         "the line",
         NULL},
        {"a k=", 1, 5, "expected a value, found the end of the text", NULL},
        {"1 a", 1, 1, "expected a name, found a value", "quotes"},
        {"a \\ b", 1, 5, "expected the end of the line after `\\`, found `b`", "joins"},
        {"a 0xg", 1, 5, "expected a hexadecimal digit after `0x`, found `g`", NULL},
        {"a 1.", 1, 5, "expected a digit after the decimal point, found the end of the text", NULL},
    };
    CHECK(*state, relaxed, mistakes);
}

static void the_error_of_version_2_is_shown_unless_1_was_asked_for(void **state)
{
    static const struct mistake both[] = {
        {"a r\"x\"\nb word", 1, 4, "expected a space or the end of the node, found `\"`",
         "#\"...\"#"},
        {"/- kdl-version 3\n", 1, 16, "this KDL version is not known; 1 and 2 are", NULL},
    };
    static const struct mistake old[] = {
        {"a r\"x\"\nb word", 2, 3, "expected a value, found a bare word", "quotes in KDL 1"},
        {"a {b}", 1, 5, "expected the end of the node, found `}`", "new line before `}`"},
        {"a \"\\s\"", 1, 4, "unknown escape in a string", "r\"...\""},
    };
    CHECK(*state, relaxed, both);
    CHECK(*state, version_1, old);
}

static void both_versions_refuse_what_deceives_the_eye(void **state)
{
    static const struct mistake mistakes[] = {
        {"a \xC3\xA9 \xFF", 1, 5, "the byte 0xFF is not valid UTF-8 here", "UTF-8"},
        {"a \"\xED\xA0\x80\"", 1, 4, "the byte 0xED is not valid UTF-8 here", "UTF-8"},
        {"a \"x\ny\xEF\xBB\xBF\"", 2, 2,
         "a byte order mark may only be the first character of a text", "invisible"},
        {"// \xE2\x80\xAE", 1, 4, "the invisible direction mark U+202E is not allowed", "\\u{...}"},
        {"a \"\x1B\"", 1, 4, "the control character U+001B is not allowed", "\\u{...}"},
    };
    CHECK(*state, relaxed, mistakes);
    CHECK(*state, version_1, mistakes);
    assert_int_equal(parse(*state, SPAN("a \"\0\""), version_1), ERROR);
}

/* A text of `count` times `piece`, which the caller frees. */
static struct span repeat(const char *piece, size_t count)
{
    size_t size = strlen(piece);
    uint8_t *text = malloc(size * count);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++) {
        memcpy(text + i * size, piece, size);
    }
    return span_of(text, size * count);
}

static enum status parse_blocks(struct fixture *fixture, size_t depth)
{
    struct span opened = repeat("a{", depth);
    struct span closed = repeat("}", depth);
    char text[1024];
    int size = snprintf(text, sizeof(text), "%.*s%.*s", SPAN_ARGS(opened), SPAN_ARGS(closed));
    enum status status = parse(fixture, span_of(text, (size_t)size), relaxed);
    free((void *)(uintptr_t)opened.data);
    free((void *)(uintptr_t)closed.data);
    return status;
}

static void nesting_is_bounded(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(parse_blocks(fixture, KDL_DEPTH_MAX), OK);
    assert_int_equal(parse_blocks(fixture, KDL_DEPTH_MAX + 1), ERROR);
    const struct diagnostic *entry = &fixture->diagnostics.entries[0];
    assert_true(span_equal(entry->message, SPAN("blocks are nested more than 64 deep")));
    assert_int_equal(entry->position.column, 2 * (KDL_DEPTH_MAX + 1));
}

static void comments_nest_without_recursion(void **state)
{
    enum { DEPTH = 100000 };
    struct span text = repeat("/*", 2 * DEPTH);
    uint8_t *bytes = (uint8_t *)(uintptr_t)text.data;
    for (size_t i = 0; i < DEPTH; i++) {
        memcpy(bytes + 2 * (DEPTH + i), "*/", 2);
    }
    assert_int_equal(parse(*state, text, relaxed), OK);
    free(bytes);
}

static void the_size_of_a_text_is_bounded(void **state)
{
    struct fixture *fixture = *state;
    struct span text = repeat(" ", KDL_TEXT_MAX + 1);
    assert_int_equal(parse(fixture, span_first(text, KDL_TEXT_MAX), relaxed), OK);
    assert_int_equal(parse(fixture, text, relaxed), ERROR);
    assert_true(contains(fixture->diagnostics.entries[0].message, "4194305 bytes"));
    free((void *)(uintptr_t)text.data);
}

static void the_arena_bounds_nodes_and_gets_everything_back(void **state)
{
    struct fixture *fixture = *state;
    struct span text = repeat("a \"\\n\" k=1 {b}\n", 20000);
    assert_int_equal(parse(fixture, text, relaxed), ERROR);
    assert_int_equal(fixture->diagnostics.errors, 1);
    assert_true(contains(fixture->diagnostics.entries[0].message, "too large for the memory"));
    assert_true(fixture->diagnostics.entries[0].position.line > 1000);
    assert_int_equal(fixture->arena.used, 0);
    free((void *)(uintptr_t)text.data);
}

static void every_size_of_arena_is_survived(void **state)
{
    struct fixture *fixture = *state;
    const struct span text = SPAN("a \"\\n\" k=1 {\n  b \"\"\"\n  x\n  \"\"\"\n}\n");
    enum status status = ERROR;
    for (size_t size = 0; status != OK; size++) {
        assert_true(size < ARENA_SIZE);
        arena_init(&fixture->arena, fixture->memory, size);
        status = parse(fixture, text, relaxed);
        assert_int_equal(fixture->diagnostics.errors, status == OK ? 0 : 1);
    }
}

static void properties_of_a_node_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    static char text[16 * 1024];
    size_t size = 1;
    text[0] = 'a';
    for (unsigned i = 0; i <= KDL_PROPERTIES_MAX; i++) {
        size_t start = size;
        size += (size_t)snprintf(text + size, sizeof(text) - size, " p%u=1", i);
        enum status expected = i < KDL_PROPERTIES_MAX ? OK : ERROR;
        assert_int_equal(parse(fixture, span_of(text, size), relaxed), expected);
        arena_reset(&fixture->arena);
        if (expected == ERROR) {
            const struct diagnostic *entry = &fixture->diagnostics.entries[0];
            assert_true(span_equal(entry->message, SPAN("a node has at most 256 properties")));
            assert_int_equal(entry->position.column, start + 2);
        }
    }
}

static void all_beginnings_of_a_text_end_in_an_answer(void **state)
{
    const struct span text =
        SPAN("/- kdl-version 2\n(t)a 1.5e3s \"\\u{e9}\\\n \" #\"r\"# k=(u)#true "
             "/-x \\\n { b /* c */; /-{}\n \"\"\"\n  \xC3\xA9\n  \"\"\" }\n");
    for (size_t size = 0; size <= text.size; size++) {
        struct fixture *fixture = *state;
        uint8_t *copy = malloc(size + 1); /* so that the sanitizer sees a read behind the end */
        assert_non_null(copy);
        uint8_t *end = copy + 1;
        memcpy(end, text.data, size);
        enum status status = parse(fixture, span_of(end, size), relaxed);
        assert_int_equal(fixture->diagnostics.errors, status == OK ? 0 : 1);
        arena_reset(&fixture->arena);
        free(copy);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(habits_of_other_languages_get_a_hint),
        TEST(strict_mode_says_what_it_misses),
        TEST(what_is_never_closed_is_shown_where_it_begins),
        TEST(strings_over_several_lines_explain_their_rules),
        TEST(escapes_must_name_a_character),
        TEST(misplaced_parts_are_named),
        TEST(the_error_of_version_2_is_shown_unless_1_was_asked_for),
        TEST(both_versions_refuse_what_deceives_the_eye),
        TEST(nesting_is_bounded),
        TEST(comments_nest_without_recursion),
        TEST(the_size_of_a_text_is_bounded),
        TEST(the_arena_bounds_nodes_and_gets_everything_back),
        TEST(every_size_of_arena_is_survived),
        TEST(properties_of_a_node_are_bounded),
        TEST(all_beginnings_of_a_text_end_in_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
