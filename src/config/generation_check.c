#include "config/generation_check.h"

bool generation_check_ref(const struct generation_check *check, struct ref ref, size_t size,
                          size_t alignment)
{
    if (ref.count == 0) {
        return ref.offset == 0;
    }
    uint64_t bytes = (uint64_t)ref.count * size;
    return ref.offset >= sizeof(struct generation_header) && ref.offset % alignment == 0 &&
           ref.offset <= check->size && bytes <= check->size - ref.offset;
}

bool generation_check_text(const struct generation_check *check, struct ref ref)
{
    return generation_check_ref(check, ref, 1, 1);
}

bool generation_check_read(const struct generation_check *check, struct ref ref, struct span *text)
{
    *text = SPAN_EMPTY;
    if (!generation_check_text(check, ref)) {
        return false;
    }
    if (ref.count > 0) {
        *text = span_of(check->base + ref.offset, ref.count);
    }
    return true;
}

bool generation_check_text_as(const struct generation_check *check, struct ref ref,
                              bool (*is)(struct span))
{
    struct span text;
    return generation_check_read(check, ref, &text) && is(text);
}

bool generation_check_text_or_none(const struct generation_check *check, struct ref ref,
                                   bool (*is)(struct span))
{
    struct span text;
    return generation_check_read(check, ref, &text) && (text.size == 0 || is(text));
}

bool generation_check_place(const struct generation_check *check, struct generation_place place)
{
    return generation_check_text(check, place.file) && place.reserved == 0;
}

bool generation_check_texts(const struct generation_check *check, struct ref ref)
{
    if (!GENERATION_CHECK_ARRAY(check, ref, struct ref)) {
        return false;
    }
    const struct ref *texts = (const void *)(check->base + ref.offset);
    for (uint32_t i = 0; i < ref.count; i++) {
        if (texts[i].count == 0 || !generation_check_text(check, texts[i])) {
            return false;
        }
    }
    return true;
}
