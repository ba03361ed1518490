/* A dead process's file: what is a ring and what is not, the ledger of its tickets, ranges, resource, calls in the air.
 * Every case runs at ticket 0 and across the wraps of the ticket (2^64) and of the sequence (2^63). */
#include "../expect.h"
#include "../json_check.h"
#include "../ring_fixture.h"
#include "fasttrace/inflight.h"
#include "fasttrace/ndjson.h"
#include "fasttrace/recovered.h"

enum { SLOTS = 8, CONTENT = 40 };

static ft_ring ring; /* of the process that dies */
static ft_recovered dead;
static ft_batch batch;
static uint64_t first;

static void live(uint64_t pushes) {
    ring_open(&ring, -1, SLOTS, 4096, first);
    batch = (ft_batch){0};
    for (uint64_t key = 0; key < pushes; key++)
        push_key(&ring, key, key % 3 ? CONTENT : 0);
}

static void die(void) { EXPECT(ft_recovered_open(&dead, ring.header, ring.header->file_bytes) == FT_RECOVERED_OPEN); }

static void bury(void) {
    ft_batch_clear(&batch);
    ft_recovered_close(&dead);
    ring_close(&ring);
}

static ft_slot *slot_of(uint64_t ticket) { return &ring.slots[ticket & ring.slot_mask]; }

static bool ledger_of_the_dead_holds(void) {
    const ft_reader_counters *counters = &dead.reader.counters;
    return dead.reader.next - dead.acknowledged ==
               counters->delivered + counters->skipped + counters->lost + counters->torn &&
           counters->pending == 0;
}

static size_t read_until(uint64_t limit) {
    EXPECT(ft_reader_read_dead(&dead.reader, &batch, SIZE_MAX, SIZE_MAX, limit));
    EXPECT(ledger_of_the_dead_holds() && batch.next_ticket == dead.reader.next);
    for (size_t i = 0; i < batch.count; i++)
        EXPECT(record_matches(&batch.records[i], batch.tickets[i] - first));
    return batch.count;
}

static bool counted(uint64_t delivered, uint64_t skipped, uint64_t lost, uint64_t torn) {
    const ft_reader_counters *counters = &dead.reader.counters;
    return counters->delivered == delivered && counters->skipped == skipped && counters->lost == lost &&
           counters->torn == torn;
}

static ft_recovered_result opened(const void *data, size_t size) {
    unsigned char *exact = malloc(size + (size == 0)); /* its end is where the sanitizer looks */
    if (exact == NULL)
        abort();
    if (size > 0)
        memcpy(exact, data, size);
    ft_recovered_result result = ft_recovered_open(&dead, exact, size);
    free(exact);
    ft_recovered_close(&dead);
    return result;
}

/* ---- what is a ring ---- */

static void a_file_of_any_other_length_is_none(void) {
    live(5);
    size_t size = (size_t)ring.header->file_bytes;
    for (size_t shorter = 0; shorter < size; shorter += shorter < 5000 ? 1 : 509)
        EXPECT(opened(ring.header, shorter) == FT_RECOVERED_INVALID);
    unsigned char *longer = calloc(1, size + 4096);
    if (longer == NULL)
        abort();
    memcpy(longer, (void *)ring.header, size);
    EXPECT(opened(longer, size + 1) == FT_RECOVERED_INVALID && opened(longer, size + 4096) == FT_RECOVERED_INVALID);
    EXPECT(opened(longer, size) == FT_RECOVERED_OPEN);
    free(longer);
    die();
    bury();
}

static void a_header_that_claims_64_gigabytes_is_not_believed(void) {
    live(0);
    size_t size = (size_t)ring.header->file_bytes;
    ring.header->arena_bytes = UINT64_C(1) << 36;
    ring.header->file_bytes += (UINT64_C(1) << 36) - 4096;
    EXPECT(opened(ring.header, size) == FT_RECOVERED_INVALID);
    ring.header->file_bytes -= (UINT64_C(1) << 36) - 4096;
    ring.header->arena_bytes = 4096;
    die();
    bury();
}

