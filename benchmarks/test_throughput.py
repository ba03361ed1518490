"""Calls a second of the official client in 8 threads, recorded and delivered, against the same client alone.

The client does all of its own work (building the request, its retry loop, parsing the reply); only the socket is
replaced by a transport that answers at once, so that what is added shows as much as it ever can. One process, turned on
and off in short phases, in the order on-off-off-on; each pair gives one quotient, the median of them is the figure.
Spans are delivered during the phases that record them.
"""

from __future__ import annotations

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import process
import replies
from sdks import REQUEST, http_library

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

THREADS, CALLS, PAIRS = 8, 40, 16


def stubbed_client() -> Any:
    """The SDK's client over its own HTTP library, whichever that is, without a socket."""
    import openai

    library = http_library(openai)
    body = json.dumps(replies.OPENAI).encode()
    headers = {"content-type": "application/json"}
    transport = library.MockTransport(lambda _: library.Response(200, content=body, headers=headers))
    return openai.OpenAI(api_key="sk-none", http_client=library.Client(transport=transport))


def rate(pool: ThreadPoolExecutor, call: Callable[[], object]) -> float:
    """Calls a second, all threads together."""

    def worker(_: int) -> None:
        for _ in range(CALLS):
            call()

    began = time.perf_counter()
    list(pool.map(worker, range(THREADS)))
    return THREADS * CALLS / (time.perf_counter() - began)


def ratio() -> dict[str, float]:
    """Runs in a process of its own."""
    import fasttrace

    client = stubbed_client()

    def call() -> object:
        return client.chat.completions.create(**REQUEST)

    def recorded() -> float:
        fasttrace.instrument("openai")
        return rate(pool, call)

    def alone() -> float:
        fasttrace.flush(5)
        fasttrace.uninstrument("openai")
        return rate(pool, call)

    with ThreadPoolExecutor(THREADS) as pool:
        recorded(), alone()
        pairs = []
        for _ in range(PAIRS // 2):
            pairs += [recorded() / alone()]
            without = alone()
            pairs += [recorded() / without]
    assert fasttrace.flush(5).sent == (PAIRS + 1) * THREADS * CALLS, fasttrace.stats()
    return {"ratio": statistics.median(pairs)}


def test_throughput(benchmark: BenchmarkFixture, gate: Gate, core: str) -> None:
    def measure() -> dict[str, float]:
        figures = process.run(core, "test_throughput.ratio", FLUSH_INTERVAL="0.05")
        return {"throughput: 8 threads, against the uninstrumented client": figures["ratio"]}

    gate(measure, benchmark.pedantic(measure, rounds=1))
