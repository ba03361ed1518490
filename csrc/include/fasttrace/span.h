/* The span record: what one finished call becomes before it is JSON.
 *
 * A span is built on the producer's stack (ft_span), pushed into the ring as one 256-byte slot (ft_slot: sequence
 * word plus the 31 words of ft_record) and one content block for whatever varies in size. Everything of fixed size
 * sits in the record; strings that repeat (provider, model, operation) are indices into the string table; the rest
 * (response id, error text, parameters, attributes) is a content block of tagged fields:
 *
 *     u16 field | u16 zero | u32 length | `length` bytes          repeated, no padding between them
 *
 * A field that holds a list of strings (finish_reasons, tool_calls, tags) appears once per element. A string that
 * found the string table full travels in the content block under its own field number.
 *
 * Field numbers are positions in the wire schema (src/fasttrace/wire/fields.py); a drift test holds the two together.
 * All integers are in native byte order: a ring file never leaves its machine. */
#ifndef FASTTRACE_SPAN_H
#define FASTTRACE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(ENUMERATOR, "wire name") in the order in which fields are written. */
#define FT_FIELDS(X)                                                                                                   \
    X(SCHEMA_VERSION, "schema_version")                                                                                \
    X(TRACE_ID, "trace_id")                                                                                            \
    X(SPAN_ID, "span_id")                                                                                              \
    X(PARENT_SPAN_ID, "parent_span_id")                                                                                \
    X(KIND, "kind")                                                                                                    \
    X(OPERATION, "operation")                                                                                          \
    X(NAME, "name")                                                                                                    \
    X(PROVIDER, "provider")                                                                                            \
    X(MODEL_ID, "model_id")                                                                                            \
    X(REQUEST_MODEL, "request_model")                                                                                  \
    X(SERVER_ADDRESS, "server_address")                                                                                \
    X(SERVER_PORT, "server_port")                                                                                      \
    X(TIMESTAMP, "timestamp")                                                                                          \
    X(DURATION_MS, "duration_ms")                                                                                      \
    X(STREAM, "stream")                                                                                                \
    X(FIRST_CHUNK_MS, "first_chunk_ms")                                                                                \
    X(FIRST_TOKEN_MS, "first_token_ms")                                                                                \
    X(FIRST_TEXT_MS, "first_text_ms")                                                                                  \
    X(CHUNKS, "chunks")                                                                                                \
    X(STATUS, "status")                                                                                                \
    X(ERROR_TYPE, "error_type")                                                                                        \
    X(ERROR_CODE, "error_code")                                                                                        \
    X(ERROR_MESSAGE, "error_message")                                                                                  \
    X(ERROR_STACK, "error_stack")                                                                                      \
    X(HTTP_STATUS, "http_status")                                                                                      \
    X(RETRIES, "retries")                                                                                              \
    X(RESPONSE_ID, "response_id")                                                                                      \
    X(FINISH_REASONS, "finish_reasons")                                                                                \
    X(TOOL_CALLS, "tool_calls")                                                                                        \
    X(INPUT_TOKENS, "input_tokens")                                                                                    \
    X(OUTPUT_TOKENS, "output_tokens")                                                                                  \
    X(CACHE_READ_TOKENS, "cache_read_tokens")                                                                          \
    X(CACHE_WRITE_TOKENS, "cache_write_tokens")                                                                        \
    X(CACHE_WRITE_1H_TOKENS, "cache_write_1h_tokens")                                                                  \
    X(REASONING_TOKENS, "reasoning_tokens")                                                                            \
    X(INPUT_AUDIO_TOKENS, "input_audio_tokens")                                                                        \
    X(OUTPUT_AUDIO_TOKENS, "output_audio_tokens")                                                                      \
    X(INPUT_IMAGE_TOKENS, "input_image_tokens")                                                                        \
    X(WEB_SEARCH_REQUESTS, "web_search_requests")                                                                      \
    X(USAGE_SOURCE, "usage_source")                                                                                    \
    X(COST_USD, "cost_usd")                                                                                            \
    X(COST_SOURCE, "cost_source")                                                                                      \
    X(PRICE_VERSION, "price_version")                                                                                  \
    X(SERVICE_TIER, "service_tier")                                                                                    \
    X(REQUEST_PARAMS, "request_params")                                                                                \
    X(SESSION_ID, "session_id")                                                                                        \
    X(USER_ID, "user_id")                                                                                              \
    X(TAGS, "tags")                                                                                                    \
    X(GOAL, "goal")                                                                                                    \
    X(CAPSULE_ID, "capsule_id")                                                                                        \
    X(ATTRIBUTES, "attributes")                                                                                        \
    X(EVENTS, "events")                                                                                                \
    X(INPUT, "input")                                                                                                  \
    X(OUTPUT, "output")                                                                                                \
    X(SERVICE, "service")                                                                                              \
    X(ENVIRONMENT, "environment")                                                                                      \
    X(TENANT_ID, "tenant_id")                                                                                          \
    X(WORKFLOW_ID, "workflow_id")                                                                                      \
    X(SDK, "sdk")

