/*
 * The way from the first byte of a connection to its protocol, with hostile clients: raw bytes, and
 * real handshakes whose names, protocols and versions are the input's, cut into pieces of any size,
 * with bits turned over and ends anywhere, several of them at once over real sockets. Whatever
 * comes, every connection ends or opens, what is open is what was agreed on, and nothing is left of
 * any of them.
 *
 * Input: commands of one byte, each followed by what it wants (see `command`).
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/assert.h"
#include "http/opening.h"
#include "io/io_epoll.h"
#include "net/ticket_keys.h"
#include "net/tls_certificates_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    PEERS = 4,
    SERVERS = 3,
    ROOM = 2, /* fewer than there are peers: some wait in line */
    READY_MAX = 64,
    COMMANDS_MAX = 400,
    INPUT_MAX = 1 << 15,
    SCRATCH = 64 * 1024,
    HEAP = 64 * 1024 * 1024,
};

/* A client, and our end of its connection. */
struct peer {
    struct opening opening; /* where sessions of all protocols begin */
    struct tls_server *server;
    int fd;     /* the client's end; -1: closed */
    SSL *ssl;   /* NULL: it sends raw bytes */
    bool lives; /* our end has not said CLOSED */
};

struct world {
    struct io *io;
    struct io_socket listener;
    struct sockaddr_un address;
    socklen_t address_size;
    struct timer_wheel wheel;
    struct tls_engine *engine;
    struct tls_server *servers[SERVERS];
    struct ticket_keys *keys;
    struct made authority, a, b, user, stranger;
    SSL_CTX *clients;
    SSL_SESSION *session; /* the last one that a client was given */
    struct session_context context;
    struct peer peers[PEERS];
    struct span input;
};

static struct world *the_world; /* a callback of OpenSSL's knows no owner */

static uint8_t take(struct world *world)
{
    if (world->input.size == 0) {
        return 0;
    }
    uint8_t byte = world->input.data[0];
    world->input = span_from(world->input, 1);
    return byte;
}

static struct span take_bytes(struct world *world, size_t max)
{
    size_t size = max < world->input.size ? max : world->input.size;
    struct span bytes = span_first(world->input, size);
    world->input = span_from(world->input, size);
    return bytes;
}

/* ---- Clients ---- */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(the_world->session);
    the_world->session = session;
    return 1;
}

/* A real client, of which the input says what it asks for. */
static SSL *make_client(struct world *world)
{
    static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION, TLS1_VERSION, 0};
    uint8_t shape = take(world);
    char name[256];
    SSL *ssl = SSL_new(world->clients);
    ASSERT(ssl != NULL);
    struct span wanted = take_bytes(world, take(world));
    size_t size = span_find(wanted, 0);
    memcpy(name, wanted.data, size);
    name[size] = '\0';
    (void)SSL_set_tlsext_host_name(ssl, name); /* a name that is none is left out */
    struct span protocols = take_bytes(world, take(world) % 64);
    (void)SSL_set_alpn_protos(ssl, protocols.data, (unsigned)protocols.size);
    (void)SSL_set_max_proto_version(ssl, VERSIONS[shape & 3]);
    if ((shape & 4) != 0) {
        const struct made *shown = (shape & 8) != 0 ? &world->user : &world->stranger;
        bool used = SSL_use_certificate(ssl, shown->certificate) == 1 &&
                    SSL_use_PrivateKey(ssl, shown->key) == 1;
        ASSERT(used);
    }
    if ((shape & 16) != 0 && world->session != NULL) {
        (void)SSL_set_session(ssl, world->session);
    }
    if ((shape & 32) != 0) {
        (void)SSL_set1_groups_list(ssl, "P-384"); /* our answer is a HelloRetryRequest */
    }
    if ((shape & 64) != 0) {
        (void)SSL_set_tlsext_status_type(ssl, TLSEXT_STATUSTYPE_ocsp);
    }
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl);
    ERR_clear_error();
    return ssl;
}

