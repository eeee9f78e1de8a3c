#include "base/slab.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/death_test.h"
#include "base/prng.h"

static void objects_are_aligned_apart_and_counted(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 15, 16, 17, 100, 4096};
    enum { CAPACITY = 9 };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct slab slab;
        uint8_t *objects[CAPACITY];
        assert_true(slab_init(&slab, sizes[i], CAPACITY));
        for (int j = 0; j < CAPACITY; j++) {
            objects[j] = slab_acquire(&slab);
            assert_non_null(objects[j]);
            assert_int_equal((uintptr_t)objects[j] % 16, 0);
            memset(objects[j], j + 1, sizes[i]);
            assert_int_equal(slab.in_use, j + 1);
        }
        assert_null(slab_acquire(&slab));
        assert_int_equal(slab.in_use, CAPACITY);
        for (int j = 0; j < CAPACITY; j++) {
            assert_int_equal(objects[j][0], j + 1);
            assert_int_equal(objects[j][sizes[i] - 1], j + 1);
            slab_release(&slab, objects[j]);
        }
        slab_deinit(&slab);
    }
}

static void the_last_object_released_is_the_first_lent_again(void **state)
{
    (void)state;
    struct slab slab;
    assert_true(slab_init(&slab, 64, 8));
    void *first = slab_acquire(&slab);
    void *second = slab_acquire(&slab);
    void *third = slab_acquire(&slab);
    slab_release(&slab, first);
    slab_release(&slab, third);
    assert_ptr_equal(slab_acquire(&slab), third);
    assert_ptr_equal(slab_acquire(&slab), first);
    assert_int_equal(slab.fresh, 3);
    slab_release(&slab, first);
    slab_release(&slab, second);
    slab_release(&slab, third);
    slab_deinit(&slab);
}

static void the_lent_objects_are_found_one_by_one(void **state)
{
    (void)state;
    struct slab slab;
    uint32_t place = 0;
    assert_true(slab_init(&slab, 64, 8));
    assert_null(slab_next(&slab, &place));
    void *first = slab_acquire(&slab);
    void *second = slab_acquire(&slab);
    void *third = slab_acquire(&slab);
    slab_release(&slab, second);
    place = 0;
    assert_ptr_equal(slab_next(&slab, &place), first);
    assert_ptr_equal(slab_next(&slab, &place), third);
    assert_null(slab_next(&slab, &place));
    slab_release(&slab, first);
    slab_release(&slab, third);
    place = 0;
    assert_null(slab_next(&slab, &place));
    slab_deinit(&slab);
}

static void memory_that_was_never_lent_is_never_touched(void **state)
{
    (void)state;
    enum { PAGE = 4096, PAGES = 1024 };
    struct slab slab;
    assert_true(slab_init(&slab, PAGE - 16, PAGES));
    for (int i = 0; i < 1000; i++) {
        void *object = slab_acquire(&slab);
        memset(object, 1, PAGE - 16);
        slab_release(&slab, object);
    }
    unsigned char resident[PAGES];
    assert_int_equal(mincore(slab.memory, (size_t)PAGE * PAGES, resident), 0);
    assert_true(resident[0] & 1);
    for (int i = 2; i < PAGES; i++) {
        assert_false(resident[i] & 1);
    }
    slab_deinit(&slab);
}

static void a_handle_names_one_lease_only(void **state)
{
    (void)state;
    struct slab slab;
    assert_true(slab_init(&slab, 32, 2));
    void *object = slab_acquire(&slab);
    uint64_t first = slab_handle(&slab, object);
    assert_true(first != 0);
    assert_true(slab_handle(&slab, object) == first);
    assert_ptr_equal(slab_resolve(&slab, first), object);
    slab_release(&slab, object);
    assert_null(slab_resolve(&slab, first));
    assert_ptr_equal(slab_acquire(&slab), object);
    assert_null(slab_resolve(&slab, first));
    uint64_t second = slab_handle(&slab, object);
    assert_true(second != first);
    assert_ptr_equal(slab_resolve(&slab, second), object);
    slab_release(&slab, object);
    slab_deinit(&slab);
}

static void no_other_number_resolves(void **state)
{
    (void)state;
    struct slab slab;
    assert_true(slab_init(&slab, 32, 4));
    assert_null(slab_resolve(&slab, 0));
    void *object = slab_acquire(&slab);
    uint64_t handle = slab_handle(&slab, object);
    assert_null(slab_resolve(&slab, 0));
    assert_null(slab_resolve(&slab, UINT64_MAX));
    assert_null(slab_resolve(&slab, handle + 1)); /* never lent */
    assert_null(slab_resolve(&slab, handle + 4)); /* beyond the capacity */
    assert_null(slab_resolve(&slab, handle + (UINT64_C(1) << 32)));
    slab_release(&slab, object);
    for (uint64_t lease = 0; lease < 8; lease++) {
        assert_null(slab_resolve(&slab, lease << 32)); /* a free object has no handle at all */
    }
    slab_deinit(&slab);
}

