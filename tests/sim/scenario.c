/* The scenarios: each turns a seed into a world. */
#include "balancer.h"
#include "seam.h"
#include "tuning.h"

/* Requests of one client that its origins can be slow to end: all that it ever makes. */
enum { LINGERING_MAX = 24 };

/* A well-behaved world of random size; what every scenario starts from. */
void tune_base(struct prng *prng, struct habits *habits)
{
    *habits = (struct habits){
        .clients = (uint32_t)sim_between(prng, 2, 8),
        .connections = 3,
        .requests = 6,
        .pipeline = 1,
        .request_body_max = sim_magnitude(prng, 1024, 1024 * 1024),
        .bodies = 400,
        .heads = 150,
        .chunked = 500,
        .expects = 200,
        .http10 = 100,
        .origins = (uint32_t)sim_between(prng, 1, 3),
        .response_max = sim_magnitude(prng, 1024, 1024 * 1024),
        .origin_interim = 100,
        .origin_closes = 100,
        .workers = 1,
        .connections_max = 1000,
        .connections_per_client = 256,
        .requests_max = 512,
        .upstream_connections_max = 64,
        .buffer_pool = 4 * 1024 * 1024,
        .splice_pipes = (uint32_t)sim_between(prng, 0, 8),
        .hold_pool = 256 * 1024,
        .timeout = 30 * SECOND,
        .attempts = 2,
    };
    /* A route that buffers is no scenario of its own: whatever goes wrong goes wrong there, too. */
    if (sim_chance(prng, 400)) {
        habits->hold_request = sim_chance(prng, 700) ? sim_magnitude(prng, 1, 512 * 1024) : 0;
        habits->hold_response = sim_chance(prng, 700) ? sim_magnitude(prng, 1, 512 * 1024) : 0;
        habits->hold_pool = sim_magnitude(prng, 256 * 1024, 4 * 1024 * 1024);
    }
}

void tune_rough_network(struct prng *prng, struct sim_options *options)
{
    options->delay_max = sim_magnitude(prng, 100, 50 * MILLISECOND);
    options->buffer_min = (uint32_t)sim_magnitude(prng, 1, 64 * 1024);
    options->segment_min = (uint32_t)sim_magnitude(prng, 1, 16 * 1024);
    options->short_write = prng_below(prng, 300);
    options->short_splice = prng_below(prng, 500);
    options->late_writable = prng_below(prng, 300);
    options->spurious = prng_below(prng, 100);
    options->fin_alone = 500;
    options->connect_instant = 200;
    options->clock_jump = 200;
}

/* Some connections are reset or come to a standstill, out of 1,000, and a call fails now and then.
 */
void tune_broken_connections(struct sim_options *options, uint32_t reset, uint32_t stall)
{
    options->reset = reset;
    options->stall = stall;
    options->call_error = 1;
}

/* What an origin writes at once arrives at once. */
static void keep_writes_whole(struct habits *habits, struct sim_options *options)
{
    options->buffer_min = options->buffer_max;
    options->segment_min = options->buffer_max;
    options->split = options->short_write = options->fin_alone = 0;
    habits->response_max = 8192;
    habits->extra_responses = true;
}

/* Clients and origins without a proxy: the actors prove each other. */
static void tune_direct(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->workers = 0;
    habits->http10 = 0;
    habits->aborts = 100;
    habits->slow_reader = 100;
    habits->slow_sender = 100;
    habits->half_closes = 200;
    habits->origin_fails = habits->origin_truncates = 50;
    habits->origin_slow = 100;
    tune_broken_connections(options, 50, 20);
}

static void tune_happy(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    habits->strict = true;
    options->buffer_min = (uint32_t)sim_magnitude(prng, 2048, 64 * 1024);
    options->segment_min = (uint32_t)sim_magnitude(prng, 512, 16 * 1024);
    options->short_write = prng_below(prng, 200);
}

static void tune_pipelining(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    options->delay_max = sim_magnitude(prng, 100, 5 * MILLISECOND);
    habits->requests = REQUESTS_MAX;
    habits->pipeline = (uint32_t)sim_between(prng, 2, REQUESTS_MAX);
    habits->half_closes = 400;
    habits->http10 = 0;
    habits->timeout = 600 * SECOND;
    habits->strict = true; /* rough, but nothing is lost */
}

