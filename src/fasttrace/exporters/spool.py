"""The spool: batches that could not be delivered, one file each, in a directory that several processes share.

    spool/<created ns>-<writer>-<first ticket[+line]>-<count>-<crc32>.ndjson[.zst|.gz]     a segment
    spool/.<segment>.<pid>.tmp                   being written
    spool/<segment>.sending-<pid>                claimed by a process that is sending it
    spool/corrupt/<segment>                      its bytes are not what was written
    spool/rejected/<ns>-<writer>.ndjson          lines the collector will never take, with the reason

A segment is written under a temporary name, fsynced and renamed, and its directory fsynced: it is whole or it is not
there. Its name carries all that is needed to send the very same request again, and the checksum of its bytes. A claim
is a rename, which only one process can win; the claim of a process that died is undone. Names sort by age, so replay is
oldest first, and a spool that is full loses its oldest. Directories are 0700, files 0600 and never opened through a
link.

One instance belongs to one thread (the exporter's); processes need no lock among them.
"""

from __future__ import annotations

import os
import re
import sys
import time
import zlib
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from fasttrace.errors import report
from fasttrace.exporters.base import EncodedBatch
from fasttrace.exporters.directory import make_private, open_private, sync

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIXES = {"zstd": ".ndjson.zst", "gzip": ".ndjson.gz", "none": ".ndjson"}
NAME = re.compile(
    r"(?P<created>\d{20})-(?P<writer>[0-9a-f]{32})-(?P<first>\d{1,20}(?:\+\d{1,9})?)-(?P<count>\d{1,9})"
    r"-(?P<crc>[0-9a-f]{8})(?P<suffix>\.ndjson(?:\.zst|\.gz)?)"
)
CLAIM = re.compile(NAME.pattern + r"\.sending-(?P<pid>\d+)")
TEMPORARY = re.compile(r"\..*\.(?P<pid>\d+)\.tmp")
CLAIM_MAX_AGE_S = 900.0
SEGMENT_MAX_BYTES = 256 << 20
RESCAN_WRITES = 64  # other processes write here too: their bytes are counted this often
ASIDE_SHARE = 16  # corrupt/ and rejected/ may each take this part of the spool's bound
WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
READ_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Segment(NamedTuple):
    """A batch on disk that this process has claimed; `name` is what it is called when it is not claimed."""

    name: str
    batch: EncodedBatch


class Evicted(NamedTuple):
    """A segment that gave way because the spool was full."""

    writer: str
    span_count: int


