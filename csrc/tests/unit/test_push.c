/* The producer's side: records arrive whole, wake-ups come each quarter, a push gives way instead of waiting, drops are
 * counted, strings find their place. */
#include "../expect.h"
#include "../ring_fixture.h"

static ft_ring ring;
static ft_reader reader;
static ft_batch batch;

static void open_all(uint64_t slots, uint64_t first_ticket) {
    ring_open(&ring, -1, slots, 4096, first_ticket);
    ft_reader_init(&reader, &ring);
    batch = (ft_batch){0};
}

static void close_all(void) {
    ft_batch_clear(&batch);
    ring_close(&ring);
}

static void read_all(void) { EXPECT(ft_reader_read(&reader, &batch, SIZE_MAX, SIZE_MAX, 0) && ledger_holds(&reader)); }

static ft_slot *slot_of(uint64_t ticket) { return &ring.slots[ticket & ring.slot_mask]; }

static void a_pushed_span_is_read_whole(void) {
    open_all(4, 0);
    EXPECT(push_key(&ring, 77, 123) != FT_PUSH_DROPPED);
    read_all();
    EXPECT(batch.count == 1 && batch.tickets[0] == 0 && record_matches(&batch.records[0], 77));
    EXPECT(batch.records[0].content_position == 0 && batch.records[0].content_length == 123);
    EXPECT(content_matches(batch.content, 123, 77) && batch.records[0].flags == 0);
    read_all();
    EXPECT(batch.count == 0);
    close_all();
}

static void every_quarter_of_the_ring_wakes_the_reader(void) {
    const uint64_t firsts[] = {0, UINT64_C(0) - 40, (UINT64_C(1) << 63) - 8};
    for (int k = 0; k < 3; k++) {
        open_all(16, firsts[k]);
        for (uint64_t i = 0; i < 64; i++)
            EXPECT(push_key(&ring, i, 0) == ((firsts[k] + i) % 4 == 3 ? FT_PUSHED_WAKE : FT_PUSHED));
        close_all();
    }
    open_all(2, 0);
    EXPECT(push_key(&ring, 0, 0) == FT_PUSHED_WAKE && push_key(&ring, 1, 0) == FT_PUSHED_WAKE);
    close_all();
}

static void a_push_gives_way_to_a_writer_in_its_slot(void) {
    const uint64_t firsts[] = {0, UINT64_C(0) - 2, (UINT64_C(1) << 63) - 2};
    for (int k = 0; k < 3; k++) {
        open_all(4, firsts[k]);
        uint64_t stalled = atomic_fetch_add(&ring.header->head, 1);
        EXPECT(ft_slot_claim(slot_of(stalled), stalled));
        for (uint64_t i = 1; i < 4; i++)
            EXPECT(push_key(&ring, i, 0) != FT_PUSH_DROPPED);
        EXPECT(push_key(&ring, 4, 0) == FT_PUSH_DROPPED && ring_dropped(&ring, FT_DROP_BUSY) == 1);
        EXPECT(push_key(&ring, 5, 0) != FT_PUSH_DROPPED);
        ft_slot_commit(slot_of(stalled), stalled);
        for (uint64_t i = 6; i < 8; i++)
            EXPECT(push_key(&ring, i, 0) != FT_PUSH_DROPPED);
        EXPECT(push_key(&ring, 8, 0) != FT_PUSH_DROPPED && ring_dropped(&ring, FT_DROP_BUSY) == 1);
        close_all();
    }
}

static void a_push_that_comes_a_lap_late_gives_way(void) {
    const uint64_t firsts[] = {0, UINT64_C(0) - 3, (UINT64_C(1) << 63) - 3};
    for (int k = 0; k < 3; k++) {
        open_all(4, firsts[k]);
        uint64_t late = atomic_fetch_add(&ring.header->head, 1);
        for (uint64_t i = 1; i <= 4; i++)
            EXPECT(push_key(&ring, i, 0) != FT_PUSH_DROPPED);
        EXPECT(!ft_slot_claim(slot_of(late), late));
        read_all();
        EXPECT(batch.count == 4 && reader.counters.lost == 1);
        for (uint64_t i = 0; i < 4; i++)
            EXPECT(record_matches(&batch.records[i], i + 1) && batch.tickets[i] == late + i + 1);
        close_all();
    }
}

static void content_too_large_keeps_the_metadata(void) {
    open_all(4, 0);
    ft_span span;
    span_fill(&span, 9, 0);
    char *large = calloc(1, 3000);
    EXPECT(ft_span_add_json(&span, FT_INPUT, large, 3000) && ft_ring_push(&ring, &span) != FT_PUSH_DROPPED);
    EXPECT(ring_dropped(&ring, FT_DROP_CONTENT_TOO_LARGE) == 1 && ring_dropped(&ring, FT_DROP_BUSY) == 0);
    ft_span_clear(&span);
    read_all();
    EXPECT(batch.count == 1 && record_matches(&batch.records[0], 9) && batch.records[0].content_length == 0);
    EXPECT(reader.counters.content_lost == 0);
    free(large);
    close_all();
}