static void open_peer(struct world *world, struct peer *peer)
{
    struct session *session = &peer->opening.session;
    struct address address;
    uint8_t kind = take(world);
    peer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ASSERT(peer->fd >= 0);
    int failed = connect(peer->fd, (const struct sockaddr *)&world->address, world->address_size);
    ASSERT(failed == 0);
    peer->ssl = (kind & 1) != 0 ? make_client(world) : NULL;
    peer->server = world->servers[(kind >> 1) % SERVERS];
    session_init(session, &world->context, 1);
    enum status status =
        io_accept(world->io, &world->listener, &session->transport.socket, 3, &address);
    while (status == AGAIN) { /* the listener's readiness has not been looked at */
        io_wait(world->io, io_now(world->io));
        status = io_accept(world->io, &world->listener, &session->transport.socket, 3, &address);
    }
    ASSERT(status == OK);
    peer->lives = true;
    opening_start(session, peer->server);
}

static void leave(struct peer *peer)
{
    SSL_free(peer->ssl);
    peer->ssl = NULL;
    if (peer->fd >= 0) {
        close(peer->fd);
    }
    peer->fd = -1;
}

/* Whatever a socket that is full does not take is lost: nobody promised to be a good client. */
static void send_bytes(const struct peer *peer, const void *bytes, size_t size)
{
    if (peer->fd >= 0 && size > 0) {
        (void)!send(peer->fd, bytes, size, MSG_NOSIGNAL);
    }
}

/* The client reads what has come and takes its next step; so many bytes of that are sent. */
static void step_client(struct world *world, struct peer *peer)
{
    uint8_t bytes[4096];
    uint8_t shape = take(world);
    size_t piece = (shape & 1) != 0 ? sizeof(bytes) : take(world);
    ssize_t got = peer->fd < 0 ? 0 : recv(peer->fd, bytes, sizeof(bytes), 0);
    if (peer->ssl == NULL) {
        return;
    }
    if (got > 0) {
        (void)BIO_write(SSL_get_rbio(peer->ssl), bytes, (int)got);
    }
    if (SSL_do_handshake(peer->ssl) == 1) {
        (void)SSL_read(peer->ssl, bytes, sizeof(bytes)); /* a ticket may stand there */
        if ((shape & 2) != 0) {
            (void)SSL_write(peer->ssl, "GET / HTTP/1.1\r\n\r\n", 18);
        }
        if ((shape & 4) != 0) {
            (void)SSL_key_update(peer->ssl, SSL_KEY_UPDATE_REQUESTED);
        }
        if ((shape & 8) != 0) {
            (void)SSL_shutdown(peer->ssl);
        }
    }
    ERR_clear_error();
    int size = piece == 0 ? 0 : BIO_read(SSL_get_wbio(peer->ssl), bytes, (int)piece);
    if (size > 0 && (shape & 16) != 0) {
        bytes[take(world) % (size_t)size] ^= (uint8_t)(1U << (take(world) & 7));
    }
    send_bytes(peer, bytes, size > 0 ? (size_t)size : 0);
}

/* ---- Our side ---- */

/* Of a connection that is open: what is said of it holds together. */
static void judge(struct world *world, const struct peer *peer)
{
    const struct opening *opening = &peer->opening;
    const struct transport *transport = &opening->session.transport;
    struct tls_info info;
    if (opening->refusal != REASON_NONE) {
        ASSERT(opening->refusal == REASON_TLS_PLAIN_HTTP && !tls_is_on(transport));
        return;
    }
    tls_describe(transport, &info);
    const struct tls_certificate *shown = tls_client_certificate(transport);
    ASSERT(opening->alpn == info.alpn);
    ASSERT((shown != NULL) == info.peer_verified);
    ASSERT(info.version.size > 0 && info.cipher.size > 0);
    if (shown != NULL) {
        ASSERT(span_equal(shown->subject, SPAN("CN=user")) && shown->fingerprint.size == 64);
        ASSERT(peer->server != world->servers[2]);
    }
    if (peer->server == world->servers[1]) {
        ASSERT(shown != NULL && info.alpn != TLS_ALPN_HTTP2);
        ASSERT(tls_serves_host(transport, SPAN("a.test")) !=
               tls_serves_host(transport, SPAN("x.b.test")));
    }
    if (info.server_name.size > 0) {
        ASSERT(tls_serves_host(transport, info.server_name));
    }
}

