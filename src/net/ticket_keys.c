#include "net/ticket_keys.h"

#include <stdatomic.h>
#include <string.h>

#include "base/assert.h"

enum { KEY_WORDS = sizeof(struct ticket_key) / sizeof(uint64_t) };

static_assert(sizeof(struct ticket_key) % sizeof(uint64_t) == 0, "a key is copied by words");

/*
 * One place for a key. Its number is odd while the words change, and another one after: a reader
 * that finds the same even number before and after its copy has a whole key. All words are zero in
 * an empty place.
 */
struct slot {
    _Atomic uint64_t number;
    _Atomic uint64_t words[KEY_WORDS];
};

struct ticket_keys {
    _Atomic uint64_t current; /* the slot of the current key, published once it is complete */
    struct slot slots[TICKET_KEYS_SLOTS];
};

size_t ticket_keys_size(void)
{
    return sizeof(struct ticket_keys);
}

static void write_slot(struct slot *slot, const uint64_t words[KEY_WORDS])
{
    uint64_t number = atomic_load_explicit(&slot->number, memory_order_relaxed) | 1;
    atomic_store_explicit(&slot->number, number, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < KEY_WORDS; i++) {
        atomic_store_explicit(&slot->words[i], words[i], memory_order_relaxed);
    }
    atomic_store_explicit(&slot->number, number + 1, memory_order_release);
}

void ticket_keys_rotate(struct ticket_keys *keys, const struct ticket_key *key)
{
    static const uint64_t nothing[KEY_WORDS];
    uint64_t words[KEY_WORDS];
    uint64_t current = atomic_load_explicit(&keys->current, memory_order_relaxed);
    uint64_t next = (current + 1) % TICKET_KEYS_SLOTS;
    ASSERT(current < TICKET_KEYS_SLOTS); /* the memory is the caller's own */
    memcpy(words, key, sizeof(*key));
    write_slot(&keys->slots[next], words);
    atomic_store_explicit(&keys->current, next, memory_order_release);
    write_slot(&keys->slots[(next + 1) % TICKET_KEYS_SLOTS], nothing);
    explicit_bzero(words, sizeof(words));
}

bool ticket_key_init(struct ticket_key *key,
                     const uint8_t random[TICKET_KEY_ID_SIZE + TICKET_KEY_SECRET_SIZE],
                     uint64_t now)
{
    static const uint8_t zeros[TICKET_KEY_ID_SIZE];
    if (memcmp(random, zeros, sizeof(zeros)) == 0) {
        return false;
    }
    memcpy(key->id, random, sizeof(key->id));
    memcpy(key->secret, random + sizeof(key->id), sizeof(key->secret));
    key->expires = now + 2 * TICKET_KEYS_PERIOD;
    return true;
}

/* A copy of what is in the slot. False where it is empty, just changing, or its time is over. */
static bool read_slot(const struct slot *slot, uint64_t now, struct ticket_key *key)
{
    static const uint8_t zeros[TICKET_KEY_ID_SIZE];
    uint64_t words[KEY_WORDS];
    uint64_t before = atomic_load_explicit(&slot->number, memory_order_acquire);
    for (size_t i = 0; i < KEY_WORDS; i++) {
        words[i] = atomic_load_explicit(&slot->words[i], memory_order_relaxed);
    }
    atomic_thread_fence(memory_order_acquire);
    bool whole =
        before % 2 == 0 && atomic_load_explicit(&slot->number, memory_order_relaxed) == before;
    memcpy(key, words, sizeof(*key));
    bool good = whole && memcmp(key->id, zeros, sizeof(zeros)) != 0 && now < key->expires;
    explicit_bzero(words, sizeof(words));
    if (!good) {
        explicit_bzero(key, sizeof(*key));
    }
    return good;
}

bool ticket_keys_current(const struct ticket_keys *keys, uint64_t now, struct ticket_key *key)
{
    uint64_t current = atomic_load_explicit(&keys->current, memory_order_acquire);
    return read_slot(&keys->slots[current % TICKET_KEYS_SLOTS], now, key);
}

bool ticket_keys_find(const struct ticket_keys *keys, const uint8_t id[TICKET_KEY_ID_SIZE],
                      uint64_t now, struct ticket_key *key)
{
    for (size_t i = 0; i < TICKET_KEYS_SLOTS; i++) {
        if (read_slot(&keys->slots[i], now, key)) {
            if (memcmp(key->id, id, TICKET_KEY_ID_SIZE) == 0) {
                return true;
            }
            explicit_bzero(key, sizeof(*key));
        }
    }
    return false;
}
