"""What the processor tells the recorder of content and streams: at its start, when it is reconfigured, at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fasttrace
from environment import inherited
from fasttrace.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable


def told(processor: Any) -> tuple[bool, bool, int]:
    recorder = processor.recorder
    return recorder.capture_input, recorder.capture_output, recorder.content_max_bytes


def test_no_content_is_captured_by_default(open_processor: Callable[..., Any]) -> None:
    assert told(open_processor()) == (False, False, 65_536)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"capture_content": "true"}, (True, True, 65_536)),
        ({"capture_content": "input", "content_max_bytes": 300}, (True, False, 300)),
        ({"capture_content": "output", "content_max_bytes": 900_000}, (False, True, 900_000)),
        ({"capture_content": "true", "content_max_bytes": 900_000}, (True, True, 507_904)),
    ],
)
def test_the_recorder_follows_the_settings(
    open_processor: Callable[..., Any], settings: dict[str, Any], expected: tuple[bool, bool, int]
) -> None:
    processor = open_processor(**settings)
    assert told(processor) == expected
    processor.reconfigure(processor.config._replace(**Config(capture_content="false")._asdict()))
    assert told(processor) == (False, False, 65_536)


def test_the_largest_content_of_a_span_arrives(open_processor: Callable[..., Any], collector: Any) -> None:
    processor = open_processor(
        collector_url=collector.url, capture_content="true", content_max_bytes=900_000, queue_max_size=1
    )
    most = told(processor)[2]
    fields = dict.fromkeys(("input", "output"), b'"' + b"x" * (most - 2) + b'"')
    processor.record(1, **fields, error_message="e" * 2048, error_stack="s" * 8192)
    processor.flush(20.0)
    assert processor.stats().content_lost == 0
    (span,) = collector.accepted()[0].spans
    assert (len(span["input"]), len(span["output"])) == (most - 2, most - 2)


class _Streams:
    """A core whose streams end with a span, or with an error."""

    def __init__(self, core: Any, processor: Any, error: Exception | None) -> None:
        self.ended = 0
        self.BACKEND = core.BACKEND
        self._processor = processor
        self._core = core
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def end_streams(self, recorder: Any) -> int:
        assert recorder is self._processor.recorder
        self.ended += 1
        if self._error is not None:
            raise self._error
        self._processor.record(1)
        return 1


@pytest.mark.parametrize("error", [None, RuntimeError("no")])
def test_streams_that_are_open_become_spans_before_the_last_delivery(
    open_processor: Callable[..., Any], core: Any, collector: Any, error: Exception | None
) -> None:
    processor = open_processor(collector_url=collector.url)
    processor.record(1)
    processor._core = streams = _Streams(core, processor, error)
    result = processor.shutdown(10.0)
    assert streams.ended == 1
    assert result.sent == len(collector.accepted_ids()) == (2 if error is None else 1)


def test_another_configuration_ends_no_stream(open_processor: Callable[..., Any], core: Any) -> None:
    processor = open_processor(way="none")
    processor.record(1)
    processor._core = streams = _Streams(core, processor, None)
    processor.reconfigure(processor.config._replace(capture_content="true"))
    assert streams.ended == 0


# A provider in a thread of the same process, whose stream is still open when the process ends.
APPLICATION = """
import json, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import fasttrace, openai

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): ...
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for text in ("Hel", "lo"):
            chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\\n\\n")
        threading.Event().wait()

server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(api_key="k", base_url=f"http://127.0.0.1:{server.server_address[1]}")
stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
next(stream)
keep = sys.modules["keep"] = stream
"""


def test_a_stream_that_is_open_at_the_exit_is_a_span_with_its_content(core: Any, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the openai SDK is not installed")
    script, spans = tmp_path / "application.py", tmp_path / "spans.jsonl"
    script.write_text(APPLICATION)
    settings = {
        "FASTTRACE_PURE": "1" if core.BACKEND == "pure" else "0",
        "FASTTRACE_EXPORTER": "file",
        "FASTTRACE_FILE": str(spans),
        "FASTTRACE_STATE_DIR": str(tmp_path / "state"),
        "FASTTRACE_CAPTURE_CONTENT": "true",
        "PYTHONPATH": str(Path(fasttrace.__file__).parent.parent),
    }
    done = subprocess.run(
        [sys.executable, str(script)], env=inherited() | settings, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    (span,) = map(json.loads, spans.read_text().splitlines())
    assert (span["status"], span["stream"], span["chunks"], span["usage_source"]) == ("incomplete", True, 1, "partial")
    assert span["input"] == {"messages": [{"role": "user", "content": "Hi"}]}
    assert span["output"] == [{"index": 0, "message": {"content": "Hel"}}]
