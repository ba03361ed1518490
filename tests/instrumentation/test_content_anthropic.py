"""Content of the anthropic SDK's own objects: a stream in whatever pieces is the JSON of the plain reply."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fasttrace.instrumentation.content import messages_content

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
LIMIT = 65_536
MESSAGES = messages_content()

slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=30).filter(lambda text: "@" not in text)
inputs = st.dictionaries(st.text("abc", min_size=1), st.none() | st.booleans() | st.integers(-9, 9) | words, max_size=3)
blocks = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, words),
    st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "c2ln"}, words),
    st.builds(lambda made: {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": made}, inputs),
    st.just({"type": "redacted_thinking", "data": "EmwKAhgB"}),
)
CITATION = {"type": "char_location", "cited_text": "x", "document_index": 0, "start_char_index": 0, "end_char_index": 1}


def constructed(kind: Any, value: Any) -> Any:
    """As the SDK makes it of a reply."""
    from anthropic._models import construct_type

    return construct_type(type_=kind, value=value)


def collected(chunks: Any, limit: int = LIMIT) -> Any:
    stream = MESSAGES.stream(limit)
    for chunk in chunks:
        stream.feed(chunk)
    data = stream.result()
    return None if data is None else json.loads(data)


def delta(index: int, kind: str, **members: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **members}}


def events_of(index: int, block: Any, length: int) -> list[dict[str, Any]]:
    """A block as a stream gives it: without its texts first, then these in pieces."""
    empty = {name: "" if name in ("text", "thinking", "signature") else value for name, value in block.items()}
    found: list[dict[str, Any]] = []
    for member, kind in (("text", "text_delta"), ("thinking", "thinking_delta"), ("signature", "signature_delta")):
        text = block.get(member, "")
        found += [delta(index, kind, **{member: text[at : at + length]}) for at in range(0, len(text), length)]
    if "input" in block:
        empty["input"] = {}
        text = json.dumps(block["input"])
        found.append(delta(index, "input_json_delta", partial_json=""))
        for at in range(0, len(text), length):
            found.append(delta(index, "input_json_delta", partial_json=text[at : at + length]))
    start = {"type": "content_block_start", "index": index, "content_block": empty}
    return [start, *found, {"type": "content_block_stop", "index": index}]


def stream_of(content: Any, length: int) -> list[dict[str, Any]]:
    message = {"id": "msg", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {}}
    events = [event for index, block in enumerate(content) for event in events_of(index, block, length)]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    return [{"type": "message_start", "message": message}, {"type": "ping"}, *events, end, {"type": "message_stop"}]


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_none(item) for name, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list) else value


@slowly
@given(st.lists(blocks, min_size=1, max_size=4), st.integers(1, 9))
def test_a_message_in_pieces_is_the_message(content: Any, length: int) -> None:
    reply = {"id": "msg", "type": "message", "role": "assistant", "model": "m", "content": content, "usage": {}}
    expected = without_none(content)
    assert json.loads(MESSAGES.output(reply, LIMIT) or b"") == expected
    assert json.loads(MESSAGES.output(constructed(anthropic.types.Message, reply), LIMIT) or b"") == expected
    events = stream_of(content, length)
    assert collected(events) == expected
    kind = anthropic.types.RawMessageStreamEvent
    assert collected([constructed(kind, event) for event in events]) == expected


def test_citations_are_gathered() -> None:
    events = stream_of([{"type": "text", "text": "Hi"}], 1)
    at = next(number for number, event in enumerate(events) if event["type"] == "content_block_stop")
    events[at:at] = [delta(0, "citations_delta", citation=CITATION)] * 2
    assert collected(events) == [{"type": "text", "text": "Hi", "citations": [CITATION, CITATION]}]


def test_a_tools_input_that_was_cut_is_the_text_so_far() -> None:
    events = stream_of([{"type": "tool_use", "id": "t", "name": "f", "input": {"city": "Berlin"}}], 3)[:6]
    assert collected(events) == [{"type": "tool_use", "id": "t", "name": "f", "input": '{"city'}]


@pytest.mark.parametrize("text", ['{"a": 1', "[" * 100_000, '{"a": 1}}'])
def test_a_tools_input_that_is_no_json_stays_text(text: str) -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "input": {}}}
    found = collected([start, delta(0, "input_json_delta", partial_json=text)], 300_000)
    assert found == [{"type": "tool_use", "input": text}]


def test_a_secret_in_a_tools_input_is_redacted() -> None:
    secret = "-".join(("sk", "proj", "abc123DEF456ghi789"))
    escaped = json.dumps({"key": secret}).replace("k-p", "\\u006b-p")
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "input": {}}}
    assert collected([start, delta(0, "input_json_delta", partial_json=escaped)]) == [
        {"type": "tool_use", "input": {"key": "[redacted]"}}
    ]


def test_what_a_stream_keeps_is_bounded_and_the_rest_counted() -> None:
    stream = MESSAGES.stream(1000)
    for number in range(3000):
        for event in events_of(number, {"type": "text", "text": "x" * 100}, 50):
            stream.feed(event)
    data = stream.result()
    assert data is not None and len(data) <= 1000
    *kept, mark = json.loads(data)
    assert mark["truncated"] >= 300_000 - sum(len(block.get("text", "")) for block in kept)


def test_the_input_is_what_is_content_of_the_request() -> None:
    body = {
        "model": "m",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "Hi"}],
        "system": [{"type": "text", "text": "Be brief"}],
        "tools": [{"name": "f", "input_schema": {}}],
        "mcp_servers": [{"url": "https://x", "authorization_token": "t"}],
    }
    assert json.loads(MESSAGES.input(body, LIMIT) or b"") == {
        name: body[name] for name in ("system", "messages", "tools")
    }


def test_a_count_of_tokens_says_nothing() -> None:
    assert MESSAGES.output({"input_tokens": 5}, LIMIT) is None
    assert MESSAGES.stream(LIMIT).result() is None
