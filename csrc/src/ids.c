/* Trace and span ids: xoshiro256++ (Blackman and Vigna, 2019; public domain) per thread, so that no id costs a system
 * call or a shared cache line.
 *
 * A generator copied by fork would repeat its parent's ids. Each one therefore remembers the epoch in which it was
 * seeded; the epoch is a word that reads zero in a child (fork.h), and the child's next epoch is a number that none of
 * the generators it inherited has seen. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifdef __APPLE__
#define _DARWIN_C_SOURCE
#endif
#include "fasttrace/ids.h"
#include "fasttrace/clock.h"
#include "fork.h"

#include <stddef.h>

#ifdef _WIN32
#include <windows.h>
#include <bcrypt.h>
#else
#include <sys/types.h>
#include <unistd.h>
#endif
#if defined(__linux__) || defined(__APPLE__)
#include <sys/random.h>
#endif

enum { STATE_WORDS = 4 };

typedef struct {
    uint64_t state[STATE_WORDS];
    uint64_t epoch; /* 0: never seeded */
    uint64_t last_span;
} id_generator;

static _Thread_local id_generator generator;
static _Atomic uint64_t epochs; /* given out so far; copied by fork, so a child counts on from its parent */

static bool os_random(void *out, size_t bytes) {
#if defined(_WIN32)
    return BCryptGenRandom(NULL, out, (ULONG)bytes, BCRYPT_USE_SYSTEM_PREFERRED_RNG) == 0;
#elif defined(__linux__)
    return getrandom(out, bytes, 0) == (ssize_t)bytes;
#else
    return getentropy(out, bytes) == 0;
#endif
}

static uint64_t splitmix64(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t process_number(void) {
#ifdef _WIN32
    return GetCurrentProcessId();
#else
    return (uint64_t)getpid();
#endif
}

/* Without the system's generator: what differs between processes, threads and moments. Ids need not be secret. */
static void seed_from_circumstances(id_generator *g, uint64_t epoch) {
    uint64_t mix = (uint64_t)ft_clock_unix_ns() ^ process_number() << 40 ^ (uint64_t)(uintptr_t)g ^ epoch << 56;
    for (int i = 0; i < STATE_WORDS; i++)
        g->state[i] = splitmix64(&mix) ^ (uint64_t)ft_clock_monotonic_ns();
}

static uint64_t epoch_begin(void) {
    ft_fork_watch();
    _Atomic uint64_t *word = ft_fork_word_of(FT_FORK_WORD_IDS);
    uint64_t seen = 0, next = atomic_fetch_add_explicit(&epochs, 1, memory_order_relaxed) + 1;
    if (atomic_compare_exchange_strong_explicit(word, &seen, next, memory_order_relaxed, memory_order_relaxed))
        return next;
    return seen;
}

static void generator_seed(id_generator *g, uint64_t epoch) {
    g->epoch = epoch ? epoch : epoch_begin();
    if (!os_random(g->state, sizeof g->state))
        seed_from_circumstances(g, g->epoch);
    g->state[0] |= !(g->state[0] | g->state[1] | g->state[2] | g->state[3]); /* all zero would stay zero */
}

static uint64_t rotated(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

static uint64_t generator_next(uint64_t state[STATE_WORDS]) {
    uint64_t result = rotated(state[0] + state[3], 23) + state[0];
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotated(state[3], 45);
    return result;
}

static uint64_t generator_next_id(id_generator *g) {
    uint64_t id;
    do
        id = generator_next(g->state);
    while (!id);
    return id;
}

/* This thread's generator, seeded in this process. */
static id_generator *generator_of_thread(void) {
    id_generator *g = &generator;
    uint64_t epoch = atomic_load_explicit(ft_fork_word_of(FT_FORK_WORD_IDS), memory_order_relaxed);
    if (!epoch || g->epoch != epoch) {
        generator_seed(g, epoch);
        g->last_span = generator_next(g->state);
    }
    return g;
}

uint64_t ft_ids_next(void) { return generator_next_id(generator_of_thread()); }

uint64_t ft_ids_next_span(void) {
    id_generator *g = generator_of_thread();
    if (!++g->last_span) ++g->last_span;
    return g->last_span;
}

uint64_t ft_ids_trace_high(void) {
    ft_fork_watch();
    _Atomic uint64_t *word = ft_fork_word_of(FT_FORK_WORD_TRACE_HIGH);
    uint64_t high = atomic_load_explicit(word, memory_order_relaxed);
    if (high) return high;
    uint64_t fresh = ft_ids_next();
    bool is_first = atomic_compare_exchange_strong_explicit(word, &high, fresh, memory_order_relaxed, memory_order_relaxed);
    return is_first ? fresh : high;
}
