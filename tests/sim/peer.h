/*
 * An actor's end of one HTTP/2 connection, the client's or the origin's (RFC 9113). Frames are made
 * and read by hand, so that an actor can send whatever it likes; field sections are coded by
 * nghttp2's HPACK. What comes is held against the rules: a frame, a window, a number of streams
 * that the other side was not entitled to ends the run.
 *
 * Everything is pushed into the wire's buffer, which grows as it likes; the actor pumps it.
 */
#ifndef SENTINEL_TESTS_SIM_PEER_H
#define SENTINEL_TESTS_SIM_PEER_H

#include <nghttp2/nghttp2.h>

#include "base/prng.h"
#include "base/span.h"
#include "wire.h"

#define PEER_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

enum {
    PEER_PREFACE_SIZE = sizeof(PEER_PREFACE) - 1,
    PEER_FRAME_HEADER = 9,
    PEER_FRAME_MAX = 16 * 1024,
    PEER_BLOCK_MAX = 64 * 1024, /* of one field section, coded or not */
    PEER_FIELDS_MAX = 64,
    PEER_UNACKED_MAX = 8, /* SETTINGS of ours on their way */
};

struct peer;

/* How an end behaves; all chances in thousandths. */
struct peer_manners {
    uint32_t initial_window;    /* that is announced */
    uint32_t stream_target;     /* a stream's window is opened up to so many; 0: never */
    uint32_t connection_target; /* likewise, of the connection's */
    uint32_t streams_max;       /* that is announced; UINT32_MAX: nothing is */
    uint32_t table_size;        /* of HPACK; 4096: nothing is announced */
    uint32_t late_windows;      /* chance, an opening: up to 3 s late */
    uint32_t splits;            /* chance, a head: in several frames */
    uint32_t pads;              /* chance, a frame */
    uint32_t chatter;           /* chance, a turn: a frame that nobody needs */
    bool deaf;                  /* answers no PING */
    bool connects;              /* an origin's: takes extended CONNECT (RFC 8441) */
};

struct peer_field {
    struct span name;
    struct span value;
};

/* A field section: one that came, valid until the next one does, or one that is being made. */
struct peer_section {
    uint32_t count;
    struct peer_field fields[PEER_FIELDS_MAX];
    size_t size;
    uint8_t text[PEER_BLOCK_MAX];
};

struct peer_stream {
    uint32_t id;
    int64_t out_window;
    int64_t in_window; /* as of the last SETTINGS of ours that the other side has acknowledged */
    uint64_t opens_at; /* until then its window is not opened again; UINT64_MAX: never */
    bool final_head;   /* the message's head has come; what follows are trailers */
    bool in_ended;
    bool out_ended;
    bool reset_sent;
    bool reset_came;
    bool excluded; /* by a GOAWAY that was sent */
    void *owner;   /* the actor's, from calloc: freed with the connection */
};

struct peer_ops {
    /*
     * A head (interim ones, too) or trailers, in peer->section; `ended` follows where it ends. Of
     * an excluded stream this is all that is told.
     */
    void (*head)(struct peer *peer, struct peer_stream *stream);
    void (*data)(struct peer *peer, struct peer_stream *stream, struct span bytes);
    void (*ended)(struct peer *peer, struct peer_stream *stream);
    void (*reset)(struct peer *peer, struct peer_stream *stream, uint32_t code);
    void (*goaway)(struct peer *peer, uint32_t last);
};

/* One SETTINGS frame of ours that is not acknowledged. */
struct peer_settings {
    int64_t window_change; /* of every stream's */
    uint32_t streams_max;  /* UINT32_MAX: as before */
    uint32_t table_size;   /* likewise */
};

/* What a connection begins with; everything is borrowed. */
struct peer_setup {
    struct wire *wire; /* open */
    struct prng *prng;
    const struct peer_ops *ops;
    struct peer_manners manners;
    bool client;
};

