/* The in-flight table (theory in inflight.h): its producers, any thread, and its reader, who may hold a dead process's
 * file, damaged or hostile. */
#include "fasttrace/inflight.h"
#include "fasttrace/ring.h"

#include <stdlib.h>
#include <string.h>
#ifdef _MSC_VER
#include <intrin.h>
#endif

enum { WORD_BITS = 64, NO_HINT = 0, WORDS_A_LINE = 8 };
#define ALL_TAKEN UINT64_MAX

static _Thread_local uint32_t hint; /* the word where this thread was served last, and 1; NO_HINT: never */
static _Atomic uint32_t threads;

bool ft_inflight_init(ft_inflight *table, ft_header *region) {
    uint32_t count = (uint32_t)region->inflight_count, words = (count + WORD_BITS - 1) / WORD_BITS;
    *table = (ft_inflight){.slots = (ft_inflight_slot *)(void *)((unsigned char *)region + region->inflight_offset),
                           .taken = calloc(words + 1, sizeof *table->taken),
                           .word_count = words};
    if (!table->taken)
        return false;
    if (count % WORD_BITS)
        atomic_init(&table->taken[words - 1], ALL_TAKEN << count % WORD_BITS);
    return true;
}

static uint32_t lowest_free(uint64_t taken) {
#ifdef _MSC_VER
    unsigned long bit;
    _BitScanForward64(&bit, ~taken);
    return bit;
#else
    return (uint32_t)__builtin_ctzll(~taken);
#endif
}

/* A thread's first word: eight of them start on as many cache lines. */
static uint32_t first_word(uint32_t word_count) {
    uint32_t thread = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed);
    return (thread * WORDS_A_LINE + thread / WORDS_A_LINE) % word_count;
}

/* A place of this word, or -1. Each try that fails is one that another call's succeeded. */
static int32_t claim_in(ft_inflight *table, uint32_t word) {
    uint64_t seen = atomic_load_explicit(&table->taken[word], memory_order_relaxed);
    for (int i = 0; i < WORD_BITS && seen != ALL_TAKEN; i++) {
        uint32_t bit = lowest_free(seen);
        seen = atomic_fetch_or_explicit(&table->taken[word], UINT64_C(1) << bit, memory_order_acquire);
        if (!(seen >> bit & 1))
            return (int32_t)(word * WORD_BITS + bit);
    }
    return -1;
}

static int32_t claim(ft_inflight *table) {
    uint32_t count = table->word_count;
    if (count == 0)
        return -1;
    uint32_t word = hint == NO_HINT ? first_word(count) : hint - 1;
    for (uint32_t i = 0; i < count; i++, word++) {
        if (word >= count)
            word = 0;
        int32_t place = claim_in(table, word);
        if (place < 0)
            continue;
        hint = word + 1;
        return place;
    }
    return -1;
}

static void state_advance(ft_inflight_slot *slot) {
    uint64_t state = atomic_load_explicit(&slot->state, memory_order_relaxed);
    atomic_store_explicit(&slot->state, state + 1, memory_order_release);
}

static void slot_fill(ft_inflight_slot *slot, const ft_inflight_call *call) {
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < FT_INFLIGHT_WORDS; i++) {
        uint64_t word;
        memcpy(&word, (const unsigned char *)call + 8 * i, sizeof word);
        atomic_store_explicit(&slot->words[i], word, memory_order_relaxed);
    }
}

int32_t ft_inflight_enter(ft_ring *ring, const ft_inflight_call *call) {
    if (!ft_ring_is_own(ring))
        return -1;
    int32_t place = claim(&ring->inflight);
    if (place < 0) {
        atomic_fetch_add_explicit(&ring->header->dropped[FT_DROP_INFLIGHT_FULL], 1, memory_order_relaxed);
        return -1;
    }
    ft_inflight_slot *slot = &ring->inflight.slots[place];
    slot_fill(slot, call);
    state_advance(slot);
    return place;
}

