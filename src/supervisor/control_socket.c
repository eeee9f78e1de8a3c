#include "supervisor/control_socket.h"

#include <errno.h>
#include <stdio.h>

#include "base/assert.h"
#include "config/environment.h"
#include "supervisor/refusal.h"

enum { BACKLOG = 64, MODE = 0660 };

static_assert((uint32_t)UNIX_SOCKET_OWN_GROUP == ACCOUNT_NO_GROUP, "no group named is our own");

static void log_refusal(const struct generation *generation, const char *path, bool asked,
                        bool configured)
{
    const char *why = refusal_reason(REFUSAL_OF_SOCKET, errno);
    const char *advice = refusal_advice(REFUSAL_OF_SOCKET, errno);
    if (asked) {
        log_message(LOG_ERROR, "control socket %s: %s (--control-socket)%s", path, why, advice);
    } else if (configured) {
        refusal_log(LOG_ERROR, generation, &generation->header->server.control_place, advice,
                    "control socket %s: %s", path, why);
    } else {
        log_message(LOG_WARNING,
                    "no control socket, so no `sentinel recent`: %s: %s; see server control-socket",
                    path, why);
    }
}

enum status control_socket_open(struct unix_socket *control, const char *asked,
                                const struct generation *generation)
{
    const struct generation_server *server = &generation->header->server;
    struct span path =
        asked != NULL ? span_of_string(asked) : generation_text(generation, server->control_socket);
    bool configured = server->control_place.line != 0;
    unix_socket_init(control);
    if (span_equal(path, SPAN("off"))) {
        return OK;
    }
    if (path.size > ADDRESS_PATH_MAX) {
        log_message(LOG_ERROR, "the path of the control socket is longer than %d bytes",
                    (int)ADDRESS_PATH_MAX);
        return ERROR;
    }
    const struct unix_socket_file file = {
        .mode = MODE, .group = (gid_t)server->control_group, .backlog = BACKLOG};
    enum status status = unix_socket_open(control, path, &file);
    if (status != OK) {
        char text[ADDRESS_PATH_MAX + 1];
        (void)snprintf(text, sizeof(text), "%.*s", SPAN_ARGS(path));
        log_refusal(generation, text, asked != NULL, configured);
        return asked != NULL || configured ? ERROR : OK;
    }
    return OK;
}
