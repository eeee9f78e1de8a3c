/*
 * The control socket: a Unix socket on which the controller answers whoever may open the file, and
 * tells what is too private for the admin listener (`sentinel recent`). The supervisor binds it and
 * owns the file; mode 0660. The file of an instance that is gone is taken over, that of one that
 * lives never.
 */
#ifndef SENTINEL_SUPERVISOR_CONTROL_SOCKET_H
#define SENTINEL_SUPERVISOR_CONTROL_SOCKET_H

#include <sys/types.h>
#include <sys/un.h>

#include "base/status.h"
#include "config/generation.h"

enum { CONTROL_SOCKET_PATH_MAX = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1 };

/* fd -1: there is none. */
struct control_socket {
    int fd;
    dev_t device; /* of the file, so that only ours is ever removed */
    ino_t inode;
    char path[CONTROL_SOCKET_PATH_MAX + 1];
};

/*
 * Binds what the command line says (NULL: nothing), else the configuration. One that was asked for
 * and cannot be had is an ERROR; the default path is only warned about, and there is no socket
 * then. Both are logged.
 */
NODISCARD enum status control_socket_open(struct control_socket *control, const char *asked,
                                          const struct generation *generation);

/* Closes it and removes its file. Harmless twice. */
void control_socket_close(struct control_socket *control);

#endif