void ft_inflight_leave(ft_ring *ring, int32_t place) {
    if (place < 0 || !ft_ring_is_own(ring))
        return;
    state_advance(&ring->inflight.slots[place]);
    uint64_t bit = UINT64_C(1) << (uint32_t)place % WORD_BITS;
    atomic_fetch_and_explicit(&ring->inflight.taken[(uint32_t)place / WORD_BITS], ~bit, memory_order_release);
}

/* ---- the reader ---- */

static bool is_in_the_air(const ft_inflight_slot *slot) {
    return atomic_load_explicit(&slot->state, memory_order_acquire) & 1;
}

/* False where nobody is in the slot, or somebody came or went meanwhile. */
static bool slot_copy(const ft_inflight_slot *slot, ft_inflight_call *call) {
    uint64_t seen = atomic_load_explicit(&slot->state, memory_order_acquire);
    for (size_t i = 0; i < FT_INFLIGHT_WORDS; i++) {
        uint64_t word = atomic_load_explicit(&slot->words[i], memory_order_relaxed);
        memcpy((unsigned char *)call + 8 * i, &word, sizeof word);
    }
    atomic_thread_fence(memory_order_acquire);
    return seen & 1 && atomic_load_explicit(&slot->state, memory_order_relaxed) == seen;
}

static void strings_copy(ft_record *record, const ft_inflight_call *call) {
    static const uint8_t which[FT_INFLIGHT_STRINGS] = {FT_STR_OPERATION, FT_STR_NAME, FT_STR_PROVIDER, FT_STR_MODEL_ID,
                                                       FT_STR_SERVER_ADDRESS};
    for (int i = 0; i < FT_INFLIGHT_STRINGS; i++)
        record->strings[which[i]] = call->strings[i];
}

/* Without an answer the requested model is the model, as in every record. */
static void record_of(ft_record *record, const ft_inflight_call *call, int64_t until_ns) {
    *record = (ft_record){.trace_hi = call->trace_hi,
                          .trace_lo = call->trace_lo,
                          .span_id = call->span_id,
                          .parent_span_id = call->parent_span_id,
                          .start_unix_ns = call->start_unix_ns,
                          .kind = call->kind < FT_KIND_COUNT ? call->kind : FT_KIND_NONE,
                          .status = FT_STATUS_ABORTED,
                          .flags = call->is_stream ? FT_FLAG_STREAM : 0,
                          .server_port = call->server_port};
    if (until_ns > call->start_ns)
        record->duration_ns = (uint64_t)until_ns - (uint64_t)call->start_ns;
    if (call->server_port)
        record->present = UINT64_C(1) << FT_SERVER_PORT;
    strings_copy(record, call);
}

/* What no call of ours has: the file is damaged. */
static bool is_nameless(const ft_inflight_call *call) {
    return call->span_id == 0 || (call->trace_hi == 0 && call->trace_lo == 0);
}

static const ft_inflight_slot *slots_of(const ft_header *region) {
    return (const ft_inflight_slot *)(const void *)((const unsigned char *)region + region->inflight_offset);
}

bool ft_inflight_load(const ft_header *region, uint64_t i, ft_inflight_call *call) {
    return slot_copy(&slots_of(region)[i], call) && !is_nameless(call);
}

static size_t count_in_the_air(const ft_inflight_slot *slots, uint64_t slot_count) {
    size_t count = 0;
    for (uint64_t i = 0; i < slot_count; i++)
        count += is_in_the_air(&slots[i]);
    return count;
}

bool ft_inflight_read(const ft_header *region, ft_batch *batch, int64_t until_ns) {
    uint64_t slot_count = region->inflight_count, head = atomic_load_explicit(&region->head, memory_order_acquire);
    size_t room = count_in_the_air(slots_of(region), slot_count);
    ft_inflight_call call;
    batch->count = batch->content_length = 0;
    if (!ft_batch_reserve(batch, room))
        return false;
    for (uint64_t i = 0; i < slot_count && batch->count < room; i++) {
        if (!ft_inflight_load(region, i, &call))
            continue;
        record_of(&batch->records[batch->count], &call, until_ns);
        batch->tickets[batch->count] = head + batch->count;
        batch->count++;
    }
    batch->first_ticket = batch->count ? head : 0;
    batch->next_ticket = head + batch->count;
    return true;
}
