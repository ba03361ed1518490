/* What a record becomes as a line: every field in its place, nothing without a value, and always one JSON object, also
 * from content that is damaged or hostile; and the pricing of a batch. */
#include "fasttrace/ndjson.h"

#include "../batch_fixture.h"
#include "../expect.h"
#include "../json_check.h"

#define IDS                                                                                                            \
    "{\"schema_version\":\"1.0\",\"trace_id\":\"00000000000000000000000000000000\",\"span_id\":\"0000000000000000\""
#define START ",\"timestamp\":\"1970-01-01T00:00:00.000000000Z\",\"duration_ms\":0"

static batch_fixture fixture;

static void expect_lines(const char *resource, const char *wanted) {
    ft_buf buf = {0};
    EXPECT(ft_ndjson_write(&buf, &fixture.batch, fixture.ring.header, resource, strlen(resource)));
    expect_text(__FILE__, __LINE__, buf.data, buf.length, wanted, strlen(wanted));
    EXPECT(json_is_ndjson(buf.data, buf.length));
    ft_buf_free(&buf);
    fixture_clear(&fixture);
}

static void set_number(ft_record *record, ft_field field) { record->present |= UINT64_C(1) << field; }

static void set_count(ft_record *record, ft_field field, uint64_t value) {
    record->counts[field - FT_INPUT_TOKENS] = value;
    set_number(record, field);
}

static void test_empty_record_is_a_minimal_line(void) {
    fixture_record(&fixture);
    expect_lines("", IDS START "}\n");
}

static void test_empty_batch_is_no_bytes(void) {
    ft_buf buf = {0};
    EXPECT(ft_ndjson_write(&buf, &fixture.batch, fixture.ring.header, "", 0) && buf.length == 0);
    ft_buf_free(&buf);
}

static void test_resource_ends_every_line(void) {
    fixture_record(&fixture);
    fixture_record(&fixture);
    expect_lines("\"service\":\"s\",\"sdk\":\"k\"", IDS START ",\"service\":\"s\",\"sdk\":\"k\"}\n" IDS START
                                                   ",\"service\":\"s\",\"sdk\":\"k\"}\n");
}

static void fill_numbers(ft_record *record) {
    record->trace_hi = UINT64_C(0x0123456789abcdef);
    record->trace_lo = UINT64_C(0xfedcba9876543210);
    record->span_id = 1;
    record->parent_span_id = UINT64_MAX;
    record->start_unix_ns = INT64_C(1700000000123456789);
    record->duration_ns = 1500000;
    record->present = UINT64_MAX;
    record->cost_pico_usd = UINT64_C(1234500000);
    for (unsigned i = 0; i < FT_RECORD_COUNTS; i++)
        record->counts[i] = i + 1;
    for (unsigned i = 0; i < FT_RECORD_FIRSTS; i++)
        record->first_ns[i] = i;
    record->chunks = 50;
    record->kind = FT_KIND_LLM;
    record->status = FT_STATUS_ERROR;
    record->usage_source = FT_USAGE_PARTIAL;
    record->cost_source = FT_COST_PROVIDER;
    record->http_status = 429;
    record->retries = 2;
    record->server_port = 8080;
    record->flags = FT_FLAG_STREAM;
}

static void fill_strings(ft_record *record) {
    static const char *const strings[FT_RECORD_STRINGS] = {
        [FT_STR_OPERATION] = "chat",        [FT_STR_NAME] = "chat m",
        [FT_STR_PROVIDER] = "openai",       [FT_STR_MODEL_ID] = "m-1",
        [FT_STR_REQUEST_MODEL] = "m",       [FT_STR_SERVER_ADDRESS] = "h",
        [FT_STR_ERROR_TYPE] = "E",          [FT_STR_ERROR_CODE] = "rate",
        [FT_STR_SERVICE_TIER] = "flex",     [FT_STR_PRICE_VERSION] = "2025",
    };
    for (unsigned i = 0; i < FT_RECORD_STRINGS; i++)
        record->strings[i] = fixture_intern(&fixture, strings[i]);
}

