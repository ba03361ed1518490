"""Asynchronous streams that are abandoned: the loop closes them as without us, and nothing is left behind. On both
cores."""

from __future__ import annotations

import asyncio
import gc
import sys
import types
import weakref
from typing import Any

import pytest
from calls import caller, run
from streams import STREAM, AsyncStream, PlainAsyncStream, aopened, conversation, final, text


def test_an_abandoned_stream_is_closed_by_the_loop_as_without_us(recording: Any, unraisable: list[Any]) -> None:
    bodies = []

    async def main() -> None:
        stream = await aopened(recording, AsyncStream(*conversation()))
        bodies.append(stream.response.stream)
        async for _ in stream:
            break
        del stream
        for _ in range(5):  # the SDK's generators are closed one after the other
            gc.collect()
            await asyncio.sleep(0)
        assert bodies[0].closed == 1

    run(main())
    assert recording.span()["status"] == "incomplete"
    assert unraisable == []


def test_a_stream_left_open_when_the_loop_ends_is_closed_by_it(recording: Any) -> None:
    kept = []

    async def main() -> None:
        stream = await aopened(recording, AsyncStream(*conversation()))
        await stream.__anext__()
        kept.append(stream)

    run(main())
    assert kept[0].response.stream.closed == 1
    assert recording.span()["status"] == "incomplete"
    kept.clear()
    gc.collect()
    assert recording.spans() == []


def test_the_hooks_of_asynchronous_generators_are_called(recording: Any) -> None:
    first: list[Any] = []
    finalized: list[str] = []

    async def main() -> None:
        before = sys.get_asyncgen_hooks()
        stream = await aopened(recording, PlainAsyncStream(*conversation()))
        inner = stream._iterator
        sys.set_asyncgen_hooks(first.append, lambda generator: finalized.append(repr(generator)))
        try:
            await stream._iterator.__anext__()
            await stream._iterator.__anext__()
            assert len(first) == 1
            assert isinstance(first[0], types.AsyncGeneratorType)
            assert first[0] is not inner  # the SDK's own
            first.clear()
            del stream, inner
            gc.collect()
        finally:
            sys.set_asyncgen_hooks(*before)

    run(main())
    assert len(finalized) == 1
    assert "_aread" in finalized[0]
    assert recording.span()["status"] == "incomplete"


def test_a_stream_without_a_cycle_dies_with_its_last_reference(recording: Any) -> None:
    async def main() -> None:
        stream = await aopened(recording, PlainAsyncStream(*conversation()))
        for _ in range(3):
            await stream.__anext__()
        gone = weakref.ref(stream)
        gc.disable()
        try:
            del stream
            assert gone() is None
        finally:
            gc.enable()

    run(main())
    assert recording.span()["status"] == "incomplete"


def test_a_step_holds_its_stream(recording: Any) -> None:
    """As the step of an asynchronous generator holds the generator."""

    async def main() -> None:
        stream = await aopened(recording, PlainAsyncStream(text("a"), text("b")))
        step = stream._iterator.__anext__()
        del stream
        assert recording.spans() == []
        assert (await step).choices
        del step
        assert recording.span()["chunks"] == 1

    run(main())


@pytest.mark.filterwarnings("ignore:coroutine .*was never awaited:RuntimeWarning")
def test_a_step_that_is_never_awaited_is_none(recording: Any) -> None:
    async def main() -> None:
        stream = await aopened(recording, AsyncStream(text("a")))
        stream._iterator.__anext__()
        assert len([one async for one in stream]) == 1

    run(main())
    span = recording.span()
    assert (span["status"], span["chunks"]) == ("success", 1)


def test_ten_thousand_streams_leave_nothing_behind(recording: Any, unraisable: list[Any]) -> None:
    async def answer(self: Any, **kwargs: Any) -> Any:
        return PlainAsyncStream(text("a"), final())

    create = caller(recording, answer, is_async=True, stream=STREAM)

    async def read_some() -> None:
        for number in range(2_500):
            stream = await create(model="m", stream=True)
            for _ in range(number % 3):
                await stream.__anext__()
            if number % 2:
                await stream.close()
            del stream
            if number % 500 == 0:
                recording.lines()
        await asyncio.sleep(0)

    async def main() -> None:
        await read_some()
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(3):
            await read_some()
        gc.collect()
        await asyncio.sleep(0)
        grown = len(gc.get_objects()) - before
        assert grown < 200

    run(main())
    assert recording.core.end_streams(recording.recorder) == 0
    assert unraisable == []
