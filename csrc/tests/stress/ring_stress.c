/* N producers and the reader at full speed, starting where tickets, sequences and arena positions soon wrap: every
 * record checks itself, every ticket is accounted for, none is delivered twice.
 *
 *     ring_stress PRODUCERS RECORDS_EACH
 *
 * Runs twice: tickets across 2^64, and (a tenth as many) across 2^63, where the sequence wraps. */
#include "../ring_fixture.h"
#include "fasttrace/clock.h"

#include <pthread.h>

enum { PRODUCERS_MAX = 16, NAMES = 32, CONTENT_LIMIT = 200, READ_SPANS = 1000, READ_BYTES = 1 << 20 };

typedef struct {
    ft_ring ring;
    uint64_t producers, records_each;
    _Atomic uint64_t next_producer, running, returned;
    unsigned char *seen; /* one bit a record */
    uint64_t torn, repeated, content_lost, content_intact;
} stress;

static char names[NAMES][32];

static uint64_t key_of(uint64_t producer, uint64_t i) { return producer << 32 | i; }

static void *producer_run(void *argument) {
    stress *run = argument;
    uint64_t id = atomic_fetch_add(&run->next_producer, 1), returned = 0;
    ft_span span;
    for (uint64_t i = 0; i < run->records_each; i++) {
        uint64_t key = key_of(id, i);
        span_fill(&span, key, i % 4 ? 0 : content_length_of(key, CONTENT_LIMIT));
        ft_ring_set_string(&run->ring, &span, FT_STR_PROVIDER, names[key % NAMES], strlen(names[key % NAMES]));
        returned += ft_ring_push(&run->ring, &span) != FT_PUSH_DROPPED;
    }
    atomic_fetch_add(&run->returned, returned);
    atomic_fetch_sub(&run->running, 1);
    return NULL;
}

static bool name_matches(const stress *run, const ft_record *record) {
    const char *text, *wanted = names[record->trace_hi % NAMES];
    size_t length;
    return ft_strtab_get(run->ring.header, record->strings[FT_STR_PROVIDER], &text, &length) &&
           length == strlen(wanted) && !memcmp(text, wanted, length);
}

static bool record_is_whole(stress *run, const ft_batch *batch, const ft_record *record) {
    uint64_t key = record->trace_hi, i = key & UINT32_MAX;
    if (key >> 32 >= run->producers || i >= run->records_each || !record_matches(record, key) ||
        !name_matches(run, record))
        return false;
    if (record->flags & FT_FLAG_CONTENT_LOST) {
        run->content_lost++;
        return record->content_length == 0 && i % 4 == 0;
    }
    run->content_intact += i % 4 == 0;
    return record->content_length == (i % 4 ? 0 : content_length_of(key, CONTENT_LIMIT)) &&
           content_matches(batch->content + record->content_position, record->content_length, key);
}

static void batch_check(stress *run, const ft_batch *batch) {
    for (size_t i = 0; i < batch->count; i++) {
        if (!record_is_whole(run, batch, &batch->records[i])) {
            run->torn++;
            continue;
        }
        uint64_t key = batch->records[i].trace_hi;
        uint64_t bit = (key >> 32) * run->records_each + (key & UINT32_MAX);
        run->repeated += run->seen[bit / 8] >> bit % 8 & 1;
        run->seen[bit / 8] |= (unsigned char)(1 << bit % 8);
    }
}

/* Reads until every ticket was passed. Returns false when the ledger broke at any read. */
static bool reader_run(stress *run, ft_reader *reader) {
    ft_batch batch = {0};
    bool is_sound = true;
    int64_t now_ns = 0;
    while (atomic_load(&run->running) || reader->next != ring_head(&run->ring)) {
        now_ns += atomic_load(&run->running) ? 0 : FT_STEP_OVER_NS;
        is_sound &= ft_reader_read(reader, &batch, READ_SPANS, READ_BYTES, now_ns + ft_clock_monotonic_ns());
        is_sound &= ledger_holds(reader) && batch.next_ticket == reader->next;
        batch_check(run, &batch);
        ft_reader_acknowledge(reader, batch.next_ticket);
    }
    ft_batch_clear(&batch);
    return is_sound;
}

static bool run_check(const stress *run, const ft_reader *reader, bool is_sound) {
    const ft_reader_counters *counters = &reader->counters;
    uint64_t total = run->producers * run->records_each, busy = ring_dropped(&run->ring, FT_DROP_BUSY);
    return is_sound && !run->torn && !run->repeated && ledger_holds(reader) && reader->next == ring_head(&run->ring) &&
           counters->delivered + counters->lost + counters->pending == total && run->returned + busy == total &&
           counters->delivered <= run->returned && counters->lost + counters->pending >= busy &&
           counters->content_lost == run->content_lost && counters->delivered && run->content_intact;
}

static bool stress_run(uint64_t producers, uint64_t records_each, uint64_t wrap) {
    stress run = {.producers = producers, .records_each = records_each, .running = producers};
    pthread_t threads[PRODUCERS_MAX];
    ft_reader reader;
    run.seen = calloc(1, producers * records_each / 8 + 1);
    ring_open(&run.ring, -1, 8192, 1 << 17, wrap - producers * records_each / 2);
    atomic_store(&run.ring.header->arena_head, UINT64_C(0) - (1 << 16));
    ft_reader_init(&reader, &run.ring);
    int64_t start_ns = ft_clock_monotonic_ns();
    for (uint64_t i = 0; i < producers; i++)
        pthread_create(&threads[i], NULL, producer_run, &run);
    bool is_sound = reader_run(&run, &reader);
    for (uint64_t i = 0; i < producers; i++)
        pthread_join(threads[i], NULL);
    is_sound = run_check(&run, &reader, is_sound);
    printf("%s stress across %s: %llu x %llu records, %llu delivered, %llu lost, %llu pending, %llu busy, %llu torn, "
           "%llu repeated, %llu contents lost, %.1f s\n",
           is_sound ? "ok" : "VIOLATION", wrap ? "2^63" : "2^64", (unsigned long long)producers,
           (unsigned long long)records_each, (unsigned long long)reader.counters.delivered,
           (unsigned long long)reader.counters.lost, (unsigned long long)reader.counters.pending,
           (unsigned long long)ring_dropped(&run.ring, FT_DROP_BUSY), (unsigned long long)run.torn,
           (unsigned long long)run.repeated, (unsigned long long)run.content_lost,
           (double)(ft_clock_monotonic_ns() - start_ns) / 1e9);
    ring_close(&run.ring);
    free(run.seen);
    return is_sound;
}

int main(int argc, char **argv) {
    uint64_t producers = argc > 1 ? strtoull(argv[1], NULL, 10) : 4;
    uint64_t records_each = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000;
    if (producers < 1 || producers > PRODUCERS_MAX || records_each < 10 || records_each > UINT32_MAX) {
        fprintf(stderr, "usage: ring_stress PRODUCERS(1..16) RECORDS_EACH(>=10)\n");
        return EXIT_FAILURE;
    }
    for (int i = 0; i < NAMES; i++)
        snprintf(names[i], sizeof names[i], "provider-%d", i);
    bool is_sound = stress_run(producers, records_each, 0);
    is_sound &= stress_run(producers, records_each / 10, UINT64_C(1) << 63);
    return is_sound ? EXIT_SUCCESS : EXIT_FAILURE;
}
