/* The consumer's side of the ring (theory in ring.h): one thread at a time, normally the exporter's; in recovery, of a
 * dead process's file, which may be damaged or hostile. Whatever the memory says, a read is bounded: by its limits, by
 * one look at head, by one lap of tickets. */
#include "fasttrace/content.h"
#include "fasttrace/ring.h"
#include "record_view.h"

#include <stdlib.h>
#include <string.h>

void ft_batch_clear(ft_batch *batch) {
    free(batch->records);
    free(batch->tickets);
    free(batch->content);
    *batch = (ft_batch){0};
}

bool ft_batch_reserve(ft_batch *batch, size_t capacity) {
    if (capacity <= batch->capacity)
        return true;
    ft_record *records = realloc(batch->records, capacity * sizeof *records);
    if (!records)
        return false;
    batch->records = records;
    uint64_t *tickets = realloc(batch->tickets, capacity * sizeof *tickets);
    if (!tickets)
        return false;
    batch->tickets = tickets;
    batch->capacity = capacity;
    return true;
}

static bool batch_reserve_content(ft_batch *batch, size_t more) {
    size_t capacity = batch->content_capacity ? batch->content_capacity : 4096;
    if (more > SIZE_MAX / 4 - batch->content_length)
        return false;
    while (capacity < batch->content_length + more)
        capacity *= 2;
    if (capacity == batch->content_capacity)
        return true;
    unsigned char *content = realloc(batch->content, capacity);
    if (!content)
        return false;
    batch->content = content;
    batch->content_capacity = capacity;
    return true;
}

void ft_reader_init(ft_reader *reader, ft_ring *ring) {
    const ft_header *header = ring->header;
    uint64_t first = header->first_ticket;
    uint64_t acked = atomic_load_explicit(&header->acked, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&header->head, memory_order_acquire);
    bool is_sound = acked - first <= head - first;
    *reader = (ft_reader){.ring = ring, .next = is_sound ? acked : first, .stalled_since_ns = FT_NOT_STALLED};
}

static uint64_t lap_of(const ft_ring *ring) { return ring->slot_mask + 1; }

void ft_reader_init_dead(ft_reader *reader, ft_ring *ring) {
    const ft_header *header = ring->header;
    ft_reader_init(reader, ring);
    reader->is_owner_dead = true;
    reader->content_left = FT_RECOVERED_ARENAS * (ring->arena_mask + 1);
    uint64_t acked = atomic_load_explicit(&header->acked, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&header->head, memory_order_relaxed);
    bool is_sound = reader->next == acked;
    if (!is_sound && head - reader->next > lap_of(ring))
        reader->next = head - lap_of(ring);
}

static ft_slot_state ticket_load(const ft_ring *ring, uint64_t ticket, ft_record *record) {
    return ft_slot_load(&ring->slots[ticket & ring->slot_mask], ticket, record);
}

static bool is_lapped(const ft_ring *ring, uint64_t ticket, uint64_t head) {
    return head - ticket > lap_of(ring);
}

/* Of a dead process's record: what no writer sets, and what only a reader does. */
enum { FLAGS_OF_WRITERS = FT_FLAG_STREAM | FT_FLAG_UNPRICED | FT_FLAG_OTHER_TIER | FT_FLAG_OTHER_RATE };

static bool content_is_sound(const ft_reader *reader, const unsigned char *content, size_t length) {
    return !reader->is_owner_dead || ft_content_json_valid(content, length);
}

/* Of a dead process's content not more is looked at than could be there. */
static bool content_is_affordable(ft_reader *reader, const ft_record *record) {
    if (!reader->is_owner_dead)
        return true;
    bool is_affordable = record->content_length <= reader->content_left;
    reader->content_left -= is_affordable ? record->content_length : 0;
    return is_affordable;
}

