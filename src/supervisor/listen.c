#include "supervisor/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void log_refusal(const struct generation *generation,
                        const struct generation_listener *listener)
{
    int error = errno;
    char address[ADDRESS_TEXT_MAX];
    (void)address_print(&listener->address, address);
    struct span name = generation_text(generation, listener->name);
    refusal_log(LOG_ERROR, generation, &listener->place, refusal_advice(REFUSAL_OF_ADDRESS, error),
                "listener \"%.*s\" cannot listen on %s: %s", SPAN_ARGS(name), address,
                refusal_reason(REFUSAL_OF_ADDRESS, error));
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
    opened.fds = calloc(opened.count > 0 ? opened.count : 1, sizeof(int));
    if (opened.fds == NULL) {
        log_message(LOG_ERROR, "out of memory for %u listeners", opened.count);
        return ERROR;
    }
    enum status status = OK;
    for (uint32_t i = 0; i < opened.count; i++) {
        const struct generation_listener *listener = generation_listener(generation, i);
        opened.fds[i] = bind_address(&listener->address);
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
    }
    free(listeners->fds);
    listeners->fds = NULL;
    listeners->count = 0;
}

void listeners_close(struct listeners *listeners)
{
    listeners_stop(listeners);
    if (listeners->controller[LISTENERS_ADMIN] >= 0) {
        (void)close(listeners->controller[LISTENERS_ADMIN]);
    }
    control_socket_close(&listeners->control);
    listeners->controller[LISTENERS_ADMIN] = -1;
    listeners->controller[LISTENERS_CONTROL] = -1;
}
