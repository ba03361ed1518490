"""Each file in examples/ runs as a user would run it, against a loopback provider, and its spans arrive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fasttrace.cli.loopback import KEY, Collector, Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def spans_of(tmp_path: Path) -> Iterator[Any]:
    with Provider() as provider, Collector() as collector:

        def run(name: str) -> list[dict[str, Any]]:
            inherited = {n: v for n, v in os.environ.items() if n == "FASTTRACE_PURE" or not n.startswith("FASTTRACE_")}
            settings = {
                "OPENAI_API_KEY": KEY,
                "OPENAI_BASE_URL": provider.base_url,
                "FASTTRACE_COLLECTOR_URL": collector.url,
                "FASTTRACE_STATE_DIR": str(tmp_path),
            }
            done = subprocess.run(
                [sys.executable, EXAMPLES / name],
                env={**inherited, **settings},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert (done.returncode, done.stderr) == (0, "")
            return collector.spans

        yield run


def test_every_example_has_a_test() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"basic.py", "async_calls.py"}


def test_basic_gives_one_call_under_one_task(spans_of: Any) -> None:
    spans = {span["name"]: span for span in spans_of("basic.py")}
    assert set(spans) == {"greet", "chat gpt-4o-mini"}
    call, task = spans["chat gpt-4o-mini"], spans["greet"]
    assert call["parent_span_id"] == task["span_id"]
    assert call["model_id"] == "gpt-4o-mini-2024-07-18"
    assert task["attributes"] == {"language": "en"}


def test_async_calls_are_all_children_of_their_chain(spans_of: Any) -> None:
    spans = spans_of("async_calls.py")
    (chain,) = [span for span in spans if span["kind"] == "chain"]
    calls = [span for span in spans if span["kind"] != "chain"]
    assert sorted(span["operation"] for span in calls) == ["chat", "chat", "chat", "embeddings"]
    assert {span["parent_span_id"] for span in calls} == {chain["span_id"]}
    assert {span["trace_id"] for span in calls} == {chain["trace_id"]}
