/* The content arena and its checksum: every alignment and length, the arena's end, the wrap of positions, blocks that
 * were overwritten or damaged, references that are lies. */
#include "../expect.h"
#include "../ring_fixture.h"
#include "crc32.h"

enum { ARENA = 4096, LARGEST = ARENA / 2 };

static ft_ring ring;
static ft_record record;
static unsigned char bytes[ARENA + 8], out[ARENA + 8];

/* Bit by bit, from the definition. */
static uint32_t crc32_plain(const unsigned char *data, size_t length) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xedb88320) : 0);
    }
    return ~crc;
}

static void checksums_are_those_of_zlib(void) {
    EXPECT(ft_crc32("", 0) == 0);
    EXPECT(ft_crc32("123456789", 9) == UINT32_C(0xcbf43926));
    EXPECT(ft_crc32("The quick brown fox jumps over the lazy dog", 43) == UINT32_C(0x414fa339));
    memset(bytes, 0, 32);
    EXPECT(ft_crc32(bytes, 32) == UINT32_C(0x190a55ad));
    memset(bytes, 0xff, 32);
    EXPECT(ft_crc32(bytes, 32) == UINT32_C(0xff6cab0b));
}

static void both_checksums_agree_at_every_length_and_alignment(void) {
    content_fill(bytes, sizeof bytes, 1);
    for (size_t length = 0; length <= 600; length++) {
        unsigned char *exact = malloc(length + 1);
        memcpy(exact + 1, bytes + length % 13, length);
        uint32_t wanted = crc32_plain(exact + 1, length);
        EXPECT(ft_crc32(exact + 1, length) == wanted);
        EXPECT(ft_crc32_tables(exact + 1, length) == wanted);
        free(exact);
    }
    EXPECT(ft_crc32(bytes, ARENA) == crc32_plain(bytes, ARENA));
}

static bool is_read_back(uint32_t length) {
    memset(out, 0xee, sizeof out);
    return ft_content_plausible(&ring, &record) && ft_content_read(&ring, &record, out) &&
           !memcmp(out, bytes, length) && out[length] == 0xee;
}

static void blocks_of_every_length_come_back(void) {
    ring_open(&ring, -1, 2, ARENA, 0);
    for (uint32_t length = 1; length <= LARGEST; length += length < 70 ? 1 : 61) {
        content_fill(bytes, length, length);
        uint64_t before = atomic_load(&ring.header->arena_head);
        EXPECT(ft_content_write(&ring, &record, bytes, length) && record.content_length == length);
        EXPECT(record.content_position == before && record.content_crc == crc32_plain(bytes, length));
        EXPECT(atomic_load(&ring.header->arena_head) == before + (length + 7) / 8 * 8);
        EXPECT(is_read_back(length));
    }
    ring_close(&ring);
}

static void positions_wrap_at_the_arena_and_at_64_bits(void) {
    ring_open(&ring, -1, 2, ARENA, 0);
    for (uint64_t back = 8; back <= 96; back += 8) {
        const uint64_t starts[] = {ARENA - back, UINT64_C(0) - back};
        for (int i = 0; i < 2; i++) {
            atomic_store(&ring.header->arena_head, starts[i]);
            content_fill(bytes, 61, back);
            EXPECT(ft_content_write(&ring, &record, bytes, 61) && record.content_position == starts[i]);
            EXPECT(is_read_back(61));
        }
    }
    ring_close(&ring);
}

static void no_content_takes_nothing(void) {
    ring_open(&ring, -1, 2, ARENA, 0);
    memset(&record, 0xff, sizeof record);
    EXPECT(ft_content_write(&ring, &record, NULL, 0));
    EXPECT(record.content_position == 0 && record.content_length == 0 && record.content_crc == 0);
    EXPECT(atomic_load(&ring.header->arena_head) == 0);
    ring_close(&ring);
}

