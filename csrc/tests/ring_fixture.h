/* A ring in anonymous memory for tests, spans whose every word can be checked, and time that only tests move. */
#ifndef FASTTRACE_TESTS_RING_FIXTURE_H
#define FASTTRACE_TESTS_RING_FIXTURE_H

#include "fasttrace/content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static inline uint64_t mix(uint64_t value) {
    value = (value ^ value >> 33) * UINT64_C(0xff51afd7ed558ccd);
    value = (value ^ value >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return value ^ value >> 33;
}

static inline void ring_open_shape(ft_ring *ring, int fd, const ft_region_shape *shape) {
    ft_region_owner owner = {.writer_id = "writer", .boot_id = "boot", .pid = 42};
    ft_header *region = ft_region_create(fd, shape, &owner);
    if (region && ft_ring_init(ring, region) && ft_ring_own(ring))
        return;
    perror("ring_open");
    exit(EXIT_FAILURE);
}

static inline void ring_open(ft_ring *ring, int fd, uint64_t slots, uint64_t arena_bytes, uint64_t first_ticket) {
    ft_region_shape shape = {.slot_count = slots,
                             .arena_bytes = arena_bytes,
                             .strtab_bytes = 4096,
                             .inflight_count = 4,
                             .first_ticket = first_ticket};
    ring_open_shape(ring, fd, &shape);
}

static inline void ring_close(ft_ring *ring) {
    free(ring->strtab.slots);
    free(ring->inflight.taken);
    munmap(ring->header, ring->header->file_bytes);
}

static inline uint64_t ring_head(const ft_ring *ring) { return atomic_load(&ring->header->head); }
static inline uint64_t ring_dropped(const ft_ring *ring, ft_drop reason) {
    return atomic_load(&ring->header->dropped[reason]);
}

/* Every word that the ring only carries is a function of `key`; kind and status keep valid codes. */
static inline void record_fill(ft_record *record, uint64_t key) {
    uint64_t words[FT_RECORD_WORDS];
    for (int i = 0; i < FT_RECORD_WORDS; i++)
        words[i] = mix(key * 64 + (uint64_t)i);
    memcpy(record, words, sizeof words);
    record->trace_hi = key;
    record->kind = FT_KIND_LLM;
    record->status = FT_STATUS_SUCCESS;
    record->flags = 0;
    memset(record->strings, 0, sizeof record->strings);
    record->content_position = record->content_length = record->content_crc = 0;
}

/* Does the record carry what record_fill gave it? Strings, content and the flags of the reader aside. */
static inline bool record_matches(const ft_record *record, uint64_t key) {
    ft_record wanted, got = *record;
    record_fill(&wanted, key);
    memcpy(got.strings, wanted.strings, sizeof got.strings);
    got.content_position = 0;
    got.content_length = got.content_crc = 0;
    got.flags = 0;
    return !memcmp(&wanted, &got, sizeof wanted);
}

static inline uint32_t content_length_of(uint64_t key, uint32_t limit) { return (uint32_t)(mix(key + 7) % limit) + 1; }

static inline void content_fill(unsigned char *out, uint32_t length, uint64_t key) {
    for (uint32_t i = 0; i < length; i++)
        out[i] = (unsigned char)(mix(key ^ i / 8) >> i % 8 * 8);
}

static inline bool content_matches(const unsigned char *content, uint32_t length, uint64_t key) {
    for (uint32_t i = 0; i < length; i++)
        if (content[i] != (unsigned char)(mix(key ^ i / 8) >> i % 8 * 8))
            return false;
    return true;
}

/* A span of this key with `length` raw bytes of content (at most FT_SPAN_INLINE). */
static inline void span_fill(ft_span *span, uint64_t key, uint32_t length) {
    ft_span_init(span);
    record_fill(&span->record, key);
    content_fill(span->content, length, key);
    span->content_length = length;
}

static inline ft_push_result push_key(ft_ring *ring, uint64_t key, uint32_t length) {
    ft_span span;
    span_fill(&span, key, length);
    return ft_ring_push(ring, &span);
}

static inline bool ledger_holds(const ft_reader *reader) {
    const ft_reader_counters *counters = &reader->counters;
    uint64_t passed = reader->next - reader->ring->header->first_ticket;
    return passed == counters->delivered + counters->lost + counters->pending &&
           counters->pending == reader->pending_count;
}

#endif
