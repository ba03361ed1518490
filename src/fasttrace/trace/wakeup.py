"""How the exporter thread is woken, and how it waits for a socket without being deaf meanwhile.

One descriptor that any thread, and the native core from C, can write to without blocking: an eventfd on Linux, a pipe
elsewhere, a pair of sockets on Windows (where the core cannot write to it and the thread is paced by its interval).
`set` may be called from any thread and from a signal handler; `wait` belongs to the exporter thread. An application
that closes descriptors it does not know takes it away: from then on the thread looks around by itself.

The exporter is a thread of the operating system even where gevent or eventlet have replaced threads with greenlets:
a greenlet would starve whenever the application computes. `original` finds what they replaced.
"""

from __future__ import annotations

import math
import os
import sys
from importlib import import_module
from typing import Any

from fasttrace.exporters.descriptor import identity

ONE = (1).to_bytes(8, sys.byteorder)
TIMEOUT_MAX_S = 3600.0
BLIND_WAIT_S = 0.05


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
    """A flag that a thread can wait for together with a socket. `fd` is what the native core writes to, or -1.

    is_lost: the descriptors are closed, by `close` or behind our back, and their numbers may be somebody else's.
    """

    def __init__(self) -> None:
        import_module("select")  # now: later there may be no descriptor left to read it with
        self._sockets: tuple[Any, ...] = ()
        self.is_lost = False
        if sys.platform == "win32":
            self._open_sockets()
        elif hasattr(os, "eventfd"):
            self._read_fd = self._write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._open_pipe()
        self.fd = -1 if self._sockets else self._write_fd
        self._identities = self._present()

    def _present(self) -> tuple[Any, ...]:
        return identity(self._read_fd), identity(self._write_fd)

    def _check(self) -> bool:
        """Whether the descriptors are there, and ours."""
        if not self.is_lost and self._present() != self._identities:
            self._lose()
        return not self.is_lost

    def _lose(self) -> None:
        self.is_lost = True
        self.fd = -1
        for end in self._sockets:
            end.detach()

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
        if not self._check():
            return
        try:
            if self._sockets:
                self._sockets[1].send(ONE)
            else:
                os.write(self._write_fd, ONE)
        except BlockingIOError:  # full: a wake-up is already waiting
            return
        except OSError:  # closed since the check
            self._lose()

    def wait(self, timeout_s: float, fd: int = -1, writing: bool = False) -> tuple[bool, bool]:
        """Wait for a wake-up, or for `fd` to be readable (writable). Returns (was woken, fd is ready).

        Where the descriptors are lost, nobody can say that there was a wake-up: it returns soon, as if there was.
        """
        if not self._check():
            return True, fd in _select(-1, fd, writing, min(max(timeout_s, 0.0), BLIND_WAIT_S))
        ready = _select(self._read_fd, fd, writing, min(max(timeout_s, 0.0), TIMEOUT_MAX_S))
        woken = self._read_fd in ready
        if woken and self._check():
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
        except OSError:  # closed since the check
            self._lose()

    def close(self) -> None:
        """Close this process's copies of the descriptors. Nothing happens to a number that is somebody else's."""
        if not self._check():
            return
        self.is_lost = True
        self.fd = -1
        if self._sockets:
            for end in self._sockets:
                end.close()
            return
        for fd in {self._read_fd, self._write_fd}:
            os.close(fd)


def _select(wake_fd: int, fd: int, writing: bool, timeout_s: float) -> list[int]:
    if sys.platform == "win32":
        readers = [read_fd for read_fd in (wake_fd, -1 if writing else fd) if read_fd >= 0]
        writers = [fd] if fd >= 0 and writing else []
        if not readers and not writers:
            original("time", "sleep")(timeout_s)
            return []
        readable, writable, _ = original("select", "select")(readers, writers, writers, timeout_s)
        return [*readable, *writable]
    import select

    poll = original("select", "poll")()
    if wake_fd >= 0:
        poll.register(wake_fd, select.POLLIN)
    if fd >= 0:
        poll.register(fd, select.POLLOUT if writing else select.POLLIN)
    return [ready for ready, _ in poll.poll(math.ceil(timeout_s * 1000))]
