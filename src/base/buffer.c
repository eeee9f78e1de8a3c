#include "base/buffer.h"

#include "base/assert.h"

enum { POOL_BUFFERS_MIN = 8, POOL_RESERVE_SHARE = 8 };

struct buffer {
    struct buffer *next;
    uint64_t reserved; /* keeps the bytes aligned */
    uint8_t bytes[BUFFER_SIZE];
};

uint32_t buffer_pool_count(uint64_t bytes)
{
    uint64_t count = bytes / BUFFER_SIZE;
    if (count < POOL_BUFFERS_MIN) {
        count = POOL_BUFFERS_MIN;
    }
    return count < UINT32_MAX / 2 ? (uint32_t)count : UINT32_MAX / 2;
}

size_t buffer_pool_object_size(void)
{
    return sizeof(struct buffer);
}

bool buffer_pool_init(struct buffer_pool *pool, uint64_t bytes)
{
    uint32_t count = buffer_pool_count(bytes);
    *pool = (struct buffer_pool){.reserve = count / POOL_RESERVE_SHARE};
    list_init(&pool->waiters);
    list_init(&pool->head_waiters);
    return slab_init(&pool->slab, sizeof(struct buffer), count);
}

void buffer_pool_deinit(struct buffer_pool *pool)
{
    ASSERT(pool->slab.memory == NULL || list_is_empty(&pool->waiters));
    ASSERT(pool->slab.memory == NULL || list_is_empty(&pool->head_waiters));
    slab_deinit(&pool->slab);
}

static void queue_check(const struct byte_queue *queue)
{
    ASSERT((queue->first == NULL) == (queue->buffers == 0));
    ASSERT((queue->size == 0) == (queue->buffers == 0));
    ASSERT(queue->buffers <= BYTE_QUEUE_BUFFERS_MAX);
    ASSERT(queue->tail <= BUFFER_SIZE && queue->offset <= BUFFER_SIZE);
    ASSERT(queue->buffers == 0 ||
           queue->size == (queue->buffers - 1) * BUFFER_SIZE + queue->tail - queue->offset);
}

/* Buffers that one body may take: fewer for each queue as the pool fills. */
static uint32_t body_buffers(const struct buffer_pool *pool)
{
    if (buffer_pool_spare(pool) == 0) {
        return 0;
    }
    return buffer_pool_is_ample(pool) ? BYTE_QUEUE_BUFFERS_MAX : 1;
}

size_t byte_queue_room(const struct byte_queue *queue, const struct buffer_pool *pool)
{
    uint32_t more = body_buffers(pool);
    uint32_t allowed = more < BYTE_QUEUE_BUFFERS_MAX - queue->buffers
                           ? more
                           : BYTE_QUEUE_BUFFERS_MAX - queue->buffers;
    if (more == 1 && queue->buffers > 0) {
        allowed = 0; /* under pressure one buffer each */
    }
    size_t tail_room = queue->buffers == 0 ? 0 : BUFFER_SIZE - queue->tail;
    return tail_room + (size_t)allowed * BUFFER_SIZE;
}

static void add_buffer(struct byte_queue *queue, struct buffer *buffer)
{
    ASSERT(queue->buffers < BYTE_QUEUE_BUFFERS_MAX && buffer != NULL);
    buffer->next = NULL;
    if (queue->first == NULL) {
        queue->first = buffer;
        queue->offset = 0;
    } else {
        queue->last->next = buffer;
    }
    queue->last = buffer;
    queue->tail = 0;
    queue->buffers++;
}

/* How many more buffers the bytes need; more than a queue may have stands for "too many". */
static size_t buffers_needed(const struct byte_queue *queue, size_t size)
{
    size_t tail_room = queue->buffers == 0 ? 0 : BUFFER_SIZE - queue->tail;
    if (size <= tail_room) {
        return 0;
    }
    if (size > BYTE_QUEUE_MAX) {
        return BYTE_QUEUE_BUFFERS_MAX + 1; /* before the sum below can wrap */
    }
    return (size - tail_room + BUFFER_SIZE - 1) / BUFFER_SIZE;
}

/* Takes all of them, or none and says false. */
static bool acquire(struct buffer_pool *pool, struct buffer **buffers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buffers[i] = slab_acquire(&pool->slab);
        if (buffers[i] == NULL) {
            while (i > 0) {
                slab_release(&pool->slab, buffers[--i]);
            }
            return false;
        }
    }
    return true;
}

bool byte_queue_append(struct byte_queue *queue, struct buffer_pool *pool, struct span bytes)
{
    struct buffer *more[BYTE_QUEUE_BUFFERS_MAX] = {NULL};
    size_t needed = buffers_needed(queue, bytes.size);
    if (needed > BYTE_QUEUE_BUFFERS_MAX - queue->buffers || !acquire(pool, more, needed)) {
        return false;
    }
    for (size_t next = 0; bytes.size > 0;) {
        if (queue->buffers == 0 || queue->tail == BUFFER_SIZE) {
            add_buffer(queue, more[next++]);
        }
        size_t room = BUFFER_SIZE - queue->tail;
        size_t part = bytes.size < room ? bytes.size : room;
        memcpy(queue->last->bytes + queue->tail, bytes.data, part);
        queue->tail += (uint32_t)part;
        queue->size += (uint32_t)part;
        bytes = span_from(bytes, part);
    }
    queue_check(queue);
    return true;
}

int byte_queue_pieces(const struct byte_queue *queue, struct span pieces[BYTE_QUEUE_BUFFERS_MAX])
{
    int count = 0;
    uint32_t offset = queue->offset;
    for (const struct buffer *buffer = queue->first; buffer != NULL; buffer = buffer->next) {
        uint32_t end = buffer == queue->last ? queue->tail : BUFFER_SIZE;
        if (end > offset) {
            ASSERT(count < BYTE_QUEUE_BUFFERS_MAX);
            pieces[count++] = span_of(buffer->bytes + offset, end - offset);
        }
        offset = 0;
    }
    return count;
}

struct span byte_queue_peek(const struct byte_queue *queue, size_t offset)
{
    struct span pieces[BYTE_QUEUE_BUFFERS_MAX];
    int count = byte_queue_pieces(queue, pieces);
    ASSERT(offset < queue->size);
    int i = 0;
    while (i < count && offset >= pieces[i].size) {
        offset -= pieces[i].size;
        i++;
    }
    ASSERT(i < count);
    return span_from(pieces[i], offset);
}

static void drop_first(struct byte_queue *queue, struct buffer_pool *pool)
{
    struct buffer *buffer = queue->first;
    queue->first = buffer->next;
    queue->offset = 0;
    queue->buffers--;
    if (queue->first == NULL) {
        queue->last = NULL;
        queue->tail = 0;
    }
    slab_release(&pool->slab, buffer);
    pool->returned = true;
}

void byte_queue_consume(struct byte_queue *queue, struct buffer_pool *pool, size_t size)
{
    ASSERT(size <= queue->size);
    queue->size -= (uint32_t)size;
    while (queue->first != NULL) {
        uint32_t end = queue->first == queue->last ? queue->tail : BUFFER_SIZE;
        uint32_t there = end - queue->offset;
        if (size < there) {
            queue->offset += (uint32_t)size;
            break;
        }
        size -= there;
        drop_first(queue, pool);
    }
    queue_check(queue);
}

void byte_queue_clear(struct byte_queue *queue, struct buffer_pool *pool)
{
    while (queue->first != NULL) {
        drop_first(queue, pool);
    }
    *queue = (struct byte_queue){0};
}
