/* See recovered.h. Runs on the exporter thread of whoever recovers, without the GIL. */
#include "fasttrace/recovered.h"
#include "fasttrace/inflight.h"
#include "json_valid.h"

#include <stdlib.h>
#include <string.h>

/* Malloc promises less than the header's cache lines ask for. */
static void *aligned_within(void *memory) {
    uintptr_t alignment = _Alignof(ft_header), start = (uintptr_t)memory;
    return (void *)((start + alignment - 1) / alignment * alignment);
}

/* Asked of a copy of the header, so that nothing of the claimed size is taken before the claim is known to be true. */
static bool is_region(const void *data, size_t size) {
    ft_header header;
    if (size < FT_HEADER_BYTES)
        return false;
    memcpy((void *)&header, data, sizeof header);
    return ft_region_valid(&header, size) && header.file_bytes == size;
}

/* A price version may be added to the copy's table: its end must be one. */
static void strtab_end_repair(ft_header *header) {
    uint64_t used = atomic_load_explicit(&header->strtab_used, memory_order_relaxed), limit = header->strtab_bytes;
    uint64_t end = used < limit ? (used + 7) & ~UINT64_C(7) : limit;
    atomic_store_explicit(&header->strtab_used, end > FT_STRTAB_FIRST ? end : FT_STRTAB_FIRST, memory_order_relaxed);
}

ft_recovered_result ft_recovered_open(ft_recovered *recovered, const void *data, size_t size) {
    *recovered = (ft_recovered){0};
    if (!is_region(data, size))
        return FT_RECOVERED_INVALID;
    if (!(recovered->memory = malloc(size + _Alignof(ft_header))))
        return FT_RECOVERED_NO_MEMORY;
    ft_header *header = aligned_within(recovered->memory);
    memcpy((void *)header, data, size);
    strtab_end_repair(header);
    if (!ft_ring_init(&recovered->ring, header)) {
        ft_recovered_close(recovered);
        return FT_RECOVERED_NO_MEMORY;
    }
    ft_reader_init_dead(&recovered->reader, &recovered->ring);
    recovered->acknowledged = recovered->reader.next;
    recovered->head = atomic_load_explicit(&header->head, memory_order_relaxed);
    return FT_RECOVERED_OPEN;
}

void ft_recovered_close(ft_recovered *recovered) {
    free((void *)recovered->ring.strtab.slots);
    free(recovered->memory);
    *recovered = (ft_recovered){0};
}

/* ---- ranges ---- */

static bool range_load(const ft_recovered *recovered, unsigned i, ft_recovered_range *range) {
    const ft_range *stored = &recovered->ring.header->ranges[i];
    uint64_t state = atomic_load_explicit(&stored->state, memory_order_relaxed);
    *range = (ft_recovered_range){
        .first_ticket = atomic_load_explicit(&stored->first_ticket, memory_order_relaxed),
        .next_ticket = atomic_load_explicit(&stored->next_ticket, memory_order_relaxed),
        .span_count = atomic_load_explicit(&stored->span_count, memory_order_relaxed),
        .is_settled = state == FT_RANGE_SETTLED,
    };
    uint64_t start = range->first_ticket - recovered->acknowledged, tickets = range->next_ticket - range->first_ticket;
    uint64_t limit = recovered->head - recovered->acknowledged, lap = recovered->ring.slot_mask + 1;
    bool is_known = state == FT_RANGE_SETTLED || (state == FT_RANGE_OPEN && tickets <= lap);
    return is_known && start < limit && tickets > 0 && tickets <= limit - start && range->span_count <= tickets;
}

