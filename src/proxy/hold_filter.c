#include "proxy/hold_filter.h"

/* Held bytes go first. Who finds neither room nor memory goes on when either comes. */
static size_t filter_room(void *self)
{
    struct hold_filter *filter = self;
    const struct sink *next = &filter->next;
    size_t room = filter->hold.unread > 0 ? 0 : next->room(next->self);
    room += hold_room(&filter->hold, filter->pool);
    if (room == 0 && filter->hold.is_short) {
        hold_wish(&filter->hold, filter->pool);
    } else {
        list_unlink(&filter->hold.link);
    }
    return room;
}

/* As much as the next sink takes, as often as it does; the rest is held. */
static enum status filter_write(void *self, struct span bytes, enum reason *reason)
{
    struct hold_filter *filter = self;
    const struct sink *next = &filter->next;
    while (filter->hold.unread == 0 && bytes.size > 0) {
        size_t room = next->room(next->self);
        if (room == 0) {
            break;
        }
        size_t part = bytes.size < room ? bytes.size : room;
        if (next->write(next->self, span_first(bytes, part), reason) != OK) {
            return ERROR;
        }
        bytes = span_from(bytes, part);
    }
    if (bytes.size == 0) {
        return OK;
    }
    if (bytes.size > filter->hold.max - filter->hold.size ||
        !hold_append(&filter->hold, filter->pool, bytes)) {
        *reason = REASON_BUFFERS_FULL; /* room was promised */
        return ERROR;
    }
    return OK;
}

/* Passes on what is held. OK: nothing is, any more; AGAIN: the rest waits. */
static enum status give(struct hold_filter *filter, enum reason *reason)
{
    const struct sink *next = &filter->next;
    size_t quantum = LANE_QUANTUM;
    while (filter->hold.unread > 0) {
        size_t room = next->room(next->self);
        if (room == 0) {
            if (next->flush(next->self, reason) == ERROR) {
                return ERROR;
            }
            room = next->room(next->self);
        }
        filter->yields |= room > 0 && quantum == 0;
        if (room == 0 || quantum == 0) {
            return AGAIN;
        }
        size_t most = room < quantum ? room : quantum;
        struct span bytes = hold_peek(&filter->hold);
        bytes = span_first(bytes, bytes.size < most ? bytes.size : most);
        if (next->write(next->self, bytes, reason) != OK) {
            return ERROR;
        }
        quantum -= bytes.size;
        hold_advance(&filter->hold, bytes.size);
        hold_drop_read(&filter->hold, filter->pool);
    }
    return OK;
}

static enum status filter_flush(void *self, enum reason *reason)
{
    struct hold_filter *filter = self;
    enum status given = give(filter, reason);
    if (given == ERROR) {
        return ERROR;
    }
    enum status flushed = filter->next.flush(filter->next.self, reason);
    return given == AGAIN && flushed == OK ? AGAIN : flushed;
}

static enum status filter_end(void *self, const struct fields *trailers, enum reason *reason)
{
    struct hold_filter *filter = self;
    enum status status = give(filter, reason);
    return status == OK ? filter->next.end(filter->next.self, trailers, reason) : status;
}

/* A pipe goes behind what was passed on, never before what is held. */
static struct io_pipe *filter_open_pipe(void *self)
{
    struct hold_filter *filter = self;
    const struct sink *next = &filter->next;
    bool possible = filter->hold.unread == 0 && next->open_pipe != NULL;
    return possible ? next->open_pipe(next->self) : NULL;
}

static enum status filter_write_pipe(void *self, enum reason *reason)
{
    const struct sink *next = &((struct hold_filter *)self)->next;
    return next->write_pipe(next->self, reason);
}

static uint64_t filter_held(void *self)
{
    return ((const struct hold_filter *)self)->hold.unread;
}

struct sink hold_filter_before(struct hold_filter *filter, const struct sink *next,
                               struct hold_pool *pool, uint64_t max)
{
    *filter = (struct hold_filter){.next = *next, .pool = pool};
    hold_init(&filter->hold, max);
    return (struct sink){.room = filter_room,
                         .write = filter_write,
                         .open_pipe = filter_open_pipe,
                         .write_pipe = filter_write_pipe,
                         .end = filter_end,
                         .flush = filter_flush,
                         .held = filter_held,
                         .self = filter,
                         .stream = next->stream};
}

void hold_filter_clear(struct hold_filter *filter)
{
    hold_clear(&filter->hold, filter->pool);
}
