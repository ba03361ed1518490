/* Exact costs at the limits, with the compiler's 128-bit product and with the portable one; the table when it is full,
 * when prices are replaced, and while threads read it. */
#include "fasttrace/price.h"

#include "../expect.h"

#include <pthread.h>
#include <stdatomic.h>

/* The same source once more, as a compiler without a 128-bit integer sees it. */
#define FT_PRICE_NO_INT128
#define ft_price_table_new portable_price_table_new
#define ft_price_table_free portable_price_table_free
#define ft_price_table_put portable_price_table_put
#define ft_price_table_find portable_price_table_find
#define ft_price_cost portable_price_cost
#define ft_price_is_standard_tier portable_price_is_standard_tier
#include "../../src/price.c"
#undef ft_price_table_new
#undef ft_price_table_free
#undef ft_price_table_put
#undef ft_price_table_find
#undef ft_price_cost
#undef ft_price_is_standard_tier

static const ft_price distinct = {.pico_usd = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29}};

static void set(ft_record *record, ft_field field, uint64_t value) {
    record->counts[field - FT_INPUT_TOKENS] = value;
    record->present |= UINT64_C(1) << field;
}

static void expect_cost(const ft_price *price, const ft_record *record, uint64_t wanted) {
    uint64_t cost = 1, portable = 2;
    EXPECT(ft_price_cost(price, record, &cost) && cost == wanted);
    EXPECT(portable_price_cost(price, record, &portable) && portable == wanted);
}

static void expect_unknown(const ft_price *price, const ft_record *record) {
    uint64_t cost;
    EXPECT(!ft_price_cost(price, record, &cost));
    EXPECT(!portable_price_cost(price, record, &cost));
}

/* Cached tokens that may be audio or pictures have no known price, unless those cost what text costs. */
static void test_cached_tokens_of_an_unknown_sort_have_no_cost(void) {
    ft_price same = {.pico_usd = {2, 1, 2, 2, 2, 2, 3, 3, 0, 0}};
    for (int i = 0; i < 2; i++) {
        ft_record record = {0};
        set(&record, FT_INPUT_TOKENS, 100);
        set(&record, FT_CACHE_READ_TOKENS, 10);
        set(&record, i ? FT_INPUT_AUDIO_TOKENS : FT_INPUT_IMAGE_TOKENS, 5);
        expect_unknown(&distinct, &record);
        expect_cost(&same, &record, 85 * 2 + 10 * 1 + 5 * 2);
    }
}

static void test_the_list_is_for_the_standard_tier(void) {
    EXPECT(ft_price_is_standard_tier("", 0) && ft_price_is_standard_tier("default", 7));
    EXPECT(ft_price_is_standard_tier("standard", 8) && ft_price_is_standard_tier("auto", 4));
    EXPECT(!ft_price_is_standard_tier("flex", 4) && !ft_price_is_standard_tier("priority", 8));
    EXPECT(!ft_price_is_standard_tier("defaul", 6) && !ft_price_is_standard_tier("batch", 5));
}

static void test_each_part_has_its_price(void) {
    ft_record record = {0};
    set(&record, FT_INPUT_TOKENS, 100);
    expect_cost(&distinct, &record, 29 + 200);
    set(&record, FT_CACHE_READ_TOKENS, 10);
    expect_cost(&distinct, &record, 29 + 90 * 2 + 10 * 3);
    set(&record, FT_CACHE_WRITE_TOKENS, 9);
    set(&record, FT_CACHE_WRITE_1H_TOKENS, 8);
    uint64_t input = 81 * 2 + 10 * 3 + 1 * 5 + 8 * 7;
    expect_cost(&distinct, &record, 29 + input);
    set(&record, FT_CACHE_READ_TOKENS, 0);
    set(&record, FT_INPUT_AUDIO_TOKENS, 7);
    set(&record, FT_INPUT_IMAGE_TOKENS, 6);
    input = 78 * 2 + 1 * 5 + 8 * 7 + 7 * 11 + 6 * 13;
    expect_cost(&distinct, &record, 29 + input);
    set(&record, FT_OUTPUT_TOKENS, 50);
    set(&record, FT_REASONING_TOKENS, 40);
    expect_cost(&distinct, &record, 29 + input + 50 * 17);
    set(&record, FT_OUTPUT_AUDIO_TOKENS, 20);
    set(&record, FT_WEB_SEARCH_REQUESTS, 3);
    expect_cost(&distinct, &record, 29 + input + 30 * 17 + 20 * 19 + 3 * 23);
}