/* Ranges in the order of their tickets: `range` at its place, or not at all where it overlaps another. */
static size_t range_insert(const ft_recovered *recovered, ft_recovered_range *ranges, size_t count,
                           const ft_recovered_range *range) {
    uint64_t acknowledged = recovered->acknowledged;
    uint64_t start = range->first_ticket - acknowledged, end = range->next_ticket - acknowledged;
    size_t place = 0;
    while (place < count && ranges[place].next_ticket - acknowledged <= start)
        place++;
    if (place < count && ranges[place].first_ticket - acknowledged < end)
        return count;
    memmove(&ranges[place + 1], &ranges[place], (count - place) * sizeof *ranges);
    ranges[place] = *range;
    return count + 1;
}

size_t ft_recovered_ranges(const ft_recovered *recovered, ft_recovered_range ranges[FT_RANGES]) {
    size_t count = 0;
    ft_recovered_range range;
    for (unsigned i = 0; i < FT_RANGES; i++)
        if (range_load(recovered, i, &range))
            count = range_insert(recovered, ranges, count, &range);
    return count;
}

/* ---- the resource ---- */

size_t ft_recovered_resource(const ft_recovered *recovered, const char **members) {
    const ft_header *header = recovered->ring.header;
    uint64_t length = atomic_load_explicit(&header->resource_length, memory_order_relaxed);
    char object[FT_RESOURCE_MAX + 2];
    *members = header->resource;
    if (length == 0 || length > FT_RESOURCE_MAX || header->resource[0] != '"')
        return 0;
    object[0] = '{';
    memcpy(object + 1, header->resource, (size_t)length);
    object[length + 1] = '}';
    return ft_json_valid(object, (size_t)length + 2, '{') ? (size_t)length : 0;
}

/* ---- calls in the air ---- */

static int64_t last_sign_ns(const ft_header *header) {
    int64_t last_ns = atomic_load_explicit(&header->alive_ns, memory_order_relaxed);
    ft_inflight_call call;
    for (uint64_t i = 0; i < header->inflight_count; i++)
        if (ft_inflight_load(header, i, &call) && call.start_ns > last_ns)
            last_ns = call.start_ns;
    return last_ns;
}

static int ids_compare(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Whole records, of whatever lap: an even sequence that a ticket left. */
static size_t ids_of_slots(const ft_recovered *recovered, uint64_t *ids) {
    const ft_ring *ring = &recovered->ring;
    uint64_t fresh = 2 * ring->header->first_ticket;
    size_t count = 0;
    for (uint64_t i = 0; i <= ring->slot_mask; i++) {
        uint64_t sequence = atomic_load_explicit(&ring->slots[i].sequence, memory_order_relaxed);
        if (!(sequence & 1) && sequence != fresh)
            ids[count++] = atomic_load_explicit(&ring->slots[i].words[offsetof(ft_record, span_id) / 8],
                                                memory_order_relaxed);
    }
    qsort(ids, count, sizeof *ids, ids_compare);
    return count;
}

/* A call whose span is in the ring ended: its owner died before it could say so in the table. */
static void ended_leave_out(ft_batch *batch, const uint64_t *ids, size_t id_count) {
    size_t kept = 0;
    for (size_t i = 0; i < batch->count; i++) {
        ft_record *record = &batch->records[i];
        if (bsearch(&record->span_id, ids, id_count, sizeof *ids, ids_compare))
            continue;
        if (record->duration_ns > FT_ABORTED_MAX_NS)
            record->duration_ns = FT_ABORTED_MAX_NS;
        batch->records[kept++] = *record;
    }
    batch->count = kept;
}

bool ft_recovered_aborted(const ft_recovered *recovered, ft_batch *batch) {
    const ft_header *header = recovered->ring.header;
    uint64_t *ids = malloc((size_t)(recovered->ring.slot_mask + 1) * sizeof *ids);
    bool has_memory = ids && ft_inflight_read(header, batch, last_sign_ns(header));
    if (has_memory)
        ended_leave_out(batch, ids, ids_of_slots(recovered, ids));
    else
        batch->count = batch->content_length = 0;
    free(ids);
    batch->first_ticket = batch->count ? recovered->head : 0;
    batch->next_ticket = recovered->head + batch->count;
    return has_memory;
}
