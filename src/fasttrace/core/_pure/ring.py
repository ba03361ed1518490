"""The ring, written from Python: the same file, the same protocol, the same bytes as csrc/src/ring.c.

A push takes a ticket and owns slot `ticket mod slots`. The slot's sequence word says who is in it: 2t+1 while ticket t
writes, 2t+2 when its record is whole. Content goes to the arena first; the record names it by position, length and
checksum, so that content overwritten since is recognised. A killed process leaves whole records and at most one odd
sequence per thread, and either core can recover the file.

Why this is right without a lock where there is a GIL: a thread gives the GIL away only at calls and backward jumps, and
between "is the slot free" and "it is mine", as between reading and raising a counter, there is neither: only subscripts
of a memoryview and forward jumps. Tickets come from one itertools.count, a single step. The three stores of a commit
(odd, record, even) are subscripts too, so no signal handler's exception can leave a slot half written. Without a GIL,
and before Python 3.11, which gave it away at forward jumps too, one re-entrant lock stands around the whole push: a
finaliser that records a span while its thread is pushing must not wait for itself.
"""

from __future__ import annotations

import sys
from _thread import RLock
from itertools import count
from typing import TYPE_CHECKING, Any
from zlib import crc32

from .._api import RingCounters
from . import layout
from .context import clock_monotonic_ns, fork_mark
from .inflight import table
from .layout import HALF64, MASK64, SLOT_WORDS
from .region import Region, keep_out_of_core_dumps, map_region

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from .._api import BatchRange, RingOwner, RingShape
    from .batch import Batch
    from .inflight import Tail

    Content = bytes | bytearray

IS_LOCK_FREE = sys.version_info >= (3, 11) and getattr(sys, "_is_gil_enabled", lambda: True)()
DROPPED, PUSHED, PUSHED_WAKE = 0, 1, 2
next_number = count(1).__next__  # of rings; copied by fork


def format_region(memory: mmap.mmap, words: memoryview, shape: RingShape, owner: RingOwner) -> None:
    """Write the header and empty the slots; `ready` comes last, a file without it was never used."""
    offsets = layout.offsets_of(shape)
    words[layout.READY] = 0
    memory[: layout.HEADER_BYTES] = bytes(layout.HEADER_BYTES)
    memory[offsets.inflight : offsets.slots] = bytes(offsets.slots - offsets.inflight)
    layout.HEADER.pack_into(
        memory,
        0,
        *(layout.MAGIC, layout.VERSION, layout.HEADER_BYTES, offsets.total, offsets.strtab, shape.strtab_bytes),
        *(offsets.inflight, shape.inflight, offsets.slots, shape.slots, offsets.arena, shape.arena_bytes),
        *(shape.first_ticket, owner.boot_id, owner.writer_id, owner.pid, owner.process_start, owner.created_unix_ns),
    )
    words[layout.HEAD] = words[layout.ACKED] = shape.first_ticket
    words[layout.STRTAB_USED] = layout.STRTAB_FIRST
    fresh = (2 * shape.first_ticket & MASK64).to_bytes(8, sys.byteorder)
    first_word = offsets.slots // 8
    sequences = words[first_word : first_word + shape.slots * SLOT_WORDS : SLOT_WORDS]
    sequences[:] = memoryview(fresh * shape.slots).cast("Q")
    words[layout.READY] = 1


