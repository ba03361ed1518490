/* The consumer's side: every ticket delivered, lost or pending, exactly; bounded reads; memory that lies. Every case
 * runs at ticket 0 and across the wraps of the ticket (2^64) and of the sequence (2^63). */
#include "../expect.h"
#include "../ring_fixture.h"

static ft_ring ring;
static ft_reader reader;
static ft_batch batch;
static uint64_t first;

enum { POSITION_WORD = offsetof(ft_record, content_position) / 8 };

static void open_all(uint64_t slots) {
    ring_open(&ring, -1, slots, 4096, first);
    ft_reader_init(&reader, &ring);
    batch = (ft_batch){0};
}

static void close_all(void) {
    EXPECT(ledger_holds(&reader));
    ft_batch_clear(&batch);
    ring_close(&ring);
}

static size_t read_at(int64_t now_ns) {
    EXPECT(ft_reader_read(&reader, &batch, SIZE_MAX, SIZE_MAX, now_ns));
    EXPECT(ledger_holds(&reader) && batch.next_ticket == reader.next);
    EXPECT(batch.first_ticket == (batch.count ? batch.tickets[0] : 0));
    return batch.count;
}

static void push_keys(uint64_t from, uint64_t to) {
    for (uint64_t key = from; key < to; key++)
        push_key(&ring, key, 0);
}

static bool delivered_are(uint64_t from, uint64_t to) {
    bool is_exact = batch.count == to - from;
    for (size_t i = 0; is_exact && i < batch.count; i++)
        is_exact = record_matches(&batch.records[i], from + i) && batch.tickets[i] == first + from + i;
    return is_exact;
}

static bool counted(uint64_t delivered, uint64_t lost, uint64_t pending) {
    return reader.counters.delivered == delivered && reader.counters.lost == lost && reader.counters.pending == pending;
}

static ft_slot *slot_of(uint64_t ticket) { return &ring.slots[ticket & ring.slot_mask]; }

/* A writer that stops inside its slot: ticket taken and claimed, nothing committed. */
static uint64_t stall(void) {
    uint64_t ticket = atomic_fetch_add(&ring.header->head, 1);
    EXPECT(ft_slot_claim(slot_of(ticket), ticket));
    return ticket;
}

static void resume(uint64_t ticket, uint64_t key) {
    ft_record record;
    record_fill(&record, key);
    ft_slot_store(slot_of(ticket), &record);
    ft_slot_commit(slot_of(ticket), ticket);
}

static void an_empty_ring_gives_an_empty_batch(void) {
    open_all(8);
    EXPECT(read_at(0) == 0 && batch.first_ticket == 0 && batch.next_ticket == first && counted(0, 0, 0));
    close_all();
}

static void records_come_in_order_of_their_tickets(void) {
    open_all(8);
    for (uint64_t lap = 0; lap < 4; lap++) {
        push_keys(lap * 7, lap * 7 + 7);
        EXPECT(read_at(0) == 7 && delivered_are(lap * 7, lap * 7 + 7));
    }
    EXPECT(counted(28, 0, 0));
    close_all();
}

static void a_full_ring_loses_nothing_and_one_more_loses_one(void) {
    open_all(8);
    push_keys(0, 8);
    EXPECT(read_at(0) == 8 && delivered_are(0, 8) && counted(8, 0, 0));
    push_keys(8, 17);
    EXPECT(read_at(0) == 8 && delivered_are(9, 17) && counted(16, 1, 0));
    close_all();
}

static void a_lapped_reader_jumps_and_counts(void) {
    open_all(8);
    push_keys(0, 3);
    EXPECT(read_at(0) == 3);
    push_keys(3, 1000);
    EXPECT(read_at(0) == 8 && delivered_are(992, 1000) && counted(11, 989, 0));
    atomic_fetch_add(&ring.header->head, UINT64_C(1) << 40);
    read_at(0);
    EXPECT(reader.next == first + 1000 + (UINT64_C(1) << 40) - 8);
    close_all();
}

