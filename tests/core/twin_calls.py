"""A call of each twin with the same arguments and the same reply, and what both have written of it."""

from __future__ import annotations

import asyncio
import enum
import re
from types import SimpleNamespace
from typing import Any

from twins import Pairs, Twin, span_of

from fasttrace.core._api import CURRENT, CallSpec, Endpoint
from fasttrace.instrumentation.openai.chat import CHAT_REPLY, CHAT_REQUEST
from fasttrace.trace.failure import failure

# What differs between two calls, whoever records them: ids and times.
CHANGING = ("trace_id", "span_id", "timestamp", "duration_ms", "first_chunk_ms", "first_token_ms", "first_text_ms")
DIFFERENT = re.compile(rb'("(?:%b)":"?)[-0-9a-fT:.Z]+' % "|".join(CHANGING).encode())
URL = "https://gateway.example.com:8443/v1"


def masked(line: bytes) -> bytes:
    return DIFFERENT.sub(rb"\g<1>0", line)


def without(names: tuple[str, ...], span: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in span.items() if name not in names}


def resolve(url: object, client: object) -> Any:
    return Endpoint("example", "gateway.example.com", 8443)


CHAT = CallSpec("llm", "chat", "openai", False, CHAT_REQUEST, CHAT_REPLY, ("_client", "_base_url"), resolve, failure)


class Resource:
    def __init__(self, url: Any = URL) -> None:
        self._client = SimpleNamespace(_base_url=url)


def call(twin: Twin, spec: CallSpec, original: Any, *args: Any, **kwargs: Any) -> Any:
    """What one call returned or raised."""
    bound = twin.core.method(original, spec, twin.recorder)
    try:
        made = bound(*args, **kwargs)
        return asyncio.run(awaited(made)) if spec.is_async else made
    except BaseException as error:
        return error
    finally:
        assert CURRENT.get() is None


async def awaited(made: Any) -> Any:
    return await made


PAIRS = Pairs()


def same(
    reply: Any, *, twins: tuple[Twin, Twin] | None = None, spec: CallSpec = CHAT, raises: bool = False, **kwargs: Any
) -> dict[str, Any]:
    """The span of one call that returns (or raises) `reply`; both cores hand on that very object."""

    def original(self: Any, **kwargs: Any) -> Any:
        if raises:
            raise reply
        return reply

    async def coroutine(self: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return original(self, **kwargs)

    twins = twins or PAIRS.next()
    resource = Resource()
    function = coroutine if spec.is_async else original
    assert [call(twin, spec, function, resource, **kwargs) is reply for twin in twins] == [True, True]
    (native,), (pure,) = (twin.lines() for twin in twins)
    assert masked(native) == masked(pure)
    return span_of(native)


def spans_of_both(twins: tuple[Twin, Twin]) -> list[dict[str, Any]]:
    """The spans that both have written. They are the same but for ids, times and frames, of which the pure core has one
    of its own."""
    native, pure = ([without(("error_stack",), span_of(masked(line))) for line in twin.lines()] for twin in twins)
    assert native == pure
    return native


def chat_reply(**changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello", "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 19,
            "completion_tokens": 10,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0, "accepted_prediction_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        **changes,
    }


def usage(**changes: Any) -> dict[str, Any]:
    return {"usage": {**chat_reply()["usage"], **changes}}


def tools(*names: Any) -> dict[str, Any]:
    calls = [{"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in names]
    calls.append({"id": "d", "type": "custom", "custom": {"name": "shell", "input": "ls"}})
    return choices({"finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": calls}})


def choices(*changes: dict[str, Any]) -> dict[str, Any]:
    return {"choices": [{**chat_reply()["choices"][0], **change} for change in changes]}


def as_objects(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_objects(member) for name, member in value.items()})
    return [as_objects(item) for item in value] if isinstance(value, list) else value


# ---- values that are not what they seem ----


class Overridden(dict):  # type: ignore[type-arg]
    def __getitem__(self, key: Any) -> Any:
        raise ZeroDivisionError

    def __contains__(self, key: Any) -> bool:
        raise ZeroDivisionError

    def get(self, *args: Any) -> Any:
        raise ZeroDivisionError


class Sliced(list):  # type: ignore[type-arg]
    def __len__(self) -> int:
        raise ZeroDivisionError


class Named(str):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def encode(self, *args: Any) -> bytes:
        raise ZeroDivisionError


class Word(str, enum.Enum):
    MODEL = "gpt-enum"
    OTHER = "gpt-other"


class Count(enum.IntEnum):
    FEW = 3
