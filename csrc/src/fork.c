/* Fork detection: a page that the kernel wipes in every child (MADV_WIPEONFORK), so that a raw fork or clone from C is
 * seen too, at the price of a load. Where the kernel has no such page, pthread_atfork zeroes two static words, which
 * sees what goes through the C library. Any thread. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fork.h"
#include "fasttrace/ids.h"

#ifndef _WIN32
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

static _Atomic uint64_t static_words[FT_FORK_WORDS];
static _Atomic uint64_t *_Atomic words = static_words;
static atomic_bool is_watching;
static _Atomic uint64_t processes; /* numbers given out so far; copied by fork, so a child counts on from its parent */

_Atomic uint64_t *ft_fork_word_of(ft_fork_word which) {
    return atomic_load_explicit(&words, memory_order_acquire) + which;
}

#ifdef _WIN32

static bool watch_start(void) { return true; }

#else

static void child_forget(void) {
    for (int i = 0; i < FT_FORK_WORDS; i++)
        atomic_store_explicit(&static_words[i], 0, memory_order_relaxed);
}

static bool wipe_page_map(void) {
#ifdef MADV_WIPEONFORK
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return false;
    _Atomic uint64_t *expected = static_words;
    if (!madvise(page, page_bytes, MADV_WIPEONFORK)) {
        if (!atomic_compare_exchange_strong_explicit(&words, &expected, (_Atomic uint64_t *)page, memory_order_acq_rel,
                                                     memory_order_acquire))
            munmap(page, page_bytes);
        return true;
    }
    munmap(page, page_bytes);
#endif
    return false;
}

static bool watch_start(void) { return wipe_page_map() || !pthread_atfork(NULL, NULL, child_forget); }

#endif

bool ft_fork_watch(void) {
    if (atomic_load_explicit(&is_watching, memory_order_acquire))
        return true;
    if (!watch_start())
        return false;
    atomic_store_explicit(&is_watching, true, memory_order_release);
    return true;
}

bool ft_fork_arm(void) {
    bool is_watched = ft_fork_watch();
    _Atomic uint64_t *word = ft_fork_word_of(FT_FORK_WORD_PROCESS);
    uint64_t unarmed = 0;
    if (atomic_load_explicit(word, memory_order_relaxed))
        return is_watched;
    uint64_t number = atomic_fetch_add_explicit(&processes, 1, memory_order_relaxed) + 1;
    atomic_compare_exchange_strong_explicit(word, &unarmed, number, memory_order_relaxed, memory_order_relaxed);
    return is_watched;
}

uint64_t ft_fork_process(void) { return atomic_load_explicit(ft_fork_word_of(FT_FORK_WORD_PROCESS), memory_order_relaxed); }
