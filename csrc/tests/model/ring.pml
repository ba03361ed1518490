/* The ring's push, death at any step, the live reader and recovery, in every interleaving of two producers, for spin.
 * Two slots and two arena blocks, two pushes each: every slot and every block is lapped. Memory is sequentially
 * consistent here; the orders are the other model's business (slot_genmc.c, content_genmc.c).
 *
 * A record is three words (value, position, value again) and its content is one block holding the value, which stands
 * for bytes and checksum. What must hold is in the assertions. Each MUTANT_* breaks one rule of the protocol, and an
 * assertion must notice. */
#define SLOTS 2
#define BLOCKS 2
#define PRODUCERS 2
#define PUSHES 2
#define TICKETS 4 /* PRODUCERS * PUSHES */

byte head, arena_head;
byte sequence[SLOTS], word_first[SLOTS], word_position[SLOTS], word_last[SLOTS];
byte arena[BLOCKS];

/* Observers, not part of the protocol. */
bool has_crashed;
bool has_returned[TICKETS], was_delivered[TICKETS];
bool was_written_late[BLOCKS]; /* by a writer that had been lapped: what only the checksum finds */
byte finished, busy;

inline content_write() {
    was_written_late[position % BLOCKS] = was_written_late[position % BLOCKS] || (arena_head - position > BLOCKS);
    arena[position % BLOCKS] = value
}

#if defined(MUTANT_COMMIT_FIRST)
#define CLAIMED 2 * ticket + 2
#elif defined(MUTANT_NO_ODD_MARK)
#define CLAIMED seen
#else
#define CLAIMED 2 * ticket + 1
#endif

inline slot_claim() {
    seen = sequence[ticket % SLOTS];
    if
#ifdef MUTANT_IGNORE_WRITER
    :: seen > 2 * ticket -> is_claimed = false
#else
    :: seen % 2 == 1 || seen > 2 * ticket -> is_claimed = false
#endif
    :: else ->
#ifdef MUTANT_CLAIM_WITHOUT_CAS
        sequence[ticket % SLOTS] = 2 * ticket + 1; is_claimed = true
#else
        atomic {
            is_claimed = (sequence[ticket % SLOTS] == seen);
            if
            :: is_claimed -> sequence[ticket % SLOTS] = CLAIMED
            :: else
            fi
        }
#endif
    fi
}

proctype producer(byte id) provided (!has_crashed) {
    byte i, value, position, ticket, seen;
    bool is_claimed;
    do
    :: i < PUSHES ->
        value = id * PUSHES + i + 1;
        atomic { position = arena_head; arena_head++ };
#ifndef MUTANT_CONTENT_LAST
        atomic { content_write() };
#endif
        atomic { ticket = head; head++ };
        slot_claim();
        if
        :: is_claimed ->
            word_first[ticket % SLOTS] = value;
            word_position[ticket % SLOTS] = position;
            word_last[ticket % SLOTS] = value;
#ifdef MUTANT_CONTENT_LAST
            sequence[ticket % SLOTS] = 2 * ticket + 2;
            atomic { content_write() }
#else
            atomic { sequence[ticket % SLOTS] = 2 * ticket + 2; has_returned[ticket] = true }
#endif
        :: else -> busy++
        fi;
        atomic { i++; value = 0; position = 0; ticket = 0; seen = 0; is_claimed = false }
    :: else -> break
    od;
    finished++
}

proctype death() { has_crashed = true }

#define IS_OVER (finished == PRODUCERS || has_crashed)
#define IS_LAPPED(t) (head - (t) > SLOTS)

/* An intact block holds the record's value; a block that is not intact is said to be lost. It may be lost only if it
 * was claimed again, or if a lapped writer wrote into it. */
inline content_check() {
    copy = arena[at % BLOCKS];
    atomic {
        if
        :: arena_head - at > BLOCKS
#ifdef MUTANT_NO_CHECKSUM
        :: else -> assert(copy == first)
#else
        :: else -> assert(copy == first || was_written_late[at % BLOCKS])
#endif
        fi;
        copy = 0
    }
}

#define FOUND 1
#define UNFINISHED 2
#define OVERWRITTEN 3

/* slot.h's ft_slot_load. */
inline slot_read(t) {
    before = sequence[(t) % SLOTS];
    if
    :: before > 2 * (t) + 2 -> state = OVERWRITTEN
    :: before < 2 * (t) + 2 -> state = UNFINISHED
    :: else ->
        first = word_first[(t) % SLOTS];
        at = word_position[(t) % SLOTS];
        last = word_last[(t) % SLOTS];
#ifdef MUTANT_NO_SECOND_LOOK
        state = FOUND
#else
        state = (sequence[(t) % SLOTS] == before -> FOUND : OVERWRITTEN)
#endif
    fi;
    before = 0
}

inline deliver(t) {
    atomic { assert(first == last && first != 0 && !was_delivered[t]); was_delivered[t] = true; delivered++ };
    content_check()
}

proctype reader() {
    byte next, before, first, last, at, copy, state, delivered, lost, pending, t;
    bool is_pending[TICKETS];
    do
    :: atomic { next < head && IS_LAPPED(next) -> lost = lost + head - SLOTS - next; next = head - SLOTS }
    :: next < head && !IS_LAPPED(next) ->
        slot_read(next);
        if
        :: state == FOUND -> deliver(next); next++
        :: atomic { state == OVERWRITTEN -> lost++; next++ }
        :: atomic { state == UNFINISHED && !IS_OVER -> skip } /* wait */
        :: atomic { state == UNFINISHED -> is_pending[next] = true; pending++; next++ } /* lose patience */
        fi;
        atomic { state = 0; first = 0; last = 0; at = 0 }
    :: atomic { IS_OVER && next == head -> break }
    od;

    atomic { /* nothing else runs any more */
    t = 0;
    do /* look again at what was stepped over */
    :: t < TICKETS && is_pending[t] ->
        slot_read(t);
        if
        :: state == FOUND -> is_pending[t] = false; pending--; deliver(t)
        :: state == OVERWRITTEN || (state == UNFINISHED && IS_LAPPED(t)) -> is_pending[t] = false; pending--; lost++
        :: else
        fi;
        t++
    :: t < TICKETS && !is_pending[t] -> t++
    :: else -> break
    od;
    assert(delivered + lost + pending == head);
    assert(has_crashed || (head == TICKETS && pending <= busy && lost + pending >= busy));

    t = (head > SLOTS -> head - SLOTS : 0);
    do /* recovery by another process: what had returned, and was not lapped, is there and whole */
    :: t < head ->
        slot_read(t);
        assert(!has_returned[t] || state == FOUND);
        if
        :: state == FOUND -> assert(first == last && first != 0); content_check()
        :: else
        fi;
        t++
    :: else -> break
    od;
    was_checked: skip
    }
}

init {
    atomic { run producer(0); run producer(1); run death(); run reader() }
}
