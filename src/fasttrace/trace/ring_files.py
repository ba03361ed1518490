"""Ring files as somebody who only looks sees them: whose they are, whether that process lives, what waits in them.

For commands. A file is opened for reading, its header page is read once, and nothing of it is changed. Whether its
owner lives is asked of the lock that the owner holds, by trying a shared one for a moment; a file that its owner may
still be locking is left alone. What a header says is taken for granted only within bounds: it may be damaged.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from fasttrace.core import _backing
from fasttrace.core._pure import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    # live: its owner holds it. dead: nobody does. held: somebody does, but its owner is not to be seen. new: being
    # made. unused: was never made to its end. foreign: not a ring.
    State = Literal["live", "dead", "held", "new", "unused", "foreign"]

OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
MAKING_MAX_S = 60.0


class RingFile(NamedTuple):
    """One file of a ring directory. recorded: spans so far; waiting: those that nobody has acknowledged yet."""

    path: str
    size: int
    state: State
    pid: int = 0
    writer: str = ""
    service: str = ""
    recorded: int = 0
    waiting: int = 0


class _Header(NamedTuple):
    pid: int
    process_start: int
    writer: str
    service: str
    recorded: int
    waiting: int
    is_ready: bool


def directories(ring_dir: str | None) -> list[str]:
    """Where rings of this configuration may lie, as far as that exists; FASTTRACE_RING_DIR keeps them apart."""
    if sys.platform == "win32":
        return []
    found = [place.directory for place in _backing._places(ring_dir)]
    return [path for path in (found[:1] if ring_dir else found) if os.path.isdir(path)]


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
                    yield _ring_file(entry.path)


def _ring_file(path: str) -> RingFile:
    try:
        fd = os.open(path, OPEN_FLAGS)
    except FileNotFoundError:
        raise
    except OSError:  # a link, or not ours to read
        return RingFile(path, 0, "foreign")
    try:
        return _opened(path, fd)
    finally:
        os.close(fd)


def _opened(path: str, fd: int) -> RingFile:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return RingFile(path, 0, "foreign")
    header = _header(os.pread(fd, layout.HEADER_BYTES, 0), status.st_size)
    is_young = time.time() - status.st_mtime < MAKING_MAX_S
    if ".ring" in os.path.basename(path) and is_young and (header is None or not header.is_ready):
        return RingFile(path, status.st_size, "new")
    if header is None:
        return RingFile(path, status.st_size, "foreign")
    state = _state(fd, header) if header.is_ready else "unused"
    return RingFile(
        path, status.st_size, state, header.pid, header.writer, header.service, header.recorded, header.waiting
    )


def _header(page: bytes, file_bytes: int) -> _Header | None:
    """What the page says; None where it is not the header of a ring that is as long as this file."""
    if len(page) < layout.HEADER_BYTES:
        return None
    magic, version, _, region_bytes, *numbers, _boot, writer, pid, start, _ = layout.HEADER.unpack_from(page)
    if magic != layout.MAGIC or version != layout.VERSION or not 0 < region_bytes <= file_bytes:
        return None
    slots = min(numbers[5], layout.SLOTS_MAX)
    recorded = (_word(page, layout.HEAD) - numbers[8]) & layout.MASK64
    waiting = (_word(page, layout.HEAD) - _word(page, layout.ACKED)) & layout.MASK64
    is_ready = bool(_word(page, layout.READY))
    return _Header(min(pid, 1 << 31), start, writer.hex(), _service(page), recorded, min(waiting, slots), is_ready)


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
    return "live" if _is_alive(header.pid, header.process_start) else "held"


def _is_alive(pid: int, start: int = 0) -> bool:
    """Whether a process is there, and is the one that began at `start` (0: unknown), not a later one of its number.
    True where the system cannot be asked."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's, so it is there
    present = _backing.process_start(pid)
    return not start or not present or present == start


def _is_free(fd: int) -> bool:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True
