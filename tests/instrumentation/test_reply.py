"""What is read of a reply: sums, types, errors, attempts; both cores."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from calls import spec
from routes import replying

from fasttrace.core._api import CURRENT, Node, Price

SUMS = (
    Node("input", "input_tokens"),
    Node("read", "cache_read_tokens", adds="input_tokens"),
    Node("write", "cache_write_tokens", adds="input_tokens"),
    Node("tool", adds="input_tokens"),
    Node("thoughts", "reasoning_tokens", adds="output_tokens"),
)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input": 5, "read": 10, "write": 20, "tool": 40}, (75, 10, 20, None, None)),
        ({"input": 5}, (5, None, None, None, None)),
        ({"read": 10}, (10, 10, None, None, None)),
        ({"tool": 3}, (3, None, None, None, None)),
        ({"read": 0}, (0, None, None, None, None)),
        ({"input": 5, "read": None, "write": "many", "tool": -1}, (5, None, None, None, None)),
        ({"input": True, "read": 2.0}, (None, None, None, None, None)),
        ({"thoughts": 7}, (None, None, None, 7, 7)),
        ({"input": 2**64 - 1, "read": 1}, (None, 1, None, None, None)),
        ({"input": 2**64, "read": 1}, (1, 1, None, None, None)),
        ({}, (None, None, None, None, None)),
    ],
)
@pytest.mark.parametrize("form", [dict, lambda usage: SimpleNamespace(**usage)])
def test_parts_are_added_to_the_count_they_are_of(recording: Any, usage: Any, expected: Any, form: Any) -> None:
    span = replying(recording, {"usage": form(usage)}, (Node("usage", children=SUMS),))
    fields = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "output_tokens")
    assert tuple(span.get(field) for field in fields) == expected


def test_the_elements_of_a_list_are_added_up(recording: Any) -> None:
    nodes = (Node("parts", "input_audio_tokens", each=True, adds="input_tokens"),)
    span = replying(recording, {"parts": [1, 2, None, "x", 4]}, nodes)
    assert span["input_tokens"] == 7


def test_sums_of_one_object_are_not_those_of_another(recording: Any) -> None:
    nodes = (Node("turns", each=True, children=SUMS),)
    span = replying(recording, {"turns": [{"input": 1, "read": 2}, {"input": 10, "read": 20}]}, nodes)
    assert span["input_tokens"] == 30


ZEROS_LEFT_OUT = (
    Node("prompt", "input_tokens", otherwise=0),
    Node("tool", adds="input_tokens"),
    Node("answer", "output_tokens", otherwise=0),
    Node("name", "response_id"),
)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt": 5}, (5, 0)),
        ({"answer": 5}, (0, 5)),
        ({"tool": 7, "prompt": None}, (7, 0)),
        ({"prompt": 5, "answer": None}, (5, 0)),
        ({"name": "r"}, (None, None)),
        ({"prompt": "many"}, (None, None)),
        ({}, (None, None)),
    ],
)
@pytest.mark.parametrize("form", [dict, lambda usage: SimpleNamespace(**usage)])
def test_a_zero_that_was_left_out_is_known_by_the_counts_beside_it(
    recording: Any, usage: Any, expected: Any, form: Any
) -> None:
    span = replying(recording, {"usage": form(usage)}, (Node("usage", children=ZEROS_LEFT_OUT),))
    assert (span.get("input_tokens"), span.get("output_tokens")) == expected


def test_objects_are_told_apart_by_what_a_node_names(recording: Any) -> None:
    def of(modality: str, field: str) -> Node:
        return Node("count", field, types=(modality,), tag="modality")

    nodes = (
        Node("details", each=True, children=(of("AUDIO", "input_audio_tokens"), of("IMAGE", "input_image_tokens"))),
    )
    details = [
        {"modality": "TEXT", "count": 1},
        SimpleNamespace(modality="AUDIO", type="IMAGE", count=2),
        {"modality": "IMAGE", "count": 4},
        {"type": "AUDIO", "count": 8},
        {"modality": 3, "count": 16},
    ]
    span = replying(recording, {"details": details}, nodes)
    assert (span["input_audio_tokens"], span["input_image_tokens"]) == (2, 4)


TYPED = (
    Node(
        "output",
        each=True,
        children=(
            Node("name", "tool_calls", types=("function_call", "custom_call")),
            Node("type", "tool_calls", types=("search_call",)),
            Node("status", "finish_reasons"),
        ),
    ),
)


@pytest.mark.parametrize("form", [dict, lambda **element: SimpleNamespace(**element)])
def test_a_node_of_a_type_is_read_in_objects_of_that_type(recording: Any, form: Any) -> None:
    made = "".join(["custom", "_call"])
    output = [
        form(type="function_call", name="f", status="done"),
        form(type="message", name="not this", status="done"),
        form(type=made, name="c"),
        form(name="no type"),
        form(type=None, name="none"),
        form(type=7, name="odd"),
        form(type="search_call"),
    ]
    span = replying(recording, {"output": output}, TYPED)
    assert span["tool_calls"] == ["f", "c", "search_call"]
    assert span["finish_reasons"] == ["done", "done"]


@pytest.mark.parametrize(
    ("code", "status"), [("rate_limited", "error"), (None, "success"), ("", "success"), (7, "success")]
)
def test_an_error_code_in_the_reply_makes_it_an_error(recording: Any, code: Any, status: str) -> None:
    nodes = (Node("error", children=(Node("code", "error_code"),)), Node("model", "model_id"))
    span = replying(recording, {"error": {"code": code}, "model": "m-1"}, nodes)
    assert (span["status"], span["model_id"]) == (status, "m-1")
    assert span.get("error_code") == (code if status == "error" else None)


@pytest.mark.parametrize(("attempts", "retries"), [(0, None), (1, None), (2, 1), (5, 4)])
def test_attempts_after_the_first_are_retries(recording: Any, attempts: int, retries: int | None) -> None:
    def call(**kwargs: Any) -> None:
        context: Any = CURRENT.get()
        context.attempts += attempts

    recording.core.method(call, spec(), recording.recorder)(model="m")
    assert recording.span().get("retries") == retries


def test_a_partial_usage_has_no_cost(recording: Any) -> None:
    recording.recorder.prices.put("example", "m", Price(input=1_000_000, output=1_000_000))
    context = recording.core.new_context(None)
    fields = {"kind": "llm", "provider": "example", "model_id": "m", "input_tokens": 1, "output_tokens": 2}
    for source in ("provider", "partial"):
        recording.recorder.record(context, 0, 1, {**fields, "usage_source": source})
    priced, partial = recording.spans()
    assert "cost_usd" in priced
    assert "cost_usd" not in partial
