"""Rings whose owners are dead: found, locked, read whole, and taken away once what was in them is safe.

An owner holds a lock on its ring's file for as long as it lives, and the kernel gives the lock back however it dies. So
whoever gets the lock of a file knows that its owner is gone, and, the lock being exclusive, that nobody else adopts it
meanwhile; a file that was taken away between its opening and its locking has lost its name, which is asked last. A
fork child that has not let go of its parent's descriptors yet keeps the lock, and with it the file, for a later look.
An application that closes descriptors it does not know gives the lock back while it lives: so the owner that the header
names is looked for, too: a process of its pid that started when it did and still has the file mapped, which one that
called `exec` has not.

What the file says is not believed here: it is read as bytes (a mapping of it could raise SIGBUS, and change while it is
looked at), and judged by the core's RecoveredRing. Only regular files of this user, in directories that are this user's
alone, are opened at all. Runs on the exporter thread, or in a command; nothing here waits.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from typing import TYPE_CHECKING

from . import _ring_file
from ._backing import SUFFIX, UNFINISHED, boot_id, open_own_directory, places, process_start
from ._pure import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = re.compile(r"(?P<pid>\d{1,20})-(?P<writer>[0-9a-f]{32})" + re.escape(SUFFIX))
MAKING = re.compile(NAME.pattern + re.escape(UNFINISHED))
ASIDE, ASIDE_KEPT = ".corrupt", 4
FILE_MAX_BYTES = 4 << 30
READ_BYTES = 1 << 20
UNFINISHED_AGE_NS = 60_000_000_000


class Orphan:
    """A dead process's ring file, locked by us. `close` it in any case; a fork child must, too.

    An application may close descriptors that it does not know, and get their numbers for files of its own: what is no
    longer the ring is neither read nor closed.
    """

    def __init__(self, directory: str, name: str, fd: int) -> None:
        self.path = os.path.join(directory, name)
        self._fd = fd
        self._identity = _identity(fd)

    def start(self) -> bytes:
        """Its first bytes: the header, where it is a ring."""
        return os.pread(self._fd, layout.HEADER_BYTES, 0)

    def read(self) -> bytes | bytearray:
        """The whole file; of one whose header is none, or not that of a file of this size, the first bytes alone: the
        core says of them why. OSError for a file that is larger than any ring."""
        size, start = os.fstat(self._fd).st_size, self.start()
        if _identity(self._fd) != self._identity:
            raise OSError(f"{self.path}: its descriptor was closed by the application")
        if size > FILE_MAX_BYTES:
            raise OSError(f"{self.path}: {size} bytes are more than any ring has")
        if _ring_file.fault_of(start, size) is not None:
            return start
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            read = os.preadv(self._fd, [view[at : at + READ_BYTES]], at)
            if not read:
                raise OSError(f"{self.path}: it became shorter while it was read")
            at += read
        if _identity(self._fd) != self._identity:
            raise OSError(f"{self.path}: its descriptor was closed by the application")
        return data

    def remove(self) -> None:
        """Everything in it is safe elsewhere, or there never was anything."""
        _unlink(self.path)

    def set_aside(self) -> None:
        """It is no ring that can be read: out of the way of later looks, of such files the newest few are kept."""
        directory = os.path.dirname(self.path)
        os.rename(self.path, self.path + ASIDE)
        aside = [os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(SUFFIX + ASIDE)]
        for path in sorted(aside, key=_changed_ns)[:-ASIDE_KEPT]:
            _unlink(path)

    def close(self) -> None:
        """Give the lock back."""
        if self._fd >= 0 and _identity(self._fd) == self._identity:
            os.close(self._fd)
        self._fd = -1


def _identity(fd: int) -> tuple[int, int] | None:
    """The open file behind a number; None for one that is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def find(directory: str | None, own_path: str | None = None) -> Iterator[str]:
    """Paths of ring files, those of the living included, where rings may be: in `directory` (FASTTRACE_RING_DIR), which
    keeps an application's rings apart from others', or without one in every usual place; and where `own_path` is.

    A place that is not there, or not this user's alone, has none.
    """
    if sys.platform == "win32":
        return
    for folder in _folders(directory, own_path):
        for name in _names(folder):
            path = os.path.join(folder, name)
            if NAME.fullmatch(name):
                yield path
            elif MAKING.fullmatch(name):
                _remove_unfinished(path)


def _folders(directory: str | None, own_path: str | None) -> list[str]:
    folders = [place.directory for place in places(directory)]
    named = folders[:1] if directory else folders
    return list(dict.fromkeys([*named, *([os.path.dirname(own_path)] if own_path else [])]))


def _names(directory: str) -> list[str]:
    try:
        fd = open_own_directory(directory)
    except OSError:
        return []
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def adopt(path: str) -> Orphan | None:
    """The ring file, locked; None where its owner lives, somebody else adopts it, or it is gone or no file of ours."""
    fd = _open_locked(path)
    if fd < 0:
        return None
    orphan = Orphan(os.path.dirname(path), os.path.basename(path), fd)
    try:
        if not _is_owner_alive(orphan.start(), os.fstat(fd).st_ino):
            return orphan
    except OSError:  # who cannot read it does not judge it
        pass
    orphan.close()
    return None


def _is_owner_alive(start: bytes, inode: int) -> bool:
    """False where that cannot be told: when the owner started is unknown, or it was before the machine's last start."""
    if len(start) < layout.HEADER.size or not _ring_file.is_ring_of_this_version(start):
        return False
    owner = _ring_file.owner_of(start)
    if not owner.process_start or owner.boot_id != boot_id():
        return False
    return process_start(owner.pid) == owner.process_start and _maps(owner.pid, inode)


def _maps(pid: int, inode: int) -> bool:
    """Whether the process has the file mapped; one that ended, and whose parent has not asked for it yet, has nothing.
    True where that cannot be told."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            return any(line.split(maxsplit=5)[4] == str(inode) for line in file)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _open_locked(path: str) -> int:
    import fcntl

    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_ours(fd, path):
            return fd
    except OSError:  # locked by another
        pass
    os.close(fd)
    return -1


def _is_ours(fd: int, path: str) -> bool:
    """A regular file of this user that still has this name."""
    opened, named = os.fstat(fd), os.lstat(path)
    is_same = (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)
    return is_same and stat.S_ISREG(opened.st_mode) and opened.st_uid == os.geteuid()


def _remove_unfinished(path: str) -> None:
    """A file whose process died while it made it: nothing was ever in it. A fresh one may not be locked yet."""
    if time.time_ns() - _changed_ns(path) < UNFINISHED_AGE_NS:
        return
    fd = _open_locked(path)
    if fd >= 0:
        _unlink(path)
        os.close(fd)


def _changed_ns(path: str) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return 0


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return  # another process was faster
