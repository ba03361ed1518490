/* Whatever a ring file holds, the writer makes whole lines of valid JSON and UTF-8, and the pricing does not stumble.
 *
 * Input: one record as it lies in a slot, the bytes of the string table, then the content block. JSON fields are the
 * word of whoever recorded them, so their bytes are made a JSON string here. Build as a libFuzzer target with
 * -fsanitize=fuzzer,address,undefined -DFT_LIBFUZZER; without it main feeds pseudo-random inputs:
 *
 *     ndjson_fuzz [rounds] [seed] */
#include "fasttrace/ndjson.h"

#include "../json_check.h"

#include <stdio.h>
#include <stdlib.h>

enum { TABLE_BYTES = 64, INPUT_MAX = 4096 };

static ft_ring ring;
static ft_price_table *prices;

static void set_up(void) {
    ft_region_shape shape = {.slot_count = 8, .arena_bytes = 4096, .strtab_bytes = 4096, .inflight_count = 1};
    ft_region_owner owner = {.pid = 1};
    ft_price price = {.pico_usd = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
    ft_header *region = ft_region_create(-1, &shape, &owner);
    prices = ft_price_table_new(4);
    if (region == NULL || prices == NULL || !ft_ring_init(&ring, region) ||
        !ft_price_table_put(prices, "p", 1, "m", 1, &price))
        abort();
}

/* The table's first bytes, and how much of it is in use, are the input's. */
static void fill_table(const uint8_t *data, size_t size) {
    unsigned char *table = (unsigned char *)ring.header + ring.header->strtab_offset;
    memset(table, 0, TABLE_BYTES);
    memcpy(table, data, size);
    atomic_store(&ring.header->strtab_used, size > 0 ? data[0] : 0);
}

static bool is_json_field(unsigned field) {
    return field == FT_REQUEST_PARAMS || (field >= FT_ATTRIBUTES && field <= FT_OUTPUT);
}

static void make_json(unsigned char *text, size_t length) {
    memset(text, 'x', length);
    if (length == 1)
        *text = '1';
    if (length >= 2)
        text[0] = text[length - 1] = '"';
}

static void make_json_fields(unsigned char *content, size_t size) {
    while (size >= FT_TAG_BYTES) {
        uint16_t field;
        uint32_t length;
        memcpy(&field, content, sizeof field);
        memcpy(&length, content + 4, sizeof length);
        if (length > size - FT_TAG_BYTES)
            return;
        if (is_json_field(field))
            make_json(content + FT_TAG_BYTES, length);
        content += FT_TAG_BYTES + length;
        size -= FT_TAG_BYTES + length;
    }
}

static size_t take(void *to, size_t wanted, const uint8_t **data, size_t *size) {
    size_t taken = wanted < *size ? wanted : *size;
    if (taken > 0)
        memcpy(to, *data, taken);
    *data += taken;
    *size -= taken;
    return taken;
}

static void check_lines(const ft_batch *batch) {
    static const char resource[] = "\"sdk\":\"fuzz\"";
    ft_buf buf = {0};
    if (!ft_ndjson_write(&buf, batch, ring.header, resource, sizeof resource - 1))
        abort();
    if (!json_is_ndjson(buf.data, buf.length)) {
        fprintf(stderr, "not JSON: %.*s\n", (int)buf.length, buf.data);
        abort();
    }
    ft_buf_free(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ft_record records[2] = {{0}};
    uint64_t tickets[2] = {0, 1};
    uint8_t table[TABLE_BYTES];
    if (prices == NULL)
        set_up();
    take(&records[0], sizeof records[0], &data, &size);
    fill_table(table, take(table, sizeof table, &data, &size));
    unsigned char *content = malloc(size + (size == 0));
    if (content == NULL)
        return 0;
    memcpy(content, data, size);
    make_json_fields(content, size);
    records[1] = records[0]; /* the first names content that is not there, the second the whole block */
    records[0].content_position |= UINT64_C(1) << 20;
    records[1].content_position = 0;
    records[1].content_length = (uint32_t)size;
    ft_batch batch = {.records = records, .tickets = tickets, .content = content, .count = 2, .content_length = size};
    check_lines(&batch);
    ft_batch_price(&batch, &ring, prices, "v", 1);
    check_lines(&batch);
    free(content);
    return 0;
}

#ifndef FT_LIBFUZZER

static uint64_t state;

static uint64_t next_random(void) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state ^ state >> 29) >> 8;
}

static void put_tag(uint8_t *out, size_t length) {
    uint16_t field = (uint16_t)(next_random() % (FT_FIELD_COUNT + 2));
    uint32_t claimed = (uint32_t)length;
    memcpy(out, &field, sizeof field);
    memcpy(out + 4, &claimed, sizeof claimed);
}

/* Plain random bytes would hardly ever make a tag that fits: this is tags with short texts, and a last one that claims
 * up to eight bytes more than there are. */
static size_t fill_content(uint8_t *out, size_t room) {
    size_t at = 0, wanted = next_random() % room;
    while (at + FT_TAG_BYTES + 64 < wanted) {
        size_t length = next_random() % 60;
        put_tag(out + at, length);
        for (size_t i = 0; i < length; i++)
            out[at + FT_TAG_BYTES + i] = (uint8_t)(next_random() >> (next_random() % 3));
        at += FT_TAG_BYTES + length;
    }
    if (at + FT_TAG_BYTES <= wanted)
        put_tag(out + at, wanted - at - FT_TAG_BYTES + next_random() % 9);
    return wanted;
}

static size_t fill_input(uint8_t *input) {
    size_t head = sizeof(ft_record) + TABLE_BYTES;
    for (size_t i = 0; i < INPUT_MAX; i++)
        input[i] = (uint8_t)(next_random() & (next_random() % 4 == 0 ? 0xff : 0x0f));
    if (next_random() % 8 == 0)
        return next_random() % INPUT_MAX;
    return head + fill_content(input + head, INPUT_MAX - head);
}

int main(int count, char **arguments) {
    static uint8_t input[INPUT_MAX];
    unsigned long rounds = count > 1 ? strtoul(arguments[1], NULL, 10) : 20000;
    state = count > 2 ? strtoul(arguments[2], NULL, 10) : 1;
    for (unsigned long i = 0; i < rounds; i++)
        LLVMFuzzerTestOneInput(input, fill_input(input));
    printf("%lu inputs\n", rounds);
    return 0;
}

#endif
