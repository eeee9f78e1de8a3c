#include "seam.h"

#include <stdlib.h>

#include "base/assert.h"
#include "fault.h"

enum {
    SESSIONS_MAX = 256, /* of a side: inboxes */
    INBOX_SIZE = 16 * 1024,
    SCRATCH_SIZE = 16 * 1024,
};

struct upstream {
    struct http1_client client;
    struct address address;
    bool connected;
};

static_assert(offsetof(struct http1_session, wire.session) == 0, "freed as its session");
static_assert(offsetof(struct http1_client, wire.session) == 0, "freed as its session");

static void free_session(struct session *session)
{
    ASSERT(session->step == SESSION_CLOSED);
    ASSERT(!transport_is_open(&session->transport));
    list_unlink(&session->link);
    free(session);
}

/* Acts on what a session has to say; it may be gone afterwards. */
static void serve_events(struct session *session)
{
    struct seam *seam = session->owner;
    struct stream *stream = NULL;
    enum session_event event = session->ops->next_event(session, &stream);
    while (event != SESSION_EVENT_NONE) {
        if (event == SESSION_EVENT_CLOSED) {
            free_session(session);
            return;
        }
        if (event == SESSION_EVENT_HEAD) {
            seam->story->head(seam, stream);
        } else if (stream->holder != NULL) {
            seam_wake(stream->holder);
        }
        event = session->ops->next_event(session, &stream);
    }
}

void seam_task_init(struct seam_task *task, struct seam *seam)
{
    task->seam = seam;
    list_init(&task->run_link);
    list_init(&task->wait_link);
    timer_init(&task->timer, SEAM_TIMER_TASK);
    seam->tasks++;
}

void seam_task_deinit(struct seam_task *task)
{
    list_unlink(&task->run_link);
    list_unlink(&task->wait_link);
    timer_cancel(&task->seam->wheel, &task->timer);
    task->seam->tasks--;
}

void seam_wake(struct seam_task *task)
{
    list_unlink(&task->wait_link);
    if (!list_is_linked(&task->run_link)) {
        list_push_back(&task->seam->runnable, &task->run_link);
    }
}

void seam_wait_for_buffers(struct seam_task *task)
{
    if (!list_is_linked(&task->wait_link)) {
        list_push_back(&task->seam->buffers.waiters, &task->wait_link);
    }
}

/* A pooled connection to this address, or NULL; stale ones end here. */
static struct stream *take_idle(struct seam *seam, const struct address *address)
{
    struct list *link = seam->idle.next;
    while (link != &seam->idle) {
        struct session *session = CONTAINER_OF(link, struct session, link);
        struct http1_client *client = http1_client_of(session);
        link = link->next;
        if (!address_equal(&CONTAINER_OF(client, struct upstream, client)->address, address)) {
            continue;
        }
        list_unlink(&session->link);
        list_push_back(&seam->upstreams, &session->link);
        struct stream *stream = session->ops->open_stream(session);
        if (stream != NULL) {
            return stream;
        }
        session->ops->kill(session);
        serve_events(session);
    }
    return NULL;
}

struct stream *seam_connect(struct seam *seam, const struct address *address,
                            struct seam_task *holder)
{
    struct stream *pooled = take_idle(seam, address);
    if (pooled != NULL) {
        pooled->holder = holder;
        return pooled;
    }
    struct upstream *upstream = calloc(1, sizeof(*upstream));
    ASSERT(upstream != NULL);
    upstream->address = *address;
    struct session *session = &upstream->client.wire.session;
    session_init(session, &seam->sessions, SEAM_TIMER_SESSION);
    session->owner = seam;
    enum status status = io_connect(seam->io, &session->transport.socket, address, SEAM_UPSTREAM);
    if (status == ERROR) {
        free(upstream);
        return NULL;
    }
    upstream->connected = status == OK;
    list_push_back(&seam->upstreams, &session->link);
    /* Earlier than the pool would: what it waits for until it is connected is to be readable. */
    struct stream *stream = http1_client_start(session);
    stream->holder = holder;
    return stream;
}

enum status seam_connected(struct stream *stream)
{
    struct http1_client *client = http1_client_of_stream(stream);
    struct upstream *upstream = CONTAINER_OF(client, struct upstream, client);
    struct session *session = stream->session;
    if (upstream->connected) {
        return OK;
    }
    enum status status = io_connect_result(session->context->io, &session->transport.socket);
    upstream->connected = status == OK;
    return status;
}

void seam_release(struct seam *seam, struct stream *stream, bool keep)
{
    struct session *session = stream->session;
    bool upstream = session->transport.socket.kind == SEAM_UPSTREAM;
    stream->ops->release(stream, keep);
    if (upstream && session->step == SESSION_CLOSED) {
        free_session(session); /* told by the step, no event follows */
        return;
    }
    if (upstream && session->step == SESSION_IDLE) {
        list_unlink(&session->link);
        list_push_front(&seam->idle, &session->link);
    }
    serve_events(session);
}

