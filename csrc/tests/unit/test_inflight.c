/* The in-flight table: every place, a full one, none at all, generations that wrap, readers of what is damaged, threads,
 * and fork children that end their parent's calls. */
#define _GNU_SOURCE
#include "../expect.h"
#include "../inflight_fixture.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <signal.h>
#include <sys/syscall.h>
#endif

enum { PLACES = 130, THREADS = 4, CALLS = 20000 }; /* three words of the bitmap, the last one not full */

static ft_ring ring;
static ft_batch batch;

static size_t read_all(void) {
    EXPECT(ft_inflight_read(ring.header, &batch, CALL_UNTIL_NS));
    for (size_t i = 0; i < batch.count; i++)
        EXPECT(call_is_whole(&batch.records[i]));
    return batch.count;
}

static bool is_shown(uint64_t key) {
    for (size_t i = 0; i < batch.count; i++)
        if (batch.records[i].span_id == key)
            return true;
    return false;
}

static void a_call_is_shown_from_enter_to_leave(void) {
    ring_open_for_calls(&ring, -1, 2, 3);
    EXPECT(read_all() == 0 && batch.first_ticket == 0 && batch.next_ticket == 0);
    int32_t first = enter_key(&ring, 7), second = enter_key(&ring, 8);
    EXPECT(first >= 0 && second >= 0 && first != second);
    EXPECT(read_all() == 2 && is_shown(7) && is_shown(8));
    ft_inflight_leave(&ring, first);
    EXPECT(read_all() == 1 && is_shown(8));
    ft_inflight_leave(&ring, second);
    ft_inflight_leave(&ring, -1);
    EXPECT(read_all() == 0);
    ring_close(&ring);
}

static void tickets_are_those_behind_the_head(void) {
    ring_open_for_calls(&ring, -1, 2, 3);
    atomic_store(&ring.header->head, UINT64_MAX);
    enter_key(&ring, 1);
    enter_key(&ring, 2);
    EXPECT(read_all() == 2 && batch.first_ticket == UINT64_MAX && batch.next_ticket == 1);
    EXPECT(batch.tickets[0] == UINT64_MAX && batch.tickets[1] == 0);
    ring_close(&ring);
}

static void every_place_is_given_once_and_then_none(void) {
    bool seen[PLACES] = {false};
    ring_open_for_calls(&ring, -1, 2, PLACES);
    for (uint64_t i = 0; i < PLACES; i++) {
        int32_t place = enter_key(&ring, i + 1);
        EXPECT(place >= 0 && place < PLACES && !seen[place]);
        seen[place < 0 ? 0 : place] = true;
    }
    EXPECT(ring_dropped(&ring, FT_DROP_INFLIGHT_FULL) == 0);
    EXPECT(enter_key(&ring, 999) == -1 && enter_key(&ring, 999) == -1);
    EXPECT(ring_dropped(&ring, FT_DROP_INFLIGHT_FULL) == 2);
    EXPECT(read_all() == PLACES && !is_shown(999));
    for (int32_t place = 0; place < PLACES; place++) { /* each bit is given back, and found again as the only one */
        ft_inflight_leave(&ring, place);
        EXPECT(enter_key(&ring, (uint64_t)place + 1000) == place);
    }
    EXPECT(read_all() == PLACES && is_shown(1000) && is_shown(1000 + PLACES - 1) && !is_shown(1));
    ring_close(&ring);
}

static void a_table_of_none_has_no_place(void) {
    ring_open_for_calls(&ring, -1, 2, 0);
    EXPECT(enter_key(&ring, 1) == -1 && ring_dropped(&ring, FT_DROP_INFLIGHT_FULL) == 1);
    EXPECT(read_all() == 0);
    ring_close(&ring);
}

static void a_full_word_of_the_bitmap_is_a_full_table_of_64(void) {
    ring_open_for_calls(&ring, -1, 2, 64);
    for (uint64_t i = 1; i <= 64; i++)
        EXPECT(enter_key(&ring, i) >= 0);
    EXPECT(enter_key(&ring, 65) == -1 && read_all() == 64);
    ring_close(&ring);
}

static void generations_wrap(void) {
    ring_open_for_calls(&ring, -1, 2, 1);
    atomic_store(&ring.inflight.slots[0].state, UINT64_MAX - 1);
    int32_t place = enter_key(&ring, 5);
    EXPECT(atomic_load(&ring.inflight.slots[0].state) == UINT64_MAX && read_all() == 1 && is_shown(5));
    ft_inflight_leave(&ring, place);
    EXPECT(atomic_load(&ring.inflight.slots[0].state) == 0 && read_all() == 0);
    place = enter_key(&ring, 6);
    EXPECT(atomic_load(&ring.inflight.slots[0].state) == 1 && read_all() == 1 && is_shown(6));
    ring_close(&ring);
}

/* As of a damaged or hostile file. */
static void nothing_in_the_table_is_believed(void) {
    ring_open_for_calls(&ring, -1, 2, 3);
    memset(ring.inflight.slots, 0xff, 3 * sizeof *ring.inflight.slots);
    EXPECT(ft_inflight_read(ring.header, &batch, INT64_MIN) && batch.count == 3);
    const ft_record *record = &batch.records[0];
    EXPECT(record->kind == FT_KIND_NONE && record->duration_ns == 0 && record->strings[FT_STR_NAME] == UINT16_MAX);
    EXPECT(ft_inflight_read(ring.header, &batch, INT64_MAX) && batch.records[0].duration_ns == UINT64_C(1) << 63);
    for (int i = 0; i < 3; i++)
        atomic_store(&ring.inflight.slots[i].words[2], 0); /* no span id */
    EXPECT(ft_inflight_read(ring.header, &batch, INT64_MAX) && batch.count == 0);
    ring_close(&ring);
}

