#include "supervisor/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/control_socket.h"
#include "supervisor/refusal.h"

/* The kernel cuts it to net.core.somaxconn. */
enum { BACKLOG = 4096 };

static int bind_address(const struct address *address)
{
    struct sockaddr_storage storage;
    socklen_t size = address_to_system(address, &storage);
    int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    int on = 1;
    /* Without it a restart would wait for the old connections' TIME_WAIT. */
    int failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (failed == 0 && address->family == ADDRESS_IPV6) {
        /* An address means what it says: IPv4 clients need a listener of their own. */
        failed = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (failed != 0 || bind(fd, (const struct sockaddr *)&storage, size) != 0 ||
        listen(fd, BACKLOG) != 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* The group of a socket's file is that of the processes: whom they serve may be put into it. */
static int bind_file(const struct generation *generation,
                     const struct generation_listener *listener, struct unix_socket *opened)
{
    const struct generation_account *account = &generation->header->server.account;
    const struct unix_socket_file file = {
        .mode = listener->socket_mode,
        .group = account->change != 0 ? account->group : UNIX_SOCKET_OWN_GROUP,
        .backlog = BACKLOG,
    };
    struct span path = generation_unix_path(generation, listener->text);
    return unix_socket_open(opened, path, &file) == OK ? opened->fd : -1;
}

static void log_refusal(const struct generation *generation,
                        const struct generation_listener *listener)
{
    bool local = listener->address.family == ADDRESS_UNIX;
    int error = errno;
    struct span address = generation_text(generation, listener->text);
    struct span name = generation_text(generation, listener->name);
    enum refusal_of what = local ? REFUSAL_OF_SOCKET : REFUSAL_OF_ADDRESS;
    refusal_log(LOG_ERROR, generation, &listener->place, refusal_advice(what, error),
                "listener \"%.*s\" cannot listen on %.*s: %s", SPAN_ARGS(name), SPAN_ARGS(address),
                refusal_reason(what, error));
}

static enum status open_admin(struct listeners *listeners, const struct generation *generation)
{
    const struct address *address = &generation->header->server.admin;
    if (address->family == ADDRESS_NONE) {
        return OK;
    }
    listeners->controller[LISTENERS_ADMIN] = bind_address(address);
    if (listeners->controller[LISTENERS_ADMIN] >= 0) {
        return OK;
    }
    int error = errno;
    char text[ADDRESS_TEXT_MAX];
    (void)address_print(address, text);
    refusal_log(LOG_ERROR, generation, &generation->header->server.admin_place,
                refusal_advice(REFUSAL_OF_ADDRESS, error),
                "the admin listener cannot listen on %s: %s", text,
                refusal_reason(REFUSAL_OF_ADDRESS, error));
    return ERROR;
}

void listeners_init(struct listeners *listeners)
{
    *listeners = (struct listeners){.controller = {-1, -1}, .control = {.fd = -1}};
}

enum status listeners_open(struct listeners *listeners, const struct generation *generation,
                           const char *control_socket)
{
    struct listeners opened;
    listeners_init(&opened);
    opened.count = generation->header->listeners.count;
    opened.fds = calloc(opened.count + 1U, sizeof(*opened.fds));
    opened.files = calloc(opened.count + 1U, sizeof(*opened.files));
    if (opened.fds == NULL || opened.files == NULL) {
        log_message(LOG_ERROR, "out of memory for %u listeners", opened.count);
        free(opened.fds);
        free(opened.files);
        return ERROR;
    }
    enum status status = OK;
    for (uint32_t i = 0; i < opened.count; i++) {
        const struct generation_listener *listener = generation_listener(generation, i);
        unix_socket_init(&opened.files[i]);
        opened.fds[i] = listener->address.family == ADDRESS_UNIX
                            ? bind_file(generation, listener, &opened.files[i])
                            : bind_address(&listener->address);
        if (opened.fds[i] < 0) {
            log_refusal(generation, listener);
            status = ERROR;
        }
    }
    if (open_admin(&opened, generation) != OK) {
        status = ERROR;
    }
    if (control_socket_open(&opened.control, control_socket, generation) != OK) {
        status = ERROR;
    }
    opened.controller[LISTENERS_CONTROL] = opened.control.fd;
    if (status != OK) {
        listeners_close(&opened);
        return ERROR;
    }
    *listeners = opened;
    return OK;
}

void listeners_stop(struct listeners *listeners)
{
    for (uint32_t i = 0; listeners->fds != NULL && i < listeners->count; i++) {
        if (listeners->fds[i] >= 0) {
            (void)close(listeners->fds[i]);
        }
        if (listeners->files[i].fd >= 0) {
            unix_socket_remove(&listeners->files[i]);
        }
    }
    free(listeners->fds);
    free(listeners->files);
    listeners->fds = NULL;
    listeners->files = NULL;
    listeners->count = 0;
}

/*
 * Whether it had to be told to listen again; the port stayed its own. Connections inherit a time to
 * linger, for which who closes one would have to wait.
 */
static bool mend(int fd, int *error)
{
    const struct linger none = {0};
    int listens = 0;
    socklen_t size = sizeof(listens);
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    }
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens != 0) {
        return false;
    }
    *error = listen(fd, BACKLOG) == 0 ? 0 : errno;
    return true;
}

static void log_mended(struct span name, int error)
{
    log_message(LOG_ERROR,
                "listener %.*s had stopped listening, which only a process of ours can do that was "
                "taken over; %s",
                SPAN_ARGS(name), error == 0 ? "it listens again" : strerror(error));
}

void listeners_mend(const struct listeners *listeners, const struct generation *generation)
{
    int error = 0;
    for (uint32_t i = 0; i < listeners->count; i++) {
        if (mend(listeners->fds[i], &error)) {
            log_mended(generation_text(generation, generation_listener(generation, i)->name),
                       error);
        }
    }
    if (mend(listeners->controller[LISTENERS_ADMIN], &error)) {
        log_mended(SPAN("(admin)"), error);
    }
}

void listeners_close(struct listeners *listeners)
{
    listeners_stop(listeners);
    if (listeners->controller[LISTENERS_ADMIN] >= 0) {
        (void)close(listeners->controller[LISTENERS_ADMIN]);
    }
    unix_socket_close(&listeners->control);
    listeners->controller[LISTENERS_ADMIN] = -1;
    listeners->controller[LISTENERS_CONTROL] = -1;
}
