"""Resident memory over 100,000 recorded calls, delivered to a collector, after a warm-up."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import process
from rig import parsed_reply
from timing import REQUEST

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
    from openai.resources.chat.completions import Completions

    import fasttrace

    reply: Any = parsed_reply()
    fasttrace.uninstrument("openai")
    Completions.create = lambda self, **kw: reply  # type: ignore[method-assign, assignment]
    fasttrace.instrument("openai")
    chat: Any = openai.OpenAI(api_key="sk-none").chat.completions

    def call(times: int) -> None:
        for _ in range(times // PIECE):
            for _ in range(PIECE):
                chat.create(**REQUEST)
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
