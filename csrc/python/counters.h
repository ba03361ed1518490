/* The header's counters for Cython, which knows no atomics. */
#ifndef FASTTRACE_PYTHON_COUNTERS_H
#define FASTTRACE_PYTHON_COUNTERS_H

#include "fasttrace/ring.h"

static inline uint64_t ft_ring_recorded(const ft_ring *ring) {
    return atomic_load_explicit(&ring->header->head, memory_order_acquire) - ring->header->first_ticket;
}
static inline uint64_t ft_ring_acknowledged(const ft_ring *ring) {
    return atomic_load_explicit(&ring->header->acked, memory_order_relaxed) - ring->header->first_ticket;
}
static inline uint64_t ft_ring_dropped(const ft_ring *ring, ft_drop reason) {
    return atomic_load_explicit(&ring->header->dropped[reason], memory_order_relaxed);
}

#endif
