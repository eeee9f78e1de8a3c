#include "config/diagnostics.h"

#include <stdarg.h>

#include "base/assert.h"
#include "config/utf8.h"

/* The most of a source line that is shown, in columns; longer lines are cut around the caret. */
enum { SHOWN_COLUMNS_MAX = 120, SHOWN_BEFORE_CARET = 80 };

/* What a message is shortened to, so that one absurd name cannot use up the arena. */
enum { MESSAGE_SIZE_MAX = 1024 };

void diagnostics_init(struct diagnostics *diagnostics, struct arena *arena)
{
    diagnostics->arena = arena;
    diagnostics->count = 0;
    diagnostics->errors = 0;
    diagnostics->warnings = 0;
}

/* Where the arena is full, the place of the mistake is still worth showing. */
static struct span copy_text(struct arena *arena, const char *text)
{
    struct span copy = arena_copy(arena, span_of_string(text));
    return copy.data != NULL ? copy : SPAN("(there is no memory left to say what is wrong)");
}

void diagnostics_add(struct diagnostics *diagnostics, enum severity severity,
                     struct position position, const char *help, const char *format, ...)
{
    ASSERT(severity == SEVERITY_ERROR || severity == SEVERITY_WARNING);
    if (severity == SEVERITY_ERROR) {
        diagnostics->errors++;
    } else {
        diagnostics->warnings++;
    }
    if (diagnostics->count == DIAGNOSTICS_MAX) {
        return;
    }
    char message[MESSAGE_SIZE_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    diagnostics->entries[diagnostics->count++] = (struct diagnostic){
        .severity = severity,
        .position = position,
        .message = copy_text(diagnostics->arena, message),
        .help = help == NULL ? SPAN_EMPTY : copy_text(diagnostics->arena, help),
    };
}

static bool is_invisible(uint32_t code_point)
{
    return code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0) ||
           (code_point >= 0x200B && code_point <= 0x200F) ||
           (code_point >= 0x2028 && code_point <= 0x202E) ||
           (code_point >= 0x2066 && code_point <= 0x2069) || code_point == 0xFEFF;
}

/*
 * Writes the first character of a text so that it can neither hide nor steer the terminal, and
 * returns its bytes. *width is the columns that it takes.
 */
static size_t print_character(FILE *stream, struct span text, int *width)
{
    uint32_t code_point = 0;
    size_t size = utf8_decode(text, &code_point);
    if (size == 0) {
        *width = fprintf(stream, "\\x%02X", text.data[0]);
        return 1;
    }
    if (is_invisible(code_point)) {
        *width = fprintf(stream, code_point < 0x80 ? "\\x%02X" : "\\u{%04X}", code_point);
        return size;
    }
    (void)fwrite(text.data, 1, size, stream);
    *width = 1;
    return size;
}

static void print_text(FILE *stream, struct span text)
{
    while (text.size > 0) {
        int width = 0;
        text = span_from(text, print_character(stream, text, &width));
    }
}

/* The numbered line of a text, without its end (LF, CRLF or CR); empty when there are not as many.
 */
static struct span find_line(struct span text, uint32_t line)
{
    size_t start = 0;
    for (uint32_t number = 1;; number++) {
        size_t end = start;
        while (end < text.size && text.data[end] != '\n' && text.data[end] != '\r') {
            end++;
        }
        if (number == line) {
            return span_of(text.data + start, end - start);
        }
        if (end >= text.size) {
            return SPAN_EMPTY;
        }
        bool pair = text.data[end] == '\r' && end + 1 < text.size && text.data[end + 1] == '\n';
        start = end + (pair ? 2 : 1);
    }
}

/* Skips a byte order mark, which is no column, and the columns that a long line is cut by. */
static struct span cut_line(struct span line, uint32_t *column)
{
    if (span_starts_with(line, SPAN("\xEF\xBB\xBF"))) {
        line = span_from(line, 3);
    }
    while (*column > SHOWN_BEFORE_CARET && line.size > 0) {
        uint32_t code_point = 0;
        size_t size = utf8_decode(line, &code_point);
        line = span_from(line, size > 0 ? size : 1);
        (*column)--;
    }
    return line;
}