class Spool:
    """The segments under `directory`/spool, at most `max_bytes` of them. Writing raises OSError."""

    def __init__(self, directory: str, max_bytes: int) -> None:
        self.path = os.path.join(directory, "spool")
        self._max_bytes = max_bytes
        self._bytes = 0
        self._writes_unscanned = RESCAN_WRITES
        self._waiting: deque[str] = deque()
        self._last_created_ns = 0

    # ---- writing ----

    def write(self, batch: EncodedBatch) -> list[Evicted]:
        """Keep a batch; returns what had to go for it. Durable when this returns."""
        name = self._name_of(batch)
        self._write_file(self.path, name, batch.body)
        self._bytes += len(batch.body)
        self._waiting.append(name)
        self._writes_unscanned += 1
        if self._bytes <= self._max_bytes and self._writes_unscanned < RESCAN_WRITES:
            return []
        evicted: list[Evicted] = []
        try:
            self._evict(evicted)
        except OSError as error:  # the batch is kept all the same
            report("evict", "the spool cannot be kept within its bound: %s", error)
        return evicted

    def reject(self, batch: EncodedBatch, rejected: Iterable[tuple[int, str]]) -> None:
        """Keep lines (counted from 1) that no collector will take, each with the reason."""
        import json

        lines = batch.lines()
        entries = [
            b'{"error":%s,"span":%s}\n' % (json.dumps(error).encode(), lines[number - 1])
            for number, error in rejected
            if number <= len(lines)
        ]
        folder = os.path.join(self.path, "rejected")
        self._write_file(folder, f"{time.time_ns():020d}-{batch.writer}.ndjson", b"".join(entries))
        self._trim(folder)

    def _name_of(self, batch: EncodedBatch) -> str:
        """Later names sort after earlier ones, whatever the clock does."""
        self._last_created_ns = max(time.time_ns(), self._last_created_ns + 1)
        identity = batch.batch_id.replace(":", "-")
        return f"{self._last_created_ns:020d}-{identity}-{zlib.crc32(batch.body):08x}{SUFFIXES[batch.encoding]}"

    def _write_file(self, folder: str, name: str, body: bytes) -> None:
        """The whole file on disk, or OSError and nothing."""
        directory_fd = open_private(folder)
        at = folder if directory_fd is None else ""
        path, temporary = os.path.join(at, name), os.path.join(at, f".{name}.{os.getpid()}.tmp")
        try:
            fd = os.open(temporary, WRITE_FLAGS, 0o600, dir_fd=directory_fd)
            try:
                _fill(fd, body)
                os.rename(temporary, path, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
            except BaseException:
                os.unlink(temporary, dir_fd=directory_fd)
                raise
            if directory_fd is not None:
                sync(directory_fd, folder)
        finally:
            if directory_fd is not None:
                os.close(directory_fd)

    # ---- the bound ----

    def _evict(self, evicted: list[Evicted]) -> None:
        """Drop the oldest segments until the rest fits; the newest stays, and so does what is being sent."""
        for name, size in self._scan()[:-1]:
            if self._bytes <= self._max_bytes:
                break
            match = NAME.fullmatch(name)
            if match and _unlink(self._at(name)):
                self._bytes -= size
                evicted.append(Evicted(match["writer"], int(match["count"])))

    def _scan(self) -> list[tuple[str, int]]:
        """Segments and claimed segments with their sizes, oldest first; undoes what dead processes left half done."""
        found: list[tuple[str, int]] = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    size = _size_of(entry)  # before the entry is renamed
                    name = self._recover(entry.name) if size >= 0 else None
                    if name:
                        found.append((name, size))
        except FileNotFoundError:
            found = []
        self._bytes = sum(size for _, size in found)
        self._writes_unscanned = 0
        return sorted(found)

    def _recover(self, name: str) -> str | None:
        """What this entry counts as: a segment, a live claim, or nothing."""
        if NAME.fullmatch(name):
            return name
        claim, temporary = CLAIM.fullmatch(name), TEMPORARY.fullmatch(name)
        owner = claim or temporary
        if owner is None:
            return None
        path = os.path.join(self.path, name)
        if not _is_abandoned(path, int(owner["pid"])):
            return name if claim else None
        if claim is None:
            _unlink(path)
            return None
        segment = name[: claim.start("pid") - len(".sending-")]
        return segment if _rename(path, os.path.join(self.path, segment)) else None

    def _trim(self, folder: str) -> None:
        """Keep what was set aside within its share, the newest of it."""
        with os.scandir(folder) as entries:
            files = sorted((entry.name, _size_of(entry)) for entry in entries)
        excess = sum(size for _, size in files) - self._max_bytes // ASIDE_SHARE
        for name, size in files[:-1]:
            if excess <= 0:
                return
            excess -= size
            _unlink(os.path.join(folder, name))

    # ---- replay ----

    def look(self) -> bool:
        """Read the directory anew; whether there is anything to send."""
        self._waiting = deque(name for name, _ in self._scan() if NAME.fullmatch(name))
        return bool(self._waiting)

    def claim(self) -> Segment | None:
        """The oldest segment known that no other process took; None when there is none. See `look`."""
        while self._waiting:
            name = self._waiting.popleft()
            if not self._take(name):
                continue
            batch = self._load(name)
            if batch is not None:
                return Segment(name, batch)
            self._set_aside(name)
        return None

    def _take(self, name: str) -> bool:
        """A fresh time first: a claim that looks old would be undone by others."""
        try:
            os.utime(self._at(name))
            os.rename(self._at(name), self._claimed(name))
        except FileNotFoundError:  # another process was faster
            return False
        return True

    def release(self, segment: Segment) -> None:
        """It was delivered, or its parts were written anew."""
        if _unlink(self._claimed(segment.name)):
            self._bytes -= len(segment.batch.body)

    def restore(self, segment: Segment) -> None:
        """It could not be delivered: back to its place, before all younger ones."""
        if _rename(self._claimed(segment.name), self._at(segment.name)):
            self._waiting.appendleft(segment.name)

    def _load(self, name: str) -> EncodedBatch | None:
        """The claimed segment's batch, None where the bytes are not those that were written."""
        match = NAME.fullmatch(name)
        path = self._claimed(name)
        try:
            body = _read(path)
        except OSError:
            return None
        if match is None or zlib.crc32(body) != int(match["crc"], 16):
            return None
        encoding = next(encoding for encoding, suffix in SUFFIXES.items() if suffix == match["suffix"])
        batch_id = f"{match['writer']}:{match['first']}:{match['count']}"
        return EncodedBatch(batch_id, body, encoding, int(match["count"]))

    def _set_aside(self, name: str) -> None:
        report("corrupt", "the spool segment %s is damaged: moved to corrupt/", name)
        folder = os.path.join(self.path, "corrupt")
        make_private(folder)
        _rename(self._claimed(name), os.path.join(folder, name))
        self._trim(folder)

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _claimed(self, name: str) -> str:
        return os.path.join(self.path, f"{name}.sending-{os.getpid()}")


def _fill(fd: int, body: bytes) -> None:
    with open(fd, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _size_of(entry: os.DirEntry[str]) -> int:
    """Bytes of a regular file; -1 for what is not one, or is gone."""
    try:
        return entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else -1
    except OSError:
        return -1


def _read(path: str) -> bytes:
    with open(os.open(path, READ_FLAGS), "rb") as file:
        if os.fstat(file.fileno()).st_size > SEGMENT_MAX_BYTES:
            raise OSError(f"{path} is larger than any segment")
        return file.read()


def _is_abandoned(path: str, pid: int) -> bool:
    """Whether the process that gave this file its name is gone (or, where that cannot be asked, long silent)."""
    try:
        if time.time() - os.stat(path).st_mtime > CLAIM_MAX_AGE_S:
            return True
        if sys.platform == "win32" or pid == os.getpid():
            return False
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # gone meanwhile, or a process of another user
        return False
    return False


def _unlink(path: str) -> bool:
    """False when another process was faster."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _rename(source: str, target: str) -> bool:
    """False when another process was faster."""
    try:
        os.rename(source, target)
    except FileNotFoundError:
        return False
    return True
