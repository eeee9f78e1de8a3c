/*
 * What a whole worker costs without the kernel: the dataplane as it is shipped over an io.h whose
 * sockets are memory. Clients send the same request again and again, the origin answers 1 KiB.
 * Shows nanoseconds of processor time for a request with few and with many connections, which is
 * the footprint in the caches; under callgrind (--toggle-collect=worker_turn) every instruction.
 * Clients of HTTP/2 have so many requests under way on each connection; the calls are counted, too.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "config/compile.h"
#include "observe/access_log.h"
#include "observe/commons.h"
#include "observe/flight_recorder.h"
#include "observe/health.h"
#include "proxy/worker.h"

enum {
    SOCKETS_MAX = 2 * 4096 + 1,
    LISTENER = SOCKETS_MAX,
    CLIENT = 2, /* io_socket.kind, as the worker says it */
    ARENA_SIZE = 24 * 1024 * 1024,
    ROUNDS = 9,
    KERNEL_SIZE = 3 * 1024, /* of a socket: what the kernel touches of it in each call */
    BATCH = 32,             /* sockets reported at once, as the real backend does */
    FRAME_HEADER = 9,
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    END_STREAM = 1,
    END_HEADERS = 4,
};

static const char config[] =
    "server { workers 1; max-connections 10000; admin { address \"off\"; }\n"
    "limits { connections-per-client 10000; requests-per-connection 1000000000; } }\n"
    "listener \"http\" { address \"127.0.0.1:80\"; h2c true; }\n"
    "upstream \"origin\" { target \"127.0.0.2:80\"; }\n"
    "route \"all\" { upstream \"origin\"; }\n"
    "observability { access-log \"%s\"; }\n";

static const char small_request[] = "GET /1k HTTP/1.1\r\nHost: bench.test\r\n\r\n";

static const char closing_request[] =
    "GET /1k HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n";

static const char browser_request[] =
    "GET /shop/category/shoes/view?page=2&sort=price HTTP/1.1\r\n"
    "Host: www.example.com\r\nConnection: keep-alive\r\n"
    "sec-ch-ua: \"Chromium\";v=\"118\", \"Not=A?Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n"
    "sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/118.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    "Referer: https://www.example.com/shop/category\r\nAccept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-GB,en;q=0.9\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";

static const char response_head[] = "HTTP/1.1 200 OK\r\nServer: origin\r\n"
                                    "Content-Type: application/octet-stream\r\n"
                                    "Content-Length: 1024\r\n\r\n";

