#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/diagnostics.h"

enum { ARENA_SIZE = 64 * 1024 };

struct fixture {
    struct diagnostics diagnostics;
    struct arena arena;
    char *printed;
    _Alignas(max_align_t) uint8_t memory[ARENA_SIZE];
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    if (fixture == NULL) {
        return -1;
    }
    arena_init(&fixture->arena, fixture->memory, ARENA_SIZE);
    diagnostics_init(&fixture->diagnostics, &fixture->arena);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    free(fixture->printed);
    free(fixture);
    return 0;
}

static const char *print(struct fixture *fixture)
{
    size_t size = 0;
    free(fixture->printed);
    FILE *stream = open_memstream(&fixture->printed, &size);
    assert_non_null(stream);
    diagnostics_print(&fixture->diagnostics, stream);
    assert_int_equal(fclose(stream), 0);
    return fixture->printed;
}

static struct position place(const struct source *source, uint32_t line, uint32_t column)
{
    return (struct position){.source = source, .line = line, .column = column};
}

static void nothing_wrong_prints_nothing(void **state)
{
    assert_string_equal(print(*state), "");
}

static void an_entry_shows_place_line_caret_and_help(void **state)
{
    struct fixture *fixture = *state;
    const struct source source = {SPAN("a.kdl"), SPAN("one\n  two three\nfour")};
    diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(&source, 2, 7), "try four",
                    "unknown key `%s`", "three");
    assert_string_equal(print(fixture), "a.kdl:2:7: error: unknown key `three`\n"
                                        "    two three\n"
                                        "        ^\n"
                                        "  help: try four\n"
                                        "1 error\n");
}

static void texts_are_copied(void **state)
{
    struct fixture *fixture = *state;
    char help[] = "first";
    diagnostics_add(&fixture->diagnostics, SEVERITY_WARNING, place(NULL, 0, 0), help, "x");
    help[0] = 'F';
    assert_string_equal(print(fixture), "warning: x\n  help: first\n1 warning\n");
}

static void tabs_stand_above_and_in_the_caret_line(void **state)
{
    struct fixture *fixture = *state;
    const struct source source = {SPAN("a"), SPAN("\tx\ty = 1\r\n")};
    diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(&source, 1, 6), NULL, "no");
    assert_string_equal(print(fixture), "a:1:6: error: no\n  \tx\ty = 1\n  \t \t  ^\n1 error\n");
}

static void columns_count_code_points(void **state)
{
    struct fixture *fixture = *state;
    const struct source source = {SPAN("a"), SPAN("\xEF\xBB\xBF\xC3\xA9t\xC3\xA9 x")};
    diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(&source, 1, 5), NULL, "no");
    assert_string_equal(print(fixture),
                        "a:1:5: error: no\n  \xC3\xA9t\xC3\xA9 x\n      ^\n1 error\n");
}

static void a_place_behind_the_last_character_can_be_shown(void **state)
{
    struct fixture *fixture = *state;
    const struct source source = {SPAN("a"), SPAN("ab\n")};
    diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(&source, 1, 3), NULL, "one");
    diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(&source, 2, 1), NULL, "two");
    diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(&source, 9, 1), NULL, "three");
    assert_string_equal(print(fixture), "a:1:3: error: one\n  ab\n    ^\n"
                                        "a:2:1: error: two\n  \n  ^\n"
                                        "a:9:1: error: three\n  \n  ^\n"
                                        "3 errors\n");
}

static void lines_end_at_lf_crlf_and_cr(void **state)
{
    struct fixture *fixture = *state;
    const struct source source = {SPAN("a"), SPAN("one\rtwo\r\nthree\nfour")};
    const char *lines[] = {"one", "two", "three", "four"};
    for (uint32_t i = 0; i < 4; i++) {
        diagnostics_init(&fixture->diagnostics, &fixture->arena);
        diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(&source, i + 1, 1), NULL, "x");
        char expected[64];
        (void)snprintf(expected, sizeof(expected), "a:%u:1: error: x\n  %s\n  ^\n1 error\n", i + 1,
                       lines[i]);
        assert_string_equal(print(fixture), expected);
    }
}

static void control_bytes_reach_no_terminal(void **state)
{
    struct fixture *fixture = *state;
    const struct source source = {SPAN("a\x1B"), SPAN("\x1B[2J\xFF\xE2\x80\xAE x")};
    diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(&source, 1, 8), "h\x07",
                    "m\x1B]0;\n");
    assert_string_equal(print(fixture), "a\\x1B:1:8: error: m\\x1B]0;\\x0A\n"
                                        "  \\x1B[2J\\xFF\\u{202E} x\n"
                                        "                      ^\n"
                                        "  help: h\\x07\n"
                                        "1 error\n");
}