static void test_nothing_used_costs_nothing_and_unknown_is_not_zero(void) {
    ft_price price = {.pico_usd = {[FT_PRICE_INPUT] = 150000, [FT_PRICE_OUTPUT] = 600000}};
    ft_record record = {.counts = {7, 7, 7}};
    expect_unknown(&price, &record);
    set(&record, FT_OUTPUT_TOKENS, 5);
    expect_unknown(&price, &record);
    record = (ft_record){0};
    set(&record, FT_INPUT_TOKENS, 0);
    expect_cost(&price, &record, 0);
    set(&record, FT_OUTPUT_TOKENS, 0);
    expect_cost(&price, &record, 0);
}

static void test_counts_without_their_bit_do_not_count(void) {
    ft_record record = {.counts = {0, 9, 9, 9, 9, 9, 9, 9, 9, 9}};
    set(&record, FT_INPUT_TOKENS, 1);
    expect_cost(&distinct, &record, 29 + 2);
}

static void test_parts_may_fill_the_whole_but_not_pass_it(void) {
    ft_record record = {0};
    set(&record, FT_INPUT_TOKENS, 10);
    set(&record, FT_CACHE_READ_TOKENS, 4);
    set(&record, FT_CACHE_WRITE_TOKENS, 6);
    set(&record, FT_CACHE_WRITE_1H_TOKENS, 6);
    expect_cost(&distinct, &record, 29 + 4 * 3 + 6 * 7);
    set(&record, FT_CACHE_WRITE_1H_TOKENS, 7);
    expect_unknown(&distinct, &record);
    set(&record, FT_CACHE_WRITE_TOKENS, 7);
    expect_unknown(&distinct, &record);
    set(&record, FT_CACHE_WRITE_TOKENS, UINT64_MAX);
    set(&record, FT_CACHE_WRITE_1H_TOKENS, UINT64_MAX);
    expect_unknown(&distinct, &record);
    set(&record, FT_CACHE_WRITE_TOKENS, 0);
    set(&record, FT_CACHE_WRITE_1H_TOKENS, 0);
    set(&record, FT_OUTPUT_AUDIO_TOKENS, 1);
    expect_unknown(&distinct, &record);
    set(&record, FT_OUTPUT_TOKENS, 1);
    expect_cost(&distinct, &record, 29 + 6 * 2 + 4 * 3 + 19);
}

static void test_input_limit_is_the_last_priced_count(void) {
    ft_price price = {.pico_usd = {1}, .input_limit = 200000};
    ft_record record = {0};
    set(&record, FT_INPUT_TOKENS, 200000);
    expect_cost(&price, &record, 200000);
    set(&record, FT_INPUT_TOKENS, 200001);
    expect_unknown(&price, &record);
    price.input_limit = 0;
    expect_cost(&price, &record, 200001);
}

static void test_products_and_sums_saturate(void) {
    const uint64_t two_31 = UINT64_C(1) << 31, two_32 = UINT64_C(1) << 32, two_63 = UINT64_C(1) << 63;
    const struct {
        uint64_t units, price, wanted;
    } cases[] = {
        {two_31, two_31, UINT64_C(1) << 62},
        {two_31, two_32, two_63},
        {two_32, two_31, two_63},
        {two_32, two_32, UINT64_MAX},
        {two_32 - 1, two_32 + 1, UINT64_MAX},
        {two_32, two_32 - 1, UINT64_C(0xffffffff00000000)},
        {two_32 - 1, two_32 - 1, UINT64_C(0xfffffffe00000001)},
        {two_63, 1, two_63},
        {two_63, 2, UINT64_MAX},
        {two_63 - 1, 2, UINT64_MAX - 1},
        {UINT64_MAX, 1, UINT64_MAX},
        {1, UINT64_MAX, UINT64_MAX},
        {UINT64_MAX, 2, UINT64_MAX},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX},
        {UINT64_MAX, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ft_price price = {.pico_usd = {[FT_PRICE_INPUT] = cases[i].price}};
        ft_record record = {0};
        set(&record, FT_INPUT_TOKENS, cases[i].units);
        expect_cost(&price, &record, cases[i].wanted);
        price.pico_usd[FT_PRICE_REQUEST] = 1;
        expect_cost(&price, &record, cases[i].wanted == UINT64_MAX ? UINT64_MAX : cases[i].wanted + 1);
        price.pico_usd[FT_PRICE_REQUEST] = UINT64_MAX;
        expect_cost(&price, &record, UINT64_MAX);
    }
}

