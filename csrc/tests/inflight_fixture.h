/* Calls whose every word can be checked, and a ring with room for as many of them as a test wants. */
#ifndef FASTTRACE_TESTS_INFLIGHT_FIXTURE_H
#define FASTTRACE_TESTS_INFLIGHT_FIXTURE_H

#include "ring_fixture.h"

#define CALL_UNTIL_NS (INT64_C(1) << 62) /* later than any call of these starts */

static inline void ring_open_for_calls(ft_ring *ring, int fd, uint64_t slots, uint64_t inflight) {
    ft_region_shape shape = {
        .slot_count = slots, .arena_bytes = 4096, .strtab_bytes = 4096, .inflight_count = inflight};
    ring_open_shape(ring, fd, &shape);
}

/* `key`, not 0, is its span id. */
static inline ft_inflight_call call_of(uint64_t key) {
    uint64_t words[FT_INFLIGHT_WORDS];
    ft_inflight_call call;
    for (uint64_t i = 0; i < FT_INFLIGHT_WORDS; i++)
        words[i] = mix(key * 64 + i) | 1;
    memcpy(&call, words, sizeof call);
    call.span_id = key;
    call.start_ns &= CALL_UNTIL_NS - 1;
    call.kind = (uint8_t)(key % (FT_KIND_COUNT - 1) + 1);
    call.is_stream = key & 1;
    return call;
}

/* Is it the record of the call that its span id names? */
static inline bool call_is_whole(const ft_record *record) {
    ft_inflight_call call = call_of(record->span_id);
    const uint16_t *strings = record->strings;
    return record->trace_hi == call.trace_hi && record->trace_lo == call.trace_lo &&
           record->parent_span_id == call.parent_span_id && record->start_unix_ns == call.start_unix_ns &&
           record->duration_ns == (uint64_t)(CALL_UNTIL_NS - call.start_ns) && record->kind == call.kind &&
           record->status == FT_STATUS_ABORTED && record->flags == (call.is_stream ? FT_FLAG_STREAM : 0) &&
           record->server_port == call.server_port && strings[FT_STR_OPERATION] == call.strings[0] &&
           strings[FT_STR_NAME] == call.strings[1] && strings[FT_STR_PROVIDER] == call.strings[2] &&
           strings[FT_STR_MODEL_ID] == call.strings[3] && !strings[FT_STR_REQUEST_MODEL] &&
           strings[FT_STR_SERVER_ADDRESS] == call.strings[4] && !record->content_length;
}

static inline int32_t enter_key(ft_ring *ring, uint64_t key) {
    ft_inflight_call call = call_of(key);
    return ft_inflight_enter(ring, &call);
}

#endif
