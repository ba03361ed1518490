/* The string table: interning, its limits, a full table, threads adding the same strings, indices that are lies. */
#include "../expect.h"
#include "../ring_fixture.h"

#include <pthread.h>

static ft_ring ring;

static bool holds(uint16_t index, const char *wanted) {
    const char *text;
    size_t length;
    return ft_strtab_get(ring.header, index, &text, &length) && length == strlen(wanted) &&
           !memcmp(text, wanted, length);
}

static uint16_t intern(const char *text) { return ft_strtab_intern(&ring.strtab, text, strlen(text)); }

static void equal_strings_share_an_index(void) {
    ring_open(&ring, -1, 2, 4096, 0);
    uint16_t openai = intern("openai"), model = intern("gpt-4o-mini-2024-07-18");
    EXPECT(openai == 1 && model && model != openai);
    EXPECT(intern("openai") == openai && intern("gpt-4o-mini-2024-07-18") == model);
    EXPECT(intern("opena") != openai && intern("openaj") != openai);
    EXPECT(holds(openai, "openai") && holds(model, "gpt-4o-mini-2024-07-18"));
    uint16_t nul = ft_strtab_intern(&ring.strtab, "a\0b", 3);
    EXPECT(nul && nul != intern("a") && ft_strtab_intern(&ring.strtab, "a\0b", 3) == nul);
    ring_close(&ring);
}

static void lengths_at_the_limit(void) {
    char text[FT_STRTAB_TEXT_MAX + 2];
    memset(text, 'x', sizeof text);
    ring_open(&ring, -1, 2, 4096, 0);
    EXPECT(ft_strtab_intern(&ring.strtab, text, 0) == 0);
    EXPECT(ft_strtab_intern(&ring.strtab, text, FT_STRTAB_TEXT_MAX + 1) == 0);
    for (size_t length = 1; length <= 17; length++) {
        uint16_t index = ft_strtab_intern(&ring.strtab, text, length);
        const char *stored;
        size_t stored_length;
        EXPECT(index && ft_strtab_get(ring.header, index, &stored, &stored_length) && stored_length == length);
    }
    uint64_t used = atomic_load(&ring.header->strtab_used);
    EXPECT(ft_strtab_intern(&ring.strtab, text, FT_STRTAB_TEXT_MAX));
    EXPECT(atomic_load(&ring.header->strtab_used) == used + (2 + FT_STRTAB_TEXT_MAX + 7) / 8 * 8);
    ring_close(&ring);
}

static void a_full_table_refuses_and_keeps_what_it_has(void) {
    char text[16];
    ring_open(&ring, -1, 2, 4096, 0);
    int stored = 0;
    for (int i = 0; i < 600; i++) {
        snprintf(text, sizeof text, "%06d", i);
        stored += intern(text) != 0;
    }
    EXPECT(stored == 4096 / 8 - 1);
    EXPECT(atomic_load(&ring.header->strtab_used) == 4096);
    for (int i = 0; i < stored; i++) {
        snprintf(text, sizeof text, "%06d", i);
        EXPECT(holds(intern(text), text));
    }
    EXPECT(intern("a") == 0 && atomic_load(&ring.header->strtab_used) == 4096);
    ring_close(&ring);
}

static void an_entry_never_passes_the_end(void) {
    char text[64];
    memset(text, 'y', sizeof text);
    ring_open(&ring, -1, 2, 4096, 0);
    atomic_store(&ring.header->strtab_used, 4096 - 16);
    EXPECT(ft_strtab_intern(&ring.strtab, text, 15) == 0);
    EXPECT(ft_strtab_intern(&ring.strtab, text, 14) == (4096 - 16) / 8);
    EXPECT(ft_strtab_intern(&ring.strtab, text, 1) == 0);
    atomic_store(&ring.header->strtab_used, UINT64_MAX - 7);
    EXPECT(ft_strtab_intern(&ring.strtab, "wrap", 4) == 0);
    ring_close(&ring);
}

static void expect_no_string(uint16_t index) {
    const char *text = NULL;
    size_t length = 1;
    EXPECT(!ft_strtab_get(ring.header, index, &text, &length));
    EXPECT(text && length == 0);
}

static void indices_that_are_none_give_no_string(void) {
    ring_open(&ring, -1, 2, 4096, 0);
    uint16_t last = intern("openai");
    expect_no_string(0);
    expect_no_string((uint16_t)(last + 1));
    expect_no_string(512);
    expect_no_string(UINT16_MAX);
    atomic_store(&ring.header->strtab_used, UINT64_MAX);
    expect_no_string(512);
    expect_no_string(UINT16_MAX);
    const uint16_t lies[] = {0, FT_STRTAB_TEXT_MAX + 1, 4096, UINT16_MAX};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        memcpy(ring.strtab.bytes + 8, &lies[i], 2);
        expect_no_string(1);
    }
    const uint16_t three = 3;
    atomic_store(&ring.header->strtab_used, 16);
    memcpy(ring.strtab.bytes, &three, 2);
    expect_no_string(0);
    memcpy(ring.strtab.bytes + 16, &three, 2);
    expect_no_string(2);
    atomic_store(&ring.header->strtab_used, UINT64_MAX);
    const uint16_t past_the_end = 7;
    memcpy(ring.strtab.bytes + 4096 - 8, &past_the_end, 2);
    expect_no_string(511);
    atomic_store(&ring.header->strtab_used, 14);
    const uint16_t past_used = 5;
    memcpy(ring.strtab.bytes + 8, &past_used, 2);
    expect_no_string(1);
    ring_close(&ring);
}

enum { THREADS = 4, NAMES = 60, LAPS = 50 };

static void *names_intern(void *unused) {
    char text[16];
    for (int i = 0; i < NAMES * LAPS; i++) {
        snprintf(text, sizeof text, "name-%d", i % NAMES);
        uint16_t index = intern(text);
        if (!index || !holds(index, text))
            return &ring;
    }
    return unused;
}

static void threads_may_add_the_same_strings(void) {
    pthread_t threads[THREADS];
    ring_open(&ring, -1, 2, 4096, 0);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, names_intern, NULL);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        EXPECT(!failed);
    }
    EXPECT(intern("name-0") == intern("name-0") && intern("name-59") == intern("name-59"));
    ring_close(&ring);
}

int main(void) {
    equal_strings_share_an_index();
    lengths_at_the_limit();
    a_full_table_refuses_and_keeps_what_it_has();
    an_entry_never_passes_the_end();
    indices_that_are_none_give_no_string();
    threads_may_add_the_same_strings();
    printf("%s test_strtab\n", expect_failures ? "FAILED" : "ok");
    return expect_result();
}