static void fill_content(void) {
    fixture_add(&fixture, FT_OUTPUT, "[1]");
    fixture_add(&fixture, FT_INPUT, "\"in\"");
    fixture_add(&fixture, FT_EVENTS, "[]");
    fixture_add(&fixture, FT_ATTRIBUTES, "{\"k\":1}");
    fixture_add(&fixture, FT_CAPSULE_ID, "cap");
    fixture_add(&fixture, FT_GOAL, "win");
    fixture_add(&fixture, FT_TAGS, "t1");
    fixture_add(&fixture, FT_TOOL_CALLS, "look");
    fixture_add(&fixture, FT_TAGS, "t2");
    fixture_add(&fixture, FT_USER_ID, "u");
    fixture_add(&fixture, FT_SESSION_ID, "s");
    fixture_add(&fixture, FT_REQUEST_PARAMS, "{\"n\":2}");
    fixture_add(&fixture, FT_FINISH_REASONS, "stop");
    fixture_add(&fixture, FT_FINISH_REASONS, "");
    fixture_add(&fixture, FT_RESPONSE_ID, "r-1");
    fixture_add(&fixture, FT_ERROR_STACK, "at\n\"x\"");
    fixture_add(&fixture, FT_ERROR_MESSAGE, "slow \xf0\x9f\x90\x8c");
}

static const char every_field[] =
    "{\"schema_version\":\"1.0\",\"trace_id\":\"0123456789abcdeffedcba9876543210\",\"span_id\":\"0000000000000001\","
    "\"parent_span_id\":\"ffffffffffffffff\",\"kind\":\"llm\",\"operation\":\"chat\",\"name\":\"chat m\","
    "\"provider\":\"openai\",\"model_id\":\"m-1\",\"request_model\":\"m\",\"server_address\":\"h\","
    "\"server_port\":8080,\"timestamp\":\"2023-11-14T22:13:20.123456789Z\",\"duration_ms\":1.5,\"stream\":true,"
    "\"first_chunk_ms\":0,\"first_token_ms\":0.000001,\"first_text_ms\":0.000002,\"chunks\":50,\"status\":\"error\","
    "\"error_type\":\"E\",\"error_code\":\"rate\",\"error_message\":\"slow \xf0\x9f\x90\x8c\","
    "\"error_stack\":\"at\\n\\\"x\\\"\",\"http_status\":429,\"retries\":2,\"response_id\":\"r-1\","
    "\"finish_reasons\":[\"stop\",\"\"],\"tool_calls\":[\"look\"],\"input_tokens\":1,\"output_tokens\":2,"
    "\"cache_read_tokens\":3,\"cache_write_tokens\":4,\"cache_write_1h_tokens\":5,\"reasoning_tokens\":6,"
    "\"input_audio_tokens\":7,\"output_audio_tokens\":8,\"input_image_tokens\":9,\"web_search_requests\":10,"
    "\"usage_source\":\"partial\",\"cost_usd\":0.0012345,\"cost_source\":\"provider\",\"price_version\":\"2025\","
    "\"service_tier\":\"flex\",\"request_params\":{\"n\":2},\"session_id\":\"s\",\"user_id\":\"u\","
    "\"tags\":[\"t1\",\"t2\"],\"goal\":\"win\",\"capsule_id\":\"cap\",\"attributes\":{\"k\":1},\"events\":[],"
    "\"input\":\"in\",\"output\":[1],\"service\":\"svc\"}\n";

static void test_every_field_in_schema_order(void) {
    ft_record *record = fixture_record(&fixture);
    fill_numbers(record);
    fill_strings(record);
    fill_content();
    expect_lines("\"service\":\"svc\"", every_field);
}