typedef enum {
#define FT_FIELD_ENUM(name, wire) FT_##name,
    FT_FIELDS(FT_FIELD_ENUM)
#undef FT_FIELD_ENUM
        FT_FIELD_COUNT
} ft_field;

/* Codes of the enumerated fields; 0 means "not set" and is not written. */
#define FT_KINDS(X)                                                                                                    \
    X(LLM, "llm") X(EMBEDDING, "embedding") X(IMAGE, "image") X(AUDIO, "audio") X(MODERATION, "moderation")            \
        X(TOOL, "tool") X(AGENT, "agent") X(CHAIN, "chain") X(RETRIEVAL, "retrieval") X(SERVER, "server")              \
            X(TASK, "task")
#define FT_STATUSES(X)                                                                                                 \
    X(SUCCESS, "success") X(ERROR, "error") X(TIMEOUT, "timeout") X(CANCELLED, "cancelled")                            \
        X(INCOMPLETE, "incomplete") X(ABORTED, "aborted")
#define FT_USAGE_SOURCES(X) X(PROVIDER, "provider") X(ESTIMATED, "estimated") X(PARTIAL, "partial")
#define FT_COST_SOURCES(X) X(LOCAL, "local") X(PROVIDER, "provider")

typedef enum {
    FT_KIND_NONE,
#define X(name, wire) FT_KIND_##name,
    FT_KINDS(X)
#undef X
        FT_KIND_COUNT
} ft_kind;
typedef enum {
    FT_STATUS_NONE,
#define X(name, wire) FT_STATUS_##name,
    FT_STATUSES(X)
#undef X
        FT_STATUS_COUNT
} ft_status;
typedef enum {
    FT_USAGE_NONE,
#define X(name, wire) FT_USAGE_##name,
    FT_USAGE_SOURCES(X)
#undef X
        FT_USAGE_COUNT
} ft_usage_source;
typedef enum {
    FT_COST_NONE,
#define X(name, wire) FT_COST_##name,
    FT_COST_SOURCES(X)
#undef X
        FT_COST_COUNT
} ft_cost_source;

/* Strings of the record that live in the string table, as 16-bit indices; 0 is "none" (or "see the content block"). */
enum { FT_RECORD_STRINGS = 10 };
typedef enum {
    FT_STR_OPERATION,
    FT_STR_NAME,
    FT_STR_PROVIDER,
    FT_STR_MODEL_ID,
    FT_STR_REQUEST_MODEL,
    FT_STR_SERVER_ADDRESS,
    FT_STR_ERROR_TYPE,
    FT_STR_ERROR_CODE,
    FT_STR_SERVICE_TIER,
    FT_STR_PRICE_VERSION,
} ft_record_string;

/* Token counts of the record, in wire order: INPUT_TOKENS .. WEB_SEARCH_REQUESTS. */
enum { FT_RECORD_COUNTS = FT_WEB_SEARCH_REQUESTS - FT_INPUT_TOKENS + 1 };
enum { FT_RECORD_FIRSTS = 3 }; /* first_chunk, first_token, first_text */

