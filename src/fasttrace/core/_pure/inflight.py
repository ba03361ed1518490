"""The in-flight table, written from Python: the Python half of csrc/src/inflight.c, whose header has the theory.

One slot per call from its start to its end, so that a process that is killed shows which calls it had in the air. The
free places are a list, because `pop` and `append` are one step for every thread, with the GIL and without. A slot's
words are stored by one `pack_into` while its state is even, then the state becomes odd; it becomes even again at the
end, before the place is free. Runs on the callers' threads.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from . import layout
from .layout import FIRST_STRING, KIND, RECORD_STRINGS, SERVER_PORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ring import Ring

    Identity = tuple[int, int, int, int, int]  # of a record: its first five values
    Tail = tuple[int, int]
    Enter = Callable[[Identity, int, Tail], int]
    Leave = Callable[[int], None]

SLOT_WORDS = layout.INFLIGHT_SLOT_BYTES // 8
NO_PLACE = -1
HEAD_AND_TAIL = Struct("4Qqq2Q")
TAIL = Struct("5HHBB2x")
TAIL_WORDS = Struct("2Q")
STRINGS_AT = tuple(FIRST_STRING + RECORD_STRINGS.index(name) for name in layout.INFLIGHT_STRINGS)


def tail_of(values: list[int], is_stream: bool) -> Tail:
    """What of a call's slot is the same for all calls of its kind, as the slot's two last words."""
    strings = [values[at] for at in STRINGS_AT]
    first, second = TAIL_WORDS.unpack(TAIL.pack(*strings, values[SERVER_PORT], values[KIND], is_stream))
    return first, second


def table(ring: Ring) -> tuple[Enter, Leave]:
    """`enter(identity, started_ns, tail)` shows a call in the air and gives its place, NO_PLACE where the table is full
    (counted) or the ring another process's. `leave(place)`: it is not in the air any more."""
    memory, words, alive, pack_into = ring.memory, ring.words, ring.alive, HEAD_AND_TAIL.pack_into
    first_word = ring.offsets.inflight // 8
    free = [first_word + slot * SLOT_WORDS for slot in reversed(range(ring.shape.inflight))]
    take, give = free.pop, free.append

    def enter(identity: Identity, started_ns: int, tail: Tail) -> int:
        if not alive[0]:
            return NO_PLACE
        try:
            place = take()
        except IndexError:
            words[layout.DROPPED_INFLIGHT_FULL] += 1
            return NO_PLACE
        try:
            trace_hi, trace_lo, span_id, parent, start_unix_ns = identity
            first, second = tail
            pack_into(
                memory, place * 8 + 8, trace_hi, trace_lo, span_id, parent, start_unix_ns, started_ns, first, second
            )
            words[place] += 1
        except BaseException:  # an interrupt: the caller will never know of the place
            words[place] += words[place] & 1
            give(place)
            raise
        return place

    def leave(place: int) -> None:
        if place >= 0 and alive[0]:
            words[place] += 1
            give(place)

    return enter, leave