/* Products of random widths against long multiplication in the other implementation. */
static void test_both_products_agree(void) {
    uint64_t state = 1;
    for (int i = 0; i < 100000; i++) {
        uint64_t factors[2], with_int128, portable;
        for (int k = 0; k < 2; k++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
            factors[k] = (state ^ state >> 31) >> (state >> 58);
        }
        ft_price price = {.pico_usd = {[FT_PRICE_INPUT] = factors[0]}};
        ft_record record = {0};
        set(&record, FT_INPUT_TOKENS, factors[1]);
        EXPECT(ft_price_cost(&price, &record, &with_int128) && portable_price_cost(&price, &record, &portable));
        EXPECT(with_int128 == portable);
    }
}

/* ---- the table ---- */

static bool put(ft_price_table *table, const char *provider, const char *model, const ft_price *price) {
    return ft_price_table_put(table, provider, strlen(provider), model, strlen(model), price);
}

static ft_price_answer find(const ft_price_table *table, const char *provider, const char *model, ft_price *price) {
    return ft_price_table_find(table, provider, strlen(provider), model, strlen(model), price);
}

static void test_unknown_none_and_found_are_three_answers(void) {
    ft_price_table *table = ft_price_table_new(8);
    ft_price price = {0};
    EXPECT(find(table, "openai", "gpt-4o", &price) == FT_PRICE_UNKNOWN);
    EXPECT(put(table, "openai", "gpt-4o", NULL));
    EXPECT(find(table, "openai", "gpt-4o", &price) == FT_PRICE_NONE);
    EXPECT(put(table, "openai", "gpt-4o", &distinct));
    EXPECT(find(table, "openai", "gpt-4o", &price) == FT_PRICE_FOUND);
    EXPECT(memcmp(&price, &distinct, sizeof price) == 0);
    ft_price dearer = {.pico_usd = {1000}, .input_limit = 9};
    EXPECT(put(table, "openai", "gpt-4o", &dearer) && put(table, "openai", "gpt-4o", &dearer));
    EXPECT(find(table, "openai", "gpt-4o", &price) == FT_PRICE_FOUND && price.pico_usd[0] == 1000);
    EXPECT(put(table, "openai", "gpt-4o", NULL));
    EXPECT(find(table, "openai", "gpt-4o", &price) == FT_PRICE_NONE);
    ft_price_table_free(table);
}

static void test_provider_and_model_do_not_run_together(void) {
    ft_price_table *table = ft_price_table_new(8);
    ft_price price = {0};
    EXPECT(put(table, "ab", "c", &(ft_price){.pico_usd = {1}}) && put(table, "a", "bc", &(ft_price){.pico_usd = {2}}) &&
           put(table, "", "abc", &(ft_price){.pico_usd = {3}}) && put(table, "abc", "", &(ft_price){.pico_usd = {4}}));
    EXPECT(find(table, "ab", "c", &price) == FT_PRICE_FOUND && price.pico_usd[0] == 1);
    EXPECT(find(table, "a", "bc", &price) == FT_PRICE_FOUND && price.pico_usd[0] == 2);
    EXPECT(find(table, "", "abc", &price) == FT_PRICE_FOUND && price.pico_usd[0] == 3);
    EXPECT(find(table, "abc", "", &price) == FT_PRICE_FOUND && price.pico_usd[0] == 4);
    EXPECT(find(table, "", "", &price) == FT_PRICE_UNKNOWN);
    ft_price_table_free(table);
}

static void test_full_table_refuses_new_keys_and_still_replaces(void) {
    enum { CAPACITY = 100 };
    ft_price_table *table = ft_price_table_new(CAPACITY);
    ft_price price;
    char model[32];
    for (uint64_t i = 0; i < CAPACITY; i++) {
        snprintf(model, sizeof model, "model-%d", (int)i);
        EXPECT(put(table, "openai", model, &(ft_price){.pico_usd = {i}}));
    }
    EXPECT(!put(table, "openai", "one-too-many", &distinct));
    EXPECT(find(table, "openai", "one-too-many", &price) == FT_PRICE_UNKNOWN);
    EXPECT(put(table, "openai", "model-7", &distinct));
    for (uint64_t i = 0; i < CAPACITY; i++) {
        snprintf(model, sizeof model, "model-%d", (int)i);
        EXPECT(find(table, "openai", model, &price) == FT_PRICE_FOUND && price.pico_usd[0] == (i == 7 ? 2 : i));
    }
    ft_price_table_free(table);
}

