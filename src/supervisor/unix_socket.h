/*
 * Listening on a Unix socket: the supervisor binds it and owns its file. The file is born with its
 * mode and group; one that an instance left which is gone is taken over, that of one that lives
 * never, nor anything that is no socket. At the end the file is removed, if it is still ours.
 */
#ifndef SENTINEL_SUPERVISOR_UNIX_SOCKET_H
#define SENTINEL_SUPERVISOR_UNIX_SOCKET_H

#include <sys/types.h>

#include "base/address.h"
#include "base/status.h"

/* fd -1: there is none. */
struct unix_socket {
    int fd;
    dev_t device; /* of the file, so that only ours is ever removed */
    ino_t inode;
    char path[ADDRESS_PATH_MAX + 1];
};

#define UNIX_SOCKET_OWN_GROUP ((gid_t)-1)

/* What is to be made. */
struct unix_socket_file {
    mode_t mode;
    gid_t group; /* of the file; UNIX_SOCKET_OWN_GROUP: ours */
    int backlog;
};

/* None is open. */
void unix_socket_init(struct unix_socket *socket);

/*
 * Binds and listens, not blocking; the path has 1 to ADDRESS_PATH_MAX bytes. ERROR with errno (see
 * REFUSAL_OF_SOCKET); *socket is untouched. May take half a second where the socket
 * of a dying instance still answers.
 */
NODISCARD enum status unix_socket_open(struct unix_socket *socket, struct span path,
                                       const struct unix_socket_file *file);

/* Closes it and removes its file. Harmless twice. */
void unix_socket_close(struct unix_socket *socket);

/* Removes the file, as unix_socket_close, of a socket whose descriptor somebody else closes. */
void unix_socket_remove(const struct unix_socket *socket);

#endif
