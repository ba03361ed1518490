"""A streamed reply: every way in which it can end is one span, and the SDK's stream lives as it would without us. On
both cores."""

from __future__ import annotations

import gc
import threading
import traceback
import types
from collections.abc import Iterator
from typing import Any

import pytest
from streams import (
    STREAM,
    Body,
    PlainStream,
    Response,
    Stream,
    chunk,
    conversation,
    counted,
    final,
    opened,
    text,
)

from fasttrace.core._api import CURRENT


class Hiccup(Exception):
    pass


# ---- endings ----


def test_read_to_its_end(recording: Any) -> None:
    chunks = conversation()
    stream = Stream(*chunks)
    assert opened(recording, stream) is stream
    assert recording.spans() == []
    for expected, given in zip(chunks, stream, strict=True):
        assert given is expected
    span = recording.span()
    assert (span["status"], span["stream"], span["chunks"]) == ("success", True, 5)
    assert (span["model_id"], span["response_id"], span["finish_reasons"]) == ("m-1", "r-1", ["stop"])
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (12, 3, "provider")
    assert 0 < span["first_chunk_ms"] <= span["first_token_ms"] <= span["first_text_ms"] <= span["duration_ms"]
    assert list(stream) == []
    assert recording.spans() == []


def test_read_by_next(recording: Any) -> None:
    stream = opened(recording, Stream(text("a"), final()))
    next(stream)
    next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    assert recording.span()["status"] == "success"
    with pytest.raises(StopIteration):
        next(stream)


def test_read_to_its_end_without_usage_says_nothing_of_it(recording: Any) -> None:
    list(opened(recording, Stream(text("a"), final())))
    span = recording.span()
    assert span["status"] == "success"
    assert not {"usage_source", "input_tokens", "cost_usd"} & set(span)


def test_an_exception_of_the_sdk_is_the_callers_and_an_error(recording: Any) -> None:
    error = Hiccup("no more")
    stream = opened(recording, Stream(text("a"), error))
    next(stream)
    with pytest.raises(Hiccup) as caught:
        next(stream)
    assert caught.value is error
    assert error.__context__ is None
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/fasttrace/" in frame.filename]
    assert len(ours) <= 1
    span = recording.span()
    assert (span["status"], span["error_type"]) == ("error", f"{__name__}.Hiccup")
    assert (span["usage_source"], span["chunks"]) == ("partial", 1)
    assert list(stream) == []
    assert recording.spans() == []


def test_a_timeout_in_a_step_is_a_timeout(recording: Any) -> None:
    stream = opened(recording, Stream(TimeoutError("read")))
    with pytest.raises(TimeoutError):
        next(stream)
    assert recording.span()["status"] == "timeout"