/* Replace the record's arena position by an offset into the batch. False only when out of memory. */
static bool content_take(ft_reader *reader, ft_batch *batch, ft_record *record) {
    bool is_plausible = ft_content_plausible(reader->ring, record) && content_is_affordable(reader, record);
    if (is_plausible && !batch_reserve_content(batch, record->content_length))
        return false;
    unsigned char *copy = is_plausible ? batch->content + batch->content_length : NULL;
    if (is_plausible && ft_content_read(reader->ring, record, copy) &&
        content_is_sound(reader, copy, record->content_length)) {
        record->content_position = batch->content_length;
        batch->content_length += record->content_length;
        return true;
    }
    reader->counters.content_lost++;
    record->flags |= FT_FLAG_CONTENT_LOST;
    record->content_position = 0;
    record->content_length = 0;
    record->content_crc = 0;
    return true;
}

static bool record_deliver(ft_reader *reader, ft_batch *batch, uint64_t ticket) {
    ft_record *record = &batch->records[batch->count];
    if (reader->is_owner_dead)
        record->flags = (uint16_t)(record->flags & FLAGS_OF_WRITERS);
    if (!record->content_length)
        record->content_position = 0;
    else if (!content_take(reader, batch, record))
        return false;
    batch->tickets[batch->count++] = ticket;
    reader->counters.delivered++;
    return true;
}

typedef struct {
    ft_batch *batch;
    size_t max_spans, max_bytes;
    uint64_t head;  /* the one look of this read */
    uint64_t limit; /* no ticket from here on; the head, but where the owner is dead */
    int64_t now_ns;
    bool has_late; /* a record that had been pending is in the batch */
} read_pass;

static bool is_full(const read_pass *pass) {
    return pass->batch->count >= pass->max_spans ||
           (pass->batch->count && pass->batch->content_length >= pass->max_bytes);
}

static void pending_remove(ft_reader *reader, size_t i) {
    reader->pending_count--;
    reader->counters.pending--;
    memmove(&reader->pending[i], &reader->pending[i + 1], (reader->pending_count - i) * sizeof reader->pending[0]);
}

/* When the list is full, the oldest is given up: counted as lost, and not looked at again. */
static void pending_add(ft_reader *reader, uint64_t ticket, int64_t since_ns) {
    if (reader->pending_count == FT_READER_PENDING) {
        pending_remove(reader, 0);
        reader->counters.lost++;
    }
    reader->pending[reader->pending_count].ticket = ticket;
    reader->pending[reader->pending_count++].since_ns = since_ns;
    reader->counters.pending++;
}

/* It is in a batch now, which is not settled before those that were read while it was pending. */
static void late_note(ft_reader *reader, read_pass *pass, uint64_t ticket) {
    if (!reader->has_late || (int64_t)(reader->late_ticket - ticket) > 0)
        reader->late_ticket = ticket;
    reader->has_late = pass->has_late = true;
}

static bool pending_revisit(ft_reader *reader, read_pass *pass) {
    for (size_t i = 0; i < reader->pending_count && !is_full(pass);) {
        uint64_t ticket = reader->pending[i].ticket;
        ft_slot_state state = ticket_load(reader->ring, ticket, &pass->batch->records[pass->batch->count]);
        if (state == FT_SLOT_UNFINISHED && !is_lapped(reader->ring, ticket, pass->head)) {
            i++;
            continue;
        }
        if (state == FT_SLOT_READ && !record_deliver(reader, pass->batch, ticket))
            return false;
        if (state == FT_SLOT_READ)
            late_note(reader, pass, ticket);
        reader->counters.lost += state != FT_SLOT_READ;
        pending_remove(reader, i);
    }
    return true;
}

/* May the reader go past `next`, which is unfinished? Not before it has been so for a while, but where its writer is
 * dead. */
static bool step_over(ft_reader *reader, int64_t now_ns) {
    if (reader->is_owner_dead) {
        reader->counters.torn++;
        return true;
    }
    if (reader->stalled_since_ns == FT_NOT_STALLED)
        reader->stalled_since_ns = now_ns;
    if (now_ns - reader->stalled_since_ns < FT_STEP_OVER_NS)
        return false;
    pending_add(reader, reader->next, reader->stalled_since_ns);
    return true;
}

