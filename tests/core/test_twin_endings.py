"""The twins are one in how a call ends: by an exception, by a coroutine that is left, and with nothing left behind."""

from __future__ import annotations

import asyncio
import collections
import gc
import sys
import types
from typing import Any

import openai
import pytest
from twin_calls import CHANGING, CHAT, Named, Resource, call, chat_reply, masked, same, without
from twins import CORES, SHAPE, Twin, pair, span_of

from fasttrace.core._api import CURRENT, CallSpec

# ---- failures ----


class Strange(Exception):
    """Its message, code and status are what they should not be."""

    status_code = 70_000
    code = Named("rate\ud800")

    def __str__(self) -> str:
        return "e" * 3000 + "é\ud800"


class Coded(Exception):
    def __init__(self, status_code: Any, code: Any) -> None:
        super().__init__("message")
        self.status_code, self.code = status_code, code


FAILURES: list[BaseException] = [
    ValueError("no"),
    ValueError(),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    asyncio.CancelledError(),
    TimeoutError("late"),
    Strange(),
    Coded(429, "rate_limit_exceeded"),
    Coded(True, 5),
    Coded(-1, None),
    Coded(65_536, "é" * 40),
    openai.OpenAIError("sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_an_error_is_recorded_alike(error: BaseException) -> None:
    twins = pair()

    def original(self: Any, **kwargs: Any) -> Any:
        raise error.with_traceback(None)

    resource = Resource()
    for twin in twins:
        assert call(twin, CHAT, original, resource, model="m") is error
    (native,), (pure,) = (twin.lines() for twin in twins)
    # The frames are the SDK's and the caller's, but for one of ours in the pure core.
    native_span, pure_span = span_of(native), span_of(pure)
    assert "in original" in native_span.pop("error_stack")
    assert "in original" in pure_span.pop("error_stack")
    assert without(CHANGING, native_span) == without(CHANGING, pure_span)


ANSWERS: dict[str, Any] = {
    "a dict": {"status": "timeout", "error_type": "T", "http_status": 504},
    "an ordered dict": collections.OrderedDict(status="timeout", error_code="c"),
    "a mapping": types.MappingProxyType({"status": "cancelled"}),
    "codes nobody knows": {"status": "lost", "kind": "\ud800"},
    "odd names": {7: 1, "status\x00": "timeout", "\ud800": 1, "error_type": "T"},
    "none": None,
    "a list": [("status", "timeout")],
    "a number": 3,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_a_failure_tells_is_taken_alike(answer: Any) -> None:
    error = ValueError("users")
    same(error, spec=CHAT._replace(failure=lambda error: answer), raises=True, model="m")


@pytest.mark.parametrize("during", ["reply", "failure", "request"])
def test_an_interrupt_while_a_call_is_read_is_never_swallowed(during: str) -> None:
    twins = pair()
    interrupt = KeyboardInterrupt()

    def interrupted(*args: Any) -> Any:
        raise interrupt

    class Reply:
        usage = property(interrupted)
        _client = property(interrupted)

    def original(self: Any, **kwargs: Any) -> Any:
        if during == "failure":
            raise ValueError("users")
        return Reply()

    spec = CHAT._replace(failure=interrupted)
    resource: Any = Reply() if during == "request" else Resource()
    for twin in twins:
        assert call(twin, spec, original, resource, model="m") is interrupt
        if during == "failure":
            assert isinstance(interrupt.__context__, ValueError)
    native, pure = ([masked(line) for line in twin.lines()] for twin in twins)
    assert native == pure
    assert len(native) == (during != "request")


# ---- coroutines ----


@pytest.mark.parametrize("ending", ["close", "throw", "exit", "cancel", "drop", "unstarted"])
def test_a_coroutine_that_does_not_end_by_itself_is_recorded_alike(ending: str) -> None:
    twins = pair()
    spec = CHAT._replace(is_async=True)

    @types.coroutine
    def pause() -> Any:
        yield "paused"

    async def original(self: Any, **kwargs: Any) -> Any:
        await pause()

    for twin in twins:
        coroutine = twin.core.method(original, spec, twin.recorder)(Resource(), model="m")
        if ending == "unstarted":
            coroutine.close()
            continue
        assert coroutine.send(None) == "paused"
        if ending == "close":
            coroutine.close()
        elif ending != "drop":
            error = {"throw": ValueError, "exit": GeneratorExit, "cancel": asyncio.CancelledError}[ending]("x")
            with pytest.raises(type(error)):
                coroutine.throw(error)
        del coroutine
        assert CURRENT.get() is None
    # The frames are left out: one of them is the pure core's own.
    native, pure = ([without((*CHANGING, "error_stack"), span_of(line)) for line in twin.lines()] for twin in twins)
    assert native == pure
    assert len(native) == (ending != "unstarted")


# ---- what a call leaves behind ----


def raising(self: Any, **kwargs: Any) -> Any:
    raise ValueError("users")


async def answering(self: Any, **kwargs: Any) -> Any:
    return chat_reply()


KINDS: dict[str, tuple[Any, CallSpec]] = {
    "sync": (lambda self, **kwargs: chat_reply(), CHAT),
    "error": (raising, CHAT),
    "async": (answering, CHAT._replace(is_async=True)),
    "async that raises at once": (raising, CHAT._replace(is_async=True)),
    "async without a coroutine": (lambda self, **kwargs: chat_reply(), CHAT._replace(is_async=True)),
}


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.BACKEND)
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_calls_leave_no_object_behind(core: Any, kind: str) -> None:
    """On a debug build of Python references are counted too, else blocks of memory: the least of three rounds, because
    caches fill by and by."""
    original, spec = KINDS[kind]
    twin = Twin(core, SHAPE)
    create = core.method(original, spec, twin.recorder)
    resource = Resource()
    count = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)

    def calls() -> None:
        for _ in range(1000):
            try:
                made = create(resource, model="m", temperature=0.2)
                if type(made) is not dict:
                    made.send(None)
            except (ValueError, StopIteration):
                pass
        twin.lines()

    grown = []
    for _ in range(4):
        gc.collect()
        before = count()
        calls()
        gc.collect()
        grown.append(count() - before)
    assert min(grown[1:]) < 200
