"""Ring files as somebody who only looks sees them: whose they are, whether that process lives, what waits in them.

For commands. Only directories that hold rings are looked at: those of this user alone. A file that is named like a ring
is opened for reading, its header page and the states of its calls in the air are read once, and nothing of it is
changed. Whether its owner lives is asked of the lock that the owner holds, by trying a shared one for a moment; a file
that its owner may still be locking is left alone. What a header says is taken for granted only within bounds: it may be
damaged.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from fasttrace.core import _backing
from fasttrace.core._orphans import ASIDE, MAKING, NAME
from fasttrace.core._pure import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    # live: its owner holds it. dead: nobody does. held: somebody does, but its owner is not to be seen. new: being
    # made. unused: was never made to its end. newer: of a version that is not read here. unreadable: named like a ring,
    # held by nobody, and none. aside: recovery could not read it. foreign: not named like a ring, and not looked into.
    State = Literal["live", "dead", "held", "new", "unused", "newer", "unreadable", "aside", "foreign"]

OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
MAKING_MAX_S = 60.0


class RingCounts(NamedTuple):
    """What a header counts. recorded, acknowledged: spans so far. busy: spans dropped, the ring being full.
    content_too_large: spans whose content was dropped. inflight_full: calls that found no place in the in-flight table.
    in_flight: calls that are in the air."""

    recorded: int = 0
    acknowledged: int = 0
    busy: int = 0
    content_too_large: int = 0
    inflight_full: int = 0
    in_flight: int = 0


class RingFile(NamedTuple):
    """One file of a ring directory. waiting: spans that nobody has acknowledged yet. changed_s: when it was written
    last, as far as the system notes it; a mapped file may be younger."""

    path: str
    size: int
    state: State
    pid: int = 0
    writer: str = ""
    service: str = ""
    counts: RingCounts = RingCounts()
    waiting: int = 0
    changed_s: float = 0.0

    @property
    def recorded(self) -> int:
        return self.counts.recorded


class _Header(NamedTuple):
    pid: int
    process_start: int
    writer: str
    service: str
    counts: RingCounts
    waiting: int
    is_ready: bool
    inflight_at: int
    inflight: int


def directories(ring_dir: str | None) -> list[str]:
    """Where rings of this configuration may lie, as far as that exists and is this user's alone; FASTTRACE_RING_DIR
    keeps them apart."""
    if sys.platform == "win32":
        return []
    found = [place.directory for place in _backing.places(ring_dir)]
    return [path for path in (found[:1] if ring_dir else found) if _is_own(path)]


def _is_own(directory: str) -> bool:
    try:
        os.close(_backing.open_own_directory(directory))
    except OSError:
        return False
    return True


def ring_files(ring_dir: str | None) -> list[RingFile]:
    """Every file in those directories but this process's own, by path. A directory that cannot be read has none."""
    found: list[RingFile] = []
    for directory in directories(ring_dir):
        with suppress(OSError):
            found += _files_in(directory)
    return sorted(found)


def _files_in(directory: str) -> Iterator[RingFile]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.startswith(f"{os.getpid()}-"):
                with suppress(FileNotFoundError):
                    yield _ring_file(entry)


def _ring_file(entry: os.DirEntry[str]) -> RingFile:
    found = entry.stat(follow_symlinks=False)
    file = RingFile(entry.path, found.st_size, "foreign", changed_s=found.st_mtime)
    ring_name = entry.name.removesuffix(ASIDE)
    is_unfinished = bool(MAKING.fullmatch(entry.name))
    if not stat.S_ISREG(found.st_mode) or not (NAME.fullmatch(ring_name) or is_unfinished):
        return file
    if ring_name != entry.name:
        return file._replace(state="aside")
    if is_unfinished:
        return file._replace(state="new" if _is_young(file) else "unused")
    return _opened(file)


def _is_young(file: RingFile) -> bool:
    return time.time() - file.changed_s < MAKING_MAX_S