static void tune_slow_peers(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->slow_sender = habits->slow_reader = 400;
    habits->origin_slow = 400;
    habits->silent = 100;
    habits->origin_silent = 50;
    habits->request_body_max = sim_magnitude(prng, 256, 64 * 1024);
    habits->response_max = sim_magnitude(prng, 256, 64 * 1024);
    options->slow_link = 300;
}

static void tune_aborts(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->aborts = 600;
    habits->half_closes = 300;
    habits->pipeline = (uint32_t)sim_between(prng, 1, 3);
    habits->slow_reader = habits->slow_sender = 200;
    habits->origin_slow = 300;
    habits->origin_early = 100;
}

static void tune_hostile_client(struct prng *prng, struct habits *habits,
                                struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->connections = 6;
    habits->requests = 2;
    habits->hostile = 800;
    habits->noise = 150;
    habits->silent = 100;
    habits->aborts = 50;
    habits->request_body_max = habits->response_max = 8192;
}

static void tune_hostile_origin(struct prng *prng, struct habits *habits,
                                struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    if (sim_chance(prng, 300)) {
        keep_writes_whole(habits, options);
    }
    habits->origin_fails = 120;
    habits->origin_truncates = 150;
    habits->origin_malformed = 120;
    habits->origin_extra = 120;
    habits->origin_silent = 20;
    habits->origin_early = 200;
    habits->origin_interim = 300;
    habits->origin_slow = habits->extra_responses ? 0 : 100;
    habits->origin_closes = 300;
    habits->origin_stale = 300;
    habits->timeout = sim_between(prng, 1, 30) * SECOND;
    habits->attempts = (uint32_t)sim_between(prng, 1, 4);
}

static void tune_faulty_network(struct prng *prng, struct habits *habits,
                                struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->origins = (uint32_t)sim_between(prng, 1, 4);
    habits->origin_refuses = 200;
    habits->attempts = (uint32_t)sim_between(prng, 1, 4);
    habits->pipeline = (uint32_t)sim_between(prng, 1, 4);
    tune_broken_connections(options, 100, 50);
    options->connect_error = 50;
    options->connect_refused = 100;
    options->connect_blackhole = 50;
    options->accept_error = 100;
    options->slow_link = 100;
}

static void tune_overload(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->clients = (uint32_t)sim_between(prng, 8, 32);
    habits->connections_max = (uint32_t)sim_magnitude(prng, 2, 16);
    habits->connections_per_client = (uint32_t)sim_between(prng, 1, 4);
    habits->requests_max = (uint32_t)sim_between(prng, 1, 8);
    habits->upstream_connections_max = (uint32_t)sim_between(prng, 1, 3);
    habits->buffer_pool = 1024 * 1024;
    habits->response_max = habits->request_body_max = sim_magnitude(prng, 256, 64 * 1024);
    habits->origin_slow = 300;
    habits->aborts = 100;
    options->backlog = (uint32_t)sim_magnitude(prng, 1, 16);
}

static void tune_drain(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->drains = true;
    habits->workers = (uint32_t)sim_between(prng, 1, 2);
    habits->slow_reader = habits->slow_sender = habits->origin_slow = 200;
    habits->origin_silent = 30;
}

static void tune_stale_pool(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->connections = 6;
    habits->requests = 3;
    habits->origin_stale = 800;
    habits->origin_closes = 0;
    habits->request_body_max = habits->response_max = 16 * 1024;
    habits->strict_safe = sim_chance(prng, 500);
    habits->origin_fails = habits->strict_safe ? 0 : 200;
}

static void tune_workers(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->workers = (uint32_t)sim_between(prng, 2, WORKERS_MAX);
    habits->clients = (uint32_t)sim_between(prng, 6, 16);
    habits->http10 = 0; /* a killed worker's FIN would end a body until close */
    habits->kills = sim_chance(prng, 500);
    habits->aborts = 50;
    habits->connections_max = (uint32_t)sim_between(prng, 8, 64);
}

