/* The in-flight table: one slot per started call, so that a crash shows which calls were in the air. Every
 * ring file has room for it; a table of zeros says that nothing was entered. */
#ifndef FASTTRACE_INFLIGHT_H
#define FASTTRACE_INFLIGHT_H
#include "region.h"
typedef struct {
    _Atomic uint64_t state; /* 0 free, else the low bit of a generation marks a slot in use */
    uint64_t trace_hi, trace_lo, span_id, parent_span_id;
    int64_t start_unix_ns;
    uint64_t start_monotonic_ns;
    uint16_t operation, name, provider, request_model; /* string table indices */
    uint8_t kind, reserved_bytes[7];
    uint64_t reserved[7];
} ft_inflight_slot;
_Static_assert(sizeof(ft_inflight_slot) == FT_INFLIGHT_SLOT_BYTES, "two cache lines");
#endif