static void test_odd_capacities_and_keys(void) {
    ft_price price;
    ft_price_table *empty = ft_price_table_new(0);
    EXPECT(!put(empty, "a", "b", &distinct) && find(empty, "a", "b", &price) == FT_PRICE_UNKNOWN);
    ft_price_table_free(empty);
    ft_price_table_free(NULL);
    EXPECT(ft_price_table_new(UINT32_MAX) == NULL);
    ft_price_table *table = ft_price_table_new(1);
    static char long_model[5000];
    EXPECT(!ft_price_table_put(table, "a", 1, long_model, sizeof long_model, &distinct));
    EXPECT(ft_price_table_find(table, "a", 1, long_model, sizeof long_model, &price) == FT_PRICE_UNKNOWN);
    EXPECT(ft_price_table_put(table, "a", 1, long_model, 4096, &distinct));
    EXPECT(ft_price_table_find(table, "a", 1, long_model, 4096, &price) == FT_PRICE_FOUND);
    ft_price_table_free(table);
}

/* ---- readers beside the writer ---- */

enum { SHARED_KEYS = 64, ROUNDS = 200, READERS = 3 };
typedef struct {
    ft_price_table *table;
    atomic_bool is_done;
} shared_table;

/* Every part of a price that the writer puts is the same number, and it only grows. */
static bool is_untorn(const ft_price *price, uint64_t at_least) {
    for (int part = 1; part < FT_PRICE_PARTS; part++)
        if (price->pico_usd[part] != price->pico_usd[0])
            return false;
    return price->pico_usd[0] >= at_least;
}

static void *read_prices(void *argument) {
    shared_table *shared = argument;
    uint64_t last[SHARED_KEYS] = {0}, torn = 0;
    bool is_last_round = false;
    while (!is_last_round) {
        is_last_round = atomic_load(&shared->is_done);
        for (int key = 0; key < SHARED_KEYS; key++) {
            char model[32];
            ft_price price;
            snprintf(model, sizeof model, "model-%d", key);
            bool is_found = find(shared->table, "openai", model, &price) == FT_PRICE_FOUND;
            if (!is_found && (last[key] > 0 || is_last_round))
                torn++;
            if (is_found && !is_untorn(&price, last[key]))
                torn++;
            if (is_found)
                last[key] = price.pico_usd[0];
        }
    }
    return torn == 0 ? NULL : shared;
}

static void write_prices(shared_table *shared) {
    for (uint64_t round = 1; round <= ROUNDS; round++)
        for (int key = 0; key < SHARED_KEYS; key++) {
            char model[32];
            ft_price price = {0};
            snprintf(model, sizeof model, "model-%d", key);
            for (int part = 0; part < FT_PRICE_PARTS; part++)
                price.pico_usd[part] = round;
            EXPECT(put(shared->table, "openai", model, &price));
        }
    atomic_store(&shared->is_done, true);
}

static void test_readers_see_whole_prices_while_they_are_replaced(void) {
    shared_table shared = {.table = ft_price_table_new(SHARED_KEYS)};
    pthread_t readers[READERS];
    for (int i = 0; i < READERS; i++)
        EXPECT(pthread_create(&readers[i], NULL, read_prices, &shared) == 0);
    write_prices(&shared);
    for (int i = 0; i < READERS; i++) {
        void *torn = NULL;
        pthread_join(readers[i], &torn);
        EXPECT(torn == NULL);
    }
    ft_price_table_free(shared.table);
}

int main(void) {
    test_each_part_has_its_price();
    test_cached_tokens_of_an_unknown_sort_have_no_cost();
    test_the_list_is_for_the_standard_tier();
    test_nothing_used_costs_nothing_and_unknown_is_not_zero();
    test_counts_without_their_bit_do_not_count();
    test_parts_may_fill_the_whole_but_not_pass_it();
    test_input_limit_is_the_last_priced_count();
    test_products_and_sums_saturate();
    test_both_products_agree();
    test_unknown_none_and_found_are_three_answers();
    test_provider_and_model_do_not_run_together();
    test_full_table_refuses_new_keys_and_still_replaces();
    test_odd_capacities_and_keys();
    test_readers_see_whole_prices_while_they_are_replaced();
    return expect_result();
}
