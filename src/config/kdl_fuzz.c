/*
 * Any bytes, read as each version, strict and not. Besides not crashing:
 *
 *   - parsing twice gives the same document, or the same single error;
 *   - a failed parse leaves the arena as it was;
 *   - what strict mode accepts means the same without it;
 *   - what both versions accept means the same in both, so that trying 2 before 1 is no choice of
 *     meaning;
 *   - every error can be printed.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "config/kdl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_SIZE = 1024 * 1024, TEXT_ARENA_SIZE = 4096 };

struct outcome {
    enum status status;
    struct document document;
    struct diagnostics diagnostics;
    struct arena arena;
    struct arena texts;
    _Alignas(max_align_t) uint8_t memory[ARENA_SIZE];
    _Alignas(max_align_t) uint8_t text_memory[TEXT_ARENA_SIZE];
};

static void run(struct outcome *outcome, const struct source *source, unsigned version, bool strict)
{
    struct kdl_options options = {.version = version, .strict = strict};
    outcome->document = (struct document){0};
    arena_init(&outcome->arena, outcome->memory, ARENA_SIZE);
    arena_init(&outcome->texts, outcome->text_memory, TEXT_ARENA_SIZE);
    diagnostics_init(&outcome->diagnostics, &outcome->texts);
    outcome->status =
        kdl_parse(source, options, &outcome->arena, &outcome->diagnostics, &outcome->document);
    if (outcome->status == OK) {
        ASSERT(outcome->diagnostics.errors == 0);
    } else {
        ASSERT(outcome->status == ERROR);
        ASSERT(outcome->diagnostics.errors == 1);
        ASSERT(outcome->diagnostics.count == 1);
        ASSERT(outcome->document.nodes == NULL);
        ASSERT(outcome->arena.used == 0);
        ASSERT(outcome->diagnostics.entries[0].position.line > 0);
        ASSERT(outcome->diagnostics.entries[0].position.column > 0);
    }
    ASSERT(outcome->diagnostics.warnings == 0);
}

static bool same_value(const struct value *a, const struct value *b)
{
    return a->kind == b->kind && a->boolean == b->boolean && span_equal(a->text, b->text) &&
           span_equal(a->unit, b->unit) && span_equal(a->type, b->type) &&
           (a->type.data == NULL) == (b->type.data == NULL) &&
           a->position.line == b->position.line && a->position.column == b->position.column;
}

static bool same_entries(const struct node *a, const struct node *b)
{
    const struct argument *left = a->arguments;
    const struct argument *right = b->arguments;
    for (; left != NULL && right != NULL; left = left->next, right = right->next) {
        if (!same_value(&left->value, &right->value)) {
            return false;
        }
    }
    const struct property *here = a->properties;
    const struct property *there = b->properties;
    for (; here != NULL && there != NULL; here = here->next, there = there->next) {
        if (!span_equal(here->name, there->name) || !same_value(&here->value, &there->value)) {
            return false;
        }
    }
    return left == NULL && right == NULL && here == NULL && there == NULL;
}

/* Recursion as deep as the document; checks that the parser bounded it. */
static bool same_nodes(const struct node *a, const struct node *b, unsigned depth)
{
    ASSERT(depth <= KDL_DEPTH_MAX);
    for (; a != NULL && b != NULL; a = a->next, b = b->next) {
        if (!span_equal(a->name, b->name) || !span_equal(a->type, b->type) ||
            a->position.line != b->position.line || a->position.column != b->position.column ||
            !same_entries(a, b) || (a->children == NULL) != (b->children == NULL) ||
            (a->children != NULL && !same_nodes(a->children, b->children, depth + 1))) {
            return false;
        }
    }
    return a == NULL && b == NULL;
}

static void check_same(const struct outcome *a, const struct outcome *b)
{
    ASSERT(a->status == b->status);
    if (a->status == OK) {
        ASSERT(same_nodes(a->document.nodes, b->document.nodes, 0));
        return;
    }
    const struct diagnostic *left = &a->diagnostics.entries[0];
    const struct diagnostic *right = &b->diagnostics.entries[0];
    ASSERT(span_equal(left->message, right->message));
    ASSERT(left->position.line == right->position.line);
    ASSERT(left->position.column == right->position.column);
}

/* Where both accept the text, they read the same. */
static void check_agreement(const struct outcome *a, const struct outcome *b)
{
    if (a->status == OK && b->status == OK) {
        ASSERT(same_nodes(a->document.nodes, b->document.nodes, 0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome outcomes[3][2]; /* by version and strictness */
    static struct outcome again;
    static FILE *sink;
    const struct source source = {.name = SPAN("input"), .text = span_of(data, size)};
    if (sink == NULL) {
        sink = fopen("/dev/null", "w");
        ASSERT(sink != NULL);
    }
    for (unsigned version = 0; version <= 2; version++) {
        for (unsigned strict = 0; strict <= 1; strict++) {
            run(&outcomes[version][strict], &source, version, strict == 1);
            run(&again, &source, version, strict == 1);
            check_same(&outcomes[version][strict], &again);
            diagnostics_print(&again.diagnostics, sink);
        }
        if (outcomes[version][1].status == OK) {
            check_same(&outcomes[version][1], &outcomes[version][0]);
        }
    }
    for (unsigned strict = 0; strict <= 1; strict++) {
        check_agreement(&outcomes[1][strict], &outcomes[2][strict]);
        check_agreement(&outcomes[0][strict], &outcomes[1][strict]);
        check_agreement(&outcomes[0][strict], &outcomes[2][strict]);
    }
    return 0;
}
