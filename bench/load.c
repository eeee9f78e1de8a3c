/*
 * load PORT PATH CONNECTIONS MILLISECONDS RATE keep|close plain|tls|resumed: the client of the
 * benchmark.
 *
 * With RATE 0 each connection sends its next request as soon as it has the answer. Otherwise RATE
 * requests a second become due at fixed times, and latency counts from when a request was due, so
 * that a stall of the proxy is charged to all requests that it held up. `close` takes a new
 * connection for each request; `resumed` begins each with the session of the one before. Otherwise
 * all connections are made, and have made a request, before it prints `ready` and waits for a line
 * from standard input; so whoever measures sees nothing but the requests. At the end it prints
 * `requests errors microseconds p50 p99 p999` (latencies in microseconds). Anything but a whole 200
 * is an error.
 */
#include "channel.h"

enum {
    SCRATCH = 256 * 1024,
    HEAD_MAX = 4096,
    OPENING_MAX = 16, /* connections that are made at a time */
    OPENING_US = 120000000,
    GRACE_US = 2000000, /* for what is under way at the end, so that it is counted */
    CONNECTIONS_MAX = 16384,
    SAMPLES_MAX = 4 * 1024 * 1024
};

struct connection {
    struct channel channel;
    bool busy;
    uint64_t due;  /* when its request should have left */
    size_t sent;   /* bytes of the request */
    size_t have;   /* bytes of an unfinished response head */
    uint64_t left; /* bytes of the body still to come */
    bool in_body;
    char head[HEAD_MAX];
};

struct load {
    int epoll;
    struct channels channels;
    char request[512];
    size_t request_size;
    bool close;
    uint64_t interval_ns; /* between requests; 0: as fast as they are answered */
    uint64_t begin;
    uint64_t end;
    uint64_t issued;
    bool opening; /* each connection makes its first request */
    uint32_t busy;
    uint64_t completed;
    uint64_t errors;
    uint32_t *latencies;
    uint32_t connection_count;
    struct connection *connections;
    uint32_t *idle;
    uint32_t idle_count;
};

static struct connection *by_descriptor[DESCRIPTORS_MAX];
static char scratch[SCRATCH];

static void drop(struct connection *connection)
{
    if (connection->channel.fd >= 0) {
        by_descriptor[connection->channel.fd] = NULL;
        channel_close(&connection->channel);
    }
}

static void reopen(struct load *load, struct connection *connection)
{
    drop(connection);
    channel_open(&load->channels, &connection->channel);
    by_descriptor[connection->channel.fd] = connection;
    watch(load->epoll, connection->channel.fd);
}

/* False when the connection is broken; otherwise what is left waits for an event. */
static bool send_request(struct load *load, struct connection *connection)
{
    while (connection->sent < load->request_size) {
        ssize_t sent = channel_send(&connection->channel, load->request + connection->sent,
                                    load->request_size - connection->sent);
        if (sent <= 0) {
            return sent < 0 && errno == EAGAIN;
        }
        connection->sent += (size_t)sent;
    }
    return true;
}

static void start(struct load *load, struct connection *connection, uint64_t due)
{
    connection->busy = true;
    load->busy++;
    connection->due = due;
    connection->sent = 0;
    connection->have = 0;
    connection->in_body = false;
    if (load->close || connection->channel.fd < 0) {
        reopen(load, connection);
    }
    load->issued++;
    (void)send_request(load, connection); /* that it is broken is seen at the next event */
}

/* When the next request is due; 0: at once. */
static uint64_t next_due(const struct load *load)
{
    if (load->opening) {
        return load->busy < OPENING_MAX ? 0 : load->end;
    }
    return load->interval_ns == 0 ? 0 : load->begin + load->issued * load->interval_ns / 1000;
}

static void start_due(struct load *load)
{
    uint64_t now = clock_us();
    while (load->idle_count > 0 && now < load->end && next_due(load) <= now) {
        uint64_t due = load->interval_ns == 0 ? now : next_due(load);
        start(load, &load->connections[load->idle[--load->idle_count]], due);
    }
}

static void finish(struct load *load, struct connection *connection, bool good)
{
    uint64_t now = clock_us();
    good = good && channel_is_as_asked(&load->channels, &connection->channel);
    if (good && load->completed < SAMPLES_MAX) {
        load->latencies[load->completed] = (uint32_t)(now - connection->due);
    }
    load->completed += good;
    load->errors += !good;
    if (!good) {
        drop(connection);
    }
    connection->busy = false;
    load->busy--;
    if (!load->opening) {
        load->idle[load->idle_count++] = (uint32_t)(connection - load->connections);
    }
}

/* Reads the head once it is whole. 1: the body follows; 0: not yet; -1: not what we asked for. */
static int read_head(struct connection *connection)
{
    char *end = memmem(connection->head, connection->have, "\r\n\r\n", 4);
    if (end == NULL) {
        return connection->have == HEAD_MAX ? -1 : 0;
    }
    size_t extra = connection->have - (size_t)(end + 4 - connection->head);
    *end = '\0';
    const char *length = strcasestr(connection->head, "\r\ncontent-length:");
    if (strncmp(connection->head, "HTTP/1.1 200 ", 13) != 0 || length == NULL) {
        return -1;
    }
    connection->left = strtoull(length + 17, NULL, 10);
    if (connection->left < extra) {
        return -1;
    }
    connection->left -= extra;
    connection->in_body = true;
    return 1;
}

