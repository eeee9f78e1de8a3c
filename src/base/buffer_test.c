#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/death_test.h"
#include "base/prng.h"

enum { POOL_MIN = 8 };

/* Bytes to append, different at every offset up to a prime. */
static uint8_t pattern[BYTE_QUEUE_MAX + 1];

static int fill_pattern(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (uint8_t)(i % 251);
    }
    return 0;
}

static size_t pieces_size(const struct byte_queue *queue)
{
    struct span pieces[BYTE_QUEUE_BUFFERS_MAX];
    size_t size = 0;
    int count = byte_queue_pieces(queue, pieces);
    for (int i = 0; i < count; i++) {
        assert_true(pieces[i].size > 0 && pieces[i].size <= BUFFER_SIZE);
        size += pieces[i].size;
    }
    return size;
}

static uint32_t buffers_left(const struct buffer_pool *pool)
{
    return pool->slab.capacity - pool->slab.in_use;
}

static void a_pool_has_at_least_eight_buffers(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        uint32_t buffers;
    } cases[] = {
        {0, POOL_MIN},
        {1, POOL_MIN},
        {POOL_MIN * BUFFER_SIZE, POOL_MIN},
        {9 * BUFFER_SIZE - 1, POOL_MIN},
        {9 * BUFFER_SIZE, 9},
        {32 * 1024 * 1024, 2048},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer_pool pool;
        assert_true(buffer_pool_init(&pool, cases[i].bytes));
        assert_int_equal(pool.slab.capacity, cases[i].buffers);
        assert_in_range(pool.reserve, 1, cases[i].buffers / 2);
        buffer_pool_deinit(&pool);
    }
}

static void a_queue_holds_buffers_only_while_it_holds_bytes(void **state)
{
    (void)state;
    struct buffer_pool pool;
    struct byte_queue queue = {0};
    struct span pieces[BYTE_QUEUE_BUFFERS_MAX];
    assert_true(buffer_pool_init(&pool, 0));
    assert_true(byte_queue_append(&queue, &pool, SPAN_EMPTY));
    assert_int_equal(pool.slab.in_use, 0);
    assert_int_equal(byte_queue_pieces(&queue, pieces), 0);
    byte_queue_consume(&queue, &pool, 0);
    byte_queue_clear(&queue, &pool);

    assert_true(byte_queue_append(&queue, &pool, span_of(pattern, 1)));
    assert_int_equal(pool.slab.in_use, 1);
    byte_queue_consume(&queue, &pool, 1);
    assert_int_equal(pool.slab.in_use, 0);

    assert_true(byte_queue_append(&queue, &pool, span_of(pattern, BUFFER_SIZE)));
    assert_int_equal(pool.slab.in_use, 1);
    byte_queue_consume(&queue, &pool, BUFFER_SIZE - 1);
    assert_int_equal(pool.slab.in_use, 1);
    byte_queue_consume(&queue, &pool, 1);
    assert_int_equal(pool.slab.in_use, 0);

    assert_true(byte_queue_append(&queue, &pool, span_of(pattern, BUFFER_SIZE + 1)));
    assert_int_equal(pool.slab.in_use, 2);
    byte_queue_consume(&queue, &pool, BUFFER_SIZE);
    assert_int_equal(pool.slab.in_use, 1);
    byte_queue_clear(&queue, &pool);
    assert_int_equal(pool.slab.in_use, 0);
    assert_int_equal(queue.size, 0);
    buffer_pool_deinit(&pool);
}

static void a_full_queue_takes_nothing_until_bytes_leave(void **state)
{
    (void)state;
    struct buffer_pool pool;
    struct byte_queue queue = {0};
    assert_true(buffer_pool_init(&pool, 64 * BUFFER_SIZE));
    assert_int_equal(byte_queue_room(&queue, &pool), BYTE_QUEUE_MAX);
    assert_false(byte_queue_append(&queue, &pool, span_of(pattern, BYTE_QUEUE_MAX + 1)));
    assert_int_equal(queue.size, 0);
    assert_int_equal(pool.slab.in_use, 0);
    assert_true(byte_queue_append(&queue, &pool, span_of(pattern, BYTE_QUEUE_MAX)));
    assert_int_equal(byte_queue_room(&queue, &pool), 0);
    assert_false(byte_queue_append(&queue, &pool, span_of(pattern, 1)));
    assert_true(byte_queue_append(&queue, &pool, SPAN_EMPTY));
    assert_int_equal(pieces_size(&queue), BYTE_QUEUE_MAX);
    byte_queue_consume(&queue, &pool, BUFFER_SIZE);
    assert_int_equal(byte_queue_room(&queue, &pool), BUFFER_SIZE);
    byte_queue_clear(&queue, &pool);
    buffer_pool_deinit(&pool);
}

