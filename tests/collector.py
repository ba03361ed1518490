"""A collector on the loopback interface that does what a test tells it, request by request.

`Collector()` accepts everything. `collector.script` holds what the next requests get instead, first in first out:

    Reply(503)                                     a status, with headers and a body if the test wants them
    Late(0.5)                                      an answer that takes its time
    Silent()                                       never answers, until the collector closes
    Drip(b"HTTP/1.1 200 OK\\r\\n...", 0.01)          a byte at a time
    Raw(b"garbage")                                these bytes, then the connection is closed
    Reset()                                        RST instead of an answer

`collector.rule` answers when the script is empty. `collector.gate` is an Event that every request waits for before it
is answered (set at first). Where `collector.key` is set, another key gets a 401. Everything received is kept in
`batches`, in order, whatever the answer was; `most_in_flight` tells how many requests there were at one time.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttrace.exporters.compression import decompress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WAIT_S = 20.0


class Received(NamedTuple):
    """One request: path, headers (lower-case names), body as sent, decoded lines, status it was answered with."""

    path: str
    headers: dict[str, str]
    body: bytes
    lines: list[bytes]
    status: int

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


class Reply(NamedTuple):
    status: int = 200
    body: bytes | Callable[[list[bytes]], bytes] | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Late(NamedTuple):
    delay_s: float
    reply: Reply = Reply()

    @property
    def status(self) -> int:
        return self.reply.status


class Silent(NamedTuple):
    status: int = 0


class Drip(NamedTuple):
    data: bytes
    interval_s: float
    status: int = 0


class Raw(NamedTuple):
    data: bytes
    status: int = 0


class Reset(NamedTuple):
    status: int = 0


class Collector:
    """Listens from construction (at `port`, if given) to `close`."""

    def __init__(self, port: int = 0) -> None:
        self.script: list[Any] = []
        self.rule: Callable[[list[bytes]], Any] = lambda lines: Reply()
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[Received] = []
        self.key: str | None = None
        self.connections = self.in_flight = self.most_in_flight = 0
        self.changed = threading.Condition()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.collector = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/api/ingest"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closing.set()
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    # ---- what came ----

    def accepted(self) -> list[Received]:
        """Batches answered with 200, each batch id once."""
        with self.changed:
            batches = {batch.headers["x-batch-id"]: batch for batch in self.batches if batch.status == 200}
        return list(batches.values())

    def accepted_ids(self) -> list[str]:
        """Span ids of everything accepted."""
        return [span["span_id"] for batch in self.accepted() for span in batch.spans]

    def wait(self, is_enough: Callable[[Collector], object]) -> None:
        """Until `is_enough(collector)`; an error after 20 s."""
        with self.changed:
            assert self.changed.wait_for(lambda: is_enough(self), WAIT_S), [batch.status for batch in self.batches]

    def wait_for_requests(self, count: int) -> None:
        self.wait(lambda collector: len(collector.batches) >= count)

    # ---- what to do ----

    def next_action(self, lines: list[bytes], headers: dict[str, str]) -> Any:
        with self.changed:
            if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
                return Reply(401)
            return self.script.pop(0) if self.script else self.rule(lines)

    def keep(self, received: Received) -> None:
        with self.changed:
            self.batches.append(received)
            self.changed.notify_all()

    def count_in_flight(self, change: int) -> None:
        with self.changed:
            self.in_flight += change
            self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def wait_for_close(self, timeout_s: float | None = None) -> bool:
        return self._closing.wait(timeout_s)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    collector: Collector

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of many tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes
    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.collector.changed:
            self.server.collector.connections += 1

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        collector = self.server.collector
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = int(headers["content-length"])
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        lines = decoded(body, headers.get("content-encoding", "none"))
        action = collector.next_action(lines, headers)
        collector.count_in_flight(1)
        collector.keep(Received(self.path, headers, body, lines, action.status))
        collector.gate.wait(WAIT_S)
        if isinstance(action, Late):
            collector.wait_for_close(action.delay_s)
            action = action.reply
        collector.count_in_flight(-1)
        _ACTIONS[type(action)](self, action, lines)

    def reply(self, action: Reply, lines: list[bytes]) -> None:
        body = action.body
        if body is None:
            body = json.dumps({"accepted": len(lines), "rejected": 0, "errors": []}).encode()
        elif callable(body):
            body = body(lines)
        self.send_response(action.status)
        for name, value in (*action.headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def silent(self, action: Silent, lines: list[bytes]) -> None:
        self.server.collector.wait_for_close()
        self.close_connection = True

    def drip(self, action: Drip, lines: list[bytes]) -> None:
        for byte in action.data:
            self.wfile.write(bytes([byte]))
            if self.server.collector.wait_for_close(action.interval_s):
                break
        self.close_connection = True

    def raw(self, action: Raw, lines: list[bytes]) -> None:
        self.wfile.write(action.data)
        self.close_connection = True

    def reset(self, action: Reset, lines: list[bytes]) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


_ACTIONS: dict[type, Callable[..., None]] = {
    Reply: _Handler.reply,
    Silent: _Handler.silent,
    Drip: _Handler.drip,
    Raw: _Handler.raw,
    Reset: _Handler.reset,
}


def decoded(body: bytes, encoding: str) -> list[bytes]:
    plain = gzip.decompress(body) if encoding == "gzip" else decompress(body, encoding)
    return plain.splitlines()


def rejecting(is_bad: Callable[[dict[str, Any]], bool]) -> Callable[[list[bytes]], Reply]:
    """A rule: 400 to any batch with a bad span in it."""
    return lambda lines: Reply(400 if any(is_bad(json.loads(line)) for line in lines) else 200)


def limited(max_bytes: int) -> Callable[[list[bytes]], Reply]:
    """A rule: 413 to any batch whose lines together are larger."""
    return lambda lines: Reply(413 if sum(map(len, lines)) > max_bytes else 200)


def named_errors(errors: Iterable[tuple[int, str]]) -> Reply:
    """A 200 that rejects lines by number."""
    listed = [{"line": line, "error": error} for line, error in errors]

    def body(lines: list[bytes]) -> bytes:
        counts = {"accepted": len(lines) - len(listed), "rejected": len(listed)}
        return json.dumps({**counts, "errors": listed}).encode()

    return Reply(200, body)
