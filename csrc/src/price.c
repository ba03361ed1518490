/* The price table: open addressing with linear probes, at most a quarter full, so that a probe ends, and mostly at its
 * first slot: each slot passed is an entry to fetch from memory.
 *
 * Readers take no lock: a slot holds a pointer to an entry that never changes after it was published with release. To
 * replace a price a new entry goes into the same slot; the old one stays readable and is freed with the table, because
 * nobody knows when its last reader left it. Slots are never emptied, so a probe that has passed one cannot miss a key.
 *
 * Cost is exact: whole pico-dollars, 64 x 64 -> 128-bit products, saturating sums. */
#include "fasttrace/price.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct price_entry {
    struct price_entry *replaced; /* the entry this one took the place of; owned */
    uint64_t hash;
    size_t provider_length, model_length;
    bool has_price;
    ft_price price;
    char key[]; /* provider, then model */
} price_entry;

struct ft_price_table {
    uint64_t mask;
    uint32_t capacity, used; /* the writer's */
    _Atomic(price_entry *) slots[];
};

/* A model name is at most 128 bytes on a span, a provider 64; no longer key can be asked for usefully. */
enum { KEY_BYTES_MAX = 4096, CAPACITY_MAX = 1 << 20 };

typedef struct {
    const char *provider, *model;
    size_t provider_length, model_length;
    uint64_t hash;
} lookup;

