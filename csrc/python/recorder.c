#include "recorder.h"

#include <string.h>

#include "values.h"

#ifndef _WIN32
#include <errno.h>
#include <unistd.h>
#endif

/* NULL where it is another process's: of the one that this was forked from. */
static ft_ring *own_ring(ft_recorder *recorder) {
    ft_ring *ring = atomic_load_explicit(&recorder->ring, memory_order_acquire);
    return ring != NULL && ft_ring_is_own(ring) ? ring : NULL;
}

static ft_ring *start_ring(ft_recorder *recorder, bool *is_fine) {
    PyObject *done = PyObject_CallNoArgs(recorder->start);
    Py_XDECREF(done);
    *is_fine = ft_swallow();
    return own_ring(recorder);
}

ft_ring *ft_recorder_ring(ft_recorder *recorder) {
    bool is_fine = true;
    ft_ring *ring = own_ring(recorder);
    if (ring != NULL) return ring;
    ring = start_ring(recorder, &is_fine);
    if (ring == NULL) atomic_fetch_add_explicit(&recorder->unstarted, 1, memory_order_relaxed);
    return is_fine ? ring : NULL;
}

typedef struct {
    const char *data;
    size_t length;
} text;

/* The last entry of a field in the span's content, where a record's string is when the string table is full; NULL if
 * there is none. */
static unsigned char *find_entry(const ft_span *span, ft_field field, text *found) {
    unsigned char *entry = NULL;
    uint16_t number;
    uint32_t length;
    for (uint32_t at = 0; at < span->content_length; at += FT_TAG_BYTES + length) {
        unsigned char *here = span->content + at;
        memcpy(&number, here, sizeof number);
        memcpy(&length, here + 4, sizeof length);
        if (number != field) continue;
        entry = here;
        *found = (text){(const char *)here + FT_TAG_BYTES, length};
    }
    return entry;
}

static text text_of(const ft_ring *ring, const ft_span *span, ft_record_string which, ft_field field) {
    text found = {NULL, 0};
    if (!ft_strtab_get(ring->header, span->record.strings[which], &found.data, &found.length))
        find_entry(span, field, &found);
    return found;
}

/* By names in the string table; for names in the content the exporter thread asks. */
static ft_price_answer price_by(const ft_price_table *prices, const ft_ring *ring, const ft_span *span,
                                ft_record_string model_string, ft_field model_field, ft_price *price) {
    const uint16_t *strings = span->record.strings;
    text provider = text_of(ring, span, FT_STR_PROVIDER, FT_PROVIDER);
    text model = text_of(ring, span, model_string, model_field);
    if (provider.length == 0 || model.length == 0) return FT_PRICE_NONE;
    if (!strings[FT_STR_PROVIDER] || !strings[model_string]) return FT_PRICE_UNKNOWN;
    return ft_price_table_find(prices, provider.data, provider.length, model.data, model.length, price);
}

static void set_price_version(ft_recorder *recorder, ft_ring *ring, ft_span *span) {
    uint64_t known = atomic_load_explicit(&recorder->price_version_index, memory_order_relaxed);
    uint64_t tag = (uint64_t)(uintptr_t)ring << 16;
    if ((known ^ tag) <= UINT16_MAX && known != tag) {
        span->record.strings[FT_STR_PRICE_VERSION] = (uint16_t)known;
        return;
    }
    ft_ring_set_string(ring, span, FT_STR_PRICE_VERSION, recorder->price_version, recorder->price_version_length);
    tag |= span->record.strings[FT_STR_PRICE_VERSION];
    atomic_store_explicit(&recorder->price_version_index, tag, memory_order_relaxed);
}

static bool has_list_price(const ft_ring *ring, const ft_span *span) {
    if (span->record.flags & FT_FLAG_OTHER_RATE) return false;
    text tier = text_of(ring, span, FT_STR_SERVICE_TIER, FT_SERVICE_TIER);
    if (tier.length == 0) return !(span->record.flags & FT_FLAG_OTHER_TIER);
    return ft_price_is_standard_tier(tier.data, tier.length);
}

static void price_span(ft_recorder *recorder, ft_ring *ring, ft_span *span) {
    ft_record *record = &span->record;
    if (ft_record_has(record, FT_COST_USD) || !ft_record_has(record, FT_INPUT_TOKENS)) return;
    if (record->usage_source == FT_USAGE_PARTIAL) return; /* the price of a part is nobody's bill */
    if (record->kind == FT_KIND_LLM && !ft_record_has(record, FT_OUTPUT_TOKENS)) return;
    if (!has_list_price(ring, span)) return;
    ft_price price;
    const ft_price_table *prices = atomic_load_explicit(&recorder->prices, memory_order_acquire);
    ft_price_answer answer = price_by(prices, ring, span, FT_STR_MODEL_ID, FT_MODEL_ID, &price);
    if (answer == FT_PRICE_NONE) answer = price_by(prices, ring, span, FT_STR_REQUEST_MODEL, FT_REQUEST_MODEL, &price);
    if (answer == FT_PRICE_UNKNOWN) record->flags |= FT_FLAG_UNPRICED;
    if (answer != FT_PRICE_FOUND || !ft_price_cost(&price, record, &record->cost_pico_usd)) return;
    ft_span_mark(span, FT_COST_USD);
    record->cost_source = FT_COST_LOCAL;
    set_price_version(recorder, ring, span);
}

static void wake(int fd) {
#ifdef _WIN32
    (void)fd; /* the exporter's interval alone paces it there */
#else
    int saved = errno;
    uint64_t one = 1;
    /* A full counter means that a wake-up is already waiting. */
    if (fd >= 0 && write(fd, &one, sizeof one) < 0) errno = saved;
#endif
}