/* Limits that bind, counted by several workers together. */
static void tune_shared_limits(struct prng *prng, struct habits *habits,
                               struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->workers = (uint32_t)sim_between(prng, 2, WORKERS_MAX);
    habits->clients = (uint32_t)sim_between(prng, 8, 32);
    habits->hosts = (uint32_t)sim_between(prng, 1, 6);
    habits->connections = 6;
    habits->connections_max = (uint32_t)sim_between(prng, 2, 16);
    habits->connections_per_client = (uint32_t)sim_between(prng, 1, 8);
    habits->requests_max = (uint32_t)sim_between(prng, habits->workers, 12);
    habits->response_max = habits->request_body_max = sim_magnitude(prng, 256, 16 * 1024);
    habits->http10 = 0; /* a killed worker's FIN would end a body until close */
    habits->kills = sim_chance(prng, 300);
    habits->slow_sender = habits->origin_slow = 200;
    habits->aborts = 200;
    options->reset = 50;
    options->accept_error = prng_below(prng, 100);
}

/*
 * Bounds that are always near, and clients that stand still: idle, in a head, in a body, before a
 * response.
 */
static void tune_shedding(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->workers = (uint32_t)sim_between(prng, 1, WORKERS_MAX);
    habits->clients = (uint32_t)sim_between(prng, 12, 32);
    habits->connections = 5;
    habits->connections_max = (uint32_t)sim_between(prng, 6, 40);
    habits->requests_max = (uint32_t)sim_between(prng, habits->workers, 40);
    habits->buffer_pool = 256 * 1024;
    habits->response_max = habits->request_body_max = sim_magnitude(prng, 1024, 256 * 1024);
    habits->silent = habits->slow_sender = 200;
    habits->slow_reader = sim_chance(prng, 500) ? 200 : 900;
    habits->origin_slow = 200;
    habits->aborts = 50;
    habits->http10 = 0; /* a killed worker's FIN would end a body until close */
    habits->kills = sim_chance(prng, 200);
    options->slow_link = 200;
}

/* Tunnels beside requests, in workers that may drain or die. */
void tune_tunnels(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    habits->tunnels = true;
    habits->clients = (uint32_t)sim_between(prng, 1, 4);
    habits->workers = (uint32_t)sim_between(prng, 1, 2);
    habits->http10 = 0; /* a killed worker's FIN would end a body until close */
    if (sim_chance(prng, 300)) {
        habits->strict = true;
        return;
    }
    tune_rough_network(prng, options);
    habits->drains = sim_chance(prng, 300);
    habits->kills = !habits->drains && habits->workers > 1 && sim_chance(prng, 300);
    habits->aborts = sim_chance(prng, 500) ? 300 : 0;
    habits->buffer_pool = sim_chance(prng, 300) ? 256 * 1024 : habits->buffer_pool;
    if (sim_chance(prng, 300)) {
        tune_broken_connections(options, 100, 50);
        options->slow_link = 200;
        habits->tunnels_stop = true;
    }
}

/* One endpoint is gone for good, and workers with a probe under way die. */
static void tune_probes(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->workers = (uint32_t)sim_between(prng, 2, WORKERS_MAX);
    habits->clients = (uint32_t)sim_between(prng, 6, 12);
    habits->connections = (uint32_t)sim_between(prng, 30, 80);
    habits->requests = 1;
    habits->bodies = 0;
    habits->response_max = habits->request_body_max = 2048;
    habits->origins = (uint32_t)sim_between(prng, 2, 3);
    habits->first_refuses = true;
    habits->http10 = 0; /* a killed worker's FIN would end a body until close */
    habits->kills = sim_chance(prng, 500);
    options->connect_instant = prng_below(prng, 1000);
}

/* More requests than hosts may make, counted by several workers together, some of whom die. */
static void tune_rates(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->workers = (uint32_t)sim_between(prng, 2, WORKERS_MAX);
    habits->clients = (uint32_t)sim_between(prng, 6, 24);
    habits->hosts = (uint32_t)sim_between(prng, 1, 6);
    habits->connections = (uint32_t)sim_between(prng, 3, 12);
    habits->requests = 8;
    habits->pipeline = (uint32_t)sim_between(prng, 1, 8);
    habits->response_max = habits->request_body_max = 2048;
    habits->request_rate = (uint32_t)sim_between(prng, 1, 4);
    habits->request_burst = (uint32_t)sim_between(prng, 1, 8);
    habits->http10 = 0; /* a killed worker's FIN would end a body until close */
    habits->kills = sim_chance(prng, 300);
}

