"""The reader of a ring: one thread, which waits for nobody and counts what it could not have.

A ticket's slot is in one of four states. Its record is whole: it is copied, and the sequence read again, because the
next lap may have come meanwhile. The slot belongs to a later ticket: the record is lost. It is being written, or its
push gave way: the reader waits for it for a while, then steps over it and looks again at every read, until it is
delivered or the next lap has buried it. So each ticket is delivered once, lost once, or still pending.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING
from zlib import crc32

from . import layout
from .layout import HALF64, MASK64, SLOT_WORDS
from .ndjson import Batch

if TYPE_CHECKING:
    from .ring import Ring

STEP_OVER_NS = 50_000_000
PENDING_TICKETS = 64


class Reader:
    """Position and counters of the one consumer."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.next = ring.shape.first_ticket
        self.delivered = 0
        self.lost = 0
        self.content_lost = 0
        self.pending: list[int] = []
        self._stalled_since_ns: int | None = None
        self._guard = ring.lock or nullcontext()

    def read(self, max_spans: int, max_bytes: int, now_ns: int) -> Batch:
        """Copy what is committed below one look at the head. `now_ns` is monotonic."""
        batch = Batch(self.ring, max_spans, max_bytes)
        head = self.ring.words[layout.HEAD]
        self._skip_lapped(head)
        self._revisit(batch, head)
        while self.next != head and not batch.is_full() and self._pass(batch, now_ns):
            self.next = (self.next + 1) & MASK64
            self._stalled_since_ns = None
        batch.next_ticket = self.next
        return batch

    def _is_lapped(self, ticket: int, head: int) -> bool:
        return (head - ticket) & MASK64 > self.ring.shape.slots

    def _skip_lapped(self, head: int) -> None:
        """More than a lap behind: what was in between has been overwritten."""
        if not self._is_lapped(self.next, head):
            return
        oldest = (head - self.ring.shape.slots) & MASK64
        self.lost += (oldest - self.next) & MASK64
        self.next = oldest
        self._stalled_since_ns = None

    def _revisit(self, batch: Batch, head: int) -> None:
        for ticket in self.pending[:]:
            if batch.is_full():
                return
            if self._take(batch, ticket):
                self.pending.remove(ticket)
            elif self._is_lapped(ticket, head):
                self.pending.remove(ticket)
                self.lost += 1

    def _pass(self, batch: Batch, now_ns: int) -> bool:
        """May the reader go past the next ticket? Not past an unfinished one before it has been so for a while."""
        if self._take(batch, self.next):
            return True
        if self._stalled_since_ns is None:
            self._stalled_since_ns = now_ns
        if now_ns - self._stalled_since_ns < STEP_OVER_NS:
            return False
        self._add_pending(self.next)
        return True

    def _add_pending(self, ticket: int) -> None:
        """When the list is full the oldest is given up."""
        if len(self.pending) == PENDING_TICKETS:
            self.pending.pop(0)
            self.lost += 1
        self.pending.append(ticket)

    def _take(self, batch: Batch, ticket: int) -> bool:
        """Deliver the ticket or count it as lost; false while its slot is unfinished."""
        word = self.ring.offsets.slots // 8 + (ticket & self.ring.shape.slots - 1) * SLOT_WORDS
        committed = 2 * ticket + 2 & MASK64
        with self._guard:
            sequence = self.ring.words[word]
            record = self.ring.memory[word * 8 + 8 : word * 8 + layout.SLOT_BYTES]
            is_whole = sequence == committed and self.ring.words[word] == committed
        if is_whole:
            self._deliver(batch, ticket, list(layout.RECORD.unpack(record)))
            return True
        if sequence != committed and (committed - sequence) & MASK64 < HALF64:
            return False
        self.lost += 1
        return True

    def _deliver(self, batch: Batch, ticket: int, values: list[int]) -> None:
        content = self._content(values) if values[layout.CONTENT_LENGTH] else b""
        if content is None:
            values[layout.FLAGS] |= layout.FLAG_CONTENT_LOST
            values[layout.CONTENT_LENGTH] = 0
            self.content_lost += 1
        batch.add(ticket, values, content or b"")
        self.delivered += 1

    def _content(self, values: list[int]) -> bytes | None:
        """A copy of the record's content, None when it has been overwritten or never was there."""
        position, length = values[layout.CONTENT_POSITION], values[layout.CONTENT_LENGTH]
        size, base, memory = self.ring.shape.arena_bytes, self.ring.offsets.arena, self.ring.memory
        rounded = (length + 7) & -8
        if position % 8 or length > size // 2 or not rounded <= self._distance(position) <= size:
            return None
        start = position & size - 1
        content = memory[base + start : base + min(start + length, size)]
        if start + length > size:
            content += memory[base : base + start + length - size]
        is_intact = self._distance(position) <= size and crc32(content) == values[layout.CONTENT_CRC]
        return content if is_intact else None

    def _distance(self, position: int) -> int:
        """Bytes claimed since the block's own claim began."""
        return (self.ring.words[layout.ARENA_HEAD] - position) & MASK64
