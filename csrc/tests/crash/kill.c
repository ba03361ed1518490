/* Random death: a process with three pushing threads is SIGKILLed at a random moment, its ring file is read through the
 * real reader. No record is torn, and none is missing whose push had returned, unless a whole lap went by since. Every
 * push is the end of a call that was in the air: each thread has the one before and the one after, whole, and none else.
 *
 *     kill [KILLS [SEED]]        the seed is printed, and repeats the moments
 *
 * Each thread notes `head` before a push and its number after the push returned, both in shared memory: the record's
 * ticket is at least that head, so it must be there while head has not gone a lap further. */
#define _GNU_SOURCE
#include "../inflight_fixture.h"
#include "fasttrace/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 3, SLOTS = 1 << 14, ARENA_BYTES = 1 << 21, CONTENT_LIMIT = 200 };

typedef struct {
    _Atomic uint64_t entered;         /* number of the call that is in the air for sure */
    _Atomic uint64_t returned;        /* pushes of this thread that came back with a record in the ring */
    _Atomic uint64_t head_before[2];  /* before push number n, at n modulo 2 */
} thread_notes;

typedef struct {
    _Atomic uint64_t started;
    thread_notes threads[THREADS];
} process_notes;

typedef struct {
    uint64_t pushed, recovered, unfinished, torn, repeated, missing, content_lost, in_the_air;
} totals;

static const ft_region_shape shape = {.slot_count = SLOTS,
                                      .arena_bytes = ARENA_BYTES,
                                      .strtab_bytes = 4096,
                                      .inflight_count = 2 * THREADS,
                                      .first_ticket = UINT64_C(0) - 1000};
static process_notes *notes;
static ft_ring ring;

static uint64_t key_of(uint64_t thread, uint64_t number) { return thread << 48 | number; }

static void push_until_it_is_in(thread_notes *mine, uint64_t thread, uint64_t number) {
    uint64_t key = key_of(thread, number);
    do
        atomic_store(&mine->head_before[number % 2], ring_head(&ring));
    while (push_key(&ring, key, number % 2 ? 0 : content_length_of(key, CONTENT_LIMIT)) == FT_PUSH_DROPPED);
}

static void *thread_run(void *argument) {
    uint64_t thread = (uint64_t)(uintptr_t)argument;
    thread_notes *mine = &notes->threads[thread];
    int32_t place = enter_key(&ring, key_of(thread, 1));
    for (uint64_t number = 1;; number++) {
        atomic_store(&mine->entered, number);
        push_until_it_is_in(mine, thread, number);
        atomic_store(&mine->returned, number);
        int32_t next = enter_key(&ring, key_of(thread, number + 1));
        ft_inflight_leave(&ring, place);
        place = next;
        atomic_store(&notes->started, 1);
    }
    return NULL;
}

static void victim_run(int fd) {
    pthread_t threads[THREADS];
    ring_open_shape(&ring, fd, &shape);
    for (uintptr_t i = 1; i < THREADS; i++)
        pthread_create(&threads[i], NULL, thread_run, (void *)i);
    thread_run((void *)0);
}

/* After its first push, a random while of up to 4 ms. */
static void victim_kill(pid_t victim, unsigned *seed) {
    struct timespec pause = {.tv_nsec = 20000};
    for (int i = 0; i < 100000 && !atomic_load(&notes->started); i++)
        nanosleep(&pause, NULL);
    pause.tv_nsec = rand_r(seed) % 4000000;
    nanosleep(&pause, NULL);
    kill(victim, SIGKILL);
    waitpid(victim, NULL, 0);
}

static bool record_is_whole(const ft_batch *batch, const ft_record *record, totals *sum) {
    uint64_t key = record->trace_hi, number = key & ((UINT64_C(1) << 48) - 1);
    if (key >> 48 >= THREADS || !number || !record_matches(record, key))
        return false;
    if (record->flags & FT_FLAG_CONTENT_LOST) {
        sum->content_lost++;
        return number % 2 == 0;
    }
    uint32_t length = number % 2 ? 0 : content_length_of(key, CONTENT_LIMIT);
    return record->content_length == length && content_matches(batch->content + record->content_position, length, key);
}

