"""The in-flight table of both cores: who is in the air, from the start of a call to its end, whatever that is; a table
that is full; a ring that was replaced."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from air import ASYNC, Air

from fasttrace.core._api import CURRENT
from fasttrace.trace.span import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANY = 10_000


@pytest.fixture
def air(core: Any) -> Air:
    return Air(core)


def echo(self: object, **request: Any) -> dict[str, Any]:
    return {"model": "answered", "usage": {"input_tokens": 3}}


# ---- what is shown ----


def test_a_call_in_the_air_is_an_aborted_span(air: Air) -> None:
    seen: list[dict[str, Any]] = []

    def original(self: object, **request: Any) -> dict[str, Any]:
        seen.extend(air.spans())
        return echo(self)

    assert air.spans() == []
    air.method(original)(object(), model="gpt-x")
    (shown,), (recorded,) = seen, air.recorded()
    assert (shown["status"], shown["kind"], shown["operation"]) == ("aborted", "llm", "chat")
    assert (shown["name"], shown["model_id"], shown["provider"]) == ("chat gpt-x", "gpt-x", "openai")
    assert (shown["server_address"], shown["server_port"]) == ("api.example.com", 8443)
    same = ("trace_id", "span_id", "timestamp", "name", "schema_version")
    assert [shown[name] for name in same] == [recorded[name] for name in same]
    assert 0 <= shown["duration_ms"] <= recorded["duration_ms"]
    assert not {"request_model", "stream", "usage_source", "input_tokens", "cost_usd", "error_type"} & shown.keys()
    assert (recorded["status"], recorded["model_id"]) == ("success", "answered")
    assert air.spans() == []


def test_a_child_in_the_air_names_its_parent(air: Air) -> None:
    seen: list[dict[str, Any]] = []
    inner = air.method(lambda self, **request: seen.extend(air.spans()))
    air.method(lambda self, **request: inner(self, model="inner"))(object(), model="outer")
    by_name = {span["name"]: span for span in seen}
    assert by_name.keys() == {"chat inner", "chat outer"}
    assert by_name["chat inner"]["parent_span_id"] == by_name["chat outer"]["span_id"]
    assert by_name["chat inner"]["trace_id"] == by_name["chat outer"]["trace_id"]
    assert air.spans() == []


def test_tickets_are_those_behind_the_head(core: Any) -> None:
    air = Air(core, first_ticket=(1 << 64) - 2)
    air.method(echo)(object(), model="m")
    batch = air.recorder.ring.aborted()
    assert (batch.count, batch.first_ticket, batch.next_ticket) == (0, 0, (1 << 64) - 1)
    places = [air.recorder.enter(core.new_context(None), 1, 1, "task", "t") for _ in range(2)]
    batch = air.recorder.ring.aborted()
    assert (batch.count, batch.first_ticket, batch.next_ticket) == (2, (1 << 64) - 1, 1)
    for place in places:
        air.recorder.leave(place)
    assert air.spans() == []


def test_without_ring_or_room_for_strings_nothing_is_made_up(core: Any) -> None:
    """Where the string table is full, a call in the air has ids and times, and no names."""
    air = Air(core)
    number = 0
    while air.recorder.ring.counters().content_too_large == 0 and number < 400:
        number += 1
        air.method(echo)(object(), model=f"model-with-quite-a-long-name-of-its-own-{number:08}")
    seen: list[dict[str, Any]] = []
    air.method(lambda self, **request: seen.extend(air.spans()))(object(), model="one-more-that-finds-no-place")
    (shown,) = seen
    assert "model_id" not in shown
    assert "name" not in shown
    assert shown["operation"] == "chat"
    assert shown["status"] == "aborted"


# ---- gone after every end ----


def error(self: object, **request: Any) -> None:
    raise KeyError("it")


def interrupt(self: object, **request: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("original", [echo, error, interrupt])
def test_a_call_that_ended_is_not_in_the_air(air: Air, original: Callable[..., Any]) -> None:
    try:
        air.method(original)(object(), model="m")
    except (KeyError, KeyboardInterrupt):
        assert original is not echo
    assert air.spans() == []
    assert len(air.recorded()) == 1


def test_an_async_call_is_in_the_air_from_its_first_step_to_its_last(air: Air) -> None:
    async def original(self: object, **request: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return echo(self)

    coroutine = air.method(original, ASYNC)(object(), model="m")
    assert air.spans() == []
    CURRENT.set(None)
    coroutine.send(None)
    assert air.names() == ["chat m"]
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert air.spans() == []


@pytest.mark.parametrize("ending", ["closed", "dropped", "thrown into", "cancelled"])
def test_an_async_call_that_is_left_is_not_in_the_air(air: Air, ending: str) -> None:
    async def original(self: object, **request: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(wait(air.method(original, ASYNC)(object(), model="m")))
        await asyncio.sleep(0)
        assert air.names() == ["chat m"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def wait(coroutine: Any) -> None:
        await coroutine

    async def by_hand() -> None:
        coroutine = air.method(original, ASYNC)(object(), model="m")
        coroutine.send(None)
        assert air.names() == ["chat m"]
        if ending == "closed":
            coroutine.close()
        elif ending == "thrown into":
            with pytest.raises(KeyError):
                coroutine.throw(KeyError("it"))
        del coroutine
        gc.collect()

    asyncio.run(main() if ending == "cancelled" else by_hand())
    assert air.spans() == []
    assert len(air.recorded()) == 1


def test_a_coroutine_that_is_never_awaited_was_never_in_the_air(air: Air) -> None:
    async def original(self: object, **request: Any) -> None: ...

    coroutine = air.method(original, ASYNC)(object(), model="m")
    assert air.spans() == []
    coroutine.close()
    assert air.spans() == []
    assert air.recorded() == []


STREAM_ENDINGS: dict[str, Callable[[Any, Any, Any], object]] = {
    "read to its end": lambda stream, core, recorder: list(stream),
    "closed": lambda stream, core, recorder: stream.close(),
    "dropped": lambda stream, core, recorder: None,
    "process ends": lambda stream, core, recorder: core.end_streams(recorder),
}


@pytest.mark.parametrize("ending", STREAM_ENDINGS)
def test_a_stream_is_in_the_air_until_it_ends(air: Air, ending: str) -> None:
    def chunks(self: object, **request: Any) -> Iterator[dict[str, str]]:
        yield from ({"model": "answered"} for _ in range(3))

    stream = air.method(chunks)(object(), model="m", stream=True)
    for _ in range(2):
        next(stream)
        (shown,) = air.spans()
        assert (shown["name"], shown["stream"], shown["status"]) == ("chat m", True, "aborted")
    STREAM_ENDINGS[ending](stream, air.core, air.recorder)
    del stream
    gc.collect()
    assert air.spans() == []
    (recorded,) = air.recorded()
    assert recorded["span_id"] == shown["span_id"]


# ---- spans made by hand ----


def test_a_block_is_in_the_air_until_it_is_left(air: Air) -> None:
    with Span(air.core, air.recorder, "work", "tool", {"a": 1}) as outer:
        (shown,) = air.spans()
        assert (shown["name"], shown["operation"], shown["kind"]) == ("work", "work", "tool")
        assert (shown["span_id"], shown["status"]) == (outer.span_id, "aborted")
        with Span(air.core, air.recorder, "inner", "task", None):
            assert air.names() == ["inner", "work"]
        assert air.names() == ["work"]
    assert air.spans() == []
    with pytest.raises(KeyError), Span(air.core, air.recorder, "work", "tool", None):
        raise KeyError
    assert air.spans() == []
    assert len(air.recorded()) == 3


def test_a_block_entered_twice_is_in_the_air_twice(air: Air) -> None:
    span = Span(air.core, air.recorder, "work", "tool", None)
    with span, span:
        assert air.names() == ["work", "work"]
    assert air.spans() == []


def test_a_block_is_not_in_the_air_while_recording_is_off(air: Air) -> None:
    with Span(air.core, air.recorder, "work", "tool", None):
        air.recorder.active = False
        with Span(air.core, air.recorder, "inner", "tool", None):
            assert air.names() == ["work"]
    assert air.spans() == []  # it was entered while recording was on
    assert air.recorded() == []


def test_a_block_without_a_ring_runs_and_is_counted_once(core: Any) -> None:
    recorder = core.Recorder(lambda: None)
    with Span(core, recorder, "work", "tool", None):
        assert CURRENT.get() is not None
    assert recorder.dropped_unstarted == 1
    assert recorder.enter(core.new_context(None), 1, 1, "tool", "work") == -1
    recorder.leave(-1)


def test_a_time_that_does_not_fit_takes_no_place(air: Air) -> None:
    for times in ((1 << 63, 1), (1, -(1 << 63) - 1)):
        with pytest.raises(OverflowError):
            air.recorder.enter(air.core.new_context(None), *times, "task", "t")
    places = {air.recorder.enter(air.core.new_context(None), 1, -(1 << 63), "task", "t") for _ in range(8)}
    assert len(places) == len(air.spans()) == 8
    assert -1 not in places


def test_entering_starts_the_ring(core: Any) -> None:
    air = Air(core)
    recorder = core.Recorder(lambda: setattr(recorder, "ring", air.ring()))
    place = recorder.enter(core.new_context(None), 1, 1, "nonsense", "n" * 300)
    (shown,) = air.read(recorder.ring.aborted())
    assert shown["name"] == "n" * 256
    assert "kind" not in shown
    recorder.leave(place)
    assert recorder.ring.aborted().count == 0


def test_a_place_of_a_ring_that_was_replaced_is_left_alone(air: Air) -> None:
    enter, leave = air.recorder.enter, air.recorder.leave
    before = enter(air.core.new_context(None), 1, 1, "task", "before")
    first = air.recorder.ring
    air.recorder.ring = air.ring()
    after = enter(air.core.new_context(None), 1, 1, "task", "after")
    leave(before)
    assert air.names() == ["after"]
    leave(after)
    assert air.spans() == []
    assert [span["name"] for span in air.read(first.aborted())] == ["before"]


def test_a_call_whose_ring_was_replaced_leaves_the_one_it_was_in(air: Air) -> None:
    rings = [air.recorder.ring, air.ring()]

    def original(self: object, **request: Any) -> None:
        air.recorder.ring = rings[1]
        air.method(lambda self, **request: None)(self, model="inner")
        assert [ring.aborted().count for ring in rings] == [1, 0]

    air.method(original)(object(), model="outer")
    assert [ring.aborted().count for ring in rings] == [0, 0]
    assert air.recorder.dropped_unstarted == 1


# ---- a full table ----


@pytest.mark.parametrize("inflight", [0, 1, 3])
def test_calls_that_find_no_place_are_counted_and_recorded(core: Any, inflight: int) -> None:
    air = Air(core, inflight=inflight)
    seen: list[int] = []

    def nested(self: object, depth: int = 0, **request: Any) -> None:
        seen.append(len(air.spans()))
        if depth < 4:
            method(self, depth=depth + 1, model="m")

    method = air.method(nested)
    method(object(), model="m")
    assert seen == [min(depth + 1, inflight) for depth in range(5)]
    assert air.full == 5 - inflight
    assert len(air.recorded()) == 5
    method(object(), model="m", depth=4)  # whoever had a place gave it back
    assert seen[-1] == min(1, inflight)


def test_ten_thousand_calls_at_once(core: Any) -> None:
    air = Air(core, slots=1 << 14, arena_bytes=1 << 22, inflight=4096)

    async def original(self: object, **request: Any) -> dict[str, Any]:
        await may_end.wait()
        return echo(self)

    async def main() -> None:
        method = air.method(original, ASYNC)

        async def one() -> None:
            await method(object(), model="m")

        tasks = [asyncio.ensure_future(one()) for _ in range(MANY)]
        await asyncio.sleep(0)
        assert len({span["span_id"] for span in air.spans()}) == 4096
        may_end.set()
        await asyncio.gather(*tasks)

    may_end = asyncio.Event()
    asyncio.run(main())
    assert air.spans() == []
    assert air.full == MANY - 4096
    assert len({span["span_id"] for span in air.recorded()}) == MANY


def test_threads_that_enter_and_leave_lose_no_place(core: Any) -> None:
    """While another reads: what it sees was in the air, and every place is free at the end."""
    air = Air(core, slots=1 << 13, inflight=6)
    method = air.method(lambda self, **request: None)

    def run(name: str) -> None:
        for _ in range(500):
            with Span(air.core, air.recorder, name, "task", None):
                method(object(), model=name)

    threads = [threading.Thread(target=run, args=(f"thread {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    wanted = {f"{prefix}thread {number}" for number in range(4) for prefix in ("", "chat ")}
    while any(thread.is_alive() for thread in threads):
        names = air.names()
        assert len(names) <= 6
        assert set(names) <= wanted
    for thread in threads:
        thread.join()
    assert air.spans() == []
    before = air.full
    places = [air.recorder.enter(core.new_context(None), 1, 1, "task", "t") for _ in range(7)]
    assert places[6] == -1
    assert len(set(places)) == 7
    assert air.full == before + 1
