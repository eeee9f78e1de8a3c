#include "peer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "io/sim.h"
#include "run.h"

enum {
    FIRST_WINDOW = 65535,
    SETTINGS_MAX = 8, /* in one frame of ours */
    CHATTER_PIECE = 40,
};

/* False: it is full. */
bool peer_section_add(struct peer_section *section, struct span name, struct span value)
{
    if (section->count == PEER_FIELDS_MAX ||
        section->size + name.size + value.size > sizeof(section->text)) {
        return false;
    }
    uint8_t *at = section->text + section->size;
    if (name.size > 0) {
        memcpy(at, name.data, name.size);
    }
    if (value.size > 0) {
        memcpy(at + name.size, value.data, value.size);
    }
    section->size += name.size + value.size;
    section->fields[section->count++] =
        (struct peer_field){span_of(at, name.size), span_of(at + name.size, value.size)};
    return true;
}

/* ---- Out ---- */

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

static void push_frame_header(struct peer *peer, size_t size, uint8_t type, uint8_t flags,
                              uint32_t id)
{
    uint8_t header[PEER_FRAME_HEADER] = {(uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size,
                                         type, flags};
    put_u32(header + 5, id);
    wire_push(peer->wire, header, sizeof(header));
}

void peer_push_frame(struct peer *peer, uint8_t type, uint8_t flags, uint32_t id,
                     struct span payload)
{
    push_frame_header(peer, payload.size, type, flags, id);
    wire_push(peer->wire, payload.data, payload.size);
    peer->said = peer->wire->sent + wire_unsent(peer->wire);
}

/* HEADERS or DATA of at most so many bytes, with padding now and then; how many they became. */
static size_t push_padded(struct peer *peer, uint8_t type, uint8_t flags,
                          const struct peer_stream *stream, struct span payload, size_t most)
{
    static const uint8_t zeros[UINT8_MAX] = {0};
    if (most <= payload.size || !sim_chance(peer->prng, peer->manners.pads)) {
        peer_push_frame(peer, type, flags, stream->id, payload);
        return payload.size;
    }
    size_t room = most - payload.size - 1;
    uint8_t padding = (uint8_t)sim_between(peer->prng, 0, room < UINT8_MAX ? room : UINT8_MAX);
    size_t size = 1 + payload.size + padding;
    push_frame_header(peer, size, type, flags | NGHTTP2_FLAG_PADDED, stream->id);
    wire_push(peer->wire, &padding, 1);
    wire_push(peer->wire, payload.data, payload.size);
    peer->said = peer->wire->sent + wire_unsent(peer->wire);
    wire_push(peer->wire, zeros, padding);
    return size;
}

void peer_draft(struct peer *peer)
{
    peer->draft.count = 0;
    peer->draft.size = 0;
}

void peer_add_bytes(struct peer *peer, struct span name, struct span value)
{
    if (!peer_section_add(&peer->draft, name, value)) {
        run_failed("%s would send a field section beyond all bounds", peer->role);
    }
}

void peer_add(struct peer *peer, const char *name, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ASSERT(size >= 0 && (size_t)size < sizeof(text));
    peer_add_bytes(peer, span_of_string(name), span_of(text, (size_t)size));
}

static size_t encode(struct peer *peer, uint8_t *block)
{
    nghttp2_nv entries[PEER_FIELDS_MAX];
    const struct peer_section *draft = &peer->draft;
    for (uint32_t i = 0; i < draft->count; i++) {
        const struct peer_field *field = &draft->fields[i];
        entries[i] = (nghttp2_nv){(uint8_t *)(uintptr_t)field->name.data, /* only read */
                                  (uint8_t *)(uintptr_t)field->value.data, field->name.size,
                                  field->value.size, NGHTTP2_NV_FLAG_NONE};
    }
    ssize_t size =
        nghttp2_hd_deflate_hd(peer->deflater, block, PEER_BLOCK_MAX, entries, draft->count);
    ASSERT(size >= 0);
    return (size_t)size;
}

void peer_push_head(struct peer *peer, struct peer_stream *stream, bool ends)
{
    static uint8_t block[PEER_BLOCK_MAX];
    struct span rest = span_of(block, encode(peer, block));
    bool splits = sim_chance(peer->prng, peer->manners.splits);
    uint8_t type = NGHTTP2_HEADERS;
    uint8_t flags = ends ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE;
    for (int pieces = 0; pieces == 0 || rest.size > 0; pieces++) {
        size_t size = rest.size < PEER_FRAME_MAX ? rest.size : PEER_FRAME_MAX;
        if (splits && pieces < 3) {
            size = sim_between(peer->prng, 0, size);
        }
        flags |= size == rest.size ? NGHTTP2_FLAG_END_HEADERS : 0;
        if (type == NGHTTP2_HEADERS) {
            (void)push_padded(peer, type, flags, stream, span_first(rest, size), PEER_FRAME_MAX);
        } else {
            peer_push_frame(peer, type, flags, stream->id, span_first(rest, size));
        }
        rest = span_from(rest, size);
        type = NGHTTP2_CONTINUATION;
        flags = NGHTTP2_FLAG_NONE;
    }
    stream->out_ended |= ends;
}

size_t peer_room(const struct peer *peer, const struct peer_stream *stream)
{
    int64_t window = stream->out_window < peer->out_window ? stream->out_window : peer->out_window;
    return window > 0 ? (size_t)window : 0;
}

void peer_push_data(struct peer *peer, struct peer_stream *stream, struct span bytes, bool ends)
{
    size_t room = peer_room(peer, stream);
    ASSERT(bytes.size <= room && bytes.size < PEER_FRAME_MAX && !stream->out_ended);
    uint8_t flags = ends ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE;
    size_t size = push_padded(peer, NGHTTP2_DATA, flags, stream, bytes,
                              room < PEER_FRAME_MAX ? room : PEER_FRAME_MAX);
    stream->out_window -= (int64_t)size;
    peer->out_window -= (int64_t)size;
    stream->out_ended = ends;
}

void peer_push_reset(struct peer *peer, struct peer_stream *stream, uint32_t code)
{
    uint8_t payload[4];
    put_u32(payload, code);
    peer_push_frame(peer, NGHTTP2_RST_STREAM, 0, stream->id, span_of(payload, sizeof(payload)));
    stream->reset_sent = true;
}

void peer_push_goaway(struct peer *peer, uint32_t last, uint32_t code)
{
    uint8_t payload[8];
    put_u32(payload, last);
    put_u32(payload + 4, code);
    peer_push_frame(peer, NGHTTP2_GOAWAY, 0, 0, span_of(payload, sizeof(payload)));
    ASSERT(last <= peer->excluded_above);
    peer->excluded_above = last;
}

static void push_window(struct peer *peer, uint32_t id, uint32_t more)
{
    uint8_t payload[4];
    put_u32(payload, more);
    peer_push_frame(peer, NGHTTP2_WINDOW_UPDATE, 0, id, span_of(payload, sizeof(payload)));
}

static void push_settings(struct peer *peer, const nghttp2_settings_entry *entries, size_t count)
{
    uint8_t payload[6 * SETTINGS_MAX];
    struct peer_settings *noted = &peer->unacked[peer->unacked_count++];
    ASSERT(count <= SETTINGS_MAX && peer->unacked_count <= PEER_UNACKED_MAX);
    *noted = (struct peer_settings){.streams_max = UINT32_MAX, .table_size = UINT32_MAX};
    for (size_t i = 0; i < count; i++) {
        uint32_t value = entries[i].value;
        payload[6 * i] = 0;
        payload[6 * i + 1] = (uint8_t)entries[i].settings_id;
        put_u32(payload + 6 * i + 2, value);
        switch (entries[i].settings_id) {
        case NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE:
            noted->window_change += (int64_t)value - peer->announced_window;
            peer->announced_window = value;
            break;
        case NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS:
            noted->streams_max = value;
            break;
        case NGHTTP2_SETTINGS_HEADER_TABLE_SIZE:
            noted->table_size = value;
            break;
        default:
            break;
        }
    }
    peer_push_frame(peer, NGHTTP2_SETTINGS, 0, 0, span_of(payload, 6 * count));
}

void peer_push_setting(struct peer *peer, uint16_t id, uint32_t value)
{
    if (peer->unacked_count < PEER_UNACKED_MAX) {
        push_settings(peer, &(nghttp2_settings_entry){id, value}, 1);
    }
}

static void push_first_settings(struct peer *peer)
{
    const struct peer_manners *manners = &peer->manners;
    nghttp2_settings_entry entries[SETTINGS_MAX];
    size_t count = 0;
    if (manners->initial_window != FIRST_WINDOW) {
        entries[count++] =
            (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, manners->initial_window};
    }
    if (manners->streams_max != UINT32_MAX) {
        entries[count++] =
            (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, manners->streams_max};
    }
    if (manners->table_size != NGHTTP2_DEFAULT_HEADER_TABLE_SIZE) {
        entries[count++] =
            (nghttp2_settings_entry){NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, manners->table_size};
    }
    if (manners->connects) {
        entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
    }
    push_settings(peer, entries, count);
}

/* ---- Streams ---- */

/* Ids may be left out. */
struct peer_stream *peer_add_stream(struct peer *peer, uint32_t id)
{
    uint32_t at = id / 2;
    ASSERT(id % 2 == 1 && at >= peer->stream_count && at < 100 * 1000);
    if (at >= peer->stream_room) {
        uint32_t room = 2 * (at + 8);
        peer->streams = realloc(peer->streams, room * sizeof(*peer->streams));
        ASSERT(peer->streams != NULL);
        peer->stream_room = room;
    }
    while (peer->stream_count < at) {
        peer->streams[peer->stream_count++] = NULL;
    }
    struct peer_stream *stream = calloc(1, sizeof(*stream));
    ASSERT(stream != NULL);
    stream->id = id;
    stream->out_window = peer->first_window;
    stream->in_window = peer->acked_window;
    peer->streams[peer->stream_count++] = stream;
    return stream;
}

struct peer_stream *peer_open(struct peer *peer)
{
    ASSERT(peer->client);
    return peer_add_stream(peer, 2 * peer->stream_count + 1);
}

uint32_t peer_open_streams(const struct peer *peer)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        const struct peer_stream *stream = peer->streams[i];
        open += stream != NULL && !peer_stream_is_over(stream) ? 1 : 0;
    }
    return open;
}