/* Goes on as a protocol would: reads, answers, closes. */
static void use(struct world *world, struct peer *peer)
{
    struct transport *transport = &peer->opening.session.transport;
    size_t got = 0;
    judge(world, peer);
    if (transport->ops->read(transport, world->context.scratch, SCRATCH, &got) == OK) {
        struct iovec piece = {world->context.scratch, got};
        (void)transport->ops->write(transport, &piece, 1, &got);
    }
    timer_cancel(world->context.wheel, &peer->opening.session.timer);
    transport->ops->close(transport);
    peer->lives = false;
}

static void take_events(struct world *world, struct peer *peer)
{
    struct session *session = &peer->opening.session;
    struct stream *stream = NULL;
    enum session_event event = SESSION_EVENT_NONE;
    while (peer->lives &&
           (event = session->ops->next_event(session, &stream)) != SESSION_EVENT_NONE) {
        if (event == SESSION_EVENT_OPEN) {
            use(world, peer);
        } else {
            ASSERT(event == SESSION_EVENT_CLOSED && session->step == SESSION_CLOSED);
            peer->lives = false;
        }
    }
}

static void turn(struct world *world)
{
    io_wait(world->io, io_now(world->io));
    openings_turn(&world->context);
    for (int i = 0; i < READY_MAX; i++) {
        struct io_socket *socket = io_next_ready(world->io);
        if (socket == NULL) {
            return;
        }
        for (int j = 0; j < PEERS; j++) {
            struct peer *peer = &world->peers[j];
            struct session *session = &peer->opening.session;
            if (peer->lives && socket == &session->transport.socket) {
                session->ops->run(session);
                take_events(world, peer);
            }
        }
        ASSERT(world->context.openings.open <= ROOM);
    }
}

static void end_peer(struct world *world, struct peer *peer)
{
    struct session *session = &peer->opening.session;
    if (peer->lives) {
        session->ops->kill(session);
        take_events(world, peer);
        ASSERT(!peer->lives);
    }
    leave(peer);
}

static void command(struct world *world)
{
    uint8_t what = take(world);
    struct peer *peer = &world->peers[(what >> 3) % PEERS];
    struct session *session = &peer->opening.session;
    switch (what & 7) {
    case 0:
        end_peer(world, peer);
        open_peer(world, peer);
        break;
    case 1: {
        struct span bytes = take_bytes(world, take(world));
        send_bytes(peer, bytes.data, bytes.size);
        break;
    }
    case 2:
        leave(peer);
        break;
    case 3:
        if (peer->lives && session->timer.deadline != UINT64_MAX) {
            session->ops->expire(session);
            take_events(world, peer);
        }
        break;
    case 4:
        world->context.openings.short_of_memory = (what & 128) != 0;
        break;
    case 5:
        if (peer->fd >= 0) {
            (void)shutdown(peer->fd, SHUT_WR);
        }
        break;
    default:
        step_client(world, peer);
        turn(world);
        break;
    }
}

/* ---- What all inputs share ---- */

static struct tls_server *make_server(struct world *world, struct tls_server_settings settings)
{
    char error[TLS_ERROR_MAX];
    settings.version_max = TLS_1_3;
    settings.tickets = true;
    settings.client_ca_pem = settings.client_auth == TLS_CLIENT_AUTH_OFF
                                 ? SPAN_EMPTY
                                 : span_of_string(world->authority.chain_pem);
    struct tls_server *server = tls_server_create(world->engine, &settings, error);
    ASSERT(server != NULL);
    return server;
}

static void make_servers(struct world *world)
{
    static const long VALID[2] = {-3600, 400L * 24 * 3600};
    made_make(&world->authority, "authority", NULL, NULL, "EC", VALID);
    made_make(&world->a, "a", "DNS:a.test", &world->authority, "EC", VALID);
    made_make(&world->b, "b", "DNS:b.test,DNS:*.b.test", &world->authority, "RSA", VALID);
    made_make(&world->user, "user", "email:user@a.test", &world->authority, "EC", VALID);
    made_make(&world->stranger, "stranger", "DNS:x.test", NULL, "EC", VALID);
    world->a.identity.ocsp_der = SPAN("not looked at by who staples it");
    world->a.identity.ocsp_until = UINT64_MAX;
    const struct tls_identity both[2] = {world->a.identity, world->b.identity};
    const struct tls_host hosts[] = {
        {.pattern = SPAN("a.test"), .identities = both, .count = 2},
        {.pattern = SPAN(".b.test"), .identities = &world->b.identity, .count = 1},
        {.pattern = SPAN("b.test"), .identities = &world->b.identity, .count = 1},
    };
    world->servers[0] =
        make_server(world, (struct tls_server_settings){.fallback = &hosts[0],
                                                        .hosts = hosts,
                                                        .host_count = 3,
                                                        .client_auth = TLS_CLIENT_AUTH_OPTIONAL,
                                                        .alpn = {TLS_ALPN_HTTP2, TLS_ALPN_HTTP1}});
    world->servers[1] =
        make_server(world, (struct tls_server_settings){.hosts = hosts,
                                                        .host_count = 2,
                                                        .client_auth = TLS_CLIENT_AUTH_REQUIRED,
                                                        .alpn = {TLS_ALPN_HTTP1, TLS_ALPN_NONE}});
    world->servers[2] = make_server(world, (struct tls_server_settings){.fallback = &hosts[1]});
}

