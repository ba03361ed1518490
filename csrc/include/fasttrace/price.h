/* Prices and exact cost. A price is a whole number of pico-USD per unit; cost is their integer sum with a saturating
 * 128-bit product. The table is keyed by provider and model, read by every call and written by the exporter thread. */
#ifndef FASTTRACE_PRICE_H
#define FASTTRACE_PRICE_H

#include "span.h"

typedef enum {
    FT_PRICE_INPUT,          /* per token that none of the parts below takes */
    FT_PRICE_CACHE_READ,
    FT_PRICE_CACHE_WRITE,
    FT_PRICE_CACHE_WRITE_1H,
    FT_PRICE_INPUT_AUDIO,
    FT_PRICE_INPUT_IMAGE,
    FT_PRICE_OUTPUT,         /* reasoning included */
    FT_PRICE_OUTPUT_AUDIO,
    FT_PRICE_WEB_SEARCH,     /* per request */
    FT_PRICE_REQUEST,        /* per call */
    FT_PRICE_PARTS
} ft_price_part;

typedef struct {
    uint64_t pico_usd[FT_PRICE_PARTS];
    uint64_t input_limit; /* prices hold up to this many input tokens; 0: no limit. Above it the cost is unknown here */
} ft_price;

typedef struct ft_price_table ft_price_table;
ft_price_table *ft_price_table_new(uint32_t capacity); /* entries at most */
void ft_price_table_free(ft_price_table *table);
/* Add or replace; NULL price remembers that the model has none. False when full, out of memory or the key is longer
 * than any model's name. One writer at a time. */
bool ft_price_table_put(ft_price_table *table, const char *provider, size_t provider_length, const char *model,
                        size_t model_length, const ft_price *price);
/* FT_PRICE_UNKNOWN: never asked (the exporter resolves it). FT_PRICE_NONE: asked, and there is no price. `price` is
 * written only when FT_PRICE_FOUND. Any thread, lock-free. */
typedef enum { FT_PRICE_UNKNOWN, FT_PRICE_NONE, FT_PRICE_FOUND } ft_price_answer;
ft_price_answer ft_price_table_find(const ft_price_table *table, const char *provider, size_t provider_length,
                                    const char *model, size_t model_length, ft_price *price);
/* Cost of the record's counts; a count without its presence bit is 0. The parts of the input (cache read, cache write,
 * audio, image) do not overlap; cache write 1 h is a part of cache write. False when the input is not known, the parts
 * are more than the whole, or the input passes the limit: the cost is then unknown. Saturates at 2^64-1. */
bool ft_price_cost(const ft_price *price, const ft_record *record, uint64_t *pico_usd);

/* Whether the list's prices are those of this service tier: standard, or a tier that the provider bills as standard.
 * Flex, priority, batch and unknown tiers have prices of their own. */
bool ft_price_is_standard_tier(const char *tier, size_t length);

#endif
