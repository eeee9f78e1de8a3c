/*
 * Prints a KDL document in the canonical form of the official test cases, for their runner:
 *
 *     kdl_canon --v 1|2 < document
 *
 * Exit status: 0 printed, 1 refused (the reason is on standard error), 2 usage or no memory.
 */
#include <stdio.h>
#include <stdlib.h>

#include "config/kdl.h"
#include "config/utf8.h"

enum { INDENT = 4, ARENA_SIZE = 64 * 1024 * 1024 };

static void print_span(struct span text)
{
    (void)fwrite(text.data, 1, text.size, stdout);
}

/* The letter of the escape that a byte needs, or 0. */
static char escape_letter(uint8_t byte)
{
    static const char bytes[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    size_t which = span_find(span_of(bytes, sizeof(bytes) - 1), byte);
    return which < sizeof(bytes) - 1 ? letters[which] : 0;
}

static void print_quoted(struct span text)
{
    putchar('"');
    for (size_t i = 0; i < text.size; i++) {
        char letter = escape_letter(text.data[i]);
        if (letter != 0) {
            printf("\\%c", letter);
        } else if (text.data[i] < 0x20 || text.data[i] == 0x7F) {
            printf("\\u{%X}", text.data[i]);
        } else {
            putchar(text.data[i]);
        }
    }
    putchar('"');
}

static void print_name(struct span text, unsigned version)
{
    if (kdl_is_identifier(text, version)) {
        print_span(text);
    } else {
        print_quoted(text);
    }
}

/* Prints digits of any radix as a decimal: decimal digits, lowest first, grown digit by digit. */
static void print_radix(struct span digits, unsigned radix)
{
    uint8_t *decimal = calloc(digits.size * 2 + 1, 1); /* hexadecimal grows by a factor of 1.21 */
    size_t count = 1;
    if (decimal == NULL) {
        exit(2);
    }
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.data[i] == '_') {
            continue;
        }
        unsigned carry = (unsigned)ascii_hex_value(digits.data[i]);
        for (size_t j = 0; j < count || carry > 0; j++) {
            carry += decimal[j] * radix;
            decimal[j] = (uint8_t)(carry % 10);
            carry /= 10;
            count = j + 1 > count ? j + 1 : count;
        }
    }
    while (count > 0) {
        putchar('0' + decimal[--count]);
    }
    free(decimal);
}

/* Prints digits without underscores, and without the zeros in front of the first other digit. */
static void print_integer(struct span digits)
{
    bool leading = true;
    for (size_t i = 0; i < digits.size; i++) {
        bool last = i + 1 == digits.size;
        if (digits.data[i] == '_' || (leading && digits.data[i] == '0' && !last)) {
            continue;
        }
        leading = false;
        putchar(digits.data[i]);
    }
}

static void print_fraction(struct span digits)
{
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.data[i] != '_') {
            putchar(digits.data[i]);
        }
    }
}

static void print_decimal(struct span text)
{
    size_t exponent = span_find(text, 'e');
    if (exponent == text.size) {
        exponent = span_find(text, 'E');
    }
    struct span mantissa = span_first(text, exponent);
    size_t point = span_find(mantissa, '.');
    print_integer(span_first(mantissa, point));
    print_fraction(span_from(mantissa, point));
    if (exponent < text.size) {
        struct span power = span_from(text, exponent + 1);
        bool is_signed = power.data[0] == '+' || power.data[0] == '-';
        printf("E%c", power.data[0] == '-' ? '-' : '+');
        print_integer(span_from(power, is_signed ? 1 : 0));
    }
}

static void print_number(struct span text)
{
    if (text.data[0] == '#') { /* #inf, #-inf, #nan */
        print_span(text);
        return;
    }
    if (text.data[0] == '-') {
        putchar('-');
    }
    if (text.data[0] == '-' || text.data[0] == '+') {
        text = span_from(text, 1);
    }
    if (span_starts_with(text, SPAN("0x"))) {
        print_radix(span_from(text, 2), 16);
    } else if (span_starts_with(text, SPAN("0o"))) {
        print_radix(span_from(text, 2), 8);
    } else if (span_starts_with(text, SPAN("0b"))) {
        print_radix(span_from(text, 2), 2);
    } else {
        print_decimal(text);
    }
}