/* Large bodies both ways, through few pipes or none, and everything that can cut them short. */
static void tune_splice(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->splice_pipes = sim_chance(prng, 200) ? 0 : (uint32_t)sim_between(prng, 1, 4);
    habits->requests = 3;
    habits->bodies = 600;
    habits->chunked = 100;
    habits->http10 = 200;
    habits->request_body_max = habits->response_max =
        sim_magnitude(prng, 256 * 1024, 2 * 1024 * 1024);
    options->short_splice = prng_below(prng, 1000);
    options->pipe_error = sim_chance(prng, 300) ? 300 : 0;
    if (sim_chance(prng, 300)) {
        habits->http10 = 0;
        habits->timeout = 600 * SECOND;
        habits->strict = true;
        return;
    }
    habits->drains = sim_chance(prng, 200);
    habits->slow_reader = habits->slow_sender = habits->origin_slow = 150;
    habits->aborts = habits->half_closes = 200;
    habits->origin_truncates = habits->origin_extra = habits->origin_early = 100;
    habits->origin_fails = habits->origin_silent = 30;
    habits->origin_closes = 300;
    habits->pipeline = (uint32_t)sim_between(prng, 1, 3);
    tune_broken_connections(options, 100, 30);
}

/*
 * Routes that buffer, with little memory for it, between clients that send and read slowly and
 * origins that break off in the middle.
 */
static void tune_buffering(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    habits->clients = (uint32_t)sim_between(prng, 4, 16);
    habits->bodies = 600;
    habits->hold_request = sim_magnitude(prng, 1024, 512 * 1024);
    habits->hold_response = sim_magnitude(prng, 1024, 512 * 1024);
    habits->hold_pool = sim_magnitude(prng, 256 * 1024, 4 * 1024 * 1024);
    habits->request_body_max = habits->response_max = sim_magnitude(prng, 16 * 1024, 1024 * 1024);
    habits->upstream_connections_max = (uint32_t)sim_between(prng, 1, 64);
    habits->buffer_pool = sim_chance(prng, 500) ? 256 * 1024 : habits->buffer_pool;
    if (sim_chance(prng, 300)) {
        habits->http10 = 0;
        habits->timeout = 600 * SECOND;
        habits->upstream_connections_max = 64;
        habits->buffer_pool = 4 * 1024 * 1024;
        habits->strict = true;
        return;
    }
    habits->drains = sim_chance(prng, 200);
    habits->slow_reader = habits->slow_sender = 300;
    habits->silent = 50;
    habits->aborts = habits->half_closes = 150;
    habits->origin_fails = habits->origin_truncates = habits->origin_early = 100;
    habits->origin_slow = habits->origin_interim = 100;
    habits->origin_refuses = 100;
    habits->origin_stale = 200;
    habits->attempts = (uint32_t)sim_between(prng, 1, 4);
    habits->pipeline = (uint32_t)sim_between(prng, 1, 3);
    tune_broken_connections(options, 80, 30);
}

/* HTTP/2 at clients, origins or both; those of HTTP/1 beside. Nothing goes wrong. */
void tune_multi_base(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    bool client = sim_chance(prng, 700);
    struct prng aside = *prng; /* worlds without tunnels are what they were before there were any */
    prng_init(&aside, prng_next(&aside) + 1);
    habits->clients = (uint32_t)sim_between(prng, 1, 5);
    habits->http10 = 0; /* bodies until close: the ends of this scenario's origins differ */
    habits->request_body_max = sim_magnitude(prng, 1024, 128 * 1024);
    habits->response_max = sim_magnitude(prng, 1024, 256 * 1024);
    habits->multi = (struct multi_habits){
        .clients = client ? (uint32_t)sim_between(prng, 300, 1000) : 0,
        .origins = !client || sim_chance(prng, 600),
        .streams = (uint32_t)sim_magnitude(prng, 1, 20),
        .requests = (uint32_t)sim_magnitude(prng, 1, 24),
        .splits = 50,
        .pads = 100,
        .chatter = 5,
        .deaf = 100,
        .streams_max = (uint32_t)sim_magnitude(prng, 1, 100),
        .window = (uint32_t)sim_magnitude(prng, 64 * 1024, 512 * 1024),
        .glitches = 1000 * 1000,
        .tunnels = client && sim_chance(&aside, 400) ? (uint32_t)sim_between(&aside, 100, 500) : 0,
        .calls = sim_chance(prng, 500) ? (uint32_t)sim_between(prng, 100, 900) : 0,
    };
}

