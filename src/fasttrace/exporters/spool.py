"""The spool: batches that could not be delivered, one file each, in a directory that several processes share.

    spool/<created ns>-<writer>-<first ticket[+line]>-<count>-<crc32>.ndjson[.zst|.gz]     a segment
    spool/.<segment>.<pid>-<start>.tmp           being written
    spool/<segment>.sending-<pid>-<start>        claimed by a process (its pid, when it started) that is sending it
    spool/corrupt/<segment>                      its bytes are not what was written
    spool/rejected/<ns>-<writer>.ndjson          lines the collector will never take, with the reason

A segment is written under a temporary name, fsynced and renamed, and its directory fsynced: it is whole or it is not
there. Its name carries all that is needed to send the very same request again, and the checksum of its bytes. A claim
is a rename, which only one process can win; the claim of a process that died is undone. Names sort by age, so replay is
oldest first, and a spool that is full loses its oldest. Spans that are safe elsewhere, in the ring of a dead process,
are no reason to lose any: they come only where there is room (`has_room`).

A clock that was set back does not make new segments old: their names come after the newest that was seen here, up to
ten years ahead of the clock. A name further ahead is of no clock: it stays the last, and is not followed.

Directories are 0700, files 0600 and never opened through a link; a directory or file of another user is not touched. A
write that failed is not mended: its file goes, and the next attempt makes a new one (what an fsync could not write may
be gone from memory too, so asking again would tell a lie).

One instance belongs to one thread (the exporter's); processes need no lock among them.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import zlib
from bisect import insort
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from fasttrace.errors import report
from fasttrace.exporters.base import EncodedBatch
from fasttrace.exporters.directory import check_private, open_private, sync
from fasttrace.exporters.owner import is_abandoned, this_process

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIXES = {"zstd": ".ndjson.zst", "gzip": ".ndjson.gz", "none": ".ndjson"}
NAME = re.compile(
    r"(?P<created>\d{20})-(?P<writer>[0-9a-f]{32})-(?P<first>\d{1,20}(?:\+\d{1,9})?)-(?P<count>\d{1,9})"
    r"-(?P<crc>[0-9a-f]{8})(?P<suffix>\.ndjson(?:\.zst|\.gz)?)"
)
OWNER = r"(?P<pid>\d{1,10})(?:-(?P<start>\d{1,20}))?"
CLAIM = re.compile(rf"(?P<segment>{NAME.pattern})\.sending-{OWNER}")
TEMPORARY = re.compile(rf"\..*\.{OWNER}\.tmp")
SEGMENT_MAX_BYTES = 256 << 20
RESCAN_WRITES, RESCAN_SHARE = 64, 128  # others write here too: they are counted after so many writes of ours, or bytes
ADOPTED_MAX = 1 << 16
AHEAD_MAX_NS = 10 * 365 * 86_400 * 10**9
ASIDE_SHARE = 16  # corrupt/ and rejected/ may each take this part of the spool's bound
WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
READ_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Segment(NamedTuple):
    """A batch on disk that this process has claimed; `name` is what it is called when it is not claimed."""

    name: str
    batch: EncodedBatch


class Evicted(NamedTuple):
    """A segment that is gone unsent: it gave way because the spool was full, or it was damaged."""

    writer: str
    span_count: int


class Spool:
    """The segments under `directory`/spool, at most `max_bytes` of them. Writing raises OSError."""

    def __init__(self, directory: str, max_bytes: int) -> None:
        self.path = os.path.join(directory, "spool")
        self._max_bytes = max_bytes
        self._bytes = 0
        self._writes_unscanned = self._bytes_unscanned = 0
        self._waiting: deque[str] = deque()
        self._last_created_ns = 0
        self._is_scanned = False
        self._damaged: list[Evicted] = []
        self._adopted: set[str] = set()
        self._unremoved: set[str] = set()  # claims of what was delivered, and could not be unlinked yet

    # ---- writing ----

    def write(self, batch: EncodedBatch, created_ns: int | None = None) -> list[Evicted]:
        """Keep a batch; returns what had to go for it. Durable when this returns.

        created_ns: when its spans were recorded, if that was not just now; it is sent, and gives way, by that age.
        """
        if not self._is_scanned:
            with suppress(OSError):  # the write says what is wrong, if it matters
                self._scan()
        name = self._new_name(batch, created_ns)
        self._write_file(self.path, name, batch.body)
        insort(self._waiting, name)
        if created_ns is not None and len(self._adopted) < ADOPTED_MAX:
            self._adopted.add(batch.batch_id)
        is_scan_due = self._is_scan_due(len(batch.body))
        self._bytes += len(batch.body)
        self._bytes_unscanned += len(batch.body)
        self._writes_unscanned += 1
        if self._bytes <= self._max_bytes and not is_scan_due:
            return []
        evicted: list[Evicted] = []
        try:
            self._evict(evicted)
        except OSError as error:  # the batch is kept all the same
            report("evict", "the spool cannot be kept within its bound: %s", error)
        return evicted

    def write_claimed(self, batch: EncodedBatch) -> Segment:
        """Keep a batch that is being sent, claimed by this process until it is released or restored."""
        name = self._new_name(batch, None)
        self._write_file(self.path, os.path.basename(self._claimed(name)), batch.body)
        self._bytes += len(batch.body)
        self._bytes_unscanned += len(batch.body)
        return Segment(name, batch)

    def has_room(self, size: int) -> bool:
        """Whether a segment of `size` bytes can come without another having to go; a spool without any has room for one
        of any size. Counted afresh where the spool may be near its bound. OSError if that is not to be known."""
        if self._is_scan_due(size) or self._bytes + size > self._max_bytes // 2:
            self._scan()
        return not self._bytes or self._bytes + size <= self._max_bytes

    def _is_scan_due(self, size: int) -> bool:
        """With a segment of `size` bytes, which is about to be counted."""
        is_much = self._bytes_unscanned + size >= self._max_bytes // RESCAN_SHARE
        return not self._is_scanned or is_much or self._writes_unscanned + 1 >= RESCAN_WRITES

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

    def holds(self, batch_id: str) -> bool:
        """Whether a segment of exactly this batch is here, waiting or claimed by anyone; or was, if this instance wrote
        it with an age: a ring larger than the spool gets on as its first batches are sent. OSError if that is not to be
        known."""
        if batch_id in self._adopted:
            return True
        if not check_private(self.path):
            return False
        found = (NAME.fullmatch(name) or CLAIM.fullmatch(name) for name in os.listdir(self.path))
        return any(match is not None and _batch_id(match) == batch_id for match in found)

    def _new_name(self, batch: EncodedBatch, created_ns: int | None) -> str:
        """Later names sort after earlier ones, whatever the clock does, but for those whose age is told."""
        now_ns = time.time_ns()
        if created_ns is None:
            self._last_created_ns = max(now_ns, min(self._last_created_ns, now_ns + AHEAD_MAX_NS) + 1)
            return _name(batch, self._last_created_ns)
        age_ns = min(max(created_ns, 0), now_ns)
        while self._is_taken(name := _name(batch, age_ns)):
            age_ns += 1
        return name

    def _is_taken(self, name: str) -> bool:
        return os.path.lexists(self._at(name)) or os.path.lexists(self._claimed(name))

    def _write_file(self, folder: str, name: str, body: bytes) -> None:
        """The whole file on disk, or OSError and nothing."""
        directory_fd = open_private(folder)
        at = folder if directory_fd is None else ""
        path, temporary = os.path.join(at, name), os.path.join(at, f".{name}.{this_process()}.tmp")
        try:
            fd = os.open(temporary, WRITE_FLAGS, 0o600, dir_fd=directory_fd)
            try:
                _fill(fd, body)
                os.rename(temporary, path, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
            except BaseException:
                with suppress(OSError):  # the next scan removes it, or the one after this process's end
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
        self._remove_delivered()
        if check_private(self.path):
            with os.scandir(self.path) as entries:
                for entry in entries:
                    size = _size_of(entry)  # before the entry is renamed
                    name = self._recover(entry.name, size) if size >= 0 else None
                    if name:
                        found.append((name, size))
        self._is_scanned = True
        self._learn_newest([name for name, _ in found])
        self._bytes = sum(size for _, size in found)
        self._writes_unscanned = self._bytes_unscanned = 0
        return sorted(found)

    def _learn_newest(self, names: Iterable[str]) -> None:
        limit_ns = time.time_ns() + AHEAD_MAX_NS
        ages_ns = (int(name.partition("-")[0]) for name in names)
        newest_ns = max((age_ns for age_ns in ages_ns if age_ns <= limit_ns), default=0)
        self._last_created_ns = max(self._last_created_ns, newest_ns)

    def _recover(self, name: str, size: int) -> str | None:
        """What this entry counts as: a segment, a live claim, or nothing."""
        if NAME.fullmatch(name):
            if size <= SEGMENT_MAX_BYTES:
                return name
            self._set_aside(self._at(name), name)
            return None
        claim, temporary = CLAIM.fullmatch(name), TEMPORARY.fullmatch(name)
        owner = claim or temporary
        if owner is None:
            return None
        path = self._at(name)
        start = None if owner["start"] is None else int(owner["start"])
        if path in self._unremoved or not is_abandoned(path, int(owner["pid"]), start):
            return name if claim else None
        if claim is None:
            _unlink(path)
            return None
        return claim["segment"] if _rename(path, self._at(claim["segment"])) else None

    def _remove_delivered(self) -> None:
        for path in list(self._unremoved):
            with suppress(OSError):
                _unlink(path)
                self._unremoved.discard(path)

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
            try:
                batch = self._load(name)
                if batch is not None:
                    return Segment(name, batch)
                self._set_aside(self._claimed(name), name)
            except (OSError, MemoryError) as error:  # of the disk, or nothing to be had: later, and the others first
                report("unreadable", "the spool segment %s cannot be read: %r", name, error)
                _rename(self._claimed(name), self._at(name))
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
        path = self._claimed(segment.name)
        try:
            if _unlink(path):
                self._bytes -= len(segment.batch.body)
        except (OSError, MemoryError) as error:
            self._unremoved.add(path)
            report("unremoved", "the spool segment %s was sent and cannot be removed: %s", path, error)

    def restore(self, segment: Segment, is_first: bool = True) -> None:
        """It could not be delivered: back to its place, before all younger ones; or, until the next look, after them,
        where it is the segment's own fault."""
        try:
            if _rename(self._claimed(segment.name), self._at(segment.name)):
                (self._waiting.appendleft if is_first else self._waiting.append)(segment.name)
        except OSError as error:  # it stays claimed, for as long as claims live
            report("unremoved", "the spool segment %s cannot be put back: %s", segment.name, error)

    def damaged(self) -> list[Evicted]:
        """The segments that were set aside in corrupt/ since this was asked last."""
        damaged, self._damaged = self._damaged, []
        return damaged

    def set_aside(self, batch: EncodedBatch) -> None:
        """Keep in corrupt/ a batch whose bytes are as they were written and can be read by nobody."""
        folder = os.path.join(self.path, "corrupt")
        self._write_file(folder, _name(batch, time.time_ns()), batch.body)
        self._trim(folder)

    def _load(self, name: str) -> EncodedBatch | None:
        """The claimed segment's batch, None where the bytes are not those that were written."""
        match = NAME.fullmatch(name)
        body = _read(self._claimed(name))
        if match is None or body is None or zlib.crc32(body) != int(match["crc"], 16):
            return None
        encoding = next(encoding for encoding, suffix in SUFFIXES.items() if suffix == match["suffix"])
        return EncodedBatch(_batch_id(match), body, encoding, int(match["count"]))

    def _set_aside(self, path: str, name: str) -> None:
        folder = os.path.join(self.path, "corrupt")
        folder_fd = open_private(folder)  # made, and checked to be no link to elsewhere
        if folder_fd is not None:
            os.close(folder_fd)
        if not _rename(path, os.path.join(folder, name)):
            return
        report("corrupt", "the spool segment %s is damaged: moved to corrupt/", name)
        match = NAME.fullmatch(name)
        if match is not None:
            self._damaged.append(Evicted(match["writer"], int(match["count"])))
        self._trim(folder)

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _claimed(self, name: str) -> str:
        return os.path.join(self.path, f"{name}.sending-{this_process()}")


def _fill(fd: int, body: bytes) -> None:
    with open(fd, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _name(batch: EncodedBatch, created_ns: int) -> str:
    identity = batch.batch_id.replace(":", "-")
    return f"{created_ns:020d}-{identity}-{zlib.crc32(batch.body):08x}{SUFFIXES[batch.encoding]}"


def _batch_id(match: re.Match[str]) -> str:
    return f"{match['writer']}:{match['first']}:{match['count']}"


def _size_of(entry: os.DirEntry[str]) -> int:
    """Bytes of a regular file of this user; -1 for what is not one, or is gone."""
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) and _is_ours(found) else -1


def _is_ours(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def _read(path: str) -> bytes | None:
    """The bytes of a segment; None for what is none: a link or a pipe in its place, or larger than any."""
    try:
        file = open(os.open(path, READ_FLAGS), "rb")
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return None
        raise
    with file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > SEGMENT_MAX_BYTES:
            return None
        return file.read()


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
