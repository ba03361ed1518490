"""Resident memory over 100,000 recorded calls, delivered to a collector, after a warm-up."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import process
import sdks

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

WARM_UP, CALLS, PIECE = 20_000, 100_000, 2_000


def resident_kib() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def growth() -> dict[str, float]:
    """Runs in a process of its own. The method that is recorded returns a ready reply; the ring never fills."""
    import openai
    from openai._base_client import SyncAPIClient
    from openai.types.chat import ChatCompletion

    import fasttrace

    fasttrace.uninstrument("openai")
    SyncAPIClient.request = sdks.returning(sdks.openai_reply())  # type: ignore[method-assign, assignment]
    fasttrace.instrument("openai")
    client: Any = openai.OpenAI(api_key="sk-none")
    options = sdks.openai_options()

    def call(times: int) -> None:
        for _ in range(times // PIECE):
            for _ in range(PIECE):
                client.request(ChatCompletion, options, stream=False, stream_cls=None)
            fasttrace.flush(10)
        gc.collect()

    call(WARM_UP)
    before = resident_kib()
    call(CALLS)
    after = resident_kib()
    assert fasttrace.flush(10).sent == WARM_UP + CALLS, fasttrace.stats()
    return {"grown_kib": after - before}


def test_memory(benchmark: BenchmarkFixture, gate: Gate, core: str) -> None:
    def measure() -> dict[str, float]:
        grown_kib = process.run(core, "test_memory.growth")["grown_kib"]
        return {"memory: growth over 100,000 calls, KiB": grown_kib}

    gate(measure, benchmark.pedantic(measure, rounds=1))