/* Every bit of the page: the file is refused, or it is read to its end with the ledger right. */
static void every_bit_of_the_header_may_lie(void) {
    live(11);
    size_t size = (size_t)ring.header->file_bytes;
    unsigned char *file = malloc(size);
    if (file == NULL)
        abort();
    memcpy(file, (void *)ring.header, size);
    for (size_t bit = 0; bit < 8 * FT_HEADER_BYTES; bit++) {
        file[bit / 8] ^= (unsigned char)(1u << bit % 8);
        if (ft_recovered_open(&dead, file, size) == FT_RECOVERED_OPEN) {
            for (int i = 0; i < SLOTS + 1 && dead.reader.next != dead.head; i++)
                EXPECT(ft_reader_read_dead(&dead.reader, &batch, 3, SIZE_MAX, dead.head) && ledger_of_the_dead_holds());
            EXPECT(dead.reader.next == dead.head && dead.reader.counters.delivered <= SLOTS);
            EXPECT(ft_recovered_aborted(&dead, &batch));
            ft_recovered_close(&dead);
        }
        file[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    free(file);
    die();
    bury();
}

static void the_copy_is_not_the_file(void) {
    live(3);
    die();
    memset((void *)ring.slots, 0xff, SLOTS * sizeof *ring.slots);
    EXPECT(read_until(dead.head) == 3);
    bury();
}

/* ---- tickets ---- */

static void everything_beyond_the_acknowledged_ticket_is_delivered_in_order(void) {
    live(7);
    atomic_store(&ring.header->acked, first + 2);
    die();
    EXPECT(dead.acknowledged == first + 2 && dead.head == first + 7);
    EXPECT(read_until(dead.head) == 5 && batch.first_ticket == first + 2 && counted(5, 0, 0, 0));
    EXPECT(read_until(dead.head) == 0 && batch.next_ticket == dead.head);
    bury();
}

static void what_is_unfinished_is_torn_at_once(void) {
    live(2);
    EXPECT(ft_slot_claim(slot_of(first + 2), first + 2)); /* died while it wrote */
    atomic_fetch_add(&ring.header->head, 2);              /* the second one died before it claimed its slot */
    for (uint64_t key = 4; key < 6; key++)
        push_key(&ring, key, 0);
    die();
    EXPECT(read_until(dead.head) == 4 && counted(4, 0, 0, 2));
    EXPECT(batch.tickets[1] == first + 1 && batch.tickets[2] == first + 4);
    bury();
}

static void what_a_later_lap_has_taken_is_lost(void) {
    live(SLOTS + 3);
    atomic_store(&ring.header->acked, first + 1);
    ft_slot_commit(slot_of(first + 5), first + 5 + SLOTS);
    die();
    EXPECT(read_until(dead.head) == SLOTS - 1 && counted(SLOTS - 1, 0, 3, 0));
    bury();
}

static void a_read_ends_at_its_limit(void) {
    live(7);
    die();
    EXPECT(read_until(first + 3) == 3 && batch.next_ticket == first + 3);
    EXPECT(read_until(first + 3) == 0 && batch.next_ticket == first + 3);
    EXPECT(read_until(first + 1) == 0 && batch.next_ticket == first + 3); /* behind: nothing is read twice */
    EXPECT(read_until(first + 100) == 4 && batch.next_ticket == dead.head);
    bury();
}

static void a_limit_within_what_was_lapped_is_kept(void) {
    live(SLOTS + 6);
    die();
    EXPECT(read_until(first + 2) == 0 && batch.next_ticket == first + 2 && counted(0, 0, 2, 0));
    ft_reader_skip(&dead.reader, first + 4);
    EXPECT(counted(0, 2, 2, 0));
    EXPECT(read_until(first + 8) == 2 && counted(2, 2, 4, 0));
    EXPECT(read_until(dead.head) == 6 && counted(8, 2, 4, 0));
    bury();
}

static void what_is_skipped_is_not_read(void) {
    live(7);
    die();
    ft_reader_skip(&dead.reader, first + 3);
    ft_reader_skip(&dead.reader, first + 1);
    EXPECT(counted(0, 3, 0, 0) && read_until(dead.head) == 4 && batch.first_ticket == first + 3);
    ft_reader_skip(&dead.reader, first + 1000);
    EXPECT(dead.reader.next == dead.head && ledger_of_the_dead_holds());
    bury();
}

static void an_acknowledged_ticket_beyond_the_head_is_not_believed(void) {
    live(SLOTS + 3);
    atomic_store(&ring.header->acked, first + SLOTS + 4);
    die();
    EXPECT(dead.acknowledged == first + 3 && read_until(dead.head) == SLOTS && counted(SLOTS, 0, 0, 0));
    bury();
    live(3);
    atomic_store(&ring.header->acked, first - 1);
    die();
    EXPECT(dead.acknowledged == first && read_until(dead.head) == 3);
    bury();
}

static void flags_that_no_writer_sets_are_ignored(void) {
    ft_span span;
    live(0);
    span_fill(&span, 0, 0);
    span.record.flags = 0xffff;
    ft_ring_push(&ring, &span);
    die();
    EXPECT(read_until(dead.head) == 1);
    EXPECT(batch.records[0].flags == (FT_FLAG_STREAM | FT_FLAG_UNPRICED | FT_FLAG_OTHER_TIER | FT_FLAG_OTHER_RATE));
    bury();
}

static void content_that_is_no_json_is_lost_and_the_numbers_stay(void) {
    static const char *const params[] = {"{}", "{\"a\":1}", "[]", "{", "{\"a\":\n1}", "\"\xff\""};
    live(0);
    for (uint64_t key = 0; key < 6; key++) {
        ft_span span;
        span_fill(&span, key, 0);
        EXPECT(ft_span_add_json(&span, FT_REQUEST_PARAMS, params[key], strlen(params[key])));
        EXPECT(ft_span_add_text(&span, FT_RESPONSE_ID, "r", 1));
        ft_ring_push(&ring, &span);
    }
    die();
    EXPECT(read_until(dead.head) == 6 && dead.reader.counters.content_lost == 4);
    for (uint64_t key = 0; key < 6; key++)
        EXPECT(!(batch.records[key].flags & FT_FLAG_CONTENT_LOST) == (key < 2));
    ft_buf buf = {0};
    EXPECT(ft_ndjson_write(&buf, &batch, dead.ring.header, "", 0) && json_is_ndjson(buf.data, buf.length));
    ft_buf_free(&buf);
    bury();
}

/* Each of 16 slots names the same block, of half the arena. */
static void content_named_again_and_again_is_not_copied_for_ever(void) {
    static const unsigned char block[2048];
    ft_record record;
    ring_open(&ring, -1, 16, 4096, first);
    EXPECT(ft_content_write(&ring, &record, block, sizeof block));
    for (uint64_t key = 0; key < 16; key++) {
        record_fill(&record, key);
        record.content_length = sizeof block;
        record.content_crc = ft_crc32(block, sizeof block);
        uint64_t ticket = atomic_fetch_add(&ring.header->head, 1);
        EXPECT(ft_slot_claim(slot_of(ticket), ticket));
        ft_slot_store(slot_of(ticket), &record);
        ft_slot_commit(slot_of(ticket), ticket);
    }
    die();
    EXPECT(read_until(dead.head) == 16 && batch.content_length == FT_RECOVERED_ARENAS * 4096);
    EXPECT(dead.reader.counters.content_lost == 8 && !(batch.records[7].flags & FT_FLAG_CONTENT_LOST));
    EXPECT(batch.records[8].flags & FT_FLAG_CONTENT_LOST);
    bury();
}

static void the_end_of_the_string_table_is_made_one(void) {
    const uint64_t lies[] = {0, 1, 9, 4095, 4096, 5000, UINT64_MAX};
    for (int i = 0; i < 7; i++) {
        live(1);
        atomic_store(&ring.header->strtab_used, lies[i]);
        die();
        uint64_t used = atomic_load(&dead.ring.header->strtab_used);
        EXPECT(used % 8 == 0 && used >= FT_STRTAB_FIRST && used <= 4096);
        uint16_t index = ft_strtab_intern(&dead.ring.strtab, "2026-01-01", 10);
        const char *text;
        size_t length;
        EXPECT(!index || (ft_strtab_get(dead.ring.header, index, &text, &length) && length == 10));
        bury();
    }
}

/* ---- ranges and resource ---- */

static void range_put(unsigned i, ft_range_state state, uint64_t from, uint64_t to, uint64_t spans) {
    ft_region_set_range(ring.header, i, state, first + from, first + to, spans);
}

static void sound_ranges_come_by_their_tickets(void) {
    ft_recovered_range ranges[FT_RANGES];
    live(SLOTS);
    atomic_store(&ring.header->acked, first + 1);
    range_put(0, FT_RANGE_OPEN, 5, 7, 2);
    range_put(3, FT_RANGE_SETTLED, 1, 3, 1);
    range_put(7, FT_RANGE_OPEN, 7, 8, 0);
    die();
    EXPECT(ft_recovered_ranges(&dead, ranges) == 3);
    EXPECT(ranges[0].first_ticket == first + 1 && ranges[0].next_ticket == first + 3 && ranges[0].is_settled);
    EXPECT(ranges[1].first_ticket == first + 5 && ranges[1].span_count == 2 && !ranges[1].is_settled);
    EXPECT(ranges[2].first_ticket == first + 7);
    bury();
}

static void ranges_that_cannot_be_are_none(void) {
    ft_recovered_range ranges[FT_RANGES];
    const struct {
        uint64_t state, from, to, spans;
    } lies[] = {{3, 2, 4, 1},         {0, 2, 4, 1},    {1, 0, 2, 1},          {1, 4, 2, 1},       {1, 2, 2, 0},
                {1, 2, SLOTS + 1, 1}, {1, 2, 4, 3},    {1, 2, UINT64_MAX, 1}, {1, SLOTS, SLOTS + 1, 1},
                {1, UINT64_MAX, 3, 1}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        live(SLOTS);
        atomic_store(&ring.header->acked, first + 1);
        range_put(2, (ft_range_state)lies[i].state, lies[i].from, lies[i].to, lies[i].spans);
        die();
        EXPECT(ft_recovered_ranges(&dead, ranges) == 0);
        bury();
    }
}

static void of_two_ranges_that_overlap_the_first_in_the_header_counts(void) {
    ft_recovered_range ranges[FT_RANGES];
    live(SLOTS);
    range_put(1, FT_RANGE_OPEN, 3, 6, 3);
    range_put(2, FT_RANGE_SETTLED, 5, 7, 2);
    range_put(3, FT_RANGE_SETTLED, 1, 4, 2);
    range_put(4, FT_RANGE_SETTLED, 0, 8, 2);
    range_put(5, FT_RANGE_SETTLED, 6, 8, 2);
    range_put(6, FT_RANGE_SETTLED, 4, 5, 1);
    die();
    EXPECT(ft_recovered_ranges(&dead, ranges) == 2);
    EXPECT(ranges[0].first_ticket == first + 3 && ranges[1].first_ticket == first + 6);
    bury();
}

/* While one batch waited for its collector, several laps behind it went to the spool. */
static void a_settled_range_may_be_longer_than_a_lap(void) {
    ft_recovered_range ranges[FT_RANGES];
    live(4 * SLOTS + 2);
    range_put(0, FT_RANGE_OPEN, 0, 2, 2);
    range_put(1, FT_RANGE_SETTLED, 2, 4 * SLOTS, 4 * SLOTS - 2);
    die();
    EXPECT(ft_recovered_ranges(&dead, ranges) == 2 && ranges[1].is_settled);
    EXPECT(ranges[1].first_ticket == first + 2 && ranges[1].next_ticket == first + 4 * SLOTS);
    EXPECT(read_until(first + 2) == 0 && counted(0, 0, 2, 0));
    ft_reader_skip(&dead.reader, ranges[1].next_ticket);
    EXPECT(read_until(dead.head) == 2 && counted(2, 4 * SLOTS - 2, 2, 0));
    bury();
}

static void a_settled_range_beyond_the_head_is_none(void) {
    ft_recovered_range ranges[FT_RANGES];
    const uint64_t ends[] = {3 * SLOTS + 1, UINT64_C(1) << 40, UINT64_C(1) << 63, UINT64_MAX, 1, 0};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        live(3 * SLOTS);
        range_put(1, FT_RANGE_SETTLED, 1, ends[i], 1);
        die();
        EXPECT(ft_recovered_ranges(&dead, ranges) == 0);
        bury();
    }
    live(3 * SLOTS);
    range_put(0, FT_RANGE_SETTLED, 0, 3 * SLOTS, 3 * SLOTS + 1);
    range_put(1, FT_RANGE_SETTLED, 3 * SLOTS, 3 * SLOTS + 1, 1);
    die();
    EXPECT(ft_recovered_ranges(&dead, ranges) == 0);
    bury();
}

static void an_open_range_longer_than_a_lap_is_none(void) {
    ft_recovered_range ranges[FT_RANGES];
    live(3 * SLOTS);
    range_put(0, FT_RANGE_OPEN, 0, SLOTS + 1, 1);
    range_put(1, FT_RANGE_OPEN, SLOTS + 1, 2 * SLOTS + 1, 1);
    die();
    EXPECT(ft_recovered_ranges(&dead, ranges) == 1 && ranges[0].first_ticket == first + SLOTS + 1);
    bury();
}

static void a_range_settled_changes_nothing_but_its_state(void) {
    live(SLOTS);
    range_put(0, FT_RANGE_OPEN, 1, 3, 2);
    range_put(0, FT_RANGE_SETTLED, 1, 3, 2);
    const ft_range *range = &ring.header->ranges[0];
    EXPECT(atomic_load(&range->state) == FT_RANGE_SETTLED && atomic_load(&range->next_ticket) == first + 3);
    ft_region_clear_range(ring.header, 0);
    EXPECT(atomic_load(&range->state) == FT_RANGE_NONE);
    die();
    bury();
}

static void a_resource_is_json_members_or_nothing(void) {
    static const char *const members[] = {"\"service\":\"x\"", "\"a\":1,\"b\":{}", "", " ", "a", "\"a\"", "\"a\":1,",
                                          "\"a\":1}", "\"a\":1},{\"b\":2", "}{", "\"a\":\"\n\"", " \"a\":1"};
    const char *found;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        live(0);
        ft_region_set_resource(ring.header, members[i], strlen(members[i]));
        die();
        EXPECT(ft_recovered_resource(&dead, &found) == (i < 2 ? strlen(members[i]) : 0));
        bury();
    }
}