/* The preface, SETTINGS with windows as large as can be, and the same for the connection. */
static const uint8_t http2_greeting[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                        "\0\0\6\4\0\0\0\0\0"
                                        "\0\4\x3f\xff\xff\xff"
                                        "\0\0\4\x8\0\0\0\0\0"
                                        "\x3f\xff\0\0";

/* The first request puts authority, path and user-agent into the table, others refer to them. */
static const uint8_t http2_first[] = "\x82\x86\x41\x0a"
                                     "bench.test"
                                     "\x44\x03/1k"
                                     "\x7a\x0b"
                                     "h2load/1.52";
static const uint8_t http2_next[] = "\x82\x86\xc0\xbf\xbe";

struct end {
    struct io_socket *socket;
    struct list link; /* in `pending`, or in `closed` */
    bool readable;    /* a message waits */
    bool greeted;     /* HTTP/2: the client's end, as are the others */
    uint32_t due;     /* requests that it will send */
    uint32_t stream;  /* the last one's */
    uint32_t payload; /* bytes of the frame that comes in, still to come */
    uint32_t header;  /* bytes of the next frame's header that have come */
    uint8_t frame[FRAME_HEADER];
    uint8_t kernel[KERNEL_SIZE];
};

struct io {
    uint64_t now;
    uint64_t requests; /* answered */
    uint64_t writes;   /* calls, to clients */
    uint32_t streams;  /* of each connection, under way at a time; 0: HTTP/1 */
    bool pollutes;     /* a call takes as much of the caches as the kernel's would */
    struct list ready;
    struct list pending; /* ends that the next wait reports */
    struct list closed;
    struct io_socket *listener;
    uint32_t clients; /* still to be accepted */
    int next;
    const char *request;
    size_t request_size;
    char response[sizeof(response_head) + 1024];
    size_t response_size;
    struct end ends[SOCKETS_MAX];
};

static void queue(struct io *io, struct io_socket *socket)
{
    if (!list_is_linked(&socket->ready_link)) {
        list_push_back(&io->ready, &socket->ready_link);
    }
}

static struct end *open_end(struct io *io, struct io_socket *socket, uint8_t kind)
{
    struct list *link = list_pop_front(&io->closed);
    ASSERT(link != NULL || io->next < SOCKETS_MAX);
    struct end *end = link == NULL ? &io->ends[io->next++] : CONTAINER_OF(link, struct end, link);
    socket->fd = (int)(end - io->ends);
    socket->kind = kind;
    socket->stream = true;
    socket->ready = IO_WRITABLE;
    end->socket = socket;
    end->readable = false;
    end->greeted = false;
    end->due = io->streams;
    end->stream = (uint32_t)-1;
    end->payload = 0;
    end->header = 0;
    list_init(&end->link);
    return end;
}

/* A message for this end arrives before the next wait returns. */
static void arrive(struct io *io, struct end *end)
{
    end->readable = true;
    list_push_back(&io->pending, &end->link);
}

uint64_t io_now(const struct io *io)
{
    return io->now;
}

uint64_t io_wall(const struct io *io)
{
    return io->now + UINT64_C(1700000000000000);
}

void io_random(struct io *io, void *bytes, size_t size)
{
    memset(bytes, (int)(io->requests & 0xff), size);
}

void io_wait(struct io *io, uint64_t until)
{
    (void)until;
    io->now += 50;
    if (io->clients > 0) {
        queue(io, io->listener);
    }
    for (int i = 0; i < BATCH; i++) {
        struct list *link = list_pop_front(&io->pending);
        if (link == NULL) {
            break;
        }
        struct end *end = CONTAINER_OF(link, struct end, link);
        end->socket->ready |= IO_READABLE;
        queue(io, end->socket);
    }
}

struct io_socket *io_next_ready(struct io *io)
{
    struct list *link = list_pop_front(&io->ready);
    return link == NULL ? NULL : CONTAINER_OF(link, struct io_socket, ready_link);
}

void io_requeue(struct io *io, struct io_socket *socket)
{
    queue(io, socket);
}

void io_socket_init(struct io_socket *socket)
{
    *socket = (struct io_socket){.fd = -1};
    list_init(&socket->ready_link);
}

enum status io_listen(struct io *io, struct io_socket *socket, int fd, uint8_t kind)
{
    socket->fd = fd;
    socket->kind = kind;
    io->listener = socket;
    return OK;
}

void io_listen_pause(struct io *io, struct io_socket *listener)
{
    (void)io, (void)listener;
}

void io_listen_resume(struct io *io, struct io_socket *listener)
{
    (void)io, (void)listener;
}

enum status io_accept(struct io *io, struct io_socket *listener, struct io_socket *socket,
                      uint8_t kind, struct address *peer)
{
    (void)listener;
    if (io->clients == 0) {
        return AGAIN;
    }
    io->clients--;
    *peer = (struct address){.family = ADDRESS_IPV4, .ip = {127, 0, 0, 1}, .port = 4000};
    arrive(io, open_end(io, socket, kind));
    return OK;
}

enum status io_connect(struct io *io, struct io_socket *socket, const struct address *address,
                       uint8_t kind)
{
    (void)address;
    (void)open_end(io, socket, kind);
    return OK;
}

enum status io_connect_unix(struct io *io, struct io_socket *socket, struct span path, uint8_t kind)
{
    (void)io, (void)socket, (void)path, (void)kind;
    return ERROR;
}

uint64_t io_acknowledged(struct io *io, const struct io_socket *socket)
{
    (void)io, (void)socket;
    return 0;
}

void io_local(struct io *io, const struct io_socket *socket, struct address *address)
{
    (void)io, (void)socket;
    *address = (struct address){.family = ADDRESS_IPV4, .ip = {127, 0, 0, 1}, .port = 80};
}

enum status io_connect_result(struct io *io, struct io_socket *socket)
{
    (void)io, (void)socket;
    return OK;
}

/* Sends our own lines out of the caches, as a real call does. */
static void pollute(struct io *io, struct end *end)
{
    for (size_t i = 0; io->pollutes && i < KERNEL_SIZE; i += 64) {
        end->kernel[i]++;
    }
}

static size_t put_bytes(uint8_t *at, const uint8_t *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return size;
}

static size_t put_request(struct end *end, uint8_t *at, bool first)
{
    const uint8_t *block = first ? http2_first : http2_next;
    size_t size = (first ? sizeof(http2_first) : sizeof(http2_next)) - 1;
    end->stream += 2;
    const uint8_t header[FRAME_HEADER] = {0,
                                          0,
                                          (uint8_t)size,
                                          FRAME_HEADERS,
                                          END_STREAM | END_HEADERS,
                                          (uint8_t)(end->stream >> 24),
                                          (uint8_t)(end->stream >> 16),
                                          (uint8_t)(end->stream >> 8),
                                          (uint8_t)end->stream};
    return put_bytes(at, header, sizeof(header)) + put_bytes(at + sizeof(header), block, size);
}

/* As many requests as are due, and the greeting before the first one. */
static size_t send_requests(struct end *end, uint8_t *at, size_t size)
{
    const size_t most = FRAME_HEADER + sizeof(http2_first);
    size_t put = 0;
    if (!end->greeted) {
        ASSERT(size >= sizeof(http2_greeting));
        put = put_bytes(at, http2_greeting, sizeof(http2_greeting) - 1);
    }
    for (; end->due > 0 && size - put >= most; end->due--) {
        put += put_request(end, at + put, !end->greeted);
        end->greeted = true;
    }
    end->readable = end->due > 0;
    return put;
}

/* Counts the answers that end in these bytes. */
static uint32_t take_frames(struct end *end, const uint8_t *bytes, size_t size)
{
    uint32_t ended = 0;
    while (size > 0) {
        size_t part = end->payload < size ? end->payload : size;
        if (part == 0) {
            part = FRAME_HEADER - end->header < size ? FRAME_HEADER - end->header : size;
            memcpy(end->frame + end->header, bytes, part);
            end->header += (uint32_t)part;
            if (end->header == FRAME_HEADER) {
                const uint8_t *frame = end->frame;
                bool message = frame[3] == FRAME_DATA || frame[3] == FRAME_HEADERS;
                end->header = 0;
                end->payload = (uint32_t)frame[0] << 16 | (uint32_t)frame[1] << 8 | frame[2];
                ended += message && (frame[4] & END_STREAM) != 0 ? 1 : 0;
            }
        } else {
            end->payload -= (uint32_t)part;
        }
        bytes += part;
        size -= part;
    }
    return ended;
}

enum status io_read(struct io *io, struct io_socket *socket, void *data, size_t size, size_t *got)
{
    struct end *end = &io->ends[socket->fd];
    if ((socket->ready & IO_READABLE) == 0) {
        return AGAIN;
    }
    socket->ready &= (uint8_t)~IO_READABLE;
    if (!end->readable) {
        return AGAIN;
    }
    end->readable = false;
    pollute(io, end);
    bool client = socket->kind == CLIENT;
    if (client && io->streams > 0) {
        *got = send_requests(end, data, size);
        socket->ready |= end->readable ? IO_READABLE : 0;
        return OK;
    }
    size_t there = client ? io->request_size : io->response_size;
    ASSERT(there <= size);
    memcpy(data, client ? io->request : io->response, there);
    *got = there;
    return OK;
}

/* Listeners here take no PROXY headers. */
enum status io_peek(struct io *io, struct io_socket *socket, void *data, size_t size, size_t *got)
{
    (void)io, (void)socket, (void)data, (void)size, (void)got;
    return ERROR;
}

/* Whole messages only: the worker sends each with one call. The other side is quick to answer. */
enum status io_write(struct io *io, struct io_socket *socket, const struct iovec *pieces, int count,
                     size_t *put)
{
    struct end *end = &io->ends[socket->fd];
    bool http2 = socket->kind == CLIENT && io->streams > 0;
    uint32_t answers = 1;
    *put = 0;
    pollute(io, end);
    for (int i = 0; i < count; i++) {
        *put += pieces[i].iov_len;
    }
    if (http2) {
        answers = 0;
        for (int i = 0; i < count; i++) {
            answers += take_frames(end, pieces[i].iov_base, pieces[i].iov_len);
        }
        end->due += answers;
    }
    io->requests += socket->kind == CLIENT ? answers : 0;
    io->writes += socket->kind == CLIENT ? 1 : 0;
    if (answers > 0 && !list_is_linked(&end->link)) {
        arrive(io, end);
    }
    return OK;
}

enum status io_pipe_open(struct io *io, struct io_pipe *pipe)
{
    (void)io, (void)pipe;
    return ERROR;
}

void io_pipe_close(struct io *io, struct io_pipe *pipe)
{
    (void)io, (void)pipe;
}

enum status io_splice_in(struct io *io, struct io_socket *socket, struct io_pipe *pipe, size_t max,
                         size_t *got)
{
    (void)io, (void)socket, (void)pipe, (void)max, (void)got;
    return ERROR;
}

enum status io_splice_out(struct io *io, struct io_socket *socket, struct io_pipe *pipe,
                          size_t *put)
{
    (void)io, (void)socket, (void)pipe, (void)put;
    return ERROR;
}

void io_shutdown(struct io *io, struct io_socket *socket)
{
    (void)io, (void)socket;
}

void io_close(struct io *io, struct io_socket *socket)
{
    if (socket->fd >= 0 && socket->fd < SOCKETS_MAX) {
        struct end *end = &io->ends[socket->fd];
        list_unlink(&end->link);
        list_push_back(&io->closed, &end->link);
        io->clients += socket->kind == CLIENT ? 1 : 0; /* who went comes again */
    }
    list_unlink(&socket->ready_link);
    socket->fd = -1;
}

void io_reset(struct io *io, struct io_socket *socket)
{
    io_close(io, socket);
}

static void *zeroed(size_t size)
{
    void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
    ASSERT(memory != NULL);
    memset(memory, 0, size);
    return memory;
}

/* Everything that a worker borrows. */
struct bench {
    struct io io;
    struct generation generation;
    struct metrics metrics;
    struct access_log log;
    struct flight_recorder flight;
    struct health_view health;
    struct ring_reader reader;
    bool logging;
    _Atomic uint64_t cursor;
    struct worker *worker;
};

static void compile(struct bench *bench, bool log)
{
    char *text = NULL;
    struct diagnostics *diagnostics = zeroed(sizeof(*diagnostics));
    struct arena arena;
    struct arena notes;
    struct span block = SPAN_EMPTY;
    int size = asprintf(&text, config, log ? "stdout" : "off");
    ASSERT(size > 0);
    arena_init(&arena, zeroed(ARENA_SIZE), ARENA_SIZE);
    arena_init(&notes, zeroed(65536), 65536);
    diagnostics_init(diagnostics, &notes);
    struct environment environment = {.cores = 1};
    struct compile_input input = {SPAN("bench.kdl"), span_of(text, (size_t)size), &environment};
    if (compile_text(&input, diagnostics, &arena, &block) != OK) {
        diagnostics_print(diagnostics, stderr);
        exit(1);
    }
    bool opened = generation_open(&bench->generation, block);
    ASSERT(opened);
    free(diagnostics);
    free(text);
}

static void begin(struct bench *bench, bool log, uint32_t clients, uint32_t streams,
                  const char *request)
{
    static const int listener = LISTENER;
    struct io *io = &bench->io;
    compile(bench, log);
    *io = (struct io){.now = 1000000, .clients = clients, .request = request};
    io->streams = streams;
    io->pollutes = getenv("POLLUTE") != NULL;
    io->request_size = strlen(request);
    io->response_size = sizeof(response_head) - 1 + 1024;
    memset(io->response, 'x', sizeof(io->response));
    memcpy(io->response, response_head, sizeof(response_head) - 1);
    list_init(&io->ready);
    list_init(&io->pending);
    list_init(&io->closed);
    const struct generation *generation = &bench->generation;
    void *ring = log ? zeroed(access_log_size(generation)) : NULL;
    void *flight = zeroed(flight_size(PROCESS_WORKER, generation));
    metrics_init(&bench->metrics, zeroed(metrics_size(generation)), generation);
    bool recording =
        flight_recorder_init(&bench->flight, flight, PROCESS_WORKER, generation, io->now);
    ASSERT(recording);
    access_log_init(&bench->log, ring, 0, &bench->metrics, generation);
    bench->logging = log;
    if (log) {
        ring_reader_init(&bench->reader, ring, RING_CAPACITY_DEFAULT, &bench->cursor);
        access_log_attach(&bench->log, &bench->cursor);
    }
    const struct worker_options options = {
        .io = io,
        .generation = generation,
        .listeners = &listener,
        .metrics = &bench->metrics,
        .access_log = &bench->log,
        .flight = &bench->flight,
        .health = &bench->health,
        .board = zeroed(client_board_size(generation)),
        .commons = zeroed(commons_size(generation)),
    };
    bench->worker = worker_create(&options);
    ASSERT(bench->worker != NULL);
}

/* What the logger would do: the ring never fills. */
static void read_log(struct bench *bench)
{
    struct span record;
    if (!bench->logging) {
        return;
    }
    while (ring_read(&bench->reader, &record) == OK) {
    }
    ring_release(&bench->reader);
}

static uint64_t cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

static double run(struct bench *bench, uint64_t requests)
{
    void (*volatile turn)(struct worker *) = worker_turn; /* a function of its own to callgrind */
    uint64_t until = bench->io.requests + requests;
    uint64_t before = cpu_ns();
    while (bench->io.requests < until) {
        turn(bench->worker);
        read_log(bench);
    }
    return (double)(cpu_ns() - before) / (double)requests;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return left < right ? -1 : left > right;
}

/* One line; in a process of its own would be cleaner, but the memory is only leaked here. */
static void measure(const char *name, bool log, uint32_t clients, uint32_t streams,
                    const char *request, uint64_t requests)
{
    struct bench *bench = zeroed(sizeof(*bench));
    double samples[ROUNDS];
    begin(bench, log, clients, streams, request);
    (void)run(bench, requests / 4);
    bench->io.writes = 0;
    for (int i = 0; i < ROUNDS; i++) {
        samples[i] = run(bench, requests);
    }
    qsort(samples, ROUNDS, sizeof(samples[0]), compare);
    printf("%-32s %5u connections  %6.0f ns (%.0f to %.0f), %.3f writes\n", name, clients,
           samples[ROUNDS / 2], samples[0], samples[ROUNDS - 1],
           (double)bench->io.writes / (double)(requests * ROUNDS));
}

int main(int count, char **arguments)
{
    uint64_t requests = count > 1 ? strtoull(arguments[1], NULL, 10) : 100000;
    uint32_t only = count > 2 ? (uint32_t)strtoul(arguments[2], NULL, 10) : 0;
    const char *mode = count > 3 ? arguments[3] : "keep";
    bool closing = strcmp(mode, "close") == 0; /* a connection for each request */
    bool logging = strcmp(mode, "log") == 0;
    if (strcmp(mode, "h2") == 0) { /* N CONNECTIONS h2 STREAMS */
        uint32_t streams = count > 4 ? (uint32_t)strtoul(arguments[4], NULL, 10) : 1;
        measure("HTTP/2", false, only, streams, small_request, requests);
        return 0;
    }
    static const uint32_t clients[] = {1, 64, 512, 4000};
    for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++) {
        if (closing && only == clients[i]) {
            measure("a connection each", false, clients[i], 0, closing_request, requests);
        } else if (only == 0 || only == clients[i]) {
            measure("small request", logging, clients[i], 0, small_request, requests);
        }
    }
    if (only == 0) {
        measure("browser's request", false, 64, 0, browser_request, requests);
        measure("small request, access log", true, 64, 0, small_request, requests);
        measure("a connection each", false, 64, 0, closing_request, requests);
    }
    return 0;
}
