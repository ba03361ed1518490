/* Building a span: the record, and its content as tagged fields. One thread owns a span at a time. */
#include "fasttrace/span.h"

#include <stdlib.h>
#include <string.h>

const char *const ft_field_name[FT_FIELD_COUNT] = {
#define FT_FIELD_NAME(name, wire) [FT_##name] = wire,
    FT_FIELDS(FT_FIELD_NAME)
#undef FT_FIELD_NAME
};

const uint16_t ft_field_limit[FT_FIELD_COUNT] = {
    [FT_OPERATION] = 128,     [FT_NAME] = 256,        [FT_PROVIDER] = 64,        [FT_MODEL_ID] = 128,
    [FT_REQUEST_MODEL] = 128, [FT_ERROR_TYPE] = 128,  [FT_ERROR_CODE] = 64,      [FT_ERROR_MESSAGE] = 2048,
    [FT_ERROR_STACK] = 8192,  [FT_RESPONSE_ID] = 128, [FT_SERVER_ADDRESS] = 256, [FT_FINISH_REASONS] = 128,
    [FT_TOOL_CALLS] = 128,    [FT_SERVICE_TIER] = 64, [FT_PRICE_VERSION] = 64,   [FT_SESSION_ID] = 128,
    [FT_USER_ID] = 128,       [FT_TAGS] = 128,        [FT_GOAL] = 128,           [FT_CAPSULE_ID] = 64,
    [FT_SERVICE] = 128,       [FT_ENVIRONMENT] = 128, [FT_TENANT_ID] = 128,      [FT_WORKFLOW_ID] = 128,
    [FT_SDK] = 128,
};

void ft_span_init(ft_span *span) {
    memset(&span->record, 0, sizeof span->record);
    span->content = span->inline_content;
    span->content_length = 0;
    span->content_capacity = FT_SPAN_INLINE;
    span->content_dropped = false;
}

void ft_span_clear(ft_span *span) {
    if (span->content != span->inline_content)
        free(span->content);
    ft_span_init(span);
}

static bool content_grow(ft_span *span, uint32_t needed) {
    uint32_t capacity = span->content_capacity;
    while (capacity < needed)
        capacity *= 2;
    unsigned char *moved = malloc(capacity);
    if (!moved)
        return false;
    memcpy(moved, span->content, span->content_length);
    if (span->content != span->inline_content)
        free(span->content);
    span->content = moved;
    span->content_capacity = capacity;
    return true;
}

static bool content_reserve(ft_span *span, size_t more) {
    if (more > FT_CONTENT_MAX - span->content_length)
        return false;
    uint32_t needed = span->content_length + (uint32_t)more;
    return needed <= span->content_capacity || content_grow(span, needed);
}

static bool field_append(ft_span *span, ft_field field, const char *bytes, size_t length) {
    if (length > FT_CONTENT_MAX || !content_reserve(span, FT_TAG_BYTES + length)) {
        span->content_dropped = true;
        return false;
    }
    uint16_t tag[2] = {(uint16_t)field, 0};
    uint32_t stored = (uint32_t)length;
    unsigned char *out = span->content + span->content_length;
    memcpy(out, tag, sizeof tag);
    memcpy(out + sizeof tag, &stored, sizeof stored);
    if (length)
        memcpy(out + FT_TAG_BYTES, bytes, length);
    span->content_length += FT_TAG_BYTES + stored;
    return true;
}

bool ft_span_add_text(ft_span *span, ft_field field, const char *text, size_t length) {
    if (!ft_field_limit[field])
        return false;
    return field_append(span, field, text, ft_text_clip(text, length, ft_field_limit[field]));
}

bool ft_span_add_json(ft_span *span, ft_field field, const char *json, size_t length) {
    return field_append(span, field, json, length);
}

static bool is_continuation(char byte) { return ((unsigned char)byte & 0xc0) == 0x80; }

size_t ft_text_clip(const char *text, size_t length, size_t limit) {
    if (length <= limit)
        return length;
    size_t end = limit;
    /* A sequence has at most three continuation bytes; more of them is not UTF-8, and any cut is as good. */
    for (int i = 0; i < 3 && end && is_continuation(text[end]); i++)
        end--;
    return is_continuation(text[end]) ? limit : end;
}
