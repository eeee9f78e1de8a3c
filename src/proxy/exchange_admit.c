/*
 * What an exchange must pass before anybody is troubled with it: the bounds that all workers hold
 * together.
 */
#include "proxy/exchange.h"

#define SECOND_US UINT64_C(1000000)

bool exchange_within_rate(struct exchange *exchange)
{
    struct proxy *proxy = exchange->proxy;
    uint64_t wait = 0;
    if (!rate_table_is_on(&proxy->rates) || exchange->client_address.family == ADDRESS_UNIX) {
        return true; /* who has no address is no client of its own */
    }
    uint64_t client = client_tag(&proxy->clients.key, &exchange->client_address);
    if (rate_table_admit(&proxy->rates, client, io_now(proxy->io), &wait)) {
        return true;
    }
    exchange->retry_after = (uint32_t)((wait + SECOND_US - 1) / SECOND_US);
    return false;
}
