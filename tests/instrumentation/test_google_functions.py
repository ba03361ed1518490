"""One public call of the google-genai SDK may be several HTTP calls: functions, chats, answers that go on."""

from __future__ import annotations

import asyncio
from typing import Any

import gemini
import pytest
from gemini import MODEL, REQUEST, candidate, chunk, chunks, function_call, reply, usage

from fasttrace.core._api import CURRENT
from fasttrace.trace.span import Span

# The SDK warns of its own old ways, and of methods that are to go.
pytestmark = pytest.mark.filterwarnings("ignore")
genai = pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")

seen_in_functions: list[Any] = []


def get_weather(city: str) -> str:
    """The weather of a city."""
    seen_in_functions.append(CURRENT.get())
    return f"Rain in {city}"


# Older releases want the types themselves.
get_weather.__annotations__ = {"city": str, "return": str}


@pytest.fixture
def patched(recording: Any) -> Any:
    seen_in_functions.clear()
    with gemini.instrumented(recording):
        yield recording


def answer_in_two_calls(provider: Any) -> None:
    provider.answer(reply(function_call("get_weather", city="Oslo"), responseId="resp-1"))
    provider.answer(reply("Rain.", responseId="resp-2"))


def stream_in_two_calls(provider: Any) -> None:
    provider.stream([chunk(function_call("get_weather", city="Oslo"), finish="STOP", counts=usage())])
    provider.stream(chunks("Ra", "in."))


def within_a_span(patched: Any, provider: Any, mode: str, name: str, **options: Any) -> Any:
    with Span(patched.core, patched.recorder, "weather report", "chain", None):
        return gemini.call(provider, mode, name, **REQUEST, config={"tools": [get_weather]}, **options)


def expect_two_calls_of_one_trace(patched: Any) -> None:
    first, second, outer = patched.spans()
    assert outer["name"] == "weather report"
    assert {span["trace_id"] for span in (first, second)} == {outer["trace_id"]}
    assert {span["parent_span_id"] for span in (first, second)} == {outer["span_id"]}
    assert first["span_id"] != second["span_id"]
    assert (first["tool_calls"], "tool_calls" in second) == (["get_weather"], False)
    assert {(span["input_tokens"], span["output_tokens"], span["status"]) for span in (first, second)} == {
        (100, 20, "success")
    }
    assert {context.span_id for context in seen_in_functions} == {outer["span_id"]}


def test_a_function_that_the_sdk_calls_makes_two_spans_of_one_trace(provider: Any, patched: Any, mode: str) -> None:
    answer_in_two_calls(provider)
    answer = within_a_span(patched, provider, mode, "generate_content")
    assert answer.text == "Rain."
    assert len(provider.requests) == 2
    expect_two_calls_of_one_trace(patched)


def test_a_streamed_function_call_makes_two_spans_of_one_trace(provider: Any, patched: Any, mode: str) -> None:
    stream_in_two_calls(provider)
    found = within_a_span(patched, provider, mode, "generate_content_stream")
    assert "".join(piece.text or "" for piece in found) == "Rain."
    assert len(provider.requests) == 2
    expect_two_calls_of_one_trace(patched)


def test_functions_left_to_the_application_make_one_span(provider: Any, patched: Any, mode: str) -> None:
    provider.answer(reply(function_call("get_weather", city="Oslo")))
    config = {"tools": [get_weather], "automatic_function_calling": {"disable": True}}
    answer = gemini.call(provider, mode, "generate_content", **REQUEST, config=config)
    assert answer.function_calls[0].name == "get_weather"
    assert patched.span()["tool_calls"] == ["get_weather"]
    assert seen_in_functions == []


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_every_message_of_a_chat_is_one_span(provider: Any, patched: Any, mode: str, streams: bool) -> None:
    for n in range(2):
        if streams:
            provider.stream(chunks("Hi", f" {n}"))
        else:
            provider.answer(reply(f"Hi {n}"))

    def sync() -> list[str]:
        with gemini.client_of(provider) as made:
            chat = made.chats.create(model=MODEL)
            if streams:
                return ["".join(piece.text for piece in chat.send_message_stream(text)) for text in ("a", "b")]
            return [chat.send_message(text).text for text in ("a", "b")]

    async def in_a_loop() -> list[str]:
        async with gemini.async_client_of(provider) as made:
            chat = made.chats.create(model=MODEL)
            if not streams:
                return [(await chat.send_message(text)).text for text in ("a", "b")]
            found = []
            for text in ("a", "b"):
                found.append("".join([piece.text async for piece in await chat.send_message_stream(text)]))
            return found

    assert (asyncio.run(in_a_loop()) if mode == "async" else sync()) == ["Hi 0", "Hi 1"]
    spans = patched.spans()
    assert [(span["operation"], span["status"], span.get("stream")) for span in spans] == [
        ("generate_content", "success", True if streams else None)
    ] * 2
    assert [(span["input_tokens"], span["output_tokens"]) for span in spans] == [(100, 20)] * 2


@pytest.mark.parametrize("name", ["generate_content", "generate_content_stream"])
def test_an_answer_that_goes_on_is_a_span_for_each_part(provider: Any, patched: Any, mode: str, name: str) -> None:
    if not hasattr(genai.models.Models, "_generate_content_with_continuation"):
        pytest.skip(f"google-genai {genai.__version__} does not ask the model to go on")
    goes_on = candidate("Hel", finishReason="CONTINUATION", continuationToken="dG9rZW4=")
    if name == "generate_content":
        provider.answer(reply(candidates=[goes_on]))
        provider.answer(reply("lo!"))
    else:
        provider.stream([{**chunk("x", counts=usage()), "candidates": [goes_on]}])
        provider.stream(chunks("lo!"))
    found = gemini.call(provider, mode, name, **REQUEST)
    text = found.text if name == "generate_content" else "".join(piece.text for piece in found)
    assert text == "Hello!"
    spans = patched.spans()
    assert [span["finish_reasons"] for span in spans] == [["CONTINUATION"], ["STOP"]]
    assert [(span["input_tokens"], span["output_tokens"]) for span in spans] == [(100, 20)] * 2
