"""The official openai SDK over loopback HTTP: bodies a provider sends, and one way to make a call in both modes."""

from __future__ import annotations

import asyncio
import inspect
from importlib.util import find_spec
from typing import Any, NamedTuple

import pytest

from fasttrace.instrumentation import openai as instrumentor
from fasttrace.instrumentation.registry import Instrumentation

openai = pytest.importorskip("openai", reason="the openai SDK is not installed")

MODEL = "gpt-4o-mini-2024-07-18"
MESSAGES = [{"role": "user", "content": "Hello"}]
MODES = ("sync", "async")
DONE = "[DONE]"

needs_responses = pytest.mark.skipif(
    find_spec("openai.resources.responses") is None, reason=f"openai {openai.__version__} has no Responses API"
)


class Chunks(NamedTuple):
    """A stream that was read to its end: the SDK's type of it, and what it gave."""

    kind: type
    items: list[Any]


def instrumentation_of(recording: Any) -> Instrumentation:
    def method(original: Any, router: Any) -> Any:
        return recording.core.method(original, router, recording.recorder)

    return Instrumentation("openai", lambda: instrumentor.patches(method, recording.core.switch))


def ask(provider: Any, mode: str, call: Any, use: Any = None, **options: Any) -> Any:
    """What `call(client)` gives, in one mode or the other; of a context manager what it enters; then `use(it)`.

    A stream is read to its end.
    """
    options = {"api_key": "k", "base_url": provider.url, "max_retries": 0, **options}
    if mode == "async":
        return asyncio.run(_ask_async(call, use, options))
    with openai.OpenAI(**options) as client:
        reply = call(client)
        if _is_manager(reply, "__enter__"):
            with reply as entered:
                return _read(use(entered) if use else entered)
        return _read(use(reply) if use else reply)


async def _ask_async(call: Any, use: Any, options: dict[str, Any]) -> Any:
    async with openai.AsyncOpenAI(**options) as client:
        reply = await _awaited(call(client))
        if _is_manager(reply, "__aenter__"):
            async with reply as entered:
                return await _read_async(await _awaited(use(entered) if use else entered))
        return await _read_async(await _awaited(use(reply) if use else reply))


async def _awaited(made: Any) -> Any:
    return await made if inspect.isawaitable(made) else made


def _is_manager(reply: Any, enter: str) -> bool:
    return hasattr(reply, enter) and not isinstance(reply, (openai.Stream, openai.AsyncStream))


def _read(reply: Any) -> Any:
    return Chunks(type(reply), list(reply)) if hasattr(reply, "__next__") else reply


async def _read_async(reply: Any) -> Any:
    return Chunks(type(reply), [item async for item in reply]) if hasattr(reply, "__anext__") else reply


def chat(client: Any, **changes: Any) -> Any:
    return client.chat.completions.create(**{"model": "gpt-4o-mini", "messages": MESSAGES, **changes})


def stream_type(mode: str) -> type:
    return openai.Stream if mode == "sync" else openai.AsyncStream


# ---- bodies ----


def usage(*, prompt_tokens: int = 100, completion_tokens: int = 20, **changes: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 0},
        **changes,
    }


def completion(**changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello!", "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "service_tier": "default",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": usage(),
        **changes,
    }


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **changes: Any) -> Any:
    choice = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "service_tier": "default",
        "choices": [choice],
        "usage": None,
        **changes,
    }


def final_chunk(**changes: Any) -> Any:
    """The chunk that `stream_options.include_usage` adds: no choices, only usage."""
    return chunk(**{"choices": [], "usage": usage(), **changes})


def text_chunks(*, words: int = 3, finish: str = "stop") -> list[Any]:
    deltas = [chunk({"content": f"word{n} "}) for n in range(words)]
    return [chunk({"role": "assistant", "content": ""}), *deltas, chunk({}, finish)]


def whole_stream(**of_final: Any) -> list[Any]:
    return [*text_chunks(), final_chunk(**of_final), DONE]


def response(**changes: Any) -> dict[str, Any]:
    """A reply of the Responses API."""
    content = [{"type": "output_text", "text": "Hello!", "annotations": []}]
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": MODEL,
        "status": "completed",
        "service_tier": "default",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "output": [message],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
            "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 5},
            "total_tokens": 120,
        },
        **changes,
    }


def refusal(code: str | None, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error", "param": None, "code": code}}
