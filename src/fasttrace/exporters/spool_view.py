"""A spool as somebody who only looks sees it: what waits, what is being sent, what was set aside.

Processes write, claim, send and remove segments while this reads. Nothing is claimed, renamed or removed here: a name
that is gone a moment later is a segment that was sent, one that reads differently is one that was claimed, and what is
still being written has no name yet. Segments are read whole or not at all, and never through a link; a directory that
is one, or another user's, is refused, as it is by whoever writes (directory.py).

For commands, on any thread. Names and their meaning are those of spool.py.
"""

from __future__ import annotations

import os
import stat
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from fasttrace.exporters.compression import decompress
from fasttrace.exporters.owner import is_abandoned
from fasttrace.exporters.spool import CLAIM, NAME, READ_FLAGS, SEGMENT_MAX_BYTES, SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from re import Match

CORRUPT, REJECTED = "corrupt", "rejected"
ENCODINGS = {suffix: encoding for encoding, suffix in SUFFIXES.items()}


class Waiting(NamedTuple):
    """A segment. `entry` is what its file was called when it was seen; `sender` the pid that has claimed it, if any;
    `is_sent` says whether that process lives: if not, the segment goes back to its place by itself."""

    name: str
    entry: str
    created_ns: int
    writer: str
    span_count: int
    size: int
    sender: int | None = None
    is_sent: bool = False


class Aside(NamedTuple):
    """A file in corrupt/ or rejected/."""

    path: str
    size: int
    changed_s: float


class Totals(NamedTuple):
    """Sums over segments; `oldest_ns` is 0 where there are none."""

    segments: int
    spans: int
    size: int
    oldest_ns: int


class SpoolView:
    """The spool under a state directory. A directory that is not there is empty; another OSError is raised."""

    def __init__(self, state_directory: str) -> None:
        self.path = os.path.join(state_directory, "spool")
        self._services: dict[str, str] = {}

    def segments(self) -> list[Waiting]:
        """Oldest first. One that is renamed while the directory is read may be seen twice by the system, not here."""
        found = {segment.name: segment for segment in self._entries()}
        return [found[name] for name in sorted(found)]

    def _entries(self) -> Iterator[Waiting]:
        for entry in _regular_files(self.path):
            claim = CLAIM.fullmatch(entry.name)
            match = claim or NAME.fullmatch(entry.name)
            if match is None:
                continue
            with suppress(OSError):
                yield _waiting(entry, match, claim, entry.stat(follow_symlinks=False).st_size)

    def totals(self) -> Totals:
        return totals_of(self.segments())

    def lines(self, segment: Waiting) -> list[bytes] | None:
        """The spans of a segment, one JSON object each; None when it is gone. ValueError for damaged bytes."""
        body = self._body(segment)
        if body is None:
            return None
        match = NAME.fullmatch(segment.name)
        if match is None or zlib.crc32(body) != int(match["crc"], 16):
            raise ValueError(f"{segment.name} is not what was written")
        return decompress(body, ENCODINGS[match["suffix"]]).splitlines()

    def _body(self, segment: Waiting) -> bytes | None:
        """By the name it had, the one it has when nobody sends it, and the one it has got meanwhile."""
        for entry in (segment.entry, segment.name):
            with suppress(FileNotFoundError):
                return self._read(entry)
        for now in self._entries():
            if now.name == segment.name:
                with suppress(FileNotFoundError):
                    return self._read(now.entry)
        return None

    def _read(self, entry: str) -> bytes:
        with open(os.open(os.path.join(self.path, entry), READ_FLAGS), "rb") as file:
            if os.fstat(file.fileno()).st_size > SEGMENT_MAX_BYTES:
                raise ValueError(f"{entry} is larger than any segment")
            return file.read()

    def service_of(self, segment: Waiting) -> str:
        """The service that a segment's process said it was, from a span of its; "" where that is not to be had."""
        known = self._services.get(segment.writer)
        if known is None:
            known = _service_in(self._first_line(segment))
            self._services[segment.writer] = known
        return known

    def _first_line(self, segment: Waiting) -> bytes:
        try:
            return (self.lines(segment) or [b""])[0]
        except (OSError, ValueError):
            return b""

    def aside(self, kind: str) -> list[Aside]:
        """The files of corrupt/ or rejected/, oldest first."""
        found = []
        for entry in _regular_files(os.path.join(self.path, kind)):
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                found.append(Aside(entry.path, status.st_size, status.st_mtime))
        return sorted(found)

    def newest_reason(self) -> str:
        """Why the newest rejected span was rejected; "" where that is not to be read."""
        import json

        for file in reversed(self.aside(REJECTED)):
            try:
                with open(os.open(file.path, READ_FLAGS), "rb") as lines:
                    return str(json.loads(lines.readline(SEGMENT_MAX_BYTES))["error"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
        return ""


def totals_of(segments: list[Waiting]) -> Totals:
    return Totals(
        len(segments),
        sum(segment.span_count for segment in segments),
        sum(segment.size for segment in segments),
        min((segment.created_ns for segment in segments), default=0),
    )


def _waiting(entry: os.DirEntry[str], match: Match[str], claim: Match[str] | None, size: int) -> Waiting:
    name = entry.name[: match.end("suffix")]
    known = name, entry.name, int(match["created"]), match["writer"], int(match["count"]), size
    if claim is None:
        return Waiting(*known)
    pid, start = int(claim["pid"]), int(claim["start"]) if claim["start"] else None
    return Waiting(*known, pid, not is_abandoned(entry.path, pid, start))


def check_own(directory: str) -> None:
    """PermissionError for a directory in which no process of this user would put spans."""
    found = os.lstat(directory)
    if stat.S_ISLNK(found.st_mode):
        raise PermissionError(f"{directory} is a link, which is not followed; set FASTTRACE_STATE_DIR")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        whose = f"belongs to user {found.st_uid}, this is user {os.geteuid()}"
        raise PermissionError(f"{directory} {whose}; run as that user, or set FASTTRACE_STATE_DIR")


def _regular_files(directory: str) -> Iterator[os.DirEntry[str]]:
    try:
        check_own(directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    yield entry
    except FileNotFoundError:
        return


def _service_in(line: bytes) -> str:
    import json

    try:
        service = json.loads(line).get("service", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return service if isinstance(service, str) else ""
