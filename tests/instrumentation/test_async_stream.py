"""An asynchronous stream: its endings, and the loop's and the generator's own business with it, as without us. On both
cores."""

from __future__ import annotations

import asyncio
import collections.abc
import sys
import types
from typing import Any

import pytest
from calls import run
from streams import (
    STREAM,
    AsyncStream,
    PlainAsyncStream,
    aopened,
    conversation,
    counted,
    final,
    text,
)

from fasttrace.core._api import CURRENT


class Hiccup(Exception):
    pass


async def forever() -> Any:
    await asyncio.Event().wait()


async def soon() -> Any:
    await asyncio.sleep(0)
    return text("soon")


# ---- endings ----


@pytest.mark.parametrize("sort", [AsyncStream, PlainAsyncStream])
def test_read_to_its_end(recording: Any, sort: Any) -> None:
    chunks = conversation()

    async def main() -> None:
        stream = sort(*chunks)
        assert await aopened(recording, stream) is stream
        assert recording.spans() == []
        assert [one async for one in stream] == chunks
        assert [one async for one in stream] == []

    run(main())
    span = recording.span()
    assert (span["status"], span["stream"], span["chunks"]) == ("success", True, 5)
    assert (span["model_id"], span["finish_reasons"], span["usage_source"]) == ("m-1", ["stop"], "provider")
    assert 0 < span["first_chunk_ms"] <= span["first_token_ms"] <= span["first_text_ms"] <= span["duration_ms"]


def test_read_by_anext_with_steps_that_wait(recording: Any) -> None:
    async def main() -> None:
        stream = await aopened(recording, AsyncStream(text("a"), soon, soon, final()))
        for _ in range(4):
            await stream.__anext__()
        assert await anext(aiter(stream._iterator), "over") == "over"
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()

    run(main())
    span = recording.span()
    assert (span["status"], span["chunks"]) == ("success", 4)


def test_an_exception_of_the_sdk_is_the_callers_and_an_error(recording: Any) -> None:
    error = Hiccup("no more")

    async def main() -> None:
        stream = await aopened(recording, AsyncStream(text("a"), error))
        with pytest.raises(Hiccup) as caught:
            [one async for one in stream]
        assert caught.value is error
        assert error.__context__ is None

    run(main())
    span = recording.span()
    assert (span["status"], span["error_type"], span["usage_source"]) == ("error", f"{__name__}.Hiccup", "partial")


def test_a_task_cancelled_in_a_step_is_cancelled(recording: Any) -> None:
    bodies = []

    async def main() -> None:
        entered = asyncio.Event()

        async def waits() -> Any:
            entered.set()
            await forever()

        async def consume() -> None:
            stream = await aopened(recording, AsyncStream(text("a"), waits))
            bodies.append(stream.response.stream)
            async for _ in stream:
                pass

        task = asyncio.create_task(consume())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    span = recording.span()
    assert (span["status"], span["chunks"], span["usage_source"]) == ("cancelled", 1, "partial")
    assert bodies[0].closed == 1


def test_a_task_cancelled_between_steps_leaves_the_stream_incomplete(recording: Any) -> None:
    async def main() -> None:
        reading = asyncio.Event()

        async def consume() -> None:
            async with await aopened(recording, AsyncStream(*conversation())) as stream:
                async for _ in stream:
                    reading.set()
                    await forever()

        task = asyncio.create_task(consume())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert recording.span()["status"] == "incomplete"


def test_a_time_limit_around_a_stream_cancels_it(recording: Any) -> None:
    async def consume() -> None:
        async for _ in await aopened(recording, AsyncStream(text("a"), forever)):
            pass

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(consume(), 0.02)

    run(main())
    assert recording.span()["status"] == "cancelled"


def test_a_step_of_its_own_task_with_a_time_limit(recording: Any) -> None:
    async def main() -> None:
        stream = await aopened(recording, AsyncStream(text("a"), forever))
        assert await asyncio.wait_for(stream._iterator.__anext__(), 30)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream._iterator.__anext__(), 0.02)

    run(main())
    span = recording.span()
    assert (span["status"], span["chunks"]) == ("cancelled", 1)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup is new in 3.11")
def test_streams_in_a_task_group_that_fails(recording: Any) -> None:
    async def main() -> None:
        waiting = asyncio.Event()

        async def waits() -> Any:
            waiting.set()
            await forever()

        async def consume() -> None:
            async for _ in await aopened(recording, AsyncStream(text("a"), waits)):
                pass

        async def fail() -> None:
            await waiting.wait()
            raise Hiccup

        with pytest.raises(BaseExceptionGroup):  # noqa: F821
            async with asyncio.TaskGroup() as group:
                group.create_task(consume())
                group.create_task(fail())

    run(main())
    assert recording.span()["status"] == "cancelled"


def test_closed_early(recording: Any) -> None:
    async def main() -> None:
        async with await aopened(recording, AsyncStream(*conversation())) as stream:
            async for _ in stream:
                break
        assert stream.response.stream.closed == 1
        [one async for one in stream]

    run(main())
    span = recording.span()
    assert (span["status"], span["chunks"], span["usage_source"]) == ("incomplete", 1, "partial")


def test_left_after_the_last_of_what_is_generated(recording: Any) -> None:
    async def main() -> None:
        async with await aopened(recording, AsyncStream(final(), counted(), text("never read"))) as stream:
            await stream.__anext__()
            await stream.__anext__()

    run(main())
    span = recording.span()
    assert (span["status"], span["usage_source"]) == ("success", "provider")