static void more_than_half_the_arena_is_refused(void) {
    ring_open(&ring, -1, 2, ARENA, 0);
    content_fill(bytes, sizeof bytes, 3);
    EXPECT(ft_content_write(&ring, &record, bytes, LARGEST) && is_read_back(LARGEST));
    EXPECT(!ft_content_write(&ring, &record, bytes, LARGEST + 1));
    EXPECT(record.content_length == 0 && atomic_load(&ring.header->arena_head) == LARGEST);
    EXPECT(!ft_content_write(&ring, &record, bytes, UINT32_MAX));
    ring_close(&ring);
}

static void a_block_lives_until_its_bytes_are_claimed(void) {
    ft_record other;
    ring_open(&ring, -1, 2, ARENA, 0);
    content_fill(bytes, 64, 4);
    EXPECT(ft_content_write(&ring, &record, bytes, 64));
    for (int i = 0; i < (ARENA - 64) / 64; i++)
        EXPECT(ft_content_write(&ring, &other, bytes, 64));
    EXPECT(is_read_back(64));
    EXPECT(ft_content_write(&ring, &other, bytes, 1));
    EXPECT(!ft_content_plausible(&ring, &record) && !ft_content_read(&ring, &record, out));
    ring_close(&ring);
}

static void a_claimed_block_is_gone_before_it_is_written_over(void) {
    ring_open(&ring, -1, 2, ARENA, 0);
    content_fill(bytes, 64, 5);
    EXPECT(ft_content_write(&ring, &record, bytes, 64) && is_read_back(64));
    atomic_fetch_add(&ring.header->arena_head, ARENA);
    EXPECT(!ft_content_read(&ring, &record, out));
    ring_close(&ring);
}

static void any_damaged_word_is_found(void) {
    ring_open(&ring, -1, 2, ARENA, 0);
    content_fill(bytes, 100, 6);
    EXPECT(ft_content_write(&ring, &record, bytes, 100));
    for (int i = 0; i < 100; i++) {
        ((unsigned char *)ring.arena)[i] ^= (unsigned char)(1 << i % 8);
        EXPECT(ft_content_plausible(&ring, &record) && !ft_content_read(&ring, &record, out));
        ((unsigned char *)ring.arena)[i] ^= (unsigned char)(1 << i % 8);
    }
    EXPECT(is_read_back(100));
    ring_close(&ring);
}

static void references_that_are_lies_are_not_followed(void) {
    ring_open(&ring, -1, 2, ARENA, 0);
    content_fill(bytes, 64, 7);
    for (int i = 0; i < 100; i++)
        EXPECT(ft_content_write(&ring, &record, bytes, 64));
    const ft_record honest = record;
    EXPECT(ft_content_plausible(&ring, &record));
    const uint32_t lengths[] = {65, LARGEST, LARGEST + 1, ARENA, INT32_MAX, UINT32_MAX - 7, UINT32_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        record.content_length = lengths[i];
        EXPECT(!ft_content_plausible(&ring, &record));
    }
    record = honest;
    record.content_position = atomic_load(&ring.header->arena_head) - ARENA;
    record.content_length = LARGEST;
    EXPECT(ft_content_plausible(&ring, &record));
    record.content_length = LARGEST + 1;
    EXPECT(!ft_content_plausible(&ring, &record));
    record = honest;
    const uint64_t at = honest.content_position;
    const uint64_t positions[] = {at + 1, at - 7, at + 64, at + 8, 0, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        record.content_position = positions[i];
        EXPECT(!ft_content_plausible(&ring, &record));
    }
    ring_close(&ring);
}

int main(void) {
    checksums_are_those_of_zlib();
    both_checksums_agree_at_every_length_and_alignment();
    blocks_of_every_length_come_back();
    positions_wrap_at_the_arena_and_at_64_bits();
    no_content_takes_nothing();
    more_than_half_the_arena_is_refused();
    a_block_lives_until_its_bytes_are_claimed();
    a_claimed_block_is_gone_before_it_is_written_over();
    any_damaged_word_is_found();
    references_that_are_lies_are_not_followed();
    printf("%s test_content\n", expect_failures ? "FAILED" : "ok");
    return expect_result();
}
