/* The ring at every instruction of its writer: a traced child makes calls (enters them in the in-flight table, pushes
 * their spans, with strings and content, leaves, and notes a batch in hand) one instruction at a time, and after each
 * one this process recovers a copy of the file, as it would after a SIGKILL there. Nothing torn may be delivered,
 * nothing whose push had returned may be missing, and a call that was entered is in the air, or its span is there, or
 * both: never neither. A range is the one before, the one that is being written, or none.
 *
 * The same run is made with steps that do the right things in a wrong order; it must find fault with each. Linux. */
#define _GNU_SOURCE
#include "../inflight_fixture.h"
#include "fasttrace/recovered.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PUSHES = 10, SLOTS = 4, ARENA_BYTES = 4096, CONTENT_BYTES = 121, STRTAB_TEXTS = 3 };

/* How far the child is, in memory that both see. */
typedef struct {
    _Atomic uint64_t entered, returned, left; /* calls of which that step was done */
} progress;

typedef void push_function(ft_ring *ring, ft_span *span);
typedef void range_function(ft_header *region, unsigned index, ft_range_state state, uint64_t first_ticket,
                            uint64_t next_ticket, uint64_t span_count);
typedef void call_function(ft_ring *ring, ft_span *span, uint64_t number, push_function *push, progress *done);

static const char *const texts[STRTAB_TEXTS] = {"openai", "gpt-4o-mini-2024-07-18", "anthropic"};

static void push_real(ft_ring *ring, ft_span *span) { ft_ring_push(ring, span); }

static void push_commit_first(ft_ring *ring, ft_span *span) {
    ft_content_write(ring, &span->record, span->content, span->content_length);
    uint64_t ticket = atomic_fetch_add(&ring->header->head, 1);
    ft_slot *slot = &ring->slots[ticket & ring->slot_mask];
    ft_slot_claim(slot, ticket);
    ft_slot_commit(slot, ticket);
    ft_slot_store(slot, &span->record);
}

/* The slot of the oldest record is taken while that record still counts as there. */
static void push_ticket_last(ft_ring *ring, ft_span *span) {
    ft_content_write(ring, &span->record, span->content, span->content_length);
    uint64_t ticket = ring_head(ring);
    ft_slot *slot = &ring->slots[ticket & ring->slot_mask];
    ft_slot_claim(slot, ticket);
    ft_slot_store(slot, &span->record);
    ft_slot_commit(slot, ticket);
    atomic_fetch_add(&ring->header->head, 1);
}

/* The block's name is known before its bytes are there. */
static void push_content_last(ft_ring *ring, ft_span *span) {
    span->record.content_position = atomic_load(&ring->header->arena_head);
    span->record.content_length = span->content_length;
    span->record.content_crc = ft_crc32(span->content, span->content_length);
    uint64_t ticket = atomic_fetch_add(&ring->header->head, 1);
    ft_slot *slot = &ring->slots[ticket & ring->slot_mask];
    ft_slot_claim(slot, ticket);
    ft_slot_store(slot, &span->record);
    ft_slot_commit(slot, ticket);
    ft_content_write(ring, &span->record, span->content, span->content_length);
}

/* ---- one call: its span id is its number, which is its ticket and 1 ---- */

static void call_real(ft_ring *ring, ft_span *span, uint64_t number, push_function *push, progress *done) {
    int32_t place = enter_key(ring, number);
    atomic_store(&done->entered, number);
    push(ring, span);
    atomic_store(&done->returned, number);
    ft_inflight_leave(ring, place);
    atomic_store(&done->left, number);
}

static void call_leave_first(ft_ring *ring, ft_span *span, uint64_t number, push_function *push, progress *done) {
    int32_t place = enter_key(ring, number);
    atomic_store(&done->entered, number);
    ft_inflight_leave(ring, place);
    push(ring, span);
    atomic_store(&done->returned, number);
    atomic_store(&done->left, number);
}

