/*
 * The order that makes it safe: the writer stores the record, then the tail with release; the
 * reader loads the tail with acquire before it looks at a record, and stores the cursor with
 * release after it is done; the writer loads the cursor with acquire before it writes over what
 * lies behind it.
 */
#include "observe/ring.h"

#include "base/assert.h"

enum {
    RECORD_ALIGNMENT = 8,
    RECORD_HEADER = 8,
    CACHE_LINE = 64,
    INCARNATION_SHIFT = 40, /* a TiB of positions for each incarnation */
};

#define RECORD_SKIP UINT32_MAX /* in place of a size: the rest of the ring is unused */
#define RECORD_MARK UINT32_C(0x53524543)

/* What the reader sees of the writer. Both words have a cache line of their own. */
struct ring_header {
    _Alignas(CACHE_LINE) _Atomic uint64_t tail;
    _Alignas(CACHE_LINE) _Atomic uint64_t cursor; /* the last good one, for the next reader */
    _Atomic uint64_t refused;                     /* records that found no room */
};

/* In front of each record. The mark depends on the position: a stray place never looks right. */
struct record {
    uint32_t size;
    uint32_t mark;
};

static_assert(sizeof(struct record) == RECORD_HEADER, "a record's header is one word");
static_assert(sizeof(struct ring_header) == 2 * CACHE_LINE, "data starts on a cache line");
static_assert((int)RING_CURSOR_STRIDE >= (int)CACHE_LINE, "cursors do not share cache lines");

static uint32_t mark_at(uint64_t position)
{
    return RECORD_MARK ^ (uint32_t)(position / RECORD_ALIGNMENT);
}

static uint64_t align_up(uint64_t size)
{
    return (size + RECORD_ALIGNMENT - 1) & ~(uint64_t)(RECORD_ALIGNMENT - 1);
}

static void check_capacity(size_t capacity)
{
    ASSERT(capacity >= RING_CAPACITY_MIN);
    ASSERT((capacity & (capacity - 1)) == 0);
    ASSERT(capacity <= UINT32_MAX / 2);
}

size_t ring_size(size_t capacity)
{
    check_capacity(capacity);
    return sizeof(struct ring_header) + capacity;
}

void ring_writer_init(struct ring_writer *writer, void *memory, size_t capacity,
                      uint64_t incarnation)
{
    check_capacity(capacity);
    uint64_t begin = incarnation << INCARNATION_SHIFT;
    *writer = (struct ring_writer){
        .header = (struct ring_header *)memory,
        .data = (uint8_t *)memory + sizeof(struct ring_header),
        .capacity = capacity,
        .tail = begin,
        .cursor = begin,
    };
    atomic_store_explicit(&writer->header->tail, begin, memory_order_release);
    atomic_store_explicit(&writer->header->cursor, begin, memory_order_release);
    atomic_store_explicit(&writer->header->refused, 0, memory_order_relaxed);
}

/* Takes the reader's cursor over if it can be true; a reader that lies only costs itself records.
 */
static void refresh_cursor(struct ring_writer *writer)
{
    if (writer->reader == NULL) {
        return;
    }
    uint64_t cursor = atomic_load_explicit(writer->reader, memory_order_acquire);
    if (cursor > writer->cursor && cursor <= writer->tail) {
        writer->cursor = cursor;
        atomic_store_explicit(&writer->header->cursor, cursor, memory_order_release);
    }
}

void ring_writer_attach(struct ring_writer *writer, const _Atomic uint64_t *reader)
{
    refresh_cursor(writer); /* the old one's last word: its successor need not read it all again */
    writer->reader = reader;
}

static void put_record(struct ring_writer *writer, uint64_t position, uint32_t size)
{
    struct record record = {size, mark_at(position)};
    memcpy(writer->data + (position & (writer->capacity - 1)), &record, sizeof(record));
}

uint64_t ring_waiting(struct ring_writer *writer)
{
    refresh_cursor(writer);
    return writer->tail - writer->cursor;
}

