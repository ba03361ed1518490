"""What the ring's header says of the batches in the exporter's hands, held against a model of every ticket."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from fasttrace.core._api import BatchRange, RingShape
from fasttrace.trace.hands import PLACES, Hands


class Read(NamedTuple):
    """What a read gave: the tickets that hold spans, and where the reader stands now."""

    tickets: tuple[int, ...]
    next_ticket: int

    @property
    def count(self) -> int:
        return len(self.tickets)

    @property
    def first_ticket(self) -> int:
        return self.tickets[0] if self.tickets else 0


class Header:
    """The part of a ring that Hands writes to, checked at every write as if the process died there."""

    def __init__(self) -> None:
        self.shape = RingShape()
        self.acknowledged = 0
        self.places: list[BatchRange | None] = [None] * PLACES
        self.settled: set[int] = set()  # tickets whose spans are safe
        self.read: set[int] = set()

    def acknowledge(self, next_ticket: int) -> None:
        assert next_ticket >= self.acknowledged
        self.acknowledged = next_ticket
        self.check()

    def set_range(self, index: int, batch_range: BatchRange | None) -> None:
        self.places[index] = batch_range
        self.check()

    def check(self) -> None:
        """Whoever recovers here passes over nothing that is not safe."""
        assert {ticket for ticket in self.read if ticket < self.acknowledged} <= self.settled
        for held in self.places:
            if held is not None and held.is_settled:
                assert {t for t in self.read if held.first_ticket <= t < held.next_ticket} <= self.settled

    def ranges(self) -> list[BatchRange]:
        held = (held for held in self.places if held is not None and held.next_ticket > self.acknowledged)
        return sorted(held)


def hands() -> tuple[Hands, Header]:
    header = Header()
    return Hands(header), header  # type: ignore[arg-type]


def take(mine: Hands, header: Header, first: int, count: int) -> Read:
    read = Read(tuple(range(first, first + count)), first + count)
    header.read |= set(read.tickets)
    mine.take(read)  # type: ignore[arg-type]
    return read


def settle(mine: Hands, header: Header, read: Read, count: int | None = None, done: int = 0) -> None:
    count = read.count - done if count is None else count
    header.settled |= set(read.tickets[done : done + count])
    mine.settle(read.first_ticket, count)


def test_what_is_settled_in_order_is_acknowledged_and_leaves_no_range() -> None:
    mine, header = hands()
    for first in range(0, 100, 10):
        settle(mine, header, take(mine, header, first, 10))
        assert (header.acknowledged, header.ranges()) == (first + 10, [])


def test_a_batch_that_waits_keeps_what_was_settled_after_it_in_one_range() -> None:
    mine, header = hands()
    waiting = take(mine, header, 0, 5)
    for first in range(5, 500, 5):
        settle(mine, header, take(mine, header, first, 5))
    assert header.acknowledged == 0
    assert header.ranges() == [BatchRange(0, 5, 5, False), BatchRange(5, 500, 495, True)]
    settle(mine, header, waiting)
    assert (header.acknowledged, header.ranges()) == (500, [])


def test_a_batch_in_pieces_is_open_until_its_last_piece() -> None:
    mine, header = hands()
    read = take(mine, header, 0, 10)
    settle(mine, header, read, 4)
    assert (header.acknowledged, header.ranges()) == (0, [BatchRange(0, 10, 10, False)])
    settle(mine, header, read, 6, done=4)
    assert (header.acknowledged, header.ranges()) == (10, [])


def test_tickets_without_spans_are_passed() -> None:
    mine, header = hands()
    mine.take(Read((), 7))  # type: ignore[arg-type]
    assert header.acknowledged == 7
    read = Read((8, 9), 12)
    header.read |= {8, 9}
    mine.take(read)  # type: ignore[arg-type]
    assert header.ranges() == [BatchRange(7, 12, 2, False)]


def test_a_batch_that_is_not_in_the_hands_changes_nothing() -> None:
    mine, header = hands()
    take(mine, header, 0, 5)
    mine.settle(77, 5)
    assert header.ranges() == [BatchRange(0, 5, 5, False)]


def test_more_batches_than_places_are_settled_all_the_same() -> None:
    mine, header = hands()
    reads = [take(mine, header, first, 1) for first in range(3 * PLACES)]
    assert len(header.ranges()) == PLACES
    for read in reversed(reads):
        settle(mine, header, read)
    assert (header.acknowledged, header.ranges()) == (3 * PLACES, [])


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_the_header_says_what_is_true(seed: int) -> None:
    """At every write to the header, as if the process died right after it (Header.check)."""
    chance = random.Random(seed)
    mine, header = hands()
    held: list[tuple[Read, int]] = []
    next_ticket = 0
    for _ in range(400):
        if chance.random() < 0.5 and len(held) < 12:
            read = take(mine, header, next_ticket, chance.choice((0, 1, 3, 10)))
            next_ticket = read.next_ticket
            held += [(read, 0)] if read.count else []
        elif held:
            read, done = held.pop(chance.randrange(len(held)))
            count = chance.randint(1, read.count - done)
            settle(mine, header, read, count, done)
            if done + count < read.count:
                held.append((read, done + count))
    for read, done in held:
        settle(mine, header, read, done=done)
    assert (header.acknowledged, header.ranges()) == (next_ticket, [])