static void a_size_beyond_all_arithmetic_is_refused(void **state)
{
    (void)state;
    struct buffer_pool pool;
    struct byte_queue queue = {0};
    assert_true(buffer_pool_init(&pool, 0));
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - BUFFER_SIZE, (size_t)UINT32_MAX + 1,
                                   UINT32_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_false(byte_queue_append(&queue, &pool, span_of(pattern, sizes[i])));
    }
    assert_int_equal(pool.slab.in_use, 0);
    buffer_pool_deinit(&pool);
}

/* Body bytes may take all but the reserve; a head still gets in, from the reserve. */
static void the_reserve_is_for_heads_only(void **state)
{
    (void)state;
    enum { QUEUES = 64 };
    static struct byte_queue queues[QUEUES];
    struct buffer_pool pool;
    assert_true(buffer_pool_init(&pool, 40 * BUFFER_SIZE));
    int used = 0;
    for (; used < QUEUES; used++) {
        size_t room = byte_queue_room(&queues[used], &pool);
        if (room == 0) {
            break;
        }
        assert_true(byte_queue_append(&queues[used], &pool, span_of(pattern, room)));
    }
    assert_int_equal(buffers_left(&pool), pool.reserve);
    for (uint32_t i = 0; i < pool.reserve; i++) {
        assert_int_equal(byte_queue_room(&queues[used], &pool), 0);
        assert_true(byte_queue_append(&queues[used++], &pool, SPAN("HTTP/1.1 503 ...")));
    }
    assert_int_equal(buffers_left(&pool), 0);
    assert_false(byte_queue_append(&queues[used], &pool, span_of(pattern, 1)));
    assert_int_equal(queues[used].size, 0);
    for (int i = 0; i < used; i++) {
        byte_queue_clear(&queues[i], &pool);
    }
    buffer_pool_deinit(&pool);
}

/* Slow readers, each filling its queue, do not starve a late one: half the pool is shared thinly.
 */
static void under_pressure_each_queue_gets_one_buffer(void **state)
{
    (void)state;
    struct buffer_pool pool;
    struct byte_queue greedy[8] = {0};
    struct byte_queue late = {0};
    assert_true(buffer_pool_init(&pool, 16 * BUFFER_SIZE));
    for (size_t i = 0; i < 8; i++) {
        size_t room = byte_queue_room(&greedy[i], &pool);
        assert_true(room >= BUFFER_SIZE);
        assert_true(byte_queue_append(&greedy[i], &pool, span_of(pattern, room)));
        assert_int_equal(byte_queue_room(&greedy[i], &pool), 0);
    }
    assert_int_equal(byte_queue_room(&late, &pool), 0); /* only the reserve is left */
    byte_queue_clear(&greedy[7], &pool);
    assert_int_equal(byte_queue_room(&late, &pool), BUFFER_SIZE);
    for (size_t i = 0; i < 8; i++) {
        byte_queue_clear(&greedy[i], &pool);
    }
    buffer_pool_deinit(&pool);
}

static void give_up_with_a_waiter(void *context)
{
    struct buffer_pool *pool = context;
    struct list waiter;
    list_push_back(&pool->waiters, &waiter);
    buffer_pool_deinit(pool);
}

static void consume_too_much(void *context)
{
    struct byte_queue queue = {0};
    if (byte_queue_append(&queue, context, span_of(pattern, 10))) {
        byte_queue_consume(&queue, context, 11);
    }
}

static void peek_beyond_the_end(void *context)
{
    struct byte_queue queue = {0};
    if (byte_queue_append(&queue, context, span_of(pattern, 10))) {
        (void)byte_queue_peek(&queue, 10);
    }
}

static void broken_contracts_abort(void **state)
{
    (void)state;
    struct buffer_pool pool;
    assert_true(buffer_pool_init(&pool, 0));
    assert_true(aborts(give_up_with_a_waiter, &pool));
    assert_true(aborts(consume_too_much, &pool));
    assert_true(aborts(peek_beyond_the_end, &pool));
    buffer_pool_deinit(&pool);
    struct buffer_pool never_begun = {0};
    buffer_pool_deinit(&never_begun);
}

/* The model: what went in and has not come out, as one flat array. */
struct model {
    struct byte_queue queue;
    uint8_t bytes[BYTE_QUEUE_MAX];
    size_t size;
};

