"""Failures of the google-genai SDK over loopback HTTP, on both cores: refusals, retries, timeouts, cancelled calls."""

from __future__ import annotations

import asyncio
import socket
import traceback
from typing import Any

import gemini
import pytest
from gemini import REQUEST, chunk, chunks, refusal, reply

from fasttrace.trace.span import Span

# The SDK warns of its own old ways, and of methods that are to go.
pytestmark = pytest.mark.filterwarnings("ignore")
genai = pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")

PLAIN_AND_STREAM = pytest.mark.parametrize("name", ["generate_content", "generate_content_stream"])


@pytest.fixture
def patched(recording: Any) -> Any:
    with gemini.instrumented(recording):
        yield recording


def retrying(provider: Any) -> Any:
    return gemini.client_of(provider, retries=2)


def needs_retries() -> None:
    if gemini.release() < (1, 30):
        pytest.skip(f"google-genai {genai.__version__} does not retry")


@PLAIN_AND_STREAM
@pytest.mark.parametrize(
    ("status", "word", "error_class"),
    [
        (400, "INVALID_ARGUMENT", "ClientError"),
        (404, "NOT_FOUND", "ClientError"),
        (429, "RESOURCE_EXHAUSTED", "ClientError"),
        (500, "INTERNAL", "ServerError"),
        (503, "UNAVAILABLE", "ServerError"),
    ],
)
def test_a_refusal_is_the_users_exception_and_one_span(
    provider: Any, patched: Any, mode: str, name: str, status: int, word: str, error_class: str
) -> None:
    provider.answer(refusal(status, word, "API key AIzaSyA1234567890abcdefghijklmnopqrstuvw is wrong"), status)
    with pytest.raises(getattr(genai.errors, error_class)) as caught:
        gemini.call(provider, mode, name, **REQUEST)
    assert caught.value.code == status
    span = patched.span()
    assert (span["status"], span["error_type"]) == ("error", f"google.genai.errors.{error_class}")
    assert (span["http_status"], span["error_code"]) == (status, word)
    assert "AIzaSy" not in span["error_message"]
    assert span["model_id"] == REQUEST["model"]
    assert ("stream" in span) == (name == "generate_content_stream")
    assert not {"retries", "input_tokens", "output_tokens"} & span.keys()


def test_an_error_that_is_no_json_keeps_the_http_status(provider: Any, patched: Any, mode: str) -> None:
    provider.answer(b"<html>Bad Gateway</html>", 502, content_type="text/html")
    with pytest.raises(genai.errors.ServerError):
        gemini.call(provider, mode, "generate_content", **REQUEST)
    assert patched.span()["http_status"] == 502


def test_at_most_one_frame_of_ours_is_in_the_traceback(provider: Any, patched: Any, mode: str) -> None:
    provider.answer(refusal(429, "RESOURCE_EXHAUSTED"), 429)
    with pytest.raises(genai.errors.ClientError) as caught:
        gemini.call(provider, mode, "generate_content", **REQUEST)
    ours = [frame for frame in traceback.extract_tb(caught.value.__traceback__) if "/fasttrace/" in frame.filename]
    drivers = [frame for frame in ours if not frame.filename.endswith("instrumentation/call.py")]
    assert len(drivers) <= 1


def test_a_chunk_that_is_an_error_ends_the_stream(provider: Any, patched: Any, mode: str) -> None:
    if gemini.release() < (1, 30):
        pytest.skip(f"google-genai {genai.__version__} takes an error in a stream for a chunk")
    provider.stream([chunk("Hel"), refusal(503, "UNAVAILABLE", "overloaded")])
    with pytest.raises(genai.errors.ServerError):
        gemini.call(provider, mode, "generate_content_stream", **REQUEST)
    span = patched.span()
    assert (span["status"], span["error_code"], span["http_status"]) == ("error", "UNAVAILABLE", 503)
    assert (span["chunks"], span["input_tokens"], span["usage_source"]) == (1, 100, "partial")


def test_a_stream_that_the_server_cuts_is_an_error(provider: Any, patched: Any, mode: str) -> None:
    provider.stream([chunk("Hel"), provider.CUT])
    with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|connection|prematurely") as caught:
        gemini.call(provider, mode, "generate_content_stream", **REQUEST)
    span = patched.span()
    kind = type(caught.value)
    assert (span["status"], span["usage_source"]) == ("error", "partial")
    assert span["error_type"] == f"{kind.__module__}.{kind.__qualname__}"


