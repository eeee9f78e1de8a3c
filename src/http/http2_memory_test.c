#include "http/http2_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

enum { PAGES = 40, OBJECTS = 512, ROUNDS = 40000 };

struct fixture {
    struct http2_memory memory;
    struct http2_account account;
};

static void begin(struct fixture *fixture, uint32_t pages, uint64_t max)
{
    memset(fixture, 0, sizeof(*fixture));
    assert_true(http2_memory_init(&fixture->memory, (uint64_t)pages * HTTP2_PAGE_SIZE));
    fixture->memory.kept = 0;
    fixture->account = (struct http2_account){.memory = &fixture->memory, .max = max};
}

static void every_size_is_aligned_and_comes_back(void **state)
{
    (void)state;
    struct fixture it;
    begin(&it, PAGES, UINT64_MAX);
    for (size_t size = 1; size <= 3 * HTTP2_PAGE_SIZE; size += 13) {
        uint8_t *object = http2_allocate(&it.account, size);
        assert_non_null(object);
        assert_int_equal((uintptr_t)object % 16, 0);
        assert_true(http2_size_of(&it.account, object) >= size);
        assert_true(http2_size_of(&it.account, object) <= 2 * size + 32); /* the next class */
        assert_int_equal(it.account.used, http2_size_of(&it.account, object));
        memset(object, 0xA5, size);
        http2_free(&it.account, object);
        assert_int_equal(it.account.used, 0);
    }
    http2_free(&it.account, NULL);
    http2_memory_deinit(&it.memory);
}

static void an_account_ends_at_its_maximum_and_leaves_the_rest_to_others(void **state)
{
    (void)state;
    struct fixture it;
    begin(&it, PAGES, 4096);
    struct http2_account other = {.memory = &it.memory, .max = UINT64_MAX};
    void *first = http2_allocate(&it.account, 2064);
    assert_non_null(first);
    assert_null(http2_allocate(&it.account, 2064));
    void *second = http2_allocate(&it.account, 1536);
    assert_non_null(second);
    void *others = http2_allocate(&other, 2064);
    assert_non_null(others);
    assert_null(http2_resize(&it.account, second, 3072));
    http2_free(&it.account, first);
    first = http2_allocate(&it.account, 2064);
    assert_non_null(first);
    http2_free(&it.account, first);
    http2_free(&it.account, second);
    http2_free(&other, others);
    http2_memory_deinit(&it.memory);
}

static void the_pool_ends_at_its_pages_and_an_empty_page_serves_another_class(void **state)
{
    (void)state;
    struct fixture it;
    void *pages[PAGES];
    begin(&it, PAGES, UINT64_MAX);
    for (int i = 0; i < PAGES; i++) {
        pages[i] = http2_allocate(&it.account, HTTP2_PAGE_SIZE);
        assert_non_null(pages[i]);
    }
    assert_int_equal(http2_memory_spare(&it.memory), 0);
    assert_null(http2_allocate(&it.account, 1));
    http2_free(&it.account, pages[7]);
    void *small = http2_allocate(&it.account, 40);
    assert_non_null(small);
    assert_null(http2_allocate(&it.account, 100)); /* another class, and no page */
    http2_free(&it.account, small);
    pages[7] = http2_allocate(&it.account, 100);
    assert_non_null(pages[7]);
    for (int i = 0; i < PAGES; i++) {
        http2_free(&it.account, pages[i]);
    }
    http2_memory_deinit(&it.memory);
}

static void a_run_is_found_among_pages_that_came_back(void **state)
{
    (void)state;
    struct fixture it;
    void *pages[PAGES];
    begin(&it, PAGES, UINT64_MAX);
    for (int i = 0; i < PAGES; i++) {
        pages[i] = http2_allocate(&it.account, HTTP2_PAGE_SIZE);
    }
    http2_free(&it.account, pages[3]);
    http2_free(&it.account, pages[5]);
    assert_null(http2_allocate(&it.account, 2 * HTTP2_PAGE_SIZE)); /* two, but apart */
    http2_free(&it.account, pages[4]);
    uint8_t *run = http2_allocate(&it.account, 3 * HTTP2_PAGE_SIZE);
    assert_ptr_equal(run, pages[3]);
    assert_int_equal(http2_memory_spare(&it.memory), 0);
    memset(run, 1, (size_t)3 * HTTP2_PAGE_SIZE);
    http2_free(&it.account, run);
    assert_int_equal(http2_memory_spare(&it.memory), 3);
    for (int i = 0; i < PAGES; i++) {
        if (i < 3 || i > 5) {
            http2_free(&it.account, pages[i]);
        }
    }
    assert_null(http2_allocate(&it.account, (size_t)(PAGES + 1) * HTTP2_PAGE_SIZE));
    assert_null(http2_allocate(&it.account, SIZE_MAX));
    http2_memory_deinit(&it.memory);
}

static void what_is_kept_goes_to_the_codec_alone(void **state)
{
    (void)state;
    struct fixture it;
    void *pages[PAGES];
    int count = 0;
    begin(&it, PAGES, UINT64_MAX);
    it.memory.kept = 2;
    nghttp2_mem codec = http2_codec_memory(&it.account);
    while (count < PAGES && (pages[count] = http2_allocate(&it.account, HTTP2_PAGE_SIZE)) != NULL) {
        count++;
    }
    assert_int_equal(count, PAGES - 2);
    assert_null(http2_allocate(&it.account, 1));
    assert_null(http2_allocate(&it.account, (size_t)2 * HTTP2_PAGE_SIZE));
    void *last = codec.malloc(1000, codec.mem_user_data);
    assert_non_null(last);
    void *beside = http2_allocate(&it.account, 1000); /* on the codec's page, which has room */
    assert_non_null(beside);
    http2_free(&it.account, beside);
    for (int i = 0; i < count; i++) {
        http2_free(&it.account, pages[i]);
    }
    http2_free(&it.account, last);
    it.account.max = 4096;
    it.account.kept = 3000;
    assert_null(http2_allocate(&it.account, 2000));
    void *object = codec.malloc(2000, codec.mem_user_data);
    assert_non_null(object);
    assert_null(http2_allocate(&it.account, 32));
    codec.free(object, codec.mem_user_data);
    http2_memory_deinit(&it.memory);
}

