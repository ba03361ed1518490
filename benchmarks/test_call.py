"""What recording adds to a provider call whose HTTP and parsing are left out; the ring is never full."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import sdks
from timing import CALLS, empty_call_ns, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate
    from rig import Rig

    Loop = Callable[[int], float]

USUAL = (b'"cost_usd":0.0', b'"input_tokens":1200,"output_tokens":348,', b'"temperature":0.2', b'"response_id":"')


# The loops are written out: a shared one would time its own indirection along with what it calls.


def request_loop(client: Any, cast_to: type, options: Any) -> Loop:
    """As the public methods of OpenAI's and Anthropic's SDKs make their request."""

    def timed(calls: int) -> float:
        began = time.thread_time_ns()
        for _ in range(calls):
            client.request(cast_to, options, stream=False, stream_cls=None)
        return (time.thread_time_ns() - began) / calls

    return timed


def async_request_loop(client: Any, cast_to: type, options: Any) -> Loop:
    """One after another in a running event loop; only the awaiting is timed."""

    async def timed(calls: int) -> float:
        began = time.thread_time_ns()
        for _ in range(calls):
            await client.request(cast_to, options, stream=False, stream_cls=None)
        return (time.thread_time_ns() - began) / calls

    return lambda calls: asyncio.run(timed(calls))


def parsed_loop(client: Any, cast_to: type, options: Any) -> Loop:
    """A raw response, parsed by the user."""

    def timed(calls: int) -> float:
        began = time.thread_time_ns()
        for _ in range(calls):
            client.request(cast_to, options, stream=False, stream_cls=None).parse()
        return (time.thread_time_ns() - began) / calls

    return timed


def google_loop(models: Any, request: dict[str, Any]) -> Loop:
    def timed(calls: int) -> float:
        began = time.thread_time_ns()
        for _ in range(calls):
            models._generate_content(**request)
        return (time.thread_time_ns() - began) / calls

    return timed


def assert_records_everything(rig: Rig, loop: Loop) -> None:
    """What is timed does all of its work: tokens, price, parameters, one span a call."""
    rig.drain()
    loop(3)
    lines = rig.lines()
    assert len(lines) == 3
    assert all(member in line for line in lines for member in USUAL), lines


def hold(what: str, benchmark: BenchmarkFixture, gate: Gate, rig: Rig, bare: Loop, recorded: Loop) -> None:
    """Measure two loops against each other, and hold what recording adds against its budgets."""

    def measure() -> dict[str, float]:
        timing = in_turn({"bare": bare, "recorded": recorded, "empty": empty_call_ns}, rig.drain)
        return {
            f"{what}, µs of thread CPU": timing.added_us("recorded", "bare", "empty"),
            f"{what}, in empty calls f(**kw)": timing.in_units("recorded", "bare", "empty"),
        }

    assert_records_everything(rig, recorded)
    benchmark.pedantic(recorded, args=(CALLS,), rounds=10)
    gate(measure)


def test_sync_call(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    from openai import OpenAI
    from openai.types.chat import ChatCompletion

    def loop(request: Any) -> Loop:
        return request_loop(sdks.client(OpenAI, request), ChatCompletion, sdks.openai_options())

    request = sdks.returning(sdks.openai_reply())
    recorded = rig.recording("openai", sdks.SYNC, request)
    hold("call: added to a sync call", benchmark, gate, rig, loop(request), loop(recorded))


def test_async_call(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletion

    def loop(request: Any) -> Loop:
        return async_request_loop(sdks.client(AsyncOpenAI, request), ChatCompletion, sdks.openai_options())

    request = sdks.returning_async(sdks.openai_reply())
    recorded = rig.recording("openai", sdks.ASYNC, request)
    hold("call: added to an async call", benchmark, gate, rig, loop(request), loop(recorded))


def test_anthropic_call(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    from anthropic import Anthropic
    from anthropic.types import Message

    def loop(request: Any) -> Loop:
        return request_loop(sdks.client(Anthropic, request), Message, sdks.anthropic_options())

    request = sdks.returning(sdks.anthropic_reply())
    recorded = rig.recording("anthropic", sdks.SYNC, request)
    hold("call: added to an Anthropic call", benchmark, gate, rig, loop(request), loop(recorded))


def test_google_call(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    reply = sdks.google_reply()

    def generate(self: object, *, model: str, contents: object, config: object = None) -> object:
        return reply

    def loop(method: Any) -> Loop:
        return google_loop(sdks.google_models(method), sdks.google_request())

    recorded = rig.recording("google", sdks.GOOGLE, generate)
    hold("call: added to a Google call", benchmark, gate, rig, loop(generate), loop(recorded))


def test_raw_response(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    from openai import OpenAI
    from openai.types.chat import ChatCompletion

    def loop(request: Any) -> Loop:
        return parsed_loop(sdks.client(OpenAI, request), ChatCompletion, sdks.openai_options())

    request = sdks.returning_raw()
    recorded = rig.recording("openai", sdks.SYNC, request)
    hold("raw: added to a response and its parse", benchmark, gate, rig, loop(request), loop(recorded))
