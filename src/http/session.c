#include "http/session.h"

#include <string.h>

#include "base/assert.h"

void session_init(struct session *session, struct session_context *context, uint8_t timer_kind)
{
    session->ops = NULL;
    session->context = context;
    transport_init_tcp(&session->transport, context->io);
    timer_init(&session->timer, timer_kind);
    list_init(&session->link);
    session->owner = NULL;
    session->step = SESSION_CLOSED;
    session->failure = REASON_NONE;
}

void session_clear_rest(struct session *session, size_t size)
{
    ASSERT(size >= sizeof(*session));
    memset((uint8_t *)session + sizeof(*session), 0, size - sizeof(*session));
}