static void a_resource_of_the_header_s_length_fits_and_one_byte_more_does_not(void) {
    static char members[FT_RESOURCE_MAX + 1];
    const char *found;
    memset(members, 'x', sizeof members);
    memcpy(members, "\"a\":\"", 5);
    members[FT_RESOURCE_MAX - 1] = members[FT_RESOURCE_MAX] = '"';
    live(0);
    ft_region_set_resource(ring.header, members, FT_RESOURCE_MAX);
    die();
    EXPECT(ft_recovered_resource(&dead, &found) == FT_RESOURCE_MAX && !memcmp(found, members, FT_RESOURCE_MAX));
    bury();
    live(0);
    ft_region_set_resource(ring.header, "\"a\":1", 5);
    ft_region_set_resource(ring.header, members, FT_RESOURCE_MAX + 1);
    EXPECT(atomic_load(&ring.header->resource_length) == 0);
    atomic_store(&ring.header->resource_length, UINT64_MAX);
    die();
    EXPECT(ft_recovered_resource(&dead, &found) == 0);
    bury();
}

/* ---- calls in the air ---- */

static ft_inflight_slot *inflight(unsigned i) {
    return (ft_inflight_slot *)(void *)((char *)ring.header + ring.header->inflight_offset) + i;
}

static void call_put(unsigned i, const ft_inflight_call *call) {
    memcpy((void *)inflight(i)->words, call, sizeof *call);
    atomic_store(&inflight(i)->state, 1);
}

