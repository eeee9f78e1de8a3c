#include "http/proxied.h"

#include "base/assert.h"

static_assert(offsetof(struct proxied, session) == 0,
              "sessions of all protocols share one address");

static void give_inbox_back(struct proxied *proxied)
{
    if (proxied->inbox != NULL) {
        slab_release(proxied->session.context->client_inboxes, proxied->inbox);
        proxied->inbox = NULL;
    }
}

/* Who said nothing at all is not recorded: balancers look whether somebody is there. */
static void close_session(struct proxied *proxied, enum reason failure)
{
    struct session *session = &proxied->session;
    give_inbox_back(proxied);
    timer_cancel(session->context->wheel, &session->timer);
    if (failure == REASON_NONE) {
        session->transport.ops->close(&session->transport);
    } else {
        session->transport.ops->reset(&session->transport);
    }
    session->failure = failure;
    session->step = SESSION_CLOSED;
    proxied->event_closed = true;
}

static void fail(struct proxied *proxied, enum reason failure)
{
    close_session(proxied, proxied->size > 0 ? failure : REASON_NONE);
}

/* What was looked at and belongs to the header is read; AGAIN: not all of it, for now. */
static enum status take(struct proxied *proxied, uint32_t end)
{
    struct session_context *context = proxied->session.context;
    while (proxied->size < end) {
        size_t got = 0;
        enum status status = io_read(context->io, &proxied->session.transport.socket,
                                     proxied->inbox + proxied->size, end - proxied->size, &got);
        if (status != OK) {
            return status;
        }
        proxied->size += (uint32_t)got;
        context->clients.received += got;
    }
    return OK;
}

/* One look at what has come. OK: the header is complete, or there may be more of it. */
static enum status look(struct proxied *proxied, enum status *complete)
{
    struct session *session = &proxied->session;
    size_t got = 0;
    ASSERT(proxied->size < PROXY_HEADER_MAX);
    enum status status =
        io_peek(session->context->io, &session->transport.socket, proxied->inbox + proxied->size,
                PROXY_HEADER_MAX - proxied->size, &got);
    if (status != OK) {
        return status;
    }
    uint32_t end = proxied->size + (uint32_t)got;
    *complete = proxy_header_read(span_of(proxied->inbox, end), &proxied->header);
    if (*complete == ERROR) {
        proxied->size = end;
        return ERROR;
    }
    return take(proxied, *complete == OK ? proxied->header.size : end);
}

static void finish(struct proxied *proxied)
{
    give_inbox_back(proxied);
    timer_pause(&proxied->session.timer);
    proxied->event_open = true;
}

static void proxied_run(struct session *session)
{
    struct proxied *proxied = proxied_of(session);
    if (session->step != SESSION_PREFACE || proxied->event_open) {
        return;
    }
    if (proxied->inbox == NULL) {
        proxied->inbox = slab_acquire(session->context->client_inboxes);
    }
    if (proxied->inbox == NULL) { /* there is one for each client: this is a worker's last day */
        close_session(proxied, REASON_BUFFERS_FULL);
        return;
    }
    enum status complete = AGAIN;
    enum status status = OK;
    while (status == OK && complete == AGAIN) {
        status = look(proxied, &complete);
    }
    if (status == OK) {
        finish(proxied);
    } else if (status != AGAIN) {
        fail(proxied, REASON_BAD_PROXY_HEADER);
    } else if (proxied->size == 0) {
        give_inbox_back(proxied);
    }
}

static void proxied_expire(struct session *session)
{
    fail(proxied_of(session), REASON_PROXY_HEADER_TIMEOUT);
}

static enum session_event proxied_next_event(struct session *session, struct stream **stream)
{
    struct proxied *proxied = proxied_of(session);
    (void)stream;
    if (proxied->event_open) {
        proxied->event_open = false;
        return SESSION_EVENT_OPEN;
    }
    if (proxied->event_closed) {
        proxied->event_closed = false;
        return SESSION_EVENT_CLOSED;
    }
    return SESSION_EVENT_NONE;
}

static void proxied_refuse(struct session *session, enum reason reason)
{
    close_session(proxied_of(session), reason);
}

static void proxied_drain(struct session *session)
{
    if (session->step != SESSION_CLOSED) {
        close_session(proxied_of(session), REASON_NONE);
    }
}

static const struct session_ops PROXIED = {
    .run = proxied_run,
    .expire = proxied_expire,
    .next_event = proxied_next_event,
    .refuse = proxied_refuse,
    .drain = proxied_drain,
    .kill = proxied_drain,
};

void proxied_start(struct session *session)
{
    struct session_context *context = session->context;
    ASSERT(context->client_inboxes->object_size >= PROXY_HEADER_MAX);
    session_clear_rest(session, sizeof(struct proxied));
    session->ops = &PROXIED;
    session->step = SESSION_PREFACE;
    timer_set(context->wheel, &session->timer,
              io_now(context->io) + context->limits.proxy_header_timeout);
}

bool proxied_is(const struct session *session)
{
    return session->ops == &PROXIED;
}