/* A tunnel that its client has ended may wait for its origin: a place that is not free yet. */
static void bear_lingering(struct habits *habits)
{
    if (habits->multi.tunnels > 0 && habits->multi.streams_max < LINGERING_MAX / 2) {
        habits->multi.streams_max = LINGERING_MAX / 2;
    }
}

/* Half of the hosts are balancers, whose connections have to begin with a PROXY header. */
static void tune_proxied(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    if (sim_chance(prng, 400)) {
        tune_multi_base(prng, habits, options);
    } else {
        tune_base(prng, habits);
        tune_rough_network(prng, options);
    }
    habits->clients = (uint32_t)sim_between(prng, 2, 16);
    habits->hosts = (uint32_t)sim_between(prng, 1, 8);
    habits->connections = 6;
    habits->http10 = 0; /* a killed worker's FIN would end a body until close */
    habits->request_body_max = habits->response_max = sim_magnitude(prng, 256, 16 * 1024);
    habits->proxied = (struct proxied_habits){.on = true, .nobody = 150};
    if (sim_chance(prng, 300)) {
        habits->strict = true;
        habits->timeout = 600 * SECOND;
        habits->proxied.bad = habits->proxied.unasked = 200;
        if (options->buffer_min < HEADER_MAX / 2) {
            options->buffer_min = HEADER_MAX / 2; /* else a good header can come too late */
        }
        bear_lingering(habits);
        return;
    }
    habits->workers = (uint32_t)sim_between(prng, 1, 3);
    habits->connections_per_client = (uint32_t)sim_between(prng, 1, 8);
    habits->connections_max = (uint32_t)sim_between(prng, 4, 100);
    habits->drains = sim_chance(prng, 300);
    habits->kills = !habits->drains && habits->workers > 1 && sim_chance(prng, 300);
    habits->aborts = 150;
    habits->silent = habits->slow_sender = habits->slow_reader = 100;
    habits->proxied.bad = 300;
    habits->proxied.unasked = 200;
    habits->proxied.drips = 300;
    if (sim_chance(prng, 300)) {
        tune_broken_connections(options, 100, 30);
        options->slow_link = 100;
    }
}

/*
 * A seam: half of the worlds are calm, where everything must come through; in the others peers and
 * network break, too. Half of them have so few buffers that everyone waits for them.
 */
static void seam_base(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_base(prng, habits);
    tune_rough_network(prng, options);
    bool calm = sim_chance(prng, 500);
    habits->attempts = 0;
    habits->request_body_max = habits->response_max = sim_magnitude(prng, 256, 64 * 1024);
    habits->buffer_pool = sim_chance(prng, 500) ? habits->buffer_pool : 1;
    habits->seam = (struct seam_manners){
        .patience = (calm ? 600 : 10) * (uint64_t)SECOND, .drains = 500, .calm = calm};
    if (calm) {
        return;
    }
    habits->aborts = 150;
    habits->half_closes = 100;
    habits->slow_reader = habits->slow_sender = 50;
    habits->origin_slow = 100;
    habits->origin_fails = habits->origin_truncates = habits->origin_malformed = 40;
    habits->origin_silent = 20;
    habits->seam.drains_within = sim_chance(prng, 200) ? 20 * SECOND : 0;
    tune_broken_connections(options, 80, 30);
    options->connect_error = options->connect_refused = 20;
    options->slow_link = 50;
}

static void tune_seam_early(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    seam_base(prng, habits, options);
    habits->bodies = 800;
    habits->origin_early = 800;
    habits->expects = 100;
    habits->pipeline = (uint32_t)sim_between(prng, 1, 3);
    if (habits->seam.calm && sim_chance(prng, 500)) {
        habits->strict = true; /* nothing is cut off: no answer is lost behind it */
        habits->seam.drains = 1000;
        habits->pipeline = 1;
    }
}

