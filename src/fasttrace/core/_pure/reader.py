"""The reader of a ring: one thread, which waits for nobody and counts what it could not have.

A ticket's slot is in one of four states. Its record is whole: it is copied, and the sequence read again, because the
next lap may have come meanwhile. The slot belongs to a later ticket: the record is lost. It is being written, or its
push gave way: the reader waits for it for a while, then steps over it and looks again at every read, until it is
delivered or the next lap has buried it. So each ticket is delivered once, lost once, or still pending.

In a dead process's ring nothing that is unfinished will be finished: it is torn, at once. And nothing there is to be
believed: a record whose content could not stand in a line of JSON goes without it.
"""

from __future__ import annotations

import sys
from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

from . import layout
from .batch import Batch
from .json_valid import json_fields_are_valid
from .layout import FLAG_UNPRICED, HALF64, MASK64, SLOT_BYTES, SLOT_WORDS

if TYPE_CHECKING:
    from .region import Region

STEP_OVER_NS = 50_000_000
PENDING_TICKETS = 64
ENDING = Struct("=H20xQII")  # of a record: flags, and where its content is
ENDING_AT = 186
RECOVERED_ARENAS = 4  # of content are looked at in a dead process's ring, where all of it together is one
FLAGS_OF_WRITERS = layout.FLAG_STREAM | FLAG_UNPRICED | layout.FLAG_OTHER_TIER | layout.FLAG_OTHER_RATE
read_ending = ENDING.unpack_from


