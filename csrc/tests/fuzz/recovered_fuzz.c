/* Whatever a ring file holds, recovery ends, counts every ticket once, stays in bounds, and makes whole lines of valid
 * JSON. Every bit of the header and of a slot, and every length of a small file, first; then pseudo-random damage.
 *
 * Input: the first byte says how the rest is taken: as a file, or as edits of 12 bytes each (offset, what, value) of
 * one of the files made here. Build as a libFuzzer target with -fsanitize=fuzzer,address,undefined -DFT_LIBFUZZER;
 * without it:
 *
 *     recovered_fuzz [rounds] [seed] */
#include "fasttrace/inflight.h"
#include "fasttrace/ndjson.h"
#include "fasttrace/recovered.h"

#include "../json_check.h"
#include "../ring_fixture.h"

enum { FILES = 4, SLOTS = 8, EDIT_BYTES = 12, EDITS_MAX = 16 };

static unsigned char *files[FILES];
static size_t file_bytes;
static ft_price_table *prices;
static unsigned long opened;

static void require(bool condition, const char *what) {
    if (condition)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* ---- files of processes that died ---- */

static void push_some(ft_ring *ring, uint64_t key) {
    static const char params[] = "{\"a\":[1, {\"b\":\"\\u00e9\"}]}";
    ft_span span;
    span_fill(&span, key, 0);
    span.record.flags = key % 2 ? FT_FLAG_UNPRICED : FT_FLAG_STREAM;
    ft_ring_set_string(ring, &span, FT_STR_PROVIDER, "p", 1);
    ft_ring_set_string(ring, &span, FT_STR_MODEL_ID, "m", 1);
    ft_span_add_json(&span, FT_REQUEST_PARAMS, params, sizeof params - 1);
    ft_span_add_text(&span, FT_TAGS, "\xff\"x", 3);
    ft_span_add_json(&span, FT_OUTPUT, "\"out\"", 5);
    ft_ring_push(ring, &span);
}

static void inflight_fill(ft_ring *ring) {
    ft_inflight_slot *slots = (ft_inflight_slot *)(void *)((char *)ring->header + ring->header->inflight_offset);
    for (unsigned i = 0; i < 3; i++) {
        ft_inflight_call call = {.trace_lo = 1, .span_id = 90 + i, .start_ns = 1000 * i, .strings = {1, 2, 3, 4}};
        memcpy((void *)slots[i].words, &call, sizeof call);
        atomic_store(&slots[i].state, i + 1);
    }
}

static unsigned char *file_make(uint64_t first) {
    ft_ring ring;
    ring_open(&ring, -1, SLOTS, 4096, first);
    for (uint64_t key = 0; key < SLOTS + 3; key++)
        push_some(&ring, key);
    inflight_fill(&ring);
    ft_region_beat(ring.header, 1 << 20);
    ft_region_set_resource(ring.header, "\"service\":\"x\"", 13);
    ft_region_set_range(ring.header, 0, FT_RANGE_OPEN, first + 7, first + 9, 2);
    ft_region_set_range(ring.header, 1, FT_RANGE_SETTLED, first + 4, first + 6, 2);
    atomic_store(&ring.header->acked, first + 2);
    file_bytes = (size_t)ring.header->file_bytes;
    unsigned char *file = malloc(file_bytes);
    require(file != NULL, "memory");
    memcpy(file, (void *)ring.header, file_bytes);
    ring_close(&ring);
    return file;
}

static void set_up(void) {
    const uint64_t firsts[FILES] = {0, UINT64_C(0) - 5, (UINT64_C(1) << 63) - 5, 1000};
    ft_price price = {.pico_usd = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
    prices = ft_price_table_new(4);
    require(prices != NULL && ft_price_table_put(prices, "p", 1, "m", 1, &price), "prices");
    for (int i = 0; i < FILES; i++)
        files[i] = file_make(firsts[i]);
}

/* ---- recovery, as of an adopted file ---- */

static void lines_check(ft_recovered *dead, ft_batch *batch) {
    ft_buf buf = {0};
    const char *resource;
    size_t length = ft_recovered_resource(dead, &resource);
    ft_batch_price(batch, &dead->ring, prices, "v1", 2);
    require(ft_ndjson_write(&buf, batch, dead->ring.header, resource, length), "memory");
    if (!json_is_ndjson(buf.data, buf.length)) {
        fprintf(stderr, "%.*s\n", (int)buf.length, buf.data);
        require(false, "not JSON");
    }
    ft_buf_free(&buf);
}

static void read_to(ft_recovered *dead, ft_batch *batch, uint64_t limit) {
    uint64_t reads = 0;
    do {
        require(ft_reader_read_dead(&dead->reader, batch, 3, 1 << 16, limit), "memory");
        lines_check(dead, batch);
        require(++reads <= dead->ring.slot_mask + 2, "a read without an end");
    } while (batch->count > 0);
    require(dead->reader.next == limit, "a read that ends before its limit");
}

static void all_recover(ft_recovered *dead) {
    ft_batch batch = {0};
    ft_recovered_range ranges[FT_RANGES];
    size_t count = ft_recovered_ranges(dead, ranges);
    for (size_t i = 0; i < count; i++) {
        read_to(dead, &batch, ranges[i].first_ticket);
        if (ranges[i].is_settled)
            ft_reader_skip(&dead->reader, ranges[i].next_ticket);
        else
            read_to(dead, &batch, ranges[i].next_ticket);
    }
    read_to(dead, &batch, dead->head);
    const ft_reader_counters *counters = &dead->reader.counters;
    uint64_t passed = counters->delivered + counters->skipped + counters->lost + counters->torn;
    require(dead->head - dead->acknowledged == passed, "the ledger");
    require(counters->delivered <= dead->ring.slot_mask + 1, "more than a lap");
    require(ft_recovered_aborted(dead, &batch) && batch.count <= dead->ring.header->inflight_count, "calls in the air");
    lines_check(dead, &batch);
    ft_batch_clear(&batch);
}

/* `file` is a block of exactly its size. */
static void file_try(const unsigned char *file, size_t size) {
    ft_recovered dead;
    if (ft_recovered_open(&dead, file, size) != FT_RECOVERED_OPEN)
        return;
    opened++;
    all_recover(&dead);
    ft_recovered_close(&dead);
}

/* ---- inputs ---- */

static void edit(unsigned char *file, const uint8_t *input) {
    uint32_t offset;
    uint64_t value, old;
    memcpy(&offset, input, sizeof offset);
    memcpy(&value, input + 4, sizeof value);
    unsigned char *at = file + (offset >> 2) % (file_bytes / 8) * 8;
    memcpy(&old, at, sizeof old);
    value = offset % 4 == 0 ? old ^ UINT64_C(1) << value % 64 : offset % 4 == 1 ? old + value % 33 - 16 : value;
    memcpy(at, &value, sizeof value);
}

static void copy_try(const uint8_t *data, size_t size) {
    unsigned char *exact = malloc(size + (size == 0));
    require(exact != NULL, "memory");
    if (size > 0)
        memcpy(exact, data, size);
    file_try(exact, size);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (prices == NULL)
        set_up();
    if (size == 0 || data[0] % 8 == 7) {
        copy_try(data + (size > 0), size - (size > 0));
        return 0;
    }
    unsigned char *file = malloc(file_bytes);
    require(file != NULL, "memory");
    memcpy(file, files[data[0] % FILES], file_bytes);
    for (size_t at = 1; at + EDIT_BYTES <= size && at < 1 + EDIT_BYTES * EDITS_MAX; at += EDIT_BYTES)
        edit(file, data + at);
    file_try(file, file_bytes);
    free(file);
    return 0;
}

#ifndef FT_LIBFUZZER

static uint64_t state;

static uint64_t next_random(void) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state ^ state >> 29) >> 8;
}

