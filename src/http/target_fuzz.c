/*
 * Paths and authorities: a canonical path is a fixed point, has no dot segment, no raw or decoded
 * byte that could be read in two ways; and an accepted authority parses to the same host again.
 */
#include "base/assert.h"
#include "http/bytes.h"
#include "http/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 2048, ARENA_MAX = 3 * INPUT_MAX + 64 };

/* Checked by other means than the code under test: splitting at each `/`. */
static void check_segments(struct span path, bool merge_slashes)
{
    ASSERT(path.size > 0 && path.data[0] == '/');
    struct span rest = span_from(path, 1);
    for (;;) {
        size_t end = span_find(rest, '/');
        struct span segment = span_first(rest, end);
        ASSERT(!span_equal(segment, SPAN(".")) && !span_equal(segment, SPAN("..")));
        ASSERT(!span_starts_with(segment, SPAN("..;")));
        if (end == rest.size) {
            return;
        }
        ASSERT(!merge_slashes || end > 0);
        rest = span_from(rest, end + 1);
    }
}

static void check_bytes(const struct target_path *canonical)
{
    bool slash = false;
    bool backslash = false;
    struct span path = canonical->path;
    for (size_t i = 0; i < path.size; i++) {
        if (path.data[i] != '%') {
            ASSERT((byte_classes[path.data[i]] & BYTE_PATH) != 0);
            continue;
        }
        ASSERT(path.size - i >= 3);
        int value = ascii_hex_value(path.data[i + 1]) * 16 + ascii_hex_value(path.data[i + 2]);
        ASSERT(value > 0 && (byte_classes[value] & BYTE_UNRESERVED) == 0);
        ASSERT(path.data[i + 1] < 'a' && path.data[i + 2] < 'a');
        slash = slash || value == '/';
        backslash = backslash || value == '\\';
    }
    ASSERT(slash == canonical->encoded_slash && backslash == canonical->encoded_backslash);
}

static void fuzz_path(struct span raw, bool merge_slashes, uint8_t *memory)
{
    struct arena arena;
    struct target_path first;
    struct target_path second;
    enum reason reason = REASON_NONE;
    arena_init(&arena, memory, ARENA_MAX);
    if (target_canonical_path(raw, merge_slashes, &arena, &first, &reason) != OK) {
        ASSERT(reason == REASON_BAD_TARGET || reason == REASON_AMBIGUOUS_PATH);
        ASSERT(arena.used == 0);
        return;
    }
    check_segments(first.path, merge_slashes);
    check_bytes(&first);
    arena_init(&arena, memory + ARENA_MAX, ARENA_MAX * 3);
    ASSERT(target_canonical_path(first.path, merge_slashes, &arena, &second, &reason) == OK);
    ASSERT(span_equal(first.path, second.path));
    ASSERT(first.encoded_slash == second.encoded_slash);
    ASSERT(first.encoded_backslash == second.encoded_backslash);
}

static void fuzz_authority(struct span text, uint8_t *memory)
{
    struct arena arena;
    struct authority first;
    struct authority second;
    arena_init(&arena, memory, ARENA_MAX);
    if (!target_parse_authority(text, &arena, &first)) {
        return;
    }
    ASSERT(first.host.size > 0 && first.host.size <= TARGET_HOST_MAX);
    ASSERT(target_parse_authority(first.host, &arena, &second));
    ASSERT(span_equal(first.host, second.host) && !second.has_port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static _Alignas(max_align_t) uint8_t memory[ARENA_MAX * 4];
    struct span input = span_of(data, size < INPUT_MAX ? size : INPUT_MAX);
    struct target target;
    enum reason reason = REASON_NONE;
    fuzz_path(input, true, memory);
    fuzz_path(input, false, memory);
    fuzz_authority(input, memory);
    if (target_split(input, METHOD_GET, &target, &reason) == OK) {
        ASSERT(target.path.size > 0);
        fuzz_path(target.path, true, memory);
        fuzz_authority(target.authority, memory);
    } else {
        ASSERT(reason == REASON_BAD_TARGET);
    }
    return 0;
}