static uint64_t mixed(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

/* Eight bytes at a time; the last word overlaps the one before, and the length keeps overlaps apart. */
static uint64_t hash_text(uint64_t hash, const char *text, size_t length) {
    uint64_t word = 0;
    hash = mixed(hash, length);
    if (length < 8) {
        for (size_t i = 0; i < length; i++)
            word = word << 8 | (unsigned char)text[i];
        return mixed(hash, word);
    }
    for (size_t at = 0; at + 8 < length; at += 8) {
        memcpy(&word, text + at, 8);
        hash = mixed(hash, word);
    }
    memcpy(&word, text + length - 8, 8);
    return mixed(hash, word);
}

static lookup lookup_of(const char *provider, size_t provider_length, const char *model, size_t model_length) {
    uint64_t hash = hash_text(hash_text(1, provider, provider_length), model, model_length);
    return (lookup){provider, model, provider_length, model_length, hash ^ hash >> 32};
}

static bool is_key_too_long(size_t provider_length, size_t model_length) {
    return provider_length > KEY_BYTES_MAX || model_length > KEY_BYTES_MAX;
}

static bool is_entry_of(const price_entry *entry, const lookup *key) {
    return entry->hash == key->hash && entry->provider_length == key->provider_length &&
           entry->model_length == key->model_length && memcmp(entry->key, key->provider, key->provider_length) == 0 &&
           memcmp(entry->key + key->provider_length, key->model, key->model_length) == 0;
}

/* The slot that holds the key, or the empty one where it would go. */
static uint64_t slot_of(const ft_price_table *table, const lookup *key, price_entry **found) {
    uint64_t at = key->hash & table->mask;
    for (;; at = (at + 1) & table->mask) {
        *found = atomic_load_explicit(&table->slots[at], memory_order_acquire);
        if (*found == NULL || is_entry_of(*found, key))
            return at;
    }
}

ft_price_table *ft_price_table_new(uint32_t capacity) {
    if (capacity > CAPACITY_MAX)
        return NULL;
    uint64_t slots = 4;
    while (slots < (uint64_t)capacity * 4)
        slots *= 2;
    ft_price_table *table = malloc(sizeof *table + slots * sizeof table->slots[0]);
    if (table == NULL)
        return NULL;
    table->mask = slots - 1;
    table->capacity = capacity;
    table->used = 0;
    for (uint64_t i = 0; i < slots; i++)
        atomic_init(&table->slots[i], NULL);
    return table;
}

static void free_entries(price_entry *newest) {
    while (newest != NULL) {
        price_entry *replaced = newest->replaced;
        free(newest);
        newest = replaced;
    }
}

void ft_price_table_free(ft_price_table *table) {
    if (table == NULL)
        return;
    for (uint64_t i = 0; i <= table->mask; i++)
        free_entries(atomic_load_explicit(&table->slots[i], memory_order_relaxed));
    free(table);
}

static price_entry *entry_new(const lookup *key, const ft_price *price, price_entry *replaced) {
    price_entry *made = malloc(sizeof *made + key->provider_length + key->model_length);
    if (made == NULL)
        return NULL;
    *made = (price_entry){.replaced = replaced,
                    .hash = key->hash,
                    .provider_length = key->provider_length,
                    .model_length = key->model_length,
                    .has_price = price != NULL};
    if (price != NULL)
        made->price = *price;
    memcpy(made->key, key->provider, key->provider_length);
    memcpy(made->key + key->provider_length, key->model, key->model_length);
    return made;
}

/* Putting the same price again must not pile up entries. */
static bool is_same_price(const price_entry *entry, const ft_price *price) {
    if (entry->has_price != (price != NULL))
        return false;
    return price == NULL || (memcmp(entry->price.pico_usd, price->pico_usd, sizeof price->pico_usd) == 0 &&
                             entry->price.input_limit == price->input_limit);
}

bool ft_price_table_put(ft_price_table *table, const char *provider, size_t provider_length, const char *model,
                        size_t model_length, const ft_price *price) {
    if (is_key_too_long(provider_length, model_length))
        return false;
    lookup key = lookup_of(provider, provider_length, model, model_length);
    price_entry *present;
    uint64_t at = slot_of(table, &key, &present);
    if (present != NULL && is_same_price(present, price))
        return true;
    if (present == NULL && table->used == table->capacity)
        return false;
    price_entry *made = entry_new(&key, price, present);
    if (made == NULL)
        return false;
    table->used += present == NULL;
    atomic_store_explicit(&table->slots[at], made, memory_order_release);
    return true;
}

ft_price_answer ft_price_table_find(const ft_price_table *table, const char *provider, size_t provider_length,
                                    const char *model, size_t model_length, ft_price *price) {
    if (is_key_too_long(provider_length, model_length))
        return FT_PRICE_UNKNOWN;
    lookup key = lookup_of(provider, provider_length, model, model_length);
    price_entry *found;
    slot_of(table, &key, &found);
    if (found == NULL)
        return FT_PRICE_UNKNOWN;
    if (!found->has_price)
        return FT_PRICE_NONE;
    *price = found->price;
    return FT_PRICE_FOUND;
}

/* ---- cost ---- */

static uint64_t saturating_add(uint64_t left, uint64_t right) {
    uint64_t sum = left + right;
    return sum < left ? UINT64_MAX : sum;
}

#if defined(__SIZEOF_INT128__) && !defined(FT_PRICE_NO_INT128)
__extension__ typedef unsigned __int128 ft_uint128;

static uint64_t saturating_product(uint64_t units, uint64_t price) {
    ft_uint128 product = (ft_uint128)units * price;
    return product > UINT64_MAX ? UINT64_MAX : (uint64_t)product;
}
#else
/* In halves of 32 bits: two high halves overflow at once, a high and a low one where their product leaves 32 bits. */
static uint64_t saturating_product(uint64_t units, uint64_t price) {
    uint64_t units_high = units >> 32, price_high = price >> 32;
    if (units_high != 0 && price_high != 0)
        return UINT64_MAX;
    uint64_t middle = units_high * (price & UINT32_MAX) + price_high * (units & UINT32_MAX);
    if (middle >> 32 != 0)
        return UINT64_MAX;
    return saturating_add(middle << 32, (units & UINT32_MAX) * (price & UINT32_MAX));
}
#endif

static uint64_t count_of(const ft_record *record, ft_field field) {
    return ft_record_has(record, field) ? record->counts[field - FT_INPUT_TOKENS] : 0;
}

typedef struct {
    ft_field field;
    ft_price_part part;
} priced_part;

/* Tokens written to a cache for an hour are counted among all that were written, and have a price of their own. */
static uint64_t units_of(const ft_record *record, ft_field field) {
    uint64_t for_an_hour = field == FT_CACHE_WRITE_TOKENS ? count_of(record, FT_CACHE_WRITE_1H_TOKENS) : 0;
    return count_of(record, field) - for_an_hour;
}

static const priced_part input_parts[] = {
    {FT_CACHE_READ_TOKENS, FT_PRICE_CACHE_READ},         {FT_CACHE_WRITE_TOKENS, FT_PRICE_CACHE_WRITE},
    {FT_CACHE_WRITE_1H_TOKENS, FT_PRICE_CACHE_WRITE_1H}, {FT_INPUT_AUDIO_TOKENS, FT_PRICE_INPUT_AUDIO},
    {FT_INPUT_IMAGE_TOKENS, FT_PRICE_INPUT_IMAGE},
};
static const priced_part output_parts[] = {{FT_OUTPUT_AUDIO_TOKENS, FT_PRICE_OUTPUT_AUDIO}};

/* Adds the cost of the parts and leaves in `rest` what none of them took; false when they take more than there is. */
static bool add_parts(const ft_price *price, const ft_record *record, const priced_part *parts, size_t count,
                      uint64_t *rest, uint64_t *cost) {
    for (size_t i = 0; i < count; i++) {
        uint64_t units = units_of(record, parts[i].field);
        if (units > *rest)
            return false;
        *rest -= units;
        *cost = saturating_add(*cost, saturating_product(units, price->pico_usd[parts[i].part]));
    }
    return true;
}

/* Which of the cached tokens are audio or pictures is not told: where those have a price of their own, nobody knows. */
static bool is_cached_part_unclear(const ft_price *price, const ft_record *record) {
    if (count_of(record, FT_CACHE_READ_TOKENS) == 0)
        return false;
    uint64_t text = price->pico_usd[FT_PRICE_INPUT];
    return (count_of(record, FT_INPUT_AUDIO_TOKENS) != 0 && price->pico_usd[FT_PRICE_INPUT_AUDIO] != text) ||
           (count_of(record, FT_INPUT_IMAGE_TOKENS) != 0 && price->pico_usd[FT_PRICE_INPUT_IMAGE] != text);
}

bool ft_price_cost(const ft_price *price, const ft_record *record, uint64_t *pico_usd) {
    if (!ft_record_has(record, FT_INPUT_TOKENS))
        return false;
    uint64_t input = count_of(record, FT_INPUT_TOKENS), output = count_of(record, FT_OUTPUT_TOKENS);
    if (price->input_limit != 0 && input > price->input_limit)
        return false;
    if (count_of(record, FT_CACHE_WRITE_1H_TOKENS) > count_of(record, FT_CACHE_WRITE_TOKENS))
        return false;
    if (is_cached_part_unclear(price, record))
        return false;
    uint64_t cost = price->pico_usd[FT_PRICE_REQUEST];
    if (!add_parts(price, record, input_parts, sizeof input_parts / sizeof *input_parts, &input, &cost) ||
        !add_parts(price, record, output_parts, sizeof output_parts / sizeof *output_parts, &output, &cost))
        return false;
    uint64_t searches = count_of(record, FT_WEB_SEARCH_REQUESTS);
    cost = saturating_add(cost, saturating_product(input, price->pico_usd[FT_PRICE_INPUT]));
    cost = saturating_add(cost, saturating_product(output, price->pico_usd[FT_PRICE_OUTPUT]));
    *pico_usd = saturating_add(cost, saturating_product(searches, price->pico_usd[FT_PRICE_WEB_SEARCH]));
    return true;
}

bool ft_price_is_standard_tier(const char *tier, size_t length) {
    static const char *const standard[] = {"default", "standard", "auto", "on_demand", "ON_DEMAND"};
    for (size_t i = 0; i < sizeof standard / sizeof *standard; i++)
        if (strlen(standard[i]) == length && memcmp(standard[i], tier, length) == 0)
            return true;
    return length == 0;
}
