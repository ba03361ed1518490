"""Servers that stand in the way: a proxy that cuts connections, a TLS server, a socket that nobody accepts from."""

from __future__ import annotations

import socket
import ssl
import struct
import threading

RST = struct.pack("ii", 1, 0)


class Cut:
    """What to let through of one connection: so many bytes of the request, of the reply. None: all. With `is_reset`
    the connection ends in an RST, else half by half."""

    def __init__(self, request: int | None = None, reply: int | None = None, is_reset: bool = False) -> None:
        self.request = request
        self.reply = reply
        self.is_reset = is_reset


class CuttingProxy:
    """A TCP proxy to `port` that serves one connection after the other, each by the next of `cuts`. `carried`: bytes of
    the last connection that ended, up and down."""

    def __init__(self, port: int) -> None:
        self.cuts: list[Cut] = []
        self.carried = (0, 0)
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            cut = self.cuts.pop(0) if self.cuts else Cut()
            with client, socket.create_connection(("127.0.0.1", self._target)) as server:
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connect(client, server, cut)

    def _connect(self, client: socket.socket, server: socket.socket, cut: Cut) -> None:
        up: list[int] = []
        upward = threading.Thread(target=lambda: up.append(_carry(client, server, cut.request, cut.is_reset)))
        upward.start()
        down = _carry(server, client, cut.reply, cut.is_reset)
        upward.join()
        self.carried = up[0], down


def _carry(source: socket.socket, target: socket.socket, limit: int | None, is_reset: bool) -> int:
    """Bytes from `source` to `target` until its end, or until `limit` of them have passed; returns how many did."""
    left, carried = limit, 0
    try:
        while left is None or left > 0:
            data = source.recv(65536 if left is None else left)
            if not data:
                break
            target.sendall(data)
            carried += len(data)
            left = None if left is None else left - len(data)
    except OSError:
        pass  # the other direction was cut
    ends = (source, target) if left == 0 else (target,)
    for end in ends:
        _end(end, is_reset and left == 0)
    return carried


def _end(sock: socket.socket, is_reset: bool) -> None:
    try:
        if is_reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already


class TlsServer:
    """Keeps the bytes that get through TLS, and accepts every request."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.received = b""
        self.connections = 0
        self.failures: list[str] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with client:
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        client.settimeout(10)
        try:
            with self._context.wrap_socket(client, server_side=True) as tls:
                while data := tls.recv(65536):
                    self.received += data
                    if _is_whole(self.received):
                        tls.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        except OSError as error:
            self.failures.append(str(error))


def _is_whole(received: bytes) -> bool:
    """Whether the last request in `received` is complete."""
    head, blank, body = received.rpartition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(blank and lengths) and len(body) >= int(lengths[-1].split(b":")[1])


def full_backlog() -> tuple[socket.socket, list[socket.socket]]:
    """A listener that takes no more connections: a SYN to it gets no answer. Keep what is returned alive."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting: list[socket.socket] = []
    while len(waiting) < 8:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
        waiting.append(sock)
    return listener, waiting