static void a_read_takes_no_more_spans_than_asked(void) {
    open_all(8);
    push_keys(0, 7);
    EXPECT(ft_reader_read(&reader, &batch, 0, SIZE_MAX, 0) && batch.count == 0 && batch.next_ticket == first);
    EXPECT(ft_reader_read(&reader, &batch, 3, SIZE_MAX, 0) && delivered_are(0, 3) && batch.next_ticket == first + 3);
    EXPECT(ft_reader_read(&reader, &batch, 3, SIZE_MAX, 0) && delivered_are(3, 6));
    EXPECT(ft_reader_read(&reader, &batch, 3, SIZE_MAX, 0) && delivered_are(6, 7));
    close_all();
}

static void a_read_stops_at_about_the_bytes_asked(void) {
    open_all(8);
    for (uint64_t key = 0; key < 6; key++)
        push_key(&ring, key, 100);
    EXPECT(ft_reader_read(&reader, &batch, SIZE_MAX, 150, 0) && delivered_are(0, 2) && batch.content_length == 200);
    EXPECT(content_matches(batch.content, 100, 0) && content_matches(batch.content + 100, 100, 1));
    EXPECT(batch.records[1].content_position == 100);
    EXPECT(ft_reader_read(&reader, &batch, SIZE_MAX, 0, 0) && delivered_are(2, 3));
    EXPECT(read_at(0) == 3 && delivered_are(3, 6) && content_matches(batch.content + 200, 100, 5));
    close_all();
}

static void an_unfinished_slot_holds_the_reader_for_a_while(void) {
    open_all(8);
    push_keys(0, 2);
    uint64_t stalled = stall();
    push_keys(3, 5);
    EXPECT(read_at(1000) == 2 && delivered_are(0, 2) && counted(2, 0, 0));
    EXPECT(read_at(1000 + FT_STEP_OVER_NS - 1) == 0 && reader.next == stalled);
    EXPECT(read_at(1000 + FT_STEP_OVER_NS) == 2 && delivered_are(3, 5) && counted(4, 0, 1));
    close_all();
}

static void a_stepped_over_record_is_delivered_when_it_is_complete(void) {
    open_all(8);
    uint64_t stalled = stall();
    push_keys(1, 3);
    read_at(0);
    EXPECT(read_at(FT_STEP_OVER_NS) == 2 && counted(2, 0, 1));
    EXPECT(read_at(2 * FT_STEP_OVER_NS) == 0 && counted(2, 0, 1));
    resume(stalled, 0);
    push_keys(3, 4);
    EXPECT(read_at(2 * FT_STEP_OVER_NS) == 2 && counted(4, 0, 0));
    EXPECT(batch.first_ticket == stalled && record_matches(&batch.records[0], 0));
    EXPECT(record_matches(&batch.records[1], 3));
    close_all();
}

static void a_writer_that_finishes_in_time_keeps_its_turn(void) {
    open_all(8);
    uint64_t stalled = stall();
    push_keys(1, 3);
    EXPECT(read_at(0) == 0 && read_at(10) == 0);
    resume(stalled, 0);
    EXPECT(read_at(20) == 3 && delivered_are(0, 3) && counted(3, 0, 0));
    uint64_t later = stall();
    EXPECT(read_at(FT_STEP_OVER_NS) == 0 && reader.next == later && counted(3, 0, 0));
    resume(later, 3);
    EXPECT(read_at(FT_STEP_OVER_NS) == 1);
    close_all();
}

static void a_ticket_without_a_writer_is_pending_until_it_is_lapped(void) {
    open_all(4);
    atomic_fetch_add(&ring.header->head, 1);
    push_keys(1, 4);
    read_at(0);
    EXPECT(read_at(FT_STEP_OVER_NS) == 3 && counted(3, 0, 1));
    push_keys(4, 5);
    EXPECT(read_at(FT_STEP_OVER_NS) == 1 && counted(4, 1, 0));
    close_all();
}

static void a_ticket_lapped_during_a_read_is_lost(void) {
    open_all(4);
    push_keys(0, 4);
    ft_slot_commit(slot_of(first + 1), first + 5);
    EXPECT(read_at(0) == 3 && counted(3, 1, 0));
    EXPECT(record_matches(&batch.records[1], 2) && batch.tickets[1] == first + 2);
    close_all();
}

