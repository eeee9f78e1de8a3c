#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/death_test.h"
#include "base/prng.h"

enum { MEMORY = 1024 };

struct fixture {
    _Alignas(max_align_t) uint8_t memory[MEMORY + 1];
    struct arena arena;
};

/* The byte behind the arena's memory is a canary. */
static int begin(void **state)
{
    static struct fixture fixture;
    memset(fixture.memory, 0xee, sizeof(fixture.memory));
    arena_init(&fixture.arena, fixture.memory, MEMORY);
    *state = &fixture;
    return 0;
}

static int end(void **state)
{
    const struct fixture *fixture = *state;
    return fixture->memory[MEMORY] == 0xee ? 0 : -1;
}

static void allocations_are_aligned_and_apart(void **state)
{
    struct arena *arena = &((struct fixture *)*state)->arena;
    uint8_t *last_end = NULL;
    for (size_t size = 1; size < 20; size++) {
        struct span copy = arena_copy(arena, span_of("x", 1)); /* leaves it unaligned */
        assert_true(copy.data >= last_end);
        uint8_t *object = arena_alloc(arena, size);
        assert_non_null(object);
        assert_int_equal((uintptr_t)object % _Alignof(max_align_t), 0);
        assert_true(object > copy.data);
        memset(object, 1, size);
        last_end = object + size;
    }
    assert_false(arena->overflowed);
}

static void exactly_its_size_fits_and_no_byte_more(void **state)
{
    struct arena *arena = &((struct fixture *)*state)->arena;
    assert_null(arena_alloc(arena, MEMORY + 1));
    assert_true(arena->overflowed);
    arena_reset(arena);
    assert_false(arena->overflowed);
    uint8_t *all = arena_alloc(arena, MEMORY);
    assert_non_null(all);
    memset(all, 1, MEMORY);
    assert_non_null(arena_alloc(arena, 0));
    assert_false(arena->overflowed);
    assert_null(arena_alloc(arena, 1));
    assert_true(arena->overflowed);
}

static void an_overflow_stays_visible_until_reset(void **state)
{
    struct arena *arena = &((struct fixture *)*state)->arena;
    assert_null(arena_alloc(arena, SIZE_MAX));
    assert_true(arena->overflowed);
    assert_int_equal(arena->used, 0);
    assert_non_null(arena_alloc(arena, 1)); /* what fits is still given */
    assert_true(arena->overflowed);
    arena_rewind(arena, 0);
    assert_true(arena->overflowed);
    arena_reset(arena);
    assert_false(arena->overflowed);
}

static void sizes_that_wrap_are_refused(void **state)
{
    struct arena *arena = &((struct fixture *)*state)->arena;
    struct span used = arena_copy(arena, SPAN("abc"));
    assert_int_equal(used.size, 3);
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 3, SIZE_MAX - 15, SIZE_MAX - 16, MEMORY};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_null(arena_alloc(arena, sizes[i]));
        assert_null(arena_copy(arena, span_of("abc", sizes[i])).data);
        assert_null(arena_calloc(arena, 1, sizes[i]));
    }
    assert_null(arena_calloc(arena, SIZE_MAX / 2 + 2, 2)); /* the product wraps to 2 */
    assert_null(arena_calloc(arena, (size_t)1 << 32, (size_t)1 << 32));
    assert_true(arena->overflowed);
    assert_int_equal(arena->used, 3);
}

static void calloc_gives_zeroes(void **state)
{
    struct arena *arena = &((struct fixture *)*state)->arena;
    uint32_t *words = arena_calloc(arena, 10, sizeof(uint32_t));
    for (int i = 0; i < 10; i++) {
        assert_int_equal(words[i], 0);
    }
    assert_int_equal(((struct fixture *)*state)->memory[40], 0xee); /* and no more than asked */
    assert_non_null(arena_calloc(arena, 0, 8));
}

static void copies_are_not_the_original(void **state)
{
    struct arena *arena = &((struct fixture *)*state)->arena;
    char text[] = "value";
    struct span copy = arena_copy(arena, span_of(text, 5));
    text[0] = 'V';
    assert_true(span_equal(copy, SPAN("value")));
    struct span empty = arena_copy(arena, SPAN_EMPTY);
    assert_non_null(empty.data); /* empty is not absent */
    assert_int_equal(empty.size, 0);
    assert_int_equal(arena->used, 5);
}