struct session *seam_http1_create(struct seam *seam)
{
    struct http1_session *session = malloc(sizeof(*session));
    ASSERT(session != NULL);
    session_init(&session->wire.session, &seam->sessions, SEAM_TIMER_SESSION);
    return &session->wire.session;
}

void seam_http1_start(struct session *session)
{
    http1_session_start(session, NULL);
}

static void accept_all(struct seam *seam)
{
    enum status status = OK;
    while (status == OK) {
        struct session *session = seam->story->session_create(seam);
        struct address peer;
        status =
            io_accept(seam->io, &seam->listener, &session->transport.socket, SEAM_CLIENT, &peer);
        if (status != OK) {
            free(session);
            return;
        }
        session->owner = seam;
        list_push_back(&seam->clients, &session->link);
        seam->story->session_start(session);
        serve_events(session);
    }
}

static void serve_socket(struct seam *seam, struct io_socket *socket)
{
    switch ((enum seam_socket_kind)socket->kind) {
    case SEAM_WIRE:
        seam_wake(CONTAINER_OF(socket, struct seam_wire, wire.socket)->task);
        return;
    case SEAM_LISTENER:
        accept_all(seam);
        return;
    case SEAM_CLIENT:
    case SEAM_UPSTREAM: {
        struct session *session = CONTAINER_OF(socket, struct session, transport.socket);
        session->ops->run(session);
        serve_events(session);
        return;
    }
    }
    UNREACHABLE("a socket of no kind");
}

static void run_tasks(struct seam *seam)
{
    struct list now;
    list_take_all(&now, &seam->runnable);
    for (struct list *link = list_pop_front(&now); link != NULL; link = list_pop_front(&now)) {
        struct seam_task *task = CONTAINER_OF(link, struct seam_task, run_link);
        task->run(task);
    }
}

static void fire_timers(struct seam *seam)
{
    struct timer *timer = NULL;
    while ((timer = timer_wheel_expire(&seam->wheel, io_now(seam->io))) != NULL) {
        if (timer->kind == SEAM_TIMER_TASK) {
            struct seam_task *task = CONTAINER_OF(timer, struct seam_task, timer);
            task->expire(task);
        } else {
            struct session *session = CONTAINER_OF(timer, struct session, timer);
            session->ops->expire(session);
            serve_events(session);
        }
    }
}

static void wake_waiters(struct seam *seam)
{
    for (uint32_t left = buffer_pool_spare(&seam->buffers); left > 0; left--) {
        struct list *link = list_pop_front(&seam->buffers.waiters);
        if (link == NULL) {
            return;
        }
        seam_wake(CONTAINER_OF(link, struct seam_task, wait_link));
    }
}

static void take_turn(struct seam *seam)
{
    bool idle = list_is_empty(&seam->runnable);
    io_wait(seam->io, idle ? timer_wheel_next(&seam->wheel) : io_now(seam->io));
    struct io_socket *socket = NULL;
    for (int i = 0; i < SESSIONS_MAX && (socket = io_next_ready(seam->io)) != NULL; i++) {
        serve_socket(seam, socket);
    }
    run_tasks(seam);
    fire_timers(seam);
    wake_waiters(seam);
}

static void turn(void *context)
{
    fault_begin(FAULTS_OF_CALLS);
    take_turn(context);
    fault_end();
}

static void open_context(struct seam *seam)
{
    struct session_context *sessions = &seam->sessions;
    bool got = buffer_pool_init(&seam->buffers, seam->world->habits.buffer_pool) &&
               slab_init(&seam->client_inboxes, INBOX_SIZE, SESSIONS_MAX) &&
               slab_init(&seam->upstream_inboxes, INBOX_SIZE, SESSIONS_MAX);
    ASSERT(got);
    *sessions = (struct session_context){
        .io = seam->io,
        .wheel = &seam->wheel,
        .buffers = &seam->buffers,
        .client_inboxes = &seam->client_inboxes,
        .upstream_inboxes = &seam->upstream_inboxes,
        .scratch = malloc(SCRATCH_SIZE),
        .scratch_size = SCRATCH_SIZE,
        .render = malloc(BYTE_QUEUE_MAX),
        .render_size = BYTE_QUEUE_MAX,
        .limits = {.head = {.request_line_max = 2048, .head_max = 8192, .fields_max = 32},
                   .request_head_timeout = 20 * (uint64_t)SECOND,
                   .keep_alive_timeout = 20 * (uint64_t)SECOND,
                   .upstream_keep_alive_timeout = 5 * (uint64_t)SECOND,
                   .linger_timeout = 2 * SECOND,
                   .linger_bytes_max = 1024 * 1024,
                   .requests_max = 1000},
    };
    ASSERT(sessions->scratch != NULL && sessions->render != NULL);
    if (seam->manners.calm && seam->world->habits.origin_early > 0) {
        /* Whoever answers early may close without a word, and nobody here tries again. */
        sessions->limits.upstream_keep_alive_timeout = 0;
    }
}