static void test_table_strings_may_travel_as_content(void) {
    static const uint8_t fields[] = {
        FT_OPERATION,      FT_NAME,       FT_PROVIDER,   FT_MODEL_ID,     FT_REQUEST_MODEL,
        FT_SERVER_ADDRESS, FT_ERROR_TYPE, FT_ERROR_CODE, FT_SERVICE_TIER, FT_PRICE_VERSION,
    };
    static const char *const texts[] = {"chat", "chat m", "openai", "m-1", "m", "h", "E", "rate", "flex", "2025"};
    fill_numbers(fixture_record(&fixture));
    for (size_t i = 0; i < sizeof fields; i++)
        fixture_add(&fixture, fields[i], texts[i]);
    fill_content();
    expect_lines("\"service\":\"svc\"", every_field);
}

static void test_longest_numbers_fit_the_line(void) {
    ft_record *record = fixture_record(&fixture);
    memset(record, 0xff, sizeof *record);
    record->content_position = record->content_length = 0;
    record->kind = FT_KIND_MODERATION;
    record->status = FT_STATUS_INCOMPLETE;
    record->usage_source = FT_USAGE_ESTIMATED;
    record->cost_source = FT_COST_PROVIDER;
    record->start_unix_ns = INT64_MAX;
    record->flags = FT_FLAG_STREAM | FT_FLAG_CONTENT_LOST;
    for (unsigned i = 0; i < FT_RECORD_STRINGS; i++)
        record->strings[i] = 0;
    ft_buf buf = {0};
    EXPECT(ft_ndjson_write(&buf, &fixture.batch, fixture.ring.header, "", 0));
    EXPECT(json_is_ndjson(buf.data, buf.length));
    EXPECT(buf.length > 1000 && buf.length < 1500);
    buf.data[buf.length - 1] = '\0';
    EXPECT(strstr(buf.data, "\"timestamp\":\"2262-04-11T23:47:16.854775807Z\",\"duration_ms\":18446744073709.551615,"));
    EXPECT(strstr(buf.data, "\"input_tokens\":18446744073709551615,"));
    EXPECT(strstr(buf.data, "\"cost_usd\":18446744.073709551615,"));
    ft_buf_free(&buf);
    fixture_clear(&fixture);
}

static void expect_timestamp(int64_t unix_ns, const char *wanted) {
    char line[256];
    fixture_record(&fixture)->start_unix_ns = unix_ns;
    snprintf(line, sizeof line, IDS ",\"timestamp\":\"%s\",\"duration_ms\":0}\n", wanted);
    expect_lines("", line);
}

static void test_dates_at_their_edges(void) {
    const int64_t second = 1000000000;
    expect_timestamp(-1, "1970-01-01T00:00:00.000000000Z");
    expect_timestamp(INT64_MIN, "1970-01-01T00:00:00.000000000Z");
    expect_timestamp(999999999, "1970-01-01T00:00:00.999999999Z");
    expect_timestamp(86400 * second - 1, "1970-01-01T23:59:59.999999999Z");
    expect_timestamp(951782399 * second, "2000-02-28T23:59:59.000000000Z");
    expect_timestamp(951782400 * second, "2000-02-29T00:00:00.000000000Z");
    expect_timestamp(951868800 * second, "2000-03-01T00:00:00.000000000Z");
    expect_timestamp(1709164800 * second, "2024-02-29T00:00:00.000000000Z");
    expect_timestamp(1735689599 * second, "2024-12-31T23:59:59.000000000Z");
    expect_timestamp(4107542400 * second, "2100-03-01T00:00:00.000000000Z");
    expect_timestamp(4107542399 * second, "2100-02-28T23:59:59.000000000Z");
    expect_timestamp(INT64_MAX, "2262-04-11T23:47:16.854775807Z");
}

static void test_each_record_has_its_own_second(void) {
    const int64_t starts[] = {0, 1, INT64_C(59000000000), 0};
    for (int i = 0; i < 4; i++)
        fixture_record(&fixture)->start_unix_ns = starts[i];
    expect_lines("", IDS START "}\n" IDS ",\"timestamp\":\"1970-01-01T00:00:00.000000001Z\",\"duration_ms\":0}\n" IDS
                            ",\"timestamp\":\"1970-01-01T00:00:59.000000000Z\",\"duration_ms\":0}\n" IDS START "}\n");
}