class Reader:
    """Position and counters of the one consumer."""

    def __init__(self, ring: Region, is_owner_dead: bool = False) -> None:
        self.ring = ring
        self.is_owner_dead = is_owner_dead
        self.next = ring.shape.first_ticket
        self.delivered = 0
        self.lost = 0
        self.content_lost = 0
        self.skipped = 0
        self.torn = 0
        self.pending: list[int] = []
        self._late: tuple[int, int] | None = None  # the oldest that was pending and is read; what acknowledges it
        self._stalled_since_ns: int | None = None
        self._words = ring.words
        self._memory = ring.memory
        self._first_word = ring.offsets.slots // 8
        self._slot_mask = ring.shape.slots - 1
        self._arena = ring.offsets.arena
        self._arena_bytes = ring.shape.arena_bytes
        self._content_left = RECOVERED_ARENAS * self._arena_bytes if is_owner_dead else None
        self._copy = self._copy_slot if ring.lock is None else self._copy_slot_locked

    def read(self, max_spans: int, max_bytes: int, now_ns: int, until_ticket: int | None = None) -> Batch:
        """Copy what is committed below one look at the head, or below a ticket before it. `now_ns` is monotonic."""
        batch = Batch(self.ring)
        head = self.ring.words[layout.HEAD]
        limit = head if until_ticket is None else self._limit_of(until_ticket, head)
        self._skip_lapped(head, limit)
        late = self._revisit(batch, head, max_spans, max_bytes)
        while self.next != limit and batch.count < max_spans and (batch.content_bytes < max_bytes or not batch.count):
            if not self._take(batch, self.next) and not self._step_over(now_ns):
                break
            self.next = (self.next + 1) & MASK64
            self._stalled_since_ns = None
        batch.next_ticket = self.next
        if late is not None:
            self._late = (late if self._late is None else earlier(late, self._late[0]), self.next)
        return batch

    def settled_up_to(self, next_ticket: int) -> int:
        """`next_ticket`, or the oldest ticket before it that is pending, or was and is in a batch that is read after:
        a SIGKILL may come while a stalled push still commits, or while its record is in hand."""
        if self._late is not None and (next_ticket - self._late[1]) & MASK64 < HALF64:
            self._late = None
        held = self.pending if self._late is None else (self._late[0], *self.pending)
        for ticket in held:
            next_ticket = earlier(next_ticket, ticket)
        return next_ticket

    def skip(self, next_ticket: int) -> None:
        """Pass over every ticket below this one, or the head where that is nearer."""
        limit = self._limit_of(next_ticket, self.ring.words[layout.HEAD])
        self.skipped += (limit - self.next) & MASK64
        self.next = limit

    def _limit_of(self, ticket: int, head: int) -> int:
        """The ticket, if it is between the next one and the head; else the nearer of the two."""
        if not 0 <= ticket <= MASK64:
            raise OverflowError(f"not a ticket: {ticket}")
        ahead = (ticket - self.next) & MASK64
        if ahead <= (head - self.next) & MASK64:
            return ticket
        return self.next if ahead >= HALF64 else head

    def _is_lapped(self, ticket: int, head: int) -> bool:
        return (head - ticket) & MASK64 > self.ring.shape.slots

    def _skip_lapped(self, head: int, limit: int) -> None:
        """More than a lap behind: what was in between has been overwritten."""
        if not self._is_lapped(self.next, head):
            return
        lapped = (head - self.ring.shape.slots - self.next) & MASK64
        passed = min(lapped, (limit - self.next) & MASK64)
        self.lost += passed
        self.next = (self.next + passed) & MASK64
        self._stalled_since_ns = None

    def _revisit(self, batch: Batch, head: int, max_spans: int, max_bytes: int) -> int | None:
        """The first ticket that was pending and is in the batch now, if any."""
        for ticket in self.pending[:]:
            if batch.count >= max_spans or (batch.count and batch.content_bytes >= max_bytes):
                break
            if self._take(batch, ticket):
                self.pending.remove(ticket)
            elif self._is_lapped(ticket, head):
                self.pending.remove(ticket)
                self.lost += 1
        return batch.tickets[0] if batch.count else None

    def _step_over(self, now_ns: int) -> bool:
        """May the reader go past the next, unfinished ticket? Not before it has been so for a while, unless its writer
        is dead."""
        if self.is_owner_dead:
            self.torn += 1
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
        word = self._first_word + (ticket & self._slot_mask) * SLOT_WORDS
        committed = 2 * ticket + 2 & MASK64
        sequence, record = self._copy(word)
        if sequence == committed and self._words[word] == committed:
            self._deliver(batch, ticket, record)
            return True
        if sequence != committed and (committed - sequence) & MASK64 <= HALF64:
            return False
        self.lost += 1
        return True

    def _copy_slot(self, word: int) -> tuple[int, bytes]:
        return self._words[word], self._memory[word * 8 + 8 : word * 8 + SLOT_BYTES]

    def _copy_slot_locked(self, word: int) -> tuple[int, bytes]:
        """Without a GIL nothing orders this thread's look at the slot but the writers' lock."""
        assert self.ring.lock is not None
        with self.ring.lock:
            return self._copy_slot(word)

    def _deliver(self, batch: Batch, ticket: int, record: bytes) -> None:
        flags, position, length, crc = read_ending(record, ENDING_AT)
        content = b""
        if self.is_owner_dead and flags & ~FLAGS_OF_WRITERS:
            record = with_flags(record, flags & FLAGS_OF_WRITERS)
        if length:
            found = self._content(position, length, crc)
            if found is None or (self.is_owner_dead and not json_fields_are_valid(found)):
                record = without_content(record)
                self.content_lost += 1
            else:
                content = found
        self.delivered += 1
        batch.add(ticket, record, content, flags & FLAG_UNPRICED != 0)

    def _content(self, position: int, length: int, crc: int) -> bytes | None:
        """A copy of a record's content, None when it has been overwritten or never was there."""
        size, base, memory = self._arena_bytes, self._arena, self._memory
        if position % 8 or length > size // 2 or not (length + 7) & -8 <= self._distance(position) <= size:
            return None
        if self._content_left is not None:
            if length > self._content_left:
                return None
            self._content_left -= length
        start = base + (position & size - 1)
        content = memory[start : start + length]
        if start + length > base + size:
            content = memory[start : base + size] + memory[base : start + length - size]
        return content if self._distance(position) <= size and crc32(content) == crc else None

    def _distance(self, position: int) -> int:
        """Bytes claimed since the block's own claim began."""
        return (self._words[layout.ARENA_HEAD] - position) & MASK64


def earlier(a: int, b: int) -> int:
    """Of two tickets."""
    return b if 0 < (a - b) & MASK64 < HALF64 else a


def with_flags(record: bytes, flags: int) -> bytes:
    return record[:ENDING_AT] + flags.to_bytes(2, sys.byteorder) + record[ENDING_AT + 2 :]


def without_content(record: bytes) -> bytes:
    """The record, saying that its content was lost."""
    values = list(layout.RECORD.unpack(record))
    values[layout.FLAGS] |= layout.FLAG_CONTENT_LOST
    values[layout.CONTENT_LENGTH] = 0
    return layout.RECORD.pack(*values)
