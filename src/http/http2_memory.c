#include "http/http2_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"

static const uint32_t NONE = UINT32_MAX;

enum {
    CLASS_RUN = HTTP2_MEMORY_CLASSES, /* the first of several pages that are one object */
    CLASS_RUN_REST,
    CLASS_FREE,
    OBJECT_NONE = UINT16_MAX,
    KEPT_SHARE = 16, /* one page in so many */
};

/* The last few are what a page divides into. clang-format does not come to rest here. */
/* clang-format off */
#define CLASSES(CLASS)                                                                             \
    CLASS(32) CLASS(48) CLASS(64) CLASS(96) CLASS(128) CLASS(192) CLASS(256) CLASS(384)            \
    CLASS(512) CLASS(768) CLASS(1024) CLASS(1536) CLASS(2064) CLASS(3072) CLASS(4160)              \
    CLASS(5536) CLASS(8320) CLASS(HTTP2_PAGE_SIZE)
/* clang-format on */

/* What is known of each class; dividing by a size is a multiplication and a shift by 32. */
static const struct {
    uint16_t size;
    uint16_t objects; /* of a page */
    uint32_t inverse;
} CLASS_FACTS[HTTP2_MEMORY_CLASSES] = {
#define CLASS(size) {size, HTTP2_PAGE_SIZE / (size), UINT32_MAX / (size) + 1},
    CLASSES(CLASS)
#undef CLASS
};

enum { SMALL_STEP = 16, SMALL_MAX = 512, SMALL_CLASSES = 8 };

/* The class of small sizes, by sixteen bytes. */
static const uint8_t SMALL_CLASS[SMALL_MAX / SMALL_STEP + 1] = {
    0, 0, 0, 1, 2, 3, 3, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 8,
};

struct http2_page {
    uint32_t next; /* in the list of free pages, or of partial ones of its class */
    uint32_t previous;
    uint32_t run; /* CLASS_RUN: so many pages */
    uint16_t in_use;
    uint16_t fresh;     /* objects from here on were never lent */
    uint16_t free_head; /* of the free objects, each of which holds the next one's number */
    uint8_t class;
};

static_assert(HTTP2_PAGE_SIZE % 64 == 0, "objects are aligned");
static_assert(HTTP2_PAGE_SIZE / 32 < OBJECT_NONE, "objects of a page are numbered in 16 bits");

uint32_t http2_memory_pages(uint64_t bytes)
{
    uint64_t count = bytes / HTTP2_PAGE_SIZE;
    if (count == 0) {
        return 1;
    }
    return count < NONE / 2 ? (uint32_t)count : NONE / 2;
}

uint64_t http2_memory_bytes(uint64_t bytes)
{
    return (uint64_t)http2_memory_pages(bytes) * (HTTP2_PAGE_SIZE + sizeof(struct http2_page));
}