static void formatted_text_needs_room_for_its_nul(void **state)
{
    struct fixture *fixture = *state;
    struct arena small;
    arena_init(&small, fixture->memory, 4);
    assert_null(arena_printf(&small, "%d", 1234).data);
    assert_true(small.overflowed);
    assert_int_equal(small.used, 0);
    assert_int_equal(fixture->memory[4], 0xee);
    arena_reset(&small);
    struct span text = arena_printf(&small, "%d", 123);
    assert_true(span_equal(text, SPAN("123")));
    assert_string_equal((const char *)text.data, "123");
    assert_null(arena_printf(&small, "%s", "").data); /* no room for the NUL */
    assert_null(arena_printf(&small, "more").data);
    assert_string_equal((const char *)text.data, "123");
}

static void a_mark_forgets_what_came_after_it(void **state)
{
    struct arena *arena = &((struct fixture *)*state)->arena;
    struct span kept = arena_copy(arena, SPAN("kept"));
    size_t mark = arena_mark(arena);
    assert_int_equal(arena_printf(arena, "%s", "forgotten").size, 9);
    arena_rewind(arena, mark);
    assert_ptr_equal(arena_copy(arena, SPAN("new")).data, kept.data + 4);
    assert_true(span_equal(kept, SPAN("kept")));
}

static void an_arena_without_memory_refuses_everything(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    assert_null(arena_alloc(&arena, 0));
    assert_true(arena.overflowed);
    arena_reset(&arena);
    assert_null(arena_copy(&arena, SPAN("x")).data);
    assert_null(arena_printf(&arena, "x").data);
    assert_true(arena.overflowed);
}

/* Whatever is asked for in whatever order: apart, in bounds, and intact at the end. */
static void random_allocations_keep_their_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct arena *arena = &fixture->arena;
    struct prng prng;
    prng_init(&prng, 21);
    for (int round = 0; round < 500; round++) {
        static struct span given[MEMORY];
        size_t count = 0;
        arena_reset(arena);
        while (!arena->overflowed && count < MEMORY) {
            size_t size = prng_below(&prng, 60);
            uint8_t mark = (uint8_t)count;
            uint8_t bytes[60];
            memset(bytes, mark, sizeof(bytes));
            if (prng_below(&prng, 2) == 0) {
                given[count] = arena_copy(arena, span_of(bytes, size));
            } else {
                uint8_t *object = arena_alloc(arena, size);
                given[count] = span_of(object, size);
                memset(object == NULL ? bytes : object, mark, size);
            }
            count += given[count].data != NULL;
        }
        for (size_t i = 0; i < count; i++) {
            assert_true(given[i].data >= fixture->memory);
            assert_true(given[i].data + given[i].size <= fixture->memory + MEMORY);
            for (size_t j = 0; j < given[i].size; j++) {
                assert_int_equal(given[i].data[j], (uint8_t)i);
            }
        }
    }
}

static void rewind_forward(void *context)
{
    struct arena *arena = context;
    arena_rewind(arena, arena->used + 1);
}

static void start_unaligned(void *context)
{
    struct arena *arena = context;
    arena_init(arena, arena->memory + 1, 100);
}

static void broken_contracts_abort(void **state)
{
    struct arena *arena = &((struct fixture *)*state)->arena;
    assert_true(aborts(rewind_forward, arena));
    assert_true(aborts(start_unaligned, arena));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(allocations_are_aligned_and_apart, begin, end),
        cmocka_unit_test_setup_teardown(exactly_its_size_fits_and_no_byte_more, begin, end),
        cmocka_unit_test_setup_teardown(an_overflow_stays_visible_until_reset, begin, end),
        cmocka_unit_test_setup_teardown(sizes_that_wrap_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(calloc_gives_zeroes, begin, end),
        cmocka_unit_test_setup_teardown(copies_are_not_the_original, begin, end),
        cmocka_unit_test_setup_teardown(formatted_text_needs_room_for_its_nul, begin, end),
        cmocka_unit_test_setup_teardown(a_mark_forgets_what_came_after_it, begin, end),
        cmocka_unit_test_setup_teardown(an_arena_without_memory_refuses_everything, begin, end),
        cmocka_unit_test_setup_teardown(random_allocations_keep_their_bytes, begin, end),
        cmocka_unit_test_setup_teardown(broken_contracts_abort, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