static void an_overlong_line_is_cut_around_the_column(void **state)
{
    struct fixture *fixture = *state;
    static char text[4000];
    memset(text, '.', sizeof(text));
    text[1999] = '!';
    const struct source source = {SPAN("a"), span_of(text, sizeof(text))};
    diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(&source, 1, 2000), NULL, "no");
    const char *shown = strchr(print(fixture), '\n') + 1;
    const char *caret = strchr(shown, '\n') + 1;
    size_t mark = strcspn(shown, "!");
    assert_int_equal(caret - shown, 2 + 3 + 120 + 3 + 1);
    assert_memory_equal(shown, "  ....", 6);
    assert_int_equal(caret[mark], '^');
    assert_int_equal(strspn(caret, " "), mark);
}

static void entries_are_ordered_by_source_and_place(void **state)
{
    struct fixture *fixture = *state;
    const struct source a = {SPAN("a"), SPAN("1\n2\n3\n")};
    const struct source b = {SPAN("b"), SPAN("1\n2\n3\n")};
    struct diagnostics *diagnostics = &fixture->diagnostics;
    diagnostics_add(diagnostics, SEVERITY_ERROR, place(&b, 1, 1), NULL, "fifth");
    diagnostics_add(diagnostics, SEVERITY_ERROR, place(&a, 3, 1), NULL, "fourth");
    diagnostics_add(diagnostics, SEVERITY_WARNING, place(&a, 2, 2), NULL, "third");
    diagnostics_add(diagnostics, SEVERITY_ERROR, place(&a, 2, 1), NULL, "second");
    diagnostics_add(diagnostics, SEVERITY_ERROR, place(&a, 2, 1), NULL, "second too");
    diagnostics_add(diagnostics, SEVERITY_WARNING, place(&a, 0, 0), NULL, "the file");
    diagnostics_add(diagnostics, SEVERITY_ERROR, place(NULL, 0, 0), NULL, "first");
    assert_string_equal(print(fixture), "error: first\n"
                                        "a: warning: the file\n"
                                        "a:2:1: error: second\n  2\n  ^\n"
                                        "a:2:1: error: second too\n  2\n  ^\n"
                                        "a:2:2: warning: third\n  2\n   ^\n"
                                        "a:3:1: error: fourth\n  3\n  ^\n"
                                        "b:1:1: error: fifth\n  1\n  ^\n"
                                        "5 errors, 2 warnings\n");
}

static void entries_beyond_the_bound_are_counted(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < DIAGNOSTICS_MAX + 20; i++) {
        diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(NULL, 0, 0), NULL, "x");
    }
    diagnostics_add(&fixture->diagnostics, SEVERITY_WARNING, place(NULL, 0, 0), NULL, "x");
    assert_int_equal(fixture->diagnostics.count, DIAGNOSTICS_MAX);
    assert_int_equal(fixture->diagnostics.errors, DIAGNOSTICS_MAX + 20);
    assert_non_null(strstr(print(fixture), "\n120 errors, 1 warning (the first 100 are shown)\n"));
}

static void a_full_arena_still_counts_and_places_the_error(void **state)
{
    struct fixture *fixture = *state;
    const struct source source = {SPAN("a"), SPAN("1")};
    arena_init(&fixture->arena, fixture->memory, 4);
    diagnostics_add(&fixture->diagnostics, SEVERITY_ERROR, place(&source, 1, 1), "help me",
                    "a long message");
    assert_int_equal(fixture->diagnostics.errors, 1);
    assert_non_null(strstr(print(fixture), "a:1:1: error: (there is no memory left"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(nothing_wrong_prints_nothing),
        TEST(an_entry_shows_place_line_caret_and_help),
        TEST(texts_are_copied),
        TEST(tabs_stand_above_and_in_the_caret_line),
        TEST(columns_count_code_points),
        TEST(a_place_behind_the_last_character_can_be_shown),
        TEST(lines_end_at_lf_crlf_and_cr),
        TEST(control_bytes_reach_no_terminal),
        TEST(an_overlong_line_is_cut_around_the_column),
        TEST(entries_are_ordered_by_source_and_place),
        TEST(entries_beyond_the_bound_are_counted),
        TEST(a_full_arena_still_counts_and_places_the_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