static void tune_seam_holding(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    seam_base(prng, habits, options);
    habits->bodies = 800;
    habits->seam.hold_max = (uint32_t)sim_magnitude(prng, 1, 16 * 1024);
    habits->seam.agent_drops = 200;
    habits->strict = habits->seam.calm && sim_chance(prng, 500);
    habits->seam.verdict_within = 3 * SECOND;
    if (!habits->strict) {
        habits->seam.verdict_within = sim_magnitude(prng, MILLISECOND, 3 * SECOND);
        habits->seam.agent_fails = 200;
        habits->seam.agent_silent = habits->seam.agent_breaks = 50;
    }
}

static void tune_seam_multiplex(struct prng *prng, struct habits *habits,
                                struct sim_options *options)
{
    seam_base(prng, habits, options);
    habits->clients = 0;
    habits->request_body_max = habits->response_max = sim_magnitude(prng, 256, 16 * 1024);
    habits->aborts = 150;
    habits->origins = 3;
    habits->origin_early = 100;
    habits->origin_slow = 100;
    options->buffer_min = (uint32_t)sim_magnitude(prng, 64, 64 * 1024);
}

static void tune_seam_tunnel(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    seam_base(prng, habits, options);
    habits->clients = habits->origins = 0;
}

static void tune_seam_hedge(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    seam_base(prng, habits, options);
    habits->origins = (uint32_t)sim_between(prng, 2, 3);
    habits->attempts = 1;
    habits->seam.patience = 60 * SECOND;
    habits->origin_slow = 400;
    habits->strict = habits->seam.calm && sim_chance(prng, 500);
    habits->origin_silent = habits->strict ? 0 : 100;
    habits->seam.hedge_after = sim_magnitude(prng, 1, SECOND);
}

/* Windows of any size that change, few streams, refusals and goodbyes: what must come through. */
static void tune_multi_strict(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_multi_base(prng, habits, options);
    options->delay_max = sim_magnitude(prng, 100, 5 * MILLISECOND);
    habits->timeout = 600 * SECOND;
    habits->strict = true;
    habits->request_body_max = habits->response_max = sim_magnitude(prng, 256, 64 * 1024);
    habits->multi.small_windows = 300;
    habits->multi.changes = 300;
    uint32_t endings = prng_below(prng, 3); /* one kind: each request survives one of them */
    habits->multi.goodbyes = endings == 1 ? 500 : 0;
    habits->multi.refuses = endings == 2 ? 100 : 0;
    habits->multi.holds = 200;
    habits->multi.few_streams = 300;
    bear_lingering(habits);
}

/* Peers that come and go, at any moment, on a network that breaks. */
static void tune_multi_rough(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_multi_base(prng, habits, options);
    habits->workers = (uint32_t)sim_between(prng, 1, 2);
    habits->drains = habits->workers == 1 && sim_chance(prng, 300);
    habits->kills = habits->workers > 1 && sim_chance(prng, 300);
    habits->attempts = (uint32_t)sim_between(prng, 1, 3);
    habits->aborts = 300;
    habits->slow_reader = habits->slow_sender = habits->origin_slow = 100;
    habits->silent = 50;
    habits->origin_early = 150;
    habits->origin_stale = 300;
    habits->origin_fails = habits->origin_truncates = 50;
    habits->multi.resets = 200;
    habits->multi.goodbyes = 300;
    habits->multi.refuses = 50;
    habits->multi.holds = 100;
    habits->multi.changes = 200;
    habits->multi.late_windows = 100;
    habits->multi.few_streams = 200;
    tune_broken_connections(options, 100, 30);
    options->connect_refused = options->connect_error = options->accept_error = 20;
    options->slow_link = 50;
}

