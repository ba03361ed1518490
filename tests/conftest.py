"""Fixtures shared by all tests: both cores side by side, a recorder on anonymous memory, and what it recorded."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

# The process under test records only where a test says so, and leaves nothing in anybody's home.
os.environ.setdefault("FASTTRACE_AUTO_INSTRUMENT", "false")

from fasttrace.core._api import CURRENT, RingOwner, RingShape

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


class ScriptedProvider:
    """An HTTP server on the loopback interface that answers what it was told, in order, and keeps what it was asked."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], bytes]] = []
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
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, body: object, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.script.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, data))


@pytest.fixture
def provider() -> Any:
    scripted = ScriptedProvider()
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()