/* The slot says that a call is in it before it is. */
static void call_state_first(ft_ring *ring, ft_span *span, uint64_t number, push_function *push, progress *done) {
    ft_inflight_call call = call_of(number);
    ft_inflight_slot *slot = &ring->inflight.slots[0];
    atomic_fetch_add(&slot->state, 1);
    for (int i = 0; i < FT_INFLIGHT_WORDS; i++) {
        uint64_t word;
        memcpy(&word, (unsigned char *)&call + 8 * i, sizeof word);
        atomic_store(&slot->words[i], word);
    }
    atomic_store(&done->entered, number);
    push(ring, span);
    atomic_store(&done->returned, number);
    atomic_fetch_add(&slot->state, 1);
    atomic_store(&done->left, number);
}

/* Batch after batch in one place, each settled in the next round but one: ranges that differ in everything. */
static void range_note(ft_ring *ring, range_function *set, uint64_t i) {
    uint64_t start = i / 2;
    set(ring->header, 0, i % 2 ? FT_RANGE_SETTLED : FT_RANGE_OPEN, start, i + 1, start + i % 2);
}

/* The old range's state stands for what is half the new one. */
static void range_in_place(ft_header *region, unsigned index, ft_range_state state, uint64_t first_ticket,
                           uint64_t next_ticket, uint64_t span_count) {
    ft_range *range = &region->ranges[index];
    atomic_store(&range->first_ticket, first_ticket);
    atomic_store(&range->next_ticket, next_ticket);
    atomic_store(&range->span_count, span_count);
    atomic_store(&range->state, state);
}

static bool range_was_noted(const ft_recovered_range *range) {
    for (uint64_t i = 0; i < PUSHES; i++)
        if (range->first_ticket == i / 2 && range->next_ticket == i + 1 && range->span_count == i / 2 + i % 2 &&
            range->is_settled == (i % 2 == 1))
            return true;
    return false;
}

/* What the child does, each step right or wrong. */
typedef struct {
    const char *name;
    call_function *call;
    push_function *push;
    range_function *set;
} conduct;

static void child_run(ft_ring *ring, const conduct *way, progress *done) {
    static ft_span spans[PUSHES];
    free(ring->inflight.taken);
    if (!ft_ring_own(ring))
        _exit(1);
    for (uint64_t i = 0; i < PUSHES; i++)
        span_fill(&spans[i], i, CONTENT_BYTES);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    for (uint64_t i = 0; i < PUSHES; i++) {
        const char *text = texts[i % STRTAB_TEXTS];
        ft_ring_set_string(ring, &spans[i], FT_STR_PROVIDER, text, strlen(text));
        way->call(ring, &spans[i], i + 1, way->push, done);
        range_note(ring, way->set, i);
    }
    _exit(0);
}

/* Recovery of a copy, as of a dead owner's file. */
typedef struct {
    const void *file;
    size_t file_bytes;
    ft_recovered dead;
    ft_batch batch;
    bool delivered[PUSHES]; /* by ticket */
    uint64_t violations, points, ranges;
} recovery;

static bool record_is_whole(const recovery *at, size_t i, uint64_t ticket) {
    const ft_record *record = &at->batch.records[i];
    const char *text, *wanted = texts[ticket % STRTAB_TEXTS];
    size_t length;
    return record_matches(record, ticket) && !(record->flags & FT_FLAG_CONTENT_LOST) &&
           record->content_length == CONTENT_BYTES &&
           content_matches(at->batch.content + record->content_position, CONTENT_BYTES, ticket) &&
           ft_strtab_get(at->dead.ring.header, record->strings[FT_STR_PROVIDER], &text, &length) &&
           length == strlen(wanted) && !memcmp(text, wanted, length);
}

static void recover_spans(recovery *at, uint64_t returned) {
    memset(at->delivered, 0, sizeof at->delivered);
    uint64_t head = at->dead.head, oldest = head > SLOTS ? head - SLOTS : 0;
    const ft_reader_counters *counters = &at->dead.reader.counters;
    at->violations += !ft_reader_read_dead(&at->dead.reader, &at->batch, PUSHES, SIZE_MAX, head);
    at->violations += at->dead.reader.next != head || counters->delivered + counters->lost + counters->torn != head;
    for (size_t i = 0; i < at->batch.count; i++) {
        uint64_t ticket = at->batch.tickets[i];
        at->violations += ticket < oldest || ticket >= head || !record_is_whole(at, i, ticket);
        at->delivered[ticket % PUSHES] = true;
    }
    for (uint64_t ticket = oldest; ticket < returned; ticket++)
        at->violations += !at->delivered[ticket];
    at->violations += returned > head;
}