static void test_zero_is_written_only_where_it_says_something(void) {
    ft_record *record = fixture_record(&fixture);
    record->present = UINT64_MAX;
    expect_lines("", IDS ",\"server_port\":0,\"timestamp\":\"1970-01-01T00:00:00.000000000Z\",\"duration_ms\":0,"
                         "\"first_chunk_ms\":0,\"first_token_ms\":0,\"first_text_ms\":0,\"chunks\":0,"
                         "\"http_status\":0,\"input_tokens\":0,\"output_tokens\":0,\"cost_usd\":0}\n");
}

static void test_numbers_without_their_bit_are_left_out(void) {
    ft_record *record = fixture_record(&fixture);
    fill_numbers(record);
    record->trace_hi = record->trace_lo = record->span_id = record->parent_span_id = 0;
    record->start_unix_ns = 0;
    record->duration_ns = record->present = 0;
    record->flags = record->kind = record->status = record->usage_source = record->cost_source = 0;
    expect_lines("", IDS START "}\n");
}

static void test_unknown_codes_are_left_out(void) {
    ft_record *record = fixture_record(&fixture);
    record->kind = FT_KIND_COUNT;
    record->status = 255;
    record->usage_source = FT_USAGE_COUNT;
    record->cost_source = 255;
    record->flags = 0xff00;
    expect_lines("", IDS START "}\n");
}

static void test_unknown_string_index_leaves_the_field_out(void) {
    ft_record *record = fixture_record(&fixture);
    for (unsigned i = 0; i < FT_RECORD_STRINGS; i++)
        record->strings[i] = (uint16_t)(UINT16_MAX - i);
    fixture_add(&fixture, FT_MODEL_ID, "not this one");
    expect_lines("", IDS START "}\n");
}

static void test_counts_at_the_limits(void) {
    ft_record *record = fixture_record(&fixture);
    set_count(record, FT_INPUT_TOKENS, UINT64_C(1) << 31);
    set_count(record, FT_OUTPUT_TOKENS, UINT64_C(1) << 32);
    set_count(record, FT_CACHE_READ_TOKENS, UINT64_C(1) << 63);
    set_count(record, FT_CACHE_WRITE_TOKENS, UINT64_MAX);
    set_count(record, FT_REASONING_TOKENS, 0);
    expect_lines("", IDS START ",\"input_tokens\":2147483648,\"output_tokens\":4294967296,"
                               "\"cache_read_tokens\":9223372036854775808,"
                               "\"cache_write_tokens\":18446744073709551615}\n");
}

static void test_lost_content_says_so(void) {
    ft_record *record = fixture_record(&fixture);
    record->flags = FT_FLAG_CONTENT_LOST;
    fixture_add(&fixture, FT_ATTRIBUTES, "{\"half\":");
    fixture_add(&fixture, FT_RESPONSE_ID, "r");
    expect_lines("\"sdk\":\"k\"", IDS START ",\"attributes\":{\"fasttrace.content_lost\":true},\"sdk\":\"k\"}\n");
}

/* ---- hostile content ---- */

static void test_empty_texts_and_empty_json_are_no_values(void) {
    fixture_record(&fixture);
    fixture_add(&fixture, FT_RESPONSE_ID, "");
    fixture_add(&fixture, FT_ATTRIBUTES, "");
    fixture_add(&fixture, FT_MODEL_ID, "");
    fixture_add(&fixture, FT_TAGS, "");
    expect_lines("", IDS START ",\"tags\":[\"\"]}\n");
}

static void test_last_of_a_repeated_text_counts(void) {
    fixture_record(&fixture);
    fixture_add(&fixture, FT_GOAL, "first");
    fixture_add(&fixture, FT_GOAL, "last");
    expect_lines("", IDS START ",\"goal\":\"last\"}\n");
}

