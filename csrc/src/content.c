/* The content arena's two copies, in by any thread and out by the consumer (theory in content.h). */
#include "fasttrace/content.h"

#include <string.h>

static uint64_t rounded(uint64_t length) { return (length + 7) & ~UINT64_C(7); }

static _Atomic uint64_t *arena_word(const ft_ring *ring, uint64_t position) {
    return &ring->arena[(position & ring->arena_mask) / 8];
}

/* Whole words only: the last one is padded with zeros, which the checksum does not cover. */
static void arena_store(ft_ring *ring, uint64_t position, const unsigned char *bytes, uint32_t length) {
    uint32_t i = 0;
    uint64_t word;
    for (; i + 8 <= length; i += 8) {
        memcpy(&word, bytes + i, sizeof word);
        atomic_store_explicit(arena_word(ring, position + i), word, memory_order_relaxed);
    }
    if (i == length)
        return;
    word = 0;
    memcpy(&word, bytes + i, length - i);
    atomic_store_explicit(arena_word(ring, position + i), word, memory_order_relaxed);
}

static void arena_load(const ft_ring *ring, uint64_t position, unsigned char *out, uint32_t length) {
    for (uint32_t i = 0; i < length; i += 8) {
        uint64_t word = atomic_load_explicit(arena_word(ring, position + i), memory_order_relaxed);
        memcpy(out + i, &word, length - i < 8 ? length - i : 8);
    }
}

static uint64_t length_limit(const ft_ring *ring) { return (ring->arena_mask + 1) / 2; }

bool ft_content_write(ft_ring *ring, ft_record *record, const unsigned char *bytes, uint32_t length) {
    record->content_position = 0;
    record->content_length = 0;
    record->content_crc = 0;
    if (length > length_limit(ring))
        return false;
    if (!length)
        return true;
    uint64_t position = atomic_fetch_add_explicit(&ring->header->arena_head, rounded(length), memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    arena_store(ring, position, bytes, length);
    record->content_position = position;
    record->content_length = length;
    record->content_crc = ft_crc32(bytes, length);
    return true;
}

/* Bytes claimed since the block's own claim began. */
static uint64_t distance_from_head(const ft_ring *ring, const ft_record *record) {
    return atomic_load_explicit(&ring->header->arena_head, memory_order_relaxed) - record->content_position;
}

bool ft_content_plausible(const ft_ring *ring, const ft_record *record) {
    uint64_t distance = distance_from_head(ring, record);
    return record->content_position % 8 == 0 && record->content_length <= length_limit(ring) &&
           distance >= rounded(record->content_length) && distance <= ring->arena_mask + 1;
}

bool ft_content_read(const ft_ring *ring, const ft_record *record, unsigned char *out) {
    arena_load(ring, record->content_position, out, record->content_length);
    atomic_thread_fence(memory_order_acquire);
    if (distance_from_head(ring, record) > ring->arena_mask + 1)
        return false;
    return ft_crc32(out, record->content_length) == record->content_crc;
}
