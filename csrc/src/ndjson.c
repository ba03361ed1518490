/* The NDJSON writer. Room for the longest line a record can make is taken once per record, then everything is written
 * without a check: names and whole members are padded pieces of a fixed size, copied in two moves, and what follows
 * overlaps the padding. Runs on the exporter thread without the GIL; needs nothing but its arguments. */
#include "fasttrace/ndjson.h"

#include "fasttrace/json.h"
#include "record_view.h"

#include <string.h>

/* A short constant text, padded so that its copy has a constant size. */
enum { PIECE_BYTES = 32 };
typedef struct {
    char text[PIECE_BYTES - 1];
    uint8_t length;
} ft_piece;
#define PIECE(literal) {literal, sizeof(literal) - 1}

static const ft_piece names[FT_FIELD_COUNT] = {
#define X(name, wire) [FT_##name] = PIECE(",\"" wire "\":"),
    FT_FIELDS(X)
#undef X
};
static const ft_piece kinds[FT_KIND_COUNT] = {
#define X(name, wire) [FT_KIND_##name] = PIECE(",\"kind\":\"" wire "\""),
    FT_KINDS(X)
#undef X
};
static const ft_piece statuses[FT_STATUS_COUNT] = {
#define X(name, wire) [FT_STATUS_##name] = PIECE(",\"status\":\"" wire "\""),
    FT_STATUSES(X)
#undef X
};
static const ft_piece usage_sources[FT_USAGE_COUNT] = {
#define X(name, wire) [FT_USAGE_##name] = PIECE(",\"usage_source\":\"" wire "\""),
    FT_USAGE_SOURCES(X)
#undef X
};
static const ft_piece cost_sources[FT_COST_COUNT] = {
#define X(name, wire) [FT_COST_##name] = PIECE(",\"cost_source\":\"" wire "\""),
    FT_COST_SOURCES(X)
#undef X
};

static inline char *put_piece(char *out, const ft_piece *piece) {
    memcpy(out, piece, PIECE_BYTES);
    return out + piece->length;
}

#define PUT_LITERAL(out, literal) ((char *)memcpy(out, literal, sizeof(literal) - 1) + sizeof(literal) - 1)

/* ---- members ---- */

static inline char *put_code(char *out, const ft_piece *codes, unsigned count, unsigned code) {
    return code < count ? put_piece(out, &codes[code]) : out;
}

static inline char *put_uint(char *out, ft_field field, uint64_t value) {
    return ft_json_uint(put_piece(out, &names[field]), value);
}

static inline char *put_ms(char *out, ft_field field, uint64_t duration_ns) {
    return ft_json_fixed(put_piece(out, &names[field]), duration_ns, 6);
}

static char *put_texts(char *out, const ft_record_view *view, ft_field first, ft_field last) {
    for (unsigned field = first; field <= (unsigned)last; field++) {
        const ft_text *text = &view->texts[field];
        if (!ft_record_view_has(view, (ft_field)field) || text->length == 0)
            continue;
        out = ft_json_string(put_piece(out, &names[field]), text->data, text->length);
    }
    return out;
}

static char *put_json(char *out, const ft_record_view *view, ft_field field) {
    const ft_text *json = &view->texts[field];
    if (!ft_record_view_has(view, field) || json->length == 0)
        return out;
    out = put_piece(out, &names[field]);
    memcpy(out, json->data, json->length);
    return out + json->length;
}

static char *put_list(char *out, const ft_record_view *view, ft_field list) {
    if (!ft_record_view_has(view, list))
        return out;
    unsigned field;
    ft_text text;
    char separator = '[';
    out = put_piece(out, &names[list]);
    for (size_t at = 0; ft_record_view_next(view, &at, &field, &text);) {
        if (field != (unsigned)list)
            continue;
        *out++ = separator;
        out = ft_json_string(out, text.data, text.length);
        separator = ',';
    }
    *out++ = ']';
    return out;
}

/* ---- time ---- */

enum { DATE_TIME_BYTES = 19 };
typedef struct {
    int64_t second; /* since the epoch; -1: none yet */
    char text[DATE_TIME_BYTES];
} date_time;