static ft_inflight_call call_from(uint64_t span_id, int64_t start_ns) {
    return (ft_inflight_call){.trace_lo = 1, .span_id = span_id, .start_ns = start_ns, .kind = FT_KIND_LLM};
}

static void call_begin(unsigned i, uint64_t span_id, int64_t start_ns) {
    ft_inflight_call call = call_from(span_id, start_ns);
    call_put(i, &call);
}

static size_t aborted(void) {
    EXPECT(ft_recovered_aborted(&dead, &batch) && batch.next_ticket == dead.head + batch.count);
    EXPECT(batch.first_ticket == (batch.count ? dead.head : 0));
    return batch.count;
}

static void calls_in_the_air_are_spans_from_the_head_on(void) {
    live(3);
    uint16_t model = ft_strtab_intern(&ring.strtab, "m", 1);
    ft_inflight_call call = call_from(77, 1000);
    call.strings[3] = model;
    call.server_port = 8080;
    call.is_stream = 1;
    call.parent_span_id = 5;
    call.start_unix_ns = 6;
    call_put(1, &call);
    call_begin(2, 78, 5000);
    ft_region_beat(ring.header, 4000);
    die();
    EXPECT(aborted() == 2 && batch.tickets[0] == dead.head && batch.tickets[1] == dead.head + 1);
    const ft_record *record = &batch.records[0];
    EXPECT(record->span_id == 77 && record->duration_ns == 4000 && record->status == FT_STATUS_ABORTED);
    EXPECT(record->strings[FT_STR_MODEL_ID] == model && record->server_port == 8080 && record->parent_span_id == 5);
    EXPECT(record->flags == FT_FLAG_STREAM && record->start_unix_ns == 6 && ft_record_has(record, FT_SERVER_PORT));
    EXPECT(batch.records[1].duration_ns == 0 && !ft_record_has(&batch.records[1], FT_SERVER_PORT));
    bury();
}

