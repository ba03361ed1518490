/* The string table: the few strings that repeat (provider, model, operation, name, host), stored once in the mapping
 * and named by a 16-bit index, so that a 256-byte slot can hold a dozen of them.
 *
 * In the mapping it is append-only: entries of u16 length + text, padded to 8 bytes; index = offset / 8, and offset 0
 * is never used, so that index 0 means "none". An entry is written in full before its index is published, first in the
 * process-local hash index (release), then in whatever record names it. Two threads that add the same string at once
 * may both store it: a few bytes wasted, either index is right. When the table is full, strings travel with the span's
 * content instead; so they do in a fork child, which must not write to its parent's.
 *
 * Threads: intern from any, lock-free, a bounded number of probes. Text returned by get stays valid as long as the
 * mapping. */
#ifndef FASTTRACE_STRTAB_H
#define FASTTRACE_STRTAB_H

#include "region.h"

enum { FT_STRTAB_TEXT_MAX = 256, FT_STRTAB_FIRST = 8 }; /* longest entry; offset of the first */

typedef struct {
    ft_header *header;
    unsigned char *bytes; /* in the mapping */
    _Atomic uint32_t *slots; /* process-local open-addressing index: high half a hash tag, low half the entry's index */
    uint32_t mask;
    uint64_t process; /* who alone may add to it (ids.h); 0: whoever has it */
} ft_strtab;

bool ft_strtab_init(ft_strtab *table, ft_header *region);
/* Index of the string, adding it if new; 0 when empty, too long or the table is full. Lock-free, any thread. */
uint16_t ft_strtab_intern(ft_strtab *table, const char *text, size_t length);
/* The string behind an index; false (and empty) for an index that is not one: a file may be hostile. */
bool ft_strtab_get(const ft_header *region, uint16_t index, const char **text, size_t *length);

#endif
