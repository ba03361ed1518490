"""A fork child that ends calls its parent has in the air: not a byte of the parent's ring file changes, whatever forks,
whatever the end, before and after the child has a ring of its own; and the parent's call stays in the air."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from air import ASYNC, SPEC, Air

from fasttrace.core._api import RingOwner
from fasttrace.trace.span import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class OnFile(Air):
    """As `Air`, on a file; a child of a fork starts a ring of its own when it needs one."""

    def __init__(self, core: Any, path: Path) -> None:
        super().__init__(core)
        self.path, self.process = path, os.getpid()
        path.write_bytes(bytes(core.region_bytes(self.shape)))
        self.recorder = core.Recorder(self.start)
        with path.open("r+b") as file:
            self.recorder.ring = core.Ring(file.fileno(), self.shape, RingOwner(bytes(16), bytes(16), 1, 2, 3))

    def start(self) -> None:
        self.recorder.ring = self.ring()


@pytest.fixture
def air(core: Any, tmp_path: Path) -> OnFile:
    return OnFile(core, tmp_path / "ring")


@pytest.fixture(params=["os", "libc"])
def fork(request: pytest.FixtureRequest) -> Callable[[], int]:
    """Also a fork that Python does not know of."""
    if request.param == "os":
        return os.fork
    if sys.platform != "linux":
        pytest.skip("noticed on Linux only")
    return lambda: int(ctypes.PyDLL(None).fork())


@pytest.fixture(params=[False, True], ids=["without a ring", "with its own ring"])
def child_begins(request: pytest.FixtureRequest, air: OnFile) -> Callable[[], None]:
    """What a child does first: nothing, or a call of its own, which starts its ring."""

    def begin() -> None:
        if request.param:
            air.method(lambda self, **request: None)(object(), model="the child's own")
            assert len(air.recorded()) == 1

    return begin


def in_child(air: OnFile, fork: Callable[[], int], act: Callable[[], object]) -> None:
    """`act` in a child, which changes nothing of the file."""
    before, shown = air.path.read_bytes(), air.spans()
    child = fork()
    if child == 0:
        status = 1
        try:
            act()
            gc.collect()
            air.method(reply)(object(), model="afterwards")  # the child's own, in its own ring
            assert air.recorder.ring.aborted().count == 0
            assert air.recorded()[-1]["name"] == "chat afterwards"
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert air.path.read_bytes() == before
    assert [span["span_id"] for span in air.spans()] == [span["span_id"] for span in shown]


def reply(self: object, **request: Any) -> dict[str, Any]:
    """With a model that the parent's string table does not have."""
    return {"model": f"answered in {os.getpid()}", "usage": {"input_tokens": 3}}


def test_a_call(air: OnFile, fork: Callable[[], int], child_begins: Callable[[], None]) -> None:
    """The child comes back from its parent's call."""

    def original(self: object, **request: Any) -> dict[str, Any]:
        before = air.path.read_bytes()
        children.append(fork())
        if children[-1] == 0:
            child_begins()
        else:
            assert os.waitpid(children[-1], 0)[1] == 0
            assert air.path.read_bytes() == before
            assert air.names() == ["chat m"]
        return reply(self)

    children: list[int] = []
    try:
        air.method(original)(object(), model="m")
        if children == [0]:
            gc.collect()
            os._exit(0)
    finally:
        if children == [0]:
            os._exit(1)
    assert air.spans() == []
    (recorded,) = air.recorded()
    assert recorded["model_id"] == f"answered in {os.getpid()}"


@pytest.mark.parametrize("ending", ["returns", "raises", "closed", "dropped"])
def test_an_async_call(air: OnFile, fork: Callable[[], int], child_begins: Callable[[], None], ending: str) -> None:
    async def original(self: object, **request: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return reply(self)

    def act() -> None:
        child_begins()
        made = running.pop()
        if ending == "returns":
            with pytest.raises(StopIteration):
                made.send(None)
        elif ending == "raises":
            with pytest.raises(ValueError, match="it"):
                made.throw(ValueError("it"))
        elif ending == "closed":
            made.close()
        del made

    async def main() -> None:
        running.append(air.method(original, ASYNC)(object(), model="m"))
        running[0].send(None)
        assert air.names() == ["chat m"]
        in_child(air, fork, act)
        with pytest.raises(StopIteration):
            running.pop().send(None)

    running: list[Any] = []
    asyncio.run(main())
    assert air.spans() == []
    assert len(air.recorded()) == 1


@pytest.mark.parametrize("ending", ["returns", "raises", "dropped"])
def test_an_async_call_that_was_not_stepped_yet(air: OnFile, fork: Callable[[], int], ending: str) -> None:
    """Prepared with the parent's ring, it starts in the child."""

    async def original(self: object, **request: Any) -> dict[str, Any]:
        if ending == "raises":
            raise KeyError
        return reply(self)

    def act() -> None:
        made = prepared.pop()
        if ending != "dropped":
            with pytest.raises(StopIteration if ending == "returns" else KeyError):
                made.send(None)
        made.close()

    prepared = [air.method(original, ASYNC)(object(), model="m")]
    in_child(air, fork, act)
    prepared.pop().close()
    assert air.spans() == []


@pytest.mark.parametrize("ending", ["read to its end", "closed", "dropped", "process ends"])
def test_a_stream(air: OnFile, fork: Callable[[], int], child_begins: Callable[[], None], ending: str) -> None:
    def chunks(self: object, **request: Any) -> Iterator[dict[str, Any]]:
        for _ in range(3):
            yield reply(self)

    def act() -> None:
        child_begins()
        stream = streams.pop()
        if ending == "read to its end":
            assert len(list(stream)) == 2
        elif ending == "closed":
            stream.close()
        elif ending == "process ends":
            air.core.end_streams(air.recorder)
        del stream

    streams = [air.method(chunks, SPEC)(object(), model="m", stream=True)]
    next(streams[0])
    assert air.names() == ["chat m"]
    in_child(air, fork, act)
    assert len(list(streams.pop())) == 2
    assert air.spans() == []
    assert len(air.recorded()) == 1


def test_a_block(air: OnFile, fork: Callable[[], int], child_begins: Callable[[], None]) -> None:
    def act() -> None:
        child_begins()
        span.__exit__(None, None, None)

    with Span(air.core, air.recorder, "work", "task", None) as span:
        in_child(air, fork, act)
        assert air.names() == ["work"]
    assert air.spans() == []
    assert len(air.recorded()) == 1
