"""Failures of the anthropic SDK over loopback HTTP, on both cores: refusals, errors in streams, retries, timeouts."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import anthropic_calls as calls
import pytest
from anthropic_calls import REQUEST, call_async, event, message, refusal, started, text_events

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")


@pytest.fixture
def patched(recording: Any) -> Any:
    with calls.instrumented(recording):
        yield recording


@pytest.fixture
def client(provider: Any, patched: Any) -> Any:
    with calls.client_of(provider) as made:
        yield made


@pytest.mark.parametrize(
    ("status", "kind", "error_class"),
    [
        (400, "invalid_request_error", "BadRequestError"),
        (401, "authentication_error", "AuthenticationError"),
        (404, "not_found_error", "NotFoundError"),
        (429, "rate_limit_error", "RateLimitError"),
        (500, "api_error", "InternalServerError"),
    ],
)
def test_a_refusal_is_the_users_exception_and_one_span(
    provider: Any, patched: Any, mode: str, status: int, kind: str, error_class: str
) -> None:
    provider.answer(refusal(kind, "no, because sk-ant-api03-abcdefghijklmnopqrstuvwxyz012345 is wrong"), status)
    with pytest.raises(getattr(anthropic, error_class)) as caught:
        if mode == "async":
            call_async(provider, lambda made: made.messages.create(**REQUEST))
        else:
            with calls.client_of(provider) as made:
                made.messages.create(**REQUEST)
    assert caught.value.status_code == status
    span = patched.span()
    assert (span["status"], span["error_type"]) == ("error", f"anthropic.{error_class}")
    assert (span["http_status"], span["error_code"]) == (status, kind)
    assert "sk-ant" not in span["error_message"]
    assert span["model_id"] == REQUEST["model"]
    assert "retries" not in span


def test_an_error_that_is_no_json_keeps_the_http_status(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(b"<html>Bad Gateway</html>", 502, content_type="text/html")
    with pytest.raises(anthropic.InternalServerError):
        client.messages.create(**REQUEST)
    span = patched.span()
    assert (span["http_status"], span["error_code"]) == (502, "502")


def test_a_refused_stream_is_one_error(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(refusal("rate_limit_error", "slow down"), 429)
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(**REQUEST, stream=True)
    span = patched.span()
    assert (span["status"], span["error_code"], span["stream"]) == ("error", "rate_limit_error", True)


def test_an_error_inside_a_stream_ends_it(provider: Any, patched: Any, mode: str) -> None:
    overloaded = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    provider.stream([started(), overloaded])

    async def read(made: Any) -> None:
        async for _ in await made.messages.create(**REQUEST, stream=True):
            pass

    with pytest.raises(anthropic.APIStatusError) as caught:
        if mode == "async":
            call_async(provider, read)
        else:
            with calls.client_of(provider) as made:
                list(made.messages.create(**REQUEST, stream=True))
    assert caught.value.body["error"]["type"] == "overloaded_error"
    span = patched.span()
    assert (span["status"], span["error_code"], span["chunks"]) == ("error", "overloaded_error", 1)
    assert (span["input_tokens"], span["usage_source"]) == (100, "partial")
    assert "output_tokens" not in span


def test_a_stream_that_the_server_cuts_is_an_error(provider: Any, client: Any, patched: Any) -> None:
    provider.stream([*text_events()[:4], provider.CUT])
    stream = client.messages.create(**REQUEST, stream=True)
    with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|connection") as caught:
        list(stream)
    span = patched.span()
    kind = type(caught.value)
    assert (span["status"], span["usage_source"]) == ("error", "partial")
    assert span["error_type"] == f"{kind.__module__}.{kind.__qualname__}"


def test_retries_of_an_overloaded_provider_are_counted_in_one_span(provider: Any, patched: Any, mode: str) -> None:
    for _ in range(2):
        provider.answer(refusal("overloaded_error", "Overloaded"), 529, retry_after_ms="1")
    provider.answer(message())
    if mode == "async":
        call_async(provider, lambda made: made.messages.create(**REQUEST), max_retries=3)
    else:
        with calls.client_of(provider, max_retries=3) as made:
            made.messages.create(**REQUEST)
    assert len(provider.requests) == 3
    span = patched.span()
    assert (span["retries"], span["status"], span["input_tokens"]) == (2, "success", 100)


def test_retries_before_a_stream_are_counted_too(provider: Any, patched: Any) -> None:
    provider.answer(refusal("overloaded_error", "Overloaded"), 529, retry_after_ms="1")
    provider.stream(text_events())
    with calls.client_of(provider, max_retries=1) as made:
        assert len(list(made.messages.create(**REQUEST, stream=True))) == 7
    span = patched.span()
    assert (span["retries"], span["status"], span["output_tokens"]) == (1, "success", 20)


def test_a_provider_that_stays_overloaded_is_one_error(provider: Any, patched: Any) -> None:
    for _ in range(2):
        provider.answer(refusal("overloaded_error", "Overloaded"), 529, retry_after_ms="1")
    with calls.client_of(provider, max_retries=1) as made, pytest.raises(anthropic.APIStatusError):
        made.messages.create(**REQUEST)
    span = patched.span()
    assert (span["retries"], span["http_status"], span["error_code"]) == (1, 529, "overloaded_error")


def test_a_refused_connection_is_an_error(patched: Any) -> None:
    with anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:9", max_retries=0) as made:
        with pytest.raises(anthropic.APIConnectionError):
            made.messages.create(**REQUEST)
    span = patched.span()
    assert (span["status"], span["error_type"]) == ("error", "anthropic.APIConnectionError")
    assert "http_status" not in span


def test_a_timeout_is_a_timeout(patched: Any, mode: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = {"base_url": f"http://127.0.0.1:{silent.getsockname()[1]}", "timeout": 0.05}
        with pytest.raises(anthropic.APITimeoutError):
            if mode == "async":
                call_async(silent_provider(silent), lambda made: made.messages.create(**REQUEST), **options)
            else:
                with calls.client_of(silent_provider(silent), **options) as made:
                    made.messages.create(**REQUEST)
    span = patched.span()
    assert (span["status"], span["error_type"]) == ("timeout", "anthropic.APITimeoutError")


def silent_provider(server: socket.socket) -> Any:
    class Silent:
        port = server.getsockname()[1]

    return Silent


def test_a_cancelled_call_is_cancelled(patched: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:

        async def call(made: Any) -> None:
            task = asyncio.create_task(made.messages.create(**REQUEST))
            connection, _ = await asyncio.get_running_loop().sock_accept(silent)
            task.cancel()
            with connection, pytest.raises(asyncio.CancelledError):
                await task

        silent.setblocking(False)
        call_async(silent_provider(silent), call)
    span = patched.span()
    assert span["status"] == "cancelled"
    assert "error_code" not in span


def test_missing_arguments_are_the_sdks_own_error_and_no_call(client: Any, patched: Any) -> None:
    with pytest.raises(TypeError, match="Missing required argument"):
        client.messages.create(model="m")
    assert patched.spans() == []