uint8_t *ring_reserve(struct ring_writer *writer, size_t size)
{
    ASSERT(size > 0);
    ASSERT(writer->tail - writer->cursor <= writer->capacity);
    if (size > writer->capacity / 2) {
        return NULL;
    }
    refresh_cursor(writer);
    uint64_t wanted = RECORD_HEADER + align_up(size);
    uint64_t to_end = writer->capacity - (writer->tail & (writer->capacity - 1));
    uint64_t skipped = wanted > to_end ? to_end : 0;
    if (writer->tail + skipped + wanted - writer->cursor > writer->capacity) {
        atomic_store_explicit(&writer->header->refused, ++writer->refused, memory_order_relaxed);
        return NULL;
    }
    writer->start = writer->tail + skipped;
    writer->reserved = size;
    return writer->data + (writer->start & (writer->capacity - 1)) + RECORD_HEADER;
}

void ring_commit(struct ring_writer *writer, size_t size)
{
    ASSERT(size > 0);
    ASSERT(size <= writer->reserved);
    if (writer->start != writer->tail) {
        put_record(writer, writer->tail, RECORD_SKIP);
    }
    put_record(writer, writer->start, (uint32_t)size);
    writer->tail = writer->start + RECORD_HEADER + align_up(size);
    writer->reserved = 0;
    atomic_store_explicit(&writer->header->tail, writer->tail, memory_order_release);
}

bool ring_write(struct ring_writer *writer, struct span record)
{
    uint8_t *place = ring_reserve(writer, record.size);
    if (place == NULL) {
        return false;
    }
    memcpy(place, record.data, record.size);
    ring_commit(writer, record.size);
    return true;
}

void ring_reader_init(struct ring_reader *reader, const void *memory, size_t capacity,
                      _Atomic uint64_t *cursor)
{
    check_capacity(capacity);
    *reader = (struct ring_reader){
        .header = (const struct ring_header *)memory,
        .data = (const uint8_t *)memory + sizeof(struct ring_header),
        .capacity = capacity,
        .cursor = cursor,
    };
    reader->position = atomic_load_explicit(&reader->header->cursor, memory_order_acquire);
    ring_release(reader);
}

/* Gives up everything up to the tail: what is in the ring is not what a writer leaves. */
static enum status skip_all(struct ring_reader *reader, uint64_t tail)
{
    reader->position = tail;
    return ERROR;
}

enum status ring_read(struct ring_reader *reader, struct span *record)
{
    uint64_t tail = atomic_load_explicit(&reader->header->tail, memory_order_acquire);
    /* At most two rounds: a skip is followed by a record. */
    for (int round = 0; round < 2; round++) {
        if (reader->position == tail) {
            return AGAIN;
        }
        uint64_t left = tail - reader->position; /* wraps for a tail that went back */
        uint64_t offset = reader->position & (reader->capacity - 1);
        uint64_t to_end = reader->capacity - offset;
        if (left > reader->capacity || left < RECORD_HEADER || offset % RECORD_ALIGNMENT != 0) {
            return skip_all(reader, tail);
        }
        struct record header;
        memcpy(&header, reader->data + offset, sizeof(header));
        if (header.mark != mark_at(reader->position)) {
            return skip_all(reader, tail);
        }
        if (header.size == RECORD_SKIP && round == 0 && to_end < left) {
            reader->position += to_end;
            continue;
        }
        uint64_t size = RECORD_HEADER + align_up(header.size);
        if (header.size == 0 || size > left || size > to_end) {
            return skip_all(reader, tail);
        }
        *record = span_of(reader->data + offset + RECORD_HEADER, header.size);
        reader->position += size;
        return OK;
    }
    return skip_all(reader, tail);
}

uint64_t ring_refused(const struct ring_reader *reader)
{
    return atomic_load_explicit(&reader->header->refused, memory_order_relaxed);
}

uint64_t ring_tail(const void *memory)
{
    const struct ring_header *header = (const struct ring_header *)memory;
    return atomic_load_explicit(&header->tail, memory_order_acquire);
}

void ring_release(struct ring_reader *reader)
{
    atomic_store_explicit(reader->cursor, reader->position, memory_order_release);
}