static void a_resized_object_keeps_its_bytes(void **state)
{
    (void)state;
    struct fixture it;
    begin(&it, PAGES, UINT64_MAX);
    uint8_t *object = http2_resize(&it.account, NULL, 20);
    memcpy(object, "twenty bytes or less", 20);
    assert_ptr_equal(http2_resize(&it.account, object, 30), object);
    object = http2_resize(&it.account, object, 70000);
    assert_memory_equal(object, "twenty bytes or less", 20);
    object = http2_resize(&it.account, object, 10);
    assert_memory_equal(object, "twenty byt", 10);
    http2_free(&it.account, object);
    http2_memory_deinit(&it.memory);
}

static void the_codec_gets_zeroed_memory_and_no_overflow(void **state)
{
    (void)state;
    struct fixture it;
    begin(&it, PAGES, UINT64_MAX);
    nghttp2_mem codec = http2_codec_memory(&it.account);
    uint8_t *object = codec.malloc(100, codec.mem_user_data);
    memset(object, 0xFF, 100);
    codec.free(object, codec.mem_user_data);
    object = codec.calloc(10, 10, codec.mem_user_data);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(object[i], 0);
    }
    assert_null(codec.calloc(SIZE_MAX, 2, codec.mem_user_data));
    object = codec.realloc(object, 200, codec.mem_user_data);
    assert_non_null(object);
    codec.free(object, codec.mem_user_data);
    codec.free(NULL, codec.mem_user_data);
    http2_account_settle(&it.account); /* the overflow was a refusal */
    http2_memory_deinit(&it.memory);
}

/* Against a list of what is held: no two objects overlap, and all memory comes back. */
static void objects_stay_apart_whatever_the_order(void **state)
{
    (void)state;
    static struct held {
        uint8_t *bytes;
        size_t size;
        uint8_t mark;
    } held[OBJECTS];
    struct fixture it;
    struct prng prng;
    begin(&it, PAGES, UINT64_MAX);
    prng_init(&prng, 7);
    for (int i = 0; i < ROUNDS; i++) {
        struct held *one = &held[prng_below(&prng, OBJECTS)];
        if (one->bytes != NULL) {
            for (size_t j = 0; j < one->size; j += 13) {
                assert_int_equal(one->bytes[j], one->mark);
            }
            http2_free(&it.account, one->bytes);
            one->bytes = NULL;
            continue;
        }
        uint32_t kind = prng_below(&prng, 100);
        one->size = 1 + prng_below(&prng, kind < 90 ? 600 : kind < 99 ? 6000 : 50000);
        one->mark = (uint8_t)i;
        one->bytes = http2_allocate(&it.account, one->size);
        if (one->bytes != NULL) {
            memset(one->bytes, one->mark, one->size);
        }
    }
    for (int i = 0; i < OBJECTS; i++) {
        http2_free(&it.account, held[i].bytes);
    }
    assert_int_equal(it.account.used, 0);
    assert_int_equal(it.memory.pages_in_use, 0);
    http2_memory_deinit(&it.memory);
}

static void what_a_refused_codec_frees_twice_goes_back_once(void **state)
{
    (void)state;
    struct fixture it;
    begin(&it, PAGES, 4096);
    nghttp2_mem codec = http2_codec_memory(&it.account);
    void *first = codec.malloc(100, codec.mem_user_data);
    uint8_t *second = codec.malloc(100, codec.mem_user_data);
    assert_non_null(first);
    assert_non_null(second);
    assert_null(codec.malloc(5000, codec.mem_user_data));
    assert_true(it.account.refused);
    second[0] = 7;
    codec.free(first, codec.mem_user_data);
    codec.free(second, codec.mem_user_data);
    assert_int_equal(second[0], 7); /* it may still be looked at */
    struct http2_account other = {.memory = &it.memory, .max = UINT64_MAX};
    void *others = http2_allocate(&other, 100);
    assert_ptr_not_equal(others, first);
    assert_ptr_not_equal(others, second);
    codec.free(second, codec.mem_user_data);
    codec.free(first, codec.mem_user_data);
    http2_account_settle(&it.account);
    assert_int_equal(it.account.used, 0);
    http2_free(&other, others);
    assert_int_equal(it.memory.pages_in_use, 0);
    http2_memory_deinit(&it.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_is_aligned_and_comes_back),
        cmocka_unit_test(an_account_ends_at_its_maximum_and_leaves_the_rest_to_others),
        cmocka_unit_test(the_pool_ends_at_its_pages_and_an_empty_page_serves_another_class),
        cmocka_unit_test(a_run_is_found_among_pages_that_came_back),
        cmocka_unit_test(what_is_kept_goes_to_the_codec_alone),
        cmocka_unit_test(a_resized_object_keeps_its_bytes),
        cmocka_unit_test(the_codec_gets_zeroed_memory_and_no_overflow),
        cmocka_unit_test(what_a_refused_codec_frees_twice_goes_back_once),
        cmocka_unit_test(objects_stay_apart_whatever_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
