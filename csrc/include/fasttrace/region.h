/* The ring's memory: one mapping per process, normally MAP_SHARED on a file in tmpfs, so that what a finished call
 * wrote outlives the process by any death but the machine's. Layout, all offsets from the start of the mapping:
 *
 *     header page (4,096 bytes) | string table | in-flight table | slots | content arena
 *
 * Every part starts at a multiple of 4,096 and is padded to one. The shape (four sizes and the first ticket) determines
 * the whole layout, so a file whose offsets disagree with its sizes is not ours. head, acked and every slot's sequence
 * start at the first ticket (2 * first_ticket for the sequence), arena_head at 0, strtab_used at 8: string index 0
 * means "none".
 *
 * Python opens, locks, allocates and checks the file (core/_backing.py, shared by both twins) and hands over a
 * descriptor; C maps and formats it. The mapping is never unmapped while the process lives: a daemon thread may still
 * be reading. `ready` is stored last, with release: a file without it was never used. */
#ifndef FASTTRACE_REGION_H
#define FASTTRACE_REGION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FT_REGION_MAGIC UINT64_C(0x31474e4952545446) /* "FTTRING1" as bytes, little-endian */
enum { FT_REGION_VERSION = 1, FT_HEADER_BYTES = 4096, FT_DROP_REASONS = 16 };
enum { FT_INFLIGHT_SLOT_BYTES = 128, FT_INFLIGHT_MAX = 1 << 20 };

/* Why a span, or a part of one, was not kept. Counters in the header: they survive the process. */
typedef enum {
    FT_DROP_BUSY,             /* the slot's last writer is still in it: this push gave way */
    FT_DROP_CONTENT_TOO_LARGE, /* metadata kept, content larger than the arena takes */
    FT_DROP_INFLIGHT_FULL,     /* the call was recorded, but a crash would not have shown it in the air */
    FT_DROP_REASON_COUNT
} ft_drop;

/* What the exporter had in its hands beyond `acked`: the tickets first_ticket to next_ticket - 1, of which span_count
 * held a span. Whoever recovers the file makes the same batch of them again, under the same id, or, where they were
 * settled, passes them over. The state is stored last, with release: a half-written range is none. */
typedef enum { FT_RANGE_NONE, FT_RANGE_OPEN, FT_RANGE_SETTLED } ft_range_state;
typedef struct {
    _Atomic uint64_t state;
    _Atomic uint64_t first_ticket, next_ticket, span_count;
} ft_range;
enum { FT_RANGES = 8, FT_RESOURCE_MAX = 2048 };

typedef struct {
    uint64_t magic;               /* 0 */
    uint32_t version;             /* 8 */
    uint32_t header_bytes;        /* 12 */
    uint64_t file_bytes;          /* 16 */
    uint64_t strtab_offset;       /* 24 */
    uint64_t strtab_bytes;        /* 32 */
    uint64_t inflight_offset;     /* 40 */
    uint64_t inflight_count;      /* 48 */
    uint64_t slots_offset;        /* 56 */
    uint64_t slot_count;          /* 64 power of two */
    uint64_t arena_offset;        /* 72 */
    uint64_t arena_bytes;         /* 80 power of two */
    uint64_t first_ticket;        /* 88 */
    unsigned char boot_id[16];    /* 96 */
    unsigned char writer_id[16];  /* 112 */
    uint64_t pid;                 /* 128 */
    uint64_t process_start;       /* 136 start time of the process, clock ticks since boot; 0 where unknown */
    int64_t created_unix_ns;      /* 144 */
    _Atomic uint64_t ready;       /* 152 */
    _Alignas(128) _Atomic uint64_t head;        /* 256 next ticket */
    _Alignas(128) _Atomic uint64_t acked;       /* 384 every ticket below is sent, spooled or lost */
    _Alignas(128) _Atomic uint64_t arena_head;  /* 512 next byte of content, monotonic */
    _Alignas(128) _Atomic uint64_t strtab_used; /* 640 bytes of the string table in use */
    _Alignas(128) _Atomic uint64_t dropped[FT_DROP_REASONS]; /* 768 */
    _Alignas(128) _Atomic int64_t alive_ns;     /* 896 the owner's last sign of life, monotonic; 0: none yet */
    _Alignas(128) ft_range ranges[FT_RANGES];   /* 1024 */
    _Atomic uint64_t resource_length;           /* 1280 stored last, with release; 0: none */
    char resource[FT_RESOURCE_MAX];             /* 1288 JSON members that each span of this process carries */
    _Atomic uint64_t has_redaction;             /* 3336 not 0: the user's own redaction is still to be applied */
} ft_header;
_Static_assert(offsetof(ft_header, head) == 256 && offsetof(ft_header, acked) == 384 &&
                   offsetof(ft_header, arena_head) == 512 && offsetof(ft_header, strtab_used) == 640 &&
                   offsetof(ft_header, dropped) == 768 && offsetof(ft_header, alive_ns) == 896 &&
                   offsetof(ft_header, ranges) == 1024 && offsetof(ft_header, resource) == 1288 &&
                   offsetof(ft_header, has_redaction) == 3336,
               "the pure twin and recovery read this layout");
_Static_assert(sizeof(ft_header) <= FT_HEADER_BYTES, "the header fits its page");

typedef struct {
    uint64_t slot_count;     /* power of two, >= 2 */
    uint64_t arena_bytes;    /* power of two, >= 4,096 */
    uint64_t strtab_bytes;   /* multiple of 4,096, <= 512 KiB (16-bit indices of 8 bytes) */
    uint64_t inflight_count; /* slots of FT_INFLIGHT_SLOT_BYTES */
    uint64_t first_ticket;   /* 0; near 2^64 in tests */
} ft_region_shape;

typedef struct {
    unsigned char writer_id[16];
    unsigned char boot_id[16];
    uint64_t pid, process_start;
    int64_t created_unix_ns;
} ft_region_owner;

/* Bytes a region of this shape takes (a multiple of 4,096), or 0 if the shape is not valid. */
uint64_t ft_region_bytes(const ft_region_shape *shape);

/* Map `fd` (already of full size and allocated), or anonymous memory for fd < 0, populate it, and format it.
 * NULL with errno on failure. */
ft_header *ft_region_create(int fd, const ft_region_shape *shape, const ft_region_owner *owner);

/* Is this a formatted region whose every part lies within `mapped_bytes`? Ask before reading a file of another process:
 * it may be torn or hostile. */
bool ft_region_valid(const ft_header *region, uint64_t mapped_bytes);

/* ---- the owner's exporter thread, for whoever may have to recover the file; a death between any two stores leaves the
 * old, the new or nothing ---- */
/* A sign of life, by the monotonic clock. */
void ft_region_beat(ft_header *region, int64_t now_ns);
/* JSON members without braces; more than FT_RESOURCE_MAX bytes are left out. */
void ft_region_set_resource(ft_header *region, const char *members, size_t length);
/* Whether the process redacts by a function of its user's before anything leaves it: who recovers has none like it. */
void ft_region_set_redaction(ft_header *region, bool has_redaction);
bool ft_region_has_redaction(const ft_header *region);
/* One of the FT_RANGES ranges. Where only the state differs from what is there, nothing else is touched. */
void ft_region_set_range(ft_header *region, unsigned index, ft_range_state state, uint64_t first_ticket,
                         uint64_t next_ticket, uint64_t span_count);
void ft_region_clear_range(ft_header *region, unsigned index);

#endif
