"""Raw replies of the anthropic SDK: the user parses them, once, twice, late or never; each is one span."""

from __future__ import annotations

import gc
from typing import Any

import anthropic_calls as calls
import pytest
from anthropic_calls import REQUEST, call_async, message, text_events

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")


@pytest.fixture
def patched(recording: Any) -> Any:
    with calls.instrumented(recording):
        yield recording


@pytest.fixture
def client(provider: Any, patched: Any) -> Any:
    with calls.client_of(provider) as made:
        yield made


def expect_whole(span: dict[str, Any], **more: Any) -> None:
    assert (span["status"], span["input_tokens"], span["output_tokens"]) == ("success", 100, 20)
    assert (span["usage_source"], span["response_id"], span["finish_reasons"]) == ("provider", "msg_1", ["end_turn"])
    assert {name: span.get(name) for name in more} == more


def test_a_raw_response_is_read_when_it_is_parsed(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(message(), request_id="req-1")
    raw = client.messages.with_raw_response.create(**REQUEST)
    assert raw.headers["request-id"] == "req-1"
    assert patched.spans() == []
    reply = raw.parse()
    assert type(reply) is anthropic.types.Message and reply is raw.parse()
    expect_whole(patched.span(), stream=None)
    del raw
    gc.collect()
    assert patched.spans() == []


def test_a_raw_response_that_nobody_parses_is_one_span(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(message())
    raw = client.messages.with_raw_response.create(**REQUEST)
    assert raw.http_response.json()["id"] == "msg_1"
    del raw
    gc.collect()
    expect_whole(patched.span())


def test_an_asynchronous_raw_response(provider: Any, patched: Any) -> None:
    provider.answer(message())

    async def call(made: Any) -> Any:
        raw = await made.messages.with_raw_response.create(**REQUEST)
        parsed = raw.parse()
        return await parsed if hasattr(parsed, "__await__") else parsed

    assert type(call_async(provider, call)) is anthropic.types.Message
    expect_whole(patched.span())


def test_a_raw_stream_is_watched_once_it_is_parsed(provider: Any, client: Any, patched: Any) -> None:
    provider.stream(text_events())
    raw = client.messages.with_raw_response.create(**REQUEST, stream=True)
    stream = raw.parse()
    assert isinstance(stream, anthropic.Stream)
    assert patched.spans() == []
    assert [event.type for event in stream][-1] == "message_stop"
    span = patched.span()
    expect_whole(span, stream=True)
    assert span["first_chunk_ms"] <= span["first_text_ms"] <= span["duration_ms"]


def test_a_raw_stream_that_nobody_parses_is_incomplete(provider: Any, client: Any, patched: Any) -> None:
    provider.stream(text_events())
    raw = client.messages.with_raw_response.create(**REQUEST, stream=True)
    raw.http_response.close()
    del raw
    gc.collect()
    span = patched.span()
    assert (span["status"], span["stream"]) == ("incomplete", True)
    assert "output_tokens" not in span


def test_a_streaming_response_is_read_when_it_is_parsed(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(message())
    with client.messages.with_streaming_response.create(**REQUEST) as response:
        assert patched.spans() == []
        assert response.parse().id == "msg_1"
    expect_whole(patched.span(), stream=None)


def test_a_streaming_response_read_as_bytes_is_one_span(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(message())
    with client.messages.with_streaming_response.create(**REQUEST) as response:
        assert b"msg_1" in response.read()
    del response
    gc.collect()
    expect_whole(patched.span(), stream=None)


def test_a_streaming_response_read_in_lines_is_one_span(provider: Any, client: Any, patched: Any) -> None:
    provider.stream(text_events())
    with client.messages.with_streaming_response.create(**REQUEST, stream=True) as response:
        assert "event: message_start" in list(response.iter_lines())
    del response
    gc.collect()
    span = patched.span()
    assert (span["status"], span["stream"]) == ("success", True)


def test_a_streaming_response_left_unread_is_incomplete(provider: Any, client: Any, patched: Any) -> None:
    provider.stream(text_events())
    with client.messages.with_streaming_response.create(**REQUEST, stream=True) as response:
        assert response.status_code == 200
    del response
    gc.collect()
    assert patched.span()["status"] == "incomplete"


def test_an_asynchronous_streaming_response_with_a_stream_inside(provider: Any, patched: Any) -> None:
    provider.stream(text_events())

    async def call(made: Any) -> Any:
        async with made.messages.with_streaming_response.create(**REQUEST, stream=True) as response:
            return [event.type async for event in await response.parse()]

    assert call_async(provider, call)[-1] == "message_stop"
    expect_whole(patched.span(), stream=True)


def test_a_raw_beta_message(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(message())
    raw = client.beta.messages.with_raw_response.create(**REQUEST)
    assert raw.parse().id == "msg_1"
    expect_whole(patched.span())
