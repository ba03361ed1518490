"""What the exporter has in its hands: tickets read from the ring and not settled yet.

Batches are read in order but not always settled in order: while one waits for its collector, later ones go to the
spool, and of a batch in pieces some are settled before others. `acked` in the ring's header can only say "everything
below". What is known beyond it stands in the header's ranges, one for each batch that is open, and one for the settled
tickets between two of them: so whoever recovers the ring after a crash makes the same batches again, under the same
ids, and does not deliver again what lies in the spool already. When there are more ranges than places for them, the
later ones are not written: their spans would be delivered again, and found to be the same by their ids.

Exporter thread only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._api import BatchRange

if TYPE_CHECKING:
    from fasttrace.core._api import Batch, Ring

PLACES = 8


class _Held:
    """A range of tickets, how many of its spans are not settled, and its place in the header (-1: none)."""

    __slots__ = ("first_ticket", "left", "next_ticket", "place", "span_count", "start")

    def __init__(self, start: int, batch: Batch) -> None:
        self.start = start  # where the reader stood: tickets of lost spans come before the first that is there
        self.first_ticket = batch.first_ticket
        self.next_ticket = batch.next_ticket
        self.span_count = self.left = batch.count
        self.place = -1


class Hands:
    """The ranges beyond the acknowledged ticket of one ring."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._read_up_to = ring.shape.first_ticket
        self._held: list[_Held] = []
        self._free = list(range(PLACES))

    def take(self, batch: Batch) -> None:
        """A batch was read; its spans are to be settled one by one, or all at once."""
        held = _Held(self._read_up_to, batch)
        self._read_up_to = batch.next_ticket
        self._held.append(held)
        if batch.count:
            self._write(held)
        else:
            self._advance()

    def settle(self, first_ticket: int, count: int) -> None:
        """`count` spans of the batch that began with this ticket are sent, spooled, rejected or dropped. A batch that
        is not in the hands, as one that came from the spool, changes nothing."""
        for held in self._held:
            if held.left and held.first_ticket == first_ticket:
                held.left -= count
                if not held.left:
                    self._advance()
                return

    def _advance(self) -> None:
        """Acknowledge what is settled in order; write down what is settled beyond that."""
        is_moved = False
        while self._held and not self._held[0].left:
            done = self._held.pop(0)
            self._ring.acknowledge(done.next_ticket)
            self._forget(done)
            is_moved = True
        if not is_moved:
            self._merge()

    def _merge(self) -> None:
        """Neighbours that are settled become one: the earlier grows before the later goes."""
        at = 1
        while at < len(self._held):
            before, here = self._held[at - 1], self._held[at]
            if before.left or here.left:
                if not here.left:
                    self._write(here)
                at += 1
                continue
            before.next_ticket = here.next_ticket
            before.span_count += here.span_count
            self._write(before)
            self._forget(here)
            del self._held[at]

    def _write(self, held: _Held) -> None:
        if held.place < 0 and self._free:
            held.place = self._free.pop()
        if held.place >= 0:
            is_settled = not held.left
            kept = BatchRange(held.start, held.next_ticket, held.span_count, is_settled)
            self._ring.set_range(held.place, kept)

    def _forget(self, held: _Held) -> None:
        if held.place >= 0:
            self._ring.set_range(held.place, None)
            self._free.append(held.place)
            held.place = -1