static void content_that_did_not_fit_the_span_is_counted(void) {
    open_all(4, 0);
    ft_span span;
    span_fill(&span, 9, 8);
    EXPECT(!ft_span_add_json(&span, FT_INPUT, "", FT_CONTENT_MAX) && ft_ring_push(&ring, &span) != FT_PUSH_DROPPED);
    EXPECT(ring_dropped(&ring, FT_DROP_CONTENT_TOO_LARGE) == 1);
    read_all();
    EXPECT(batch.count == 1 && batch.records[0].content_length == 8);
    close_all();
}

static bool string_is(const ft_record *record, ft_record_string which, const char *wanted) {
    const char *text;
    size_t length;
    return ft_strtab_get(ring.header, record->strings[which], &text, &length) && length == strlen(wanted) &&
           !memcmp(text, wanted, length);
}

static void strings_travel_by_index(void) {
    open_all(4, 0);
    ft_span span;
    ft_span_init(&span);
    for (int i = 0; i < FT_RECORD_STRINGS; i++)
        ft_ring_set_string(&ring, &span, (ft_record_string)i, "text", 4);
    ft_ring_set_string(&ring, &span, FT_STR_NAME, "caf\xc3\xa9", 5);
    ft_ring_set_string(&ring, &span, FT_STR_SERVICE_TIER, "", 0);
    EXPECT(span.content_length == 0 && ft_ring_push(&ring, &span) != FT_PUSH_DROPPED);
    read_all();
    EXPECT(string_is(&batch.records[0], FT_STR_MODEL_ID, "text"));
    EXPECT(string_is(&batch.records[0], FT_STR_NAME, "caf\xc3\xa9"));
    EXPECT(batch.records[0].strings[FT_STR_SERVICE_TIER] == 0);
    close_all();
}

static void a_string_is_clipped_to_its_field(void) {
    open_all(4, 0);
    ft_span span;
    char text[300], wanted[65] = {0};
    memset(text, 'p', sizeof text);
    memcpy(text + 63, "\xc3\xa9", 2);
    memset(wanted, 'p', 63);
    ft_span_init(&span);
    ft_ring_set_string(&ring, &span, FT_STR_PROVIDER, text, sizeof text);
    EXPECT(string_is(&span.record, FT_STR_PROVIDER, wanted));
    close_all();
}

static void expect_in_content(ft_record_string which, ft_field field) {
    ft_span span;
    uint16_t tag;
    ft_span_init(&span);
    ft_ring_set_string(&ring, &span, which, "new", 3);
    EXPECT(span.record.strings[which] == 0 && span.content_length == FT_TAG_BYTES + 3);
    memcpy(&tag, span.content, 2);
    EXPECT(tag == field && !memcmp(span.content + FT_TAG_BYTES, "new", 3));
}

static void a_full_string_table_sends_strings_with_the_content(void) {
    open_all(4, 0);
    atomic_store(&ring.header->strtab_used, ring.header->strtab_bytes);
    expect_in_content(FT_STR_OPERATION, FT_OPERATION);
    expect_in_content(FT_STR_NAME, FT_NAME);
    expect_in_content(FT_STR_PROVIDER, FT_PROVIDER);
    expect_in_content(FT_STR_MODEL_ID, FT_MODEL_ID);
    expect_in_content(FT_STR_REQUEST_MODEL, FT_REQUEST_MODEL);
    expect_in_content(FT_STR_SERVER_ADDRESS, FT_SERVER_ADDRESS);
    expect_in_content(FT_STR_ERROR_TYPE, FT_ERROR_TYPE);
    expect_in_content(FT_STR_ERROR_CODE, FT_ERROR_CODE);
    expect_in_content(FT_STR_SERVICE_TIER, FT_SERVICE_TIER);
    expect_in_content(FT_STR_PRICE_VERSION, FT_PRICE_VERSION);
    close_all();
}

int main(void) {
    a_pushed_span_is_read_whole();
    every_quarter_of_the_ring_wakes_the_reader();
    a_push_gives_way_to_a_writer_in_its_slot();
    a_push_that_comes_a_lap_late_gives_way();
    content_too_large_keeps_the_metadata();
    content_that_did_not_fit_the_span_is_counted();
    strings_travel_by_index();
    a_string_is_clipped_to_its_field();
    a_full_string_table_sends_strings_with_the_content();
    printf("%s test_push\n", expect_failures ? "FAILED" : "ok");
    return expect_result();
}
