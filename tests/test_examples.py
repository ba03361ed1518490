"""Each file in examples/ runs as a user would run it, against a loopback provider, and its spans arrive."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from environment import inherited
from fasttrace.cli.loopback import KEY, Collector, Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
HAIKU, MINI = "claude-haiku-4-5-20251001", "gpt-4o-mini-2024-07-18"


class Room:
    """Where an example runs: a provider, a collector, and the settings that lead to them."""

    def __init__(self, provider: Provider, collector: Collector, state_dir: Path) -> None:
        self.collector = collector
        self.environment = {
            **inherited("FASTTRACE_PURE"),
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": provider.base_url,
            "GROQ_API_KEY": KEY,
            "GROQ_BASE_URL": provider.base_url,
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": provider.root_url,
            "GEMINI_API_KEY": KEY,
            "GOOGLE_GEMINI_BASE_URL": provider.root_url,
            "FASTTRACE_COLLECTOR_URL": collector.url,
            "FASTTRACE_STATE_DIR": str(state_dir),
        }

    def spans_of(self, name: str) -> list[dict[str, Any]]:
        """What arrived from an example that ran to its end, in the order in which its calls were made."""
        done = subprocess.run(
            [sys.executable, EXAMPLES / name], env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        return sorted(self.collector.spans, key=lambda span: span["timestamp"])

    @contextmanager
    def serving(self, application: str) -> Iterator[str]:
        """The URL of an application of ours, until it was asked to stop and has stopped."""
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), application, "--port", "0"]
        with subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr
            lines = iter(server.stderr.readline, "")
            url = next((found[0] for line in lines if (found := re.search(r"http://[\d.:]+", line))), None)
            assert url
            try:
                yield url
            finally:
                server.send_signal(signal.SIGINT)
                said = "".join(lines)
                server.wait(20)
        assert "Traceback" not in said, said


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with Provider() as provider, Collector() as collector:
        yield Room(provider, collector, tmp_path)


def assert_counted(span: dict[str, Any]) -> None:
    assert (span["status"], span["usage_source"]) == ("success", "provider")
    assert span["input_tokens"] > 0
    assert span["output_tokens"] > 0


def test_every_example_has_a_test() -> None:
    tested = set(re.findall(r"\b\w+(?=\.py\"|:app)", Path(__file__).read_text(encoding="utf-8")))
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested


def test_basic_gives_one_call_under_one_task(room: Room) -> None:
    spans = {span["name"]: span for span in room.spans_of("basic.py")}
    assert set(spans) == {"greet", "chat gpt-4o-mini"}
    call, task = spans["chat gpt-4o-mini"], spans["greet"]
    assert call["parent_span_id"] == task["span_id"]
    assert call["model_id"] == MINI
    assert task["attributes"] == {"language": "en"}


def test_async_calls_are_all_children_of_their_chain(room: Room) -> None:
    spans = room.spans_of("async_calls.py")
    (chain,) = [span for span in spans if span["kind"] == "chain"]
    calls = [span for span in spans if span["kind"] != "chain"]
    assert sorted(span["operation"] for span in calls) == ["chat", "chat", "chat", "embeddings"]
    assert {span["parent_span_id"] for span in calls} == {chain["span_id"]}
    assert {span["trace_id"] for span in calls} == {chain["trace_id"]}


def test_each_stream_is_one_span_with_its_first_text_and_its_usage(room: Room) -> None:
    spans = room.spans_of("streaming.py")
    assert [span["model_id"] for span in spans] == [MINI, HAIKU, "gemini-2.5-flash"]
    for span in spans:
        assert_counted(span)
        assert span["stream"] is True
        assert span["chunks"] > 3
        assert span["first_chunk_ms"] <= span["first_text_ms"] <= span["duration_ms"]
        assert "cost_usd" in span


def test_several_providers_are_children_of_one_span(room: Room) -> None:
    chain, *calls = room.spans_of("several_providers.py")
    assert chain["name"] == "compare answers"
    assert {span["parent_span_id"] for span in calls} == {chain["span_id"]}
    assert {span["model_id"] for span in calls} == {MINI, "llama-3.3-70b-versatile", HAIKU, "gemini-2.5-flash"}
    for span in calls:
        assert_counted(span)


def test_raw_responses_have_the_tokens_of_what_was_parsed(room: Room) -> None:
    plain, streaming, stream = spans = room.spans_of("raw_responses.py")
    for span in spans:
        assert_counted(span)
        assert span["model_id"] == MINI
    assert "stream" not in plain and "stream" not in streaming
    assert stream["stream"] is True


def test_captured_content_is_redacted(room: Room) -> None:
    (span,) = room.spans_of("content_capture.py")
    said = json.dumps(span["input"])
    assert "Where is order A-1042?" in said
    assert "[redacted]" in said
    assert "sk-proj" not in said
    assert "The parcel left the depot" in json.dumps(span["output"])


def test_a_service_delivers_what_it_served_when_it_stops(room: Room) -> None:
    with room.serving("fastapi_service:app") as url:
        body, headers = json.dumps({"question": "Where?"}).encode(), {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{url}/ask", body, headers), timeout=20) as reply:
            answer = json.load(reply)["answer"]
        with urllib.request.urlopen(f"{url}/stream?question=Where", timeout=20) as reply:
            assert reply.read().decode().split() == answer.split()
    spans = {(span["name"], span.get("stream", False)): span for span in room.collector.spans}
    assert set(spans) == {("ask", False), ("chat gpt-4o-mini", False), ("chat gpt-4o-mini", True)}
    assert spans["chat gpt-4o-mini", False]["parent_span_id"] == spans["ask", False]["span_id"]
    for (name, _), span in spans.items():
        if name != "ask":
            assert_counted(span)