static uint64_t lie(void) {
    const uint64_t lies[] = {
        0, 1, 8, 4096, UINT64_MAX, UINT64_C(1) << 63, UINT64_C(0) - 5, next_random(), next_random() % 64};
    return lies[next_random() % (sizeof lies / sizeof *lies)];
}

/* Where a lie is most likely to be believed: the words of the header that recovery goes by, and of slots. */
static uint32_t word_of_interest(void) {
    const uint32_t header[] = {88, 256, 384, 512, 640, 896, 1280, 1288};
    switch (next_random() % 5) {
    case 0:
        return header[next_random() % 8] / 8;
    case 1:
        return (uint32_t)(1024 / 8 + next_random() % 32);
    case 2:
        return (uint32_t)(3 * 4096 / 8 + next_random() % (SLOTS * 32));
    case 3:
        return (uint32_t)(2 * 4096 / 8 + next_random() % 48);
    default:
        return (uint32_t)(next_random() % (file_bytes / 8));
    }
}

static size_t fill_input(uint8_t *input) {
    size_t edits = 1 + next_random() % 6;
    input[0] = (uint8_t)(next_random() % 7);
    for (size_t i = 0; i < edits; i++) {
        uint32_t offset = word_of_interest() << 2 | (uint32_t)(next_random() % 4);
        uint64_t value = offset % 4 < 2 ? next_random() : lie();
        memcpy(input + 1 + i * EDIT_BYTES, &offset, sizeof offset);
        memcpy(input + 5 + i * EDIT_BYTES, &value, sizeof value);
    }
    return 1 + edits * EDIT_BYTES;
}

