"""Content of the openai SDK's own objects: a stream in whatever pieces is the JSON of the plain reply."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import openai_calls
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai_calls import needs_responses

from fasttrace.instrumentation.content import chat_content, responses_content, text_completion_content

openai = openai_calls.openai
LIMIT = 65_536
CHAT, TEXT, RESPONSES = chat_content(), text_completion_content(), responses_content()


def constructed(kind: Any, value: Any) -> Any:
    """As the SDK makes it of a reply."""
    from openai._models import construct_type

    return construct_type(type_=kind, value=value)


def collected(content: Any, chunks: Any, limit: int = LIMIT) -> Any:
    stream = content.stream(limit)
    for chunk in chunks:
        stream.feed(chunk)
    data = stream.result()
    return None if data is None else json.loads(data)


def plain(content: Any, reply: Any) -> Any:
    data = content.output(reply, LIMIT)
    return None if data is None else json.loads(data)


# ---- chat

slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=30).filter(lambda text: "@" not in text)
calls = st.builds(
    lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
    st.text("abc_", min_size=1, max_size=8),
    words,
)
messages = st.fixed_dictionaries(
    {"content": st.none() | words},
    optional={"refusal": words, "reasoning_content": words, "tool_calls": st.lists(calls, min_size=1, max_size=3)},
)


def pieces(text: str, length: int) -> list[str]:
    return [text[at : at + length] for at in range(0, len(text), length)] or [""]


def deltas(message: Any, length: int) -> list[dict[str, Any]]:
    """A message as a stream gives it: the role first, texts in pieces, each tool call named before its arguments."""
    found: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    for name in ("reasoning_content", "content", "refusal"):
        if message.get(name) is not None:
            found += [{name: piece} for piece in pieces(message[name], length)]
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        found.append({"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]})
        for piece in pieces(function["arguments"], length):
            found.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    return found


def chunk(index: int, delta: Any, reason: str | None = None) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


@slowly
@given(st.lists(messages, min_size=1, max_size=3), st.integers(1, 9))
def test_a_chat_in_pieces_is_the_chat(drawn: Any, length: int) -> None:
    choices, streams = [], []
    for index, message in enumerate(drawn):
        for number, call in enumerate(message.get("tool_calls", ())):
            call["id"] = f"call_{index}_{number}"
        choices.append({"index": index, "message": {"role": "assistant", **message}, "finish_reason": "stop"})
        streams.append([chunk(index, delta) for delta in deltas(message, length)] + [chunk(index, {}, "stop")])
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    turns = range(max(map(len, streams)))
    chunks = [stream[turn] for turn in turns for stream in reversed(streams) if turn < len(stream)]
    chunks.append({**chunks[0], "choices": [], "usage": {"prompt_tokens": 1}})
    expected = plain(CHAT, reply)
    assert [choice["message"]["role"] for choice in expected] == ["assistant"] * len(drawn)
    assert plain(CHAT, constructed(openai.types.chat.ChatCompletion, reply)) == expected
    assert collected(CHAT, chunks) == expected
    assert collected(CHAT, [constructed(openai.types.chat.ChatCompletionChunk, item) for item in chunks]) == expected


def test_a_chat_is_its_choices_without_what_is_not_content() -> None:
    reply = openai_calls.openai.types.chat.ChatCompletion.construct(
        id="c",
        choices=[{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "logprobs": None}],
        usage={"prompt_tokens": 1},
    )
    assert CHAT.output(reply, LIMIT) == b'[{"index":0,"message":{"role":"assistant","content":"Hi"}}]'


def test_the_input_is_what_is_content_of_the_request() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    body = {
        "model": "m",
        "temperature": 1,
        "stream": True,
        "tools": tools,
        "messages": [{"role": "user", "content": "é"}],
    }
    assert (
        CHAT.input(body, LIMIT)
        == (
            '{"messages":[{"role":"user","content":"é"}],'
            '"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]}'
        ).encode()
    )
    assert CHAT.input({"model": "m"}, LIMIT) is None
    assert CHAT.input(None, LIMIT) is None


def test_tool_calls_that_share_an_index_are_told_by_their_ids() -> None:
    def call(name: str | None, arguments: str, **more: Any) -> dict[str, Any]:
        return chunk(0, {"tool_calls": [{**more, "function": {"name": name, "arguments": arguments}}]})

    for index in ({"index": 0}, {}, {"index": None}):
        chunks = [call("f", "{", id="1", **index), call(None, "}", **index), call("f", "[]", id="2", **index)]
        (choice,) = collected(CHAT, chunks)
        assert choice["message"]["tool_calls"] == [
            {"id": "1", "function": {"name": "f", "arguments": "{}"}},
            {"id": "2", "function": {"name": "f", "arguments": "[]"}},
        ]
    chunks = [call("f", "{}"), call("f", "[]")]
    assert len(collected(CHAT, chunks)[0]["message"]["tool_calls"]) == 2


def test_a_stream_that_said_nothing_has_no_content() -> None:
    for content in (CHAT, TEXT, RESPONSES):
        assert content.stream(LIMIT).result() is None
        assert collected(content, [None, 5, "x", {}, {"choices": None}, {"choices": []}, {"type": None}]) is None


def test_content_so_far_of_a_stream_that_was_left() -> None:
    chunks = [chunk(0, {"role": "assistant", "content": "Hel"}), chunk(0, {"tool_calls": [{"index": 0, "id": "1"}]})]
    message = {"role": "assistant", "content": "Hel", "tool_calls": [{"id": "1"}]}
    assert collected(CHAT, chunks) == [{"index": 0, "message": message}]


# ---- the bounds of what a stream keeps


@pytest.mark.parametrize("limit", [256, 4096])
def test_what_a_stream_keeps_is_bounded_and_the_rest_counted(limit: int) -> None:
    stream = CHAT.stream(limit)
    tracemalloc.start()
    try:
        for _ in range(200):
            stream.feed(chunk(0, {"content": "x" * 10_000}))
            stream.feed(chunk(0, {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "y" * 10_000}}]}))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    data = stream.result()
    assert data is not None and limit - 200 < len(data) <= limit
    (choice, mark) = json.loads(data)
    names = 200  # of a tool call there is no room for
    assert 0 <= len(choice["message"]["content"]) + mark["truncated"] - 4_000_000 <= names


@slowly
@given(st.integers(60, 400), st.lists(st.text("ab\né", min_size=1, max_size=50), min_size=1, max_size=12))
def test_a_cut_stream_is_the_cut_reply(limit: int, texts: list[str]) -> None:
    reply = {"choices": [{"index": 0, "message": {"content": "".join(texts)}, "finish_reason": "stop"}]}
    chunks = [chunk(0, {"content": text}) for text in texts] + [chunk(0, {}, "stop")]
    stream = CHAT.stream(limit)
    for item in chunks:
        stream.feed(item)
    assert stream.result() == CHAT.output(reply, limit)


def test_choices_and_tool_calls_without_number_end() -> None:
    stream = CHAT.stream(1000)
    for number in range(20_000):
        stream.feed(chunk(number, {"content": "x"}))
        stream.feed(chunk(0, {"tool_calls": [{"index": number, "id": str(number)}]}))
    data = stream.result()
    assert data is not None and len(data) <= 1000
    assert json.loads(data)[-1]["truncated"] > 19_000


def test_a_secret_that_came_in_pieces_is_redacted() -> None:
    secret = "-".join(("sk", "proj", "abc123DEF456ghi789"))
    for length in (1, 3, 7):
        chunks = [chunk(0, {"content": piece}) for piece in pieces(f"it is {secret}!", length)]
        assert collected(CHAT, chunks)[0]["message"]["content"] == "it is [redacted]!"
    chunks = [chunk(0, {"content": piece}) for piece in pieces(f"{'x' * 3000} {secret} {'y' * 3000}", 7)]
    for limit in range(3000, 3150):
        assert "sk-" not in json.dumps(collected(CHAT, chunks, limit))


# ---- text completions


@slowly
@given(st.lists(words, min_size=1, max_size=3), st.integers(1, 9))
def test_a_text_completion_in_pieces_is_the_completion(texts: list[str], length: int) -> None:
    choices = [{"index": index, "text": text, "finish_reason": "stop"} for index, text in enumerate(texts)]
    chunks = [
        {"choices": [{"index": index, "text": piece, "finish_reason": None}]}
        for index, text in enumerate(texts)
        for piece in pieces(text, length)
    ]
    chunks += [{"choices": [{"index": index, "text": "", "finish_reason": "stop"}]} for index in range(len(texts))]
    expected = plain(TEXT, constructed(openai.types.Completion, {"id": "c", "choices": choices}))
    assert expected == choices
    assert collected(TEXT, chunks) == expected
    assert collected(TEXT, [constructed(openai.types.Completion, item) for item in chunks]) == expected


def test_the_input_of_a_text_completion_is_its_prompt() -> None:
    assert TEXT.input({"model": "m", "prompt": ["a", "b"], "n": 2}, LIMIT) == b'{"prompt":["a","b"]}'


# ---- responses

REASONING = {"id": "rs", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Think hard"}]}
MESSAGE = {
    "id": "msg",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello there", "annotations": []}],
}
CALL = {
    "id": "fc",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city": "Berlin"}',
}
OUTPUT = [REASONING, MESSAGE, CALL]


def event(kind: str, **members: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 1, **members}


def response_events() -> list[dict[str, Any]]:
    part = {"type": "output_text", "text": "", "annotations": []}
    return [
        event("created", response={"id": "r", "output": []}),
        event("output_item.added", output_index=0, item={**REASONING, "summary": []}),
        event(
            "reasoning_summary_part.added", output_index=0, summary_index=0, part={"type": "summary_text", "text": ""}
        ),
        *(
            event("reasoning_summary_text.delta", output_index=0, summary_index=0, delta=piece)
            for piece in pieces("Think hard", 3)
        ),
        event("output_item.done", output_index=0, item=REASONING),
        event("output_item.added", output_index=1, item={**MESSAGE, "status": "in_progress", "content": []}),
        event("content_part.added", output_index=1, content_index=0, part=part),
        *(
            event("output_text.delta", output_index=1, content_index=0, delta=piece)
            for piece in pieces("Hello there", 2)
        ),
        event("output_item.done", output_index=1, item=MESSAGE),
        event("output_item.added", output_index=2, item={**CALL, "status": "in_progress", "arguments": ""}),
        *(
            event("function_call_arguments.delta", output_index=2, delta=piece)
            for piece in pieces(CALL["arguments"], 4)
        ),
        event("output_item.done", output_index=2, item=CALL),
        event("completed", response={"id": "r", "output": OUTPUT}),
    ]


def in_progress(item: Any) -> Any:
    return {**item, "status": "in_progress"} if "status" in item else item


@needs_responses
@pytest.mark.parametrize("are_objects", [False, True], ids=["mappings", "objects"])
def test_a_response_in_pieces_is_the_response(are_objects: bool) -> None:
    reply: Any = {"id": "r", "output": OUTPUT}
    events: list[Any] = response_events()
    if are_objects:
        reply = constructed(openai.types.responses.Response, reply)
        events = [constructed(openai.types.responses.ResponseStreamEvent, item) for item in events]
    kinds = [str(item["type"]) for item in response_events()]
    expected = plain(RESPONSES, reply)
    assert expected == OUTPUT
    assert collected(RESPONSES, events) == expected
    assert collected(RESPONSES, events[:-1]) == expected
    deltas_only = [item for item, kind in zip(events, kinds, strict=True) if not kind.endswith((".done", ".completed"))]
    assert collected(RESPONSES, deltas_only) == [in_progress(item) for item in expected]


def test_the_room_of_a_finished_item_is_that_of_its_pieces() -> None:
    text = "x" * 3000
    item = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    part = {"type": "output_text", "text": ""}
    events = [
        event("output_item.added", output_index=0, item={"type": "message", "content": []}),
        event("content_part.added", output_index=0, content_index=0, part=part),
        *(event("output_text.delta", output_index=0, content_index=0, delta=piece) for piece in pieces(text, 10)),
        event("output_item.done", output_index=0, item=item),
    ]
    assert collected(RESPONSES, [*events, *events], 3200) == [item]


def test_an_index_that_makes_no_sense_is_passed_over() -> None:
    events = [
        event("output_text.delta", output_index=0, content_index=7, delta="lost"),
        event("output_text.delta", output_index=0, content_index=-1, delta="lost"),
        event("output_text.delta", output_index=0, content_index=0, delta="kept"),
    ]
    assert collected(RESPONSES, events) == [{"content": [{"text": "kept"}]}]


def test_the_input_of_a_response_is_what_is_content() -> None:
    body = {"model": "m", "instructions": "Be brief", "input": "Hi", "store": False, "tools": [], "reasoning": {}}
    assert RESPONSES.input(body, LIMIT) == b'{"instructions":"Be brief","input":"Hi","tools":[]}'
