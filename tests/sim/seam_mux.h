/*
 * A toy protocol with many streams on one connection, as HTTP/2 has them, and its session behind
 * the vtables of src/http. A frame is five bytes (type, stream, payload's size) and a payload:
 *
 *    H  head: "VERB number body" from the client, "status mark" from the server
 *    D  data, within the window of its stream
 *    E  the message is whole
 *    R  the stream is over, whatever its state
 *    W  four bytes: so much more data may come
 *
 * Streams are numbered from 1 and never reused; the client begins them. A window is backed by
 * memory of its own, so that what a peer was allowed to send can always be stored and the
 * connection is always read: one stream that nobody reads cannot stop the others.
 */
#ifndef SENTINEL_TESTS_SIM_SEAM_MUX_H
#define SENTINEL_TESTS_SIM_SEAM_MUX_H

#include "seam.h"

enum {
    MUX_STREAMS = 50, /* at one time, as the client counts */
    /* As the session counts: one that its client gave up ends when its holder has let go. */
    MUX_SLOTS = 2 * MUX_STREAMS,
    MUX_WINDOW = 4096,
    MUX_HEADER = 5,
    MUX_DATA_MAX = 1024, /* of a frame */
    MUX_FRAME_MAX = MUX_HEADER + MUX_DATA_MAX,
    MUX_TEXT_MAX = 64, /* of a head */
};

struct mux_frame {
    uint8_t type;
    uint16_t stream;
    struct span payload;
};

/* Takes a frame off the front of *bytes. AGAIN: it is not complete. ERROR: it is none. */
enum status mux_next_frame(struct span *bytes, struct mux_frame *frame);

void mux_put_header(uint8_t header[MUX_HEADER], uint8_t type, uint16_t stream, size_t size);
uint32_t mux_read_number(struct span payload);
void mux_put_number(uint8_t payload[4], uint32_t number);

/* A session of the server's side. */
struct session *mux_session_create(struct seam *seam);
void mux_session_start(struct session *session);

#endif