static void put_padded(char *out, unsigned value, int digits) {
    for (; digits > 0; value /= 10)
        out[--digits] = (char)('0' + value % 10);
}

/* Days since 1970-01-01 to a civil date. Years are counted from March, so that a leap day ends its year and the months'
 * lengths follow one line: the first day of month m is (153 m + 2) / 5. */
static void put_date(char *out, uint32_t days) {
    uint32_t from_march = days + 719468; /* since 0000-03-01 */
    uint32_t era = from_march / 146097, day_of_era = from_march % 146097; /* 400 years */
    uint32_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t march_month = (5 * day_of_year + 2) / 153;
    uint32_t month = march_month < 10 ? march_month + 3 : march_month - 9;
    put_padded(out, era * 400 + year_of_era + (month <= 2), 4);
    put_padded(out + 5, month, 2);
    put_padded(out + 8, day_of_year - (153 * march_month + 2) / 5 + 1, 2);
}

static void set_second(date_time *cached, int64_t second) {
    uint32_t days = (uint32_t)(second / 86400), of_day = (uint32_t)(second % 86400);
    memcpy(cached->text, "0000-00-00T00:00:00", DATE_TIME_BYTES);
    put_date(cached->text, days);
    put_padded(cached->text + 11, of_day / 3600, 2);
    put_padded(cached->text + 14, of_day / 60 % 60, 2);
    put_padded(cached->text + 17, of_day % 60, 2);
    cached->second = second;
}

static char *put_timestamp(char *out, date_time *cached, int64_t unix_ns) {
    int64_t since_epoch_ns = unix_ns < 0 ? 0 : unix_ns, second = since_epoch_ns / 1000000000;
    if (second != cached->second)
        set_second(cached, second);
    out = put_piece(out, &names[FT_TIMESTAMP]);
    *out++ = '"';
    memcpy(out, cached->text, DATE_TIME_BYTES);
    out += DATE_TIME_BYTES;
    *out++ = '.';
    put_padded(out, (unsigned)(since_epoch_ns % 1000000000), 9);
    return PUT_LITERAL(out + 9, "Z\"");
}

/* ---- the record, section by section in schema order ---- */

static char *put_identity(char *out, const ft_record *record) {
    out = PUT_LITERAL(out, "{\"schema_version\":\"1.0\",\"trace_id\":\"");
    out = ft_json_hex64(ft_json_hex64(out, record->trace_hi), record->trace_lo);
    out = PUT_LITERAL(out, "\",\"span_id\":\"");
    out = ft_json_hex64(out, record->span_id);
    *out++ = '"';
    if (record->parent_span_id == 0)
        return out;
    out = PUT_LITERAL(out, ",\"parent_span_id\":\"");
    out = ft_json_hex64(out, record->parent_span_id);
    *out++ = '"';
    return out;
}

static char *put_target(char *out, const ft_record_view *view) {
    out = put_code(out, kinds, FT_KIND_COUNT, view->record->kind);
    out = put_texts(out, view, FT_OPERATION, FT_SERVER_ADDRESS);
    return ft_record_has(view->record, FT_SERVER_PORT) ? put_uint(out, FT_SERVER_PORT, view->record->server_port) : out;
}

static char *put_timing(char *out, const ft_record *record, date_time *cached) {
    out = put_timestamp(out, cached, record->start_unix_ns);
    out = put_ms(out, FT_DURATION_MS, record->duration_ns);
    if (record->flags & FT_FLAG_STREAM)
        out = PUT_LITERAL(out, ",\"stream\":true");
    for (unsigned i = 0; i < FT_RECORD_FIRSTS; i++)
        if (ft_record_has(record, (ft_field)(FT_FIRST_CHUNK_MS + i)))
            out = put_ms(out, (ft_field)(FT_FIRST_CHUNK_MS + i), record->first_ns[i]);
    return ft_record_has(record, FT_CHUNKS) ? put_uint(out, FT_CHUNKS, record->chunks) : out;
}