def test_an_interrupt_in_a_step_is_cancelled(recording: Any) -> None:
    stream = opened(recording, Stream(text("a"), KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert recording.span()["status"] == "cancelled"


def test_closed_early(recording: Any) -> None:
    stream = opened(recording, Stream(*conversation()))
    next(stream)
    stream.close()
    span = recording.span()
    assert (span["status"], span["usage_source"], span["chunks"]) == ("incomplete", "partial", 1)
    assert stream.response.stream.closed == 1
    list(stream)
    del stream
    gc.collect()
    assert recording.spans() == []


@pytest.mark.parametrize("sort", [Stream, PlainStream])
def test_left_by_break_and_dropped(recording: Any, sort: Any) -> None:
    stream = opened(recording, sort(*conversation()))
    for _ in stream:
        break
    assert recording.spans() == []
    del stream
    gc.collect()
    assert recording.span()["status"] == "incomplete"


def test_left_by_break_inside_with(recording: Any) -> None:
    with opened(recording, Stream(*conversation())) as stream:
        for _ in stream:
            break
    assert recording.span()["status"] == "incomplete"


def test_an_exception_of_the_consumer_leaves_the_stream_incomplete(recording: Any) -> None:
    with pytest.raises(Hiccup), opened(recording, Stream(*conversation())) as stream:
        for _ in stream:
            raise Hiccup
    span = recording.span()
    assert span["status"] == "incomplete"
    assert "error_type" not in span


def test_never_iterated(recording: Any) -> None:
    stream = opened(recording, PlainStream(*conversation()))
    del stream
    span = recording.span()
    assert (span["status"], span["chunks"], span["usage_source"]) == ("incomplete", 0, "partial")
    assert "first_chunk_ms" not in span


@pytest.mark.parametrize(("usage", "status"), [(counted(), "success"), (counted(12, None), "incomplete")])
def test_left_after_the_last_of_what_is_generated_is_complete_with_its_usage(
    recording: Any, usage: Any, status: str
) -> None:
    stream = opened(recording, Stream(text("a"), final(), usage, text("never read")))
    for _ in range(3):
        next(stream)
    stream.close()
    span = recording.span()
    source = "provider" if status == "success" else "partial"
    assert (span["status"], span["usage_source"], span["input_tokens"]) == (status, source, 12)


def test_usage_alone_does_not_complete_a_stream(recording: Any) -> None:
    stream = opened(recording, Stream(counted(), text("a"), final()))
    next(stream)
    stream.close()
    assert recording.span()["status"] == "incomplete"


def test_the_iterator_is_closed(recording: Any) -> None:
    stream = opened(recording, Stream(*conversation()))
    next(stream)
    stream._iterator.close()
    assert recording.span()["status"] == "incomplete"
    assert stream.response.stream.closed == 1


def test_a_generator_exit_in_a_step_leaves_the_stream(recording: Any) -> None:
    stream = opened(recording, Stream(*conversation()))
    next(stream)
    with pytest.raises(GeneratorExit):
        stream._iterator.throw(GeneratorExit)
    assert recording.span()["status"] == "incomplete"


def test_an_exception_thrown_in_comes_out_as_an_error(recording: Any) -> None:
    stream = opened(recording, Stream(*conversation()))
    next(stream)
    with pytest.raises(Hiccup):
        stream._iterator.throw(Hiccup())
    assert recording.span()["status"] == "error"


def test_what_is_sent_is_a_step(recording: Any) -> None:
    stream = opened(recording, Stream(text("a"), final()))
    next(stream)
    stream._iterator.send(None)
    list(stream)
    assert recording.span()["chunks"] == 2


def test_end_streams_ends_what_is_open_once(recording: Any) -> None:
    streams = [opened(recording, Stream(*conversation())) for _ in range(3)]
    next(streams[0])
    list(streams[1])
    assert recording.span()["status"] == "success"
    assert recording.core.end_streams(recording.recorder) == 2
    assert sorted(span["chunks"] for span in recording.spans()) == [0, 1]
    assert recording.core.end_streams(recording.recorder) == 0
    assert [len(list(stream)) for stream in streams] == [4, 0, 5]
    assert recording.spans() == []


def test_end_streams_while_a_step_waits(recording: Any) -> None:
    waits, goes_on = threading.Event(), threading.Event()

    def slow() -> Any:
        waits.set()
        assert goes_on.wait(30)
        return text("late")

    stream = opened(recording, Stream(text("a"), slow))
    read: list[Any] = []
    reader = threading.Thread(target=lambda: read.extend(stream))
    reader.start()
    assert waits.wait(30)
    assert recording.core.end_streams(recording.recorder) == 1
    span = recording.span()
    goes_on.set()
    reader.join()
    assert (span["status"], span["chunks"], len(read)) == ("incomplete", 1, 2)
    assert recording.spans() == []


def test_closing_inside_a_step_is_the_sdks_own(recording: Any) -> None:
    """An SDK closes the response when it has read it; the outcome of the step decides."""
    stream: Any = None

    def last() -> Any:
        stream.close()
        return final()

    stream = opened(recording, Stream(text("a"), last, counted()))
    assert len(list(stream)) == 3
    assert recording.span()["status"] == "success"


def test_a_step_inside_a_step_is_the_sdks_own_error(recording: Any) -> None:
    stream: Any = None

    def again() -> Any:
        with pytest.raises(ValueError, match="generator already executing"):
            stream._iterator.__next__()
        return text("a")

    stream = opened(recording, Stream(again, final()))
    assert len(list(stream)) == 2
    span = recording.span()
    assert (span["status"], span["chunks"]) == ("success", 2)


# ---- the SDK's objects, as they would be without us ----


def test_the_iterator_says_what_it_stands_for(recording: Any) -> None:
    stream = Stream(*conversation())
    inner = stream._iterator
    opened(recording, stream)
    ours: Any = stream._iterator
    assert ours is not inner
    assert isinstance(ours, types.GeneratorType)
    assert isinstance(ours, Iterator)
    assert (repr(ours), iter(ours), ours.gi_frame) == (repr(inner), ours, inner.gi_frame)
    assert all(hasattr(ours, name) for name in ("close", "send", "throw"))
    assert not hasattr(ours, "no_such_thing")


def test_an_iterator_that_is_no_generator_has_no_more_than_it_has(recording: Any) -> None:
    stream = Stream()
    stream._iterator = iter([text("a")])
    opened(recording, stream)
    assert not any(hasattr(stream._iterator, name) for name in ("close", "send", "throw"))
    assert len(list(stream)) == 1
    assert recording.span()["status"] == "success"


def test_close_gives_what_the_body_gives(recording: Any) -> None:
    stream = opened(recording, Stream())
    assert stream.response.stream.close() == "closed"
    assert stream.response.stream.close() == "closed"
    assert stream.response.stream.close.__name__ == "close"
    assert recording.span()["status"] == "incomplete"


def test_somebody_elses_close_on_the_body_is_called(recording: Any) -> None:
    stream: Any = Stream()
    calls: list[str] = []
    stream.response.stream.close = lambda: calls.append("theirs")
    opened(recording, stream)
    stream.close()
    assert calls == ["theirs"]
    assert recording.span()["status"] == "incomplete"


def test_a_body_that_takes_no_attribute_is_left_alone(recording: Any, caplog: Any) -> None:
    class Slotted:
        __slots__ = ()

        def close(self) -> None: ...

    stream = Stream(text("a"))
    stream.response = Response(Slotted())  # type: ignore[arg-type]
    opened(recording, stream)
    stream.close()
    assert recording.spans() == []
    list(stream)
    assert recording.span()["status"] == "success"
    assert caplog.records == []


# ---- what is no stream, and streams that are their own iterator ----


def test_a_reply_without_the_attribute_is_a_plain_reply(recording: Any) -> None:
    reply = chunk(model="m-2", usage=None)
    assert opened(recording, reply) is reply
    span = recording.span()
    assert (span["status"], span["model_id"], span["stream"]) == ("success", "m-2", True)
    assert recording.recorder.passed_streams == 1


def requests(chunks: Any, contexts: list[Any]) -> Any:
    """A generator that makes its request in its first step."""
    contexts.append(CURRENT.get())
    for one in chunks:
        yield one
        contexts.append(CURRENT.get())


def test_the_reply_may_be_the_iterator(recording: Any) -> None:
    contexts: list[Any] = []
    generator = requests([text("a"), final(), counted()], contexts)
    stream = opened(recording, generator, stream=STREAM._replace(iterator=None, body=()))
    assert isinstance(stream, types.GeneratorType)
    assert contexts == []
    assert len(list(stream)) == 3
    span = recording.span()
    assert (span["status"], span["chunks"], span["output_tokens"]) == ("success", 3, 3)
    assert contexts[0].span_id == span["span_id"]
    assert contexts[1:] == [None, None, None]
    assert CURRENT.get() is None


def test_retries_of_the_first_step_are_the_spans(recording: Any) -> None:
    def request() -> Any:
        CURRENT.get().retries += 2  # type: ignore[union-attr]
        yield text("a")

    list(opened(recording, request(), stream=STREAM._replace(iterator=None, body=())))
    assert recording.span()["retries"] == 2


def test_a_request_that_fails_in_the_first_step_is_an_error(recording: Any) -> None:
    def request() -> Any:
        yield from Stream(Hiccup())

    stream = opened(recording, request(), stream=STREAM._replace(iterator=None, body=()))
    with pytest.raises(Hiccup):
        next(stream)
    assert CURRENT.get() is None
    assert recording.span()["status"] == "error"


def test_a_generator_that_is_dropped_is_closed_at_once(recording: Any) -> None:
    closed = []

    def request() -> Any:
        try:
            yield text("a")
            yield text("b")
        finally:
            closed.append(True)

    stream = opened(recording, request(), stream=STREAM._replace(iterator=None, body=()))
    next(stream)
    del stream
    assert closed == [True]
    assert recording.span()["status"] == "incomplete"


def test_a_stream_opened_inside_another_span_is_its_child(recording: Any) -> None:
    parent = recording.core.new_context(None)
    token = CURRENT.set(parent)
    stream = opened(recording, Stream(text("a")))
    assert CURRENT.get() is parent
    CURRENT.reset(token)
    list(stream)
    assert recording.span()["parent_span_id"] == parent.span_id
    assert CURRENT.get() is None


def test_a_body_that_is_shared_tells_each_of_its_streams(recording: Any) -> None:
    body = Body()
    first, second = Stream(text("a")), Stream(text("b"))
    first.response, second.response = Response(body), Response(body)
    opened(recording, first)
    opened(recording, second)
    body.close()
    assert [span["status"] for span in recording.spans()] == ["incomplete", "incomplete"]
    assert body.closed == 1
