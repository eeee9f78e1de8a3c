#include "world.h"

#include <stdlib.h>

#include "base/assert.h"
#include "fault.h"
#include "seam.h"
#include "tunnel_peers.h"

enum {
    STEPS_MAX = 8 * 1000 * 1000,
    SLICE = SECOND / 4, /* between two looks at logs and clients */
    TIME_MAX = 3600,    /* seconds of virtual time for all clients */
    SETTLE_TIME = 120,  /* seconds afterwards: every timer of an idle worker has fired */
    SWEEP_BODY_MAX = 24 * 1024,
};

/* Workers end what is silent for too long; by a drain, or a kill, any tunnel may end. */
static void populate_tunnels(struct world *world)
{
    const struct habits *habits = &world->habits;
    const struct address address = origin_address(ORIGINS_MAX);
    struct tunnel_manners *manners = calloc(1, sizeof(*manners));
    ASSERT(manners != NULL);
    manners->calm = habits->strict;
    manners->ends_silence = true;
    manners->ends = habits->drains || habits->kills || habits->tunnels_stop;
    world->tunnel_manners = manners;
    world->tunnels = tunnel_peers_create(world, &address, manners);
}

static void populate(struct world *world)
{
    const struct habits *habits = &world->habits;
    ASSERT(habits->clients <= CLIENTS_MAX && habits->origins <= ORIGINS_MAX);
    ASSERT(habits->requests <= REQUESTS_MAX && habits->workers <= WORKERS_MAX);
    for (uint32_t i = 0; i < habits->origins; i++) {
        world->origins[i] =
            habits->multi.origins ? multi_origin_create(world, i) : origin_create(world, i);
    }
    world->entry = origin_address(0);
    if (habits->workers > 0) {
        world->entry = (struct address){.family = ADDRESS_IPV4, .port = 8080, .ip = {10, 1, 0, 1}};
        if (world->scenario->story != NULL) {
            world->seam = seam_create(world, world->scenario->story);
        } else {
            world->proxy = proxy_create(world);
        }
    }
    for (uint32_t i = 0; i < habits->clients; i++) {
        bool multi = habits->multi.clients > 0 && sim_chance(&world->prng, habits->multi.clients);
        world->clients[i] = multi ? multi_client_create(world, i) : client_create(world, i);
    }
    if (habits->tunnels) {
        populate_tunnels(world);
    }
}

static bool clients_are_finished(const struct world *world)
{
    for (uint32_t i = 0; i < world->habits.clients; i++) {
        if (!caller_is_finished(world->clients[i])) {
            return false;
        }
    }
    return (world->seam == NULL || seam_is_finished(world->seam)) &&
           (world->tunnels == NULL || tunnel_peers_are_finished(world->tunnels));
}

/* Lets a slice of time pass; finds busy loops. */
static void pass(struct world *world)
{
    if (!sim_run(world->sim, sim_now(world->sim) + SLICE, STEPS_MAX - sim_steps(world->sim))) {
        run_failed("more than %d steps: something runs in circles", STEPS_MAX);
    }
    if (world->proxy != NULL) {
        proxy_tend(world->proxy);
    }
}

static void live(struct world *world)
{
    uint64_t end = sim_now(world->sim) + (uint64_t)TIME_MAX * SECOND;
    while (!clients_are_finished(world)) {
        if (sim_now(world->sim) >= end) {
            run_failed("clients are not finished after %d s of the virtual clock", TIME_MAX);
        }
        pass(world);
    }
    if (world->proxy == NULL && world->seam == NULL) {
        return;
    }
    end = sim_now(world->sim) + (uint64_t)SETTLE_TIME * SECOND;
    while (sim_now(world->sim) < end) {
        pass(world);
    }
    if (world->proxy != NULL) {
        proxy_check(world->proxy);
    } else {
        seam_check(world->seam);
    }
}

static void destroy(struct world *world)
{
    proxy_destroy(world->proxy);
    seam_destroy(world->seam);
    tunnel_peers_destroy(world->tunnels);
    free(world->tunnel_manners);
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        caller_destroy(world->clients[i]);
    }
    for (uint32_t i = 0; i < ORIGINS_MAX; i++) {
        server_destroy(world->origins[i]);
    }
    sim_destroy(world->sim);
    free(world);
}

/* A sweep visits every call of a run, so its worlds are small. */
static void shrink(struct habits *habits)
{
    habits->clients = habits->clients < 2 ? habits->clients : 2;
    habits->connections = habits->connections < 2 ? habits->connections : 2;
    habits->requests = habits->requests < 3 ? habits->requests : 3;
    habits->multi.requests = habits->multi.requests < 4 ? habits->multi.requests : 4;
    if (habits->request_body_max > SWEEP_BODY_MAX) {
        habits->request_body_max = SWEEP_BODY_MAX;
    }
    if (habits->response_max > SWEEP_BODY_MAX) {
        habits->response_max = SWEEP_BODY_MAX;
    }
}

static void world_run(const struct scenario *scenario, uint64_t seed, FILE *trace)
{
    struct world *world = calloc(1, sizeof(*world));
    ASSERT(world != NULL);
    world->scenario = scenario;
    prng_init(&world->prng, seed);
    struct sim_options options = sim_options_quiet();
    scenario->tune(&world->prng, &world->habits, &options);
    options.trace = trace;
    if (fault_is_watching()) {
        shrink(&world->habits);
        options.fault = fault_strikes;
    }
    world->sim = sim_create(seed, &options);
    populate(world);
    live(world);
    struct ledger_expectation expectation = {
        .logged = world->proxy != NULL && !proxy_was_hurt(world->proxy),
        .all_answered = world->habits.strict && !fault_has_struck(),
        .safe_answered = world->habits.strict_safe && !fault_has_struck(),
        /* One more where a pooled connection had gone stale. */
        .attempts_max = world->habits.workers == 0 ? 1 : world->habits.attempts + 1,
    };
    ledger_check(&world->ledger, &expectation);
    if (trace != NULL) {
        (void)fprintf(trace, "%u exchanges, %llu steps, hash %016llx\n", world->ledger.count,
                      (unsigned long long)sim_steps(world->sim),
                      (unsigned long long)sim_trace_hash(world->sim));
    }
    destroy(world);
}

const char *scenario_name(const struct scenario *scenario)
{
    return scenario->name;
}

void scenario_run(const struct scenario *scenario, uint64_t seed, FILE *trace)
{
    if (scenario->run != NULL) {
        scenario->run(seed, trace);
    } else {
        world_run(scenario, seed, trace);
    }
}
