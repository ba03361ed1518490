"""A core with a ring of its own, and the provider that stands in for a real one."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from fasttrace.core._api import Price, RingOwner, RingShape
from fasttrace.instrumentation import openai as table

if TYPE_CHECKING:
    from types import ModuleType

CORES = ("native", "pure")
CHAT, ASYNC_CHAT = "Completions.create", "AsyncCompletions.create"
REPLY: dict[str, Any] = {
    "id": "chatcmpl-CkU2p7vXqJm3bTzYw5LdRn8sHfGe",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "The Danube, the Rhine and the Po.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 348,
        "total_tokens": 1548,
        "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 64,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
    "system_fingerprint": "fp_0ba0d124f1",
}


class Rig:
    """One core with a ring of its own in anonymous memory, ready to record; `drain` empties the ring."""

    def __init__(self, name: str, shape: RingShape | None = None) -> None:
        self.name = name
        self.core: ModuleType = importlib.import_module(f"fasttrace.core._{name}")
        self.ring = self.core.Ring(-1, shape or RingShape(), RingOwner(bytes(range(16)), bytes(16), os.getpid(), 0, 1))
        self.recorder = self.core.Recorder(lambda: None)
        self.recorder.ring = self.ring
        self.recorder.active = True
        self.prices = self.core.PriceTable()
        self.prices.put("openai", "gpt-4o-mini-2024-07-18", Price(150_000, 75_000, 150_000, 150_000, output=600_000))
        self.recorder.prices = self.prices
        self.recorder.price_version = "2026-01-01+benchmark"

    def drain(self) -> int:
        """Read and acknowledge all there is; how many spans that was."""
        drained = 0
        while (batch := self.ring.read(8192, 8 << 20)).count:
            drained += batch.count
            self.ring.acknowledge(batch.next_ticket)
        return drained

    def recording(self, path: str, original: Any) -> Any:
        """The callable that stands for a method of the openai table, around an original of ours."""
        found = table.patches(lambda function, spec: self.core.method(function, spec, self.recorder), lambda *_: None)
        return next(patch for patch in found if patch.path == path).replace(original)


def completions(create: Any, client: Any, resource: type) -> Any:
    """An instance of an SDK's resource class whose `create` is the one given: what users hold, without the HTTP."""
    return type("Completions", (resource,), {"create": create})(client)


def parsed_reply() -> Any:
    """The reply as the SDK gives it to the user."""
    from openai.types.chat import ChatCompletion

    return ChatCompletion.model_validate(REPLY)