static void listen_somewhere(struct world *world)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    world->address = (struct sockaddr_un){.sun_family = AF_UNIX};
    world->address_size = sizeof(world->address);
    /* An abstract name of the kernel's choice. */
    bool listens = fd >= 0 &&
                   bind(fd, (const struct sockaddr *)&world->address, sizeof(sa_family_t)) == 0 &&
                   listen(fd, PEERS) == 0 &&
                   getsockname(fd, (struct sockaddr *)&world->address, &world->address_size) == 0;
    ASSERT(listens);
    io_socket_init(&world->listener);
    enum status status = io_listen(world->io, &world->listener, fd, 2);
    ASSERT(status == OK);
}

static void make_keys(struct world *world)
{
    uint8_t random[TICKET_KEY_ID_SIZE + TICKET_KEY_SECRET_SIZE];
    struct ticket_key key;
    world->keys = calloc(1, ticket_keys_size());
    ASSERT(world->keys != NULL);
    io_random(world->io, random, sizeof(random));
    bool made = ticket_key_init(&key, random, io_now(world->io));
    ASSERT(made);
    ticket_keys_rotate(world->keys, &key);
    tls_engine_set_ticket_keys(world->engine, world->keys);
}

static struct world *make_world(void)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct world *world = calloc(1, sizeof(*world));
    ASSERT(world != NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL); /* as in every process of ours */
    world->io = io_epoll_create();
    world->engine = tls_engine_create(PEERS, HEAP);
    ASSERT(world->io != NULL && world->engine != NULL);
    timer_wheel_init(&world->wheel, io_now(world->io));
    listen_somewhere(world);
    make_servers(world);
    make_keys(world);
    world->clients = SSL_CTX_new(TLS_client_method());
    ASSERT(world->clients != NULL);
    SSL_CTX_set_security_level(world->clients, 0);
    SSL_CTX_set_session_cache_mode(world->clients,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(world->clients, on_session);
    world->context = (struct session_context){
        .io = world->io,
        .wheel = &world->wheel,
        .scratch = malloc(SCRATCH),
        .scratch_size = SCRATCH,
        .limits = {.tls_handshake_timeout = 1000000},
    };
    ASSERT(world->context.scratch != NULL);
    return world;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (the_world == NULL) {
        the_world = make_world();
    }
    struct world *world = the_world;
    if (size > INPUT_MAX) {
        return 0;
    }
    uint8_t *copy = malloc(size); /* exact, so that a read past the end is seen */
    ASSERT(size == 0 || copy != NULL);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    world->input = span_of(copy, size);
    openings_init(&world->context.openings);
    world->context.openings.room = ROOM;
    for (int i = 0; i < PEERS; i++) {
        world->peers[i] = (struct peer){.fd = -1};
    }
    for (int i = 0; i < COMMANDS_MAX && world->input.size > 0; i++) {
        command(world);
    }
    turn(world);
    for (int i = 0; i < PEERS; i++) {
        end_peer(world, &world->peers[i]);
    }
    SSL_SESSION_free(world->session);
    world->session = NULL;
    ERR_clear_error();
    free(copy);
    ASSERT(world->context.openings.open == 0);
    ASSERT(list_is_empty(&world->context.openings.waiters));
    ASSERT(tls_engine_connections(world->engine) == 0 && world->wheel.count == 0);
    return 0;
}
