"""Spans as JSON lines in a plain file, rotated by size: FASTTRACE_EXPORTER=file.

Several processes may append to one file: each batch is one write at its end. Exporter thread only.
"""

from __future__ import annotations

import os

from fasttrace.exporters.base import ACCEPTED, EncodedBatch, Outcome
from fasttrace.exporters.directory import make_private

ROTATE_BYTES = 64 << 20
KEPT_FILES = 4
FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class FileExporter:
    """Appends to `path`; a file that would pass `rotate_bytes` becomes `path`.1, that one `path`.2, up to `kept`."""

    encoding = "none"
    takes_spool = False

    def __init__(self, path: str, rotate_bytes: int = ROTATE_BYTES, kept: int = KEPT_FILES) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._kept = kept

    def prepare(self) -> None:
        """Nothing to import; the file is opened for each batch, so that it may be moved or removed at any time."""

    def export(self, batch: EncodedBatch) -> Outcome:
        try:
            self._make_room(len(batch.body))
            self._append(batch.body)
        except OSError as error:
            return Outcome("retry", f"{type(error).__name__}: {error}")
        return ACCEPTED

    def _make_room(self, size: int) -> None:
        try:
            present = os.stat(self._path).st_size
        except FileNotFoundError:
            make_private(os.path.dirname(self._path))
            return
        if present and present + size > self._rotate_bytes:
            self._rotate()

    def _rotate(self) -> None:
        for number in range(self._kept - 1, 0, -1):
            older = f"{self._path}.{number}"
            if os.path.exists(older):
                os.replace(older, f"{self._path}.{number + 1}")
        os.replace(self._path, f"{self._path}.1")

    def _append(self, body: bytes) -> None:
        fd = os.open(self._path, FLAGS, 0o600)
        try:
            before = os.fstat(fd)
            if hasattr(os, "geteuid") and before.st_uid != os.geteuid():
                raise PermissionError(f"{self._path} belongs to another user")
            written = os.write(fd, body)
            if written < len(body):
                self._undo(fd, before.st_size, written)
        finally:
            os.close(fd)

    def _undo(self, fd: int, before: int, written: int) -> None:
        """A full disk took a part of the batch: take it back, unless another process wrote after it."""
        if os.fstat(fd).st_size == before + written:
            os.ftruncate(fd, before)
        raise OSError(f"no room for a batch in {self._path}")

    def close(self) -> None:
        """No file stays open."""

    def abandon(self) -> None:
        """No file stays open."""
