"""An asynchronous call of a patched method: its span, its endings, and the coroutine its caller sees. On both cores."""

from __future__ import annotations

import asyncio
import gc
import inspect
import types
from typing import Any

import pytest
from calls import caller, full_reply, run

from fasttrace.core._api import CURRENT

# ---- asynchronous calls ----


def test_an_asynchronous_call_is_one_span(recording: Any) -> None:
    reply = full_reply()

    async def create(self: Any, **kwargs: Any) -> Any:
        assert CURRENT.get() is not None
        await asyncio.sleep(0)
        return reply

    async def main() -> None:
        assert await caller(recording, create, is_async=True)(model="m", temperature=1) is reply
        assert CURRENT.get() is None

    run(main())
    span = recording.span()
    assert (span["status"], span["input_tokens"], span["request_params"]) == ("success", 12, {"temperature": 1})


def test_a_plain_function_that_returns_a_coroutine_is_recorded_the_same(recording: Any) -> None:
    async def body() -> str:
        await asyncio.sleep(0)
        return "done"

    def create(self: Any, **kwargs: Any) -> Any:
        return body()

    assert run(caller(recording, create, is_async=True)(model="m")) == "done"
    assert recording.span()["status"] == "success"


def test_what_a_plain_function_raises_before_its_coroutine_is_raised_at_once(recording: Any) -> None:
    def create(self: Any, **kwargs: Any) -> Any:
        raise TypeError("Missing required arguments")

    with pytest.raises(TypeError, match="Missing"):
        caller(recording, create, is_async=True)()
    assert recording.span()["error_type"] == "TypeError"


def test_something_that_is_no_coroutine_comes_back_as_it_is(recording: Any) -> None:
    reply = object()
    assert caller(recording, lambda self, **kwargs: reply, is_async=True)(model="m") is reply
    assert recording.span()["status"] == "success"


def test_tasks_have_their_own_parents(recording: Any) -> None:
    async def inner(self: Any, **kwargs: Any) -> str:
        await asyncio.sleep(0)
        return kwargs["model"]

    inner_call = caller(recording, inner, is_async=True)

    async def outer(self: Any, **kwargs: Any) -> str:
        await asyncio.sleep(0)
        return await inner_call(model=f"child of {kwargs['model']}")

    outer_call = caller(recording, outer, is_async=True)

    async def main() -> None:
        await asyncio.gather(*(asyncio.create_task(outer_call(model=f"{n}")) for n in range(200)))

    run(main())
    spans = recording.spans()
    by_id = {span["span_id"]: span for span in spans}
    children = [span for span in spans if "parent_span_id" in span]
    assert len(spans) == 400
    assert len(children) == 200
    for child in children:
        assert child["model_id"] == f"child of {by_id[child['parent_span_id']]['model_id']}"