static void calls_without_identity_or_with_a_record_are_left_out(void) {
    live(SLOTS + 2); /* two slots of the first lap are overwritten */
    atomic_store(&ring.header->acked, first + SLOTS + 2);
    ft_record record;
    record_fill(&record, 4);
    call_begin(0, record.span_id, 1);
    call_begin(1, 0, 1);
    ft_inflight_call call = call_from(79, 1);
    call.trace_lo = 0;
    call_put(2, &call);
    call_begin(3, 80, 1);
    atomic_store(&inflight(3)->state, 2);
    die();
    EXPECT(aborted() == 0);
    bury();
    live(SLOTS + 2);
    record_fill(&record, 1); /* gone from the ring: nothing says that it ended */
    call_begin(0, record.span_id, 1);
    die();
    EXPECT(aborted() == 1);
    bury();
}

static void a_fresh_slot_is_nobodys_record(void) {
    live(0);
    ft_record record;
    record_fill(&record, 9);
    ft_slot_store(slot_of(first), &record); /* left by an earlier life of the file */
    call_begin(0, record.span_id, 1);
    die();
    EXPECT(aborted() == 1);
    bury();
}

static void durations_are_never_negative_and_at_most_ten_years(void) {
    live(0);
    call_begin(0, 1, INT64_MAX);
    call_begin(1, 2, INT64_MIN);
    call_begin(2, 3, INT64_MAX - 9);
    ft_region_beat(ring.header, INT64_MIN);
    die();
    EXPECT(aborted() == 3 && batch.records[0].duration_ns == 0 && batch.records[2].duration_ns == 9);
    EXPECT(batch.records[1].duration_ns == FT_ABORTED_MAX_NS);
    bury();
}

