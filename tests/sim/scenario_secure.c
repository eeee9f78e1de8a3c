/* The scenarios of TLS. */
#include "secure.h"
#include "tuning.h"

/* A listener of TLS, with clients of HTTP/1, of HTTP/2 or of both. */
static void secure_base(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    if (sim_chance(prng, 500)) {
        tune_multi_base(prng, habits, options);
    } else {
        tune_base(prng, habits);
        tune_rough_network(prng, options);
    }
    habits->clients = (uint32_t)sim_between(prng, 2, 10);
    habits->request_body_max = habits->response_max = sim_magnitude(prng, 256, 64 * 1024);
    bool http2 = habits->multi.clients > 0;
    uint8_t both = 1U << SECURE_HTTP1 | 1U << SECURE_HTTP2;
    habits->secure = (struct secure_habits){
        .on = true,
        .has_default = sim_chance(prng, 500),
        .protocols = http2 || sim_chance(prng, 300) ? both : 1U << SECURE_HTTP1,
        .handshakes = 256,
        .bad = 300,
    };
}

enum { FEW_STREAMS = 16 };

/* Clients that keep to the rules of TLS, or break them so that it is clear what comes of it. */
void tune_secure(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    secure_base(prng, habits, options);
    options->delay_max = sim_magnitude(prng, 100, 5 * MILLISECOND);
    options->buffer_min = (uint32_t)sim_magnitude(prng, 64, 64 * 1024);
    habits->http10 = 0; /* a body until close is whole with its GOODBYE, which a full socket eats */
    if (habits->multi.streams_max < FEW_STREAMS) { /* then a new one may come too early */
        habits->multi.streams_max = FEW_STREAMS;
    }
    habits->timeout = 600 * SECOND;
    habits->half_closes = 200;
    habits->strict = true;
}

/* Everything goes wrong, in handshakes and behind them. */
void tune_secure_rough(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    secure_base(prng, habits, options);
    habits->workers = (uint32_t)sim_between(prng, 1, 2);
    habits->drains = sim_chance(prng, 300);
    habits->aborts = 200;
    habits->half_closes = 200;
    habits->slow_reader = habits->slow_sender = habits->origin_slow = 100;
    habits->silent = 50;
    habits->hostile = 100;
    habits->origin_early = habits->origin_truncates = 100;
    habits->origin_fails = habits->origin_silent = 30;
    habits->origin_closes = 300;
    habits->pipeline = (uint32_t)sim_between(prng, 1, 3);
    habits->secure.ends = 300;
    habits->secure.drips = 200;
    if (sim_chance(prng, 200)) {
        habits->hosts = (uint32_t)sim_between(prng, 1, 6);
        habits->proxied =
            (struct proxied_habits){.on = true, .bad = 100, .nobody = 100, .drips = 300};
    }
    tune_broken_connections(options, 100, 30);
    options->accept_error = 20;
    options->slow_link = 50;
}

/* More clients than there is room for: among handshakes, connections, or both. */
void tune_secure_crowd(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    secure_base(prng, habits, options);
    habits->clients = (uint32_t)sim_between(prng, 10, CLIENTS_MAX);
    habits->request_body_max = habits->response_max = sim_magnitude(prng, 256, 8 * 1024);
    habits->workers = (uint32_t)sim_between(prng, 1, 3);
    habits->kills = habits->workers > 1 && sim_chance(prng, 300);
    habits->drains = !habits->kills && sim_chance(prng, 300);
    habits->http10 = 0; /* a killed worker's FIN would end a body until close */
    habits->connections_max = (uint32_t)sim_between(prng, 4, 60);
    habits->buffer_pool = sim_chance(prng, 500) ? 256 * 1024 : habits->buffer_pool;
    habits->slow_reader = habits->slow_sender = habits->origin_slow = 100;
    habits->silent = 100;
    habits->secure.handshakes = (uint32_t)sim_between(prng, 1, 8);
    habits->secure.bad = 500;
    habits->secure.drips = 400;
}

void tune_secure_tunnels(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_tunnels(prng, habits, options);
    habits->secure = (struct secure_habits){.on = true,
                                            .has_default = sim_chance(prng, 500),
                                            .protocols = 1U << SECURE_HTTP1,
                                            .handshakes = 256,
                                            .bad = 200};
}