def test_an_exception_of_the_consumer(recording: Any) -> None:
    async def main() -> None:
        async with await aopened(recording, AsyncStream(*conversation())) as stream:
            async for _ in stream:
                raise Hiccup

    with pytest.raises(Hiccup):
        run(main())
    assert recording.span()["status"] == "incomplete"


def test_never_iterated(recording: Any, unraisable: list[Any]) -> None:
    async def main() -> None:
        stream = await aopened(recording, PlainAsyncStream(*conversation()))
        del stream
        assert recording.span()["chunks"] == 0

    run(main())
    assert recording.spans() == []
    assert unraisable == []


def test_aclose_of_the_iterator(recording: Any) -> None:
    async def main() -> None:
        stream = await aopened(recording, AsyncStream(*conversation()))
        await stream.__anext__()
        assert await stream._iterator.aclose() is None
        assert stream.response.stream.closed == 1

    run(main())
    assert recording.span()["status"] == "incomplete"


@pytest.mark.parametrize(
    ("thrown", "status"),
    [(Hiccup, "error"), (GeneratorExit, "incomplete"), (asyncio.CancelledError, "cancelled")],
)
def test_what_is_thrown_in(recording: Any, thrown: Any, status: str) -> None:
    async def main() -> None:
        stream = await aopened(recording, AsyncStream(*conversation()))
        await stream.__anext__()
        with pytest.raises(thrown):
            await stream._iterator.athrow(thrown())

    run(main())
    assert recording.span()["status"] == status


def test_what_is_sent_is_a_step(recording: Any) -> None:
    async def main() -> None:
        stream = await aopened(recording, AsyncStream(text("a"), text("b")))
        await stream.__anext__()
        assert (await stream._iterator.asend(None)).choices
        [one async for one in stream]

    run(main())
    assert recording.span()["chunks"] == 2


def test_end_streams_while_a_step_waits(recording: Any) -> None:
    async def main() -> None:
        goes_on = asyncio.Event()

        async def waits() -> Any:
            await goes_on.wait()
            return text("late")

        stream = await aopened(recording, AsyncStream(text("a"), waits))
        await stream.__anext__()
        step = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        assert recording.core.end_streams(recording.recorder) == 1
        goes_on.set()
        assert (await step).choices
        assert [one async for one in stream] == []

    run(main())
    span = recording.span()
    assert (span["status"], span["chunks"]) == ("incomplete", 1)


def test_closing_inside_a_step_is_the_sdks_own(recording: Any) -> None:
    async def main() -> None:
        stream: Any = None

        async def last() -> Any:
            await stream.close()
            return final()

        stream = await aopened(recording, AsyncStream(text("a"), last, counted()))
        assert len([one async for one in stream]) == 3

    run(main())
    assert recording.span()["status"] == "success"


def test_a_second_step_at_the_same_time_is_the_generators_own_error(recording: Any) -> None:
    async def main() -> None:
        stream = await aopened(recording, AsyncStream(soon, final()))
        first = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            await stream.__anext__()
        assert (await first).choices
        assert len([one async for one in stream]) == 1

    run(main())
    span = recording.span()
    assert (span["status"], span["chunks"]) == ("success", 2)


# ---- what it says of itself ----


def test_the_iterator_says_what_it_stands_for(recording: Any) -> None:
    async def main() -> None:
        stream = AsyncStream(*conversation())
        inner = stream._iterator
        await aopened(recording, stream)
        ours: Any = stream._iterator
        assert ours is not inner
        assert isinstance(ours, types.AsyncGeneratorType)
        assert isinstance(ours, collections.abc.AsyncIterator)
        assert (repr(ours), aiter(ours), ours.ag_frame) == (repr(inner), ours, inner.ag_frame)
        assert all(hasattr(ours, name) for name in ("aclose", "asend", "athrow"))
        step = ours.__anext__()
        assert isinstance(step, collections.abc.Awaitable)
        assert (await step).choices
        await ours.aclose()

    run(main())


class Source:
    """An iterator that is no generator, whose steps are what they are told to be."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)

    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Any:
        if not self.steps:
            raise StopAsyncIteration
        return self.steps.pop(0)()


class Awaitable:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.value


def test_an_iterator_that_is_no_generator(recording: Any) -> None:
    @types.coroutine
    def old_style() -> Any:
        yield
        return text("old")

    async def main() -> None:
        stream = AsyncStream()
        stream._iterator = Source(soon, lambda: Awaitable(text("b")), old_style)
        await aopened(recording, stream)
        assert not any(hasattr(stream._iterator, name) for name in ("aclose", "asend", "athrow"))
        assert len([one async for one in stream]) == 3

    run(main())
    span = recording.span()
    assert (span["status"], span["chunks"]) == ("success", 3)


def test_the_reply_may_be_the_iterator(recording: Any) -> None:
    async def generate() -> Any:
        for one in (text("a"), final(), counted()):
            assert CURRENT.get() is None
            yield one

    async def main() -> None:
        stream = await aopened(recording, generate(), stream=STREAM._replace(iterator=None, body=()))
        assert isinstance(stream, types.AsyncGeneratorType)
        assert len([one async for one in stream]) == 3

    run(main())
    span = recording.span()
    assert (span["status"], span["chunks"], span["output_tokens"]) == ("success", 3, 3)
