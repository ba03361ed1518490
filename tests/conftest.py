"""Fixtures shared by all tests: both cores side by side, a recorder on anonymous memory, and what it recorded."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import environment  # noqa: F401 - rings of tests lie apart

# The process under test records only where a test says so, and leaves nothing in anybody's home or shared memory.
os.environ.setdefault("FASTTRACE_AUTO_INSTRUMENT", "false")

from fasttrace.core._api import CURRENT, RingOwner, RingShape

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = "2026-11-01"


def _backends() -> list[str]:
    """FASTTRACE_PURE=0 requires the native core, 1 leaves it out; unset, it is tested where it was built."""
    wish = os.environ.get("FASTTRACE_PURE")
    if wish == "1":
        return ["pure"]
    try:
        importlib.import_module("fasttrace.core._native")
    except ImportError:
        if wish == "0":
            raise
        return ["pure"]
    return ["native", "pure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--own-core-only",
        action="store_true",
        help="leave out the tests that run on both cores whichever is the process's own: another run had them",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--own-core-only"):
        return
    left_out = [item for item in items if "core" in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in set(left_out)]
    config.hook.pytest_deselected(items=left_out)


def pytest_report_header() -> str:
    return f"fasttrace cores under test: {', '.join(_backends())}"


@pytest.fixture(params=_backends())
def core(request: pytest.FixtureRequest) -> Any:
    """The module of one core; tests that take it run once for each."""
    return importlib.import_module(f"fasttrace.core._{request.param}")


class Recording:
    """A recorder with a ring of its own, read back as parsed spans."""

    def __init__(self, core: Any, shape: RingShape | None = None) -> None:
        self.core = core
        self.starts = 0
        self.recorder = core.Recorder(self._start)
        self.recorder.active = True
        self.recorder.price_version = VERSION
        self.shape = shape or RingShape(slots=1024, arena_bytes=1 << 20)
        self._start()

    def _start(self) -> None:
        self.starts += 1
        owner = RingOwner(os.urandom(16), os.urandom(16), os.getpid(), 0, 0)
        self.recorder.ring = self.core.Ring(-1, self.shape, owner)

    def lines(self) -> list[bytes]:
        """What was recorded since the last look, as NDJSON lines."""
        found: list[bytes] = []
        while (batch := self.recorder.ring.read(10_000, 1 << 24)).count:
            found += batch.encode(self.recorder.prices, VERSION, b"").splitlines()
            self.recorder.ring.acknowledge(batch.next_ticket)
        return found

    def spans(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]

    def span(self) -> dict[str, Any]:
        """The one span that was recorded since the last look."""
        (span,) = self.spans()
        return span


@pytest.fixture
def recording(core: Any) -> Recording:
    return Recording(core)


@pytest.fixture(autouse=True)
def no_span_left_behind() -> Any:
    """Whatever a test does, it ends with no span current."""
    assert CURRENT.get() is None
    yield
    assert CURRENT.get() is None


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Exceptions that nobody could be told of."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    return seen


def server_sent_event(piece: Any) -> bytes:
    """Data, or (event name, data), as it is sent. Bytes go as they are."""
    if isinstance(piece, bytes):
        return piece
    name, data = piece if isinstance(piece, tuple) else ("", piece)
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle is what some tests are about."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class ScriptedProvider:
    """An HTTP server on the loopback interface that answers what it was told, in order, and keeps what it was asked."""

    CUT = object()

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], bytes | list[Any]]] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None: ...

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                provider.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, headers, reply = provider.script.pop(0)
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                if isinstance(reply, bytes):
                    self.send_header("content-length", str(len(reply)))
                    self.end_headers()
                    self.wfile.write(reply)
                else:
                    self.send_header("transfer-encoding", "chunked")
                    self.end_headers()
                    self.close_connection = not self.send_pieces(reply)

            do_GET = do_POST

            def send_pieces(self, pieces: list[Any]) -> bool:
                """Whether all of it went out: the client may have left, and a script may cut it."""
                try:
                    for piece in pieces:
                        if piece is provider.CUT:
                            return False
                        if isinstance(piece, threading.Event):
                            piece.wait(20)
                            continue
                        data = server_sent_event(piece)
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                    self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    return False
                return True

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, body: object, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.script.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, data))

    def stream(self, pieces: Iterable[Any], status: int = 200, **headers: str) -> None:
        """Answer with server-sent events, each sent by itself: data (a mapping, or text such as "[DONE]"), or
        ("name", data), or bytes as they are. At an Event the server waits until it is set, at CUT it hangs up."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.script.append((status, {"content-type": "text/event-stream; charset=utf-8", **named}, list(pieces)))


@pytest.fixture
def provider() -> Any:
    scripted = ScriptedProvider()
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()
