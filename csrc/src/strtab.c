/* Interning of repeated strings (theory in strtab.h). Intern: any thread; get: the consumer, who may
 * hold a hostile file. */
#include "fasttrace/strtab.h"
#include "fasttrace/ids.h"

#include <stdlib.h>
#include <string.h>

/* Probes of the hash index before a string counts as not storable: bounds the time of a call, whatever the strings. */
enum { PROBE_LIMIT = 64, LENGTH_BYTES = 2 };

bool ft_strtab_init(ft_strtab *table, ft_header *region) {
    uint32_t capacity = 2;
    while (capacity < 2 * (region->strtab_bytes / 8))
        capacity *= 2;
    _Atomic uint32_t *slots = calloc(capacity, sizeof *slots);
    if (!slots)
        return false;
    *table = (ft_strtab){.header = region,
                         .bytes = (unsigned char *)region + region->strtab_offset,
                         .slots = slots,
                         .mask = capacity - 1};
    return true;
}

static uint64_t text_hash(const char *text, size_t length) {
    uint64_t hash = length * UINT64_C(0x9e3779b97f4a7c15), word;
    for (; length >= 8; text += 8, length -= 8) {
        memcpy(&word, text, 8);
        hash = (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, text, length);
    hash = (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
    return hash ^ hash >> 32;
}

/* Claim room, never past the end of the table; then write the entry: nobody knows its index yet. */
static uint16_t entry_append(ft_strtab *table, const char *text, size_t length) {
    if (table->process && table->process != ft_fork_process())
        return 0;
    uint64_t bytes = (LENGTH_BYTES + length + 7) & ~UINT64_C(7);
    uint64_t limit = table->header->strtab_bytes;
    uint64_t used = atomic_load_explicit(&table->header->strtab_used, memory_order_relaxed);
    do {
        if (used > limit || bytes > limit - used)
            return 0;
    } while (!atomic_compare_exchange_weak_explicit(&table->header->strtab_used, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    uint16_t stored = (uint16_t)length;
    memcpy(table->bytes + used, &stored, LENGTH_BYTES);
    memcpy(table->bytes + used + LENGTH_BYTES, text, length);
    return (uint16_t)(used / 8);
}

static bool entry_equals(const ft_strtab *table, uint16_t index, const char *text, size_t length) {
    const unsigned char *entry = table->bytes + (size_t)index * 8;
    uint16_t stored;
    memcpy(&stored, entry, LENGTH_BYTES);
    return stored == length && !memcmp(entry + LENGTH_BYTES, text, length);
}

uint16_t ft_strtab_intern(ft_strtab *table, const char *text, size_t length) {
    if (!length || length > FT_STRTAB_TEXT_MAX)
        return 0;
    uint64_t hash = text_hash(text, length);
    uint32_t tag = (uint32_t)(hash >> 48) << 16;
    uint16_t own = 0;
    for (uint32_t i = (uint32_t)hash, probe = 0; probe < PROBE_LIMIT; i++, probe++) {
        _Atomic uint32_t *slot = &table->slots[i & table->mask];
        uint32_t seen = atomic_load_explicit(slot, memory_order_acquire);
        if (!seen) {
            if (!own && !(own = entry_append(table, text, length)))
                return 0;
            if (atomic_compare_exchange_strong_explicit(slot, &seen, tag | own, memory_order_acq_rel,
                                                        memory_order_acquire))
                return own;
        }
        if ((seen & 0xffff0000) == tag && entry_equals(table, (uint16_t)seen, text, length))
            return (uint16_t)seen;
    }
    return own;
}

bool ft_strtab_get(const ft_header *region, uint16_t index, const char **text, size_t *length) {
    *text = "";
    *length = 0;
    uint64_t used = atomic_load_explicit(&region->strtab_used, memory_order_relaxed);
    uint64_t limit = used < region->strtab_bytes ? used : region->strtab_bytes;
    uint64_t start = (uint64_t)index * 8 + LENGTH_BYTES;
    if (!index || start > limit)
        return false;
    const char *entry = (const char *)region + region->strtab_offset + start;
    uint16_t stored;
    memcpy(&stored, entry - LENGTH_BYTES, LENGTH_BYTES);
    if (!stored || stored > FT_STRTAB_TEXT_MAX || stored > limit - start)
        return false;
    *text = entry;
    *length = stored;
    return true;
}
