/* Building spans: tagged content at its limits, clipping between characters, the tables that name and limit fields. */
#include "../expect.h"
#include "fasttrace/span.h"

#define CLIP(text, limit) ft_text_clip(text, sizeof(text) - 1, limit)

static void a_new_span_is_empty(void) {
    ft_span span;
    memset(&span, 0xff, sizeof span);
    ft_span_init(&span);
    ft_record zero;
    memset(&zero, 0, sizeof zero);
    EXPECT(!memcmp(&span.record, &zero, sizeof zero));
    EXPECT(span.content == span.inline_content && span.content_length == 0 && !span.content_dropped);
}

static void counts_are_marked_present(void) {
    ft_span span;
    ft_span_init(&span);
    ft_span_set_count(&span, FT_INPUT_TOKENS, 0);
    ft_span_set_count(&span, FT_WEB_SEARCH_REQUESTS, UINT64_MAX);
    EXPECT(ft_record_has(&span.record, FT_INPUT_TOKENS) && ft_record_has(&span.record, FT_WEB_SEARCH_REQUESTS));
    EXPECT(!ft_record_has(&span.record, FT_OUTPUT_TOKENS));
    EXPECT(span.record.counts[0] == 0 && span.record.counts[FT_RECORD_COUNTS - 1] == UINT64_MAX);
}

static void fields_are_appended_with_their_tags(void) {
    ft_span span;
    ft_span_init(&span);
    EXPECT(ft_span_add_text(&span, FT_RESPONSE_ID, "abc", 3));
    EXPECT(ft_span_add_json(&span, FT_REQUEST_PARAMS, "{}", 2));
    EXPECT(ft_span_add_text(&span, FT_TAGS, "", 0));
    EXPECT(ft_span_add_text(&span, FT_TAGS, NULL, 0));
    const uint16_t fields[] = {FT_RESPONSE_ID, FT_REQUEST_PARAMS, FT_TAGS, FT_TAGS};
    const char *const texts[] = {"abc", "{}", "", ""};
    uint32_t at = 0;
    for (int i = 0; i < 4; i++) {
        uint16_t tag[2];
        uint32_t length;
        memcpy(tag, span.content + at, 4);
        memcpy(&length, span.content + at + 4, 4);
        EXPECT(tag[0] == fields[i] && tag[1] == 0 && length == strlen(texts[i]));
        EXPECT(!memcmp(span.content + at + FT_TAG_BYTES, texts[i], length));
        at += FT_TAG_BYTES + length;
    }
    EXPECT(at == span.content_length);
}

static void content_moves_to_the_heap_and_keeps_its_bytes(void) {
    ft_span span;
    ft_span_init(&span);
    char text[100];
    for (int i = 0; i < 40; i++) {
        memset(text, 'a' + i % 26, sizeof text);
        EXPECT(ft_span_add_json(&span, FT_ATTRIBUTES, text, sizeof text));
        EXPECT((span.content == span.inline_content) == (span.content_length <= FT_SPAN_INLINE));
    }
    for (int i = 0; i < 40; i++)
        EXPECT(span.content[(size_t)i * 108 + FT_TAG_BYTES] == 'a' + i % 26);
    ft_span_clear(&span);
    EXPECT(span.content == span.inline_content && span.content_length == 0);
}

static void inline_content_may_be_filled_to_the_last_byte(void) {
    ft_span span;
    ft_span_init(&span);
    char text[FT_SPAN_INLINE] = {0};
    EXPECT(ft_span_add_json(&span, FT_INPUT, text, FT_SPAN_INLINE - FT_TAG_BYTES));
    EXPECT(span.content == span.inline_content && span.content_length == FT_SPAN_INLINE);
    EXPECT(ft_span_add_json(&span, FT_INPUT, text, 0) && span.content != span.inline_content);
    ft_span_clear(&span);
}

static void content_past_the_limit_is_dropped_and_said_so(void) {
    ft_span span;
    ft_span_init(&span);
    char *large = calloc(1, FT_CONTENT_MAX + 1);
    EXPECT(ft_span_add_json(&span, FT_INPUT, large, FT_CONTENT_MAX - FT_TAG_BYTES) && !span.content_dropped);
    EXPECT(!ft_span_add_json(&span, FT_OUTPUT, large, 0) && span.content_dropped);
    EXPECT(span.content_length == FT_CONTENT_MAX);
    ft_span_clear(&span);
    EXPECT(!span.content_dropped);
    const size_t lengths[] = {FT_CONTENT_MAX - FT_TAG_BYTES + 1, FT_CONTENT_MAX, FT_CONTENT_MAX + 1, SIZE_MAX - 4,
                              SIZE_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        EXPECT(!ft_span_add_json(&span, FT_INPUT, large, lengths[i]) && span.content_dropped);
        ft_span_clear(&span);
    }
    free(large);
}

