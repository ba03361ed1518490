/* What a span costs on the exporter thread: the line of a plain chat completion out of a batch, with the least that a
 * call can know and with all that it usually knows; and a price found in a full table, of a model in steady use and of
 * any model. Prints the best of several rounds, because other work on the machine only ever adds. */
#include "fasttrace/clock.h"
#include "fasttrace/ndjson.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS = 1000, ROUNDS = 200, MODELS = 1000, MODELS_IN_USE = 8 };

static void add_tag(ft_batch *batch, ft_record *record, uint16_t field, const char *text) {
    uint32_t length = (uint32_t)strlen(text);
    unsigned char *tag = batch->content + batch->content_length;
    memset(tag, 0, FT_TAG_BYTES);
    memcpy(tag, &field, sizeof field);
    memcpy(tag + 4, &length, sizeof length);
    memcpy(tag + FT_TAG_BYTES, text, length);
    batch->content_length += FT_TAG_BYTES + length;
    record->content_length += FT_TAG_BYTES + length;
}

static uint16_t intern(ft_ring *ring, const char *text) {
    return ft_strtab_intern(&ring->strtab, text, strlen(text));
}

static void set_count(ft_record *record, ft_field field, uint64_t value) {
    record->counts[field - FT_INPUT_TOKENS] = value;
    record->present |= UINT64_C(1) << field;
}

static ft_record *add_record(ft_batch *batch, ft_ring *ring, uint64_t i) {
    ft_record *record = &batch->records[batch->count++];
    *record = (ft_record){.trace_hi = i * UINT64_C(0x9e3779b97f4a7c15), .trace_lo = ~i, .span_id = i + 1};
    record->start_unix_ns = INT64_C(1700000000000000000) + (int64_t)i * 1000003;
    record->duration_ns = 731456789 + i * 997;
    record->kind = FT_KIND_LLM;
    record->status = FT_STATUS_SUCCESS;
    set_count(record, FT_INPUT_TOKENS, 1234 + i);
    set_count(record, FT_OUTPUT_TOKENS, 321);
    record->strings[FT_STR_OPERATION] = intern(ring, "chat");
    record->strings[FT_STR_PROVIDER] = intern(ring, "openai");
    record->strings[FT_STR_MODEL_ID] = intern(ring, "gpt-4o-mini-2024-07-18");
    record->content_position = batch->content_length;
    return record;
}

static void add_usual_fields(ft_batch *batch, ft_ring *ring, ft_record *record) {
    record->usage_source = FT_USAGE_PROVIDER;
    record->cost_source = FT_COST_LOCAL;
    record->cost_pico_usd = 12345000 + record->span_id * 150000;
    record->present |= UINT64_C(1) << FT_COST_USD;
    record->strings[FT_STR_REQUEST_MODEL] = intern(ring, "gpt-4o-mini");
    record->strings[FT_STR_PRICE_VERSION] = intern(ring, "2025-11-01");
    add_tag(batch, record, FT_RESPONSE_ID, "chatcmpl-9XyZabcdefghijklmnopqrstuv");
    add_tag(batch, record, FT_FINISH_REASONS, "stop");
}

static void report(const char *what, int64_t best_ns, size_t count, size_t bytes) {
    printf("%-28s %7.1f ns", what, (double)best_ns / (double)count);
    if (bytes > 0)
        printf("   %zu bytes, %.2f GB/s", bytes / count, (double)bytes / (double)best_ns);
    putchar('\n');
}

static void bench_lines(const char *what, const ft_batch *batch, const ft_header *region) {
    static const char resource[] = "\"service\":\"api\",\"sdk\":\"fasttrace-python/0.1.0\"";
    ft_buf buf = {0};
    int64_t best_ns = INT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        buf.length = 0;
        int64_t started_ns = ft_clock_monotonic_ns();
        if (!ft_ndjson_write(&buf, batch, region, resource, sizeof resource - 1))
            abort();
        int64_t taken_ns = ft_clock_monotonic_ns() - started_ns;
        best_ns = taken_ns < best_ns ? taken_ns : best_ns;
    }
    report(what, best_ns, batch->count, buf.length);
    ft_buf_free(&buf);
}

static size_t find_models(const ft_price_table *table, char models[MODELS][32], size_t distinct) {
    size_t found = 0;
    ft_price price;
    for (size_t i = 0; i < MODELS; i++) {
        const char *model = models[i % distinct];
        found += ft_price_table_find(table, "openai", 6, model, strlen(model), &price) == FT_PRICE_FOUND;
    }
    return found;
}

static void bench_finds(const char *what, const ft_price_table *table, char models[MODELS][32], size_t distinct) {
    int64_t best_ns = INT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t started_ns = ft_clock_monotonic_ns();
        if (find_models(table, models, distinct) != MODELS)
            abort();
        int64_t taken_ns = ft_clock_monotonic_ns() - started_ns;
        best_ns = taken_ns < best_ns ? taken_ns : best_ns;
    }
    report(what, best_ns, MODELS, 0);
}

static void bench_prices(void) {
    static char models[MODELS][32];
    ft_price_table *table = ft_price_table_new(MODELS);
    for (size_t i = 0; i < MODELS; i++) {
        ft_price price = {.pico_usd = {1}};
        snprintf(models[i], sizeof models[i], "gpt-4o-mini-2024-%04zu", i);
        if (!ft_price_table_put(table, "openai", 6, models[i], strlen(models[i]), &price))
            abort();
    }
    bench_finds("price, 8 models in use", table, models, MODELS_IN_USE);
    bench_finds("price, any of 1,000 models", table, models, MODELS);
    ft_price_table_free(table);
}

int main(void) {
    static ft_record records[RECORDS];
    static unsigned char content[RECORDS * 128];
    ft_region_shape shape = {.slot_count = 8, .arena_bytes = 4096, .strtab_bytes = 4096, .inflight_count = 1};
    ft_region_owner owner = {.pid = 1};
    ft_batch batch = {.records = records, .content = content};
    ft_ring ring;
    ft_header *region = ft_region_create(-1, &shape, &owner);
    if (region == NULL || !ft_ring_init(&ring, region))
        return EXIT_FAILURE;
    for (uint64_t i = 0; i < RECORDS; i++)
        add_record(&batch, &ring, i);
    bench_lines("span, least fields", &batch, region);
    batch.count = 0;
    for (uint64_t i = 0; i < RECORDS; i++)
        add_usual_fields(&batch, &ring, add_record(&batch, &ring, i));
    bench_lines("span, usual fields", &batch, region);
    bench_prices();
    return EXIT_SUCCESS;
}
