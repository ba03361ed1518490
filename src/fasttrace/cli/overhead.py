"""What fasttrace adds to a call, measured on this machine: `python -m fasttrace.cli.overhead` prints it as JSON.

The official SDK's `chat.completions.create`, its HTTP replaced by a ready reply so that the rest shows, in turn with
and without fasttrace. CPU time of the calling thread; per round the difference of the two; the median of the rounds.
The core is the one the process loaded (FASTTRACE_PURE), so each core is measured in a process of its own.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import fasttrace

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 61
CALLS_PER_ROUND = 50
WARM_UP = 10
REPLY = {
    "id": "chatcmpl-overhead",
    "object": "chat.completion",
    "created": 1735689600,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "logprobs": None, "finish_reason": "stop"}
    ],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 40,
        "total_tokens": 1240,
        "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "service_tier": "default",
}


class Overhead(NamedTuple):
    """Microseconds of the calling thread's CPU per call: without fasttrace, and what it adds."""

    backend: str
    plain_us: float
    added_us: float
    calls: int


def measure() -> Overhead:
    """Measure in this process. fasttrace must be configured; it is left instrumented."""
    import openai
    from openai.types.chat import ChatCompletion

    reply = ChatCompletion.model_validate(REPLY)
    completions = openai.OpenAI(api_key="sk-none").chat.completions
    setattr(completions, "_post", lambda *_, **__: reply)  # noqa: B010 - a method, to mypy
    messages: list[Any] = [{"role": "user", "content": "Hello"}]

    def call() -> None:
        completions.create(model="gpt-4o-mini", messages=messages)

    gc.collect()
    gc.freeze()  # what was imported is not walked again before each round
    plain, added = [], []
    for _ in range(ROUNDS):
        fasttrace.uninstrument("openai")
        without = _cpu_us(call)
        fasttrace.instrument("openai")
        added.append(_cpu_us(call) - without)
        plain.append(without)
        fasttrace.flush(5)
    return Overhead(fasttrace.backend(), statistics.median(plain), statistics.median(added), ROUNDS * CALLS_PER_ROUND)


def _cpu_us(call: Callable[[], None]) -> float:
    for _ in range(WARM_UP):
        call()
    gc.collect()
    gc.disable()
    try:
        began = time.thread_time_ns()
        for _ in range(CALLS_PER_ROUND):
            call()
        return (time.thread_time_ns() - began) / CALLS_PER_ROUND / 1000
    finally:
        gc.enable()


def measure_elsewhere(pure: bool, collector_url: str, state_dir: str) -> Overhead | str:
    """Measure in a new process with the core asked for; a string says why there is no figure."""
    settings = {
        "FASTTRACE_PURE": "1" if pure else "0",
        "FASTTRACE_COLLECTOR_URL": collector_url,
        "FASTTRACE_STATE_DIR": state_dir,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FASTTRACE_")}
    child = subprocess.run(
        [sys.executable, "-m", "fasttrace.cli.overhead"],
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if child.returncode != 0:
        return (child.stderr.strip().splitlines() or ["the process said nothing"])[-1]
    return Overhead(**json.loads(child.stdout))


if __name__ == "__main__":
    print(json.dumps(measure()._asdict()))
