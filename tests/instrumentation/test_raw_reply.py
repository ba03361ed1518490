"""A raw reply, which the user parses later, or never: one span all the same, with what the provider sent. On both
cores."""

from __future__ import annotations

import copy
import gc
import json
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from calls import REPLY
from streams import (
    CONTENT,
    Body,
    Options,
    Raw,
    Response,
    Stream,
    conversation,
    counted,
    final,
    raw_caller,
    raw_opened,
    text,
)

from fasttrace.core._api import ContentSpec, Node

BODY = json.dumps(
    {
        "model": "m-2",
        "id": "r-2",
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "details": {"cached_tokens": 8}},
        "choices": [{"finish_reason": "stop"}],
    }
).encode()
EVENTS = (
    b'data: {"model": "m-3", "choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
    b'data: {"choices": [{"index": 0, "finish_reason": "stop"}]}\n\n'
    b'data: {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}\n\n'
    b"data: [DONE]\n\n"
)


def reply(**members: Any) -> SimpleNamespace:
    usage = SimpleNamespace(prompt_tokens=5, completion_tokens=2)
    return SimpleNamespace(**{"model": "m-1", "id": "r-1", "usage": usage, **members})


# ---- the body was read ----


def test_parsed(recording: Any) -> None:
    parsed, body = reply(), Response(Body(), BODY)
    raw = Raw(body, parsed)
    assert raw_opened(recording, raw) is raw
    assert recording.spans() == []
    assert raw.parse() is parsed
    span = recording.span()
    assert (span["status"], span["model_id"], span["response_id"]) == ("success", "m-1", "r-1")
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (5, 2, "provider")
    assert "stream" not in span
    assert raw.parse() is parsed
    raw.parse(dict)
    del raw
    assert recording.spans() == []


def test_the_time_of_a_reply_that_was_read_is_not_the_users(recording: Any) -> None:
    raw = raw_opened(recording, Raw(Response(Body(), BODY), reply()))
    start = recording.core.clock_monotonic_ns()
    while recording.core.clock_monotonic_ns() - start < 20_000_000:
        pass
    raw.parse()
    assert recording.span()["duration_ms"] < 20


def test_never_parsed(recording: Any, unraisable: list[Any]) -> None:
    raw = raw_opened(recording, Raw(Response(Body(), BODY)))
    gone = weakref.ref(raw)
    del raw
    assert gone() is None
    span = recording.span()
    assert (span["status"], span["model_id"], span["finish_reasons"]) == ("success", "m-2", ["stop"])
    assert (span["input_tokens"], span["output_tokens"], span["cache_read_tokens"]) == (12, 3, 8)
    assert span["usage_source"] == "provider"
    assert unraisable == []


