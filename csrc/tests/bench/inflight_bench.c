/* Nanoseconds for a place in the in-flight table, taken and given back: one thread, four at once, and one that finds the
 * table full. The best of several rounds, because the machine is shared: noise only ever adds. Prints; judges nothing. */
#include "../ring_fixture.h"
#include "fasttrace/clock.h"

#include <pthread.h>

enum { PAIRS = 1 << 20, CHUNK = 1 << 14, ROUNDS = 5, THREADS = 4, PLACES = 4096 };

static ft_ring ring;
static const ft_inflight_call call = {.trace_lo = 1, .span_id = 2, .kind = FT_KIND_LLM};

static double chunk_pair_ns(void) {
    int64_t start = ft_clock_monotonic_ns();
    for (int i = 0; i < CHUNK; i++)
        ft_inflight_leave(&ring, ft_inflight_enter(&ring, &call));
    return (double)(ft_clock_monotonic_ns() - start) / CHUNK;
}

static double best_ns(void) {
    double least = 1e9;
    for (int i = 0; i < ROUNDS * PAIRS / CHUNK; i++) {
        double taken = chunk_pair_ns();
        least = taken < least ? taken : least;
    }
    return least;
}

static void *thread_run(void *unused) {
    for (int i = 0; i < PAIRS; i++)
        ft_inflight_leave(&ring, ft_inflight_enter(&ring, &call));
    return unused;
}

static double threads_ns(void) {
    pthread_t threads[THREADS];
    int64_t start = ft_clock_monotonic_ns();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, thread_run, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return (double)(ft_clock_monotonic_ns() - start) / (THREADS * PAIRS);
}

int main(void) {
    ft_region_shape shape = {
        .slot_count = 2, .arena_bytes = 4096, .strtab_bytes = 4096, .inflight_count = PLACES};
    ring_open_shape(&ring, -1, &shape);
    double one = best_ns(), together = threads_ns();
    for (int i = 0; i < PLACES; i++)
        ft_inflight_enter(&ring, &call);
    printf("inflight: a place taken and given back %.1f ns, %d threads %.1f ns; none of %d free %.1f ns\n", one, THREADS,
           together, PLACES, best_ns());
    ring_close(&ring);
    return 0;
}
