/* A dead process's ring, read from a copy of its file. Whoever wrote the file may have been killed at any instruction,
 * and may have been anybody: nothing in it is believed.
 *
 *   - The copy is private memory: no page of it can vanish, no byte change under the reader.
 *   - The header decides nothing but by ft_region_valid, and the file is exactly as long as it says.
 *   - What the reader makes of slots and content is bounded by one lap and the arena (ring.h, content.h).
 *   - Content that would be copied into a line unescaped is validated first (json_valid.h), the resource too.
 *   - Ranges and calls in the air count only where their numbers can be true.
 *
 * LEDGER. Of the tickets from `acknowledged` to `head` each ends as exactly one of delivered, skipped, lost and torn.
 * `acknowledged` is the header's, or the oldest of the last lap where that lies beyond the head.
 *
 * Threads: one at a time. */
#ifndef FASTTRACE_RECOVERED_H
#define FASTTRACE_RECOVERED_H

#include "ring.h"

typedef struct {
    void *memory; /* as allocated; the region lies within, aligned */
    ft_ring ring;
    ft_reader reader;
    uint64_t acknowledged, head;
} ft_recovered;

/* INVALID: not a formatted region of exactly `size` bytes. */
typedef enum { FT_RECOVERED_OPEN, FT_RECOVERED_INVALID, FT_RECOVERED_NO_MEMORY } ft_recovered_result;

/* Copy the file and get ready to read it. Anything but FT_RECOVERED_OPEN leaves nothing to close. */
ft_recovered_result ft_recovered_open(ft_recovered *recovered, const void *data, size_t size);
void ft_recovered_close(ft_recovered *recovered);

/* A sound range of the header: within acknowledged and head, not empty, no more spans than tickets. An open one is made
 * again from the slots, so it has at most a lap; a settled one is passed over, and grows while a batch before it waits. */
typedef struct {
    uint64_t first_ticket, next_ticket, span_count;
    bool is_settled;
} ft_recovered_range;
/* Those that do not overlap one before them in the header, by first ticket; how many. */
size_t ft_recovered_ranges(const ft_recovered *recovered, ft_recovered_range ranges[FT_RANGES]);

/* The process's resource: one or more JSON members, or nothing. Which members are one's own the caller decides. */
size_t ft_recovered_resource(const ft_recovered *recovered, const char **members);

/* The calls that were in the air, into an empty batch, with tickets from the head on: spans of status `aborted` that
 * ran until the last sign of life, at most FT_ABORTED_MAX_NS. Left out are those without an identity, and those whose span
 * is in a slot already. False when out of memory. */
#define FT_ABORTED_MAX_NS (UINT64_C(3650) * 86400 * 1000000000) /* ten years: longer is a damaged file's */
bool ft_recovered_aborted(const ft_recovered *recovered, ft_batch *batch);

#endif
