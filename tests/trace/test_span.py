"""Spans made by hand: one a block, whatever leaves it, and wherever: threads, tasks, generators, other contexts."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import fasttrace
from fasttrace.config import load
from fasttrace.core._api import CURRENT
from fasttrace.exporters.memory import MemoryExporter
from fasttrace.trace.tracer import PROCESSOR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    Recorded = Callable[[], dict[str, dict[str, Any]]]

WAIT_S = 10.0
SECRET = "-".join(("sk", "proj", "abc123DEF456ghi789"))


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What fasttrace.span has recorded since the test began, in order of its ends."""
    before = PROCESSOR.config
    exporter = MemoryExporter()
    settings = {"state_dir": str(tmp_path / "state"), "ring_dir": str(tmp_path / "ring")}
    PROCESSOR.reconfigure(load({}, settings)[0], exporter)

    def all_of_them() -> list[dict[str, Any]]:
        fasttrace.flush(WAIT_S)
        return exporter.spans

    yield all_of_them
    PROCESSOR.reconfigure(before)


@pytest.fixture
def by_name(spans: Callable[[], list[dict[str, Any]]]) -> Recorded:
    """The same by their names, each of which was recorded once."""

    def recorded() -> dict[str, dict[str, Any]]:
        found = spans()
        names = [span["name"] for span in found]
        assert len(set(names)) == len(names)
        return dict(zip(names, found, strict=True))

    return recorded


def test_a_block_is_a_span_and_the_parent_of_those_inside(by_name: Recorded) -> None:
    with fasttrace.span("outer", kind="agent", attributes={"a": 1}) as outer:
        with fasttrace.span("inner") as inner:
            inner.set_attribute("b", [True])
        with fasttrace.span("next"):
            pass
    found = by_name()
    assert list(found) == ["inner", "next", "outer"]
    assert found["outer"]["span_id"] == outer.span_id
    assert "parent_span_id" not in found["outer"]
    assert {found[name]["parent_span_id"] for name in ("inner", "next")} == {outer.span_id}
    assert {span["trace_id"] for span in found.values()} == {outer.trace_id} == {inner.trace_id}
    assert (found["outer"]["kind"], found["outer"]["operation"], found["outer"]["status"]) == (
        *("agent", "outer"),
        "success",
    )
    assert (found["outer"]["attributes"], found["inner"]["attributes"]) == ({"a": 1}, {"b": [True]})


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="kind='work'"):
        fasttrace.span("x", kind="work")


def test_an_exception_goes_on_as_it_is_and_its_span_tells_of_it(by_name: Recorded) -> None:
    error = ValueError("no such order")
    with pytest.raises(ValueError) as caught, fasttrace.span("failing"):
        raise error
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    span = by_name()["failing"]
    assert (span["status"], span["error_type"], span["error_message"]) == ("error", "ValueError", "no such order")
    assert span["error_stack"].endswith("in test_an_exception_goes_on_as_it_is_and_its_span_tells_of_it\n")


def test_an_exception_that_cannot_be_read_still_leaves_a_span(by_name: Recorded) -> None:
    class Opaque(Exception):
        @property
        def status_code(self) -> int:
            raise LookupError

    with pytest.raises(Opaque), fasttrace.span("opaque"):
        raise Opaque("text")
    span = by_name()["opaque"]
    assert (span["status"], span["error_message"]) == ("error", "text")


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_an_interrupt_goes_on_and_counts_as_cancelled(by_name: Recorded, error: type[BaseException]) -> None:
    with pytest.raises(error), fasttrace.span("stopped"):
        raise error
    assert by_name()["stopped"]["status"] == "cancelled"


# ---- entered and left in other ways than once


def test_entered_again_it_is_another_span(spans: Callable[[], list[dict[str, Any]]]) -> None:
    span = fasttrace.span("again")
    with span:
        first = span.span_id
        with span:
            second = span.span_id
    with span:
        third = span.span_id
    assert CURRENT.get() is None
    found = spans()
    assert [one["span_id"] for one in found] == [second, first, third]
    assert [one.get("parent_span_id") for one in found] == [first, None, None]


def test_one_span_in_two_threads_at_once_is_one_in_each(spans: Callable[[], list[dict[str, Any]]]) -> None:
    span = fasttrace.span("shared")
    are_inside = threading.Barrier(2)
    first_left = threading.Event()

    def work(leaves_first: bool) -> object:
        with span:
            are_inside.wait(WAIT_S)
            if not leaves_first:
                assert first_left.wait(WAIT_S)
        first_left.set()
        return CURRENT.get()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, (True, False))) == [None, None]
    found = spans()
    assert len({one["span_id"] for one in found}) == len({one["trace_id"] for one in found}) == len(found) == 2


def test_left_without_being_entered_it_is_none(spans: Callable[[], list[dict[str, Any]]]) -> None:
    span = fasttrace.span("never")
    span.__exit__(None, None, None)
    with span:
        pass
    span.__exit__(None, None, None)
    assert len(spans()) == 1


