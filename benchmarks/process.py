"""A whole fasttrace in a process of its own: configured, instrumented, delivering to a loopback collector."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
LIMIT_S = 600


class Collector(BaseHTTPRequestHandler):
    """Takes every batch as it comes, and looks into none."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one segment

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        answer = json.dumps({"accepted": int(self.headers["x-span-count"]), "rejected": 0, "errors": []}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """No lines on standard error."""


@contextmanager
def collector() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ring_directory() -> tempfile.TemporaryDirectory[str]:
    """In memory, and not among the rings of applications: whatever those left behind would be delivered here."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def run(core: str, function: str, **settings: str) -> dict[str, float]:
    """Call `module.function` of this directory in a new interpreter with that core; the figures it returns."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FASTTRACE_")}
    module, _, name = function.partition(".")
    script = f"import json, sys; sys.path.insert(0, {str(HERE)!r}); import {module} as m; print(json.dumps(m.{name}()))"
    with collector() as url, ring_directory() as rings, tempfile.TemporaryDirectory() as state:
        own = {"PURE": "1" if core == "pure" else "0", "COLLECTOR_URL": url, "STATE_DIR": state, "RING_DIR": rings}
        own |= settings
        environment = inherited | {f"FASTTRACE_{key}": value for key, value in own.items()}
        child = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=LIMIT_S
        )
    if child.returncode:
        raise RuntimeError(child.stderr)
    figures: dict[str, float] = json.loads(child.stdout)
    return figures
