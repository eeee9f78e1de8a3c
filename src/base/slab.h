/*
 * A fixed number of equal objects, allocated once and lent out. The free ones are reused last in,
 * first out, so that the memory in use stays small and warm; memory that was never lent is never
 * touched. A handle names one lease of one object: once it is released, the handle resolves to
 * NULL, also after the object was lent again. Not thread-safe.
 */
#ifndef SENTINEL_BASE_SLAB_H
#define SENTINEL_BASE_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct slab {
    uint8_t *memory; /* mapped, owned */
    size_t stride;   /* bytes from object to object, the slot's own header included */
    size_t object_size;
    uint32_t capacity;
    uint32_t in_use;
    uint32_t fresh;     /* objects from here on were never lent */
    uint32_t free_head; /* index of the first free object, or UINT32_MAX */
};

/* Bytes that a slab of so many objects maps; UINT64_MAX: more than can be counted. */
uint64_t slab_bytes(size_t object_size, uint32_t capacity);

/* Maps room for capacity (at least 1) objects. False with errno when the system refuses. */
NODISCARD bool slab_init(struct slab *slab, size_t object_size, uint32_t capacity);

/* Unmaps. All objects must be back; a slab that never was initialised (all zero) is fine. */
void slab_deinit(struct slab *slab);

/* As slab_deinit, for a process that ends with objects lent out. */
void slab_drop(struct slab *slab);

/* Lends an object, 16-byte aligned, contents undefined; NULL when all are lent. */
NODISCARD void *slab_acquire(struct slab *slab);

/* Takes an object back; its handles are void from now on. */
void slab_release(struct slab *slab, void *object);

/*
 * The next lent object from place *place on, which goes behind it; NULL: no further one. Begin with
 * 0. It looks at every place that was ever lent: for when a process is wound up.
 */
void *slab_next(const struct slab *slab, uint32_t *place);

/* Names this lease of a lent object; never 0. */
uint64_t slab_handle(const struct slab *slab, const void *object);

/* The object of a handle, or NULL when that lease has ended (or the handle is 0). */
void *slab_resolve(const struct slab *slab, uint64_t handle);

#endif
