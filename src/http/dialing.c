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

static enum status fail(struct dialing *dialing, enum reason reason)
{
    dialing->reason = reason;
    close_transport(&dialing->session);
    return ERROR;
}

enum reason dialing_tls_reason(enum tls_failure failure)
{
    switch (failure) {
    case TLS_FAILURE_BAD_CERTIFICATE:
    case TLS_FAILURE_NO_CERTIFICATE:
        return REASON_UPSTREAM_TLS_CERTIFICATE;
    case TLS_FAILURE_REFUSED:
        return REASON_UPSTREAM_TLS_REFUSED;
    case TLS_FAILURE_NO_ALPN:
        return REASON_UPSTREAM_TLS_NO_ALPN;
    case TLS_FAILURE_MEMORY:
        return REASON_BUFFERS_FULL;
    case TLS_FAILURE_CLOSED:
    case TLS_FAILURE_PLAIN_HTTP:
    case TLS_FAILURE_PROTOCOL:
    case TLS_FAILURE_NO_COMMON:
    case TLS_FAILURE_UNKNOWN_NAME:
        break;
    }
    return REASON_UPSTREAM_TLS_FAILED;
}

/* Before any transport's coding: the peer reads it off the bare connection. */
static enum status send_preface(struct dialing *dialing)
{
    struct session *session = &dialing->session;
    while (dialing->preface_sent < dialing->preface_size) {
        size_t put = 0;
        struct iovec piece = {dialing->preface + dialing->preface_sent,
                              dialing->preface_size - dialing->preface_sent};
        enum status status =
            io_write(session->context->io, &session->transport.socket, &piece, 1, &put);
        if (status != OK) {
            return status == AGAIN ? AGAIN : fail(dialing, REASON_CONNECT_FAILED);
        }
        dialing->preface_sent += (uint32_t)put;
    }
    return OK;
}

static enum status shake_hands(struct dialing *dialing)
{
    struct session *session = &dialing->session;
    const struct dialing_target *target = dialing->target;
    enum tls_failure failure = TLS_FAILURE_CLOSED;
    session->step = SESSION_HANDSHAKE;
    enum status sent = send_preface(dialing);
    if (sent != OK) {
        return sent;
    }
    if (target->tls == NULL) {
        session->step = SESSION_IDLE;
        return OK;
    }
    if (!tls_is_on(&session->transport) &&
        !tls_begin_client(&session->transport, target->tls, &target->peer, target->resumption)) {
        return fail(dialing, REASON_BUFFERS_FULL);
    }
    enum status status = tls_handshake(&session->transport, &failure);
    if (status == ERROR) {
        session->detail = tls_failure_detail(&session->transport);
        return fail(dialing, dialing_tls_reason(failure));
    }
    session->step = status == OK ? SESSION_IDLE : SESSION_HANDSHAKE;
    return status;
}

static enum status finish_connect(struct dialing *dialing)
{
    struct session *session = &dialing->session;
    enum status status = io_connect_result(session->context->io, &session->transport.socket);
    if (status == ERROR) {
        return fail(dialing, REASON_CONNECT_FAILED);
    }
    return status == OK ? shake_hands(dialing) : AGAIN;
}

static void dialing_run(struct session *session)
{
    struct dialing *dialing = dialing_of(session);
    if (dialing_is_under_way(session)) {
        enum status status =
            session->step == SESSION_CONNECT ? finish_connect(dialing) : shake_hands(dialing);
        dialing->event_open = status != AGAIN;
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

enum status dialing_connect(struct dialing *dialing, const struct dialing_target *target,
                            struct span preface, uint8_t socket_kind)
{
    struct session *session = &dialing->session;
    struct io *io = session->context->io;
    struct io_socket *socket = &session->transport.socket;
    ASSERT(session->step == SESSION_CLOSED && !transport_is_open(&session->transport));
    ASSERT(preface.size <= sizeof(dialing->preface));
    dialing->target = target;
    if (preface.size > 0) {
        memcpy(dialing->preface, preface.data, preface.size);
    }
    dialing->preface_size = (uint32_t)preface.size;
    enum status status = target->address->family == ADDRESS_UNIX
                             ? io_connect_unix(io, socket, target->path, socket_kind)
                             : io_connect(io, socket, target->address, socket_kind);
    if (status == ERROR) {
        dialing->reason = REASON_CONNECT_FAILED;
        return ERROR;
    }
    session->step = SESSION_CONNECT;
    return status == OK ? shake_hands(dialing) : AGAIN;
}