static void receive(struct load *load, struct connection *connection)
{
    while (connection->busy) {
        bool body = connection->in_body;
        ssize_t got = channel_receive(&connection->channel,
                                      body ? scratch : connection->head + connection->have,
                                      body ? SCRATCH : HEAD_MAX - connection->have);
        if (got < 0 && errno == EAGAIN) {
            return;
        }
        int head = 1;
        if (got > 0 && !body) {
            connection->have += (size_t)got;
            head = read_head(connection);
        } else if (got > 0 && (uint64_t)got <= connection->left) {
            connection->left -= (uint64_t)got;
        } else {
            head = -1;
        }
        if (head < 0 || (connection->in_body && connection->left == 0)) {
            finish(load, connection, head > 0);
        }
    }
}

static void handle(struct load *load, struct connection *connection, uint32_t events)
{
    if (!connection->busy) {
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) { /* kept alive no longer */
            drop(connection);
        }
        return;
    }
    if (!send_request(load, connection)) {
        finish(load, connection, false);
    } else if (connection->sent == load->request_size) {
        receive(load, connection);
    }
    start_due(load);
}

/* Requests for so long, or until no connection is left; then what is under way ends. */
static void run(struct load *load, uint64_t microseconds)
{
    load->begin = clock_us();
    load->end = load->begin + microseconds;
    load->issued = 0;
    load->completed = 0;
    start_due(load);
    for (;;) {
        uint64_t now = clock_us();
        bool over = now >= load->end || (load->opening && load->idle_count == 0);
        if (over && (load->busy == 0 || now >= load->end + GRACE_US)) {
            load->errors += load->busy;
            return;
        }
        uint64_t end = over ? load->end + GRACE_US : load->end; /* of waiting */
        uint64_t until = load->idle_count > 0 && !over ? next_due(load) : end;
        until = until < end ? until : end;
        uint64_t wait = until > now ? until - now : 0;
        struct timespec timeout = {.tv_sec = (time_t)(wait / 1000000),
                                   .tv_nsec = (long)(wait % 1000000) * 1000};
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_pwait2(load->epoll, events, EVENTS_MAX, &timeout, NULL);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = by_descriptor[events[i].data.fd];
            if (connection != NULL) {
                handle(load, connection, events[i].events);
            }
        }
        start_due(load);
    }
}

/* A first request on each connection, a few at a time. */
static void open_all(struct load *load)
{
    uint64_t interval_ns = load->interval_ns;
    load->interval_ns = 0;
    load->opening = true;
    run(load, OPENING_US);
    load->opening = false;
    load->interval_ns = interval_ns;
    for (uint32_t i = 0; i < load->connection_count; i++) {
        load->idle[i] = i;
    }
    load->idle_count = load->connection_count;
}

static int compare(const void *a, const void *b)
{
    uint32_t first = *(const uint32_t *)a;
    uint32_t second = *(const uint32_t *)b;
    return (first > second) - (first < second);
}

static void report(struct load *load)
{
    size_t count = load->completed < SAMPLES_MAX ? (size_t)load->completed : SAMPLES_MAX;
    qsort(load->latencies, count, sizeof(load->latencies[0]), compare);
    uint32_t shares[] = {500, 990, 999};
    printf("%llu %llu %llu", (unsigned long long)load->completed, (unsigned long long)load->errors,
           (unsigned long long)(clock_us() - load->begin));
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        printf(" %u", count == 0 ? 0 : load->latencies[(count - 1) * shares[i] / 1000]);
    }
    printf("\n");
}

static enum security security_of(const char *name)
{
    return strcmp(name, "resumed") == 0 ? TLS_RESUMED : strcmp(name, "tls") == 0 ? TLS_FULL : PLAIN;
}

static void prepare(struct load *load, char **arguments)
{
    load->channels.proxy = loopback(arguments[1]);
    load->channels.security = security_of(arguments[7]);
    load->close = strcmp(arguments[6], "close") == 0;
    load->connection_count = (uint32_t)strtoul(arguments[3], NULL, 10);
    uint64_t rate = strtoull(arguments[5], NULL, 10);
    load->interval_ns = rate == 0 ? 0 : 1000000000 / rate;
    int size = snprintf(load->request, sizeof(load->request),
                        "GET %s HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: load\r\nAccept: */*\r\n"
                        "%s\r\n",
                        arguments[2], load->close ? "Connection: close\r\n" : "");
    if (size < 0 || (size_t)size >= sizeof(load->request) || load->connection_count == 0 ||
        load->connection_count > CONNECTIONS_MAX) {
        errno = EINVAL;
        quit("arguments");
    }
    load->request_size = (size_t)size;
    channels_prepare(&load->channels, load->request);
    load->epoll = epoll_new();
    load->latencies = malloc(SAMPLES_MAX * sizeof(load->latencies[0]));
    load->connections = calloc(load->connection_count, sizeof(load->connections[0]));
    load->idle = calloc(load->connection_count, sizeof(load->idle[0]));
    if (load->latencies == NULL || load->connections == NULL || load->idle == NULL) {
        quit("memory");
    }
    for (uint32_t i = 0; i < load->connection_count; i++) {
        load->connections[i].channel.fd = -1;
        load->idle[load->idle_count++] = i;
    }
}

int main(int count, char **arguments)
{
    static struct load load;
    if (count != 8) {
        fprintf(stderr, "usage: load PORT PATH CONNECTIONS MILLISECONDS RATE keep|close "
                        "plain|tls|resumed\n");
        return 2;
    }
    prepare(&load, arguments);
    if (!load.close) {
        open_all(&load);
    }
    printf("ready\n");
    fflush(stdout);
    if (getchar() != '\n') {
        return 1; /* nobody is there any more */
    }
    run(&load, strtoull(arguments[4], NULL, 10) * 1000);
    report(&load);
    return 0;
}
