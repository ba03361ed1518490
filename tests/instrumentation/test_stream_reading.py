"""What is read from the chunks of a stream: texts, counts, marks, finish reasons, tool calls, and content. On both
cores."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from openai._models import construct_type
from openai.types.chat import ChatCompletionChunk
from streams import (
    CONTENT,
    STREAM,
    USAGE,
    Joined,
    Stream,
    choice,
    chunk,
    conversation,
    counted,
    final,
    opened,
    read,
    text,
)

from fasttrace.core._api import Node, Price, StreamSpec

FIRSTS = ("first_chunk_ms", "first_token_ms", "first_text_ms")


def firsts(span: dict[str, Any]) -> list[str]:
    return [name for name in FIRSTS if name in span]


def watched(recording: Any, nodes: Any, *chunks: Any, **events: Any) -> dict[str, Any]:
    """The span of these chunks, read by these nodes."""
    return read(recording, *chunks, stream=STREAM._replace(chunk=nodes, events=events))


def call(name: Any, index: Any = 0, identity: Any = None) -> SimpleNamespace:
    function = SimpleNamespace(name=name, arguments="{}")
    return SimpleNamespace(index=index, id=identity, function=function)


def called(*calls: Any, at: Any = 0) -> SimpleNamespace:
    return chunk(choice(at, tool_calls=list(calls)))


# ---- texts and counts ----


def test_the_first_text_that_is_not_empty_is_taken(recording: Any) -> None:
    span = read(recording, text("", model="", id=None), text("a", model="m-1"), text("b", model="m-2", id="r-2"))
    assert (span["model_id"], span["response_id"]) == ("m-1", "r-2")


@pytest.mark.parametrize("odd", [7, ["m"], {"m": 1}, object(), True, b"m"])
def test_what_is_no_text_is_no_model(recording: Any, odd: object) -> None:
    assert read(recording, text("a", model=odd), text("b", model="m-2"))["model_id"] == "m-2"


def test_of_counts_the_last_is_taken(recording: Any) -> None:
    span = read(recording, counted(12, 1), counted(12, 2, cached_tokens=8), counted(12, 7))
    assert (span["input_tokens"], span["output_tokens"], span["cache_read_tokens"]) == (12, 7, 8)


def test_chunks_may_be_dictionaries(recording: Any) -> None:
    delta = {"content": "a", "tool_calls": [{"index": 0, "function": {"name": "find"}}]}
    span = read(
        recording,
        {"model": "m-1", "choices": [{"index": 0, "delta": delta}]},
        {"choices": [{"index": 0, "finish_reason": "stop"}], "usage": {"completion_tokens": 3}},
    )
    assert (span["model_id"], span["tool_calls"], span["output_tokens"]) == ("m-1", ["find"], 3)
    assert firsts(span) == list(FIRSTS)


def test_odd_chunks_are_handed_out_and_say_nothing(recording: Any) -> None:
    span = read(recording, None, 7, "text", [], chunk(), SimpleNamespace(choices=7), SimpleNamespace(choices=[None, 1]))
    assert (span["status"], span["chunks"]) == ("success", 7)
    assert firsts(span) == ["first_chunk_ms"]


def test_chunks_of_the_sdk(recording: Any) -> None:
    def completion(**members: Any) -> Any:
        value = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-1", **members}
        return construct_type(value=value, type_=ChatCompletionChunk)

    pieces = [{"delta": {"content": content}, "index": 0} for content in ("", "a", "b")]
    chunks = [completion(choices=[piece]) for piece in pieces]
    chunks.append(completion(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 2}))
    span = read(recording, *chunks)
    assert (span["model_id"], span["input_tokens"], span["output_tokens"]) == ("gpt-1", 5, 2)
    assert firsts(span) == list(FIRSTS)


def test_a_reader_that_raises_costs_a_line_and_nothing_else(recording: Any, caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("fasttrace.core._report._next_time", 0.0)

    class Odd:
        @property
        def choices(self) -> Any:
            raise ValueError("odd")

    assert read(recording, Odd(), text("a"), counted())["output_tokens"] == 3
    assert len(caplog.records) == 1


def test_an_interrupt_in_a_reader_goes_on_in_the_place_of_the_chunk(recording: Any) -> None:
    class Interrupted:
        @property
        def choices(self) -> Any:
            raise KeyboardInterrupt

    stream = opened(recording, Stream(Interrupted(), text("a"), counted()))
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert len(list(stream)) == 2
    assert recording.span()["status"] == "success"


# ---- marks ----


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"content": "a"}, FIRSTS),
        ({"content": ""}, FIRSTS[:1]),
        ({"content": None}, FIRSTS[:1]),
        ({"content": [1]}, FIRSTS),
        ({"content": []}, FIRSTS[:1]),
        ({"content": {}}, FIRSTS[:1]),
        ({"content": 0}, FIRSTS),
        ({"reasoning": "hm"}, FIRSTS[:2]),
        ({"content": "hm", "thought": True}, FIRSTS[:2]),
        ({"content": "a", "thought": False}, FIRSTS),
        ({"content": "a", "thought": None}, FIRSTS),
        ({"tool_calls": [call("find")]}, FIRSTS[:2]),
        ({"tool_calls": []}, FIRSTS[:1]),
        ({"role": "assistant"}, FIRSTS[:1]),
    ],
)
def test_what_makes_a_first(recording: Any, delta: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert firsts(read(recording, chunk(choice(**delta)))) == list(expected)


def test_each_first_has_a_time_of_its_own(recording: Any) -> None:
    span = read(recording, chunk(), chunk(choice(reasoning="hm")), text("a"), text("b"))
    assert 0 < span["first_chunk_ms"] < span["first_token_ms"] < span["first_text_ms"] < span["duration_ms"]


# ---- finish reasons ----


def test_finish_reasons_are_in_the_order_of_their_choices(recording: Any) -> None:
    chunks = [chunk(choice(index, reason)) for index, reason in ((2, "length"), (0, "stop"), (1, ""), (1, "tool"))]
    assert read(recording, *chunks)["finish_reasons"] == ["stop", "tool", "length"]


def test_of_a_choices_reasons_the_last_is_taken(recording: Any) -> None:
    assert read(recording, final("length"), final("stop"), chunk(choice(finish=None)))["finish_reasons"] == ["stop"]


@pytest.mark.parametrize("index", [None, "1", True, 1 << 70])
def test_an_index_that_is_none_is_the_first(recording: Any, index: Any) -> None:
    chunks = [chunk(choice(index, "length")), chunk(choice(0, "stop"))]
    assert read(recording, *chunks)["finish_reasons"] == ["stop"]


def test_finish_reasons_are_bounded(recording: Any) -> None:
    span = read(recording, *(chunk(choice(index, f"r{index}")) for index in range(100)), chunk(choice(3, "last")))
    assert span["finish_reasons"] == [*(f"r{index}" for index in range(3)), "last", *(f"r{i}" for i in range(4, 64))]


# ---- tool calls ----


def test_a_tool_call_counts_once_whatever_the_number_of_its_pieces(recording: Any) -> None:
    span = read(
        recording,
        called(call("find", 0, "c0")),
        called(call(None, 0)),
        called(call("find", 0, "c0"), call("", 1)),
        called(call("find", 1, "c1")),
        called(call("read", 2)),
        called(call("read", 2)),
    )
    assert span["tool_calls"] == ["find", "find", "read"]


def test_another_id_at_the_same_index_is_another_call(recording: Any) -> None:
    chunks = [called(call("find", 0, identity)) for identity in ("a", "a", "", None, "b", "b")]
    assert read(recording, *chunks)["tool_calls"] == ["find", "find"]


def test_each_choice_has_calls_of_its_own(recording: Any) -> None:
    chunks = [called(call("find", 0), at=0), called(call("find", 0), at=1), called(call("find", 0), at=0)]
    assert read(recording, *chunks)["tool_calls"] == ["find", "find"]


def test_calls_without_an_index_count_each_time(recording: Any) -> None:
    assert read(recording, *(called(call("find", None)) for _ in range(3)))["tool_calls"] == ["find"] * 3


def test_tool_calls_are_bounded(recording: Any) -> None:
    span = read(recording, *(called(call(f"t{index}", index)) for index in range(1_100)))
    assert len(span["tool_calls"]) == 1024


# ---- sums, types, late values, events ----


def test_what_is_added_is_one_sum_of_one_object(recording: Any) -> None:
    nodes = (
        Node(
            "usage",
            children=(
                Node("input", "input_tokens"),
                Node("cached", "cache_read_tokens", adds="input_tokens"),
                Node("written", "cache_write_tokens", adds="input_tokens"),
                Node("output", "output_tokens"),
            ),
        ),
    )
    first = SimpleNamespace(usage=SimpleNamespace(input=10, cached=5, written=1, output=1))
    later = SimpleNamespace(usage=SimpleNamespace(input=None, cached=None, output=9))
    span = watched(recording, nodes, first, later)
    assert (span["input_tokens"], span["cache_read_tokens"], span["cache_write_tokens"]) == (16, 5, 1)
    assert span["output_tokens"] == 9
    alone = SimpleNamespace(usage=SimpleNamespace(cached=7))
    assert watched(recording, nodes, first, alone)["input_tokens"] == 7


def test_a_node_is_read_where_the_type_is_its_own(recording: Any) -> None:
    nodes = (Node("item", children=(Node("name", "tool_calls", types=("function_call", "custom_call")),)),)
    items = [("function_call", "find"), ("message", "no"), ("custom_call", "read"), (None, "no"), (7, "no")]
    chunks = [SimpleNamespace(item=SimpleNamespace(type=kind, name=name)) for kind, name in items]
    assert watched(recording, nodes, *chunks)["tool_calls"] == ["find", "read"]


def test_a_late_value_is_the_last_one_and_is_read_at_the_end(recording: Any) -> None:
    usage = Node("usage", late=True, children=(*USAGE, Node("tier", "service_tier")))
    growing = SimpleNamespace(prompt_tokens=0, completion_tokens=1, cached_tokens=None, tier="flex")
    chunks = [
        SimpleNamespace(usage=SimpleNamespace(prompt_tokens=99)),
        SimpleNamespace(usage=growing),
        chunk(usage=None),
    ]

    def grow() -> Any:
        growing.prompt_tokens, growing.completion_tokens = 12, 3
        return text("a")

    stream = opened(recording, Stream(*chunks, grow), stream=STREAM._replace(chunk=(usage,)))
    assert len(list(stream)) == 4
    span = recording.span()
    assert (span["input_tokens"], span["output_tokens"], span["service_tier"]) == (12, 3, "flex")


def event(kind: Any, **members: Any) -> SimpleNamespace:
    return SimpleNamespace(type=kind, **members)


EVENTS = {
    "started": (Node("model", "model_id"), Node("id", "response_id")),
    "piece": (Node("content", mark="text"),),
    "done": (Node("model", "model_id"), Node("reason", "finish_reasons", mark="end"), Node("usage", children=USAGE)),
}


def test_events_are_read_by_their_type(recording: Any) -> None:
    usage = SimpleNamespace(prompt_tokens=4, completion_tokens=2)
    span = watched(
        recording,
        (),
        event("piece", content="", model="no"),
        event("started", model="m-1", id="r-1", content="no"),
        event("unknown", model="no", usage=usage),
        event(None, model="no"),
        SimpleNamespace(model="no"),
        event("started", model="m-2", id=""),
        event("piece", content="a"),
        event("done", model="", reason="stop", usage=usage),
        **EVENTS,
    )
    assert (span["model_id"], span["response_id"]) == ("m-1", "r-1")
    assert (span["finish_reasons"], span["output_tokens"], span["chunks"]) == (["stop"], 2, 8)
    assert firsts(span) == list(FIRSTS)


def test_what_a_later_event_says_counts_for_more(recording: Any) -> None:
    chunks = [event("started", model="m-1"), event("done", model="m-2"), event("started", model="m-3")]
    assert watched(recording, (Node("model", "model_id"),), *chunks, **EVENTS)["model_id"] == "m-2"
    assert watched(recording, (Node("model", "model_id"),), *chunks[:1], **EVENTS)["model_id"] == "m-1"


def test_an_error_code_in_a_stream_that_ends_is_an_error(recording: Any) -> None:
    nodes = (Node("error", children=(Node("code", "error_code"), Node("message", "error_message"))),)
    failed = SimpleNamespace(error=SimpleNamespace(code="overloaded", message="Later."))
    span = watched(recording, nodes, text("a"), failed)
    assert (span["status"], span["error_code"], span["error_message"]) == ("error", "overloaded", "Later.")


# ---- money ----


def test_a_part_of_a_usage_has_no_price(recording: Any) -> None:
    recording.recorder.prices.put("example", "m-1", Price(input=1_000_000, output=1_000_000))
    chunks = [text("a", model="m-1"), counted(12, 1), text("b")]
    assert "cost_usd" in read(recording, *chunks)
    stream = opened(recording, Stream(*chunks))
    next(stream)
    next(stream)
    stream.close()
    span = recording.span()
    assert (span["input_tokens"], span["usage_source"]) == (12, "partial")
    assert "cost_usd" not in span


# ---- content ----


def test_content_is_put_together_where_it_is_captured(recording: Any) -> None:
    chunks = [text("Hello"), text(" world")]
    assert "output" not in read(recording, *chunks, content=CONTENT)
    recording.recorder.capture_output = True
    assert read(recording, *chunks, content=CONTENT)["output"] == "Hello world"
    assert "output" not in read(recording, *chunks)
    recording.recorder.content_max_bytes = 7
    assert read(recording, *chunks, content=CONTENT)["output"] == "Hello w"


def test_content_of_a_stream_that_was_left_is_what_was_read(recording: Any) -> None:
    recording.recorder.capture_output = True
    stream = opened(recording, Stream(text("a"), text("b")), content=CONTENT)
    next(stream)
    stream.close()
    assert recording.span()["output"] == "a"


@pytest.mark.parametrize("failing", ["__init__", "feed", "result"])
def test_content_that_fails_costs_nothing_but_itself(recording: Any, failing: str, caplog: Any) -> None:
    def fail(*args: Any) -> Any:
        raise ValueError(failing)

    recording.recorder.capture_output = True
    broken = type("Broken", (Joined,), {failing: fail})
    span = read(recording, text("a"), counted(), content=CONTENT._replace(stream=broken))
    assert (span["status"], span["output_tokens"]) == ("success", 3)


# ---- specs ----


def test_a_stream_that_tells_nothing_is_counted_all_the_same(recording: Any) -> None:
    span = read(recording, *conversation(), stream=StreamSpec("_iterator"))
    assert (span["status"], span["chunks"]) == ("success", 5)
    assert firsts(span) == ["first_chunk_ms"]
