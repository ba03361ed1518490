"""Content of the anthropic SDK's calls, where its capture is on: the request as it is sent, the answer put together."""

from __future__ import annotations

from typing import Any

import anthropic_calls as calls
import pytest
from anthropic_calls import MESSAGES, REQUEST, TOOLS, block, ended, message, started, text_block, text_events, tool_use

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")


@pytest.fixture
def patched(recording: Any) -> Any:
    recording.recorder.capture_input = recording.recorder.capture_output = True
    with calls.instrumented(recording):
        yield recording


@pytest.fixture
def client(provider: Any, patched: Any) -> Any:
    with calls.client_of(provider) as made:
        yield made


def test_what_was_asked_and_answered_is_captured(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(message())
    client.messages.create(**REQUEST, system="Be brief", tools=TOOLS)
    span = patched.span()
    assert span["input"] == {"system": "Be brief", "messages": MESSAGES, "tools": TOOLS}
    assert [(part["type"], part["text"]) for part in span["output"]] == [("text", "Hello!")]


def test_a_streams_answer_is_put_together(provider: Any, client: Any, patched: Any) -> None:
    parts = ({"type": "input_json_delta", "partial_json": part} for part in ('{"city": ', '"Bern"}'))
    provider.stream([started(), *text_block(0, "Let me ", "look."), *block(1, tool_use(), *parts), *ended("tool_use")])
    list(client.messages.create(**REQUEST, stream=True, tools=TOOLS))
    text, tool = patched.span()["output"]
    assert (text["type"], text["text"]) == ("text", "Let me look.")
    assert (tool["name"], tool["input"]) == ("get_weather", {"city": "Bern"})


def test_a_raw_streams_answer_is_put_together(provider: Any, client: Any, patched: Any) -> None:
    provider.stream(text_events("Hel", "lo"))
    list(client.messages.with_raw_response.create(**REQUEST, stream=True).parse())
    assert [part["text"] for part in patched.span()["output"]] == ["Hello"]


def test_counting_tokens_captures_nothing(provider: Any, client: Any, patched: Any) -> None:
    provider.answer({"input_tokens": 14})
    client.beta.messages.count_tokens(model=REQUEST["model"], messages=MESSAGES)
    assert not {"input", "output"} & patched.span().keys()