struct peer {
    struct wire *wire;
    struct prng *prng;
    const struct peer_ops *ops;
    struct peer_manners manners;
    bool client;
    const char *role;
    nghttp2_hd_deflater *deflater;
    nghttp2_hd_inflater *inflater;
    struct peer_stream **streams; /* that of id 2n + 1 at n */
    uint32_t stream_count;
    uint32_t stream_room;

    /* out */
    uint64_t said;         /* wire.sent once all that was pushed has left, padding aside */
    uint32_t first_window; /* of new streams, as the other side says */
    int64_t out_window;
    uint32_t out_streams_max;
    bool out_connects; /* the other side takes extended CONNECT */
    bool goaway_came;
    uint32_t goaway_last; /* in it */

    /* in */
    bool preface_due;
    bool settings_due;
    int64_t in_window;
    uint32_t announced_window; /* the last that we have said */
    int64_t acked_window;      /* the last that was acknowledged */
    uint32_t acked_streams_max;
    struct peer_settings unacked[PEER_UNACKED_MAX];
    uint32_t unacked_count;
    uint64_t opens_at;       /* as a stream's */
    uint32_t excluded_above; /* streams that our GOAWAY excludes; UINT32_MAX: none was sent */
    uint32_t section_of;     /* the stream of a section that is not complete; 0: none */
    bool section_ends;
    size_t in_size;
    size_t block_size;

    uint8_t in[PEER_FRAME_HEADER + PEER_FRAME_MAX];
    uint8_t block[PEER_BLOCK_MAX];
    struct peer_section section; /* that came last */
    struct peer_section draft;   /* that is to be sent */
};

/* A new connection: says what comes first. What the peer had is freed. */
void peer_begin(struct peer *peer, const struct peer_setup *setup);

/* Frees everything. A peer that is all zero is fine. */
void peer_end(struct peer *peer);

/* Takes what has come. */
void peer_feed(struct peer *peer, struct span bytes);

/* A client's next stream. */
struct peer_stream *peer_open(struct peer *peer);

/* Begins a section, and adds a field to it. */
void peer_draft(struct peer *peer);
void peer_add(struct peer *peer, const char *name, const char *format, ...) PRINTF_LIKE(3, 4);
void peer_add_bytes(struct peer *peer, struct span name, struct span value);

/* Sends the draft as a head or trailers of a stream; `ends` the message. */
void peer_push_head(struct peer *peer, struct peer_stream *stream, bool ends);

/* How many body bytes the windows allow. */
size_t peer_room(const struct peer *peer, const struct peer_stream *stream);

/* Body bytes, at most room; none at all may end the message, too. */
void peer_push_data(struct peer *peer, struct peer_stream *stream, struct span bytes, bool ends);

void peer_push_reset(struct peer *peer, struct peer_stream *stream, uint32_t code);
void peer_push_goaway(struct peer *peer, uint32_t last, uint32_t code);

/* Announces another value, unless too many are on their way. */
void peer_push_setting(struct peer *peer, uint16_t id, uint32_t value);

/* A frame as it is said to be, whatever that means. */
void peer_push_frame(struct peer *peer, uint8_t type, uint8_t flags, uint32_t id,
                     struct span payload);

/* Opens windows that are due, chatters. */
void peer_tend(struct peer *peer);

/* When it has something to do by itself. */
uint64_t peer_wake_time(const struct peer *peer);

/* Streams on which something may still be said or heard. */
uint32_t peer_open_streams(const struct peer *peer);

/* Shared by the two files of a peer: a stream of this id, ids may be left out; a field more in a
 * section, false when it is full. */
struct peer_stream *peer_add_stream(struct peer *peer, uint32_t id);
bool peer_section_add(struct peer_section *section, struct span name, struct span value);

static inline bool peer_stream_is_over(const struct peer_stream *stream)
{
    return stream->reset_sent || stream->reset_came || stream->excluded ||
           (stream->in_ended && stream->out_ended);
}

/* The value of a field of the section that came; NULL data: there is none. */
struct span peer_value(const struct peer *peer, const char *name);

#endif