static void bits_try(unsigned char *file, size_t start, size_t end) {
    for (size_t bit = 8 * start; bit < 8 * end; bit++) {
        file[bit / 8] ^= (unsigned char)(1u << bit % 8);
        file_try(file, file_bytes);
        file[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

/* A header with plausible sizes and nothing else. */
static void header_try(void) {
    static unsigned char file[1 << 15];
    ft_region_shape shape = {.slot_count = UINT64_C(1) << next_random() % 6,
                             .arena_bytes = UINT64_C(4096) << next_random() % 2,
                             .strtab_bytes = 4096 * (1 + next_random() % 2),
                             .inflight_count = next_random() % 40};
    size_t size = (size_t)ft_region_bytes(&shape);
    if (size == 0 || size > sizeof file)
        return;
    for (size_t i = 0; i < size; i++)
        file[i] = (unsigned char)next_random();
    ft_header *header = ft_region_create(-1, &shape, &(ft_region_owner){.pid = 1});
    require(header != NULL, "memory");
    memcpy(file, (void *)header, 256); /* from head on it is noise */
    munmap((void *)header, size);
    copy_try(file, size);
}

int main(int count, char **arguments) {
    static uint8_t input[1 + EDIT_BYTES * EDITS_MAX];
    unsigned long rounds = count > 1 ? strtoul(arguments[1], NULL, 10) : 60000;
    state = count > 2 ? strtoul(arguments[2], NULL, 10) : 1;
    set_up();
    for (size_t size = 0; size < file_bytes; size++)
        copy_try(files[0], size);
    require(opened == 0, "a part of a file was taken for a whole one");
    bits_try(files[0], 0, FT_HEADER_BYTES);
    bits_try(files[1], 3 * 4096, 3 * 4096 + 256);
    bits_try(files[2], 2 * 4096, 2 * 4096 + 128);
    for (unsigned long i = 0; i < rounds; i++)
        LLVMFuzzerTestOneInput(input, fill_input(input));
    for (int i = 0; i < 500; i++)
        header_try();
    require(opened > rounds / 2, "most files were refused: the reader was hardly tried");
    printf("%lu inputs, %lu files read\n", rounds, opened);
    return 0;
}

#endif
