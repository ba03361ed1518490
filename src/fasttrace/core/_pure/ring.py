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

import errno
import mmap
import sys
from _thread import RLock
from itertools import count
from typing import TYPE_CHECKING, Any
from zlib import crc32

from .._api import RingCounters, RingOwner, RingShape
from .._text import redacted
from . import layout
from .context import clock_monotonic_ns, fork_mark
from .layout import HALF64, MASK64, SLOT_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from .batch import Batch
    from .ndjson import Writer

    Content = bytes | bytearray

IS_LOCK_FREE = sys.version_info >= (3, 11) and getattr(sys, "_is_gil_enabled", lambda: True)()
DROPPED, PUSHED, PUSHED_WAKE = 0, 1, 2
REMEMBERED_TEXTS = 4096
REMEMBERED_TEXT_CHARACTERS = 256


def map_region(fd: int, size: int) -> mmap.mmap:
    """Map the file, or anonymous memory of this process alone for fd -1, populated: a push must not wait for pages.

    Raises OSError, also for a file that is shorter than `size`.
    """
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    flags = mmap.MAP_SHARED if fd >= 0 else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        return mmap.mmap(fd, size, flags | getattr(mmap, "MAP_POPULATE", 0))
    except ValueError as error:
        raise OSError(errno.EINVAL, f"ring file: {error}") from error


def keep_out_of_core_dumps(memory: mmap.mmap, start: int, length: int) -> None:
    """Content may be what users typed. Best effort: not every system has a word for it."""
    advice = getattr(mmap, "MADV_DONTDUMP", None)
    if advice is None or start % mmap.PAGESIZE or length % mmap.PAGESIZE:
        return
    memory.madvise(advice, start, length)


def format_region(memory: mmap.mmap, words: memoryview, shape: RingShape, owner: RingOwner) -> layout.Offsets:
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
    return offsets


class Ring:
    """A process's ring: written by every thread, read by one.

    `push(values, content)` takes a record's values in the order of `layout.RECORD` and the tagged content, and returns
    DROPPED, PUSHED or PUSHED_WAKE (a quarter lap is full); a content length already set says that content was cut.
    `alive[0]` turns 0 in a fork child, which needs a ring of its own. `index_of[which][text]` are the string table
    indices found so far; ask `index()` for one that is not there, and `text_of[index]` for the string (clipped) that an
    index of this process stands for; `is_full` once a string found no room. `templates` is room for a call driver:
    values prepared once per kind of call, valid for this ring only.
    """

    def __init__(self, fd: int, shape: RingShape, owner: RingOwner) -> None:
        self.shape = shape
        size = layout.region_bytes(shape)
        self.memory = map_region(fd, size)
        self.words = memoryview(self.memory).cast("Q")
        self.offsets = format_region(self.memory, self.words, shape, owner)
        keep_out_of_core_dumps(self.memory, self.offsets.arena, shape.arena_bytes)
        self.lock = None if IS_LOCK_FREE else RLock()
        self.alive = fork_mark()
        self.push = pusher(self)
        self.index_of: tuple[dict[str, int], ...] = tuple({} for _ in layout.RECORD_STRINGS)
        self.templates: dict[Any, list[int]] = {}
        self.text_of: dict[int, str] = {}
        self.is_full = False
        self._entries: dict[bytes, int] = {}
        self._reader: Any = None
        self._writer: Any = None

    # ---- the string table ----

    def index(self, which: int, text: str) -> int:
        """Index of a record string (position in `layout.RECORD_STRINGS`), rid of secrets and clipped; 0 if empty or the
        table is full."""
        known = self.index_of[which].get(text)
        if known is not None:
            return known
        index = self.intern(redacted(text, layout.CLIP_BYTES[layout.RECORD_STRINGS[which]]))
        self._remember(self.index_of[which], text, index)
        return index

    def _remember(self, known: dict[str, int], text: str, index: int) -> None:
        """Bounded: names made up per call must not pile up here, and a full table is asked again."""
        if index == 0 or len(text) > REMEMBERED_TEXT_CHARACTERS:
            return
        if len(known) >= REMEMBERED_TEXTS:
            known.clear()
        known[text] = index

    def intern(self, text: bytes) -> int:
        """Index of the string in the table, added if new; 0 if it is empty or the table is full."""
        index = self._entries.get(text)
        if index is not None:
            return index
        if self.lock is None:
            return self._append(text)
        with self.lock:
            return self._append(text)

    def _append(self, text: bytes) -> int:
        size, limit = (len(text) + 2 + 7) & -8, self.shape.strtab_bytes
        if not 0 < len(text) <= layout.STRTAB_TEXT_MAX_BYTES:
            return 0
        if (used := self.words[layout.STRTAB_USED]) + size > limit:
            self.is_full = True
            return 0
        self.words[layout.STRTAB_USED] = used + size
        at = self.offsets.strtab + used
        self.memory[at : at + 2 + len(text)] = len(text).to_bytes(2, sys.byteorder) + text
        self.text_of[used // 8] = text.decode("utf-8", "replace")
        self._entries[text] = used // 8
        return used // 8

    def string(self, index: int) -> bytes | None:
        """The string behind an index, None for an index that is not one."""
        at = index * 8
        used = min(self.words[layout.STRTAB_USED], self.shape.strtab_bytes)
        if not 8 <= at <= used - 8:
            return None
        at += self.offsets.strtab
        length = int.from_bytes(self.memory[at : at + 2], sys.byteorder)
        if not 0 < length <= layout.STRTAB_TEXT_MAX_BYTES or at + 2 + length > self.offsets.strtab + used:
            return None
        return self.memory[at + 2 : at + 2 + length]

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

    @property
    def writer(self) -> Writer:
        """What writes this ring's spans as NDJSON, kept for what it has learnt."""
        if self._writer is None:
            from .ndjson import Writer

            self._writer = Writer(self)
        writer: Writer = self._writer
        return writer

    def acknowledge(self, next_ticket: int) -> None:
        """Every ticket below `next_ticket` is sent or spooled: whoever recovers the file starts there."""
        self.words[layout.ACKED] = next_ticket

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
