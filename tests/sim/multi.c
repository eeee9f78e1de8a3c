#include "multi.h"

enum { ORDINARY_WINDOW = 65535 };

struct peer_manners multi_manners(const struct world *world, struct prng *prng)
{
    const struct multi_habits *habits = &world->habits.multi;
    struct peer_manners manners = {
        .initial_window = ORDINARY_WINDOW,
        .stream_target = (uint32_t)sim_magnitude(prng, 16 * 1024, 1024 * 1024),
        .connection_target = (uint32_t)sim_magnitude(prng, 16 * 1024, 1024 * 1024),
        .streams_max = UINT32_MAX,
        .table_size = NGHTTP2_DEFAULT_HEADER_TABLE_SIZE,
        .late_windows = habits->late_windows,
        .splits = habits->splits,
        .pads = habits->pads,
        .chatter = habits->chatter,
        .deaf = sim_chance(prng, habits->deaf),
        .connects = habits->tunnels > 0 && (world->habits.strict || sim_chance(prng, 900)),
    };
    if (sim_chance(prng, 300)) {
        manners.initial_window = (uint32_t)sim_magnitude(prng, 1, 1024 * 1024) - 1;
    }
    if (sim_chance(prng, 300)) {
        manners.table_size = (uint32_t)sim_magnitude(prng, 1, 16 * 1024) - 1;
    }
    if (sim_chance(prng, habits->small_windows)) {
        manners.initial_window = (uint32_t)sim_magnitude(prng, 1, 2048) - 1;
        manners.stream_target = (uint32_t)sim_magnitude(prng, 64, 4096);
        manners.connection_target = (uint32_t)sim_magnitude(prng, 256, 16 * 1024);
    }
    if (sim_chance(prng, habits->shut_windows)) {
        manners.initial_window = (uint32_t)sim_magnitude(prng, 1, 4096) - 1;
        manners.stream_target = 0;
    }
    return manners;
}

void multi_change_settings(struct peer *peer, const struct world *world, struct prng *prng)
{
    switch (prng_below(prng, peer->client ? 2 : 3)) {
    case 0: /* down to nothing, too, which makes the windows of open streams negative */
        peer_push_setting(peer, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                          (uint32_t)sim_magnitude(prng, 1, 256 * 1024) - 1);
        break;
    case 1:
        peer_push_setting(peer, NGHTTP2_SETTINGS_HEADER_TABLE_SIZE,
                          (uint32_t)sim_magnitude(prng, 1, 8192) - 1);
        break;
    default:
        peer_push_setting(peer, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                          (uint32_t)sim_between(prng, world->habits.strict ? 1 : 0, 4));
    }
}
