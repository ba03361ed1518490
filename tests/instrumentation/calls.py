"""A made-up SDK for the tests of the call driver: its methods, its replies, and how they are patched."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from fasttrace.core._api import CallSpec, Endpoint, Node
from fasttrace.trace.failure import failure

REPLY = (
    Node("model", "model_id"),
    Node("id", "response_id"),
    Node("tier", "service_tier"),
    Node(
        "usage",
        children=(
            Node("prompt_tokens", "input_tokens"),
            Node("completion_tokens", "output_tokens"),
            Node("details", children=(Node("cached_tokens", "cache_read_tokens"),)),
            Node("cost", "cost_usd", foreign=True),
        ),
    ),
    Node("choices", each=True, children=(Node("finish_reason", "finish_reasons"),)),
)
REQUEST = {
    "model": "model",
    "stream": "stream",
    "messages": "ignored",
    **dict.fromkeys(("temperature", "top_p", "seed", "n", "effort", "store"), "param"),
}


class Client:
    def __init__(self, base_url: Any = "https://api.example.com:8443/v1") -> None:
        self._base_url = base_url


def resolve(base_url: object, client: object) -> Endpoint:
    return Endpoint("example", "api.example.com", 8443)


def spec(*, is_async: bool = False, **changes: Any) -> CallSpec:
    plain = CallSpec("llm", "chat", "example", is_async, REQUEST, REPLY, ("_client", "_base_url"), resolve, failure)
    return plain._replace(**changes)


def usage(prompt: Any = 12, completion: Any = 3, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(prompt_tokens=prompt, completion_tokens=completion, **more)


def full_reply() -> SimpleNamespace:
    return SimpleNamespace(
        model="m-2026-01-01",
        id="r-1",
        tier="default",
        usage=usage(details=SimpleNamespace(cached_tokens=8)),
        choices=[SimpleNamespace(finish_reason="stop"), SimpleNamespace(finish_reason="length")],
    )


def resource_class(recording: Any, original: Any, **changes: Any) -> Any:
    """A class as an SDK has them, its method patched."""

    class Resource:
        def __init__(self, client: Any = None) -> None:
            self._client = client or Client()

    Resource.create = recording.core.method(original, spec(**changes), recording.recorder)
    return Resource


def caller(recording: Any, function: Any, **changes: Any) -> Any:
    return resource_class(recording, function, **changes)().create


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def documented(self: Any, *, model: str, temperature: float = 1.0) -> str:
    """Create a completion."""
    return model
