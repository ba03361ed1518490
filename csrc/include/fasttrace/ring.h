/* The ring: spans from any thread to one reader, through memory that outlives the process, and nobody ever waits.
 *
 * TICKETS. A push takes the next ticket t from `head` (fetch_add) and owns, with it, one chance at slot t modulo
 * slot_count. It claims the slot by one CAS on the slot's sequence (slot.h); if an older writer is still inside, or a
 * newer ticket has already been there, the push gives way: the span is dropped and counted as busy. No loop, no lock:
 * the number of instructions is bounded, and a thread stopped anywhere inside holds up nobody but its own slot. The
 * newest span takes the oldest one's place, whether or not that was read.
 *
 * CONTENT goes to the arena first (content.h), the record second: a complete record names complete content.
 *
 * LEDGER. Every ticket ends as exactly one of
 *     delivered   copied out whole
 *     lost        overwritten before it was read, given way as busy, or a whole lap behind head
 *     pending     unfinished when the reader passed it; looked at again by every later read
 *     unread      between the reader's next ticket and head
 * and  head - first_ticket == delivered + lost + pending + unread  at every quiet point, with a stalled writer too. A
 * ticket that gave way to an older writer and one whose writer has not arrived look alike: both are pending until they
 * are complete or a lap behind. All ticket arithmetic is modulo 2^64.
 *
 * CRASH. With a shared mapping, whatever a push wrote before the process died is in the file. A slot with an odd
 * sequence was being written: a torn record is never delivered. A push that returned has stored 2t+2, so its record is
 * there until a later ticket takes its slot. `acked` moves only when a batch was sent or spooled, and not past a ticket
 * that is pending, nor past one that was and is in a batch which is not acknowledged: whoever reads a dead process's
 * ring starts from it (recovered.h), and finds what was committed late. What was sent between that ticket and the last
 * batch is then delivered once more, under the same span ids. In a dead process's ring nothing that is unfinished will
 * be finished, so it does not become pending, but is
 *     torn        its push had not returned when the process died, or had given way
 * and  limit - acknowledged == delivered + skipped + lost + torn  for what was read up to any limit.
 *
 * Threads: push from any, also from a signal handler; everything named reader or batch belongs to the one consumer. */
#ifndef FASTTRACE_RING_H
#define FASTTRACE_RING_H

#include "ids.h"
#include "inflight.h"
#include "region.h"
#include "slot.h"
#include "span.h"
#include "strtab.h"

_Static_assert(FT_SLOT_WORDS == FT_RECORD_WORDS, "a slot holds a record");
_Static_assert(sizeof(ft_slot) == FT_SLOT_BYTES, "four cache lines");

struct ft_ring {
    ft_header *header;
    ft_slot *slots;
    uint64_t slot_mask;
    _Atomic uint64_t *arena; /* 8-byte words */
    uint64_t arena_mask;     /* in bytes */
    ft_strtab strtab;
    ft_inflight inflight;
    uint64_t process; /* number of the process that made it; 0: nobody's, only read here */
    uint64_t number;  /* no other ring of this process, nor of the ones it was forked from, has the same */
};

/* FT_PUSHED_WAKE: this ticket completed a quarter of the ring, wake the exporter. */
typedef enum { FT_PUSH_DROPPED, FT_PUSHED, FT_PUSHED_WAKE } ft_push_result;

/* Build the process-local parts over a formatted region. */
bool ft_ring_init(ft_ring *ring, ft_header *region);
/* This process made the ring: it alone writes to it, and forks of it are seen from now on. False when out of memory. */
bool ft_ring_own(ft_ring *ring);
/* Is this the process that made the ring, and no fork child of it? */
static inline bool ft_ring_is_own(const ft_ring *ring) { return ring->process && ring->process == ft_fork_process(); }
/* Content to the arena, record to a slot. Wait-free, any thread, async-signal-safe. */
ft_push_result ft_ring_push(ft_ring *ring, ft_span *span);
/* Set a string of the record: an index in the string table, or a content field when the table is full. Clips. */
void ft_ring_set_string(ft_ring *ring, ft_span *span, ft_record_string which, const char *text, size_t length);

