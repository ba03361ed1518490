/* Prices what was recorded before its model's price was known. Runs on the exporter thread, over copies of the
 * records, after the thread has put into the table what it could find out about the batch's models. */
#include "fasttrace/ndjson.h"
#include "record_view.h"

typedef struct {
    const ft_batch *batch;
    const ft_header *region;
    const ft_price_table *prices;
    const char *version_text; /* of the price table */
    size_t version_length;
    uint16_t version; /* in the string table, 0 until it is there */
} batch_pricing;

static ft_text text_of(const ft_record_view *view, ft_field field) {
    return ft_record_view_has(view, field) ? view->texts[field] : (ft_text){"", 0};
}

static bool find_price(const ft_record_view *view, const ft_price_table *prices, ft_field model, ft_price *price) {
    ft_text provider = text_of(view, FT_PROVIDER), name = text_of(view, model);
    if (provider.length == 0 || name.length == 0)
        return false;
    return ft_price_table_find(prices, provider.data, provider.length, name.data, name.length, price) ==
           FT_PRICE_FOUND;
}

static bool find_cost(const batch_pricing *pricing, const ft_record *record, uint64_t *pico_usd) {
    ft_record_view view;
    ft_price price;
    ft_record_view_init(&view, pricing->batch, record, pricing->region);
    return (find_price(&view, pricing->prices, FT_MODEL_ID, &price) ||
            find_price(&view, pricing->prices, FT_REQUEST_MODEL, &price)) &&
           ft_price_cost(&price, record, pico_usd);
}

static void price_record(batch_pricing *pricing, ft_ring *ring, ft_record *record) {
    uint64_t pico_usd;
    if (ft_record_has(record, FT_COST_USD) || !find_cost(pricing, record, &pico_usd))
        return;
    record->cost_pico_usd = pico_usd;
    record->present |= UINT64_C(1) << FT_COST_USD;
    record->cost_source = FT_COST_LOCAL;
    if (pricing->version == 0)
        pricing->version = ft_strtab_intern(&ring->strtab, pricing->version_text, pricing->version_length);
    record->strings[FT_STR_PRICE_VERSION] = pricing->version;
}

void ft_batch_price(ft_batch *batch, ft_ring *ring, const ft_price_table *prices, const char *version, size_t length) {
    batch_pricing pricing = {.batch = batch,
                             .region = ring->header,
                             .prices = prices,
                             .version_text = version,
                             .version_length = ft_text_clip(version, length, ft_field_limit[FT_PRICE_VERSION])};
    for (size_t i = 0; i < batch->count; i++) {
        ft_record *record = &batch->records[i];
        if (!(record->flags & FT_FLAG_UNPRICED))
            continue;
        record->flags &= (uint16_t)~FT_FLAG_UNPRICED;
        price_record(&pricing, ring, record);
    }
}

bool ft_batch_text(const ft_batch *batch, const ft_header *region, size_t i, ft_field field, const char **text,
                   size_t *length) {
    ft_record_view view;
    ft_record_view_init(&view, batch, &batch->records[i], region);
    ft_text found = text_of(&view, field);
    *text = found.data;
    *length = found.length;
    return found.length > 0;
}
