#include "http/session.h"

#include <string.h>

#include "base/assert.h"
#include "net/tls.h"

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
    session->detail = TLS_DETAIL_NONE;
}

bool session_was_refused(struct session *session)
{
    bool refused = tls_is_on(&session->transport) && tls_was_refused(&session->transport);
    if (refused) {
        session->detail = tls_failure_detail(&session->transport);
    }
    return refused;
}

void session_clear_rest(struct session *session, size_t size)
{
    ASSERT(size >= sizeof(*session));
    memset((uint8_t *)session + sizeof(*session), 0, size - sizeof(*session));
}
