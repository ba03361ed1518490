"""What a span is known by: ids, the identity that children inherit, the clocks, and the mark that shows a fork.

Random ids come from the operating system's generator, 512 at a time: reading it for every id would cost half a
microsecond. They are kept in a list because `list.pop` is one step for every thread, with the GIL and without; so is
counting by `itertools.count`. All of it runs on the callers' threads.
"""

from __future__ import annotations

import mmap
import os
import sys
from itertools import count
from struct import unpack
from time import monotonic_ns as clock_monotonic_ns
from time import time_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Mark = bytearray | mmap.mmap

__all__ = ["SpanContext", "clock_monotonic_ns", "clock_unix_ns", "fork_mark", "new_context"]

IDS_AT_ONCE = 512
MADV_WIPEONFORK = 18  # Linux's; the mmap module has no name for it

_marks: list[bytearray] = []


def _wipe_marks() -> None:
    for mark in _marks:
        mark[0] = 0


def fork_mark() -> Mark:
    """One byte, 1 here and 0 in every fork child, even of a fork that Python does not know of, where the kernel wipes
    it; elsewhere 0 after `os.fork`."""
    if sys.platform == "linux":
        page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            page.madvise(MADV_WIPEONFORK)
        except OSError:
            page.close()  # a kernel before 4.14
        else:
            page[0] = 1
            return page
    if not _marks and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_wipe_marks)
    mark = bytearray(b"\1")
    _marks.append(mark)
    return mark


def clock_unix_ns() -> int:
    """Wall clock, nanoseconds since the epoch, to the microsecond."""
    return time_ns() // 1000 * 1000


class _Ids:
    """The ids of one process. A batch is sent compressed, and random digits are what cannot be: a trace id is 64 bits
    of its process and 64 of its own, span ids count up from a random start (see csrc/include/fasttrace/ids.h)."""

    __slots__ = ("_random", "next_span", "trace_high")

    def __init__(self) -> None:
        high, start = unpack("2Q", os.urandom(16))
        self.trace_high = high or 1
        self.next_span = count(start >> 2 or 1).__next__  # from below 2^62: counting is quickest, and never at its end
        self._random: list[int] = []

    def next_random(self) -> int:
        """Never zero: W3C calls an all-zero id invalid."""
        try:
            return self._random.pop() or self.next_random()
        except IndexError:
            self._random.extend(unpack(f"{IDS_AT_ONCE}Q", os.urandom(8 * IDS_AT_ONCE)))
            return self.next_random()


_ids = _Ids()
_ids_mark = fork_mark()


def _ids_of_child() -> _Ids:
    """Ids of this process's own, and not of the one that it was forked from."""
    global _ids
    _ids = _Ids()
    _ids_mark[0] = 1
    return _ids


class SpanContext:
    """Identity of a span, and what children and retries need of it. Immutable but for the two counts."""

    __slots__ = ("attempts", "id", "parent", "retries", "trace_hi", "trace_lo")

    def __init__(self, trace_hi: int, trace_lo: int, span_id: int, parent: int) -> None:
        self.trace_hi = trace_hi
        self.trace_lo = trace_lo
        self.id = span_id
        self.parent = parent
        self.retries = self.attempts = 0

    @property
    def trace_id(self) -> str:
        """W3C trace id, 32 lower-case hex digits."""
        return f"{self.trace_hi:016x}{self.trace_lo:016x}"

    @property
    def span_id(self) -> str:
        """W3C span id, 16 lower-case hex digits."""
        return f"{self.id:016x}"

    @property
    def parent_span_id(self) -> str | None:
        """The parent's span id, None on a root."""
        return f"{self.parent:016x}" if self.parent else None

    def __repr__(self) -> str:
        return f"<SpanContext {self.trace_id}:{self.span_id}>"


def new_context(parent: object) -> SpanContext:
    """A child of `parent`, or a new root where that is not a context."""
    ids = _ids if _ids_mark[0] else _ids_of_child()
    if type(parent) is SpanContext:
        return SpanContext(parent.trace_hi, parent.trace_lo, ids.next_span(), parent.id)
    return SpanContext(ids.trace_high, ids.next_random(), ids.next_span(), 0)