/* As worker_drain, but for the listener: later connections carry one message each. */
static void drain(struct seam_task *task)
{
    struct seam *seam = task->seam;
    sim_note(seam->io, "drains");
    seam->sessions.draining = true;
    struct list all;
    list_take_all(&all, &seam->clients);
    while (!list_is_empty(&all)) {
        struct session *session = CONTAINER_OF(all.next, struct session, link);
        list_unlink(&session->link);
        list_push_back(&seam->clients, &session->link);
        session->ops->drain(session);
        serve_events(session);
    }
    seam_task_deinit(task);
}

static void plan_drain(struct seam *seam)
{
    if (seam->manners.drains_within > 0) {
        seam->drainer.expire = drain;
        seam_task_init(&seam->drainer, seam);
        timer_set(&seam->wheel, &seam->drainer.timer,
                  io_now(seam->io) + sim_magnitude(&seam->prng, 1, seam->manners.drains_within));
    }
}

/*
 * Others of a worker that hold buffers: for moments there is none left, or one or two. Where a wait
 * for buffers is forgotten, or has no end, it shows here.
 */
static void come_and_go(struct seam_task *task)
{
    struct seam *seam = task->seam;
    struct slab *slab = &seam->buffers.slab;
    uint64_t now = io_now(seam->io);
    bool holds = !list_is_empty(&seam->taken);
    struct list *link = NULL;
    while ((link = list_pop_front(&seam->taken)) != NULL) {
        slab_release(slab, link);
    }
    if (now >= seam->neighbour_leaves) {
        seam_task_deinit(task);
        return;
    }
    uint32_t leaves = prng_below(&seam->prng, 3);
    while (!holds && slab->capacity - slab->in_use > leaves) {
        link = slab_acquire(slab);
        list_push_back(&seam->taken, link);
    }
    timer_set(&seam->wheel, &task->timer, now + sim_magnitude(&seam->prng, 1000, SECOND / 4));
}

static void invite_neighbour(struct seam *seam)
{
    list_init(&seam->taken);
    if (sim_chance(&seam->prng, 500)) {
        seam->neighbour.expire = come_and_go;
        seam_task_init(&seam->neighbour, seam);
        seam->neighbour_leaves = io_now(seam->io) + 20 * (uint64_t)SECOND;
        timer_set(&seam->wheel, &seam->neighbour.timer, io_now(seam->io) + MILLISECOND);
    }
}

struct seam *seam_create(struct world *world, const struct seam_story *story)
{
    struct seam *seam = calloc(1, sizeof(*seam));
    ASSERT(seam != NULL);
    seam->world = world;
    seam->story = story;
    seam->manners = world->habits.seam;
    prng_init(&seam->prng, prng_next(&world->prng));
    seam->io = sim_node_create(world->sim, "seam");
    timer_wheel_init(&seam->wheel, sim_now(world->sim));
    list_init(&seam->runnable);
    list_init(&seam->clients);
    list_init(&seam->upstreams);
    list_init(&seam->idle);
    open_context(seam);
    io_socket_init(&seam->listener);
    enum status status =
        io_listen(seam->io, &seam->listener, sim_listen(world->sim, &world->entry), SEAM_LISTENER);
    ASSERT(status == OK);
    sim_node_run(seam->io, turn, seam);
    plan_drain(seam);
    invite_neighbour(seam);
    if (story->begin != NULL) {
        story->begin(seam);
    }
    return seam;
}

void seam_destroy(struct seam *seam)
{
    if (seam == NULL) {
        return;
    }
    if (seam->story->end != NULL) {
        seam->story->end(seam);
    }
    buffer_pool_deinit(&seam->buffers);
    slab_deinit(&seam->client_inboxes);
    slab_deinit(&seam->upstream_inboxes);
    free(seam->sessions.scratch);
    free(seam->sessions.render);
    free(seam);
}

bool seam_is_finished(const struct seam *seam)
{
    return seam->story->is_finished == NULL || seam->story->is_finished(seam);
}

void seam_check(const struct seam *seam)
{
    if (seam->tasks != 0 || sim_node_sockets(seam->io) != 0) {
        run_failed("the seam is left with %u tasks and %u sockets", seam->tasks,
                   sim_node_sockets(seam->io));
    }
    ASSERT(list_is_empty(&seam->runnable) && list_is_empty(&seam->buffers.waiters));
    ASSERT(list_is_empty(&seam->clients) && list_is_empty(&seam->upstreams));
    ASSERT(list_is_empty(&seam->idle) && seam->wheel.count == 0);
    ASSERT(seam->buffers.slab.in_use == 0);
    ASSERT(seam->client_inboxes.in_use == 0 && seam->upstream_inboxes.in_use == 0);
}
