/* Nanoseconds a push: a span with 104 bytes of content, one producer and four, and a drain. The best of several rounds,
 * because the machine is shared: noise only ever adds. Prints; judges nothing. */
#include "fasttrace/clock.h"
#include "fasttrace/content.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { PUSHES = 1 << 20, CHUNK = 1 << 14, ROUNDS = 5, PRODUCERS = 4 };

static ft_ring ring;
static const char response_id[] = "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz0123";
static const char params[] = "{\"temperature\":0.2,\"max_tokens\":256}";

static void span_fill(ft_span *span) {
    ft_span_init(span);
    ft_ring_set_string(&ring, span, FT_STR_PROVIDER, "openai", 6);
    ft_ring_set_string(&ring, span, FT_STR_MODEL_ID, "gpt-4o-mini-2024-07-18", 22);
    ft_span_add_text(span, FT_RESPONSE_ID, response_id, sizeof response_id - 1);
    ft_span_add_json(span, FT_REQUEST_PARAMS, params, sizeof params - 1);
    ft_span_add_text(span, FT_FINISH_REASONS, "stop", 4);
}

static double chunk_push_ns(ft_span *span) {
    int64_t start = ft_clock_monotonic_ns();
    for (int i = 0; i < CHUNK; i++)
        ft_ring_push(&ring, span);
    return (double)(ft_clock_monotonic_ns() - start) / CHUNK;
}

static double best(double (*measure)(ft_span *), ft_span *span) {
    double least = 1e9;
    for (int i = 0; i < ROUNDS * PUSHES / CHUNK; i++) {
        double taken = measure(span);
        least = taken < least ? taken : least;
    }
    return least;
}

static double chunk_build_ns(ft_span *span) {
    int64_t start = ft_clock_monotonic_ns();
    for (int i = 0; i < CHUNK; i++)
        span_fill(span);
    return (double)(ft_clock_monotonic_ns() - start) / CHUNK;
}

static volatile uint32_t sink;
static double chunk_crc_ns(ft_span *span) {
    int64_t start = ft_clock_monotonic_ns();
    for (int i = 0; i < CHUNK; i++)
        sink = ft_crc32(span->content, span->content_length);
    return (double)(ft_clock_monotonic_ns() - start) / CHUNK;
}

static void *producer(void *unused) {
    ft_span span;
    span_fill(&span);
    for (int i = 0; i < PUSHES; i++)
        ft_ring_push(&ring, &span);
    return unused;
}

static double producers_ns(void) {
    pthread_t threads[PRODUCERS];
    int64_t start = ft_clock_monotonic_ns();
    for (int i = 0; i < PRODUCERS; i++)
        pthread_create(&threads[i], NULL, producer, NULL);
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    return (double)(ft_clock_monotonic_ns() - start) / (PRODUCERS * PUSHES);
}

static double drain_ns(ft_span *span) {
    ft_reader reader;
    ft_batch batch = {0};
    ft_reader_init(&reader, &ring);
    double least = 1e9;
    for (int round = 0; round < 50; round++) {
        while (reader.next != atomic_load(&ring.header->head))
            ft_reader_read(&reader, &batch, 8192, 1 << 30, INT64_MAX);
        for (int i = 0; i < 4000; i++)
            ft_ring_push(&ring, span);
        int64_t start = ft_clock_monotonic_ns();
        ft_reader_read(&reader, &batch, 8192, 1 << 30, 0);
        double taken = (double)(ft_clock_monotonic_ns() - start) / (double)batch.count;
        least = taken < least ? taken : least;
    }
    ft_batch_clear(&batch);
    return least;
}

int main(void) {
    ft_region_shape shape = {.slot_count = 8192, .arena_bytes = 2 << 20, .strtab_bytes = 64 << 10};
    ft_region_owner owner = {.pid = 1};
    ft_header *region = ft_region_create(-1, &shape, &owner);
    if (!region || !ft_ring_init(&ring, region))
        return 1;
    ft_span span, bare;
    span_fill(&span);
    ft_span_init(&bare);
    printf("ring: push %.1f ns with %u bytes of content (checksum %.1f), %.1f ns without; building the span %.1f ns; "
           "reading %.1f ns; %d producers %.1f ns a push\n",
           best(chunk_push_ns, &span), span.content_length, best(chunk_crc_ns, &span), best(chunk_push_ns, &bare),
           best(chunk_build_ns, &span), drain_ns(&span), PRODUCERS, producers_ns());
    free(ring.strtab.slots);
    return 0;
}