int main(void) {
    const uint64_t firsts[] = {0, UINT64_C(0) - 3, (UINT64_C(1) << 63) - 3, UINT64_C(0) - 8, 12345};
    a_file_of_any_other_length_is_none();
    a_header_that_claims_64_gigabytes_is_not_believed();
    for (int i = 0; i < 5; i++) {
        first = firsts[i];
        every_bit_of_the_header_may_lie();
        the_copy_is_not_the_file();
        everything_beyond_the_acknowledged_ticket_is_delivered_in_order();
        what_is_unfinished_is_torn_at_once();
        what_a_later_lap_has_taken_is_lost();
        a_read_ends_at_its_limit();
        a_limit_within_what_was_lapped_is_kept();
        what_is_skipped_is_not_read();
        an_acknowledged_ticket_beyond_the_head_is_not_believed();
        flags_that_no_writer_sets_are_ignored();
        content_that_is_no_json_is_lost_and_the_numbers_stay();
        content_named_again_and_again_is_not_copied_for_ever();
        the_end_of_the_string_table_is_made_one();
        sound_ranges_come_by_their_tickets();
        ranges_that_cannot_be_are_none();
        of_two_ranges_that_overlap_the_first_in_the_header_counts();
        a_settled_range_may_be_longer_than_a_lap();
        a_settled_range_beyond_the_head_is_none();
        an_open_range_longer_than_a_lap_is_none();
        a_range_settled_changes_nothing_but_its_state();
        a_resource_is_json_members_or_nothing();
        a_resource_of_the_header_s_length_fits_and_one_byte_more_does_not();
        calls_in_the_air_are_spans_from_the_head_on();
        calls_without_identity_or_with_a_record_are_left_out();
        a_fresh_slot_is_nobodys_record();
        durations_are_never_negative_and_at_most_ten_years();
    }
    printf("%s test_recovered\n", expect_failures ? "FAILED" : "ok");
    return expect_result();
}