/* The writer never comes back, so its slot never changes, and every lap one more push gives way to it. */
static void a_slot_stuck_for_ever_keeps_one_ticket_pending(void) {
    open_all(4);
    stall();
    for (uint64_t lap = 0; lap < 5; lap++) {
        push_keys(lap * 4 + 1, lap * 4 + 5);
        for (int i = 0; i < 3; i++)
            read_at((int64_t)(3 * lap + (uint64_t)i) * FT_STEP_OVER_NS);
        EXPECT(counted(3 * (lap + 1), lap + 1, 1) && ring_dropped(&ring, FT_DROP_BUSY) == lap + 1);
    }
    close_all();
}

static void a_push_that_gave_way_is_pending_then_lost(void) {
    open_all(4);
    uint64_t stalled = stall();
    push_keys(1, 5);
    EXPECT(ring_dropped(&ring, FT_DROP_BUSY) == 1);
    read_at(0);
    EXPECT(reader.next == stalled + 4 && counted(3, 1, 0));
    EXPECT(read_at(FT_STEP_OVER_NS) == 0 && counted(3, 1, 1));
    resume(stalled, 0);
    EXPECT(read_at(FT_STEP_OVER_NS) == 0 && counted(3, 1, 1));
    push_keys(5, 9);
    EXPECT(read_at(FT_STEP_OVER_NS) == 4 && counted(7, 2, 0));
    close_all();
}

static void more_pending_than_the_list_holds_are_counted_as_lost(void) {
    open_all(256);
    uint64_t tickets[FT_READER_PENDING + 3];
    for (int i = 0; i < FT_READER_PENDING + 3; i++)
        tickets[i] = stall();
    for (int64_t i = 0; reader.next != ring_head(&ring); i++)
        read_at(i * FT_STEP_OVER_NS);
    EXPECT(counted(0, 3, FT_READER_PENDING));
    for (int i = 0; i < FT_READER_PENDING + 3; i++)
        resume(tickets[i], (uint64_t)i);
    EXPECT(read_at(0) == FT_READER_PENDING && counted(FT_READER_PENDING, 3, 0));
    for (int i = 0; i < FT_READER_PENDING; i++)
        EXPECT(record_matches(&batch.records[i], (uint64_t)i + 3));
    close_all();
}

static void pending_records_respect_the_limit_of_a_read(void) {
    open_all(8);
    uint64_t a = stall(), b = stall();
    push_keys(2, 3);
    for (int64_t i = 0; i < 4; i++)
        read_at(i * FT_STEP_OVER_NS);
    EXPECT(counted(1, 0, 2));
    resume(a, 0);
    resume(b, 1);
    push_keys(3, 4);
    EXPECT(ft_reader_read(&reader, &batch, 1, SIZE_MAX, 0) && batch.count == 1 && record_matches(&batch.records[0], 0));
    EXPECT(ft_reader_read(&reader, &batch, 2, SIZE_MAX, 0) && batch.count == 2 && record_matches(&batch.records[0], 1));
    EXPECT(counted(4, 0, 0));
    close_all();
}

static void overwritten_content_leaves_its_metadata(void) {
    open_all(64);
    for (uint64_t key = 0; key < 50; key++)
        push_key(&ring, key, 100);
    EXPECT(read_at(0) == 50);
    uint64_t lost = 0;
    for (size_t i = 0; i < batch.count; i++) {
        const ft_record *record = &batch.records[i];
        bool is_lost = record->flags & FT_FLAG_CONTENT_LOST;
        EXPECT(record_matches(record, i) && record->content_length == (is_lost ? 0u : 100u));
        EXPECT(is_lost || content_matches(batch.content + record->content_position, 100, i));
        EXPECT(!is_lost || (record->content_position == 0 && record->content_crc == 0));
        lost += is_lost;
    }
    EXPECT(lost == 50 - 4096 / 104 && reader.counters.content_lost == lost);
    close_all();
}

