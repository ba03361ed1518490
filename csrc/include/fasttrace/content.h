/* The content arena: a byte ring for whatever of a span varies in size, so that a slot stays 256 bytes.
 *
 * A writer claims its bytes by adding the length, rounded up to 8, to `arena_head`, which only ever grows: a block is
 * named by its position there, and lies at position modulo arena_bytes, wrapping at the end. Nobody waits: the newest
 * block takes the oldest one's bytes. The claim is made and the bytes are copied BEFORE the record gets its ticket, so
 * a complete record never names content that was not written.
 *
 * A block is intact if, after it was copied out, arena_head has not moved more than arena_bytes past its position, and
 * its CRC-32 agrees. The first look needs the writer's release fence (who sees a word of a newer block sees the claim
 * that allowed it) and the reader's acquire fence. The second catches what no counter can: a writer that stalled
 * inside its copy for a whole lap and then wrote into a younger block. */
#ifndef FASTTRACE_CONTENT_H
#define FASTTRACE_CONTENT_H

#include "ring.h"

/* zlib's CRC-32. */
uint32_t ft_crc32(const void *data, size_t length);

/* Copy `length` bytes into the arena and set the record's position, length and checksum. False, and no content in the
 * record, when they are more than half the arena: one block must not push out everybody else's. */
bool ft_content_write(ft_ring *ring, ft_record *record, const unsigned char *bytes, uint32_t length);

/* Could the record's block be in the arena at all? The record may come from a damaged file. */
bool ft_content_plausible(const ft_ring *ring, const ft_record *record);

/* Copy the block of a plausible record to `out` (room for content_length bytes); false when it is no longer intact. */
bool ft_content_read(const ft_ring *ring, const ft_record *record, unsigned char *out);

#endif
