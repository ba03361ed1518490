/* Ids that never repeat: not in a thread, not between threads, not between a process and its forks, whoever forked.
 * Clocks that go the right way. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../expect.h"
#include "fasttrace/clock.h"
#include "fasttrace/ids.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

enum { IDS = 20000, THREADS = 4, CHILD_IDS = 64 };

static int by_value(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Sorts. Distinct and not zero? */
static bool are_distinct(uint64_t *ids, size_t count) {
    qsort(ids, count, sizeof *ids, by_value);
    for (size_t i = 0; i < count; i++)
        if (!ids[i] || (i && ids[i] == ids[i - 1]))
            return false;
    return true;
}

static void *ids_take(void *ids) {
    for (int i = 0; i < IDS; i++)
        ((uint64_t *)ids)[i] = ft_ids_next();
    return NULL;
}

static void threads_draw_distinct_ids(void) {
    uint64_t *ids = calloc(THREADS * IDS, sizeof *ids);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, ids_take, ids + (size_t)i * IDS);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    EXPECT(are_distinct(ids, THREADS * IDS));
    free(ids);
}

static void every_bit_of_an_id_varies(void) {
    uint64_t ones = 0, zeros = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t id = ft_ids_next();
        ones |= id;
        zeros |= ~id;
    }
    EXPECT(ones == UINT64_MAX && zeros == UINT64_MAX);
}

static void *spans_take(void *ids) {
    for (int i = 0; i < IDS; i++)
        ((uint64_t *)ids)[i] = ft_ids_next_span();
    return NULL;
}

static void span_ids_count_up_in_a_thread_and_differ_between_threads(void) {
    uint64_t *ids = calloc(THREADS * IDS, sizeof *ids);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, spans_take, ids + (size_t)i * IDS);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 1; i < IDS; i++)
        EXPECT(ids[i] == ids[i - 1] + 1 || ids[i] == 1);
    EXPECT(are_distinct(ids, THREADS * IDS));
    free(ids);
}

static void a_fork_child_has_traces_and_spans_of_its_own(void) {
    uint64_t mine[2] = {ft_ids_trace_high(), ft_ids_next_span()}, its[2];
    EXPECT(mine[0] && mine[0] == ft_ids_trace_high());
    int ends[2];
    EXPECT(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        its[0] = ft_ids_trace_high();
        its[1] = ft_ids_next_span();
        _exit(write(ends[1], its, sizeof its) == sizeof its ? 0 : 1);
    }
    EXPECT(read(ends[0], its, sizeof its) == sizeof its);
    waitpid(child, NULL, 0);
    EXPECT(its[0] && its[0] != mine[0]);
    EXPECT(its[1] - mine[1] > 1u << 20);
}

static pid_t plain_fork(void) { return fork(); }
#ifdef __linux__
static pid_t raw_clone(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
#endif

/* Ids of the child and of its own child, which forks before anything was armed again. */
static void child_write_ids(int out, pid_t (*fork_by)(void)) {
    uint64_t ids[CHILD_IDS];
    for (int i = 0; i < CHILD_IDS; i++)
        ids[i] = ft_ids_next();
    if (write(out, ids, sizeof ids) != sizeof ids)
        _exit(2);
    bool is_detected = ft_fork_happened() && ft_fork_arm() && !ft_fork_happened();
    pid_t grandchild = fork_by();
    if (grandchild == 0) {
        is_detected = ft_fork_happened();
        for (int i = 0; i < CHILD_IDS; i++)
            ids[i] = ft_ids_next();
        _exit(is_detected && write(out, ids, sizeof ids) == sizeof ids ? 0 : 3);
    }
    int status;
    waitpid(grandchild, &status, 0);
    for (int i = 0; i < CHILD_IDS; i++)
        ids[i] = ft_ids_next();
    _exit(is_detected && status == 0 && write(out, ids, sizeof ids) == sizeof ids ? 0 : 4);
}

static void a_fork_is_noticed_and_draws_its_own_ids(pid_t (*fork_by)(void)) {
    uint64_t ids[4 * CHILD_IDS];
    int ends[2], status;
    EXPECT(ft_fork_arm() && !ft_fork_happened() && !pipe(ends));
    ft_ids_next();
    pid_t child = fork_by();
    if (child == 0)
        child_write_ids(ends[1], fork_by);
    for (int i = 0; i < CHILD_IDS; i++)
        ids[i] = ft_ids_next();
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
    EXPECT(read(ends[0], ids + CHILD_IDS, 3 * CHILD_IDS * sizeof *ids) == 3 * CHILD_IDS * (ssize_t)sizeof *ids);
    EXPECT(are_distinct(ids, 4 * CHILD_IDS));
    EXPECT(!ft_fork_happened());
    close(ends[0]);
    close(ends[1]);
}

static void *one_id_take(void *id) {
    *(uint64_t *)id = ft_ids_next();
    return NULL;
}

/* A new thread of the child is first to draw; the thread that forked must still not go on where its parent does. */
static void a_generator_copied_by_fork_is_not_used(void) {
    uint64_t ids[CHILD_IDS + 1];
    int ends[2], status;
    ft_ids_next();
    EXPECT(!pipe(ends));
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        uint64_t mine[2];
        bool is_run = !pthread_create(&thread, NULL, one_id_take, &mine[0]) && !pthread_join(thread, NULL);
        mine[1] = ft_ids_next();
        _exit(is_run && write(ends[1], mine, sizeof mine) == sizeof mine ? 0 : 2);
    }
    for (int i = 0; i < CHILD_IDS - 1; i++)
        ids[i] = ft_ids_next();
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
    EXPECT(read(ends[0], ids + CHILD_IDS - 1, 16) == 16 && are_distinct(ids, CHILD_IDS + 1));
    close(ends[0]);
    close(ends[1]);
}

static void clocks_go_forward_and_agree_with_the_system(void) {
    int64_t before = ft_clock_monotonic_ns();
    for (int i = 0; i < 1000; i++) {
        int64_t now = ft_clock_monotonic_ns();
        EXPECT(now >= before);
        before = now;
    }
    time_t start = time(NULL);
    int64_t seconds = ft_clock_unix_ns() / 1000000000;
    EXPECT(seconds >= start - 1 && seconds <= time(NULL) + 1);
}

int main(void) {
    EXPECT(ft_fork_happened());
    threads_draw_distinct_ids();
    EXPECT(ft_fork_happened());
    every_bit_of_an_id_varies();
    span_ids_count_up_in_a_thread_and_differ_between_threads();
    a_fork_child_has_traces_and_spans_of_its_own();
    a_fork_is_noticed_and_draws_its_own_ids(plain_fork);
#ifdef __linux__
    a_fork_is_noticed_and_draws_its_own_ids(raw_clone);
#endif
    a_generator_copied_by_fork_is_not_used();
    clocks_go_forward_and_agree_with_the_system();
    printf("%s test_ids\n", expect_failures ? "FAILED" : "ok");
    return expect_result();
}
