"""The content of plain calls, where its capture is on; both cores."""

from __future__ import annotations

import json
from typing import Any

import pytest
from routes import client, options, replying, routed

from fasttrace.core._api import ContentSpec, Node


def contents(**readers: Any) -> ContentSpec:
    def as_json(source: Any, limit: int) -> bytes:
        return json.dumps(source).encode()[:limit]

    return ContentSpec(**{"input": as_json, "output": as_json, "stream": lambda limit: None, **readers})


@pytest.fixture
def captured(recording: Any) -> Any:
    recording.recorder.capture_input = recording.recorder.capture_output = True
    return recording


def test_content_is_not_captured_unless_it_is_asked_for(recording: Any) -> None:
    assert recording.recorder.capture_input is recording.recorder.capture_output is False
    assert recording.recorder.content_max_bytes == 65536
    span = replying(recording, {"text": "hi"}, (), content=contents())
    assert "input" not in span
    assert "output" not in span


@pytest.mark.parametrize(("takes_input", "takes_output"), [(True, True), (True, False), (False, True)])
def test_content_is_captured_where_it_is_asked_for(recording: Any, takes_input: bool, takes_output: bool) -> None:
    recording.recorder.capture_input, recording.recorder.capture_output = takes_input, takes_output
    span = replying(recording, {"text": "hi"}, (), content=contents())
    assert span.get("input") == ({"model": "m"} if takes_input else None)
    assert span.get("output") == ({"text": "hi"} if takes_output else None)


def test_the_input_of_a_routed_call_is_its_first_body(captured: Any) -> None:
    one = client(captured, routes={"post /chat": routed(content=contents())})
    one.request(object, options(json_data=None, extra_json={"seed": 1}))
    one.request(object, options(json_data={"seed": 2}, extra_json={"seed": 1}))
    one.request(object, options())
    assert [span.get("input") for span in captured.spans()] == [{"seed": 1}, {"seed": 2}, None]


def test_the_limit_of_content_is_passed_on(captured: Any) -> None:
    limits: list[int] = []

    def reader(source: Any, limit: int) -> None:
        limits.append(limit)

    captured.recorder.content_max_bytes = 777
    span = replying(captured, {"a": 1}, (), content=contents(input=reader, output=reader))
    assert limits == [777, 777]
    assert "input" not in span


@pytest.mark.parametrize("error", [RuntimeError, AttributeError])
@pytest.mark.parametrize("which", ["input", "output"])
def test_content_that_cannot_be_read_costs_a_log_line(captured: Any, which: str, error: type[Exception]) -> None:
    def broken(source: Any, limit: int) -> bytes:
        raise error("unreadable")

    reply = {"model": "m-1"}
    nodes = (Node("model", "model_id"),)
    span = replying(captured, reply, nodes, content=contents(**{which: broken}))
    assert span["model_id"] == "m-1"
    assert which not in span


def test_an_interrupt_while_content_is_read_goes_on(captured: Any) -> None:
    def broken(source: Any, limit: int) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replying(captured, {}, (), content=contents(output=broken))
    assert captured.span()["status"] == "success"


def test_what_is_no_bytes_is_no_content(captured: Any) -> None:
    span = replying(captured, {}, (), content=contents(input=lambda *_: "text", output=lambda *_: 7))
    assert "input" not in span
    assert "output" not in span


def test_content_beyond_the_inline_room_is_written_whole(captured: Any) -> None:
    text = "x" * 50_000
    span = replying(captured, {"text": text}, (), content=contents())
    assert span["output"] == {"text": text}
