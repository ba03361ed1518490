/* slot.h under the C11 memory model, for GenMC: two producers and a reader over two slots of two words, every ticket
 * lapped. The file under test is the product's own; genmc_orders.h takes one ordering after the other away from it. */
#include "genmc_orders.h"

#define FT_SLOT_WORDS 2
#include "fasttrace/slot.h"

enum { SLOTS = 2, PRODUCERS = 2, PUSHES = 2, TICKETS = PRODUCERS * PUSHES, LOOKS = 3 };

static ft_slot slots[SLOTS];
static _Atomic uint64_t head, busy;

static void push(uint64_t value) {
    uint64_t record[FT_SLOT_WORDS] = {value, value};
    uint64_t ticket = atomic_fetch_add_explicit(&head, 1, memory_order_relaxed);
    ft_slot *slot = &slots[ticket % SLOTS];
    if (!ft_slot_claim(slot, ticket)) {
        atomic_fetch_add_explicit(&busy, 1, memory_order_relaxed);
        return;
    }
    ft_slot_store(slot, record);
    ft_slot_commit(slot, ticket);
}

static void *producer(void *argument) {
    uint64_t first = (uint64_t)(uintptr_t)argument;
    for (uint64_t i = 0; i < PUSHES; i++)
        push(first + i);
    return NULL;
}

/* Whole, of a value that was pushed. */
static ft_slot_state look(uint64_t ticket) {
    uint64_t record[FT_SLOT_WORDS] = {0, 0};
    ft_slot_state state = ft_slot_load(&slots[ticket % SLOTS], ticket, record);
    if (state == FT_SLOT_READ) {
        assert(record[0] == record[1]);
        assert(record[0] != 0);
    }
    return state;
}

int main(void) {
    pthread_t producers[PRODUCERS];
    uint64_t next = 0, read = 0, overwritten = 0, unfinished = 0;
    for (int i = 0; i < SLOTS; i++)
        ft_slot_reset(&slots[i], 0);
    for (uintptr_t i = 0; i < PRODUCERS; i++)
        pthread_create(&producers[i], NULL, producer, (void *)(i * PUSHES + 1));
    for (int i = 0; i < LOOKS; i++)
        next += look(next) != FT_SLOT_UNFINISHED;
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(producers[i], NULL);
    for (uint64_t ticket = 0; ticket < TICKETS; ticket++) {
        ft_slot_state state = look(ticket);
        read += state == FT_SLOT_READ;
        overwritten += state == FT_SLOT_OVERWRITTEN;
        unfinished += state == FT_SLOT_UNFINISHED;
    }
    assert(atomic_load(&head) == TICKETS);
    assert(read + overwritten + unfinished == TICKETS);
    assert(read >= 1 && unfinished <= atomic_load(&busy));
    return 0;
}