/* The source line and a caret below the column. Tabs stand in both, so that they line up. */
static void print_excerpt(FILE *stream, const struct position *position)
{
    static const char ellipsis[] = "...";
    uint32_t column = position->column;
    struct span whole = find_line(position->source->text, position->line);
    struct span line = cut_line(whole, &column);
    bool is_cut = column < position->column;
    char padding[SHOWN_COLUMNS_MAX * 10]; /* the widest character is written as \u{10FFFF} */
    size_t padding_size = 0;

    fprintf(stream, "  %s", is_cut ? ellipsis : "");
    for (uint32_t shown = 1; line.size > 0 && shown <= SHOWN_COLUMNS_MAX; shown++) {
        bool is_tab = line.data[0] == '\t';
        int width = 1;
        if (is_tab) {
            (void)fputc('\t', stream);
            line = span_from(line, 1);
        } else {
            line = span_from(line, print_character(stream, line, &width));
        }
        for (int i = 0; shown < column && i < width; i++) {
            ASSERT(padding_size < sizeof(padding));
            padding[padding_size++] = is_tab ? '\t' : ' ';
        }
    }
    fprintf(stream, "%s\n  %s%.*s^\n", line.size > 0 ? ellipsis : "", is_cut ? "   " : "",
            (int)padding_size, padding);
}

static void print_entry(FILE *stream, const struct diagnostic *entry)
{
    const struct position *position = &entry->position;
    if (position->source != NULL) {
        print_text(stream, position->source->name);
        if (position->line > 0) {
            fprintf(stream, ":%u:%u", position->line, position->column);
        }
        fprintf(stream, ": ");
    }
    fprintf(stream, "%s: ", entry->severity == SEVERITY_ERROR ? "error" : "warning");
    print_text(stream, entry->message);
    (void)fputc('\n', stream);
    if (position->source != NULL && position->line > 0) {
        print_excerpt(stream, position);
    }
    if (entry->help.size > 0) {
        fprintf(stream, "  help: ");
        print_text(stream, entry->help);
        (void)fputc('\n', stream);
    }
}

static int compare_names(struct span a, struct span b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* By source, line, column; entries without a place come first. */
static int compare_positions(const struct position *a, const struct position *b)
{
    if (a->source != b->source) {
        int order = a->source == NULL || b->source == NULL
                        ? (a->source != NULL) - (b->source != NULL)
                        : compare_names(a->source->name, b->source->name);
        if (order != 0) {
            return order;
        }
    }
    if (a->line != b->line) {
        return a->line < b->line ? -1 : 1;
    }
    return (a->column > b->column) - (a->column < b->column);
}

/* Fills order with the entries' numbers: by insertion, which keeps equal places as they came. */
static void sort_entries(const struct diagnostics *diagnostics, size_t order[DIAGNOSTICS_MAX])
{
    for (size_t i = 0; i < diagnostics->count; i++) {
        size_t place = i;
        while (place > 0 && compare_positions(&diagnostics->entries[order[place - 1]].position,
                                              &diagnostics->entries[i].position) > 0) {
            order[place] = order[place - 1];
            place--;
        }
        order[place] = i;
    }
}

static void print_count(FILE *stream, size_t count, const char *noun)
{
    fprintf(stream, "%zu %s%s", count, noun, count == 1 ? "" : "s");
}

void diagnostics_print(const struct diagnostics *diagnostics, FILE *stream)
{
    size_t order[DIAGNOSTICS_MAX];
    size_t total = diagnostics->errors + diagnostics->warnings;
    ASSERT(diagnostics->count <= DIAGNOSTICS_MAX);
    ASSERT(diagnostics->count <= total);
    if (total == 0) {
        return;
    }
    sort_entries(diagnostics, order);
    for (size_t i = 0; i < diagnostics->count; i++) {
        print_entry(stream, &diagnostics->entries[order[i]]);
    }
    if (diagnostics->errors > 0) {
        print_count(stream, diagnostics->errors, "error");
    }
    if (diagnostics->warnings > 0) {
        (void)fputs(diagnostics->errors > 0 ? ", " : "", stream);
        print_count(stream, diagnostics->warnings, "warning");
    }
    if (total > diagnostics->count) {
        fprintf(stream, " (the first %zu are shown)", diagnostics->count);
    }
    (void)fputc('\n', stream);
}
