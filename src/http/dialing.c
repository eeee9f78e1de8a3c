#include "http/dialing.h"

#include "base/assert.h"

static_assert(offsetof(struct dialing, session) == 0,
              "sessions of all protocols share one address");

static struct dialing *dialing_of(struct session *session)
{
    return CONTAINER_OF(session, struct dialing, session);
}

static void close_transport(struct session *session)
{
    timer_cancel(session->context->wheel, &session->timer);
    session->transport.ops->close(&session->transport);
    session->step = SESSION_CLOSED;
}

static void finish_connect(struct dialing *dialing)
{
    struct session *session = &dialing->session;
    enum status status = io_connect_result(session->context->io, &session->transport.socket);
    if (status == AGAIN) {
        return;
    }
    dialing->event_open = true;
    session->step = SESSION_IDLE;
    if (status == ERROR) {
        dialing->reason = REASON_CONNECT_FAILED;
        close_transport(session);
    }
}

static void dialing_run(struct session *session)
{
    if (session->step == SESSION_CONNECT) {
        finish_connect(dialing_of(session));
    }
}

static void dialing_expire(struct session *session)
{
    (void)session;
    UNREACHABLE("a connection that is being opened has no timer");
}

static enum session_event dialing_next_event(struct session *session, struct stream **stream)
{
    struct dialing *dialing = dialing_of(session);
    (void)stream;
    if (dialing->event_open) {
        dialing->event_open = false;
        return SESSION_EVENT_OPEN;
    }
    return SESSION_EVENT_NONE;
}

/* Those who wait for it decide. */
static void dialing_drain(struct session *session)
{
    (void)session;
}

static void dialing_kill(struct session *session)
{
    dialing_of(session)->event_open = false;
    close_transport(session);
}

static const struct session_ops DIALING = {
    .run = dialing_run,
    .expire = dialing_expire,
    .next_event = dialing_next_event,
    .drain = dialing_drain,
    .kill = dialing_kill,
};

void dialing_init(struct dialing *dialing, struct session_context *context, uint8_t timer_kind)
{
    session_init(&dialing->session, context, timer_kind);
    session_clear_rest(&dialing->session, sizeof(*dialing));
    dialing->session.ops = &DIALING;
}

enum status dialing_connect(struct dialing *dialing, const struct address *address,
                            struct span path, uint8_t socket_kind)
{
    struct session *session = &dialing->session;
    ASSERT(session->step == SESSION_CLOSED && !transport_is_open(&session->transport));
    struct io *io = session->context->io;
    struct io_socket *socket = &session->transport.socket;
    enum status status = address->family == ADDRESS_UNIX
                             ? io_connect_unix(io, socket, path, socket_kind)
                             : io_connect(io, socket, address, socket_kind);
    if (status == ERROR) {
        dialing->reason = REASON_CONNECT_FAILED;
        return ERROR;
    }
    session->step = status == OK ? SESSION_IDLE : SESSION_CONNECT;
    return status;
}
