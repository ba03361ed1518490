"""Directories that belong to this user alone, and writing into them durably. Exporter thread only.

On POSIX a directory is opened once, checked through its descriptor, and files are made in it by that descriptor:
nobody can put another directory in its place between the check and the use.
"""

from __future__ import annotations

import os
import stat
import sys

from fasttrace.errors import report

FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


def make_private(path: str) -> None:
    """Make a directory and its missing parents, each with mode 0700."""
    if not path or os.path.isdir(path):
        return
    make_private(os.path.dirname(path))
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def open_private(path: str) -> int | None:
    """A descriptor of the directory, made if it is missing; None on Windows, which has none of directories.

    OSError for one that is not this user's: that is not a place for spans. One that others could use is closed to them.
    """
    make_private(path)
    return _opened(path)


def check_private(path: str) -> bool:
    """Whether the directory is there. OSError as in `open_private`: what lies in one that is not ours is not ours."""
    try:
        fd = _opened(path)
    except FileNotFoundError:
        return False
    if fd is None:
        return os.path.isdir(path)
    os.close(fd)
    return True


def _opened(path: str) -> int | None:
    if sys.platform == "win32":
        return None
    if os.path.islink(path):
        raise PermissionError(f"{path} is a link; set FASTTRACE_STATE_DIR")
    fd = os.open(path, FLAGS)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user; set FASTTRACE_STATE_DIR")
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def sync(fd: int, path: str) -> None:
    """Have the names in a directory on disk. A file system that cannot do this still has the files themselves."""
    try:
        os.fsync(fd)
    except OSError as error:
        report("sync", "%s cannot be synced: %s", path, error)
