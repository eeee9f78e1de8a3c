/* What a peer hears, and whether it may hear that. */
#include "base/assert.h"
#include "peer.h"
#include "run.h"

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static struct peer_stream *find(const struct peer *peer, uint32_t id)
{
    uint32_t at = id / 2;
    return id % 2 == 1 && at < peer->stream_count ? peer->streams[at] : NULL;
}

/* What windows the other side may assume: it may have seen larger ones that it has not answered. */
static int64_t unacked_growth(const struct peer *peer)
{
    int64_t growth = 0;
    for (uint32_t i = 0; i < peer->unacked_count; i++) {
        int64_t change = peer->unacked[i].window_change;
        growth += change > 0 ? change : 0;
    }
    return growth;
}

/* How many streams the other side may think that it may have. */
static uint32_t streams_allowed(const struct peer *peer)
{
    uint32_t allowed = peer->acked_streams_max;
    for (uint32_t i = 0; i < peer->unacked_count; i++) {
        uint32_t other = peer->unacked[i].streams_max;
        allowed = other != UINT32_MAX && other > allowed ? other : allowed;
    }
    return allowed;
}

static void on_acknowledged(struct peer *peer)
{
    if (peer->unacked_count == 0) {
        run_failed("%s got an acknowledgement of no SETTINGS", peer->role);
    }
    const struct peer_settings settings = peer->unacked[0];
    peer->unacked_count--;
    memmove(peer->unacked, peer->unacked + 1, peer->unacked_count * sizeof(settings));
    peer->acked_window += settings.window_change;
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        if (peer->streams[i] != NULL) {
            peer->streams[i]->in_window += settings.window_change;
        }
    }
    if (settings.streams_max != UINT32_MAX) {
        peer->acked_streams_max = settings.streams_max;
    }
    if (settings.table_size != UINT32_MAX) {
        int failed = nghttp2_hd_inflate_change_table_size(peer->inflater, settings.table_size);
        ASSERT(failed == 0);
    }
}

static void on_settings(struct peer *peer, uint8_t flags, struct span payload)
{
    if ((flags & NGHTTP2_FLAG_ACK) != 0) {
        on_acknowledged(peer);
        return;
    }
    for (size_t i = 0; i + 6 <= payload.size; i += 6) {
        uint32_t value = get_u32(payload.data + i + 2);
        switch (payload.data[i + 1]) {
        case NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE:
            for (uint32_t j = 0; j < peer->stream_count; j++) {
                if (peer->streams[j] != NULL) {
                    peer->streams[j]->out_window += (int64_t)value - peer->first_window;
                }
            }
            peer->first_window = value;
            break;
        case NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS:
            peer->out_streams_max = value;
            break;
        case NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL:
            peer->out_connects = value == 1;
            break;
        default:
            break;
        }
    }
    peer->settings_due = false;
    peer_push_frame(peer, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, SPAN_EMPTY);
}

static void keep_field(struct peer *peer, const nghttp2_nv *entry)
{
    if (!peer_section_add(&peer->section, span_of(entry->name, entry->namelen),
                          span_of(entry->value, entry->valuelen))) {
        run_failed("%s got a field section beyond all bounds", peer->role);
    }
}

static void decode(struct peer *peer)
{
    const uint8_t *at = peer->block;
    size_t left = peer->block_size;
    int flags = NGHTTP2_HD_INFLATE_NONE;
    peer->section.count = 0;
    peer->section.size = 0;
    do {
        nghttp2_nv entry;
        flags = NGHTTP2_HD_INFLATE_NONE;
        ssize_t used = nghttp2_hd_inflate_hd2(peer->inflater, &entry, &flags, at, left, 1);
        if (used < 0) {
            run_failed("%s got a field section that does not decode (%s)", peer->role,
                       nghttp2_strerror((int)used));
        }
        at += used;
        left -= (size_t)used;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
            keep_field(peer, &entry);
        }
    } while ((flags & NGHTTP2_HD_INFLATE_FINAL) == 0 &&
             (left > 0 || (flags & NGHTTP2_HD_INFLATE_EMIT) != 0));
    (void)nghttp2_hd_inflate_end_headers(peer->inflater);
}

/* What no message of HTTP/2 may carry (RFC 9113, 8.2). */
static void check_fields(const struct peer *peer, uint32_t id)
{
    static const char *const forbidden[] = {"connection", "transfer-encoding", "keep-alive",
                                            "upgrade", "proxy-connection"};
    bool regular = false;
    for (uint32_t i = 0; i < peer->section.count; i++) {
        struct span name = peer->section.fields[i].name;
        bool pseudo = name.size > 0 && name.data[0] == ':';
        for (size_t j = 0; j < sizeof(forbidden) / sizeof(forbidden[0]); j++) {
            if (span_equal(name, span_of_string(forbidden[j]))) {
                run_failed("%s got a field %s on stream %u", peer->role, forbidden[j], id);
            }
        }
        for (size_t j = 0; j < name.size; j++) {
            if (name.data[j] >= 'A' && name.data[j] <= 'Z') {
                run_failed("%s got the field name %.*s", peer->role, SPAN_ARGS(name));
            }
        }
        if (pseudo && regular) {
            run_failed("%s got %.*s behind other fields", peer->role, SPAN_ARGS(name));
        }
        regular = regular || !pseudo;
    }
}