/* ---- Time ---- */

static uint64_t next_opening(struct peer *peer, uint64_t now)
{
    bool late = sim_chance(peer->prng, peer->manners.late_windows);
    return late ? now + sim_magnitude(peer->prng, MILLISECOND, 3 * SECOND) : now;
}

static bool takes_input(const struct peer_stream *stream)
{
    return stream != NULL && !stream->in_ended && !peer_stream_is_over(stream);
}

/* What a window lacks: nothing as long as half of it is left. */
static uint32_t lacks(int64_t window, uint32_t target)
{
    return target > 0 && window <= (int64_t)target / 2 ? (uint32_t)((int64_t)target - window) : 0;
}

static int64_t unacked_change(const struct peer *peer)
{
    int64_t change = 0;
    for (uint32_t i = 0; i < peer->unacked_count; i++) {
        change += peer->unacked[i].window_change;
    }
    return change;
}

static void open_windows(struct peer *peer)
{
    uint64_t now = io_now(peer->wire->io);
    int64_t change = unacked_change(peer);
    uint32_t more = lacks(peer->in_window, peer->manners.connection_target);
    if (more > 0 && now >= peer->opens_at) {
        push_window(peer, 0, more);
        peer->in_window += more;
        peer->opens_at = next_opening(peer, now);
    }
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        struct peer_stream *stream = peer->streams[i];
        more = takes_input(stream) ? lacks(stream->in_window + change, peer->manners.stream_target)
                                   : 0;
        if (more > 0 && now >= stream->opens_at) {
            push_window(peer, stream->id, more);
            stream->in_window += more;
            stream->opens_at = next_opening(peer, now);
        }
    }
}

