/* The in-flight table: one slot per call from its start to its end, so that a process that dies by any death shows which
 * calls it had in the air.
 *
 * A PLACE IS FOUND without waiting. Who owns a place is nobody's business but the process's: a bitmap in its private
 * memory, one 64-bit word per 64 slots. A call claims a bit by one fetch_or and gives it back by one fetch_and. Each
 * thread starts at the word where it was served last, threads at words on different cache lines, so that two of them
 * meet only when there are more threads than words. A fetch_or that found its bit taken means that another call got a
 * place; tries are counted, so are words: the number of instructions is bounded. None free: -1, counted in the header,
 * and the call is recorded all the same.
 *
 * WHAT A CRASH SHOWS is the slot. Its state is a generation: even while nobody is in it, odd while its call is in the
 * air.
 *     enter   claim the bit, store the words, state + 1 with release
 *     leave   state + 1 with release, give the bit back
 * so the words of an odd state are whole, at whatever instruction the process dies. leave comes after the push of the
 * call's span: a death between the two leaves both, and recovery drops the call because a record with its span id is
 * in the ring; the other way round it would leave neither.
 *
 * A READER, here or in another process, copies the words between two looks at the state, as a slot's record (slot.h):
 * a copy counts only if both looks saw the same odd number. Why each order is there:
 *   - state, release at enter, acquire at the first look: who sees it odd sees the words.
 *   - claim acquire, give back release: the last owner's even state comes before the next owner's words.
 *   - fence, release after the claim, acquire before the second look: who saw a word of the next call sees at least the
 *     even state between the two.
 *
 * A FORK CHILD, or a process that replaced its ring, may end calls that another ring knows of. Each ring remembers the
 * number of the process that made it (ids.h); in any other both steps do nothing: the parent's calls are its own. */
#ifndef FASTTRACE_INFLIGHT_H
#define FASTTRACE_INFLIGHT_H

#include "region.h"

typedef struct ft_ring ft_ring;

/* Strings of a call, as indices into the string table, in this order; 0 is "none", or a table that was full. */
enum { FT_INFLIGHT_STRINGS = 5 }; /* operation, name, provider, request_model, server_address */
enum { FT_INFLIGHT_WORDS = 8 };

typedef struct {
    uint64_t trace_hi, trace_lo; /* 0; in the slot 8 more */
    uint64_t span_id;            /* 16 */
    uint64_t parent_span_id;     /* 24 */
    int64_t start_unix_ns;       /* 32 */
    int64_t start_ns;            /* 40 monotonic */
    uint16_t strings[FT_INFLIGHT_STRINGS]; /* 48 */
    uint16_t server_port;        /* 58 0: the scheme's own */
    uint8_t kind, is_stream;     /* 60 */
    uint8_t reserved[2];         /* 62 */
} ft_inflight_call;
_Static_assert(sizeof(ft_inflight_call) == 8 * FT_INFLIGHT_WORDS, "words without padding");

typedef struct {
    _Atomic uint64_t state;                    /* 0 */
    _Atomic uint64_t words[FT_INFLIGHT_WORDS]; /* 8 an ft_inflight_call */
    uint64_t reserved[7];                      /* 72 */
} ft_inflight_slot;
_Static_assert(sizeof(ft_inflight_slot) == FT_INFLIGHT_SLOT_BYTES, "two cache lines");

typedef struct {
    ft_inflight_slot *slots; /* in the mapping */
    _Atomic uint64_t *taken; /* process-local; a set bit: somebody's, or behind the last slot */
    uint32_t word_count;
} ft_inflight;

/* Room for the bitmap of the table in this region; false when out of memory. ft_ring_own does it. */
bool ft_inflight_init(ft_inflight *table, ft_header *region);
/* A call is in the air: its place, or -1 (counted) where none is free or (uncounted) the ring is another process's.
 * Wait-free, any thread, async-signal-safe. */
int32_t ft_inflight_enter(ft_ring *ring, const ft_inflight_call *call);
/* Copy the call in slot `i`; false where none is in the air there, or one came or went meanwhile, or has no ids, as no
 * call of ours. The region may be a dead process's, damaged. */
bool ft_inflight_load(const ft_header *region, uint64_t i, ft_inflight_call *call);
/* It is not any more. -1, and a place in another process's ring, are left alone. */
void ft_inflight_leave(ft_ring *ring, int32_t place);

#endif