enum { MODEL_CAPACITY = 37, MODEL_STEPS = 200000, MODEL_STALE = 64 };

struct lease {
    uint32_t *object;
    uint64_t handle;
    uint32_t mark;
};

static void random_leases_agree_with_a_model(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 7);
    struct slab slab;
    struct lease lent[MODEL_CAPACITY];
    uint64_t stale[MODEL_STALE] = {0};
    uint32_t count = 0;
    assert_true(slab_init(&slab, sizeof(uint32_t), MODEL_CAPACITY));
    for (uint32_t step = 0; step < MODEL_STEPS; step++) {
        if (prng_below(&prng, 100) < 51) {
            uint32_t *object = slab_acquire(&slab);
            assert_true((object != NULL) == (count < MODEL_CAPACITY));
            if (object != NULL) {
                *object = step;
                lent[count++] = (struct lease){object, slab_handle(&slab, object), step};
            }
        } else if (count > 0) {
            uint32_t chosen = prng_below(&prng, count);
            stale[step % MODEL_STALE] = lent[chosen].handle;
            slab_release(&slab, lent[chosen].object);
            lent[chosen] = lent[--count];
        }
        assert_int_equal(slab.in_use, count);
        assert_null(slab_resolve(&slab, stale[prng_below(&prng, MODEL_STALE)]));
        if (count > 0) {
            const struct lease *one = &lent[prng_below(&prng, count)];
            assert_ptr_equal(slab_resolve(&slab, one->handle), one->object);
            assert_int_equal(*one->object, one->mark);
        }
    }
    while (count > 0) {
        slab_release(&slab, lent[--count].object);
    }
    slab_deinit(&slab);
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    static const size_t sizes[] = {SIZE_MAX,      SIZE_MAX - 15, SIZE_MAX - 16,     SIZE_MAX - 31,
                                   SIZE_MAX - 32, SIZE_MAX / 2,  SIZE_MAX / 1000000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct slab slab = {0};
        errno = 0;
        assert_false(slab_init(&slab, sizes[i], 1000001));
        assert_int_equal(errno, ENOMEM);
    }
}

static void an_empty_slab_may_be_given_up(void **state)
{
    (void)state;
    struct slab slab = {0};
    slab_deinit(&slab);
    slab_drop(&slab);
    assert_true(slab_init(&slab, 8, 2));
    assert_non_null(slab_acquire(&slab));
    slab_drop(&slab);
    assert_null(slab.memory);
    slab_deinit(&slab);
}

static void release_twice(void *context)
{
    struct slab *slab = context;
    void *object = slab_acquire(slab);
    if (slab_acquire(slab) != NULL) { /* another one, so that the count alone does not show it */
        slab_release(slab, object);
        slab_release(slab, object);
    }
}

static void release_a_part(void *context)
{
    struct slab *slab = context;
    uint8_t *object = slab_acquire(slab);
    slab_release(slab, object + 1);
}

static void release_a_stranger(void *context)
{
    uint8_t stranger[64];
    slab_release(context, stranger);
}

static void release_nothing(void *context)
{
    slab_release(context, NULL);
}

static void name_a_free_object(void *context)
{
    struct slab *slab = context;
    void *object = slab_acquire(slab);
    slab_release(slab, object);
    (void)slab_handle(slab, object);
}

static void give_up_with_one_lent(void *context)
{
    if (slab_acquire(context) != NULL) {
        slab_deinit(context);
    }
}

static void broken_contracts_abort(void **state)
{
    (void)state;
    struct slab slab;
    assert_true(slab_init(&slab, 48, 3));
    assert_true(aborts(release_twice, &slab));
    assert_true(aborts(release_a_part, &slab));
    assert_true(aborts(release_a_stranger, &slab));
    assert_true(aborts(release_nothing, &slab));
    assert_true(aborts(name_a_free_object, &slab));
    assert_true(aborts(give_up_with_one_lent, &slab));
    slab_deinit(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_aligned_apart_and_counted),
        cmocka_unit_test(the_last_object_released_is_the_first_lent_again),
        cmocka_unit_test(the_lent_objects_are_found_one_by_one),
        cmocka_unit_test(memory_that_was_never_lent_is_never_touched),
        cmocka_unit_test(a_handle_names_one_lease_only),
        cmocka_unit_test(no_other_number_resolves),
        cmocka_unit_test(random_leases_agree_with_a_model),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(an_empty_slab_may_be_given_up),
        cmocka_unit_test(broken_contracts_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
