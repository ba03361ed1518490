"""Errors of the official openai SDK over loopback HTTP: class, code, status, retries; timeouts and cancellations."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import openai_calls as calls
import pytest
from openai_calls import ask, chat, completion, refusal

openai = calls.openai


@pytest.mark.parametrize(
    ("status", "code", "error_class", "error_code"),
    [
        (400, "context_length_exceeded", "BadRequestError", "context_length_exceeded"),
        (401, "invalid_api_key", "AuthenticationError", "invalid_api_key"),
        (403, "unsupported_country", "PermissionDeniedError", "unsupported_country"),
        (404, "model_not_found", "NotFoundError", "model_not_found"),
        (409, None, "ConflictError", "409"),
        (422, "bad", "UnprocessableEntityError", "bad"),
        (429, "insufficient_quota", "RateLimitError", "insufficient_quota"),
        (500, None, "InternalServerError", "500"),
        (503, "overloaded", "InternalServerError", "overloaded"),
    ],
)
def test_an_error_reply_is_the_users_exception_and_one_span(
    provider: Any, patched_openai: Any, mode: str, status: int, code: str | None, error_class: str, error_code: str
) -> None:
    provider.answer(refusal(code, "no, because sk-abcdefghijklmnopqrstuvwxyz123456 is wrong"), status)
    with pytest.raises(getattr(openai, error_class)) as caught:
        ask(provider, mode, chat)
    assert caught.value.status_code == status
    span = patched_openai.span()
    assert (span["status"], span["error_type"]) == ("error", f"openai.{error_class}")
    assert (span["http_status"], span["error_code"]) == (status, error_code)
    assert "sk-abc" not in span["error_message"]
    assert "because" in span["error_message"]
    assert span["model_id"] == "gpt-4o-mini"
    assert not {"retries", "input_tokens", "usage_source"} & span.keys()


def test_the_exception_has_at_most_one_frame_of_ours(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(refusal("bad", "no"), 400)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(provider, mode, chat)
    files = [entry.path for entry in caught.traceback]
    assert sum("/fasttrace/" in str(path).replace("\\", "/") and "tests" not in str(path) for path in files) <= 1
    assert caught.value.__cause__ is None


def test_an_error_reply_that_is_not_json(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(b"<html>Bad gateway</html>", 502, content_type="text/html")
    with pytest.raises(openai.InternalServerError):
        ask(provider, mode, chat)
    span = patched_openai.span()
    assert (span["http_status"], span["error_code"]) == (502, "502")


def test_retries_that_the_sdk_makes_are_counted_in_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    for _ in range(2):
        provider.answer(refusal("rate_limit_exceeded", "slow down"), 429, retry_after_ms="1")
    provider.answer(completion())
    ask(provider, mode, chat, max_retries=3)
    assert len(provider.requests) == 3
    span = patched_openai.span()
    assert (span["retries"], span["status"], span["input_tokens"]) == (2, "success", 100)
    assert not {"error_type", "http_status"} & span.keys()


def test_retries_that_do_not_help_are_counted_too(provider: Any, patched_openai: Any, mode: str) -> None:
    for _ in range(3):
        provider.answer(refusal("rate_limit_exceeded", "slow down"), 429, retry_after_ms="1")
    with pytest.raises(openai.RateLimitError):
        ask(provider, mode, chat, max_retries=2)
    span = patched_openai.span()
    assert (span["retries"], span["status"], span["http_status"]) == (2, "error", 429)


def test_a_refused_connection_is_an_error(provider: Any, patched_openai: Any, mode: str) -> None:
    with pytest.raises(openai.APIConnectionError):
        ask(provider, mode, chat, base_url="http://127.0.0.1:9/v1")
    span = patched_openai.span()
    assert (span["status"], span["error_type"]) == ("error", "openai.APIConnectionError")
    assert (span["server_address"], span["server_port"]) == ("127.0.0.1", 9)
    assert "http_status" not in span


def test_a_timeout_is_a_timeout(provider: Any, patched_openai: Any, mode: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(openai.APITimeoutError):
            ask(provider, mode, chat, base_url=base, timeout=0.05)
    span = patched_openai.span()
    assert (span["status"], span["error_type"]) == ("timeout", "openai.APITimeoutError")


def test_a_timeout_in_a_stream_is_a_timeout(provider: Any, patched_openai: Any, mode: str) -> None:
    gate = threading.Event()
    provider.stream([*calls.text_chunks()[:2], gate])
    try:
        with pytest.raises(Exception) as caught:
            ask(provider, mode, lambda client: chat(client, stream=True), timeout=0.5)
    finally:
        gate.set()
    span = patched_openai.span()
    assert "imeout" in type(caught.value).__name__
    assert (span["status"], span["chunks"], span["usage_source"]) == ("timeout", 2, "partial")


def test_a_cancelled_call_is_cancelled(provider: Any, patched_openai: Any) -> None:
    """By asyncio.timeout and its like: not what the SDK calls a timeout."""

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0) as client:
            task = asyncio.create_task(chat(client))
            connection, _ = await asyncio.get_running_loop().sock_accept(silent)
            task.cancel()
            with connection, pytest.raises(asyncio.CancelledError):
                await task

    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        port = silent.getsockname()[1]
        asyncio.run(main())
    span = patched_openai.span()
    assert span["status"] == "cancelled"
    assert "error_code" not in span


def test_missing_arguments_are_the_sdks_own_error_and_no_call(provider: Any, patched_openai: Any, mode: str) -> None:
    with pytest.raises(TypeError, match="Missing required arguments"):
        ask(provider, mode, lambda client: client.chat.completions.create(model="m"))
    assert provider.requests == []
    assert patched_openai.spans() == []


def test_a_reply_that_the_helper_refuses_was_still_a_call(provider: Any, patched_openai: Any, mode: str) -> None:
    """`parse` raises when the reply was cut off, after it was billed."""
    provider.answer(
        completion(
            choices=[{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": '{"ci'}}]
        )
    )
    import pydantic

    class Answer(pydantic.BaseModel):
        city: str

    def parse(client: Any) -> Any:
        completions = client.beta.chat.completions
        return completions.parse(model="m", messages=calls.MESSAGES, response_format=Answer)

    with pytest.raises(openai.LengthFinishReasonError) as caught:
        ask(provider, mode, parse)
    span = patched_openai.span()
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (100, 20, "provider")
    assert (span["response_id"], span["finish_reasons"], span["request_model"]) == ("chatcmpl-1", ["length"], "m")
    assert span["cache_read_tokens"] == 64
    if hasattr(caught.value, "completion"):  # releases before that parse when the call has returned
        assert (span["status"], span["error_type"]) == ("error", "openai.LengthFinishReasonError")
