"""Sockets that keep to a total deadline.

HTTP clients bound each read and each write, not their sum: a collector that sends its reply a byte at a time holds a
request for as long as it likes. Here every wait of a request, from connect to the last byte, draws on one deadline.
The waits go through Patience, so that while a collector thinks, the exporter thread still empties a ring that fills up
and still hears that the process wants to end. Resolving a name is the one wait that nothing can interrupt: it is left
to a thread that may be late.

This is a network backend for httpcore, imported and used by the exporter thread only.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import httpcore

from fasttrace.exporters.base import is_ready
from fasttrace.exporters.descriptor import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fasttrace.exporters.base import Answer, Patience

CONNECT_TIMEOUT_S = 3.0
IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN)


class Deadline:
    """What is left of a request's time, and how to wait within it."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._ends_at = 0.0

    def start(self, timeout_s: float) -> None:
        self._ends_at = time.monotonic() + timeout_s

    def left_s(self) -> float:
        return self._ends_at - time.monotonic()

    def aside(self, act: Callable[[], Answer]) -> Answer | None:
        return self._patience.aside(act, self.left_s())

    def wait(self, sock: socket.socket, writing: bool, expired: type[Exception], most_s: float = 3600.0) -> None:
        """Until the socket is ready; `expired` is raised when the deadline, or `most_s`, passes first."""
        left_s = min(self.left_s(), most_s)
        if left_s <= 0 or not self._patience.until_ready(left_s, sock.fileno(), writing):
            raise expired("no time left")


class DeadlineBackend(httpcore.NetworkBackend):
    """Opens connections; their reads and writes share `deadline`. Timeouts passed by httpcore are not used."""

    def __init__(self, deadline: Deadline, socket_class: Callable[..., socket.socket] = socket.socket) -> None:
        self._deadline = deadline
        self._socket_class = socket_class
        self._newest: DeadlineStream | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError(f"{host}: no address")
        for family, kind, protocol, _, address in self._look_up(host, port):
            try:
                return self._connect(family, kind, protocol, address)
            except (OSError, httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure if not isinstance(failure, OSError) else httpcore.ConnectError(str(failure))

    def _look_up(self, host: str, port: int) -> list[Any]:
        """The addresses of a name. It is encoded here, because a codec that is being imported when the process forks
        could never be imported in the child."""
        name = host.encode("idna")
        found = self._deadline.aside(partial(_addresses, name, port))
        if found is None:
            raise httpcore.ConnectTimeout(f"{host}: no time left to look up the name")
        if isinstance(found, OSError):
            raise httpcore.ConnectError(f"{host}: {found}") from found
        return found

    def _connect(self, family: int, kind: int, protocol: int, address: Any) -> DeadlineStream:
        sock = self._socket_class(family, kind, protocol)
        self._newest = stream = DeadlineStream(sock, self._deadline)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(address)
            if code in IN_PROGRESS:
                self._deadline.wait(sock, True, httpcore.ConnectTimeout, CONNECT_TIMEOUT_S)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, errno.errorcode.get(code, "connect failed"))
        except BaseException:
            stream.close()
            raise
        return stream

    def abandon(self) -> None:
        """In a fork child: close its copy of the connection, of which there is one at most."""
        if self._newest is not None:
            self._newest.abandon()


def _addresses(host: bytes, port: int) -> list[Any] | OSError:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error


class DeadlineStream(httpcore.NetworkStream):
    """A connected, non-blocking socket, plain or TLS."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._identity = identity(sock.fileno())

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        received: bytes = self._when_ready(
            partial(self._sock.recv, max_bytes), False, httpcore.ReadTimeout, httpcore.ReadError
        )
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = memoryview(buffer)
        while left:
            sent = self._when_ready(partial(self._sock.send, left), True, httpcore.WriteTimeout, httpcore.WriteError)
            left = left[sent:]

    def _when_ready(
        self, act: Callable[[], Any], writing: bool, expired: type[Exception], failed: type[Exception]
    ) -> Any:
        while True:
            try:
                return act()
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                waits_for_write = writing if isinstance(error, BlockingIOError) else _wants_write(error)
            except OSError as error:
                raise failed(str(error)) from error
            self._deadline.wait(self._sock, waits_for_write, expired)

    def close(self) -> None:
        if self._is_ours():
            self._sock.close()
        else:
            self._sock.detach()

    def abandon(self) -> None:
        """Close the descriptor and nothing else: a goodbye would end the connection of the parent."""
        is_ours = self._is_ours()
        fd = self._sock.detach()
        if is_ours:
            os.close(fd)

    def _is_ours(self) -> bool:
        """False once the application has closed our descriptor."""
        fd = self._sock.fileno()
        return fd >= 0 and (self._identity is None or identity(fd) == self._identity)  # None: Windows

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname, do_handshake_on_connect=False)
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(str(error)) from error
        self._sock = sock
        try:
            self._when_ready(sock.do_handshake, False, httpcore.ConnectTimeout, httpcore.ConnectError)
        except BaseException:
            self.close()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of an idle connection: has the peer closed it?
            return not self._is_ours() or is_ready(self._sock.fileno(), False, 0.0)
        if info == "ssl_object" and isinstance(self._sock, ssl.SSLSocket):
            return self._sock
        return self._sock if info == "socket" else None


def _wants_write(error: OSError) -> bool:
    return isinstance(error, ssl.SSLWantWriteError)