static void test_fields_that_are_not_content_are_passed_over(void) {
    fixture_record(&fixture);
    fixture_add(&fixture, FT_SCHEMA_VERSION, "9");
    fixture_add(&fixture, FT_INPUT_TOKENS, "9");
    fixture_add(&fixture, FT_SERVICE, "mine");
    fixture_add(&fixture, FT_FIELD_COUNT, "x");
    fixture_add(&fixture, UINT16_MAX, "x");
    fixture_add(&fixture, FT_GOAL, "kept");
    expect_lines("", IDS START ",\"goal\":\"kept\"}\n");
}

static void test_first_tag_that_does_not_fit_ends_the_content(void) {
    const uint32_t lengths[] = {4, 5, UINT32_MAX, UINT32_MAX - 7, 0x80000000u};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        fixture_record(&fixture);
        fixture_add(&fixture, FT_GOAL, "kept");
        fixture_add_tag(&fixture, FT_CAPSULE_ID, lengths[i]);
        fixture_add_bytes(&fixture, "abc", 3);
        expect_lines("", IDS START ",\"goal\":\"kept\"}\n");
    }
}

static void test_tag_cut_anywhere(void) {
    for (size_t length = 1; length < FT_TAG_BYTES; length++) {
        fixture_record(&fixture);
        fixture_add_bytes(&fixture, "\0\0\0\0\0\0\0", length);
        expect_lines("", IDS START "}\n");
    }
}

static void test_text_cut_inside_a_character(void) {
    fixture_record(&fixture);
    fixture_add(&fixture, FT_ERROR_MESSAGE, "caf\xc3");
    fixture_add(&fixture, FT_TAGS, "\xf0\x9f\x98");
    fixture_add(&fixture, FT_TAGS, "\xed\xa0\x80");
    expect_lines("", IDS START ",\"error_message\":\"caf\xef\xbf\xbd\","
                               "\"tags\":[\"\xef\xbf\xbd\",\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"]}\n");
}

static void test_texts_that_grow_sixfold_fit_the_line(void) {
    static const uint8_t fields[] = {FT_ERROR_STACK, FT_RESPONSE_ID, FT_TAGS, FT_TAGS};
    enum { LENGTH = 5000 };
    char text[LENGTH + 1] = {0};
    memset(text, 1, LENGTH);
    fixture_record(&fixture);
    for (size_t i = 0; i < sizeof fields; i++)
        fixture_add(&fixture, fields[i], text);
    ft_buf buf = {0};
    EXPECT(ft_ndjson_write(&buf, &fixture.batch, fixture.ring.header, "", 0));
    EXPECT(json_is_ndjson(buf.data, buf.length));
    EXPECT(buf.length > sizeof fields * LENGTH * 6);
    ft_buf_free(&buf);
    fixture_clear(&fixture);
}

static void test_table_strings_that_grow_sixfold_fit_the_line(void) {
    char text[FT_STRTAB_TEXT_MAX];
    memset(text, 2, sizeof text);
    ft_record *record = fixture_record(&fixture);
    for (unsigned i = 0; i < FT_RECORD_STRINGS; i++)
        record->strings[i] = ft_strtab_intern(&fixture.ring.strtab, text, sizeof text);
    ft_buf buf = {0};
    EXPECT(ft_ndjson_write(&buf, &fixture.batch, fixture.ring.header, "", 0));
    EXPECT(json_is_ndjson(buf.data, buf.length));
    EXPECT(buf.length > FT_RECORD_STRINGS * sizeof text * 6);
    ft_buf_free(&buf);
    fixture_clear(&fixture);
}

static void test_content_outside_the_batch_is_not_read(void) {
    const struct {
        uint64_t position;
        uint32_t length;
    } blocks[] = {{0, 13}, {12, 1}, {13, 0}, {UINT64_MAX, 1}, {UINT64_MAX - 3, 8}, {4, UINT32_MAX}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        ft_record *record = fixture_record(&fixture);
        fixture_add(&fixture, FT_GOAL, "kept");
        record->content_position = blocks[i].position;
        record->content_length = blocks[i].length;
        expect_lines("", IDS START "}\n");
    }
}

