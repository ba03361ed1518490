"""Where a ring lives: a private file in shared memory, so that what a finished call wrote outlives its process.

Both cores map what is opened here. Tried in order: the directory that FASTTRACE_RING_DIR names, a per-user directory
in the system's shared memory, the XDG runtime directory; else memory of the process alone. Only the first may be on a
disk: a mapped file under writeback makes a push wait. The file is created exclusively in a directory that belongs to
this user alone, and allocated in full before anything maps it: a sparse file on a full tmpfs kills the process that
touches it. A shape that does not fit is halved until it does. It has its name only once it is locked: who looks for the
rings of the dead (_orphans.py) must not take one that is being made.

The lock that tells a live owner from a dead one is held through a descriptor of its own (`lock_fd`), not the one that
is mapped: a mapping keeps its open file, with its lock, alive in every fork child, for as long as the child lives.
Runs once per process, on the thread that starts the ring; nothing here raises to the caller.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from ._api import RingOwner, RingShape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOTS_MIN = 256
ARENA_MIN_BYTES = 4096
MEMORY_FILE_SYSTEMS = frozenset(("tmpfs", "ramfs"))
SHARED_MEMORY = "/dev/shm"
SUFFIX, UNFINISHED = ".ring", ".making"
ZEROS_BYTES = 1 << 20


class Place(NamedTuple):
    """A directory that may hold rings."""

    kind: str
    directory: str
    may_be_disk: bool


class Backing:
    """An open ring file, or none.

    fd: to be mapped, -1 for anonymous memory. lock_fd: holds the lock while it is open. path: None when anonymous.
    shape: what fitted. kind: "ring_dir", "shm", "xdg" or "anonymous". reason: why nothing earlier in this order, or
    nothing larger, was to be had; empty when the first choice was taken.
    """

    __slots__ = ("fd", "kind", "lock_fd", "path", "reason", "shape")

    def __init__(
        self, fd: int, path: str | None, shape: RingShape, kind: str, reason: str = "", lock_fd: int = -1
    ) -> None:
        self.fd = fd
        self.path = path
        self.shape = shape
        self.kind = kind
        self.reason = reason
        self.lock_fd = lock_fd

    def close(self) -> None:
        """Close this process's copies of the descriptors; a mapping stays. A fork child must do this."""
        for fd in (self.fd, self.lock_fd):
            _close(fd)
        self.fd = self.lock_fd = -1

    def remove(self) -> None:
        """Delete the file: everything in it is delivered."""
        if self.path is None:
            return
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.reason = f"{self.path}: {error.strerror}"


def new_owner() -> RingOwner:
    """This process, as it signs a new ring."""
    return RingOwner(os.urandom(16), boot_id(), os.getpid(), process_start(), time.time_ns())


def boot_id() -> bytes:
    """16 bytes that change with every boot of the machine; zeros where the system does not tell."""
    try:
        digits = _read_text("/proc/sys/kernel/random/boot_id").strip().replace("-", "")
        return bytes.fromhex(digits)[:16].ljust(16, b"\0")
    except (OSError, ValueError):
        return bytes(16)


def process_start(pid: int | str = "self") -> int:
    """Start time of a process in clock ticks since boot (a pid alone may have been used again); 0 where unknown."""
    fields = _process_fields(pid)
    return int(fields[19]) if len(fields) > 19 and fields[19].isdecimal() else 0


def is_alive(pid: int, start: int | None = None) -> bool:
    """Whether a process runs, and is the one that began at `start` (None or 0: unknown), not a later one of its number.
    One that is dead and that nobody has asked for its exit code yet does not. True where the system cannot be asked."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's, so it is there
    if _process_fields(pid)[:1] in (["Z"], ["X"]):
        return False
    return not start or process_start(pid) in (start, 0)


def _process_fields(pid: int | str) -> list[str]:
    """What /proc says of a process, from its state on; empty where it says nothing."""
    try:
        return _read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        return []


def _read_text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def open_ring_file(
    directory: str | None, shape: RingShape, owner: RingOwner, region_bytes: Callable[[RingShape], int]
) -> Backing:
    """A locked, allocated, private file for a ring of `shape` or smaller, or anonymous memory. Never raises.

    `directory` is the user's choice, if any; `region_bytes` the core's size of a shape.
    """
    reasons: list[str] = []
    if sys.platform == "win32":
        return Backing(-1, None, shape, "anonymous", "Windows")
    for place in places(directory):
        try:
            return _open_in(place, shape, owner, region_bytes, reasons)
        except (OSError, ValueError) as error:
            reasons.append(f"{place.directory}: {_text_of(error)}")
    return Backing(-1, None, shape, "anonymous", "; ".join(reasons) or "no shared memory")


def _text_of(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def places(directory: str | None) -> Iterator[Place]:
    """Where rings may be, the user's choice first."""
    if directory:
        yield Place("ring_dir", os.path.abspath(os.path.expanduser(directory)), True)
    if os.path.isdir(SHARED_MEMORY):
        yield Place("shm", f"{SHARED_MEMORY}/fasttrace-{os.geteuid()}", False)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime):
        yield Place("xdg", os.path.join(runtime, "fasttrace"), False)


