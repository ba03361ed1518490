"""Streams of the anthropic SDK over loopback HTTP, on both cores: what is read from the events, and every ending."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import anthropic_calls as calls
import pytest
from anthropic_calls import (
    MODEL,
    REQUEST,
    TOOLS,
    block,
    call_async,
    ended,
    event,
    method_of,
    started,
    text_block,
    text_events,
    tool_use,
)

from fasttrace.core._api import Price

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")

PARTIAL = {"status": "incomplete", "stream": True, "usage_source": "partial", "input_tokens": 100}
HELPERS = ("messages.stream", "beta.messages.stream", "beta.prompt_caching.messages.stream")
WHOLE = {"status": "success", "stream": True, "usage_source": "provider", "input_tokens": 100, "output_tokens": 20}


@pytest.fixture
def patched(recording: Any) -> Any:
    with calls.instrumented(recording):
        recording.recorder.prices.put("anthropic", MODEL, Price(input=3, output=15))
        yield recording


@pytest.fixture
def client(provider: Any, patched: Any) -> Any:
    with calls.client_of(provider) as made:
        yield made


@pytest.fixture
def gate() -> Any:
    """The server waits at it, so that a stream that is left early has not been sent to its end."""
    made = threading.Event()
    yield made
    made.set()


def expect(span: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert {name: span.get(name) for name in wanted} == wanted


# ---- what is read ----


def test_a_stream_is_one_exact_span(provider: Any, client: Any, patched: Any) -> None:
    provider.stream(text_events("Hel", "lo", "!"))
    stream = client.messages.create(**REQUEST, stream=True)
    assert isinstance(stream, anthropic.Stream)
    assert patched.spans() == []
    events = list(stream)
    assert "".join(e.delta.text for e in events if e.type == "content_block_delta") == "Hello!"
    span = patched.span()
    expect(span, WHOLE | {"model_id": MODEL, "response_id": "msg_1", "service_tier": "standard", "chunks": 8})
    assert (span["finish_reasons"], span["request_params"]) == (["end_turn"], {"max_tokens": 64})
    assert 0 < span["first_chunk_ms"] <= span["first_token_ms"] <= span["first_text_ms"] <= span["duration_ms"]
    assert span["cost_usd"] == (100 * 3 + 20 * 15) / 10**12
    assert list(stream) == []
    assert patched.spans() == []


def test_an_asynchronous_stream_is_the_same(provider: Any, patched: Any) -> None:
    provider.stream(text_events())

    async def call(made: Any) -> Any:
        stream = await made.messages.create(**REQUEST, stream=True)
        assert isinstance(stream, anthropic.AsyncStream)
        return [event.type async for event in stream]

    assert call_async(provider, call)[0] == "message_start"
    expect(patched.span(), WHOLE | {"model_id": MODEL, "chunks": 7})


def test_thinking_is_a_token_and_no_text(provider: Any, client: Any, patched: Any) -> None:
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    thought = block(0, thinking, {"type": "thinking_delta", "thinking": "Hm"})
    details = {"output_tokens_details": {"thinking_tokens": 9}}
    provider.stream([started(), *thought, *text_block(1, "Hi"), *ended(**details)])
    list(client.messages.create(**REQUEST, stream=True))
    span = patched.span()
    assert span["reasoning_tokens"] == 9
    assert span["first_token_ms"] < span["first_text_ms"]


def test_tools_are_named_and_are_tokens(provider: Any, client: Any, patched: Any) -> None:
    part = {"type": "input_json_delta", "partial_json": "{}"}
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    searched = {"server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 0}}
    blocks = [*block(0, search), *block(1, tool_use("get_weather"), part), *block(2, tool_use("get_time"), part)]
    provider.stream([started(), *blocks, *ended("tool_use", **searched)])
    list(client.messages.create(**REQUEST, stream=True, tools=TOOLS))
    span = patched.span()
    assert (span["tool_calls"], span["finish_reasons"]) == (["get_weather", "get_time"], ["tool_use"])
    assert span["web_search_requests"] == 3
    assert "first_token_ms" in span
    assert "first_text_ms" not in span


def test_cached_input_of_a_stream_is_counted_once(provider: Any, client: Any, patched: Any) -> None:
    detail = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20}
    start = started(input_tokens=4, cache_read_input_tokens=1000, cache_creation_input_tokens=50, cache_creation=detail)
    provider.stream([start, *text_block(0, "Hi"), *ended()])
    list(client.messages.create(**REQUEST, stream=True))
    span = patched.span()
    assert (span["input_tokens"], span["output_tokens"], span["cache_read_tokens"]) == (1054, 20, 1000)
    assert (span["cache_write_tokens"], span["cache_write_1h_tokens"]) == (50, 20)


def test_the_last_counts_of_a_stream_are_the_ones(provider: Any, client: Any, patched: Any) -> None:
    """A tool that the provider runs makes the input grow while the answer is streamed."""
    grown = {"input_tokens": 700, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 5}
    provider.stream([started(), *text_block(0, "Hi"), *ended(**grown)])
    list(client.messages.create(**REQUEST, stream=True))
    span = patched.span()
    assert (span["input_tokens"], span["cache_read_tokens"], span["cache_write_tokens"]) == (765, 60, 5)


def test_a_text_completion_can_be_streamed(provider: Any, client: Any, patched: Any) -> None:
    create = method_of(client, "completions.create")
    pieces = ((" Hel", None), ("lo", None), ("", "stop_sequence"))
    provider.stream(
        event("completion", id="compl_1", model="claude-2.1", completion=text, stop_reason=reason, log_id="x")
        for text, reason in pieces
    )
    list(create(model="claude-2", max_tokens_to_sample=10, prompt="\n\nHuman: Hi\n\nAssistant:", stream=True))
    span = patched.span()
    expect(span, {"status": "success", "operation": "text_completion", "model_id": "claude-2.1", "chunks": 3})
    assert (span["finish_reasons"], span["response_id"]) == (["stop_sequence"], "compl_1")
    assert "first_text_ms" in span
    assert "output_tokens" not in span


# ---- endings ----


class Consumer(Exception):
    """What the code that reads a stream may raise."""


def close_early(client: Any) -> None:
    stream = client.messages.create(**REQUEST, stream=True)
    next(stream)
    stream.close()


def leave_a_with_by_break(client: Any) -> None:
    with client.messages.create(**REQUEST, stream=True) as stream:
        for _ in stream:
            break


def raise_while_reading(client: Any) -> None:
    with pytest.raises(Consumer):
        with client.messages.create(**REQUEST, stream=True) as stream:
            for _ in stream:
                raise Consumer


def break_and_drop(client: Any) -> None:
    for _ in client.messages.create(**REQUEST, stream=True):
        break


def never_iterate(client: Any) -> None:
    client.messages.create(**REQUEST, stream=True)


@pytest.mark.parametrize(
    "left", [close_early, leave_a_with_by_break, raise_while_reading, break_and_drop, never_iterate]
)
def test_a_stream_left_early_is_one_incomplete_span(
    provider: Any, client: Any, patched: Any, gate: Any, left: Any
) -> None:
    first, *more = text_events()
    provider.stream([first, gate, *more])
    left(client)
    gc.collect()
    span = patched.span()
    if left is never_iterate:
        expect(span, {"status": "incomplete", "stream": True, "usage_source": "partial", "chunks": 0})
    else:
        expect(span, PARTIAL | {"chunks": 1, "first_token_ms": None, "output_tokens": None, "cost_usd": None})


async def close_early_async(client: Any) -> None:
    stream = await client.messages.create(**REQUEST, stream=True)
    await stream.__anext__()
    await stream.close()


async def leave_an_async_with_by_break(client: Any) -> None:
    async with await client.messages.create(**REQUEST, stream=True) as stream:
        async for _ in stream:
            break


async def raise_while_reading_async(client: Any) -> None:
    with pytest.raises(Consumer):
        async with await client.messages.create(**REQUEST, stream=True) as stream:
            async for _ in stream:
                raise Consumer


async def cancel_while_waiting(client: Any) -> None:
    seen = asyncio.Event()

    async def read() -> None:
        async for _ in await client.messages.create(**REQUEST, stream=True):
            seen.set()

    task = asyncio.create_task(read())
    await seen.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("left", "status"),
    [
        (close_early_async, "incomplete"),
        (leave_an_async_with_by_break, "incomplete"),
        (raise_while_reading_async, "incomplete"),
        (cancel_while_waiting, "cancelled"),
    ],
)
def test_an_asynchronous_stream_left_early_is_one_span(
    provider: Any, patched: Any, gate: Any, left: Any, status: str
) -> None:
    first, *more = text_events()
    provider.stream([first, gate, *more])
    call_async(provider, left)
    gc.collect()
    span = patched.span()
    expect(span, PARTIAL | {"status": status, "chunks": 1, "output_tokens": None})


def test_what_has_its_end_and_its_counts_is_complete_though_nobody_read_on(
    provider: Any, client: Any, patched: Any
) -> None:
    provider.stream(text_events())
    with client.messages.create(**REQUEST, stream=True) as stream:
        for event_ in stream:
            if event_.type == "message_delta":
                break
    expect(patched.span(), WHOLE | {"chunks": 6})


def drop(provider: Any, client: Any, gate: Any) -> tuple[bool, bool]:
    """Whether a stream that nobody holds any more is gone at once, and its connection closed."""
    first, *more = text_events()
    provider.stream([first, gate, *more])
    stream = client.messages.create(**REQUEST, stream=True)
    next(stream)
    response, dropped = stream.response, weakref.ref(stream)
    gc.disable()
    try:
        del stream
        return dropped() is None, response.is_closed
    finally:
        gc.enable()


def test_a_dropped_stream_ends_as_promptly_as_without_us(provider: Any, client: Any, patched: Any, gate: Any) -> None:
    request = anthropic._base_client.SyncAPIClient.__dict__["request"]
    patched.core.switch(request, False)
    without = drop(provider, client, gate)
    patched.core.switch(request, True)
    assert drop(provider, client, gate) == without
    if not without[0]:  # earlier releases make a cycle of every stream
        gc.collect()
    else:
        assert without == (True, True)
    expect(patched.span(), PARTIAL | {"chunks": 1})


def test_streams_that_are_open_at_the_end_of_the_process_are_recorded(
    provider: Any, client: Any, patched: Any, gate: Any
) -> None:
    first, *more = text_events()
    provider.stream([first, gate, *more])
    with client.messages.create(**REQUEST, stream=True) as stream:
        next(stream)
        assert patched.core.end_streams(patched.recorder) == 1
        expect(patched.span(), PARTIAL)
        gate.set()
        assert len(list(stream)) == 6
    assert patched.spans() == []


# ---- the stream helper ----


@pytest.mark.parametrize("path", HELPERS)
def test_text_of_the_helper(provider: Any, client: Any, patched: Any, path: str) -> None:
    helper = method_of(client, path)
    provider.stream(text_events())
    with helper(**REQUEST) as stream:
        assert "".join(stream.text_stream) == "Hello!"
        assert stream.get_final_message().usage.output_tokens == 20
    expect(patched.span(), WHOLE | {"chunks": 7, "operation": "chat"})


@pytest.mark.parametrize("path", HELPERS)
def test_text_of_the_asynchronous_helper(provider: Any, patched: Any, path: str) -> None:
    provider.stream(text_events())

    async def call(made: Any) -> None:
        async with method_of(made, path)(**REQUEST) as stream:
            assert "".join([text async for text in stream.text_stream]) == "Hello!"
            assert (await stream.get_final_message()).usage.output_tokens == 20

    call_async(provider, call)
    expect(patched.span(), WHOLE | {"chunks": 7})


def test_the_helpers_final_message_alone(provider: Any, client: Any, patched: Any) -> None:
    provider.stream(text_events())
    with client.messages.stream(**REQUEST) as stream:
        assert stream.get_final_message().content[0].text == "Hello!"
    expect(patched.span(), WHOLE)


def test_the_helper_left_by_break_and_by_an_exception(provider: Any, client: Any, patched: Any, gate: Any) -> None:
    for leave in (False, True):
        *first, last, closing = text_events()[:4]
        provider.stream([*first, last, closing, gate])
        try:
            with client.messages.stream(**REQUEST) as stream:
                for _ in stream.text_stream:
                    if leave:
                        raise Consumer
                    break
        except Consumer:
            assert leave
        span = patched.span()
        expect(span, PARTIAL)
        assert "first_text_ms" in span


def test_a_helper_that_is_never_entered_makes_no_call(provider: Any, client: Any, patched: Any) -> None:
    client.messages.stream(**REQUEST)
    assert (provider.requests, patched.spans()) == ([], [])


def test_a_tool_runner_that_streams_is_one_span_for_each_turn(provider: Any, client: Any, patched: Any) -> None:
    runner_of = method_of(client, "beta.messages.tool_runner")

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Weather in a city."""
        return "rain"

    city = {"type": "input_json_delta", "partial_json": '{"city": "Bern"}'}
    provider.stream([started(), *block(0, tool_use(), city), *ended("tool_use")])
    provider.stream(text_events())
    last = [stream.get_final_message() for stream in runner_of(**REQUEST, tools=[get_weather], stream=True)][-1]
    assert last.content[0].text == "Hello!"
    first, second = patched.spans()
    expect(first, WHOLE | {"tool_calls": ["get_weather"]})
    expect(second, WHOLE | {"finish_reasons": ["end_turn"]})
