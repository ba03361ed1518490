"""A recorder of one core for tests of the in-flight table, and a made-up SDK's calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fasttrace.core._api import CallSpec, Endpoint, Node, RingOwner, RingShape, StreamSpec
from fasttrace.trace.failure import failure

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "2026-11-01"
SPEC = CallSpec(
    kind="llm",
    operation="chat",
    sdk="openai",
    is_async=False,
    request={"model": "model", "stream": "stream"},
    reply=(Node("model", "model_id"), Node("usage", children=(Node("input_tokens", "input_tokens"),))),
    endpoint=(),
    resolve=lambda url, client: Endpoint("openai", "api.example.com", 8443),
    failure=failure,
    stream=StreamSpec(None, (), (Node("model", "model_id"),)),
)
ASYNC = SPEC._replace(is_async=True)


class Air:
    """A recorder with a ring of its own, and what it says is in the air."""

    def __init__(self, core: Any, **shape: int) -> None:
        self.core = core
        self.shape = RingShape(**{"slots": 64, "arena_bytes": 4096, "strtab_bytes": 4096, "inflight": 8, **shape})
        self.recorder = core.Recorder(lambda: None)
        self.recorder.ring = self.ring()

    def ring(self) -> Any:
        return self.core.Ring(-1, self.shape, RingOwner(bytes(16), bytes(16), 1, 2, 3))

    def method(self, original: Callable[..., Any], spec: CallSpec = SPEC) -> Any:
        return self.core.method(original, spec, self.recorder)

    def spans(self) -> list[dict[str, Any]]:
        return self.read(self.recorder.ring.aborted())

    def names(self) -> list[str]:
        return sorted(span["name"] for span in self.spans())

    def recorded(self) -> list[dict[str, Any]]:
        return self.read(self.recorder.ring.read(100_000, 1 << 26))

    def read(self, batch: Any) -> list[dict[str, Any]]:
        return [json.loads(line) for line in batch.encode(self.recorder.prices, VERSION, b"").splitlines()]

    @property
    def full(self) -> int:
        return int(self.recorder.ring.counters().inflight_full)
