"""What recording adds to a stream: in all for 50 chunks, and for each further one, by streams of 50 and 250.

The SDK's own Stream is iterated as users do; its chunks are ready, so that only the iteration is timed.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

import sdks
from timing import UNIT_NS, empty_call_ns, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate
    from rig import Rig
    from timing import Timing

    Loop = Callable[[int], float]

SHORT, LONG = 50, 250
STREAMS, EMPTY_CALLS = 20, 500


def stream_loop(client: Any, cast_to: type, options: Any) -> Loop:
    def timed(streams: int) -> float:
        began = time.thread_time_ns()
        for _ in range(streams):
            for _ in client.request(cast_to, options, stream=True, stream_cls=None):
                pass
        return (time.thread_time_ns() - began) / streams

    return timed


def async_stream_loop(client: Any, cast_to: type, options: Any) -> Loop:
    async def timed(streams: int) -> float:
        began = time.thread_time_ns()
        for _ in range(streams):
            async for _ in await client.request(cast_to, options, stream=True, stream_cls=None):
                pass
        return (time.thread_time_ns() - began) / streams

    return lambda streams: asyncio.run(timed(streams))


def assert_records_everything(rig: Rig, loop: Loop, chunks: int) -> None:
    """What is timed does all of its work: the usage of the last chunk, its price, when the first text came."""
    rig.drain()
    loop(2)
    lines, found = rig.lines(), (b'"cost_usd":0.0', b'"input_tokens":1200,', b'"first_text_ms":', b'"stop"')
    assert len(lines) == 2
    assert all(member in line for line in lines for member in (*found, b'"chunks":%d,' % chunks)), lines


def further_us(timing: Timing) -> float:
    """What one more chunk adds, at the stated speed where the machine is slower than that."""
    added = [timing.least(f"recorded {count}") - timing.least(f"bare {count}") for count in (SHORT, LONG)]
    return min((added[1] - added[0]) / (LONG - SHORT), further_in_units(timing) * UNIT_NS) / 1000


def further_in_units(timing: Timing) -> float:
    """The same in empty calls: the median of the rounds."""
    names = (f"recorded {LONG}", f"bare {LONG}", f"recorded {SHORT}", f"bare {SHORT}", "empty")
    each = zip(*(timing.rounds[name] for name in names), strict=True)
    of_one = [((long - bare_long) - (short - bare_short)) / unit for long, bare_long, short, bare_short, unit in each]
    return statistics.median(of_one) / (LONG - SHORT)


def hold(
    what: str,
    benchmark: BenchmarkFixture,
    gate: Gate,
    rig: Rig,
    loop: Callable[[Any], Loop],
    streaming: Callable[[int], Any],
    path: str,
) -> None:
    """Measure streams of two lengths, with and without, and hold what is added against the budgets."""
    loops: dict[str, Loop] = {"empty": lambda _: empty_call_ns(EMPTY_CALLS)}
    for count in (SHORT, LONG):
        request = streaming(count)
        loops[f"bare {count}"] = loop(request)
        loops[f"recorded {count}"] = loop(rig.recording("openai", path, request))
        assert_records_everything(rig, loops[f"recorded {count}"], count)

    def measure() -> dict[str, float]:
        timing = in_turn(loops, rig.drain, calls=STREAMS)
        names = (f"recorded {SHORT}", f"bare {SHORT}", "empty")
        return {
            f"{what} added to {SHORT} chunks, µs of thread CPU": timing.added_us(*names),
            f"{what} added to {SHORT} chunks, in empty calls f(**kw)": timing.in_units(*names),
            f"{what} each further chunk, µs of thread CPU": further_us(timing),
            f"{what} each further chunk, in empty calls f(**kw)": further_in_units(timing),
        }

    benchmark.pedantic(loops[f"recorded {SHORT}"], args=(STREAMS,), rounds=10)
    gate(measure)


def test_sync_stream(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionChunk

    def loop(request: Any) -> Loop:
        return stream_loop(sdks.client(OpenAI, request), ChatCompletionChunk, sdks.openai_options(stream=True))

    hold("stream:", benchmark, gate, rig, loop, sdks.streaming, sdks.SYNC)


def test_async_stream(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionChunk

    def loop(request: Any) -> Loop:
        return async_stream_loop(
            sdks.client(AsyncOpenAI, request), ChatCompletionChunk, sdks.openai_options(stream=True)
        )

    hold("async stream:", benchmark, gate, rig, loop, sdks.streaming_async, sdks.ASYNC)