static void print_type(struct span type, unsigned version)
{
    if (type.data != NULL) {
        putchar('(');
        print_name(type, version);
        putchar(')');
    }
}

static void print_value(const struct value *value, unsigned version)
{
    const char *mark = version == 1 ? "" : "#";
    print_type(value->type, version);
    switch (value->kind) {
    case VALUE_STRING:
        if (version == 1) {
            print_quoted(value->text);
        } else {
            print_name(value->text, version);
        }
        break;
    case VALUE_NUMBER:
        print_number(value->text);
        break;
    case VALUE_BOOLEAN:
        printf("%s%s", mark, value->boolean ? "true" : "false");
        break;
    case VALUE_NULL:
        printf("%snull", mark);
        break;
    }
}

static int compare_spans(struct span a, struct span b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_properties(const void *a, const void *b)
{
    const struct property *const *left = a;
    const struct property *const *right = b;
    return compare_spans((*left)->name, (*right)->name);
}

static void print_properties(const struct property *first, unsigned version)
{
    const struct property *sorted[KDL_PROPERTIES_MAX];
    size_t count = 0;
    for (const struct property *property = first; property != NULL; property = property->next) {
        sorted[count++] = property;
    }
    qsort(sorted, count, sizeof(sorted[0]), compare_properties);
    for (size_t i = 0; i < count; i++) {
        putchar(' ');
        print_name(sorted[i]->name, version);
        putchar('=');
        print_value(&sorted[i]->value, version);
    }
}

/* Depth is bounded by the parser, and with it the recursion. */
static void print_nodes(const struct node *node, unsigned version, int depth)
{
    for (; node != NULL; node = node->next) {
        printf("%*s", depth * INDENT, "");
        print_type(node->type, version);
        print_name(node->name, version);
        for (const struct argument *argument = node->arguments; argument != NULL;
             argument = argument->next) {
            putchar(' ');
            print_value(&argument->value, version);
        }
        print_properties(node->properties, version);
        if (node->children != NULL) {
            puts(" {");
            print_nodes(node->children, version, depth + 1);
            printf("%*s}", depth * INDENT, "");
        }
        putchar('\n');
    }
}

/* Parses and prints; the exit status. */
static int canonicalise(struct span text, unsigned version, void *memory)
{
    static struct diagnostics diagnostics;
    struct source source = {.name = SPAN("(standard input)"), .text = text};
    struct kdl_options options = {.version = version, .strict = true};
    struct document document = {0};
    struct arena arena;
    arena_init(&arena, memory, ARENA_SIZE);
    diagnostics_init(&diagnostics, &arena);
    if (kdl_parse(&source, options, &arena, &diagnostics, &document) != OK) {
        diagnostics_print(&diagnostics, stderr);
        return 1;
    }
    print_nodes(document.nodes, version, 0);
    return 0;
}

int main(int count, char **arguments)
{
    bool usable = count == 3 && strcmp(arguments[1], "--v") == 0 &&
                  (strcmp(arguments[2], "1") == 0 || strcmp(arguments[2], "2") == 0);
    if (!usable) {
        fprintf(stderr, "usage: kdl_canon --v 1|2 < document\n");
        return 2;
    }
    enum { TEXT_SIZE = KDL_TEXT_MAX + 1 }; /* one more than is allowed, so that it is noticed */
    uint8_t *text = malloc(TEXT_SIZE);
    void *memory = malloc(ARENA_SIZE);
    int status = 2;
    if (text != NULL && memory != NULL) {
        size_t size = fread(text, 1, TEXT_SIZE, stdin);
        status = canonicalise(span_of(text, size), arguments[2][0] == '1' ? 1 : 2, memory);
    }
    free(memory);
    free(text);
    return status;
}