def test_a_cancelled_call_is_cancelled(recording: Any) -> None:
    entered = asyncio.Event()

    async def create(self: Any, **kwargs: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(caller(recording, create, is_async=True)(model="m"))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert recording.span()["status"] == "cancelled"


def test_a_call_that_times_out_from_outside_is_cancelled(recording: Any) -> None:
    async def create(self: Any, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(caller(recording, create, is_async=True)(model="m"), 0.01)

    run(main())
    assert recording.span()["status"] == "cancelled"


def test_a_coroutine_closed_midway_is_cancelled(recording: Any) -> None:
    @types.coroutine
    def pause() -> Any:
        yield "paused"

    async def create(self: Any, **kwargs: Any) -> None:
        await pause()

    coroutine = caller(recording, create, is_async=True)(model="m")
    assert coroutine.send(None) == "paused"
    coroutine.close()
    assert recording.span()["status"] == "cancelled"
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        coroutine.send(None)
    assert recording.spans() == []


def test_a_coroutine_dropped_midway_is_cancelled(recording: Any, unraisable: list[Any]) -> None:
    @types.coroutine
    def pause() -> Any:
        yield

    async def create(self: Any, **kwargs: Any) -> None:
        await pause()

    coroutine = caller(recording, create, is_async=True)(model="m")
    coroutine.send(None)
    del coroutine
    gc.collect()
    assert recording.span()["status"] == "cancelled"
    assert unraisable == []


def test_a_coroutine_closed_in_another_context_leaves_that_context_alone(recording: Any) -> None:
    import contextvars

    @types.coroutine
    def pause() -> Any:
        yield

    async def create(self: Any, **kwargs: Any) -> None:
        await pause()

    coroutine = caller(recording, create, is_async=True)(model="m")
    contextvars.copy_context().run(coroutine.send, None)
    assert CURRENT.get() is None
    contextvars.copy_context().run(coroutine.close)
    assert CURRENT.get() is None
    assert recording.span()["status"] == "cancelled"


def test_throw_that_the_coroutine_answers_by_returning_is_a_success(recording: Any) -> None:
    @types.coroutine
    def pause() -> Any:
        yield

    async def create(self: Any, **kwargs: Any) -> str:
        try:
            await pause()
        except ValueError:
            return "recovered"
        return "never"

    coroutine = caller(recording, create, is_async=True)(model="m")
    coroutine.send(None)
    with pytest.raises(StopIteration) as stop:
        coroutine.throw(ValueError())
    assert stop.value.value == "recovered"
    assert recording.span()["status"] == "success"


@pytest.mark.parametrize("value", [(1, 2), StopIteration(3), None])
def test_any_value_returns_through_send(recording: Any, value: object) -> None:
    async def create(self: Any, **kwargs: Any) -> object:
        return value

    coroutine = caller(recording, create, is_async=True)(model="m")
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value is value


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_coroutine_that_is_never_awaited_is_no_call(recording: Any) -> None:
    async def create(self: Any, **kwargs: Any) -> None: ...

    coroutine = caller(recording, create, is_async=True)(model="m")
    del coroutine
    gc.collect()
    assert recording.spans() == []


def test_what_is_returned_is_a_coroutine_to_everybody_who_asks(recording: Any) -> None:
    async def create(self: Any, **kwargs: Any) -> None: ...

    call = caller(recording, create, is_async=True)
    assert inspect.iscoroutinefunction(call)
    coroutine = call(model="m")
    assert inspect.iscoroutine(coroutine)
    assert inspect.isawaitable(coroutine)
    assert asyncio.iscoroutine(coroutine)
    assert isinstance(coroutine, types.CoroutineType)
    assert coroutine.__name__ == "create"
    assert coroutine.cr_frame is not None
    assert not coroutine.cr_running
    run(coroutine)


def test_a_coroutine_dropped_inside_another_span_leaves_that_span_alone(recording: Any) -> None:
    @types.coroutine
    def pause() -> Any:
        yield

    async def create(self: Any, **kwargs: Any) -> None:
        await pause()

    coroutine = caller(recording, create, is_async=True)(model="m")
    coroutine.send(None)
    mine = recording.core.new_context(None)
    token = CURRENT.set(mine)
    coroutine.close()
    assert CURRENT.get() is mine
    CURRENT.reset(token)
    CURRENT.set(None)


def test_a_coroutine_that_runs_cannot_be_stepped_and_its_call_goes_on(recording: Any) -> None:
    coroutine: Any = None

    async def create(self: Any, **kwargs: Any) -> str:
        for step in (lambda: coroutine.send(None), lambda: coroutine.throw(KeyError()), coroutine.close):
            with pytest.raises(ValueError, match="coroutine already executing"):
                step()
        return "done"

    coroutine = caller(recording, create, is_async=True)(model="m")
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == "done"
    assert recording.span()["status"] == "success"


def test_a_coroutine_is_awaited_once(recording: Any) -> None:
    async def create(self: Any, **kwargs: Any) -> str:
        await asyncio.sleep(0)
        return "done"

    async def main() -> None:
        coroutine = caller(recording, create, is_async=True)(model="m")

        async def wait() -> Any:
            return await coroutine

        first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
        assert await first == "done"
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            await second

    run(main())
    assert recording.span()["status"] == "success"


def test_a_coroutine_is_no_generator_and_no_iterator(recording: Any) -> None:
    import collections.abc

    async def create(self: Any, **kwargs: Any) -> None: ...

    ours, theirs = caller(recording, create, is_async=True)(model="m"), create(None)
    for name in ("Awaitable", "Coroutine", "Generator", "Iterator", "Iterable", "AsyncIterator", "Callable"):
        kind = getattr(collections.abc, name)
        assert isinstance(ours, kind) == isinstance(theirs, kind), name
    ours.close()
    theirs.close()


def test_a_task_cancelled_before_its_first_step_is_no_call_and_no_warning(recording: Any) -> None:
    async def body() -> None: ...

    def create(self: Any, **kwargs: Any) -> Any:
        return body()

    async def main() -> None:
        task = asyncio.create_task(caller(recording, create, is_async=True)(model="m"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    gc.collect()
    assert recording.spans() == []
