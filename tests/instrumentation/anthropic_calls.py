"""What the tests of the anthropic SDK share: replies and events as the API sends them, and how it is recorded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from fasttrace.instrumentation import anthropic as instrumentor
from fasttrace.instrumentation.registry import Instrumentation

MODEL = "claude-test-4-20260101"
MESSAGES = [{"role": "user", "content": "Hello"}]
REQUEST: dict[str, Any] = {"model": MODEL, "max_tokens": 64, "messages": MESSAGES}
TOOLS = [{"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}]

Event = tuple[str, dict[str, Any]]


def usage(**changes: Any) -> dict[str, Any]:
    return {
        "input_tokens": 100,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 20,
        "service_tier": "standard",
        **changes,
    }


def message(**changes: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": "Hello!"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage(),
        **changes,
    }


def tool_use(name: str = "get_weather", **changes: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": {}, **changes}


def refusal(kind: str, text: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_1"}


# ---- streams ----


def event(kind: str, **members: Any) -> Event:
    return kind, {"type": kind, **members}


def started(**changes: Any) -> Event:
    counts = usage(output_tokens=1, **changes)
    return event("message_start", message=message(content=[], stop_reason=None, usage=counts))


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[Event]:
    return [
        event("content_block_start", index=index, content_block=content),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def text_block(index: int, *parts: str) -> list[Event]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": part} for part in parts))


def ended(stop_reason: str = "end_turn", **usage: Any) -> list[Event]:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return [event("message_delta", delta=delta, usage={"output_tokens": 20, **usage}), event("message_stop")]


def text_events(*parts: str) -> list[Event]:
    return [started(), event("ping"), *text_block(0, *(parts or ("Hel", "lo!"))), *ended()]


# ---- recording ----


@contextlib.contextmanager
def instrumented(recording: Any) -> Iterator[Any]:
    """anthropic recorded by this core."""
    instrumentation = instrumentation_of(recording)
    instrumentation.apply()
    try:
        yield recording
    finally:
        instrumentation.undo()


def instrumentation_of(recording: Any) -> Instrumentation:
    def method(original: Any, router: Any) -> Any:
        return recording.core.method(original, router, recording.recorder)

    return Instrumentation("anthropic", lambda: instrumentor.patches(method, recording.core.switch))


def client_of(provider: Any, kind: str = "Anthropic", **options: Any) -> Any:
    import anthropic

    base = f"http://127.0.0.1:{provider.port}"
    return getattr(anthropic, kind)(**{"api_key": "k", "base_url": base, "max_retries": 0, **options})


def call_async(provider: Any, call: Any, **options: Any) -> Any:
    async def main() -> Any:
        async with client_of(provider, "AsyncAnthropic", **options) as made:
            return await call(made)

    return asyncio.run(main())


def method_of(client: Any, path: str) -> Any:
    """A public method by its path; the test is skipped where this release of the SDK has none."""
    found = client
    for name in path.split("."):
        found = getattr(found, name, None)
    if found is None:
        import anthropic

        pytest.skip(f"anthropic {anthropic.__version__} has no {path}")
    return found
