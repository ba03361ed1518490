"""What the tests of the google-genai SDK share: replies and chunks as the API sends them, clients, a recording."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fasttrace.instrumentation import google as instrumentor
from fasttrace.instrumentation.registry import Instrumentation

MODEL = "gemini-test-flash"
REQUEST: dict[str, Any] = {"model": MODEL, "contents": "Hello"}


def usage(**changes: Any) -> dict[str, Any]:
    found = {"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 120, **changes}
    return {name: value for name, value in found.items() if value is not None}


def candidate(*parts: Any, **changes: Any) -> dict[str, Any]:
    """Parts are text, or mappings as they are sent."""
    sent = [{"text": part} if isinstance(part, str) else part for part in parts]
    return {"content": {"parts": sent, "role": "model"}, "index": 0, **changes}


def reply(*parts: Any, **changes: Any) -> dict[str, Any]:
    return {
        "candidates": [candidate(*(parts or ("Hello!",)), finishReason="STOP")],
        "usageMetadata": usage(),
        "modelVersion": f"{MODEL}-001",
        "responseId": "resp-1",
        **changes,
    }


def function_call(name: str = "get_weather", **arguments: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": arguments}}


def refusal(code: int, status: str, text: str = "no") -> dict[str, Any]:
    return {"error": {"code": code, "status": status, "message": text}}


def chunk(*parts: Any, finish: str | None = None, counts: dict[str, Any] | None = None) -> dict[str, Any]:
    ended = {} if finish is None else {"finishReason": finish}
    counts = usage(candidatesTokenCount=None, totalTokenCount=100) if counts is None else counts
    return {
        "candidates": [candidate(*parts, **ended)],
        "usageMetadata": counts,
        "modelVersion": f"{MODEL}-001",
        "responseId": "resp-1",
    }


def chunks(*parts: Any) -> list[dict[str, Any]]:
    """A stream of one part each; the last chunk has the usage."""
    *before, last = parts or ("Hel", "lo", "!")
    return [*(chunk(part) for part in before), chunk(last, finish="STOP", counts=usage())]


# ---- recording ----


@contextlib.contextmanager
def instrumented(recording: Any) -> Iterator[Any]:
    """google-genai recorded by this core."""
    instrumentation = instrumentation_of(recording)
    instrumentation.apply()
    try:
        yield recording
    finally:
        instrumentation.undo()


def instrumentation_of(recording: Any) -> Instrumentation:
    def method(original: Any, spec: Any) -> Any:
        return recording.core.method(original, spec, recording.recorder)

    return Instrumentation("google.genai", lambda: instrumentor.patches(method, recording.core.switch))


@contextlib.contextmanager
def client_of(provider: Any, retries: int = 0, **options: Any) -> Iterator[Any]:
    from google import genai

    http_options: dict[str, Any] = {"base_url": f"http://127.0.0.1:{provider.port}", **options.pop("http_options", {})}
    if retries:
        waits = dict.fromkeys(("initial_delay", "max_delay", "jitter"), 0.001)
        http_options["retry_options"] = {"attempts": retries + 1, **waits}
    if not options.get("vertexai"):
        options = {"api_key": "k", **options}
    made = genai.Client(http_options=http_options, **options)
    try:
        yield made
    finally:
        close = getattr(made, "close", None)
        if close is not None:
            close()


@contextlib.contextmanager
def vertex_client_of(provider: Any, **options: Any) -> Iterator[Any]:
    from google.oauth2.credentials import Credentials

    place = {"project": "a-project", "location": "us-central1"}
    with client_of(provider, vertexai=True, credentials=Credentials(token="t"), **place, **options) as made:
        yield made


@contextlib.asynccontextmanager
async def async_client_of(provider: Any, of: Any = client_of, **options: Any) -> AsyncIterator[Any]:
    """A client's asynchronous side."""
    with of(provider, **options) as made:
        try:
            yield made.aio
        finally:
            aclose = getattr(made.aio, "aclose", None)
            if aclose is not None:
                await aclose()


def call(provider: Any, mode: str, name: str, *, of: Any = client_of, path: str = "models", **arguments: Any) -> Any:
    """Call a method of `client.models`, or of `client.aio.models`; a stream is read to its end."""

    async def main() -> Any:
        async with async_client_of(provider, of) as made:
            found = await getattr(getattr(made, path), name)(**arguments)
            return [chunk async for chunk in found] if hasattr(found, "__anext__") else found

    if mode == "async":
        return asyncio.run(main())
    with of(provider) as made:
        found = getattr(getattr(made, path), name)(**arguments)
        return list(found) if hasattr(found, "__next__") else found


def release() -> tuple[int, ...]:
    from google import genai

    return tuple(int(part) for part in genai.__version__.split(".")[:2])


def requires(name: str) -> None:
    """Skip where this release of the SDK has no such method."""
    from google import genai

    if not hasattr(genai.models.Models, name):
        pytest.skip(f"google-genai {genai.__version__} has no models.{name}")