static void test_each_record_reads_its_own_content(void) {
    fixture_record(&fixture);
    fixture_add(&fixture, FT_GOAL, "one");
    fixture_record(&fixture);
    fixture_record(&fixture);
    fixture_add(&fixture, FT_GOAL, "three");
    expect_lines("", IDS START ",\"goal\":\"one\"}\n" IDS START "}\n" IDS START ",\"goal\":\"three\"}\n");
}

/* ---- the buffer ---- */

static void test_buffer_refuses_what_cannot_be(void) {
    ft_buf buf = {0};
    EXPECT(ft_buf_reserve(&buf, 0) && ft_buf_reserve(&buf, 10) && buf.capacity >= 10 && buf.length == 0);
    buf.length = 10;
    size_t capacity = buf.capacity;
    EXPECT(!ft_buf_reserve(&buf, SIZE_MAX) && !ft_buf_reserve(&buf, SIZE_MAX - 9));
    EXPECT(buf.capacity == capacity && buf.length == 10);
    ft_buf_free(&buf);
    EXPECT(buf.data == NULL && buf.capacity == 0);
}

static void test_lines_are_appended_whole(void) {
    ft_buf buf = {0};
    fixture_record(&fixture);
    size_t length = strlen(IDS START "}\n");
    for (size_t i = 1; i <= 100; i++) {
        EXPECT(ft_ndjson_write(&buf, &fixture.batch, fixture.ring.header, "", 0));
        EXPECT(buf.length == i * length);
    }
    EXPECT(!ft_ndjson_write(&buf, &fixture.batch, fixture.ring.header, "", SIZE_MAX - 4096));
    EXPECT(buf.length == 100 * length);
    EXPECT(json_is_ndjson(buf.data, buf.length));
    ft_buf_free(&buf);
    fixture_clear(&fixture);
}

/* ---- pricing ---- */

static ft_record *unpriced(const char *model, const char *request_model) {
    ft_record *record = fixture_record(&fixture);
    record->flags = FT_FLAG_UNPRICED | FT_FLAG_STREAM;
    record->strings[FT_STR_PROVIDER] = fixture_intern(&fixture, "openai");
    record->strings[FT_STR_MODEL_ID] = fixture_intern(&fixture, model);
    record->strings[FT_STR_REQUEST_MODEL] = fixture_intern(&fixture, request_model);
    set_count(record, FT_INPUT_TOKENS, 10);
    return record;
}

static bool is_priced(const ft_record *record, uint64_t pico_usd) {
    return ft_record_has(record, FT_COST_USD) && record->cost_pico_usd == pico_usd &&
           record->cost_source == FT_COST_LOCAL && record->flags == FT_FLAG_STREAM &&
           record->strings[FT_STR_PRICE_VERSION] == fixture_intern(&fixture, "v1");
}

static bool is_still_without_cost(const ft_record *record) {
    return !ft_record_has(record, FT_COST_USD) && record->cost_source == FT_COST_NONE &&
           record->flags == FT_FLAG_STREAM && record->strings[FT_STR_PRICE_VERSION] == 0;
}

static ft_price_table *two_prices(void) {
    ft_price_table *prices = ft_price_table_new(8);
    EXPECT(ft_price_table_put(prices, "openai", 6, "m-1", 3, &(ft_price){.pico_usd = {3}}));
    EXPECT(ft_price_table_put(prices, "openai", 6, "m", 1, &(ft_price){.pico_usd = {5}}));
    EXPECT(ft_price_table_put(prices, "openai", 6, "free?", 5, NULL));
    return prices;
}

static void test_unpriced_records_are_priced_by_the_answering_model_first(void) {
    ft_price_table *prices = two_prices();
    ft_record *answered = unpriced("m-1", "m"), *requested = unpriced("unheard", "m"), *none = unpriced("free?", "");
    ft_record *contradictory = unpriced("m-1", "");
    set_count(contradictory, FT_CACHE_READ_TOKENS, 11);
    ft_batch_price(&fixture.batch, &fixture.ring, prices, "v1", 2);
    EXPECT(is_priced(answered, 30));
    EXPECT(is_priced(requested, 50));
    EXPECT(is_still_without_cost(none));
    EXPECT(is_still_without_cost(contradictory));
    fixture_clear(&fixture);
    ft_price_table_free(prices);
}

