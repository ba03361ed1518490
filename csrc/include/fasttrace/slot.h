/* One slot of the ring: a record under a sequence lock, written by whoever holds its ticket.
 *
 *     sequence   2 * first_ticket   fresh
 *                2t + 1             ticket t is being written
 *                2t + 2             ticket t is complete
 *
 * Writer: one CAS to 2t+1, release fence, relaxed stores of the words, sequence = 2t+2 with release.
 * Reader: sequence (acquire), relaxed loads of the words, acquire fence, sequence again; a copy counts only if both
 * looks saw 2t+2.
 *
 * Why each order is there (the model under csrc/tests/model removes them one by one, and each removal is caught):
 *   - CAS acquire: the words of the ticket a lap before come before ours in every word's order.
 *   - release fence: a reader that saw one of our words sees at least 2t+1 when it looks again.
 *   - commit release, reader acquire: who sees 2t+2 sees all words of t.
 *   - acquire fence: the second look is not taken before the words are read.
 *
 * Comparisons are signed differences, so they hold across the wrap of the 64-bit sequence (at ticket 2^63) and of the
 * ticket itself. This file stands alone: the model checker compiles it with fewer words. */
#ifndef FASTTRACE_SLOT_H
#define FASTTRACE_SLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifndef FT_SLOT_WORDS
#define FT_SLOT_WORDS 31
#endif

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock in the mapping would die with its holder");

typedef struct {
    _Atomic uint64_t sequence;
    _Atomic uint64_t words[FT_SLOT_WORDS];
} ft_slot;

/* What a reader finds for a ticket. UNFINISHED: not written yet, or given way to an older writer; they look alike. */
typedef enum { FT_SLOT_READ, FT_SLOT_UNFINISHED, FT_SLOT_OVERWRITTEN } ft_slot_state;

static inline void ft_slot_reset(ft_slot *slot, uint64_t first_ticket) {
    atomic_store_explicit(&slot->sequence, 2 * first_ticket, memory_order_relaxed);
}

/* False: another writer is in the slot, or a newer ticket has been there. */
static inline bool ft_slot_claim(ft_slot *slot, uint64_t ticket) {
    uint64_t seen = atomic_load_explicit(&slot->sequence, memory_order_relaxed);
    if ((seen & 1) || (int64_t)(seen - 2 * ticket) > 0)
        return false;
    if (!atomic_compare_exchange_strong_explicit(&slot->sequence, &seen, 2 * ticket + 1, memory_order_acquire,
                                                 memory_order_relaxed))
        return false;
    atomic_thread_fence(memory_order_release);
    return true;
}

static inline void ft_slot_store(ft_slot *slot, const void *record) {
    for (size_t i = 0; i < FT_SLOT_WORDS; i++) {
        uint64_t word;
        memcpy(&word, (const unsigned char *)record + 8 * i, sizeof word);
        atomic_store_explicit(&slot->words[i], word, memory_order_relaxed);
    }
}

static inline void ft_slot_commit(ft_slot *slot, uint64_t ticket) {
    atomic_store_explicit(&slot->sequence, 2 * ticket + 2, memory_order_release);
}

/* Copy the record of `ticket` out; `record` holds garbage unless the answer is FT_SLOT_READ. */
static inline ft_slot_state ft_slot_load(const ft_slot *slot, uint64_t ticket, void *record) {
    const uint64_t complete = 2 * ticket + 2;
    uint64_t seen = atomic_load_explicit(&slot->sequence, memory_order_acquire);
    if (seen != complete)
        return (int64_t)(seen - complete) > 0 ? FT_SLOT_OVERWRITTEN : FT_SLOT_UNFINISHED;
    for (size_t i = 0; i < FT_SLOT_WORDS; i++) {
        uint64_t word = atomic_load_explicit(&slot->words[i], memory_order_relaxed);
        memcpy((unsigned char *)record + 8 * i, &word, sizeof word);
    }
    atomic_thread_fence(memory_order_acquire);
    seen = atomic_load_explicit(&slot->sequence, memory_order_relaxed);
    return seen == complete ? FT_SLOT_READ : FT_SLOT_OVERWRITTEN;
}

#endif