/* Both sides send what nobody may send. */
static void tune_multi_hostile(struct prng *prng, struct habits *habits,
                               struct sim_options *options)
{
    tune_multi_base(prng, habits, options);
    habits->request_body_max = habits->response_max = 8192;
    habits->hostile = 600;
    habits->noise = 150;
    habits->aborts = 50;
    habits->origin_fails = habits->origin_truncates = habits->origin_malformed = 120;
    habits->origin_extra = 100;
    habits->origin_silent = 20;
    habits->origin_early = 200;
    habits->origin_interim = 300;
    habits->timeout = sim_between(prng, 1, 30) * SECOND;
    habits->multi.splits = habits->multi.pads = 300;
    habits->multi.chatter = prng_below(prng, 300);
    habits->multi.resets = 300;
    habits->multi.refuses = 100;
    habits->multi.goodbyes = 200;
    habits->multi.changes = 500;
    habits->multi.glitches = (uint32_t)sim_magnitude(prng, 50, 100 * 1000);
}

/* Windows that open late, hardly, or never; little memory, few buffers, bounds that bind. */
static void tune_multi_stalls(struct prng *prng, struct habits *habits, struct sim_options *options)
{
    tune_multi_base(prng, habits, options);
    habits->clients = (uint32_t)sim_between(prng, 2, 12);
    habits->request_body_max = habits->response_max = sim_magnitude(prng, 1024, 128 * 1024);
    habits->buffer_pool = sim_chance(prng, 500) ? 256 * 1024 : habits->buffer_pool;
    habits->requests_max = (uint32_t)sim_between(prng, 1, 40);
    habits->upstream_connections_max = (uint32_t)sim_between(prng, 1, 8);
    habits->slow_reader = habits->slow_sender = habits->origin_slow = 100;
    habits->silent = 100;
    habits->origin_silent = 30;
    habits->drains = sim_chance(prng, 200);
    habits->multi.small_windows = 400;
    habits->multi.late_windows = 300;
    habits->multi.shut_windows = 200;
    habits->multi.changes = 200;
    habits->multi.few_streams = 400;
    habits->multi.resets = 50;
    habits->multi.pool =
        sim_chance(prng, 500) ? sim_magnitude(prng, 1024 * 1024, 8 * 1024 * 1024) : 0;
}

const struct scenario scenarios[] = {
    {.name = "direct", .tune = tune_direct},
    {.name = "happy", .tune = tune_happy},
    {.name = "pipelining", .tune = tune_pipelining},
    {.name = "slow-peers", .tune = tune_slow_peers},
    {.name = "aborts", .tune = tune_aborts},
    {.name = "hostile-client", .tune = tune_hostile_client},
    {.name = "hostile-origin", .tune = tune_hostile_origin},
    {.name = "faulty-network", .tune = tune_faulty_network},
    {.name = "overload", .tune = tune_overload},
    {.name = "drain", .tune = tune_drain},
    {.name = "stale-pool", .tune = tune_stale_pool},
    {.name = "workers", .tune = tune_workers},
    {.name = "shared-limits", .tune = tune_shared_limits},
    {.name = "shedding", .tune = tune_shedding},
    {.name = "probes", .tune = tune_probes},
    {.name = "rates", .tune = tune_rates},
    {.name = "splice", .tune = tune_splice},
    {.name = "buffering", .tune = tune_buffering},
    {.name = "proxied", .tune = tune_proxied},
    {.name = "seam-early", .tune = tune_seam_early, .story = &seam_plain},
    {.name = "seam-holding", .tune = tune_seam_holding, .story = &seam_holding},
    {.name = "seam-multiplex", .tune = tune_seam_multiplex, .story = &seam_multiplex},
    {.name = "seam-tunnel", .tune = tune_seam_tunnel, .story = &seam_tunnel},
    {.name = "seam-hedge", .tune = tune_seam_hedge, .story = &seam_plain},
    {.name = "tunnels", .tune = tune_tunnels},
    {.name = "multi-strict", .tune = tune_multi_strict},
    {.name = "multi-rough", .tune = tune_multi_rough},
    {.name = "multi-hostile", .tune = tune_multi_hostile},
    {.name = "multi-stalls", .tune = tune_multi_stalls},
    {.name = "secure", .tune = tune_secure},
    {.name = "secure-rough", .tune = tune_secure_rough},
    {.name = "secure-crowd", .tune = tune_secure_crowd},
    {.name = "secure-tunnels", .tune = tune_secure_tunnels},
    {.name = "control", .run = control_run},
    {.name = "logging", .run = logging_run},
    {.name = NULL},
};