static void test_pricing_reads_names_from_content_too(void) {
    ft_price_table *prices = two_prices();
    ft_record *record = fixture_record(&fixture);
    record->flags = FT_FLAG_UNPRICED | FT_FLAG_STREAM;
    set_count(record, FT_INPUT_TOKENS, 10);
    fixture_add(&fixture, FT_MODEL_ID, "m-1");
    fixture_add(&fixture, FT_PROVIDER, "openai");
    ft_batch_price(&fixture.batch, &fixture.ring, prices, "v1", 2);
    EXPECT(is_priced(record, 30));
    fixture_clear(&fixture);
    ft_price_table_free(prices);
}

static void test_a_record_without_provider_has_no_price(void) {
    ft_price_table *prices = two_prices();
    EXPECT(ft_price_table_put(prices, "", 0, "m-1", 3, &(ft_price){.pico_usd = {1}}));
    ft_record *nameless = unpriced("m-1", ""), *damaged = unpriced("m-1", "");
    nameless->strings[FT_STR_PROVIDER] = 0;
    damaged->strings[FT_STR_PROVIDER] = UINT16_MAX;
    ft_batch_price(&fixture.batch, &fixture.ring, prices, "v1", 2);
    EXPECT(is_still_without_cost(nameless) && is_still_without_cost(damaged));
    fixture_clear(&fixture);
    ft_price_table_free(prices);
}

static void test_pricing_leaves_priced_records_alone(void) {
    ft_price_table *prices = two_prices();
    ft_record *priced = unpriced("m-1", ""), *reported = unpriced("m-1", "");
    priced->flags = FT_FLAG_STREAM;
    reported->cost_pico_usd = 7;
    reported->cost_source = FT_COST_PROVIDER;
    set_number(reported, FT_COST_USD);
    ft_batch_price(&fixture.batch, &fixture.ring, prices, "v1", 2);
    EXPECT(is_still_without_cost(priced));
    EXPECT(reported->cost_pico_usd == 7 && reported->cost_source == FT_COST_PROVIDER);
    fixture_clear(&fixture);
    ft_price_table_free(prices);
}

static void test_lines(void) {
    test_empty_record_is_a_minimal_line();
    test_empty_batch_is_no_bytes();
    test_resource_ends_every_line();
    test_every_field_in_schema_order();
    test_table_strings_may_travel_as_content();
    test_longest_numbers_fit_the_line();
    test_dates_at_their_edges();
    test_each_record_has_its_own_second();
    test_zero_is_written_only_where_it_says_something();
    test_numbers_without_their_bit_are_left_out();
    test_unknown_codes_are_left_out();
    test_unknown_string_index_leaves_the_field_out();
    test_counts_at_the_limits();
    test_lost_content_says_so();
    test_each_record_reads_its_own_content();
}

static void test_hostile_content(void) {
    test_empty_texts_and_empty_json_are_no_values();
    test_last_of_a_repeated_text_counts();
    test_fields_that_are_not_content_are_passed_over();
    test_first_tag_that_does_not_fit_ends_the_content();
    test_tag_cut_anywhere();
    test_text_cut_inside_a_character();
    test_texts_that_grow_sixfold_fit_the_line();
    test_table_strings_that_grow_sixfold_fit_the_line();
    test_content_outside_the_batch_is_not_read();
}

int main(void) {
    EXPECT(fixture_init(&fixture));
    test_lines();
    test_hostile_content();
    test_buffer_refuses_what_cannot_be();
    test_lines_are_appended_whole();
    test_unpriced_records_are_priced_by_the_answering_model_first();
    test_pricing_reads_names_from_content_too();
    test_a_record_without_provider_has_no_price();
    test_pricing_leaves_priced_records_alone();
    return expect_result();
}
