/*
 * A byte ring of records with one writer and one reader, made to be read over a wall: the bytes and
 * the tail live in the writer's segment, the cursor (how far the reader has come) in the reader's.
 * Neither side trusts the other: the writer takes a cursor only if it lies between the last good
 * one and its tail, the reader checks every length. Nobody ever blocks: a full ring refuses a
 * record and the writer counts it.
 *
 * Positions count bytes and only grow, from one incarnation of a writer to the next as well, so
 * that a cursor left behind for an earlier one is recognised. A record is contiguous; room that is
 * too short for one at the end of the ring is skipped. Delivery is at least once: a reader that
 * takes the place of a dead one begins where the writer last saw the cursor, which is where that
 * one was if the writer hears of its end before the successor begins.
 */
#ifndef SENTINEL_OBSERVE_RING_H
#define SENTINEL_OBSERVE_RING_H

#include <stdatomic.h>

#include "base/span.h"
#include "base/status.h"

enum {
    RING_CAPACITY_DEFAULT = 1024 * 1024, /* bytes of a worker's ring */
    RING_CAPACITY_MIN = 4096,
    RING_CURSOR_STRIDE = 64, /* bytes between cursors: one cache line each */
};

struct ring_header;

/* The writing end, in the writer's own memory. */
struct ring_writer {
    struct ring_header *header;
    uint8_t *data;
    uint64_t capacity;
    uint64_t tail;     /* the end of the last record */
    uint64_t cursor;   /* the last good one: all before it may be overwritten */
    uint64_t start;    /* of the reserved record; tail, or the ring's begin after a skip */
    uint64_t reserved; /* bytes */
    uint64_t refused;  /* records that found no room */
    const _Atomic uint64_t *reader; /* the reader's cursor; NULL while there is none */
};

/* The reading end, in the reader's own memory. */
struct ring_reader {
    const struct ring_header *header;
    const uint8_t *data;
    uint64_t capacity;
    uint64_t position; /* the next record */
    _Atomic uint64_t *cursor;
};

/* Bytes of memory for a ring of this capacity, which is a power of two of at least the minimum. */
size_t ring_size(size_t capacity);

/*
 * Starts an empty ring in memory of ring_size(capacity), aligned to 64, that outlives the writer.
 * incarnation: greater than that of any earlier writer whose reader's cursor this one may be shown
 * (the segment's incarnation; 0 where there is only one).
 */
void ring_writer_init(struct ring_writer *writer, void *memory, size_t capacity,
                      uint64_t incarnation);

/*
 * Says where the reader publishes its cursor; NULL: nobody reads now. May change at any time; what
 * the one before has published is taken over, so its memory must still be there.
 */
void ring_writer_attach(struct ring_writer *writer, const _Atomic uint64_t *reader);

/*
 * Room for a record of up to size bytes (at least 1), or NULL: the ring is full. The record is not
 * there before ring_commit; a reservation that is not committed leaves no trace.
 */
NODISCARD uint8_t *ring_reserve(struct ring_writer *writer, size_t size);

/* Publishes the reserved record with its true size, 1 to what was reserved. */
void ring_commit(struct ring_writer *writer, size_t size);

/* Reserves, copies and commits; false: the ring is full. */
NODISCARD bool ring_write(struct ring_writer *writer, struct span record);

/*
 * Starts reading the ring in memory of ring_size(capacity) at the oldest record that the writer
 * still keeps, and publishes that as the cursor. The memory and the cursor outlive the reader.
 */
void ring_reader_init(struct ring_reader *reader, const void *memory, size_t capacity,
                      _Atomic uint64_t *cursor);

/*
 * The next record. Its bytes are the writer's, to be judged as input, and stay until ring_release.
 * AGAIN: no more now. ERROR: what is there is no record; everything up to the tail is skipped.
 */
NODISCARD enum status ring_read(struct ring_reader *reader, struct span *record);

/* Bytes between the tail and the reader's cursor as it is now: what waits to be read. */
uint64_t ring_waiting(struct ring_writer *writer);

/* How many records the writer says found no room: for people only. */
uint64_t ring_refused(const struct ring_reader *reader);

/*
 * Where the writer of the ring in this memory stands, as it says: to be compared with a cursor, and
 * for nothing else.
 */
uint64_t ring_tail(const void *memory);

/* Lets the writer reuse everything read so far. */
void ring_release(struct ring_reader *reader);

#endif