static void acknowledgement_is_where_the_next_reader_starts(void) {
    open_all(8);
    push_keys(0, 5);
    EXPECT(ft_reader_read(&reader, &batch, 3, SIZE_MAX, 0));
    ft_reader_acknowledge(&reader, batch.next_ticket);
    EXPECT(atomic_load(&ring.header->acked) == first + 3);
    ft_reader second;
    ft_reader_init(&second, &ring);
    EXPECT(ft_reader_read(&second, &batch, SIZE_MAX, SIZE_MAX, 0) && delivered_are(3, 5));
    close_all();
}

static bool acked_is(uint64_t number) { return atomic_load(&ring.header->acked) == first + number; }

static void acknowledgement_does_not_pass_a_pending_ticket(void) {
    open_all(8);
    push_keys(0, 2);
    uint64_t stalled = stall();
    push_keys(3, 5);
    EXPECT(read_at(0) == 2 && read_at(FT_STEP_OVER_NS) == 2 && counted(4, 0, 1));
    ft_reader_acknowledge(&reader, first + 2);
    EXPECT(acked_is(2));
    ft_reader_acknowledge(&reader, first + 5);
    EXPECT(acked_is(2));
    resume(stalled, 2); /* and a process that dies here has left it to whoever recovers */
    ft_reader second;
    ft_reader_init(&second, &ring);
    EXPECT(ft_reader_read(&second, &batch, SIZE_MAX, SIZE_MAX, 0) && delivered_are(2, 5));
    EXPECT(read_at(0) == 1 && batch.tickets[0] == stalled && counted(5, 0, 0));
    ft_reader_acknowledge(&reader, batch.next_ticket);
    EXPECT(acked_is(5));
    close_all();
}

static void of_several_pending_tickets_the_oldest_holds_the_acknowledgement(void) {
    open_all(8);
    uint64_t a = stall();
    push_keys(1, 2);
    uint64_t b = stall();
    push_keys(3, 4);
    for (int64_t i = 0; i < 4; i++)
        read_at(i * FT_STEP_OVER_NS);
    ft_reader_acknowledge(&reader, first + 4);
    EXPECT(counted(2, 0, 2) && acked_is(0));
    resume(b, 2);
    EXPECT(read_at(0) == 1);
    ft_reader_acknowledge(&reader, batch.next_ticket);
    EXPECT(acked_is(0));
    resume(a, 0);
    EXPECT(read_at(0) == 1);
    ft_reader_acknowledge(&reader, batch.next_ticket);
    EXPECT(acked_is(4));
    close_all();
}

/* The batch before, read while it was pending, is settled first. */
static void acknowledgement_does_not_pass_a_late_ticket_in_hand(void) {
    open_all(8);
    uint64_t stalled = stall();
    push_keys(1, 3);
    read_at(0);
    EXPECT(read_at(FT_STEP_OVER_NS) == 2);
    uint64_t before = batch.next_ticket;
    resume(stalled, 0);
    push_keys(3, 4);
    EXPECT(read_at(0) == 2 && batch.tickets[0] == stalled);
    ft_reader_acknowledge(&reader, before);
    EXPECT(acked_is(0));
    ft_reader_acknowledge(&reader, batch.next_ticket);
    EXPECT(acked_is(4));
    close_all();
}

static void a_pending_ticket_that_is_lost_lets_the_acknowledgement_go(void) {
    open_all(4);
    stall();
    push_keys(1, 4);
    read_at(0);
    read_at(FT_STEP_OVER_NS);
    ft_reader_acknowledge(&reader, first + 4);
    EXPECT(counted(3, 0, 1) && acked_is(0));
    push_keys(4, 9);
    read_at(0);
    read_at(FT_STEP_OVER_NS);
    ft_reader_acknowledge(&reader, batch.next_ticket);
    EXPECT(reader.counters.lost > 0 && acked_is(reader.pending_count ? reader.pending[0].ticket - first : 9));
    EXPECT(!acked_is(0));
    close_all();
}

static void an_impossible_acknowledgement_is_ignored(void) {
    const uint64_t lies[] = {6, UINT64_MAX, UINT64_C(1) << 63};
    open_all(8);
    push_keys(0, 5);
    for (int i = 0; i < 3; i++) {
        atomic_store(&ring.header->acked, first + lies[i]);
        ft_reader_init(&reader, &ring);
        EXPECT(read_at(0) == 5 && delivered_are(0, 5));
    }
    close_all();
}

