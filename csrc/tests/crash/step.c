/* The ring at every instruction of its writer: a traced child makes calls (enters them in the in-flight table, pushes
 * their spans, with strings and content, and leaves) one instruction at a time, and after each one this process recovers
 * the file through the real readers on a mapping of its own, as it would after a SIGKILL there. Nothing torn may be
 * delivered, nothing whose push had returned may be missing, and a call that was entered is in the air, or its span is
 * there, or both: never neither.
 *
 * The same run is made with steps that do the right things in a wrong order; it must find fault with each. Linux. */
#define _GNU_SOURCE
#include "../inflight_fixture.h"

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

static void child_run(ft_ring *ring, call_function *call, push_function *push, progress *done) {
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
        call(ring, &spans[i], i + 1, push, done);
    }
    _exit(0);
}

/* Recovery, as of a dead owner's file: nothing else will be written, so what is unfinished stays so. */
typedef struct {
    ft_ring ring;
    ft_batch batch;
    bool delivered[PUSHES]; /* by ticket */
    uint64_t violations, points;
} recovery;

static bool record_is_whole(const recovery *at, size_t i, uint64_t ticket) {
    const ft_record *record = &at->batch.records[i];
    const char *text, *wanted = texts[ticket % STRTAB_TEXTS];
    size_t length;
    return record_matches(record, ticket) && !(record->flags & FT_FLAG_CONTENT_LOST) &&
           record->content_length == CONTENT_BYTES &&
           content_matches(at->batch.content + record->content_position, CONTENT_BYTES, ticket) &&
           ft_strtab_get(at->ring.header, record->strings[FT_STR_PROVIDER], &text, &length) &&
           length == strlen(wanted) && !memcmp(text, wanted, length);
}

static void recover_spans(recovery *at, uint64_t returned) {
    ft_reader reader;
    memset(at->delivered, 0, sizeof at->delivered);
    uint64_t head = ring_head(&at->ring), oldest = head > SLOTS ? head - SLOTS : 0;
    ft_reader_init(&reader, &at->ring);
    for (int64_t round = 0; reader.next != head; round++) {
        at->violations += !ft_reader_read(&reader, &at->batch, PUSHES, SIZE_MAX, round * FT_STEP_OVER_NS);
        at->violations += !ledger_holds(&reader);
        for (size_t i = 0; i < at->batch.count; i++) {
            uint64_t ticket = at->batch.tickets[i];
            at->violations += ticket < oldest || ticket >= head || !record_is_whole(at, i, ticket);
            at->delivered[ticket % PUSHES] = true;
        }
    }
    for (uint64_t ticket = oldest; ticket < returned; ticket++)
        at->violations += !at->delivered[ticket];
    at->violations += returned > head;
}

/* Only the call that is being made may be in the air; once entered it must be, or its span be there. */
static void recover_calls(recovery *at, const progress *done) {
    uint64_t entered = atomic_load(&done->entered), left = atomic_load(&done->left);
    bool is_shown = false;
    at->violations += !ft_inflight_read(at->ring.header, &at->batch, CALL_UNTIL_NS);
    for (size_t i = 0; i < at->batch.count; i++) {
        uint64_t number = at->batch.records[i].span_id;
        at->violations += number != left + 1 || !call_is_whole(&at->batch.records[i]);
        is_shown |= number == entered;
    }
    at->violations += entered > left && !is_shown && !at->delivered[entered - 1];
    at->points++;
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
        recover_spans(at, atomic_load(&done->returned));
        recover_calls(at, done);
    }
    return false;
}

static bool run(call_function *call, push_function *push, recovery *at) {
    ft_ring writer;
    int fd = memfd_create("fasttrace-step", 0);
    progress *done = shared_page();
    if (fd < 0 || ftruncate(fd, 1 << 20))
        return false;
    ring_open(&writer, fd, SLOTS, ARENA_BYTES, 0);
    size_t bytes = (size_t)writer.header->file_bytes;
    void *second = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    *at = (recovery){.violations = 0};
    if (second == MAP_FAILED || !ft_ring_init(&at->ring, second))
        return false;
    pid_t child = fork();
    if (child == 0)
        child_run(&writer, call, push, done);
    bool is_traced = child_step(child, at, done);
    ft_batch_clear(&at->batch);
    ring_close(&at->ring);
    ring_close(&writer);
    munmap(done, 4096);
    close(fd);
    return is_traced;
}

int main(void) {
    const struct {
        const char *name;
        call_function *call;
        push_function *push;
    } mutants[] = {{"commit first", call_real, push_commit_first},
                   {"ticket last", call_real, push_ticket_last},
                   {"content last", call_real, push_content_last},
                   {"leave first", call_leave_first, push_real},
                   {"state first", call_state_first, push_real}};
    recovery at;
    bool is_sound = run(call_real, push_real, &at) && at.violations == 0 && at.points > PUSHES * 100;
    printf("%s single step: %llu crash points, %llu violations; mutants:", is_sound ? "ok" : "VIOLATION",
           (unsigned long long)at.points, (unsigned long long)at.violations);
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        bool is_caught = run(mutants[i].call, mutants[i].push, &at) && at.violations > 0;
        printf("%s %s %s (%llu)", i ? "," : "", mutants[i].name, is_caught ? "caught" : "NOT CAUGHT",
               (unsigned long long)at.violations);
        is_sound &= is_caught;
    }
    printf("\n");
    return is_sound ? EXIT_SUCCESS : EXIT_FAILURE;
}
