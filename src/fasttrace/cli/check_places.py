"""What `fasttrace doctor` asks of the places on disk: the spool, and the file of FASTTRACE_EXPORTER=file.

Directories are written to for real. What had to be made for that is taken away again: made by another user than the
application's, it would be in its way.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fasttrace.cli.check import Check, advice_for, fail, ok, text_of, warn
from fasttrace.cli.terminal import bytes_of, count, plain, span_of
from fasttrace.exporters.directory import make_private
from fasttrace.exporters.file import FLAGS as APPEND_FLAGS
from fasttrace.exporters.spool_view import CORRUPT, REJECTED, SpoolView, check_own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fasttrace.config import Config

FULL_SHARE = 0.8
LITTLE_BYTES = 1 << 20
OLD_S = 3600.0
WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


# ---- state directory


def state_directory(config: Config) -> Iterator[Check]:
    """Whether a segment could be written now."""
    view = SpoolView(config.state_directory)
    try:
        with made_for_now(view.path):
            make_private(view.path)
            check_own(view.path)
            _write_and_remove(view.path)
            problem = _is_open(view.path)
            free = free_bytes(view.path)
            left = config.spool_max_bytes - view.totals().size
    except OSError as error:
        advice = advice_for(error, "FASTTRACE_STATE_DIR")
        yield fail("state directory", f"{view.path}: {error.strerror or error}", advice)
        return
    yield problem or _free(view.path, free, left)


def _is_open(path: str) -> Check | None:
    mode = stat.S_IMODE(os.lstat(path).st_mode)
    if sys.platform == "win32" or not mode & 0o077:
        return None
    what = f"{path} is open to others (mode {mode:04o}); the first segment closes it"
    return warn("state directory", what, f"chmod 700 {path}")


def _write_and_remove(path: str) -> None:
    temporary = os.path.join(path, f".doctor.{os.getpid()}.tmp")  # a name that every process clears away
    fd = os.open(temporary, WRITE_FLAGS, 0o600)
    try:
        os.write(fd, bytes(4096))
        os.fsync(fd)
    finally:
        os.close(fd)
        os.unlink(temporary)


def _free(path: str, free: int, left: int) -> Check:
    found = f"{path}: private, writable, {bytes_of(free)} free"
    if free < LITTLE_BYTES:
        return fail("state directory", found, "free space there, or set FASTTRACE_STATE_DIR to another place")
    if free < left:
        advice = "make room, lower FASTTRACE_SPOOL_MAX_BYTES, or set FASTTRACE_STATE_DIR"
        return warn("state directory", f"{found}, but the spool may take {bytes_of(left)} more", advice)
    return ok("state directory", found)


# ---- spool


def spool(config: Config) -> Iterator[Check]:
    view = SpoolView(config.state_directory)
    try:
        yield from _spool(view, config)
        yield from _set_aside(view)
    except OSError as error:
        found = f"what is in it cannot be read: {text_of(error)}"
        yield fail("spool", found, advice_for(error, "FASTTRACE_STATE_DIR"))


def _spool(view: SpoolView, config: Config) -> Iterator[Check]:
    total = view.totals()
    share = total.size / config.spool_max_bytes
    age_s = time.time() - total.oldest_ns / 1e9
    found = (
        f"{count(total.segments, 'segment')}, {count(total.spans, 'span')}, {bytes_of(total.size)}, "
        f"{share:.1%} of its bound, the oldest {span_of(age_s)} old"
    )
    if not total.segments:
        yield ok("spool", "empty")
    elif share > FULL_SHARE:
        advice = "send it: `fasttrace spool drain`; FASTTRACE_SPOOL_MAX_BYTES gives it more room"
        yield warn("spool", f"{found}: the oldest spans are dropped when it is full", advice)
    elif age_s > OLD_S and config.collector_url is not None:
        yield warn("spool", found, "see why nothing is sent (collector, below), then `fasttrace spool drain`")
    else:
        yield ok("spool", found)


def _set_aside(view: SpoolView) -> Iterator[Check]:
    if corrupt := view.aside(CORRUPT):
        found = f"{count(len(corrupt), 'damaged segment')} in corrupt/"
        yield warn("spool", found, "look at the disk; `fasttrace spool purge --corrupt` removes them")
    if rejected := view.aside(REJECTED):
        reason = plain(view.newest_reason(), 300)
        found = f"{count(len(rejected), 'file')} of spans in rejected/, the newest because: {reason or 'unknown'}"
        yield warn("spool", found, "ask whoever runs the collector; `fasttrace spool purge --rejected` removes them")


# ---- FASTTRACE_FILE


def file(config: Config) -> Iterator[Check]:
    """Whether the file of FASTTRACE_EXPORTER=file could be appended to, and rotated; nothing is written to it."""
    if config.exporter != "file":
        return
    path = config.file_path
    folder = os.path.dirname(path)
    try:
        with made_for_now(folder):
            make_private(folder)
            if _is_file_or_missing(path):
                _write_and_remove(folder)
            free = free_bytes(folder)
    except OSError as error:
        yield fail("file", f"{path}: {error.strerror or error}", advice_for(error, "FASTTRACE_FILE"))
        return
    if free < LITTLE_BYTES:
        advice = "free space there, or set FASTTRACE_FILE to another place"
        yield fail("file", f"{path}: {bytes_of(free)} free", advice)
    else:
        yield ok("file", f"{path}: can be written, {bytes_of(free)} free")


def _is_file_or_missing(path: str) -> bool:
    """OSError for what the exporter cannot append to."""
    try:
        fd = os.open(path, APPEND_FLAGS & ~os.O_CREAT | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return True
    try:
        found = os.fstat(fd)
    finally:
        os.close(fd)
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise PermissionError(f"belongs to user {found.st_uid}, this is user {os.geteuid()}")
    return stat.S_ISREG(found.st_mode)


# ---- all of them


def free_bytes(path: str) -> int:
    if sys.platform == "win32":
        import shutil

        return shutil.disk_usage(path).free
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


@contextmanager
def made_for_now(path: str | None) -> Iterator[None]:
    """Take away again the directories down to `path` that are made meanwhile, as far as they are empty."""
    missing = []
    while path and not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    try:
        yield
    finally:
        for made in missing:
            with suppress(OSError):
                os.rmdir(made)
