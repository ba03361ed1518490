/* For the GenMC harnesses, before the product's file is included: MUTANT_* takes one ordering away from it.
 *   NO_WRITE_FENCE   every release fence
 *   NO_READ_FENCE    every acquire fence
 *   RELAXED_COMMIT   the release of every store
 *   RELAXED_CLAIM    the acquire of every compare-and-swap
 * memcpy moves one aligned word, as all uses here do: the checker does not mix access sizes. */
#ifndef FASTTRACE_TESTS_GENMC_ORDERS_H
#define FASTTRACE_TESTS_GENMC_ORDERS_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void word_copy(void *to, const void *from) { *(uint64_t *)to = *(const uint64_t *)from; }
#undef memcpy
#define memcpy(to, from, bytes) word_copy(to, from)

static inline void release_fence(void) {
#ifndef MUTANT_NO_WRITE_FENCE
    atomic_thread_fence(memory_order_release);
#endif
}
static inline void acquire_fence(void) {
#ifndef MUTANT_NO_READ_FENCE
    atomic_thread_fence(memory_order_acquire);
#endif
}
#undef atomic_thread_fence
#define atomic_thread_fence(order) ((order) == memory_order_release ? release_fence() : acquire_fence())

#ifdef MUTANT_RELAXED_COMMIT
static inline void relaxed_store(_Atomic uint64_t *object, uint64_t value) {
    atomic_store_explicit(object, value, memory_order_relaxed);
}
#undef atomic_store_explicit
#define atomic_store_explicit(object, value, order) relaxed_store(object, value)
#endif

#ifdef MUTANT_RELAXED_CLAIM
static inline _Bool relaxed_exchange(_Atomic uint64_t *object, uint64_t *expected, uint64_t value) {
    return atomic_compare_exchange_strong_explicit(object, expected, value, memory_order_relaxed, memory_order_relaxed);
}
#undef atomic_compare_exchange_strong_explicit
#define atomic_compare_exchange_strong_explicit(object, expected, value, success, failure)                             \
    relaxed_exchange(object, expected, value)
#endif

#endif