static char *put_outcome(char *out, const ft_record_view *view) {
    const ft_record *record = view->record;
    out = put_code(out, statuses, FT_STATUS_COUNT, record->status);
    out = put_texts(out, view, FT_ERROR_TYPE, FT_ERROR_STACK);
    if (ft_record_has(record, FT_HTTP_STATUS))
        out = put_uint(out, FT_HTTP_STATUS, record->http_status);
    if (ft_record_has(record, FT_RETRIES) && record->retries > 0)
        out = put_uint(out, FT_RETRIES, record->retries);
    out = put_texts(out, view, FT_RESPONSE_ID, FT_RESPONSE_ID);
    out = put_list(out, view, FT_FINISH_REASONS);
    return put_list(out, view, FT_TOOL_CALLS);
}

/* Input and output may be zero; a part of nothing is not written. */
static char *put_usage(char *out, const ft_record *record) {
    for (unsigned i = 0; i < FT_RECORD_COUNTS; i++) {
        ft_field field = (ft_field)(FT_INPUT_TOKENS + i);
        if (ft_record_has(record, field) && (record->counts[i] > 0 || field <= FT_OUTPUT_TOKENS))
            out = put_uint(out, field, record->counts[i]);
    }
    return put_code(out, usage_sources, FT_USAGE_COUNT, record->usage_source);
}

static char *put_cost(char *out, const ft_record_view *view) {
    const ft_record *record = view->record;
    if (ft_record_has(record, FT_COST_USD))
        out = ft_json_fixed(put_piece(out, &names[FT_COST_USD]), record->cost_pico_usd, 12);
    out = put_code(out, cost_sources, FT_COST_COUNT, record->cost_source);
    return put_texts(out, view, FT_PRICE_VERSION, FT_SERVICE_TIER);
}

static char *put_context(char *out, const ft_record_view *view) {
    out = put_json(out, view, FT_REQUEST_PARAMS);
    out = put_texts(out, view, FT_SESSION_ID, FT_USER_ID);
    out = put_list(out, view, FT_TAGS);
    out = put_texts(out, view, FT_GOAL, FT_CAPSULE_ID);
    if (view->record->flags & FT_FLAG_CONTENT_LOST)
        return PUT_LITERAL(out, ",\"attributes\":{\"fasttrace.content_lost\":true}");
    for (unsigned field = FT_ATTRIBUTES; field <= FT_OUTPUT; field++)
        out = put_json(out, view, (ft_field)field);
    return out;
}

/* Names, numbers, codes and quotes of a line with every field: about 1,600 bytes, and the overhang of a piece. A list's
 * separators and quotes take less than the tags they come from. */
enum { LINE_BYTES = 2560 };

static bool reserve_line(ft_buf *buf, size_t text_bytes, size_t resource_length) {
    size_t room = LINE_BYTES + resource_length;
    return text_bytes < (SIZE_MAX - room) / 6 && ft_buf_reserve(buf, room + 6 * text_bytes);
}

static char *put_resource(char *out, const char *resource, size_t length) {
    if (length > 0) {
        *out++ = ',';
        memcpy(out, resource, length);
    }
    return PUT_LITERAL(out + length, "}\n");
}

static char *put_record(char *out, const ft_record_view *view, date_time *cached) {
    out = put_identity(out, view->record);
    out = put_target(out, view);
    out = put_timing(out, view->record, cached);
    out = put_outcome(out, view);
    out = put_usage(out, view->record);
    out = put_cost(out, view);
    return put_context(out, view);
}

bool ft_ndjson_write(ft_buf *buf, const ft_batch *batch, const ft_header *region, const char *resource, size_t length) {
    date_time cached = {.second = -1};
    ft_record_view view;
    for (size_t i = 0; i < batch->count; i++) {
        ft_record_view_init(&view, batch, &batch->records[i], region);
        if (!reserve_line(buf, view.text_bytes, length))
            return false;
        char *out = put_record(buf->data + buf->length, &view, &cached);
        buf->length = (size_t)(put_resource(out, resource, length) - buf->data);
    }
    return true;
}
