"""A ring's memory, and what its owner and whoever recovers it have in common: the string table, the writer of lines.

The string table is append-only. Threads: whoever may push interns; everybody may ask for a string.
"""

from __future__ import annotations

import errno
import mmap
import sys
from typing import TYPE_CHECKING, Any

from .._text import clean
from . import layout

if TYPE_CHECKING:
    from _thread import RLock

    from .._api import RingShape
    from .ndjson import Writer

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


class Region:
    """Formatted memory of one ring.

    `index_of[which][text]` are the string table indices found so far; ask `index()` for one that is not there, and
    `text_of[index]` for the string (clipped) that an index of this process stands for; `is_full` once a string found no
    room. lock: None where nothing else can happen between two subscripts.
    """

    def __init__(self, memory: mmap.mmap, shape: RingShape) -> None:
        self.shape = shape
        self.memory = memory
        self.words = memoryview(memory).cast("Q")
        self.offsets = layout.offsets_of(shape)
        self.lock: RLock | None = None
        self.index_of: tuple[dict[str, int], ...] = tuple({} for _ in layout.RECORD_STRINGS)
        self.text_of: dict[int, str] = {}
        self.is_full = False
        self._entries: dict[bytes, int] = {}
        self._writer: Any = None

    def index(self, which: int, text: str) -> int:
        """Index of a record string (position in `layout.RECORD_STRINGS`), clipped; 0 if empty or the table is full."""
        known = self.index_of[which].get(text)
        if known is not None:
            return known
        index = self.intern(clean(text, layout.CLIP_BYTES[layout.RECORD_STRINGS[which]]))
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
        if not 0 < len(text) <= layout.STRTAB_TEXT_MAX_BYTES or not self.may_intern():
            return 0
        if (used := self.words[layout.STRTAB_USED]) + size > limit:  # from here to the store: no call
            self.is_full = True
            return 0
        self.words[layout.STRTAB_USED] = used + size
        at = self.offsets.strtab + used
        self.memory[at : at + 2 + len(text)] = len(text).to_bytes(2, sys.byteorder) + text
        self.text_of[used // 8] = text.decode("utf-8", "replace")
        self._entries[text] = used // 8
        return used // 8

    def may_intern(self) -> bool:
        """Whether the table is this process's to write to: a copy is."""
        return True

    def string(self, index: int) -> bytes | None:
        """The string behind an index, None for an index that is not one."""
        at = index * 8
        used = min(self.words[layout.STRTAB_USED], self.shape.strtab_bytes)
        if not index or at + 2 > used:
            return None
        at += self.offsets.strtab
        length = int.from_bytes(self.memory[at : at + 2], sys.byteorder)
        if not 0 < length <= layout.STRTAB_TEXT_MAX_BYTES or at + 2 + length > self.offsets.strtab + used:
            return None
        return self.memory[at + 2 : at + 2 + length]

    @property
    def writer(self) -> Writer:
        """What writes this ring's spans as NDJSON, kept for what it has learnt."""
        if self._writer is None:
            from .ndjson import Writer

            self._writer = Writer(self)
        writer: Writer = self._writer
        return writer
