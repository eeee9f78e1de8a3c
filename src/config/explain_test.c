#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/compile.h"
#include "config/explain.h"
#include "config/schema.h"

/* What one of the explanations prints. The caller frees it. */
static char *printed(void (*explain)(FILE *))
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    assert_non_null(stream);
    explain(stream);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(strlen(text), size);
    return text;
}

static void the_example_loads_without_complaint(void **state)
{
    (void)state;
    enum { SIZE = 8 * 1024 * 1024 };
    void *memory = malloc(SIZE);
    void *notes = malloc(COMPILE_DIAGNOSTICS_ARENA_SIZE);
    struct diagnostics *diagnostics = malloc(sizeof(*diagnostics));
    struct arena arena;
    struct arena note_arena;
    struct span block = SPAN_EMPTY;
    char *text = printed(explain_example);
    struct environment environment = {.cores = 1};
    struct compile_input input = {
        .name = SPAN("example"),
        .text = span_of_string(text),
        .environment = &environment,
    };
    assert_non_null(diagnostics);
    arena_init(&arena, memory, SIZE);
    arena_init(&note_arena, notes, COMPILE_DIAGNOSTICS_ARENA_SIZE);
    diagnostics_init(diagnostics, &note_arena);
    enum status status = compile_text(&input, diagnostics, &arena, &block);
    diagnostics_print(diagnostics, stderr);
    assert_int_equal(status, OK);
    assert_int_equal(diagnostics->count, 0);
    free(text);
    free(diagnostics);
    free(notes);
    free(memory);
}

/* Whether the text has the word followed by a space, `=` or `{`. */
static bool mentions(const char *text, const char *word)
{
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) {
        char after = at[strlen(word)];
        if (at > text && at[-1] == ' ' && (after == ' ' || after == '=')) {
            return true;
        }
    }
    return false;
}

static void the_example_shows_every_key(void **state)
{
    (void)state;
    char *text = printed(explain_example);
    for (enum schema_key_id id = 0; id < SCHEMA_KEYS; id++) {
        const struct schema_key *key = schema_key(id);
        if (key->form != FORM_ARGUMENT && !mentions(text, key->name)) {
            fail_msg("the example lacks %s", key->name);
        }
    }
    free(text);
}

static void no_line_of_the_example_is_too_long(void **state)
{
    (void)state;
    char *text = printed(explain_example);
    for (const char *line = text; *line != '\0';) {
        size_t size = strcspn(line, "\n");
        assert_true(size <= 100);
        line += size + (line[size] == '\n');
    }
    free(text);
}

static void the_reference_page_is_the_one_that_is_checked_in(void **state)
{
    (void)state;
    char *expected = printed(explain_reference);
    char *checked_in = NULL;
    size_t size = 0;
    FILE *file = fopen(SENTINEL_SOURCE_DIR "/docs/configuration.md", "r");
    assert_non_null(file);
    assert_true(getdelim(&checked_in, &size, '\0', file) > 0);
    (void)fclose(file);
    if (strcmp(expected, checked_in) != 0) {
        fail_msg("docs/configuration.md is stale: sentinel config-reference > "
                 "docs/configuration.md");
    }
    free(checked_in);
    free(expected);
}

static void the_schema_has_a_row_for_every_key(void **state)
{
    (void)state;
    char *text = printed(explain_schema);
    unsigned rows = 0;
    for (const char *at = strstr(text, "{\"key\": "); at != NULL;
         at = strstr(at + 1, "{\"key\": ")) {
        rows++;
    }
    assert_int_equal(rows, SCHEMA_KEYS);
    assert_non_null(strstr(text, "{\"key\": \"server.timeouts.connect\", \"block\": "
                                 "\"server.timeouts\", \"name\": \"connect\", \"form\": \"child\", "
                                 "\"type\": \"duration\", \"required\": false"));
    assert_non_null(strstr(text, "\"choices\": [\"http\", \"https\"], \"default\": \"http\""));
    free(text);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_loads_without_complaint),
        cmocka_unit_test(the_example_shows_every_key),
        cmocka_unit_test(no_line_of_the_example_is_too_long),
        cmocka_unit_test(the_reference_page_is_the_one_that_is_checked_in),
        cmocka_unit_test(the_schema_has_a_row_for_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