/* Bits of ft_record.flags. */
enum {
    FT_FLAG_STREAM = 1 << 0,
    FT_FLAG_UNPRICED = 1 << 1, /* the price table had no entry: the exporter thread resolves and prices it */
    FT_FLAG_CONTENT_LOST = 1 << 2, /* set by the reader: the content block was overwritten or damaged */
    FT_FLAG_OTHER_TIER = 1 << 3, /* a service tier was asked for whose prices are not the list's, and none was reported */
    FT_FLAG_OTHER_RATE = 1 << 4, /* something was asked for whose prices are not the list's in any tier */
};

/* 31 words; with the slot's sequence 256 bytes. `present` has one bit per ft_field for the optional numbers below
 * (SERVER_PORT, FIRST_*, CHUNKS, HTTP_STATUS, RETRIES, the token counts, COST_USD): unknown and zero are different. */
typedef struct {
    uint64_t trace_hi, trace_lo;
    uint64_t span_id;
    uint64_t parent_span_id; /* 0: root */
    int64_t start_unix_ns;
    uint64_t duration_ns;
    uint64_t present;
    uint64_t cost_pico_usd;
    uint64_t counts[FT_RECORD_COUNTS];
    uint64_t first_ns[FT_RECORD_FIRSTS];
    uint64_t chunks;
    uint8_t kind, status, usage_source, cost_source;
    uint16_t http_status, retries;
    uint16_t server_port, flags;
    uint16_t strings[FT_RECORD_STRINGS];
    uint64_t content_position; /* monotonic position in the content arena */
    uint32_t content_length, content_crc;
    uint64_t reserved[3];
} ft_record;

enum { FT_RECORD_WORDS = 31, FT_SLOT_BYTES = 256, FT_TAG_BYTES = 8 };
_Static_assert(sizeof(ft_record) == FT_RECORD_WORDS * 8, "a record is 31 words");
_Static_assert(FT_FIELD_COUNT <= 64, "one presence bit per field");
_Static_assert(offsetof(ft_record, counts) == 64, "the pure twin reads this layout");
_Static_assert(offsetof(ft_record, kind) == 176, "the pure twin reads this layout");
_Static_assert(offsetof(ft_record, strings) == 188, "the pure twin reads this layout");
_Static_assert(offsetof(ft_record, content_position) == 208, "the pure twin reads this layout");

/* Clip lengths in bytes of UTF-8, cut on a character boundary; 0 for fields that are not text. */
extern const uint16_t ft_field_limit[FT_FIELD_COUNT];
extern const char *const ft_field_name[FT_FIELD_COUNT];

/* A span under construction: the record, and its content in a buffer that starts inline and may move to the heap.
 * Owner: the thread that builds it; ft_span_clear frees what moved. */
enum { FT_SPAN_INLINE = 1024, FT_CONTENT_MAX = 1 << 20 };
typedef struct {
    ft_record record;
    unsigned char *content;
    uint32_t content_length, content_capacity;
    bool content_dropped; /* out of memory or past FT_CONTENT_MAX: the span goes without what did not fit */
    unsigned char inline_content[FT_SPAN_INLINE];
} ft_span;

void ft_span_init(ft_span *span);
void ft_span_clear(ft_span *span);

static inline void ft_span_mark(ft_span *span, ft_field field) { span->record.present |= UINT64_C(1) << field; }
static inline bool ft_record_has(const ft_record *record, ft_field field) { return record->present >> field & 1; }

/* One of the ten token counts. */
static inline void ft_span_set_count(ft_span *span, ft_field field, uint64_t value) {
    span->record.counts[field - FT_INPUT_TOKENS] = value;
    ft_span_mark(span, field);
}

/* Append one tagged field to the content: text (UTF-8, unescaped, clipped here to ft_field_limit) or ready JSON. False
 * when it did not fit, or for text in a field that is none. */
bool ft_span_add_text(ft_span *span, ft_field field, const char *text, size_t length);
bool ft_span_add_json(ft_span *span, ft_field field, const char *json, size_t length);

/* Longest prefix of `text` of at most `limit` bytes that does not split a UTF-8 sequence. */
size_t ft_text_clip(const char *text, size_t length, size_t limit);

#endif
