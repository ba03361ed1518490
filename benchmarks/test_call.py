"""What recording adds to a provider call: the original is a trivial Python function that returns a real reply object.

The stand-in is a subclass of the SDK's own resource class bound to a real client, so that what is read of the instance,
the request and the reply is what is read in production. The ring is emptied between rounds, never full.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from rig import ASYNC_CHAT, CHAT, completions, parsed_reply
from timing import CALLS, REQUEST, empty_call_ns, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate
    from rig import Rig


# The loops are written out: a shared one would time its own indirection along with what it calls.


def sync_loop(target: Any) -> Callable[[int], float]:
    def timed(calls: int) -> float:
        began = time.thread_time_ns()
        for _ in range(calls):
            target.create(**REQUEST)
        return (time.thread_time_ns() - began) / calls

    return timed


def async_loop(target: Any) -> Callable[[int], float]:
    """Awaits one call after another in a running event loop; only the awaiting is timed."""

    async def timed(calls: int) -> float:
        began = time.thread_time_ns()
        for _ in range(calls):
            await target.create(**REQUEST)
        return (time.thread_time_ns() - began) / calls

    return lambda calls: asyncio.run(timed(calls))


def assert_records_everything(rig: Rig, loop: Callable[[int], float]) -> None:
    """What is timed does all of its work: tokens, price, parameters, one span a call."""
    rig.drain()
    loop(3)
    batch = rig.ring.read(10, 1 << 20)
    lines = batch.encode(rig.prices, rig.recorder.price_version, b"").splitlines()
    rig.ring.acknowledge(batch.next_ticket)
    expected = (b'"cost_usd":0.000312,', b'"input_tokens":1200,', b'"temperature":0.2', b'"response_id":"chatcmpl-')
    assert len(lines) == 3
    assert all(member in line for line in lines for member in expected), lines


def measured(rig: Rig, kind: str, bare: Callable[[int], float], recorded: Callable[[int], float]) -> dict[str, float]:
    timing = in_turn({"bare": bare, "recorded": recorded, "empty": empty_call_ns}, rig.drain)
    return {
        f"call: added to {kind} call, µs of thread CPU": timing.added_us("recorded", "bare", "empty"),
        f"call: added to {kind} call, in empty calls f(**kw)": timing.in_units("recorded", "bare", "empty"),
    }


def test_sync_call(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    import openai
    from openai.resources.chat import Completions

    reply, client = parsed_reply(), openai.OpenAI(api_key="sk-none")

    def create(self: object, **kw: object) -> object:
        return reply

    bare = completions(create, client, Completions)
    recorded = completions(rig.recording(CHAT, create), client, Completions)
    assert_records_everything(rig, sync_loop(recorded))
    benchmark.pedantic(recorded.create, kwargs=REQUEST, rounds=10, iterations=CALLS)
    gate(lambda: measured(rig, "a sync", sync_loop(bare), sync_loop(recorded)))


def test_async_call(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    import openai
    from openai.resources.chat import AsyncCompletions

    reply, client = parsed_reply(), openai.AsyncOpenAI(api_key="sk-none")

    async def create(self: object, **kw: object) -> object:
        return reply

    bare = completions(create, client, AsyncCompletions)
    recorded = completions(rig.recording(ASYNC_CHAT, create), client, AsyncCompletions)
    assert_records_everything(rig, async_loop(recorded))
    benchmark.pedantic(async_loop(recorded), args=(CALLS,), rounds=10)
    gate(lambda: measured(rig, "an async", async_loop(bare), async_loop(recorded)))
