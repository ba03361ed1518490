/* The in-flight table: one slot per started call, so that a crash shows which calls were in the air. Every
 * ring file has room for it; a table of zeros says that nothing was entered.
 *
 * A slot's state is a generation: odd while a call is in the air, even before and after. */
#ifndef FASTTRACE_INFLIGHT_H
#define FASTTRACE_INFLIGHT_H
#include "region.h"

/* Strings of a slot, as indices into the string table, in this order; 0 is "none". */
enum { FT_INFLIGHT_STRINGS = 5 }; /* operation, name, provider, request_model, server_address */

typedef struct {
    _Atomic uint64_t state;      /* 0 */
    uint64_t trace_hi, trace_lo; /* 8 */
    uint64_t span_id;            /* 24 */
    uint64_t parent_span_id;     /* 32 */
    int64_t start_unix_ns;       /* 40 */
    int64_t start_ns;            /* 48 monotonic */
    uint16_t strings[FT_INFLIGHT_STRINGS]; /* 56 */
    uint16_t server_port;        /* 66 0: the scheme's own */
    uint8_t kind, is_stream;     /* 68 */
    uint8_t reserved[58];        /* 70 */
} ft_inflight_slot;
_Static_assert(sizeof(ft_inflight_slot) == FT_INFLIGHT_SLOT_BYTES, "two cache lines");
#endif