def test_never_parsed_and_in_a_cycle(recording: Any) -> None:
    raw = raw_opened(recording, Raw(Response(Body(), BODY)))
    raw.myself = raw
    del raw
    gc.collect()
    assert recording.span()["model_id"] == "m-2"


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[1]", b'"text"', b"\xff", b"{", b" " * (1 << 21)])
def test_a_body_that_tells_nothing_is_a_success_without_usage(recording: Any, body: bytes) -> None:
    raw = raw_opened(recording, Raw(Response(Body(), body)))
    del raw
    span = recording.span()
    assert span["model_id"] == "m"
    assert "input_tokens" not in span


def test_end_streams_reads_the_body(recording: Any) -> None:
    raw = raw_opened(recording, Raw(Response(Body(), BODY), reply()))
    assert recording.core.end_streams(recording.recorder) == 1
    assert recording.span()["model_id"] == "m-2"
    raw.parse()
    del raw
    assert recording.spans() == []


def test_a_reply_that_keeps_nothing_of_what_is_parsed_is_read_at_once(recording: Any) -> None:
    raw = Raw(Response(Body(), BODY))
    del raw._parsed_by_type
    assert raw_opened(recording, raw) is raw
    assert recording.span()["input_tokens"] == 12
    unread = Raw(Response(Body()))
    del unread._parsed_by_type
    raw_opened(recording, unread)
    span = recording.span()
    assert (span["status"], span["model_id"]) == ("success", "m")
    assert recording.core.end_streams(recording.recorder) == 0


def test_an_error_in_what_was_parsed_is_an_error(recording: Any) -> None:
    nodes = (*REPLY, Node("error", children=(Node("code", "error_code"),)))
    raw = raw_opened(recording, Raw(Response(Body(), b"{}"), reply(error=SimpleNamespace(code="bad"))), reply=nodes)
    raw.parse()
    span = recording.span()
    assert (span["status"], span["error_code"], span["input_tokens"]) == ("error", "bad", 5)


def test_a_reply_that_is_not_raw_is_plain(recording: Any) -> None:
    parsed = reply()
    assert raw_opened(recording, parsed) is parsed
    assert recording.span()["input_tokens"] == 5


# ---- the body was not read ----


def test_unread_and_closed_is_incomplete(recording: Any) -> None:
    raw = raw_opened(recording, Raw(Response(Body())))
    raw.http_response.close()
    assert raw.http_response.stream.closed == 1
    assert recording.spans() == []
    del raw
    span = recording.span()
    assert (span["status"], span["usage_source"]) == ("incomplete", "partial")


class Pieces(Body):
    """A byte stream, as a client has them."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        super().__init__()
        self.pieces = pieces

    def __iter__(self) -> Any:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def piecewise(*pieces: bytes | Exception, **headers: str) -> Response:
    response = Response(Pieces(*pieces))
    response.headers = {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[attr-defined]
    return response


def test_read_by_the_user_to_its_end_is_a_success(recording: Any) -> None:
    raw = raw_opened(recording, Raw(piecewise(b"a", b"b")))
    assert list(raw.http_response.stream) == [b"a", b"b"]
    raw.http_response.close()
    del raw
    span = recording.span()
    assert span["status"] == "success"
    assert "usage_source" not in span


def test_a_reply_read_in_pieces_is_read_for_us_too(recording: Any) -> None:
    raw = raw_opened(recording, Raw(piecewise(BODY[:9], BODY[9:], content_type="application/json; charset=utf-8")))
    assert b"".join(raw.http_response.stream) == BODY
    del raw
    span = recording.span()
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (12, 3, "provider")


def test_left_in_the_middle_is_incomplete(recording: Any) -> None:
    raw = raw_opened(recording, Raw(piecewise(b"a", b"b")))
    assert next(iter(raw.http_response.stream)) == b"a"
    raw.http_response.close()
    del raw
    assert recording.span()["status"] == "incomplete"


def test_what_is_raised_while_it_is_read_is_the_span_s(recording: Any) -> None:
    error = TimeoutError("too late")
    raw = raw_opened(recording, Raw(piecewise(b"a", error), reply()))
    with pytest.raises(TimeoutError) as raised:
        list(raw.http_response.stream)
    assert raised.value is error
    span = recording.span()
    assert (span["status"], span["error_type"]) == ("timeout", "TimeoutError")
    raw.parse()
    del raw
    assert recording.spans() == []


def test_a_body_may_be_read_after_the_raw_reply_is_gone(recording: Any) -> None:
    response = raw_opened(recording, Raw(piecewise(EVENTS[:50], EVENTS[50:])), is_stream=True).http_response
    assert recording.spans() == []
    pieces = iter(response.stream)
    del response
    assert b"".join(pieces) == EVENTS
    span = recording.span()
    assert (span["status"], span["input_tokens"], span["output_tokens"]) == ("success", 4, 2)


def test_a_stream_that_takes_no_attribute_goes_on(recording: Any) -> None:
    class Slots:
        __slots__ = ("closed",)

        def close(self) -> None: ...

    raw = raw_opened(recording, Raw(Response(Slots())))  # type: ignore[arg-type]
    raw.http_response.close()
    del raw
    assert recording.span()["status"] == "incomplete"


def test_what_was_parsed_to_a_text_is_read_from_the_body(recording: Any) -> None:
    raw = raw_opened(recording, Raw(Response(Body(), BODY), "text"))
    assert raw.parse() == "text"
    span = recording.span()
    assert (span["model_id"], span["input_tokens"], span["output_tokens"]) == ("m-2", 12, 3)


@pytest.mark.parametrize("is_cycle", [False, True])
def test_a_body_read_later_is_read_for_us_too(recording: Any, is_cycle: bool) -> None:
    raw = raw_opened(recording, Raw(Response(Body())))
    raw.http_response._content = BODY
    raw.http_response.close()
    if is_cycle:
        raw.http_response.raw = raw
    del raw
    gc.collect()
    assert recording.span()["output_tokens"] == 3


def test_parsed_after_it_was_read_and_closed(recording: Any) -> None:
    raw = raw_opened(recording, Raw(Response(Body()), reply()))
    raw.http_response.close()
    assert raw.parse().model == "m-1"
    span = recording.span()
    assert (span["status"], span["input_tokens"]) == ("success", 5)


# ---- streams ----


def test_a_parsed_stream_is_watched(recording: Any) -> None:
    stream = Stream(*conversation())
    raw = raw_opened(recording, Raw(stream.response, stream), is_stream=True)
    assert raw.parse() is stream
    del raw
    assert recording.spans() == []
    assert len(list(stream)) == 5
    span = recording.span()
    assert (span["status"], span["stream"], span["chunks"]) == ("success", True, 5)
    assert (span["input_tokens"], span["usage_source"]) == (12, "provider")
    assert "first_text_ms" in span


def test_a_parsed_stream_that_is_closed_early(recording: Any) -> None:
    stream = Stream(*conversation())
    raw = raw_opened(recording, Raw(stream.response, stream), is_stream=True)
    next(raw.parse())
    raw.http_response.close()
    span = recording.span()
    assert (span["status"], span["chunks"]) == ("incomplete", 1)
    assert stream.response.stream.closed == 1


def test_a_parsed_stream_outlives_the_raw_reply(recording: Any) -> None:
    raw = raw_opened(recording, Raw(Response(Body()), Stream(final(), counted())), is_stream=True)
    stream = raw.parse()
    next(stream)
    del raw
    gc.collect()
    assert recording.spans() == []
    del stream
    gc.collect()
    assert recording.span()["status"] == "incomplete"


def test_a_stream_that_was_read_as_bytes_is_decoded(recording: Any) -> None:
    raw = raw_opened(recording, Raw(Response(Body())), is_stream=True)
    raw.http_response._content = EVENTS
    del raw
    span = recording.span()
    assert (span["status"], span["stream"], span["model_id"], span["chunks"]) == ("success", True, "m-3", 3)
    assert (span["finish_reasons"], span["input_tokens"], span["output_tokens"]) == (["stop"], 4, 2)
    assert not {"first_chunk_ms", "first_token_ms", "first_text_ms"} & set(span)


def test_a_stream_of_which_nothing_was_read(recording: Any) -> None:
    raw = raw_opened(recording, Raw(Response(Body())), is_stream=True)
    del raw
    span = recording.span()
    assert (span["status"], span["stream"], span["usage_source"]) == ("incomplete", True, "partial")
    assert "chunks" not in span


# ---- what the user sees, and content ----


def test_the_dictionary_of_what_was_parsed_is_a_dictionary(recording: Any) -> None:
    raw = Raw(Response(Body(), BODY), reply())
    raw._parsed_by_type["known"] = 1
    raw_opened(recording, raw)
    known = raw._parsed_by_type
    assert isinstance(known, dict)
    assert known == {"known": 1}
    assert type(copy.deepcopy(known)) is dict
    del known["known"]
    assert recording.spans() == []
    known["key"] = raw.parsed
    assert dict(known) == {"key": raw.parsed}
    assert recording.span()["input_tokens"] == 5


def test_content_of_what_was_parsed_or_decoded(recording: Any) -> None:
    recording.recorder.capture_output = True

    def output(found: Any, limit: int) -> bytes:
        return json.dumps(found["model"] if isinstance(found, dict) else found.model).encode()

    content = ContentSpec(lambda source, limit: None, output, CONTENT.stream)
    raw_opened(recording, Raw(Response(Body(), BODY), reply()), content=content).parse()
    assert recording.span()["output"] == "m-1"
    raw_opened(recording, Raw(Response(Body(), BODY)), content=content)
    assert recording.span()["output"] == "m-2"
    stream = Stream(text("Hello"))
    list(raw_opened(recording, Raw(stream.response, stream), is_stream=True, content=content).parse())
    assert recording.span()["output"] == "Hello"


def test_ten_thousand_raw_replies_leave_nothing_behind(recording: Any) -> None:
    answers: list[Any] = []
    request = raw_caller(recording, answers)

    def make(count: int) -> None:
        for number in range(count):
            answers.append(Raw(Response(Body(), BODY if number % 2 else None), reply()))
            raw = request(object, Options())
            if number % 3:
                raw.parse()
            del raw
            if number % 500 == 0:
                recording.lines()

    make(2_500)
    gc.collect()
    before = len(gc.get_objects())
    make(7_500)
    gc.collect()
    grown = len(gc.get_objects()) - before
    assert grown < 100
    assert recording.core.end_streams(recording.recorder) == 0