def test_attributes_set_after_the_end_are_ignored(by_name: Recorded) -> None:
    steps = ["one"]
    with fasttrace.span("done", attributes={"steps": steps}) as span:
        span.set_attribute("a", 1)
    span.set_attribute("a", 2)
    span.set_attribute("b", 2)
    steps.append("two")
    assert by_name()["done"]["attributes"] == {"steps": ["one"], "a": 1}


def test_attributes_are_rid_of_secrets(by_name: Recorded) -> None:
    with fasttrace.span("call", attributes={"header": f"Bearer {SECRET}", SECRET: 1}) as span:
        span.set_attribute("urls", ["https://example.com/a", "postgres://u:p4ss@host/db"])
    assert by_name()["call"]["attributes"] == {
        "header": "Bearer [redacted]",
        "[redacted]": 1,
        "urls": ["https://example.com/a", "postgres://[redacted]@host/db"],
    }


def test_while_recording_is_off_the_block_runs_and_nothing_is_recorded(spans: Any) -> None:
    fasttrace.shutdown(WAIT_S)
    with fasttrace.span("off") as span:
        assert span.span_id is not None
    assert CURRENT.get() is None
    assert spans() == []


# ---- threads, tasks and other contexts


def test_a_thread_begins_a_trace_of_its_own_unless_it_is_given_the_context(by_name: Recorded) -> None:
    def work(name: str) -> None:
        with fasttrace.span(name):
            pass

    with fasttrace.span("caller") as caller, ThreadPoolExecutor(1) as pool:
        pool.submit(work, "alone").result(WAIT_S)
        pool.submit(contextvars.copy_context().run, work, "given").result(WAIT_S)
        assert CURRENT.get() is not None
    found = by_name()
    assert "parent_span_id" not in found["alone"]
    assert found["alone"]["trace_id"] != caller.trace_id
    assert found["given"]["parent_span_id"] == caller.span_id


def test_tasks_are_children_of_the_span_that_made_them_and_not_of_each_other(by_name: Recorded) -> None:
    async def main() -> str | None:
        are_inside = [asyncio.Event(), asyncio.Event()]

        async def work(number: int) -> None:
            async with fasttrace.span(f"task {number}"):
                are_inside[number].set()
                await are_inside[1 - number].wait()
                with fasttrace.span(f"step {number}"):
                    await asyncio.sleep(0)

        async with fasttrace.span("all") as every:
            await asyncio.gather(work(0), work(1))
        return every.span_id

    every = asyncio.run(main())
    found = by_name()
    assert {found[f"task {number}"]["parent_span_id"] for number in (0, 1)} == {every}
    for number in (0, 1):
        assert found[f"step {number}"]["parent_span_id"] == found[f"task {number}"]["span_id"]


def test_a_cancelled_task_ends_its_spans_as_cancelled(by_name: Recorded) -> None:
    async def main() -> None:
        is_inside = asyncio.Event()

        async def work() -> None:
            async with fasttrace.span("outer"), fasttrace.span("inner"):
                is_inside.set()
                await asyncio.Event().wait()

        async with fasttrace.span("caller"):
            task = asyncio.create_task(work())
            await is_inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    found = by_name()
    assert {name: span["status"] for name, span in found.items()} == {
        **dict.fromkeys(("outer", "inner"), "cancelled"),
        "caller": "success",
    }
    assert found["inner"]["parent_span_id"] == found["outer"]["span_id"]


def test_left_in_another_context_it_leaves_that_one_alone(by_name: Recorded) -> None:
    elsewhere = contextvars.copy_context()
    moved = fasttrace.span("moved")
    elsewhere.run(moved.__enter__)
    with fasttrace.span("here") as here:
        context = CURRENT.get()
        moved.__exit__(None, None, None)
        assert CURRENT.get() is context
        with fasttrace.span("inside"):
            pass
    found = by_name()
    assert found["moved"]["span_id"] == moved.span_id
    assert "parent_span_id" not in found["moved"]
    assert found["inside"]["parent_span_id"] == here.span_id


def test_a_generator_closed_by_another_task_ends_its_span_there(by_name: Recorded) -> None:
    async def generate() -> AsyncIterator[int]:
        async with fasttrace.span("generator"):
            yield 1
            yield 2

    async def main() -> None:
        generator: Any = generate()

        async def close() -> None:
            async with fasttrace.span("closer"):
                context = CURRENT.get()
                await generator.aclose()
                assert CURRENT.get() is context

        await asyncio.create_task(generator.__anext__())
        await asyncio.create_task(close())

    asyncio.run(main())
    found = by_name()
    assert (found["generator"]["status"], found["closer"]["status"]) == ("cancelled", "success")
    assert found["generator"]["trace_id"] != found["closer"]["trace_id"]