static void a_batch_is_reused_and_cleared(void) {
    open_all(8);
    push_keys(0, 8);
    EXPECT(read_at(0) == 8);
    const ft_record *records = batch.records;
    push_keys(8, 10);
    EXPECT(read_at(0) == 2 && batch.records == records && delivered_are(8, 10));
    ft_batch_clear(&batch);
    EXPECT(!batch.records && !batch.tickets && !batch.content && !batch.capacity && !batch.content_capacity);
    close_all();
}

/* Random bytes over everything but the header's layout: reads end, stay in bounds (the sanitizers look), and deliver no
 * more than a lap. */
static void hostile_memory_is_read_without_harm(void) {
    open_all(16);
    uint64_t *words = (uint64_t *)(void *)((char *)ring.header + ring.header->slots_offset);
    size_t count = (size_t)(ring.header->file_bytes - ring.header->slots_offset) / 8;
    for (uint64_t round = 0; round < 300; round++) {
        for (size_t i = 0; i < count; i++)
            words[i] = mix(round << 32 | i);
        for (uint64_t ticket = first; ticket < first + 16; ticket++) {
            atomic_store(&slot_of(ticket)->sequence, 2 * ticket + 2);
            if (round % 2)
                atomic_store(&slot_of(ticket)->words[POSITION_WORD], mix(ticket) % 4096 & ~7u);
        }
        atomic_store(&ring.header->head, round % 3 ? first + 16 : mix(round));
        atomic_store(&ring.header->arena_head, round % 5 ? 4096 : mix(round + 1));
        ft_reader_init(&reader, &ring);
        for (int i = 0; i < 5; i++) {
            EXPECT(ft_reader_read(&reader, &batch, 1000, 1 << 16, i * FT_STEP_OVER_NS) && batch.count <= 17);
            for (size_t k = 0; k < batch.count; k++)
                EXPECT(batch.records[k].content_position + batch.records[k].content_length <= batch.content_length);
        }
    }
    reader.counters = (ft_reader_counters){0};
    reader.next = first;
    reader.pending_count = 0;
    close_all();
}

int main(void) {
    const uint64_t firsts[] = {0, UINT64_C(0) - 3, (UINT64_C(1) << 63) - 3, UINT64_C(0) - 8, 12345};
    for (int i = 0; i < 5; i++) {
        first = firsts[i];
        an_empty_ring_gives_an_empty_batch();
        records_come_in_order_of_their_tickets();
        a_full_ring_loses_nothing_and_one_more_loses_one();
        a_lapped_reader_jumps_and_counts();
        a_read_takes_no_more_spans_than_asked();
        a_read_stops_at_about_the_bytes_asked();
        an_unfinished_slot_holds_the_reader_for_a_while();
        a_stepped_over_record_is_delivered_when_it_is_complete();
        a_writer_that_finishes_in_time_keeps_its_turn();
        a_ticket_without_a_writer_is_pending_until_it_is_lapped();
        a_ticket_lapped_during_a_read_is_lost();
        a_slot_stuck_for_ever_keeps_one_ticket_pending();
        a_push_that_gave_way_is_pending_then_lost();
        more_pending_than_the_list_holds_are_counted_as_lost();
        pending_records_respect_the_limit_of_a_read();
        overwritten_content_leaves_its_metadata();
        acknowledgement_is_where_the_next_reader_starts();
        acknowledgement_does_not_pass_a_pending_ticket();
        of_several_pending_tickets_the_oldest_holds_the_acknowledgement();
        acknowledgement_does_not_pass_a_late_ticket_in_hand();
        a_pending_ticket_that_is_lost_lets_the_acknowledgement_go();
        an_impossible_acknowledgement_is_ignored();
        a_batch_is_reused_and_cleared();
        hostile_memory_is_read_without_harm();
    }
    printf("%s test_reader\n", expect_failures ? "FAILED" : "ok");
    return expect_result();
}
