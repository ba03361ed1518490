/* The producer's side of the ring (theory in ring.h): what a finished call runs. Any thread. */
#include "fasttrace/ring.h"
#include "fasttrace/content.h"

bool ft_ring_init(ft_ring *ring, ft_header *region) {
    if (!ft_region_valid(region, region->file_bytes))
        return false;
    unsigned char *base = (unsigned char *)region;
    *ring = (ft_ring){
        .header = region,
        .slots = (ft_slot *)(void *)(base + region->slots_offset),
        .slot_mask = region->slot_count - 1,
        .arena = (_Atomic uint64_t *)(void *)(base + region->arena_offset),
        .arena_mask = region->arena_bytes - 1,
    };
    return ft_strtab_init(&ring->strtab, region);
}

static _Atomic uint64_t rings; /* given out so far; copied by fork */

bool ft_ring_own(ft_ring *ring) {
    if (!ft_inflight_init(&ring->inflight, ring->header))
        return false;
    ft_fork_arm();
    ring->number = atomic_fetch_add_explicit(&rings, 1, memory_order_relaxed) + 1;
    ring->process = ring->strtab.process = ft_fork_process();
    return true;
}

static void drop_count(ft_ring *ring, ft_drop reason) {
    atomic_fetch_add_explicit(&ring->header->dropped[reason], 1, memory_order_relaxed);
}

static bool completes_quarter(const ft_ring *ring, uint64_t ticket) {
    return ((ticket + 1) & (ring->slot_mask >> 2)) == 0;
}

ft_push_result ft_ring_push(ft_ring *ring, ft_span *span) {
    if (!ft_content_write(ring, &span->record, span->content, span->content_length) || span->content_dropped)
        drop_count(ring, FT_DROP_CONTENT_TOO_LARGE);
    uint64_t ticket = atomic_fetch_add_explicit(&ring->header->head, 1, memory_order_relaxed);
    ft_slot *slot = &ring->slots[ticket & ring->slot_mask];
    if (!ft_slot_claim(slot, ticket)) {
        drop_count(ring, FT_DROP_BUSY);
        return FT_PUSH_DROPPED;
    }
    ft_slot_store(slot, &span->record);
    ft_slot_commit(slot, ticket);
    return completes_quarter(ring, ticket) ? FT_PUSHED_WAKE : FT_PUSHED;
}

static const uint8_t field_of_string[FT_RECORD_STRINGS] = {
    [FT_STR_OPERATION] = FT_OPERATION,         [FT_STR_NAME] = FT_NAME,
    [FT_STR_PROVIDER] = FT_PROVIDER,           [FT_STR_MODEL_ID] = FT_MODEL_ID,
    [FT_STR_REQUEST_MODEL] = FT_REQUEST_MODEL, [FT_STR_SERVER_ADDRESS] = FT_SERVER_ADDRESS,
    [FT_STR_ERROR_TYPE] = FT_ERROR_TYPE,       [FT_STR_ERROR_CODE] = FT_ERROR_CODE,
    [FT_STR_SERVICE_TIER] = FT_SERVICE_TIER,   [FT_STR_PRICE_VERSION] = FT_PRICE_VERSION,
};

void ft_ring_set_string(ft_ring *ring, ft_span *span, ft_record_string which, const char *text, size_t length) {
    ft_field field = (ft_field)field_of_string[which];
    length = ft_text_clip(text, length, ft_field_limit[field]);
    span->record.strings[which] = ft_strtab_intern(&ring->strtab, text, length);
    if (!span->record.strings[which] && length)
        ft_span_add_text(span, field, text, length);
}
