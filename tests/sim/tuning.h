/*
 * What makes the habits of worlds, for the files that have the scenarios: each begins with one of
 * the bases, and lets something go wrong.
 */
#ifndef SENTINEL_TESTS_SIM_TUNING_H
#define SENTINEL_TESTS_SIM_TUNING_H

#include "world.h"

/* A well-behaved world of random size; what every scenario starts from. */
void tune_base(struct prng *prng, struct habits *habits);

/* HTTP/2 at clients, origins or both; those of HTTP/1 beside. Nothing goes wrong. */
void tune_multi_base(struct prng *prng, struct habits *habits, struct sim_options *options);

/* Segments, delays and writes of any size. */
void tune_rough_network(struct prng *prng, struct sim_options *options);

/* Some connections are reset or come to a standstill, out of 1,000, and a call fails now and then.
 */
void tune_broken_connections(struct sim_options *options, uint32_t reset, uint32_t stall);

/* Tunnels by Upgrade, beside requests. */
void tune_tunnels(struct prng *prng, struct habits *habits, struct sim_options *options);

/* Scenarios of a listener with TLS (scenario_secure.c). */
void tune_secure(struct prng *prng, struct habits *habits, struct sim_options *options);
void tune_secure_rough(struct prng *prng, struct habits *habits, struct sim_options *options);
void tune_secure_crowd(struct prng *prng, struct habits *habits, struct sim_options *options);
void tune_secure_tunnels(struct prng *prng, struct habits *habits, struct sim_options *options);

#endif