enum { MODEL_QUEUES = 6, MODEL_STEPS = 30000 };

static void compare(const struct model *model)
{
    struct span pieces[BYTE_QUEUE_BUFFERS_MAX];
    int count = byte_queue_pieces(&model->queue, pieces);
    assert_in_range(count, 0, BYTE_QUEUE_BUFFERS_MAX);
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        assert_true(pieces[i].size > 0 && pieces[i].size <= model->size - at);
        assert_memory_equal(pieces[i].data, model->bytes + at, pieces[i].size);
        struct span seen = byte_queue_peek(&model->queue, at);
        assert_true(seen.data == pieces[i].data && seen.size == pieces[i].size);
        at += pieces[i].size;
        seen = byte_queue_peek(&model->queue, at - 1);
        assert_true(seen.size == 1 && seen.data[0] == model->bytes[at - 1]);
    }
    assert_int_equal(at, model->size);
    assert_int_equal(model->queue.size, model->size);
    assert_true((model->size == 0) == (model->queue.buffers == 0));
}

static size_t random_size(struct prng *prng)
{
    switch (prng_below(prng, 5)) {
    case 0:
        return prng_below(prng, 4);
    case 1:
        return BUFFER_SIZE - 2 + prng_below(prng, 5);
    case 2:
        return BYTE_QUEUE_MAX - 2 + prng_below(prng, 5);
    default:
        return prng_below(prng, 2 * BUFFER_SIZE);
    }
}

static void append_randomly(struct model *model, struct buffer_pool *pool, struct prng *prng)
{
    size_t room = byte_queue_room(&model->queue, pool);
    size_t size = random_size(prng);
    assert_true(room <= BYTE_QUEUE_MAX);
    if (prng_below(prng, 3) == 0 && room > 0) {
        size = room;
    }
    size = size < sizeof(pattern) ? size : sizeof(pattern);
    uint32_t used_before = pool->slab.in_use;
    /* From a random place, so that a byte out of order shows. */
    size_t start = prng_below(prng, (uint32_t)(sizeof(pattern) - size + 1));
    bool taken = byte_queue_append(&model->queue, pool, span_of(pattern + start, size));
    assert_true(taken || size > room); /* room is a promise */
    if (taken) {
        assert_true(size <= sizeof(model->bytes) - model->size);
        memcpy(model->bytes + model->size, pattern + start, size);
        model->size += size;
    } else {
        assert_int_equal(pool->slab.in_use, used_before);
    }
}

static void random_queues_agree_with_flat_arrays(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 99);
    struct buffer_pool pool;
    struct model *models = calloc(MODEL_QUEUES, sizeof(*models));
    assert_non_null(models);
    assert_true(buffer_pool_init(&pool, 14 * BUFFER_SIZE));
    int refused = 0;
    for (int step = 0; step < MODEL_STEPS; step++) {
        struct model *model = &models[prng_below(&prng, MODEL_QUEUES)];
        size_t before = model->size;
        uint32_t action = prng_below(&prng, 20);
        if (action == 0) {
            byte_queue_clear(&model->queue, &pool);
            model->size = 0;
        } else if (action < 10) {
            append_randomly(model, &pool, &prng);
            refused += model->size == before;
        } else {
            size_t size = random_size(&prng);
            size = size < model->size ? size : model->size;
            byte_queue_consume(&model->queue, &pool, size);
            memmove(model->bytes, model->bytes + size, model->size - size);
            model->size -= size;
        }
        compare(model);
    }
    assert_true(refused > 100); /* the pool and the queues were full at times */
    uint32_t buffers = 0;
    for (int i = 0; i < MODEL_QUEUES; i++) {
        buffers += models[i].queue.buffers;
    }
    assert_int_equal(buffers, pool.slab.in_use);
    for (int i = 0; i < MODEL_QUEUES; i++) {
        byte_queue_clear(&models[i].queue, &pool);
    }
    buffer_pool_deinit(&pool);
    free(models);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_has_at_least_eight_buffers),
        cmocka_unit_test(a_queue_holds_buffers_only_while_it_holds_bytes),
        cmocka_unit_test(a_full_queue_takes_nothing_until_bytes_leave),
        cmocka_unit_test(a_size_beyond_all_arithmetic_is_refused),
        cmocka_unit_test(the_reserve_is_for_heads_only),
        cmocka_unit_test(under_pressure_each_queue_gets_one_buffer),
        cmocka_unit_test(broken_contracts_abort),
        cmocka_unit_test(random_queues_agree_with_flat_arrays),
    };
    return cmocka_run_group_tests(tests, fill_pattern, NULL);
}
