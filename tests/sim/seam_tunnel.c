/*
 * The story of a tunnel: a client asks for one, its origin grants it with a toy 101, and from then
 * on each direction is a lane of raw bytes that ends for itself. Both peers may send their first
 * raw bytes together with their head; both may stop speaking, and either network may break.
 */
#include <stdalign.h>
#include <stdlib.h>

#include "base/assert.h"
#include "proxy/lane.h"
#include "seam.h"
#include "tunnel_peers.h"

enum {
    IDLE_TIMEOUT = 15 * SECOND,
    ARENA_SIZE = 24 * 1024,
};

/* ---- the node between: two streams, two lanes ---- */

enum tunnel_step { TUNNEL_REQUEST, TUNNEL_CONNECT, TUNNEL_ANSWER, TUNNEL_GRANT, TUNNEL_OPEN };

struct tunnel_lane {
    struct stream_sink sink;
    struct lane lane;
};

struct tunnel {
    struct seam_task task;
    struct stream *client;
    struct stream *upstream;
    enum tunnel_step step;
    bool over;
    uint64_t moved;
    uint64_t deadline;
    struct tunnel_lane up;
    struct tunnel_lane down;
    struct request_head request;
    struct response_head response;
    struct arena arena;
    alignas(max_align_t) uint8_t memory[ARENA_SIZE];
};

static const struct switching TOY = {.protocol = {(const uint8_t *)"toy", 3}};

static void finish(struct tunnel *tunnel, bool whole)
{
    struct seam *seam = tunnel->task.seam;
    sim_note(seam->io, "the tunnel ends: %s, %llu up, %llu down", whole ? "whole" : "cut off",
             (unsigned long long)tunnel->up.lane.bytes,
             (unsigned long long)tunnel->down.lane.bytes);
    lane_abort(&tunnel->up.lane);
    lane_abort(&tunnel->down.lane);
    if (tunnel->upstream != NULL) {
        seam_release(seam, tunnel->upstream, false);
    }
    seam_release(seam, tunnel->client, false);
    seam_task_deinit(&tunnel->task);
    tunnel->over = true;
}

static void open_direction(struct tunnel_lane *direction, struct stream *from, struct stream *to,
                           enum reason failure)
{
    struct source source = lane_stream_source(from);
    source.trailers = NULL;
    direction->sink = (struct stream_sink){.stream = to, .failure = failure};
    const struct sink sink = lane_stream_sink(&direction->sink);
    lane_open(&direction->lane, &source, &sink);
}

static enum status read_request(struct tunnel *tunnel)
{
    const struct address address = origin_address(0);
    enum reason reason = REASON_NONE;
    enum status status = tunnel->client->ops->read_request(tunnel->client, &tunnel->arena,
                                                           &tunnel->request, &reason);
    if (status != OK) {
        return status;
    }
    tunnel->upstream = seam_connect(tunnel->task.seam, &address, &tunnel->task);
    return tunnel->upstream == NULL ? ERROR : OK;
}

static enum status send_request(struct tunnel *tunnel)
{
    enum status status = seam_connected(tunnel->upstream);
    if (status != OK) {
        return status;
    }
    const struct request_message message = {
        .method = tunnel->request.method_text,
        .path = tunnel->request.path,
        .host = tunnel->request.host,
        .fields = &tunnel->request.fields,
        .framing = FRAMING_TUNNEL,
        .switching = &TOY,
    };
    return tunnel->upstream->ops->write_request(tunnel->upstream, &message);
}

static enum status read_answer(struct tunnel *tunnel)
{
    enum reason reason = REASON_NONE;
    if (tunnel->upstream->ops->flush(tunnel->upstream) == ERROR) {
        return ERROR;
    }
    enum status status = tunnel->upstream->ops->read_response(
        tunnel->upstream, &tunnel->arena, METHOD_GET, &tunnel->response, &reason);
    ASSERT(status != OK ||
           (tunnel->response.status == 101 && tunnel->response.framing == FRAMING_TUNNEL));
    return status;
}

static enum status grant(struct tunnel *tunnel)
{
    const struct response_message message = {.status = 101,
                                             .fields = &tunnel->response.fields,
                                             .framing = FRAMING_TUNNEL,
                                             .switching = &TOY};
    enum status status = tunnel->client->ops->write_response(tunnel->client, &message);
    if (status != OK) {
        return status;
    }
    open_direction(&tunnel->up, tunnel->client, tunnel->upstream, REASON_UPSTREAM_CLOSED);
    open_direction(&tunnel->down, tunnel->upstream, tunnel->client, REASON_CLIENT_CLOSED);
    return OK;
}