static void recover_ranges(recovery *at) {
    ft_recovered_range ranges[FT_RANGES];
    size_t count = ft_recovered_ranges(&at->dead, ranges);
    at->violations += count > 1 || (count == 1 && !range_was_noted(&ranges[0]));
    at->ranges += count;
}

/* Only the call that is being made may be in the air; once entered it must be, or its span be there. */
static void recover_calls(recovery *at, const progress *done) {
    uint64_t entered = atomic_load(&done->entered), left = atomic_load(&done->left);
    bool is_shown = false;
    at->violations += !ft_inflight_read(at->dead.ring.header, &at->batch, CALL_UNTIL_NS);
    for (size_t i = 0; i < at->batch.count; i++) {
        uint64_t number = at->batch.records[i].span_id;
        at->violations += number != left + 1 || !call_is_whole(&at->batch.records[i]);
        is_shown |= number == entered;
    }
    at->violations += entered > left && !is_shown && !at->delivered[entered - 1];
}

static void recover(recovery *at, const progress *done) {
    at->points++;
    if (ft_recovered_open(&at->dead, at->file, at->file_bytes) != FT_RECOVERED_OPEN) {
        at->violations++;
        return;
    }
    recover_spans(at, atomic_load(&done->returned));
    recover_calls(at, done);
    recover_ranges(at);
    ft_recovered_close(&at->dead);
}

static void *shared_page(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        exit(EXIT_FAILURE);
    return page;
}

/* Step the child to its end; recover at every stop. False when it could not be traced. */
static bool child_step(pid_t child, recovery *at, const progress *done) {
    int status;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
        return false;
    while (!ptrace(PTRACE_SINGLESTEP, child, NULL, NULL)) {
        if (waitpid(child, &status, 0) != child)
            return false;
        if (WIFEXITED(status))
            return WEXITSTATUS(status) == 0 && atomic_load(&done->left) == PUSHES;
        recover(at, done);
    }
    return false;
}

static bool run(const conduct *way, recovery *at) {
    ft_ring writer;
    int fd = memfd_create("fasttrace-step", 0);
    progress *done = shared_page();
    if (fd < 0 || ftruncate(fd, 1 << 20))
        return false;
    ring_open(&writer, fd, SLOTS, ARENA_BYTES, 0);
    *at = (recovery){.file = (void *)writer.header, .file_bytes = (size_t)writer.header->file_bytes};
    pid_t child = fork();
    if (child == 0)
        child_run(&writer, way, done);
    bool is_traced = child_step(child, at, done);
    ft_batch_clear(&at->batch);
    ring_close(&writer);
    munmap(done, 4096);
    close(fd);
    return is_traced;
}

int main(void) {
    static const conduct right = {"", call_real, push_real, ft_region_set_range};
    static const conduct mutants[] = {{"commit first", call_real, push_commit_first, ft_region_set_range},
                                      {"ticket last", call_real, push_ticket_last, ft_region_set_range},
                                      {"content last", call_real, push_content_last, ft_region_set_range},
                                      {"leave first", call_leave_first, push_real, ft_region_set_range},
                                      {"state first", call_state_first, push_real, ft_region_set_range},
                                      {"range in place", call_real, push_real, range_in_place}};
    recovery at;
    bool is_sound =
        run(&right, &at) && at.violations == 0 && at.points > PUSHES * 100 && at.ranges > at.points / 2;
    printf("%s single step: %llu crash points, %llu violations; mutants:", is_sound ? "ok" : "VIOLATION",
           (unsigned long long)at.points, (unsigned long long)at.violations);
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        bool is_caught = run(&mutants[i], &at) && at.violations > 0;
        printf("%s %s %s (%llu)", i ? "," : "", mutants[i].name, is_caught ? "caught" : "NOT CAUGHT",
               (unsigned long long)at.violations);
        is_sound &= is_caught;
    }
    printf("\n");
    return is_sound ? EXIT_SUCCESS : EXIT_FAILURE;
}