/* The same where either name may be in the content: the requested model's entry there becomes the model's. */
static void settle_models_in_content(const ft_ring *ring, ft_span *span) {
    uint16_t *strings = span->record.strings, number = FT_MODEL_ID;
    text model = text_of(ring, span, FT_STR_MODEL_ID, FT_MODEL_ID), entry_text;
    text request = text_of(ring, span, FT_STR_REQUEST_MODEL, FT_REQUEST_MODEL);
    if (request.length == 0) return;
    bool is_same = model.length == request.length && memcmp(model.data, request.data, model.length) == 0;
    if (model.length > 0 && !is_same) return;
    unsigned char *entry = find_entry(span, FT_REQUEST_MODEL, &entry_text);
    if (entry != NULL) memcpy(entry, &number, sizeof number);
    if (model.length == 0) strings[FT_STR_MODEL_ID] = strings[FT_STR_REQUEST_MODEL];
    strings[FT_STR_REQUEST_MODEL] = 0;
}

/* The model that answered; the requested one where the reply names none. request_model only where it differs. */
static void settle_models(const ft_ring *ring, ft_span *span) {
    uint16_t *strings = span->record.strings;
    if (strings[FT_STR_MODEL_ID] == 0 || (strings[FT_STR_REQUEST_MODEL] == 0 && span->content_length > 0))
        settle_models_in_content(ring, span);
    else if (strings[FT_STR_REQUEST_MODEL] == strings[FT_STR_MODEL_ID])
        strings[FT_STR_REQUEST_MODEL] = 0;
}

/* A fork inside the call: this span is the parent's. A ring replaced meanwhile: the indices are the old ring's. */
static bool is_current(ft_recorder *recorder, const ft_ring *ring) {
    if (!ft_ring_is_own(ring)) return false;
    if (atomic_load_explicit(&recorder->ring, memory_order_acquire) == ring) return true;
    atomic_fetch_add_explicit(&recorder->unstarted, 1, memory_order_relaxed);
    return false;
}

bool ft_recorder_finish(ft_recorder *recorder, ft_ring *ring, ft_span *span) {
    if (!is_current(recorder, ring)) return false;
    settle_models(ring, span);
    price_span(recorder, ring, span);
    ft_push_result result = ft_ring_push(ring, span);
    if (result == FT_PUSHED_WAKE) wake(atomic_load_explicit(&recorder->wake_fd, memory_order_relaxed));
    return result != FT_PUSH_DROPPED;
}

/* ---- spans made by hand ---- */

enum { PLACE_BITS = 20 };
_Static_assert(FT_INFLIGHT_MAX <= 1 << PLACE_BITS, "a place and its ring's number in one integer");

static int64_t enter(ft_ring *ring, ft_inflight_call *call, PyObject *kind, PyObject *name) {
    ft_span span;
    ft_span_init(&span);
    bool fine = ft_set_field(ring, &span, FT_KIND, kind) && ft_set_field(ring, &span, FT_OPERATION, name) &&
                ft_set_field(ring, &span, FT_NAME, name);
    call->kind = span.record.kind;
    call->strings[0] = span.record.strings[FT_STR_OPERATION];
    call->strings[1] = span.record.strings[FT_STR_NAME];
    ft_span_clear(&span);
    int64_t place = fine ? ft_inflight_enter(ring, call) : -1;
    return place < 0 ? -1 : (int64_t)(ring->number << PLACE_BITS) | place;
}

/* Who finds no ring here is counted when its span is recorded. */
int64_t ft_recorder_enter(ft_recorder *recorder, const ft_context *context, int64_t start_unix_ns, int64_t start_ns,
                          PyObject *kind, PyObject *name) {
    bool is_fine = true;
    ft_ring *ring = own_ring(recorder);
    if (ring == NULL) ring = start_ring(recorder, &is_fine);
    if (ring == NULL || !is_fine) return -1;
    ft_inflight_call call = {.trace_hi = context->trace_hi,
                             .trace_lo = context->trace_lo,
                             .span_id = context->span_id,
                             .parent_span_id = context->parent_span_id,
                             .start_unix_ns = start_unix_ns,
                             .start_ns = start_ns};
    return enter(ring, &call, kind, name);
}

void ft_recorder_leave(ft_recorder *recorder, int64_t place) {
    ft_ring *ring = own_ring(recorder);
    if (place < 0 || ring == NULL || (uint64_t)place >> PLACE_BITS != ring->number) return;
    ft_inflight_leave(ring, (int32_t)(place & ((1 << PLACE_BITS) - 1)));
}

bool ft_recorder_record(ft_recorder *recorder, const ft_context *context, int64_t start_unix_ns, uint64_t duration_ns,
                        PyObject *fields) {
    ft_ring *ring = ft_recorder_ring(recorder);
    if (ring == NULL) return false;
    ft_span span;
    ft_span_init(&span);
    span.record.trace_hi = context->trace_hi;
    span.record.trace_lo = context->trace_lo;
    span.record.span_id = context->span_id;
    span.record.parent_span_id = context->parent_span_id;
    span.record.start_unix_ns = start_unix_ns;
    span.record.duration_ns = duration_ns;
    bool is_kept = ft_set_fields(ring, &span, fields) && ft_recorder_finish(recorder, ring, &span);
    ft_span_clear(&span);
    return is_kept;
}

bool ft_recorder_set_price_version(ft_recorder *recorder, const char *version, size_t length) {
    if (length > sizeof recorder->price_version) return false;
    memcpy(recorder->price_version, version, length);
    recorder->price_version_length = length;
    atomic_store(&recorder->price_version_index, 0);
    return true;
}