def _open_in(
    place: Place, shape: RingShape, owner: RingOwner, region_bytes: Callable[[RingShape], int], reasons: list[str]
) -> Backing:
    name = f"{owner.pid}-{owner.writer_id.hex()}{SUFFIX}"
    directory_fd = _open_directory(place)
    try:
        lock_fd, fd, fitted = _create(name, directory_fd, shape, region_bytes)
    finally:
        os.close(directory_fd)
    if fitted != shape:
        reasons.append(f"{place.directory}: room for {fitted.slots} slots of {shape.slots}")
    return Backing(fd, os.path.join(place.directory, name), fitted, place.kind, "; ".join(reasons), lock_fd)


def _open_directory(place: Place) -> int:
    """A descriptor of the directory, made if it is missing; OSError if others could write to it or read it."""
    if place.may_be_disk:
        os.makedirs(os.path.dirname(place.directory), exist_ok=True)
    try:
        os.mkdir(place.directory, 0o700)
    except FileExistsError:
        pass  # ours or not: the checks below decide
    fd = open_own_directory(place.directory)
    try:
        _check_memory(fd, place)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_own_directory(path: str) -> int:
    """A descriptor of a directory that is there; OSError if it is not this user's alone, or a link."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid():
            raise PermissionError(f"belongs to user {status.st_uid}")
        if status.st_mode & 0o077:
            raise PermissionError(f"is open to others (mode {status.st_mode & 0o777:04o}); it needs 0700")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_memory(fd: int, place: Place) -> None:
    status = os.fstat(fd)
    if not place.may_be_disk and file_system_of(status.st_dev) not in MEMORY_FILE_SYSTEMS:
        raise OSError("is not in memory; name it in FASTTRACE_RING_DIR to use it all the same")


def file_system_of(device: int) -> str:
    """Type of the mounted file system with this device number; "" where the system does not tell."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = _read_text("/proc/self/mountinfo").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields, _, about = line.partition(" - ")
        if fields.split()[2:3] == [wanted]:
            return about.partition(" ")[0]
    return ""


def _create(
    name: str, directory_fd: int, shape: RingShape, region_bytes: Callable[[RingShape], int]
) -> tuple[int, int, RingShape]:
    """Descriptors for the lock and for the mapping, and the shape that fitted."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    unnamed = name + UNFINISHED
    lock_fd = os.open(unnamed, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory_fd)
    fd = -1
    try:
        _lock(lock_fd)
        fitted = _allocate_halving(lock_fd, shape, region_bytes)
        fd = os.open(unnamed, flags, dir_fd=directory_fd)
        _check_same(lock_fd, fd, region_bytes(fitted))
        os.rename(unnamed, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    except BaseException:
        os.unlink(unnamed, dir_fd=directory_fd)
        _close(lock_fd)
        _close(fd)
        raise
    return lock_fd, fd, fitted


def _lock(fd: int) -> None:
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _allocate_halving(fd: int, shape: RingShape, region_bytes: Callable[[RingShape], int]) -> RingShape:
    while True:
        try:
            _allocate(fd, region_bytes(shape))
            return shape
        except OSError:
            os.ftruncate(fd, 0)
            if shape.slots // 2 < SLOTS_MIN:
                raise
        arena_bytes = max(shape.arena_bytes // 2, ARENA_MIN_BYTES)
        shape = shape._replace(slots=shape.slots // 2, arena_bytes=arena_bytes, inflight=shape.inflight // 2)


def _allocate(fd: int, size: int) -> None:
    """Every byte backed by memory; OSError where there is not enough."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    zeros = bytes(min(size, ZEROS_BYTES))
    for at in range(0, size, len(zeros)):
        os.pwrite(fd, zeros[: size - at], at)


def _check_same(lock_fd: int, fd: int, size: int) -> None:
    """Both descriptors are the one file of the full size, and its name has not been taken away meanwhile."""
    locked, mapped = os.fstat(lock_fd), os.fstat(fd)
    if (locked.st_dev, locked.st_ino) != (mapped.st_dev, mapped.st_ino) or not locked.st_nlink:
        raise OSError("the file was replaced while it was being made")
    if mapped.st_size < size:
        raise OSError("the file is shorter than was allocated")


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