static struct peer_stream *begin_stream(struct peer *peer, uint32_t id)
{
    if (peer->client || id % 2 == 0 || id / 2 < peer->stream_count) {
        run_failed("%s got a head on stream %u, which it does not know", peer->role, id);
    }
    struct peer_stream *stream = peer_add_stream(peer, id);
    stream->excluded = id > peer->excluded_above;
    if (!stream->excluded && peer_open_streams(peer) > streams_allowed(peer)) {
        run_failed("%s got stream %u, more than the %u that it allows", peer->role, id,
                   streams_allowed(peer));
    }
    return stream;
}

static void end_input(struct peer *peer, struct peer_stream *stream)
{
    stream->in_ended = true;
    peer->ops->ended(peer, stream);
}

static void on_section(struct peer *peer, uint32_t id, bool ends)
{
    peer->section_of = 0;
    decode(peer);
    check_fields(peer, id);
    struct peer_stream *stream = find(peer, id);
    if (stream == NULL) {
        stream = begin_stream(peer, id);
    }
    if (stream->reset_sent || (stream->excluded && stream->final_head)) {
        return;
    }
    if (stream->in_ended || stream->reset_came || (stream->final_head && !ends)) {
        run_failed("%s got a head behind the end of stream %u", peer->role, id);
    }
    bool interim = peer->client && span_starts_with(peer_value(peer, ":status"), SPAN("1"));
    peer->ops->head(peer, stream);
    stream->final_head |= !interim;
    if (ends && !stream->reset_sent && !stream->excluded) {
        end_input(peer, stream);
    }
}

static void add_to_block(struct peer *peer, struct span bytes)
{
    if (peer->block_size + bytes.size > sizeof(peer->block)) {
        run_failed("%s got a field section beyond all bounds", peer->role);
    }
    if (bytes.size > 0) {
        memcpy(peer->block + peer->block_size, bytes.data, bytes.size);
    }
    peer->block_size += bytes.size;
}

static struct span without_padding(const struct peer *peer, uint8_t flags, struct span payload)
{
    if ((flags & NGHTTP2_FLAG_PADDED) == 0) {
        return payload;
    }
    if (payload.size == 0 || payload.data[0] >= payload.size) {
        run_failed("%s got more padding than there is frame", peer->role);
    }
    return span_first(span_from(payload, 1), payload.size - 1 - payload.data[0]);
}

