/* content.c under the C11 memory model, for GenMC: a writer that laps an arena of two words, and a reader that learns
 * of each block the way it learns of records, by an acquire. The checksum is taken away, so that what passes passes by the
 * orders alone: with one writer, the distance from arena_head must be enough. */
#include "genmc_orders.h"

#include "../../src/content.c"

uint32_t ft_crc32(const void *data, size_t length) {
    (void)data;
    (void)length;
    return 0;
}

enum { ARENA_WORDS = 2, BLOCKS = 3 };

static ft_header header;
static _Atomic uint64_t arena[ARENA_WORDS];
static ft_ring ring;
static _Atomic uint64_t position_of[BLOCKS]; /* plus one: 0 is not written yet */

static void *writer(void *unused) {
    for (uint64_t i = 0; i < BLOCKS; i++) {
        uint64_t value = i + 1;
        ft_record record;
        ft_content_write(&ring, &record, (const unsigned char *)&value, sizeof value);
        atomic_store_explicit(&position_of[i], record.content_position + 1, memory_order_release);
    }
    return unused;
}

static void look(uint64_t i) {
    uint64_t position = atomic_load_explicit(&position_of[i], memory_order_acquire), value = 0;
    if (!position)
        return;
    ft_record record;
    record.content_position = position - 1;
    record.content_length = sizeof value;
    record.content_crc = 0;
    if (ft_content_plausible(&ring, &record) && ft_content_read(&ring, &record, (unsigned char *)&value))
        assert(value == i + 1);
}

int main(void) {
    pthread_t thread;
    ring.header = &header;
    ring.arena = arena;
    ring.arena_mask = ARENA_WORDS * 8 - 1;
    pthread_create(&thread, NULL, writer, NULL);
    look(0);
    look(1);
    pthread_join(thread, NULL);
    look(BLOCKS - 1);
    return 0;
}
