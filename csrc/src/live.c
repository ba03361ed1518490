/* What the exporter thread writes into the header of its own live ring, for whoever may have to recover it. A process
 * may be killed between any two of these stores: what is there then is the old, the new, or nothing. */
#include "fasttrace/region.h"

#include <string.h>

void ft_region_beat(ft_header *region, int64_t now_ns) {
    atomic_store_explicit(&region->alive_ns, now_ns, memory_order_relaxed);
}

void ft_region_set_resource(ft_header *region, const char *members, size_t length) {
    atomic_store_explicit(&region->resource_length, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    if (length > FT_RESOURCE_MAX)
        return;
    if (length > 0)
        memcpy(region->resource, members, length);
    atomic_store_explicit(&region->resource_length, length, memory_order_release);
}

static bool names_the_same(const ft_range *range, uint64_t first_ticket, uint64_t next_ticket, uint64_t span_count) {
    return atomic_load_explicit(&range->first_ticket, memory_order_relaxed) == first_ticket &&
           atomic_load_explicit(&range->next_ticket, memory_order_relaxed) == next_ticket &&
           atomic_load_explicit(&range->span_count, memory_order_relaxed) == span_count;
}

void ft_region_set_range(ft_header *region, unsigned index, ft_range_state state, uint64_t first_ticket,
                         uint64_t next_ticket, uint64_t span_count) {
    ft_range *range = &region->ranges[index];
    if (!names_the_same(range, first_ticket, next_ticket, span_count)) {
        atomic_store_explicit(&range->state, FT_RANGE_NONE, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        atomic_store_explicit(&range->first_ticket, first_ticket, memory_order_relaxed);
        atomic_store_explicit(&range->next_ticket, next_ticket, memory_order_relaxed);
        atomic_store_explicit(&range->span_count, span_count, memory_order_relaxed);
    }
    atomic_store_explicit(&range->state, state, memory_order_release);
}

void ft_region_clear_range(ft_header *region, unsigned index) {
    atomic_store_explicit(&region->ranges[index].state, FT_RANGE_NONE, memory_order_release);
}