@PLAIN_AND_STREAM
def test_attempts_after_the_first_are_retries(provider: Any, patched: Any, mode: str, name: str) -> None:
    needs_retries()
    for _ in range(2):
        provider.answer(refusal(503, "UNAVAILABLE"), 503)
    if name == "generate_content":
        provider.answer(reply())
    else:
        provider.stream(chunks())
    gemini.call(provider, mode, name, of=retrying, **REQUEST)
    assert len(provider.requests) == 3
    span = patched.span()
    assert (span["retries"], span["status"], span["output_tokens"]) == (2, "success", 20)


@PLAIN_AND_STREAM
def test_a_provider_that_stays_overloaded_is_one_error(provider: Any, patched: Any, mode: str, name: str) -> None:
    needs_retries()
    for _ in range(3):
        provider.answer(refusal(503, "UNAVAILABLE"), 503)
    with pytest.raises(genai.errors.ServerError):
        gemini.call(provider, mode, name, of=retrying, **REQUEST)
    span = patched.span()
    assert (span["retries"], span["http_status"], span["error_code"]) == (2, 503, "UNAVAILABLE")


def test_attempts_of_one_call_are_not_the_next_ones(provider: Any, patched: Any, mode: str) -> None:
    needs_retries()
    provider.answer(refusal(503, "UNAVAILABLE"), 503)
    for _ in range(2):
        provider.answer(reply())
    for _ in range(2):
        gemini.call(provider, mode, "generate_content", of=retrying, **REQUEST)
    first, second = patched.spans()
    assert (first["retries"], "retries" in second) == (1, False)


def test_attempts_of_what_is_not_recorded_are_nobodys_retries(provider: Any, patched: Any) -> None:
    for _ in range(3):
        provider.answer({"name": "models/any"})
    provider.answer(reply())
    with gemini.client_of(provider) as made, Span(patched.core, patched.recorder, "report", "chain", None):
        for _ in range(3):
            made.models.get(model="any")
        made.models.generate_content(**REQUEST)
    for span in patched.spans():
        assert (span["status"], "retries" in span) == ("success", False)


def test_a_refused_connection_is_an_error(patched: Any, mode: str) -> None:
    class Nowhere:
        port = 9

    with pytest.raises(Exception, match=r"(?i)refused|connect") as caught:
        gemini.call(Nowhere, mode, "generate_content", **REQUEST)
    span = patched.span()
    kind = type(caught.value)
    assert (span["status"], span["error_type"]) == ("error", f"{kind.__module__}.{kind.__qualname__}")
    assert "http_status" not in span


@pytest.fixture
def silent() -> Any:
    """A server that takes connections and never answers."""

    class Silent:
        def __init__(self) -> None:
            self.socket = socket.create_server(("127.0.0.1", 0))
            self.port = self.socket.getsockname()[1]

    made = Silent()
    yield made
    made.socket.close()


@PLAIN_AND_STREAM
def test_a_timeout_is_a_timeout(silent: Any, patched: Any, mode: str, name: str) -> None:
    if gemini.release() < (1, 10) and mode == "async":
        pytest.skip(f"google-genai {genai.__version__} waits in a thread")

    def impatient(provider: Any) -> Any:
        return gemini.client_of(provider, http_options={"timeout": 50})

    with pytest.raises(Exception, match=r"(?i)time|^$"):
        gemini.call(silent, mode, name, of=impatient, **REQUEST)
    assert patched.span()["status"] == "timeout"


@PLAIN_AND_STREAM
def test_a_cancelled_call_is_cancelled(silent: Any, patched: Any, name: str) -> None:
    if gemini.release() < (1, 10):
        pytest.skip(f"google-genai {genai.__version__} waits in a thread")

    async def main() -> None:
        async with gemini.async_client_of(silent) as made:

            async def read() -> None:
                found = await getattr(made.models, name)(**REQUEST)
                async for _ in found:
                    pass

            task = asyncio.ensure_future(read())
            loop = asyncio.get_running_loop()
            connection, _ = await loop.run_in_executor(None, silent.socket.accept)
            await loop.run_in_executor(None, connection.recv, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            connection.close()

    asyncio.run(main())
    assert patched.span()["status"] == "cancelled"
