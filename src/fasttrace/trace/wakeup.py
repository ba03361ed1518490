"""How the exporter thread is woken, and how it waits for a socket without being deaf meanwhile.

One descriptor that any thread, and the native core from C, can write to without blocking: an eventfd on Linux, a pipe
elsewhere, a pair of sockets on Windows (where the core cannot write to it and the thread is paced by its interval).
`set` may be called from any thread and from a signal handler; `wait` belongs to the exporter thread.

The exporter is a thread of the operating system even where gevent or eventlet have replaced threads with greenlets:
a greenlet would starve whenever the application computes. `original` finds what they replaced.
"""

from __future__ import annotations

import math
import os
import sys
from importlib import import_module
from typing import Any

ONE = (1).to_bytes(8, sys.byteorder)
TIMEOUT_MAX_S = 3600.0


def original(module: str, name: str) -> Any:
    """`module.name` as the standard library has it, whatever gevent or eventlet put in its place."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None:
        return gevent.get_original(module, name)
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return getattr(eventlet.original(module), name)
    return getattr(import_module(module), name)


class Wakeup:
    """A flag that a thread can wait for together with a socket. `fd` is what the native core writes to, or -1."""

    def __init__(self) -> None:
        self._sockets: tuple[Any, ...] = ()
        if sys.platform == "win32":
            self._open_sockets()
        elif hasattr(os, "eventfd"):
            self._read_fd = self._write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._open_pipe()
        self.fd = -1 if self._sockets else self._write_fd

    def _open_pipe(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)

    def _open_sockets(self) -> None:
        self._sockets = original("socket", "socketpair")()
        for end in self._sockets:
            end.setblocking(False)
        self._read_fd, self._write_fd = (end.fileno() for end in self._sockets)

    def set(self) -> None:
        try:
            if self._sockets:
                self._sockets[1].send(ONE)
            else:
                os.write(self._write_fd, ONE)
        except BlockingIOError:  # full: a wake-up is already waiting
            return

    def wait(self, timeout_s: float, fd: int = -1, writing: bool = False) -> tuple[bool, bool]:
        """Wait for a wake-up, or for `fd` to be readable (writable). Returns (was woken, fd is ready)."""
        ready = _select(self._read_fd, fd, writing, min(max(timeout_s, 0.0), TIMEOUT_MAX_S))
        woken = self._read_fd in ready
        if woken:
            self._clear()
        return woken, fd in ready

    def _clear(self) -> None:
        try:
            if self._sockets:
                self._sockets[0].recv(4096)
            else:
                os.read(self._read_fd, 4096)
        except BlockingIOError:  # another reader cannot be, but a spurious readiness can
            return

    def close(self) -> None:
        """Close this process's copies of the descriptors."""
        self.fd = -1
        if self._sockets:
            for end in self._sockets:
                end.close()
            return
        for fd in {self._read_fd, self._write_fd}:
            os.close(fd)


def _select(wake_fd: int, fd: int, writing: bool, timeout_s: float) -> list[int]:
    if sys.platform == "win32":
        readers = [wake_fd] if fd < 0 or writing else [wake_fd, fd]
        writers = [fd] if fd >= 0 and writing else []
        readable, writable, _ = original("select", "select")(readers, writers, writers, timeout_s)
        return [*readable, *writable]
    import select

    poll = original("select", "poll")()
    poll.register(wake_fd, select.POLLIN)
    if fd >= 0:
        poll.register(fd, select.POLLOUT if writing else select.POLLIN)
    return [ready for ready, _ in poll.poll(math.ceil(timeout_s * 1000))]
