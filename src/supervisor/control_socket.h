/*
 * The control socket: a Unix socket on which the controller answers whoever may open the file, and
 * tells what is too private for the admin listener (`sentinel recent`). The supervisor binds it and
 * owns the file; mode 0660.
 */
#ifndef SENTINEL_SUPERVISOR_CONTROL_SOCKET_H
#define SENTINEL_SUPERVISOR_CONTROL_SOCKET_H

#include "config/generation.h"
#include "supervisor/unix_socket.h"

/*
 * Binds what the command line says (NULL: nothing), else the configuration. One that was asked for
 * and cannot be had is an ERROR; the default path is only warned about, and there is no socket
 * then. Both are logged.
 */
NODISCARD enum status control_socket_open(struct unix_socket *control, const char *asked,
                                          const struct generation *generation);

#endif
