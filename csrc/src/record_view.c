/* See record_view.h. */
#include "record_view.h"
#include "json_valid.h"

#include <string.h>

static const uint8_t string_fields[FT_RECORD_STRINGS] = {
    [FT_STR_OPERATION] = FT_OPERATION,         [FT_STR_NAME] = FT_NAME,
    [FT_STR_PROVIDER] = FT_PROVIDER,           [FT_STR_MODEL_ID] = FT_MODEL_ID,
    [FT_STR_REQUEST_MODEL] = FT_REQUEST_MODEL, [FT_STR_SERVER_ADDRESS] = FT_SERVER_ADDRESS,
    [FT_STR_ERROR_TYPE] = FT_ERROR_TYPE,       [FT_STR_ERROR_CODE] = FT_ERROR_CODE,
    [FT_STR_SERVICE_TIER] = FT_SERVICE_TIER,   [FT_STR_PRICE_VERSION] = FT_PRICE_VERSION,
};

bool ft_record_view_next(const ft_record_view *view, size_t *at, unsigned *field, ft_text *text) {
    size_t left = view->content_length - *at;
    if (left < FT_TAG_BYTES)
        return false;
    const unsigned char *tag = view->content + *at;
    uint16_t number;
    uint32_t length;
    memcpy(&number, tag, sizeof number);
    memcpy(&length, tag + 4, sizeof length);
    if (length > left - FT_TAG_BYTES)
        return false;
    *field = number;
    *text = (ft_text){(const char *)tag + FT_TAG_BYTES, length};
    *at += FT_TAG_BYTES + length;
    return true;
}

static bool json_field_valid(unsigned field, const ft_text *json) {
    switch (field) {
    case FT_REQUEST_PARAMS:
    case FT_ATTRIBUTES:
        return ft_json_valid(json->data, json->length, '{');
    case FT_EVENTS:
        return ft_json_valid(json->data, json->length, '[');
    case FT_INPUT:
    case FT_OUTPUT:
        return ft_json_valid(json->data, json->length, 0);
    default:
        return true;
    }
}

bool ft_content_json_valid(const unsigned char *content, size_t length) {
    const ft_record_view view = {.content = content, .content_length = length};
    unsigned field;
    ft_text text;
    for (size_t at = 0; ft_record_view_next(&view, &at, &field, &text);)
        if (text.length > 0 && !json_field_valid(field, &text))
            return false;
    return true;
}

static void find_content(ft_record_view *view, const ft_batch *batch) {
    const ft_record *record = view->record;
    view->content = NULL;
    view->content_length = 0;
    if (record->flags & FT_FLAG_CONTENT_LOST || record->content_position > batch->content_length ||
        record->content_length > batch->content_length - record->content_position)
        return;
    view->content = batch->content + record->content_position;
    view->content_length = record->content_length;
}

static void index_content(ft_record_view *view) {
    unsigned field;
    ft_text text;
    for (size_t at = 0; ft_record_view_next(view, &at, &field, &text);) {
        if (field >= FT_FIELD_COUNT)
            continue;
        view->texts[field] = text;
        view->has |= UINT64_C(1) << field;
    }
}

/* An index that names no string gives an empty text: the field has no value, whatever the content says. */
static void index_strings(ft_record_view *view, const ft_header *region) {
    for (unsigned i = 0; i < FT_RECORD_STRINGS; i++) {
        uint16_t index = view->record->strings[i];
        if (index == 0)
            continue;
        unsigned field = string_fields[i];
        ft_text *text = &view->texts[field];
        ft_strtab_get(region, index, &text->data, &text->length);
        view->has |= UINT64_C(1) << field;
        view->text_bytes += text->length;
    }
}

void ft_record_view_init(ft_record_view *view, const ft_batch *batch, const ft_record *record,
                         const ft_header *region) {
    view->record = record;
    view->has = 0;
    find_content(view, batch);
    view->text_bytes = view->content_length;
    index_content(view);
    index_strings(view, region);
}