static void on_headers(struct peer *peer, uint8_t flags, uint32_t id, struct span payload)
{
    payload = without_padding(peer, flags, payload);
    payload = (flags & NGHTTP2_FLAG_PRIORITY) != 0 ? span_from(payload, 5) : payload;
    peer->block_size = 0;
    add_to_block(peer, payload);
    peer->section_of = id;
    peer->section_ends = (flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if ((flags & NGHTTP2_FLAG_END_HEADERS) != 0) {
        on_section(peer, id, peer->section_ends);
    }
}

static void on_data(struct peer *peer, uint8_t flags, uint32_t id, struct span payload)
{
    struct peer_stream *stream = find(peer, id);
    int64_t growth = unacked_growth(peer);
    int64_t size = (int64_t)payload.size;
    if (stream == NULL || (!stream->final_head && !stream->reset_sent && !stream->excluded)) {
        run_failed("%s got data on stream %u, which has no head", peer->role, id);
    }
    if (size > peer->in_window || size > stream->in_window + growth) {
        run_failed("%s got %lld bytes on stream %u; its windows are %lld and %lld", peer->role,
                   (long long)size, id, (long long)peer->in_window,
                   (long long)(stream->in_window + growth));
    }
    peer->in_window -= size;
    stream->in_window -= size;
    if (stream->reset_sent || stream->excluded) {
        return;
    }
    if (stream->in_ended || stream->reset_came) {
        run_failed("%s got data behind the end of stream %u", peer->role, id);
    }
    payload = without_padding(peer, flags, payload);
    if (payload.size > 0) {
        peer->ops->data(peer, stream, payload);
    }
    if ((flags & NGHTTP2_FLAG_END_STREAM) != 0 && !stream->reset_sent) {
        end_input(peer, stream);
    }
}

static void on_reset(struct peer *peer, uint32_t id, struct span payload)
{
    struct peer_stream *stream = find(peer, id);
    if (stream == NULL || payload.size != 4) {
        run_failed("%s got a reset of stream %u, which it does not know", peer->role, id);
    }
    bool over = peer_stream_is_over(stream);
    stream->reset_came = true;
    if (!over) {
        peer->ops->reset(peer, stream, get_u32(payload.data));
    }
}

static void on_goaway(struct peer *peer, struct span payload)
{
    uint32_t last = payload.size >= 8 ? get_u32(payload.data) : UINT32_MAX;
    if (last == UINT32_MAX || (peer->goaway_came && last > peer->goaway_last)) {
        run_failed("%s got a GOAWAY that takes back an earlier one", peer->role);
    }
    peer->goaway_came = true;
    peer->goaway_last = last;
    peer->ops->goaway(peer, last);
}

static void on_window(struct peer *peer, uint32_t id, struct span payload)
{
    struct peer_stream *stream = find(peer, id);
    uint32_t more = payload.size == 4 ? get_u32(payload.data) : 0;
    int64_t *window = id == 0 ? &peer->out_window : stream != NULL ? &stream->out_window : NULL;
    if (more == 0 || window == NULL || *window + more > INT32_MAX) {
        run_failed("%s got a window update of %u on stream %u", peer->role, more, id);
    }
    *window += more;
}

static void on_frame(struct peer *peer, uint8_t type, uint8_t flags, uint32_t id,
                     struct span payload)
{
    if (peer->section_of != 0 ? type != NGHTTP2_CONTINUATION || id != peer->section_of
                              : type == NGHTTP2_CONTINUATION) {
        run_failed("%s got a frame of type %u within a field section", peer->role, type);
    }
    if (peer->settings_due && (type != NGHTTP2_SETTINGS || flags != 0)) {
        run_failed("%s got a frame of type %u before any SETTINGS", peer->role, type);
    }
    switch (type) {
    case NGHTTP2_DATA:
        on_data(peer, flags, id, payload);
        break;
    case NGHTTP2_HEADERS:
        on_headers(peer, flags, id, payload);
        break;
    case NGHTTP2_CONTINUATION:
        add_to_block(peer, payload);
        if ((flags & NGHTTP2_FLAG_END_HEADERS) != 0) {
            on_section(peer, id, peer->section_ends);
        }
        break;
    case NGHTTP2_RST_STREAM:
        on_reset(peer, id, payload);
        break;
    case NGHTTP2_SETTINGS:
        on_settings(peer, flags, payload);
        break;
    case NGHTTP2_PING:
        if ((flags & NGHTTP2_FLAG_ACK) == 0 && !peer->manners.deaf) {
            peer_push_frame(peer, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, payload);
        }
        break;
    case NGHTTP2_GOAWAY:
        on_goaway(peer, payload);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        on_window(peer, id, payload);
        break;
    default:
        run_failed("%s got a frame of type %u", peer->role, type);
    }
}

/* How many bytes make the next thing to look at whole. */
static size_t wanted(const struct peer *peer)
{
    if (peer->preface_due) {
        return PEER_PREFACE_SIZE;
    }
    if (peer->in_size < PEER_FRAME_HEADER) {
        return PEER_FRAME_HEADER;
    }
    size_t size = (size_t)peer->in[0] << 16 | (size_t)peer->in[1] << 8 | peer->in[2];
    if (size > PEER_FRAME_MAX) {
        run_failed("%s got a frame of %zu bytes", peer->role, size);
    }
    return PEER_FRAME_HEADER + size;
}

static void take_whole(struct peer *peer)
{
    if (peer->preface_due) {
        if (memcmp(peer->in, PEER_PREFACE, PEER_PREFACE_SIZE) != 0) {
            run_failed("%s got no preface", peer->role);
        }
        peer->preface_due = false;
    } else {
        on_frame(peer, peer->in[3], peer->in[4], get_u32(peer->in + 5),
                 span_of(peer->in + PEER_FRAME_HEADER, peer->in_size - PEER_FRAME_HEADER));
    }
    peer->in_size = 0;
}

void peer_feed(struct peer *peer, struct span bytes)
{
    while (bytes.size > 0) {
        size_t want = wanted(peer) - peer->in_size;
        size_t part = bytes.size < want ? bytes.size : want;
        memcpy(peer->in + peer->in_size, bytes.data, part);
        peer->in_size += part;
        bytes = span_from(bytes, part);
        if (peer->in_size == wanted(peer)) {
            take_whole(peer);
        }
    }
}

struct span peer_value(const struct peer *peer, const char *name)
{
    for (uint32_t i = 0; i < peer->section.count; i++) {
        if (span_equal(peer->section.fields[i].name, span_of_string(name))) {
            return peer->section.fields[i].value;
        }
    }
    return SPAN_EMPTY;
}