class Ring(Region):
    """A process's ring: written by every thread, read by one.

    `push(values, content)` takes a record's values in the order of `layout.RECORD` and the tagged content, and returns
    DROPPED, PUSHED or PUSHED_WAKE (a quarter lap is full); a content length already set says that content was cut.
    `alive[0]` turns 0 in a fork child, which needs a ring of its own. `templates` is room for a call driver: values
    prepared once per kind of call, with the tails of its in-flight slots (plain, streamed), valid for this ring only.
    `enter` and `leave` are the in-flight table's (inflight.py); no other ring of this process, nor of the ones it was
    forked from, has the same `number`.
    """

    def __init__(self, fd: int, shape: RingShape, owner: RingOwner) -> None:
        memory = map_region(fd, layout.region_bytes(shape))
        format_region(memory, memoryview(memory).cast("Q"), shape, owner)
        super().__init__(memory, shape)
        keep_out_of_core_dumps(memory, self.offsets.arena, shape.arena_bytes)
        self.lock = None if IS_LOCK_FREE else RLock()
        self.alive = fork_mark()
        self.push = pusher(self)
        self.enter, self.leave = table(self)
        self.number = next_number()
        self.templates: dict[Any, tuple[list[int], tuple[Tail, Tail]]] = {}
        self._reader: Any = None

    # ---- the consumer: one thread ----

    def read(self, max_spans: int, max_bytes: int) -> Batch:
        """Copy what is committed, at most `max_spans` records and about `max_bytes` of content. One thread only."""
        return self.read_at(max_spans, max_bytes, clock_monotonic_ns())

    def read_at(self, max_spans: int, max_bytes: int, now_ns: int) -> Batch:
        """As `read`, at a given monotonic time."""
        if self._reader is None:
            from .reader import Reader  # with it comes all that only the exporter thread needs

            self._reader = Reader(self)
        batch: Batch = self._reader.read(max_spans, max_bytes, now_ns)
        return batch

    def acknowledge(self, next_ticket: int) -> None:
        """Every ticket below `next_ticket` is sent or spooled, but those that are pending: whoever recovers the file
        starts there, or at the oldest of them."""
        reader = self._reader
        self.words[layout.ACKED] = next_ticket if reader is None else reader.settled_up_to(next_ticket)

    def aborted(self) -> Batch:
        """The calls that are in the air now, as spans of status `aborted`; tickets from the head on. Any thread."""
        from .aborted import aborted_calls

        return aborted_calls(self, clock_monotonic_ns())

    def may_intern(self) -> bool:
        """A fork child must not write to its parent's string table."""
        return bool(self.alive[0])

    # ---- for whoever may have to recover the file: the consumer's thread ----

    def heartbeat(self) -> None:
        """A sign of life in the header: until then a call in the air had run for sure."""
        self.words[layout.ALIVE] = clock_monotonic_ns()

    def set_resource(self, resource: bytes) -> None:
        """JSON members that recovery gives each span; more than 2,048 bytes of them are left out."""
        self.words[layout.RESOURCE_LENGTH] = 0
        if len(resource) > layout.RESOURCE_MAX_BYTES:
            return
        self.memory[layout.RESOURCE_AT : layout.RESOURCE_AT + len(resource)] = resource
        self.words[layout.RESOURCE_LENGTH] = len(resource)

    def set_range(self, index: int, batch_range: BatchRange | None) -> None:
        """Write one of the header's ranges, or clear it for None. A death in between leaves the old, the new or none:
        where only the state differs nothing else is touched, and else there is no range while the rest is written."""
        if not 0 <= index < layout.RANGE_COUNT:
            raise IndexError(f"a ring has {layout.RANGE_COUNT} ranges, none of number {index}")
        words, at = self.words, layout.RANGES + index * layout.RANGE_WORDS
        if batch_range is None:
            words[at] = layout.RANGE_NONE
            return
        *tickets, is_settled = batch_range
        if not 0 <= min(tickets) <= max(tickets) <= MASK64:
            raise OverflowError(f"not a range of tickets: {batch_range}")
        if words[at + 1 : at + 4].tolist() != tickets:
            words[at] = layout.RANGE_NONE
            words[at + 1], words[at + 2], words[at + 3] = tickets
        words[at] = layout.RANGE_SETTLED if is_settled else layout.RANGE_OPEN

    def counters(self) -> RingCounters:
        """Where every ticket stands. Any thread."""
        words, first, reader = self.words, self.shape.first_ticket, self._reader
        return RingCounters(
            recorded=(words[layout.HEAD] - first) & MASK64,
            acknowledged=(words[layout.ACKED] - first) & MASK64,
            delivered=reader.delivered if reader else 0,
            lost=reader.lost if reader else 0,
            busy=words[layout.DROPPED_BUSY],
            pending=len(reader.pending) if reader else 0,
            content_lost=reader.content_lost if reader else 0,
            content_too_large=words[layout.DROPPED_CONTENT_TOO_LARGE],
            inflight_full=words[layout.DROPPED_INFLIGHT_FULL],
        )


def arena_writer(ring: Ring) -> Callable[[list[int], Content], None]:
    """Content to the arena; position, length and checksum to the record's values.

    Content of more than half the arena is not kept: one block must not push out everybody else's.
    """
    memory, words, size, base = ring.memory, ring.words, ring.shape.arena_bytes, ring.offsets.arena
    mask, end, arena_head = size - 1, base + size, layout.ARENA_HEAD
    position_at, length_at, crc_at = layout.CONTENT_POSITION, layout.CONTENT_LENGTH, layout.CONTENT_CRC

    def store(values: list[int], content: Content) -> None:
        length, was_cut = len(content), values[length_at]
        values[length_at] = 0
        if length > size // 2 or was_cut:
            words[layout.DROPPED_CONTENT_TOO_LARGE] += 1
        if length > size // 2 or not length:
            return
        crc = crc32(content)
        words[arena_head] = ((position := words[arena_head]) + ((length + 7) & -8)) & MASK64
        values[position_at], values[length_at], values[crc_at] = position, length, crc
        start = base + (position & mask)
        if start + length <= end:
            memory[start : start + length] = content
            return
        memory[start:end] = content[: end - start]
        memory[base : base + length - (end - start)] = content[end - start :]

    return store


def pusher(ring: Ring) -> Callable[[list[int], Content], int]:
    """The push of one ring. A closure, because its variables are found faster than attributes."""
    memory, words, store, pack = ring.memory, ring.words, arena_writer(ring), layout.RECORD.pack
    slot_mask, wake_mask = ring.shape.slots - 1, max(ring.shape.slots // 4, 1) - 1
    first_word, head_at, slot_words = ring.offsets.slots // 8, layout.HEAD, SLOT_WORDS
    length_at = layout.CONTENT_LENGTH
    take_ticket = count(ring.shape.first_ticket).__next__

    def push(values: list[int], content: Content) -> int:
        if content or values[length_at]:
            store(values, content)
        record = pack(*values)
        ticket = take_ticket()
        following = (ticket + 1) & MASK64
        if (following - words[head_at]) & MASK64 < HALF64:
            words[head_at] = following
        word = first_word + (ticket & slot_mask) * slot_words
        committed = following + following & MASK64
        sequence = words[word]
        if sequence & 1 or (committed - 2 - sequence) & MASK64 >= HALF64:
            words[layout.DROPPED_BUSY] += 1
            return DROPPED
        words[word] = (committed - 1) & MASK64
        memory[word * 8 + 8 : word * 8 + 256] = record
        words[word] = committed
        return PUSHED if following & wake_mask else PUSHED_WAKE

    if ring.lock is None:
        return push
    lock = ring.lock

    def push_locked(values: list[int], content: Content) -> int:
        with lock:
            return push(values, content)

    return push_locked