static void text_is_clipped_to_its_field(void) {
    ft_span span;
    char text[9000];
    memset(text, 'x', sizeof text);
    for (int field = 0; field < FT_FIELD_COUNT; field++) {
        ft_span_init(&span);
        bool is_text = ft_field_limit[field] != 0;
        EXPECT(ft_span_add_text(&span, (ft_field)field, text, sizeof text) == is_text);
        EXPECT(span.content_length == (is_text ? FT_TAG_BYTES + (uint32_t)ft_field_limit[field] : 0));
        ft_span_clear(&span);
    }
}

static void limits_are_those_of_the_schema(void) {
    EXPECT(ft_field_limit[FT_OPERATION] == 128 && ft_field_limit[FT_NAME] == 256 && ft_field_limit[FT_PROVIDER] == 64);
    EXPECT(ft_field_limit[FT_MODEL_ID] == 128 && ft_field_limit[FT_REQUEST_MODEL] == 128);
    EXPECT(ft_field_limit[FT_ERROR_TYPE] == 128 && ft_field_limit[FT_ERROR_CODE] == 64);
    EXPECT(ft_field_limit[FT_ERROR_MESSAGE] == 2048 && ft_field_limit[FT_ERROR_STACK] == 8192);
    EXPECT(ft_field_limit[FT_RESPONSE_ID] == 128 && ft_field_limit[FT_SESSION_ID] == 128);
    EXPECT(ft_field_limit[FT_USER_ID] == 128 && ft_field_limit[FT_GOAL] == 128 && ft_field_limit[FT_CAPSULE_ID] == 64);
    const ft_field unlimited[] = {FT_REQUEST_PARAMS, FT_ATTRIBUTES, FT_EVENTS,  FT_INPUT,
                                  FT_OUTPUT,         FT_TRACE_ID,   FT_COST_USD};
    for (size_t i = 0; i < sizeof unlimited / sizeof *unlimited; i++)
        EXPECT(ft_field_limit[unlimited[i]] == 0);
}

static void every_field_has_its_name(void) {
    for (int i = 0; i < FT_FIELD_COUNT; i++)
        EXPECT(ft_field_name[i] && *ft_field_name[i]);
    EXPECT(!strcmp(ft_field_name[FT_SCHEMA_VERSION], "schema_version"));
    EXPECT(!strcmp(ft_field_name[FT_CACHE_WRITE_1H_TOKENS], "cache_write_1h_tokens"));
    EXPECT(!strcmp(ft_field_name[FT_SDK], "sdk"));
}

static void clipping_never_splits_a_character(void) {
    EXPECT(CLIP("", 0) == 0 && CLIP("abc", 3) == 3 && CLIP("abc", 2) == 2 && CLIP("abc", 0) == 0);
    EXPECT(CLIP("a\xc3\xa9z", 1) == 1 && CLIP("a\xc3\xa9z", 2) == 1 && CLIP("a\xc3\xa9z", 3) == 3);
    EXPECT(CLIP("\xe4\xb8\xad\xe4\xb8\xad", 3) == 3 && CLIP("\xe4\xb8\xad\xe4\xb8\xad", 4) == 3);
    EXPECT(CLIP("\xe4\xb8\xad\xe4\xb8\xad", 5) == 3 && CLIP("\xe4\xb8\xad", 2) == 0 && CLIP("\xe4\xb8\xad", 1) == 0);
    EXPECT(CLIP("\xf0\x9f\x98\x80!", 1) == 0 && CLIP("\xf0\x9f\x98\x80!", 3) == 0 && CLIP("\xf0\x9f\x98\x80!", 4) == 4);
    EXPECT(CLIP("\x80\x80\x80\x80\x80\x80\x80\x80", 6) == 6);
    EXPECT(CLIP("a\x80\x80\x80\x80\x80\x80\x80", 6) == 6);
    EXPECT(CLIP("\x80\x80", 1) <= 1);
}

int main(void) {
    a_new_span_is_empty();
    counts_are_marked_present();
    fields_are_appended_with_their_tags();
    content_moves_to_the_heap_and_keeps_its_bytes();
    inline_content_may_be_filled_to_the_last_byte();
    content_past_the_limit_is_dropped_and_said_so();
    text_is_clipped_to_its_field();
    limits_are_those_of_the_schema();
    every_field_has_its_name();
    clipping_never_splits_a_character();
    printf("%s test_span\n", expect_failures ? "FAILED" : "ok");
    return expect_result();
}
