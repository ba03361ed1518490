"""What `fasttrace doctor` asks of the places where spans lie: the ring in shared memory, other rings, the spool.

The ring is opened for real, as the application would, and removed; the spool's directory is written to for real. What
had to be made for that is taken away again: made by another user than the application's, it would be in its way.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fasttrace.cli import check_process
from fasttrace.cli.check import Check, fail, ok, warn
from fasttrace.cli.terminal import bytes_of, count, plain, span_of
from fasttrace.core import core
from fasttrace.core._backing import new_owner, open_ring_file
from fasttrace.exporters.directory import make_private
from fasttrace.exporters.spool_view import CORRUPT, REJECTED, SpoolView
from fasttrace.trace.ring_files import ring_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fasttrace.config import Config
    from fasttrace.core._backing import Backing
    from fasttrace.trace.ring_files import RingFile

FULL_SHARE = 0.8
LITTLE_BYTES = 1 << 20
OLD_S = 3600.0
WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


# ---- rings


def ring(config: Config) -> Iterator[Check]:
    """The ring as the application would open it, and a span through it."""
    owner = new_owner()
    with _made_for_now(config.ring_dir):
        backing = open_ring_file(config.ring_dir, config.ring_shape, owner, core.region_bytes)
        try:
            yield _of_backing(backing, config)
            yield from check_process.round_trip(core.Ring(backing.fd, backing.shape, owner), config.compression)
        finally:
            backing.remove()
            backing.close()


def _of_backing(backing: Backing, config: Config) -> Check:
    if backing.path is None:
        return _anonymous(backing, config)
    size = core.region_bytes(backing.shape)
    directory = os.path.dirname(backing.path)
    room = f"room for {backing.shape.slots:,} spans, {bytes_of(size)}; {bytes_of(_free_bytes(directory))} free"
    found = f"{directory} ({backing.kind}): {room}"
    if not backing.reason:
        return ok("ring", found)
    return warn("ring", f"{found}. Not as asked: {backing.reason}", _ring_advice(backing, config))


def _anonymous(backing: Backing, config: Config) -> Check:
    found = f"in the process's own memory ({backing.reason}): what a killed process had not sent is lost"
    if sys.platform == "win32":
        return ok("ring", found)
    return warn("ring", found, _ring_advice(backing, config))


def _ring_advice(backing: Backing, config: Config) -> str:
    if config.ring_dir is not None and backing.kind != "ring_dir":
        return f"make {config.ring_dir} a directory of mode 0700 of this user, or change FASTTRACE_RING_DIR"
    if backing.shape != config.ring_shape:
        return "give the shared memory more room (docker: --shm-size), or lower FASTTRACE_QUEUE_MAX_SIZE"
    return "name a private directory in FASTTRACE_RING_DIR, best in a tmpfs"


def other_rings(config: Config) -> Iterator[Check]:
    files = ring_files(config.ring_dir)
    of_state = {state: [file for file in files if file.state == state] for state in ("live", "dead", "held", "foreign")}
    if live := of_state["live"]:
        yield ok("rings", f"of live processes: {_named(live)}")
    if dead := of_state["dead"]:
        waiting = sum(file.waiting for file in dead)
        found = f"of dead processes, with {count(waiting, 'span')} not sent: {_named(dead)}"
        yield warn("rings", found, "the next process that records adopts them, or `fasttrace spool drain` now")
    if held := of_state["held"]:
        found = f"locked, though the owner is not to be seen: {_named(held)}"
        advice = "end the process that holds it (lsof names it): a fork child of the owner, or of another container"
        yield warn("rings", found, advice)
    if foreign := of_state["foreign"]:
        names = ", ".join(plain(file.path) for file in foreign[:3])
        yield warn("rings", f"{count(len(foreign), 'file')} among the rings that are none: {names}", "remove them")
    if not any(of_state.values()):
        yield ok("rings", "none of other processes")


def _named(files: list[RingFile]) -> str:
    shown = [_name(file) for file in files[:4]]
    return ", ".join(shown) + (f" and {len(files) - 4} more" if len(files) > 4 else "")


def _name(file: RingFile) -> str:
    service = f" {plain(file.service, 40)}" if file.service else ""
    return f"{file.pid}{service} ({file.waiting:,} of {count(file.recorded, 'span')} not sent yet)"


# ---- spool


def state_directory(config: Config) -> Iterator[Check]:
    """Whether a segment could be written now."""
    path = SpoolView(config.state_directory).path
    advice = "make it a directory of mode 0700 of this user, or set FASTTRACE_STATE_DIR"
    try:
        with _made_for_now(path):
            make_private(path)
            problem = _not_private(path)
            _write_and_remove(path)
            free = _free_bytes(path)
    except OSError as error:
        yield fail("state directory", f"{path}: {error.strerror or error}", advice)
        return
    if problem:
        yield problem
        return
    left = config.spool_max_bytes - SpoolView(config.state_directory).totals().size
    yield _free(path, free, left)


def _not_private(path: str) -> Check | None:
    if sys.platform == "win32":
        return None
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return fail("state directory", f"{path} is a link, which is not written to", "set FASTTRACE_STATE_DIR")
    if found.st_uid != os.geteuid():
        whose = f"{path} belongs to user {found.st_uid}, this is user {os.geteuid()}"
        return fail("state directory", whose, "run as that user, or set FASTTRACE_STATE_DIR")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        what = f"{path} is open to others (mode {mode:04o}); the first segment closes it"
        return warn("state directory", what, f"chmod 700 {path}")
    return None


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
        return fail("state directory", found, "make room there, or set FASTTRACE_STATE_DIR")
    if free < left:
        advice = "make room, lower FASTTRACE_SPOOL_MAX_BYTES, or set FASTTRACE_STATE_DIR"
        return warn("state directory", f"{found}, but the spool may take {bytes_of(left)} more", advice)
    return ok("state directory", found)


def spool(config: Config) -> Iterator[Check]:
    view = SpoolView(config.state_directory)
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
    yield from _set_aside(view)


def _set_aside(view: SpoolView) -> Iterator[Check]:
    if corrupt := view.aside(CORRUPT):
        found = f"{count(len(corrupt), 'damaged segment')} in corrupt/"
        yield warn("spool", found, "look at the disk; `fasttrace spool purge --corrupt` removes them")
    if rejected := view.aside(REJECTED):
        reason = plain(view.newest_reason(), 300)
        found = f"{count(len(rejected), 'file')} of spans in rejected/, the newest because: {reason or 'unknown'}"
        yield warn("spool", found, "ask whoever runs the collector; `fasttrace spool purge --rejected` removes them")


# ---- both


def _free_bytes(path: str) -> int:
    if sys.platform == "win32":
        import shutil

        return shutil.disk_usage(path).free
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


@contextmanager
def _made_for_now(path: str | None) -> Iterator[None]:
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
