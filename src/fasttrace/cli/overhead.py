"""What fasttrace adds to a call, measured on this machine: `python -m fasttrace.cli.overhead` prints it as JSON.

The client's `request`, which every call goes through and which is what fasttrace patches, is replaced by a function
that returns a ready reply, and that is called in turns with and without fasttrace around it: rounds of calls, CPU time
of the calling thread, the median of the rounds. The SDK's own work would hide the figure: its jitter from process to
process is larger than what is added. That work is measured too, HTTP left out, for the proportion. The core is the one
the process loaded (FASTTRACE_PURE).
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

import fasttrace

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 101
CALLS_PER_ROUND = 200
SDK_CALLS = 500
FLUSH_S = 0.5
LIMIT_S = 90
REQUEST: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
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
    """Microseconds of the calling thread's CPU per call: what fasttrace adds, what the SDK takes without network."""

    backend: str
    added_us: float
    sdk_us: float
    calls: int


def measure() -> Overhead:
    """Measure in this process, configured by its environment. The SDK is of no use in it afterwards."""
    import openai
    from openai._base_client import SyncAPIClient
    from openai._models import FinalRequestOptions
    from openai.types.chat import ChatCompletion

    reply = ChatCompletion.model_validate(REPLY)
    client = openai.OpenAI(api_key="sk-none")
    fasttrace.uninstrument("openai")
    sdk_us = _sdk_us(client.chat.completions, reply)
    options = FinalRequestOptions.construct(method="post", url="/chat/completions", json_data=dict(REQUEST))

    def request(self: object, cast_to: object, options: object, *, stream: bool = False, stream_cls: Any = None) -> Any:
        return reply

    setattr(SyncAPIClient, "request", request)  # noqa: B010 - a method, to mypy
    fasttrace.instrument("openai")
    arguments = (ChatCompletion, options)
    added_us = _added_us(partial(MethodType(request, client), *arguments), partial(client.request, *arguments))
    return Overhead(fasttrace.backend(), added_us, sdk_us, ROUNDS * CALLS_PER_ROUND)


def _sdk_us(completions: Any, reply: object) -> float:
    completions._post = lambda *_, **__: reply
    return statistics.median(_cpu_us(partial(completions.create, **REQUEST), 1) for _ in range(SDK_CALLS))


def _added_us(plain: Callable[[], Any], traced: Callable[[], Any]) -> float:
    differences = []
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        differences.append(_cpu_us(traced, CALLS_PER_ROUND) - _cpu_us(plain, CALLS_PER_ROUND))
        fasttrace.flush(FLUSH_S)
    gc.enable()
    return statistics.median(differences)


def _cpu_us(call: Callable[[], Any], calls: int) -> float:
    began_ns = time.thread_time_ns()
    for _ in range(calls):
        call()
    return (time.thread_time_ns() - began_ns) / calls / 1000


def measure_elsewhere(pure: bool, collector_url: str, directory: str) -> Overhead | str:
    """Measure in a new process with the core asked for; a string says why there is no figure."""
    settings = {
        "FASTTRACE_PURE": "1" if pure else "0",
        "FASTTRACE_COLLECTOR_URL": collector_url,
        "FASTTRACE_STATE_DIR": directory,
        "FASTTRACE_RING_DIR": os.path.join(directory, "ring"),
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FASTTRACE_")}
    command = [sys.executable, "-m", "fasttrace.cli.overhead"]
    try:
        child = subprocess.run(command, env={**inherited, **settings}, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"no figure within {LIMIT_S} s"
    if child.returncode != 0:
        return (child.stderr.strip().splitlines() or ["the process said nothing"])[-1]
    return Overhead(**json.loads(child.stdout))


if __name__ == "__main__":
    print(json.dumps(measure()._asdict()))