bool http2_memory_init(struct http2_memory *memory, uint64_t bytes)
{
    void *mapped = mmap(NULL, http2_memory_bytes(bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        return false;
    }
    uint32_t count = http2_memory_pages(bytes);
    *memory = (struct http2_memory){
        .pages = mapped,
        .table = (struct http2_page *)(void *)((uint8_t *)mapped + (size_t)count * HTTP2_PAGE_SIZE),
        .page_count = count,
        .free_head = NONE,
        .kept = count / KEPT_SHARE,
    };
    for (int i = 0; i < HTTP2_MEMORY_CLASSES; i++) {
        memory->partial[i] = NONE;
    }
    return true;
}

void http2_memory_deinit(struct http2_memory *memory)
{
    ASSERT(memory->pages_in_use == 0);
    if (memory->pages != NULL) {
        int failed = munmap(memory->pages, (size_t)memory->page_count *
                                               (HTTP2_PAGE_SIZE + sizeof(struct http2_page)));
        ASSERT(failed == 0);
    }
    *memory = (struct http2_memory){0};
}

static uint8_t class_of(size_t size)
{
    uint8_t class = SMALL_CLASSES;
    if (size <= SMALL_MAX) {
        return SMALL_CLASS[(size + SMALL_STEP - 1) / SMALL_STEP];
    }
    while (CLASS_FACTS[class].size < size) {
        class ++;
    }
    return class;
}

static uint8_t *object_at(const struct http2_memory *memory, uint32_t page, uint32_t object)
{
    return memory->pages + (size_t)page * HTTP2_PAGE_SIZE +
           (size_t)object * CLASS_FACTS[memory->table[page].class].size;
}

static uint32_t page_of(const struct http2_memory *memory, const void *object)
{
    size_t offset = (size_t)((const uint8_t *)object - memory->pages);
    ASSERT(offset / HTTP2_PAGE_SIZE < memory->page_count);
    return (uint32_t)(offset / HTTP2_PAGE_SIZE);
}

static void link_page(struct http2_memory *memory, uint32_t *head, uint32_t page)
{
    memory->table[page].previous = NONE;
    memory->table[page].next = *head;
    if (*head != NONE) {
        memory->table[*head].previous = page;
    }
    *head = page;
}

static void unlink_page(struct http2_memory *memory, uint32_t *head, uint32_t page)
{
    struct http2_page *it = &memory->table[page];
    if (it->previous == NONE) {
        *head = it->next;
    } else {
        memory->table[it->previous].next = it->next;
    }
    if (it->next != NONE) {
        memory->table[it->next].previous = it->previous;
    }
}

/* A page that is in no list, or NONE. */
static uint32_t take_page(struct http2_memory *memory)
{
    uint32_t page = memory->free_head;
    if (page != NONE) {
        unlink_page(memory, &memory->free_head, page);
    } else if (memory->fresh < memory->page_count) {
        page = memory->fresh++;
    } else {
        return NONE;
    }
    memory->pages_in_use++;
    return page;
}

static void give_page(struct http2_memory *memory, uint32_t page)
{
    ASSERT(memory->pages_in_use > 0);
    memory->pages_in_use--;
    memory->table[page].class = CLASS_FREE;
    link_page(memory, &memory->free_head, page);
}

static void *take_object(struct http2_memory *memory, uint8_t class)
{
    uint32_t *partial = &memory->partial[class];
    if (*partial == NONE) {
        uint32_t page = take_page(memory);
        if (page == NONE) {
            return NULL;
        }
        memory->table[page] = (struct http2_page){.free_head = OBJECT_NONE, .class = class};
        link_page(memory, partial, page);
    }
    uint32_t page = *partial;
    struct http2_page *it = &memory->table[page];
    uint16_t object = it->free_head;
    uint8_t *place = NULL;
    if (object != OBJECT_NONE) {
        place = object_at(memory, page, object);
        memcpy(&it->free_head, place, sizeof(it->free_head));
    } else {
        place = object_at(memory, page, it->fresh++);
    }
    it->in_use++;
    if (it->in_use == CLASS_FACTS[class].objects) {
        unlink_page(memory, partial, page);
    }
    return place;
}

static void give_object(struct http2_memory *memory, uint32_t page, void *place)
{
    struct http2_page *it = &memory->table[page];
    uint32_t *partial = &memory->partial[it->class];
    size_t offset = (size_t)((uint8_t *)place - memory->pages) - (size_t)page * HTTP2_PAGE_SIZE;
    size_t object = (size_t)((uint64_t)offset * CLASS_FACTS[it->class].inverse >> 32);
    ASSERT(object * CLASS_FACTS[it->class].size == offset && it->in_use > 0);
    if (it->in_use == CLASS_FACTS[it->class].objects) {
        link_page(memory, partial, page);
    }
    memcpy(place, &it->free_head, sizeof(it->free_head));
    it->free_head = (uint16_t)object;
    it->in_use--;
    if (it->in_use == 0) {
        unlink_page(memory, partial, page);
        give_page(memory, page);
    }
}

/* Neighbouring pages: first fit among those that were used before, then fresh ones. */
static void *take_run(struct http2_memory *memory, uint32_t count)
{
    uint32_t found = 0;
    uint32_t page = 0;
    for (; page < memory->fresh && found < count; page++) {
        found = memory->table[page].class == CLASS_FREE ? found + 1 : 0;
    }
    uint32_t more = count - found;
    if (more > memory->page_count - memory->fresh) {
        return NULL;
    }
    uint32_t first = page - found;
    for (uint32_t i = first; i < first + found; i++) {
        unlink_page(memory, &memory->free_head, i);
    }
    memory->fresh += more;
    for (uint32_t i = first; i < first + count; i++) {
        memory->table[i] = (struct http2_page){.class = CLASS_RUN_REST};
    }
    memory->table[first].class = CLASS_RUN;
    memory->table[first].run = count;
    memory->pages_in_use += count;
    return memory->pages + (size_t)first * HTTP2_PAGE_SIZE;
}

static void give_run(struct http2_memory *memory, uint32_t first)
{
    uint32_t count = memory->table[first].run;
    for (uint32_t i = first; i < first + count; i++) {
        give_page(memory, i);
    }
}

/* The class of an allocation of this size, CLASS_RUN where it is larger than a page. */
static uint8_t kind_of(size_t size)
{
    return size <= HTTP2_PAGE_SIZE ? class_of(size) : CLASS_RUN;
}

/* Bytes held for it; 0: more than there can be. */
static uint64_t held_for(const struct http2_memory *memory, size_t size, uint8_t class)
{
    if (class != CLASS_RUN) {
        return CLASS_FACTS[class].size;
    }
    uint64_t pages = size / HTTP2_PAGE_SIZE + (size % HTTP2_PAGE_SIZE != 0 ? 1 : 0);
    return pages <= memory->page_count ? pages * HTTP2_PAGE_SIZE : 0;
}

/* Whether an object of this class would take pages that are kept for the codec. */
static bool takes_kept(const struct http2_memory *memory, uint8_t class)
{
    return http2_memory_spare(memory) <= memory->kept &&
           (class == CLASS_RUN || memory->partial[class] == NONE);
}

static void *allocate(struct http2_account *account, size_t size, bool codec)
{
    struct http2_memory *memory = account->memory;
    uint8_t class = kind_of(size);
    uint64_t held = held_for(memory, size, class);
    uint64_t max =
        codec || account->kept > account->max ? account->max : account->max - account->kept;
    if (held == 0 || account->used > max || held > max - account->used ||
        (!codec && takes_kept(memory, class))) {
        return NULL;
    }
    void *object = class != CLASS_RUN ? take_object(memory, class)
                                      : take_run(memory, (uint32_t)(held / HTTP2_PAGE_SIZE));
    if (object != NULL) {
        account->used += held;
    }
    return object;
}

void *http2_allocate(struct http2_account *account, size_t size)
{
    ASSERT(size > 0);
    return allocate(account, size, false);
}

/* Of the object that begins on this page, or of each of them. */
static size_t size_on(const struct http2_page *page)
{
    ASSERT(page->class <= CLASS_RUN);
    return page->class == CLASS_RUN ? (size_t)page->run * HTTP2_PAGE_SIZE
                                    : CLASS_FACTS[page->class].size;
}

size_t http2_size_of(const struct http2_account *account, const void *object)
{
    const struct http2_memory *memory = account->memory;
    return size_on(&memory->table[page_of(memory, object)]);
}

void http2_free(struct http2_account *account, void *object)
{
    struct http2_memory *memory = account->memory;
    if (object == NULL) {
        return;
    }
    uint32_t page = page_of(memory, object);
    size_t size = size_on(&memory->table[page]);
    ASSERT(size <= account->used);
    account->used -= size;
    if (memory->table[page].class == CLASS_RUN) {
        give_run(memory, page);
    } else {
        give_object(memory, page, object);
    }
}

static void *resize(struct http2_account *account, void *object, size_t size, bool codec)
{
    size_t before = object == NULL ? 0 : http2_size_of(account, object);
    if (object != NULL && held_for(account->memory, size, kind_of(size)) == before) {
        return object;
    }
    void *moved = allocate(account, size, codec);
    if (moved != NULL && object != NULL) {
        memcpy(moved, object, before < size ? before : size);
        http2_free(account, object);
    }
    return moved;
}

void *http2_resize(struct http2_account *account, void *object, size_t size)
{
    return resize(account, object, size, false);
}

/* Stands at the end of an object that is kept: what its former owner may look at is the rest. */
struct keepsake {
    void *next;
    const struct http2_account *account;
};

static struct keepsake *keepsake_of(const struct http2_account *account, void *object)
{
    size_t size = http2_size_of(account, object);
    return (struct keepsake *)(void *)((uint8_t *)object + size - sizeof(struct keepsake));
}

static bool is_kept(const struct http2_account *account, void *object)
{
    if (keepsake_of(account, object)->account != account) {
        return false; /* as nearly always: the list is walked for what only looks so, too */
    }
    void *it = account->given_back;
    while (it != NULL && it != object) {
        it = keepsake_of(account, it)->next;
    }
    return it != NULL;
}

void http2_account_settle(struct http2_account *account)
{
    while (account->given_back != NULL) {
        void *object = account->given_back;
        struct keepsake *keepsake = keepsake_of(account, object);
        account->given_back = keepsake->next;
        keepsake->account = NULL;
        http2_free(account, object);
    }
}

static void *note_refusal(struct http2_account *account, void *object)
{
    account->refused = account->refused || object == NULL;
    return object;
}

static void *codec_malloc(size_t size, void *account)
{
    return note_refusal(account, allocate(account, size > 0 ? size : 1, true));
}

static void codec_free(void *object, void *context)
{
    struct http2_account *account = context;
    if (object == NULL || !account->refused) {
        http2_free(account, object);
    } else if (!is_kept(account, object)) {
        *keepsake_of(account, object) = (struct keepsake){account->given_back, account};
        account->given_back = object;
    }
}

static void *codec_calloc(size_t count, size_t size, void *account)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total)) {
        return note_refusal(account, NULL);
    }
    void *object = codec_malloc(total, account);
    if (object != NULL) {
        memset(object, 0, total);
    }
    return object;
}

static void *codec_realloc(void *object, size_t size, void *account)
{
    return note_refusal(account, resize(account, object, size > 0 ? size : 1, true));
}

nghttp2_mem http2_codec_memory(struct http2_account *account)
{
    return (nghttp2_mem){.mem_user_data = account,
                         .malloc = codec_malloc,
                         .free = codec_free,
                         .calloc = codec_calloc,
                         .realloc = codec_realloc};
}