static void lapped_skip(ft_reader *reader, const read_pass *pass) {
    if (!is_lapped(reader->ring, reader->next, pass->head))
        return;
    uint64_t lapped = pass->head - lap_of(reader->ring) - reader->next, wanted = pass->limit - reader->next;
    uint64_t passed = lapped < wanted ? lapped : wanted;
    reader->counters.lost += passed;
    reader->next += passed;
    reader->stalled_since_ns = FT_NOT_STALLED;
}

static bool unread_take(ft_reader *reader, read_pass *pass) {
    while (reader->next != pass->limit && !is_full(pass)) {
        ft_slot_state state = ticket_load(reader->ring, reader->next, &pass->batch->records[pass->batch->count]);
        if (state == FT_SLOT_READ && !record_deliver(reader, pass->batch, reader->next))
            return false;
        if (state == FT_SLOT_UNFINISHED && !step_over(reader, pass->now_ns))
            return true;
        reader->counters.lost += state == FT_SLOT_OVERWRITTEN;
        reader->next++;
        reader->stalled_since_ns = FT_NOT_STALLED;
    }
    return true;
}

static size_t records_at_most(const ft_reader *reader, const read_pass *pass) {
    uint64_t waiting = pass->limit - reader->next + reader->pending_count;
    return waiting < pass->max_spans ? (size_t)waiting : pass->max_spans;
}

static bool pass_run(ft_reader *reader, read_pass *pass) {
    ft_batch *batch = pass->batch;
    batch->count = 0;
    batch->content_length = 0;
    lapped_skip(reader, pass);
    bool has_memory = ft_batch_reserve(batch, records_at_most(reader, pass)) && pending_revisit(reader, pass) &&
                      unread_take(reader, pass);
    batch->first_ticket = batch->count ? batch->tickets[0] : 0;
    batch->next_ticket = reader->next;
    if (pass->has_late)
        reader->late_next = reader->next;
    return has_memory;
}

static uint64_t head_of(const ft_reader *reader) {
    return atomic_load_explicit(&reader->ring->header->head, memory_order_acquire);
}

bool ft_reader_read(ft_reader *reader, ft_batch *batch, size_t max_spans, size_t max_bytes, int64_t now_ns) {
    uint64_t head = head_of(reader);
    read_pass pass = {batch, max_spans, max_bytes, .head = head, .limit = head, .now_ns = now_ns};
    return pass_run(reader, &pass);
}

/* The ticket, if it is between the next one and the head; else the nearer of the two. */
static uint64_t limit_of(const ft_reader *reader, uint64_t ticket) {
    uint64_t ahead = ticket - reader->next, head = head_of(reader);
    if (ahead <= head - reader->next)
        return ticket;
    return (int64_t)ahead < 0 ? reader->next : head;
}

bool ft_reader_read_dead(ft_reader *reader, ft_batch *batch, size_t max_spans, size_t max_bytes,
                         uint64_t limit_ticket) {
    read_pass pass = {batch, max_spans, max_bytes, .head = head_of(reader), .limit = limit_of(reader, limit_ticket)};
    return pass_run(reader, &pass);
}

void ft_reader_skip(ft_reader *reader, uint64_t next_ticket) {
    uint64_t limit = limit_of(reader, next_ticket);
    reader->counters.skipped += limit - reader->next;
    reader->next = limit;
}

static uint64_t earlier(uint64_t a, uint64_t b) { return (int64_t)(a - b) > 0 ? b : a; }

/* A SIGKILL may come while a stalled push still commits, or while its record is in hand: recovery must look there. */
void ft_reader_acknowledge(ft_reader *reader, uint64_t next_ticket) {
    if (reader->has_late && (int64_t)(next_ticket - reader->late_next) >= 0)
        reader->has_late = false;
    if (reader->has_late)
        next_ticket = earlier(next_ticket, reader->late_ticket);
    for (size_t i = 0; i < reader->pending_count; i++)
        next_ticket = earlier(next_ticket, reader->pending[i].ticket);
    atomic_store_explicit(&reader->ring->header->acked, next_ticket, memory_order_release);
}