static void a_call_that_starts_after_its_end_took_no_time(void) {
    ft_inflight_call call = call_of(3);
    ring_open_for_calls(&ring, -1, 2, 1);
    ft_inflight_enter(&ring, &call);
    EXPECT(ft_inflight_read(ring.header, &batch, call.start_ns - 1) && batch.records[0].duration_ns == 0);
    EXPECT(ft_inflight_read(ring.header, &batch, call.start_ns + 1) && batch.records[0].duration_ns == 1);
    ring_close(&ring);
}

static void a_ring_that_is_only_read_shows_nothing(void) {
    ft_ring reader;
    ring_open_for_calls(&ring, -1, 2, 3);
    EXPECT(ft_ring_init(&reader, ring.header) && !ft_ring_is_own(&reader) && enter_key(&reader, 1) == -1);
    EXPECT(read_all() == 0 && ring_dropped(&ring, FT_DROP_INFLIGHT_FULL) == 0);
    free(reader.strtab.slots);
    ring_close(&ring);
}

/* ---- threads: owners of places, and a reader at the same time ---- */

static _Atomic uint64_t running, next_thread;

static void *calls_run(void *unused) {
    uint64_t thread = atomic_fetch_add(&next_thread, 1);
    for (uint64_t i = 0; i < CALLS; i++) {
        int32_t outer = enter_key(&ring, thread << 32 | (2 * i + 1)), inner = enter_key(&ring, thread << 32 | (2 * i + 2));
        ft_inflight_leave(&ring, outer);
        ft_inflight_leave(&ring, inner);
    }
    atomic_fetch_sub(&running, 1);
    return unused;
}

static void threads_and_a_reader_see_whole_calls(uint64_t places) {
    pthread_t threads[THREADS];
    ring_open_for_calls(&ring, -1, 2, places);
    atomic_store(&running, THREADS);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, calls_run, NULL);
    while (atomic_load(&running))
        EXPECT(read_all() <= (places < 2 * THREADS ? places : 2 * THREADS));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    EXPECT(read_all() == 0);
    EXPECT(ring_dropped(&ring, FT_DROP_INFLIGHT_FULL) == 0 || places < 2 * THREADS);
    for (uint64_t i = 1; i <= places; i++) /* no place was lost */
        EXPECT(enter_key(&ring, i) >= 0);
    EXPECT(enter_key(&ring, 999) == -1);
    ring_close(&ring);
}

/* ---- forks ---- */

static bool child_is_fine(pid_t child) {
    int status;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static pid_t fork_usual(void) { return fork(); }

#ifdef __linux__
static pid_t fork_raw(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
#endif

/* The child ends the parent's call, starts one and adds a string, before and after it has a ring of its own. */
static void child_run(int32_t place) {
    ft_ring own;
    for (int round = 0; round < 2; round++) {
        bool was_refused = enter_key(&ring, 11) == -1 && !ft_ring_is_own(&ring);
        uint16_t index = ft_strtab_intern(&ring.strtab, "of the child", 12);
        ft_inflight_leave(&ring, place);
        if (!was_refused || index != 0)
            _exit(1);
        if (round == 0)
            ring_open_for_calls(&own, -1, 2, 3);
    }
    _exit(enter_key(&own, 12) >= 0 && own.process > ring.process && own.number > ring.number ? 0 : 2);
}

static void a_fork_child_leaves_its_parents_table_alone(pid_t (*fork_how)(void)) {
    FILE *file = tmpfile();
    int fd = file == NULL ? -1 : fileno(file);
    EXPECT(fd >= 0 && !ftruncate(fd, 1 << 20));
    ring_open_for_calls(&ring, fd, 2, 3);
    int32_t place = enter_key(&ring, 9);
    EXPECT(ft_strtab_intern(&ring.strtab, "of the parent", 13) == 1);
    uint64_t used = atomic_load(&ring.header->strtab_used);
    pid_t child = fork_how();
    if (child == 0)
        child_run(place);
    EXPECT(child_is_fine(child));
    EXPECT(read_all() == 1 && is_shown(9) && ring_dropped(&ring, FT_DROP_INFLIGHT_FULL) == 0);
    EXPECT(atomic_load(&ring.header->strtab_used) == used);
    ft_inflight_leave(&ring, place);
    EXPECT(read_all() == 0);
    ring_close(&ring);
    fclose(file);
}

int main(void) {
    a_call_is_shown_from_enter_to_leave();
    tickets_are_those_behind_the_head();
    every_place_is_given_once_and_then_none();
    a_table_of_none_has_no_place();
    a_full_word_of_the_bitmap_is_a_full_table_of_64();
    generations_wrap();
    nothing_in_the_table_is_believed();
    a_call_that_starts_after_its_end_took_no_time();
    a_ring_that_is_only_read_shows_nothing();
    threads_and_a_reader_see_whole_calls(PLACES);
    threads_and_a_reader_see_whole_calls(5);
    a_fork_child_leaves_its_parents_table_alone(fork_usual);
#ifdef __linux__
    a_fork_child_leaves_its_parents_table_alone(fork_raw);
#endif
    ft_batch_clear(&batch);
    printf("%s test_inflight\n", expect_failures ? "FAILED" : "ok");
    return expect_result();
}