static enum status run_direction(struct tunnel *tunnel, struct tunnel_lane *direction)
{
    enum reason reason = REASON_NONE;
    if (!lane_is_active(&direction->lane)) {
        return END;
    }
    enum status status = lane_run(&direction->lane, &reason);
    if (status == OK) {
        seam_wake(&tunnel->task);
    }
    return status;
}

/* END: both directions are through. */
static enum status carry(struct tunnel *tunnel)
{
    enum status up = run_direction(tunnel, &tunnel->up);
    enum status down = run_direction(tunnel, &tunnel->down);
    if (up == ERROR || down == ERROR) {
        return ERROR;
    }
    return up == END && down == END ? END : AGAIN;
}

static enum status run_step(struct tunnel *tunnel)
{
    switch (tunnel->step) {
    case TUNNEL_REQUEST:
        return read_request(tunnel);
    case TUNNEL_CONNECT:
        return send_request(tunnel);
    case TUNNEL_ANSWER:
        return read_answer(tunnel);
    case TUNNEL_GRANT:
        return grant(tunnel);
    case TUNNEL_OPEN:
        return carry(tunnel);
    }
    UNREACHABLE("a tunnel in no step");
}

static void set_deadline(struct tunnel *tunnel)
{
    struct seam *seam = tunnel->task.seam;
    uint64_t moved = tunnel->client->progress_out + tunnel->up.lane.bytes + tunnel->down.lane.bytes;
    moved += tunnel->upstream == NULL ? 0 : tunnel->upstream->progress_out;
    if (moved != tunnel->moved || tunnel->deadline == 0) {
        tunnel->moved = moved;
        tunnel->deadline = io_now(seam->io) + IDLE_TIMEOUT;
    }
    timer_set(&seam->wheel, &tunnel->task.timer, tunnel->deadline);
}

static void run(struct seam_task *task)
{
    struct tunnel *tunnel = CONTAINER_OF(task, struct tunnel, task);
    enum status status = OK;
    while (status == OK) {
        status = run_step(tunnel);
        tunnel->step += status == OK;
    }
    if (status == AGAIN) {
        if (tunnel->client->starved || (tunnel->upstream != NULL && tunnel->upstream->starved)) {
            seam_wait_for_buffers(task);
        }
        set_deadline(tunnel);
        return;
    }
    finish(tunnel, status == END);
    free(tunnel);
}

static void expire(struct seam_task *task)
{
    struct tunnel *tunnel = CONTAINER_OF(task, struct tunnel, task);
    finish(tunnel, false);
    free(tunnel);
}

static void begin_tunnel(struct seam *seam, struct stream *stream)
{
    struct tunnel *tunnel = calloc(1, sizeof(*tunnel));
    ASSERT(tunnel != NULL);
    tunnel->task.run = run;
    tunnel->task.expire = expire;
    seam_task_init(&tunnel->task, seam);
    arena_init(&tunnel->arena, tunnel->memory, sizeof(tunnel->memory));
    tunnel->client = stream;
    stream->holder = &tunnel->task;
    seam_wake(&tunnel->task);
}

/* ---- The actors ---- */

struct actors {
    struct tunnel_manners manners;
    struct tunnel_peers *peers;
};

static void begin(struct seam *seam)
{
    const struct address address = origin_address(0);
    struct actors *actors = calloc(1, sizeof(*actors));
    ASSERT(actors != NULL);
    actors->manners.calm = seam->manners.calm;
    seam->actors = actors;
    actors->peers = tunnel_peers_create(seam->world, &address, &actors->manners);
}

static void end(struct seam *seam)
{
    struct actors *actors = seam->actors;
    tunnel_peers_destroy(actors->peers);
    free(actors);
}

static bool is_finished(const struct seam *seam)
{
    const struct actors *actors = seam->actors;
    return tunnel_peers_are_finished(actors->peers);
}

const struct seam_story seam_tunnel = {
    .begin = begin,
    .end = end,
    .is_finished = is_finished,
    .session_create = seam_http1_create,
    .session_start = seam_http1_start,
    .head = begin_tunnel,
};
