"""Content of google-generativeai, whose requests and replies are protobuf messages."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from fasttrace.instrumentation.content import legacy_generate_content_content

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says at every import that it is not supported any more
    protos = pytest.importorskip("google.generativeai", reason="google-generativeai is not installed").protos

LIMIT = 65_536
LEGACY = legacy_generate_content_content()


def test_messages_of_the_older_sdk_are_read() -> None:
    content = protos.Content(role="user", parts=[{"text": "Hi"}])
    request = protos.GenerateContentRequest(
        model="m", contents=[content], system_instruction={"parts": [{"text": "S"}]}
    )
    assert json.loads(LEGACY.input({"request": request, "contents": None}, LIMIT) or b"") == {
        "system_instruction": {"parts": [{"text": "S"}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    }
    call = protos.FunctionCall(name="f", args={"a": 1, "b": ["x", {"c": True}]})
    wholes = [protos.Part(text="Hello"), protos.Part(function_call=call)]
    pieces = [protos.Part(text="Hel"), protos.Part(text="lo"), protos.Part(function_call=call)]

    def reply(found: Any, reason: int = 0) -> Any:
        made = protos.Candidate(index=1, content=protos.Content(role="model", parts=found), finish_reason=reason)
        return protos.GenerateContentResponse(candidates=[made])

    arguments = {"a": 1.0, "b": ["x", {"c": True}]}
    parts = [{"text": "Hello"}, {"function_call": {"name": "f", "args": arguments}}]
    expected = {"index": 1, "content": {"parts": parts, "role": "model"}, "finish_reason": "STOP"}
    assert json.loads(LEGACY.output(reply(wholes, 1), LIMIT) or b"") == [expected]
    stream = LEGACY.stream(LIMIT)
    for piece in pieces:
        stream.feed(reply([piece]))
    stream.feed(reply([], 1))
    assert json.loads(stream.result() or b"") == [expected]


def test_keyword_arguments_of_the_older_sdk_are_read() -> None:
    source = {"request": None, "contents": ["Hi"], "tools": None}
    assert LEGACY.input(source, LIMIT) == b'{"contents":["Hi"]}'
