#include "observe/health.h"

size_t health_size(const struct generation *generation)
{
    return generation->header->endpoints.count * sizeof(_Atomic uint32_t);
}

void health_view_init(struct health_view *view, const void *memory,
                      const struct generation *generation)
{
    view->words = (const _Atomic uint32_t *)memory;
    view->count = memory == NULL ? 0 : generation->header->endpoints.count;
}

void health_board_init(struct health_board *board, void *memory,
                       const struct generation *generation)
{
    board->words = (_Atomic uint32_t *)memory;
    board->count = generation->header->endpoints.count;
    for (uint32_t i = 0; i < board->count; i++) {
        health_set(board, i, HEALTH_UNKNOWN);
    }
}
