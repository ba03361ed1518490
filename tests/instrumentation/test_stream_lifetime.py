"""A stream lives as long as it would without us, and leaves nothing behind. On both cores."""

from __future__ import annotations

import gc
import itertools
import sys
import weakref
from typing import Any

import pytest
from calls import caller
from streams import STREAM, Body, PlainStream, Stream, choice, chunk, conversation, final, opened, text


class Hiccup(Exception):
    pass


def take(stream: Any, count: int) -> None:
    for _ in itertools.islice(stream, count):
        pass


@pytest.mark.parametrize("read", [0, 1, 5])
def test_a_stream_without_a_cycle_dies_with_its_last_reference(
    recording: Any, read: int, unraisable: list[Any]
) -> None:
    stream = opened(recording, PlainStream(*conversation()))
    take(stream, read)
    gone, body = weakref.ref(stream), stream.response.stream
    gc.disable()
    try:
        del stream
        assert gone() is None
    finally:
        gc.enable()
    assert body.closed == (1 if read else 0)  # a generator that never ran has nothing to clean up
    assert len(recording.spans()) == 1
    assert unraisable == []


def test_a_stream_in_a_cycle_dies_with_it(recording: Any, unraisable: list[Any]) -> None:
    stream = opened(recording, Stream(*conversation()))
    next(stream)
    gone, body = weakref.ref(stream), stream.response.stream
    del stream
    gc.collect()
    assert gone() is None
    assert body.closed == 1
    assert recording.span()["status"] == "incomplete"
    assert unraisable == []


@pytest.mark.parametrize("sort", [Stream, PlainStream])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_dropped_stream_closes_its_body_as_without_us(recording: Any, sort: Any, count: int) -> None:
    """Nobody else knows the body, which goes together with the stream."""

    def closed(open_one: Any) -> list[str]:
        seen: list[str] = []

        class Told(Body):
            def close(self) -> str:
                seen.append("closed")
                return super().close()

        made = sort(*conversation(), body=Told())
        stream = open_one(recording, made)
        del made
        take(stream, count)
        del stream
        gc.collect()
        return seen

    assert closed(opened) == closed(lambda recording, stream: stream) == (["closed"] if count else [])
    assert len(recording.spans()) == 1


def test_dropping_a_stream_keeps_the_exception_that_is_raised(recording: Any, unraisable: list[Any]) -> None:
    def consume() -> None:
        stream = opened(recording, PlainStream(*conversation()))
        next(stream)
        raise Hiccup("mine")

    with pytest.raises(Hiccup, match="mine"):
        consume()
    assert recording.span()["status"] == "incomplete"
    assert unraisable == []


def test_the_body_is_held_by_nothing_of_ours(recording: Any) -> None:
    stream = opened(recording, PlainStream(*conversation()))
    body = weakref.ref(stream.response.stream)
    gc.disable()
    try:
        del stream
        assert body() is None
    finally:
        gc.enable()


def test_references_stay_in_balance(recording: Any) -> None:
    chunks = [*conversation(), chunk(choice(content="x"))]
    before = [sys.getrefcount(one) for one in chunks]
    create = caller(recording, lambda self, **kwargs: PlainStream(*chunks), stream=STREAM)
    method = sys.getrefcount(type(create.__self__).create)
    for way in range(40):
        stream = create(model="m", stream=True)
        take(stream, way % 8)
        del stream
    gc.collect()
    after = [sys.getrefcount(one) for one in chunks]
    method_after = sys.getrefcount(type(create.__self__).create)
    assert (after, method_after) == (before, method)
    assert len(recording.spans()) == 40


def test_ten_thousand_streams_leave_nothing_behind(recording: Any) -> None:
    create = caller(recording, lambda self, **kwargs: PlainStream(text("a"), final()), stream=STREAM)

    def read_some() -> None:
        for number in range(2_500):
            stream = create(model="m", stream=True)
            take(stream, number % 4)
            del stream
            if number % 500 == 0:
                recording.lines()

    read_some()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(3):
        read_some()
    gc.collect()
    grown = len(gc.get_objects()) - before
    assert grown < 100
    assert recording.core.end_streams(recording.recorder) == 0