def _opened(file: RingFile) -> RingFile:
    try:
        fd = os.open(file.path, OPEN_FLAGS)
    except FileNotFoundError:
        raise
    except OSError:  # not ours to read, and so not ours to ask for its lock
        pid = _pid_in(file.path)
        return file._replace(state="held" if _backing.is_alive(pid) else "unreadable", pid=pid)
    try:
        return _read(file, fd)
    finally:
        os.close(fd)


def _read(file: RingFile, fd: int) -> RingFile:
    page = os.pread(fd, layout.HEADER_BYTES, 0)
    if _is_newer(page):
        return file._replace(state="newer", pid=_pid_in(file.path))
    header = _header(page, file.size)
    if _is_young(file) and (header is None or not header.is_ready):
        return file._replace(state="new")
    if header is None:
        return file._replace(state="unreadable" if _is_free(fd) else "held", pid=_pid_in(file.path))
    counts = header.counts._replace(in_flight=_in_flight(fd, header))
    state = _state(fd, header) if header.is_ready else "unused"
    known = file._replace(pid=header.pid, writer=header.writer, service=header.service, waiting=header.waiting)
    return known._replace(state=state, counts=counts)


def _pid_in(path: str) -> int:
    return int(os.path.basename(path).partition("-")[0])


def _is_newer(page: bytes) -> bool:
    return _word(page, 0) == layout.MAGIC and int.from_bytes(page[8:12], sys.byteorder) > layout.VERSION


def _header(page: bytes, file_bytes: int) -> _Header | None:
    """What the page says; None where it is not the header of a ring that is as long as this file."""
    if len(page) < layout.HEADER_BYTES:
        return None
    magic, version, _, region_bytes, *numbers, _boot, writer, pid, start, _ = layout.HEADER.unpack_from(page)
    if magic != layout.MAGIC or version != layout.VERSION or not 0 < region_bytes <= file_bytes:
        return None
    inflight_at, inflight, slots, first_ticket = numbers[2], numbers[3], numbers[5], numbers[8]
    waiting = (_word(page, layout.HEAD) - _word(page, layout.ACKED)) & layout.MASK64
    return _Header(
        pid=min(pid, 1 << 31),
        process_start=start,
        writer=writer.hex(),
        service=_service(page),
        counts=_counts(page, first_ticket),
        waiting=min(waiting, slots, layout.SLOTS_MAX),
        is_ready=bool(_word(page, layout.READY)),
        inflight_at=min(inflight_at, file_bytes),
        inflight=min(inflight, layout.INFLIGHT_MAX),
    )


def _counts(page: bytes, first_ticket: int) -> RingCounts:
    return RingCounts(
        recorded=(_word(page, layout.HEAD) - first_ticket) & layout.MASK64,
        acknowledged=(_word(page, layout.ACKED) - first_ticket) & layout.MASK64,
        busy=_word(page, layout.DROPPED_BUSY),
        content_too_large=_word(page, layout.DROPPED_CONTENT_TOO_LARGE),
        inflight_full=_word(page, layout.DROPPED_INFLIGHT_FULL),
    )


def _in_flight(fd: int, header: _Header) -> int:
    """Places of the in-flight table that are taken: those of an odd state. Not one moment's: calls come and go."""
    table = os.pread(fd, header.inflight * layout.INFLIGHT_SLOT_BYTES, header.inflight_at)
    low = 0 if sys.byteorder == "little" else 7
    return sum(state & 1 for state in table[low :: layout.INFLIGHT_SLOT_BYTES])


def _word(page: bytes, index: int) -> int:
    return int.from_bytes(page[8 * index : 8 * index + 8], sys.byteorder)


def _service(page: bytes) -> str:
    import json

    length = min(_word(page, layout.RESOURCE_LENGTH), layout.RESOURCE_MAX_BYTES)
    members = page[layout.RESOURCE_AT : layout.RESOURCE_AT + length]
    try:
        service = json.loads(b"{%s}" % members).get("service", "")
    except (ValueError, RecursionError):
        return ""
    return service if isinstance(service, str) else ""


def _state(fd: int, header: _Header) -> State:
    if _is_free(fd):
        return "dead"
    return "live" if _backing.is_alive(header.pid, header.process_start) else "held"


def _is_free(fd: int) -> bool:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True