/* Newest number of each thread in the file; numbers of a thread must rise with their tickets. */
static void records_recover(ft_ring *dead, uint64_t newest[THREADS], totals *sum) {
    ft_reader reader;
    ft_batch batch = {0};
    ft_reader_init(&reader, dead);
    for (int64_t round = 0; reader.next != ring_head(dead); round++) {
        if (!ft_reader_read(&reader, &batch, 1000, SIZE_MAX, round * FT_STEP_OVER_NS) || !ledger_holds(&reader))
            sum->torn++;
        for (size_t i = 0; i < batch.count; i++) {
            const ft_record *record = &batch.records[i];
            if (!record_is_whole(&batch, record, sum)) {
                sum->torn++;
                continue;
            }
            uint64_t number = record->trace_hi & ((UINT64_C(1) << 48) - 1), *last = &newest[record->trace_hi >> 48];
            sum->repeated += number <= *last;
            *last = number;
        }
    }
    sum->recovered += reader.counters.delivered;
    sum->unfinished += reader.counters.pending;
    ft_batch_clear(&batch);
}

/* Of a thread that entered number n for sure, n or n + 1 is in the air, or both. */
static void calls_recover(const ft_ring *dead, totals *sum) {
    ft_batch batch = {0};
    uint64_t found[THREADS] = {0};
    sum->torn += !ft_inflight_read(dead->header, &batch, CALL_UNTIL_NS);
    for (size_t i = 0; i < batch.count; i++) {
        uint64_t key = batch.records[i].span_id, number = key & ((UINT64_C(1) << 48) - 1);
        bool is_known = key >> 48 < THREADS && call_is_whole(&batch.records[i]);
        uint64_t entered = is_known ? atomic_load(&notes->threads[key >> 48].entered) : 0;
        sum->torn += !is_known || number < entered || number > entered + 1;
        found[is_known ? key >> 48 : 0]++;
    }
    for (int i = 0; i < THREADS; i++)
        sum->missing += atomic_load(&notes->threads[i].entered) && !found[i];
    sum->in_the_air += batch.count;
    ft_batch_clear(&batch);
}

static void file_recover(int fd, totals *sum) {
    ft_ring dead;
    uint64_t newest[THREADS] = {0};
    size_t bytes = (size_t)lseek(fd, 0, SEEK_END);
    void *mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED || !ft_region_valid(mapping, bytes) || !ft_ring_init(&dead, mapping)) {
        sum->torn++;
        return;
    }
    records_recover(&dead, newest, sum);
    calls_recover(&dead, sum);
    for (int i = 0; i < THREADS; i++) {
        uint64_t returned = atomic_load(&notes->threads[i].returned);
        uint64_t ticket_at_least = atomic_load(&notes->threads[i].head_before[returned % 2]);
        bool is_in_the_last_lap = ring_head(&dead) - ticket_at_least <= SLOTS;
        sum->missing += returned && is_in_the_last_lap && newest[i] < returned;
        sum->pushed += returned;
    }
    free(dead.strtab.slots);
    munmap(mapping, bytes);
}

static void one_death(unsigned *seed, totals *sum) {
    int fd = memfd_create("fasttrace-kill", 0);
    if (fd < 0 || ftruncate(fd, (off_t)ft_region_bytes(&shape))) {
        perror("memfd");
        exit(EXIT_FAILURE);
    }
    memset(notes, 0, sizeof *notes);
    pid_t victim = fork();
    if (victim == 0)
        victim_run(fd);
    victim_kill(victim, seed);
    file_recover(fd, sum);
    close(fd);
}

int main(int argc, char **argv) {
    unsigned long kills = argc > 1 ? strtoul(argv[1], NULL, 10) : 100;
    unsigned seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : (unsigned)ft_clock_unix_ns();
    unsigned printed_seed = seed;
    totals sum = {0};
    notes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (notes == MAP_FAILED)
        return EXIT_FAILURE;
    for (unsigned long i = 0; i < kills; i++)
        one_death(&seed, &sum);
    bool is_sound = !sum.torn && !sum.missing && !sum.repeated && sum.recovered > kills && sum.in_the_air >= kills;
    printf("%s kill: seed %u, %lu kills, %llu pushes returned, %llu recovered, %llu unfinished, %llu contents lost, "
           "%llu calls in the air, %llu torn, %llu missing, %llu repeated\n",
           is_sound ? "ok" : "VIOLATION", printed_seed, kills, (unsigned long long)sum.pushed,
           (unsigned long long)sum.recovered, (unsigned long long)sum.unfinished, (unsigned long long)sum.content_lost,
           (unsigned long long)sum.in_the_air,
           (unsigned long long)sum.torn, (unsigned long long)sum.missing, (unsigned long long)sum.repeated);
    return is_sound ? EXIT_SUCCESS : EXIT_FAILURE;
}
