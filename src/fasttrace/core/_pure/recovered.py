"""A dead process's ring, read from a copy of its file: whoever wrote it may have been killed anywhere, or be anybody.

Nothing in it is believed; the rules are those of csrc/include/fasttrace/recovered.h, and so are the results. What only
recovery needs is imported when the first file is opened. Threads: one at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._api import BatchRange, RecoveredCounters
from . import layout
from .layout import MASK64, SLOT_WORDS
from .region import Region, map_region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .batch import Batch

SPAN_ID_AT = 1 + layout.SPAN_ID  # words of a slot: its sequence, then the record


class RecoveredRing(Region):
    """`data` is the whole file; ValueError that says why it is none, UnusedRing where nothing was ever recorded."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        from .._ring_file import fault_of, owner_of, shape_of

        fault = fault_of(data)
        if fault is not None:
            raise fault
        memory = map_region(-1, memoryview(data).nbytes)
        memory[:] = memoryview(data).cast("B")
        start = memory[: layout.HEADER_BYTES]
        super().__init__(memory, shape_of(start))
        self.owner = owner_of(start)
        self._repair_end_of_strtab()
        self._open()

    def _open(self) -> None:
        from .reader import Reader

        self._reader = Reader(self, is_owner_dead=True)
        self.head = self.words[layout.HEAD]
        self.acknowledged = self._reader.next = self._first_unsettled()
        self.ranges = self._sound_ranges()
        self.resource = self._sound_resource()
        self._aborted = 0

    def _repair_end_of_strtab(self) -> None:
        """A price version may be added to the copy's table: its end must be one."""
        used, limit = self.words[layout.STRTAB_USED], self.shape.strtab_bytes
        end = (used + 7) & -8 if used < limit else limit
        self.words[layout.STRTAB_USED] = max(end, layout.STRTAB_FIRST)

    def _first_unsettled(self) -> int:
        """The acknowledged ticket, or the oldest of the last lap where that one is not to be believed."""
        acknowledged, first = self.words[layout.ACKED], self.shape.first_ticket
        if (acknowledged - first) & MASK64 <= (self.head - first) & MASK64:
            return acknowledged
        is_lapped = (self.head - first) & MASK64 > self.shape.slots
        return (self.head - self.shape.slots) & MASK64 if is_lapped else first

    # ---- ranges and resource ----

    def _sound_ranges(self) -> list[BatchRange]:
        """Those that do not overlap one before them in the header, by first ticket."""
        taken: list[tuple[int, int, BatchRange]] = []
        for start, end, found in self._stored_ranges():
            if all(end <= other_start or other_end <= start for other_start, other_end, _ in taken):
                taken.append((start, end, found))
        return [found for *_, found in sorted(taken)]

    def _stored_ranges(self) -> Iterator[tuple[int, int, BatchRange]]:
        """Sound ones, each with its start and end counted from the acknowledged ticket. An open one is made again from
        the slots, so it has at most a lap; a settled one grows without a bound while a batch before it waits."""
        limit = (self.head - self.acknowledged) & MASK64
        for at in range(layout.RANGES, layout.RANGES + layout.RANGE_COUNT * layout.RANGE_WORDS, layout.RANGE_WORDS):
            state, first, following, spans = self.words[at : at + layout.RANGE_WORDS]
            start, tickets = (first - self.acknowledged) & MASK64, (following - first) & MASK64
            is_settled = state == layout.RANGE_SETTLED
            is_known = is_settled or (state == layout.RANGE_OPEN and tickets <= self.shape.slots)
            if is_known and tickets and start + tickets <= limit and spans <= tickets:
                yield start, start + tickets, BatchRange(first, following, spans, is_settled)

    def _sound_resource(self) -> bytes:
        from .._ring_file import sound_resource
        from .json_valid import json_is_valid

        length = self.words[layout.RESOURCE_LENGTH]
        if length > layout.RESOURCE_MAX_BYTES:
            return b""
        members = self.memory[layout.RESOURCE_AT : layout.RESOURCE_AT + length]
        is_json = members[:1] == b'"' and json_is_valid(b"{%b}" % members, dict)
        return sound_resource(members) if is_json else b""

    # ---- spans ----

    def read(self, max_spans: int, max_bytes: int, until_ticket: int | None = None) -> Batch:
        """The next whole spans below `until_ticket`, else the head; nothing unfinished is waited for."""
        return self._reader.read(max_spans, max_bytes, 0, self.head if until_ticket is None else until_ticket)

    def skip(self, next_ticket: int) -> None:
        """Go on from this ticket: what is before it was settled by the owner."""
        self._reader.skip(next_ticket)

    def counters(self) -> RecoveredCounters:
        """Where the tickets from `acknowledged` on stand."""
        reader = self._reader
        return RecoveredCounters(
            reader.delivered, reader.skipped, reader.lost, reader.torn, self._aborted, reader.content_lost
        )

    # ---- calls in the air ----

    def aborted(self) -> Batch:
        """The calls that were in the air, as spans of status `aborted`; tickets from the head on."""
        from .aborted import START_NS, aborted_calls, calls_in_the_air

        last_ns = max([self._alive_ns(), *(call[START_NS] for call in calls_in_the_air(self))])
        batch = aborted_calls(self, last_ns, self._ids_of_slots())
        self._aborted = batch.count
        return batch

    def _alive_ns(self) -> int:
        unsigned: int = self.words[layout.ALIVE]
        return unsigned - (MASK64 + 1) if unsigned >= layout.HALF64 else unsigned

    def _ids_of_slots(self) -> set[int]:
        """Whole records, of whatever lap: an even sequence that a ticket left."""
        first, end = self.offsets.slots // 8, self.offsets.slots // 8 + self.shape.slots * SLOT_WORDS
        fresh = 2 * self.shape.first_ticket & MASK64
        sequences, ids = self.words[first:end:SLOT_WORDS], self.words[first + SPAN_ID_AT : end : SLOT_WORDS]
        return {
            span_id for sequence, span_id in zip(sequences, ids, strict=True) if not sequence & 1 and sequence != fresh
        }
