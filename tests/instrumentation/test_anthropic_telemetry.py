"""Releases 2 of the anthropic SDK trace their own calls with OpenTelemetry: neither doubled nor broken by ours.

The calls are made by `anthropic_traced.py` in a process of its own, without us and with us.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anthropic_calls import message, refusal, text_events

if TYPE_CHECKING:
    from collections.abc import Collection

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
if int(anthropic.__version__.partition(".")[0]) < 2:
    pytest.skip(f"anthropic {anthropic.__version__} traces nothing itself", allow_module_level=True)

SCOPE = "com.anthropic.sdk.python"
SOURCE = Path(__file__).parents[2] / "src"
PROGRAM = Path(__file__).parent / "anthropic_traced.py"
STATUS = {
    "plain": "success",
    "read": "success",
    "helped": "success",
    "broken_off": "incomplete",
    "dropped": "incomplete",
    "unread": "incomplete",
    "raw": "success",
    "raw_stream": "success",
    "refused": "error",
    "read_async": "success",
    "broken_off_async": "incomplete",
}
PLAIN = ("plain", "raw")
# Differs from one call to the next by themselves.
MEASURED = ("gen_ai.response.time_to_first_chunk",)


def answer(provider: Any, name: str) -> None:
    if name in PLAIN:
        provider.answer(message(), request_id="req_1")
    elif name == "refused":
        provider.answer(refusal("invalid_request_error", "no"), 400)
    else:
        provider.stream(text_events(), request_id="req_1")


def run(provider: Any, names: Collection[str], *arguments: str) -> dict[str, dict[str, Any]]:
    """Both sides' spans for each of these calls."""
    for name in names:
        answer(provider, name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "ANTHROPIC_"))}
    environment |= {"PYTHONPATH": str(SOURCE), "FASTTRACE_AUTO_INSTRUMENT": "false"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments, f"http://127.0.0.1:{provider.port}", *names],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(zip(names, map(json.loads, done.stdout.splitlines()), strict=True))
    for sides in found.values():
        for span in sides["theirs"]:
            span["attributes"] = {
                name: "measured" if name in MEASURED else value for name, value in span["attributes"].items()
            }
    return found


def test_the_sdks_own_spans_are_as_without_us_and_ours_is_one_a_call(provider: Any, core: Any) -> None:
    without = run(provider, STATUS, "without", core.BACKEND, "passed")
    recorded = run(provider, STATUS, "with", core.BACKEND, "passed")
    assert {name: sides["theirs"] for name, sides in recorded.items()} == {
        name: sides["theirs"] for name, sides in without.items()
    }
    assert all([span["scope"] for span in sides["theirs"]] == [SCOPE] for sides in recorded.values())
    assert {name: [span["status"] for span in sides["ours"]] for name, sides in recorded.items()} == {
        name: [status] for name, status in STATUS.items()
    }


def test_a_tracer_of_the_whole_process_is_left_in_place(provider: Any, core: Any) -> None:
    sides = run(provider, ("plain",), "with", core.BACKEND, "installed")["plain"]
    assert [span["scope"] for span in sides["theirs"]] == [SCOPE]
    assert [span["status"] for span in sides["ours"]] == ["success"]
