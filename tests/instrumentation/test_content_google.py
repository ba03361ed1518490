"""Content of google-genai's own objects: a stream in whatever pieces is the JSON of the plain reply."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fasttrace.instrumentation.content import generate_content_content

pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")
from google.genai import types

LIMIT = 65_536
CONTENT = generate_content_content()

slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(lambda text: "@" not in text)
parts = st.one_of(
    st.builds(lambda text: {"text": text}, words),
    st.builds(lambda text: {"text": text, "thought": True}, words),
    st.builds(lambda city: {"function_call": {"name": "get_weather", "args": {"city": city}}}, words),
    st.builds(lambda code: {"executable_code": {"code": code, "language": "PYTHON"}}, words),
)


def alternating(drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two texts of one sort next to each other would be one in a stream."""
    found: list[dict[str, Any]] = []
    for part in drawn:
        if not found or part.keys() != found[-1].keys() or "text" not in part:
            found.append(part)
    return found


def candidate(index: int, content: Any, reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "content": {"parts": content, "role": "model"}, "finish_reason": reason}


def response(*candidates: Any) -> Any:
    return types.GenerateContentResponse.model_validate({"candidates": list(candidates), "model_version": "m"})


def collected(chunks: Any, limit: int = LIMIT) -> Any:
    stream = CONTENT.stream(limit)
    for chunk in chunks:
        stream.feed(chunk)
    data = stream.result()
    return None if data is None else json.loads(data)


def plain(reply: Any) -> Any:
    data = CONTENT.output(reply, LIMIT)
    return None if data is None else json.loads(data)


def split(part: dict[str, Any], length: int) -> list[dict[str, Any]]:
    text = part.get("text")
    return [part] if text is None else [{**part, "text": text[at : at + length]} for at in range(0, len(text), length)]


@slowly
@given(st.lists(st.lists(parts, min_size=1, max_size=5), min_size=1, max_size=2), st.integers(1, 9))
def test_a_reply_in_pieces_is_the_reply(drawn: Any, length: int) -> None:
    wholes = [alternating(content) for content in drawn]
    expected = plain(response(*(candidate(index, content, "STOP") for index, content in enumerate(wholes))))
    assert expected == [candidate(index, content, "STOP") for index, content in enumerate(wholes)]
    chunks = [
        response(candidate(index, [piece]))
        for index, content in enumerate(wholes)
        for part in content
        for piece in split(part, length)
    ]
    chunks.append(response(*(candidate(index, [], "STOP") for index in range(len(wholes)))))
    assert collected(chunks) == expected


@pytest.mark.skipif("thought_signature" not in types.Part.model_fields, reason="this release has no signatures")
def test_the_signature_of_a_thought_ends_its_part() -> None:
    signature = {"type": "application/octet-stream", "bytes": 3, "sha256": hashlib.sha256(b"sig").hexdigest()}
    sent = ([{"text": "Hm"}], [{"text": "m", "thought_signature": b"sig"}], [{"text": "Yes"}])
    (found,) = collected([response(candidate(0, content)) for content in sent])
    assert found["content"]["parts"] == [{"text": "Hmm", "thought_signature": signature}, {"text": "Yes"}]


def test_an_image_in_a_reply_is_told() -> None:
    part = {"inline_data": {"data": b"\x89PNG" * 9, "mime_type": "image/png"}}
    reply = response(candidate(0, [part], "STOP"))
    (found,) = plain(reply)
    blob = found["content"]["parts"][0]["inline_data"]
    assert blob["data"] == {"type": "image/png", "bytes": 36, "sha256": hashlib.sha256(b"\x89PNG" * 9).hexdigest()}
    assert collected([reply]) == [found]


def test_what_a_stream_keeps_is_bounded_and_the_rest_counted() -> None:
    chunks = [response(candidate(0, [{"text": "x" * 1000}])) for _ in range(100)]
    (found, mark) = collected(chunks, 1000)
    assert len(found["content"]["parts"][0]["text"]) + mark["truncated"] == 100_000 + len("model")


def get_weather(city: str) -> str:
    """The weather of a city."""
    return city


@pytest.mark.parametrize("is_object", [False, True], ids=["mapping", "object"])
def test_the_input_is_what_is_content_of_the_arguments(is_object: bool) -> None:
    config: Any = {"system_instruction": "Be brief", "temperature": 0.5, "tools": [get_weather]}
    contents: Any = [{"role": "user", "parts": [{"text": "Hi"}]}]
    if is_object:
        config = types.GenerateContentConfig(**config)
        contents = [types.Content(role="user", parts=[types.Part(text="Hi")])]
    source = {"model": "m", "contents": contents, "config": config}
    found = json.loads(CONTENT.input(source, LIMIT) or b"")
    assert list(found) == ["system_instruction", "contents", "tools"]
    assert found == {
        "system_instruction": "Be brief",
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "tools": [{"type": "function", "name": "get_weather"}],
    }


def test_contents_of_every_form_are_kept_as_they_were_given() -> None:
    for contents, expected in (
        ("Hi", "Hi"),
        (["Hi", types.Part(text="there")], ["Hi", {"text": "there"}]),
        (
            types.Part.from_uri(file_uri="gs://b/o", mime_type="a/b"),
            {"file_data": {"file_uri": "gs://b/o", "mime_type": "a/b"}},
        ),
    ):
        source = {"model": "m", "contents": contents, "config": None}
        assert json.loads(CONTENT.input(source, LIMIT) or b"") == {"contents": expected}


def test_declared_tools_and_schemas_are_content() -> None:
    function = {
        "name": "f",
        "description": "d",
        "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
    }
    tools = [types.Tool(function_declarations=[types.FunctionDeclaration(**function)])]
    config = types.GenerateContentConfig(tools=tools, response_schema=types.Schema(type="STRING"))
    found = json.loads(CONTENT.input({"contents": "Hi", "config": config}, LIMIT) or b"")
    assert found["tools"] == [{"function_declarations": [function]}]
    assert found["response_schema"] == {"type": "STRING"}