/* ---- the consumer: one thread ---- */
typedef struct {
    ft_record *records;     /* copies; content_position is rewritten to an offset into `content` */
    uint64_t *tickets;
    unsigned char *content;
    size_t count, capacity;
    size_t content_length, content_capacity;
    uint64_t first_ticket;  /* of the first record; 0 when empty */
    uint64_t next_ticket;   /* acknowledge this once the batch is settled: everything below was passed, or is pending */
} ft_batch;
void ft_batch_clear(ft_batch *batch);
/* Room for so many records and tickets; false when out of memory. */
bool ft_batch_reserve(ft_batch *batch, size_t capacity);

typedef struct {
    uint64_t delivered; /* records copied out */
    uint64_t lost;      /* tickets passed that no longer hold their record (overwritten, or given way as busy) */
    uint64_t pending;   /* stepped over, still unfinished, looked at again */
    uint64_t content_lost;
    uint64_t skipped;   /* of a dead process only: passed over unread */
    uint64_t torn;      /* of a dead process only: unfinished for ever */
} ft_reader_counters;

enum { FT_READER_PENDING = 64 };
typedef struct {
    ft_ring *ring;
    uint64_t next;
    ft_reader_counters counters;
    struct { uint64_t ticket; int64_t since_ns; } pending[FT_READER_PENDING];
    size_t pending_count;
    uint64_t late_ticket, late_next; /* the oldest that was pending and is read, and what acknowledges it */
    bool has_late;
    int64_t stalled_since_ns; /* when `next` was first seen unfinished; FT_NOT_STALLED while it is not */
    bool is_owner_dead;       /* nothing will be finished any more, and no byte is to be believed */
    uint64_t content_left;    /* of a dead process only: bytes of content that may still be looked at */
} ft_reader;
#define FT_NOT_STALLED INT64_MIN

void ft_reader_init(ft_reader *reader, ft_ring *ring);
/* Copy what is committed, at most max_spans records and about max_bytes of content, into an empty batch. `now_ns` is
 * monotonic: an unfinished slot is stepped over after FT_STEP_OVER_NS and revisited. False when out of memory. */
#define FT_STEP_OVER_NS INT64_C(50000000)
bool ft_reader_read(ft_reader *reader, ft_batch *batch, size_t max_spans, size_t max_bytes, int64_t now_ns);
/* Every ticket below is settled, but those that are pending: `acked` stays at the oldest of them. */
void ft_reader_acknowledge(ft_reader *reader, uint64_t next_ticket);

/* The calls that are in the air, as records of status aborted into an empty batch, with tickets from head on; each ran
 * until `until_ns`, monotonic. The region may be in use, or a dead process's, valid as ft_region_valid says and nothing
 * more. Any thread; false when out of memory. */
bool ft_inflight_read(const ft_header *region, ft_batch *batch, int64_t until_ns);

/* Room for so many records in all; false when out of memory. */
bool ft_batch_reserve(ft_batch *batch, size_t capacity);

/* ---- of a dead process's ring, in a private copy (recovered.h) ---- */
/* Blocks of content do not overlap, so that all of them together are one arena; a hostile file may name one of them in
 * every slot. So many arenas of content are looked at, whole or damaged, and records beyond go without. */
enum { FT_RECOVERED_ARENAS = 4 };
/* At the acknowledged ticket, or at the oldest of the last lap where that one is not to be believed. */
void ft_reader_init_dead(ft_reader *reader, ft_ring *ring);
/* As ft_reader_read, below `limit_ticket` (modulo 2^64; the head where that is nearer): what is unfinished is torn, a
 * record whose content could not stand in a line of JSON goes without it. */
bool ft_reader_read_dead(ft_reader *reader, ft_batch *batch, size_t max_spans, size_t max_bytes, uint64_t limit_ticket);
/* Pass over every ticket below this one, or the head where that is nearer. */
void ft_reader_skip(ft_reader *reader, uint64_t next_ticket);

#endif