static void chatter(struct peer *peer)
{
    uint8_t bytes[CHATTER_PIECE] = {0};
    switch (prng_below(peer->prng, 4)) {
    case 0:
        peer_push_frame(peer, NGHTTP2_PING, 0, 0, span_of(bytes, 8));
        break;
    case 1: /* of nobody, on nothing */
        bytes[4] = 1;
        peer_push_frame(peer, NGHTTP2_PRIORITY, 0, 2 * peer->stream_count + 1, span_of(bytes, 5));
        break;
    case 2: /* of a type that nobody knows */
        peer_push_frame(peer, 0xbb, (uint8_t)prng_below(peer->prng, 256), 0,
                        span_of(bytes, prng_below(peer->prng, CHATTER_PIECE)));
        break;
    default:
        peer_push_setting(peer, 0x99, 7);
    }
}

void peer_tend(struct peer *peer)
{
    open_windows(peer);
    if (sim_chance(peer->prng, peer->manners.chatter)) {
        chatter(peer);
    }
}

uint64_t peer_wake_time(const struct peer *peer)
{
    uint64_t now = io_now(peer->wire->io);
    uint64_t wake = peer->opens_at > now ? peer->opens_at : UINT64_MAX;
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        const struct peer_stream *stream = peer->streams[i];
        if (takes_input(stream) && stream->opens_at > now && stream->opens_at < wake) {
            wake = stream->opens_at;
        }
    }
    return wake;
}

void peer_end(struct peer *peer)
{
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        if (peer->streams[i] != NULL) {
            free(peer->streams[i]->owner);
            free(peer->streams[i]);
        }
    }
    free(peer->streams);
    if (peer->deflater != NULL) {
        nghttp2_hd_deflate_del(peer->deflater);
        nghttp2_hd_inflate_del(peer->inflater);
    }
    memset(peer, 0, offsetof(struct peer, in));
}

void peer_begin(struct peer *peer, const struct peer_setup *setup)
{
    peer_end(peer);
    peer->wire = setup->wire;
    peer->prng = setup->prng;
    peer->ops = setup->ops;
    peer->manners = setup->manners;
    peer->client = setup->client;
    peer->role = setup->client ? "a client" : "an origin";
    int failed = nghttp2_hd_deflate_new(&peer->deflater, NGHTTP2_DEFAULT_HEADER_TABLE_SIZE);
    failed |= nghttp2_hd_inflate_new(&peer->inflater);
    ASSERT(failed == 0);
    peer->first_window = peer->announced_window = FIRST_WINDOW;
    peer->out_window = peer->in_window = peer->acked_window = FIRST_WINDOW;
    peer->out_streams_max = peer->acked_streams_max = peer->excluded_above = UINT32_MAX;
    peer->preface_due = !peer->client;
    peer->settings_due = true;
    if (peer->client) {
        wire_push(peer->wire, PEER_PREFACE, PEER_PREFACE_SIZE);
    }
    push_first_settings(peer);
}
